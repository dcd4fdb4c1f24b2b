use mooring_proto::types::assignment::Role;

use super::super::tests::{assignment, eth, live, settings, snapshot, trace, vip};
use super::super::{Command, apply, next_deadline, step};
use super::*;

/// Runs the engine's clock until `end` and notes each round: when, which VIP, on which interface, why.
fn run(state: &mut State, end: Mono) -> Vec<(Duration, Vip, u32, Phase)> {
    let mut rounds = Vec::new();
    while let Some(deadline) = next_deadline(state).filter(|deadline| *deadline <= end) {
        for event in step(state, Command::Tick, deadline) {
            if let Event::AnnouncementDue { vip, link, phase } = event {
                rounds.push((deadline.saturating_since(Mono::ZERO), vip, link.0, phase));
            }
        }
    }
    rounds
}

const fn secs(seconds: u64) -> Mono {
    Mono::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn a_takeover_sends_five_rounds_on_each_interface_and_then_refreshes() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let rounds = run(&mut state, secs(20));
    let wanted: Vec<_> = (0..5u32)
        .flat_map(|round| {
            let phase = if round == 0 { Phase::First } else { Phase::Repeat };
            [1, 2].map(|link| (Duration::from_millis(1_100) * round, vip(1), link, phase))
        })
        .collect();
    assert_eq!(rounds, wanted);
    let refreshes = run(&mut state, secs(400));
    assert!(refreshes.iter().all(|(.., phase)| *phase == Phase::Refresh));
    let on_one: Vec<_> = refreshes.iter().filter(|(_, _, link, _)| *link == 1).map(|(at, ..)| *at).collect();
    let pauses: Vec<_> = on_one.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (45..=75).contains(&pause.as_secs())), "{pauses:?}");
    assert!(pauses.iter().any(|pause| pause != &pauses[0]), "jittered: {pauses:?}");
}

#[test]
fn without_refresh_nothing_follows_the_five_rounds() {
    let mut state = State::new(super::super::Settings { refresh: None, ..settings() });
    for command in [Command::ReplaceLinks(vec![eth(1)]), Command::OpenSession, snapshot(1, vec![assignment(vip(1), Role::Active)])] {
        let _events = step(&mut state, command, Mono::ZERO);
    }
    assert_eq!(run(&mut state, secs(3_600)).len(), 5);
}

#[test]
fn an_unchanged_assignment_triggers_nothing() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _rounds = run(&mut state, secs(6));
    let events = trace(&mut state, snapshot(9, vec![assignment(vip(1), Role::Active)]), secs(6));
    assert_eq!(events, ["revision 1.9", "applied"]);
    assert_eq!(run(&mut state, secs(40)), []);
}

#[test]
fn an_interface_that_appears_later_gets_its_own_rounds() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _rounds = run(&mut state, secs(10));
    let _events = step(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), eth(3)]), secs(10));
    let rounds = run(&mut state, secs(15));
    assert_eq!(rounds.iter().map(|(_, _, link, _)| *link).collect::<Vec<_>>(), [3; 5]);
}

#[test]
fn a_standby_is_silent_and_announces_at_once_when_promoted() {
    let mut state = live(vec![assignment(vip(1), Role::Standby)]);
    assert_eq!(run(&mut state, secs(100)), []);
    let _events = step(&mut state, super::super::tests::delta(2, vec![assignment(vip(1), Role::Active)], vec![]), secs(100));
    let first: Vec<_> = run(&mut state, secs(100)).into_iter().map(|(at, ..)| at.as_secs()).collect();
    assert_eq!(first, [100, 100]);
}

#[test]
fn a_withdrawal_ends_the_rounds() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _rounds = run(&mut state, secs(1));
    let _events = step(&mut state, super::super::tests::delta(2, vec![], vec![vip(1)]), secs(1));
    assert_eq!(run(&mut state, secs(1_000)), []);
}

fn many(count: u32) -> State {
    let vips = (0..count).map(|number| Vip::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number)));
    let mut state = State::new(settings());
    for command in
        [Command::ReplaceLinks(vec![eth(1)]), Command::OpenSession, snapshot(1, vips.map(|vip| assignment(vip, Role::Active)).collect())]
    {
        let _events = step(&mut state, command, Mono::ZERO);
    }
    state
}

#[test]
fn ten_thousand_vips_have_all_their_first_round_within_two_seconds_and_before_any_second_one() {
    let mut state = many(10_000);
    let rounds = run(&mut state, secs(60));
    let (first, rest) = rounds.split_at(10_000);
    assert!(first.iter().all(|(.., phase)| *phase == Phase::First));
    assert!(first.last().unwrap().0 < Duration::from_secs(2), "{:?}", first.last());
    assert!(rest.iter().all(|(.., phase)| *phase != Phase::First));
    assert_eq!(rounds.iter().filter(|(.., phase)| *phase != Phase::Refresh).count(), 50_000);
}

#[test]
fn no_moment_has_more_than_a_batch() {
    let mut state = many(1_000);
    let rounds = run(&mut state, secs(3));
    for window in rounds.windows(BATCH + 1) {
        assert!(window[BATCH].0 - window[0].0 >= PACE, "{:?}", window[0]);
    }
}

#[test]
fn a_defense_does_not_change_the_plan() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _rounds = run(&mut state, secs(6));
    let before = next_deadline(&state);
    apply(&mut state, &Event::AnnouncementDue { vip: vip(1), link: LinkIndex(1), phase: Phase::Defense }, secs(7));
    assert_eq!(next_deadline(&state), before);
}
