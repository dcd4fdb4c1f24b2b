//! Addresses that are kept for somebody, or from everybody: by a person, or because the Service that held them is gone and may come back.
//!
//! A reserved address leaves the free set of its pool. An address that several Services shared has one reservation for each of them, so
//! that all of them meet there again; what a person reserved stands alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::history::EndCause;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::reservation::{Reservation, ReservationKey, ReservationOrigin};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::{Mono, UnixMillis};

use super::refusal::{NotInConfig, Refusal};
use super::state::State;
use super::{Event, Now};

/// All reservations and their indexes.
#[derive(Clone, Debug, Default)]
pub struct Reservations {
    all: BTreeMap<ReservationKey, Reservation>,
    by_service: BTreeMap<ServiceKey, BTreeSet<Vip>>,
    /// When each one ends that does so by itself.
    ends: BTreeMap<ReservationKey, Mono>,
    /// The same, the next one first.
    next: BTreeSet<(Mono, ReservationKey)>,
}

impl Reservations {
    /// All of them, by address.
    #[must_use]
    pub fn all(&self) -> &BTreeMap<ReservationKey, Reservation> {
        &self.all
    }

    /// Those of an address; more than one only where Services that shared it may come back.
    pub fn of(&self, vip: Vip) -> impl Iterator<Item = &Reservation> {
        let from = ReservationKey { address: vip, service: None };
        self.all.range((Bound::Included(from), Bound::Unbounded)).take_while(move |(key, _)| key.address == vip).map(|(_, found)| found)
    }

    /// Whether an address is reserved, for whomever.
    #[must_use]
    pub fn is_reserved(&self, vip: Vip) -> bool {
        self.of(vip).next().is_some()
    }

    /// The reservation that keeps an address from a Service; `None` if it is kept for that Service, or not reserved.
    #[must_use]
    pub fn against(&self, vip: Vip, service: &ServiceKey) -> Option<&Reservation> {
        let is_own = self.by_service.get(service).is_some_and(|vips| vips.contains(&vip));
        self.of(vip).next().filter(|_| !is_own)
    }

    /// The addresses that are kept for a Service, ascending.
    pub fn kept_for(&self, service: &ServiceKey) -> impl Iterator<Item = Vip> {
        self.by_service.get(service).into_iter().flatten().copied()
    }

    /// The reserved addresses from `first` to `last`, each once.
    pub(super) fn within(&self, first: Vip, last: Vip) -> impl Iterator<Item = Vip> {
        let from = ReservationKey { address: first, service: None };
        let mut before = None;
        let found =
            self.all.range((Bound::Included(from), Bound::Unbounded)).map(|(key, _)| key.address).take_while(move |vip| *vip <= last);
        found.filter(move |vip| before.replace(*vip) != Some(*vip))
    }

    /// When a reservation ends by itself.
    pub(super) fn end_of(&self, key: &ReservationKey) -> Option<Mono> {
        self.ends.get(key).copied()
    }

    /// When the next one ends by itself.
    pub(super) fn next_end(&self) -> Option<Mono> {
        self.next.first().map(|(end, _)| *end)
    }

    pub(super) fn insert(&mut self, reservation: &Reservation, end: Option<Mono>) {
        let key = &reservation.key;
        self.remove(key);
        if let Some(service) = &key.service {
            self.by_service.entry(service.clone()).or_default().insert(key.address);
        }
        if let Some(end) = end {
            self.ends.insert(key.clone(), end);
            self.next.insert((end, key.clone()));
        }
        self.all.insert(key.clone(), reservation.clone());
    }

    pub(super) fn remove(&mut self, key: &ReservationKey) {
        self.all.remove(key);
        if let Some(end) = self.ends.remove(key) {
            self.next.remove(&(end, key.clone()));
        }
        if let Some(service) = &key.service
            && let Some(vips) = self.by_service.get_mut(service)
        {
            vips.remove(&key.address);
            if vips.is_empty() {
                self.by_service.remove(service);
            }
        }
    }

    /// Whether the indexes are those of the same reservations.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.all == other.all && self.by_service == other.by_service && self.ends == other.ends && self.next == other.next
    }
}

/// When a reservation ends by the clock that never goes back.
#[must_use]
pub fn end(until: Option<UnixMillis>, now: Now) -> Option<Mono> {
    until.map(|until| now.mono + until.saturating_since(now.wall))
}

/// A person keeps an address for a Service, or from all.
pub(super) fn reserve(
    state: &State,
    key: ReservationKey,
    duration: Option<Duration>,
    note: String,
    now: Now,
) -> Result<Vec<Event>, Refusal> {
    let (book, vip) = (&state.book, key.address);
    if book.pool_of(vip).is_none() {
        return Err(Refusal::NotInConfig { requested: vec![vip], cause: NotInConfig::NoPool(vip) });
    }
    let holders: Vec<ServiceKey> = book.holders().get(&vip).into_iter().flatten().cloned().collect();
    if holders.iter().any(|holder| Some(holder) != key.service.as_ref()) {
        return Err(Refusal::AddressHeld { vip, holders });
    }
    let mut events = ended(state, vip, EndCause::Replaced);
    let until = duration.map(|duration| now.wall + duration);
    events.push(reserved(Reservation { key, until, note, since: now.wall, origin: ReservationOrigin::Operator }, now));
    Ok(events)
}

/// A person ends every reservation of an address.
pub(super) fn release(state: &State, vip: Vip) -> Vec<Event> {
    ended(state, vip, EndCause::Operator)
}

/// What stays reserved of a lease that comes to its end because its Service is gone. Where a person has reserved an address, that stands.
pub(super) fn retain(state: &State, lease: &Lease, now: Now) -> Vec<Event> {
    let service = &lease.service;
    let wanted = state.book.claim(service).map_or(lease.retain, |claim| claim.retain).unwrap_or(state.settings.retain);
    if wanted.is_zero() {
        return Vec::new();
    }
    let reservations = state.book.reservations();
    let is_free = |vip: &Vip| reservations.of(*vip).all(|found| found.origin == ReservationOrigin::Retention);
    let keep = |vip: Vip| Reservation {
        key: ReservationKey { address: vip, service: Some(service.clone()) },
        until: Some(now.wall + wanted),
        note: String::new(),
        since: now.wall,
        origin: ReservationOrigin::Retention,
    };
    lease.addresses.iter().copied().filter(is_free).map(|vip| reserved(keep(vip), now)).collect()
}

/// A Service holds addresses again: what was reserved because it was gone is over.
pub(super) fn back(state: &State, service: &ServiceKey) -> Vec<Event> {
    let reservations = state.book.reservations();
    let key = |address: Vip| ReservationKey { address, service: Some(service.clone()) };
    let kept = reservations.kept_for(service).filter_map(|vip| reservations.all().get(&key(vip)));
    let retained = kept.filter(|kept| kept.origin == ReservationOrigin::Retention);
    retained.map(|kept| Event::ReservationEnded { key: kept.key.clone(), cause: EndCause::ServiceBack }).collect()
}

/// Ends the first reservation whose time is over; `None` if there is none.
pub(super) fn expire_next(state: &State, now: Now) -> Option<Vec<Event>> {
    let (_, key) = state.book.reservations().next.first().filter(|(end, _)| *end <= now.mono)?;
    Some(vec![Event::ReservationEnded { key: key.clone(), cause: EndCause::Expired }])
}

fn reserved(reservation: Reservation, now: Now) -> Event {
    Event::AddressReserved { end: end(reservation.until, now), reservation: Box::new(reservation) }
}

fn ended(state: &State, vip: Vip, cause: EndCause) -> Vec<Event> {
    state.book.reservations().of(vip).map(|found| Event::ReservationEnded { key: found.key.clone(), cause }).collect()
}

#[cfg(test)]
mod tests;
