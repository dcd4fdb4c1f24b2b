//! Every annotation that Mooring reads or writes: its key, the deprecated spelling, and what an object's annotations mean.
//!
//! MetalLB behaviour 3.2, and those that are Mooring's own. Part of reading a Service (`k8s/service.rs`) and a Namespace; what a request
//! leads to is decided elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use mooring_kit::args::duration;
use mooring_proto::types::address::{Quoted, Vip};
use mooring_proto::types::claim::SharingKey;
use mooring_proto::types::pool::PoolName;

/// An annotation with its current key and the deprecated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The key to write and to read first.
    pub key: &'static str,
    /// The key to read where the current one is absent.
    pub deprecated: &'static str,
}

/// The pool asked for, by name.
pub const ADDRESS_POOL: Annotation = Annotation { key: "metallb.io/address-pool", deprecated: "metallb.universe.tf/address-pool" };
/// The addresses asked for, comma separated.
pub const LOAD_BALANCER_IPS: Annotation =
    Annotation { key: "metallb.io/loadBalancerIPs", deprecated: "metallb.universe.tf/loadBalancerIPs" };
/// The sharing key.
pub const ALLOW_SHARED_IP: Annotation = Annotation { key: "metallb.io/allow-shared-ip", deprecated: "metallb.universe.tf/allow-shared-ip" };
/// The pool that the Service's addresses come from; written, never read as a wish.
pub const ALLOCATED_FROM_POOL: Annotation =
    Annotation { key: "metallb.io/ip-allocated-from-pool", deprecated: "metallb.universe.tf/ip-allocated-from-pool" };

/// All of them.
pub const ALL: &[Annotation] = &[ADDRESS_POOL, LOAD_BALANCER_IPS, ALLOW_SHARED_IP, ALLOCATED_FROM_POOL];

/// On a Service: for how long its addresses stay reserved for its name once it is gone. Mooring's own, so without an older spelling.
pub const RETAIN: &str = "mooring.io/retain";
/// On a Namespace: how many different addresses its Services may hold together. Mooring's own.
pub const ADDRESS_QUOTA: &str = "mooring.io/address-quota";

/// Keys that begin so are deprecated, known or not.
const DEPRECATED_PREFIX: &str = "metallb.universe.tf";

impl Annotation {
    /// Its value. The current key wins if it is there at all, even with an empty value.
    #[must_use]
    pub fn value<'a>(&self, annotations: &'a BTreeMap<String, String>) -> Option<&'a str> {
        annotations.get(self.key).or_else(|| annotations.get(self.deprecated)).map(String::as_str)
    }
}

/// The pool asked for; an empty name asks for none.
#[must_use]
pub fn requested_pool(annotations: &BTreeMap<String, String>) -> Option<PoolName> {
    ADDRESS_POOL.value(annotations).and_then(PoolName::new)
}

/// The sharing key; an empty one shares nothing.
#[must_use]
pub fn sharing_key(annotations: &BTreeMap<String, String>) -> Option<SharingKey> {
    ALLOW_SHARED_IP.value(annotations).and_then(SharingKey::new)
}

/// Whether the sharing annotation is there, with whatever value (MetalLB behaviour 6, step 3).
#[must_use]
pub fn mentions_sharing(annotations: &BTreeMap<String, String>) -> bool {
    ALLOW_SHARED_IP.value(annotations).is_some()
}

/// The keys for which a Service's owner is warned.
#[must_use]
pub fn deprecated_keys(annotations: &BTreeMap<String, String>) -> Vec<String> {
    annotations.keys().filter(|key| key.starts_with(DEPRECATED_PREFIX)).cloned().collect()
}

/// The value of an annotation of Mooring's own makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {value:?} is no {want}")]
pub struct ValueError {
    /// The annotation.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What would make sense.
    pub want: &'static str,
}

/// For how long the addresses stay reserved; `None` = it does not say.
///
/// # Errors
/// The value is no duration.
pub fn retain(annotations: &BTreeMap<String, String>) -> Result<Option<Duration>, ValueError> {
    own(annotations, RETAIN, "duration such as 24h or 30m", |value| duration(value).ok())
}

/// How many different addresses the Services of a namespace may hold together; `None` = any number.
///
/// # Errors
/// The value is no number.
pub fn address_quota(annotations: &BTreeMap<String, String>) -> Result<Option<u32>, ValueError> {
    own(annotations, ADDRESS_QUOTA, "number of addresses such as 10", |value| value.parse().ok())
}

/// The value of an annotation of Mooring's own; an empty one says nothing.
fn own<T>(
    annotations: &BTreeMap<String, String>,
    key: &'static str,
    want: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, ValueError> {
    match annotations.get(key).map(|value| value.trim()) {
        None | Some("") => Ok(None),
        Some(value) => parse(value).map(Some).ok_or_else(|| ValueError { key, value: value.to_owned(), want }),
    }
}

/// Why the addresses that a Service asks for cannot be understood; the texts are MetalLB's (MetalLB behaviour 3.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Asked for in both places.
    #[error("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP")]
    Both,
    /// The annotation holds something else than addresses.
    #[error("invalid metallb.io/loadBalancerIPs: {0:?}")]
    Annotation(String),
    /// The field holds something else than an address.
    #[error("invalid spec.loadBalancerIP {0:?}")]
    Field(String),
    /// Addresses that no Service can hold together.
    #[error(transparent)]
    Family(FamilyError),
}

/// Why a list of addresses is not that of one Service: one address, or two of different families.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    /// Not an address.
    #[error("invalid IP address {0:?}")]
    Address(String),
    /// Two of one family.
    #[error("IPFamilyForAddresses: same address family {}", Quoted(.0))]
    Same(Vec<Vip>),
    /// More than two.
    #[error("IPFamilyForAddresses: invalid ips length {} {}", .0.len(), Quoted(.0))]
    Count(Vec<Vip>),
}

/// The addresses asked for, in order, by the annotation or by `spec.loadBalancerIP`; none = any.
///
/// # Errors
/// [`RequestError`].
pub fn requested_addresses(annotations: &BTreeMap<String, String>, field: &str) -> Result<Vec<Vip>, RequestError> {
    let annotation = LOAD_BALANCER_IPS.value(annotations).unwrap_or("");
    match (annotation, field) {
        ("", "") => Ok(Vec::new()),
        ("", field) => field.parse().map(|vip| vec![vip]).map_err(|_invalid| RequestError::Field(field.to_owned())),
        (annotation, "") => {
            let addresses: Result<Vec<Vip>, _> = annotation.split(',').map(|part| part.trim().parse()).collect();
            let addresses = addresses.map_err(|_invalid| RequestError::Annotation(annotation.to_owned()))?;
            of_one_service(addresses).map_err(RequestError::Family)
        }
        (_, _) => Err(RequestError::Both),
    }
}

/// The addresses, if a Service can hold them together; none is fine.
///
/// # Errors
/// [`FamilyError::Same`] or [`FamilyError::Count`].
pub fn of_one_service(addresses: Vec<Vip>) -> Result<Vec<Vip>, FamilyError> {
    match addresses.as_slice() {
        [] | [_] => Ok(addresses),
        [one, other] if one.family() != other.family() => Ok(addresses),
        [_, _] => Err(FamilyError::Same(addresses)),
        [..] => Err(FamilyError::Count(addresses)),
    }
}

#[cfg(test)]
mod tests;
