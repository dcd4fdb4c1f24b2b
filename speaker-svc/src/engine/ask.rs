//! Questions to the LAN: who answers for a VIP?

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{MacAddress, NodeName};

use super::Engine;
use crate::core::interfaces::LinkIndex;
use crate::core::standby::Addressee;
use crate::wire::arp::{EMPTY_FRAME, emit, probe_to};

impl Engine {
    /// Asks a node, or everybody, for VIPs that we stand by for, on each interface where it might answer.
    pub(super) fn ask(&self, node: &NodeName, questions: &[(Vip, Addressee)]) {
        for (vip, addressee) in questions {
            let Some(held) = self.state.vips().get(vip) else { continue };
            let active = held.assigned.active.iter().filter(|active| active.node == *node).flat_map(|active| &active.macs);
            let stations: Vec<MacAddress> = match addressee {
                Addressee::Active => active.copied().collect(),
                Addressee::All => vec![MacAddress::BROADCAST],
            };
            for port in self.state.ports_to_ask(&held.assigned) {
                stations.iter().for_each(|station| self.probe(*vip, port.index, *station));
            }
        }
    }

    /// Asks everybody for a VIP that we do not announce, wherever it may be announced.
    pub(super) fn ask_all(&self, vip: Vip) {
        let Some(held) = self.state.vips().get(&vip) else { return };
        self.state.ports_to_ask(&held.assigned).for_each(|port| self.probe(vip, port.index, MacAddress::BROADCAST));
    }

    /// Asks a station, or all, whether it answers for a VIP, so that nobody who hears it learns anything (RFC 5227 §2.1.1).
    pub(super) fn probe(&self, vip: Vip, link: LinkIndex, station: MacAddress) {
        let (Some(open), Some(address)) = (self.open.get(&link), vip.v4()) else { return };
        let mut frame = EMPTY_FRAME;
        let (header, arp) = probe_to(station, address, open.port.mac);
        emit(header, &arp, &mut frame);
        if open.transmitter.send(&frame).is_err() {
            self.metrics.drops.unsent();
        }
    }
}
