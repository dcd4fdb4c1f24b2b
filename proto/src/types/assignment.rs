//! A VIP given to a speaker, and what a speaker says of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::address::Vip;
use super::lease::{Epoch, Revision};
use super::node::{Interface, InterfaceName, MacAddress, NodeName, SpeakerId};
use super::pool::PoolName;
use super::service::ServiceKey;

/// How often a speaker says that it lives, if the allocator does not say.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

/// Why an allocator ends a stream whose place another one has taken. A speaker that reads it comes back, but rarely: two processes that both
/// believe to be the one would take the place from each other for ever.
pub const REPLACED: &str = "another process with the same node and instance has said hello";

/// The part a speaker plays for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Answers for it.
    Active,
    /// Takes over when the active one is lost.
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Standby => "standby",
        })
    }
}

/// A VIP given to a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The address.
    pub vip: Vip,
    /// The part the speaker plays.
    pub role: Role,
    /// The place in the line of those that could announce it: 0 is the active one.
    pub rank: u32,
    /// The interfaces to announce on; empty = all.
    pub interfaces: BTreeSet<InterfaceName>,
    /// The Services that hold the address, with the pool it comes from.
    pub services: BTreeMap<ServiceKey, PoolName>,
    /// The other nodes whose speakers may announce it, with their hardware addresses: the same for all that are told at once.
    pub peers: Arc<BTreeMap<NodeName, BTreeSet<MacAddress>>>,
    /// To a speaker that stands by: the other node that is active.
    pub active: Option<NodeName>,
    /// Whether to ask, before it is announced, whether somebody else has it.
    pub probe_first: bool,
}

/// Who a speaker is and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The speaker.
    pub speaker: SpeakerId,
    /// Fresh with each start of its process.
    pub boot_id: String,
    /// Its interfaces that are up and can answer.
    pub interfaces: Vec<Interface>,
    /// The VIPs it has a part in.
    pub held: BTreeMap<Vip, Role>,
    /// Those of them for which it stood by, until it took them over by itself.
    pub taken: BTreeSet<Vip>,
    /// It asks who has a VIP before it announces it, where that is wanted, and says when nobody has.
    pub asks_first: bool,
}

/// Who answers for a VIP that another node announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// The address.
    pub vip: Vip,
    /// Everybody who answered, with the interface where the answer came in.
    pub answers: BTreeMap<MacAddress, InterfaceName>,
}

/// What a speaker says on its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakerMessage {
    /// Who it is; asks for a snapshot.
    Hello(Hello),
    /// It lives.
    Heartbeat {
        /// Counts the heartbeats of the stream.
        seq: u64,
        /// The newest revision in force.
        applied: Revision,
    },
    /// Assignments are in force.
    Applied {
        /// Up to this revision.
        revision: Revision,
        /// VIPs that could not be put in force, with the reason.
        failures: BTreeMap<Vip, String>,
    },
    /// Its interfaces are now these.
    InterfacesChanged(Vec<Interface>),
    /// Another machine claims a VIP.
    Conflict {
        /// The address.
        vip: Vip,
        /// The machine's hardware address.
        mac: MacAddress,
        /// Where it was seen.
        interface: InterfaceName,
    },
    /// It is about to end.
    Draining,
    /// A node does not answer for a VIP although it should.
    Suspected {
        /// The address.
        vip: Vip,
        /// The node.
        node: NodeName,
    },
    /// Another machine answers for a VIP that was to be asked for first; it is not announced.
    AddressInUse {
        /// The address.
        vip: Vip,
        /// The machine's hardware address.
        mac: MacAddress,
        /// Where its answer came in.
        interface: InterfaceName,
    },
    /// VIPs that were to be asked for first are announced, as nobody has answered.
    Proven(BTreeSet<Vip>),
    /// It has looked at VIPs that other nodes announce.
    Seen(Vec<Sight>),
}

/// What the allocator says on a speaker's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocatorMessage {
    /// All assignments.
    Snapshot {
        /// How often the speaker is to say that it lives.
        heartbeat: Duration,
        /// The allocator's leadership.
        epoch: Epoch,
        /// The position in the stream.
        revision: Revision,
        /// The assignments.
        assignments: Vec<Assignment>,
    },
    /// A change; its revision is one more than that of the message before.
    Delta {
        /// The position in the stream.
        revision: Revision,
        /// New or different assignments.
        upserts: Vec<Assignment>,
        /// Addresses that the speaker has no part in any more.
        removals: Vec<Vip>,
    },
    /// A heartbeat was heard.
    HeartbeatAck {
        /// Its number.
        seq: u64,
    },
    /// The allocator ends the stream.
    Goodbye {
        /// Why.
        reason: String,
        /// When to come back.
        retry_after: Duration,
    },
}
