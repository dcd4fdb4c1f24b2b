//! Has somebody else the address? A VIP that nobody of Mooring has held of late is asked for before it is announced (RFC 5227 §2.1).
//!
//! Only the allocator knows what was held, and says for which VIPs to ask. While we ask we do not answer. Whoever answers, and is no node of
//! ours, has the VIP: we do not announce it, and say so; it is for the allocator to give the Service another one. If nobody does we
//! announce it and say that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use mooring_proto::types::time::Mono;

use super::assignment::service_updates;
use super::interfaces::LinkIndex;
use super::pace::Batch;
use super::state::{Silence, Standing};
use super::{Change, Event, State};

/// Questions before a VIP is announced (RFC 5227 §1.1, `PROBE_NUM`).
const PROBES: u8 = 3;

/// Pause after each. RFC 5227 has a second, for hosts that are just being configured; those that hold an address answer in a millisecond,
/// and a Service waits for this.
const PAUSE: Duration = Duration::from_millis(20);

/// When to look again whether there is an interface to ask on.
const PATIENCE: Duration = Duration::from_secs(1);

/// The VIPs that are asked for.
#[derive(Debug, Default)]
pub struct Inquiry {
    /// How often each was asked for, and when it is next.
    asked: BTreeMap<Vip, (u8, Mono)>,
    due: BTreeSet<(Mono, Vip)>,
    /// Questions go out as rounds do, which are twice as large.
    batch: Batch,
}

impl Inquiry {
    /// Asks for a VIP from now on.
    pub(super) fn begin(&mut self, vip: Vip, now: Mono) {
        self.put(vip, 0, now);
    }

    /// Asks for a VIP no more.
    pub(super) fn end(&mut self, vip: Vip) {
        if let Some((_, at)) = self.asked.remove(&vip) {
            self.due.remove(&(at, vip));
        }
    }

    /// The VIPs that are asked for, ascending.
    pub(super) fn vips(&self) -> impl Iterator<Item = Vip> {
        self.asked.keys().copied()
    }

    /// Whether exactly these VIPs are asked for.
    pub(super) fn is_about(&self, vips: &BTreeSet<Vip>) -> bool {
        let due = self.asked.iter().map(|(vip, (_, at))| (*at, *vip));
        self.asked.keys().eq(vips) && due.collect::<BTreeSet<_>>() == self.due
    }

    fn put(&mut self, vip: Vip, count: u8, at: Mono) {
        self.end(vip);
        self.asked.insert(vip, (count, at));
        self.due.insert((at, vip));
    }
}

/// What follows from the questions that are due.
pub(super) fn due(state: &State, now: Mono) -> Vec<Event> {
    let inquiry = &state.inquiry;
    let due = inquiry.due.iter().take_while(|(at, _)| *at <= now).take(inquiry.batch.room(now));
    due.flat_map(|(_, vip)| step(state, *vip, inquiry.asked.get(vip).map_or(0, |(count, _)| *count))).collect()
}

/// When the next one is.
pub(super) fn next_deadline(state: &State) -> Option<Mono> {
    state.inquiry.due.first().map(|(at, _)| state.inquiry.batch.opens(*at))
}

fn step(state: &State, vip: Vip, count: u8) -> Vec<Event> {
    let Some(held) = state.vips.get(&vip) else { return Vec::new() };
    if count >= PROBES {
        let proven = [Event::StandingChanged { vip, standing: Standing::Announced }, Event::AddressProven(vip)];
        return proven.into_iter().chain(service_updates(vip, &held.assigned.services, Change::Announced)).collect();
    }
    let can_ask = state.ports_for(&held.assigned).next().is_some();
    vec![if can_ask { Event::ProbeDue(vip) } else { Event::ProbePutOff(vip) }]
}

/// Somebody says that it has a VIP that is asked for. A node of ours that has not heard that it has it no more is nobody to be afraid of.
pub(super) fn hear(state: &State, vip: Vip, mac: MacAddress, link: LinkIndex) -> Vec<Event> {
    let (Some(held), Some(port)) = (state.vips.get(&vip), state.interfaces.port(link)) else { return Vec::new() };
    let ours = state.interfaces.is_own(mac) || held.assigned.peers.contains(&mac) || state.acquaintances.contains(&mac);
    if held.standing != Standing::Silent(Silence::Probing) || ours || !held.assigned.allows(&port.name) {
        return Vec::new();
    }
    let standing = Standing::Silent(Silence::InUse);
    vec![Event::StandingChanged { vip, standing }, Event::AddressFound { vip, mac, interface: port.name.clone() }]
}

/// Everybody was asked.
pub(super) fn asked(state: &mut State, vip: Vip, now: Mono) {
    let inquiry = &mut state.inquiry;
    inquiry.batch.note(now);
    if let Some((count, _)) = inquiry.asked.get(&vip).copied() {
        inquiry.put(vip, count.saturating_add(1), now + PAUSE);
    }
}

/// Nobody could be asked.
pub(super) fn put_off(state: &mut State, vip: Vip, now: Mono) {
    if let Some((count, _)) = state.inquiry.asked.get(&vip).copied() {
        state.inquiry.put(vip, count, now + PATIENCE);
    }
}

#[cfg(test)]
mod tests;
