//! What each speaker is worth for a VIP, by the functions that place it: told, not decided.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::node::{InterfaceName, SpeakerId};

use super::{Candidate, Round, UNABLE, Unannounced, advertisements, demand, fit, rank};
use crate::core::state::State;

/// What a speaker is worth for a VIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    /// By how much the advertisements prefer its node.
    pub(crate) score: u32,
    /// The interfaces that it would announce on; empty = all.
    pub(crate) interfaces: BTreeSet<InterfaceName>,
    /// Its place, from 1, among those that could be given the VIP if it were placed anew; `None` = it could not.
    pub(crate) place: Option<usize>,
    /// Why its node is drained, so that it comes after all others; `None` = it is not.
    pub(crate) drained: Option<&'static str>,
}

/// Every speaker with what it is worth for a VIP, or why it may not announce it.
type Worths<'a> = Vec<(&'a SpeakerId, Result<Worth, &'static str>)>;

/// The advertisements about a VIP and what each speaker is worth for it, or why nobody may announce it.
pub(in crate::core) fn worth(state: &State, vip: Vip) -> Result<(Vec<&str>, Worths<'_>), Unannounced> {
    let holders = state.book.holders().get(&vip);
    let present = state.network.placements().get(&vip).and_then(|placed| placed.as_ref().ok());
    let demand = demand(state, vip, holders, present)?;
    let speakers = state.network.speakers().iter();
    let fits: Vec<_> =
        speakers.map(|(id, speaker)| (id, fit(state, &demand, id, speaker).and_then(|candidate| able(candidate, vip)))).collect();
    let live = fits.iter().filter_map(|(_, fit)| fit.as_ref().ok()).filter(|candidate| candidate.speaker.is_live());
    let siblings = Round::new(state).siblings(vip);
    let order = |candidate: &Candidate<'_>| {
        let node = &candidate.id.node;
        (candidate.drained, Reverse(candidate.score), state.network.active_on(node), siblings.contains(node))
    };
    let mut ordered: Vec<_> = live.map(|candidate| (order(candidate), rank(vip, candidate.id))).collect();
    ordered.sort();
    let places: BTreeMap<&SpeakerId, usize> = (1..).zip(ordered).map(|(place, (_, (_, id)))| (id, place)).collect();
    let worth = |fit: Candidate<'_>| {
        let drained = state.network.drains().why(&fit.id.node);
        Worth { score: fit.score, interfaces: fit.interfaces, place: places.get(fit.id).copied(), drained }
    };
    let all = state.book.configuration().advertisements();
    let names = demand.advertisements.iter().filter_map(|place| all.get(*place)).map(|ad| ad.name.as_str()).collect();
    Ok((names, fits.into_iter().map(|(id, fit)| (id, fit.map(worth))).collect()))
}

fn able(candidate: Candidate<'_>, vip: Vip) -> Result<Candidate<'_>, &'static str> {
    if candidate.speaker.is_unable(vip) { Err(UNABLE) } else { Ok(candidate) }
}

/// Whether an advertisement is about a VIP that is held.
pub(in crate::core) fn is_advertised(state: &State, vip: Vip) -> bool {
    let holders = state.book.holders().get(&vip).into_iter().flatten();
    let leases: Vec<&Lease> = holders.filter_map(|holder| state.book.lease(holder)).collect();
    !advertisements(state, &leases).is_empty()
}
