//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//!  0      6      12   14   16   18 19 20   22     28     32     38     42
//!  | dst  | src  |0806|htyp|ptyp|hl|pl| op | sha  | spa  | tha  | tpa  |
//! ```
//!
//! A frame that we send has 60 octets, the rest zeros, as the shortest Ethernet frame must.

use std::net::Ipv4Addr;

use mooring_proto::types::node::MacAddress;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::EtherTypes;

use super::Malformed;
use super::ethernet::{self, HEADER_LEN, Header, MIN_FRAME_LEN, from_pnet, is_station, to_pnet};

/// An ARP frame on its way out.
pub type Frame = [u8; MIN_FRAME_LEN];

/// A buffer for a frame.
pub const EMPTY_FRAME: Frame = [0; MIN_FRAME_LEN];

/// Octets of a hardware address.
const HARDWARE_LEN: u8 = 6;

/// Octets of a protocol address.
const PROTOCOL_LEN: u8 = 4;

/// What an ARP packet is for (`ar$op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet; the fields are named as in RFC 826.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// What it is for.
    pub operation: Operation,
    /// Sender hardware address.
    pub sha: MacAddress,
    /// Sender protocol address; 0.0.0.0 in a probe (RFC 5227 §2.1.1).
    pub spa: Ipv4Addr,
    /// Target hardware address.
    pub tha: MacAddress,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

/// Reads a frame.
///
/// # Errors
/// What is wrong with it: every frame that is not a request or reply of RFC 826 for Ethernet and IPv4, sent by a station.
pub fn parse(frame: &[u8]) -> Result<(Header, Arp), Malformed> {
    let (header, payload) = ethernet::parse(frame, ethernet::ARP)?;
    let packet = ArpPacket::new(payload).ok_or(Malformed::Truncated)?;
    let types = packet.get_hardware_type() == ArpHardwareTypes::Ethernet && packet.get_protocol_type() == EtherTypes::Ipv4;
    if !types || packet.get_hw_addr_len() != HARDWARE_LEN || packet.get_proto_addr_len() != PROTOCOL_LEN {
        return Err(Malformed::Format);
    }
    let operation = match packet.get_operation() {
        ArpOperations::Request => Operation::Request,
        ArpOperations::Reply => Operation::Reply,
        ArpOperation(_) => return Err(Malformed::Operation),
    };
    let sha = from_pnet(packet.get_sender_hw_addr());
    if !is_station(sha) {
        return Err(Malformed::Sender);
    }
    let tha = from_pnet(packet.get_target_hw_addr());
    Ok((header, Arp { operation, sha, spa: packet.get_sender_proto_addr(), tha, tpa: packet.get_target_proto_addr() }))
}

/// Writes a whole frame, whatever was in the buffer.
pub fn emit(header: Header, arp: &Arp, frame: &mut Frame) {
    frame.fill(0);
    ethernet::emit(header, ethernet::ARP, frame);
    let Some(mut packet) = frame.get_mut(HEADER_LEN..).and_then(MutableArpPacket::new) else { return };
    packet.set_hardware_type(ArpHardwareTypes::Ethernet);
    packet.set_protocol_type(EtherTypes::Ipv4);
    packet.set_hw_addr_len(HARDWARE_LEN);
    packet.set_proto_addr_len(PROTOCOL_LEN);
    packet.set_operation(match arp.operation {
        Operation::Request => ArpOperations::Request,
        Operation::Reply => ArpOperations::Reply,
    });
    packet.set_sender_hw_addr(to_pnet(arp.sha));
    packet.set_sender_proto_addr(arp.spa);
    packet.set_target_hw_addr(to_pnet(arp.tha));
    packet.set_target_proto_addr(arp.tpa);
}

/// The answer to a request: to its sender, from the interface that it came in on (MetalLB behaviour 8.2).
#[must_use]
pub fn answer_to(request: &Arp, mac: MacAddress) -> (Header, Arp) {
    let header = Header { destination: request.sha, source: mac };
    (header, Arp { operation: Operation::Reply, sha: mac, spa: request.tpa, tha: request.sha, tpa: request.spa })
}

/// One half of a gratuitous round: sender and target address are the VIP, to all stations (MetalLB behaviour 8.2, RFC 5227 §2.3).
#[must_use]
pub fn gratuitous(operation: Operation, vip: Ipv4Addr, mac: MacAddress) -> (Header, Arp) {
    let header = Header { destination: MacAddress::BROADCAST, source: mac };
    (header, Arp { operation, sha: mac, spa: vip, tha: MacAddress::BROADCAST, tpa: vip })
}

/// A question to all stations who has the VIP, which says nothing about who asks (RFC 5227 §2.1.1).
#[must_use]
pub fn probe(vip: Ipv4Addr, mac: MacAddress) -> (Header, Arp) {
    probe_to(MacAddress::BROADCAST, vip, mac)
}

/// The same question to one station (RFC 1122 §2.3.2.1 calls it a unicast poll).
#[must_use]
pub fn probe_to(station: MacAddress, vip: Ipv4Addr, mac: MacAddress) -> (Header, Arp) {
    let header = Header { destination: station, source: mac };
    let (spa, tha) = (Ipv4Addr::UNSPECIFIED, MacAddress([0; 6]));
    (header, Arp { operation: Operation::Request, sha: mac, spa, tha, tpa: vip })
}

#[cfg(test)]
mod tests;
