//! Frames as bytes: Ethernet headers and ARP packets, read and written by pnet.
//!
//! Everything a stranger on the LAN may send is read here, and whatever is not exactly what the standards say becomes [`Malformed`].
//! What a frame means for us is `crate::core::reply`'s; sockets are `crate::net`'s.

pub mod arp;
pub mod ethernet;

/// Why bytes are not a frame that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Malformed {
    /// Fewer bytes than the headers need.
    Truncated,
    /// Another EtherType than the one the socket is bound to.
    EtherType,
    /// ARP for other than Ethernet and IPv4 (RFC 826 `ar$hrd`, `ar$pro`, `ar$hln`, `ar$pln`).
    Format,
    /// ARP, but neither a request nor a reply (RFC 826 `ar$op`).
    Operation,
    /// The sender's hardware address is a group's or all zeros, so nobody can be it.
    Sender,
}
