//! Addresses that another machine on the LAN has: they are handed out to nobody for a while (DESIGN 3.4).
//!
//! A quarantine is a reservation for nobody, with one difference: also who holds the address does not keep it, but gets the next one. Only
//! a Service that asks for just this address goes on holding it, unannounced, and is told why.

use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::SpeakerId;
use mooring_proto::types::reservation::{Reservation, ReservationKey, ReservationOrigin};

use super::nodes::{Conflict, SpeakerEvent};
use super::state::{Book, State};
use super::{Event, Now, reservations};

/// How long an address is left alone: long enough for a person to see it, short enough to try again by itself.
const QUARANTINE: Duration = Duration::from_secs(600);

/// What stands against handing an address out.
pub(super) fn of(book: &Book, vip: Vip) -> Option<&Reservation> {
    book.reservations().of(vip).find(|found| found.origin == ReservationOrigin::Quarantine)
}

/// A speaker was to announce a VIP and found it at another machine. It counts if the VIP is to be asked for first, and the machine is no
/// node.
pub(super) fn found(state: &State, by: &SpeakerId, vip: Vip, conflict: Conflict, now: Now) -> Vec<Event> {
    let network = &state.network;
    let active = network.placements().get(&vip).into_iter().flatten().any(|placement| placement.active == *by);
    let held = state.book.holders().contains_key(&vip);
    if !active || !held || network.is_proven(vip) || network.has_mac(conflict.mac) {
        return Vec::new();
    }
    let until = Some(now.wall + QUARANTINE);
    let note = format!("in use by {} on node {} ({})", conflict.mac, conflict.node, conflict.interface);
    let key = ReservationKey { address: vip, service: None };
    let reservation = Reservation { key, until, note, since: now.wall, origin: ReservationOrigin::Quarantine };
    let reserved = Event::AddressReserved { end: reservations::end(until, now), reservation: Box::new(reservation) };
    vec![Event::Speaker(SpeakerEvent::FoundInUse { vip, conflict }), reserved]
}

#[cfg(test)]
mod tests;
