use mooring_proto::types::assignment::Role;

use super::super::pace::{BATCH, PACE};
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
fn an_interface_that_appears_later_gets_its_own_rounds_once_the_allocator_has_said_that_the_vip_is_ours() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _rounds = run(&mut state, secs(10));
    let events = trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), eth(3)]), secs(10));
    assert_eq!(events, ["links 3", "session Resyncing", "opened eth3", "reach", "interfaces", "hello"]);
    assert!(state.hello().interfaces.iter().any(|interface| interface.name.as_str() == "eth3"));
    assert_eq!(run(&mut state, secs(10)), []);
    let events = trace(&mut state, snapshot(2, vec![assignment(vip(1), Role::Active)]), secs(10));
    assert_eq!(events, ["session Live", "revision 1.2", "applied"]);
    let rounds: Vec<_> = run(&mut state, secs(15)).into_iter().map(|(at, _, link, phase)| (at.as_millis(), link, phase)).collect();
    let wanted =
        [(10_000, Phase::First), (11_100, Phase::Repeat), (12_200, Phase::Repeat), (13_300, Phase::Repeat), (14_400, Phase::Repeat)];
    assert_eq!(rounds, wanted.map(|(at, phase)| (at, 3, phase)));
}

/// eth1 goes and comes back; whether the session broke meanwhile.
fn cable_comes_back(broken: bool) -> State {
    let mut state = live(vec![assignment(vip(1), Role::Active), assignment(vip(2), Role::Active)]);
    let _rounds = run(&mut state, secs(10));
    let _events = trace(&mut state, Command::ReplaceLinks(vec![]), secs(10));
    if broken {
        let _events = trace(&mut state, Command::CloseSession, secs(10));
    }
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(1)]), secs(10));
    state
}

#[test]
fn a_cable_that_comes_back_announces_nothing_that_has_moved_meanwhile() {
    for broken in [false, true] {
        let mut state = cable_comes_back(broken);
        let half_a_second = secs(10) + Duration::from_millis(500);
        let probes = run(&mut state, half_a_second);
        assert!(!probes.is_empty() && probes.iter().all(|(.., phase)| *phase == Phase::Probe), "{probes:?}");
        if broken {
            let _events = trace(&mut state, Command::OpenSession, half_a_second);
        }
        let _events = trace(&mut state, snapshot(2, vec![assignment(vip(2), Role::Active)]), half_a_second);
        let rounds = run(&mut state, secs(40));
        assert!(rounds.iter().all(|(_, of, ..)| *of == vip(2)), "{rounds:?}");
        assert_eq!(rounds.iter().map(|(.., phase)| *phase).collect::<Vec<_>>()[..2], [Phase::First, Phase::Repeat]);
        assert_eq!(rounds[0].0, Duration::from_millis(10_500));
    }
}

#[test]
fn without_an_allocator_a_vip_that_nobody_else_answers_for_is_announced_after_a_second() {
    let mut state = cable_comes_back(true);
    let rounds: Vec<_> = run(&mut state, secs(17)).into_iter().filter(|(_, of, ..)| *of == vip(1)).collect();
    let phases: Vec<_> = rounds.iter().map(|(.., phase)| *phase).collect();
    assert_eq!(phases, [[Phase::Probe; 4].as_slice(), &[Phase::First], &[Phase::Repeat; 4]].concat());
    let (first_probe, first_round) = (rounds[0].0, rounds[4].0);
    assert!((10_000..10_050).contains(&first_probe.as_millis()), "{first_probe:?}");
    assert_eq!(first_round - first_probe, Duration::from_secs(1));
}

#[test]
fn without_an_allocator_whoever_answers_a_probe_has_the_vip() {
    let mut state = cable_comes_back(true);
    let asked = run(&mut state, secs(10) + PROBE_WAIT);
    assert!(asked.iter().all(|(.., phase)| *phase == Phase::Probe) && asked.len() == 2, "{asked:?}");
    let claim = Command::NoteClaim { vip: vip(1), mac: super::super::tests::PEER, link: LinkIndex(1) };
    let events = trace(&mut state, claim.clone(), secs(10) + PROBE_WAIT);
    assert_eq!(events[1], "172.17.200.1 Silent(Yielded)");
    let _events = trace(&mut state, claim, secs(10) + PROBE_WAIT);
    assert_eq!(super::super::tests::answering(&state), [vip(2)]);
    let rest = run(&mut state, secs(10) + Duration::from_millis(340));
    assert!(!rest.is_empty() && rest.iter().all(|(_, of, ..)| *of == vip(2)), "{rest:?}");
}

#[test]
fn who_only_answers_until_another_one_has_begun_announces_nothing_and_begins_anew_if_it_is_to_stay() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(run(&mut state, secs(1)).len(), 2);
    let outgoing = mooring_proto::types::assignment::Assignment { rank: 1, ..assignment(vip(1), Role::Active) };
    let events = trace(&mut state, super::super::tests::delta(2, vec![outgoing], vec![]), secs(1));
    assert_eq!(events, ["stored 172.17.200.1 active", "revision 1.2", "applied"]);
    assert_eq!(run(&mut state, secs(1_000)), []);
    let _events = trace(&mut state, super::super::tests::delta(3, vec![assignment(vip(1), Role::Active)], vec![]), secs(1_000));
    let rounds = run(&mut state, secs(1_005));
    assert_eq!((rounds.len(), rounds[0].0), (10, Duration::from_secs(1_000)));
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

fn many(count: u32, links: u32) -> State {
    let vips = (0..count).map(|number| Vip::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number)));
    let mut state = State::new(settings());
    for command in [
        Command::ReplaceLinks((1..=links).map(eth).collect()),
        Command::OpenSession,
        snapshot(1, vips.map(|vip| assignment(vip, Role::Active)).collect()),
    ] {
        let _events = step(&mut state, command, Mono::ZERO);
    }
    state
}

#[test]
fn ten_thousand_vips_have_all_their_first_round_within_two_seconds_and_before_any_second_one() {
    let mut state = many(10_000, 1);
    let rounds = run(&mut state, secs(60));
    let (first, rest) = rounds.split_at(10_000);
    assert!(first.iter().all(|(.., phase)| *phase == Phase::First));
    assert!(first.last().unwrap().0 < Duration::from_secs(2), "{:?}", first.last());
    assert!(rest.iter().all(|(.., phase)| *phase != Phase::First));
    assert_eq!(rounds.iter().filter(|(.., phase)| *phase != Phase::Refresh).count(), 50_000);
}

#[test]
fn each_interface_has_its_own_pace() {
    let mut state = many(1_000, 4);
    let rounds = run(&mut state, secs(1));
    for link in 1..=4 {
        let first: Vec<_> = rounds.iter().filter(|(.., on, phase)| (*on, *phase) == (link, Phase::First)).map(|(at, ..)| *at).collect();
        assert_eq!((first.len(), first.last()), (1_000, Some(&(PACE * 24))), "eth{link}");
    }
}

#[test]
fn no_moment_has_more_than_a_batch() {
    let mut state = many(1_000, 1);
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
