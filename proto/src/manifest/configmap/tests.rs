use serde_json::json;

use super::*;

fn config(text: &str) -> Parsed<LegacyConfig> {
    parse(&json!({"metadata": {"namespace": "metallb-system", "name": "config"}, "data": {"config": text}}))
}

fn errors(text: &str) -> Vec<(String, String)> {
    config(text).unwrap_err().into_iter().map(|error| (error.field, error.message)).collect()
}

const TWO_POOLS: &str = "
address-pools:
- name: default
  protocol: layer2
  addresses:
  - 172.17.200.100-172.17.200.125
- name: subnet-201
  protocol: layer2
  addresses: [172.17.201.0/24]
  auto-assign: no
  avoid-buggy-ips: true
";

#[test]
fn pools_come_with_an_advertisement_each() {
    let config = config(TWO_POOLS).unwrap();
    let pools: Vec<_> = config.pools.iter().map(|pool| (pool.name.as_str(), pool.auto_assign, pool.avoid_buggy_ips)).collect();
    assert_eq!(pools, [("default", true, false), ("subnet-201", false, true)]);
    let ads: Vec<_> =
        config.advertisements.iter().map(|ad| (ad.name.as_str(), ad.pools.iter().map(PoolName::as_str).collect::<Vec<_>>())).collect();
    assert_eq!(ads, [("l2advertisement1", vec!["default"]), ("l2advertisement2", vec!["subnet-201"])]);
    assert_eq!(config.ignored, [""; 0]);
}

#[test]
fn an_empty_document_has_no_pools() {
    for text in ["", "\n", "# nothing\n", "address-pools:\n", "address-pools: []\n", "{}"] {
        assert_eq!(config(text), Ok(LegacyConfig::default()), "{text:?}");
    }
}

#[test]
fn what_only_bgp_needs_is_named_as_ignored() {
    let text = format!(
        "{TWO_POOLS}peers:\n- my-asn: 1\n  peer-asn: 2\n  peer-address: 10.0.0.1\nbgp-communities: {{a: '1:2'}}\nbfd-profiles: []\n"
    );
    let config = config(&text).unwrap();
    assert_eq!((config.pools.len(), config.ignored), (2, vec!["peers", "bgp-communities", "bfd-profiles"]));
}

#[test]
fn what_only_bgp_needs_is_strict_too() {
    let peer = "my-asn: 64500, peer-asn: 64501, peer-address: 10.0.0.1, peer-port: 179, source-address: 10.0.0.2, hold-time: 90s, \
                keepalive-time: 30s, router-id: 10.0.0.3, password: x, bfd-profile: b, ebgp-multihop: true";
    let profile = "name: b, receive-interval: 100, transmit-interval: 100, detect-multiplier: 3, echo-interval: 50, echo-mode: true, \
                   passive-mode: false, minimum-ttl: 254";
    let nodes = "node-selectors: [{match-labels: {a: b}}, {match-expressions: [{key: a, operator: In, values: [b]}]}]";
    assert!(config(&format!("peers: [{{{peer}, {nodes}}}]\nbfd-profiles: [{{{profile}}}]\n")).is_ok());
    for text in
        ["peers: [{my_asn: 1}]", "peers: [{node-selectors: [{matchLabels: {}}]}]", "bfd-profiles: [{ttl: 1}]", "bgp-communities: [a]"]
    {
        let found = errors(text);
        assert!(found.len() == 1 && found[0].1.starts_with("could not parse config: "), "{text}: {found:?}");
    }
    let pool =
        |bgp: &str| format!("address-pools: [{{name: p, protocol: layer2, addresses: [192.0.2.0/24], bgp-advertisements: [{bgp}]}}]");
    assert!(config(&pool("")).is_ok(), "an empty list asks for nothing");
    let announced = "{aggregation-length: 32, aggregation-length-v6: 128, localpref: 100, communities: [a]}";
    assert!(errors(&pool(announced))[0].1.contains("cannot have bgp-advertisements"));
    assert!(errors(&pool("{length: 32}"))[0].1.starts_with("could not parse config: "));
}

#[test]
fn a_pool_has_metallbs_messages() {
    let pool = |rest: &str| format!("address-pools:\n- name: p\n  {rest}\n");
    let layer2 = "protocol: layer2";
    let cases = [
        (format!("address-pools:\n- {layer2}\n  addresses: [192.0.2.0/24]\n"), ".name", "missing pool name"),
        (pool(layer2), ".addresses", "pool has no prefixes defined"),
        (
            pool("protocol: layer2\n  addresses: [192.0.2.1]"),
            ".addresses[0]",
            r#"invalid CIDR "192.0.2.1" in pool "p": invalid CIDR "192.0.2.1""#,
        ),
        (
            pool("protocol: layer2\n  addresses: [192.0.2.0/24, 192.0.3.9-192.0.3.1]"),
            ".addresses[1]",
            r#"invalid CIDR "192.0.3.9-192.0.3.1" in pool "p": invalid IP range "192.0.3.9-192.0.3.1": start IP "192.0.3.9" is after the end IP "192.0.3.1""#,
        ),
        (pool("addresses: [192.0.2.0/24]"), ".protocol", "address pool is missing the protocol field"),
        (pool("addresses: [192.0.2.0/24]\n  protocol: layer3"), ".protocol", r#"unknown protocol "layer3""#),
        (
            pool("addresses: [192.0.2.0/24]\n  protocol: bgp"),
            ".protocol",
            r#"protocol "bgp" is not supported: Mooring announces by layer 2 only for now"#,
        ),
        (
            pool("addresses: [192.0.2.0/24]\n  protocol: layer2\n  bgp-advertisements: [{aggregation-length: 32}]"),
            ".bgp-advertisements",
            "cannot have bgp-advertisements configuration element in a layer2 address pool",
        ),
    ];
    for (text, field, message) in cases {
        let wanted = (format!("data.config.address-pools[0]{field}"), format!("parsing address pool #1: {message}"));
        assert_eq!(errors(&text), [wanted], "{text}");
    }
}

#[test]
fn all_errors_come_together_and_count_from_one() {
    let text = "address-pools:\n- name: a\n- name: b\n  protocol: x\n  addresses: [1]\n";
    let messages: Vec<String> = errors(text).into_iter().map(|(_, message)| message).collect();
    assert_eq!(
        messages,
        [
            "parsing address pool #1: pool has no prefixes defined",
            "parsing address pool #1: address pool is missing the protocol field",
            r#"parsing address pool #2: invalid CIDR "1" in pool "b": invalid CIDR "1""#,
            r#"parsing address pool #2: unknown protocol "x""#,
        ]
    );
}

#[test]
fn what_is_no_such_document_could_not_be_parsed() {
    for text in [
        "address-pools: {",
        "address-pools: 3",
        "address-pool: []",
        "address-pools:\n- name: a\n  auto_assign: true\n",
        "- a",
        "address-pools:\n- name: a\n  auto-assign: maybe\n",
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, "data.config");
        assert!(found[0].1.starts_with("could not parse config: "), "{text}: {found:?}");
        assert!(!found[0].1.contains('\n'), "one line: {found:?}");
    }
}

#[test]
fn a_config_map_without_the_key_says_so() {
    let found = parse(&json!({"metadata": {"namespace": "metallb-system", "name": "config"}, "data": {}})).unwrap_err();
    assert_eq!(found[0].to_string(), "ConfigMap metallb-system/config: data.config: required");
}
