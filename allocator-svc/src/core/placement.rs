//! Which node announces a VIP, and which stands by (DESIGN 3.3).
//!
//! The present node stays as long as it may. Otherwise the best of those that may: by preference, then the fewest VIPs, then another node
//! than that of the Service's other address, then a stable hash. Speakers on one node are one node: another one there takes over first. A
//! VIP that must move from a node that still answers is moved make-before-break: the old one goes on until the new one has said that it
//! announces. A node that is drained comes after all others, whatever they are worth, so that it is left and is still better than nobody.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::Reach;
use mooring_proto::types::labels::Labels;
use mooring_proto::types::node::{InterfaceName, NodeName, SpeakerId};
use mooring_proto::types::pool::AdvertisementSpec;

use super::Event;
use super::nodes::Speaker;
use super::parts::{rank, survive};
use super::quarantine;
use super::state::State;

mod demand;
mod load;
mod outlook;
mod rebalance;
mod unannounced;
mod worth;

use self::demand::{Demand, advertisements, demand};
use self::load::Load;
use self::unannounced::LACKS_INTERFACES;
pub use self::unannounced::Unannounced;
pub(crate) use outlook::{Outlook, outlook};
pub(crate) use rebalance::uneven;
pub(super) use rebalance::{rebalance_next, spread};
pub(crate) use worth::Worth;
pub(super) use worth::{is_advertised, worth};

/// Who announces a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who answers.
    pub active: SpeakerId,
    /// Who takes over when the active one is lost.
    pub standby: Option<SpeakerId>,
    /// Who goes on answering until the active one has said that it does.
    pub outgoing: Option<SpeakerId>,
    /// The interfaces that the active one announces on; empty = all.
    pub interfaces: BTreeSet<InterfaceName>,
    /// The interfaces of the others, where they are not the same.
    pub elsewhere: BTreeMap<SpeakerId, BTreeSet<InterfaceName>>,
    /// The active one's node is drained, and no other is eligible.
    pub last_resort: bool,
}

impl Placement {
    /// On one speaker, on all its interfaces, as nothing more is known.
    #[must_use]
    pub fn on(active: SpeakerId) -> Self {
        Self { active, standby: None, outgoing: None, interfaces: BTreeSet::new(), elsewhere: BTreeMap::new(), last_resort: false }
    }

    /// The same with nobody but the active one.
    fn alone(&self) -> Self {
        Self { interfaces: self.interfaces.clone(), last_resort: self.last_resort, ..Self::on(self.active.clone()) }
    }

    /// The interfaces that a speaker with a part in it announces on, or would; empty = all.
    #[must_use]
    pub fn interfaces_of(&self, speaker: &SpeakerId) -> &BTreeSet<InterfaceName> {
        self.elsewhere.get(speaker).filter(|_| *speaker != self.active).unwrap_or(&self.interfaces)
    }

    /// The active one announces: whoever went on until then is released, and returned.
    pub(super) fn release(&mut self) -> Option<SpeakerId> {
        let released = self.outgoing.take()?;
        if self.standby.as_ref() != Some(&released) {
            self.elsewhere.remove(&released);
        }
        Some(released)
    }

    /// All speakers that have a part in it.
    pub fn speakers(&self) -> impl Iterator<Item = &SpeakerId> {
        std::iter::once(&self.active).chain(&self.standby).chain(&self.outgoing)
    }
}

/// Why a speaker that may announce everything else may not announce a VIP.
const UNABLE: &str = "its speaker could not announce the address";

/// How many VIPs are decided at once: those that ask for the same share one judgment of each speaker.
const AT_ONCE: usize = 256;

/// Decides the first VIPs that are to be looked at.
pub(super) fn place_next(state: &State) -> Vec<Event> {
    Round::new(state).place_next()
}

/// A speaker that may announce what is asked for.
#[derive(Clone)]
struct Candidate<'a> {
    id: &'a SpeakerId,
    speaker: &'a Speaker,
    score: u32,
    interfaces: BTreeSet<InterfaceName>,
    /// Its node is drained.
    drained: bool,
}

/// What each speaker is good for by one demand, as far as somebody has asked.
#[derive(Default)]
struct Judgment<'a> {
    fits: BTreeMap<&'a SpeakerId, Result<Candidate<'a>, &'static str>>,
    /// All live ones that fit; `None` = nobody has asked for all.
    live: Option<Vec<Candidate<'a>>>,
    /// Why the others do not fit; `None` = nobody has asked.
    reasons: Option<Arc<BTreeMap<NodeName, &'static str>>>,
}

/// Decisions made together: each over what those before it leave, so that they come to the same as one after the other.
struct Round<'a> {
    state: &'a State,
    judgments: BTreeMap<Demand, Judgment<'a>>,
    loads: BTreeMap<&'a NodeName, Load>,
    /// Where those that were decided are now; `None` = nobody announces them.
    decided: BTreeMap<Vip, Option<NodeName>>,
    /// How often a speaker was judged.
    fits: usize,
}

impl<'a> Round<'a> {
    fn new(state: &'a State) -> Self {
        Self { state, judgments: BTreeMap::new(), loads: BTreeMap::new(), decided: BTreeMap::new(), fits: 0 }
    }

    fn place_next(&mut self) -> Vec<Event> {
        self.state.network.dirty().take(AT_ONCE).map(|vip| self.place(vip)).collect()
    }

    /// Decides one VIP.
    fn place(&mut self, vip: Vip) -> Event {
        let present = self.state.network.placements().get(&vip);
        match self.decide(vip) {
            None if present.is_none() => Event::VipKept(vip),
            None => Event::VipDropped(vip),
            Some(placement) if present == Some(&placement) => Event::VipKept(vip),
            Some(placement) => {
                self.loaded(present, &placement);
                self.decided.insert(vip, placement.as_ref().ok().map(|placement| placement.active.node.clone()));
                Event::VipPlaced { vip, placement }
            }
        }
    }

    /// Where a VIP is to be announced; `None` = nobody holds it.
    fn decide(&mut self, vip: Vip) -> Option<Result<Placement, Unannounced>> {
        let (book, network) = (&self.state.book, &self.state.network);
        let present = network.placements().get(&vip).and_then(|placed| placed.as_ref().ok());
        let Some(holders) = book.holders().get(&vip) else {
            // A speaker answers for it, and no full view has said yet whether it still should.
            let provisional = present
                .filter(|_| !book.is_reconciled() && quarantine::of(book, vip).is_none())
                .and_then(|placement| survive(network, placement));
            return provisional.map(Ok);
        };
        match demand(self.state, vip, Some(holders), present) {
            Ok(demand) => Some(self.with_judgment(demand, |round, demand, judgment| round.choose(vip, demand, judgment, present))),
            // A pool that is gone keeps what it announces for the pool grace: the lease's end will end it.
            Err(Unannounced::NotAdvertised(pool)) => {
                let in_grace = present.filter(|_| !book.pools().contains_key(&pool)).and_then(|placement| survive(network, placement));
                Some(in_grace.ok_or(Unannounced::NotAdvertised(pool)))
            }
            Err(reason) => Some(Err(reason)),
        }
    }

    /// Does something with what is known of the speakers by a demand, and keeps what is learned.
    fn with_judgment<T>(&mut self, demand: Demand, work: impl FnOnce(&mut Self, &Demand, &mut Judgment<'a>) -> T) -> T {
        let mut judgment = self.judgments.remove(&demand).unwrap_or_default();
        let done = work(self, &demand, &mut judgment);
        self.judgments.insert(demand, judgment);
        done
    }

    /// The best placement, with the present one kept where it may be.
    fn choose(
        &mut self,
        vip: Vip,
        demand: &Demand,
        judgment: &mut Judgment<'a>,
        present: Option<&'a Placement>,
    ) -> Result<Placement, Unannounced> {
        let network = &self.state.network;
        let leaves = present.is_some_and(|present| self.is_avoided(vip, demand, judgment, &present.active, None));
        let active = match present {
            Some(present) if !leaves && self.may(vip, demand, judgment, &present.active).is_some() => {
                let broken = network.speakers().get(&present.active).is_some_and(Speaker::is_broken_off);
                // Another speaker on the same node takes over without waiting: nobody on the LAN can tell.
                let twin = if broken { self.twin(vip, demand, judgment, &present.active) } else { None };
                Some(twin.unwrap_or(&present.active))
            }
            Some(present) => {
                let may = |round: &mut Self, judgment: &mut Judgment<'a>, id: &&SpeakerId| {
                    round.may_now(vip, demand, judgment, id) && !round.is_avoided(vip, demand, judgment, id, None)
                };
                // Whoever still answers goes on rather than anybody who does not yet.
                let answering = present.outgoing.as_ref().filter(|outgoing| may(self, judgment, outgoing));
                let twin = answering.or_else(|| if leaves { None } else { self.twin(vip, demand, judgment, &present.active) });
                twin.or_else(|| self.best_active(vip, demand, judgment, present.standby.as_ref()))
            }
            None => self.best_active(vip, demand, judgment, None),
        };
        let Some(active) = active else {
            // Nobody else can: a speaker that is about to end goes on as long as it lives.
            let last = present.filter(|present| network.speakers().get(&present.active).is_some_and(Speaker::is_draining));
            if network.is_forsaken() && last.is_none() {
                return Err(Unannounced::HolderAwaited);
            }
            return last.map(Placement::alone).ok_or_else(|| match self.reasons(vip, demand, judgment) {
                none if none.is_empty() && network.misses_speakers() => Unannounced::NoSpeaker,
                reasons => Unannounced::NoEligibleNode(reasons),
            });
        };
        let twin = self.twin(vip, demand, judgment, active);
        let kept = present.and_then(|present| present.standby.as_ref()).filter(|kept| *kept != active);
        let kept = kept.filter(|kept| twin.is_none() && self.may_now(vip, demand, judgment, kept));
        let kept = kept.filter(|kept| !self.is_avoided(vip, demand, judgment, kept, Some(active)));
        // After a start standbys wait until all speakers are there.
        let next = if twin.or(kept).is_some() || network.holds_standbys_back() {
            None
        } else {
            self.best(vip, demand, judgment, |candidate| candidate.id != active, |load| (load.active, load.standby), None)
        };
        let standby = twin.or(kept).or(next);
        let outgoing = outgoing(self.state, vip, present, active);
        let mut interfaces_of = |id: &SpeakerId| self.may(vip, demand, judgment, id).map(|candidate| candidate.interfaces.clone());
        let interfaces = interfaces_of(active).unwrap_or_default();
        let mut elsewhere = BTreeMap::new();
        elsewhere.extend(standby.and_then(|standby| Some((standby.clone(), interfaces_of(standby)?))));
        // Who is left goes on just as it did.
        let before = present.zip(outgoing.as_ref()).map(|(present, outgoing)| (outgoing.clone(), present.interfaces_of(outgoing).clone()));
        elsewhere.extend(before);
        elsewhere.retain(|_, others| *others != interfaces);
        let last_resort = network.drains().has(&active.node) && !network.is_recovering();
        Ok(Placement { standby: standby.cloned(), outgoing, interfaces, elsewhere, last_resort, active: active.clone() })
    }

    /// What a speaker is good for, judged once for all VIPs of the demand.
    fn fit<'b>(
        &mut self,
        demand: &Demand,
        judgment: &'b mut Judgment<'a>,
        id: &SpeakerId,
    ) -> Option<&'b Result<Candidate<'a>, &'static str>> {
        let (id, speaker) = self.state.network.speakers().get_key_value(id)?;
        let fits = &mut self.fits;
        let judge = || {
            *fits = fits.saturating_add(1);
            fit(self.state, demand, id, speaker)
        };
        Some(judgment.fits.entry(id).or_insert_with(judge))
    }

    /// A speaker that may announce a VIP.
    fn may<'b>(&mut self, vip: Vip, demand: &Demand, judgment: &'b mut Judgment<'a>, id: &SpeakerId) -> Option<&'b Candidate<'a>> {
        let candidate = self.fit(demand, judgment, id)?.as_ref().ok()?;
        (!candidate.speaker.is_unable(vip)).then_some(candidate)
    }

    /// Whether a speaker may announce a VIP and can be given it.
    fn may_now(&mut self, vip: Vip, demand: &Demand, judgment: &mut Judgment<'a>, id: &SpeakerId) -> bool {
        self.may(vip, demand, judgment, id).is_some_and(|candidate| candidate.speaker.is_live())
    }

    /// Another speaker of the same node that can be given a VIP.
    fn twin(&mut self, vip: Vip, demand: &Demand, judgment: &mut Judgment<'a>, of: &'a SpeakerId) -> Option<&'a SpeakerId> {
        let mut others = self.state.network.on_node_of(of).map(|(id, _)| id).filter(|id| *id != of);
        others.find(|id| self.may_now(vip, demand, judgment, id))
    }

    /// Where a VIP goes that has to go somewhere. Whoever stands by for it is the one among equals.
    fn best_active(
        &mut self,
        vip: Vip,
        demand: &Demand,
        judgment: &mut Judgment<'a>,
        standby: Option<&SpeakerId>,
    ) -> Option<&'a SpeakerId> {
        self.best(vip, demand, judgment, |_| true, |load| (load.active, 0), standby)
    }

    /// The best of the live speakers that may announce a VIP: not drained, then more preference, then fewer VIPs, then not where another
    /// address of its Services is, then the favored one, then MetalLB's hash of node and address.
    fn best(
        &mut self,
        vip: Vip,
        demand: &Demand,
        judgment: &mut Judgment<'a>,
        among: impl Fn(&Candidate<'a>) -> bool,
        load: impl Fn(Load) -> (usize, usize),
        favored: Option<&SpeakerId>,
    ) -> Option<&'a SpeakerId> {
        let siblings = self.siblings(vip);
        let live = self.live(demand, judgment).iter();
        let live = live.filter(|candidate| among(candidate) && !candidate.speaker.is_unable(vip));
        let mut best: Option<(&Candidate<'a>, _)> = None;
        for candidate in live {
            let node = &candidate.id.node;
            let is_other = favored != Some(candidate.id);
            let place = (candidate.drained, Reverse(candidate.score), load(self.load(node)), siblings.contains(node), is_other);
            let order = best.map_or(Ordering::Less, |(_, least)| place.cmp(&least));
            // The hash is only worked out where nothing else decides.
            if order.then_with(|| best.map_or(Ordering::Less, |(best, _)| rank(vip, candidate.id).cmp(&rank(vip, best.id)))).is_lt() {
                best = Some((candidate, place));
            }
        }
        best.map(|(candidate, _)| candidate.id)
    }

    /// All live speakers that may announce what is asked for.
    fn live<'b>(&mut self, demand: &Demand, judgment: &'b mut Judgment<'a>) -> &'b [Candidate<'a>] {
        if judgment.live.is_none() {
            let mut live = Vec::new();
            for (id, _) in self.state.network.speakers().iter().filter(|(_, speaker)| speaker.is_live()) {
                live.extend(self.fit(demand, judgment, id).and_then(|fit| fit.as_ref().ok()).cloned());
            }
            judgment.live = Some(live);
        }
        judgment.live.as_deref().unwrap_or_default()
    }

    /// Whether a speaker is to be left, or not to be chosen: its node is drained, and there is another one that is not.
    fn is_avoided(&mut self, vip: Vip, demand: &Demand, judgment: &mut Judgment<'a>, id: &SpeakerId, but: Option<&SpeakerId>) -> bool {
        let is_better = |candidate: &Candidate<'a>| !candidate.drained && Some(candidate.id) != but && !candidate.speaker.is_unable(vip);
        self.state.network.drains().has(&id.node) && self.live(demand, judgment).iter().any(is_better)
    }

    /// The nodes that announce other addresses of a VIP's Services.
    fn siblings(&self, vip: Vip) -> BTreeSet<NodeName> {
        let (book, network) = (&self.state.book, &self.state.network);
        let leases = book.holders().get(&vip).into_iter().flatten().filter_map(|holder| book.lease(holder));
        let others = leases.flat_map(|lease| &lease.addresses).filter(|other| **other != vip);
        let node = |other: &Vip| match self.decided.get(other) {
            Some(decided) => decided.clone(),
            None => network.placements().get(other)?.as_ref().ok().map(|placement| placement.active.node.clone()),
        };
        others.filter_map(node).collect()
    }

    /// Why no node may announce a VIP: the reason of each that has a speaker.
    fn reasons(&mut self, vip: Vip, demand: &Demand, judgment: &mut Judgment<'a>) -> Arc<BTreeMap<NodeName, &'static str>> {
        let speakers = self.state.network.speakers();
        if judgment.reasons.is_none() {
            let reason = |id: &'a SpeakerId| Some((id.node.clone(), *self.fit(demand, judgment, id)?.as_ref().err()?));
            let reasons: BTreeMap<NodeName, &'static str> = speakers.keys().filter_map(reason).collect();
            judgment.reasons = Some(Arc::new(reasons));
        }
        let mut reasons = judgment.reasons.clone().unwrap_or_default();
        for (id, _) in speakers.iter().filter(|(_, speaker)| speaker.is_unable(vip)) {
            if self.fit(demand, judgment, id).is_some_and(Result::is_ok) {
                Arc::make_mut(&mut reasons).insert(id.node.clone(), UNABLE);
            }
        }
        reasons
    }
}

/// Who goes on answering until the new one does: who already does so for a move that is not over, else the one that was active.
/// Whoever has not said that it answers for a VIP does not.
fn outgoing(state: &State, vip: Vip, present: Option<&Placement>, active: &SpeakerId) -> Option<SpeakerId> {
    let present = present?;
    let may_answer = |id: &&SpeakerId| state.network.speakers().get(*id).is_some_and(Speaker::may_answer);
    let claimed = Some(&present.active).filter(|_| !state.network.is_unclaimed(vip));
    let before = present.outgoing.iter().chain(claimed).find(may_answer)?;
    (before != active).then(|| before.clone())
}

/// Whether a speaker may announce what is asked for, or why not.
fn fit<'a>(state: &State, demand: &Demand, id: &'a SpeakerId, speaker: &'a Speaker) -> Result<Candidate<'a>, &'static str> {
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
    let none = Labels::new();
    let labels = network.nodes().get(&id.node).map_or(&none, |node| &node.labels);
    let all = state.book.configuration().advertisements();
    let asked = demand.advertisements.iter().filter_map(|place| all.get(*place));
    let covering: Vec<&AdvertisementSpec> = asked.filter(|ad| demand.takes_any_node || ad.covers_node(labels)).collect();
    if covering.is_empty() {
        return Err(if network.knows_nodes() { "no L2Advertisement selects it" } else { "its labels are not known yet" });
    }
    let everywhere = covering.iter().any(|ad| ad.interfaces.is_empty());
    let wanted: BTreeSet<InterfaceName> = covering.iter().flat_map(|ad| ad.interfaces.iter().cloned()).collect();
    let has = |interface: &InterfaceName| everywhere || wanted.contains(interface);
    // An awaited speaker has not told its interfaces yet.
    let awaited = !speaker.is_live() && speaker.interfaces.is_empty();
    if !awaited && !speaker.interfaces.iter().any(|interface| has(&interface.name)) {
        return Err(if everywhere { "it has no interface that is up" } else { LACKS_INTERFACES });
    }
    let preferences = covering.iter().flat_map(|ad| &ad.preferences).filter(|preference| preference.selector.matches(labels));
    let score = preferences.fold(0u32, |score, preference| score.saturating_add(preference.weight));
    let interfaces = if everywhere { BTreeSet::new() } else { wanted };
    Ok(Candidate { id, speaker, score, interfaces, drained: network.drains().has(&id.node) })
}

#[cfg(test)]
mod tests;
