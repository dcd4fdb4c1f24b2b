//! Turns Service events into allocation requests and writes status and Events.

pub mod k8s;
pub mod source;
