//! What the LAN says: a stranger that has a new address already, and what other nodes see of the addresses that are announced.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::Lab;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use serde_json::{Value, json};

use crate::Scenario;
use crate::failover::{VIP, one_service, only};
use crate::inspection::{ALLOCATOR, call};
use crate::ipv6::{VIP6, dual_pool};
use crate::story::{NGINX_LB, ONE_POOL};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("wire::a_stranger_that_already_has_a_new_address_keeps_it", a_stranger_that_already_has_a_new_address_keeps_it),
    ("wire::a_stranger_that_already_has_a_new_ipv6_address_keeps_it", a_stranger_that_already_has_a_new_ipv6_address_keeps_it),
    (
        "wire::a_stranger_that_claims_many_addresses_at_once_is_reported_for_each",
        a_stranger_that_claims_many_addresses_at_once_is_reported_for_each,
    ),
    ("wire::a_machine_that_answers_for_a_whole_pool_disturbs_nobody_else", a_machine_that_answers_for_a_whole_pool_disturbs_nobody_else),
    (
        "wire::who_asks_for_an_address_that_a_stranger_has_is_told_who_has_it",
        who_asks_for_an_address_that_a_stranger_has_is_told_who_has_it,
    ),
    ("wire::other_nodes_see_whether_an_address_is_reachable_and_contested", other_nodes_see_whether_an_address_is_reachable_and_contested),
];

/// A Service that asks for the VIP.
const PICKY: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: picky
spec:
  loadBalancerIP: 172.17.200.100
  ports:
  - port: 8080
  selector:
    run: nginx-web
  type: LoadBalancer
";

/// The client has an address of the pool.
fn takes(lab: &Lab) -> Result<()> {
    let client = lab.host("client");
    client.netns().run("ip", &["address", "add", &format!("{VIP}/32"), "dev", "eth0"])
}

fn quarantined() -> Result<Vec<Value>> {
    let pools = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListPools")?;
    Ok(pools["pools"][0]["quarantined"].as_array().cloned().unwrap_or_default())
}

/// An Event about a Service whose note has all these parts.
fn event(mooring: &Mooring, service: &str, parts: &[&str]) -> Result<()> {
    until(secs(5), &format!("an Event about {service} says {parts:?}"), || {
        let events = mooring.events()?;
        let is_it = |event: &Value| {
            let note = event["note"].as_str().unwrap_or_default();
            event["regarding"]["name"] == service && parts.iter().all(|part| note.contains(part))
        };
        ensure!(events.iter().any(is_it), "{events:?}");
        Ok(())
    })
}

fn a_stranger_that_already_has_a_new_address_keeps_it() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    takes(&lab)?;
    let (client, mac) = (lab.host("client"), lab.host("client").mac().to_string());
    let mut capture = Capture::begin(client)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.101")?;
    until(secs(5), "the next address answers", || client.arp("172.17.200.101".parse()?))?;
    event(&mooring, "nginx-lb", &["172.17.200.100", "in use by", &mac])?;
    let found = quarantined()?;
    let [only_one] = found.as_slice() else { anyhow::bail!("{found:?}") };
    let note = only_one["note"].as_str().context("no note")?;
    ensure!(only_one["address"] == "172.17.200.100" && note.starts_with(&format!("in use by {mac} on node node-")), "{only_one}");
    mooring
        .allocator
        .wait_for(&json!({"event": "addressInUse", "ip": "172.17.200.100", "mac": mac, "interface": "eth0", "level": "warn"}))?;
    let frames = capture.arps();
    ensure!(!frames.iter().any(|arp| arp.spa == VIP && arp.sha != client.mac()), "somebody has announced what a stranger has");
    let probes = frames.iter().filter(|arp| arp.spa.is_unspecified() && arp.tpa == VIP).count();
    ensure!((1..=3).contains(&probes), "asked {probes} times");
    // What is known survives a restart, and the next Service does not get the address either.
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.apply("nginx-lb2.yaml", &NGINX_LB.replace("nginx-lb", "nginx-lb2"))?;
    mooring.wait_status("default", "nginx-lb2", "172.17.200.102")?;
    ensure!(quarantined()?.len() == 1);
    ensure!(!capture.arps().iter().any(|arp| arp.spa == VIP && arp.sha != client.mac()), "somebody has announced what a stranger has");
    Ok(())
}

fn a_stranger_that_already_has_a_new_ipv6_address_keeps_it() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let client = lab.host("client");
    client.netns().run("ip", &["address", "add", &format!("{VIP6}/128"), "dev", "eth0", "nodad"])?;
    mooring.apply("config.yaml", &dual_pool())?;
    mooring.apply("nginx-lb.yaml", &format!("{NGINX_LB}  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n"))?;
    until(secs(10), "only the IPv6 address is another one", || {
        let has = mooring.status("default", "nginx-lb")?;
        ensure!(has == [VIP.to_string(), "fd00:200::101".to_owned()], "{has:?}");
        Ok(())
    })?;
    until(secs(5), "the next address answers", || client.ndisc6("fd00:200::101".parse()?))?;
    event(&mooring, "nginx-lb", &["fd00:200::100", "in use by", &client.mac().to_string()])?;
    let found = quarantined()?;
    ensure!(found.len() == 1 && found[0]["address"] == VIP6.to_string(), "{found:?}");
    Ok(())
}

fn a_stranger_that_claims_many_addresses_at_once_is_reported_for_each() -> Result<()> {
    // For each speaker more than a session takes at once.
    const VIPS: u8 = 250;
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let stranger = lab.host("client");
    mooring.apply("config.yaml", &ONE_POOL.replace("172.17.200.100-172.17.200.125", "172.17.201.1-172.17.201.250"))?;
    let services: Vec<String> = (0..VIPS).map(|number| NGINX_LB.replace("nginx-lb", &format!("s{number}"))).collect();
    mooring.apply("services.yaml", &services.join("---\n"))?;
    let nodes = until(secs(20), "all are announced", || {
        let assignments = mooring.assignments()?;
        let announced: Vec<_> = assignments.into_iter().filter(|found| found.announced).map(|found| found.node).collect();
        ensure!(announced.len() == usize::from(VIPS), "{} are", announced.len());
        Ok(announced)
    })?;
    let claim = |last| {
        let vip = Ipv4Addr::new(172, 17, 201, last);
        let arp = Arp { operation: Operation::Request, sha: stranger.mac(), spa: vip, tha: MacAddress([0; 6]), tpa: vip };
        build_arp(MacAddress::BROADCAST, &arp)
    };
    stranger.send_frames((1..=VIPS).map(claim).collect())?;
    until(secs(5), "the allocator knows of each", || {
        let assignments = mooring.assignments()?;
        let unknown = assignments.iter().filter(|found| found.conflict_mac != stranger.mac().to_string()).count();
        ensure!(unknown == 0 && assignments.len() == usize::from(VIPS), "not of {unknown}");
        Ok(())
    })?;
    ensure!(mooring.assignments()?.into_iter().map(|found| found.node).eq(nodes), "some have moved");
    no_session_ended(&mut mooring)
}

fn no_session_ended(mooring: &mut Mooring) -> Result<()> {
    for speaker in mooring.speakers.values_mut() {
        let ended: Vec<_> = speaker.events("sessionChanged").into_iter().filter(|line| line["state"] == "away").collect();
        ensure!(ended.is_empty(), "{ended:?}");
    }
    Ok(())
}

fn a_machine_that_answers_for_a_whole_pool_disturbs_nobody_else() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let holder = one_service(&lab, &mooring)?;
    let (client, stranger) = (lab.host("client"), lab.host("control"));
    // It answers probes for all that it takes as its own, wherever that is.
    stranger.netns().run("ip", &["route", "add", "local", "172.17.201.0/24", "dev", "lo", "table", "local"])?;
    stranger.netns().run("sh", &["-c", "for of in all eth0; do echo 0 > /proc/sys/net/ipv4/conf/$of/arp_ignore; done"])?;
    until(secs(5), "the stranger answers", || client.arp(Ipv4Addr::new(172, 17, 201, 7)))?;
    let pings = client.ping_every(millis(5), VIP)?;
    mooring.apply("config.yaml", &format!("{ONE_POOL}    - name: taken\n      protocol: layer2\n      addresses: [172.17.201.0/25]\n"))?;
    let named = |number| NGINX_LB.replace("nginx-lb", &format!("s{number}"));
    let pinned = |number| named(number).replace("spec:", "  annotations: {metallb.io/address-pool: taken}\nspec:");
    mooring.apply("services.yaml", &(0..60).map(pinned).collect::<Vec<_>>().join("---\n"))?;
    until(secs(30), "the whole pool is in quarantine", || {
        let pools = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListPools")?;
        let taken = pools["pools"].as_array().into_iter().flatten().find(|pool| pool["pool"]["name"] == "taken").cloned();
        let found = taken.and_then(|pool| Some(pool["quarantined"].as_array()?.len())).unwrap_or_default();
        ensure!(found == 128, "{found} addresses are");
        Ok(())
    })?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    only(client, lab.host(&holder))?;
    no_session_ended(&mut mooring)
}

fn who_asks_for_an_address_that_a_stranger_has_is_told_who_has_it() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    takes(&lab)?;
    let mac = lab.host("client").mac().to_string();
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("picky.yaml", PICKY)?;
    event(&mooring, "picky", &["Failed to allocate IP", "is not allowed in config", "in use by", &mac])?;
    let state = call(ALLOCATOR, &json!({"namespace": "default", "name": "picky"}), "mooring.v1.InspectService/GetLease")?;
    ensure!(state["state"]["refusal"]["reason"] == "ADDRESS_IN_USE", "{state}");
    ensure!(state["state"]["announcements"][0]["reason"].as_str().is_some_and(|reason| reason.contains(&mac)), "{state}");
    ensure!(quarantined()?.len() == 1);
    Ok(())
}

fn other_nodes_see_whether_an_address_is_reachable_and_contested() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let holder = one_service(&lab, &mooring)?;
    only(lab.host("client"), lab.host(&holder))?;
    let (own, stranger) = (lab.host(&holder).mac().to_string(), lab.host("client").mac().to_string());
    let seen = |wanted: &str, contested: bool, macs: &[&str]| {
        until(secs(20), &format!("the address is seen as {wanted}"), || {
            let list = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListAssignments")?;
            let assignment = &list["assignments"][0];
            let seen = &assignment["seen"];
            ensure!(seen["reachability"] == wanted && assignment["announced"] == true, "{assignment}");
            ensure!(seen["contested"].as_bool().unwrap_or_default() == contested, "{assignment}");
            let mut found: Vec<&str> = seen["macs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            found.sort_unstable();
            ensure!(found == macs, "{assignment}");
            let at: u64 = seen["seenUnixMs"].as_str().unwrap_or_default().parse()?;
            ensure!(at > 0 && seen["node"] == assignment["standbyNode"] && seen["node"] != holder.as_str(), "{assignment}");
            Ok(())
        })
    };
    seen("REACHABILITY_REACHABLE", false, &[&own])?;
    // An allocator that has just started has all looked at anew.
    takes(&lab)?;
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    let mut both = [own.as_str(), stranger.as_str()];
    both.sort_unstable();
    seen("REACHABILITY_REACHABLE", true, &both)?;
    mooring.allocator.wait_for(&json!({"event": "vipContested", "ip": VIP.to_string(), "level": "warn"}))?;
    event(&mooring, "nginx-lb", &["another machine", &stranger, "172.17.200.100"])?;
    Ok(())
}
