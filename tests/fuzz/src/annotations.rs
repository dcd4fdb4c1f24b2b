//! Services with any annotations and any other fields.

use std::collections::BTreeMap;

use mooring_watcher::k8s::annotations::requested_addresses;
use mooring_watcher::k8s::service;

/// A Service as JSON, or else the value of an annotation.
///
/// # Panics
/// A view holds more than one address of a family, or an error names nothing.
pub fn check(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice(data) {
        match service::parse(&value) {
            Ok(view) => {
                for addresses in [view.requested_addresses.ok(), view.assigned.ok()].into_iter().flatten() {
                    assert!(at_most_one_of_each_family(&addresses), "{addresses:?}");
                }
            }
            Err(errors) => assert!(!errors.is_empty() && errors.iter().all(|error| !error.message.is_empty()), "{errors:?}"),
        }
    }
    let text = String::from_utf8_lossy(data).into_owned();
    let (field, value) = text.split_once('\n').unwrap_or(("", &text));
    let annotations = BTreeMap::from([("metallb.io/loadBalancerIPs".to_owned(), value.to_owned())]);
    if let Ok(addresses) = requested_addresses(&annotations, field) {
        assert!(at_most_one_of_each_family(&addresses), "{text:?}: {addresses:?}");
        assert!(field.is_empty() || value.is_empty(), "{text:?}: both places count");
    }
}

fn at_most_one_of_each_family(addresses: &[mooring_proto::types::address::Vip]) -> bool {
    match addresses {
        [] | [_] => true,
        [one, other] => one.family() != other.family(),
        [..] => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("annotations", super::check);
    }
}
