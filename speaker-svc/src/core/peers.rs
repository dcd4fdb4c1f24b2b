//! Other nodes by their hardware addresses, and those of them that are asked for a VIP.

use std::collections::BTreeMap;
use std::sync::Arc;

use mooring_proto::types::assignment::Assignment;
use mooring_proto::types::node::{MacAddress, NodeName};

use super::State;
use super::standby::{ActivePeer, Addressee};
use super::state::{Assigned, Held};

/// Hardware addresses of other nodes.
pub type Peers = BTreeMap<MacAddress, NodeName>;

/// Other nodes with their hardware addresses, as an assignment has them; of two nodes with the same one the first has it.
pub(super) fn of(assignment: &Assignment) -> Peers {
    let mut peers = Peers::new();
    for (node, macs) in assignment.peers.iter() {
        for mac in macs {
            peers.entry(*mac).or_insert_with(|| node.clone());
        }
    }
    peers
}

impl State {
    /// The node of a peer, known from a VIP's assignment or from any other one before.
    pub(super) fn peer<'a>(&'a self, held: &'a Held, mac: MacAddress) -> Option<&'a NodeName> {
        held.assigned.peers.get(&mac).or_else(|| self.acquaintances.get(&mac))
    }

    /// The other node that is asked for a VIP: the one that we stand by for, and while no allocator is there the one that we followed, as it may
    /// not have heard that it has the VIP no more.
    #[must_use]
    pub fn watched<'a>(&self, assigned: &'a Assigned) -> Option<&'a Arc<ActivePeer>> {
        let followed = assigned.followed.as_ref().filter(|_| !self.session.is_live());
        assigned.active.as_ref().or(followed)
    }

    /// The stations of a node that a question about a VIP goes to; `None` = all that hear it.
    #[must_use]
    pub fn stations(&self, assigned: &Assigned, node: &NodeName, addressee: Addressee) -> Vec<Option<MacAddress>> {
        match addressee {
            Addressee::Active => {
                let watched = self.watched(assigned).into_iter().filter(|watched| watched.node == *node);
                watched.flat_map(|watched| &watched.macs).copied().map(Some).collect()
            }
            Addressee::All => vec![None],
        }
    }
}
