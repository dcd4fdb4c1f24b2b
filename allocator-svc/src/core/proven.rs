//! Which VIPs are certainly ours: who announces any other one asks first whether somebody else has it (DESIGN 3.4).
//!
//! Proven is what a node of ours has announced, what was leased when this allocator started, and what a status held before Mooring came.
//! An address that nobody holds any more stays so for an hour: whoever took it meanwhile would have noticed us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::time::Mono;

/// For how long an address is certain that nobody holds any more.
const MEMORY: Duration = Duration::from_secs(3_600);

/// The VIPs that are certainly ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Proven {
    held: BTreeSet<Vip>,
    /// Those that nobody holds any more, with the time since when.
    left: BTreeMap<Vip, Mono>,
    by_time: BTreeSet<(Mono, Vip)>,
    /// The newest time that any fact has told.
    now: Mono,
}

impl Proven {
    /// Whether a VIP is certainly ours.
    pub(super) fn has(&self, vip: Vip) -> bool {
        self.held.contains(&vip) || self.left.get(&vip).is_some_and(|since| self.now < *since + MEMORY)
    }

    /// A VIP is certainly ours.
    pub(super) fn add(&mut self, vip: Vip) {
        self.forget(vip);
        self.held.insert(vip);
    }

    /// Nobody holds a VIP any more.
    pub(super) fn leave(&mut self, vip: Vip) {
        if self.held.remove(&vip) {
            self.left.insert(vip, self.now);
            self.by_time.insert((self.now, vip));
        }
    }

    /// A VIP is somebody else's.
    pub(super) fn lose(&mut self, vip: Vip) {
        self.forget(vip);
        self.held.remove(&vip);
    }

    /// It is at least so late.
    pub(super) fn at(&mut self, now: Mono) {
        self.now = self.now.max(now);
        while let Some((since, vip)) = self.by_time.first().copied().filter(|(since, _)| self.now >= *since + MEMORY) {
            self.by_time.remove(&(since, vip));
            self.left.remove(&vip);
        }
    }

    fn forget(&mut self, vip: Vip) {
        if let Some(since) = self.left.remove(&vip) {
            self.by_time.remove(&(since, vip));
        }
    }
}

#[cfg(test)]
mod tests;
