//! What a speaker knows: its assignments, its interfaces, its session, and what is to be sent when.
//!
//! Kept small, as ten thousand VIPs are ordinary: what an assignment says is stored once and shared with the reply table, and equal
//! sets of peers are one set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Hello, Role, SpeakerMessage};
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{Interface, InterfaceName, MacAddress, SpeakerId};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::announce::Schedule;
pub use super::counters::Counters;
use super::interfaces::{Interfaces, LinkIndex, Port};
use super::look::Looks;
use super::probe::Inquiry;
use super::standby::{self, ActivePeer, Vigil};

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are.
    pub speaker: SpeakerId,
    /// Fresh with each start.
    pub boot_id: String,
    /// Mean pause between two refreshes of a VIP; `None` = never.
    pub refresh: Option<Duration>,
    /// Where the pseudo-random jitter begins.
    pub seed: u64,
}

/// The stream to the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// None.
    Away,
    /// Open; the snapshot has not come.
    Joining,
    /// The allocator's word is complete.
    Live,
    /// Live, but a delta was missed; the snapshot has not come.
    Resyncing,
}

impl Session {
    /// The word for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Joining => "joining",
            Self::Live => "live",
            Self::Resyncing => "resyncing",
        }
    }

    /// Whether the allocator is there to decide.
    #[must_use]
    pub fn is_live(self) -> bool {
        match self {
            Self::Live | Self::Resyncing => true,
            Self::Away | Self::Joining => false,
        }
    }
}

/// An assignment as it is kept.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The address.
    pub vip: Vip,
    /// Our part.
    pub role: Role,
    /// Whether the VIP is ours to announce. An active speaker to whom it is not only answers, until another one has begun.
    pub leads: bool,
    /// The interfaces to announce on; empty = all.
    pub interfaces: BTreeSet<InterfaceName>,
    /// The Services that hold it, by name, with the pool.
    pub services: Box<[(ServiceKey, PoolName)]>,
    /// The hardware addresses of the peers.
    pub peers: Arc<BTreeSet<MacAddress>>,
    /// The other node that is active while we stand by, or was before we took over by ourselves.
    pub active: Option<Arc<ActivePeer>>,
    /// Whether to ask before it is announced whether somebody else has it.
    pub probe_first: bool,
    /// What was counted since we have the VIP, over all changes of the assignment.
    pub counters: Arc<Counters>,
}

impl Assigned {
    /// Whether the VIP may be announced on an interface.
    #[must_use]
    pub fn allows(&self, interface: &InterfaceName) -> bool {
        self.interfaces.is_empty() || self.interfaces.contains(interface)
    }

    /// Whether another one differs in more than its peers.
    #[must_use]
    pub fn differs_for_its_services(&self, other: &Self) -> bool {
        (self.role, &self.interfaces, &self.services) != (other.role, &other.interfaces, &other.services)
    }

    /// Whether an assignment says the same. What the rank says besides who leads is nothing to a speaker.
    #[must_use]
    pub fn says(&self, assignment: &Assignment) -> bool {
        self.vip == assignment.vip
            && self.role == assignment.role
            && self.leads == leads(assignment)
            && self.interfaces == assignment.interfaces
            && self.probe_first == assignment.probe_first
            && self.active.as_deref() == ActivePeer::of(assignment).as_ref()
            && self.services.iter().map(|(service, pool)| (service, pool)).eq(&assignment.services)
            && assignment.peers.values().flatten().copied().collect::<BTreeSet<MacAddress>>() == *self.peers
    }
}

/// Whether an assignment gives us the VIP to announce: the first in line is the one.
pub(super) fn leads(assignment: &Assignment) -> bool {
    assignment.role == Role::Active && assignment.rank == 0
}

/// Whether we answer for a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Announced,
    /// No.
    Silent(Silence),
}

/// Why we do not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// We stand by.
    Standby,
    /// A peer has it, and no allocator was there to ask.
    Yielded,
    /// None of the interfaces it may be announced on exists.
    NoInterface,
    /// We ask first whether somebody else has it.
    Probing,
    /// Another machine has it.
    InUse,
}

/// Why a VIP cannot be put in force here, so that another node should have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// None of the interfaces it may be announced on exists.
    NoInterface,
    /// It is in the network of interfaces of which none can answer, while others can.
    Away,
    /// It is an IPv6 address, and the interfaces it may be announced on have none.
    NoIpv6,
}

impl Failure {
    /// What the allocator and the log are told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoInterface => "none of the interfaces it may be announced on exists on the node",
            Self::Away => "the interface of the node that is in its network is down",
            Self::NoIpv6 => "none of the interfaces it may be announced on has an IPv6 address",
        }
    }
}

/// A stranger's claims to a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strife {
    /// How many were seen.
    pub claims: u64,
    /// The last stranger.
    pub mac: MacAddress,
    /// When the VIP was last defended.
    pub defended: Option<Mono>,
}

/// A VIP that we have a part in.
#[derive(Debug)]
pub struct Held {
    /// What the allocator said.
    pub assigned: Arc<Assigned>,
    /// Whether we answer.
    pub standing: Standing,
    /// On which interfaces.
    pub links: Arc<BTreeSet<LinkIndex>>,
    /// Strangers that claim it.
    pub strife: Option<Strife>,
}

/// All that a speaker knows.
#[derive(Debug)]
pub struct State {
    pub(super) settings: Settings,
    pub(super) vips: BTreeMap<Vip, Held>,
    pub(super) interfaces: Interfaces,
    pub(super) schedule: Schedule,
    pub(super) vigil: Vigil,
    pub(super) looks: Looks,
    pub(super) inquiry: Inquiry,
    pub(super) session: Session,
    pub(super) epoch: Epoch,
    pub(super) revision: Revision,
    /// When a drain ends at the latest; `None` = we are not asked to end.
    pub(super) drain: Option<Mono>,
    pub(super) drained: bool,
    /// The sets of peers that assignments share.
    pub(super) peer_sets: BTreeSet<Arc<BTreeSet<MacAddress>>>,
    /// All peers that we were ever told of: an allocator that has just started knows none but those that have come.
    pub(super) acquaintances: BTreeSet<MacAddress>,
    /// The sets of interfaces that VIPs share.
    pub(super) link_sets: BTreeSet<Arc<BTreeSet<LinkIndex>>>,
    /// The VIPs that cannot be put in force.
    pub(super) failing: BTreeMap<Vip, Failure>,
    /// How many VIPs are announced.
    pub(super) announced: usize,
}

impl State {
    /// A speaker that was told nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let schedule = Schedule::new(settings.refresh, settings.seed);
        let looks = Looks::new(settings.seed);
        Self {
            settings,
            vips: BTreeMap::new(),
            interfaces: Interfaces::default(),
            schedule,
            vigil: Vigil::default(),
            looks,
            inquiry: Inquiry::default(),
            session: Session::Away,
            epoch: Epoch::default(),
            revision: Revision::default(),
            drain: None,
            drained: false,
            peer_sets: BTreeSet::new(),
            acquaintances: BTreeSet::new(),
            link_sets: BTreeSet::new(),
            failing: BTreeMap::new(),
            announced: 0,
        }
    }

    /// What does not change.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The VIPs that we have a part in, by address.
    #[must_use]
    pub fn vips(&self) -> &BTreeMap<Vip, Held> {
        &self.vips
    }

    /// The VIPs that we answer for.
    pub fn answering(&self) -> impl Iterator<Item = &Held> {
        self.vips.values().filter(|held| held.standing == Standing::Announced)
    }

    /// The one copy of a set of interfaces.
    pub(super) fn share(&mut self, links: BTreeSet<LinkIndex>) -> Arc<BTreeSet<LinkIndex>> {
        if let Some(shared) = self.link_sets.get(&links) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(links);
        self.link_sets.insert(Arc::clone(&shared));
        shared
    }

    /// The VIPs that we have a part in and do not answer for, ascending.
    pub fn silent(&self) -> impl Iterator<Item = Vip> {
        self.vips.iter().filter(|(_, held)| held.standing != Standing::Announced).map(|(vip, _)| *vip)
    }

    /// Those of them that are asked for before they are announced.
    pub fn probed(&self) -> impl Iterator<Item = Vip> {
        self.inquiry.vips()
    }

    /// The interfaces that can answer.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The interfaces that answer for a VIP.
    pub fn ports_of<'a>(&'a self, held: &'a Held) -> impl Iterator<Item = &'a Port> {
        held.links.iter().filter_map(|link| self.interfaces.port(*link))
    }

    /// The interfaces that would answer for a VIP: where others can be asked for it.
    pub fn ports_for<'a>(&'a self, assigned: &Assigned) -> impl Iterator<Item = &'a Port> {
        self.interfaces.links_for(assigned.vip, &assigned.interfaces).into_iter().filter_map(|link| self.interfaces.port(link))
    }

    /// The stream to the allocator.
    #[must_use]
    pub fn session(&self) -> Session {
        self.session
    }

    /// The newest leadership seen.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest revision in force.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the process was asked to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// How many VIPs are announced.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.announced
    }

    /// What the allocator is told when it has to know everything: who we are, what we hold, and that we are about to end if so.
    #[must_use]
    pub fn greeting(&self) -> Vec<SpeakerMessage> {
        let draining = self.is_draining().then_some(SpeakerMessage::Draining);
        [SpeakerMessage::Hello(self.hello())].into_iter().chain(draining).collect()
    }

    /// What we cannot put in force we do not hold.
    pub(super) fn hello(&self) -> Hello {
        let part = |vip: &Vip, held: &Held| match held.standing {
            _ if self.failing.contains_key(vip) => None,
            Standing::Announced => Some(Role::Active),
            Standing::Silent(Silence::Standby | Silence::Yielded) => Some(Role::Standby),
            Standing::Silent(Silence::NoInterface | Silence::Probing | Silence::InUse) => None,
        };
        Hello {
            speaker: self.settings.speaker.clone(),
            boot_id: self.settings.boot_id.clone(),
            interfaces: self.interface_list(),
            held: self.vips.iter().filter_map(|(vip, held)| Some((*vip, part(vip, held)?))).collect(),
            taken: self.vigil.taken().clone(),
            asks_first: true,
        }
    }

    /// The interfaces that can answer, as the allocator wants them.
    #[must_use]
    pub fn interface_list(&self) -> Vec<Interface> {
        let one = |port: &Port| Interface { name: port.name.clone(), mac: port.mac, addresses: port.addresses.clone() };
        self.interfaces.ports().map(one).collect()
    }

    /// The VIPs that cannot be put in force, with the reason.
    #[must_use]
    pub fn failures(&self) -> BTreeMap<Vip, String> {
        self.failing.iter().map(|(vip, failure)| (*vip, failure.as_str().to_owned())).collect()
    }
}

/// Something that must always hold does not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The number of announced VIPs was miscounted.
    #[error("{counted} VIPs are counted as announced, {found} are")]
    Announced {
        /// As counted.
        counted: usize,
        /// As found.
        found: usize,
    },
    /// A VIP is announced that must be silent.
    #[error("{0} is announced against its assignment")]
    Unfit(Vip),
    /// A VIP is answered for on other interfaces than it should be.
    #[error("{0} is answered for on other interfaces than it should be")]
    Links(Vip),
    /// A VIP that is announced on an interface is not in the schedule, or the other way round.
    #[error("the schedule of {0} differs from the interfaces that answer for it")]
    Schedule(Vip),
    /// A VIP that cannot be put in force is not listed as such, or the other way round.
    #[error("the failure of {0} is not listed as it is")]
    Failing(Vip),
    /// A round is planned for a VIP that is not ours to announce.
    #[error("a round is planned for {0}, which is another one's to announce")]
    Loud(Vip),
    /// A first round waits for the allocator's word although it is there.
    #[error("a first round waits although the session is live")]
    Doubt,
    /// The nodes that are asked are not those that we stand by for.
    #[error("the nodes that are asked differ from those that we stand by for")]
    Vigil,
    /// The VIPs that are asked for are not those that wait for it.
    #[error("the VIPs that are asked for differ from those that wait for it")]
    Inquiry,
    /// The VIPs that are looked at are not those that we stand by for.
    #[error("the VIPs that are looked at differ from those that we stand by for")]
    Looks,
    /// A VIP counts as taken over that is not announced.
    #[error("{0} counts as taken over and is not announced")]
    Taken(Vip),
    /// The schedule's queue and its plans differ.
    #[error("the announcement queue and its plans differ")]
    Queue,
}

pub(super) fn audit(state: &State) -> Result<(), Violation> {
    let found = state.answering().count();
    if found != state.announced {
        return Err(Violation::Announced { counted: state.announced, found });
    }
    for (vip, held) in &state.vips {
        let announced = held.standing == Standing::Announced;
        if state.interfaces.failure(*vip, &held.assigned.interfaces).as_ref() != state.failing.get(vip) {
            return Err(Violation::Failing(*vip));
        }
        if announced && held.assigned.role != Role::Active {
            return Err(Violation::Unfit(*vip));
        }
        let links = if announced { state.interfaces.links_for(*vip, &held.assigned.interfaces) } else { BTreeSet::new() };
        if links != *held.links {
            return Err(Violation::Links(*vip));
        }
        if links != state.schedule.links_of(*vip) {
            return Err(Violation::Schedule(*vip));
        }
        if !held.assigned.leads && !state.schedule.is_quiet(*vip) {
            return Err(Violation::Loud(*vip));
        }
    }
    standby::audit(state)?;
    if state.session == Session::Live && state.schedule.has_doubts() {
        return Err(Violation::Doubt);
    }
    if state.failing.keys().any(|vip| !state.vips.contains_key(vip))
        || !state.schedule.is_consistent()
        || state.schedule.vips().any(|vip| !state.vips.contains_key(&vip))
    {
        return Err(Violation::Queue);
    }
    Ok(())
}
