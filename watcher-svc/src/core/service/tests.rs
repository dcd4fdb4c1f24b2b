use serde_json::{Value, json};

use super::*;
use crate::k8s::service::parse;

fn view(spec: Value) -> ServiceView {
    parse(&json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn wished(spec: Value, is_cluster: bool, lb_class: Option<&str>) -> Wish {
    wish(&view(spec), &Namespace::default(), &Settings { lb_class: lb_class.map(str::to_owned), is_cluster, is_shadow: false })
}

fn families_of(wish: Wish) -> Families {
    let Wish::Claim(claim) = wish else { panic!("{wish:?}") };
    claim.families
}

#[test]
fn only_load_balancers_of_the_own_class_claim() {
    let table = [
        (json!({"type": "ClusterIP"}), None, Some(Wish::Nothing(Why::NotLoadBalancer))),
        (json!({"type": "ClusterIP"}), Some("own"), Some(Wish::Foreign)),
        (json!({"type": "LoadBalancer", "loadBalancerClass": "other"}), None, Some(Wish::Foreign)),
        (json!({"type": "LoadBalancer"}), Some("own"), Some(Wish::Foreign)),
        (json!({"type": "LoadBalancer", "loadBalancerClass": "own"}), Some("own"), None),
        (json!({"type": "LoadBalancer"}), None, None),
    ];
    for (spec, class, wanted) in table {
        let found = wished(spec.clone(), false, class);
        assert!(wanted.as_ref().map_or(matches!(found, Wish::Claim(_)), |wanted| found == *wanted), "{spec}: {found:?}");
    }
}

#[test]
fn a_claim_says_how_long_to_retain_and_how_much_its_namespace_may_hold() {
    let claimed = |retain: &str, quota: Option<u32>| {
        let object = json!({"metadata": {"name": "web", "annotations": {"mooring.io/retain": retain}}, "spec": {"type": "LoadBalancer"}});
        let namespace = Namespace { quota, ..Namespace::default() };
        let wish = wish(&parse(&object).unwrap(), &namespace, &Settings::default());
        let Wish::Claim(claim) = wish else { panic!("{wish:?}") };
        (claim.retain, claim.quota)
    };
    assert_eq!(claimed("24h", Some(10)), (Some(std::time::Duration::from_secs(86_400)), Some(10)));
    assert_eq!(claimed("soon", None), (None, None), "what makes no sense counts as not given");
}

#[test]
fn families_are_those_of_the_cluster_ips_and_in_a_directory_those_named() {
    let dual = Families::Dual { primary: Family::V6 };
    let balancer = |change: Value| {
        let mut spec = json!({"type": "LoadBalancer"});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        spec
    };
    assert_eq!(wished(balancer(json!({})), true, None), Wish::Nothing(Why::NoClusterIps));
    assert_eq!(families_of(wished(balancer(json!({})), false, None)), Families::Single(Family::V4));
    assert_eq!(families_of(wished(balancer(json!({"clusterIPs": ["fd00::1"]})), true, None)), Families::Single(Family::V6));
    let both = json!({"clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilies": ["IPv6", "IPv4"]});
    assert_eq!(families_of(wished(balancer(both), true, None)), dual);
    let named = json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families_of(wished(balancer(named), false, None)), dual);
    let short = json!({"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "RequireDualStack"});
    assert_eq!(wished(balancer(short), true, None), Wish::Nothing(Why::NotEnoughClusterIps(vec!["10.0.0.1".to_owned()])));
    let unparsed = json!({"clusterIPs": ["x"], "ipFamilyPolicy": "RequireDualStack"});
    assert_eq!(wished(balancer(unparsed), true, None), Wish::Nothing(Why::NotEnoughClusterIps(vec!["x".to_owned()])), "counted first");
    let unlisted = json!({"clusterIP": "10.0.0.1", "ipFamilyPolicy": "RequireDualStack"});
    assert_eq!(wished(balancer(unlisted), true, None), Wish::Nothing(Why::NotEnoughClusterIps(vec![])));
    let unnamed = json!({"clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families_of(wished(balancer(unnamed), true, None)), Families::Dual { primary: Family::V4 }, "no ipFamilies");
    assert!(matches!(wished(balancer(json!({"clusterIP": "None"})), true, None), Wish::Hold(Why::BadClusterIps(_))));
    let prefer = json!({"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families_of(wished(balancer(prefer), true, None)), Families::Single(Family::V4), "never more than cluster IPs");
    assert!(matches!(wished(balancer(json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]})), true, None), Wish::Hold(Why::BadClusterIps(_))));
    assert!(matches!(wished(balancer(json!({"loadBalancerIP": "nonsense"})), false, None), Wish::Hold(Why::BadRequest(_))));
}

#[test]
fn what_makes_no_sense_keeps_just_what_is_there_under_the_present_ports_and_keys() {
    let object = json!({
        "metadata": {"name": "web", "labels": {"a": "b"}, "annotations": {
            "metallb.io/loadBalancerIPs": "garbage", "metallb.io/address-pool": "other", "metallb.io/allow-shared-ip": "k",
        }},
        "spec": {"type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let (view, has) = (parse(&object).unwrap(), ["192.0.2.1".parse().unwrap()]);
    let kept = keeping(&view, &Namespace::default(), &has);
    assert_eq!((kept.requested_addresses.as_slice(), kept.requested_pool), (&has[..], None));
    assert_eq!((kept.families, kept.policy), (Families::Single(Family::V4), FamilyPolicy::SingleStack), "no second one is added");
    assert_eq!((kept.ports, kept.sharing_key, kept.labels), (view.ports, view.sharing_key, view.labels));
}

/// A Service's object as another implementation leaves it: metadata, what its spec has besides, and its ingress entries.
fn left_by(metadata: Value, more: Value, ingress: Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": "default", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ports": [{"port": 80, "nodePort": 30080}]},
        "status": {"conditions": [], "loadBalancer": {"ingress": ingress}},
    });
    for (part, more) in [("metadata", metadata), ("spec", more)] {
        object[part].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    object
}

#[test]
fn what_others_have_left_in_a_status_is_what_a_claim_adopts() {
    let annotated = |key: &str, value: &str| json!({"annotations": {key: value}});
    let dual = json!({"clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"});
    let cases = [
        // MetalLB before and after ipMode, and its three names for the pool.
        (json!({}), json!({}), json!([{"ip": "192.0.2.7"}]), vec!["192.0.2.7"], vec![]),
        (annotated("metallb.universe.tf/ip-allocated-from-pool", "p"), json!({}), json!([{"ip": "192.0.2.7"}]), vec!["192.0.2.7"], vec![]),
        (
            annotated("metallb.io/ip-allocated-from-pool", "p"),
            json!({}),
            json!([{"ip": "192.0.2.7", "ipMode": "VIP"}]),
            vec!["192.0.2.7"],
            vec![],
        ),
        (json!({}), dual.clone(), json!([{"ip": "192.0.2.7"}, {"ip": "2001:DB8:0::7"}]), vec!["192.0.2.7", "2001:db8::7"], vec![]),
        (json!({}), dual, json!([{"ip": "2001:db8::7"}, {"ip": "192.0.2.7"}]), vec!["2001:db8::7", "192.0.2.7"], vec![]),
        // kube-vip: ports with each entry; its provider's wish stands in an annotation of its own, and before that in the field.
        (
            json!({"annotations": {"kube-vip.io/loadbalancerIPs": "192.0.2.7", "kube-vip.io/vipHost": "node-a"}, "labels": {"implementation": "kube-vip"}}),
            json!({"loadBalancerIP": "192.0.2.7"}),
            json!([{"ip": "192.0.2.7", "ipMode": "VIP", "ports": [{"port": 80, "protocol": "TCP"}]}]),
            vec!["192.0.2.7"],
            vec!["192.0.2.7"],
        ),
        (annotated("kube-vip.io/loadbalancerIPs", "192.0.2.9"), json!({}), json!([{"ip": "192.0.2.7"}]), vec!["192.0.2.7"], vec![]),
        // Host names are no addresses, and neither is an entry without anything.
        (json!({}), json!({}), json!([{"hostname": "web.example"}, {"ip": "192.0.2.7", "hostname": "web"}, {}]), vec!["192.0.2.7"], vec![]),
        (json!({}), json!({}), json!([{"ip": "192.0.2.7", "ipMode": "Proxy"}]), vec!["192.0.2.7"], vec![]),
        (json!({}), json!({}), json!([{"hostname": "web.example"}]), vec![], vec![]),
        (json!({}), json!({}), json!(null), vec![], vec![]),
        // What no Service can hold together is as good as nothing (MetalLB behaviour 3.4, step 6).
        (json!({}), json!({}), json!([{"ip": "192.0.2.7"}, {"ip": "192.0.2.8"}]), vec![], vec![]),
        (json!({}), json!({}), json!([{"ip": "pending"}]), vec![], vec![]),
    ];
    for (metadata, more, ingress, adopt, requested) in cases {
        let object = left_by(metadata, more, ingress);
        for settings in [Settings { is_cluster: true, ..Settings::default() }, Settings { is_shadow: true, ..Settings::default() }] {
            let Wish::Claim(claim) = wish(&parse(&object).unwrap(), &Namespace::default(), &settings) else { panic!("{object}") };
            let text = |list: &[Vip]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!((text(&claim.adopt), text(&claim.requested_addresses)), (strings(&adopt), strings(&requested)), "{object}");
        }
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}
