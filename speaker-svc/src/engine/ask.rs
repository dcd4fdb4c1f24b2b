//! Questions to the LAN: who answers for a VIP?

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{MacAddress, NodeName};

use super::Engine;
use crate::core::interfaces::LinkIndex;
use crate::core::standby::Addressee;

impl Engine {
    /// Asks a node, or everybody, for VIPs that we stand by for, on each interface where it might answer.
    pub(super) fn ask(&self, node: &NodeName, questions: &[(Vip, Addressee)]) {
        for (vip, addressee) in questions {
            let Some(held) = self.state.vips().get(vip) else { continue };
            let active =
                self.state.watched(&held.assigned).into_iter().filter(|active| active.node == *node).flat_map(|active| &active.macs);
            let stations: Vec<Option<MacAddress>> = match addressee {
                Addressee::Active => active.copied().map(Some).collect(),
                Addressee::All => vec![None],
            };
            for port in self.state.ports_for(&held.assigned) {
                stations.iter().for_each(|station| self.probe(*vip, port.index, *station));
            }
        }
    }

    /// Asks everybody for a VIP that we do not announce, wherever it may be announced.
    pub(super) fn ask_all(&self, vip: Vip) {
        let Some(held) = self.state.vips().get(&vip) else { return };
        self.state.ports_for(&held.assigned).for_each(|port| self.probe(vip, port.index, None));
    }

    fn probe(&self, vip: Vip, link: LinkIndex, station: Option<MacAddress>) {
        if let Some(open) = self.stations.get(&link) {
            open.ask(vip, station);
        }
    }
}
