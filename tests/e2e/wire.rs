//! What the LAN says: a stranger that has a new address already, and what other nodes see of the addresses that are announced.

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::until::{secs, until};
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
