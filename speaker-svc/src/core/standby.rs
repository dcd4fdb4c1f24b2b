//! The nodes that we stand by for: whether they answer, and what follows if they do not (DESIGN 3.4).
//!
//! Each [`BEAT`] we ask each such node for one of its VIPs, each in its turn, so that ten thousand VIPs cost no more than ten. What is not
//! answered is asked again in the next beat, of everybody, together with a few other VIPs of the node; after three misses a VIP counts as
//! mute, and all VIPs of a node that has answered for nothing meanwhile.
//!
//! While the allocator is there that only hastens its verdict. While it is not we take over what is mute, by ourselves, and tell it when it
//! is back: the newest takeover wins. Whoever had the VIP, and is there again, yields (`conflict`). We go on asking it, as we do whom we
//! followed by the allocator's word, so that after a LAN was in two parts we notice that both answer. Another speaker on the node of the active one has nothing to ask, as it has the same MAC.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Role};
use mooring_proto::types::node::{MacAddress, NodeName};
use mooring_proto::types::time::Mono;

use super::assignment::service_updates;
use super::state::{Assigned, Held, Silence, Standing, Violation};
use super::{Change, Event, State};

/// How often a node is asked: with [`MISSES`] a loss is noticed in 300 to 400 ms, well before the allocator's time to live is over.
pub const BEAT: Duration = Duration::from_millis(100);

/// Questions without an answer after which a VIP is mute: a frame or two may get lost on a LAN, or be dropped by a busy host.
const MISSES: u32 = 3;

/// VIPs asked for in a beat of a node that has just missed: enough to tell one VIP that is missing from a node that is.
const SAMPLE: usize = 4;

/// Into so many parts a beat is divided, so that not all nodes are asked at the same moment.
const PARTS: u32 = 8;

/// The node that announces what we stand by for.
#[derive(Debug, PartialEq, Eq)]
pub struct ActivePeer {
    /// Its name.
    pub node: NodeName,
    /// The hardware addresses of its interfaces.
    pub macs: BTreeSet<MacAddress>,
}

impl ActivePeer {
    /// The one that an assignment has us stand by for.
    pub(super) fn of(assignment: &Assignment) -> Option<Self> {
        let node = assignment.active.clone()?;
        let macs = assignment.peers.get(&node)?.clone();
        Some(Self { node, macs })
    }

    /// A peer to which we yield a VIP, and stand by for from then on.
    pub(super) fn yielded_to(state: &State, held: &Held, node: &NodeName) -> Arc<Self> {
        let known = held.assigned.peers.iter().chain(&state.acquaintances).filter(|(_, other)| *other == node);
        let active = Self { node: node.clone(), macs: known.map(|(mac, _)| *mac).collect() };
        state.vigil.peer(node).filter(|known| ***known == active).map_or_else(|| Arc::new(active), Arc::clone)
    }
}

/// Whom a question goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressee {
    /// The node that should answer.
    Active,
    /// Everybody: the VIP may be another one's by now, or the node have another hardware address.
    All,
}

/// What is known of a node.
#[derive(Debug)]
struct Watch {
    peer: Arc<ActivePeer>,
    /// What we stand by for.
    vips: BTreeSet<Vip>,
    /// The VIPs asked for that were not answered for, with how often in a row.
    asked: BTreeMap<Vip, u32>,
    /// The last one asked for in its turn.
    turn: Option<Vip>,
    /// It has answered since the last beat.
    heard: bool,
    /// Beats in a row in which it has not.
    silent: u32,
    /// VIPs that another peer answers for, since this one is silent.
    covered: BTreeSet<Vip>,
    /// When it is asked next.
    due: Mono,
}

impl Watch {
    /// Beats in a row without an answer, the one that ends now among them.
    fn silent_now(&self) -> u32 {
        if self.heard || self.asked.is_empty() { 0 } else { self.silent.saturating_add(1) }
    }

    /// The VIPs that nobody answers for.
    fn mute(&self) -> BTreeSet<Vip> {
        let missed = self.asked.iter().filter(|(_, misses)| **misses >= MISSES).map(|(vip, _)| *vip);
        let all = self.vips.difference(&self.covered).filter(|_| self.silent_now() >= MISSES);
        missed.chain(all.copied()).collect()
    }

    /// What is asked next: what was missed again, and what is next in turn.
    fn next(&self, can_ask: impl Fn(&Vip) -> bool) -> Vec<Vip> {
        let again = self.asked.iter().filter(|(_, misses)| **misses < MISSES).map(|(vip, _)| *vip);
        let more = if (1..MISSES).contains(&self.silent_now()) { SAMPLE } else { 1 };
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        // All of them once, beginning after the last one.
        let in_turn = self.vips.range((after, Bound::Unbounded)).chain(&self.vips).take(self.vips.len());
        let in_turn = in_turn.filter(|vip| self.asked.get(vip).is_none_or(|misses| *misses >= MISSES) && can_ask(vip));
        again.filter(&can_ask).chain(in_turn.take(more).copied()).collect()
    }

    /// Whom to ask for a VIP.
    fn addressee(&self, vip: Vip) -> Addressee {
        if self.asked.contains_key(&vip) || self.covered.contains(&vip) { Addressee::All } else { Addressee::Active }
    }
}

/// All that we stand by for.
#[derive(Debug, Default)]
pub struct Vigil {
    watches: BTreeMap<NodeName, Watch>,
    due: BTreeSet<(Mono, NodeName)>,
    /// What we took over by ourselves, until the allocator has said whose it is.
    taken: BTreeSet<Vip>,
}

impl Vigil {
    /// The one copy of what is known of a node.
    pub(super) fn peer(&self, node: &NodeName) -> Option<&Arc<ActivePeer>> {
        self.watches.get(node).map(|watch| &watch.peer)
    }

    /// The VIPs for which a node is asked.
    pub(super) fn vips_of(&self, node: &NodeName) -> impl Iterator<Item = Vip> {
        self.watches.get(node).into_iter().flat_map(|watch| &watch.vips).copied()
    }

    /// What we took over by ourselves and the allocator has not heard of.
    pub(super) fn taken(&self) -> &BTreeSet<Vip> {
        &self.taken
    }

    /// A VIP that was another node's to announce is now this one's.
    pub(super) fn follow(&mut self, vip: Vip, before: Option<&ActivePeer>, after: Option<&Arc<ActivePeer>>, now: Mono) {
        if let Some(before) = before.filter(|before| after.is_none_or(|after| after.node != before.node)) {
            self.leave(vip, &before.node);
        }
        let Some(after) = after else { return };
        if let Some(watch) = self.watches.get_mut(&after.node) {
            watch.vips.insert(vip);
            watch.peer = Arc::clone(after);
            return;
        }
        let part = u32::try_from(self.watches.len()).unwrap_or_default() % PARTS;
        let (peer, vips, due) = (Arc::clone(after), BTreeSet::from([vip]), now + BEAT / PARTS * part);
        let (asked, covered) = (BTreeMap::new(), BTreeSet::new());
        self.due.insert((due, after.node.clone()));
        self.watches.insert(after.node.clone(), Watch { peer, vips, asked, turn: None, heard: false, silent: 0, covered, due });
    }

    fn leave(&mut self, vip: Vip, node: &NodeName) {
        let Some(watch) = self.watches.get_mut(node) else { return };
        watch.vips.remove(&vip);
        watch.asked.remove(&vip);
        watch.covered.remove(&vip);
        if watch.vips.is_empty() {
            self.due.remove(&(watch.due, node.clone()));
            self.watches.remove(node);
        }
    }

    /// A VIP is the allocator's to give again; whether we had taken it over.
    pub(super) fn settle(&mut self, vip: Vip) -> bool {
        self.taken.remove(&vip)
    }

    /// Questions that were asked count for nothing any more: we may have missed the answers.
    pub(super) fn begin_anew(&mut self) {
        for watch in self.watches.values_mut() {
            watch.asked.clear();
            watch.silent = 0;
        }
    }

    /// Nobody is there to decide any more: what is silent is not waited for.
    pub(super) fn hurry(&mut self, now: Mono) {
        for (node, watch) in self.watches.iter_mut().filter(|(_, watch)| watch.silent >= MISSES && !watch.heard) {
            self.due.remove(&(watch.due, node.clone()));
            watch.due = now;
            self.due.insert((now, node.clone()));
        }
    }

    /// Whether exactly these VIPs are watched, each with its node, and each node has its time.
    pub(super) fn watches_just(&self, vips: BTreeSet<(&NodeName, Vip)>) -> bool {
        let watched = self.watches.iter().flat_map(|(node, watch)| watch.vips.iter().map(move |vip| (node, *vip)));
        let due = self.watches.iter().map(|(node, watch)| (watch.due, node.clone()));
        let bounded = |watch: &Watch| watch.asked.keys().chain(&watch.covered).all(|vip| watch.vips.contains(vip));
        watched.collect::<BTreeSet<_>>() == vips && due.collect::<BTreeSet<_>>() == self.due && self.watches.values().all(bounded)
    }
}

/// What follows from the beats that are due.
pub(super) fn due(state: &State, now: Mono) -> Vec<Event> {
    let due = state.vigil.due.iter().take_while(|(at, _)| *at <= now);
    due.filter_map(|(_, node)| state.vigil.watches.get_key_value(node)).flat_map(|(node, watch)| beat(state, node, watch)).collect()
}

/// When the next beat is due.
pub(super) fn next_deadline(state: &State) -> Option<Mono> {
    state.vigil.due.first().map(|(at, _)| *at)
}

fn beat(state: &State, node: &NodeName, watch: &Watch) -> Vec<Event> {
    let mut events = Vec::new();
    let silent = watch.silent_now();
    if state.session.is_live() {
        // Said again as long as it lasts: the allocator forgets it when it hears the node.
        if silent > 0 && silent.is_multiple_of(MISSES) {
            events.extend(watch.vips.first().map(|vip| Event::PeerSuspected { vip: *vip, node: node.clone() }));
        }
    } else if !state.is_draining() {
        for vip in watch.mute() {
            take_over(state, vip, node, &mut events);
        }
    }
    let can_ask = |vip: &Vip| state.vips.get(vip).is_some_and(|held| state.ports_for(&held.assigned).next().is_some());
    let questions = watch.next(can_ask).into_iter().map(|vip| (vip, watch.addressee(vip)));
    events.push(Event::PeerAsked { node: node.clone(), questions: questions.collect() });
    events
}

/// Nobody answers for a VIP, and nobody is there who could give it to us.
pub(super) fn take_over(state: &State, vip: Vip, node: &NodeName, events: &mut Vec<Event>) {
    let Some(held) = state.vips.get(&vip) else { return };
    let silent = matches!(held.standing, Standing::Silent(Silence::Standby | Silence::Yielding));
    if !silent || state.ports_for(&held.assigned).next().is_none() {
        return;
    }
    let followed = held.assigned.active.clone();
    let assigned = Arc::new(Assigned { role: Role::Active, leads: true, followed, ..(*held.assigned).clone() });
    events.push(Event::AssignmentStored(Arc::clone(&assigned)));
    events.push(Event::StandingChanged { vip, standing: Standing::Announced });
    events.push(Event::TookOver { vip, node: node.clone() });
    events.extend(service_updates(vip, &assigned.services, Change::Announced));
}

/// Somebody says that it has a VIP, in answer to us or unasked.
pub(super) fn hear(state: &State, vip: Vip, mac: MacAddress) -> Vec<Event> {
    let held = state.vips.get(&vip).filter(|held| state.watched(&held.assigned).is_some());
    let known = held.is_some_and(|held| held.assigned.peers.contains_key(&mac));
    if known { vec![Event::PeerHeard { vip, mac }] } else { Vec::new() }
}

/// A peer has answered for a VIP.
pub(super) fn heard(state: &mut State, vip: Vip, mac: MacAddress) {
    let Some(active) = state.vips.get(&vip).and_then(|held| state.watched(&held.assigned).cloned()) else { return };
    let Some(watch) = state.vigil.watches.get_mut(&active.node) else { return };
    watch.asked.remove(&vip);
    if active.macs.contains(&mac) {
        watch.heard = true;
        watch.covered.clear();
    } else {
        watch.covered.insert(vip);
    }
}

/// A node was asked, or could not be.
pub(super) fn asked(state: &mut State, node: &NodeName, questions: &[(Vip, Addressee)], now: Mono) {
    let Some(watch) = state.vigil.watches.get_mut(node) else { return };
    watch.silent = watch.silent_now();
    let missed: Vec<Vip> = watch.asked.extract_if(.., |_, misses| *misses >= MISSES).map(|(vip, _)| vip).collect();
    for vip in missed {
        watch.covered.remove(&vip);
    }
    for (vip, _) in questions {
        let misses = watch.asked.entry(*vip).or_default();
        if *misses == 0 {
            watch.turn = Some(*vip);
        }
        *misses = misses.saturating_add(1);
    }
    if questions.is_empty() {
        watch.asked.clear();
        watch.silent = 0;
    }
    watch.heard = false;
    let due = std::mem::replace(&mut watch.due, now + BEAT);
    state.vigil.due.remove(&(due, node.clone()));
    state.vigil.due.insert((now + BEAT, node.clone()));
}

/// We took a VIP over: it is announced at once, as nobody is there to confirm it, and whoever may have had it was asked.
pub(super) fn took_over(state: &mut State, vip: Vip, now: Mono) {
    state.vigil.taken.insert(vip);
    for link in state.schedule.links_of(vip) {
        state.schedule.start(vip, link, true, now);
    }
}

/// Checks that what is asked, looked at and probed is what should be.
pub(super) fn audit(state: &State) -> Result<(), Violation> {
    let stood_by = state.vips.values().filter(|held| held.assigned.active.is_some()).map(|held| held.assigned.vip);
    let watched = |held: &Held| Some((state.watched(&held.assigned).cloned()?, held.assigned.vip));
    let watched: Vec<_> = state.vips.values().filter_map(watched).collect();
    let asks = |held: &Held| matches!(held.standing, Standing::Silent(Silence::Probing | Silence::Yielding));
    let probing = state.vips.iter().filter(|(_, held)| asks(held));
    if !state.inquiry.is_about(&probing.map(|(vip, _)| *vip).collect()) {
        return Err(Violation::Inquiry);
    }
    if !state.looks.are_about(&stood_by.collect()) {
        return Err(Violation::Looks);
    }
    if !state.vigil.watches_just(watched.iter().map(|(node, vip)| (&node.node, *vip)).collect()) {
        return Err(Violation::Vigil);
    }
    let announced = |vip: &&Vip| state.vips.get(vip).is_some_and(|held| held.standing == Standing::Announced);
    if let Some(vip) = state.vigil.taken().iter().find(|vip| !announced(vip)) {
        return Err(Violation::Taken(*vip));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
