use mooring_proto::types::assignment::{Assignment, Role};

use super::super::tests::{PEER, STRANGER, answering, assignment, eth, live, own_mac, snapshot, trace, vip, vip6};
use super::super::{Command, next_deadline, step};
use super::*;

const NOW: Mono = Mono::ZERO;

fn claim(mac: MacAddress) -> Command {
    Command::NoteClaim { vip: vip(1), mac, link: LinkIndex(1) }
}

#[test]
fn a_stranger_is_defended_against_and_reported_once_in_ten_seconds_and_never_obeyed() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let seen = |defend| format!("conflict 172.17.200.1 02:00:00:00:ee:00 eth1 defend={defend}");
    let defense = "announce 172.17.200.1 on 1 Defense".to_owned();
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), [seen(true), defense.clone()]);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW + Duration::from_millis(9_999)), [seen(false)]);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW + DEFEND_INTERVAL), [seen(true), defense]);
    assert_eq!(answering(&state), [vip(1)]);
    let strife = state.vips[&vip(1)].strife.as_deref().unwrap();
    assert_eq!((strife.claims, strife.mac), (3, STRANGER));
}

#[test]
fn the_same_holds_for_ipv6() {
    let ours = || assignment(vip6(1), Role::Active);
    let claim = |mac| Command::NoteClaim { vip: vip6(1), mac, link: LinkIndex(1) };
    let mut state = live(vec![ours()]);
    let seen = ["conflict fd00:201::c8:1 02:00:00:00:ee:00 eth1 defend=true", "announce fd00:201::c8:1 on 1 Defense"];
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), seen);
    assert_eq!(trace(&mut state, claim(PEER), NOW), ["02:00:00:00:bb:00 contradicts fd00:201::c8:1 on 1"]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    let yielded = ["fd00:201::c8:1 Silent(Yielded)", "yielded fd00:201::c8:1 to 02:00:00:00:bb:00"];
    assert_eq!(trace(&mut state, claim(PEER), NOW)[..2], yielded);
    assert_eq!(answering(&state), []);
}

#[test]
fn a_stranger_is_a_conflict_without_a_session_too() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW).len(), 2);
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn a_peer_is_a_handover_to_one_that_only_answers_until_the_other_has_begun() {
    let mut state = live(vec![Assignment { rank: 1, ..assignment(vip(1), Role::Active) }]);
    assert_eq!(answering(&state), [vip(1)]);
    assert_eq!(trace(&mut state, claim(PEER), NOW), [""; 0]);
    assert_eq!((answering(&state), next_deadline(&state)), (vec![vip(1)], None));
}

/// When rounds go out from `from` until `end`, in milliseconds, on eth1.
fn rounds(state: &mut State, end: Duration) -> Vec<u128> {
    let mut rounds = Vec::new();
    while let Some(deadline) = next_deadline(state).filter(|deadline| *deadline <= NOW + end) {
        let announced = trace(state, Command::Tick, deadline);
        let on_one = announced.iter().filter(|event| event.starts_with("announce 172.17.200.1 on 1 "));
        rounds.extend(on_one.map(|_| deadline.saturating_since(NOW).as_millis()));
    }
    rounds
}

#[test]
fn a_peer_that_announces_what_is_ours_is_contradicted_at_once_and_is_no_conflict() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(rounds(&mut state, Duration::from_secs(10)), [0, 1_100, 2_200, 3_300, 4_400]);
    let at = |millis| NOW + Duration::from_millis(millis);
    assert_eq!(trace(&mut state, claim(PEER), at(10_000)), ["02:00:00:00:bb:00 contradicts 172.17.200.1 on 1"]);
    assert_eq!(rounds(&mut state, Duration::from_millis(10_000)), [10_000]);
    // A request and a reply, as rounds are, and more: the last of it is answered too, and not more than five times a second.
    for millis in 10_000..10_500 {
        assert_eq!(trace(&mut state, claim(PEER), at(millis)).len(), 1);
        let _events = step(&mut state, Command::Tick, at(millis));
    }
    let after = rounds(&mut state, Duration::from_secs(20));
    assert_eq!(after, [10_600, 11_700]);
    assert_eq!((state.vips[&vip(1)].strife.as_deref(), answering(&state)), (None, vec![vip(1)]));
}

#[test]
fn in_doubt_a_peer_is_yielded_to_also_while_the_session_seems_live_and_a_stranger_is_not_defended_against() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(2)]), NOW);
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2)]), NOW);
    assert!(state.session().is_live());
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), ["conflict 172.17.200.1 02:00:00:00:ee:00 eth1 defend=false"]);
    assert_eq!(
        trace(&mut state, claim(PEER), NOW),
        ["172.17.200.1 Silent(Yielded)", "yielded 172.17.200.1 to 02:00:00:00:bb:00", "default/web 172.17.200.1 Withdrawn(YieldedToPeer)"]
    );
    // The allocator has the last word, and what it says is announced at once.
    let _events = trace(&mut state, snapshot(2, vec![assignment(vip(1), Role::Active)]), NOW);
    assert_eq!(answering(&state), [vip(1)]);
    let defended = trace(&mut state, claim(STRANGER), NOW);
    assert_eq!(defended.len(), 2, "{defended:?}");
}

#[test]
fn a_peer_gets_the_vip_while_the_allocator_is_not_there_until_it_says_otherwise() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(
        trace(&mut state, claim(PEER), NOW),
        ["172.17.200.1 Silent(Yielded)", "yielded 172.17.200.1 to 02:00:00:00:bb:00", "default/web 172.17.200.1 Withdrawn(YieldedToPeer)"]
    );
    let held: Vec<_> = state.hello().held.into_iter().collect();
    assert_eq!(held, [(vip(1), Role::Standby)]);
    let _events = step(&mut state, Command::OpenSession, NOW);
    assert_eq!(
        trace(&mut state, snapshot(1, vec![assignment(vip(1), Role::Active)]), NOW),
        [
            "session Live",
            "stored 172.17.200.1 active",
            "172.17.200.1 Announced",
            "default/web 172.17.200.1 Announced",
            "revision 1.1",
            "applied"
        ]
    );
}

#[test]
fn what_is_not_ours_or_comes_from_ourselves_is_no_claim() {
    let mut state = live(vec![assignment(vip(1), Role::Standby), assignment(vip(2), Role::Active)]);
    let rows: [(&str, Command); 4] = [
        ("standby", claim(STRANGER)),
        ("unknown", Command::NoteClaim { vip: vip(9), mac: STRANGER, link: LinkIndex(1) }),
        ("an interface that is gone", Command::NoteClaim { vip: vip(2), mac: STRANGER, link: LinkIndex(9) }),
        ("the node's other interface", Command::NoteClaim { vip: vip(2), mac: own_mac(2), link: LinkIndex(1) }),
    ];
    for (name, command) in rows {
        assert_eq!(trace(&mut state, command, NOW), [""; 0], "{name}");
    }
}
