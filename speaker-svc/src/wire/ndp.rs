//! Neighbor Discovery for IPv6 over Ethernet (RFC 4861, RFC 2464): solicitations and advertisements.
//!
//! ```text
//!  0     6     12   14        20  21  22      38      54   55   56   58      62       78       86
//!  | dst | src |86dd|ver…plen |nxt|hop| source| dest  |type|code| sum| flags | target | option |
//! ```
//!
//! Options are read by hand, as pnet takes lengths from 32 on for others. The first option of a message's own kind counts; a frame that we send
//! has that one or none.

use std::net::Ipv6Addr;

use mooring_proto::types::node::MacAddress;
use pnet_packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOptionTypes, NeighborAdvertFlags, NeighborAdvertPacket,
};
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Type, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::Malformed;
use super::ethernet::{self, HEADER_LEN, Header, is_station};

/// Octets of an IPv6 header (RFC 8200 §3).
const IPV6_LEN: usize = 40;

/// Octets of a message without options (RFC 4861 §4.3, §4.4).
const MESSAGE_LEN: usize = 24;

/// The same, as IPv6 wants it.
const PLAIN_LEN: u16 = 24;

/// Octets of an option with an Ethernet address (RFC 2464 §6).
const OPTION_LEN: usize = 8;

/// The same, with the message before it, as IPv6 wants it.
const FULL_LEN: u16 = 32;

/// Where the message begins.
const MESSAGE_AT: usize = HEADER_LEN + IPV6_LEN;

/// Where the option begins.
const OPTION_AT: usize = MESSAGE_AT + MESSAGE_LEN;

/// Octets of the longest frame that we send.
pub const MAX_FRAME_LEN: usize = OPTION_AT + OPTION_LEN;

/// Room for a frame on its way out.
pub type Frame = [u8; MAX_FRAME_LEN];

/// A buffer for a frame.
pub const EMPTY_FRAME: Frame = [0; MAX_FRAME_LEN];

/// The hop limit by which a receiver knows that the sender is on its own link (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;

/// All nodes on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// What an advertisement says besides addresses (RFC 4861 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The sender is a router (R).
    pub router: bool,
    /// Somebody asked for it (S).
    pub solicited: bool,
    /// It takes the place of what the receiver knew (O).
    pub overrides: bool,
}

/// What a message is for (ICMPv6 type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who has the target? With no source address: does anybody have it (RFC 4862 §5.4.2)?
    Solicitation,
    /// The sender has the target.
    Advertisement(Flags),
}

/// A message with the addresses of its IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// What it is for.
    pub kind: Kind,
    /// Source of the packet.
    pub source: Ipv6Addr,
    /// Destination of the packet.
    pub destination: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The hardware address in its option: the sender's in a solicitation, the target's in an advertisement.
    pub mac: Option<MacAddress>,
}

impl Ndp {
    /// The hardware address of the sender: as the message says, or else as the frame does.
    #[must_use]
    pub fn sender(&self, header: Header) -> MacAddress {
        self.mac.unwrap_or(header.source)
    }
}

/// The group that an address's solicitations are sent to (RFC 4291 §2.7.1).
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// A group's hardware address (RFC 2464 §7).
#[must_use]
pub const fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// Reads a frame.
///
/// # Errors
/// What is wrong with it: every frame that is not a valid solicitation or advertisement (RFC 4861 §7.1), sent by a station.
pub fn parse(frame: &[u8]) -> Result<(Header, Ndp), Malformed> {
    let (header, payload) = ethernet::parse(frame, ethernet::IPV6)?;
    let packet = Ipv6Packet::new(payload).ok_or(Malformed::Truncated)?;
    if packet.get_version() != 6 || packet.get_next_header() != IpNextHeaderProtocols::Icmpv6 {
        return Err(Malformed::Format);
    }
    if packet.get_hop_limit() != HOP_LIMIT {
        return Err(Malformed::HopLimit);
    }
    let end = IPV6_LEN.saturating_add(usize::from(packet.get_payload_length()));
    let message = payload.get(IPV6_LEN..end).ok_or(Malformed::Truncated)?;
    let (source, destination) = (packet.get_source(), packet.get_destination());
    if source.is_multicast() || !is_station(header.source) {
        return Err(Malformed::Sender);
    }
    let ndp = read(message, source, destination)?;
    validate(&ndp)?;
    Ok((header, ndp))
}

/// Reads an ICMPv6 message.
fn read(message: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Result<Ndp, Malformed> {
    let icmp = Icmpv6Packet::new(message).ok_or(Malformed::Truncated)?;
    // The target is in the same place in both kinds.
    let advertisement = NeighborAdvertPacket::new(message).ok_or(Malformed::Truncated)?;
    if icmp.get_checksum() != checksum(&icmp, &source, &destination) {
        return Err(Malformed::Checksum);
    }
    let (kind, wanted) = match icmp.get_icmpv6_type() {
        Icmpv6Types::NeighborSolicit => (Kind::Solicitation, NdpOptionTypes::SourceLLAddr),
        Icmpv6Types::NeighborAdvert => {
            let has = |flag: u8| advertisement.get_flags() & flag != 0;
            let router = has(NeighborAdvertFlags::Router);
            let (solicited, overrides) = (has(NeighborAdvertFlags::Solicited), has(NeighborAdvertFlags::Override));
            (Kind::Advertisement(Flags { router, solicited, overrides }), NdpOptionTypes::TargetLLAddr)
        }
        Icmpv6Type(_) => return Err(Malformed::Operation),
    };
    if icmp.get_icmpv6_code().0 != 0 {
        return Err(Malformed::Code);
    }
    let mac = option(message.get(MESSAGE_LEN..).unwrap_or_default(), wanted.0)?;
    Ok(Ndp { kind, source, destination, target: advertisement.get_target_addr(), mac })
}

/// The hardware address in the first option of a type; all options have to be whole.
fn option(mut options: &[u8], wanted: u8) -> Result<Option<MacAddress>, Malformed> {
    let mut found = None;
    while let Some((kind, rest)) = options.split_first() {
        // In units of 8 octets, itself and the type included.
        let length = usize::from(*rest.first().ok_or(Malformed::Option)?).saturating_mul(OPTION_LEN);
        if length == 0 {
            return Err(Malformed::Option);
        }
        let (option, after) = options.split_at_checked(length).ok_or(Malformed::Option)?;
        if *kind == wanted && found.is_none() {
            let octets = option.get(2..).and_then(|octets| <[u8; 6]>::try_from(octets).ok());
            found = Some(MacAddress(octets.ok_or(Malformed::Option)?));
        }
        options = after;
    }
    if found.is_some_and(|mac| !is_station(mac)) { Err(Malformed::Sender) } else { Ok(found) }
}

/// Checks what the fields must not be together (RFC 4861 §7.1.1, §7.1.2).
fn validate(ndp: &Ndp) -> Result<(), Malformed> {
    if ndp.target.is_multicast() {
        return Err(Malformed::Target);
    }
    match ndp.kind {
        Kind::Solicitation if !ndp.source.is_unspecified() => Ok(()),
        Kind::Solicitation if ndp.mac.is_some() => Err(Malformed::Option),
        Kind::Solicitation if ndp.destination != solicited_node(ndp.destination) => Err(Malformed::Destination),
        Kind::Solicitation => Ok(()),
        Kind::Advertisement(flags) if flags.solicited && ndp.destination.is_multicast() => Err(Malformed::Solicited),
        Kind::Advertisement(_) if ndp.source.is_unspecified() => Err(Malformed::Sender),
        Kind::Advertisement(_) => Ok(()),
    }
}

/// Writes a whole frame, whatever was in the buffer, and gives what is to be sent of it.
pub fn emit<'f>(header: Header, ndp: &Ndp, frame: &'f mut Frame) -> &'f [u8] {
    frame.fill(0);
    ethernet::emit(header, ethernet::IPV6, frame);
    if let Some(mut packet) = frame.get_mut(HEADER_LEN..).and_then(MutableIpv6Packet::new) {
        packet.set_version(6);
        packet.set_payload_length(if ndp.mac.is_some() { FULL_LEN } else { PLAIN_LEN });
        packet.set_next_header(IpNextHeaderProtocols::Icmpv6);
        packet.set_hop_limit(HOP_LIMIT);
        packet.set_source(ndp.source);
        packet.set_destination(ndp.destination);
    }
    let end = if ndp.mac.is_some() { MAX_FRAME_LEN } else { OPTION_AT };
    let message = frame.get_mut(MESSAGE_AT..end).unwrap_or_default();
    let option = write(ndp, message);
    if let (Some(MacAddress([a, b, c, d, e, f])), Some(place)) = (ndp.mac, message.get_mut(MESSAGE_LEN..)) {
        place.copy_from_slice(&[option, 1, a, b, c, d, e, f]);
    }
    if let Some(mut icmp) = MutableIcmpv6Packet::new(message) {
        let sum = checksum(&icmp.to_immutable(), &ndp.source, &ndp.destination);
        icmp.set_checksum(sum);
    }
    frame.get(..end).unwrap_or_default()
}

/// Writes a message without checksum and option; gives the option's type.
fn write(ndp: &Ndp, message: &mut [u8]) -> u8 {
    match ndp.kind {
        Kind::Solicitation => {
            if let Some(mut packet) = MutableNeighborSolicitPacket::new(message) {
                packet.set_icmpv6_type(Icmpv6Types::NeighborSolicit);
                packet.set_target_addr(ndp.target);
            }
            NdpOptionTypes::SourceLLAddr.0
        }
        Kind::Advertisement(Flags { router, solicited, overrides }) => {
            if let Some(mut packet) = MutableNeighborAdvertPacket::new(message) {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                packet.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
                packet.set_flags(
                    flag(router, NeighborAdvertFlags::Router)
                        | flag(solicited, NeighborAdvertFlags::Solicited)
                        | flag(overrides, NeighborAdvertFlags::Override),
                );
                packet.set_target_addr(ndp.target);
            }
            NdpOptionTypes::TargetLLAddr.0
        }
    }
}

/// The answer to a solicitation (RFC 4861 §7.2.4): to its sender, or to all nodes where the sender has no address yet (RFC 4862 §5.4.4 has the
/// address then taken by us). Never as a router, always in place of what was known (MetalLB behaviour 8.3), and always with our hardware address.
///
/// The source is the address that was asked for, as a host has it that answers for an address of its own: so an answer needs no other
/// address, nor that one has passed its duplicate address detection, which takes a second after each time the cable comes back.
#[must_use]
pub fn answer_to(header: Header, solicitation: &Ndp, mac: MacAddress) -> (Header, Ndp) {
    let asker = solicitation.source;
    let (station, destination) =
        if asker.is_unspecified() { (group_mac(ALL_NODES), ALL_NODES) } else { (solicitation.sender(header), asker) };
    let flags = Flags { router: false, solicited: !asker.is_unspecified(), overrides: true };
    advertisement(solicitation.target, flags, mac, station, destination)
}

/// A gratuitous round: to all nodes, in place of what they knew (RFC 4861 §7.2.6, MetalLB behaviour 8.3).
#[must_use]
pub fn gratuitous(vip: Ipv6Addr, mac: MacAddress) -> (Header, Ndp) {
    advertisement(vip, Flags { router: false, solicited: false, overrides: true }, mac, group_mac(ALL_NODES), ALL_NODES)
}

fn advertisement(vip: Ipv6Addr, flags: Flags, mac: MacAddress, station: MacAddress, destination: Ipv6Addr) -> (Header, Ndp) {
    let header = Header { destination: station, source: mac };
    (header, Ndp { kind: Kind::Advertisement(flags), source: vip, destination, target: vip, mac: Some(mac) })
}

/// A question who has the VIP, which says nothing about who asks (RFC 4862 §5.4.2).
#[must_use]
pub fn probe(vip: Ipv6Addr, mac: MacAddress) -> (Header, Ndp) {
    let group = solicited_node(vip);
    let header = Header { destination: group_mac(group), source: mac };
    (header, Ndp { kind: Kind::Solicitation, source: Ipv6Addr::UNSPECIFIED, destination: group, target: vip, mac: None })
}

/// A question who has the VIP, to all or to one station: in the name of an address of ours, so that the answer comes to us alone (RFC 4861
/// §7.2.2), or as a [`probe`] where we have none.
#[must_use]
pub fn question(vip: Ipv6Addr, mac: MacAddress, own: Option<Ipv6Addr>, station: Option<MacAddress>) -> (Header, Ndp) {
    let (header, ndp) = probe(vip, mac);
    let header = Header { destination: station.unwrap_or(header.destination), ..header };
    (header, Ndp { source: own.unwrap_or(Ipv6Addr::UNSPECIFIED), mac: own.map(|_| mac), ..ndp })
}

#[cfg(test)]
mod tests;
