//! Every decision of a speaker, as functions over plain data.
//!
//! [`decide`] turns a [`Command`] into [`Event`]s and changes nothing, [`apply`] takes an event into the [`State`], [`next_deadline`]
//! says when the engine has to send a [`Command::Tick`], and [`audit`] checks what must always hold. A speaker never refuses a command:
//! what it cannot do becomes a failure that it reports to the allocator, so `decide` has no error.
//!
//! Messages that only tell the state as it is (`Hello`, `Applied`) are asked of the state after the events were applied:
//! [`State::greeting`], [`State::failures`]. Frames and replies are [`reply`]'s, which the responder threads call on their own.

use std::sync::Arc;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::AllocatorMessage;
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{InterfaceName, MacAddress, NodeName};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

pub mod announce;
pub mod assignment;
pub mod chance;
pub mod conflict;
pub mod counters;
pub mod drain;
pub mod heed;
pub mod interfaces;
pub mod look;
pub mod pace;
pub mod peers;
pub mod probe;
pub mod reply;
pub mod standby;
pub mod state;
pub mod word;

use announce::Phase;
use interfaces::{Link, LinkIndex, Port};
use look::Answers;
use standby::Addressee;
use state::{Assigned, Failure, Session, Standing};
pub use state::{Settings, State, Violation};

/// A wish, or news from outside.
#[derive(Clone, Debug)]
pub enum Command {
    /// A stream to the allocator is open.
    OpenSession,
    /// The allocator said something on the stream.
    Hear(AllocatorMessage),
    /// The stream is gone, or its acknowledgements stayed away.
    CloseSession,
    /// The node's links are now these.
    ReplaceLinks(Vec<Link>),
    /// Another station says that it has a VIP in which we have a part.
    NoteClaim {
        /// The address.
        vip: Vip,
        /// The station.
        mac: MacAddress,
        /// Where it was seen.
        link: LinkIndex,
    },
    /// The process is asked to end.
    Drain,
    /// A deadline has passed.
    Tick,
}

/// What became of a Service's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// We answer for it from now on.
    Announced,
    /// We answer no more.
    Withdrawn(Withdrawal),
    /// Something else about it changed.
    Noted,
}

/// Why we stopped to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withdrawal {
    /// The allocator gave the address to another node, or nobody holds it any more.
    NotOwner,
    /// A peer announces it and no allocator is there to ask.
    YieldedToPeer,
    /// The process ends.
    Draining,
    /// No interface is left on which the address may be announced.
    InterfaceGone,
}

impl Withdrawal {
    /// As logs have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOwner => "notOwner",
            Self::YieldedToPeer => "yieldedToPeer",
            Self::Draining => "draining",
            Self::InterfaceGone => "interfaceGone",
        }
    }
}

/// A fact.
#[derive(Clone, Debug)]
pub enum Event {
    /// The session is now in this state.
    SessionChanged(Session),
    /// The allocator has to be told who we are and what we hold; it answers with a snapshot.
    HelloDue,
    /// An allocator of an older leadership spoke; its session must end.
    EpochRefused {
        /// The allocator's leadership.
        epoch: Epoch,
        /// The newest one seen.
        newest: Epoch,
    },
    /// The assignments are those of this revision.
    RevisionReached {
        /// The allocator's leadership.
        epoch: Epoch,
        /// The position in the stream.
        revision: Revision,
    },
    /// The allocator has to be told what is in force and what is not.
    AppliedDue,
    /// A VIP was given to us, or its assignment changed.
    AssignmentStored(Arc<Assigned>),
    /// We have no part in a VIP any more.
    AssignmentRemoved(Vip),
    /// Whether we answer for a VIP changed.
    StandingChanged {
        /// The address.
        vip: Vip,
        /// Whether, and why not.
        standing: Standing,
    },
    /// What that means for one Service; changes nothing by itself.
    ServiceUpdated {
        /// The address.
        vip: Vip,
        /// The Service.
        service: ServiceKey,
        /// The pool of the address.
        pool: PoolName,
        /// What became of it.
        change: Change,
    },
    /// A VIP cannot be put in force; changes nothing by itself.
    AssignmentFailed {
        /// The address.
        vip: Vip,
        /// Why.
        failure: Failure,
    },
    /// The node's links are now these.
    LinksReplaced(Vec<Link>),
    /// An interface can answer from now on.
    PortOpened(Port),
    /// An interface cannot answer any more.
    PortClosed(Port),
    /// Other interfaces may answer for a VIP than before.
    ReachChanged,
    /// The allocator has to be told the interfaces.
    InterfacesDue,
    /// A gratuitous round, or a probe, has to go out on an interface.
    AnnouncementDue {
        /// The address.
        vip: Vip,
        /// The interface.
        link: LinkIndex,
        /// For which cause.
        phase: Phase,
    },
    /// A stranger claims a VIP that we answer for.
    ConflictSeen {
        /// The address.
        vip: Vip,
        /// The stranger.
        mac: MacAddress,
        /// Where.
        interface: InterfaceName,
        /// Whether it is time to defend the address and to report the stranger.
        defend: bool,
    },
    /// A peer announces a VIP that is ours by the allocator's word.
    PeerContradicted {
        /// The address.
        vip: Vip,
        /// The peer.
        mac: MacAddress,
        /// Where.
        link: LinkIndex,
    },
    /// A peer took a VIP over while no allocator was there, or before it could say whose the VIP is.
    Yielded {
        /// The address.
        vip: Vip,
        /// The peer.
        mac: MacAddress,
    },
    /// A node that we stand by for is asked whether it answers.
    PeerAsked {
        /// The node.
        node: NodeName,
        /// For which VIPs, and whom.
        questions: Vec<(Vip, Addressee)>,
    },
    /// A peer answers for a VIP that we stand by for.
    PeerHeard {
        /// The address.
        vip: Vip,
        /// The peer.
        mac: MacAddress,
    },
    /// A node does not answer for what we stand by for; the allocator has to be told.
    PeerSuspected {
        /// One of the addresses.
        vip: Vip,
        /// The node.
        node: NodeName,
    },
    /// We took a VIP over by ourselves.
    TookOver {
        /// The address.
        vip: Vip,
        /// From which node.
        node: NodeName,
    },
    /// Everybody is asked for a VIP before we announce it.
    ProbeDue(Vip),
    /// That is due, and there is no interface to ask on.
    ProbePutOff(Vip),
    /// Nobody has answered, and we announce the VIP; the allocator has to be told.
    AddressProven(Vip),
    /// Another machine has a VIP that we were to announce; the allocator has to be told.
    AddressFound {
        /// The address.
        vip: Vip,
        /// The machine.
        mac: MacAddress,
        /// Where.
        interface: InterfaceName,
    },
    /// Everybody is asked for a VIP that another node announces.
    LookDue(Vip),
    /// Somebody has answered that.
    AnswerSeen {
        /// The address.
        vip: Vip,
        /// Who.
        mac: MacAddress,
        /// Where.
        interface: InterfaceName,
    },
    /// A look is over; the allocator has to be told.
    LookOver {
        /// The address.
        vip: Vip,
        /// Everybody who answered.
        answers: Answers,
    },
    /// A look was due that cannot be, or would tell nobody anything.
    LookPutOff(Vip),
    /// The process has begun to end; the allocator has to be told.
    DrainStarted {
        /// When it ends at the latest.
        deadline: Mono,
    },
    /// The process may end.
    Drained {
        /// How many VIPs nobody took over.
        left: usize,
    },
}

/// What follows from a command. Changes nothing.
#[must_use]
pub fn decide(state: &State, command: Command, now: Mono) -> Vec<Event> {
    match command {
        Command::OpenSession => assignment::open_session(state),
        Command::Hear(AllocatorMessage::Snapshot { epoch, revision, assignments, .. }) => {
            assignment::snapshot(state, epoch, revision, assignments)
        }
        Command::Hear(AllocatorMessage::Delta { revision, upserts, removals }) => assignment::delta(state, revision, upserts, &removals),
        // The session itself counts acknowledgements and obeys a farewell.
        Command::Hear(AllocatorMessage::HeartbeatAck { .. } | AllocatorMessage::Goodbye { .. }) => Vec::new(),
        Command::CloseSession => assignment::close_session(state),
        Command::ReplaceLinks(links) => interfaces::replace(state, links),
        Command::NoteClaim { vip, mac, link } => {
            let mut events = standby::hear(state, vip, mac);
            events.extend(look::hear(state, vip, mac, link));
            events.extend(probe::hear(state, vip, mac, link));
            events.extend(conflict::claim(state, vip, mac, link, now));
            events
        }
        Command::Drain => drain::start(state, now),
        Command::Tick => tick(state, now),
    }
}

fn tick(state: &State, now: Mono) -> Vec<Event> {
    let mut events = announce::due(state, now);
    events.extend(standby::due(state, now));
    events.extend(look::due(state, now));
    events.extend(probe::due(state, now));
    events.extend(drain::tick(state, now));
    events
}

/// Takes a fact into the state.
pub fn apply(state: &mut State, event: &Event, now: Mono) {
    match event {
        Event::SessionChanged(session) => assignment::change_session(state, *session, now),
        Event::HelloDue | Event::AppliedDue | Event::InterfacesDue => {}
        Event::EpochRefused { .. } | Event::ServiceUpdated { .. } | Event::AssignmentFailed { .. } | Event::PeerSuspected { .. } => {}
        Event::AddressProven(_) | Event::AddressFound { .. } => {}
        Event::RevisionReached { epoch, revision } => assignment::reach(state, *epoch, *revision),
        Event::AssignmentStored(assigned) => assignment::store(state, assigned, now),
        Event::AssignmentRemoved(vip) => assignment::remove(state, *vip),
        Event::StandingChanged { vip, standing } => assignment::stand(state, *vip, *standing, now),
        Event::LinksReplaced(links) => interfaces::store(state, links),
        Event::PortOpened(port) => interfaces::open(state, port),
        Event::PortClosed(port) => interfaces::close(state, port),
        Event::ReachChanged => interfaces::align_all(state, now),
        Event::AnnouncementDue { vip, link, phase } => announce::sent(state, *vip, *link, *phase, now),
        Event::ConflictSeen { vip, mac, defend, .. } => conflict::note(state, *vip, *mac, *defend, now),
        Event::PeerContradicted { vip, link, .. } => conflict::reassert(state, *vip, *link, now),
        Event::PeerAsked { node, questions } => standby::asked(state, node, questions, now),
        // Whoever claims a VIP is there.
        Event::PeerHeard { vip, mac } | Event::Yielded { vip, mac } => standby::heard(state, *vip, *mac),
        Event::ProbeDue(vip) => probe::asked(state, *vip, now),
        Event::ProbePutOff(vip) => probe::put_off(state, *vip, now),
        Event::LookDue(vip) => look::began(state, *vip, now),
        Event::AnswerSeen { vip, mac, interface } => look::heard(state, *vip, *mac, interface),
        Event::LookOver { vip, .. } | Event::LookPutOff(vip) => look::ended(state, *vip, now),
        Event::TookOver { vip, .. } => standby::took_over(state, *vip, now),
        Event::DrainStarted { deadline } => state.drain = Some(*deadline),
        Event::Drained { .. } => state.drained = true,
    }
}

/// When [`Command::Tick`] is next wanted.
#[must_use]
pub fn next_deadline(state: &State) -> Option<Mono> {
    let rounds = announce::next_deadline(state);
    let questions = [standby::next_deadline(state), look::next_deadline(state), probe::next_deadline(state)];
    questions.into_iter().chain([rounds, drain::next_deadline(state)]).flatten().min()
}

/// Checks what must always hold.
///
/// # Errors
/// The first thing that does not.
pub fn audit(state: &State) -> Result<(), Violation> {
    state::audit(state)
}

/// Decides and applies, as the engine does for each command.
pub fn step(state: &mut State, command: Command, now: Mono) -> Vec<Event> {
    let events = decide(state, command, now);
    for event in &events {
        apply(state, event, now);
    }
    events
}

/// How long a drain waits for others to take over (DESIGN: at most 5 s).
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
