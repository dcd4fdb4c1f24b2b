//! The allocator's state and its indexes.
//!
//! [`Book`] says who holds which address, [`Network`] who is there to announce and who does, [`Feed`] what changed since a revision.
//! Only [`State::apply`] changes any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, SharingKey};
use mooring_proto::types::lease::{Epoch, Lease, Term};
use mooring_proto::types::pool::{Configuration, PoolName, PoolSpec};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::{Mono, UnixMillis};

use super::feed::Feed;
use super::free::Pool;
use super::nodes::Network;
use super::refusal::Refusal;
use super::{Event, Leadership};

mod copy;

pub use copy::Part;

/// What the flags say about decisions.
#[derive(Clone, Copy, Debug)]
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
}

/// All that the allocator knows.
#[derive(Clone, Debug)]
pub struct State {
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
            settings,
            epoch: Epoch::default(),
            term: Term::default(),
            book: Book::default(),
            network: Network::default(),
            feed: Feed::default(),
        }
    }

    /// Takes a fact in.
    pub(super) fn apply(&mut self, event: &Event) {
        self.feed.note(event, &self.book);
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

/// The place of a claim among those that are due: who holds addresses first (more first), then explicit requests, then age, then name
/// (MetalLB behaviour 3.9, made total).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order {
    holds_less: usize,
    automatic: bool,
    created: UnixMillis,
    service: ServiceKey,
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
    holders: BTreeMap<Vip, BTreeSet<ServiceKey>>,
    by_sharing: BTreeMap<(SharingKey, BackendKey), BTreeMap<Vip, usize>>,
    by_pool: BTreeMap<PoolName, BTreeSet<ServiceKey>>,
    /// First address of each segment of each pool, with the last one; segments are disjoint.
    segments: BTreeMap<Vip, (Vip, PoolName)>,
    due: BTreeSet<Order>,
    due_as: BTreeMap<ServiceKey, Order>,
    /// Leases in no pool any more, each with the end of its time.
    stranded: BTreeMap<ServiceKey, Mono>,
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
    pub fn holders(&self) -> &BTreeMap<Vip, BTreeSet<ServiceKey>> {
        &self.holders
    }

    /// Whether a watcher's full view has come since the start.
    #[must_use]
    pub fn is_reconciled(&self) -> bool {
        self.reconciled
    }

    /// The Services that hold an address besides this one.
    pub(super) fn others(&self, vip: Vip, service: &ServiceKey) -> impl Iterator<Item = &Lease> {
        self.holders.get(&vip).into_iter().flatten().filter(move |holder| *holder != service).filter_map(|holder| self.leases.get(holder))
    }

    /// The addresses held under a sharing key and a backend key, ascending.
    pub(super) fn shared(&self, key: &SharingKey, backend: &BackendKey) -> impl Iterator<Item = Vip> {
        self.by_sharing.get(&(key.clone(), backend.clone())).into_iter().flat_map(|vips| vips.keys().copied())
    }

    /// The addresses held under a sharing key, whatever the backend key.
    pub(super) fn under_key<'a>(&'a self, key: &'a SharingKey) -> impl Iterator<Item = Vip> + 'a {
        let from = (key.clone(), BackendKey::default());
        self.by_sharing.range(from..).take_while(move |((other, _), _)| other == key).flat_map(|(_, vips)| vips.keys().copied())
    }

    /// Whether a lease waits for its pool to come back. One whose pool is there without its addresses moves as soon as it can.
    pub(super) fn is_in_grace(&self, service: &ServiceKey) -> bool {
        self.stranded.contains_key(service) && self.leases.get(service).is_some_and(|lease| !self.pools.contains_key(&lease.pool))
    }

    /// When the next lease that is in no pool any more comes to its end. Without a claim it stays: nobody has said what is wanted.
    pub(super) fn next_stranded(&self) -> Option<Mono> {
        self.stranded.iter().filter(|(service, _)| self.claims.contains_key(*service)).map(|(_, until)| *until).min()
    }

    /// A claim whose lease is in no pool any more and has come to its end.
    pub(super) fn first_overdue(&self, now: Mono) -> Option<&Claim> {
        self.stranded.iter().filter(|(_, until)| **until <= now).find_map(|(service, _)| self.claims.get(service))
    }

    /// Whether a claim is due to be met.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The claim to meet next.
    pub(super) fn first_due(&self) -> Option<&Claim> {
        self.due.first().and_then(|order| self.claims.get(&order.service))
    }

    /// Takes a fact in.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::ConfigurationReplaced { configuration, stranded_until } => self.replace_pools(configuration, *stranded_until),
            Event::ClaimMade(claim) => {
                self.not_due(&claim.service);
                self.claims.insert(claim.service.clone(), (**claim).clone());
                self.make_due(&claim.service);
            }
            Event::ClaimForgotten(service) => {
                self.not_due(service);
                self.claims.remove(service);
                self.waiting.remove(service);
                self.untenable.remove(service);
            }
            Event::LeaseGranted(lease) => self.grant(lease),
            Event::LeaseReleased(service) => {
                if self.withdraw(service) {
                    self.all_waiting_due();
                }
            }
            Event::ClaimRefused { service, refusal } => {
                self.not_due(service);
                self.waiting.insert(service.clone(), refusal.clone());
            }
            Event::LeaseUntenable { service, refusal } => {
                self.untenable.insert(service.clone(), refusal.clone());
            }
            Event::ClaimRetried(service) => self.not_due(service),
            Event::ClaimMet(service) => {
                self.not_due(service);
                self.waiting.remove(service);
            }
            Event::ViewReconciled => self.reconciled = true,
            Event::EpochBegan(_)
            | Event::TermBegan(_)
            | Event::NodesReplaced(_)
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
        self.stranded.remove(&lease.service);
        if self.leases.get(&lease.service).map(|before| &before.addresses) != Some(&lease.addresses) {
            self.untenable.remove(&lease.service);
        }
        let frees = self.leases.get(&lease.service).is_some_and(|before| {
            before.addresses != lease.addresses
                || before.ports != lease.ports
                || before.sharing_key != lease.sharing_key
                || before.backend_key != lease.backend_key
        });
        self.withdraw(&lease.service);
        for vip in &lease.addresses {
            let holders = self.holders.entry(*vip).or_default();
            if holders.is_empty() {
                take(&self.segments, &mut self.pools, *vip, Pool::take);
            }
            holders.insert(lease.service.clone());
            if let Some(key) = &lease.sharing_key {
                *self.by_sharing.entry((key.clone(), lease.backend_key.clone())).or_default().entry(*vip).or_default() += 1;
            }
        }
        self.by_pool.entry(lease.pool.clone()).or_default().insert(lease.service.clone());
        self.leases.insert(lease.service.clone(), lease.clone());
        if frees {
            self.all_waiting_due();
        } else if let Some(key) = &lease.sharing_key {
            self.waiting_due(|claim| claim.sharing_key.as_ref() == Some(key));
        }
    }

    /// Takes a Service's lease out of every index; false if it had none.
    fn withdraw(&mut self, service: &ServiceKey) -> bool {
        let Some(lease) = self.leases.remove(service) else { return false };
        self.stranded.remove(service);
        if let Some(services) = self.by_pool.get_mut(&lease.pool) {
            services.remove(service);
            if services.is_empty() {
                self.by_pool.remove(&lease.pool);
            }
        }
        for vip in &lease.addresses {
            if let Some(holders) = self.holders.get_mut(vip) {
                holders.remove(service);
                if holders.is_empty() {
                    self.holders.remove(vip);
                    take(&self.segments, &mut self.pools, *vip, Pool::give_back);
                }
            }
            if let Some(key) = &lease.sharing_key {
                self.unshare(&(key.clone(), lease.backend_key.clone()), *vip);
            }
        }
        true
    }

    fn unshare(&mut self, keys: &(SharingKey, BackendKey), vip: Vip) {
        let Some(vips) = self.by_sharing.get_mut(keys) else { return };
        if let Some(count) = vips.get_mut(&vip) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                vips.remove(&vip);
            }
        }
        if vips.is_empty() {
            self.by_sharing.remove(keys);
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
                self.segments.insert(first, (last, name.clone()));
            }
            self.pools.insert(name, pool);
        }
        self.configuration = configuration.clone();
        let homeless = self.by_pool.iter().filter(|(name, _)| changed.contains(*name) || !self.pools.contains_key(*name));
        let mut affected: Vec<ServiceKey> = homeless.flat_map(|(_, services)| services).cloned().collect();
        affected.extend(self.stranded.keys().cloned());
        for service in affected {
            self.strand_or_not(&service, stranded_until);
            self.make_due(&service);
        }
        self.all_waiting_due();
    }

    /// Gives a lease that is in no pool any more its grace, once; one that is in a pool again needs none.
    fn strand_or_not(&mut self, service: &ServiceKey, until: Mono) {
        let Some(lease) = self.leases.get(service) else { return };
        if lease.addresses.iter().all(|vip| self.pool_of(*vip).is_some()) {
            self.stranded.remove(service);
        } else {
            self.stranded.entry(service.clone()).or_insert(until);
        }
    }

    fn order(&self, claim: &Claim) -> Order {
        let held = self.leases.get(&claim.service).map_or(claim.adopt.len(), |lease| lease.addresses.len());
        Order {
            holds_less: usize::MAX.saturating_sub(held),
            automatic: claim.requested_addresses.is_empty(),
            created: claim.created.unwrap_or_default(),
            service: claim.service.clone(),
        }
    }

    fn make_due(&mut self, service: &ServiceKey) {
        let Some(order) = self.claims.get(service).map(|claim| self.order(claim)) else { return };
        self.not_due(service);
        self.due_as.insert(service.clone(), order.clone());
        self.due.insert(order);
    }

    fn not_due(&mut self, service: &ServiceKey) {
        if let Some(order) = self.due_as.remove(service) {
            self.due.remove(&order);
        }
    }

    /// Something became free or compatible: every claim that waits gets another try, in order.
    fn all_waiting_due(&mut self) {
        self.waiting_due(|_| true);
    }

    fn waiting_due(&mut self, helped: impl Fn(&Claim) -> bool) {
        let helped = |service: &&ServiceKey| self.claims.get(*service).is_some_and(&helped);
        let services: Vec<ServiceKey> = self.waiting.keys().filter(helped).cloned().collect();
        for service in services {
            self.make_due(&service);
        }
    }

    /// Checks the invariants: indexes are as the leases say, and no address is held twice against the rules of sharing.
    ///
    /// # Errors
    /// The first that does not hold.
    pub(super) fn audit(&self) -> Result<(), Violation> {
        let mut fresh = Self::default();
        fresh.replace_pools(&self.configuration, Mono::ZERO);
        for lease in self.leases.values() {
            fresh.grant(lease);
        }
        let agree = |what: &str, agrees: bool| if agrees { Ok(()) } else { Err(Violation(format!("{what} differ from the leases"))) };
        agree("holders", fresh.holders == self.holders)?;
        agree("sharing keys", fresh.by_sharing == self.by_sharing)?;
        agree("leases by pool", fresh.by_pool == self.by_pool)?;
        for (name, pool) in &self.pools {
            let other = fresh.pools.get(name);
            for family in [Family::V4, Family::V6] {
                let facts = |pool: &Pool| (pool.lowest(family), pool.count(family), pool.available(family));
                agree(&format!("counts of pool {name}"), other.map(facts) == Some(facts(pool)))?;
            }
        }
        for lease in self.leases.values() {
            audit_sharing(self, lease)?;
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

fn audit_sharing(book: &Book, lease: &Lease) -> Result<(), Violation> {
    for vip in &lease.addresses {
        for other in book.others(*vip, &lease.service) {
            let same = lease.sharing_key.is_some() && lease.sharing_key == other.sharing_key && lease.backend_key == other.backend_key;
            if !same || !lease.ports.is_disjoint(&other.ports) {
                return Err(Violation(format!("{vip} is held by {} and {} against the rules of sharing", lease.service, other.service)));
            }
        }
    }
    Ok(())
}
