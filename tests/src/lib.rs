//! The lab: a LAN of network namespaces, Mooring's three workloads as real processes on it, and a real control plane.
//!
//! Start at [`lab::enter`], which puts the calling program into a namespace tree of its own, then [`lab::Lab`], a LAN with hosts, and
//! [`lab::workloads::Mooring`], the three workloads on it. Beside it stands [`sim`], the same decisions without any process: the real cores on a virtual LAN.

#![forbid(unsafe_code)]

pub mod lab;
pub mod sim;
