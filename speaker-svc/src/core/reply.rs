//! The answer, if any, to one frame.
//!
//! Responder threads call [`reply_to_arp`] or [`reply_to_ndp`] for every frame with the newest [`ReplyTable`]. The table is made whole by the engine and never
//! changes; looking an address up takes the same time for ten VIPs as for ten thousand and allocates nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{InterfaceName, MacAddress};

use super::interfaces::LinkIndex;
use super::state::{Assigned, Held};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{Header, is_group};
use crate::wire::ndp::{Kind, Ndp};

/// A VIP that is answered for.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What the allocator said.
    pub assigned: Arc<Assigned>,
    /// On which interfaces.
    pub links: Arc<BTreeSet<LinkIndex>>,
}

impl From<&Held> for Entry {
    fn from(held: &Held) -> Self {
        Self { assigned: Arc::clone(&held.assigned), links: Arc::clone(&held.links) }
    }
}

/// The VIPs that are answered for, by address.
///
/// Open addressing with linear probing, at most half full. Only the allocator chooses what is in it, so nobody on the LAN can make the
/// probes long.
#[derive(Debug)]
pub struct ReplyTable {
    slots: Box<[Option<Entry>]>,
    len: usize,
    version: u64,
}

impl Default for ReplyTable {
    fn default() -> Self {
        Self::new(0, std::iter::empty())
    }
}

impl ReplyTable {
    /// A table of these VIPs, each at most once, newer than those of lower versions.
    #[must_use]
    pub fn new(version: u64, vips: impl Iterator<Item = Entry>) -> Self {
        let vips: Vec<Entry> = vips.collect();
        let len = vips.len();
        let capacity = len.saturating_mul(2).next_power_of_two().max(2);
        let mut slots = vec![None; capacity].into_boxed_slice();
        for entry in vips {
            let free = probes(entry.assigned.vip, capacity).find(|slot| slots.get(*slot).is_some_and(Option::is_none));
            if let Some(slot) = free.and_then(|slot| slots.get_mut(slot)) {
                *slot = Some(entry);
            }
        }
        Self { slots, len, version }
    }

    /// The VIP, if it is answered for.
    #[must_use]
    pub fn get(&self, vip: Vip) -> Option<&Entry> {
        // A free slot ends the search, and there is always one.
        probes(vip, self.slots.len()).map_while(|slot| self.slots.get(slot)?.as_ref()).find(|entry| entry.assigned.vip == vip)
    }

    /// Which of the tables it is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All VIPs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
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
    pub link: LinkIndex,
    /// Its name.
    pub name: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
}

impl Receiver {
    /// A VIP of the table, if it is answered for here.
    fn find<'t>(&self, table: &'t ReplyTable, vip: Vip) -> Option<&'t Assigned> {
        table.get(vip).filter(|entry| entry.links.contains(&self.link)).map(|entry| &*entry.assigned)
    }
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

/// Reads what an ARP packet means (MetalLB behaviour 8.2).
///
/// Answered is a request, sent to all or to us, for a VIP that is answered for on this interface; the sender's protocol address does
/// not matter, so probes from 0.0.0.0 are answered (RFC 5227 §2.1.1). A claim is any ARP packet that names the VIP as its sender's address and
/// was not sent by the interface itself (RFC 5227 §2.4). A frame can be both.
///
/// # Errors
/// [`Foreign`] if the frame was sent to another station or group.
pub fn reply_to_arp<'t>(table: &'t ReplyTable, on: &Receiver, destination: MacAddress, arp: &Arp) -> Result<Outcome<'t>, Foreign> {
    if destination != MacAddress::BROADCAST && destination != on.mac {
        return Err(Foreign);
    }
    let own = arp.sha == on.mac;
    let answer = match arp.operation {
        Operation::Request if !own => on.find(table, Vip::from(arp.tpa)),
        Operation::Request | Operation::Reply => None,
    };
    let claim = if own || arp.spa.is_unspecified() { None } else { on.find(table, Vip::from(arp.spa)) };
    Ok(Outcome { answer, claim })
}

/// Reads what a neighbor solicitation or advertisement means (MetalLB behaviour 8.3).
///
/// Answered is a solicitation, sent to us or to any group, for a VIP that is answered for on this interface, whoever asks: also one that tells
/// no hardware address (RFC 4861 §7.2.4), and one that asks whether the address is free (RFC 4862 §5.4.3). A claim is an advertisement of the
/// VIP, or a solicitation in its name, that the interface itself has not sent.
///
/// # Errors
/// [`Foreign`] if the frame was sent to another station.
pub fn reply_to_ndp<'t>(table: &'t ReplyTable, on: &Receiver, header: Header, ndp: &Ndp) -> Result<Outcome<'t>, Foreign> {
    if header.destination != on.mac && !is_group(header.destination) {
        return Err(Foreign);
    }
    if header.source == on.mac || ndp.sender(header) == on.mac {
        return Ok(Outcome::default());
    }
    let find = |address| on.find(table, Vip::from(address));
    Ok(match ndp.kind {
        Kind::Solicitation if ndp.source.is_unspecified() => Outcome { answer: find(ndp.target), claim: None },
        Kind::Solicitation => Outcome { answer: find(ndp.target), claim: find(ndp.source) },
        Kind::Advertisement(_) => Outcome { answer: None, claim: find(ndp.target) },
    })
}

#[cfg(test)]
mod tests;
