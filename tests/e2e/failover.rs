//! A speaker or its node is lost, or told to end: the VIP moves, and the gap is what questions each 5 ms miss, by ping and by ARP.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::host::PingReport;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{Mooring, speaker};
use mooring_tests::lab::{Host, Lab};
use serde_json::json;

use crate::Scenario;
use crate::story::{NGINX_LB, ONE_POOL};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("failover::a_killed_speaker_is_followed_by_the_standby", a_killed_speaker_is_followed_by_the_standby),
    ("failover::a_node_without_its_cable_is_followed_by_the_standby", a_node_without_its_cable_is_followed_by_the_standby),
    ("failover::a_speaker_told_to_end_loses_no_ping", a_speaker_told_to_end_loses_no_ping),
    (
        "failover::a_speaker_told_to_end_while_the_allocator_is_away_loses_no_ping",
        a_speaker_told_to_end_while_the_allocator_is_away_loses_no_ping,
    ),
    ("failover::a_second_speaker_of_the_node_answers_with_the_same_mac", a_second_speaker_of_the_node_answers_with_the_same_mac),
    ("failover::a_speaker_started_twice_takes_turns_and_no_ping_is_lost", a_speaker_started_twice_takes_turns_and_no_ping_is_lost),
    ("failover::a_node_that_returns_takes_nothing_back", a_node_that_returns_takes_nothing_back),
];

pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// One Service that answers; returns the node that announces it.
pub(crate) fn one_service(lab: &Lab, mooring: &Mooring) -> Result<String> {
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    until(secs(5), "the VIP answers ARP", || lab.host("client").arp(VIP))?;
    announcer(mooring)
}

pub(crate) fn announcer(mooring: &Mooring) -> Result<String> {
    until(secs(5), "the VIP is announced", || mooring.announcer("172.17.200.100"))
}

/// Waits until just this host answers ARP for the VIP, and nobody else.
pub(crate) fn only(client: &Host, host: &Host) -> Result<()> {
    until(secs(5), &format!("only {} answers", host.name()), || {
        let answers = client.arp_all(VIP, millis(100))?;
        ensure!(answers == [host.mac()], "{answers:?}");
        Ok(())
    })
}

/// What the loss of a speaker looked like from the client.
struct Loss {
    /// The node that has the VIP afterwards.
    after: String,
    pings: PingReport,
    arps: PingReport,
}

/// Does something to the announcing node, and watches until another one has the VIP.
fn lose(lab: &Lab, mooring: &mut Mooring, act: impl FnOnce(&mut Mooring, &str) -> Result<()>) -> Result<Loss> {
    let client = lab.host("client");
    let before = one_service(lab, mooring)?;
    let mut capture = Capture::begin(client)?;
    let (pings, arps) = (client.ping_every(millis(5), VIP)?, client.arp_every(millis(5), VIP)?);
    until(secs(5), "answers come", || client.arp(VIP))?;
    act(mooring, &before)?;
    let after = until(secs(10), "another node announces", || {
        let now = mooring.announcer("172.17.200.100")?;
        ensure!(now != before, "still {now}");
        Ok(now)
    })?;
    until(secs(5), &format!("{after} answers"), || {
        let mac = client.arp(VIP)?;
        ensure!(mac == lab.host(&after).mac(), "{mac} answers");
        Ok(())
    })?;
    let (pings, arps) = (pings.finish()?, arps.finish()?);
    only(client, lab.host(&after))?;
    let mac = lab.host(&after).mac();
    ensure!(capture.arps().iter().any(|arp| arp.is_gratuitous() && arp.spa == VIP && arp.sha == mac), "{after} sent no gratuitous ARP");
    Ok(Loss { after, pings, arps })
}

/// Tells a gap and bounds it: not a timing of Mooring, which is the benchmarks', but without any failover it would have no end.
#[expect(clippy::print_stdout, reason = "what was measured is part of the result")]
fn bounded(what: &str, report: &PingReport) -> Result<()> {
    println!("{what}: {} of {} not answered, a gap of {} ms", report.lost, report.sent, report.gap.as_millis());
    ensure!(report.lost > 0 && report.gap > millis(5) && report.gap < secs(2), "{what}: {report:?}");
    Ok(())
}

fn a_killed_speaker_is_followed_by_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    // The node itself lives on, and with it the kernel that answers pings: what counts is who answers ARP.
    let Loss { after, arps, .. } = lose(&lab, &mut mooring, |mooring, node| mooring.speaker(node)?.kill_9())?;
    bounded("speaker killed, ARP", &arps)?;
    mooring.speaker(&after)?.wait_for(&json!({"event": "serviceAnnounced", "ip": "172.17.200.100", "service": "default/nginx-lb", "pool": "default", "protocol": "layer2"}))?;
    Ok(())
}

fn a_node_without_its_cable_is_followed_by_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let Loss { pings, arps, .. } = lose(&lab, &mut mooring, |_, node| lab.host(node).port_down())?;
    bounded("node without its cable, ping", &pings)?;
    bounded("node without its cable, ARP", &arps)
}

fn a_speaker_told_to_end_loses_no_ping() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let Loss { pings, arps, .. } = lose(&lab, &mut mooring, |mooring, node| {
        let status = mooring.speaker(node)?.terminate()?;
        ensure!(status.code() == Some(0), "ended with {status}");
        Ok(())
    })?;
    // Two nodes may answer one question while the address is handed over, so the answers say more by their times than by their number.
    ensure!(pings.lost == 0 && arps.gap < millis(200), "{pings:?} {arps:?}");
    Ok(())
}

fn a_speaker_told_to_end_while_the_allocator_is_away_loses_no_ping() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let Loss { pings, .. } = lose(&lab, &mut mooring, |mooring, node| {
        mooring.allocator.kill_9()?;
        mooring.speaker(node)?.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
        mooring.speaker(node)?.ask_to_end()?;
        mooring.speaker(node)?.wait_for(&json!({"event": "drainStarted", "announced": 1}))?;
        mooring.allocator.restart()?;
        let status = mooring.speaker(node)?.wait_end()?;
        ensure!(status.code() == Some(0), "ended with {status}");
        mooring.speaker(node)?.wait_for(&json!({"event": "drained", "left": 0}))?;
        Ok(())
    })?;
    ensure!(pings.lost == 0, "{pings:?}");
    Ok(())
}

fn a_second_speaker_of_the_node_answers_with_the_same_mac() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let host = lab.host(&node);
    let twin = speaker(&node)?.args(["--instance", "b", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut twin = twin.start(host)?;
    until(secs(5), "the node has two speakers", || {
        let nodes = mooring.nodes()?;
        let found = nodes.iter().find(|found| found.name == node).context("no such node")?;
        ensure!(found.speakers.len() == 2, "{found:?}");
        Ok(())
    })?;
    only(lab.host("client"), host)?;
    mooring.speaker(&node)?.kill_9()?;
    twin.wait_for(&json!({"event": "serviceAnnounced", "ip": "172.17.200.100"}))?;
    only(lab.host("client"), host)?;
    ensure!(announcer(&mooring)? == node, "the VIP has left the node");
    // The first one comes back: nobody moves.
    mooring.speaker(&node)?.restart()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "sessionChanged", "state": "live"}))?;
    only(lab.host("client"), host)?;
    ensure!(twin.events("serviceWithdrawn").is_empty(), "the VIP has left the second speaker");
    Ok(())
}

fn a_speaker_started_twice_takes_turns_and_no_ping_is_lost() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let (client, host) = (lab.host("client"), lab.host(&node));
    let pings = client.ping_every(millis(5), VIP)?;
    let mut second = speaker(&node)?.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).start(host)?;
    let first = mooring.speaker(&node)?;
    first.wait_for(&json!({"event": "sessionReplaced", "level": "warn"}))?;
    first.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    second.wait_for(&json!({"event": "serviceAnnounced", "ip": "172.17.200.100"}))?;
    // The first one takes its turn after its rest, and not before.
    second.wait_for_within(secs(15), &json!({"event": "sessionReplaced", "level": "warn"}))?;
    let joined = mooring.allocator.events("speakerJoined").into_iter().filter(|line| line["node"] == node.as_str()).count();
    ensure!(joined == 3, "{joined} times a speaker said hello");
    ensure!(client.arp_all(VIP, millis(200))?.iter().all(|mac| *mac == host.mac()), "another node answers");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    for process in [mooring.speaker(&node)?, &mut second] {
        ensure!(process.events("serviceWithdrawn").is_empty() && process.events("addressConflict").is_empty());
    }
    Ok(())
}

fn a_node_that_returns_takes_nothing_back() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let mut lost = String::new();
    let Loss { after, .. } = lose(&lab, &mut mooring, |mooring, node| {
        node.clone_into(&mut lost);
        mooring.speaker(node)?.kill_9()
    })?;
    let mut capture = Capture::begin(lab.host("client"))?;
    mooring.speaker(&lost)?.restart()?;
    until(secs(5), "the speaker is back", || {
        let nodes = mooring.nodes()?;
        let found = nodes.iter().find(|found| found.name == lost).context("no such node")?;
        ensure!(found.speakers.iter().any(|speaker| speaker.liveness() == mooring_proto::pb::SpeakerLiveness::Live), "{found:?}");
        Ok(())
    })?;
    only(lab.host("client"), lab.host(&after))?;
    let mac = lab.host(&lost).mac();
    ensure!(!capture.arps().iter().any(|arp| arp.spa == VIP && arp.sha == mac), "the node that returned announces");
    Ok(())
}
