//! Neighbor discovery as it is seen on a link (RFC 4861), parsed and built.
//!
//! The parser here is the lab's own, so that it can disagree with the product's.

use std::net::Ipv6Addr;

use mooring_proto::types::node::MacAddress;

/// The EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Types of ICMPv6 messages.
pub const SOLICITATION: u8 = 135;
/// The same.
pub const ADVERTISEMENT: u8 = 136;

/// Flags of an advertisement.
pub const SOLICITED: u8 = 0x40;
/// The same.
pub const OVERRIDE: u8 = 0x20;

/// A solicitation or an advertisement, with the frame around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Where the frame goes.
    pub to: MacAddress,
    /// Whence it comes.
    pub from: MacAddress,
    /// Source of the packet.
    pub source: Ipv6Addr,
    /// Destination of the packet.
    pub destination: Ipv6Addr,
    /// [`SOLICITATION`] or [`ADVERTISEMENT`].
    pub kind: u8,
    /// The flags of an advertisement.
    pub flags: u8,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The hardware address of the first option, if there is any.
    pub option: Option<MacAddress>,
}

impl Ndp {
    /// Who has an address? As a host asks that knows nothing of it.
    #[must_use]
    pub fn solicitation(from: MacAddress, source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let group = solicited_node(target);
        let option = Some(from).filter(|_| !source.is_unspecified());
        Self { to: group_mac(group), from, source, destination: group, kind: SOLICITATION, flags: 0, target, option }
    }

    /// An address is here, to all nodes.
    #[must_use]
    pub fn advertisement(from: MacAddress, target: Ipv6Addr) -> Self {
        let (to, destination, option) = (group_mac(ALL_NODES), ALL_NODES, Some(from));
        Self { to, from, source: target, destination, kind: ADVERTISEMENT, flags: OVERRIDE, target, option }
    }

    /// Whether it is an advertisement that nobody asked for.
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.kind == ADVERTISEMENT && self.flags & SOLICITED == 0
    }

    /// Reads a whole frame; `None` if it is neither, or not as RFC 4861 wants it: hop limit, code and checksum included.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let field = |from: usize, to: usize| frame.get(from..to);
        if field(12, 14)? != ETHERTYPE_IPV6.to_be_bytes() || field(20, 22)? != [58, 255] {
            return None;
        }
        let length = usize::from(u16::from_be_bytes(field(18, 20)?.try_into().ok()?));
        let message = frame.get(54..54 + length)?;
        let mac = |bytes: Option<&[u8]>| <[u8; 6]>::try_from(bytes?).ok().map(MacAddress);
        let address = |bytes: Option<&[u8]>| <[u8; 16]>::try_from(bytes?).ok().map(Ipv6Addr::from);
        let (source, destination) = (address(field(22, 38))?, address(field(38, 54))?);
        let (kind, flags) = (*message.first()?, *message.get(4)?);
        if !matches!(kind, SOLICITATION | ADVERTISEMENT) || *message.get(1)? != 0 || sum(source, destination, message) != 0xffff {
            return None;
        }
        let option = message.get(24..32).filter(|option| option.starts_with(&[kind - SOLICITATION + 1, 1]));
        Some(Self {
            to: mac(field(0, 6))?,
            from: mac(field(6, 12))?,
            source,
            destination,
            kind,
            flags,
            target: address(message.get(8..24))?,
            option: option.and_then(|option| mac(option.get(2..))),
        })
    }

    /// The whole frame.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![self.kind, 0, 0, 0, self.flags, 0, 0, 0];
        message.extend(self.target.octets());
        if let Some(mac) = self.option {
            message.extend([self.kind - SOLICITATION + 1, 1]);
            message.extend(mac.0);
        }
        let sum = !sum(self.source, self.destination, &message);
        for (place, byte) in message.iter_mut().skip(2).zip(sum.to_be_bytes()) {
            *place = byte;
        }
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let mut frame = Vec::new();
        frame.extend(self.to.0);
        frame.extend(self.from.0);
        frame.extend(ETHERTYPE_IPV6.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([58, 255]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(message);
        frame
    }
}

/// The group that solicitations for an address are sent to.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

/// A group's hardware address.
#[must_use]
pub fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

/// The sum of a message and its pseudo-header (RFC 8200 §8.1): all ones if its checksum is in it and right.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)])))
            .sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let total = words(&source.octets()) + words(&destination.octets()) + length + 58 + words(message);
    let folded = (total & 0xffff) + (total >> 16);
    u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}
