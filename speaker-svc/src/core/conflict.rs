//! Somebody else claims a VIP that we answer for (RFC 5227 §2.4; for IPv6 by the same rules).
//!
//! Our own node: nothing. A peer, while the allocator is there: it decides. If it gives the VIP to another one we only go on until that one
//! has begun, and say nothing; if it gives the VIP to us the peer has not heard that it lost it, and those that heard the peer have to hear
//! us again. A stranger: we defend once, report, and go on answering (RFC 5227 §2.4 c).
//!
//! A peer, while the allocator is not there, or before it has said that the VIP is still ours: we yield, as the peer was told later than we,
//! and stand by for it once it answers (`standby`). If both said so in the same moment, or in turn, it may have yielded too: then we have the
//! VIP again as soon as it does not answer (`probe`). Whom we followed has to yield to us, so we say some times first that we have the VIP; of
//! two that followed each other the one that comes last by name says so once more, so that no two say it equally often, and the one that does
//! so less often yields alone.

use std::sync::Arc;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::Role;
use mooring_proto::types::node::{MacAddress, NodeName};
use mooring_proto::types::time::Mono;

use super::announce::Phase;
use super::assignment::service_updates;
use super::interfaces::LinkIndex;
use super::standby::ActivePeer;
use super::state::{Assigned, Dispute, Held, Silence, Standing, Strife};
use super::{Change, Event, State, Withdrawal};

/// The least time between two defenses of a VIP: `DEFEND_INTERVAL` of RFC 5227 §1.1, so that two defenders do not flood the LAN.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// How long we wait before we contradict a peer while the allocator is there: it may have given the VIP to that one, and its word to us be on
/// its way still. Those that heard us last would send to us, who are about to fall silent.
const HESITATION: Duration = Duration::from_millis(30);

/// How often we say without an allocator that a VIP is ours to the node that had it before us: for two seconds, as it yields after two rounds
/// that it hears, but not before it has given its own session up, and some may get lost.
const INSISTENCE: u8 = 10;

/// Claims within so long after we have said that a VIP is ours are one claim: a round is two frames, others are on their way, and two rounds
/// of a peer are at least 200 ms apart.
const ONE_CLAIM: Duration = Duration::from_millis(150);

/// Two that announce a VIP within so long of each other may each hear the other one: frames cross on a LAN in a millisecond, and a busy host
/// takes some to look at them.
const CROSSING: Duration = Duration::from_millis(30);

/// After so long without a claim a dispute is over.
const DISPUTE: Duration = Duration::from_secs(5);

impl Dispute {
    /// Whether a claim is still the one that we have answered.
    fn is_same(self, now: Mono) -> bool {
        now < self.at + ONE_CLAIM
    }
}

/// The dispute about a VIP that is not over.
fn present(held: &Held, now: Mono) -> Option<Dispute> {
    held.dispute.as_deref().copied().filter(|dispute| now < dispute.at + DISPUTE)
}

/// A station claims a VIP.
pub(super) fn claim(state: &State, vip: Vip, mac: MacAddress, link: LinkIndex, now: Mono) -> Vec<Event> {
    let (Some(held), Some(port)) = (state.vips.get(&vip), state.interfaces.port(link)) else { return Vec::new() };
    if held.standing != Standing::Announced || !held.links.contains(&link) || state.interfaces.is_own(mac) {
        return Vec::new();
    }
    let doubtful = state.schedule.doubts(vip, link);
    if let Some(peer) = state.peer(held, mac) {
        let is_told = state.session.is_live() && !doubtful;
        return match (is_told, held.assigned.leads) {
            (true, false) => Vec::new(),
            (true, true) => vec![Event::PeerContradicted { vip, mac, link }],
            (false, true) if !doubtful && insists(state, held, peer, now) => contradict(state, held, peer, (mac, link), now),
            (false, _) => yield_to(state, held, peer, mac, now),
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

/// We say that a VIP is ours, and where the peer is one that we followed and that is new, so are all that it had before us: it asks for none
/// of them, and we ask for one after the other.
fn contradict(state: &State, held: &Held, peer: &NodeName, (mac, link): (MacAddress, LinkIndex), now: Mono) -> Vec<Event> {
    let own = std::iter::once(Event::PeerContradicted { vip: held.assigned.vip, mac, link });
    let is_news = |held: &Held| present(held, now).is_none();
    let others = state.vigil.vips_of(peer).filter(|vip| *vip != held.assigned.vip).filter_map(|vip| state.vips.get(&vip));
    let others = others.filter(|other| is_news(held) && is_news(other) && other.standing == Standing::Announced);
    let links = |other: &Held| -> Vec<Event> {
        other.links.iter().map(|link| Event::PeerContradicted { vip: other.assigned.vip, mac, link: *link }).collect()
    };
    own.chain(others.flat_map(links)).collect()
}

/// Whether we say once more that a VIP is ours. What comes soon after we said so is the same claim.
fn insists(state: &State, held: &Held, peer: &NodeName, now: Mono) -> bool {
    let followed = held.assigned.followed.as_ref().is_some_and(|followed| followed.node == *peer);
    let most = if followed { INSISTENCE + u8::from(state.settings.speaker.node > *peer) } else { 0 };
    present(held, now).map_or(most > 0, |dispute| dispute.said < most || dispute.is_same(now))
}

/// We are silent, and stand by for the peer once it has answered.
fn yield_to(state: &State, held: &Held, peer: &NodeName, mac: MacAddress, now: Mono) -> Vec<Event> {
    let vip = held.assigned.vip;
    let crossed = state.schedule.was_announced(vip, CROSSING, now);
    let silence = if present(held, now).is_some() || crossed { Silence::Yielding } else { Silence::Yielded };
    let standing = Standing::Silent(silence);
    let active = Some(ActivePeer::yielded_to(state, held, peer));
    let assigned = Assigned { role: Role::Standby, leads: false, active, followed: None, ..(*held.assigned).clone() };
    let mut events = vec![Event::AssignmentStored(Arc::new(assigned)), Event::StandingChanged { vip, standing }];
    events.push(Event::Yielded { vip, mac });
    events.extend(service_updates(vip, &held.assigned.services, Change::Withdrawn(Withdrawal::YieldedToPeer)));
    events
}

/// A peer was announcing what is ours: those that heard it have to hear us again.
pub(super) fn reassert(state: &mut State, vip: Vip, link: LinkIndex, now: Mono) {
    let is_live = state.session.is_live();
    state.schedule.reassert(vip, link, if is_live { now + HESITATION } else { now });
    if is_live {
        return;
    }
    let Some(held) = state.vips.get_mut(&vip) else { return };
    let present = present(held, now);
    if present.is_none_or(|dispute| !dispute.is_same(now)) {
        held.dispute = Some(Box::new(Dispute { said: present.map_or(0, |dispute| dispute.said).saturating_add(1), at: now }));
    }
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
