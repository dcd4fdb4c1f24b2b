//! The Ethernet header (IEEE 802.3 clause 3): destination, source, EtherType.
//!
//! Tags (IEEE 802.1Q) never get here: the kernel takes them off and the socket's filter drops what belongs to another VLAN.

use mooring_proto::types::node::MacAddress;
use pnet_base::MacAddr;
use pnet_packet::Packet as _;
use pnet_packet::ethernet::{EtherType, EthernetPacket, MutableEthernetPacket};

use super::Malformed;

/// Octets of the header.
pub const HEADER_LEN: usize = 14;

/// Octets of the shortest frame without its check sequence (IEEE 802.3 clause 4.2.3.3); what is shorter gets zeros.
pub const MIN_FRAME_LEN: usize = 60;

/// The EtherType of ARP.
pub const ARP: u16 = 0x0806;

/// The EtherType of IPv6 (RFC 2464 §3).
pub const IPV6: u16 = 0x86dd;

/// Who sent a frame to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The receiver.
    pub destination: MacAddress,
    /// The sender.
    pub source: MacAddress,
}

/// Splits a frame of an EtherType into header and payload.
///
/// # Errors
/// [`Malformed::Truncated`] below 14 octets, [`Malformed::EtherType`] for any other EtherType.
pub fn parse(frame: &[u8], ethertype: u16) -> Result<(Header, &[u8]), Malformed> {
    let packet = EthernetPacket::new(frame).ok_or(Malformed::Truncated)?;
    if packet.get_ethertype() != EtherType(ethertype) {
        return Err(Malformed::EtherType);
    }
    let header = Header { destination: from_pnet(packet.get_destination()), source: from_pnet(packet.get_source()) };
    let payload = frame.get(HEADER_LEN..).ok_or(Malformed::Truncated)?;
    debug_assert_eq!(payload, packet.payload());
    Ok((header, payload))
}

/// Writes the header into the first 14 octets; a shorter frame stays as it is.
pub fn emit(header: Header, ethertype: u16, frame: &mut [u8]) {
    if let Some(mut packet) = MutableEthernetPacket::new(frame) {
        packet.set_destination(to_pnet(header.destination));
        packet.set_source(to_pnet(header.source));
        packet.set_ethertype(EtherType(ethertype));
    }
}

/// Whether one station can have the address: not a group's (lowest bit of the first octet) and not all zeros.
pub(super) fn is_station(address: MacAddress) -> bool {
    !is_group(address) && address != MacAddress([0; 6])
}

/// Whether an address is a group's, all stations among them (IEEE 802.3 clause 3.2.3: the lowest bit of the first octet).
#[must_use]
pub fn is_group(MacAddress([first, ..]): MacAddress) -> bool {
    first & 1 != 0
}

/// As pnet has it.
pub(super) fn to_pnet(MacAddress([a, b, c, d, e, f]): MacAddress) -> MacAddr {
    MacAddr(a, b, c, d, e, f)
}

/// As the cores have it.
pub(super) fn from_pnet(MacAddr(a, b, c, d, e, f): MacAddr) -> MacAddress {
    MacAddress([a, b, c, d, e, f])
}
