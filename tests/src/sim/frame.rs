//! Frames of both families: ARP packets and neighbor messages, made and read by the speaker's own wire modules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use mooring_speaker::wire::arp::{self, Arp, Operation};
use mooring_speaker::wire::ethernet::Header;
use mooring_speaker::wire::ndp::{self, Kind, Ndp};

/// A frame.
pub type Frame = Vec<u8>;

/// What is in a frame.
#[derive(Clone, Copy, Debug)]
pub enum Packet {
    /// A packet of ARP.
    Arp(Arp),
    /// A neighbor message.
    Ndp(Ndp),
}

/// Reads a frame.
#[must_use]
pub fn read(frame: &[u8]) -> Option<(Header, Packet)> {
    let arp = arp::parse(frame).ok().map(|(header, arp)| (header, Packet::Arp(arp)));
    arp.or_else(|| ndp::parse(frame).ok().map(|(header, ndp)| (header, Packet::Ndp(ndp))))
}

/// A packet of ARP as a frame.
#[must_use]
pub fn of_arp((header, packet): (Header, Arp)) -> Frame {
    let mut frame = arp::EMPTY_FRAME;
    arp::emit(header, &packet, &mut frame);
    frame.to_vec()
}

/// A neighbor message as a frame.
#[must_use]
pub fn of_ndp((header, message): (Header, Ndp)) -> Frame {
    ndp::emit(header, &message, &mut ndp::EMPTY_FRAME.clone()).to_vec()
}

/// A gratuitous round: a request, then a reply, or an advertisement.
#[must_use]
pub fn round(vip: Vip, mac: MacAddress) -> Vec<Frame> {
    match vip.addr() {
        IpAddr::V4(address) => {
            [Operation::Request, Operation::Reply].map(|operation| of_arp(arp::gratuitous(operation, address, mac))).to_vec()
        }
        IpAddr::V6(address) => vec![of_ndp(ndp::gratuitous(address, mac))],
    }
}

/// Whether anybody has a VIP, before it is announced.
#[must_use]
pub fn probe(vip: Vip, mac: MacAddress) -> Frame {
    match vip.addr() {
        IpAddr::V4(address) => of_arp(arp::probe(address, mac)),
        IpAddr::V6(address) => of_ndp(ndp::probe(address, mac)),
    }
}

/// Who has a VIP, asked by a node of one station or, without one, of all.
#[must_use]
pub fn question(vip: Vip, mac: MacAddress, own: Option<Ipv6Addr>, station: Option<MacAddress>) -> Frame {
    match vip.addr() {
        IpAddr::V4(address) => of_arp(arp::probe_to(station.unwrap_or(MacAddress::BROADCAST), address, mac)),
        IpAddr::V6(address) => of_ndp(ndp::question(address, mac, own, station)),
    }
}

/// Who has a VIP, asked by a host that wants to reach it.
#[must_use]
pub fn request(vip: Vip, mac: MacAddress, own: (Ipv4Addr, Ipv6Addr)) -> Frame {
    match vip.addr() {
        IpAddr::V4(address) => {
            let header = Header { destination: MacAddress::BROADCAST, source: mac };
            let request = Arp { operation: Operation::Request, sha: mac, spa: own.0, tha: MacAddress([0; 6]), tpa: address };
            of_arp((header, request))
        }
        IpAddr::V6(address) => of_ndp(ndp::question(address, mac, Some(own.1), None)),
    }
}

/// What a request asks for, and the answer of a machine that has it.
#[must_use]
pub fn answer(frame: &[u8], mac: MacAddress) -> Option<(Vip, Frame)> {
    match read(frame)? {
        (_, Packet::Arp(arp)) if arp.operation == Operation::Request => Some((Vip::from(arp.tpa), of_arp(arp::answer_to(&arp, mac)))),
        (header, Packet::Ndp(ndp)) if ndp.kind == Kind::Solicitation => {
            Some((Vip::from(ndp.target), of_ndp(ndp::answer_to(header, &ndp, mac))))
        }
        (_, Packet::Arp(_) | Packet::Ndp(_)) => None,
    }
}

/// What a frame says of who has an address.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// The address.
    pub vip: Vip,
    /// Who has it.
    pub mac: MacAddress,
    /// It is an answer to one station.
    pub to: Option<MacAddress>,
    /// It replaces what was known, however fresh that is.
    pub overrides: bool,
}

/// Reads what a frame says, as a Linux host does: ARP in `arp_process`, an advertisement in `ndisc_recv_na`.
#[must_use]
pub fn word(frame: &[u8]) -> Option<Word> {
    match read(frame)? {
        (header, Packet::Arp(arp)) => {
            let to = (arp.operation == Operation::Reply).then_some(header.destination);
            // Linux `arp_is_garp`: a gratuitous reply also has to name the sender's hardware address as the target's.
            let overrides = arp.spa == arp.tpa && (arp.operation == Operation::Request || arp.tha == arp.sha);
            Some(Word { vip: Vip::from(arp.spa), mac: arp.sha, to, overrides })
        }
        (header, Packet::Ndp(ndp)) => {
            let Kind::Advertisement(flags) = ndp.kind else { return None };
            let to = flags.solicited.then_some(header.destination);
            Some(Word { vip: Vip::from(ndp.target), mac: ndp.sender(header), to, overrides: flags.overrides })
        }
    }
}
