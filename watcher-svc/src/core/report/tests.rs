use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::core::Announced;
use crate::core::service::{self, Settings};
use crate::k8s::service::parse;

fn view(status: &Value) -> ServiceView {
    parse(&json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": status}})).unwrap()
}

fn held(addresses: &[&str]) -> Fed {
    let lease = Lease {
        service: "default/web".parse().unwrap(),
        uid: mooring_proto::types::service::ServiceUid::default(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        pool: PoolName::new("p").unwrap(),
        ports: BTreeSet::new(),
        sharing_key: None,
        backend_key: mooring_proto::types::claim::BackendKey::default(),
        revision: Revision(1),
        granted: UnixMillis(0),
        retain: None,
    };
    Fed { lease: Some(lease), ..Fed::default() }
}

fn on(node: &str, addresses: &[&str]) -> Fed {
    let announced = Announced { node: NodeName::new(node), ..Announced::default() };
    Fed { announcements: addresses.iter().map(|vip| (vip.parse().unwrap(), announced.clone())).collect(), ..held(addresses) }
}

fn refused(text: &str) -> Fed {
    Fed { refusal: Some(Refused { reason: "R".to_owned(), message: text.to_owned() }), ..Fed::default() }
}

/// What each state in turn has to tell.
fn told(view: &ServiceView, states: &[Fed]) -> Vec<Vec<String>> {
    let wish = service::wish(view, &service::Namespace::default(), &Settings::default());
    let mut reported = Reported::found(view);
    let text = |draft: Draft| format!("{} {}", draft.reason, draft.note);
    states.iter().map(|fed| reported.update(view, &wish, fed).into_iter().map(text).collect()).collect()
}

#[test]
fn each_change_is_told_once_in_the_words_of_metallb() {
    let states = [
        refused("no available IPs"),
        refused("no available IPs"),
        held(&["192.0.2.1"]),
        on("a", &["192.0.2.1"]),
        on("a", &["192.0.2.1"]),
        held(&["192.0.2.1"]),
        on("a", &["192.0.2.1"]),
        on("b", &["192.0.2.1"]),
        on("b", &["192.0.2.1", "2001:db8::1"]),
        on("b", &["192.0.2.9"]),
        refused("no pool"),
    ];
    let wanted: Vec<Vec<&str>> = vec![
        vec!["AllocationFailed Failed to allocate IP for \"default/web\": no available IPs"],
        vec![],
        vec!["IPAllocated Assigned IP [\"192.0.2.1\"]"],
        vec!["nodeAssigned announcing from node \"a\" with protocol \"layer2\""],
        vec![],
        vec![],
        vec![],
        vec!["nodeAssigned announcing from node \"b\" with protocol \"layer2\""],
        vec!["IPAllocated Assigned additional IP \"2001:db8::1\""],
        vec![
            "ClearAssignment current IP for \"default/web\" not allowed by config, will attempt for new IP assignment: \
             [\"192.0.2.1\" \"2001:db8::1\"] is in no pool that serves it",
            "IPAllocated Assigned IP [\"192.0.2.9\"]",
        ],
        vec![
            "ClearAssignment current IP for \"default/web\" not allowed by config, will attempt for new IP assignment: no pool",
            "AllocationFailed Failed to allocate IP for \"default/web\": no pool",
        ],
    ];
    assert_eq!(told(&view(&json!({})), &states), wanted);
}

#[test]
fn what_was_found_is_no_news() {
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    let moved = "nodeAssigned announcing from node \"b\" with protocol \"layer2\"";
    assert_eq!(told(&found, &[on("a", &["192.0.2.1"]), on("b", &["192.0.2.1"])]), [vec![], vec![moved.to_owned()]]);
}

#[test]
fn a_status_is_left_alone_while_nothing_is_known() {
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    let claim = service::wish(&found, &service::Namespace::default(), &Settings::default());
    let holding = ServiceStatus::holding(&["192.0.2.1".parse().unwrap()], &PoolName::new("p").unwrap());
    assert_eq!(status(&found, &claim, None, true), None);
    assert_eq!(status(&found, &claim, Some(&Fed::default()), true), None);
    assert_eq!(status(&found, &claim, Some(&refused("no")), false), None, "without any pool");
    assert_eq!(status(&found, &claim, Some(&refused("no")), true), Some(ServiceStatus::cleared()));
    assert_eq!(status(&found, &claim, Some(&held(&["192.0.2.1"])), true), Some(holding));
    assert_eq!(status(&found, &Wish::Foreign, Some(&held(&["192.0.2.1"])), true), None);
    assert_eq!(status(&found, &Wish::Nothing(Why::NotLoadBalancer), None, true), Some(ServiceStatus::cleared()));
}

#[test]
fn an_annotation_that_makes_no_sense_is_told_once_and_takes_nothing_away() {
    let annotations = json!({"mooring.io/retain": "soon"});
    let view = parse(&json!({"metadata": {"name": "web", "annotations": annotations}, "spec": {"type": "LoadBalancer"}})).unwrap();
    let wanted = "InvalidAnnotation mooring.io/retain: \"soon\" is no duration such as 24h or 30m; it counts as not given";
    let granted = "IPAllocated Assigned IP [\"192.0.2.1\"]";
    let states = [held(&["192.0.2.1"]), held(&["192.0.2.1"])];
    assert_eq!(told(&view, &states), [vec![granted.to_owned(), wanted.to_owned()], vec![]]);
}
