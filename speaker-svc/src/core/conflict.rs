//! Somebody else claims a VIP that we answer for (RFC 5227 §2.4; for IPv6 by the same rules).
//!
//! Our own node: nothing. A peer, while the allocator is there: it decides. If it gives the VIP to another one we only go on until that one
//! has begun, and say nothing; if it gives the VIP to us the peer has not heard that it lost it, and those that heard the peer have to hear
//! us again. A peer, while the allocator is not there, or before it has said that the VIP is still ours: we yield, as the peer was told
//! later than we; only whom we took the VIP from by ourselves has to yield to us (`standby`). A stranger: we defend once, report, and go on answering (RFC 5227 §2.4 c).

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
    if held.standing != Standing::Announced || !held.links.contains(&link) || state.interfaces.is_own(mac) {
        return Vec::new();
    }
    let doubtful = state.schedule.doubts(vip, link);
    if held.assigned.peers.contains(&mac) || state.acquaintances.contains(&mac) {
        let was_active = held.assigned.active.as_ref().is_some_and(|active| active.macs.contains(&mac));
        if was_active && state.vigil.taken().contains(&vip) && !doubtful {
            return vec![Event::PeerContradicted { vip, mac, link }];
        }
        return match (state.session.is_live() && !doubtful, held.assigned.leads) {
            (false, _) => yield_to(vip, mac, held),
            (true, false) => Vec::new(),
            (true, true) => vec![Event::PeerContradicted { vip, mac, link }],
        };
    }
    // In doubt we do not know all peers either.
    let defended = held.strife.as_ref().and_then(|strife| strife.defended);
    let defend = !doubtful && defended.is_none_or(|defended| now >= defended + DEFEND_INTERVAL);
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

/// A peer was announcing what is ours: those that heard it have to hear us again.
pub(super) fn reassert(state: &mut State, vip: Vip, link: LinkIndex, now: Mono) {
    state.schedule.reassert(vip, link, now);
}

/// Remembers a stranger.
pub(super) fn note(state: &mut State, vip: Vip, mac: MacAddress, defend: bool, now: Mono) {
    let Some(held) = state.vips.get_mut(&vip) else { return };
    let before = held.strife.as_deref().copied().unwrap_or(Strife { claims: 0, mac, defended: None });
    let defended = if defend { Some(now) } else { before.defended };
    held.strife = Some(Box::new(Strife { claims: before.claims.saturating_add(1), mac, defended }));
}

#[cfg(test)]
mod tests;
