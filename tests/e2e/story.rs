//! The story on a directory: Services get addresses that answer, and give them back.

use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::cluster::{dns, nginx};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{Lab, Process};
use serde_json::json;

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("story::services_on_a_directory_get_addresses_that_answer", services_on_a_directory_get_addresses_that_answer),
    (
        "story::dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free",
        dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free,
    ),
    ("story::a_deleted_service_falls_silent_and_its_address_is_free", a_deleted_service_falls_silent_and_its_address_is_free),
];

/// The manifests of the story.
pub(crate) const ONE_POOL: &str = include_str!("../../deploy/examples/metallb-config.yaml");
pub(crate) const TWO_POOLS: &str = include_str!("../../deploy/examples/metallb-config-two-pools.yaml");
pub(crate) const NGINX_LB: &str = include_str!("../../deploy/examples/nginx-lb.yaml");
pub(crate) const NGINX_LB2: &str = include_str!("../../deploy/examples/nginx-lb2.yaml");
pub(crate) const COREDNS_TCP: &str = include_str!("../../deploy/examples/coredns-tcp.yaml");
pub(crate) const COREDNS_UDP: &str = include_str!("../../deploy/examples/coredns-udp.yaml");

/// A page from every node, so that a VIP answers wherever it is.
pub(crate) fn web(lab: &Lab) -> Result<Vec<Process>> {
    lab.nodes().map(|node| nginx(lab, node, 8080)).collect()
}

fn services_on_a_directory_get_addresses_that_answer() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let _web = web(&lab)?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    let vip = "172.17.200.100".parse()?;
    let client = lab.host("client");
    let mac = until(secs(5), "the VIP answers ARP", || client.arp(vip))?;
    let node = mooring.announcer("172.17.200.100")?;
    ensure!(lab.host(&node).mac() == mac, "{node} announces by the allocator, {mac} answers");
    ensure!(client.curl("http://172.17.200.100:8080/")? == format!("nginx on {node}\n"));
    // A second pool appears while all runs; the first Service notices nothing.
    let pings = client.ping_every(millis(5), vip)?;
    mooring.apply("config.yaml", TWO_POOLS)?;
    mooring.apply("nginx-lb2.yaml", NGINX_LB2)?;
    mooring.wait_status("default", "nginx-lb2", "172.17.201.100")?;
    until(secs(5), "the second VIP answers", || client.curl("http://172.17.201.100:8080/"))?;
    ensure!(mooring.announcer("172.17.200.100")? == node, "the first VIP has moved");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "the first VIP lost pings: {report:?}");
    let updates = mooring.watcher.events("ipAllocated");
    ensure!(updates.len() == 2, "{updates:?}");
    let events = mooring.events()?;
    for (name, note) in [("nginx-lb", "Assigned IP [\"172.17.200.100\"]"), ("nginx-lb2", "Assigned IP [\"172.17.201.100\"]")] {
        let of = |reason: &str| {
            events.iter().filter(|event| event["regarding"]["name"] == name && event["reason"] == reason).cloned().collect::<Vec<_>>()
        };
        let allocated = of("IPAllocated");
        ensure!(allocated.len() == 1 && allocated[0]["note"] == note && allocated[0]["type"] == "Normal", "{allocated:?}");
        ensure!(of("nodeAssigned").len() == 1, "{events:?}");
    }
    Ok(())
}

fn dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let _dns = lab.nodes().map(dns).collect::<Result<Vec<_>>>()?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    mooring.apply("coredns-tcp.yaml", COREDNS_TCP)?;
    mooring.wait_status("kube-system", "coredns-tcp", "172.17.200.101")?;
    mooring.delete("nginx-lb.yaml")?;
    until(secs(5), "nginx-lb gives its address back", || {
        let leases = mooring.leases()?;
        ensure!(!leases.contains_key("default/nginx-lb"), "{leases:?}");
        Ok(())
    })?;
    mooring.apply("coredns-udp.yaml", COREDNS_UDP)?;
    mooring.wait_status("kube-system", "coredns-udp", "172.17.200.101")?;
    let server = "172.17.200.101".parse()?;
    for tcp in [true, false] {
        until(secs(5), "the name server answers", || lab.host("client").dig(server, "web.lab.example", tcp))?;
    }
    Ok(())
}

fn a_deleted_service_falls_silent_and_its_address_is_free() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    let (client, vip) = (lab.host("client"), "172.17.200.100".parse()?);
    until(secs(5), "the VIP answers ARP", || client.arp(vip))?;
    let node = mooring.announcer("172.17.200.100")?;
    mooring.delete("nginx-lb.yaml")?;
    mooring
        .speaker(&node)?
        .wait_for(&json!({"event": "serviceWithdrawn", "ip": "172.17.200.100", "service": "default/nginx-lb", "protocol": "layer2"}))?;
    let mut capture = Capture::begin(client)?;
    ensure!(client.arp_all(vip, Duration::from_millis(500))?.is_empty(), "the VIP still answers");
    ensure!(!capture.arps().iter().any(|arp| arp.spa == vip), "somebody still announces it");
    ensure!(!mooring.status_folder().join("services/default_nginx-lb.yaml").exists(), "its status is still there");
    ensure!(!mooring.status_folder().join("servicel2statuses/default_nginx-lb.yaml").exists(), "its ServiceL2Status is still there");
    ensure!(mooring.leases()?.is_empty());
    mooring.apply("nginx-lb2.yaml", &NGINX_LB.replace("nginx-lb", "another"))?;
    mooring.wait_status("default", "another", "172.17.200.100")
}
