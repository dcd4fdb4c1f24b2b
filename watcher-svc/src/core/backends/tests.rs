use serde_json::json;

use super::*;
use crate::k8s::{annotations, endpoints, service};

fn view(policy: &str) -> ServiceView {
    service::parse(&json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy}})).unwrap()
}

fn slice(endpoints: &serde_json::Value) -> EndpointsView {
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "endpoints": endpoints});
    endpoints::parse(&slice).unwrap()
}

#[test]
fn a_service_is_reached_where_its_serving_endpoints_and_its_policy_say() {
    let nodes = |names: &[&str]| Reach::Nodes(names.iter().map(|name| NodeName::new(name).unwrap()).collect());
    let ready = json!([{"nodeName": "a", "conditions": {"ready": true}}, {"nodeName": "b", "conditions": {"ready": false}}]);
    let ending = json!([{"nodeName": "b", "conditions": {"ready": false, "serving": true, "terminating": true}}]);
    let down = json!([{"nodeName": "a", "conditions": {"ready": false}}]);
    let anywhere = json!([{"addresses": ["192.0.2.1"]}]);
    let both = json!([{"nodeName": "a"}, {"addresses": ["192.0.2.1"]}]);
    // A Pod that is served before it is ready, as its Service says `publishNotReadyAddresses`: ready, and neither serving nor ending.
    let early = json!([{"nodeName": "c", "conditions": {"ready": true, "serving": false, "terminating": false}}]);
    let table = [
        ("Cluster", vec![], true, Reach::Nowhere),
        ("Cluster", vec![], false, Reach::Anywhere),
        ("Cluster", vec![&down], false, Reach::Nowhere),
        ("Cluster", vec![&ready], true, Reach::Anywhere),
        ("Local", vec![], true, Reach::Nowhere),
        ("Local", vec![], false, Reach::Anywhere),
        ("Local", vec![&ready], true, nodes(&["a"])),
        ("Local", vec![&ready, &ending], true, nodes(&["a", "b"])),
        ("Local", vec![&anywhere], true, Reach::Anywhere),
        ("Local", vec![&both], true, Reach::Anywhere),
        ("Local", vec![&early], true, nodes(&["c"])),
        ("Local", vec![&down], false, Reach::Nowhere),
    ];
    for (policy, slices, is_cluster, wanted) in table {
        let slices: Vec<EndpointsView> = slices.into_iter().map(slice).collect();
        let settings = Settings { is_cluster, ..Settings::default() };
        assert_eq!(reach(&view(policy), slices.iter(), &settings), wanted, "{policy} {slices:?} {is_cluster}");
    }
}

#[test]
fn a_service_that_is_announced_always_needs_no_endpoint() {
    let nodes = Reach::Nodes([NodeName::new("a").unwrap()].into());
    let ready = json!([{"nodeName": "a"}]);
    let down = json!([{"nodeName": "a", "conditions": {"ready": false}}]);
    let table = [
        ("always", "Cluster", vec![], Reach::Anywhere),
        ("always", "Cluster", vec![&down], Reach::Anywhere),
        ("always", "Local", vec![&down], Reach::Anywhere),
        ("always", "Local", vec![&down, &ready], nodes),
        ("", "Cluster", vec![&down], Reach::Nowhere),
        ("never", "Cluster", vec![&down], Reach::Nowhere),
    ];
    for (announce, policy, slices, wanted) in table {
        let view = ServiceView {
            announce: annotations::announce(&[(annotations::ANNOUNCE.to_owned(), announce.to_owned())].into()),
            ..view(policy)
        };
        let slices: Vec<EndpointsView> = slices.into_iter().map(slice).collect();
        let settings = Settings { is_cluster: true, ..Settings::default() };
        assert_eq!(reach(&view, slices.iter(), &settings), wanted, "{announce} {policy} {slices:?}");
    }
}
