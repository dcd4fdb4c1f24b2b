//! Pools and advertisements.

use super::{MISSING, Violations, each};
use crate::pb;
use crate::types::address::AddressRange;
use crate::types::labels::{LabelSelector, Operator, Requirement};
use crate::types::node::InterfaceName;
use crate::types::pool::{AdvertisementSpec, Configuration, NodePreference, PoolName, PoolSpec, Priority, ServiceAllocation};

/// A whole configuration, parsed and checked.
///
/// # Errors
/// Every field that is wrong; contradictions between pools stand under `pools`.
pub fn configuration(pools: Vec<pb::Pool>, advertisements: Vec<pb::L2Advertisement>) -> Result<Configuration, Violations> {
    let mut bad = Violations::default();
    let pools = nested(&mut bad, "pools", pools, PoolSpec::try_from);
    let advertisements = nested(&mut bad, "advertisements", advertisements, AdvertisementSpec::try_from);
    let checked = match Configuration::new(pools, advertisements) {
        Ok(configuration) => Some(configuration),
        Err(errors) => {
            for error in errors {
                bad.add("pools", error.to_string());
            }
            None
        }
    };
    bad.finish(checked)
}

fn nested<In, Out>(bad: &mut Violations, field: &str, list: Vec<In>, parse: impl Fn(In) -> Result<Out, Violations>) -> Vec<Out> {
    list.into_iter()
        .enumerate()
        .filter_map(|(index, item)| parse(item).map_err(|inner| bad.nest(&format!("{field}[{index}]"), inner)).ok())
        .collect()
}

impl TryFrom<pb::Pool> for PoolSpec {
    type Error = Violations;

    fn try_from(pool: pb::Pool) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let name = bad.take("name", PoolName::new(&pool.name).ok_or("is empty"));
        let ranges = each(&mut bad, "addresses", &pool.addresses, |text| text.parse::<AddressRange>());
        if pool.addresses.is_empty() {
            bad.add("addresses", "is empty");
        }
        let allocation = match pool.service_allocation.map(ServiceAllocation::try_from).transpose() {
            Ok(allocation) => allocation,
            Err(inner) => {
                bad.nest("service_allocation", inner);
                None
            }
        };
        let value = name.map(|name| Self {
            name,
            ranges,
            auto_assign: pool.auto_assign.unwrap_or(true),
            avoid_buggy_ips: pool.avoid_buggy_ips,
            allocation,
            labels: pool.labels,
        });
        bad.finish(value)
    }
}

impl From<&PoolSpec> for pb::Pool {
    fn from(pool: &PoolSpec) -> Self {
        Self {
            name: pool.name.to_string(),
            addresses: pool.ranges.iter().map(|range| range.text().to_owned()).collect(),
            auto_assign: Some(pool.auto_assign),
            avoid_buggy_ips: pool.avoid_buggy_ips,
            service_allocation: pool.allocation.as_ref().map(Into::into),
            labels: pool.labels.clone(),
        }
    }
}

impl TryFrom<pb::ServiceAllocation> for ServiceAllocation {
    type Error = Violations;

    fn try_from(allocation: pb::ServiceAllocation) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let namespace_selectors = nested(&mut bad, "namespace_selectors", allocation.namespace_selectors, LabelSelector::try_from);
        let service_selectors = nested(&mut bad, "service_selectors", allocation.service_selectors, LabelSelector::try_from);
        let value = Self {
            priority: Priority(allocation.priority),
            namespaces: allocation.namespaces.into_iter().collect(),
            namespace_selectors,
            service_selectors,
        };
        bad.finish(Some(value))
    }
}

impl From<&ServiceAllocation> for pb::ServiceAllocation {
    fn from(allocation: &ServiceAllocation) -> Self {
        Self {
            priority: allocation.priority.0,
            namespaces: allocation.namespaces.iter().cloned().collect(),
            namespace_selectors: allocation.namespace_selectors.iter().map(Into::into).collect(),
            service_selectors: allocation.service_selectors.iter().map(Into::into).collect(),
        }
    }
}

fn operator(value: i32) -> Result<Operator, String> {
    match pb::SelectorOperator::try_from(value) {
        Ok(pb::SelectorOperator::In) => Ok(Operator::In),
        Ok(pb::SelectorOperator::NotIn) => Ok(Operator::NotIn),
        Ok(pb::SelectorOperator::Exists) => Ok(Operator::Exists),
        Ok(pb::SelectorOperator::DoesNotExist) => Ok(Operator::DoesNotExist),
        Ok(pb::SelectorOperator::Unspecified) | Err(_) => Err(format!("operator {value} is unknown")),
    }
}

impl TryFrom<pb::LabelSelector> for LabelSelector {
    type Error = Violations;

    fn try_from(selector: pb::LabelSelector) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let requirements = each(&mut bad, "match_expressions", selector.match_expressions, |requirement| {
            let operator = operator(requirement.operator)?;
            Ok::<_, String>(Requirement { key: requirement.key, operator, values: requirement.values.into_iter().collect() })
        });
        bad.finish(Some(Self { match_labels: selector.match_labels, requirements }))
    }
}

impl From<&LabelSelector> for pb::LabelSelector {
    fn from(selector: &LabelSelector) -> Self {
        let match_expressions = selector.requirements.iter().map(|requirement| {
            let operator = match requirement.operator {
                Operator::In => pb::SelectorOperator::In,
                Operator::NotIn => pb::SelectorOperator::NotIn,
                Operator::Exists => pb::SelectorOperator::Exists,
                Operator::DoesNotExist => pb::SelectorOperator::DoesNotExist,
            };
            let values = requirement.values.iter().cloned().collect();
            pb::LabelSelectorRequirement { key: requirement.key.clone(), operator: operator.into(), values }
        });
        Self { match_labels: selector.match_labels.clone(), match_expressions: match_expressions.collect() }
    }
}

impl TryFrom<pb::PreferredNodeSelector> for NodePreference {
    type Error = Violations;

    fn try_from(preferred: pb::PreferredNodeSelector) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        if !(1..=100).contains(&preferred.weight) {
            bad.add("weight", format!("{} is not 1 to 100", preferred.weight));
        }
        let selector = match preferred.preference.map(LabelSelector::try_from) {
            Some(Ok(selector)) => Some(selector),
            Some(Err(inner)) => {
                bad.nest("preference", inner);
                None
            }
            None => {
                bad.add("preference", MISSING);
                None
            }
        };
        let value = selector.map(|selector| Self { weight: preferred.weight, selector });
        bad.finish(value)
    }
}

impl TryFrom<pb::L2Advertisement> for AdvertisementSpec {
    type Error = Violations;

    fn try_from(ad: pb::L2Advertisement) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        if ad.name.is_empty() {
            bad.add("name", "is empty");
        }
        let pools = each(&mut bad, "ip_address_pools", &ad.ip_address_pools, |text| PoolName::new(text).ok_or("is empty"));
        let interfaces = each(&mut bad, "interfaces", &ad.interfaces, |text| text.parse::<InterfaceName>());
        let pool_selectors = nested(&mut bad, "ip_address_pool_selectors", ad.ip_address_pool_selectors, LabelSelector::try_from);
        let node_selectors = nested(&mut bad, "node_selectors", ad.node_selectors, LabelSelector::try_from);
        let service_selectors = nested(&mut bad, "service_selectors", ad.service_selectors, LabelSelector::try_from);
        let preferences = nested(&mut bad, "preferred_node_selectors", ad.preferred_node_selectors, NodePreference::try_from);
        let value = Self {
            name: ad.name,
            pools: pools.into_iter().collect(),
            pool_selectors,
            node_selectors,
            interfaces: interfaces.into_iter().collect(),
            service_selectors,
            preferences,
        };
        bad.finish(Some(value))
    }
}

impl From<&AdvertisementSpec> for pb::L2Advertisement {
    fn from(ad: &AdvertisementSpec) -> Self {
        let preferred = ad
            .preferences
            .iter()
            .map(|preference| pb::PreferredNodeSelector { weight: preference.weight, preference: Some((&preference.selector).into()) });
        Self {
            name: ad.name.clone(),
            ip_address_pools: ad.pools.iter().map(ToString::to_string).collect(),
            ip_address_pool_selectors: ad.pool_selectors.iter().map(Into::into).collect(),
            node_selectors: ad.node_selectors.iter().map(Into::into).collect(),
            interfaces: ad.interfaces.iter().map(ToString::to_string).collect(),
            service_selectors: ad.service_selectors.iter().map(Into::into).collect(),
            preferred_node_selectors: preferred.collect(),
        }
    }
}
