//! Claims that are not met, by what could help them (DESIGN 3.1.7).
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
use super::quota;
use super::rules;
use super::rules::sharing::{self, Party};
use super::state::{Book, Order, Violation};

/// What could help a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Remedy {
    /// Those who hold an address that the claim is about let the Service in, or there is nobody; and it is not kept for others.
    Address {
        /// The address.
        vip: Vip,
        /// By what the Service shares.
        terms: Terms,
        /// The Service, if it is one of those who hold it or for whom it is kept.
        service: Option<ServiceKey>,
    },
    /// Somebody of a namespace holds an address that the claim asks for, so that it costs nothing of the quota.
    Joined {
        /// The address.
        vip: Vip,
        /// The namespace.
        namespace: String,
    },
    /// Nobody else of its namespace holds an address that the Service holds, so that to give it up makes room in the quota.
    Alone {
        /// The address.
        vip: Vip,
        /// The namespace.
        namespace: String,
    },
    /// A namespace's quota has room.
    Quota {
        /// The namespace.
        namespace: String,
        /// The quota.
        quota: u32,
        /// For how many more addresses.
        room: usize,
    },
    /// Others hold an address of this pool and family that the Service can share.
    Shared {
        /// The pool.
        pool: PoolName,
        /// The family.
        family: Family,
        /// By what the Service shares.
        terms: Terms,
        /// Who those others must be, where anything else is beyond the quota.
        inside: Option<Inside>,
    },
    /// A pool has something free.
    Room {
        /// The pool.
        pool: PoolName,
        /// What of it.
        room: Room,
    },
}

/// The Services of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Inside {
    namespace: String,
    /// Without this one, if it holds something itself.
    but: Option<ServiceKey>,
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
        let kept: BTreeSet<Vip> = book.reservations().kept_for(&claim.service).collect();
        let is_own = |vip: &Vip| kept.contains(vip) || lease.is_some_and(|lease| lease.addresses.contains(vip));
        let address = |vip: &Vip| {
            let service = is_own(vip).then(|| claim.service.clone());
            Self::Address { vip: *vip, terms: Terms::of(claim), service }
        };
        let mut remedies: BTreeSet<Self> = own.iter().chain(&claim.requested_addresses).chain(&kept).map(address).collect();
        let is_limited = quota::is_exhausted(book, claim);
        if is_limited {
            remedies.extend(Self::of_quota(book, claim));
        }
        if claim.requested_addresses.is_empty() {
            let in_pool = |pool| if is_limited { Self::inside_pool(book, claim, pool) } else { Self::in_pool(book, claim, pool) };
            remedies.extend(rules::pools(book, claim).into_iter().flat_map(in_pool));
            if Need::of(claim) == Need::Both {
                remedies.extend(rules::reserved::pools(book, claim).into_iter().flat_map(in_pool));
            }
        }
        remedies.retain(|remedy| !remedy.is_at_hand(book));
        remedies
    }

    fn in_pool(book: &Book, claim: &Claim, pool: &Pool) -> Vec<Self> {
        let Some(room) = Room::lacking(book, claim, pool) else { return Vec::new() };
        let name = &pool.spec().name;
        let families = claim.sharing_key.iter().flat_map(|_| room.families());
        let shared = |family: &Family| Self::Shared { pool: name.clone(), family: *family, terms: Terms::of(claim), inside: None };
        families.map(shared).chain([Self::Room { pool: name.clone(), room }]).collect()
    }

    /// As [`Remedy::in_pool`], for a claim whose quota has no room for all that it needs: only what its namespace holds already helps; and
    /// where that is there in one family and the quota has room for one more, whatever there is in the other.
    fn inside_pool(book: &Book, claim: &Claim, pool: &Pool) -> Vec<Self> {
        if claim.sharing_key.is_none() {
            return Vec::new();
        }
        let name = &pool.spec().name;
        let but = book.lease(&claim.service).map(|lease| lease.service.clone());
        let inside = Inside { namespace: claim.service.namespace().to_owned(), but };
        let shared = |family: Family, inside| Self::Shared { pool: name.clone(), family, terms: Terms::of(claim), inside };
        let families = Need::of(claim).families();
        let mut remedies: Vec<Self> = families.iter().map(|family| shared(*family, Some(inside.clone()))).collect();
        if Need::of(claim) == Need::Both && quota::has_room(book, claim) {
            let joined = families.iter().filter(|family| sharing::joined(book, claim, pool, **family).is_some());
            for other in joined.map(|family| family.other()) {
                remedies.extend([shared(other, None), Self::Room { pool: name.clone(), room: Room::One(other) }]);
            }
        }
        remedies
    }

    /// What could make room in a claim's quota, or spare it.
    fn of_quota(book: &Book, claim: &Claim) -> Vec<Self> {
        let Some(quota) = claim.quota else { return Vec::new() };
        let namespace = || claim.service.namespace().to_owned();
        let room = quota::spare(book, claim.service.namespace(), quota).saturating_add(1);
        let held = book.lease(&claim.service).into_iter().flat_map(|lease| &lease.addresses);
        let alone = held.map(|vip| Self::Alone { vip: *vip, namespace: namespace() });
        let joined = claim.requested_addresses.iter().map(|vip| Self::Joined { vip: *vip, namespace: namespace() });
        alone.chain(joined).chain([Self::Quota { namespace: namespace(), quota, room }]).collect()
    }

    /// Whether it is so.
    pub(super) fn is_at_hand(&self, book: &Book) -> bool {
        match self {
            Self::Address { vip, terms, service } => {
                !book.is_kept_from(*vip, service.as_ref()) && sharing::admits(book, terms.party(service.as_ref()), *vip)
            }
            Self::Joined { vip, namespace } => book.holders_in(namespace, *vip) > 0,
            Self::Alone { vip, namespace } => book.holders_in(namespace, *vip) <= 1,
            Self::Quota { namespace, quota, room } => quota::spare(book, namespace, *quota) >= *room,
            Self::Shared { pool, family, terms, inside } => {
                let open = |pool| match inside {
                    None => sharing::open(book, terms.party(None), pool, *family, &[]),
                    Some(Inside { namespace, but }) => sharing::open_within(book, terms.party(but.as_ref()), namespace, pool, *family),
                };
                book.pools().get(pool).and_then(open).is_some()
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

    /// The remedies that a change of a lease on one of its addresses, or of what the address is reserved for, can bring or take away.
    pub(super) fn about(&self, vip: Vip, pool: Option<&PoolName>, lease: Option<&Lease>) -> Vec<Remedy> {
        let lowest = [
            Remedy::Address { vip, terms: Terms::default(), service: None },
            Remedy::Joined { vip, namespace: String::new() },
            Remedy::Alone { vip, namespace: String::new() },
        ];
        let mut about: Vec<Remedy> = lowest.iter().flat_map(|lowest| self.like(lowest)).collect();
        let Some(pool) = pool.cloned() else { return about };
        if let Some(lease) = lease.filter(|lease| lease.sharing_key.is_some()) {
            let (key, backend, family) = (lease.sharing_key.clone(), lease.backend_key.clone(), vip.family());
            let terms = Terms { key, backend, ports: BTreeSet::new() };
            about.extend(self.like(&Remedy::Shared { pool: pool.clone(), family, terms, inside: None }));
        }
        about.extend(self.like(&Remedy::Room { pool, room: Room::One(Family::V4) }));
        about
    }

    /// The remedies that a change of what a namespace holds can bring or take away.
    pub(super) fn about_namespace(&self, namespace: &str) -> Vec<Remedy> {
        self.like(&Remedy::Quota { namespace: namespace.to_owned(), quota: 0, room: 0 }).collect()
    }

    /// Those that are about the same as the lowest of them.
    fn like(&self, lowest: &Remedy) -> impl Iterator<Item = Remedy> {
        let lowest = lowest.clone();
        let found = self.queues.range(lowest.clone()..).map(|(remedy, _)| remedy);
        found.take_while(move |remedy| is_alike(remedy, &lowest)).cloned()
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

/// Whether both are about the same address, the same namespace, the same pool, or the sharing of one pool and family under the same keys.
fn is_alike(remedy: &Remedy, other: &Remedy) -> bool {
    match (remedy, other) {
        (Remedy::Address { vip, .. }, Remedy::Address { vip: other, .. })
        | (Remedy::Joined { vip, .. }, Remedy::Joined { vip: other, .. })
        | (Remedy::Alone { vip, .. }, Remedy::Alone { vip: other, .. }) => vip == other,
        (Remedy::Quota { namespace, .. }, Remedy::Quota { namespace: other, .. }) => namespace == other,
        (Remedy::Shared { pool, family, terms, .. }, Remedy::Shared { pool: other_pool, family: other_family, terms: other, .. }) => {
            pool == other_pool && family == other_family && terms.key == other.key && terms.backend == other.backend
        }
        (Remedy::Room { pool, .. }, Remedy::Room { pool: other, .. }) => pool == other,
        (
            Remedy::Address { .. }
            | Remedy::Joined { .. }
            | Remedy::Alone { .. }
            | Remedy::Quota { .. }
            | Remedy::Shared { .. }
            | Remedy::Room { .. },
            _,
        ) => false,
    }
}
