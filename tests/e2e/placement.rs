//! Which node announces, and where: drained nodes, endpoints that move, preferred nodes, the spread over nodes.

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use serde_json::{Value, json};

use crate::failover::{VIP, announcer, one_service, only};
use crate::inspection::{ALLOCATOR, call};
use crate::story::{NGINX_LB, ONE_POOL};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("placement::a_cordoned_node_is_left_without_a_lost_ping", a_cordoned_node_is_left_without_a_lost_ping),
    ("placement::a_node_drained_by_hand_is_left_without_a_lost_ping", a_node_drained_by_hand_is_left_without_a_lost_ping),
    ("placement::a_drained_node_goes_on_where_no_other_is_eligible", a_drained_node_goes_on_where_no_other_is_eligible),
    ("placement::a_service_that_is_announced_always_needs_no_endpoint", a_service_that_is_announced_always_needs_no_endpoint),
    ("placement::a_local_service_follows_its_endpoints", a_local_service_follows_its_endpoints),
    ("placement::preferred_nodes_come_first_and_a_node_where_none_is", preferred_nodes_come_first_and_a_node_where_none_is),
    ("placement::thirty_addresses_are_spread_evenly_over_three_nodes", thirty_addresses_are_spread_evenly_over_three_nodes),
];

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];

fn operate(data: &Value) -> Result<Value> {
    call(ALLOCATOR, data, "mooring.v1.OperatorService/DrainNode")
}

fn node_state(name: &str) -> Result<Value> {
    let nodes = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListNodes")?;
    nodes["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == name).cloned().with_context(|| format!("{nodes}"))
}

/// The three nodes, these of them cordoned.
fn nodes(cordoned: &[&str]) -> String {
    let one = |name: &&str| {
        let unschedulable = cordoned.contains(name);
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{name: {name}}}}}\nspec: {{unschedulable: {unschedulable}}}\n"
        )
    };
    NODES.iter().map(one).collect::<Vec<_>>().join("---\n")
}

/// The endpoints of the Service on these nodes, and whether they are ready.
fn endpoints(on: &[(&str, bool)]) -> String {
    let one = |(node, ready): &(&str, bool)| format!("- {{addresses: [10.1.1.1], nodeName: {node}, conditions: {{ready: {ready}}}}}\n");
    let list: String = on.iter().map(one).collect();
    let list = if list.is_empty() { "endpoints: []\n".to_owned() } else { format!("endpoints:\n{list}") };
    let labels = "labels: {kubernetes.io/service-name: nginx-lb}";
    format!("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata:\n  name: nginx-lb-1\n  {labels}\n{list}")
}

/// Waits until another node announces, which then alone answers.
fn wait_moved(lab: &Lab, mooring: &Mooring, from: &str) -> Result<String> {
    let after = until(secs(5), &format!("{from} is left"), || {
        let now = mooring.announcer("172.17.200.100")?;
        ensure!(now != from, "still {now}");
        Ok(now)
    })?;
    only(lab.host("client"), lab.host(&after))?;
    Ok(after)
}

fn wait_announced_from(mooring: &Mooring, node: &str) -> Result<()> {
    until(secs(5), &format!("{node} announces"), || {
        let now = mooring.announcer("172.17.200.100")?;
        ensure!(now == node, "{now} does");
        Ok(())
    })
}

/// Waits until nobody announces the VIP, for this reason.
fn wait_silent(mooring: &Mooring, reason: &str) -> Result<()> {
    until(secs(5), "nobody announces", || {
        let list = mooring.assignments()?;
        ensure!(
            list.iter().any(|found| found.vip == "172.17.200.100" && found.node.is_empty() && found.reason.contains(reason)),
            "{list:?}"
        );
        Ok(())
    })
}

fn l2_status(mooring: &Mooring) -> Result<Value> {
    let path = mooring.status_folder().join("servicel2statuses/default_nginx-lb.yaml");
    let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(path)?)?;
    Ok(object["status"].clone())
}

/// How many Events about the Service have this reason.
fn told(mooring: &Mooring, reason: &str) -> Result<usize> {
    Ok(mooring.events()?.iter().filter(|event| event["reason"] == reason && event["regarding"]["name"] == "nginx-lb").count())
}

fn a_cordoned_node_is_left_without_a_lost_ping() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("nodes.yaml", &nodes(&[]))?;
    let before = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let pings = client.ping_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    mooring.apply("nodes.yaml", &nodes(&[&before]))?;
    let after = wait_moved(&lab, &mooring, &before)?;
    let state = node_state(&before)?;
    ensure!(state["cordoned"] == true && state["active"].is_null(), "{state}");
    mooring.allocator.wait_for(&json!({"event": "nodeDrained", "node": before, "reason": "cordon"}))?;
    mooring.apply("nodes.yaml", &nodes(&[]))?;
    mooring.allocator.wait_for(&json!({"event": "nodeRestored", "node": before, "reason": "cordon"}))?;
    ensure!(announcer(&mooring)? == after, "it has taken something back");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    ensure!(told(&mooring, "lastResort")? == 0 && told(&mooring, "announceFailed")? == 0);
    Ok(())
}

fn a_node_drained_by_hand_is_left_without_a_lost_ping() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let before = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let pings = client.ping_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    let answer = operate(&json!({"node": before}))?;
    ensure!(answer["moving"] == 1 && answer["staying"].is_null() && answer["drainedUnixMs"].is_string(), "{answer}");
    let after = wait_moved(&lab, &mooring, &before)?;
    mooring.allocator.wait_for(&json!({"event": "nodeDrained", "node": before, "reason": "by hand"}))?;
    // The drain outlives the allocator; after it the node takes part again, and takes nothing back.
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.allocator.wait_for(&json!({"event": "recoveryEnded"}))?;
    let state = node_state(&before)?;
    ensure!(state["drainedUnixMs"] == answer["drainedUnixMs"] && state["active"].is_null(), "{state} {answer}");
    let answer = operate(&json!({"node": before, "cancel": true}))?;
    ensure!(answer == json!({}), "{answer}");
    mooring.apply("other.yaml", &NGINX_LB.replace("nginx-lb", "other"))?;
    mooring.wait_status("default", "other", "172.17.200.101")?;
    until(secs(5), "the second one is announced from elsewhere", || {
        let node = mooring.announcer("172.17.200.101")?;
        ensure!(node != after, "{node} has both");
        Ok(())
    })?;
    ensure!(announcer(&mooring)? == after, "it has taken something back");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    let unknown = refused(operate(&json!({"node": "node-x"})))?;
    ensure!(unknown.contains("NotFound") && unknown.contains("unknown node \"node-x\""), "{unknown}");
    let wrong = refused(operate(&json!({"node": "Node X"})))?;
    ensure!(wrong.contains("InvalidArgument") && wrong.contains("Node X"), "{wrong}");
    Ok(())
}

fn a_drained_node_goes_on_where_no_other_is_eligible() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let last = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let pings = client.ping_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    for node in NODES.iter().filter(|node| **node != last) {
        operate(&json!({"node": node}))?;
    }
    let answer = operate(&json!({"node": last}))?;
    ensure!(answer["staying"] == 1 && answer["moving"].is_null(), "{answer}");
    let why = format!("node {last} goes on though it is drained by hand: no other node is eligible");
    until(secs(5), "it is told", || {
        let (status, state) = (l2_status(&mooring)?, node_state(&last)?);
        let assignment = mooring.assignments()?.into_iter().find(|found| found.vip == "172.17.200.100").context("no assignment")?;
        ensure!(status["node"] == last.as_str() && status["reason"] == why.as_str(), "{status}");
        ensure!(state["lastResort"] == 1, "{state}");
        ensure!(assignment.node == last && assignment.last_resort == why, "{assignment:?}");
        ensure!(told(&mooring, "lastResort")? == 1, "{:?}", mooring.events()?);
        Ok(())
    })?;
    only(client, lab.host(&last))?;
    let metrics = lab.host("control").curl("http://172.17.0.2:7472/metrics")?;
    ensure!(metrics.contains("mooring_allocator_drained_nodes{by=\"hand\"} 3"), "{metrics}");
    // Somebody else may again: the VIP goes there at once, and nothing is wrong any more.
    let other = NODES.iter().find(|node| **node != last).context("no other node")?;
    operate(&json!({"node": other, "cancel": true}))?;
    let after = wait_moved(&lab, &mooring, &last)?;
    ensure!(after == **other, "{after}");
    until(secs(5), "all is well", || {
        let status = l2_status(&mooring)?;
        ensure!(status["node"] == after.as_str() && status["reason"].is_null(), "{status}");
        Ok(())
    })?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

fn a_service_that_is_announced_always_needs_no_endpoint() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("endpoints.yaml", &endpoints(&[("node-a", false)]))?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    wait_silent(&mooring, "no endpoint can serve")?;
    let annotated = |value: &str| {
        NGINX_LB.replace("  name: nginx-lb", &format!("  name: nginx-lb\n  annotations: {{mooring.io/announce: \"{value}\"}}"))
    };
    mooring.apply("nginx-lb.yaml", &annotated("allways"))?;
    until(secs(5), "the owner is told", || {
        ensure!(told(&mooring, "InvalidAnnotation")? == 1, "{:?}", mooring.events()?);
        Ok(())
    })?;
    wait_silent(&mooring, "no endpoint can serve")?;
    mooring.apply("nginx-lb.yaml", &annotated("always"))?;
    until(secs(5), "it is announced", || mooring.announcer("172.17.200.100"))?;
    until(secs(5), "it answers", || lab.host("client").arp(VIP))?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    wait_silent(&mooring, "no endpoint can serve")
}

fn a_local_service_follows_its_endpoints() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("endpoints.yaml", &endpoints(&[("node-a", true)]))?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", &NGINX_LB.replace("spec:", "spec:\n  externalTrafficPolicy: Local"))?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    wait_announced_from(&mooring, "node-a")?;
    let client = lab.host("client");
    only(client, lab.host("node-a"))?;
    mooring.apply("endpoints.yaml", &endpoints(&[("node-a", true), ("node-b", true)]))?;
    let pings = client.ping_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    ensure!(announcer(&mooring)? == "node-a", "what may stay has moved");
    mooring.apply("endpoints.yaml", &endpoints(&[("node-a", false), ("node-b", true)]))?;
    wait_announced_from(&mooring, "node-b")?;
    only(client, lab.host("node-b"))?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    mooring.apply("endpoints.yaml", &endpoints(&[]))?;
    wait_silent(&mooring, "no endpoint can serve")?;
    // A node that nobody speaks for has them all: that is told, in the Event and where the node would stand.
    mooring.apply("endpoints.yaml", &endpoints(&[("node-x", true)]))?;
    wait_silent(&mooring, "no node is eligible")?;
    until(secs(5), "it is told", || {
        let status = l2_status(&mooring)?;
        ensure!(
            status["node"].is_null() && status["reason"].as_str().is_some_and(|why| why.starts_with("no node is eligible")),
            "{status}"
        );
        ensure!(told(&mooring, "announceFailed")? == 1, "{:?}", mooring.events()?);
        Ok(())
    })?;
    mooring.apply("endpoints.yaml", &endpoints(&[("node-c", true)]))?;
    wait_announced_from(&mooring, "node-c")
}

fn preferred_nodes_come_first_and_a_node_where_none_is() -> Result<()> {
    let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: default, namespace: metallb-system}\n\
                spec: {addresses: [172.17.200.100-172.17.200.125]}\n";
    let advertisement = "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: default, namespace: metallb-system}\n\
                         spec:\n  preferredNodeSelectors:\n  - {weight: 10, preference: {matchLabels: {name: node-b}}}\n  \
                         - {weight: 90, preference: {matchLabels: {name: node-c}}}\n";
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("nodes.yaml", &nodes(&[]))?;
    mooring.apply("pool.yaml", pool)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    wait_silent(&mooring, "no L2Advertisement is about pool default")?;
    mooring.apply("advertisement.yaml", advertisement)?;
    wait_announced_from(&mooring, "node-c")?;
    only(lab.host("client"), lab.host("node-c"))?;
    for (cordoned, wanted) in [(&["node-c"][..], "node-b"), (&["node-b", "node-c"], "node-a"), (&[], "node-a")] {
        mooring.apply("nodes.yaml", &nodes(cordoned))?;
        until(secs(5), "the nodes are known", || {
            let states = NODES
                .iter()
                .map(|name| Ok((node_state(name)?["cordoned"] == true) == cordoned.contains(name)))
                .collect::<Result<Vec<_>>>()?;
            ensure!(states.iter().all(|is_so| *is_so), "{states:?}");
            Ok(())
        })?;
        wait_announced_from(&mooring, wanted)?;
    }
    only(lab.host("client"), lab.host("node-a"))
}

fn thirty_addresses_are_spread_evenly_over_three_nodes() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", &ONE_POOL.replace("172.17.200.125", "172.17.200.200"))?;
    let all: Vec<String> = (0..30).map(|number| NGINX_LB.replace("nginx-lb", &format!("web-{number}"))).collect();
    mooring.apply("services.yaml", &all.join("---\n"))?;
    let spread = |what: &str, is_wanted: &dyn Fn([usize; 3]) -> bool| {
        until(secs(10), &format!("all are announced, {what}"), || {
            let list = mooring.assignments()?;
            let on = |node: &str| list.iter().filter(|found| found.announced && found.node == node).count();
            let counts = NODES.map(on);
            ensure!(counts.iter().sum::<usize>() == 30 && is_wanted(counts), "{counts:?}");
            Ok(())
        })
    };
    let even = |counts: [usize; 3]| counts == [10, 10, 10];
    spread("ten by each node", &even)?;
    // A node that takes part again takes nothing back by itself, but by hand.
    operate(&json!({"node": "node-c"}))?;
    spread("none by node-c", &|counts| counts[2] == 0)?;
    operate(&json!({"node": "node-c", "cancel": true}))?;
    let rebalance = |most: u32| call(ALLOCATOR, &json!({"max_moves": most}), "mooring.v1.OperatorService/Rebalance");
    // An allocator that has just started moves nothing: speakers may still come back.
    let first = until(secs(10), "VIPs are on their way", || {
        let found = rebalance(4)?;
        ensure!(!found["moving"].is_null(), "{found}");
        Ok(found)
    })?;
    ensure!(first["moving"] == 4 && first["remaining"].as_u64().is_some_and(|left| left >= 6), "{first}");
    spread("four by node-c", &|counts| counts[2] == 4)?;
    let rest = rebalance(0)?;
    ensure!(rest["moving"].as_u64().is_some_and(|moving| moving >= 6) && rest["remaining"].is_null(), "{rest}");
    spread("ten by each node", &even)?;
    ensure!(rebalance(0)? == json!({}), "all is even");
    Ok(())
}
