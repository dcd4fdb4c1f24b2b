//! A station of the LAN that wants to reach the VIPs, with a neighbor table as Linux keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use mooring_proto::types::time::Mono;

use super::frame::{self, Frame, Word};
use super::lan::Nic;

/// A fresh entry is not changed by anything but a gratuitous packet for so long (Linux `neigh/*/locktime`).
pub const LOCK_TIME: Duration = Duration::from_secs(1);

/// An entry of the neighbor table.
#[derive(Clone, Copy, Debug)]
pub struct Neighbor {
    /// Where packets for the VIP go.
    pub mac: MacAddress,
    /// Since when.
    changed: Mono,
}

/// What was heard of a VIP since somebody began to look.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// When the last request was answered.
    pub answered: Option<Mono>,
    /// The longest time between two answers.
    pub longest: Duration,
    /// Who answered.
    pub by: BTreeSet<MacAddress>,
}

/// Who looks; each begins when it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Looker {
    /// A scenario.
    Scenario,
    /// Whoever waits for the cluster to be at rest.
    Rest,
}

/// The station.
#[derive(Debug)]
pub struct Client {
    nic: Nic,
    address: Ipv4Addr,
    neighbors: BTreeMap<Vip, Neighbor>,
    sights: BTreeMap<(Looker, Vip), Sight>,
}

impl Client {
    /// A station that has heard nothing.
    #[must_use]
    pub fn new(nic: Nic, address: Ipv4Addr) -> Self {
        Self { nic, address, neighbors: BTreeMap::new(), sights: BTreeMap::new() }
    }

    /// Its entry for a VIP.
    #[must_use]
    pub fn neighbor(&self, vip: Vip) -> Option<Neighbor> {
        self.neighbors.get(&vip).copied()
    }

    /// What was heard of a VIP.
    #[must_use]
    pub fn sight(&self, looker: Looker, vip: Vip) -> Sight {
        self.sights.get(&(looker, vip)).cloned().unwrap_or_default()
    }

    /// Looks anew, as if each VIP had just been answered.
    pub fn look_anew(&mut self, looker: Looker, now: Mono) {
        for (_, sight) in self.sights.iter_mut().filter(|((of, _), _)| *of == looker) {
            *sight = Sight { answered: sight.answered.map(|_| now), longest: Duration::ZERO, by: BTreeSet::new() };
        }
    }

    /// How long a VIP has at most been without an answer, until now.
    #[must_use]
    pub fn longest_gap(&self, looker: Looker, vip: Vip, now: Mono) -> Duration {
        let sight = self.sight(looker, vip);
        sight.answered.map_or(Duration::MAX, |answered| sight.longest.max(now.saturating_since(answered)))
    }

    /// Asks all stations who has a VIP.
    #[must_use]
    pub fn request(&self, vip: Vip) -> Frame {
        frame::request(vip, self.nic.mac(), (self.address, self.nic.link_local()))
    }

    /// Hears a frame, as Linux does: an answer makes an entry; what an entry says is changed by a gratuitous packet at once, and by anything
    /// else when it is not fresh any more.
    pub fn hear(&mut self, frame: &[u8], now: Mono) {
        let Some(Word { vip, mac, to, overrides }) = frame::word(frame) else { return };
        let answer = to == Some(self.nic.mac());
        if answer {
            for looker in [Looker::Scenario, Looker::Rest] {
                let sight = self.sights.entry((looker, vip)).or_default();
                let gap = sight.answered.map(|answered| now.saturating_since(answered)).unwrap_or_default();
                sight.longest = sight.longest.max(gap);
                sight.answered = Some(now);
                sight.by.insert(mac);
            }
        }
        match self.neighbors.get_mut(&vip) {
            Some(neighbor) if neighbor.mac == mac => {}
            Some(neighbor) if overrides || now > neighbor.changed + LOCK_TIME => *neighbor = Neighbor { mac, changed: now },
            Some(_) => {}
            None if answer => {
                self.neighbors.insert(vip, Neighbor { mac, changed: now });
            }
            None => {}
        }
    }
}
