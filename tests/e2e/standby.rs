//! The allocator is away, and the node that announces is lost too: its standby notices and takes over by itself, and nobody does while it answers.

use anyhow::{Result, ensure};
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::Lab;
use mooring_tests::lab::capture::{Capture, Operation};
use mooring_tests::lab::host::PingReport;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use serde_json::json;

use crate::Scenario;
use crate::failover::{VIP, announcer, one_service, only};
use crate::ipv6::{VIP6, one_dual_service};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("standby::allocator_and_node_lost_at_once_are_followed_by_the_standby", allocator_and_node_lost_at_once_are_followed_by_the_standby),
    (
        "standby::the_machine_of_the_allocator_and_a_node_lost_at_once_are_followed_by_the_standby",
        the_machine_of_the_allocator_and_a_node_lost_at_once_are_followed_by_the_standby,
    ),
    ("standby::an_ipv6_address_is_taken_over_by_itself_too", an_ipv6_address_is_taken_over_by_itself_too),
    ("standby::whoever_had_the_vip_and_was_cut_off_yields_to_the_standby", whoever_had_the_vip_and_was_cut_off_yields_to_the_standby),
    ("standby::without_the_allocator_nobody_takes_over_what_is_answered_for", without_the_allocator_nobody_takes_over_what_is_answered_for),
    ("standby::a_node_that_its_standby_suspects_is_lost_sooner", a_node_that_its_standby_suspects_is_lost_sooner),
];

/// The node that stands by for the VIP.
fn standby(mooring: &Mooring) -> Result<String> {
    standby_of(mooring, &VIP.to_string())
}

fn standby_of(mooring: &Mooring, vip: &str) -> Result<String> {
    until(secs(5), "the VIP has a standby", || {
        let found = mooring.assignments()?.into_iter().find(|assignment| assignment.vip == vip);
        let standby = found.map(|assignment| assignment.standby_node).unwrap_or_default();
        ensure!(!standby.is_empty(), "nobody stands by");
        Ok(standby)
    })
}

/// Tells a gap and bounds it: without the standby it would have no end.
#[expect(clippy::print_stdout, reason = "what was measured is part of the result")]
fn bounded(what: &str, report: &PingReport) -> Result<()> {
    println!("{what}: {} of {} not answered, a gap of {} ms", report.lost, report.sent, report.gap.as_millis());
    ensure!(report.lost > 0 && report.gap < millis(1_500), "{what}: {report:?}");
    Ok(())
}

/// Waits until a node answers first.
fn answers(lab: &Lab, node: &str) -> Result<()> {
    until(secs(5), &format!("{node} answers"), || {
        let mac = lab.host("client").arp(VIP)?;
        ensure!(mac == lab.host(node).mac(), "{mac} answers");
        Ok(())
    })
}

/// Does something to the allocator and the announcing node, and watches until the standby has the VIP; returns both nodes.
fn lose(lab: &Lab, mooring: &mut Mooring, act: impl FnOnce(&mut Mooring, &str) -> Result<()>) -> Result<(String, String)> {
    let client = lab.host("client");
    let (before, after) = (one_service(lab, mooring)?, standby(mooring)?);
    // The standby has been asking for a while.
    let mut asked = Capture::begin(lab.host(&before))?;
    let (asks, holds) = (lab.host(&after).mac(), lab.host(&before).mac());
    until(secs(5), "the standby asks the announcing node", || {
        let asked = asked.arps();
        let question = asked.iter().any(|arp| arp.sha == asks && arp.spa.is_unspecified() && arp.tpa == VIP);
        let answer = asked.iter().any(|arp| arp.operation == Operation::Reply && arp.sha == holds && arp.tha == asks && arp.spa == VIP);
        ensure!(question && answer, "{asked:?}");
        Ok(())
    })?;
    let (pings, arps) = (client.ping_every(millis(5), VIP)?, client.arp_every(millis(5), VIP)?);
    until(secs(5), "answers come", || client.arp(VIP))?;
    act(mooring, &before)?;
    mooring.speaker(&after)?.wait_for(&json!({"event": "tookOver", "ip": VIP.to_string(), "peer": before, "level": "warn"}))?;
    mooring.speaker(&after)?.wait_for(&json!({"event": "serviceAnnounced", "ip": VIP.to_string(), "service": "default/nginx-lb"}))?;
    answers(lab, &after)?;
    // Other answers than those to its own questions would be counted below.
    let (arps, pings) = (arps.finish()?, pings.finish()?);
    bounded("allocator and node lost, ARP", &arps)?;
    bounded("allocator and node lost, ping", &pings)?;
    only(client, lab.host(&after))?;
    Ok((before, after))
}

/// The allocator comes back and leaves the VIP with the taker; nobody was taken for a stranger.
fn settled(lab: &Lab, mooring: &mut Mooring, taker: &str) -> Result<()> {
    let pings = lab.host("client").ping_every(millis(5), VIP)?;
    mooring.allocator.restart()?;
    mooring.wait_all_live()?;
    mooring.allocator.wait_for(&json!({"event": "recoveryEnded"}))?;
    ensure!(announcer(mooring)? == taker, "the VIP has moved");
    only(lab.host("client"), lab.host(taker))?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    for speaker in mooring.speakers.values_mut() {
        let seen = speaker.events("addressConflict");
        ensure!(seen.is_empty(), "{seen:?}");
    }
    ensure!(mooring.speaker(taker)?.events("serviceWithdrawn").is_empty());
    Ok(())
}

fn allocator_and_node_lost_at_once_are_followed_by_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (before, after) = lose(&lab, &mut mooring, |mooring, node| {
        mooring.allocator.kill_9()?;
        lab.host(node).port_down()
    })?;
    // The old holder is back, and still no allocator is.
    lab.host(&before).port_up()?;
    mooring.speaker(&before)?.wait_for(&json!({"event": "yielded", "ip": VIP.to_string()}))?;
    only(lab.host("client"), lab.host(&after))?;
    settled(&lab, &mut mooring, &after)
}

fn the_machine_of_the_allocator_and_a_node_lost_at_once_are_followed_by_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (before, after) = lose(&lab, &mut mooring, |_, node| {
        lab.host("control").cut_off()?;
        lab.host(node).port_down()
    })?;
    mooring.allocator.kill_9()?;
    mooring.speaker(&before)?.kill_9()?;
    lab.host("control").let_through()?;
    lab.host(&before).port_up()?;
    mooring.speaker(&before)?.restart()?;
    settled(&lab, &mut mooring, &after)
}

fn an_ipv6_address_is_taken_over_by_itself_too() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (before, after) = (one_dual_service(&lab, &mooring)?, standby_of(&mooring, &VIP6.to_string())?);
    let client = lab.host("client");
    mooring.allocator.kill_9()?;
    lab.host(&before).cut_off()?;
    mooring.speaker(&after)?.wait_for(&json!({"event": "tookOver", "ip": VIP6.to_string(), "peer": before, "level": "warn"}))?;
    let answers = |node: &str| {
        until(secs(5), &format!("{node} answers"), || {
            let mac = client.ndisc6(VIP6)?;
            ensure!(mac == lab.host(node).mac(), "{mac} answers");
            Ok(())
        })
    };
    answers(&after)?;
    lab.host(&before).let_through()?;
    mooring.speaker(&before)?.wait_for(&json!({"event": "yielded", "ip": VIP6.to_string()}))?;
    answers(&after)?;
    // The IPv4 address may have been on this node, and the one that was cut off have taken that over.
    let yielded = mooring.speaker(&after)?.events("yielded");
    ensure!(yielded.iter().all(|line| line["ip"] != VIP6.to_string()), "{yielded:?}");
    Ok(())
}

fn whoever_had_the_vip_and_was_cut_off_yields_to_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (before, after) = lose(&lab, &mut mooring, |mooring, node| {
        mooring.allocator.kill_9()?;
        lab.host(node).cut_off()
    })?;
    ensure!(mooring.speaker(&before)?.events("yielded").is_empty(), "it has noticed nothing");
    let mut capture = Capture::begin(lab.host("client"))?;
    lab.host(&before).let_through()?;
    mooring.speaker(&before)?.wait_for(&json!({"event": "yielded", "ip": VIP.to_string()}))?;
    only(lab.host("client"), lab.host(&after))?;
    let mac: MacAddress = lab.host(&before).mac();
    ensure!(!capture.arps().iter().any(|arp| arp.is_gratuitous() && arp.sha == mac), "the old holder has announced");
    settled(&lab, &mut mooring, &after)
}

fn without_the_allocator_nobody_takes_over_what_is_answered_for() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (holder, _) = (one_service(&lab, &mooring)?, standby(&mooring)?);
    let client = lab.host("client");
    let pings = client.ping_every(millis(5), VIP)?;
    let mut capture = Capture::begin(lab.host(&holder))?;
    lab.host("control").cut_off()?;
    for speaker in mooring.speakers.values_mut() {
        speaker.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    }
    // Twenty questions more are answered.
    let answers = |capture: &mut Capture| {
        capture.arps().iter().filter(|arp| arp.operation == Operation::Reply && arp.spa == VIP && arp.tpa.is_unspecified()).count()
    };
    let before = answers(&mut capture);
    until(secs(10), "the standby goes on asking", || {
        let now = answers(&mut capture);
        ensure!(now >= before + 20, "{now} after {before}");
        Ok(())
    })?;
    only(client, lab.host(&holder))?;
    lab.host("control").let_through()?;
    for speaker in mooring.speakers.values_mut() {
        speaker.wait_for(&json!({"event": "sessionChanged", "state": "live"}))?;
        ensure!(speaker.events("tookOver").is_empty());
    }
    // The allocator has given all of them up meanwhile, and may let whoever comes first have the VIP: one of them answers.
    let after = announcer(&mooring)?;
    only(client, lab.host(&after))?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

fn a_node_that_its_standby_suspects_is_lost_sooner() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let (before, after) = (one_service(&lab, &mooring)?, standby(&mooring)?);
    let client = lab.host("client");
    let arps = client.arp_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    lab.host(&before).cut_off()?;
    answers(&lab, &after)?;
    let report = arps.finish()?;
    only(client, lab.host(&after))?;
    mooring.allocator.wait_for(&json!({"event": "speakerSuspected", "node": before}))?;
    mooring.allocator.wait_for(&json!({"event": "speakerLost", "node": before}))?;
    bounded("node cut off, ARP", &report)?;
    ensure!(mooring.speaker(&after)?.events("tookOver").is_empty(), "it was the allocator's to decide");
    Ok(())
}
