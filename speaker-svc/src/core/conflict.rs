//! Somebody else claims a VIP that we answer for (RFC 5227 §2.4).
//!
//! Our own node: nothing. A peer, while the allocator is there: a handover, which the allocator decides. A peer, while it is not: we
//! yield, as the peer was told later than we. A stranger: we defend once, report, and go on answering (RFC 5227 §2.4 c).

use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use mooring_proto::types::time::Mono;

use super::announce::Phase;
use super::assignment::service_updates;
use super::interfaces::LinkIndex;
use super::state::{Silence, Standing, Strife};
use super::{Change, Event, State, Withdrawal};

/// The least time between two defenses of a VIP: `DEFEND_INTERVAL` of RFC 5227 §1.1, so that two defenders do not flood the LAN.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// A station claims a VIP.
pub(super) fn claim(state: &State, vip: Vip, mac: MacAddress, link: LinkIndex, now: Mono) -> Vec<Event> {
    let (Some(held), Some(port)) = (state.vips.get(&vip), state.interfaces.port(link)) else { return Vec::new() };
    if held.standing != Standing::Announced || !held.assigned.allows(&port.name) || state.interfaces.is_own(mac) {
        return Vec::new();
    }
    if held.assigned.peers.contains(&mac) {
        return if state.session.is_live() { Vec::new() } else { yield_to(vip, mac, held) };
    }
    let defend = held.strife.is_none_or(|strife| now >= strife.defended + DEFEND_INTERVAL);
    let mut events = vec![Event::ConflictSeen { vip, mac, interface: port.name.clone(), defend }];
    if defend {
        events.push(Event::AnnouncementDue { vip, link, phase: Phase::Defense });
    }
    events
}

fn yield_to(vip: Vip, mac: MacAddress, held: &super::state::Held) -> Vec<Event> {
    let standing = Standing::Silent(Silence::Yielded);
    let mut events = vec![Event::StandingChanged { vip, standing }, Event::Yielded { vip, mac }];
    events.extend(service_updates(vip, &held.assigned.services, Change::Withdrawn(Withdrawal::YieldedToPeer)));
    events
}

/// Remembers a stranger.
pub(super) fn note(state: &mut State, vip: Vip, mac: MacAddress, defend: bool, now: Mono) {
    let Some(held) = state.vips.get_mut(&vip) else { return };
    let before = held.strife.unwrap_or(Strife { claims: 0, mac, defended: now });
    let defended = if defend { now } else { before.defended };
    held.strife = Some(Strife { claims: before.claims.saturating_add(1), mac, defended });
}

#[cfg(test)]
mod tests;
