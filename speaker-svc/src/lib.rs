//! Streams a node's assignments and answers for them by ARP on raw sockets.

pub mod core;
pub mod net;
pub mod wire;
