use mooring_proto::types::assignment::{Role, SpeakerMessage};

use super::super::tests::{answering, assignment, delta, live, snapshot, trace, vip};
use super::super::{Command, step};
use super::*;

const NOW: Mono = Mono::ZERO;

#[test]
fn a_drain_ends_when_the_last_vip_was_taken_over() {
    let mut state = live(vec![assignment(vip(1), Role::Active), assignment(vip(2), Role::Active)]);
    while super::super::announce::next_deadline(&state).is_some_and(|deadline| deadline == NOW) {
        let _rounds = step(&mut state, Command::Tick, NOW);
    }
    assert_eq!(trace(&mut state, Command::Drain, NOW), ["drain started"]);
    assert_eq!(trace(&mut state, Command::Drain, NOW), [""; 0]);
    let _events = step(&mut state, delta(2, vec![], vec![vip(1)]), NOW);
    assert_eq!(trace(&mut state, Command::Tick, NOW), [""; 0]);
    let events = trace(&mut state, delta(3, vec![assignment(vip(2), Role::Standby)], vec![]), NOW);
    assert!(events.contains(&"default/web 172.17.200.2 Withdrawn(Draining)".to_owned()), "{events:?}");
    assert_eq!(super::super::next_deadline(&state), Some(Mono::ZERO));
    assert_eq!(trace(&mut state, Command::Tick, NOW), ["drained 0"]);
}

#[test]
fn a_drain_ends_after_its_time_with_what_nobody_took() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::Drain, NOW);
    let just_before = trace(&mut state, Command::Tick, NOW + std::time::Duration::from_millis(4_999));
    assert!(just_before.iter().all(|event| event.starts_with("announce")), "{just_before:?}");
    let events = trace(&mut state, Command::Tick, NOW + DRAIN_PATIENCE);
    assert!(events.ends_with(&["default/web 172.17.200.1 Withdrawn(Draining)".into(), "drained 1".into()]), "{events:?}");
    assert_eq!(drain_deadline(&state), None);
}

fn drain_deadline(state: &State) -> Option<Mono> {
    next_deadline(state)
}

#[test]
fn without_a_session_it_goes_on_answering_for_as_long_as_with_one() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(trace(&mut state, Command::Drain, NOW), ["drain started"]);
    let just_before = trace(&mut state, Command::Tick, NOW + std::time::Duration::from_millis(4_999));
    assert!(just_before.iter().all(|event| event.starts_with("announce")), "{just_before:?}");
    assert_eq!(answering(&state), [vip(1)]);
    let events = trace(&mut state, Command::Tick, NOW + DRAIN_PATIENCE);
    assert!(events.ends_with(&["default/web 172.17.200.1 Withdrawn(Draining)".into(), "drained 1".into()]), "{events:?}");
}

#[test]
fn a_session_that_opens_while_draining_hands_over_and_the_drain_ends_early() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    let _events = step(&mut state, Command::Drain, NOW);
    let _events = step(&mut state, Command::OpenSession, NOW);
    assert_eq!(state.greeting().last(), Some(&SpeakerMessage::Draining));
    let _events = step(&mut state, snapshot(1, vec![assignment(vip(1), Role::Active)]), NOW);
    let _events = step(&mut state, delta(2, vec![], vec![vip(1)]), NOW);
    assert_eq!(trace(&mut state, Command::Tick, NOW), ["drained 0"]);
}

#[test]
fn who_announces_nothing_ends_at_once_with_or_without_a_session() {
    for close in [false, true] {
        let mut state = live(vec![assignment(vip(1), Role::Standby)]);
        if close {
            let _events = step(&mut state, Command::CloseSession, NOW);
        }
        let _events = step(&mut state, Command::Drain, NOW);
        assert_eq!(trace(&mut state, Command::Tick, NOW), ["drained 0"]);
    }
}

#[test]
fn a_session_lost_while_draining_may_come_back_and_is_told_again() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::Drain, NOW);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(drain_deadline(&state), Some(NOW + DRAIN_PATIENCE));
    let _events = step(&mut state, Command::OpenSession, NOW);
    assert_eq!(state.greeting().last(), Some(&SpeakerMessage::Draining));
}
