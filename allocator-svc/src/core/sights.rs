//! What other nodes see of the VIPs on the LAN: whether the node that announces one answers for it, and who else does.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::Sight;
use mooring_proto::types::node::{MacAddress, NodeName, SpeakerId};
use mooring_proto::types::time::UnixMillis;

use super::nodes::{Conflict, Network, SpeakerEvent};
use super::placement::Placement;
use super::{Event, Now};

/// What was seen of a VIP last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The node that has looked.
    pub by: NodeName,
    /// When.
    pub at: UnixMillis,
    /// Who answered.
    pub macs: BTreeSet<MacAddress>,
    /// The node that announces the VIP was among them.
    pub reachable: bool,
    /// Somebody was that is not that node.
    pub contested: bool,
}

/// What was seen of each VIP.
#[derive(Clone, Debug, Default)]
pub(super) struct Sights {
    seen: BTreeMap<Vip, Sighting>,
    unreachable: BTreeSet<Vip>,
    contested: BTreeSet<Vip>,
}

impl Sights {
    /// What was seen of a VIP last, since it is where it is.
    pub(super) fn of(&self, vip: Vip) -> Option<&Sighting> {
        self.seen.get(&vip)
    }

    /// How many VIPs are not answered for by the node that announces them.
    pub(super) fn unreachable(&self) -> usize {
        self.unreachable.len()
    }

    /// How many VIPs others answer for, too.
    pub(super) fn contested(&self) -> usize {
        self.contested.len()
    }

    pub(super) fn note(&mut self, vip: Vip, sighting: &Sighting) {
        self.forget(vip);
        if !sighting.reachable {
            self.unreachable.insert(vip);
        }
        if sighting.contested {
            self.contested.insert(vip);
        }
        self.seen.insert(vip, sighting.clone());
    }

    /// A VIP is elsewhere now, or nowhere.
    pub(super) fn forget(&mut self, vip: Vip) {
        self.seen.remove(&vip);
        self.unreachable.remove(&vip);
        self.contested.remove(&vip);
    }
}

/// A speaker has looked at VIPs that other nodes announce. A stranger that answers claims the VIP; one of our own nodes that should not
/// answer does not, as it will hear so.
pub(super) fn seen(network: &Network, by: &SpeakerId, sights: Vec<Sight>, now: Now) -> Vec<Event> {
    sights.into_iter().flat_map(|sight| judge(network, by, sight, now)).collect()
}

fn judge(network: &Network, by: &SpeakerId, sight: Sight, now: Now) -> Vec<Event> {
    let Sight { vip, answers } = sight;
    let Some(placement) = network.placements().get(&vip).and_then(|placed| placed.as_ref().ok()) else { return Vec::new() };
    if placement.active.node == by.node {
        return Vec::new();
    }
    let own = own_macs(network, placement);
    let strange = answers.iter().filter(|(mac, _)| !own.contains(mac));
    let contested = strange.clone().next().is_some();
    let stranger = strange.clone().find(|(mac, _)| !network.has_mac(**mac));
    let conflict = stranger.map(|(mac, interface)| Conflict { mac: *mac, interface: interface.clone(), node: by.node.clone() });
    let active = macs_of(network, &placement.active);
    let sighting = Sighting {
        by: by.node.clone(),
        at: now.wall,
        reachable: answers.keys().any(|mac| active.contains(mac)),
        contested,
        macs: answers.into_keys().collect(),
    };
    let seen = Event::Speaker(SpeakerEvent::Seen { vip, sighting });
    std::iter::once(seen).chain(conflict.map(|conflict| network.strangers().claimed(vip, conflict, now.mono))).collect()
}

/// From where a VIP may be answered for: by the node that announces it, and by one that does not yet know that it does no more.
fn own_macs(network: &Network, placement: &Placement) -> BTreeSet<MacAddress> {
    [Some(&placement.active), placement.outgoing.as_ref()].into_iter().flatten().flat_map(|id| macs_of(network, id)).collect()
}

/// The hardware addresses of a speaker's node.
fn macs_of(network: &Network, id: &SpeakerId) -> BTreeSet<MacAddress> {
    network.on_node_of(id).flat_map(|(_, speaker)| &speaker.interfaces).map(|interface| interface.mac).collect()
}

#[cfg(test)]
mod tests;
