//! The legacy ConfigMap's document, and pools and advertisements as custom resources.

use mooring_proto::convert;
use mooring_proto::types::pool::{Configuration, PoolSpec};
use mooring_watcher::k8s::{configmap, pool};
use serde_json::json;

/// A document of the ConfigMap, or an object as JSON.
///
/// # Panics
/// A configuration that was taken does not cross the wire as it is, or an error names nothing.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let map = json!({"metadata": {"name": "config", "namespace": "metallb-system"}, "data": {"config": text}});
    match configmap::parse(&map) {
        Ok(legacy) => crosses_the_wire(legacy.pools, legacy.advertisements),
        Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| !error.message.is_empty()), "{errors:?}"),
    }
    if let Ok(value) = serde_json::from_slice(data) {
        let (pools, advertisements) = (pool::pool(&value).into_iter().collect(), pool::advertisement(&value).into_iter().collect());
        crosses_the_wire(pools, advertisements);
    }
}

fn crosses_the_wire(pools: Vec<PoolSpec>, advertisements: Vec<mooring_proto::types::pool::AdvertisementSpec>) {
    let Ok(configuration) = Configuration::new(pools, advertisements) else { return };
    let pools = configuration.pools().iter().map(Into::into).collect();
    let advertisements = configuration.advertisements().iter().map(Into::into).collect();
    assert_eq!(convert::configuration(pools, advertisements), Ok(configuration));
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("configuration", super::check);
    }
}
