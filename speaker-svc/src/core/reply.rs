//! The answer, if any, to one frame.
//!
//! Responder threads call [`reply`] for every frame with the newest [`ReplyTable`]. The table is made whole by the engine and never
//! changes; looking an address up takes the same time for ten VIPs as for ten thousand and allocates nothing.

use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{InterfaceName, MacAddress};

use super::state::Assigned;
use crate::wire::arp::{Arp, Operation};

/// The VIPs that are answered for, by address.
///
/// Open addressing with linear probing, at most half full. Only the allocator chooses what is in it, so nobody on the LAN can make the
/// probes long.
#[derive(Debug)]
pub struct ReplyTable {
    slots: Box<[Option<Arc<Assigned>>]>,
    len: usize,
}

impl Default for ReplyTable {
    fn default() -> Self {
        Self::new(std::iter::empty())
    }
}

impl ReplyTable {
    /// A table of these VIPs, each at most once.
    #[must_use]
    pub fn new<'a>(vips: impl Iterator<Item = &'a Arc<Assigned>>) -> Self {
        let vips: Vec<&Arc<Assigned>> = vips.collect();
        let capacity = vips.len().saturating_mul(2).next_power_of_two().max(2);
        let mut slots = vec![None; capacity].into_boxed_slice();
        for assigned in &vips {
            let free = probes(assigned.vip, capacity).find(|slot| slots.get(*slot).is_some_and(Option::is_none));
            if let Some(slot) = free.and_then(|slot| slots.get_mut(slot)) {
                *slot = Some(Arc::clone(assigned));
            }
        }
        Self { slots, len: vips.len() }
    }

    /// The VIP, if it is answered for.
    #[must_use]
    pub fn get(&self, vip: Vip) -> Option<&Assigned> {
        // A free slot ends the search, and there is always one.
        probes(vip, self.slots.len()).map_while(|slot| self.slots.get(slot)?.as_deref()).find(|assigned| assigned.vip == vip)
    }

    /// All VIPs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Assigned>> {
        self.slots.iter().flatten()
    }

    /// How many VIPs are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The slots where a VIP may be, in the order asked: all of them, from the one that its hash names.
fn probes(vip: Vip, capacity: usize) -> impl Iterator<Item = usize> {
    let bits = match vip.addr() {
        std::net::IpAddr::V4(address) => u64::from(address.to_bits()),
        std::net::IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, rest @ ..] = address.octets();
            u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_be_bytes(rest)
        }
    };
    // Fibonacci hashing: the middle bits of the product depend on all bits of a neighborhood of addresses.
    let hash = usize::try_from(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or_default();
    let mask = capacity.wrapping_sub(1);
    (0..capacity).map(move |step| hash.wrapping_add(step) & mask)
}

/// Where a frame came in.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// The interface.
    pub name: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
}

/// What a frame asks of us; nothing, mostly.
#[derive(Debug, Default)]
pub struct Outcome<'t> {
    /// The VIP to answer for.
    pub answer: Option<&'t Assigned>,
    /// The VIP that the frame's sender claims to have.
    pub claim: Option<&'t Assigned>,
}

/// Whom a well-formed frame was meant for, if not us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

/// Reads what a frame means (MetalLB behaviour 8.2).
///
/// Answered is a request, sent to all or to us, for a VIP that is answered for on this interface; the sender's protocol address does
/// not matter, so probes from 0.0.0.0 are answered (RFC 5227 §2.1.1). A claim is any ARP packet that names the VIP as its sender's address and
/// was not sent by the interface itself (RFC 5227 §2.4). A frame can be both.
///
/// # Errors
/// [`Foreign`] if the frame was sent to another station or group.
pub fn reply<'t>(table: &'t ReplyTable, on: &Receiver, destination: MacAddress, arp: &Arp) -> Result<Outcome<'t>, Foreign> {
    if destination != MacAddress::BROADCAST && destination != on.mac {
        return Err(Foreign);
    }
    let here = |address: std::net::Ipv4Addr| table.get(Vip::from(address)).filter(|assigned| assigned.allows(&on.name));
    let own = arp.sha == on.mac;
    let answer = match arp.operation {
        Operation::Request if !own => here(arp.tpa),
        Operation::Request | Operation::Reply => None,
    };
    let claim = if own || arp.spa.is_unspecified() { None } else { here(arp.spa) };
    Ok(Outcome { answer, claim })
}

#[cfg(test)]
mod tests;
