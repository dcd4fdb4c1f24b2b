use mooring_proto::types::assignment::{Assignment, Role};

use super::super::tests::{PEER, STRANGER, assignment, delta, live, name, trace, vip};
use super::super::{Command, audit, next_deadline, step as step_all};
use super::*;

fn stands_by(last: u8, node: &str) -> Assignment {
    let peers = [("node-b", PEER), ("node-c", MacAddress([2, 0, 0, 0, 0xcc, 0]))];
    let peers = peers.map(|(name, mac)| (mooring_proto::types::node::NodeName::new(name).unwrap(), BTreeSet::from([mac])));
    let peers = std::sync::Arc::new(peers.into());
    Assignment { active: mooring_proto::types::node::NodeName::new(node), peers, ..assignment(vip(last), Role::Standby) }
}

fn at(millis: u64) -> Mono {
    Mono::ZERO + Duration::from_millis(millis)
}

/// What is seen until then, with its time in milliseconds, if these answer each question to all.
fn run(state: &mut State, until: u64, answering: &[MacAddress]) -> Vec<(u128, Vip, Vec<MacAddress>)> {
    let mut seen = Vec::new();
    while let Some(now) = next_deadline(state).filter(|deadline| *deadline <= at(until)) {
        for event in step_all(state, Command::Tick, now) {
            if let Event::LookDue(vip) = event {
                for mac in answering {
                    let _events = step_all(state, Command::NoteClaim { vip, mac: *mac, link: LinkIndex(1) }, now);
                }
            }
            if let Event::LookOver { vip, answers } = event {
                assert!(answers.values().all(|interface| *interface == name("eth1")));
                seen.push((now.saturating_since(Mono::ZERO).as_millis(), vip, answers.into_keys().collect()));
            }
        }
        audit(state).unwrap();
    }
    seen
}

#[test]
fn a_vip_is_looked_at_soon_and_then_about_once_a_minute() {
    let mut state = live(vec![stands_by(1, "node-b"), assignment(vip(2), Role::Active)]);
    let seen = run(&mut state, 600_000, &[PEER]);
    assert_eq!(seen[0], (1_300, vip(1), vec![PEER]));
    assert!((9..=14).contains(&seen.len()), "{}", seen.len());
    let pauses: Vec<u128> = seen.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(pauses.iter().all(|pause| (45_000..76_000).contains(pause)) && pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
}

#[test]
fn everybody_who_answers_is_seen_and_nobody_only_after_three_questions() {
    let mut state = live(vec![stands_by(1, "node-b")]);
    assert_eq!(run(&mut state, 1_300, &[PEER, STRANGER]), [(1_300, vip(1), vec![PEER, STRANGER])]);
    let mut state = live(vec![stands_by(1, "node-b")]);
    assert_eq!(run(&mut state, 5_000, &[]), [(1_900, vip(1), vec![])]);
}

#[test]
fn another_active_node_is_looked_at_soon_and_so_is_everything_when_the_allocator_is_back() {
    let mut state = live(vec![stands_by(1, "node-b")]);
    let _seen = run(&mut state, 5_000, &[PEER]);
    let _events = trace(&mut state, delta(2, vec![stands_by(1, "node-c")], vec![]), at(5_000));
    assert_eq!(run(&mut state, 6_300, &[PEER]), [(6_300, vip(1), vec![PEER])]);
    let _events = trace(&mut state, Command::CloseSession, at(7_000));
    assert_eq!(run(&mut state, 70_000, &[PEER]), [], "nobody is there who could be told");
    let _events = trace(&mut state, Command::OpenSession, at(70_000));
    let _events = trace(&mut state, super::super::tests::snapshot(1, vec![stands_by(1, "node-c")]), at(70_000));
    let seen = run(&mut state, 81_000, &[PEER]);
    assert_eq!(seen.len(), 1, "{seen:?}");
}

#[test]
fn many_vips_that_come_together_are_looked_at_one_after_the_other() {
    let mut state = live((1..=200).map(|last| stands_by(last, "node-b")).collect());
    let mut begun = Vec::new();
    while let Some(now) = next_deadline(&state).filter(|deadline| *deadline <= at(10_000)) {
        let events = step_all(&mut state, Command::Tick, now);
        let count = events.iter().filter(|event| matches!(event, Event::LookDue(_) | Event::LookOver { .. })).count();
        begun.extend(std::iter::repeat_n(now, count));
    }
    assert!(begun.len() >= 400, "{}", begun.len());
    for window in begun.windows(AT_ONCE + 1) {
        assert!(window[AT_ONCE].saturating_since(window[0]) >= PACE);
    }
}
