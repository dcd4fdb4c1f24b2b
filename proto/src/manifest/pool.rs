//! IPAddressPool → [`PoolSpec`], L2Advertisement → [`AdvertisementSpec`] (MetalLB behaviour 2.3, 2.5, 2.6).
//!
//! Each object is read by itself, with MetalLB's messages. What concerns several at once, names and overlaps, is
//! `Configuration::new`'s.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::types::address::AddressRange;
use crate::types::node::InterfaceName;
use crate::types::pool::{AdvertisementSpec, NodePreference, PoolName, PoolSpec, Priority, ServiceAllocation};
use serde_json::Value;

use super::fields::{Errors, Field};
use super::selector::{What, selector, selectors};
use super::{ObjectRef, Parsed};

/// Reads an IPAddressPool.
///
/// # Errors
/// All that is wrong with it; the messages begin `parsing address pool <name>: `.
pub fn pool(value: &Value) -> Parsed<PoolSpec> {
    let object = ObjectRef::of("IPAddressPool", value);
    let prefix = format!("parsing address pool {}: ", object.name);
    let mut errors = Errors::new(object);
    let e = &mut errors;
    let root = Field::root(value);
    let metadata = root.get("metadata").object(e);
    let spec = root.get("spec").object(e);
    let name = name(&metadata.get("name"), &prefix, e);
    let ranges = ranges(&spec.get("addresses"), name.as_ref(), &prefix, e);
    let view = name.map(|name| PoolSpec {
        name,
        ranges,
        auto_assign: spec.get("autoAssign").boolean(e).unwrap_or(true),
        avoid_buggy_ips: spec.get("avoidBuggyIPs").boolean(e).unwrap_or(false),
        allocation: allocation(&spec.get("serviceAllocation"), &prefix, e),
        labels: metadata.get("labels").texts(e),
    });
    errors.finish(view)
}

/// Reads a pool's name; the legacy ConfigMap has the same rule and text.
pub(super) fn name(field: &Field<'_>, prefix: &str, errors: &mut Errors) -> Option<PoolName> {
    let text = field.text(errors).unwrap_or("");
    let name = PoolName::new(text);
    if name.is_none() {
        errors.at(field, format_args!("{prefix}missing pool name"));
    }
    name
}

/// Reads a pool's addresses; the legacy ConfigMap has the same rules and texts.
pub(super) fn ranges(field: &Field<'_>, pool: Option<&PoolName>, prefix: &str, errors: &mut Errors) -> Vec<AddressRange> {
    let wrong = errors.count();
    let items = field.items(errors);
    if items.is_empty() && errors.count() == wrong {
        errors.at(field, format_args!("{prefix}pool has no prefixes defined"));
    }
    let pool = pool.map_or("", PoolName::as_str);
    let mut ranges = Vec::new();
    for item in items {
        let Some(text) = item.text(errors) else { continue };
        match text.parse::<AddressRange>() {
            Ok(range) => ranges.push(range),
            Err(why) => errors.at(&item, format_args!("{prefix}invalid CIDR {text:?} in pool {pool:?}: {why}")),
        }
    }
    ranges
}

fn allocation(field: &Field<'_>, prefix: &str, errors: &mut Errors) -> Option<ServiceAllocation> {
    if !field.is_present() {
        return None;
    }
    let field = field.clone().object(errors);
    let priority = field.get("priority");
    let number = priority.integer(errors).unwrap_or(0);
    let number = u32::try_from(number).unwrap_or_else(|_negative| {
        errors.at(&priority, format_args!("{prefix}priority must be 0 or more"));
        0
    });
    let mut namespaces = BTreeSet::new();
    for item in field.get("namespaces").items(errors) {
        let Some(text) = item.text(errors) else { continue };
        if !namespaces.insert(text.to_owned()) {
            errors.at(&item, format_args!("{prefix}duplicate definition in namespaces field"));
        }
    }
    let namespace = What { prefix, invalid: "invalid namespace label selector ", failed: "" };
    let service = What { prefix, invalid: "invalid service label selector ", failed: "" };
    Some(ServiceAllocation {
        priority: Priority(number),
        namespaces,
        namespace_selectors: selectors(&field, "namespaceSelectors", &namespace, errors),
        service_selectors: selectors(&field, "serviceSelectors", &service, errors),
    })
}

/// Reads an L2Advertisement.
///
/// # Errors
/// All that is wrong with it.
pub fn advertisement(value: &Value) -> Parsed<AdvertisementSpec> {
    let object = ObjectRef::of("L2Advertisement", value);
    let owner = object.name.clone();
    let mut errors = Errors::new(object);
    let e = &mut errors;
    let root = Field::root(value);
    let name = root.get("metadata").object(e).get("name").required_text(e);
    let spec = root.get("spec").object(e);
    let pool_failed = format!(": failed to parse ip address pool selector for {owner}");
    let node_failed = format!(": failed to parse node selector for {owner}");
    let service_failed = format!(": failed to parse service selector for {owner}");
    let what = |failed| What { prefix: "", invalid: "", failed };
    let view = name.map(|name| AdvertisementSpec {
        name: name.to_owned(),
        pools: names(&spec, "ipAddressPools", |text| PoolName::new(text).ok_or("must not be empty"), e),
        pool_selectors: selectors(&spec, "ipAddressPoolSelectors", &what(&pool_failed), e),
        node_selectors: selectors(&spec, "nodeSelectors", &what(&node_failed), e),
        interfaces: interfaces(&spec, e),
        service_selectors: selectors(&spec, "serviceSelectors", &what(&service_failed), e),
        preferences: preferences(&spec, &owner, e),
    });
    errors.finish(view)
}

fn names<T: Ord, E: Display>(spec: &Field<'_>, key: &str, parse: impl Fn(&str) -> Result<T, E>, errors: &mut Errors) -> BTreeSet<T> {
    let mut names = BTreeSet::new();
    for item in spec.get(key).items(errors) {
        let Some(text) = item.required_text(errors) else { continue };
        match parse(text) {
            Ok(name) if names.contains(&name) => errors.at(&item, format_args!("duplicate definition of {key} {text:?}")),
            Ok(name) => {
                names.insert(name);
            }
            Err(why) => errors.at(&item, why),
        }
    }
    names
}

/// Interfaces by name; MetalLB lets one stand twice.
fn interfaces(spec: &Field<'_>, errors: &mut Errors) -> BTreeSet<InterfaceName> {
    let items = spec.get("interfaces").items(errors);
    items.iter().filter_map(|item| item.required_text(errors)?.parse().map_err(|why| errors.at(item, why)).ok()).collect()
}

fn preferences(spec: &Field<'_>, owner: &str, errors: &mut Errors) -> Vec<NodePreference> {
    let failed = format!(": failed to parse preferred node selectors for {owner}");
    let what = What { prefix: "", invalid: "", failed: &failed };
    let mut preferences = Vec::new();
    for item in spec.get("preferredNodeSelectors").items(errors) {
        let weight = item.get("weight");
        let number = weight.integer(errors).and_then(|number| u32::try_from(number).ok()).filter(|number| (1..=100).contains(number));
        if number.is_none() {
            errors.at(&weight, "want a weight, 1 to 100");
        }
        let selector = selector(&item.get("preference"), &what, errors);
        preferences.extend(number.map(|weight| NodePreference { weight, selector }));
    }
    preferences
}

#[cfg(test)]
mod tests;
