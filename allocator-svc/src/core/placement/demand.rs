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
}

/// What the Services that hold a VIP ask of its node, or why no node will do.
pub(super) fn demand(state: &State, vip: Vip, holders: Option<&Holders>, present: Option<&Placement>) -> Result<Demand, Unannounced> {
    let (book, network) = (&state.book, &state.network);
    if let Some(found) = quarantine::of(book, vip) {
        return Err(Unannounced::InUse(found.to_string()));
    }
    let holders = || holders.into_iter().flatten();
    let leases: Vec<&Lease> = holders().filter_map(|holder| book.lease(holder)).collect();
    let reach = match (network.reach(holders()), present) {
        (Some(reach), _) => reach,
        (None, Some(_)) => Reach::Anywhere,
        (None, None) => return Err(Unannounced::BackendsUnknown),
    };
    if reach == Reach::Nowhere {
        return Err(Unannounced::NoEndpoint);
    }
    let advertisements = advertisements(state, &leases);
    if let Some(lease) = leases.first().filter(|_| advertisements.is_empty()) {
        return Err(Unannounced::NotAdvertised(lease.pool.clone()));
    }
    let adopted = || leases.iter().filter_map(|lease| book.claim(&lease.service)).any(|claim| claim.adopt.contains(&vip));
    let is_awaited = network.placements().get(&vip) == Some(&Err(Unannounced::HolderAwaited));
    if present.is_none() && network.is_recovering() && (is_awaited || adopted()) {
        return Err(Unannounced::HolderAwaited);
    }
    Ok(Demand { advertisements, reach })
}

/// Whether a VIP may be selected by labels of a Service that are not known yet, as after a start: until they are, nothing changes.
pub(super) fn is_unclear(state: &State, holders: &Holders) -> bool {
    let selects = |ad: &AdvertisementSpec| !ad.service_selectors.is_empty();
    holders.iter().any(|holder| state.book.claim(holder).is_none()) && state.book.configuration().advertisements().iter().any(selects)
}

/// The advertisements about a VIP's pool and any of its Services, by their place in the configuration. Labels that are not known yet
/// match no selector.
pub(super) fn advertisements(state: &State, leases: &[&Lease]) -> Vec<usize> {
    let none = Labels::new();
    let about = |ad: &AdvertisementSpec| {
        leases.iter().any(|lease| {
            let labels = state.book.claim(&lease.service).map_or(&none, |claim| &claim.labels);
            let pool = state.book.pools().get(&lease.pool);
            pool.is_some_and(|pool| ad.covers_pool(&lease.pool, &pool.spec().labels)) && ad.covers_service(labels)
        })
    };
    state.book.configuration().advertisements().iter().enumerate().filter(|(_, ad)| about(ad)).map(|(place, _)| place).collect()
}
