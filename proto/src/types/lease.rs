//! Leases, and the counters that order what is said about them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::address::Vip;
use super::claim::{BackendKey, SharingKey};
use super::pool::PoolName;
use super::service::{ServiceKey, ServicePort, ServiceUid};
use super::time::UnixMillis;

/// A position in a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the leaderships among allocators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the leaderships among watchers. Zero is nobody's: a call made by a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The addresses that a Service holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The Service.
    pub service: ServiceKey,
    /// Its uid as its claim gave it.
    pub uid: ServiceUid,
    /// The addresses in the order of the Service's status; never empty, at most one of each family.
    pub addresses: Vec<Vip>,
    /// The pool that they come from.
    pub pool: PoolName,
    /// The ports under which they are held.
    pub ports: BTreeSet<ServicePort>,
    /// The sharing key under which they are held.
    pub sharing_key: Option<SharingKey>,
    /// The backend key under which they are held.
    pub backend_key: BackendKey,
    /// The feed's revision at the last change.
    pub revision: Revision,
    /// When the addresses were granted.
    pub granted: UnixMillis,
    /// For how long they stay reserved once the Service is gone; `None` = the allocator's default.
    pub retain: Option<Duration>,
}
