//! The speaker's core under any words of an allocator and any news of the node, its invariants checked after every one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::pb;
use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{AllocatorMessage, Assignment, HEARTBEAT, Role};
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{Instance, InterfaceName, MacAddress, NodeName, SpeakerId};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::time::Mono;
use mooring_speaker::core::interfaces::{Link, LinkIndex};
use mooring_speaker::core::{Command, Settings, State, audit, next_deadline, step};
use prost::Message as _;

use crate::bytes::Bytes;

/// How much work one command may make due at once; more would be work without end.
const MOST_TICKS: usize = 10_000;

const VIPS: &[&str] = &["10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00::1", "fd00::2"];
const NETWORKS: &[&[&str]] = &[&[], &["10.0.0.9/24"], &["10.0.0.9/31", "fe80::9/64"], &["fd00::9/64"], &["10.0.1.1/32", "fe80::9/64"]];

/// Each few bytes a command. Where the first one says so the rest is a message of the stream, as it comes by the wire.
///
/// # Panics
/// An invariant does not hold, work is due without end, or silence withdraws something.
pub fn check(data: &[u8]) {
    let Some(mut core) = Core::new() else { return };
    let mut bytes = Bytes(data);
    while let Some(command) = command(&mut bytes, &mut core.now) {
        core.take(command);
    }
}

struct Core {
    state: State,
    now: Mono,
}

impl Core {
    fn new() -> Option<Self> {
        let speaker = SpeakerId { node: NodeName::new("node-a")?, instance: Instance::default() };
        let settings = Settings { speaker, boot_id: String::new(), refresh: Some(Duration::from_secs(60)), seed: 1 };
        Some(Self { state: State::new(settings), now: Mono::ZERO })
    }

    fn take(&mut self, command: Command) {
        let quiet = matches!(command, Command::OpenSession | Command::CloseSession | Command::Tick | Command::Drain);
        let before = self.answering();
        self.step(command);
        assert!(!quiet || before.is_subset(&self.answering()), "silence has withdrawn something");
        for _ in 0..MOST_TICKS {
            if next_deadline(&self.state).is_none_or(|deadline| deadline > self.now) {
                return;
            }
            self.step(Command::Tick);
        }
        unreachable!("work is due without end: {:?}", next_deadline(&self.state));
    }

    fn step(&mut self, command: Command) {
        let told = format!("{command:?}");
        let _events = step(&mut self.state, command, self.now);
        let audited = audit(&self.state);
        assert!(audited.is_ok(), "after {told}: {audited:?}");
    }

    fn answering(&self) -> BTreeSet<Vip> {
        self.state.answering().map(|held| held.assigned.vip).collect()
    }
}

fn command(bytes: &mut Bytes<'_>, now: &mut Mono) -> Option<Command> {
    Some(match bytes.of(16)? {
        0 | 1 => Command::OpenSession,
        2 => Command::CloseSession,
        3..=5 => Command::Hear(AllocatorMessage::Snapshot {
            heartbeat: HEARTBEAT,
            epoch: Epoch(u64::from(bytes.of(3)?)),
            revision: Revision(u64::from(bytes.of(8)?)),
            assignments: assignments(bytes)?,
        }),
        6..=8 => Command::Hear(AllocatorMessage::Delta {
            revision: Revision(u64::from(bytes.of(16)?)),
            upserts: assignments(bytes)?,
            removals: (0..bytes.of(3)?).map(|_| vip(bytes)).collect::<Option<_>>()?,
        }),
        9 => {
            let length = usize::from(bytes.next()?).min(bytes.0.len());
            let (message, rest) = bytes.0.split_at_checked(length)?;
            bytes.0 = rest;
            let parsed = pb::StreamAssignmentsResponse::decode(message).ok().and_then(|message| AllocatorMessage::try_from(message).ok());
            // What does not parse ends the session.
            parsed.map_or(Command::CloseSession, Command::Hear)
        }
        10 | 11 => Command::ReplaceLinks(links(bytes)?),
        12 => Command::NoteClaim { vip: vip(bytes)?, mac: mac(bytes)?, link: LinkIndex(u32::from(bytes.of(4)?)) },
        13 => Command::Drain,
        _ => {
            *now = *now + Duration::from_millis(u64::from(bytes.next()?) * 20);
            Command::Tick
        }
    })
}

fn vip(bytes: &mut Bytes<'_>) -> Option<Vip> {
    bytes.pick(VIPS)?.parse().ok()
}

fn mac(bytes: &mut Bytes<'_>) -> Option<MacAddress> {
    Some(MacAddress([2, 0, 0, 0, 0, bytes.of(6)?]))
}

fn name(bytes: &mut Bytes<'_>) -> Option<InterfaceName> {
    InterfaceName::new(bytes.pick(&["eth0", "eth1", "eth2"])?)
}

fn assignments(bytes: &mut Bytes<'_>) -> Option<Vec<Assignment>> {
    (0..bytes.of(4)?).map(|_| assignment(bytes)).collect()
}

fn assignment(bytes: &mut Bytes<'_>) -> Option<Assignment> {
    let service = bytes.pick(&["default/a", "default/b"])?.parse().ok()?;
    let (vip, role) = (vip(bytes)?, bytes.pick(&[Role::Active, Role::Active, Role::Standby])?);
    let rank = u32::from(bytes.of(4)?);
    Some(Assignment {
        vip,
        role,
        rank: rank % 2,
        active: NodeName::new("node-b").filter(|_| role == Role::Standby),
        probe_first: rank > 1,
        interfaces: (0..bytes.of(5)?.saturating_sub(3)).map(|_| name(bytes)).collect::<Option<_>>()?,
        services: BTreeMap::from([(service, PoolName::new("p")?)]),
        peers: BTreeMap::from([(NodeName::new("node-b")?, BTreeSet::from([mac(bytes)?]))]).into(),
    })
}

fn links(bytes: &mut Bytes<'_>) -> Option<Vec<Link>> {
    let links: Option<Vec<Link>> = (0..bytes.of(4)?).map(|_| link(bytes)).collect();
    // The kernel has each index once.
    Some(links?.into_iter().map(|link| (link.index, link)).collect::<BTreeMap<_, _>>().into_values().collect())
}

fn link(bytes: &mut Bytes<'_>) -> Option<Link> {
    let fit = bytes.next()?;
    Some(Link {
        index: LinkIndex(u32::from(bytes.of(4)?)),
        name: name(bytes)?,
        mac: if fit & 0x30 == 0x30 { None } else { Some(mac(bytes)?) },
        addresses: bytes.pick(NETWORKS)?.iter().filter_map(|text| text.parse().ok()).collect(),
        admitted: fit & 0x03 != 0x03,
        running: fit & 0x04 == 0,
        resolves: fit & 0x88 != 0x88,
        enslaved: fit & 0x41 == 0x41,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("assignments", super::check);
    }
}
