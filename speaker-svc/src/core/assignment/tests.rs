use super::super::tests::{PEER, answering, assignment, delta, eth, live, name, pool, service, settings, snapshot, trace, vip, vip6};
use super::super::{AllocatorMessage, Command, step};
use super::*;

const NOW: Mono = Mono::ZERO;

#[test]
fn a_session_begins_with_hello_and_is_live_with_its_snapshot() {
    let mut state = State::new(settings());
    let _events = step(&mut state, Command::ReplaceLinks(vec![eth(1)]), NOW);
    assert_eq!(trace(&mut state, Command::OpenSession, NOW), ["session Joining", "hello"]);
    assert_eq!(
        trace(&mut state, snapshot(7, vec![assignment(vip(1), Role::Active), assignment(vip(2), Role::Standby)]), NOW),
        [
            "session Live",
            "stored 172.17.200.1 active",
            "172.17.200.1 Announced",
            "default/web 172.17.200.1 Announced",
            "stored 172.17.200.2 standby",
            "172.17.200.2 Silent(Standby)",
            "default/web 172.17.200.2 Noted",
            "revision 1.7",
            "applied",
        ]
    );
    assert_eq!(answering(&state), [vip(1)]);
    let hello = state.hello();
    assert_eq!(hello.held, BTreeMap::from([(vip(1), Role::Active), (vip(2), Role::Standby)]));
    assert_eq!(hello.interfaces.len(), 1);
}

#[test]
fn a_snapshot_replaces_everything() {
    let mut state = live(vec![assignment(vip(1), Role::Active), assignment(vip(2), Role::Standby)]);
    assert_eq!(
        trace(&mut state, snapshot(2, vec![assignment(vip(3), Role::Active)]), NOW),
        [
            "removed 172.17.200.1",
            "default/web 172.17.200.1 Withdrawn(NotOwner)",
            "removed 172.17.200.2",
            "default/web 172.17.200.2 Noted",
            "stored 172.17.200.3 active",
            "172.17.200.3 Announced",
            "default/web 172.17.200.3 Announced",
            "revision 1.2",
            "applied",
        ]
    );
}

#[test]
fn a_snapshot_of_an_older_leadership_counts_for_nothing() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let newer = AllocatorMessage::Snapshot {
        heartbeat: mooring_proto::types::assignment::HEARTBEAT,
        epoch: Epoch(5),
        revision: Revision(1),
        assignments: vec![assignment(vip(1), Role::Active)],
    };
    let _events = step(&mut state, Command::Hear(newer), NOW);
    assert_eq!(trace(&mut state, snapshot(9, vec![]), NOW), ["epoch 1 refused, newest 5", "session Away"]);
    assert_eq!(trace(&mut state, delta(2, vec![], vec![vip(1)]), NOW), [""; 0], "what follows on the stream counts for nothing either");
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn deltas_follow_one_another() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let events = trace(&mut state, delta(2, vec![assignment(vip(2), Role::Active)], vec![vip(1), vip(9)]), NOW);
    assert_eq!(
        events,
        [
            "removed 172.17.200.1",
            "default/web 172.17.200.1 Withdrawn(NotOwner)",
            "stored 172.17.200.2 active",
            "172.17.200.2 Announced",
            "default/web 172.17.200.2 Announced",
            "revision 1.2",
            "applied",
        ]
    );
}

#[test]
fn a_gap_asks_once_for_a_snapshot_and_keeps_everything() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(trace(&mut state, delta(3, vec![], vec![vip(1)]), NOW), ["session Resyncing", "hello"]);
    assert_eq!(trace(&mut state, delta(4, vec![], vec![vip(1)]), NOW), [""; 0]);
    assert_eq!(answering(&state), [vip(1)]);
    assert_eq!(trace(&mut state, snapshot(4, vec![assignment(vip(1), Role::Active)]), NOW), ["session Live", "revision 1.4", "applied"]);
}

#[test]
fn a_lost_session_withdraws_nothing_and_deltas_before_a_snapshot_count_for_nothing() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(trace(&mut state, Command::CloseSession, NOW), ["session Away"]);
    assert_eq!(trace(&mut state, Command::CloseSession, NOW), [""; 0]);
    let _events = step(&mut state, Command::OpenSession, NOW);
    assert_eq!(trace(&mut state, delta(2, vec![], vec![vip(1)]), NOW), [""; 0]);
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn an_active_one_that_becomes_standby_falls_silent() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(
        trace(&mut state, delta(2, vec![assignment(vip(1), Role::Standby)], vec![]), NOW),
        [
            "stored 172.17.200.1 standby",
            "172.17.200.1 Silent(Standby)",
            "default/web 172.17.200.1 Withdrawn(NotOwner)",
            "revision 1.2",
            "applied"
        ]
    );
}

#[test]
fn services_that_join_or_leave_a_shared_address_are_told_apart() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let mut shared = assignment(vip(1), Role::Active);
    shared.services.insert(service("default/dns"), pool());
    assert_eq!(
        trace(&mut state, delta(2, vec![shared.clone()], vec![]), NOW),
        ["stored 172.17.200.1 active", "default/dns 172.17.200.1 Announced", "default/web 172.17.200.1 Noted", "revision 1.2", "applied"]
    );
    shared.services.remove(&service("default/web"));
    assert_eq!(
        trace(&mut state, delta(3, vec![shared], vec![]), NOW),
        [
            "stored 172.17.200.1 active",
            "default/web 172.17.200.1 Withdrawn(NotOwner)",
            "default/dns 172.17.200.1 Noted",
            "revision 1.3",
            "applied"
        ]
    );
}

#[test]
fn other_peers_are_no_news_for_a_service() {
    let mut state = live(vec![assignment(vip(1), Role::Active), assignment(vip(2), Role::Standby)]);
    let change = |last, role| Assignment { peers: Arc::default(), ..assignment(vip(last), role) };
    assert_eq!(
        trace(&mut state, delta(2, vec![change(1, Role::Active), change(2, Role::Standby)], vec![]), NOW),
        ["stored 172.17.200.1 active", "stored 172.17.200.2 standby", "revision 1.2", "applied"]
    );
    assert!(state.vips[&vip(1)].assigned.peers.is_empty());
    let elsewhere = Assignment { interfaces: BTreeSet::from([name("eth1")]), ..change(1, Role::Active) };
    assert_eq!(
        trace(&mut state, delta(3, vec![elsewhere], vec![]), NOW),
        ["stored 172.17.200.1 active", "default/web 172.17.200.1 Noted", "revision 1.3", "applied"]
    );
}

#[test]
fn what_cannot_be_announced_is_a_failure_and_not_held() {
    let elsewhere = Assignment { interfaces: BTreeSet::from([name("eth9")]), ..assignment(vip(1), Role::Active) };
    let mut state = State::new(settings());
    let without_ipv6 = super::super::interfaces::Link { addresses: vec![], ..eth(1) };
    for command in [Command::ReplaceLinks(vec![without_ipv6]), Command::OpenSession] {
        let _events = step(&mut state, command, NOW);
    }
    let told = trace(&mut state, snapshot(1, vec![assignment(vip6(1), Role::Active), elsewhere, assignment(vip(2), Role::Active)]), NOW);
    let failed: Vec<_> = told.iter().filter(|event| event.starts_with("failed")).collect();
    assert_eq!(failed, ["failed 172.17.200.1 NoInterface", "failed fd00:201::c8:1 NoIpv6"]);
    assert_eq!(answering(&state), [vip(2), vip6(1)]);
    assert_eq!(
        state.failures(),
        BTreeMap::from([
            (vip(1), "none of the interfaces it may be announced on exists on the node".to_owned()),
            (vip6(1), "none of the interfaces it may be announced on has an IPv6 address".to_owned()),
        ])
    );
    assert_eq!(state.hello().held, BTreeMap::from([(vip(2), Role::Active)]));
    // Told once, and again only to the allocator.
    let again = snapshot(2, vec![assignment(vip6(1), Role::Active), assignment(vip(2), Role::Active)]);
    assert_eq!(trace(&mut state, again, NOW), ["removed 172.17.200.1", "default/web 172.17.200.1 Noted", "revision 1.2", "applied"]);
}

#[test]
fn counters_outlive_changes_of_the_assignment() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    state.vips[&vip(1)].assigned.counters.note_gratuitous();
    let _events = step(&mut state, delta(2, vec![assignment(vip(1), Role::Standby)], vec![]), NOW);
    assert_eq!(state.vips[&vip(1)].assigned.counters.gratuitous(), 1);
}

#[test]
fn equal_sets_of_peers_are_one_and_go_with_the_last_vip() {
    let mut state = live((1..100).map(|last| assignment(vip(last), Role::Active)).collect());
    assert_eq!(state.peer_sets.iter().map(|peers| (**peers).clone()).collect::<Vec<_>>(), [BTreeSet::from([PEER])]);
    assert!(state.vips.values().all(|held| Arc::ptr_eq(&held.assigned.peers, &state.vips[&vip(1)].assigned.peers)));
    let _events = step(&mut state, snapshot(2, vec![]), NOW);
    assert_eq!(state.peer_sets.len(), 0);
}
