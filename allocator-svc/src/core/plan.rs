//! What another configuration would do, before it is put in force.
//!
//! It is put in force over a copy of the book, and the work that follows is done until the copy is at rest and every grace is over: by
//! the functions that do so over the book itself. What differs then is the plan.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::pool::{Configuration, PoolName};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::placement::is_advertised;
use super::refusal::Refusal;
use super::state::{Book, Settings, State};
use super::{Leadership, Now, claim_next, pools};

/// How a Service would fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It keeps its addresses, under another pool's name.
    Renamed,
    /// It keeps its addresses and gets one more.
    Gained,
    /// It gets other addresses.
    Moved,
    /// It loses its addresses and gets none.
    Lost,
    /// It waits now, and would get addresses.
    Served,
    /// It keeps its addresses, and its claim would not be met any more.
    Refused,
    /// It keeps its addresses, and nobody would announce them.
    Unadvertised,
}

/// What would change for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The Service.
    pub service: ServiceKey,
    /// How it would fare.
    pub fate: Fate,
    /// What it holds now.
    pub before: Option<Held>,
    /// What it would hold.
    pub after: Option<Held>,
    /// Why it could not keep what it holds, unless it would have others by its own wish.
    pub untenable: Option<Refusal>,
    /// Why its claim would not be met, or, if it would be served, why it is not met now.
    pub refusal: Option<Refusal>,
    /// No advertisement would be about what it would hold, though one is about what it holds now or it holds nothing.
    pub unadvertised: bool,
}

/// Addresses, and the pool that they are held from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The addresses.
    pub addresses: Vec<Vip>,
    /// The pool.
    pub pool: PoolName,
}

/// What would change, and for how many nothing would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What would change, by Service.
    pub changes: Vec<Change>,
    /// How many Services would hold what they hold.
    pub unchanged: usize,
    /// How many wait now and would go on waiting.
    pub waiting: usize,
}

impl Plan {
    /// How many Services would fare so.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.changes.iter().filter(|change| change.fate == fate).count()
    }
}

/// A configuration that is being tried.
#[derive(Debug)]
pub struct Rehearsal {
    leases: BTreeMap<ServiceKey, Held>,
    waiting: BTreeMap<ServiceKey, Refusal>,
    /// The Services whose addresses are all advertised.
    advertised: BTreeSet<ServiceKey>,
    state: State,
    now: Now,
    /// When every grace is over.
    end: Mono,
}

impl From<&Lease> for Held {
    fn from(lease: &Lease) -> Self {
        Self { addresses: lease.addresses.clone(), pool: lease.pool.clone() }
    }
}

impl Rehearsal {
    /// Puts a configuration in force over a copy of the book.
    #[must_use]
    pub fn new(book: Book, settings: Settings, configuration: Configuration, now: Now) -> Self {
        let mut rehearsal = Self {
            leases: book.leases().iter().map(|(service, lease)| (service.clone(), lease.into())).collect(),
            waiting: book.waiting().clone(),
            advertised: BTreeSet::new(),
            state: State::over(book, settings),
            now,
            end: now.mono + settings.pool_grace,
        };
        rehearsal.advertised = rehearsal.leases.keys().filter(|service| rehearsal.advertises(service)).cloned().collect();
        let events = pools::replace(&rehearsal.state, Leadership::Present, configuration, now).unwrap_or_default();
        events.iter().for_each(|event| rehearsal.state.book.apply(event));
        rehearsal
    }

    /// Does one piece of the work that follows; time passes when there is nothing else to do. False once every grace is over and the copy
    /// is at rest.
    pub fn step(&mut self) -> bool {
        if let Some(events) = claim_next(&self.state, self.now) {
            events.iter().for_each(|event| self.state.book.apply(event));
            return true;
        }
        let ends = [self.state.book.next_stranded(), self.state.book.reservations().next_end()];
        let Some(end) = ends.into_iter().flatten().min().filter(|end| *end <= self.end) else { return false };
        self.now.mono = self.now.mono.max(end);
        true
    }

    /// What has changed so far.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let after = &self.state.book;
        let services: BTreeSet<&ServiceKey> = self.leases.keys().chain(after.leases().keys()).collect();
        let (unchanged, changes): (Vec<_>, Vec<_>) = services.into_iter().map(|service| self.change(service)).partition(Option::is_none);
        let still = |service: &&ServiceKey| !self.leases.contains_key(*service) && after.lease(service).is_none();
        let waiting = self.waiting.keys().filter(still).count();
        Plan { changes: changes.into_iter().flatten().collect(), unchanged: unchanged.len(), waiting }
    }

    fn change(&self, service: &ServiceKey) -> Option<Change> {
        let book = &self.state.book;
        let before = self.leases.get(service);
        let after = book.lease(service).map(Held::from);
        let unadvertised = after.is_some() && (before.is_none() || self.advertised.contains(service)) && !self.advertises(service);
        let refused = book.refusal(service).filter(|_| !self.waiting.contains_key(service));
        let fate = match (before, &after) {
            (None, None) => return None,
            (None, Some(_)) => Fate::Served,
            (Some(_), None) => Fate::Lost,
            (Some(before), Some(after)) if before.addresses != after.addresses => {
                if before.addresses.iter().all(|vip| after.addresses.contains(vip)) { Fate::Gained } else { Fate::Moved }
            }
            (Some(before), Some(after)) if before.pool != after.pool => Fate::Renamed,
            (Some(_), Some(_)) if refused.is_some() => Fate::Refused,
            (Some(_), Some(_)) if unadvertised => Fate::Unadvertised,
            (Some(_), Some(_)) => return None,
        };
        let refusal = match fate {
            Fate::Served => self.waiting.get(service),
            Fate::Renamed | Fate::Gained | Fate::Moved | Fate::Lost | Fate::Refused | Fate::Unadvertised => book.refusal(service),
        };
        Some(Change {
            service: service.clone(),
            fate,
            before: before.cloned(),
            after,
            untenable: book.untenable(service).cloned(),
            refusal: refusal.cloned(),
            unadvertised,
        })
    }

    /// Whether an advertisement is about each address of a Service.
    fn advertises(&self, service: &ServiceKey) -> bool {
        let lease = self.state.book.lease(service);
        lease.is_some_and(|lease| lease.addresses.iter().all(|vip| is_advertised(&self.state, *vip)))
    }
}

#[cfg(test)]
mod tests;
