//! Indexes of the placements: which VIPs a speaker or a node has a part in, how many each node has, and for which somebody is missing.
//!
//! A speaker that comes, goes or changes concerns only the VIPs that are found here, never all of them.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use sha2::{Digest as _, Sha256};

use super::nodes::{Liveness, Network, Speaker};
use super::placement::{Placement, Unannounced};

/// The indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The VIPs that each speaker announces, stands by for, or goes on answering for.
    of: BTreeMap<NodeName, BTreeMap<Instance, BTreeSet<Vip>>>,
    active_on: BTreeMap<NodeName, usize>,
    standby_on: BTreeMap<NodeName, usize>,
    /// How many VIPs each drained node announces, as no other is eligible.
    last_resort_on: BTreeMap<NodeName, usize>,
    /// How many VIPs nobody announces.
    unannounced: usize,
    /// Those of them for which no node is eligible.
    nodeless: BTreeSet<Vip>,
    /// Those of them whose announcer is awaited after a start.
    awaited: BTreeSet<Vip>,
    /// The VIPs that are announced and have no standby.
    alone: BTreeSet<Vip>,
}

impl Parts {
    /// A VIP is placed, or nobody announces it.
    pub(super) fn add(&mut self, vip: Vip, placed: &Result<Placement, Unannounced>) {
        let placement = match placed {
            Ok(placement) => placement,
            Err(reason) => {
                self.unannounced = self.unannounced.saturating_add(1);
                if reason.is_for_want_of_a_node() {
                    self.nodeless.insert(vip);
                }
                if *reason == Unannounced::HolderAwaited {
                    self.awaited.insert(vip);
                }
                return;
            }
        };
        for speaker in placement.speakers() {
            let instances = self.of.entry(speaker.node.clone()).or_default();
            instances.entry(speaker.instance.clone()).or_default().insert(vip);
        }
        count(&mut self.active_on, &placement.active.node, true);
        if placement.last_resort {
            count(&mut self.last_resort_on, &placement.active.node, true);
        }
        match &placement.standby {
            Some(standby) => count(&mut self.standby_on, &standby.node, true),
            None => {
                self.alone.insert(vip);
            }
        }
    }

    /// Takes back what [`Parts::add`] did.
    pub(super) fn remove(&mut self, vip: Vip, placed: &Result<Placement, Unannounced>) {
        let Ok(placement) = placed else {
            self.unannounced = self.unannounced.saturating_sub(1);
            self.nodeless.remove(&vip);
            self.awaited.remove(&vip);
            return;
        };
        for speaker in placement.speakers() {
            self.leave(vip, speaker);
        }
        count(&mut self.active_on, &placement.active.node, false);
        if placement.last_resort {
            count(&mut self.last_resort_on, &placement.active.node, false);
        }
        match &placement.standby {
            Some(standby) => count(&mut self.standby_on, &standby.node, false),
            None => {
                self.alone.remove(&vip);
            }
        }
    }

    fn leave(&mut self, vip: Vip, speaker: &SpeakerId) {
        let Some(instances) = self.of.get_mut(&speaker.node) else { return };
        if let Some(vips) = instances.get_mut(&speaker.instance) {
            vips.remove(&vip);
            if vips.is_empty() {
                instances.remove(&speaker.instance);
            }
        }
        if instances.is_empty() {
            self.of.remove(&speaker.node);
        }
    }

    /// The VIPs in which a speaker has a part.
    pub(super) fn of(&self, speaker: &SpeakerId) -> impl Iterator<Item = Vip> {
        self.of.get(&speaker.node).and_then(|instances| instances.get(&speaker.instance)).into_iter().flatten().copied()
    }

    /// Whether a speaker has any part.
    pub(super) fn has(&self, speaker: &SpeakerId) -> bool {
        self.of.get(&speaker.node).is_some_and(|instances| instances.contains_key(&speaker.instance))
    }

    /// The VIPs in which any speaker of a node has a part; some may come twice.
    pub(super) fn of_node(&self, node: &NodeName) -> impl Iterator<Item = Vip> {
        self.of.get(node).into_iter().flat_map(BTreeMap::values).flatten().copied()
    }

    /// How many VIPs a node announces.
    pub(super) fn active_on(&self, node: &NodeName) -> usize {
        self.active_on.get(node).copied().unwrap_or_default()
    }

    /// For how many VIPs a node stands by.
    pub(super) fn standby_on(&self, node: &NodeName) -> usize {
        self.standby_on.get(node).copied().unwrap_or_default()
    }

    /// How many VIPs a drained node announces, as no other is eligible.
    pub(super) fn last_resort_on(&self, node: &NodeName) -> usize {
        self.last_resort_on.get(node).copied().unwrap_or_default()
    }

    /// How many VIPs drained nodes announce, as no others are eligible.
    pub(super) fn last_resorts(&self) -> usize {
        self.last_resort_on.values().sum()
    }

    /// Whether VIPs could move from one node to another.
    pub(super) fn are_on_several_nodes(&self) -> bool {
        self.active_on.len() + self.standby_on.len() > 1
    }

    /// How many VIPs nobody announces.
    pub(super) fn unannounced(&self) -> usize {
        self.unannounced
    }

    /// The VIPs for which no node is eligible.
    pub(super) fn nodeless(&self) -> &BTreeSet<Vip> {
        &self.nodeless
    }

    /// The VIPs whose announcer is awaited after a start.
    pub(super) fn awaited(&self) -> &BTreeSet<Vip> {
        &self.awaited
    }

    /// The VIPs that are announced and have no standby.
    pub(super) fn alone(&self) -> &BTreeSet<Vip> {
        &self.alone
    }
}

fn count(counts: &mut BTreeMap<NodeName, usize>, node: &NodeName, more: bool) {
    let entry = counts.entry(node.clone()).or_default();
    *entry = if more { entry.saturating_add(1) } else { entry.saturating_sub(1) };
    if *entry == 0 {
        counts.remove(node);
    }
}

/// A placement that nothing is known against but that its node may be lost: then the one that stood by has it, if there is one.
pub(super) fn survive(network: &Network, present: &Placement) -> Option<Placement> {
    let speaker = |id: &SpeakerId| network.speakers().get(id);
    if speaker(&present.active).is_some_and(|active| active.liveness != Liveness::Lost) {
        return Some(present.clone());
    }
    let standby = present.standby.clone().filter(|standby| speaker(standby).is_some_and(Speaker::is_live))?;
    Some(Placement { interfaces: present.interfaces_of(&standby).clone(), ..Placement::on(standby) })
}

/// The order among equal nodes for a VIP: the smaller, the better.
pub(super) fn rank(vip: Vip, id: &SpeakerId) -> ([u8; 32], &SpeakerId) {
    (Sha256::digest(format!("{}#{vip}", id.node)).into(), id)
}
