//! The ConfigMap of MetalLB v0.9 to v0.12 → pools, and one advertisement for each (MetalLB behaviour 2.2).
//!
//! Parsed strictly: a key that nobody knows is an error, also in what only BGP needs, which is named as ignored.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::labels::Labels;
use crate::types::pool::{AdvertisementSpec, PoolName, PoolSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Errors, Field};
use super::{ObjectRef, Parsed, pool};

/// The key of the ConfigMap's data that holds the document, and its path.
const DATA_KEY: &str = "config";
const DATA_PATH: &str = "data.config";

/// What the ConfigMap says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LegacyConfig {
    /// The pools in the order listed, which decides which side of an overlap counts as already defined.
    pub pools: Vec<PoolSpec>,
    /// One advertisement for each pool, on every node and interface.
    pub advertisements: Vec<AdvertisementSpec>,
    /// Top-level keys that only BGP needs and that do nothing here.
    pub ignored: Vec<&'static str>,
}

/// The document, to the letter. Texts that matter are checked afterwards, so that all errors come together.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    address_pools: Option<Vec<Pool>>,
    peers: Option<Vec<Peer>>,
    bgp_communities: Option<BTreeMap<String, Value>>,
    bfd_profiles: Option<Vec<BfdProfile>>,
}

/// One entry of `peers`: its keys alone matter here.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Peer {
    my_asn: Option<Value>,
    peer_asn: Option<Value>,
    peer_address: Option<Value>,
    peer_port: Option<Value>,
    source_address: Option<Value>,
    hold_time: Option<Value>,
    keepalive_time: Option<Value>,
    router_id: Option<Value>,
    node_selectors: Option<Vec<NodeSelector>>,
    password: Option<Value>,
    bfd_profile: Option<Value>,
    ebgp_multihop: Option<Value>,
}

/// The nodes that a peer is for.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct NodeSelector {
    match_labels: Option<Value>,
    match_expressions: Option<Value>,
}

/// One entry of `bfd-profiles`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BfdProfile {
    name: Option<Value>,
    receive_interval: Option<Value>,
    transmit_interval: Option<Value>,
    detect_multiplier: Option<Value>,
    echo_interval: Option<Value>,
    echo_mode: Option<Value>,
    passive_mode: Option<Value>,
    minimum_ttl: Option<Value>,
}

/// How a pool is announced by BGP.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct BgpAdvertisement {
    aggregation_length: Option<Value>,
    aggregation_length_v6: Option<Value>,
    localpref: Option<Value>,
    communities: Option<Value>,
}

/// One entry of `address-pools`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Pool {
    name: Option<String>,
    protocol: Option<String>,
    addresses: Option<Vec<String>>,
    auto_assign: Option<bool>,
    avoid_buggy_ips: Option<bool>,
    bgp_advertisements: Option<Vec<BgpAdvertisement>>,
}

/// Reads the ConfigMap. An empty document is valid and has no pools.
///
/// # Errors
/// All that is wrong with it. A document that is no YAML or has unknown keys is one error: `could not parse config: …`.
pub fn parse(value: &Value) -> Parsed<LegacyConfig> {
    let mut errors = Errors::new(ObjectRef::of("ConfigMap", value));
    let field = Field::root(value).get("data").get(DATA_KEY);
    if !field.is_present() {
        errors.at(&field, "required");
    }
    let view = field.text(&mut errors).and_then(|text| document(text, &field, &mut errors));
    errors.finish(view)
}

fn document(text: &str, field: &Field<'_>, errors: &mut Errors) -> Option<LegacyConfig> {
    let options = serde_saphyr::options! { with_snippet: false };
    let document: Document = match serde_saphyr::from_str_with_options::<Option<Document>>(text, options) {
        Ok(document) => document.unwrap_or_default(),
        Err(error) => {
            errors.at(field, format_args!("could not parse config: {error}"));
            return None;
        }
    };
    let json = serde_json::to_value(&document).map_err(|error| errors.at(field, error)).ok()?;
    let mut config = LegacyConfig { ignored: ignored(&document), ..LegacyConfig::default() };
    for (index, item) in Field::inside(DATA_PATH, &json).get("address-pools").items(errors).iter().enumerate() {
        let number = index.saturating_add(1);
        let Some(pool) = address_pool(item, &format!("parsing address pool #{number}: "), errors) else { continue };
        config.advertisements.push(everywhere(&format!("l2advertisement{number}"), &pool.name));
        config.pools.push(pool);
    }
    Some(config)
}

fn ignored(document: &Document) -> Vec<&'static str> {
    let Document { peers, bgp_communities, bfd_profiles, address_pools: _ } = document;
    let keys = [("peers", peers.is_some()), ("bgp-communities", bgp_communities.is_some()), ("bfd-profiles", bfd_profiles.is_some())];
    keys.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| key).collect()
}

fn address_pool(item: &Field<'_>, prefix: &str, errors: &mut Errors) -> Option<PoolSpec> {
    let name = pool::name(&item.get("name"), prefix, errors);
    let ranges = pool::ranges(&item.get("addresses"), name.as_ref(), prefix, errors);
    protocol(item, prefix, errors);
    Some(PoolSpec {
        name: name?,
        ranges,
        auto_assign: item.get("auto-assign").boolean(errors).unwrap_or(true),
        avoid_buggy_ips: item.get("avoid-buggy-ips").boolean(errors).unwrap_or(false),
        allocation: None,
        labels: Labels::new(),
    })
}

fn protocol(item: &Field<'_>, prefix: &str, errors: &mut Errors) {
    let field = item.get("protocol");
    let bgp = item.get("bgp-advertisements");
    match field.text(errors).unwrap_or("") {
        "layer2" if !bgp.items(errors).is_empty() => {
            errors.at(&bgp, format_args!("{prefix}cannot have bgp-advertisements configuration element in a layer2 address pool"))
        }
        "layer2" => {}
        "" => errors.at(&field, format_args!("{prefix}address pool is missing the protocol field")),
        "bgp" => errors.at(&field, format_args!("{prefix}protocol \"bgp\" is not supported: Mooring announces by layer 2 only for now")),
        other => errors.at(&field, format_args!("{prefix}unknown protocol {other:?}")),
    }
}

fn everywhere(name: &str, pool: &PoolName) -> AdvertisementSpec {
    AdvertisementSpec {
        name: name.to_owned(),
        pools: BTreeSet::from([pool.clone()]),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: BTreeSet::new(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
