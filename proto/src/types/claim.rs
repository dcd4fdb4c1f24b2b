//! What a Service asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::address::{Family, Vip};
use super::labels::Labels;
use super::pool::PoolName;
use super::service::{ServiceKey, ServicePort, ServiceUid};
use super::time::UnixMillis;

/// The value of the allow-shared-ip annotation; never empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharingKey(String);

impl SharingKey {
    /// The key, or `None` for an empty text: such a Service does not share.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must be equal for two Services to share an address: empty unless `externalTrafficPolicy` is `Local`, then `local:` and the
/// pod selector as canonical text (MetalLB behaviour 5.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BackendKey(pub String);

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FamilyPolicy {
    /// One address.
    SingleStack,
    /// One of each family where both can be had.
    PreferDualStack,
    /// One of each family, or none.
    RequireDualStack,
}

/// The families of a Service's cluster IPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Families {
    /// One family.
    Single(Family),
    /// Both.
    Dual {
        /// The one of `spec.ipFamilies[0]`.
        primary: Family,
    },
}

/// What a Service asks for. Rules over it are the allocator's; parsing of manifests and annotations is the watcher's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The Service.
    pub service: ServiceKey,
    /// Its uid; empty where there is none.
    pub uid: ServiceUid,
    /// Its labels.
    pub labels: Labels,
    /// Its namespace's labels.
    pub namespace_labels: Labels,
    /// Its ports.
    pub ports: BTreeSet<ServicePort>,
    /// The families of its cluster IPs.
    pub families: Families,
    /// How many families it wants.
    pub policy: FamilyPolicy,
    /// Addresses asked for, in order; at most one of each family. Empty = any.
    pub requested_addresses: Vec<Vip>,
    /// The pool asked for.
    pub requested_pool: Option<PoolName>,
    /// Its sharing key.
    pub sharing_key: Option<SharingKey>,
    /// Its backend key.
    pub backend_key: BackendKey,
    /// What its status holds, in order.
    pub adopt: Vec<Vip>,
    /// When it was created; `None` = not known.
    pub created: Option<UnixMillis>,
    /// For how long its addresses stay reserved for its name once it is gone; `None` = the allocator's default.
    pub retain: Option<Duration>,
    /// How many different addresses its namespace's Services may hold together; `None` = any number.
    pub quota: Option<u32>,
}
