//! Nodes that are drained: by a person's call, until it is taken back, or by their cordon taint (DESIGN 3.3).
//!
//! What a drained node has moves make-before-break to nodes that are not, and nothing new comes to it while there is any. It stays the
//! last resort: where no other node is eligible it goes on, and says so. What has left does not come back by itself.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::node::{NodeName, NodeSpec};
use mooring_proto::types::time::UnixMillis;

use super::refusal::Refusal;
use super::state::State;
use super::{Event, Now};

/// The nodes that are drained, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drains {
    /// Those that a person drains, since when.
    by_hand: BTreeMap<NodeName, UnixMillis>,
    /// Those that are cordoned.
    cordoned: BTreeSet<NodeName>,
}

impl Drains {
    /// Whether a node is drained, by whomever.
    #[must_use]
    pub fn has(&self, node: &NodeName) -> bool {
        self.cordoned.contains(node) || self.by_hand.contains_key(node)
    }

    /// The nodes that a person drains, since when.
    #[must_use]
    pub fn by_hand(&self) -> &BTreeMap<NodeName, UnixMillis> {
        &self.by_hand
    }

    /// The nodes that are cordoned.
    #[must_use]
    pub fn cordoned(&self) -> &BTreeSet<NodeName> {
        &self.cordoned
    }

    /// Why a node is drained; `None` = it is not.
    #[must_use]
    pub fn why(&self, node: &NodeName) -> Option<&'static str> {
        match (self.by_hand.contains_key(node), self.cordoned.contains(node)) {
            (true, _) => Some("it is drained by hand"),
            (false, true) => Some("it is cordoned"),
            (false, false) => None,
        }
    }

    /// All of them; one that is drained twice comes twice.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_hand.keys().chain(&self.cordoned)
    }

    pub(super) fn begin(&mut self, node: &NodeName, since: UnixMillis) {
        self.by_hand.insert(node.clone(), since);
    }

    pub(super) fn end(&mut self, node: &NodeName) {
        self.by_hand.remove(node);
    }

    /// Takes over which nodes are cordoned, and returns those for which that has changed.
    pub(super) fn replace<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeSpec>) -> Vec<NodeName> {
        let cordoned = nodes.filter(|node| node.cordoned).map(|node| node.name.clone()).collect();
        let before = std::mem::replace(&mut self.cordoned, cordoned);
        before.symmetric_difference(&self.cordoned).cloned().collect()
    }
}

/// A person drains a node. One that is drained by hand already stays so since then.
pub(super) fn drain(state: &State, node: NodeName, now: Now) -> Result<Vec<Event>, Refusal> {
    let network = &state.network;
    if network.drains().by_hand.contains_key(&node) {
        return Ok(Vec::new());
    }
    let is_known = network.nodes().contains_key(&node) || network.speakers().keys().any(|speaker| speaker.node == node);
    if is_known { Ok(vec![Event::NodeDrained { node, since: now.wall }]) } else { Err(Refusal::UnknownNode { node }) }
}

/// A person takes that back; a cordon stays.
pub(super) fn restore(state: &State, node: NodeName) -> Vec<Event> {
    let is_drained = state.network.drains().by_hand.contains_key(&node);
    is_drained.then_some(Event::NodeRestored(node)).into_iter().collect()
}

#[cfg(test)]
mod tests;
