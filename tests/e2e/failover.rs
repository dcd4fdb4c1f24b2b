//! A speaker or its node is lost, or told to end: the VIP moves, and the gap is what questions each 5 ms miss, by ping and by ARP.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
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
    ("failover::a_cable_that_comes_back_announces_nothing_that_has_moved", a_cable_that_comes_back_announces_nothing_that_has_moved),
    (
        "failover::a_cable_that_comes_back_without_an_allocator_announces_what_nobody_answers_for",
        a_cable_that_comes_back_without_an_allocator_announces_what_nobody_answers_for,
    ),
    ("failover::a_node_that_announces_what_it_lost_is_contradicted_at_once", a_node_that_announces_what_it_lost_is_contradicted_at_once),
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
        ensure!(
            status.code() == Some(0),
            "ended with {status}: {:?}",
            mooring.speaker(node)?.log().iter().rev().take(5).collect::<Vec<_>>()
        );
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

fn a_cable_that_comes_back_announces_nothing_that_has_moved() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let mut lost = String::new();
    let Loss { after, .. } = lose(&lab, &mut mooring, |_, node| {
        node.clone_into(&mut lost);
        lab.host(node).port_down()
    })?;
    let (client, host, holder) = (lab.host("client"), lab.host(&lost), lab.host(&after));
    let mut capture = Capture::begin(client)?;
    let pings = client.ping_every(millis(5), VIP)?;
    let is_back = |mooring: &mut Mooring, state: &str| {
        mooring.speaker(&lost)?.wait_for(&json!({"event": "serviceWithdrawn", "ip": "172.17.200.100"}))?;
        until(secs(10), &format!("{lost} is back {state}"), || {
            let nodes = mooring.nodes()?;
            let found = nodes.iter().find(|found| found.name == lost).context("no such node")?;
            let live = |speaker: &mooring_proto::pb::SpeakerState| speaker.liveness() == mooring_proto::pb::SpeakerLiveness::Live;
            ensure!(found.speakers.iter().any(|speaker| live(speaker) && speaker.interfaces.len() == 1), "{found:?}");
            Ok(())
        })
    };
    host.port_up()?;
    is_back(&mut mooring, "once")?;
    only(client, holder)?;
    for _ in 0..2 {
        host.port_down()?;
        host.port_up()?;
    }
    is_back(&mut mooring, "after two quick flaps")?;
    only(client, holder)?;
    ensure!(client.neighbor(VIP)? == holder.mac(), "the client sends to {}", client.neighbor(VIP)?);
    let frames = capture.arps();
    let announced = frames.iter().filter(|arp| arp.sha == host.mac() && arp.spa == VIP && arp.is_gratuitous()).count();
    ensure!(announced == 0, "{lost} has announced what it had lost: {announced} frames");
    ensure!(frames.iter().any(|arp| arp.sha == host.mac() && arp.spa.is_unspecified() && arp.tpa == VIP), "{lost} has asked nobody");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    no_conflict(&mut mooring)
}

/// Nobody takes another node of the cluster for a stranger.
fn no_conflict(mooring: &mut Mooring) -> Result<()> {
    let told = mooring.allocator.events("addressConflict");
    ensure!(told.is_empty(), "{told:?}");
    for speaker in mooring.speakers.values_mut() {
        let seen = speaker.events("addressConflict");
        ensure!(seen.is_empty(), "{seen:?}");
    }
    Ok(())
}

fn a_cable_that_comes_back_without_an_allocator_announces_what_nobody_answers_for() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let (client, host) = (lab.host("client"), lab.host(&node));
    mooring.allocator.kill_9()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    host.port_down()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "deleteARPResponder", "interface": "eth0"}))?;
    let mut capture = Capture::begin(client)?;
    host.port_up()?;
    let own = |arp: &Arp| arp.sha == host.mac() && arp.tpa == VIP;
    let (asked, announced) = until(secs(5), "the node announces again", || {
        let frames = capture.timed_arps();
        let first = |gratuitous: bool| frames.iter().find(|(_, arp)| own(arp) && arp.is_gratuitous() == gratuitous).map(|(at, _)| *at);
        first(false).zip(first(true)).with_context(|| format!("{frames:?}"))
    })?;
    ensure!(announced.duration_since(asked) > millis(900), "announced {:?} after its first question", announced.duration_since(asked));
    only(client, host)?;
    ensure!(mooring.speaker(&node)?.events("serviceWithdrawn").is_empty());
    no_conflict(&mut mooring)
}

fn a_node_that_announces_what_it_lost_is_contradicted_at_once() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let mut lost = String::new();
    let Loss { after, .. } = lose(&lab, &mut mooring, |mooring, node| {
        node.clone_into(&mut lost);
        mooring.speaker(node)?.kill_9()
    })?;
    let (client, host, holder) = (lab.host("client"), lab.host(&lost), lab.host(&after));
    let mut capture = Capture::begin(client)?;
    let claim = Arp { operation: Operation::Request, sha: host.mac(), spa: VIP, tha: MacAddress([0; 6]), tpa: VIP };
    // More than once, as the holder's ordinary rounds may happen to follow one.
    for round in 0..5 {
        host.send_frames(vec![build_arp(MacAddress::BROADCAST, &claim)])?;
        let answer = until(secs(5), "the holder announces again", || {
            let frames = capture.timed_arps();
            let mut claims = frames.iter().enumerate().filter(|(_, (_, arp))| arp.sha == host.mac() && arp.spa == VIP);
            let (index, (at, _)) = claims.nth(round).context("no claim was seen")?;
            let answer = frames.iter().skip(index).find(|(_, arp)| arp.sha == holder.mac() && arp.spa == VIP && arp.is_gratuitous());
            answer.map(|(answered, _)| answered.duration_since(*at)).context("not yet")
        })?;
        ensure!(answer < millis(500), "answered after {answer:?}");
        ensure!(client.neighbor(VIP)? == holder.mac(), "the client sends to {}", client.neighbor(VIP)?);
    }
    no_conflict(&mut mooring)
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
