use serde_json::json;

use super::*;

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": spec})
}

fn texts(errors: &[super::super::ParseError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_manifest_reads_with_the_defaults_of_the_api_server() {
    let view = parse(&service(json!({"type": "LoadBalancer", "ports": [{"port": 8080, "targetPort": "http"}]}))).unwrap();
    let wanted = ServiceView {
        key: ServiceKey::new("default", "web").unwrap(),
        uid: ServiceUid::default(),
        labels: Labels::new(),
        service_type: ServiceType::LoadBalancer,
        class: None,
        cluster_ips: Ok(vec![]),
        cluster_ip_list: vec![],
        families: vec![],
        policy: FamilyPolicy::SingleStack,
        ports: [ServicePort { protocol: Protocol::Tcp, port: 8080 }].into(),
        requested_addresses: Ok(vec![]),
        requested_pool: None,
        sharing_key: None,
        retain: Ok(None),
        deprecated_annotations: vec![],
        traffic_policy: TrafficPolicy::Cluster,
        backend_key: BackendKey::default(),
        status: ServiceStatus::cleared(),
        assigned: Ok(vec![]),
        created: None,
        deleting: false,
    };
    assert_eq!(view, wanted);
}

#[test]
fn a_stored_object_reads_with_every_field() {
    let view = parse(&json!({
        "metadata": {
            "namespace": "kube-system", "name": "dns", "uid": "u-1", "labels": {"a": "b"},
            "creationTimestamp": "2026-07-19T10:00:00Z", "deletionTimestamp": "2026-07-19T11:00:00Z",
            "annotations": {
                "metallb.universe.tf/allow-shared-ip": "dns", "metallb.io/address-pool": "p", "metallb.io/ip-allocated-from-pool": "q",
                "metallb.io/loadBalancerIPs": "192.0.2.1,2001:db8::1", "mooring.io/retain": "90m",
            },
        },
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "example.com/x", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack", "externalTrafficPolicy": "Local",
            "selector": {"b": "2", "a": "1"},
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}, {"port": 9, "protocol": "SCTP"}],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1", "ipMode": "VIP"}, {"hostname": "x.example"}, {"ip": "2001:DB8::1", "ports": [{"port": 53}]},
        ]}},
    }))
    .unwrap();
    let vips: Vec<Vip> = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let port = |protocol, port| ServicePort { protocol, port };
    let ingress = |ip: &str, hostname: &str, ip_mode: &str, has_ports| Ingress {
        ip: ip.to_owned(),
        hostname: hostname.to_owned(),
        ip_mode: ip_mode.to_owned(),
        has_ports,
    };
    let wanted = ServiceView {
        key: ServiceKey::new("kube-system", "dns").unwrap(),
        uid: ServiceUid("u-1".to_owned()),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        service_type: ServiceType::LoadBalancer,
        class: Some("example.com/x".to_owned()),
        cluster_ips: Ok(vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]),
        cluster_ip_list: vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()],
        families: vec![Family::V4, Family::V6],
        policy: FamilyPolicy::RequireDualStack,
        ports: [port(Protocol::Udp, 53), port(Protocol::Tcp, 53), port(Protocol::Sctp, 9)].into(),
        requested_addresses: Ok(vips.clone()),
        requested_pool: PoolName::new("p"),
        sharing_key: SharingKey::new("dns"),
        retain: Ok(Some(Duration::from_secs(5_400))),
        deprecated_annotations: vec!["metallb.universe.tf/allow-shared-ip".to_owned()],
        traffic_policy: TrafficPolicy::Local,
        backend_key: BackendKey("local:a=1,b=2".to_owned()),
        status: ServiceStatus {
            ingress: vec![
                ingress("192.0.2.1", "", "VIP", false),
                ingress("", "x.example", "", false),
                ingress("2001:DB8::1", "", "", true),
            ],
            pool: Some("q".to_owned()),
        },
        assigned: Ok(vips),
        created: Some(UnixMillis(1_784_455_200_000)),
        deleting: true,
    };
    assert_eq!(view, wanted);
}

#[test]
fn the_pool_written_is_that_of_the_current_key_alone() {
    let written = |annotations: Value| {
        let view = parse(&json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {"type": "LoadBalancer"}})).unwrap();
        (view.status.pool, view.deprecated_annotations.len())
    };
    assert_eq!(written(json!({"metallb.universe.tf/ip-allocated-from-pool": "p"})), (None, 1));
    assert_eq!(written(json!({"metallb.io/ip-allocated-from-pool": "p"})), (Some("p".to_owned()), 0));
}

#[test]
fn all_errors_of_a_service_come_together() {
    let value = json!({
        "metadata": {"name": "web", "labels": [], "creationTimestamp": "yesterday"},
        "spec": {
            "type": "LoadBalanced", "ipFamilies": ["IPv5"], "ipFamilyPolicy": "Dual", "externalTrafficPolicy": "local",
            "ports": [{"port": 80, "protocol": "TPC"}, {"port": 0}, {"port": 65536}, {"port": "http"}, {}],
        },
    });
    assert_eq!(
        texts(&parse(&value).unwrap_err()),
        [
            r#"Service default/web: spec.externalTrafficPolicy: "local": unknown policy, want Cluster or Local"#,
            "Service default/web: metadata.labels: []: want an object of texts",
            r#"Service default/web: spec.type: "LoadBalanced": unknown type, want ClusterIP, NodePort, LoadBalancer or ExternalName"#,
            r#"Service default/web: spec.ipFamilies[0]: "IPv5": unknown family, want IPv4 or IPv6"#,
            r#"Service default/web: spec.ipFamilyPolicy: "Dual": unknown policy, want SingleStack, PreferDualStack or RequireDualStack"#,
            r#"Service default/web: spec.ports[0].protocol: "TPC": unknown protocol "TPC", want TCP, UDP or SCTP"#,
            "Service default/web: spec.ports[1].port: 0: want a port number, 1 to 65535",
            "Service default/web: spec.ports[2].port: 65536: want a port number, 1 to 65535",
            r#"Service default/web: spec.ports[3].port: "http": want a whole number"#,
            "Service default/web: spec.ports[4].port: required",
            r#"Service default/web: metadata.creationTimestamp: "yesterday": want a time as RFC 3339 writes it"#,
        ]
    );
    assert_eq!(texts(&parse(&json!({})).unwrap_err()), ["Service default/: metadata.name: required"]);
}

#[test]
fn cluster_ips_are_one_address_or_one_of_each_family() {
    let failed = |list: &str, why: &str| Err(format!("Failed to retrieve ClusterIPs IPFamily for [{list}] : {why}"));
    let cases = [
        (json!({}), Ok(vec![])),
        (json!({"clusterIP": "", "clusterIPs": []}), Ok(vec![])),
        (
            json!({"clusterIP": "None", "clusterIPs": ["None"]}),
            Err(r#"Failed to retrieve ClusterIPs IPFamily for [None] None: invalid IP address "None""#.to_owned()),
        ),
        (json!({"clusterIP": "10.0.0.1"}), Ok(vec!["10.0.0.1"])),
        (json!({"clusterIP": "10.0.0.9", "clusterIPs": ["fd00::1", "10.0.0.1"]}), Ok(vec!["fd00::1", "10.0.0.1"])),
        (json!({"clusterIPs": ["x"]}), failed("x", r#"invalid IP address "x""#)),
        (
            json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
            failed("10.0.0.1 10.0.0.2", r#"IPFamilyForAddresses: same address family ["10.0.0.1" "10.0.0.2"]"#),
        ),
        (
            json!({"clusterIP": "10.0.0.1.2"}),
            Err(r#"Failed to retrieve ClusterIPs IPFamily for [] 10.0.0.1.2: invalid IP address "10.0.0.1.2""#.to_owned()),
        ),
    ];
    for (spec, wanted) in cases {
        let got = parse(&service(spec.clone())).unwrap().cluster_ips;
        let wanted = wanted.map(|list| list.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(got.map_err(|error| error.to_string()), wanted, "{spec}");
    }
}

#[test]
fn a_bad_request_or_status_leaves_the_rest_of_the_view() {
    let view = parse(&json!({
        "metadata": {"name": "web", "annotations": {"metallb.io/loadBalancerIPs": "web"}},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}},
    }))
    .unwrap();
    assert_eq!(view.requested_addresses, Err(RequestError::Annotation("web".to_owned())));
    assert_eq!(
        view.assigned.unwrap_err().to_string(),
        r#"Failed to retrieve LBIPs IPFamily for [192.0.2.1 192.0.2.2]: IPFamilyForAddresses: same address family ["192.0.2.1" "192.0.2.2"]"#
    );
    assert_eq!(view.service_type, ServiceType::LoadBalancer);
}
