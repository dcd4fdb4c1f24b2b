//! A file → the configuration in it, by the readers that the watcher has.

use std::collections::BTreeMap;

use mooring_proto::manifest::configmap::{self, LegacyConfig};
use mooring_proto::manifest::documents::{Object, objects};
use mooring_proto::manifest::{ObjectRef, ParseError, pool};
use mooring_proto::types::pool::{AdvertisementSpec, PoolSpec};
use serde_json::{Value, json};

/// The API group of MetalLB's kinds.
const GROUP: &str = "metallb.io";

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Configured {
    /// The pools.
    pub(super) pools: Vec<PoolSpec>,
    /// The advertisements.
    pub(super) advertisements: Vec<AdvertisementSpec>,
    /// What it says without effect.
    pub(super) in_vain: Vec<String>,
}

/// The file is no good.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct FileError(Vec<String>);

/// A part of the configuration.
enum Part {
    Legacy(LegacyConfig),
    Pool(PoolSpec),
    Advertisement(AdvertisementSpec),
}

/// Reads the text of a file: pools, advertisements and legacy ConfigMaps; other objects, and those of other namespaces, do not count.
/// Where no namespace is given it is the configuration's.
pub(super) fn read(file: &str, text: &str, namespace: &str) -> Result<Configured, FileError> {
    let (mut parts, mut errors, mut configured) = (BTreeMap::new(), Vec::new(), Configured::default());
    let read = objects(text, |mut object| {
        let Some(parse) = reader(&object) else { return Ok(()) };
        place(&mut object.value, namespace);
        let name = object.name()?;
        let at = format!("{file}: document {}", object.document);
        if name.namespace != namespace {
            configured.in_vain.push(format!("{at}: {name} does not count: the configuration is in namespace {namespace}"));
            return Ok(());
        }
        match parse(&object.value) {
            Ok(part) if parts.contains_key(&name) => {
                drop(part);
                errors.push(format!("{at}: {name} is there twice"));
            }
            Ok(part) => drop(parts.insert(name, part)),
            Err(wrong) => errors.extend(wrong.iter().map(|error| format!("{at}: {error}"))),
        }
        Ok(())
    });
    errors.extend(read.err().map(|malformed| format!("{file}: {malformed}")));
    if parts.is_empty() && errors.is_empty() {
        errors.push(format!("{file}: no IPAddressPool, no L2Advertisement and no ConfigMap with data.config in namespace {namespace}"));
    }
    if !errors.is_empty() {
        return Err(FileError(errors));
    }
    configured.take(file, parts);
    Ok(configured)
}

impl Configured {
    fn take(&mut self, file: &str, parts: BTreeMap<ObjectRef, Part>) {
        for (name, part) in parts {
            match part {
                Part::Legacy(legacy) => {
                    self.pools.extend(legacy.pools);
                    self.advertisements.extend(legacy.advertisements);
                    self.in_vain.extend(legacy.ignored.iter().map(|key| format!("{file}: {name}: {key} is for BGP only and does nothing")));
                }
                Part::Pool(pool) => self.pools.push(pool),
                Part::Advertisement(advertisement) => self.advertisements.push(advertisement),
            }
        }
    }
}

type Reader = fn(&Value) -> Result<Part, Vec<ParseError>>;

/// How an object is read; `None` = it is no part of the configuration.
fn reader(object: &Object) -> Option<Reader> {
    match (object.group(), object.kind.as_str()) {
        (GROUP, "IPAddressPool") => Some(|value| pool::pool(value).map(Part::Pool)),
        (GROUP, "L2Advertisement") => Some(|value| pool::advertisement(value).map(Part::Advertisement)),
        ("", "ConfigMap") if object.value.pointer("/data/config").is_some() => Some(|value| configmap::parse(value).map(Part::Legacy)),
        _ => None,
    }
}

/// Gives an object the namespace that `kubectl apply --namespace` gives it.
fn place(value: &mut Value, namespace: &str) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("namespace").or_insert_with(|| json!(namespace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pools, the advertisements and what is said in vain.
    type Said = (Vec<String>, Vec<String>, Vec<String>);

    fn said(text: &str) -> Result<Said, String> {
        let read = read("pools.yaml", text, "metallb-system").map_err(|error| error.to_string())?;
        let pools = read.pools.iter().map(|pool| pool.name.to_string()).collect();
        Ok((pools, read.advertisements.iter().map(|ad| ad.name.clone()).collect(), read.in_vain))
    }

    fn list(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn pools_and_advertisements_of_many_documents() {
        let text = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: b, namespace: metallb-system}\nspec: {addresses: [10.0.1.0/24]}\n\
                    ---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [10.0.0.0/24]}\n\
                    ---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
                    ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: others}\ndata: {x: y}\n\
                    ---\napiVersion: metallb.io/v1beta1\nkind: L2AdvertisementList\nitems: [{metadata: {name: all}}]\n\
                    ---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: c, namespace: prod}\nspec: {addresses: [x]}\n";
        let in_vain = "pools.yaml: document 6: IPAddressPool prod/c does not count: the configuration is in namespace metallb-system";
        assert_eq!(said(text).unwrap(), (list(&["a", "b"]), list(&["all"]), list(&[in_vain])));
    }

    #[test]
    fn the_legacy_config_map_and_json() {
        let legacy = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config, namespace: metallb-system}\ndata:\n  config: |\n    peers: []\n    \
                      address-pools:\n    - {name: old, protocol: layer2, addresses: [10.0.0.0/24]}\n";
        let in_vain = "pools.yaml: ConfigMap metallb-system/config: peers is for BGP only and does nothing";
        assert_eq!(said(legacy).unwrap(), (list(&["old"]), list(&["l2advertisement1"]), list(&[in_vain])));
        let json = r#"{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"}, "spec": {"addresses": ["10.0.0.0/24"]}}"#;
        assert_eq!(said(json).unwrap(), (list(&["a"]), vec![], vec![]));
    }

    #[test]
    fn what_is_wrong_is_told_with_document_field_and_value() {
        let pool = |name: &str, range: &str| {
            format!(
                "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: {name}}}\nspec: {{addresses: [{range}], autoAssign: maybe}}\n"
            )
        };
        let object = |name: &str| format!("IPAddressPool metallb-system/{name}");
        let error = said(&format!("{}{}", pool("a", "10.0.0.9-10.0.0.1"), pool("b", "10.0.1.0/24"))).unwrap_err();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines.len(), 3, "{error}");
        assert!(
            lines[0].starts_with(&format!("pools.yaml: document 1: {}: spec.addresses[0]: \"10.0.0.9-10.0.0.1\": ", object("a"))),
            "{error}"
        );
        assert_eq!(lines[1], format!("pools.yaml: document 1: {}: spec.autoAssign: \"maybe\": want true or false", object("a")));
        assert_eq!(lines[2], format!("pools.yaml: document 2: {}: spec.autoAssign: \"maybe\": want true or false", object("b")));
        let good = "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: a}\nspec: {addresses: [10.0.0.0/24]}\n";
        assert_eq!(said(&format!("{good}{good}")).unwrap_err(), format!("pools.yaml: document 2: {} is there twice", object("a")));
        assert_eq!(said("kind: IPAddressPool\n").unwrap_err(), "pools.yaml: document 1: apiVersion: required");
        let nothing = "pools.yaml: no IPAddressPool, no L2Advertisement and no ConfigMap with data.config in namespace metallb-system";
        assert_eq!(said("").unwrap_err(), nothing);
    }
}
