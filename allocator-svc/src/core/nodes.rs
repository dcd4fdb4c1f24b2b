//! Nodes and their speakers: who is there, who was lost, where Services can be served (DESIGN 3.4).
//!
//! A speaker whose stream breaks has a short grace, one that is silent the whole time to live; one that says that it is draining goes
//! at once when its stream ends. What a speaker still has to be told stands here too, as the VIPs whose assignments changed since it was
//! last told: never a queue of messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Hello, Role, SpeakerMessage};
use mooring_proto::types::backends::{Backends, Reach};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::node::{EXCLUDE_LABEL, Interface, InterfaceName, MacAddress, NodeName, NodeSpec, SpeakerId};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::drain::Drains;
use super::parts::Parts;
use super::placement::{Placement, Unannounced};
use super::proven::Proven;
use super::quarantine;
use super::refusal::Refusal;
use super::sights::{self, Sighting, Sights};
use super::silence::Silence;
use super::state::{Book, Settings, State, Violation};
use super::strangers::Strangers;
use super::suspicion;
use super::{Event, Leadership, Now, SessionId};

/// A broken stream has the time to live divided by this to come back: a reconnect on a LAN takes a few milliseconds.
const GRACE_PART: u32 = 4;

/// How long a lost speaker is listed, so that people see that it was there.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What `--rebalance` counts by.
const MINUTE: Duration = Duration::from_secs(60);

/// A fact about a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpeakerEvent {
    /// It said Hello on a stream.
    Joined {
        /// The stream.
        session: SessionId,
        /// What it said.
        hello: Hello,
        /// When.
        at: Mono,
    },
    /// It said something.
    Heard {
        /// The stream.
        session: SessionId,
        /// The newest revision that it has in force, if it said so.
        applied: Option<Revision>,
        /// When.
        at: Mono,
    },
    /// Another one says that it does not answer.
    Suspected(SpeakerId),
    /// It had been lost and is heard again.
    Returned(SpeakerId),
    /// Its interfaces are now these.
    InterfacesChanged(SpeakerId, Vec<Interface>),
    /// It could not put these VIPs in force.
    Failed(SpeakerId, BTreeMap<Vip, String>),
    /// A stranger claims a VIP that it announces.
    ConflictSeen {
        /// The address.
        vip: Vip,
        /// The stranger.
        conflict: Conflict,
        /// When.
        at: Mono,
    },
    /// A stranger that is known has claimed its VIP again.
    ConflictRepeated {
        /// The address.
        vip: Vip,
        /// When.
        at: Mono,
    },
    /// A VIP's stranger has been silent for long.
    ConflictOver(Vip),
    /// A speaker was to announce a VIP and found it at another machine.
    FoundInUse {
        /// The address.
        vip: Vip,
        /// The machine.
        conflict: Conflict,
    },
    /// A speaker has looked at a VIP that another node announces.
    Seen {
        /// The address.
        vip: Vip,
        /// What it saw.
        sighting: Sighting,
    },
    /// It is about to end.
    DrainBegan(SpeakerId),
    /// Its stream broke; it may come back until then.
    GraceBegan(SpeakerId, Mono),
    /// It is gone, since then.
    Lost(SpeakerId, Mono),
    /// It has been gone for long, and nothing is its any more.
    Forgotten(SpeakerId),
    /// None has come since the start, for as long as those that were there before are waited for.
    Missed,
    /// It was told of all that had changed for it, or of a part.
    Told {
        /// The stream.
        session: SessionId,
        /// The message's revision.
        revision: Revision,
        /// The VIPs in it that it is to announce or stand by for.
        vips: BTreeSet<Vip>,
        /// The VIPs in it that it has no part in.
        removals: Vec<Vip>,
    },
}

/// A stranger that claims a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Its hardware address.
    pub mac: MacAddress,
    /// Where it was seen.
    pub interface: InterfaceName,
    /// By which node.
    pub node: NodeName,
}

/// How a speaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Its stream is open and it is heard.
    Live,
    /// Its stream broke; it may come back until then.
    Grace(Mono),
    /// It is about to end.
    Draining,
    /// It is gone.
    Lost,
    /// It announced something before this allocator started, and has not come back yet.
    Awaited,
}

/// A speaker.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// How it is.
    pub liveness: Liveness,
    /// Its process.
    pub boot_id: String,
    /// It asks who has a VIP before it announces it, where that is wanted.
    pub asks_first: bool,
    /// Its interfaces that are up and can answer.
    pub interfaces: Vec<Interface>,
    /// When it last said anything.
    pub heard: Mono,
    /// The newest revision of its stream that it has in force.
    pub applied: Revision,
    session: Option<SessionId>,
    needs_snapshot: bool,
    /// VIPs whose assignment changed since it was last told.
    untold: BTreeSet<Vip>,
    /// Others came, went or changed since it was last told: it is told of all VIPs that it has a part in.
    peers_untold: bool,
    /// VIPs that it was told of and has not yet said are in force.
    unapplied: BTreeMap<Revision, BTreeSet<Vip>>,
    /// VIPs that it cannot put in force, until its interfaces change.
    unable: BTreeSet<Vip>,
    /// Since it was last heard another one has said that it does not answer.
    suspected: bool,
    /// When it was given up.
    lost: Mono,
    /// Its entry in the network's deadlines.
    deadline: Option<Deadline>,
}

/// When a speaker's time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deadline {
    /// It is silent, and lost if that counts.
    Silence(Mono),
    /// It is lost, or forgotten, whoever else is heard.
    Certain(Mono),
}

impl Speaker {
    fn awaited() -> Self {
        Self {
            liveness: Liveness::Awaited,
            boot_id: String::new(),
            asks_first: false,
            interfaces: Vec::new(),
            heard: Mono::ZERO,
            applied: Revision::default(),
            session: None,
            needs_snapshot: false,
            untold: BTreeSet::new(),
            peers_untold: false,
            unapplied: BTreeMap::new(),
            unable: BTreeSet::new(),
            suspected: false,
            lost: Mono::ZERO,
            deadline: None,
        }
    }

    /// Whether it can be given a VIP.
    pub(super) fn is_live(&self) -> bool {
        self.liveness == Liveness::Live
    }

    /// Whether it may still announce what it announces.
    pub(super) fn may_announce(&self) -> bool {
        match self.liveness {
            Liveness::Live | Liveness::Grace(_) | Liveness::Awaited => true,
            Liveness::Draining | Liveness::Lost => false,
        }
    }

    /// Whether it is about to end and still announces.
    pub(super) fn is_draining(&self) -> bool {
        self.liveness == Liveness::Draining
    }

    /// Whether its stream broke while this allocator knew it: it may be dead, which an awaited one is not taken for.
    pub(super) fn is_broken_off(&self) -> bool {
        matches!(self.liveness, Liveness::Grace(_))
    }

    /// Whether it may well answer still for what it was once told: it does so without a stream, too.
    pub(super) fn may_answer(&self) -> bool {
        match self.liveness {
            Liveness::Live | Liveness::Draining | Liveness::Grace(_) => !self.interfaces.is_empty(),
            Liveness::Awaited => true,
            Liveness::Lost => false,
        }
    }

    /// Whether another one has said that it does not answer, since it was last heard.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspected
    }

    /// Whether it said that it cannot announce a VIP.
    pub(super) fn is_unable(&self, vip: Vip) -> bool {
        self.unable.contains(&vip)
    }
}

/// How far the allocator is, after its start or after it was cut off, in hearing of the speakers that announced something before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Recovery {
    /// There is nobody to wait for any more.
    #[default]
    Over,
    /// No speaker at all has come yet: it is the allocator that cannot be found, so nobody is missing.
    Unheard,
    /// All that were there are lost, within a moment: it is the allocator that is cut off. Who comes first does not have what all had.
    Forsaken,
    /// Some have come; those that have not by then are lost.
    Until(Mono),
}

impl Recovery {
    /// When it ends; `None` = it is over, or waits for the first speaker.
    fn end(self) -> Option<Mono> {
        match self {
            Self::Until(end) => Some(end),
            Self::Over | Self::Unheard | Self::Forsaken => None,
        }
    }
}

/// VIPs that a speaker is told of at once, when not of all: it announces the first ones while it reads of the next, and needs no room for the words
/// about all of them.
pub const PART: usize = 500;

/// What a speaker is to be told next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untold {
    /// All its assignments.
    Snapshot,
    /// What changed for these VIPs; if there are more they come next.
    Delta(BTreeSet<Vip>),
}

/// Who is there to announce, and who does.
#[derive(Clone, Debug, Default)]
pub struct Network {
    nodes: BTreeMap<NodeName, NodeSpec>,
    /// A watcher has told of the nodes since the start.
    nodes_told: bool,
    speakers: BTreeMap<SpeakerId, Speaker>,
    sessions: BTreeMap<SessionId, SpeakerId>,
    backends: BTreeMap<ServiceKey, Reach>,
    leased: BTreeMap<ServiceKey, Vec<Vip>>,
    placements: BTreeMap<Vip, Result<Placement, Unannounced>>,
    announced: BTreeSet<Vip>,
    strangers: Strangers,
    drains: Drains,
    sights: Sights,
    proven: Proven,
    parts: Parts,
    /// When each speaker is lost whoever else is heard, or forgotten if it is lost.
    deadlines: BTreeSet<(Mono, SpeakerId)>,
    silence: Silence,
    dirty: BTreeSet<Vip>,
    recovery: Recovery,
    /// The start found placements on the disk.
    restored: bool,
    /// VIPs found there whose speaker has not said that it has them: until the recovery ends it is not told to announce them, as another one
    /// may have taken them over meanwhile.
    unclaimed: BTreeSet<Vip>,
    /// When the spread of VIPs over the nodes was last looked at.
    rebalanced: Mono,
    /// No speaker is there, and none has been for so long that somebody has to mend that.
    speakers_missed: bool,
}

impl Network {
    /// The cluster's nodes; none = every node that has a speaker is eligible.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeName, NodeSpec> {
        &self.nodes
    }

    /// Whether it is known which nodes there are and what labels they have: after a start it is not, until a watcher tells.
    pub(super) fn knows_nodes(&self) -> bool {
        self.nodes_told
    }

    /// All speakers that were seen.
    #[must_use]
    pub fn speakers(&self) -> &BTreeMap<SpeakerId, Speaker> {
        &self.speakers
    }

    /// The speaker on a stream.
    #[must_use]
    pub fn speaker_of(&self, session: SessionId) -> Option<&SpeakerId> {
        self.sessions.get(&session)
    }

    /// Who announces each VIP, or why nobody does.
    #[must_use]
    pub fn placements(&self) -> &BTreeMap<Vip, Result<Placement, Unannounced>> {
        &self.placements
    }

    /// Whether a VIP's node has said that it announces it.
    #[must_use]
    pub fn is_announced(&self, vip: Vip) -> bool {
        self.announced.contains(&vip)
    }

    /// The stranger that claims a VIP.
    #[must_use]
    pub fn conflict(&self, vip: Vip) -> Option<&Conflict> {
        self.strangers.of(vip)
    }

    /// Whether a VIP is certainly ours; any other one is asked for before it is announced.
    #[must_use]
    pub fn is_proven(&self, vip: Vip) -> bool {
        self.proven.has(vip)
    }

    /// What another node has seen of a VIP last, since it is where it is.
    #[must_use]
    pub fn sighting(&self, vip: Vip) -> Option<&Sighting> {
        self.sights.of(vip)
    }

    /// How many VIPs are not answered for by the node that announces them, as others see it.
    #[must_use]
    pub fn unreachable(&self) -> usize {
        self.sights.unreachable()
    }

    /// How many VIPs others answer for as well.
    #[must_use]
    pub fn contested(&self) -> usize {
        self.sights.contested()
    }

    /// Whether a hardware address is that of a node.
    pub(super) fn has_mac(&self, mac: MacAddress) -> bool {
        self.speakers.values().flat_map(|speaker| &speaker.interfaces).any(|interface| interface.mac == mac)
    }

    /// How many VIPs a node announces.
    #[must_use]
    pub fn active_on(&self, node: &NodeName) -> usize {
        self.parts.active_on(node)
    }

    /// For how many VIPs a node stands by.
    #[must_use]
    pub fn standby_on(&self, node: &NodeName) -> usize {
        self.parts.standby_on(node)
    }

    /// The nodes that are drained.
    #[must_use]
    pub fn drains(&self) -> &Drains {
        &self.drains
    }

    /// How many VIPs a drained node announces, as no other is eligible.
    #[must_use]
    pub fn last_resort_on(&self, node: &NodeName) -> usize {
        self.parts.last_resort_on(node)
    }

    /// How many VIPs drained nodes announce, as no others are eligible.
    #[must_use]
    pub fn last_resorts(&self) -> usize {
        self.parts.last_resorts()
    }

    /// How many VIPs are in use and announced by nobody.
    #[must_use]
    pub fn unannounced(&self) -> usize {
        self.parts.unannounced()
    }

    /// The strangers that claim VIPs.
    pub(super) fn strangers(&self) -> &Strangers {
        &self.strangers
    }

    /// The VIPs in which a speaker has a part.
    pub(super) fn parts_of(&self, speaker: &SpeakerId) -> impl Iterator<Item = Vip> {
        self.parts.of(speaker)
    }

    /// The VIPs in which any speaker of a node has a part; some may come twice.
    pub(super) fn parts_of_node(&self, node: &NodeName) -> impl Iterator<Item = Vip> {
        self.parts.of_node(node)
    }

    /// The speakers of a speaker's node, itself among them.
    pub(super) fn on_node_of<'a>(&'a self, id: &'a SpeakerId) -> impl Iterator<Item = (&'a SpeakerId, &'a Speaker)> {
        let same = move |(other, _): &(&SpeakerId, &Speaker)| other.node == id.node;
        let mut before: Vec<_> = self.speakers.range(..id).rev().take_while(same).collect();
        before.reverse();
        before.into_iter().chain(self.speakers.range(id..).take_while(same))
    }

    /// Whether a VIP's speaker has still to say that it has it.
    pub(super) fn is_unclaimed(&self, vip: Vip) -> bool {
        self.unclaimed.contains(&vip)
    }

    /// Whether a speaker has come, and lives.
    fn is_there(&self, id: &SpeakerId) -> bool {
        self.speakers.get(id).is_some_and(Speaker::is_live)
    }

    /// Whether all speakers are lost, and none has come back.
    #[must_use]
    pub fn is_forsaken(&self) -> bool {
        self.recovery == Recovery::Forsaken
    }

    /// Whether speakers that announced something before the start may still come.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery != Recovery::Over
    }

    /// Whether somebody has to see to it that speakers come: there is none, for long.
    pub(super) fn misses_speakers(&self) -> bool {
        self.speakers_missed
    }

    /// Whether standbys are chosen only once all speakers are there: the first to come would otherwise have those of all.
    pub(super) fn holds_standbys_back(&self) -> bool {
        self.restored && self.is_recovering()
    }

    /// Why a node announces nothing whatever its speakers do; `None` = it may.
    #[must_use]
    pub fn bar(&self, node: &NodeName) -> Option<&'static str> {
        if self.nodes.is_empty() {
            return None;
        }
        match self.nodes.get(node) {
            None => Some("the cluster has no such node"),
            Some(spec) if spec.network_unavailable => Some("its condition NetworkUnavailable is True"),
            Some(spec) if spec.labels.contains_key(EXCLUDE_LABEL) => Some("it has the label that excludes it from external load balancers"),
            Some(_) => None,
        }
    }

    /// What a speaker with an open stream is to be told next.
    #[must_use]
    pub fn untold(&self, id: &SpeakerId) -> Option<Untold> {
        if !self.has_untold(id) {
            return None;
        }
        let speaker = self.speakers.get(id)?;
        if speaker.needs_snapshot {
            return Some(Untold::Snapshot);
        }
        let all = self.parts.of(id).filter(|_| speaker.peers_untold);
        Some(Untold::Delta(speaker.untold.iter().copied().chain(all).take(PART).collect()))
    }

    /// Whether there is anything to tell a speaker with an open stream. One that is lost may hear what it is told without being heard itself:
    /// it would withdraw what nobody has taken over. It waits, and yields to whoever has.
    #[must_use]
    pub fn has_untold(&self, id: &SpeakerId) -> bool {
        let untold = |speaker: &Speaker| speaker.needs_snapshot || !speaker.untold.is_empty() || speaker.peers_untold && self.parts.has(id);
        let hears = |speaker: &Speaker| speaker.session.is_some() && speaker.liveness != Liveness::Lost;
        self.speakers.get(id).is_some_and(|speaker| hears(speaker) && untold(speaker))
    }

    /// Whether it is known of each of these Services where it can be served.
    pub(super) fn knows_reach<'a>(&self, mut services: impl Iterator<Item = &'a ServiceKey>) -> bool {
        services.all(|service| self.backends.contains_key(service))
    }

    /// From where those of the Services that hold a VIP can be served of which that is known; `None` = of none.
    pub(super) fn reach<'a>(&self, services: impl Iterator<Item = &'a ServiceKey>) -> Option<Reach> {
        let known: Vec<&Reach> = services.filter_map(|service| self.backends.get(service)).collect();
        if known.is_empty() {
            return None;
        }
        if known.contains(&&Reach::Anywhere) {
            return Some(Reach::Anywhere);
        }
        let nodes = |reach: &Reach| match reach {
            Reach::Nodes(nodes) => nodes.clone(),
            Reach::Nowhere | Reach::Anywhere => BTreeSet::new(),
        };
        let serving: Vec<BTreeSet<NodeName>> = known.into_iter().map(nodes).filter(|nodes| !nodes.is_empty()).collect();
        let all = serving.iter().skip(1).fold(serving.first().cloned().unwrap_or_default(), |all, nodes| &all & nodes);
        let any: BTreeSet<NodeName> = serving.into_iter().flatten().collect();
        match (any.is_empty(), all.is_empty()) {
            (true, _) => Some(Reach::Nowhere),
            (false, true) => Some(Reach::Nodes(any)),
            (false, false) => Some(Reach::Nodes(all)),
        }
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The VIPs that are to be looked at.
    pub(super) fn dirty(&self) -> impl Iterator<Item = Vip> {
        self.dirty.iter().copied()
    }

    /// When the next speaker is lost unless it is heard, or the recovery ends.
    pub(super) fn next_deadline(&self, settings: &Settings) -> Option<Mono> {
        let over = self.strangers.next().map(|(at, _)| at);
        let lost = self.next_lost(settings).map(|(at, _)| at);
        [lost, over, self.recovery.end(), self.next_rebalance(settings)].into_iter().flatten().min()
    }

    /// Whose time is up next, and when.
    fn next_lost(&self, settings: &Settings) -> Option<(Mono, &SpeakerId)> {
        let certain = self.deadlines.first().map(|(at, id)| (*at, id));
        certain.into_iter().chain(self.silence.next(settings, self.speakers.len() == 1)).min()
    }

    /// When it has to be told that no speaker has come since the start, unless one comes.
    fn next_missed(&self, settings: &Settings) -> Option<Mono> {
        (self.recovery == Recovery::Unheard && !self.speakers_missed).then(|| Mono::ZERO + settings.recovery_window)
    }

    /// When the spread of VIPs is next looked at; never while speakers are still coming back after a start.
    pub(super) fn next_rebalance(&self, settings: &Settings) -> Option<Mono> {
        let pause = MINUTE.checked_div(settings.rebalance)?;
        (!self.is_recovering() && self.parts.are_on_several_nodes()).then(|| self.rebalanced + pause)
    }

    /// Takes a fact in. The book has taken it in already.
    pub(super) fn apply(&mut self, event: &Event, book: &Book, settings: &Settings) {
        match event {
            Event::EpochBegan(_) => {
                self.recovery = Recovery::Unheard;
                self.restored = !self.placements.is_empty();
                self.unclaimed = self.placements.iter().filter(|(_, placed)| placed.is_ok()).map(|(vip, _)| *vip).collect();
                let held = book.holders().keys().chain(self.placements.keys()).filter(|vip| quarantine::of(book, **vip).is_none());
                held.for_each(|vip| self.proven.add(*vip));
            }
            Event::LeaseGranted(lease) => {
                self.leased_now(&lease.service, lease.addresses.clone(), book);
                let adopted = book.claim(&lease.service).into_iter().flat_map(|claim| &claim.adopt);
                adopted.filter(|vip| lease.addresses.contains(vip)).for_each(|vip| self.proven.add(*vip));
            }
            Event::AddressReserved { reservation, .. } => self.quarantine_changed(reservation.key.address, book),
            Event::ReservationEnded { key, .. } => self.quarantine_changed(key.address, book),
            Event::LeaseReleased(service) => {
                self.leased_now(service, Vec::new(), book);
                self.forget_backends(service, book);
            }
            Event::ClaimMade(claim) => self.service_dirty(&claim.service),
            Event::ClaimForgotten(service) => {
                self.forget_backends(service, book);
                self.service_dirty(service);
            }
            Event::ConfigurationReplaced { .. } | Event::ViewReconciled => self.all_dirty(book),
            Event::NodesReplaced(nodes) => {
                let nodes = nodes.iter().map(|node| (node.name.clone(), node.clone())).collect();
                let before = std::mem::replace(&mut self.nodes, nodes);
                let were_told = std::mem::replace(&mut self.nodes_told, true);
                let changed = self.drains.replace(self.nodes.values());
                if were_told && differ_by_cordons_alone(&before, &self.nodes) {
                    self.drain_changed(&changed);
                } else {
                    self.all_dirty(book);
                }
            }
            Event::BackendsReported(reported) => {
                for Backends { service, reach } in reported {
                    self.backends.insert(service.clone(), reach.clone());
                    self.service_dirty(service);
                }
            }
            Event::RecoveryEnded => {
                self.recovery = Recovery::Over;
                // Only now is it known among whom the standbys are spread, and who announces nothing.
                self.dirty.extend(self.parts.alone().iter().chain(self.parts.awaited()));
                self.drain_changed(&[]);
                std::mem::take(&mut self.unclaimed).into_iter().for_each(|vip| self.assignment_changed(vip));
            }
            Event::NodeDrained { node, since } => {
                self.drains.begin(node, *since);
                self.drain_changed(std::slice::from_ref(node));
            }
            Event::NodeRestored(node) => {
                self.drains.end(node);
                self.drain_changed(std::slice::from_ref(node));
            }
            Event::Rebalanced(at) => self.rebalanced = *at,
            Event::VipPlaced { vip, placement } => self.place(*vip, Some(placement.clone()), settings),
            Event::VipDropped(vip) => {
                self.place(*vip, None, settings);
                self.proven.leave(*vip);
            }
            Event::VipKept(vip) => {
                self.dirty.remove(vip);
            }
            Event::VipAnnounced { vip, .. } => self.announced_now(*vip, settings),
            Event::Speaker(event) => self.apply_speaker(event, settings),
            Event::TermBegan(_)
            | Event::ShadowBegan
            | Event::ClaimDeferred(_)
            | Event::ClaimRefused { .. }
            | Event::LeaseUntenable { .. }
            | Event::ClaimRetried(_)
            | Event::ClaimMet(_)
            | Event::RevisionReached(_) => {}
        }
    }

    fn apply_speaker(&mut self, event: &SpeakerEvent, settings: &Settings) {
        match event {
            SpeakerEvent::Joined { session, hello, at } => {
                self.proven.at(*at);
                // What it answers for it has asked for, if that was to be done.
                let active = hello.held.iter().filter(|(_, role)| **role == Role::Active).map(|(vip, _)| *vip);
                let own = |vip: &Vip| self.placements.get(vip).into_iter().flatten().any(|placement| placement.active == hello.speaker);
                let own: Vec<Vip> = active.filter(own).collect();
                for vip in own {
                    self.proven.add(vip);
                    self.unclaimed.remove(&vip);
                }
                self.silence.hear(*at, settings);
                self.speakers_missed = false;
                if matches!(self.recovery, Recovery::Unheard | Recovery::Forsaken) {
                    self.recovery = Recovery::Until(*at + settings.recovery_window);
                }
                let macs = self.macs(&hello.speaker);
                let speaker = self.speakers.entry(hello.speaker.clone()).or_insert_with(Speaker::awaited);
                let old = speaker.session.replace(*session).filter(|old| old != session);
                speaker.liveness = Liveness::Live;
                speaker.boot_id.clone_from(&hello.boot_id);
                speaker.asks_first = hello.asks_first;
                speaker.interfaces.clone_from(&hello.interfaces);
                speaker.heard = *at;
                speaker.suspected = false;
                speaker.applied = Revision::default();
                speaker.needs_snapshot = true;
                speaker.unapplied.clear();
                speaker.unable.clear();
                old.map(|old| self.sessions.remove(&old));
                self.sessions.insert(*session, hello.speaker.clone());
                self.deadline_changed(&hello.speaker, settings);
                self.peers_changed(&hello.speaker, &macs);
                self.concerned_dirty(&hello.speaker);
            }
            SpeakerEvent::Heard { session, applied, at } => {
                self.proven.at(*at);
                let Some(id) = self.sessions.get(session).cloned() else { return };
                let Some(speaker) = self.speakers.get_mut(&id) else { return };
                self.silence.hear(*at, settings);
                if self.recovery == Recovery::Forsaken {
                    self.recovery = Recovery::Until(*at + settings.recovery_window);
                }
                speaker.heard = *at;
                speaker.suspected = false;
                if let Some(applied) = applied {
                    speaker.applied = speaker.applied.max(*applied);
                    speaker.unapplied = speaker.unapplied.split_off(&applied.next());
                }
                self.deadline_changed(&id, settings);
            }
            SpeakerEvent::Suspected(id) => {
                if let Some(speaker) = self.speakers.get_mut(id) {
                    speaker.suspected = true;
                }
                self.deadline_changed(id, settings);
            }
            SpeakerEvent::Returned(id) => {
                self.set_liveness(id, Liveness::Live, settings);
                self.concerned_dirty(id);
            }
            SpeakerEvent::InterfacesChanged(id, interfaces) => {
                let macs = self.macs(id);
                if let Some(speaker) = self.speakers.get_mut(id) {
                    speaker.interfaces.clone_from(interfaces);
                    speaker.unable.clear();
                }
                self.peers_changed(id, &macs);
                self.concerned_dirty(id);
            }
            SpeakerEvent::Failed(id, failures) => {
                if let Some(speaker) = self.speakers.get_mut(id) {
                    speaker.unable.extend(failures.keys());
                }
                self.dirty.extend(failures.keys());
            }
            SpeakerEvent::ConflictSeen { vip, conflict, at } => self.strangers.note(*vip, conflict, *at),
            SpeakerEvent::ConflictRepeated { vip, at } => {
                if let Some(conflict) = self.strangers.of(*vip).cloned() {
                    self.strangers.note(*vip, &conflict, *at);
                }
            }
            SpeakerEvent::ConflictOver(vip) => self.strangers.forget(*vip),
            SpeakerEvent::FoundInUse { vip, .. } => self.proven.lose(*vip),
            SpeakerEvent::Seen { vip, sighting } => self.sights.note(*vip, sighting),
            SpeakerEvent::DrainBegan(id) => {
                self.set_liveness(id, Liveness::Draining, settings);
                self.part_dirty(id);
            }
            SpeakerEvent::GraceBegan(id, until) => {
                self.close(id);
                self.set_liveness(id, Liveness::Grace(*until), settings);
                self.part_dirty(id);
            }
            SpeakerEvent::Lost(id, at) => {
                if let Some(speaker) = self.speakers.get_mut(id) {
                    speaker.lost = *at;
                }
                self.set_liveness(id, Liveness::Lost, settings);
                self.part_dirty(id);
                if self.are_lost_at_once(*at, settings) {
                    self.recovery = Recovery::Forsaken;
                    self.restored = true;
                    self.dirty.extend(self.parts.nodeless());
                }
            }
            SpeakerEvent::Forgotten(id) => {
                let deadline = self.speakers.remove(id).and_then(|speaker| speaker.deadline);
                self.forget_deadline(deadline, id);
                if self.speakers.is_empty() {
                    self.missed();
                }
            }
            SpeakerEvent::Missed => self.missed(),
            SpeakerEvent::Told { session, revision, vips, removals } => {
                let Some(id) = self.sessions.get(session) else { return };
                let Some(speaker) = self.speakers.get_mut(id) else { return };
                let all = std::mem::take(&mut speaker.peers_untold);
                if std::mem::take(&mut speaker.needs_snapshot) {
                    speaker.untold.clear();
                } else {
                    speaker.untold.extend(self.parts.of(id).filter(|_| all));
                    for vip in vips.iter().chain(removals) {
                        speaker.untold.remove(vip);
                    }
                }
                speaker.unapplied.insert(*revision, vips.clone());
            }
        }
    }

    /// Somebody has to see to it that speakers come; whoever waits for one is told so.
    fn missed(&mut self) {
        self.speakers_missed = true;
        self.dirty.extend(self.parts.nodeless());
    }

    /// Whether all speakers are lost, and several of them within a recovery window.
    fn are_lost_at_once(&self, at: Mono, settings: &Settings) -> bool {
        let lately = |speaker: &&Speaker| speaker.lost + settings.recovery_window >= at;
        let lost = |speaker: &Speaker| speaker.liveness == Liveness::Lost;
        self.speakers.values().all(lost) && self.speakers.values().filter(lately).nth(1).is_some()
    }

    fn set_liveness(&mut self, id: &SpeakerId, liveness: Liveness, settings: &Settings) {
        if let Some(speaker) = self.speakers.get_mut(id) {
            speaker.liveness = liveness;
        }
        self.deadline_changed(id, settings);
    }

    /// Brings a speaker's entry in the deadlines up to date.
    fn deadline_changed(&mut self, id: &SpeakerId, settings: &Settings) {
        let Some(speaker) = self.speakers.get_mut(id) else { return };
        let next = deadline(speaker, self.parts.has(id), settings);
        let before = std::mem::replace(&mut speaker.deadline, next);
        if before != next {
            self.forget_deadline(before, id);
            match next {
                Some(Deadline::Silence(due)) => self.silence.add(due, id),
                Some(Deadline::Certain(at)) => {
                    self.deadlines.insert((at, id.clone()));
                }
                None => {}
            }
        }
    }

    fn forget_deadline(&mut self, deadline: Option<Deadline>, id: &SpeakerId) {
        match deadline {
            Some(Deadline::Silence(due)) => self.silence.remove(due, id),
            Some(Deadline::Certain(at)) => {
                self.deadlines.remove(&(at, id.clone()));
            }
            None => {}
        }
    }

    fn close(&mut self, id: &SpeakerId) {
        if let Some(session) = self.speakers.get_mut(id).and_then(|speaker| speaker.session.take()) {
            self.sessions.remove(&session);
        }
    }

    fn leased_now(&mut self, service: &ServiceKey, vips: Vec<Vip>, book: &Book) {
        let before = self.leased.remove(service).unwrap_or_default();
        before.iter().filter(|vip| !book.holders().contains_key(vip)).for_each(|vip| self.proven.leave(*vip));
        for vip in before.iter().chain(&vips) {
            self.dirty.insert(*vip);
            self.assignment_changed(*vip);
        }
        if !vips.is_empty() {
            self.leased.insert(service.clone(), vips);
        }
    }

    /// Where a Service can be served is of no interest once it neither claims nor holds anything.
    fn forget_backends(&mut self, service: &ServiceKey, book: &Book) {
        if book.claim(service).is_none() && book.lease(service).is_none() {
            self.backends.remove(service);
        }
    }

    /// An address that another machine has is announced by nobody; afterwards it is looked at again.
    fn quarantine_changed(&mut self, vip: Vip, book: &Book) {
        let was = matches!(self.placements.get(&vip), Some(Err(Unannounced::InUse(_))));
        if self.placements.contains_key(&vip) && was != quarantine::of(book, vip).is_some() {
            self.dirty.insert(vip);
        }
    }

    fn service_dirty(&mut self, service: &ServiceKey) {
        self.dirty.extend(self.leased.get(service).into_iter().flatten());
    }

    fn all_dirty(&mut self, book: &Book) {
        self.dirty.extend(book.holders().keys().chain(self.placements.keys()));
    }

    /// The VIPs of these nodes are looked at again, and those of drained ones, which may have somewhere to go now.
    fn drain_changed(&mut self, nodes: &[NodeName]) {
        self.dirty.extend(nodes.iter().chain(self.drains.nodes()).flat_map(|node| self.parts.of_node(node)));
    }

    /// The VIPs in which a speaker has a part are looked at again.
    fn part_dirty(&mut self, id: &SpeakerId) {
        self.dirty.extend(self.parts.of(id));
    }

    /// The VIPs for which a speaker can do more or less than before are looked at again: those of its node, and those for which somebody
    /// is missing. All others stay where they are.
    fn concerned_dirty(&mut self, id: &SpeakerId) {
        self.dirty.extend(self.parts.of_node(&id.node).chain(self.parts.nodeless().iter().copied()));
        self.drain_changed(&[]);
        if self.holds_standbys_back() {
            // Standbys come when all are there; but a speaker that is about to end waits for somebody to follow it.
            let draining = self.speakers.iter().filter(|(_, speaker)| speaker.is_draining());
            self.dirty.extend(draining.flat_map(|(id, _)| self.parts.of(id)));
        } else {
            self.dirty.extend(self.parts.alone());
        }
    }

    /// The hardware addresses of a speaker's node, as others are told them.
    fn macs(&self, id: &SpeakerId) -> BTreeSet<MacAddress> {
        self.on_node_of(id).flat_map(|(_, speaker)| &speaker.interfaces).map(|interface| interface.mac).collect()
    }

    /// All others are told anew who a speaker is, if its node has other hardware addresses than before.
    fn peers_changed(&mut self, id: &SpeakerId, before: &BTreeSet<MacAddress>) {
        if self.macs(id) != *before {
            self.tell_peers(id);
        }
    }

    /// The speakers of all other nodes are told anew of all VIPs that they have a part in.
    fn tell_peers(&mut self, id: &SpeakerId) {
        for (_, other) in self.speakers.iter_mut().filter(|(other, _)| other.node != id.node) {
            other.peers_untold = true;
        }
    }

    /// Whoever has a part in a VIP is told anew, and its word about an older message says nothing about the part it has now.
    fn assignment_changed(&mut self, vip: Vip) {
        for part in self.placements.get(&vip).into_iter().flatten().flat_map(Placement::speakers) {
            if let Some(speaker) = self.speakers.get_mut(part) {
                speaker.untold.insert(vip);
                speaker.unapplied.values_mut().for_each(|vips| {
                    vips.remove(&vip);
                });
            }
        }
    }

    fn place(&mut self, vip: Vip, placement: Option<Result<Placement, Unannounced>>, settings: &Settings) {
        self.dirty.remove(&vip);
        self.assignment_changed(vip);
        let before = self.placements.remove(&vip);
        before.iter().for_each(|before| self.parts.remove(vip, before));
        placement.iter().for_each(|placement| self.parts.add(vip, placement));
        let before = before.and_then(Result::ok);
        let after = placement.as_ref().and_then(|placed| placed.as_ref().ok());
        for speaker in after.into_iter().flat_map(Placement::speakers) {
            if !self.speakers.contains_key(speaker) {
                self.speakers.insert(speaker.clone(), Speaker::awaited());
            }
        }
        if before.as_ref().map(|before| &before.active) != after.map(|after| &after.active) {
            self.announced.remove(&vip);
            self.unclaimed.remove(&vip);
            self.strangers.forget(vip);
            self.sights.forget(vip);
        }
        for speaker in before.iter().chain(after).flat_map(Placement::speakers) {
            self.deadline_changed(speaker, settings);
        }
        if let Some(placement) = placement {
            self.placements.insert(vip, placement);
        }
        self.assignment_changed(vip);
    }

    /// The active speaker announces: whoever went on until then is released.
    fn announced_now(&mut self, vip: Vip, settings: &Settings) {
        self.announced.insert(vip);
        self.proven.add(vip);
        self.assignment_changed(vip);
        let mut released = None;
        if let Some(placed) = self.placements.get_mut(&vip) {
            self.parts.remove(vip, placed);
            released = placed.as_mut().ok().and_then(Placement::release);
            self.parts.add(vip, placed);
        }
        released.iter().for_each(|released| self.deadline_changed(released, settings));
        self.assignment_changed(vip);
        self.dirty.insert(vip);
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(super) fn audit(&self, book: &Book, settings: &Settings) -> Result<(), Violation> {
        let mut parts = Parts::default();
        for (vip, placed) in &self.placements {
            parts.add(*vip, placed);
            let Ok(placement) = placed else { continue };
            let settled = !self.dirty.contains(vip);
            let lost = self.speakers.get(&placement.active).is_none_or(|speaker| speaker.liveness == Liveness::Lost);
            if settled && lost {
                return Err(Violation(format!("{vip} is placed on {}, which is lost", placement.active)));
            }
            if placement.standby.as_ref() == Some(&placement.active) || placement.outgoing.as_ref() == Some(&placement.active) {
                return Err(Violation(format!("{} plays two parts for {vip}", placement.active)));
            }
            if settled && book.is_reconciled() && !book.holders().contains_key(vip) {
                return Err(Violation(format!("{vip} is placed and leased to nobody")));
            }
        }
        let (mut silences, mut deadlines) = (BTreeSet::new(), BTreeSet::new());
        for (id, speaker) in &self.speakers {
            match deadline(speaker, self.parts.has(id), settings) {
                Some(Deadline::Silence(due)) => silences.insert((due, id.clone())),
                Some(Deadline::Certain(at)) => deadlines.insert((at, id.clone())),
                None => false,
            };
        }
        if deadlines != self.deadlines || !self.silence.is_of(&silences) {
            return Err(Violation("the deadlines differ from the speakers".to_owned()));
        }
        if let Some(service) = self.backends.keys().find(|service| book.claim(service).is_none() && book.lease(service).is_none()) {
            return Err(Violation(format!("{service} claims and holds nothing, and its backends are kept")));
        }
        if parts != self.parts {
            return Err(Violation("the indexes by speaker and node differ from the placements".to_owned()));
        }
        Ok(())
    }
}

/// Whether the nodes are the same but for which are cordoned.
fn differ_by_cordons_alone(before: &BTreeMap<NodeName, NodeSpec>, now: &BTreeMap<NodeName, NodeSpec>) -> bool {
    let alike = |(one, other): (&NodeSpec, &NodeSpec)| *one == NodeSpec { cordoned: one.cordoned, ..other.clone() };
    before.len() == now.len() && before.values().zip(now.values()).all(alike)
}

/// When a speaker is lost unless it is heard, or forgotten: not before its stream has ended, on which it may be heard again, and all that
/// it had is others'.
fn deadline(speaker: &Speaker, has_parts: bool, settings: &Settings) -> Option<Deadline> {
    match speaker.liveness {
        Liveness::Live | Liveness::Draining if speaker.suspected => Some(Deadline::Certain(speaker.heard + suspicion::patience(settings))),
        Liveness::Live | Liveness::Draining => Some(Deadline::Silence(speaker.heard + settings.speaker_ttl)),
        Liveness::Grace(until) => Some(Deadline::Certain(until)),
        Liveness::Lost => (speaker.session.is_none() && !has_parts).then(|| Deadline::Certain(speaker.lost + FORGOTTEN_AFTER)),
        Liveness::Awaited => None,
    }
}

/// All nodes. Those that are known already change nothing; that there are none is news after a start.
pub(super) fn replace(state: &State, leadership: Leadership, nodes: Vec<NodeSpec>) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    let known = &state.network.nodes;
    if !state.network.nodes_told || nodes.len() != known.len() || nodes.iter().any(|node| known.get(&node.name) != Some(node)) {
        events.push(Event::NodesReplaced(nodes));
    }
    Ok(events)
}

/// Where Services can be served. What is known already changes nothing, nor does what is said of a Service that claims and holds nothing.
pub(super) fn report_backends(state: &State, leadership: Leadership, backends: Vec<Backends>) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    let concerned = |service: &ServiceKey| state.book.claim(service).is_some() || state.book.lease(service).is_some();
    let news = |reported: &Backends| concerned(&reported.service) && state.network.backends.get(&reported.service) != Some(&reported.reach);
    let news: Vec<Backends> = backends.into_iter().filter(news).collect();
    if !news.is_empty() {
        events.push(Event::BackendsReported(news));
    }
    Ok(events)
}

/// A speaker's word. On a stream that said no Hello nothing but Hello counts, and nothing at all on one that a newer one has replaced.
pub(super) fn said(state: &State, session: SessionId, message: SpeakerMessage, now: Now) -> Vec<Event> {
    let network = &state.network;
    if let SpeakerMessage::Hello(hello) = message {
        return joined(state, session, hello, now);
    }
    let Some((id, speaker)) = network.sessions.get(&session).and_then(|id| Some((id, network.speakers.get(id)?))) else {
        return Vec::new();
    };
    let heard = |applied| Event::Speaker(SpeakerEvent::Heard { session, applied, at: now.mono });
    let mut events = match message {
        SpeakerMessage::Hello(_) => Vec::new(),
        SpeakerMessage::Heartbeat { applied, .. } => in_force(network, id, speaker, applied, heard(Some(applied))),
        SpeakerMessage::Applied { revision, mut failures } => {
            let mut events = in_force(network, id, speaker, revision, heard(Some(revision)));
            failures
                .retain(|vip, _| network.placements.get(vip).into_iter().flatten().flat_map(Placement::speakers).any(|part| part == id));
            if !failures.is_empty() {
                events.retain(|event| !matches!(event, Event::VipAnnounced { vip, .. } if failures.contains_key(vip)));
                events.push(Event::Speaker(SpeakerEvent::Failed(id.clone(), failures)));
            }
            events
        }
        SpeakerMessage::InterfacesChanged(interfaces) if interfaces == speaker.interfaces => vec![heard(None)],
        SpeakerMessage::InterfacesChanged(interfaces) => {
            vec![heard(None), Event::Speaker(SpeakerEvent::InterfacesChanged(id.clone(), interfaces))]
        }
        SpeakerMessage::Conflict { vip, mac, interface } => {
            let conflict = Conflict { mac, interface, node: id.node.clone() };
            let announces = network.placements.get(&vip).into_iter().flatten().any(|placement| placement.active == *id);
            let claimed = (announces && !network.has_mac(mac)).then(|| network.strangers.claimed(vip, conflict, now.mono));
            std::iter::once(heard(None)).chain(claimed).collect()
        }
        SpeakerMessage::AddressInUse { vip, mac, interface } => {
            let conflict = Conflict { mac, interface, node: id.node.clone() };
            std::iter::once(heard(None)).chain(quarantine::found(state, id, vip, conflict, now)).collect()
        }
        SpeakerMessage::Proven(vips) => {
            let own = |vip: &Vip| network.placements.get(vip).into_iter().flatten().any(|placement| placement.active == *id);
            let announced = vips.into_iter().filter(own).filter(|vip| !network.announced.contains(vip));
            let announced = announced.map(|vip| Event::VipAnnounced { vip, by: id.clone() });
            std::iter::once(heard(None)).chain(announced).collect()
        }
        SpeakerMessage::Seen(sights) => std::iter::once(heard(None)).chain(sights::seen(network, id, sights, now)).collect(),
        SpeakerMessage::Suspected { vip, node } => {
            std::iter::once(heard(None)).chain(suspicion::suspected(network, id, vip, &node)).collect()
        }
        SpeakerMessage::Draining if speaker.is_draining() => vec![heard(None)],
        SpeakerMessage::Draining => vec![heard(None), Event::Speaker(SpeakerEvent::DrainBegan(id.clone()))],
    };
    if speaker.liveness == Liveness::Lost {
        events.insert(0, Event::Speaker(SpeakerEvent::Returned(id.clone())));
    }
    events
}

/// The VIPs that a speaker now announces by its own word.
fn in_force(network: &Network, id: &SpeakerId, speaker: &Speaker, applied: Revision, heard: Event) -> Vec<Event> {
    let vips = speaker.unapplied.range(..=applied).flat_map(|(_, vips)| vips);
    let own = |vip: &&Vip| network.placements.get(vip).into_iter().flatten().any(|placement| placement.active == *id);
    // Of what it asks for first the speaker says itself when it is announced.
    let begun = |vip: &&Vip| (network.is_proven(**vip) || !speaker.asks_first) && !network.announced.contains(vip);
    let announced: BTreeSet<Vip> = vips.filter(own).filter(begun).copied().collect();
    std::iter::once(heard).chain(announced.into_iter().map(|vip| Event::VipAnnounced { vip, by: id.clone() })).collect()
}

/// A speaker comes, or comes back. What it announces is left with it where nobody else has it: an allocator that lost its records must
/// not take an address away from whoever answers for it, nor one that gave a speaker up too soon, as long as the other one to which the
/// address moved has not said that it announces it. While speakers come back after a start, one that took over by itself has it for certain:
/// whoever had it before did not answer, and yields.
fn joined(state: &State, session: SessionId, hello: Hello, now: Now) -> Vec<Event> {
    let network = &state.network;
    let present = network.speakers.get(&hello.speaker).and_then(|speaker| speaker.session);
    if present.is_some_and(|present| session < present) {
        // The speaker left that stream before it opened the present one: what a broken network held up comes late.
        return Vec::new();
    }
    let held: Vec<Vip> = hello.held.iter().filter(|(_, role)| **role == Role::Active).map(|(vip, _)| *vip).collect();
    let ours = |vip: &Vip| state.book.holders().contains_key(vip) || !state.book.is_reconciled();
    let lost = network.speakers.get(&hello.speaker).is_some_and(|speaker| speaker.liveness == Liveness::Lost);
    let nobodys = |vip: &Vip| match network.placements.get(vip) {
        Some(Ok(placement)) if placement.active == hello.speaker => false,
        Some(Ok(_)) if lost && !network.announced.contains(vip) => true,
        Some(Ok(placement)) if network.is_unclaimed(*vip) && network.is_there(&placement.active) => true,
        Some(Ok(_)) if network.is_recovering() && hello.taken.contains(vip) => true,
        Some(Ok(placement)) => network.speakers.get(&placement.active).is_none_or(|other| !other.may_announce()),
        Some(Err(_)) | None => true,
    };
    let adopt = |vip: &Vip| nobodys(vip).then(|| Placement::on(hello.speaker.clone()));
    let adopted = held.into_iter().filter(ours).filter_map(|vip| {
        let placement = adopt(&vip).or_else(|| unfinished(network, vip, &hello.speaker))?;
        Some(Event::VipPlaced { vip, placement: Ok(placement) })
    });
    let adopted: Vec<Event> = adopted.collect();
    let stands_by = hello.held.iter().filter(|(_, role)| **role == Role::Standby && network.is_recovering());
    let stood_by =
        stands_by.filter_map(|(vip, _)| given_up(network, *vip, &hello.speaker).or_else(|| prepared(network, *vip, &hello.speaker)));
    let stood_by: Vec<Event> = stood_by.collect();
    // A stream has one speaker: whoever it was before has none any more.
    let before = network.sessions.get(&session).filter(|before| **before != hello.speaker);
    let before = before.map(|_| session_ended(state, session, now)).unwrap_or_default();
    // A VIP is not given to one that is lost; and joining comes last, as it has the speaker's VIPs looked at, also those adopted: it may
    // hold what it must not announce any more.
    let returned = lost.then(|| Event::Speaker(SpeakerEvent::Returned(hello.speaker.clone())));
    let joined = Event::Speaker(SpeakerEvent::Joined { session, hello, at: now.mono });
    before.into_iter().chain(returned).chain(stood_by).chain(adopted).chain([joined]).collect()
}

/// What a start has interrupted: a speaker answers for a VIP that was to move to another one, which has not said that it announces it. It
/// goes on until that one has.
fn unfinished(network: &Network, vip: Vip, outgoing: &SpeakerId) -> Option<Placement> {
    let placement = network.placements.get(&vip)?.as_ref().ok()?;
    let is_open = network.is_recovering() && !network.announced.contains(&vip) && placement.outgoing.is_none();
    (is_open && placement.active != *outgoing).then(|| Placement { outgoing: Some(outgoing.clone()), ..placement.clone() })
}

/// After a start a speaker only stands by for a VIP that is placed on it: whoever answers for it has it, or has taken it over meanwhile and
/// will say so.
fn given_up(network: &Network, vip: Vip, by: &SpeakerId) -> Option<Event> {
    let placement = network.placements.get(&vip)?.as_ref().ok().filter(|placement| placement.active == *by)?;
    let placement = placement.outgoing.clone().map(Placement::on).ok_or(Unannounced::HolderAwaited);
    Some(Event::VipPlaced { vip, placement })
}

/// After a start a speaker stands by for a VIP as it did before: all the others are not there yet, among whom a standby is chosen, and the
/// allocator may be away again before they are.
fn prepared(network: &Network, vip: Vip, by: &SpeakerId) -> Option<Event> {
    let placement = network.placements.get(&vip)?.as_ref().ok()?;
    let is_free = placement.standby.is_none() && placement.outgoing.as_ref() != Some(by);
    let placement = Placement { standby: Some(by.clone()), ..placement.clone() };
    is_free.then_some(Event::VipPlaced { vip, placement: Ok(placement) })
}

/// A stream ended: a draining speaker is gone, any other has a short grace.
pub(super) fn session_ended(state: &State, session: SessionId, now: Now) -> Vec<Event> {
    let network = &state.network;
    let Some(id) = network.sessions.get(&session) else { return Vec::new() };
    let Some(speaker) = network.speakers.get(id) else { return Vec::new() };
    let until = (now.mono + state.settings.speaker_ttl / GRACE_PART).max(network.silence.excused_until(now.mono, &state.settings));
    let grace = Event::Speaker(SpeakerEvent::GraceBegan(id.clone(), until));
    match speaker.liveness {
        Liveness::Live | Liveness::Grace(_) | Liveness::Awaited => vec![grace],
        Liveness::Draining | Liveness::Lost => vec![grace, Event::Speaker(SpeakerEvent::Lost(id.clone(), now.mono))],
    }
}

/// When it has to be told that no speaker has come since the start; a shadow has none.
pub(super) fn next_missed(state: &State) -> Option<Mono> {
    state.network.next_missed(&state.settings).filter(|_| !state.is_shadow())
}

/// The first speaker whose time is up is lost, or forgotten if it was; then a stranger is; then speakers are missed, or the recovery ends.
/// `None` if no time is up.
pub(super) fn expire_next(state: &State, now: Now) -> Option<Vec<Event>> {
    let network = &state.network;
    if let Some((_, id)) = network.next_lost(&state.settings).filter(|(at, _)| *at <= now.mono) {
        let is_lost = network.speakers.get(id).is_none_or(|speaker| speaker.liveness == Liveness::Lost);
        let event = if is_lost { SpeakerEvent::Forgotten(id.clone()) } else { SpeakerEvent::Lost(id.clone(), now.mono) };
        return Some(vec![Event::Speaker(event)]);
    }
    if let Some((_, vip)) = network.strangers.next().filter(|(at, _)| *at <= now.mono) {
        return Some(vec![Event::Speaker(SpeakerEvent::ConflictOver(vip))]);
    }
    if next_missed(state).is_some_and(|at| at <= now.mono) {
        return Some(vec![Event::Speaker(SpeakerEvent::Missed)]);
    }
    network.recovery.end().filter(|end| *end <= now.mono)?;
    let awaited = network.speakers.iter().filter(|(_, speaker)| speaker.liveness == Liveness::Awaited);
    let lost = awaited.map(|(id, _)| Event::Speaker(SpeakerEvent::Lost(id.clone(), now.mono)));
    Some(lost.chain([Event::RecoveryEnded]).collect())
}

#[cfg(test)]
mod tests;
