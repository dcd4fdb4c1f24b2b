//! How many VIPs each node has, over what the decisions of a round leave.

use mooring_proto::types::node::NodeName;

use super::{Placement, Round, Unannounced};

/// How many VIPs a node has.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    /// How many it announces.
    pub(super) active: usize,
    /// For how many it stands by.
    pub(super) standby: usize,
}

impl<'a> Round<'a> {
    /// What a node has by now.
    pub(super) fn load(&self, node: &NodeName) -> Load {
        let network = &self.state.network;
        let before = || Load { active: network.active_on(node), standby: network.standby_on(node) };
        self.loads.get(node).copied().unwrap_or_else(before)
    }

    /// Those that are decided next see what this decision leaves.
    pub(super) fn loaded(&mut self, before: Option<&'a Result<Placement, Unannounced>>, after: &Result<Placement, Unannounced>) {
        let mut change = |placement: &Placement, more: bool| {
            let by_one = |count: usize| if more { count.saturating_add(1) } else { count.saturating_sub(1) };
            let parts = [(Some(&placement.active), true), (placement.standby.as_ref(), false)];
            for (id, is_active) in parts.into_iter().filter_map(|(id, is_active)| Some((id?, is_active))) {
                let Some((id, _)) = self.state.network.speakers().get_key_value(id) else { continue };
                let mut load = self.load(&id.node);
                let count = if is_active { &mut load.active } else { &mut load.standby };
                *count = by_one(*count);
                self.loads.insert(&id.node, load);
            }
        };
        before.into_iter().flatten().for_each(|before| change(before, false));
        after.iter().for_each(|after| change(after, true));
    }
}
