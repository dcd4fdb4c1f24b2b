use mooring_proto::types::assignment::{Assignment, Role};

use super::super::pace::{BATCH, PACE};
use super::super::tests::{PEER, STRANGER, answering, assignment, delta, eth, live, own_mac, snapshot, trace, vip};
use super::super::{Command, audit, next_deadline, step as step_all};
use super::*;

fn fresh(last: u8) -> Assignment {
    Assignment { probe_first: true, ..assignment(vip(last), Role::Active) }
}

fn at(millis: u64) -> Mono {
    Mono::ZERO + Duration::from_millis(millis)
}

fn claim(mac: MacAddress) -> Command {
    Command::NoteClaim { vip: vip(1), mac, link: LinkIndex(1) }
}

/// All that happens until then, with its time in milliseconds, but for the words about Services.
fn run(state: &mut State, until: u64) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(now) = next_deadline(state).filter(|deadline| *deadline <= at(until)) {
        let events = trace(state, Command::Tick, now);
        let time = now.saturating_since(Mono::ZERO).as_millis();
        seen.extend(events.into_iter().filter(|event| !event.starts_with("default/")).map(|event| format!("{time}: {event}")));
    }
    seen
}

#[test]
fn a_vip_is_asked_for_three_times_and_announced_20_ms_later() {
    let mut state = live(vec![fresh(1)]);
    assert_eq!((answering(&state), state.hello().held.len()), (vec![], 0));
    assert_eq!(
        run(&mut state, 100),
        [
            "0: probe 172.17.200.1",
            "20: probe 172.17.200.1",
            "40: probe 172.17.200.1",
            "60: 172.17.200.1 Announced",
            "60: proven 172.17.200.1",
            "60: announce 172.17.200.1 on 1 First",
            "60: announce 172.17.200.1 on 2 First",
        ]
    );
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn what_is_announced_already_or_proven_meanwhile_is_not_asked_for() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let told = trace(&mut state, snapshot(2, vec![fresh(1)]), at(0));
    assert_eq!(told, ["stored 172.17.200.1 active", "revision 1.2", "applied"]);
    assert_eq!(answering(&state), [vip(1)]);
    let mut state = live(vec![fresh(1)]);
    let _events = run(&mut state, 20);
    let _events = trace(&mut state, delta(2, vec![assignment(vip(1), Role::Active)], vec![]), at(30));
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn a_stranger_that_answers_has_it_and_a_node_of_ours_or_ourselves_do_not() {
    for (mac, found) in [(STRANGER, true), (PEER, false), (own_mac(2), false)] {
        let mut state = live(vec![fresh(1)]);
        let _events = run(&mut state, 20);
        let events = trace(&mut state, claim(mac), at(21));
        if found {
            assert_eq!(events, ["172.17.200.1 Silent(InUse)", "found 172.17.200.1 at 02:00:00:00:ee:00 on eth1"]);
            assert_eq!(trace(&mut state, claim(mac), at(22)), [""; 0], "once");
            assert_eq!(run(&mut state, 60_000), [""; 0]);
        } else {
            assert_eq!(events, [""; 0]);
            assert!(run(&mut state, 60).contains(&"60: proven 172.17.200.1".to_owned()));
        }
        assert_eq!(answering(&state).is_empty(), found);
    }
}

#[test]
fn what_was_found_in_use_is_asked_for_again_when_it_is_given_again() {
    let mut state = live(vec![fresh(1)]);
    let _events = run(&mut state, 20);
    let _events = trace(&mut state, claim(STRANGER), at(21));
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), eth(3)]), at(30));
    assert_eq!(answering(&state), []);
    let _events = trace(&mut state, snapshot(2, vec![fresh(1)]), at(1_000));
    assert!(run(&mut state, 1_060).contains(&"1060: proven 172.17.200.1".to_owned()));
}

#[test]
fn a_withdrawal_ends_the_questions_and_without_an_interface_none_is_counted() {
    let mut state = live(vec![fresh(1)]);
    let _events = run(&mut state, 20);
    let _events = trace(&mut state, delta(2, vec![], vec![vip(1)]), at(21));
    assert_eq!(run(&mut state, 1_000), [""; 0]);

    let mut state = live(vec![]);
    let _events = step_all(&mut state, Command::ReplaceLinks(vec![super::super::interfaces::Link { running: false, ..eth(1) }]), at(0));
    let _events = trace(&mut state, delta(2, vec![fresh(1)], vec![]), at(0));
    assert_eq!(run(&mut state, 1_000), ["0: no probe of 172.17.200.1", "1000: no probe of 172.17.200.1"]);
}

#[test]
fn two_thousand_vips_are_asked_for_without_a_burst_and_announced_within_two_seconds() {
    let many: Vec<Assignment> = (0..2_000u32)
        .map(|number| Assignment {
            probe_first: true,
            ..assignment(Vip::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number)), Role::Active)
        })
        .collect();
    let mut state = live(many);
    let mut probes = Vec::new();
    while let Some(now) = next_deadline(&state).filter(|deadline| *deadline <= at(2_000)) {
        let events = step_all(&mut state, Command::Tick, now);
        probes.extend(events.iter().filter(|event| matches!(event, Event::ProbeDue(_))).map(|_| now));
    }
    audit(&state).unwrap();
    assert_eq!((answering(&state).len(), probes.len()), (2_000, 6_000));
    assert!(probes.windows(BATCH + 1).all(|window| window[BATCH].saturating_since(window[0]) >= PACE));
}
