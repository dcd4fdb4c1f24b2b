//! Questions to the LAN: who answers for a VIP?

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::NodeName;

use super::Engine;
use crate::core::standby::Addressee;
use crate::net::station::Station;

impl Engine {
    /// Asks a node, or everybody, for VIPs that we stand by for, on each interface where it might answer.
    pub(super) fn ask(&self, node: &NodeName, questions: &[(Vip, Addressee)]) {
        for (vip, addressee) in questions {
            let Some(held) = self.state.vips().get(vip) else { continue };
            let stations = self.state.stations(&held.assigned, node, *addressee);
            for port in self.state.ports_for(&held.assigned) {
                let Some(open) = self.stations.get(&port.index) else { continue };
                stations.iter().for_each(|station| open.ask(*vip, *station));
            }
        }
    }

    /// Asks everybody for a VIP that we do not announce, wherever it may be announced.
    pub(super) fn ask_all(&self, vip: Vip) {
        self.stations_for(vip).for_each(|station| station.ask(vip, None));
    }

    /// The same for one that we are about to announce, as a host asks that is given an address.
    pub(super) fn probe_all(&self, vip: Vip) {
        self.stations_for(vip).for_each(|station| station.probe(vip));
    }

    fn stations_for(&self, vip: Vip) -> impl Iterator<Item = &Station> {
        let held = self.state.vips().get(&vip);
        let ports = held.into_iter().flat_map(|held| self.state.ports_for(&held.assigned));
        ports.filter_map(|port| self.stations.get(&port.index))
    }
}
