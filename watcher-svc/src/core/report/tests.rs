use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::core::Announced;
use crate::core::service::{self, Settings};
use crate::k8s::annotations::RequestError;
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

/// A move that was not the Service's wish.
fn moved(text: &str, to: Fed) -> Fed {
    Fed { untenable: Some(Refused { reason: "U".to_owned(), message: text.to_owned() }), ..to }
}

fn text(draft: Draft) -> String {
    format!("{} {}", draft.reason, draft.note)
}

/// What each state in turn has to tell.
fn told(view: &ServiceView, states: &[Fed]) -> Vec<Vec<String>> {
    let wish = service::wish(view, &service::Namespace::default(), &Settings::default());
    let mut reported = Reported::found(view);
    states.iter().map(|fed| reported.update(view, &wish, fed, true).drafts.into_iter().map(text).collect()).collect()
}

/// What a Service that was found so has to tell at once, with Events and in the log.
fn news(object: &Value, fed: &Fed) -> (Vec<String>, Vec<Line>) {
    let view = parse(object).unwrap();
    let wish = service::wish(
        &view,
        &service::Namespace::default(),
        &Settings { is_cluster: view.cluster_ips != Ok(vec![]), ..Settings::default() },
    );
    let news = Reported::found(&view).update(&view, &wish, fed, true);
    (news.drafts.into_iter().map(text).collect(), news.lines)
}

const CLEARED: &str = "ClearAssignment current IP for \"default/web\" not allowed by config, will attempt for new IP assignment:";

#[test]
fn each_change_is_told_once_in_the_words_of_metallb() {
    let gone = r#"["192.0.2.1" "2001:db8::1"] is not allowed in config: 192.0.2.1 is in no pool"#;
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
        moved(gone, on("b", &["192.0.2.9"])),
        moved("no pool", refused("no available IPs")),
        moved("no pool", refused("no available IPs")),
    ];
    let wanted: Vec<Vec<String>> = vec![
        vec!["AllocationFailed Failed to allocate IP for \"default/web\": no available IPs".to_owned()],
        vec![],
        vec!["IPAllocated Assigned IP [\"192.0.2.1\"]".to_owned()],
        vec!["nodeAssigned announcing from node \"a\" with protocol \"layer2\"".to_owned()],
        vec![],
        vec![],
        vec![],
        vec!["nodeAssigned announcing from node \"b\" with protocol \"layer2\"".to_owned()],
        vec!["IPAllocated Assigned IP [\"192.0.2.1\" \"2001:db8::1\"]".to_owned()],
        vec![format!("{CLEARED} {gone}"), "IPAllocated Assigned IP [\"192.0.2.9\"]".to_owned()],
        vec![format!("{CLEARED} no pool"), "AllocationFailed Failed to allocate IP for \"default/web\": no available IPs".to_owned()],
        vec![],
    ];
    assert_eq!(told(&view(&json!({})), &states), wanted);
}

#[test]
fn who_announces_again_after_nobody_might_is_news() {
    let silent = Announced { reason: "no node is eligible".to_owned(), no_eligible_node: true, ..Announced::default() };
    let silent = Fed { announcements: [("192.0.2.1".parse().unwrap(), silent)].into(), ..held(&["192.0.2.1"]) };
    let assigned = || vec!["nodeAssigned announcing from node \"a\" with protocol \"layer2\"".to_owned()];
    let failed = || vec!["announceFailed nobody announces \"192.0.2.1\": no node is eligible".to_owned()];
    let here = || on("a", &["192.0.2.1"]);
    let states = [held(&["192.0.2.1"]), here(), silent.clone(), here(), held(&["192.0.2.1"]), here()];
    let allocated = vec!["IPAllocated Assigned IP [\"192.0.2.1\"]".to_owned()];
    assert_eq!(told(&view(&json!({})), &states), [allocated, assigned(), failed(), assigned(), vec![], vec![]]);
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    assert_eq!(told(&found, &[here(), silent, here()]), [vec![], failed(), assigned()]);
}

#[test]
fn what_was_found_is_no_news() {
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    let moved = "nodeAssigned announcing from node \"b\" with protocol \"layer2\"";
    assert_eq!(told(&found, &[on("a", &["192.0.2.1"]), on("b", &["192.0.2.1"])]), [vec![], vec![moved.to_owned()]]);
}

#[test]
fn what_is_wrong_with_a_service_that_was_found_with_its_address_has_been_told() {
    let object = json!({
        "metadata": {"name": "web", "annotations": {"metallb.universe.tf/allow-shared-ip": "k"}}, "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let stranger = Announced { conflict_mac: "02:00:00:00:00:01".to_owned(), no_eligible_node: true, ..Announced::default() };
    let fed = |refusal| Fed { announcements: [("192.0.2.1".parse().unwrap(), stranger.clone())].into(), refusal, ..held(&["192.0.2.1"]) };
    assert_eq!(news(&object, &fed(None)), (vec![], vec![]));
    let (drafts, lines) = news(&object, &fed(refused("full").refusal));
    assert_eq!(
        drafts,
        ["AllocationFailed Failed to allocate IP for \"default/web\": full; it keeps [\"192.0.2.1\"]"],
        "a request may be news"
    );
    assert_eq!(lines, [Line::Failed { reason: "R".to_owned(), error: "full; it keeps [\"192.0.2.1\"]".to_owned() }]);
    let other = Fed { announcements: fed(None).announcements, ..held(&["192.0.2.2"]) };
    let (drafts, lines) = news(&object, &other);
    assert_eq!(drafts.len(), 4, "with another address everything is: {drafts:?}");
    assert_eq!(lines, [Line::Deprecated("metallb.universe.tf/allow-shared-ip".to_owned())]);
}

#[test]
fn why_addresses_go_is_told_where_it_was_no_wish_of_the_service() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let asks = |annotations: Value, spec: Value| {
        let mut object = json!({"metadata": {"name": "web", "annotations": annotations}, "spec": spec, "status": status});
        object["spec"]["type"] = json!("LoadBalancer");
        object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"] = json!("old");
        object
    };
    let allocated = "IPAllocated Assigned IP [\"192.0.2.9\"]".to_owned();
    let line = |why| vec![Line::Cleared(why)];
    let cases = [
        ("another pool", asks(json!({"metallb.io/address-pool": "new"}), json!({})), None, line(Cleared::DifferentPool)),
        ("another address", asks(json!({}), json!({"loadBalancerIP": "192.0.2.9"})), None, line(Cleared::DifferentAddress)),
        ("another family", asks(json!({}), json!({})), None, vec![]),
        ("a rule", asks(json!({}), json!({"loadBalancerIP": "192.0.2.9"})), Some("no"), line(Cleared::NotAllowed("no".to_owned()))),
    ];
    for (name, object, untenable, lines) in cases {
        let fed = untenable.map_or_else(|| held(&["192.0.2.9"]), |text| moved(text, held(&["192.0.2.9"])));
        let told = untenable.map(|text| format!("{CLEARED} {text}"));
        assert_eq!(news(&object, &fed), (told.into_iter().chain([allocated.clone()]).collect(), lines), "{name}");
    }
}

#[test]
fn only_prefer_dual_stack_adds_an_address_and_says_what_it_lacks() {
    let object = |policy: &str| {
        json!({
            "metadata": {"name": "web"}, "spec": {"type": "LoadBalancer", "ipFamilyPolicy": policy, "clusterIPs": ["10.0.0.1", "fd00::1"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        })
    };
    let both = held(&["192.0.2.1", "2001:db8::1"]);
    assert_eq!(news(&object("PreferDualStack"), &both).0, ["IPAllocated Assigned additional IP \"2001:db8::1\""]);
    assert_eq!(news(&object("RequireDualStack"), &both).0, ["IPAllocated Assigned IP [\"192.0.2.1\" \"2001:db8::1\"]"]);
    let mut new = object("PreferDualStack");
    new["status"] = json!({});
    let lacking = "AdditionalAssignFailed cannot assign additional IP in PreferDualStack: \
                   no available IPs in pool p for dual IPFamily: no IPv6 address is to be had";
    assert_eq!(told(&parse(&new).unwrap(), &[held(&["192.0.2.1"]), held(&["192.0.2.1"])])[1], [""; 0], "once");
    assert_eq!(news(&new, &held(&["192.0.2.1"])).0, ["IPAllocated Assigned IP [\"192.0.2.1\"]", lacking]);
}

#[test]
fn what_makes_no_sense_is_told_by_what_the_service_has() {
    let object = |spec: Value, ingress: &[&str]| {
        let mut object = json!({"metadata": {"name": "web"}, "spec": spec, "status": {"loadBalancer": {"ingress": []}}});
        object["spec"]["type"] = json!("LoadBalancer");
        object["status"]["loadBalancer"]["ingress"] = ingress.iter().map(|ip| json!({"ip": ip})).collect();
        object
    };
    let (bad_request, bad_families) = (json!({"loadBalancerIP": "x"}), json!({"clusterIPs": ["10.0.0.1", "10.0.0.2"]}));
    let (has, none) = (held(&["192.0.2.1"]), Fed::default());
    let cases = [
        (
            &bad_request,
            &["192.0.2.1"][..],
            &has,
            "LoadBalancerFailed invalid requested loadbalancer IPs: invalid spec.loadBalancerIP \"x\"",
        ),
        (&bad_request, &["192.0.2.1"], &none, ""),
        (&bad_request, &[], &none, "AllocationFailed Failed to allocate IP for \"default/web\": invalid spec.loadBalancerIP \"x\""),
        (
            &bad_families,
            &["192.0.2.1"],
            &has,
            "noclusterIPsIPFamily Failed to retrieve ClusterIPs IPFamily for [10.0.0.1 10.0.0.2] : \
             IPFamilyForAddresses: same address family [\"10.0.0.1\" \"10.0.0.2\"]",
        ),
        (
            &bad_families,
            &[],
            &none,
            "AllocationFailed Failed to allocate IP for \"default/web\": IPFamilyForAddresses: same address family [\"10.0.0.1\" \"10.0.0.2\"]",
        ),
    ];
    for (spec, ingress, fed, wanted) in cases {
        assert_eq!(news(&object(spec.clone(), ingress), fed).0.concat(), wanted, "{spec} {ingress:?}");
    }
    let short = object(json!({"clusterIPs": ["10.0.0.1"], "ipFamilyPolicy": "RequireDualStack"}), &[]);
    assert_eq!(news(&short, &none).0, ["not enough clusterips Service requires dual stack but not enough clusterips [10.0.0.1]"]);
    let two = object(json!({}), &["192.0.2.1", "192.0.2.2"]);
    let told = news(&two, &held(&["192.0.2.1"])).0.concat();
    assert!(told.contains("nolbIPsIPFamily Failed to retrieve LBIPs IPFamily for [192.0.2.1 192.0.2.2]: "), "{told}");
}

#[test]
fn nobody_is_told_anything_while_there_is_no_pool() {
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    let wish = service::wish(&found, &service::Namespace::default(), &Settings::default());
    let mut reported = Reported::found(&found);
    let lost = reported.update(&found, &wish, &moved("no", refused("no available IPs")), false);
    assert_eq!((lost.drafts, lost.lines), (vec![], vec![Line::Cleared(Cleared::NoPools)]));
    let again = reported.update(&found, &wish, &held(&["192.0.2.1"]), true).drafts;
    assert_eq!(again, [Draft::normal("IPAllocated", "Assigned IP [\"192.0.2.1\"]".to_owned())]);
}

#[test]
fn that_nobody_may_announce_is_told() {
    let vip: Vip = "192.0.2.1".parse().unwrap();
    let last = Announced { node: NodeName::new("a"), last_resort: "node a goes on".to_owned(), ..Announced::default() };
    let silent = |reason: &str, no_eligible_node, lacks: &str| Announced {
        reason: reason.to_owned(),
        no_eligible_node,
        lacks_interfaces: NodeName::new(lacks),
        ..Announced::default()
    };
    let cases = [
        (silent("no node has a speaker", false, ""), None),
        (silent("no L2Advertisement is about pool p and this Service", false, ""), None),
        (last, Some(("lastResort", "\"192.0.2.1\" stays: node a goes on"))),
        (
            silent("no node is eligible: a: x", true, ""),
            Some(("announceFailed", "nobody announces \"192.0.2.1\": no node is eligible: a: x")),
        ),
        (
            silent("no node is eligible: a: y", true, "a"),
            Some((
                "announceFailed",
                "the interfaces specified by LB IP \"192.0.2.1\" doesn't exist in assigned node \"a\" with protocol \"layer2\": \
                 no node is eligible: a: y",
            )),
        ),
    ];
    for (announced, wanted) in cases {
        let told: Vec<(String, String)> =
            unannounced(vip, &announced).into_iter().map(|draft| (draft.reason.to_owned(), draft.note)).collect();
        assert_eq!(told, Vec::from_iter(wanted.map(|(reason, note)| (reason.to_owned(), note.to_owned()))));
    }
}

#[test]
fn a_servicel2status_says_who_announces_or_why_no_node_can() {
    let key = ServiceKey::new("default", "web").unwrap();
    let of = |announced: Announced| {
        let fed = Fed { announcements: [("192.0.2.1".parse().unwrap(), announced)].into(), ..held(&["192.0.2.1"]) };
        l2_status(&key, Some(&fed)).map(|status| status.to_json())
    };
    let reason = || "no node is eligible: a: x".to_owned();
    let names = json!({"serviceName": "web", "serviceNamespace": "default"});
    let with = |field: &str, value: &str| {
        let mut status = names.clone();
        status[field] = json!(value);
        status
    };
    assert_eq!(of(Announced { node: NodeName::new("a"), ..Announced::default() }), Some(with("node", "a")));
    assert_eq!(of(Announced { reason: reason(), no_eligible_node: true, ..Announced::default() }), Some(with("reason", &reason())));
    assert_eq!(of(Announced { reason: "no endpoint can serve".to_owned(), ..Announced::default() }), None, "as it should be");
    let mut last = with("node", "a");
    last["reason"] = json!("node a goes on");
    assert_eq!(of(Announced { node: NodeName::new("a"), last_resort: "node a goes on".to_owned(), ..Announced::default() }), Some(last));
}

#[test]
fn a_status_is_left_alone_while_nothing_is_known() {
    let found = view(&json!({"ingress": [{"ip": "192.0.2.1"}]}));
    let claim = service::wish(&found, &service::Namespace::default(), &Settings::default());
    let holding = ServiceStatus::holding(&["192.0.2.1".parse().unwrap()], &PoolName::new("p").unwrap());
    assert_eq!(status(&found, &claim, None), None);
    assert_eq!(status(&found, &claim, Some(&Fed::default())), None);
    assert_eq!(status(&found, &claim, Some(&refused("no"))), Some(ServiceStatus::cleared()));
    assert_eq!(status(&found, &claim, Some(&held(&["192.0.2.1"]))), Some(holding));
    assert_eq!(status(&found, &Wish::Foreign, Some(&held(&["192.0.2.1"]))), None);
    assert_eq!(status(&found, &Wish::Nothing(Why::NotLoadBalancer), None), Some(ServiceStatus::cleared()));
    let unclear = Wish::Hold(Why::BadRequest(RequestError::Both));
    assert_eq!(status(&found, &unclear, None), None, "it may be kept");
    assert_eq!(status(&found, &unclear, Some(&refused("no"))), Some(ServiceStatus::cleared()));
    assert_eq!(status(&view(&json!({})), &unclear, None), Some(ServiceStatus::cleared()));
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
