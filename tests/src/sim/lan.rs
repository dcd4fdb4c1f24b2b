//! The virtual LAN: who hears whom, how late, how often.
//!
//! One segment. A broadcast reaches every interface that is up, a unicast frame the one whose address it has. Between two interfaces
//! frames keep their order, as on a cable; between different ones they overtake each other. A cut has a direction.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use mooring_proto::types::node::MacAddress;
use mooring_proto::types::time::Mono;

use super::random::Random;

/// A machine of the simulated cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// A node with speakers.
    Node(u8),
    /// Asks for every VIP all the time.
    Client,
    /// Asks once for a VIP, and from then on only listens.
    Listener,
    /// Claims a VIP that is not its own.
    Stranger,
    /// Where the allocator runs; on no LAN, and reached over its own wires.
    Allocator,
}

/// A network interface of a machine, by number from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nic {
    /// The machine.
    pub machine: Machine,
    /// Which of its interfaces.
    pub port: u8,
}

impl Nic {
    /// The only interface of a machine.
    #[must_use]
    pub const fn of(machine: Machine) -> Self {
        Self { machine, port: 1 }
    }

    /// Its hardware address.
    #[must_use]
    pub const fn mac(self) -> MacAddress {
        let (kind, number) = match self.machine {
            Machine::Node(node) => (0xaa, node),
            Machine::Client => (0xcc, 1),
            Machine::Listener => (0xcc, 2),
            Machine::Stranger => (0xee, 0),
            Machine::Allocator => (0xdd, 0),
        };
        MacAddress([0x02, 0, 0, kind, number, self.port])
    }

    /// Its address on the link.
    #[must_use]
    pub const fn link_local(self) -> Ipv6Addr {
        let MacAddress([.., kind, number, port]) = self.mac();
        Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, kind, number, port])
    }
}

/// How good the wires are.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Frames that are lost, of a hundred.
    pub loss: u64,
    /// Frames that come twice, of a hundred.
    pub duplicates: u64,
    /// How long a frame takes at most.
    pub delay: Duration,
}

impl Quality {
    /// A LAN at rest.
    pub const GOOD: Self = Self { loss: 0, duplicates: 0, delay: Duration::from_micros(300) };
}

/// How long a frame takes at least.
const LEAST_DELAY: Duration = Duration::from_micros(30);

/// The wires.
#[derive(Debug)]
pub struct Wires {
    /// How good they are.
    pub quality: Quality,
    /// Who is not heard by whom.
    cuts: BTreeSet<(Machine, Machine)>,
    /// When the last frame between two interfaces arrives.
    last: BTreeMap<(Nic, Nic), Mono>,
}

impl Wires {
    /// Wires on which everybody hears everybody.
    #[must_use]
    pub fn new() -> Self {
        Self { quality: Quality::GOOD, cuts: BTreeSet::new(), last: BTreeMap::new() }
    }

    /// Whether a machine is heard by another one.
    #[must_use]
    pub fn carry_between(&self, from: Machine, to: Machine) -> bool {
        from == to || !self.cuts.contains(&(from, to))
    }

    /// From now on none of some machines is heard by any of others.
    pub fn cut(&mut self, from: &BTreeSet<Machine>, to: &BTreeSet<Machine>) {
        self.cuts.extend(from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))));
    }

    /// Everybody hears everybody again.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// When a frame arrives: once, twice or never.
    pub fn carry(&mut self, from: Nic, to: Nic, now: Mono, random: &mut Random) -> [Option<Mono>; 2] {
        if !self.carry_between(from.machine, to.machine) || random.chance(self.quality.loss) {
            return [None, None];
        }
        let after = self.last.get(&(from, to)).copied().unwrap_or_default();
        let first = (now + random.between(LEAST_DELAY, self.quality.delay)).max(after);
        let second = random.chance(self.quality.duplicates).then(|| first + random.between(LEAST_DELAY, self.quality.delay));
        self.last.insert((from, to), first);
        [Some(first), second]
    }
}

impl Default for Wires {
    fn default() -> Self {
        Self::new()
    }
}
