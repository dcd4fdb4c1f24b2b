use mooring_proto::types::assignment::Role;
use mooring_proto::types::time::Mono;

use super::super::tests::{STRANGER, assignment, live, vip};
use super::super::{Command, step};
use super::*;
use crate::core::interfaces::LinkIndex;

/// A speaker of which a stranger has claimed all twenty VIPs, and what it is to tell.
fn beset() -> (State, Due) {
    let mut state = live((1..=20).map(|last| assignment(vip(last), Role::Active)).collect());
    let mut due = Due::default();
    for last in 1..=20 {
        let claim = Command::NoteClaim { vip: vip(last), mac: STRANGER, link: LinkIndex(1) };
        step(&mut state, claim, Mono::ZERO).iter().for_each(|event| due.note(event));
    }
    (state, due)
}

fn conflicts(messages: &[SpeakerMessage]) -> Vec<Vip> {
    messages.iter().filter_map(|message| if let SpeakerMessage::Conflict { vip, .. } = message { Some(*vip) } else { None }).collect()
}

#[test]
fn reports_wait_until_there_is_room_and_none_is_lost() {
    let (state, mut due) = beset();
    due.note(&Event::AppliedDue);
    let first = due.take(&state, Due::LEAST_ROOM + 6, true);
    assert_eq!(conflicts(&first), (1..=7).map(vip).collect::<Vec<_>>());
    assert!(matches!(first.last(), Some(SpeakerMessage::Applied { .. })), "what waits for room holds up nothing else: {first:?}");
    assert_eq!(due.take(&state, Due::LEAST_ROOM - 1, true), []);
    assert!(due.has_reports());
    assert_eq!(conflicts(&due.take(&state, usize::MAX, true)), (8..=20).map(vip).collect::<Vec<_>>());
    assert!(!due.has_reports());
}

#[test]
fn a_conflict_is_told_once_somebody_is_there_to_be_told() {
    let (state, mut due) = beset();
    for event in [Event::HelloDue, Event::AppliedDue, Event::AddressProven(vip(1)), Event::InterfacesDue] {
        due.note(&event);
    }
    due.keep_conflicts();
    let told = due.take(&state, usize::MAX, true);
    assert_eq!((conflicts(&told).len(), told.len()), (20, 20), "the rest is the next Hello's to say");
}

#[test]
fn that_assignments_are_in_force_waits_until_they_are() {
    let (state, mut due) = beset();
    due.note(&Event::AppliedDue);
    let applied = |told: Vec<SpeakerMessage>| told.iter().any(|message| matches!(message, SpeakerMessage::Applied { .. }));
    assert!(!applied(due.take(&state, usize::MAX, false)));
    assert!(applied(due.take(&state, usize::MAX, true)));
}
