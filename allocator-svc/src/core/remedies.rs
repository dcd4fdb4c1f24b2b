//! Claims that are not met, or may have a second address, by what could help them (DESIGN 3.1.7).
//!
//! A claim waits for [`Remedy`]s: things that are not so now and of which at least one must become so before the claim can be met. All
//! that wait for the same remedy stand in one queue, in the order in which they are served. A fact can bring only the remedies about the
//! addresses that it is about, so these alone are looked at; the first in the queue of a remedy that is at hand is the claim to meet next,
//! until it is at hand no more. So of ten thousand that wait for an address of a pool, a release looks at one.
//!
//! A claim that fails in several ways waits for what it lacks at the time. When that comes it is judged, and waits for the rest.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, SharingKey};
use mooring_proto::types::lease::Lease;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::{ServiceKey, ServicePort};

use super::dual_stack::{Need, Room};
use super::free::Pool;
use super::rules;
use super::rules::sharing::{self, Party};
use super::state::{Book, Order, Violation};

/// What could help a claim. A limit that is kept by namespace would be one more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remedy {
    /// Those who hold an address that the claim is about let the Service in, or there is nobody.
    Address {
        /// The address.
        vip: Vip,
        /// By what the Service shares.
        terms: Terms,
        /// The Service, if it is one of those who hold it.
        holder: Option<ServiceKey>,
    },
    /// Others hold an address of this pool and family that the Service can share.
    Shared {
        /// The pool.
        pool: PoolName,
        /// The family.
        family: Family,
        /// By what the Service shares.
        terms: Terms,
    },
    /// A pool has something free.
    Room {
        /// The pool.
        pool: PoolName,
        /// What of it.
        room: Room,
    },
}

/// By what a Service shares: those for whom it is the same are let in alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Terms {
    key: Option<SharingKey>,
    backend: BackendKey,
    ports: BTreeSet<ServicePort>,
}

impl Terms {
    /// Without a sharing key nothing else matters.
    fn of(claim: &Claim) -> Self {
        let Some(key) = &claim.sharing_key else { return Self::default() };
        Self { key: Some(key.clone()), backend: claim.backend_key.clone(), ports: claim.ports.clone() }
    }

    fn party<'a>(&'a self, service: Option<&'a ServiceKey>) -> Party<'a> {
        Party { service, key: self.key.as_ref(), backend: &self.backend, ports: &self.ports }
    }
}

impl Remedy {
    /// What could help a claim that cannot be met now.
    pub(super) fn of(book: &Book, claim: &Claim) -> BTreeSet<Self> {
        let lease = book.lease(&claim.service);
        let own = lease.map_or(&claim.adopt, |lease| &lease.addresses);
        let holds = |vip: &Vip| lease.is_some_and(|lease| lease.addresses.contains(vip));
        let address = |vip: &Vip| {
            let holder = holds(vip).then(|| claim.service.clone());
            Self::Address { vip: *vip, terms: Terms::of(claim), holder }
        };
        let mut remedies: BTreeSet<Self> = own.iter().chain(&claim.requested_addresses).map(address).collect();
        if claim.requested_addresses.is_empty() {
            let pools = rules::pools(book, claim).into_iter();
            remedies.extend(pools.flat_map(|pool| Self::in_pool(book, claim, pool)));
        }
        remedies.retain(|remedy| !remedy.is_at_hand(book));
        remedies
    }

    /// What could give a claim that is met a second address, from the pool that it has one of.
    pub(super) fn of_second(book: &Book, claim: &Claim) -> BTreeSet<Self> {
        let Some(lease) = book.lease(&claim.service) else { return BTreeSet::new() };
        let pool = book.pools().get(&lease.pool);
        let family = Need::of(claim).is_extended_by(&lease.addresses);
        let remedies = pool.zip(family).map(|(pool, family)| Self::of_room(claim, pool, Room::One(family)));
        remedies.into_iter().flatten().filter(|remedy| !remedy.is_at_hand(book)).collect()
    }

    fn in_pool(book: &Book, claim: &Claim, pool: &Pool) -> Vec<Self> {
        Room::lacking(book, claim, pool).map_or_else(Vec::new, |room| Self::of_room(claim, pool, room))
    }

    fn of_room(claim: &Claim, pool: &Pool, room: Room) -> Vec<Self> {
        let name = &pool.spec().name;
        let families = claim.sharing_key.iter().flat_map(|_| room.families());
        let shared = families.map(|family| Self::Shared { pool: name.clone(), family: *family, terms: Terms::of(claim) });
        shared.chain([Self::Room { pool: name.clone(), room }]).collect()
    }

    /// Whether it is so.
    pub(super) fn is_at_hand(&self, book: &Book) -> bool {
        match self {
            Self::Address { vip, terms, holder } => sharing::admits(book, terms.party(holder.as_ref()), *vip),
            Self::Shared { pool, family, terms } => {
                let pool = book.pools().get(pool);
                pool.is_some_and(|pool| sharing::open(book, terms.party(None), pool, *family, &[]).is_some())
            }
            Self::Room { pool, room } => book.pools().get(pool).is_some_and(|pool| room.is_in(pool)),
        }
    }
}

/// Who waits for what.
#[derive(Clone, Debug, Default)]
pub(super) struct Remedies {
    /// Who waits for each, in the order in which they are served.
    queues: BTreeMap<Remedy, BTreeSet<Order>>,
    /// What each waits for, and its place in those queues.
    waits: BTreeMap<ServiceKey, (Order, BTreeSet<Remedy>)>,
    /// Those for which somebody waits and that are so.
    at_hand: BTreeSet<Remedy>,
}

impl Remedies {
    /// A claim waits for these. None of them is at hand.
    pub(super) fn wait(&mut self, order: Order, remedies: BTreeSet<Remedy>) {
        self.forget(order.service());
        for remedy in &remedies {
            self.queues.entry(remedy.clone()).or_default().insert(order.clone());
        }
        self.waits.insert(order.service().clone(), (order, remedies));
    }

    /// A claim waits for nothing any more.
    pub(super) fn forget(&mut self, service: &ServiceKey) {
        let Some((order, remedies)) = self.waits.remove(service) else { return };
        for remedy in remedies {
            let Some(queue) = self.queues.get_mut(&remedy) else { continue };
            queue.remove(&order);
            if queue.is_empty() {
                self.queues.remove(&remedy);
                self.at_hand.remove(&remedy);
            }
        }
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Whether somebody can be helped.
    pub(super) fn has_any(&self) -> bool {
        !self.at_hand.is_empty()
    }

    /// The first of those who can be helped.
    pub(super) fn first(&self) -> Option<&Order> {
        self.at_hand.iter().filter_map(|remedy| self.queues.get(remedy)?.first()).min()
    }

    /// The remedies that a change of a lease on one of its addresses can bring or take away.
    pub(super) fn about(&self, vip: Vip, pool: Option<&PoolName>, lease: &Lease) -> Vec<Remedy> {
        let lowest = Remedy::Address { vip, terms: Terms::default(), holder: None };
        let of_vip = |remedy: &&Remedy| matches!(remedy, Remedy::Address { vip: other, .. } if *other == vip);
        let mut about: Vec<Remedy> = self.from(&lowest).take_while(of_vip).cloned().collect();
        let Some(pool) = pool else { return about };
        if lease.sharing_key.is_some() {
            let (key, backend, family) = (lease.sharing_key.clone(), lease.backend_key.clone(), vip.family());
            let terms = Terms { key, backend, ports: BTreeSet::new() };
            let lowest = Remedy::Shared { pool: pool.clone(), family, terms };
            about.extend(self.from(&lowest).take_while(|remedy| is_alike(remedy, &lowest)).cloned());
        }
        let lowest = Remedy::Room { pool: pool.clone(), room: Room::One(Family::V4) };
        let of_pool = |remedy: &&Remedy| matches!(remedy, Remedy::Room { pool: other, .. } if other == pool);
        about.extend(self.from(&lowest).take_while(of_pool).cloned());
        about
    }

    fn from(&self, lowest: &Remedy) -> impl Iterator<Item = &Remedy> {
        self.queues.range(lowest..).map(|(remedy, _)| remedy)
    }

    /// A remedy for which somebody waits is at hand now, or is not.
    pub(super) fn set(&mut self, remedy: Remedy, is_at_hand: bool) {
        if is_at_hand {
            self.at_hand.insert(remedy);
        } else {
            self.at_hand.remove(&remedy);
        }
    }

    /// Checks that the queues are as those who wait say, and that what is at hand is known to be.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(super) fn audit(&self, book: &Book) -> Result<(), Violation> {
        let mut queues: BTreeMap<Remedy, BTreeSet<Order>> = BTreeMap::new();
        for (order, remedies) in self.waits.values() {
            for remedy in remedies {
                queues.entry(remedy.clone()).or_default().insert(order.clone());
            }
        }
        if queues != self.queues {
            return Err(Violation("the queues differ from those who wait in them".to_owned()));
        }
        let at_hand: BTreeSet<&Remedy> = queues.keys().filter(|remedy| remedy.is_at_hand(book)).collect();
        if at_hand != self.at_hand.iter().collect() {
            return Err(Violation(format!("{at_hand:?} is at hand, and known to be is {:?}", self.at_hand)));
        }
        let settled = self.waits.keys().chain(book.due()).collect::<BTreeSet<_>>();
        match book.waiting().keys().find(|service| !settled.contains(service)) {
            Some(service) => Err(Violation(format!("{service} waits for nothing"))),
            None => Ok(()),
        }
    }
}

/// Whether both are about sharing of one pool and family under the same keys.
fn is_alike(remedy: &Remedy, other: &Remedy) -> bool {
    match (remedy, other) {
        (Remedy::Shared { pool, family, terms }, Remedy::Shared { pool: other_pool, family: other_family, terms: other }) => {
            pool == other_pool && family == other_family && terms.key == other.key && terms.backend == other.backend
        }
        (Remedy::Address { .. } | Remedy::Shared { .. } | Remedy::Room { .. }, _) => false,
    }
}
