//! A copy of a book, taken in parts: whoever owns the book is kept from its work only for a moment at a time.
//!
//! A part has what everything else follows from; the indexes are built anew. Parts of one book belong together if it was not changed
//! between them, which [`Part::edition`] tells.

use std::collections::BTreeSet;
use std::ops::Bound;

use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::reservation::{Reservation, ReservationKey};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::Book;
use crate::core::Event;
use crate::core::refusal::Refusal;
use crate::core::reservations::Reservations;

/// Some Services of a book, with all that is known of each, then some reservations.
#[derive(Clone, Debug)]
pub struct Part {
    edition: u64,
    services: Vec<Known>,
    reservations: Vec<(Reservation, Option<Mono>)>,
    next: Option<Place>,
}

/// How far a copy has come.
#[derive(Clone, Debug)]
pub enum Place {
    /// After this Service; none = at the beginning.
    Services(Option<ServiceKey>),
    /// After all Services and this reservation; none = before the first one.
    Reservations(Option<ReservationKey>),
}

/// What a book knows of a Service.
#[derive(Clone, Debug)]
struct Known {
    claim: Option<Claim>,
    lease: Option<Lease>,
    refusal: Option<Refusal>,
    stranded: Option<Mono>,
}

impl Part {
    /// How often the book had been changed.
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Where the next part begins, if this is not the last one.
    #[must_use]
    pub fn next(&self) -> Option<&Place> {
        self.next.as_ref()
    }
}

impl Book {
    /// At most so many Services and reservations, from a place on.
    #[must_use]
    pub fn part(&self, from: &Place, most: usize) -> Part {
        match from {
            Place::Services(after) => self.part_of_services(after.as_ref(), most),
            Place::Reservations(after) => part_of_reservations(&self.reservations, self.edition, after.as_ref(), most),
        }
    }

    fn part_of_services(&self, after: Option<&ServiceKey>, most: usize) -> Part {
        // Whoever adds to a book decides here whether it follows from the rest or has to be taken along.
        let Self {
            claims,
            leases,
            waiting,
            stranded,
            edition,
            reservations,
            configuration: _,
            pools: _,
            untenable: _,
            holders: _,
            by_sharing: _,
            by_pool: _,
            by_namespace: _,
            segments: _,
            due: _,
            due_as: _,
            remedies: _,
            ends: _,
            reconciled: _,
        } = self;
        let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let claimed = claims.range::<ServiceKey, _>(range).map(|(key, _)| key).take(most);
        let leased = leases.range::<ServiceKey, _>(range).map(|(key, _)| key).take(most);
        let keys: BTreeSet<&ServiceKey> = claimed.chain(leased).collect();
        let known = |key: &&ServiceKey| Known {
            claim: claims.get(*key).cloned(),
            lease: leases.get(*key).cloned(),
            refusal: waiting.get(*key).cloned(),
            stranded: stranded.get(*key).copied(),
        };
        let services: Vec<Known> = keys.iter().take(most).map(known).collect();
        match keys.iter().take(most).next_back() {
            Some(last) if services.len() == most => {
                let next = Some(Place::Services(Some((*last).clone())));
                Part { edition: *edition, services, reservations: Vec::new(), next }
            }
            Some(_) | None => Part { services, ..part_of_reservations(reservations, *edition, None, most.saturating_sub(keys.len())) },
        }
    }

    /// A book of which these are all parts.
    #[must_use]
    pub fn copied(configuration: &Configuration, parts: Vec<Part>) -> Self {
        let mut book = Self { reconciled: true, ..Self::default() };
        book.replace_pools(configuration, Mono::ZERO);
        for (reservation, end) in parts.iter().flat_map(|part| &part.reservations) {
            book.reserve(reservation, *end);
        }
        let known: Vec<Known> = parts.into_iter().flat_map(|part| part.services).collect();
        for lease in known.iter().filter_map(|known| known.lease.as_ref()) {
            book.grant(lease);
        }
        let mut refused = Vec::new();
        for Known { claim, lease, refusal, stranded } in known {
            if let (Some(lease), Some(until)) = (lease, stranded) {
                book.stranded.insert(lease.service, until);
            }
            let Some(claim) = claim else { continue };
            refused.extend(refusal.map(|refusal| Event::ClaimRefused { service: claim.service.clone(), refusal }));
            book.ends.extend(book.stranded.get(&claim.service).map(|until| (*until, claim.service.clone())));
            book.claims.insert(claim.service.clone(), claim);
        }
        refused.iter().for_each(|event| book.apply(event));
        book
    }
}

fn part_of_reservations(reservations: &Reservations, edition: u64, after: Option<&ReservationKey>, most: usize) -> Part {
    let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    let found = reservations.all().range::<ReservationKey, _>(range).take(most);
    let taken: Vec<_> = found.map(|(key, reservation)| (reservation.clone(), reservations.end_of(key))).collect();
    let last = taken.last().filter(|_| taken.len() == most);
    let next = last.map(|(reservation, _)| Place::Reservations(Some(reservation.key.clone())));
    Part { edition, services: Vec::new(), reservations: taken, next }
}
