//! Frames as bytes: Ethernet headers, ARP packets and NDP messages, read and written by pnet.
//!
//! Everything a stranger on the LAN may send is read here, and whatever is not exactly what the standards say becomes [`Malformed`].
//! What a frame means for us is `crate::core::reply`'s; sockets are `crate::net`'s.

pub mod arp;
pub mod ethernet;
pub mod ndp;

/// Why bytes are not a frame that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// Fewer bytes than the headers need.
    Truncated,
    /// Another EtherType than the one the socket is bound to.
    EtherType,
    /// ARP for other than Ethernet and IPv4 (RFC 826 `ar$hrd`, `ar$pro`, `ar$hln`, `ar$pln`), or IPv6 with other than ICMPv6 (RFC 8200 §3).
    Format,
    /// ARP, but neither a request nor a reply (RFC 826 `ar$op`); ICMPv6, but neither a solicitation nor an advertisement (RFC 4861 §4.3, §4.4).
    Operation,
    /// Nobody can be the sender: its hardware address is a group's or all zeros, or its IPv6 address a group's.
    Sender,
    /// An IPv6 hop limit below 255: a router has passed it on (RFC 4861 §7.1).
    HopLimit,
    /// The ICMPv6 checksum is another one (RFC 4443 §2.3).
    Checksum,
    /// An ICMPv6 code other than 0 (RFC 4861 §7.1).
    Code,
    /// The target is a group's address (RFC 4861 §7.1).
    Target,
    /// An option without length, longer than the message, or not as long as an Ethernet address; or a sender's hardware address where the
    /// sender has no address yet (RFC 4861 §7.1, RFC 2464 §6).
    Option,
    /// A solicitation without a sender's address, but not sent to a solicited-node group (RFC 4861 §7.1.1).
    Destination,
    /// An advertisement sent to a group that says it was solicited (RFC 4861 §7.1.2).
    Solicited,
}
