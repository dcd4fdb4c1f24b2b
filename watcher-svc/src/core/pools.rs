//! The configuration, merged of its parts and checked: all or nothing (MetalLB behaviour 2.1).

use std::collections::BTreeMap;

use mooring_proto::types::pool::{AdvertisementSpec, Configuration, ConfigurationError, PoolSpec};

use crate::k8s::configmap::LegacyConfig;
use crate::k8s::{ObjectRef, ParseError};

/// A part of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// The legacy ConfigMap.
    Legacy(LegacyConfig),
    /// A pool.
    Pool(PoolSpec),
    /// An advertisement.
    Advertisement(AdvertisementSpec),
}

/// What the parts come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Merged {
    /// There is none.
    Missing,
    /// It is whole and good.
    Good(Configuration),
    /// It is no good, for these reasons.
    Bad(Vec<Flaw>),
}

/// Something wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The object it is about; `None` = the configuration as a whole.
    pub object: Option<ObjectRef>,
    /// What is wrong, with object, field and value.
    pub text: String,
    /// What is wrong in MetalLB's words, without where.
    pub message: String,
}

/// Merges the parts. Objects that do not parse spoil the whole.
#[must_use]
pub fn merge(parts: &BTreeMap<ObjectRef, Part>, malformed: &BTreeMap<ObjectRef, Vec<ParseError>>) -> Merged {
    let flaw = |error: &ParseError| Flaw { object: Some(error.object.clone()), text: error.to_string(), message: error.message.clone() };
    let flaws: Vec<Flaw> = malformed.values().flatten().map(flaw).collect();
    if !flaws.is_empty() {
        return Merged::Bad(flaws);
    }
    if parts.is_empty() {
        return Merged::Missing;
    }
    let (mut pools, mut advertisements) = (Vec::new(), Vec::new());
    for part in parts.values() {
        match part {
            Part::Legacy(legacy) => {
                pools.extend(legacy.pools.iter().cloned());
                advertisements.extend(legacy.advertisements.iter().cloned());
            }
            Part::Pool(pool) => pools.push(pool.clone()),
            Part::Advertisement(advertisement) => advertisements.push(advertisement.clone()),
        }
    }
    match Configuration::new(pools, advertisements) {
        Ok(configuration) => Merged::Good(configuration),
        Err(errors) => {
            let flaw =
                |error: ConfigurationError| Flaw { object: owner(parts, &error), text: error.to_string(), message: error.to_string() };
            Merged::Bad(errors.into_iter().map(flaw).collect())
        }
    }
}

/// The object to which an error between several is told.
fn owner(parts: &BTreeMap<ObjectRef, Part>, error: &ConfigurationError) -> Option<ObjectRef> {
    let has = |part: &Part| match (error, part) {
        (ConfigurationError::DuplicatePool(name) | ConfigurationError::Overlap { pool: name, .. }, Part::Pool(pool)) => pool.name == *name,
        (ConfigurationError::DuplicatePool(name) | ConfigurationError::Overlap { pool: name, .. }, Part::Legacy(legacy)) => {
            legacy.pools.iter().any(|pool| pool.name == *name)
        }
        (ConfigurationError::DuplicateAdvertisement(name), Part::Advertisement(advertisement)) => advertisement.name == *name,
        (ConfigurationError::DuplicateAdvertisement(name), Part::Legacy(legacy)) => legacy.advertisements.iter().any(|ad| ad.name == *name),
        (ConfigurationError::DuplicateAdvertisement(_), Part::Pool(_)) | (_, Part::Advertisement(_)) => false,
    };
    parts.iter().find(|(_, part)| has(part)).map(|(object, _)| object.clone())
}

/// Whether objects of this kind are part of the configuration.
#[must_use]
pub fn is_part(object: &ObjectRef) -> bool {
    matches!(object.kind.as_str(), "ConfigMap" | "IPAddressPool" | "L2Advertisement")
}

#[cfg(test)]
mod tests;
