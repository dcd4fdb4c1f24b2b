//! The answers that we listen for although we do not answer ourselves.
//!
//! The reply table finds those who claim what we announce. Of the VIPs that we stand by for only answers to our own questions are of
//! interest: whatever else the LAN says of them is nothing to us. Of a VIP that we ask for before we announce it every word counts.

use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;

use super::reply::Receiver;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::Header;
use crate::wire::ndp::{Kind, Ndp};

/// The VIPs that we may ask for; never changes, and is replaced as a whole.
#[derive(Clone, Debug, Default)]
pub struct Heeded {
    all: Arc<[Vip]>,
    /// Those of them that we ask for before we announce them.
    probed: Arc<[Vip]>,
}

impl Heeded {
    /// These VIPs, and those of them that are asked for before they are announced; both ascending.
    #[must_use]
    pub fn new(all: impl Iterator<Item = Vip>, probed: impl Iterator<Item = Vip>) -> Self {
        Self { all: all.collect(), probed: probed.collect() }
    }

    /// The VIP that a frame says its sender has, in answer to a question of ours: an ARP reply that was sent to us alone. Whoever sends any
    /// ARP packet in the name of a VIP that is asked for has it (RFC 5227 §2.1.1).
    #[must_use]
    pub fn answer(&self, on: &Receiver, destination: MacAddress, arp: &Arp) -> Option<Vip> {
        let vip = Vip::from(arp.spa);
        let to_us = arp.operation == Operation::Reply && destination == on.mac;
        let counts = || to_us && has(&self.all, vip) || has(&self.probed, vip);
        (arp.sha != on.mac && counts()).then_some(vip)
    }

    /// The same for IPv6: an advertisement of another station. Who asks without an address is answered before all (RFC 4861 §7.2.4), so
    /// one to all nodes counts too.
    #[must_use]
    pub fn advertisement(&self, on: &Receiver, header: Header, ndp: &Ndp) -> Option<Vip> {
        let vip = Vip::from(ndp.target);
        let foreign = header.source != on.mac && ndp.sender(header) != on.mac;
        (matches!(ndp.kind, Kind::Advertisement(_)) && foreign && has(&self.all, vip)).then_some(vip)
    }
}

fn has(ascending: &[Vip], vip: Vip) -> bool {
    ascending.binary_search(&vip).is_ok()
}

#[cfg(test)]
mod tests;
