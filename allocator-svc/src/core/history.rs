//! What of a fact is worth being kept: who was granted and released which addresses, and why; what was reserved, and how that ended.
//! And back from there: who held an address at a time, from who holds it now and the facts since.

use std::collections::BTreeMap;

use mooring_proto::types::address::Vip;
use mooring_proto::types::history::{Holder, Holding, PastFact, ReleaseCause};
use mooring_proto::types::lease::Lease;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;

use super::Event;
use super::state::{Book, State};

/// What the history has to say of a fact. The state is as it was before the fact.
#[must_use]
pub fn facts(before: &State, event: &Event) -> Vec<PastFact> {
    let book = &before.book;
    match event {
        Event::LeaseGranted(lease) => granted(book, lease),
        Event::LeaseReleased(service) => book.lease(service).map(|lease| ended(book, lease)).into_iter().collect(),
        Event::AddressReserved { reservation, .. } => vec![PastFact::Reserved((**reservation).clone())],
        Event::ReservationEnded { key, cause } => {
            let reservation = book.reservations().all().get(key).cloned();
            reservation.map(|reservation| PastFact::ReservationEnded { reservation, cause: *cause }).into_iter().collect()
        }
        Event::EpochBegan(_)
        | Event::TermBegan(_)
        | Event::ConfigurationReplaced { .. }
        | Event::ShadowBegan
        | Event::ClaimMade(_)
        | Event::ClaimDeferred(_)
        | Event::LeaseUntenable { .. }
        | Event::ClaimForgotten(_)
        | Event::ClaimRefused { .. }
        | Event::ClaimRetried(_)
        | Event::ClaimMet(_)
        | Event::ViewReconciled
        | Event::NodesReplaced(_)
        | Event::BackendsReported(_)
        | Event::Speaker(_)
        | Event::RecoveryEnded
        | Event::VipPlaced { .. }
        | Event::VipDropped(_)
        | Event::VipKept(_)
        | Event::VipAnnounced { .. }
        | Event::Rebalanced(_)
        | Event::RevisionReached(_) => Vec::new(),
    }
}

/// Who holds an address; made to be taken back fact by fact, the newest first, to who held it before.
#[derive(Clone, Debug)]
pub struct Holders {
    vip: Vip,
    held: BTreeMap<ServiceKey, Holder>,
}

impl Holders {
    /// Those who hold the address now.
    #[must_use]
    pub fn now(state: &State, vip: Vip) -> Self {
        let leases = state.book.holders().get(&vip).into_iter().flatten().filter_map(|service| state.book.lease(service));
        let holder = |lease: &Lease| Holder {
            service: lease.service.clone(),
            uid: lease.uid.clone(),
            pool: lease.pool.clone(),
            since: lease.granted,
        };
        Self { vip, held: leases.map(|lease| (lease.service.clone(), holder(lease))).collect() }
    }

    /// As it was before this fact.
    pub fn undo(&mut self, fact: &PastFact) {
        match fact {
            PastFact::Granted(holding) if holding.addresses.contains(&self.vip) => {
                self.held.remove(&holding.service);
            }
            PastFact::Released { holding, since, .. } if holding.addresses.contains(&self.vip) => {
                let Holding { service, uid, pool, .. } = holding.clone();
                self.held.insert(service.clone(), Holder { service, uid, pool, since: *since });
            }
            PastFact::Granted(_) | PastFact::Released { .. } | PastFact::Reserved(_) | PastFact::ReservationEnded { .. } => {}
        }
    }

    /// Those who held the address at a time, once all facts after it are undone as far as they are kept: since `known`. Before that only
    /// they count who had it by their own word then.
    #[must_use]
    pub fn at(self, at: UnixMillis, known: UnixMillis) -> Vec<Holder> {
        let certain = self.held.into_values().filter(|holder| at >= known || holder.since <= at);
        certain.map(|holder| Holder { since: holder.since.min(at), ..holder }).collect()
    }
}

/// What a Service gains, and what it gives up for it. A Service that was made anew under the same name gives up everything first.
fn granted(book: &Book, lease: &Lease) -> Vec<PastFact> {
    let before = book.lease(&lease.service);
    let anew = before.is_some_and(|before| !before.uid.0.is_empty() && !lease.uid.0.is_empty() && before.uid != lease.uid);
    let had = |vip: &Vip| before.is_some_and(|before| before.addresses.contains(vip));
    let mut facts = Vec::new();
    if let Some(before) = before {
        let lost = |cause: ReleaseCause| {
            let lost = before.addresses.iter().filter(|vip| anew || !lease.addresses.contains(vip));
            lost.copied().filter(|vip| self::cause(book, *vip, anew) == cause).collect::<Vec<_>>()
        };
        for cause in [ReleaseCause::ServiceGone, ReleaseCause::Moved, ReleaseCause::PoolGone] {
            facts.extend(holding(before, lost(cause)).map(|holding| PastFact::Released { holding, since: before.granted, cause }));
        }
    }
    let gained = lease.addresses.iter().copied().filter(|vip| anew || !had(vip)).collect();
    facts.extend(holding(lease, gained).map(PastFact::Granted));
    facts
}

/// Why a Service that holds others now does not hold this address any more.
fn cause(book: &Book, vip: Vip, anew: bool) -> ReleaseCause {
    if anew {
        ReleaseCause::ServiceGone
    } else if book.pool_of(vip).is_some_and(|pool| pool.hands_out(vip)) {
        ReleaseCause::Moved
    } else {
        ReleaseCause::PoolGone
    }
}

/// The end of a lease. A Service that still claims addresses has lost them with their pool.
fn ended(book: &Book, lease: &Lease) -> PastFact {
    let cause = if book.claim(&lease.service).is_none() { ReleaseCause::ServiceGone } else { ReleaseCause::PoolGone };
    PastFact::Released { holding: whole(lease, lease.addresses.clone()), since: lease.granted, cause }
}

fn holding(lease: &Lease, addresses: Vec<Vip>) -> Option<Holding> {
    (!addresses.is_empty()).then(|| whole(lease, addresses))
}

fn whole(lease: &Lease, addresses: Vec<Vip>) -> Holding {
    Holding { service: lease.service.clone(), uid: lease.uid.clone(), addresses, pool: lease.pool.clone() }
}

#[cfg(test)]
mod tests;
