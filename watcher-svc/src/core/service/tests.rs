use serde_json::{Value, json};

use super::*;
use crate::k8s::service::parse;

fn view(spec: Value) -> ServiceView {
    parse(&json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
}

fn wished(spec: Value, is_cluster: bool, lb_class: Option<&str>) -> Wish {
    wish(&view(spec), &Namespace::default(), &Settings { lb_class: lb_class.map(str::to_owned), is_cluster })
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
    assert_eq!(wished(balancer(json!({})), true, None), Wish::Hold(Why::NoClusterIps));
    assert_eq!(families_of(wished(balancer(json!({})), false, None)), Families::Single(Family::V4));
    assert_eq!(families_of(wished(balancer(json!({"clusterIPs": ["fd00::1"]})), true, None)), Families::Single(Family::V6));
    let both = json!({"clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilies": ["IPv6", "IPv4"]});
    assert_eq!(families_of(wished(balancer(both), true, None)), dual);
    let named = json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families_of(wished(balancer(named), false, None)), dual);
    let short = json!({"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "RequireDualStack"});
    assert_eq!(wished(balancer(short), true, None), Wish::Nothing(Why::NotEnoughClusterIps(vec!["10.0.0.1".parse().unwrap()])));
    let prefer = json!({"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(families_of(wished(balancer(prefer), true, None)), Families::Single(Family::V4), "never more than cluster IPs");
    assert!(matches!(wished(balancer(json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]})), true, None), Wish::Hold(Why::BadClusterIps(_))));
    assert!(matches!(wished(balancer(json!({"loadBalancerIP": "nonsense"})), false, None), Wish::Hold(Why::BadRequest(_))));
}
