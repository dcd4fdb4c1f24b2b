//! Interfaces of a node come, go and change, and a node has several: where an address is answered for.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::host::Host;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{Lab, run};
use serde_json::json;

use crate::Scenario;
use crate::ipv6::{VIP6, one_dual_service};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("interfaces::one_that_appears_later_answers_and_is_announced_on", one_that_appears_later_answers_and_is_announced_on),
    ("interfaces::another_hardware_address_is_announced_at_once", another_hardware_address_is_announced_at_once),
    ("interfaces::a_new_name_changes_nothing", a_new_name_changes_nothing),
    ("interfaces::a_port_of_a_bridge_is_silent_and_the_bridge_answers", a_port_of_a_bridge_is_silent_and_the_bridge_answers),
    ("interfaces::an_interface_on_top_of_another_answers_for_itself", an_interface_on_top_of_another_answers_for_itself),
    (
        "interfaces::a_vip_is_announced_in_its_own_network_and_leaves_a_node_that_is_cut_off_there",
        a_vip_is_announced_in_its_own_network_and_leaves_a_node_that_is_cut_off_there,
    ),
    ("interfaces::one_without_ipv6_gets_its_groups_with_its_first_address", one_without_ipv6_gets_its_groups_with_its_first_address),
];

const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// A hardware address that the lab has not given away.
const OTHER: MacAddress = MacAddress([0x02, 0, 0, 0, 0x77, 0x01]);

/// A dual-stack Service on a LAN of which one node alone has a speaker.
pub(crate) fn on_one_node(lab: &Lab) -> Result<Mooring> {
    let mut mooring = Mooring::on_directory(lab)?;
    for node in ["node-b", "node-c"] {
        ensure!(mooring.speaker(node)?.terminate()?.code() == Some(0));
    }
    ensure!(one_dual_service(lab, &mooring)? == "node-a");
    Ok(mooring)
}

/// Waits until just these answer for both addresses.
fn answer(client: &Host, macs: &[MacAddress]) -> Result<()> {
    until(secs(5), "both addresses are answered for", || {
        let (mut arp, mut ndp) = (client.arp_all(VIP, millis(100))?, client.ndisc6_all(VIP6, millis(100))?);
        arp.sort();
        ndp.sort();
        ensure!(arp == macs && ndp == macs, "ARP {arp:?}, NDP {ndp:?}");
        Ok(())
    })
}

/// Waits until gratuitous frames for both addresses were seen with this hardware address.
fn announced(capture: &mut Capture, mac: MacAddress) -> Result<()> {
    until(secs(5), &format!("{mac} announces both addresses"), || {
        ensure!(capture.arps().iter().any(|arp| arp.is_gratuitous() && arp.spa == VIP && arp.sha == mac), "no ARP");
        ensure!(capture.ndps().iter().any(|ndp| ndp.is_gratuitous() && ndp.target == VIP6 && ndp.option == Some(mac)), "no advertisement");
        Ok(())
    })
}

fn one_that_appears_later_answers_and_is_announced_on() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let mut capture = Capture::begin(client)?;
    lab.plug(node, "eth1", OTHER, "br0")?;
    // In the same network: it counts as soon as it has an address there.
    node.netns().run("ip", &["address", "add", "172.17.0.21/16", "dev", "eth1"])?;
    node.netns().run("ip", &["address", "add", "fd00:200::21/64", "dev", "eth1", "nodad"])?;
    announced(&mut capture, OTHER)?;
    answer(client, &[node.mac(), OTHER])?;
    node.netns().run("ip", &["link", "delete", "eth1"])?;
    mooring.speaker("node-a")?.wait_for(&json!({"event": "deleteNDPResponder", "interface": "eth1"}))?;
    answer(client, &[node.mac()])?;
    ensure!(mooring.speaker("node-a")?.events("serviceWithdrawn").is_empty());
    Ok(())
}

fn another_hardware_address_is_announced_at_once() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    answer(client, &[node.mac()])?;
    client.netns().run("ping", &["-6", "-c", "1", "-W", "2", &VIP6.to_string()])?;
    let mut capture = Capture::begin(client)?;
    node.netns().run("ip", &["link", "set", "eth0", "address", &OTHER.to_string()])?;
    announced(&mut capture, OTHER)?;
    answer(client, &[OTHER])?;
    let known = client.neighbor(VIP6)?;
    ensure!(known == OTHER, "the client sends to {known}");
    ensure!(mooring.speaker("node-a")?.events("addressConflict").is_empty());
    Ok(())
}

fn a_new_name_changes_nothing() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let pings = client.ping_every(millis(5), VIP6)?;
    node.netns().run("ip", &["link", "set", "eth0", "name", "lan0"])?;
    mooring.speaker("node-a")?.wait_for(&json!({"event": "createNDPResponder", "interface": "lan0"}))?;
    answer(client, &[node.mac()])?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    let mut listed = mooring.nodes()?.into_iter().flat_map(|node| node.speakers).flat_map(|speaker| speaker.interfaces);
    ensure!(listed.any(|interface| interface.name == "lan0"), "the allocator knows no lan0");
    Ok(())
}

fn a_port_of_a_bridge_is_silent_and_the_bridge_answers() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    // As an administrator makes a bridge over the node's only interface, all at once.
    let steps = [
        format!("link add lan0 address {OTHER} type bridge forward_delay 0 mcast_snooping 0"),
        "link set eth0 master lan0".to_owned(),
        "link set lan0 up".to_owned(),
        "address delete 172.17.0.11/16 dev eth0".to_owned(),
        "address add 172.17.0.11/16 dev lan0".to_owned(),
        "address delete fd00:200::b/64 dev eth0".to_owned(),
        "address add fd00:200::b/64 dev lan0 nodad".to_owned(),
    ];
    for step in &steps {
        node.netns().run("ip", &step.split_whitespace().collect::<Vec<_>>())?;
    }
    mooring.speaker("node-a")?.wait_for(&json!({"event": "deleteARPResponder", "interface": "eth0"}))?;
    mooring.speaker("node-a")?.wait_for(&json!({"event": "createNDPResponder", "interface": "lan0"}))?;
    answer(client, &[OTHER])?;
    Ok(())
}

fn an_interface_on_top_of_another_answers_for_itself() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let _mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let steps = [
        format!("link add link eth0 name eth0.7 address {OTHER} type macvlan mode bridge"),
        "address add 172.17.0.21/16 dev eth0.7".to_owned(),
        "address add fd00:200::21/64 dev eth0.7 nodad".to_owned(),
        "link set eth0.7 up".to_owned(),
    ];
    for step in &steps {
        node.netns().run("ip", &step.split_whitespace().collect::<Vec<_>>())?;
    }
    answer(client, &[node.mac(), OTHER])
}

fn a_vip_is_announced_in_its_own_network_and_leaves_a_node_that_is_cut_off_there() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    run("ip", &["link", "add", "br1", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
    run("ip", &["link", "set", "br1", "up"])?;
    for (number, host) in lab.nodes().chain([lab.host("client"), lab.host("control")]).enumerate() {
        let mac = MacAddress([0x02, 0, 0, 1, 0, u8::try_from(number)?]);
        lab.plug(host, "eth1", mac, "br1")?;
        host.netns().run("ip", &["address", "add", &format!("172.18.0.{}/16", number + 1), "dev", "eth1"])?;
    }
    // The allocator is reached by the other LAN, so that it is told of everything.
    for node in lab.nodes() {
        node.netns().run("ip", &["route", "add", "172.17.0.2/32", "via", "172.18.0.5", "dev", "eth1"])?;
    }
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let (client, host) = (lab.host("client"), lab.host(&node));
    let metrics = host.netns().output("curl", &["-s", "http://127.0.0.1:7474/metrics"])?;
    ensure!(metrics.contains("mooring_speaker_interfaces 2"), "{metrics}");
    let listed = host
        .netns()
        .output(&Cluster::grpcurl_path()?, &["-plaintext", "127.0.0.1:7471", "mooring.v1.AnnouncementService/ListAnnouncements"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let of_vip = |vip: &&serde_json::Value| vip["vip"] == VIP6.to_string();
    let announced = listed["vips"].as_array().into_iter().flatten().find(of_vip).context("the VIP is not listed")?;
    ensure!(announced["interfaces"] == json!([{"name": "eth0", "mac": host.mac().to_string()}]), "{listed}");
    client.netns().run("ping", &["-6", "-c", "1", "-W", "2", &VIP6.to_string()])?;
    let pings = client.ping_every(millis(5), VIP6)?;
    until(secs(5), "pings are answered", || client.ndisc6(VIP6))?;
    host.port_down()?;
    let reason = "the interface of the node that is in its network is down";
    mooring.speaker(&node)?.wait_for(&json!({"event": "announceFailed", "ip": VIP6.to_string(), "reason": reason}))?;
    let after = until(secs(5), "another node announces", || {
        let now = mooring.announcer(&VIP6.to_string())?;
        ensure!(now != node, "still {now}");
        Ok(now)
    })?;
    until(secs(5), "it answers", || {
        let mac = client.ndisc6(VIP6)?;
        ensure!(mac == lab.host(&after).mac(), "{mac} answers");
        Ok(())
    })?;
    // Long before the time after which a silent node counts as lost.
    let report = pings.finish()?;
    ensure!(report.lost > 0 && report.gap < millis(500), "{report:?}");
    ensure!(mooring.allocator.events("speakerLost").is_empty());
    drop(lab);
    run("ip", &["link", "delete", "br1"])
}

fn one_without_ipv6_gets_its_groups_with_its_first_address() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let switch = |off: &str| node.netns().run("sh", &["-c", &format!("echo {off} > /proc/sys/net/ipv6/conf/eth0/disable_ipv6")]);
    switch("1")?;
    let reason = "none of the interfaces it may be announced on has an IPv6 address";
    mooring.speaker("node-a")?.wait_for(&json!({"event": "announceFailed", "ip": VIP6.to_string(), "reason": reason}))?;
    until(secs(5), "nobody answers by IPv6", || {
        let answers = client.ndisc6_all(VIP6, millis(100))?;
        ensure!(answers.is_empty(), "{answers:?}");
        Ok(())
    })?;
    ensure!(client.arp(VIP)? == node.mac(), "IPv4 has gone with it");
    let reasons = mooring.assignments()?.into_iter().find(|assignment| assignment.vip == VIP6.to_string()).context("no assignment")?;
    ensure!(reasons.node.is_empty(), "{reasons:?}");
    switch("0")?;
    node.netns().run("ip", &["address", "add", "fd00:200::b/64", "dev", "eth0", "nodad"])?;
    answer(client, &[node.mac()])
}
