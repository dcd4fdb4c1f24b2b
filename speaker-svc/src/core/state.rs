//! What a speaker knows: its assignments, its interfaces, its session, and what is to be sent when.
//!
//! Kept small, as ten thousand VIPs are ordinary: what an assignment says is stored once and shared with the reply table, and equal
//! sets of peers are one set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Hello, Role, SpeakerMessage};
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{Interface, InterfaceName, MacAddress, SpeakerId};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::{Mono, UnixMillis};

use super::announce::Schedule;
use super::interfaces::{Interfaces, Port};
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

/// What was counted for a VIP; responder threads and the engine write, anybody reads.
#[derive(Debug, Default)]
pub struct Counters {
    answered: AtomicU64,
    last_answered: AtomicU64,
    gratuitous: AtomicU64,
}

impl Counters {
    /// Counts an answered request.
    pub fn note_answer(&self, at: UnixMillis) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.last_answered.store(at.0, Ordering::Relaxed);
    }

    /// Counts a gratuitous frame.
    pub fn note_gratuitous(&self) {
        self.gratuitous.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// When the last one was; zero = never.
    #[must_use]
    pub fn last_answered(&self) -> UnixMillis {
        UnixMillis(self.last_answered.load(Ordering::Relaxed))
    }

    /// Gratuitous frames sent.
    #[must_use]
    pub fn gratuitous(&self) -> u64 {
        self.gratuitous.load(Ordering::Relaxed)
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
        let macs = || assignment.peers.values().flatten();
        self.vip == assignment.vip
            && self.role == assignment.role
            && self.leads == leads(assignment)
            && self.interfaces == assignment.interfaces
            && self.probe_first == assignment.probe_first
            && self.active.as_deref() == ActivePeer::of(assignment).as_ref()
            && self.services.iter().map(|(service, pool)| (service, pool)).eq(&assignment.services)
            && macs().all(|mac| self.peers.contains(mac))
            && self.peers.iter().all(|mac| macs().any(|other| other == mac))
    }
}

/// Whether an assignment gives us the VIP to announce: the first in line is the one.
pub(super) fn leads(assignment: &Assignment) -> bool {
    assignment.role == Role::Active && assignment.rank == 0
}

/// Whether there is a question for addresses of the VIP's family.
pub(super) fn can_ask(vip: Vip) -> bool {
    vip.v4().is_some()
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
    /// IPv6, which this speaker cannot announce.
    Family,
    /// None of the interfaces it may be announced on exists.
    NoInterface,
    /// We ask first whether somebody else has it.
    Probing,
    /// Another machine has it.
    InUse,
}

impl Silence {
    /// What the allocator is told; `None` where nothing is wrong.
    #[must_use]
    pub const fn failure(self) -> Option<&'static str> {
        match self {
            Self::Standby | Self::Yielded | Self::Probing | Self::InUse => None,
            Self::Family => Some("this speaker announces IPv4 addresses only"),
            Self::NoInterface => Some("none of the interfaces it may be announced on exists on the node"),
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
    /// The VIPs that cannot be put in force.
    pub(super) failing: BTreeSet<Vip>,
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
            failing: BTreeSet::new(),
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
    pub fn answering(&self) -> impl Iterator<Item = &Arc<Assigned>> {
        self.vips.values().filter(|held| held.standing == Standing::Announced).map(|held| &held.assigned)
    }

    /// The VIPs that we have a part in and do not answer for, ascending.
    pub fn silent(&self) -> impl Iterator<Item = Vip> {
        self.vips.iter().filter(|(_, held)| held.standing != Standing::Announced).map(|(vip, _)| *vip)
    }

    /// The interfaces that can answer.
    #[must_use]
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// The interfaces that answer for a VIP.
    pub fn ports_of<'a>(&'a self, held: &'a Held) -> impl Iterator<Item = &'a Port> {
        let announced = held.standing == Standing::Announced;
        self.ports_for(&held.assigned).filter(move |_| announced)
    }

    /// The interfaces on which others can be asked for a VIP: those where it may be announced. For IPv6 addresses there is no question yet.
    pub fn ports_to_ask<'a>(&'a self, assigned: &'a Assigned) -> impl Iterator<Item = &'a Port> {
        self.ports_for(assigned).filter(|_| can_ask(assigned.vip))
    }

    /// The interfaces that would answer for a VIP.
    pub fn ports_for<'a>(&'a self, assigned: &'a Assigned) -> impl Iterator<Item = &'a Port> {
        self.interfaces.ports().filter(|port| assigned.allows(&port.name))
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
        let part = |held: &Held| match held.standing {
            Standing::Announced => Some(Role::Active),
            Standing::Silent(Silence::Standby | Silence::Yielded) => Some(Role::Standby),
            Standing::Silent(Silence::Family | Silence::NoInterface | Silence::Probing | Silence::InUse) => None,
        };
        Hello {
            speaker: self.settings.speaker.clone(),
            boot_id: self.settings.boot_id.clone(),
            interfaces: self.interface_list(),
            held: self.vips.iter().filter_map(|(vip, held)| Some((*vip, part(held)?))).collect(),
            taken: self.vigil.taken().clone(),
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
        let failure = |held: &Held| match held.standing {
            Standing::Announced => None,
            Standing::Silent(silence) => silence.failure(),
        };
        let held = self.failing.iter().filter_map(|vip| Some((*vip, self.vips.get(vip)?)));
        held.filter_map(|(vip, held)| Some((vip, failure(held)?.to_owned()))).collect()
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
        let failing = matches!(held.standing, Standing::Silent(silence) if silence.failure().is_some());
        if failing != state.failing.contains(vip) {
            return Err(Violation::Failing(*vip));
        }
        if announced && (held.assigned.role != Role::Active || vip.v4().is_none()) {
            return Err(Violation::Unfit(*vip));
        }
        let ports: BTreeSet<_> = state.ports_of(held).map(|port| port.index).collect();
        if ports != state.schedule.links_of(*vip) {
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
    if !state.schedule.is_consistent() || state.schedule.vips().any(|vip| !state.vips.contains_key(&vip)) {
        return Err(Violation::Queue);
    }
    Ok(())
}
