use serde_json::json;

use super::*;

fn pool_of(spec: Value) -> Value {
    json!({"metadata": {"namespace": "metallb-system", "name": "prod", "labels": {"zone": "a"}}, "spec": spec})
}

fn advertisement_of(spec: Value) -> Value {
    json!({"metadata": {"namespace": "metallb-system", "name": "lan"}, "spec": spec})
}

fn fields<T: std::fmt::Debug>(parsed: Parsed<T>) -> Vec<(String, String)> {
    parsed.unwrap_err().into_iter().map(|error| (error.field, error.message)).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(field, message)| ((*field).to_owned(), (*message).to_owned())).collect()
}

#[test]
fn a_pool_is_read_with_its_defaults() {
    let spec = pool(&pool_of(json!({"addresses": ["192.0.2.0/28", "192.0.2.20 - 192.0.2.21"]}))).unwrap();
    let prefixes: Vec<_> = spec.prefixes().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["192.0.2.0/28", "192.0.2.20/31"]);
    assert_eq!((spec.name.as_str(), spec.auto_assign, spec.avoid_buggy_ips, spec.allocation), ("prod", true, false, None));
    assert_eq!(spec.labels, [("zone".to_owned(), "a".to_owned())].into());
}

#[test]
fn a_pinned_pool_is_read() {
    let spec = pool(&pool_of(json!({
        "addresses": ["2001:db8::/64"], "autoAssign": false, "avoidBuggyIPs": true,
        "serviceAllocation": {
            "priority": 50, "namespaces": ["b", "a"], "namespaceSelectors": [{"matchLabels": {"team": "x"}}],
            "serviceSelectors": [{"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web", "api"]}]}],
        },
    })))
    .unwrap();
    let allocation = spec.allocation.unwrap();
    assert_eq!((spec.auto_assign, spec.avoid_buggy_ips, allocation.priority), (false, true, Priority(50)));
    assert_eq!(allocation.namespaces, ["a".to_owned(), "b".to_owned()].into());
    let texts = |selectors: &[crate::types::labels::LabelSelector]| selectors.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (texts(&allocation.namespace_selectors), texts(&allocation.service_selectors)),
        (vec!["team=x".to_owned()], vec!["tier in (api,web)".to_owned()])
    );
    let empty = pool(&pool_of(json!({"addresses": ["192.0.2.0/28"], "serviceAllocation": {}}))).unwrap().allocation.unwrap();
    assert_eq!((empty.priority, empty.namespaces.len()), (Priority(0), 0));
}

#[test]
fn errors_of_a_pool_are_metallbs() {
    let ends = r#"parsing address pool prod: invalid CIDR "192.0.2.9-192.0.2.1" in pool "prod": invalid IP range "192.0.2.9-192.0.2.1": start IP "192.0.2.9" is after the end IP "192.0.2.1""#;
    let duplicated = json!({"matchLabels": {"a": "b"}});
    let expression = |values: Value| json!({"key": "k", "operator": "In", "values": values});
    let cases = [
        (json!({}), pairs(&[("spec.addresses", "parsing address pool prod: pool has no prefixes defined")])),
        (json!({"addresses": "192.0.2.0/24"}), pairs(&[("spec.addresses", "want a list")])),
        (
            json!({"addresses": ["192.0.2.1", "192.0.2.9-192.0.2.1"]}),
            pairs(&[
                ("spec.addresses[0]", r#"parsing address pool prod: invalid CIDR "192.0.2.1" in pool "prod": invalid CIDR "192.0.2.1""#),
                ("spec.addresses[1]", ends),
            ]),
        ),
        (
            json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": {"namespaces": ["a", "b", "a"], "priority": -1}}),
            pairs(&[
                ("spec.serviceAllocation.priority", "parsing address pool prod: priority must be 0 or more"),
                ("spec.serviceAllocation.namespaces[2]", "parsing address pool prod: duplicate definition in namespaces field"),
            ]),
        ),
        (
            json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": {
                "namespaceSelectors": [duplicated, duplicated], "serviceSelectors": [
                    {"matchExpressions": [expression(json!(["a", "b"]))]}, {"matchExpressions": [expression(json!(["b", "a"]))]},
                ],
            }}),
            pairs(&[
                (
                    "spec.serviceAllocation.namespaceSelectors[1]",
                    r#"parsing address pool prod: duplicate definition of namespaceSelectors "a=b""#,
                ),
                (
                    "spec.serviceAllocation.serviceSelectors[1]",
                    r#"parsing address pool prod: duplicate definition of serviceSelectors "k in (a,b)""#,
                ),
            ]),
        ),
        (
            json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": {
                "namespaceSelectors": [{"matchExpressions": [expression(json!(["v", "v"]))]}],
                "serviceSelectors": [{"matchExpressions": [{"key": "k", "operator": "Equals"}, {"key": "k", "operator": "In"}]}],
            }}),
            pairs(&[
                (
                    "spec.serviceAllocation.namespaceSelectors[0].matchExpressions[0].values[1]",
                    r#"parsing address pool prod: duplicate definition of match expression value in label selector "v""#,
                ),
                (
                    "spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].operator",
                    r#"parsing address pool prod: invalid service label selector "Equals" is not a valid label selector operator"#,
                ),
                (
                    "spec.serviceAllocation.serviceSelectors[0].matchExpressions[1]",
                    "parsing address pool prod: invalid service label selector for 'in', 'notin' operators, values set can't be empty",
                ),
            ]),
        ),
    ];
    for (spec, wanted) in cases {
        assert_eq!(fields(pool(&pool_of(spec.clone()))), wanted, "{spec}");
    }
    let nameless = json!({"metadata": {}, "spec": {"addresses": ["192.0.2.0/24"]}});
    assert_eq!(fields(pool(&nameless)), pairs(&[("metadata.name", "parsing address pool : missing pool name")]));
}

#[test]
fn a_repeated_expression_is_an_error() {
    let expression = json!({"key": "k", "operator": "Exists"});
    let spec =
        json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": {"serviceSelectors": [{"matchExpressions": [expression, expression]}]}});
    let found = fields(pool(&pool_of(spec)));
    assert_eq!(found[0].0, "spec.serviceAllocation.serviceSelectors[0].matchExpressions[1]");
    assert!(found[0].1.starts_with("parsing address pool prod: duplicate definition of match expressions "), "{found:?}");
    assert_eq!(found.len(), 1);
}

#[test]
fn selectors_have_the_syntax_of_labels() {
    let spec = json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": {
        "namespaceSelectors": [{"matchLabels": {"a b": "c"}}, {"matchLabels": {"a": "-"}}],
        "serviceSelectors": [{"matchExpressions": [{"key": "", "operator": "Exists"}]}, {"matchExpressions": [{"operator": "DoesNotExist"}]},
            {"matchExpressions": [{"key": "k", "operator": "In", "values": ["ok", "not ok"]}]}],
    }});
    let at = |field: &str| format!("spec.serviceAllocation.{field}");
    let (namespace, service) =
        ("parsing address pool prod: invalid namespace label selector ", "parsing address pool prod: invalid service label selector ");
    let wanted = [
        (at("namespaceSelectors[0].matchLabels.a b"), format!(r#"{namespace}key: Invalid value: "a b": name part must consist of"#)),
        (at("namespaceSelectors[1].matchLabels.a"), format!(r#"{namespace}values[0][a]: Invalid value: "-": a valid label must be"#)),
        (at("serviceSelectors[0].matchExpressions[0].key"), format!(r#"{service}key: Invalid value: "": name part must be non-empty"#)),
        (at("serviceSelectors[1].matchExpressions[0].key"), format!(r#"{service}key: Invalid value: "": name part must be non-empty"#)),
        (
            at("serviceSelectors[2].matchExpressions[0].values[1]"),
            format!(r#"{service}values[1][k]: Invalid value: "not ok": a valid label must be"#),
        ),
    ];
    let found = fields(pool(&pool_of(spec)));
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for ((field, message), (wanted_field, text)) in found.iter().zip(&wanted) {
        assert!(field == wanted_field && message.starts_with(text), "{field}: {message}");
    }
}

#[test]
fn an_advertisement_is_read() {
    let spec = advertisement(&advertisement_of(json!({
        "ipAddressPools": ["b", "a"], "ipAddressPoolSelectors": [{"matchLabels": {"zone": "a"}}], "nodeSelectors": [{"matchLabels": {"rack": "1"}}],
        "interfaces": ["eth1", "eth0", "eth1"], "serviceSelectors": [{}],
        "preferredNodeSelectors": [{"weight": 100, "preference": {"matchLabels": {"fast": "yes"}}}],
    })))
    .unwrap();
    let pools: Vec<_> = spec.pools.iter().map(PoolName::as_str).collect();
    let interfaces: Vec<_> = spec.interfaces.iter().map(InterfaceName::as_str).collect();
    assert_eq!((spec.name.as_str(), pools, interfaces), ("lan", vec!["a", "b"], vec!["eth0", "eth1"]));
    assert_eq!((spec.pool_selectors.len(), spec.node_selectors.len(), spec.service_selectors.len()), (1, 1, 1));
    assert_eq!((spec.preferences[0].weight, spec.preferences[0].selector.to_string().as_str()), (100, "fast=yes"));
    let open = advertisement(&advertisement_of(json!({}))).unwrap();
    assert!(open.covers_pool(&PoolName::new("any").unwrap(), &std::collections::BTreeMap::new()));
}

#[test]
fn errors_of_an_advertisement_are_metallbs() {
    let rack = json!({"matchLabels": {"rack": "1"}});
    let value = advertisement_of(json!({
        "ipAddressPools": ["a", "a", ""], "ipAddressPoolSelectors": [rack, rack], "nodeSelectors": [rack, rack],
        "interfaces": ["eth0", 1, "eth0/1"], "serviceSelectors": [rack, rack, {"matchExpressions": [{"key": "k", "operator": "Like"}]}],
        "preferredNodeSelectors": [{"weight": 101, "preference": {}}, {"weight": 1, "preference": {"matchExpressions": [{"key": "k", "operator": "In"}]}}],
    }));
    assert_eq!(
        fields(advertisement(&value)),
        pairs(&[
            ("spec.ipAddressPools[1]", r#"duplicate definition of ipAddressPools "a""#),
            ("spec.ipAddressPools[2]", "must not be empty"),
            ("spec.ipAddressPoolSelectors[1]", r#"duplicate definition of ipAddressPoolSelectors "rack=1""#),
            ("spec.nodeSelectors[1]", r#"duplicate definition of nodeSelectors "rack=1""#),
            ("spec.interfaces[1]", "want a text"),
            ("spec.interfaces[2]", "\"eth0/1\" is no such name, want 1 to 15 bytes without space, / and :"),
            ("spec.serviceSelectors[1]", r#"duplicate definition of serviceSelectors "rack=1""#),
            (
                "spec.serviceSelectors[2].matchExpressions[0].operator",
                r#""Like" is not a valid label selector operator: failed to parse service selector for lan"#,
            ),
            ("spec.preferredNodeSelectors[0].weight", "want a weight, 1 to 100"),
            (
                "spec.preferredNodeSelectors[1].preference.matchExpressions[0]",
                "for 'in', 'notin' operators, values set can't be empty: failed to parse preferred node selectors for lan",
            ),
        ])
    );
}
