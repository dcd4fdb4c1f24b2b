//! The allocator's core under any commands, its invariants checked after every fact.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_allocator::core::{Command, Event, Leadership, Now, SessionId, Settings, State, apply, audit, decide, next_deadline};
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::assignment::{Hello, Role, Sight, SpeakerMessage};
use mooring_proto::types::backends::{Backends, Reach};
use mooring_proto::types::claim::{BackendKey, Claim, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{Instance, Interface, InterfaceName, MacAddress, NodeName, SpeakerId};
use mooring_proto::types::pool::{AdvertisementSpec, Configuration, PoolName, PoolSpec};
use mooring_proto::types::reservation::ReservationKey;
use mooring_proto::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};

use crate::bytes::Bytes;

const SETTINGS: Settings = Settings { rebalance: 60, ..Settings::DEFAULT };

/// How much work one command may make due; more would be work without end.
const MOST_TICKS: usize = 10_000;

const POOLS: &[&[&str]] =
    &[&["10.0.0.0/30", "fc00::/126"], &["10.0.1.254-10.0.2.1"], &["10.0.0.0/31"], &["10.0.0.2-10.0.0.9", "fc00::2-fc00::5"]];

/// Each few bytes a command.
///
/// # Panics
/// An invariant does not hold, or work is due without end.
pub fn check(data: &[u8]) {
    let mut core = Core { state: State::new(SETTINGS), now: Now { mono: Mono::ZERO, wall: UnixMillis(1_000) } };
    core.take(Event::EpochBegan(Epoch(1)));
    let mut bytes = Bytes(data);
    while let Some(command) = command(&mut bytes, &mut core.now) {
        if let Ok(events) = decide(&core.state, command, core.now) {
            events.into_iter().for_each(|event| core.take(event));
        }
        core.settle();
    }
}

struct Core {
    state: State,
    now: Now,
}

impl Core {
    fn take(&mut self, event: Event) {
        apply(&mut self.state, &event);
        let audited = audit(&self.state);
        assert!(audited.is_ok(), "after {event:?}: {audited:?}");
    }

    fn settle(&mut self) {
        for _ in 0..MOST_TICKS {
            if next_deadline(&self.state).is_none_or(|deadline| deadline > self.now.mono) {
                if let Some(revision) = self.state.feed().next() {
                    self.take(Event::RevisionReached(revision));
                }
                return;
            }
            for event in decide(&self.state, Command::Tick, self.now).unwrap_or_default() {
                self.take(event);
            }
        }
        unreachable!("work is due without end: {:?}", next_deadline(&self.state));
    }
}

fn command(bytes: &mut Bytes<'_>, now: &mut Now) -> Option<Command> {
    let leadership = Leadership::Present;
    Some(match bytes.of(16)? {
        0..=5 => Command::Allocate { leadership, claim: Box::new(claim(bytes)?) },
        6 | 7 => Command::Release { leadership, service: service(bytes)? },
        8 => {
            let claims: Option<BTreeMap<ServiceKey, Claim>> =
                (0..bytes.of(6)?).map(|_| claim(bytes).map(|claim| (claim.service.clone(), claim))).collect();
            Command::Reconcile { leadership, claims: claims?.into_values().collect() }
        }
        9 => Command::ReplacePools { leadership, configuration: configuration(bytes)? },
        10 => Command::ReportBackends { leadership, backends: vec![Backends { service: service(bytes)?, reach: reach(bytes)? }] },
        11 | 12 => Command::SpeakerSaid { session: SessionId(u64::from(bytes.of(4)?)), message: message(bytes)? },
        13 => Command::SessionEnded { session: SessionId(u64::from(bytes.of(4)?)) },
        14 => reservation(bytes)?,
        _ => {
            let passed = Duration::from_millis(u64::from(bytes.next()?) * 50);
            now.mono = now.mono + passed;
            now.wall = UnixMillis(now.wall.0 + u64::try_from(passed.as_millis()).unwrap_or(0));
            Command::Tick
        }
    })
}

fn reservation(bytes: &mut Bytes<'_>) -> Option<Command> {
    let address = bytes.pick(&["10.0.0.0", "10.0.0.3", "fc00::1", "10.0.1.255", "192.0.2.1"])?.parse().ok()?;
    let seconds = bytes.of(32)?;
    if seconds == 31 {
        return Some(Command::ReleaseReservation(address));
    }
    let service = if seconds % 2 == 0 { service(bytes) } else { None };
    let duration = (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)));
    Some(Command::ReserveAddress { key: ReservationKey { address, service }, duration, note: String::new() })
}

fn service(bytes: &mut Bytes<'_>) -> Option<ServiceKey> {
    ServiceKey::new(bytes.pick(&["default", "prod"])?, bytes.pick(&["a", "b", "c", "d", "e", "f"])?).ok()
}

fn vips(bytes: &mut Bytes<'_>) -> Option<Vec<Vip>> {
    let list: &[&[&str]] =
        &[&[], &[], &["10.0.0.0"], &["10.0.0.3"], &["fc00::1"], &["10.0.1.255"], &["192.0.2.1"], &["10.0.0.1", "fc00::2"]];
    bytes.pick(list)?.iter().map(|text| text.parse().ok()).collect()
}

fn claim(bytes: &mut Bytes<'_>) -> Option<Claim> {
    let families = [
        Families::Single(Family::V4),
        Families::Single(Family::V6),
        Families::Dual { primary: Family::V4 },
        Families::Dual { primary: Family::V6 },
    ];
    let policies = [FamilyPolicy::SingleStack, FamilyPolicy::PreferDualStack, FamilyPolicy::RequireDualStack];
    let protocol = bytes.pick(&[Protocol::Tcp, Protocol::Udp])?;
    let port = u16::from(bytes.of(3)?) + 80;
    let age = bytes.next()?;
    Some(Claim {
        service: service(bytes)?,
        uid: ServiceUid::default(),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        ports: BTreeSet::from([ServicePort { protocol, port }]),
        families: bytes.pick(&families)?,
        policy: bytes.pick(&policies)?,
        requested_addresses: vips(bytes)?,
        requested_pool: PoolName::new(bytes.pick(&["", "", "p0", "p1", "p9"])?),
        sharing_key: SharingKey::new(bytes.pick(&["", "k", "l"])?),
        backend_key: BackendKey(bytes.pick(&["", "", "local:a=b"])?.to_owned()),
        adopt: vips(bytes)?,
        created: Some(UnixMillis(u64::from(age))),
        retain: (age % 4 == 3).then(|| Duration::from_secs(u64::from(age / 8))),
        quota: (age % 8 >= 5).then(|| u32::from(age / 64)),
    })
}

fn configuration(bytes: &mut Bytes<'_>) -> Option<Configuration> {
    let mut pools = Vec::new();
    for number in 0..bytes.of(3)? {
        let ranges: Option<Vec<_>> = bytes.pick(POOLS)?.iter().map(|text| text.parse().ok()).collect();
        let (auto_assign, avoid_buggy_ips) = (bytes.of(4)? != 0, bytes.of(4)? == 0);
        let name = PoolName::new(&format!("p{number}"))?;
        pools.push(PoolSpec { name, ranges: ranges?, auto_assign, avoid_buggy_ips, allocation: None, labels: Labels::new() });
    }
    let everything = AdvertisementSpec {
        name: "all".to_owned(),
        pools: BTreeSet::new(),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: BTreeSet::new(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
    };
    let advertisements = if bytes.of(4)? == 0 { Vec::new() } else { vec![everything] };
    Some(Configuration::new(pools, advertisements).unwrap_or_default())
}

fn node(bytes: &mut Bytes<'_>) -> Option<NodeName> {
    NodeName::new(bytes.pick(&["node-a", "node-b", "node-c"])?)
}

fn reach(bytes: &mut Bytes<'_>) -> Option<Reach> {
    Some(match bytes.of(3)? {
        0 => Reach::Nowhere,
        1 => Reach::Anywhere,
        _ => Reach::Nodes(BTreeSet::from([node(bytes)?])),
    })
}

fn interfaces(bytes: &mut Bytes<'_>) -> Option<Vec<Interface>> {
    let mac = MacAddress([2, 0, 0, 0, 0, bytes.of(4)?]);
    let interface = Interface { name: InterfaceName::new("eth0")?, mac, addresses: Vec::new() };
    Some(if bytes.of(5)? == 0 { Vec::new() } else { vec![interface] })
}

fn message(bytes: &mut Bytes<'_>) -> Option<SpeakerMessage> {
    Some(match bytes.of(10)? {
        0 | 1 => {
            let speaker = SpeakerId { node: node(bytes)?, instance: Instance::new(bytes.pick(&["default", "two"])?)? };
            let role = bytes.pick(&[Role::Active, Role::Standby])?;
            let held: BTreeMap<_, _> = vips(bytes)?.into_iter().map(|vip| (vip, role)).collect();
            let taken = held.keys().take(bytes.of(2)?.into()).copied().collect();
            SpeakerMessage::Hello(Hello {
                speaker,
                boot_id: String::new(),
                interfaces: interfaces(bytes)?,
                held,
                taken,
                asks_first: role == Role::Active,
            })
        }
        2 => SpeakerMessage::Heartbeat { seq: 1, applied: Revision(u64::from(bytes.next()?)) },
        3 => {
            let failures = vips(bytes)?.into_iter().map(|vip| (vip, "no".to_owned())).collect();
            SpeakerMessage::Applied { revision: Revision(u64::from(bytes.next()?)), failures }
        }
        4 => SpeakerMessage::InterfacesChanged(interfaces(bytes)?),
        5 => SpeakerMessage::Suspected { vip: *vips(bytes)?.first()?, node: node(bytes)? },
        6 => {
            let answers = interfaces(bytes)?.into_iter().map(|interface| (interface.mac, interface.name)).collect();
            SpeakerMessage::Seen(vec![Sight { vip: *vips(bytes)?.first()?, answers }])
        }
        7 => SpeakerMessage::AddressInUse {
            vip: *vips(bytes)?.first()?,
            mac: MacAddress([2, 0, 0, 0, 9, 9]),
            interface: InterfaceName::new("eth0")?,
        },
        8 => SpeakerMessage::Proven(vips(bytes)?.into_iter().collect()),
        _ => SpeakerMessage::Draining,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("decide", super::check);
    }
}
