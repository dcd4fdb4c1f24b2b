//! What will become of the VIPs of a node that is drained: told, not decided.

use std::collections::BTreeSet;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::NodeName;

use super::{Round, demand};
use crate::core::state::State;

/// What will become of a node's VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// How many another node will have, or has already and the node goes on until that one says that it does.
    pub(crate) moving: usize,
    /// How many stay, as no other node is eligible.
    pub(crate) staying: usize,
}

/// What will become of the VIPs that a node answers for.
pub(crate) fn outlook(state: &State, node: &NodeName) -> Outlook {
    let mut round = Round::new(state);
    let mut outlook = Outlook::default();
    let vips: BTreeSet<Vip> = state.network.parts_of_node(node).collect();
    for vip in vips {
        let Some(Ok(placement)) = state.network.placements().get(&vip) else { continue };
        let is_leaving = placement.outgoing.as_ref().is_some_and(|outgoing| outgoing.node == *node);
        if placement.active.node != *node && !is_leaving {
            continue;
        }
        let holders = state.book.holders().get(&vip);
        let demand = holders.and_then(|holders| demand(state, vip, Some(holders), Some(placement)).ok());
        let leaves = placement.active.node != *node
            || demand.is_some_and(|demand| {
                round.with_judgment(demand, |round, demand, judgment| round.is_avoided(vip, demand, judgment, &placement.active, None))
            });
        let count = if leaves { &mut outlook.moving } else { &mut outlook.staying };
        *count = count.saturating_add(1);
    }
    outlook
}
