//! The lab itself: if this fails, no other failure means anything.

use anyhow::{Result, ensure};
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::cluster::{Cluster, dns, nginx};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::{Lab, Program};
use serde_json::json;

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("lab::hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled", hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled),
    ("lab::the_kernel_serves_vips_but_never_answers_arp_for_them", the_kernel_serves_vips_but_never_answers_arp_for_them),
    ("lab::a_real_control_plane_serves_real_pods", a_real_control_plane_serves_real_pods),
    ("lab::a_process_is_killed_and_started_again", a_process_is_killed_and_started_again),
];

fn hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let mut capture = Capture::begin(node)?;
    ensure!(client.arp(node.address())? == node.mac());
    ensure!(capture.arps().iter().any(|arp| arp.spa == client.address() && arp.tpa == node.address()));
    let pings = client.ping_every(millis(5), node.address())?;
    until(secs(5), "node-a answers", || client.arp(node.address()))?;
    node.port_down()?;
    ensure!(client.arp_all(node.address(), millis(200))?.is_empty(), "answers without a cable");
    node.port_up()?;
    until(secs(5), "node-a answers again", || client.arp(node.address()))?;
    let report = pings.finish()?;
    ensure!(report.lost > 0 && report.gap >= millis(150), "{report:?}");
    Ok(())
}

fn the_kernel_serves_vips_but_never_answers_arp_for_them() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let vip = "172.17.200.100".parse()?;
    ensure!(lab.host("client").arp_all(vip, millis(200))?.is_empty());
    lab.host("client")
        .netns()
        .run("ip", &["neighbor", "replace", "172.17.200.100", "lladdr", &lab.host("node-b").mac().to_string(), "dev", "eth0"])?;
    let pings = lab.host("client").ping_every(millis(5), vip)?;
    lab.host("client").arp_all(vip, millis(200))?;
    let report = pings.finish()?;
    ensure!(report.sent > 10 && report.lost == 0, "{report:?}");
    Ok(())
}

fn a_process_is_killed_and_started_again() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let script = r#"echo '{"event":"up"}'; exec sleep 60"#;
    let mut process = Program::new("sh").args(["-c", script]).start(lab.host("node-c"))?;
    process.wait_for(&json!({"event": "up"}))?;
    process.kill_9()?;
    ensure!(!process.is_running()?);
    process.restart()?;
    process.wait_for(&json!({"event": "up"}))?;
    ensure!(process.terminate()?.code().is_none(), "ended by the signal");
    Ok(())
}

fn a_real_control_plane_serves_real_pods() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut cluster = Cluster::start(&lab)?;
    let node = lab.host("node-a");
    cluster.add_node(node)?;
    cluster.start_controllers(lab.host("control"))?;
    cluster.start_proxy(node)?;
    let (_nginx, _dns) = (nginx(&lab, node, 8080)?, dns(node)?);
    cluster.add_pod("default", "web", &json!({"run": "nginx-web"}), node)?;
    cluster.apply(include_str!("../../deploy/examples/nginx-lb.yaml"))?;
    cluster.kubectl(&["patch", "service", "nginx-lb", "--type=merge", "--patch", r#"{"spec":{"externalIPs":["172.17.200.7"]}}"#])?;
    lab.host("client").netns().run("ip", &["route", "add", "172.17.200.7/32", "via", &node.address().to_string()])?;
    let page = until(secs(20), "the Service answers through kube-proxy", || lab.host("client").curl("http://172.17.200.7:8080/"))?;
    ensure!(page == "nginx on node-a\n", "{page}");
    cluster.save_etcd()?;
    cluster.kubectl(&["delete", "service", "nginx-lb"])?;
    cluster.restore_etcd()?;
    cluster.get(&["service", "nginx-lb"])?;
    Ok(())
}
