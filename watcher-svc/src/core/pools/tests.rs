use serde_json::{Value, json};

use super::*;
use crate::k8s::pool;

fn part(name: &str, range: &str) -> (ObjectRef, Part) {
    let object = json!({"metadata": {"name": name, "namespace": "metallb-system"}, "spec": {"addresses": [range]}});
    (ObjectRef::of("IPAddressPool", &object), Part::Pool(pool::pool(&object).unwrap()))
}

fn reasons(merged: Merged) -> Vec<String> {
    let Merged::Bad(flaws) = merged else { panic!("{merged:?}") };
    flaws.into_iter().map(|flaw| flaw.text).collect()
}

#[test]
fn parts_are_merged_or_refused_as_a_whole() {
    assert_eq!(merge(&BTreeMap::new(), &BTreeMap::new()), Merged::Missing);
    let (a, b) = (part("a", "192.0.2.0/28"), part("b", "192.0.2.16/28"));
    let Merged::Good(configuration) = merge(&[a.clone(), b].into(), &BTreeMap::new()) else { panic!() };
    assert_eq!(configuration.pools().len(), 2);
    let overlapping = reasons(merge(&[a.clone(), part("b", "192.0.2.8-192.0.2.20")].into(), &BTreeMap::new()));
    assert!(overlapping[0].contains("192.0.2.8/29") && overlapping[0].contains("overlaps"), "{overlapping:?}");
    let wrong: Value = json!({"metadata": {"name": "c", "namespace": "metallb-system"}, "spec": {"addresses": ["nonsense"]}});
    let malformed = [(ObjectRef::of("IPAddressPool", &wrong), pool::pool(&wrong).unwrap_err())];
    let told = reasons(merge(&[a].into(), &malformed.into()));
    assert!(told[0].starts_with("IPAddressPool metallb-system/c: spec.addresses[0]: \"nonsense\": "), "{told:?}");
}
