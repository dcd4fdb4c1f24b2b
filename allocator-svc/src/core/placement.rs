//! Which node announces a VIP, and which stands by (DESIGN 3.3).
//!
//! The present node stays as long as it may. Otherwise the best of those that may: by preference, then the fewest VIPs, then a stable
//! hash. Speakers on one node are one node: another one there takes over first. A VIP that must move from a node that still answers is
//! moved make-before-break: the old one goes on until the new one has said that it announces.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Role};
use mooring_proto::types::backends::Reach;
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::node::{InterfaceName, MacAddress, NodeName, SpeakerId};
use mooring_proto::types::pool::{AdvertisementSpec, PoolName};
use mooring_proto::types::service::ServiceKey;
use sha2::{Digest as _, Sha256};

use super::nodes::{Liveness, Speaker};
use super::state::State;
use super::{Event, Now};

/// Who announces a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who answers.
    pub active: SpeakerId,
    /// Who takes over when the active one is lost.
    pub standby: Option<SpeakerId>,
    /// Who goes on answering until the active one has said that it does.
    pub outgoing: Option<SpeakerId>,
    /// The interfaces to announce on; empty = all.
    pub interfaces: BTreeSet<InterfaceName>,
}

impl Placement {
    /// On one speaker, on all its interfaces, as nothing more is known.
    #[must_use]
    pub fn on(active: SpeakerId) -> Self {
        Self { active, standby: None, outgoing: None, interfaces: BTreeSet::new() }
    }

    /// All speakers that have a part in it.
    pub fn speakers(&self) -> impl Iterator<Item = &SpeakerId> {
        std::iter::once(&self.active).chain(&self.standby).chain(&self.outgoing)
    }
}

/// Why nobody announces a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unannounced {
    /// No endpoint of its Services can serve.
    NoEndpoint,
    /// Nobody has said yet where its Services can be served.
    BackendsUnknown,
    /// No advertisement is about its pool and Services.
    NotAdvertised(PoolName),
    /// No node may announce it: the reason of each node that has a speaker.
    NoEligibleNode(BTreeMap<NodeName, &'static str>),
}

impl fmt::Display for Unannounced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint can serve"),
            Self::BackendsUnknown => f.write_str("it is not known yet where it can be served"),
            Self::NotAdvertised(pool) => write!(f, "no L2Advertisement is about pool {pool} and this Service"),
            Self::NoEligibleNode(nodes) if nodes.is_empty() => f.write_str("no node has a speaker"),
            Self::NoEligibleNode(nodes) => {
                let reasons = nodes.iter().map(|(node, reason)| format!("{node}: {reason}")).collect::<Vec<_>>();
                write!(f, "no node is eligible: {}", reasons.join("; "))
            }
        }
    }
}

/// Decides the first VIP that is to be looked at.
pub(super) fn place_next(state: &State, _now: Now) -> Vec<Event> {
    let Some(vip) = state.network.first_dirty() else { return Vec::new() };
    let present = state.network.placements().get(&vip);
    match decide(state, vip) {
        None if present.is_none() => vec![Event::VipKept(vip)],
        None => vec![Event::VipDropped(vip)],
        Some(placement) if present == Some(&placement) => vec![Event::VipKept(vip)],
        Some(placement) => vec![Event::VipPlaced { vip, placement }],
    }
}

/// Moves one VIP from a node that announces at least two more than another one that may announce it as well, make-before-break; once in
/// so long that `--rebalance` is kept.
pub(super) fn rebalance_next(state: &State, now: Now) -> Vec<Event> {
    if state.network.next_rebalance(&state.settings).is_none_or(|due| due > now.mono) {
        return Vec::new();
    }
    let relief = state.network.placements().iter().filter_map(|(vip, placed)| {
        let placement = placed.as_ref().ok().filter(|placement| placement.outgoing.is_none())?;
        relieve(state, *vip, placement).map(|(gain, relieved)| (gain, *vip, relieved))
    });
    // The first of those that gain the most.
    let best = relief.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let moved = best.map(|(_, vip, placement)| Event::VipPlaced { vip, placement: Ok(placement) });
    std::iter::once(Event::Rebalanced(now.mono)).chain(moved).collect()
}

/// A VIP's placement on the least loaded node that may have it, if that one announces at least two fewer; and how many fewer.
fn relieve(state: &State, vip: Vip, present: &Placement) -> Option<(usize, Placement)> {
    let holders = state.book.holders().get(&vip)?;
    let leases: Vec<&Lease> = holders.iter().filter_map(|holder| state.book.lease(holder)).collect();
    let demand = Demand { vip, advertisements: advertisements(state, &leases), reach: state.network.reach(holders.iter())? };
    let candidates: Vec<Candidate<'_>> =
        state.network.speakers().iter().filter_map(|(id, speaker)| fit(state, &demand, id, speaker).ok()).collect();
    let here = candidates.iter().find(|candidate| *candidate.id == present.active)?;
    let others = candidates.iter().filter(|candidate| candidate.speaker.is_live() && candidate.score >= here.score);
    let best = others.min_by_key(|candidate| rank(state, vip, candidate, false))?;
    let load = |candidate: &Candidate<'_>| state.network.active_on(&candidate.id.node);
    let gain = load(here).checked_sub(load(best)).filter(|gain| *gain > 1)?;
    let old = Some(present.active.clone());
    Some((gain, Placement { active: best.id.clone(), standby: None, outgoing: old, interfaces: best.interfaces.clone() }))
}

/// A node that may announce a VIP.
struct Candidate<'a> {
    id: &'a SpeakerId,
    speaker: &'a Speaker,
    score: u32,
    interfaces: BTreeSet<InterfaceName>,
}

/// What a VIP's Services ask of its node.
struct Demand<'a> {
    vip: Vip,
    advertisements: Vec<&'a AdvertisementSpec>,
    reach: Reach,
}

/// Where a VIP is to be announced; `None` = nobody holds it.
fn decide(state: &State, vip: Vip) -> Option<Result<Placement, Unannounced>> {
    let (book, network) = (&state.book, &state.network);
    let present = network.placements().get(&vip).and_then(|placed| placed.as_ref().ok());
    let Some(holders) = book.holders().get(&vip) else {
        // A speaker answers for it, and no full view has said yet whether it still should.
        let provisional = present.filter(|_| !book.is_reconciled()).and_then(|placement| survive(state, placement));
        return provisional.map(Ok);
    };
    match demand(state, vip, holders, present) {
        Ok(demand) => Some(choose(state, &demand, present)),
        // A pool that is gone keeps what it announces for the pool grace: the lease's end will end it.
        Err(Unannounced::NotAdvertised(pool)) => {
            let in_grace = present.filter(|_| !book.pools().contains_key(&pool)).and_then(|placement| survive(state, placement));
            Some(in_grace.ok_or(Unannounced::NotAdvertised(pool)))
        }
        Err(reason) => Some(Err(reason)),
    }
}

/// What the Services that hold a VIP ask of its node, or why no node will do.
fn demand<'a>(state: &'a State, vip: Vip, holders: &BTreeSet<ServiceKey>, present: Option<&Placement>) -> Result<Demand<'a>, Unannounced> {
    let leases: Vec<&Lease> = holders.iter().filter_map(|holder| state.book.lease(holder)).collect();
    let reach = match (state.network.reach(holders.iter()), present) {
        (Some(reach), _) => reach,
        (None, Some(_)) => Reach::Anywhere,
        (None, None) => return Err(Unannounced::BackendsUnknown),
    };
    if reach == Reach::Nowhere {
        return Err(Unannounced::NoEndpoint);
    }
    let advertisements = advertisements(state, &leases);
    match leases.first() {
        Some(lease) if advertisements.is_empty() => Err(Unannounced::NotAdvertised(lease.pool.clone())),
        _ => Ok(Demand { vip, advertisements, reach }),
    }
}

/// A placement that nothing is known against but that its node may be lost: then the one that stood by has it, if there is one.
fn survive(state: &State, present: &Placement) -> Option<Placement> {
    let speaker = |id: &SpeakerId| state.network.speakers().get(id);
    if speaker(&present.active).is_some_and(|active| active.liveness != Liveness::Lost) {
        return Some(present.clone());
    }
    let standby = present.standby.clone().filter(|standby| speaker(standby).is_some_and(Speaker::is_live))?;
    Some(Placement { active: standby, standby: None, outgoing: None, interfaces: present.interfaces.clone() })
}

/// The advertisements about a VIP's pool and any of its Services. Labels that are not known yet match no selector.
fn advertisements<'a>(state: &'a State, leases: &[&Lease]) -> Vec<&'a AdvertisementSpec> {
    let none = Labels::new();
    let about = |ad: &&AdvertisementSpec| {
        leases.iter().any(|lease| {
            let labels = state.book.claim(&lease.service).map_or(&none, |claim| &claim.labels);
            let pool = state.book.pools().get(&lease.pool);
            pool.is_some_and(|pool| ad.covers_pool(&lease.pool, &pool.spec().labels)) && ad.covers_service(labels)
        })
    };
    state.book.configuration().advertisements().iter().filter(about).collect()
}

/// The best placement, with the present one kept where it may be.
fn choose(state: &State, demand: &Demand<'_>, present: Option<&Placement>) -> Result<Placement, Unannounced> {
    let network = &state.network;
    let fits: Vec<(&SpeakerId, Result<Candidate<'_>, &'static str>)> =
        network.speakers().iter().map(|(id, speaker)| (id, fit(state, demand, id, speaker))).collect();
    let all: Vec<&Candidate<'_>> = fits.iter().filter_map(|(_, fit)| fit.as_ref().ok()).collect();
    let live: Vec<&Candidate<'_>> = all.iter().copied().filter(|candidate| candidate.speaker.is_live()).collect();
    let find = |list: &[&Candidate<'_>], id: &SpeakerId| list.iter().any(|candidate| candidate.id == id);

    let stays = present.filter(|present| find(&all, &present.active)).and_then(|present| {
        let broken = network.speakers().get(&present.active).is_some_and(Speaker::is_broken_off);
        // Another speaker on the same node takes over without waiting: nobody on the LAN can tell.
        let twin = live.iter().find(|other| broken && other.id.node == present.active.node);
        Some(twin.map_or(&present.active, |twin| twin.id)).cloned()
    });
    let promoted = || present.and_then(|present| present.standby.clone()).filter(|standby| find(&live, standby));
    let best = || live.iter().min_by_key(|candidate| rank(state, demand.vip, candidate, false)).map(|candidate| candidate.id.clone());
    let twin_first = || {
        let node = present.map(|present| &present.active.node);
        live.iter().find(|candidate| Some(&candidate.id.node) == node).map(|candidate| candidate.id.clone())
    };
    let Some(active) = stays.or_else(twin_first).or_else(promoted).or_else(best) else {
        // Nobody else can: a speaker that is about to end goes on as long as it lives.
        let last = present.filter(|present| network.speakers().get(&present.active).is_some_and(Speaker::is_draining));
        let reasons = fits.iter().filter_map(|(id, fit)| Some((id.node.clone(), *fit.as_ref().err()?))).collect();
        return last.map(|last| Placement { standby: None, outgoing: None, ..last.clone() }).ok_or(Unannounced::NoEligibleNode(reasons));
    };
    let rest = || live.iter().filter(|candidate| *candidate.id != active);
    let twin = rest().find(|candidate| candidate.id.node == active.node);
    let kept = rest().find(|candidate| present.and_then(|present| present.standby.as_ref()) == Some(candidate.id));
    let next = rest().min_by_key(|candidate| rank(state, demand.vip, candidate, true));
    let interfaces = all.iter().find(|candidate| *candidate.id == active).map(|candidate| candidate.interfaces.clone());
    Ok(Placement {
        standby: twin.or(kept).or(next).map(|candidate| candidate.id.clone()),
        outgoing: outgoing(state, present, &active),
        interfaces: interfaces.unwrap_or_default(),
        active,
    })
}

/// Who goes on answering until the new one does: who already does so for a move that is not over, else the one that was active.
fn outgoing(state: &State, present: Option<&Placement>, active: &SpeakerId) -> Option<SpeakerId> {
    let present = present?;
    let may_answer = |id: &&SpeakerId| state.network.speakers().get(*id).is_some_and(Speaker::may_answer);
    let before = present.outgoing.iter().chain([&present.active]).find(may_answer)?;
    (before != active).then(|| before.clone())
}

/// Whether a speaker may announce a VIP, or why not.
fn fit<'a>(state: &State, demand: &Demand<'_>, id: &'a SpeakerId, speaker: &'a Speaker) -> Result<Candidate<'a>, &'static str> {
    let network = &state.network;
    if !speaker.may_announce() {
        return Err(if speaker.is_draining() { "its speaker is about to end" } else { "its speaker is lost" });
    }
    if let Some(bar) = network.bar(&id.node) {
        return Err(bar);
    }
    if matches!(&demand.reach, Reach::Nodes(nodes) if !nodes.contains(&id.node)) {
        return Err("no endpoint there can serve, and externalTrafficPolicy is Local");
    }
    if speaker.is_unable(demand.vip) {
        return Err("its speaker could not announce the address");
    }
    let none = Labels::new();
    let labels = network.nodes().get(&id.node).map_or(&none, |node| &node.labels);
    let covering: Vec<&&AdvertisementSpec> = demand.advertisements.iter().filter(|ad| ad.covers_node(labels)).collect();
    if covering.is_empty() {
        return Err("no L2Advertisement selects it");
    }
    let everywhere = covering.iter().any(|ad| ad.interfaces.is_empty());
    let wanted: BTreeSet<InterfaceName> = covering.iter().flat_map(|ad| ad.interfaces.iter().cloned()).collect();
    let has = |interface: &InterfaceName| everywhere || wanted.contains(interface);
    // An awaited speaker has not told its interfaces yet.
    let awaited = !speaker.is_live() && speaker.interfaces.is_empty();
    if !awaited && !speaker.interfaces.iter().any(|interface| has(&interface.name)) {
        return Err(if everywhere { "it has no interface that is up" } else { "it has none of the advertised interfaces" });
    }
    let preferences = covering.iter().flat_map(|ad| &ad.preferences).filter(|preference| preference.selector.matches(labels));
    let score = preferences.fold(0u32, |score, preference| score.saturating_add(preference.weight));
    let interfaces = if everywhere { BTreeSet::new() } else { wanted };
    Ok(Candidate { id, speaker, score, interfaces })
}

/// The smaller, the better: more preference, then fewer VIPs, then MetalLB's hash of node and address.
fn rank(state: &State, vip: Vip, candidate: &Candidate<'_>, standby: bool) -> (u32, usize, [u8; 32], SpeakerId) {
    let node = &candidate.id.node;
    let load = if standby { state.network.standby_on(node) } else { state.network.active_on(node) };
    let hash = Sha256::digest(format!("{node}#{vip}")).into();
    (u32::MAX.saturating_sub(candidate.score), load, hash, candidate.id.clone())
}

/// What a speaker is worth for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    /// By how much the advertisements prefer its node.
    pub(crate) score: u32,
    /// The interfaces that it would announce on; empty = all.
    pub(crate) interfaces: BTreeSet<InterfaceName>,
    /// Its place, from 1, among those that could be given the VIP if it were placed anew; `None` = it could not.
    pub(crate) place: Option<usize>,
}

/// Every speaker with what it is worth for a VIP, or why it may not announce it.
pub(super) type Worths<'a> = Vec<(&'a SpeakerId, Result<Worth, &'static str>)>;

/// The advertisements about a VIP and what each speaker is worth for it, or why nobody may announce it.
pub(super) fn worth(state: &State, vip: Vip) -> Result<(Vec<&str>, Worths<'_>), Unannounced> {
    let nobody = BTreeSet::new();
    let holders = state.book.holders().get(&vip).unwrap_or(&nobody);
    let present = state.network.placements().get(&vip).and_then(|placed| placed.as_ref().ok());
    let demand = demand(state, vip, holders, present)?;
    let speakers = state.network.speakers().iter();
    let fits: Vec<(&SpeakerId, Result<Candidate<'_>, &'static str>)> =
        speakers.map(|(id, speaker)| (id, fit(state, &demand, id, speaker))).collect();
    let live = fits.iter().filter_map(|(_, fit)| fit.as_ref().ok()).filter(|candidate| candidate.speaker.is_live());
    let mut order: Vec<_> = live.map(|candidate| (rank(state, vip, candidate, false), candidate.id)).collect();
    order.sort();
    let places: BTreeMap<&SpeakerId, usize> = (1..).zip(order).map(|(place, (_, id))| (id, place)).collect();
    let worth = |fit: Candidate<'_>| Worth { score: fit.score, interfaces: fit.interfaces, place: places.get(fit.id).copied() };
    let names = demand.advertisements.iter().map(|ad| ad.name.as_str()).collect();
    Ok((names, fits.into_iter().map(|(id, fit)| (id, fit.map(worth))).collect()))
}

/// Whether an advertisement is about a VIP that is held.
pub(super) fn is_advertised(state: &State, vip: Vip) -> bool {
    let holders = state.book.holders().get(&vip).into_iter().flatten();
    let leases: Vec<&Lease> = holders.filter_map(|holder| state.book.lease(holder)).collect();
    !advertisements(state, &leases).is_empty()
}

/// The part that a speaker plays for a VIP, as it is told; `None` = none.
#[must_use]
pub fn assignment(state: &State, vip: Vip, speaker: &SpeakerId) -> Option<Assignment> {
    let placement = state.network.placements().get(&vip)?.as_ref().ok()?;
    let (role, rank) = if placement.active == *speaker {
        (Role::Active, 0)
    } else if placement.outgoing.as_ref() == Some(speaker) {
        (Role::Active, 1)
    } else if placement.standby.as_ref() == Some(speaker) {
        (Role::Standby, 1)
    } else {
        return None;
    };
    let holders = state.book.holders().get(&vip).into_iter().flatten();
    let services = holders.filter_map(|holder| Some((holder.clone(), state.book.lease(holder)?.pool.clone()))).collect();
    Some(Assignment { vip, role, rank, interfaces: placement.interfaces.clone(), services, peers: peers(state, &speaker.node) })
}

/// All that a speaker is told, by address.
#[must_use]
pub fn assignments(state: &State, speaker: &SpeakerId) -> Vec<Assignment> {
    state.network.placements().keys().filter_map(|vip| assignment(state, *vip, speaker)).collect()
}

/// The other nodes whose speakers may announce, with their hardware addresses.
fn peers(state: &State, own: &NodeName) -> BTreeMap<NodeName, BTreeSet<MacAddress>> {
    let mut peers: BTreeMap<NodeName, BTreeSet<MacAddress>> = BTreeMap::new();
    let others = state.network.speakers().iter().filter(|(id, speaker)| id.node != *own && speaker.may_announce());
    for (id, speaker) in others {
        peers.entry(id.node.clone()).or_default().extend(speaker.interfaces.iter().map(|interface| interface.mac));
    }
    peers
}

#[cfg(test)]
mod tests;
