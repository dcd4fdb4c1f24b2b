//! The whole core under random commands, and the fixtures that the other tests share.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::assignment::{Assignment, Role};
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use proptest::prelude::*;

use super::*;

pub(super) const PEER: MacAddress = MacAddress([0x02, 0, 0, 0, 0xbb, 0]);
pub(super) const STRANGER: MacAddress = MacAddress([0x02, 0, 0, 0, 0xee, 0]);

pub(super) fn settings() -> Settings {
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    Settings { speaker, boot_id: "boot-1".into(), refresh: Some(Duration::from_secs(60)), seed: 1 }
}

pub(super) fn name(text: &str) -> InterfaceName {
    InterfaceName::new(text).unwrap()
}

pub(super) fn own_mac(index: u32) -> MacAddress {
    MacAddress([0x02, 0, 0, 0, 0xaa, u8::try_from(index).unwrap()])
}

/// `eth<index>`, fit to answer for both families.
pub(super) fn eth(index: u32) -> Link {
    Link {
        index: LinkIndex(index),
        name: name(&format!("eth{index}")),
        mac: Some(own_mac(index)),
        addresses: vec![format!("fe80::{index}/64").parse().unwrap()],
        admitted: true,
        running: true,
        resolves: true,
        enslaved: false,
    }
}

pub(super) fn vip(last: u8) -> Vip {
    Vip::from(std::net::Ipv4Addr::new(172, 17, 200, last))
}

pub(super) fn vip6(last: u16) -> Vip {
    Vip::from(std::net::Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0xc8, last))
}

pub(super) fn service(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

pub(super) fn pool() -> PoolName {
    PoolName::new("prod").unwrap()
}

/// An assignment on all interfaces, to one Service, with one peer.
pub(super) fn assignment(vip: Vip, role: Role) -> Assignment {
    Assignment {
        vip,
        role,
        rank: u32::from(role == Role::Standby),
        interfaces: BTreeSet::new(),
        services: BTreeMap::from([(service("default/web"), pool())]),
        peers: BTreeMap::from([(NodeName::new("node-b").unwrap(), BTreeSet::from([PEER]))]).into(),
        active: None,
        probe_first: false,
    }
}

pub(super) fn snapshot(revision: u64, assignments: Vec<Assignment>) -> Command {
    Command::Hear(AllocatorMessage::Snapshot {
        heartbeat: mooring_proto::types::assignment::HEARTBEAT,
        epoch: Epoch(1),
        revision: Revision(revision),
        assignments,
    })
}

pub(super) fn delta(revision: u64, upserts: Vec<Assignment>, removals: Vec<Vip>) -> Command {
    Command::Hear(AllocatorMessage::Delta { revision: Revision(revision), upserts, removals })
}

/// A speaker with eth1 and eth2 in a live session, given these.
pub(super) fn live(assignments: Vec<Assignment>) -> State {
    let mut state = State::new(settings());
    for command in [Command::ReplaceLinks(vec![eth(1), eth(2)]), Command::OpenSession, snapshot(1, assignments)] {
        let _events = step(&mut state, command, Mono::ZERO);
    }
    audit(&state).unwrap();
    state
}

/// Steps, audits, and gives the events as short text, so that a test can compare all of them.
pub(super) fn trace(state: &mut State, command: Command, now: Mono) -> Vec<String> {
    let events = step(state, command, now);
    audit(state).unwrap();
    events.iter().map(short).collect()
}

fn short(event: &Event) -> String {
    match event {
        Event::SessionChanged(session) => format!("session {session:?}"),
        Event::HelloDue => "hello".into(),
        Event::EpochRefused { epoch, newest } => format!("epoch {epoch} refused, newest {newest}"),
        Event::RevisionReached { epoch, revision } => format!("revision {epoch}.{revision}"),
        Event::AppliedDue => "applied".into(),
        Event::AssignmentStored(assigned) => format!("stored {} {}", assigned.vip, assigned.role),
        Event::AssignmentRemoved(vip) => format!("removed {vip}"),
        Event::StandingChanged { vip, standing } => format!("{vip} {standing:?}"),
        Event::ServiceUpdated { vip, service, change, .. } => format!("{service} {vip} {change:?}"),
        Event::AssignmentFailed { vip, failure } => format!("failed {vip} {failure:?}"),
        Event::LinksReplaced(links) => format!("links {}", links.len()),
        Event::PortOpened(port) => format!("opened {}", port.name),
        Event::PortClosed(port) => format!("closed {}", port.name),
        Event::ReachChanged => "reach".into(),
        Event::InterfacesDue => "interfaces".into(),
        Event::AnnouncementDue { vip, link, phase } => format!("announce {vip} on {} {phase:?}", link.0),
        Event::ConflictSeen { vip, mac, interface, defend } => format!("conflict {vip} {mac} {interface} defend={defend}"),
        Event::PeerContradicted { vip, mac, link } => format!("{mac} contradicts {vip} on {}", link.0),
        Event::Yielded { vip, mac } => format!("yielded {vip} to {mac}"),
        Event::PeerAsked { node, questions } => format!("ask {node} {questions:?}"),
        Event::PeerHeard { vip, mac } => format!("{mac} answers for {vip}"),
        Event::PeerSuspected { vip, node } => format!("suspect {node} {vip}"),
        Event::TookOver { vip, node } => format!("took {vip} over from {node}"),
        Event::LookDue(vip) => format!("look at {vip}"),
        Event::AnswerSeen { vip, mac, interface } => format!("{mac} is seen to have {vip} on {interface}"),
        Event::LookOver { vip, answers } => format!("seen {vip} {answers:?}"),
        Event::LookPutOff(vip) => format!("no look at {vip}"),
        Event::ProbeDue(vip) => format!("probe {vip}"),
        Event::ProbePutOff(vip) => format!("no probe of {vip}"),
        Event::AddressProven(vip) => format!("proven {vip}"),
        Event::AddressFound { vip, mac, interface } => format!("found {vip} at {mac} on {interface}"),
        Event::DrainStarted { .. } => "drain started".into(),
        Event::Drained { left } => format!("drained {left}"),
    }
}

/// The VIPs that we answer for.
pub(super) fn answering(state: &State) -> Vec<Vip> {
    state.answering().map(|held| held.assigned.vip).collect()
}

fn any_vip() -> impl Strategy<Value = Vip> {
    prop_oneof![4 => (1..4u8).prop_map(vip), 3 => (1..4u16).prop_map(vip6)]
}

fn any_assignment() -> impl Strategy<Value = Assignment> {
    let interfaces = prop::collection::btree_set((1..5u32).prop_map(|index| name(&format!("eth{index}"))), 0..2);
    let services = prop::collection::btree_set(prop_oneof![Just("default/web"), Just("default/dns")], 1..3);
    (any_vip(), any::<bool>(), 0..2u32, interfaces, services, any::<bool>()).prop_map(
        |(vip, active, rank, interfaces, services, elsewhere)| Assignment {
            interfaces,
            rank,
            probe_first: active && elsewhere,
            active: (!active && elsewhere).then(|| NodeName::new("node-b").unwrap()),
            services: services.into_iter().map(|key| (service(key), pool())).collect(),
            ..assignment(vip, if active { Role::Active } else { Role::Standby })
        },
    )
}

fn any_link() -> impl Strategy<Value = Link> {
    let address = prop::sample::select(vec!["172.17.200.250/24", "172.17.200.2/31", "172.17.200.3/32", "fd00:201::c8:9/112", "fe80::9/64"]);
    let addresses = prop::collection::vec(address.prop_map(|text| text.parse().unwrap()), 0..3);
    (1..5u32, prop::array::uniform4(prop::bool::weighted(0.8)), 1..3u32, addresses).prop_map(
        |(index, [admitted, running, resolves, free], mac, addresses)| Link {
            mac: Some(own_mac(index * 10 + mac)),
            addresses,
            admitted,
            running,
            resolves,
            enslaved: !free,
            ..eth(index)
        },
    )
}

fn any_command() -> impl Strategy<Value = Command> {
    let links = prop::collection::vec(any_link(), 0..4).prop_map(|links| {
        let by_index: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
        Command::ReplaceLinks(by_index.into_values().collect())
    });
    let told = (1..3u64, 1..4u64, prop::collection::vec(any_assignment(), 0..5)).prop_map(|(epoch, revision, assignments)| {
        Command::Hear(AllocatorMessage::Snapshot {
            heartbeat: mooring_proto::types::assignment::HEARTBEAT,
            epoch: Epoch(epoch),
            revision: Revision(revision),
            assignments,
        })
    });
    let change = (1..8u64, prop::collection::vec(any_assignment(), 0..3), prop::collection::vec(any_vip(), 0..3));
    let mac = prop_oneof![Just(PEER), Just(STRANGER), Just(own_mac(11))];
    let claim = (any_vip(), mac, 1..5u32).prop_map(|(vip, mac, link)| Command::NoteClaim { vip, mac, link: LinkIndex(link) });
    prop_oneof![
        3 => Just(Command::OpenSession),
        1 => Just(Command::CloseSession),
        4 => told,
        6 => change.prop_map(|(revision, upserts, removals)| delta(revision, upserts, removals)),
        3 => links,
        3 => claim,
        1 => Just(Command::Drain),
        6 => Just(Command::Tick),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_invariants_hold_and_silence_withdraws_nothing(
        commands in prop::collection::vec((any_command(), 0..3_000u64), 0..60)
    ) {
        let mut state = State::new(settings());
        let mut now = Mono::ZERO;
        for (command, pause) in commands {
            now = now + Duration::from_millis(pause);
            let before: Vec<Vip> = answering(&state);
            let quiet = matches!(command, Command::OpenSession | Command::CloseSession | Command::Tick | Command::Drain);
            let ends_silence = matches!(command, Command::Tick);
            let copy = format!("{state:?}");
            let _undecided = decide(&state, command.clone(), now);
            prop_assert_eq!(copy, format!("{:?}", &state), "deciding changes nothing");
            let _events = step(&mut state, command, now);
            prop_assert_eq!(audit(&state), Ok(()));
            if quiet {
                let after = answering(&state);
                prop_assert!(before.iter().all(|vip| after.contains(vip)), "silence withdraws nothing");
                prop_assert!(before == after || ends_silence, "and only questions without an answer let us begin");
            }
        }
    }

    #[test]
    fn the_engine_comes_to_rest(assignments in prop::collection::vec(any_assignment(), 0..5)) {
        let mut state = State::new(Settings { refresh: None, ..settings() });
        // Who stands by asks for ever.
        let assignments = assignments.into_iter().map(|assignment| Assignment { active: None, ..assignment }).collect();
        for command in [Command::ReplaceLinks(vec![eth(1), eth(2)]), Command::OpenSession, snapshot(1, assignments)] {
            let _events = step(&mut state, command, Mono::ZERO);
        }
        let mut steps = 0;
        while let Some(deadline) = next_deadline(&state) {
            let events = step(&mut state, Command::Tick, deadline);
            prop_assert!(!events.is_empty(), "a deadline without anything to do is a hot loop");
            steps += 1;
            prop_assert!(steps <= 60);
        }
    }
}
