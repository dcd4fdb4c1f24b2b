//! A claim: keep what the Service has, change it, or grant it new addresses (MetalLB behaviour 3.4, with the old address kept until the
//! new one is had).

use std::fmt;

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::pool::PoolName;

use super::dual_stack::{Grant, Need, candidate};
use super::free::Pool;
use super::refusal::Refusal;
use super::rules::{self, explicit, sharing};
use super::state::{Book, State};
use super::{Event, Now, quota, reservations};

/// Meets the first claim that is due; `None` if none is.
pub(super) fn settle_next(state: &State, now: Now) -> Option<Vec<Event>> {
    state.book.first_due().map(|claim| settle(state, claim, now))
}

/// Decides one claim over the present state.
pub(super) fn settle(state: &State, claim: &Claim, now: Now) -> Vec<Event> {
    let book = &state.book;
    let lease = book.lease(&claim.service);
    if waits_for_its_pool(book, claim) {
        return vec![Event::ClaimMet(claim.service.clone())];
    }
    if book.is_adopting(&claim.service) {
        return adopt(state, claim, now);
    }
    let unkept = match keep(state, claim) {
        Ok(grant) => return granted(state, claim, extended(book, claim, grant), now),
        Err(unkept) => unkept,
    };
    match rules::judge(book, claim) {
        Ok(grant) => granted(state, claim, grant, now).into_iter().chain(untenable(claim, unkept)).collect(),
        Err(refusal) => match lease.and_then(|lease| elsewhere(book, claim, lease)) {
            Some(grant) => {
                let refused = Event::ClaimRefused { service: claim.service.clone(), refusal };
                granted(state, claim, grant, now).into_iter().chain([refused]).collect()
            }
            None if lease.is_some() => vec![refused(state, claim, refusal)],
            None => std::iter::once(refused(state, claim, refusal)).chain(untenable(claim, unkept)).collect(),
        },
    }
}

/// A lease whose addresses are in another pool than it says, as pools were renamed or merged: the same addresses by that pool.
fn elsewhere(book: &Book, claim: &Claim, lease: &Lease) -> Option<Grant> {
    as_they_are(book, claim, &lease.addresses).ok().filter(|grant| grant.pool != lease.pool)
}

/// Just these addresses by the pool that has them, if the Service may have them.
fn as_they_are(book: &Book, claim: &Claim, addresses: &[Vip]) -> Result<Grant, Refusal> {
    let pool = explicit::allowed(book, claim, addresses)?;
    Ok(Grant { addresses: addresses.to_vec(), pool: pool.spec().name.clone() })
}

/// Whether a Service keeps what it has as its pool may come back.
pub(super) fn waits_for_its_pool(book: &Book, claim: &Claim) -> bool {
    book.is_in_grace(&claim.service) && !asks_for_others(claim, book.lease(&claim.service))
}

/// Keeps what a status holds, also for whoever asks for something else: it is to move, and has that until it can. Whoever may not keep it,
/// or wants more or others, waits until all others have done so: what is free now may be in the status of one of them.
fn adopt(state: &State, claim: &Claim, now: Now) -> Vec<Event> {
    let deferred = || Event::ClaimDeferred(claim.service.clone());
    match keep(state, claim) {
        Ok(grant) => {
            let is_extensible = missing(claim, &grant.addresses).is_some();
            granted(state, claim, grant, now).into_iter().chain(is_extensible.then(deferred)).collect()
        }
        Err(Unkept::OtherFamilies | Unkept::OtherAddresses | Unkept::OtherPool(_)) => {
            let kept = as_they_are(&state.book, claim, &claim.adopt).ok();
            kept.into_iter().flat_map(|grant| granted(state, claim, grant, now)).chain([deferred()]).collect()
        }
        Err(Unkept::Nothing | Unkept::Untenable(_)) => vec![deferred()],
    }
}

/// Moves a Service whose addresses are in no pool any more and whose grace is over; where it can have no others, it has none, and its
/// claim is due again.
pub(super) fn evict(state: &State, claim: &Claim, now: Now) -> Vec<Event> {
    let end = match rules::judge(&state.book, claim) {
        Ok(grant) => granted(state, claim, grant, now),
        Err(_refusal) => vec![Event::LeaseReleased(claim.service.clone())],
    };
    end.into_iter().chain(keep(state, claim).err().and_then(|unkept| untenable(claim, unkept))).collect()
}

/// Why a Service does not keep the addresses that it has.
pub(super) enum Unkept {
    /// It has none.
    Nothing,
    /// They are not of the families that it needs.
    OtherFamilies,
    /// It asks for others.
    OtherAddresses,
    /// It asks for another pool than this one, which has them.
    OtherPool(PoolName),
    /// It may not.
    Untenable(Refusal),
}

impl fmt::Display for Unkept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("it has no addresses"),
            Self::OtherFamilies => f.write_str("what it has is not of the families that it needs"),
            Self::OtherAddresses => f.write_str("it asks for other addresses than those that it has"),
            Self::OtherPool(pool) => write!(f, "what it has is in pool {pool}, and it asks for another one"),
            Self::Untenable(refusal) => refusal.fmt(f),
        }
    }
}

fn untenable(claim: &Claim, unkept: Unkept) -> Option<Event> {
    match unkept {
        Unkept::Nothing | Unkept::OtherFamilies | Unkept::OtherAddresses | Unkept::OtherPool(_) => None,
        Unkept::Untenable(refusal) => Some(Event::LeaseUntenable { service: claim.service.clone(), refusal }),
    }
}

/// The addresses that the Service has, or that its status holds, if it may and wants to keep them. Whether it may is asked before whether
/// it wants to (MetalLB behaviour 3.4.7).
pub(super) fn keep(state: &State, claim: &Claim) -> Result<Grant, Unkept> {
    let book = &state.book;
    let lease = book.lease(&claim.service);
    let addresses = lease.map_or(&claim.adopt, |lease| &lease.addresses);
    if addresses.is_empty() {
        return Err(Unkept::Nothing);
    }
    if !Need::of(claim).is_met_by(addresses) {
        return Err(Unkept::OtherFamilies);
    }
    let grant = as_they_are(book, claim, addresses).map_err(Unkept::Untenable)?;
    if asks_for_others_than(claim, addresses) {
        return Err(Unkept::OtherAddresses);
    }
    if claim.requested_pool.as_ref().is_some_and(|wanted| *wanted != grant.pool) {
        return Err(Unkept::OtherPool(grant.pool));
    }
    Ok(grant)
}

/// With PreferDualStack a second address is added from the same pool as soon as there is one and the namespace's quota affords it, unless
/// just the first is asked for.
pub(super) fn extended(book: &Book, claim: &Claim, mut kept: Grant) -> Grant {
    if let Some(family) = missing(claim, &kept.addresses)
        && let Some(pool) = book.pools().get(&kept.pool)
        && let Some(other) = second(book, claim, pool, family, &kept.addresses)
    {
        kept.addresses.push(other);
        kept.addresses.sort();
    }
    kept
}

/// The family of which a Service that has these addresses may have another one.
pub(super) fn missing(claim: &Claim, addresses: &[Vip]) -> Option<Family> {
    Need::of(claim).is_extended_by(addresses).filter(|_| claim.requested_addresses.is_empty())
}

/// The address of a pool and family that a Service takes beside those that it keeps: one that its namespace holds already where the quota has
/// no room for more.
fn second(book: &Book, claim: &Claim, pool: &Pool, family: Family, kept: &[Vip]) -> Option<Vip> {
    let is_affordable = |other: &Vip| quota::affords(book, claim, &[kept, &[*other]].concat());
    candidate(book, claim, pool, family).filter(is_affordable).or_else(|| sharing::joined(book, claim, pool, family))
}

/// Whether addresses are asked for and these are not they.
fn asks_for_others_than(claim: &Claim, addresses: &[Vip]) -> bool {
    let sorted = |list: &[Vip]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    !claim.requested_addresses.is_empty() && sorted(&claim.requested_addresses) != sorted(addresses)
}

/// Whether a claim wants to leave the lease it has.
fn asks_for_others(claim: &Claim, lease: Option<&Lease>) -> bool {
    let Some(lease) = lease else { return true };
    asks_for_others_than(claim, &lease.addresses) || claim.requested_pool.as_ref().is_some_and(|pool| *pool != lease.pool)
}

/// The lease, with which a reservation for a Service that was gone ends; or that it is there already.
fn granted(state: &State, claim: &Claim, grant: Grant, now: Now) -> Vec<Event> {
    let before = state.book.lease(&claim.service);
    let unmoved = before.filter(|before| before.addresses == grant.addresses);
    let lease = Lease {
        service: claim.service.clone(),
        uid: claim.uid.clone(),
        addresses: grant.addresses,
        pool: grant.pool,
        ports: claim.ports.clone(),
        sharing_key: claim.sharing_key.clone(),
        backend_key: claim.backend_key.clone(),
        revision: unmoved.map_or_else(|| state.feed.revision().next(), |before| before.revision),
        granted: unmoved.map_or(now.wall, |before| before.granted),
        retain: claim.retain,
    };
    if before == Some(&lease) {
        return vec![Event::ClaimMet(lease.service)];
    }
    let mut events = vec![Event::LeaseGranted(Box::new(Lease { revision: state.feed.revision().next(), ..lease }))];
    events.extend(reservations::back(state, &claim.service));
    events
}

/// The refusal; the Service keeps what it has.
fn refused(state: &State, claim: &Claim, refusal: Refusal) -> Event {
    let service = claim.service.clone();
    if state.book.refusal(&service) == Some(&refusal) { Event::ClaimRetried(service) } else { Event::ClaimRefused { service, refusal } }
}
