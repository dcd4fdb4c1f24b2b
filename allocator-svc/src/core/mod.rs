//! Every decision of the allocator, as functions over plain data.
//!
//! A [`Command`] is a wish. [`decide`] answers it with [`Event`]s, facts in the past tense, or a [`Refusal`], and changes nothing;
//! [`apply`] takes a fact into the [`State`] and cannot fail, so that it also replays the store at start. One wish can make more work
//! due (a released address helps a waiting claim, a new lease needs a node): that work stands in the state, [`next_deadline`] says
//! "at once", and each [`Command::Tick`] does one piece of it. So every decision is made over the state that really is.

use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::SpeakerMessage;
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::history::EndCause;
use mooring_proto::types::lease::{Epoch, Lease, Revision, Term};
use mooring_proto::types::node::{NodeName, NodeSpec, SpeakerId};
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::reservation::{Reservation, ReservationKey};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::{Mono, UnixMillis};

pub mod allocate;
pub mod assignment;
pub mod drain;
pub mod dual_stack;
pub mod explain;
pub mod feed;
pub mod free;
pub mod history;
pub mod holders;
pub mod nodes;
mod parts;
pub mod placement;
pub mod plan;
pub mod pools;
mod proven;
mod quarantine;
pub mod quota;
pub mod reconcile;
pub mod refusal;
mod remedies;
pub mod reservations;
pub mod rules;
mod shared;
mod sights;
mod silence;
pub mod state;
mod strangers;
mod suspicion;

pub use placement::{Placement, Unannounced};
pub use refusal::Refusal;
pub use sights::Sighting;
pub use state::{Settings, State, Violation};

/// The moment of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// By the clock that never goes back: what deadlines are compared with.
    pub mono: Mono,
    /// By the wall clock, for people and records.
    pub wall: UnixMillis,
}

/// Whose leadership a watcher's call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// A term won elsewhere (a Kubernetes Lease).
    Term(Term),
    /// None: a person's call, at the present term.
    Present,
    /// The next term, to begin with this call.
    Next,
}

/// One open stream of a speaker; never used again after it has ended. A stream that opens later has a larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A wish.
#[derive(Clone, Debug)]
pub enum Command {
    /// A watcher wants a Service's claim met.
    Allocate {
        /// The watcher's leadership.
        leadership: Leadership,
        /// What the Service asks for.
        claim: Box<Claim>,
    },
    /// A watcher says that a Service holds nothing any more.
    Release {
        /// The watcher's leadership.
        leadership: Leadership,
        /// The Service.
        service: ServiceKey,
    },
    /// A watcher gives its full view.
    Reconcile {
        /// The watcher's leadership.
        leadership: Leadership,
        /// All Services that claim addresses.
        claims: Vec<Claim>,
    },
    /// A person keeps an address for a Service, or from all.
    ReserveAddress {
        /// The address, and for whom.
        key: ReservationKey,
        /// For how long; `None` = until it is released.
        duration: Option<Duration>,
        /// Why.
        note: String,
    },
    /// A person ends every reservation of an address.
    ReleaseReservation(Vip),
    /// A person drains a node.
    DrainNode(NodeName),
    /// A person drains a node no longer.
    RestoreNode(NodeName),
    /// A person spreads the VIPs over the nodes; at most so many move.
    Rebalance(Option<usize>),
    /// A watcher gives the whole configuration.
    ReplacePools {
        /// The watcher's leadership.
        leadership: Leadership,
        /// The configuration.
        configuration: Configuration,
    },
    /// A watcher gives all nodes.
    ReplaceNodes {
        /// The watcher's leadership.
        leadership: Leadership,
        /// The nodes; none = every node that has a speaker is eligible.
        nodes: Vec<NodeSpec>,
    },
    /// A watcher tells where Services can be served.
    ReportBackends {
        /// The watcher's leadership.
        leadership: Leadership,
        /// The Services reported; others keep what was last said of them.
        backends: Vec<Backends>,
    },
    /// A speaker's word on its stream.
    SpeakerSaid {
        /// The stream.
        session: SessionId,
        /// The word.
        message: SpeakerMessage,
    },
    /// A speaker's stream ended, for whatever reason.
    SessionEnded {
        /// The stream.
        session: SessionId,
    },
    /// Time has passed, or work is due.
    Tick,
}

impl Command {
    /// Whether a leadership begins with it that nobody else has given.
    fn begins_leadership(&self) -> bool {
        match self {
            Self::Allocate { leadership, .. }
            | Self::Release { leadership, .. }
            | Self::Reconcile { leadership, .. }
            | Self::ReplacePools { leadership, .. }
            | Self::ReplaceNodes { leadership, .. }
            | Self::ReportBackends { leadership, .. } => *leadership == Leadership::Next,
            Self::ReserveAddress { .. }
            | Self::ReleaseReservation(_)
            | Self::DrainNode(_)
            | Self::RestoreNode(_)
            | Self::Rebalance(_)
            | Self::SpeakerSaid { .. }
            | Self::SessionEnded { .. }
            | Self::Tick => false,
        }
    }
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// This allocator leads. Written at each start, before anything else.
    EpochBegan(Epoch),
    /// A watcher's leadership began.
    TermBegan(Term),
    /// A shadow's session began: what the one before led to is forgotten.
    ShadowBegan,
    /// The configuration is now this.
    ConfigurationReplaced {
        /// The configuration.
        configuration: Configuration,
        /// When leases that are in no pool any more come to their end.
        stranded_until: Mono,
    },
    /// A Service's claim is now this; it is due to be met.
    ClaimMade(Box<Claim>),
    /// A claim cannot keep what its status holds, or wants more than that: it is due after all that only keep.
    ClaimDeferred(ServiceKey),
    /// A Service claims nothing any more.
    ClaimForgotten(ServiceKey),
    /// A Service holds this lease now, new or changed; its claim is met unless `ClaimRefused` follows.
    LeaseGranted(Box<Lease>),
    /// A Service holds nothing any more.
    LeaseReleased(ServiceKey),
    /// An address is reserved from now on.
    AddressReserved {
        /// The reservation.
        reservation: Box<Reservation>,
        /// When it ends by itself.
        end: Option<Mono>,
    },
    /// A reservation is over.
    ReservationEnded {
        /// Which.
        key: ReservationKey,
        /// Why.
        cause: EndCause,
    },
    /// A claim is not met, for now; a lease that the Service has stays.
    ClaimRefused {
        /// The Service.
        service: ServiceKey,
        /// Why.
        refusal: Refusal,
    },
    /// The addresses that a Service had, or its status held, were not to stay: not by its own wish, but by this rule. Follows their end.
    LeaseUntenable {
        /// The Service.
        service: ServiceKey,
        /// Why they could not stay.
        refusal: Refusal,
    },
    /// A claim was tried again and is refused as before.
    ClaimRetried(ServiceKey),
    /// A claim is met by the lease that the Service has.
    ClaimMet(ServiceKey),
    /// A watcher's full view is in.
    ViewReconciled,
    /// The nodes are now these.
    NodesReplaced(Vec<NodeSpec>),
    /// A person drains this node.
    NodeDrained {
        /// The node.
        node: NodeName,
        /// When that began.
        since: UnixMillis,
    },
    /// A person drains this node no longer.
    NodeRestored(NodeName),
    /// Where these Services can be served.
    BackendsReported(Vec<Backends>),
    /// Something about a speaker.
    Speaker(nodes::SpeakerEvent),
    /// The speakers that are coming back after a start of the allocator have come.
    RecoveryEnded,
    /// Who announces a VIP, or why nobody does.
    VipPlaced {
        /// The address.
        vip: Vip,
        /// The decision.
        placement: Result<Placement, Unannounced>,
    },
    /// A VIP that no Service holds any more, or never held here, is announced by nobody.
    VipDropped(Vip),
    /// A VIP was looked at and stays as it is.
    VipKept(Vip),
    /// A VIP's node said that it announces it.
    VipAnnounced {
        /// The address.
        vip: Vip,
        /// By whom.
        by: SpeakerId,
    },
    /// The spread of VIPs over the nodes was looked at.
    Rebalanced(Mono),
    /// The feed moves on to this revision: all before it in the batch is part of it.
    RevisionReached(Revision),
}

/// Decides one wish over the present state, without changing it.
///
/// # Errors
/// The call belongs to a leadership that is over. A claim that cannot be met is no error here: it is a fact, [`Event::ClaimRefused`].
pub fn decide(state: &State, command: Command, now: Now) -> Result<Vec<Event>, Refusal> {
    if state.is_shadow() && command.begins_leadership() {
        let decided = decide_over(&state.forgotten(), command, now)?;
        return Ok(std::iter::once(Event::ShadowBegan).chain(decided).collect());
    }
    decide_over(state, command, now)
}

fn decide_over(state: &State, command: Command, now: Now) -> Result<Vec<Event>, Refusal> {
    match command {
        Command::Allocate { leadership, claim } => reconcile::claim(state, leadership, claim),
        Command::Release { leadership, service } => reconcile::release(state, leadership, &service, now),
        Command::Reconcile { leadership, claims } => reconcile::full_view(state, leadership, claims, now),
        Command::ReserveAddress { key, duration, note } => reservations::reserve(state, key, duration, note, now),
        Command::ReleaseReservation(vip) => Ok(reservations::release(state, vip)),
        Command::DrainNode(node) => drain::drain(state, node, now),
        Command::RestoreNode(node) => Ok(drain::restore(state, node)),
        Command::Rebalance(most) => Ok(placement::spread(state, most)),
        Command::ReplacePools { leadership, configuration } => pools::replace(state, leadership, configuration, now),
        Command::ReplaceNodes { leadership, nodes } => nodes::replace(state, leadership, nodes),
        Command::ReportBackends { leadership, backends } => nodes::report_backends(state, leadership, backends),
        Command::SpeakerSaid { session, message } => Ok(nodes::said(state, session, message, now)),
        Command::SessionEnded { session } => Ok(nodes::session_ended(state, session, now)),
        Command::Tick => Ok(tick(state, now)),
    }
}

/// Takes a fact into the state.
pub fn apply(state: &mut State, event: &Event) {
    state.apply(event);
}

/// When the engine next sends [`Command::Tick`]: [`Mono::ZERO`] if work is due now, `None` if only a command can bring more.
#[must_use]
pub fn next_deadline(state: &State) -> Option<Mono> {
    if state.book.has_due() || state.network.has_dirty() {
        return Some(Mono::ZERO);
    }
    let of_book = [state.book.next_stranded(), state.book.reservations().next_end()];
    let of_network = [state.network.next_deadline(&state.settings), nodes::next_missed(state)];
    of_book.into_iter().chain(of_network).flatten().min()
}

/// Whether a claim is due to be met, so that the next [`Command::Tick`] does nothing else.
#[must_use]
pub fn has_claims_due(state: &State) -> bool {
    state.book.has_due()
}

/// Checks the invariants. Tests call it after every step.
///
/// # Errors
/// The first invariant that does not hold.
pub fn audit(state: &State) -> Result<(), Violation> {
    state.book.audit()?;
    state.network.audit(&state.book, &state.settings)
}

/// Checks that the records of a data directory do not contradict each other.
///
/// # Errors
/// The first address that is held against the rules of sharing, or reserved against those of reservations.
pub fn audit_records(state: &State) -> Result<(), Violation> {
    state.book.audit_records()
}

/// One piece of the work that is due: claims first, then what ends by time, then speakers' deadlines, then VIPs to place, then their spread.
fn tick(state: &State, now: Now) -> Vec<Event> {
    if let Some(events) = claim_next(state, now) {
        return events;
    }
    if let Some(events) = nodes::expire_next(state, now) {
        return events;
    }
    if state.network.has_dirty() {
        return placement::place_next(state);
    }
    placement::rebalance_next(state, now)
}

/// One piece of the work on claims: those that are due first, then leases and reservations that come to their end.
fn claim_next(state: &State, now: Now) -> Option<Vec<Event>> {
    let ended = || pools::strand_next(state, now).or_else(|| reservations::expire_next(state, now));
    allocate::settle_next(state, now).or_else(ended)
}

#[cfg(test)]
pub(crate) mod tests;
