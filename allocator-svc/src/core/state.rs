//! The allocator's state and its indexes.
//!
//! [`Book`] says who holds which address, [`Network`] who is there to announce and who does, [`Feed`] what changed since a revision.
//! Only [`State::apply`] changes any of them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, SharingKey};
use mooring_proto::types::lease::{Epoch, Lease, Term};
use mooring_proto::types::pool::{Configuration, PoolName, PoolSpec};
use mooring_proto::types::reservation::{Reservation, ReservationKey, ReservationOrigin};
use mooring_proto::types::service::{ServiceKey, ServicePort};
use mooring_proto::types::time::{Mono, UnixMillis};

use super::feed::Feed;
use super::free::Pool;
use super::holders::Holders;
use super::nodes::Network;
use super::quarantine;
use super::refusal::Refusal;
use super::remedies::{Remedies, Remedy};
use super::reservations::Reservations;
use super::shared::Shared;
use super::{Event, Leadership};

mod copy;

pub use self::copy::{Part, Place};

/// What the flags say about decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often a speaker is to say that it lives.
    pub heartbeat: Duration,
    /// How long a silent speaker counts as alive.
    pub speaker_ttl: Duration,
    /// How long the first speaker that comes after a start is to be followed by the others that held something.
    pub recovery_window: Duration,
    /// How long a lease outlives its pool.
    pub pool_grace: Duration,
    /// How many VIPs a minute may move to spread the load; 0 = none.
    pub rebalance: u32,
    /// For how long the addresses of a Service that is gone stay reserved for it, where it does not say.
    pub retain: Duration,
}

impl Settings {
    /// What the flags say where nobody sets them (DESIGN 2.1).
    pub const DEFAULT: Self = Self {
        heartbeat: Duration::from_millis(200),
        speaker_ttl: Duration::from_millis(800),
        recovery_window: Duration::from_secs(2),
        pool_grace: Duration::from_secs(10),
        rebalance: 0,
        retain: Duration::ZERO,
    };
}

/// What a state is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Services hold what it says.
    Serve,
    /// It says what Services would hold, and begins with nothing in each session of a watcher.
    Shadow,
}

/// All that the allocator knows.
#[derive(Clone, Debug)]
pub struct State {
    purpose: Purpose,
    /// What the flags say.
    pub(crate) settings: Settings,
    /// This allocator's leadership.
    pub(crate) epoch: Epoch,
    /// The newest watcher's leadership.
    pub(crate) term: Term,
    /// Who holds what.
    pub(crate) book: Book,
    /// Who announces what.
    pub(crate) network: Network,
    /// What changed since when.
    pub(crate) feed: Feed,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

impl State {
    /// Nothing known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            purpose: Purpose::Serve,
            settings,
            epoch: Epoch::default(),
            term: Term::default(),
            book: Book::default(),
            network: Network::default(),
            feed: Feed::default(),
        }
    }

    /// Nothing known but this book.
    pub(super) fn over(book: Book, settings: Settings) -> Self {
        Self { book, ..Self::new(settings) }
    }

    /// Nothing known yet, and nobody holds what will be: what is decided shows what would be.
    #[must_use]
    pub fn shadow(settings: Settings) -> Self {
        Self { purpose: Purpose::Shadow, ..Self::new(settings) }
    }

    /// Whether it only shows what would be.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.purpose == Purpose::Shadow
    }

    /// The same with nothing known but how far leaderships and the feed have come.
    pub(super) fn forgotten(&self) -> Self {
        let book = Book { edition: self.book.edition.saturating_add(1), ..Book::default() };
        Self { purpose: self.purpose, epoch: self.epoch, term: self.term, book, feed: self.feed.clone(), ..Self::new(self.settings) }
    }

    /// Takes a fact in.
    pub(super) fn apply(&mut self, event: &Event) {
        self.feed.note(event, &self.book);
        if *event == Event::ShadowBegan {
            *self = self.forgotten();
        }
        if let Event::EpochBegan(epoch) = event {
            self.epoch = *epoch;
        }
        if let Event::TermBegan(term) = event {
            self.term = *term;
        }
        self.book.apply(event);
        self.network.apply(event, &self.book, &self.settings);
    }

    /// Whether a watcher's call is of the present leadership, and the event that begins a newer one.
    ///
    /// # Errors
    /// The leadership is over.
    pub(super) fn admit(&self, leadership: Leadership) -> Result<Option<Event>, Refusal> {
        match leadership {
            Leadership::Present => Ok(None),
            Leadership::Next => Ok(Some(Event::TermBegan(Term(self.term.0.saturating_add(1))))),
            Leadership::Term(given) if given < self.term => Err(Refusal::TermOutdated { given, current: self.term }),
            Leadership::Term(given) => Ok((given > self.term).then_some(Event::TermBegan(given))),
        }
    }

    /// This allocator's leadership.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest watcher's leadership.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who holds what.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// Who announces what.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What changed since when.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// When a claim that is due has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Its status holds what no lease holds yet: it keeps that if it can, and takes nothing else, which may be in another one's status.
    Adopt,
    /// It may have whatever is free.
    Settle,
}

/// The place of a claim among those that are due: who keeps what a status holds, then who holds addresses (more first), then explicit
/// requests, then age, then name (MetalLB behaviour 3.9, made total).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    turn: Turn,
    holds_less: usize,
    automatic: bool,
    created: UnixMillis,
    service: ServiceKey,
}

impl Order {
    /// Whose place it is.
    pub(super) fn service(&self) -> &ServiceKey {
        &self.service
    }
}

/// Who holds which address.
#[derive(Clone, Debug, Default)]
pub struct Book {
    configuration: Configuration,
    pools: BTreeMap<PoolName, Pool>,
    claims: BTreeMap<ServiceKey, Claim>,
    leases: BTreeMap<ServiceKey, Lease>,
    waiting: BTreeMap<ServiceKey, Refusal>,
    /// Why what Services had before could not stay, until they have others by their own wish.
    untenable: BTreeMap<ServiceKey, Refusal>,
    holders: BTreeMap<Vip, Holders>,
    by_sharing: BTreeMap<SharingKey, BTreeMap<BackendKey, Shared>>,
    by_pool: BTreeMap<PoolName, BTreeSet<ServiceKey>>,
    /// The addresses that a namespace's Services hold, each with how many of them do.
    by_namespace: BTreeMap<String, BTreeMap<Vip, usize>>,
    reservations: Reservations,
    /// First address of each segment of each pool, with the last one; segments are disjoint.
    segments: BTreeMap<Vip, (Vip, PoolName)>,
    due: BTreeSet<Order>,
    due_as: BTreeMap<ServiceKey, Order>,
    /// What could help the claims that wait and are not due.
    remedies: Remedies,
    /// Leases in no pool any more, each with the end of its time.
    stranded: BTreeMap<ServiceKey, Mono>,
    /// The ends of those that have a claim, in order.
    ends: BTreeSet<(Mono, ServiceKey)>,
    reconciled: bool,
    /// How often it was changed.
    edition: u64,
}

impl Book {
    /// The configuration in force.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The pools with what is free in them, by name.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<PoolName, Pool> {
        &self.pools
    }

    /// The pool that has an address, by the prefixes of the configuration; whether the pool may hand it out is another matter.
    #[must_use]
    pub fn pool_of(&self, vip: Vip) -> Option<&Pool> {
        let (_, (last, pool)) = self.segments.range(..=vip).next_back()?;
        (vip.family() == last.family() && vip <= *last).then(|| self.pools.get(pool)).flatten()
    }

    /// A Service's newest claim.
    #[must_use]
    pub fn claim(&self, service: &ServiceKey) -> Option<&Claim> {
        self.claims.get(service)
    }

    /// All claims, by Service.
    #[must_use]
    pub fn claims(&self) -> &BTreeMap<ServiceKey, Claim> {
        &self.claims
    }

    /// A Service's lease.
    #[must_use]
    pub fn lease(&self, service: &ServiceKey) -> Option<&Lease> {
        self.leases.get(service)
    }

    /// All leases, by Service.
    #[must_use]
    pub fn leases(&self) -> &BTreeMap<ServiceKey, Lease> {
        &self.leases
    }

    /// Why a Service's newest claim is not met.
    #[must_use]
    pub fn refusal(&self, service: &ServiceKey) -> Option<&Refusal> {
        self.waiting.get(service)
    }

    /// Why the addresses that a Service had before could not stay; `None` if it changed them by its own wish, or never.
    #[must_use]
    pub fn untenable(&self, service: &ServiceKey) -> Option<&Refusal> {
        self.untenable.get(service)
    }

    /// The claims that are not met.
    #[must_use]
    pub fn waiting(&self) -> &BTreeMap<ServiceKey, Refusal> {
        &self.waiting
    }

    /// The addresses in use, each with the Services that hold it.
    #[must_use]
    pub fn holders(&self) -> &BTreeMap<Vip, Holders> {
        &self.holders
    }

    /// The addresses that are kept for somebody, or from everybody.
    #[must_use]
    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// The addresses of a pool that another machine has, ascending.
    pub fn quarantined<'a>(&'a self, pool: &'a Pool) -> impl Iterator<Item = &'a Reservation> {
        let reserved = pool.bounds().flat_map(|(first, last)| self.reservations.within(first, last));
        reserved.filter_map(|vip| quarantine::of(self, vip))
    }

    /// How many different addresses the Services of a namespace hold.
    #[must_use]
    pub fn held_in(&self, namespace: &str) -> usize {
        self.by_namespace.get(namespace).map_or(0, BTreeMap::len)
    }

    /// The different addresses that the Services of a namespace hold, ascending.
    pub(super) fn held_by(&self, namespace: &str) -> impl Iterator<Item = Vip> {
        self.by_namespace.get(namespace).into_iter().flat_map(|vips| vips.keys().copied())
    }

    /// How many Services of a namespace hold an address.
    pub(super) fn holders_in(&self, namespace: &str, vip: Vip) -> usize {
        self.by_namespace.get(namespace).and_then(|vips| vips.get(&vip)).copied().unwrap_or_default()
    }

    /// The reservation that keeps an address from a Service; a Service that holds the address keeps it, unless another machine has it.
    pub(super) fn reserved_against(&self, vip: Vip, service: &ServiceKey) -> Option<&Reservation> {
        let holds_it = self.holders.get(&vip).is_some_and(|holders| holders.contains(service));
        let found = self.reservations.against(vip, service);
        quarantine::of(self, vip).or_else(|| found.filter(|_| !holds_it))
    }

    /// Whether an address is kept from a Service, or from one that nothing is kept for.
    pub(super) fn is_kept_from(&self, vip: Vip, service: Option<&ServiceKey>) -> bool {
        service.map_or_else(|| self.reservations.is_reserved(vip), |service| self.reserved_against(vip, service).is_some())
    }

    /// Whether a watcher's full view has come since the start.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        self.reconciled
    }

    /// The Services that hold an address, without this one.
    pub(super) fn others<'a>(&'a self, vip: Vip, but: Option<&ServiceKey>) -> impl Iterator<Item = &'a Lease> {
        let holders = self.holders.get(&vip).into_iter().flatten().filter(move |holder| Some(*holder) != but);
        holders.filter_map(|holder| self.leases.get(holder))
    }

    /// The addresses held under a sharing key and a backend key.
    pub(super) fn shared(&self, key: &SharingKey, backend: &BackendKey) -> Option<&Shared> {
        self.by_sharing.get(key)?.get(backend)
    }

    /// The addresses held under a sharing key, whatever the backend key.
    pub(super) fn under_key(&self, key: &SharingKey) -> impl Iterator<Item = Vip> {
        self.by_sharing.get(key).into_iter().flat_map(BTreeMap::values).flat_map(Shared::held)
    }

    /// Whether a lease waits for its pool to come back. One whose pool is there without its addresses moves as soon as it can.
    pub(super) fn is_in_grace(&self, service: &ServiceKey) -> bool {
        self.stranded.contains_key(service) && self.leases.get(service).is_some_and(|lease| !self.pools.contains_key(&lease.pool))
    }

    /// When the next lease that is in no pool any more comes to its end. Without a claim it stays: nobody has said what is wanted.
    pub(super) fn next_stranded(&self) -> Option<Mono> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// A claim whose lease is in no pool any more and has come to its end.
    pub(super) fn first_overdue(&self, now: Mono) -> Option<&Claim> {
        let (_, service) = self.ends.first().filter(|(until, _)| *until <= now)?;
        self.claims.get(service)
    }

    /// Whether a claim is due to be met.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty() || self.remedies.has_any()
    }

    /// The claim to meet next: of those that changed or lost something, and those that wait and can be helped.
    pub(super) fn first_due(&self) -> Option<&Claim> {
        let order = self.due.first().into_iter().chain(self.remedies.first()).min()?;
        self.claims.get(&order.service)
    }

    /// The Services whose claims are due whatever could help them.
    pub(super) fn due(&self) -> impl Iterator<Item = &ServiceKey> {
        self.due_as.keys()
    }

    /// Whether a claim that is due is to keep what its status holds, and no more.
    pub(super) fn is_adopting(&self, service: &ServiceKey) -> bool {
        self.due_as.get(service).is_some_and(|order| order.turn == Turn::Adopt)
    }

    /// Takes a fact in.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::ConfigurationReplaced { configuration, stranded_until } => self.replace_pools(configuration, *stranded_until),
            Event::ClaimMade(claim) => {
                self.claims.insert(claim.service.clone(), (**claim).clone());
                self.ends.extend(self.stranded.get(&claim.service).map(|until| (*until, claim.service.clone())));
                self.make_due(&claim.service);
            }
            Event::ClaimDeferred(service) => self.make_due_in(service, Turn::Settle),
            Event::ClaimForgotten(service) => {
                self.not_due(service);
                self.claims.remove(service);
                self.waiting.remove(service);
                self.stranded.get(service).map(|until| self.ends.remove(&(*until, service.clone())));
                self.untenable.remove(service);
            }
            Event::LeaseGranted(lease) => self.grant(lease),
            Event::LeaseReleased(service) => {
                if let Some(lease) = self.withdraw(service) {
                    self.changed(&lease);
                    self.make_due(service);
                }
            }
            Event::ClaimRefused { service, refusal } => {
                self.waiting.insert(service.clone(), refusal.clone());
                self.wait(service);
            }
            Event::LeaseUntenable { service, refusal } => {
                self.untenable.insert(service.clone(), refusal.clone());
            }
            Event::ClaimRetried(service) => self.wait(service),
            Event::ClaimMet(service) => {
                self.waiting.remove(service);
                self.wait_for_second(service);
            }
            Event::AddressReserved { reservation, end } => self.reserve(reservation, *end),
            Event::ReservationEnded { key, .. } => self.unreserve(key),
            Event::ViewReconciled => self.reconciled = true,
            Event::EpochBegan(_)
            | Event::TermBegan(_)
            | Event::ShadowBegan
            | Event::NodesReplaced(_)
            | Event::NodeDrained { .. }
            | Event::NodeRestored(_)
            | Event::BackendsReported(_)
            | Event::Speaker(_)
            | Event::RecoveryEnded
            | Event::Rebalanced(_)
            | Event::VipPlaced { .. }
            | Event::VipDropped(_)
            | Event::VipKept(_)
            | Event::VipAnnounced { .. }
            | Event::RevisionReached(_) => return,
        }
        self.edition = self.edition.saturating_add(1);
    }

    fn grant(&mut self, lease: &Lease) {
        self.not_due(&lease.service);
        self.waiting.remove(&lease.service);
        let before = self.withdraw(&lease.service);
        if before.as_ref().is_none_or(|before| before.addresses != lease.addresses) {
            self.untenable.remove(&lease.service);
        }
        for vip in &lease.addresses {
            match self.holders.entry(*vip) {
                Entry::Occupied(mut holders) => holders.get_mut().insert(lease.service.clone()),
                Entry::Vacant(nobody) => {
                    nobody.insert(Holders::one(lease.service.clone()));
                    if self.reservations.is_reserved(*vip) {
                        take(&self.segments, &mut self.pools, *vip, Pool::unreserve);
                    }
                    take(&self.segments, &mut self.pools, *vip, Pool::take);
                }
            }
            *self.by_namespace.entry(lease.service.namespace().to_owned()).or_default().entry(*vip).or_default() += 1;
            if let Some(key) = &lease.sharing_key {
                let shared = self.by_sharing.entry(key.clone()).or_default().entry(lease.backend_key.clone()).or_default();
                shared.hold(*vip, &lease.ports);
            }
        }
        // All leases of a pool have one copy of its name.
        let pool = self.by_pool.get_key_value(&lease.pool).map_or_else(|| lease.pool.clone(), |(pool, _)| pool.clone());
        self.by_pool.entry(pool.clone()).or_default().insert(lease.service.clone());
        self.leases.insert(lease.service.clone(), Lease { pool, ..lease.clone() });
        for lease in before.iter().chain([lease]) {
            self.changed(lease);
        }
        self.wait_for_second(&lease.service);
    }

    /// Takes a Service's lease out of every index; `None` if it had none.
    fn withdraw(&mut self, service: &ServiceKey) -> Option<Lease> {
        let lease = self.leases.remove(service)?;
        self.unstrand(service);
        if let Some(services) = self.by_pool.get_mut(&lease.pool) {
            services.remove(service);
            if services.is_empty() {
                self.by_pool.remove(&lease.pool);
            }
        }
        for vip in &lease.addresses {
            if self.holders.get_mut(vip).is_some_and(|holders| !holders.remove(service)) {
                self.holders.remove(vip);
                take(&self.segments, &mut self.pools, *vip, Pool::give_back);
                if self.reservations.is_reserved(*vip) {
                    take(&self.segments, &mut self.pools, *vip, Pool::reserve);
                }
            }
            self.unhold(service.namespace(), *vip);
            self.unshare(*vip, &lease);
        }
        Some(lease)
    }

    fn unhold(&mut self, namespace: &str, vip: Vip) {
        let Some(vips) = self.by_namespace.get_mut(namespace) else { return };
        if let Some(count) = vips.get_mut(&vip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                vips.remove(&vip);
            }
        }
        if vips.is_empty() {
            self.by_namespace.remove(namespace);
        }
    }

    /// Takes an address out of the free set, if nobody holds it. A Service that it is for and that waits gets another try.
    fn reserve(&mut self, reservation: &Reservation, end: Option<Mono>) {
        let vip = reservation.key.address;
        if !self.reservations.is_reserved(vip) && !self.holders.contains_key(&vip) {
            take(&self.segments, &mut self.pools, vip, Pool::reserve);
        }
        self.reservations.insert(reservation, end);
        self.changed_at(vip);
        if reservation.origin == ReservationOrigin::Quarantine {
            let holders: Vec<ServiceKey> = self.holders.get(&vip).into_iter().flatten().cloned().collect();
            holders.iter().for_each(|service| self.make_due(service));
        }
        if let Some(service) =
            reservation.key.service.as_ref().filter(|service| self.waiting.contains_key(service) || self.remedies.has(service))
        {
            self.make_due(service);
        }
    }

    /// Ends a reservation: whom it kept from the address can be helped now.
    fn unreserve(&mut self, key: &ReservationKey) {
        let vip = key.address;
        self.reservations.remove(key);
        if !self.reservations.is_reserved(vip) && !self.holders.contains_key(&vip) {
            take(&self.segments, &mut self.pools, vip, Pool::unreserve);
        }
        self.changed_at(vip);
    }

    fn unshare(&mut self, vip: Vip, lease: &Lease) {
        let Some(key) = &lease.sharing_key else { return };
        let Some(by_backend) = self.by_sharing.get_mut(key) else { return };
        if let Some(shared) = by_backend.get_mut(&lease.backend_key) {
            shared.give_up(vip, &lease.ports, self.holders.contains_key(&vip));
            if shared.is_empty() {
                by_backend.remove(&lease.backend_key);
            }
        }
        if by_backend.is_empty() {
            self.by_sharing.remove(key);
        }
    }

    /// A lease began, ended or is another one than before: whoever waits for something that it stands in the way of, or offers, can be
    /// helped now, or no more.
    fn changed(&mut self, lease: &Lease) {
        if self.remedies.is_empty() {
            return;
        }
        for vip in &lease.addresses {
            let pool = self.pool_of(*vip).map(|pool| &pool.spec().name);
            self.look_at(self.remedies.about(*vip, pool, Some(lease)));
        }
        self.look_at(self.remedies.about_namespace(lease.service.namespace()));
    }

    /// An address is reserved now, or no more: the same, for whoever waits for something about it.
    fn changed_at(&mut self, vip: Vip) {
        if self.remedies.is_empty() {
            return;
        }
        // Those that hold an address together have the same keys, so one of them speaks for all.
        let holder = self.holders.get(&vip).and_then(|holders| self.leases.get(holders.first()?));
        let pool = self.pool_of(vip).map(|pool| &pool.spec().name);
        self.look_at(self.remedies.about(vip, pool, holder));
    }

    fn look_at(&mut self, remedies: Vec<Remedy>) {
        for remedy in remedies {
            let is_at_hand = remedy.is_at_hand(self);
            self.remedies.set(remedy, is_at_hand);
        }
    }

    /// Builds anew what changed; who holds addresses of a changed pool is looked at again, and so is everybody who waits.
    fn replace_pools(&mut self, configuration: &Configuration, stranded_until: Mono) {
        let wanted: BTreeMap<PoolName, &PoolSpec> = configuration.pools().iter().map(|spec| (spec.name.clone(), spec)).collect();
        let is_wanted = |name: &PoolName, pool: &Pool| wanted.get(name) == Some(&pool.spec());
        let mut changed: BTreeSet<PoolName> =
            self.pools.iter().filter(|(name, pool)| !is_wanted(name, pool)).map(|(name, _)| name.clone()).collect();
        changed.extend(wanted.keys().filter(|name| !self.pools.contains_key(*name)).cloned());
        self.pools.retain(|name, _| !changed.contains(name));
        self.segments.retain(|_, (_, name)| !changed.contains(name));
        for (name, spec) in wanted {
            if self.pools.contains_key(&name) {
                continue;
            }
            let mut pool = Pool::new(spec.clone());
            for (first, last) in pool.bounds().collect::<Vec<_>>() {
                for (vip, _) in self.holders.range(first..=last) {
                    pool.take(*vip);
                }
                for vip in self.reservations.within(first, last).filter(|vip| !self.holders.contains_key(vip)) {
                    pool.reserve(vip);
                }
                self.segments.insert(first, (last, name.clone()));
            }
            self.pools.insert(name, pool);
        }
        self.configuration = configuration.clone();
        let homeless = self.by_pool.iter().filter(|(name, _)| changed.contains(*name) || !self.pools.contains_key(*name));
        let mut affected: Vec<ServiceKey> = homeless.flat_map(|(_, services)| services).cloned().collect();
        affected.extend(self.stranded.keys().cloned());
        affected.extend(self.waiting.keys().cloned());
        for service in affected {
            self.strand_or_not(&service, stranded_until);
            self.make_due(&service);
        }
    }

    /// Gives a lease that is in no pool any more its grace, once; one that is in a pool again needs none.
    fn strand_or_not(&mut self, service: &ServiceKey, until: Mono) {
        let Some(lease) = self.leases.get(service) else { return };
        if lease.addresses.iter().all(|vip| self.pool_of(*vip).is_some()) {
            self.unstrand(service);
        } else {
            let until = *self.stranded.entry(service.clone()).or_insert(until);
            if self.claims.contains_key(service) {
                self.ends.insert((until, service.clone()));
            }
        }
    }

    fn unstrand(&mut self, service: &ServiceKey) {
        if let Some(until) = self.stranded.remove(service) {
            self.ends.remove(&(until, service.clone()));
        }
    }

    fn order(&self, claim: &Claim, turn: Turn) -> Order {
        let held = self.leases.get(&claim.service).map_or(claim.adopt.len(), |lease| lease.addresses.len());
        Order {
            turn,
            holds_less: usize::MAX.saturating_sub(held),
            automatic: claim.requested_addresses.is_empty(),
            created: claim.created.unwrap_or_default(),
            service: claim.service.clone(),
        }
    }

    fn make_due(&mut self, service: &ServiceKey) {
        let adopts = self.claims.get(service).is_some_and(|claim| !claim.adopt.is_empty()) && !self.leases.contains_key(service);
        self.make_due_in(service, if adopts { Turn::Adopt } else { Turn::Settle });
    }

    fn make_due_in(&mut self, service: &ServiceKey, turn: Turn) {
        self.not_due(service);
        let Some(order) = self.claims.get(service).map(|claim| self.order(claim, turn)) else { return };
        self.due_as.insert(service.clone(), order.clone());
        self.due.insert(order);
    }

    fn not_due(&mut self, service: &ServiceKey) {
        if let Some(order) = self.due_as.remove(service) {
            self.due.remove(&order);
        }
        self.remedies.forget(service);
    }

    /// A claim is not met: it waits for what could help it.
    fn wait(&mut self, service: &ServiceKey) {
        self.not_due(service);
        let Some(claim) = self.claims.get(service) else { return };
        let (order, remedies) = (self.order(claim, Turn::Settle), Remedy::of(self, claim));
        self.remedies.wait(order, remedies);
    }

    /// A claim is met: if it may have more than it has, it waits for what could give it that.
    fn wait_for_second(&mut self, service: &ServiceKey) {
        self.not_due(service);
        let Some(claim) = self.claims.get(service) else { return };
        let remedies = Remedy::of_second(self, claim);
        if !remedies.is_empty() {
            self.remedies.wait(self.order(claim, Turn::Settle), remedies);
        }
    }

    /// Checks the invariants: indexes are as the leases say, and no address is held twice against the rules of sharing.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(super) fn audit(&self) -> Result<(), Violation> {
        let mut fresh = Self::default();
        fresh.replace_pools(&self.configuration, Mono::ZERO);
        for (key, reservation) in self.reservations.all() {
            fresh.reserve(reservation, self.reservations.end_of(key));
        }
        for lease in self.leases.values() {
            fresh.grant(lease);
        }
        let agree = |what: &str, agrees: bool| if agrees { Ok(()) } else { Err(Violation(format!("{what} differ from the leases"))) };
        agree("holders", fresh.holders == self.holders)?;
        agree("sharing keys", fresh.by_sharing == self.by_sharing)?;
        agree("leases by pool", fresh.by_pool == self.by_pool)?;
        agree("addresses by namespace", fresh.by_namespace == self.by_namespace)?;
        agree("indexes of reservations", fresh.reservations.agrees_with(&self.reservations))?;
        for (name, pool) in &self.pools {
            let other = fresh.pools.get(name);
            for family in [Family::V4, Family::V6] {
                let facts = |pool: &Pool| (pool.lowest(family), pool.count(family), pool.available(family));
                agree(&format!("counts of pool {name}"), other.map(facts) == Some(facts(pool)))?;
            }
        }
        let ends = self.stranded.iter().filter(|(service, _)| self.claims.contains_key(*service));
        agree("the ends of stranded leases", ends.map(|(service, until)| (*until, service.clone())).collect::<BTreeSet<_>>() == self.ends)?;
        self.remedies.audit(self)?;
        self.audit_records()
    }

    /// Checks that no address is held twice against the rules of sharing, or reserved against those of reservations. Cheap enough for a
    /// start with very many leases.
    ///
    /// # Errors
    /// The first address that is.
    pub(super) fn audit_records(&self) -> Result<(), Violation> {
        self.reservations.all().values().try_for_each(|reservation| audit_reservation(self, reservation))?;
        self.audit_sharing()
    }

    fn audit_sharing(&self) -> Result<(), Violation> {
        for (vip, holders) in self.holders.iter().filter(|(_, holders)| holders.iter().nth(1).is_some()) {
            let mut leases = holders.iter().filter_map(|service| self.leases.get(service));
            let Some(first) = leases.next() else { continue };
            let mut ports: BTreeMap<ServicePort, &ServiceKey> = first.ports.iter().map(|port| (*port, &first.service)).collect();
            for lease in leases {
                let same = lease.sharing_key.is_some() && lease.sharing_key == first.sharing_key && lease.backend_key == first.backend_key;
                let taken = lease.ports.iter().find_map(|port| ports.insert(*port, &lease.service));
                if let Some(other) = taken.or((!same).then_some(&first.service)) {
                    return Err(Violation(format!("{vip} is held by {other} and {} against the rules of sharing", lease.service)));
                }
            }
        }
        Ok(())
    }
}

/// The address is taken in, or given back to, the pool that has it.
fn take(segments: &BTreeMap<Vip, (Vip, PoolName)>, pools: &mut BTreeMap<PoolName, Pool>, vip: Vip, mark: impl Fn(&mut Pool, Vip)) {
    let segment = segments.range(..=vip).next_back().filter(|(_, (last, _))| vip.family() == last.family() && vip <= *last);
    if let Some(pool) = segment.and_then(|(_, (_, name))| pools.get_mut(name)) {
        mark(pool, vip);
    }
}

/// What a person reserved stands alone, and only the Service that it is for holds it.
fn audit_reservation(book: &Book, reservation: &Reservation) -> Result<(), Violation> {
    let (vip, service) = (reservation.key.address, reservation.key.service.as_ref());
    let mut holders = book.holders.get(&vip).into_iter().flatten();
    let is_right = match reservation.origin {
        ReservationOrigin::Operator => book.reservations.of(vip).count() == 1 && holders.all(|holder| Some(holder) == service),
        ReservationOrigin::Retention => service.is_some(),
        ReservationOrigin::Quarantine => service.is_none(),
    };
    if is_right { Ok(()) } else { Err(Violation(format!("{vip} is {reservation} against the rules of reservations"))) }
}
