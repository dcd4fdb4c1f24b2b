use super::*;

fn pool(name: &str, ranges: &[&str]) -> PoolSpec {
    PoolSpec {
        name: PoolName::new(name).unwrap(),
        ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        labels: Labels::new(),
    }
}

fn errors(pools: Vec<PoolSpec>) -> Vec<String> {
    Configuration::new(pools, vec![]).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_unique_and_prefixes_disjoint() {
    assert_eq!(errors(vec![pool("b", &["10.0.1.0/24"]), pool("a", &["10.0.0.0/24", "fc00::/64"])]), Vec::<String>::new());
    assert_eq!(errors(vec![pool("a", &["10.0.0.0/24"]), pool("a", &["10.0.1.0/24"])]), [r#"duplicate definition of pool "a""#]);
    assert_eq!(
        errors(vec![pool("a", &["10.0.0.0/24"]), pool("b", &["10.0.0.0/16"])]),
        [r#"CIDR "10.0.0.0/16" in pool "b" overlaps with already defined CIDR "10.0.0.0/24""#]
    );
    assert_eq!(
        errors(vec![pool("a", &["10.0.0.0/24", "10.0.0.7-10.0.0.7"]), pool("b", &["10.0.0.8/32"])]),
        [
            r#"CIDR "10.0.0.7/32" in pool "a" overlaps with already defined CIDR "10.0.0.0/24""#,
            r#"CIDR "10.0.0.8/32" in pool "b" overlaps with already defined CIDR "10.0.0.0/24""#
        ]
    );
}

#[test]
fn a_priority_of_zero_is_the_last() {
    let mut ranks = [0, 3, 1].map(Priority);
    ranks.sort_by_key(|priority| priority.rank());
    assert_eq!(ranks, [1, 3, 0].map(Priority));
}

#[test]
fn both_parts_of_an_allocation_must_hold_and_a_selector_without_match_restricts() {
    let selector =
        |key: &str, value: &str| LabelSelector { match_labels: Labels::from([(key.to_owned(), value.to_owned())]), requirements: vec![] };
    let allocation = ServiceAllocation {
        priority: Priority(0),
        namespaces: BTreeSet::from(["prod".to_owned()]),
        namespace_selectors: vec![selector("team", "a")],
        service_selectors: vec![selector("app", "web")],
    };
    let team_a = Labels::from([("team".to_owned(), "a".to_owned())]);
    let web = Labels::from([("app".to_owned(), "web".to_owned())]);
    let none = Labels::new();
    let cases = [("prod", &none, &web, true), ("dev", &team_a, &web, true), ("dev", &none, &web, false), ("prod", &none, &none, false)];
    for (namespace, namespace_labels, labels, wanted) in cases {
        assert_eq!(allocation.admits(namespace, namespace_labels, labels), wanted, "{namespace} {namespace_labels:?} {labels:?}");
    }
    let only_selector = ServiceAllocation { namespaces: BTreeSet::new(), service_selectors: vec![], ..allocation };
    assert!(!only_selector.admits("dev", &none, &web));
}
