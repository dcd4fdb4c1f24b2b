//! What a VIP asks of the node that is to announce it.

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::Reach;
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::pool::AdvertisementSpec;

use super::{Placement, Unannounced};
use crate::core::holders::Holders;
use crate::core::quarantine;
use crate::core::state::State;

/// What a VIP's Services ask of its node: advertisements, by their place in the configuration, and where they can be served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand {
    /// The advertisements.
    pub(super) advertisements: Vec<usize>,
    /// The nodes that can serve.
    pub(super) reach: Reach,
    /// It is announced, and the labels of nodes are not known yet: every node counts as selected, so that it stays or is followed.
    pub(super) takes_any_node: bool,
}

/// What the Services that hold a VIP ask of its node, or why no node will do.
pub(super) fn demand(state: &State, vip: Vip, holders: Option<&Holders>, present: Option<&Placement>) -> Result<Demand, Unannounced> {
    let (book, network) = (&state.book, &state.network);
    if let Some(found) = quarantine::of(book, vip) {
        return Err(Unannounced::InUse(found.to_string()));
    }
    let holders = || holders.into_iter().flatten();
    let leases: Vec<&Lease> = holders().filter_map(|holder| book.lease(holder)).collect();
    let reach = match network.reach(holders()).filter(|reach| *reach != Reach::Nowhere) {
        Some(Reach::Anywhere) => Reach::Anywhere,
        known if network.knows_reach(holders()) => known.ok_or(Unannounced::NoEndpoint)?,
        // A Service of which nothing is known yet may be served just where its address is.
        _ if present.is_some() => Reach::Anywhere,
        known => known.ok_or(Unannounced::BackendsUnknown)?,
    };
    let advertisements = advertisements(state, &leases, present.is_some());
    if let Some(lease) = leases.first().filter(|_| advertisements.is_empty()) {
        return Err(Unannounced::NotAdvertised(lease.pool.clone()));
    }
    let adopted = || leases.iter().filter_map(|lease| book.claim(&lease.service)).any(|claim| claim.adopt.contains(&vip));
    let is_awaited = network.placements().get(&vip) == Some(&Err(Unannounced::HolderAwaited));
    if present.is_none() && network.is_recovering() && (is_awaited || adopted()) {
        return Err(Unannounced::HolderAwaited);
    }
    let all = book.configuration().advertisements();
    let selects = |place: &usize| all.get(*place).is_some_and(|ad| !ad.node_selectors.is_empty());
    let takes_any_node = present.is_some() && !network.knows_nodes() && advertisements.iter().any(selects);
    Ok(Demand { advertisements, reach, takes_any_node })
}

/// The advertisements about a VIP's pool and any of its Services, by their place in the configuration. Labels that are not known yet, as
/// after a start, match every selector where the VIP is announced, and none where it is not.
pub(super) fn advertisements(state: &State, leases: &[&Lease], is_announced: bool) -> Vec<usize> {
    let none = Labels::new();
    let about = |ad: &AdvertisementSpec| {
        leases.iter().any(|lease| {
            let claim = state.book.claim(&lease.service);
            let is_selected = claim.is_none() && is_announced || ad.covers_service(claim.map_or(&none, |claim| &claim.labels));
            let pool = state.book.pools().get(&lease.pool);
            is_selected && pool.is_some_and(|pool| ad.covers_pool(&lease.pool, &pool.spec().labels))
        })
    };
    state.book.configuration().advertisements().iter().enumerate().filter(|(_, ad)| about(ad)).map(|(place, _)| place).collect()
}
