//! The node's network: raw sockets, the threads that answer on them, and news of links.
//!
//! All unsafe code of the speaker is in [`socket`].

pub mod groups;
pub mod links;
pub mod responder;
pub mod socket;
pub mod station;
