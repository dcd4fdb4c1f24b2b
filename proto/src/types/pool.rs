//! Pools and advertisements, as MetalLB's IPAddressPool and L2Advertisement mean them (MetalLB behaviour 2.3, 2.6).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::AddressRange;
use super::labels::{LabelSelector, Labels};
use super::node::InterfaceName;

/// A pool's name; never empty. All copies of it are one text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(Arc<str>);

impl PoolName {
    /// The name, or `None` for an empty text.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place of a pinned pool in the order asked: 1 first, larger later, 0 last of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority(pub u32);

impl Priority {
    /// Sorts as the pools are asked.
    #[must_use]
    pub fn rank(self) -> u32 {
        self.0.checked_sub(1).unwrap_or(u32::MAX)
    }
}

/// Whom a pool is for. Both parts must hold; within each one entry is enough, and a part without entries restricts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAllocation {
    /// Its place in the order.
    pub priority: Priority,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}

impl ServiceAllocation {
    /// Whether a Service with these labels in this namespace may use the pool.
    ///
    /// A namespace selector that matches nothing restricts, where MetalLB lets everybody in (MetalLB behaviour 12.14).
    #[must_use]
    pub fn admits(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let namespaces_open = self.namespaces.is_empty() && self.namespace_selectors.is_empty();
        let namespace_fits = namespaces_open
            || self.namespaces.contains(namespace)
            || self.namespace_selectors.iter().any(|selector| selector.matches(namespace_labels));
        let service_fits = self.service_selectors.is_empty() || self.service_selectors.iter().any(|selector| selector.matches(labels));
        namespace_fits && service_fits
    }
}

/// A pool as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSpec {
    /// Its name.
    pub name: PoolName,
    /// Its addresses, in order; never empty.
    pub ranges: Vec<AddressRange>,
    /// False: used only when asked for.
    pub auto_assign: bool,
    /// IPv4 addresses that end in 0 or 255 are kept back.
    pub avoid_buggy_ips: bool,
    /// Whom it is for; `None` = everybody.
    pub allocation: Option<ServiceAllocation>,
    /// The pool object's labels.
    pub labels: Labels,
}

impl PoolSpec {
    /// All prefixes, in the order in which addresses are handed out.
    pub fn prefixes(&self) -> impl Iterator<Item = &IpNet> {
        self.ranges.iter().flat_map(|range| range.prefixes())
    }
}

/// A soft preference for nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePreference {
    /// Added to a matching node's score, 1 to 100.
    pub weight: u32,
    /// The nodes.
    pub selector: LabelSelector,
}

/// Which nodes may announce which pools' addresses, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisementSpec {
    /// Its name.
    pub name: String,
    /// Pools by name.
    pub pools: BTreeSet<PoolName>,
    /// Pools by label.
    pub pool_selectors: Vec<LabelSelector>,
    /// Nodes by label; empty = all.
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces; empty = all.
    pub interfaces: BTreeSet<InterfaceName>,
    /// Services by label; empty = all.
    pub service_selectors: Vec<LabelSelector>,
    /// Preferences among the nodes.
    pub preferences: Vec<NodePreference>,
}

impl AdvertisementSpec {
    /// Whether it is about a pool: named, selected, or neither names nor selectors given.
    #[must_use]
    pub fn covers_pool(&self, name: &PoolName, labels: &Labels) -> bool {
        (self.pools.is_empty() && self.pool_selectors.is_empty())
            || self.pools.contains(name)
            || self.pool_selectors.iter().any(|selector| selector.matches(labels))
    }

    /// Whether it is about a node with these labels.
    #[must_use]
    pub fn covers_node(&self, labels: &Labels) -> bool {
        self.node_selectors.is_empty() || self.node_selectors.iter().any(|selector| selector.matches(labels))
    }

    /// Whether it is about a Service with these labels.
    #[must_use]
    pub fn covers_service(&self, labels: &Labels) -> bool {
        self.service_selectors.is_empty() || self.service_selectors.iter().any(|selector| selector.matches(labels))
    }
}

/// All of the configuration, checked: names unique, prefixes disjoint. Pools are in order of name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Configuration {
    /// The pools, by name.
    pools: Vec<PoolSpec>,
    /// The advertisements, by name.
    advertisements: Vec<AdvertisementSpec>,
}

/// Why a configuration is refused; the texts are MetalLB's (MetalLB behaviour 2.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// Two pools of one name.
    #[error("duplicate definition of pool {:?}", .0.as_str())]
    DuplicatePool(PoolName),
    /// Two advertisements of one name.
    #[error("duplicate definition of l2advertisement {0:?}")]
    DuplicateAdvertisement(String),
    /// Two prefixes have addresses in common.
    #[error("CIDR {:?} in pool {:?} overlaps with already defined CIDR {:?}", cidr.to_string(), pool.as_str(), defined.to_string())]
    Overlap {
        /// The later prefix.
        cidr: IpNet,
        /// Its pool.
        pool: PoolName,
        /// The earlier prefix.
        defined: IpNet,
    },
}

impl Configuration {
    /// Checks pools and advertisements against each other, in the order given: the "already defined" side is the earlier one.
    ///
    /// # Errors
    /// All that is wrong, in that order.
    pub fn new(mut pools: Vec<PoolSpec>, mut advertisements: Vec<AdvertisementSpec>) -> Result<Self, Vec<ConfigurationError>> {
        let mut errors = duplicates(pools.iter().map(|pool| &pool.name), ConfigurationError::DuplicatePool);
        errors.extend(overlaps(&pools));
        errors.extend(duplicates(advertisements.iter().map(|ad| &ad.name), ConfigurationError::DuplicateAdvertisement));
        if !errors.is_empty() {
            return Err(errors);
        }
        pools.sort_by(|one, other| one.name.cmp(&other.name));
        advertisements.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { pools, advertisements })
    }

    /// The pools, by name.
    #[must_use]
    pub fn pools(&self) -> &[PoolSpec] {
        &self.pools
    }

    /// The advertisements, by name.
    #[must_use]
    pub fn advertisements(&self) -> &[AdvertisementSpec] {
        &self.advertisements
    }
}

fn duplicates<'a, T: Ord + Clone + 'a>(
    names: impl Iterator<Item = &'a T>,
    error: impl Fn(T) -> ConfigurationError,
) -> Vec<ConfigurationError> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(|name| error(name.clone())).collect()
}

/// Prefixes either nest or are disjoint, so in order of first address only the last outermost one can cover the next.
fn overlaps(pools: &[PoolSpec]) -> Vec<ConfigurationError> {
    let mut all: Vec<(usize, &IpNet, &PoolName)> = pools
        .iter()
        .flat_map(|pool| pool.prefixes().map(move |prefix| (prefix, &pool.name)))
        .enumerate()
        .map(|(n, (p, name))| (n, p, name))
        .collect();
    all.sort_by_key(|(order, prefix, _)| (prefix.network(), prefix.prefix_len(), *order));
    let mut outer: Option<(usize, &IpNet, &PoolName)> = None;
    let mut found: Vec<(usize, ConfigurationError)> = Vec::new();
    for next in all {
        match outer {
            Some(before) if before.1.contains(next.1) => {
                let (first, later) = if before.0 < next.0 { (before, next) } else { (next, before) };
                found.push((later.0, ConfigurationError::Overlap { cidr: *later.1, pool: later.2.clone(), defined: *first.1 }));
            }
            _ => outer = Some(next),
        }
    }
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, error)| error).collect()
}

#[cfg(test)]
mod tests;
