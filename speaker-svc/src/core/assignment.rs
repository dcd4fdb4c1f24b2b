//! What the allocator gives us: snapshots, deltas, and what a gap between them means.
//!
//! The allocator's silence changes nothing here. A VIP is withdrawn only because a snapshot or delta says so, an interface is gone, or a
//! peer has it (`conflict`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Role};
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::node::{InterfaceName, MacAddress, NodeName};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::interfaces::Interfaces;
use super::standby::ActivePeer;
use super::state::{Assigned, Counters, Held, Session, Silence, Standing, leads};
use super::{Change, Event, State, Withdrawal};

/// A stream is open: we say who we are, and that we are about to end if we are.
pub(super) fn open_session(_state: &State) -> Vec<Event> {
    vec![Event::SessionChanged(Session::Joining), Event::HelloDue]
}

/// A stream is gone: everything stays as it is.
pub(super) fn close_session(state: &State) -> Vec<Event> {
    match state.session {
        Session::Away => Vec::new(),
        Session::Joining | Session::Live | Session::Resyncing => vec![Event::SessionChanged(Session::Away)],
    }
}

/// All assignments: what is not among them is withdrawn. One from an older leadership counts for nothing, nor does what follows on its stream.
pub(super) fn snapshot(state: &State, epoch: Epoch, revision: Revision, assignments: Vec<Assignment>) -> Vec<Event> {
    if epoch < state.epoch {
        let refused = Event::EpochRefused { epoch, newest: state.epoch };
        return std::iter::once(refused).chain(close_session(state)).collect();
    }
    let mut events = Vec::new();
    if state.session != Session::Live {
        events.push(Event::SessionChanged(Session::Live));
    }
    let assignments: BTreeMap<Vip, Assignment> = assignments.into_iter().map(|assignment| (assignment.vip, assignment)).collect();
    for (vip, held) in state.vips.iter().filter(|(vip, _)| !assignments.contains_key(vip)) {
        withdraw(state, *vip, held, &mut events);
    }
    let mut peers = PeerSets::new(state);
    for assignment in assignments.into_values() {
        upsert(state, assignment, &mut peers, &mut events);
    }
    events.extend([Event::RevisionReached { epoch, revision }, Event::AppliedDue]);
    events
}

/// A change. If it is not the next one, or nothing complete came before it, only a new snapshot helps.
pub(super) fn delta(state: &State, revision: Revision, upserts: Vec<Assignment>, removals: &[Vip]) -> Vec<Event> {
    match state.session {
        Session::Live if revision == state.revision.next() => {}
        Session::Live => return vec![Event::SessionChanged(Session::Resyncing), Event::HelloDue],
        // The snapshot that was asked for will say it too.
        Session::Away | Session::Joining | Session::Resyncing => return Vec::new(),
    }
    let mut events = Vec::new();
    let upserts: BTreeMap<Vip, Assignment> = upserts.into_iter().map(|assignment| (assignment.vip, assignment)).collect();
    let removals: BTreeSet<Vip> = removals.iter().copied().filter(|vip| !upserts.contains_key(vip)).collect();
    for vip in removals {
        if let Some(held) = state.vips.get(&vip) {
            withdraw(state, vip, held, &mut events);
        }
    }
    let mut peers = PeerSets::new(state);
    for assignment in upserts.into_values() {
        upsert(state, assignment, &mut peers, &mut events);
    }
    events.extend([Event::RevisionReached { epoch: state.epoch, revision }, Event::AppliedDue]);
    events
}

/// Equal sets of peers become one, and so does what is known of each active one: thousands of VIPs have the same few.
struct PeerSets<'a> {
    state: &'a State,
    fresh: BTreeSet<Arc<BTreeSet<MacAddress>>>,
    active: BTreeMap<NodeName, Arc<ActivePeer>>,
}

impl<'a> PeerSets<'a> {
    fn new(state: &'a State) -> Self {
        Self { state, fresh: BTreeSet::new(), active: BTreeMap::new() }
    }

    fn share(&mut self, macs: BTreeSet<MacAddress>) -> Arc<BTreeSet<MacAddress>> {
        if let Some(shared) = self.state.peer_sets.get(&macs).or_else(|| self.fresh.get(&macs)) {
            return Arc::clone(shared);
        }
        let shared = Arc::new(macs);
        self.fresh.insert(Arc::clone(&shared));
        shared
    }

    fn active(&mut self, assignment: &Assignment) -> Option<Arc<ActivePeer>> {
        let active = ActivePeer::of(assignment)?;
        let known = self.active.get(&active.node).or_else(|| self.state.vigil.peer(&active.node));
        if let Some(known) = known.filter(|known| ***known == active) {
            return Some(Arc::clone(known));
        }
        let shared = Arc::new(active);
        self.active.insert(shared.node.clone(), Arc::clone(&shared));
        Some(shared)
    }
}

/// The allocator's reason to take a VIP from us.
fn taken(state: &State) -> Withdrawal {
    if state.is_draining() { Withdrawal::Draining } else { Withdrawal::NotOwner }
}

fn withdraw(state: &State, vip: Vip, held: &Held, events: &mut Vec<Event>) {
    let change = match held.standing {
        Standing::Announced => Change::Withdrawn(taken(state)),
        Standing::Silent(_) => Change::Noted,
    };
    events.push(Event::AssignmentRemoved(vip));
    events.extend(service_updates(vip, &held.assigned.services, change));
}

fn upsert(state: &State, assignment: Assignment, peers: &mut PeerSets<'_>, events: &mut Vec<Event>) {
    let held = state.vips.get(&assignment.vip);
    let standing = standing(&assignment, held, &state.interfaces);
    if held.is_some_and(|held| held.standing == standing && held.assigned.says(&assignment)) {
        return;
    }
    let vip = assignment.vip;
    let assigned = Arc::new(Assigned {
        vip,
        role: assignment.role,
        leads: leads(&assignment),
        active: peers.active(&assignment),
        probe_first: assignment.probe_first,
        interfaces: assignment.interfaces,
        services: assignment.services.into_iter().collect(),
        peers: peers.share(assignment.peers.values().flatten().copied().collect()),
        counters: held.map_or_else(|| Arc::new(Counters::default()), |held| Arc::clone(&held.assigned.counters)),
    });
    events.push(Event::AssignmentStored(Arc::clone(&assigned)));
    if held.is_none_or(|held| held.standing != standing) {
        events.push(Event::StandingChanged { vip, standing });
    }
    let failure = state.interfaces.failure(vip, &assigned.interfaces);
    let failed = failure.filter(|failure| state.failing.get(&vip) != Some(failure));
    events.extend(failed.map(|failure| Event::AssignmentFailed { vip, failure }));
    // Who the peers are is nothing to tell a Service's owner, and all VIPs hear of it at once when a node comes or goes.
    if held.is_none_or(|held| held.standing != standing || held.assigned.differs_for_its_services(&assigned)) {
        let before = held.map(|held| (held.standing, &held.assigned.services[..]));
        events.extend(transition(state, vip, before, (standing, &assigned.services)));
    }
}

/// Whether we answer for what we were given.
pub(super) fn standing(assignment: &Assignment, held: Option<&Held>, interfaces: &Interfaces) -> Standing {
    let fit = fit(assignment.role, &assignment.interfaces, interfaces);
    probed(fit, assignment.probe_first, held)
}

/// A VIP that may be somebody else's is asked for before we begin to answer for it, and again if somebody had it.
fn probed(fit: Standing, probe_first: bool, held: Option<&Held>) -> Standing {
    let announced = held.is_some_and(|held| held.standing == Standing::Announced);
    if fit == Standing::Announced && probe_first && !announced { Standing::Silent(Silence::Probing) } else { fit }
}

/// Whether we answer for what we keep.
pub(super) fn standing_now(held: &Held, interfaces: &Interfaces) -> Standing {
    if held.standing == Standing::Silent(Silence::Yielded) {
        return held.standing;
    }
    let fit = fit(held.assigned.role, &held.assigned.interfaces, interfaces);
    if fit == Standing::Announced && held.standing == Standing::Silent(Silence::InUse) {
        return held.standing;
    }
    probed(fit, held.assigned.probe_first, Some(held))
}

fn fit(role: Role, wanted: &BTreeSet<InterfaceName>, interfaces: &Interfaces) -> Standing {
    match role {
        _ if !interfaces.has_any(wanted) => Standing::Silent(Silence::NoInterface),
        Role::Standby => Standing::Silent(Silence::Standby),
        Role::Active => Standing::Announced,
    }
}

/// A VIP's standing and Services.
type Situation<'a> = (Standing, &'a [(ServiceKey, PoolName)]);

/// What a change of a VIP means for each of its Services, old and new.
fn transition(state: &State, vip: Vip, before: Option<Situation<'_>>, after: Situation<'_>) -> Vec<Event> {
    let announced = |situation: Situation<'_>| situation.0 == Standing::Announced;
    let (old, was) = before.map_or((&[][..], false), |before| (before.1, announced(before)));
    let (new, is) = (after.1, announced(after));
    let reason = if after.0 == Standing::Silent(Silence::NoInterface) { Withdrawal::InterfaceGone } else { taken(state) };
    let has = |list: &[(ServiceKey, PoolName)], service: &ServiceKey| list.iter().any(|(key, _)| key == service);
    let gone = old.iter().filter(|(service, _)| !has(new, service));
    let gone = gone.map(|(service, pool)| (service, pool, if was { Change::Withdrawn(taken(state)) } else { Change::Noted }));
    let here = new.iter().map(|(service, pool)| {
        let before = was && has(old, service);
        let change = match (before, is) {
            (false, true) => Change::Announced,
            (true, false) => Change::Withdrawn(reason),
            (true, true) | (false, false) => Change::Noted,
        };
        (service, pool, change)
    });
    let update = |(service, pool, change): (&ServiceKey, &PoolName, Change)| Event::ServiceUpdated {
        vip,
        service: service.clone(),
        pool: pool.clone(),
        change,
    };
    gone.chain(here).map(update).collect()
}

/// The same for each of a VIP's Services.
pub(super) fn service_updates(vip: Vip, services: &[(ServiceKey, PoolName)], change: Change) -> impl Iterator<Item = Event> {
    services.iter().map(move |(service, pool)| Event::ServiceUpdated { vip, service: service.clone(), pool: pool.clone(), change })
}

/// Keeps an assignment; a VIP that is new stands by until its standing is said.
pub(super) fn store(state: &mut State, assigned: &Arc<Assigned>, now: Mono) {
    let is_fresh = !state.vips.contains_key(&assigned.vip);
    let nowhere = Arc::default();
    let fresh = || Held { assigned: Arc::clone(assigned), standing: Standing::Silent(Silence::Standby), links: nowhere, strife: None };
    let held = state.vips.entry(assigned.vip).or_insert_with(fresh);
    let before = std::mem::replace(&mut held.assigned, Arc::clone(assigned));
    if state.peer_sets.insert(Arc::clone(&assigned.peers)) {
        state.acquaintances.extend(assigned.peers.iter());
    }
    state.vigil.follow(assigned.vip, before.active.as_deref(), assigned.active.as_ref(), now);
    match &assigned.active {
        Some(active) if before.active.as_ref().is_some_and(|before| before.node == active.node) && !is_fresh => {}
        Some(_) => state.looks.begin(assigned.vip, now),
        None => state.looks.end(assigned.vip),
    }
    let taken = state.vigil.settle(assigned.vip);
    align(state, assigned.vip, now);
    // What we took over by ourselves is announced anew when it is ours for good: not everybody may have heard it.
    if assigned.leads && (!before.leads || taken) {
        let certain = state.session == Session::Live;
        for link in state.schedule.links_of(assigned.vip) {
            state.schedule.start(assigned.vip, link, certain, now);
        }
    }
}

/// Assignments are complete up to a revision; sets that none of them has any more are forgotten.
pub(super) fn reach(state: &mut State, epoch: Epoch, revision: Revision) {
    state.epoch = epoch;
    state.revision = revision;
    state.peer_sets.retain(|peers| Arc::strong_count(peers) > 1);
    state.link_sets.retain(|links| Arc::strong_count(links) > 1);
}

/// Forgets a VIP.
pub(super) fn remove(state: &mut State, vip: Vip) {
    if let Some(held) = state.vips.remove(&vip) {
        state.vigil.follow(vip, held.assigned.active.as_deref(), None, Mono::ZERO);
        state.vigil.settle(vip);
        state.looks.end(vip);
        state.inquiry.end(vip);
        if held.standing == Standing::Announced {
            state.announced = state.announced.saturating_sub(1);
        }
    }
    state.failing.remove(&vip);
    state.schedule.align(vip, &BTreeSet::new(), true, Mono::ZERO);
}

/// Starts or stops to answer for a VIP.
pub(super) fn stand(state: &mut State, vip: Vip, standing: Standing, now: Mono) {
    let Some(held) = state.vips.get_mut(&vip) else { return };
    let was = std::mem::replace(&mut held.standing, standing) == Standing::Announced;
    let is = standing == Standing::Announced;
    if is && !was {
        state.announced = state.announced.saturating_add(1);
    } else if was && !is {
        state.announced = state.announced.saturating_sub(1);
        state.vigil.settle(vip);
    }
    if standing == Standing::Silent(Silence::Probing) {
        state.inquiry.begin(vip, now);
    } else {
        state.inquiry.end(vip);
    }
    align(state, vip, now);
}

/// Makes what follows from a VIP's standing and the interfaces fit them: where it is answered for, its schedule, and whether that fails.
pub(super) fn align(state: &mut State, vip: Vip, now: Mono) {
    let Some(held) = state.vips.get(&vip) else { return };
    let (assigned, announced) = (Arc::clone(&held.assigned), held.standing == Standing::Announced);
    match state.interfaces.failure(vip, &assigned.interfaces) {
        Some(failure) => state.failing.insert(vip, failure),
        None => state.failing.remove(&vip),
    };
    let links = if announced { state.interfaces.links_for(vip, &assigned.interfaces) } else { BTreeSet::new() };
    let links = state.share(links);
    state.schedule.align(vip, &links, state.session == Session::Live, now);
    if !assigned.leads {
        state.schedule.quiet(vip);
    }
    if let Some(held) = state.vips.get_mut(&vip) {
        held.links = links;
    }
}

/// The session is in another state; once the allocator's word is complete nothing is in doubt any more.
pub(super) fn change_session(state: &mut State, session: Session, now: Mono) {
    let was_live = std::mem::replace(&mut state.session, session).is_live();
    match session {
        Session::Live => {
            state.schedule.confirm(now);
            if !was_live {
                state.looks.hurry(now);
            }
        }
        Session::Away => state.vigil.hurry(now),
        Session::Joining | Session::Resyncing => {}
    }
}

#[cfg(test)]
mod tests;
