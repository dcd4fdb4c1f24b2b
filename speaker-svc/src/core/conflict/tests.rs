use mooring_proto::types::assignment::Role;

use super::super::tests::{PEER, STRANGER, answering, assignment, live, own_mac, snapshot, trace, vip};
use super::super::{Command, step};
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
    let strife = state.vips[&vip(1)].strife.unwrap();
    assert_eq!((strife.claims, strife.mac), (3, STRANGER));
}

#[test]
fn a_stranger_is_a_conflict_without_a_session_too() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW).len(), 2);
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn a_peer_is_a_handover_while_the_allocator_is_there() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(trace(&mut state, claim(PEER), NOW), [""; 0]);
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
