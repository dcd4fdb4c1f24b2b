use super::*;

fn holding(addresses: &[&str]) -> ServiceStatus {
    let addresses: Vec<Vip> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    ServiceStatus::holding(&addresses, &PoolName::new("default").unwrap())
}

#[test]
fn a_status_in_force_is_not_written_again() {
    assert_eq!(patch(&ServiceUid::default(), &holding(&["192.0.2.1"]), &holding(&["192.0.2.1"])), None);
    assert_eq!(patch(&ServiceUid::default(), &ServiceStatus::cleared(), &ServiceStatus::cleared()), None);
}

#[test]
fn a_patch_carries_what_differs_and_nothing_else() {
    let uid = ServiceUid("u-1".to_owned());
    let key = "metallb.io/ip-allocated-from-pool";
    let entry = |ip: &str| json!({"ip": ip, "ipMode": "VIP"});
    let ingress = |entries: Value| json!({"loadBalancer": {"ingress": entries}});
    let mut without_mode = holding(&["192.0.2.1"]);
    without_mode.ingress[0].ip_mode.clear();
    let mut foreign = holding(&["192.0.2.1"]);
    foreign.ingress.push(Ingress { hostname: "web.example".to_owned(), ..Ingress::default() });
    let mut other_pool = holding(&["192.0.2.1"]);
    other_pool.pool = Some("other".to_owned());
    let granted = json!({"metadata": {"uid": "u-1", "annotations": {key: "default"}}, "status": ingress(json!([entry("192.0.2.1")]))});
    let cleared = json!({"metadata": {"uid": "u-1", "annotations": {key: null}}, "status": ingress(json!(null))});
    let only_status = json!({"metadata": {"uid": "u-1"}, "status": ingress(json!([entry("192.0.2.1")]))});
    let only_pool = json!({"metadata": {"uid": "u-1", "annotations": {key: "default"}}});
    let cases = [
        ("granted", ServiceStatus::cleared(), holding(&["192.0.2.1"]), granted),
        ("cleared", holding(&["192.0.2.1"]), ServiceStatus::cleared(), cleared),
        ("mode added", without_mode, holding(&["192.0.2.1"]), only_status.clone()),
        ("host name removed", foreign, holding(&["192.0.2.1"]), only_status),
        ("pool renamed", other_pool, holding(&["192.0.2.1"]), only_pool),
    ];
    for (name, found, wanted, patch_wanted) in cases {
        assert_eq!(patch(&uid, &found, &wanted), Some(patch_wanted), "{name}");
    }
}

#[test]
fn a_manifest_has_no_uid_to_guard_with() {
    let patch = patch(&ServiceUid::default(), &ServiceStatus::cleared(), &holding(&["192.0.2.1"])).unwrap();
    assert_eq!(patch["metadata"], json!({"annotations": {"metallb.io/ip-allocated-from-pool": "default"}}));
}

#[test]
fn a_status_reads_as_kubectl_shows_it() {
    let dual = holding(&["192.0.2.1", "2001:db8::1"]);
    let entries = json!([{"ip": "192.0.2.1", "ipMode": "VIP"}, {"ip": "2001:db8::1", "ipMode": "VIP"}]);
    assert_eq!(dual.to_json(), json!({"loadBalancer": {"ingress": entries}}));
    assert_eq!(Value::Object(dual.annotations()), json!({"metallb.io/ip-allocated-from-pool": "default"}));
    assert_eq!(ServiceStatus::cleared().to_json(), json!({"loadBalancer": {}}));
    assert_eq!(ServiceStatus::cleared().annotations(), Map::new());
}
