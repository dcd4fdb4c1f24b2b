use serde_json::json;

use super::*;

fn object(namespace: &str, name: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "namespace": namespace, "name": name, "managedFields": [{"manager": "kubectl"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
        },
        "spec": {"type": "LoadBalancer"},
    }))
    .unwrap()
}

fn trimmed(namespace: &str, name: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "annotations": {"a": "b"}}, "spec": {"type": "LoadBalancer"}})
}

fn refused(code: u16) -> Failure {
    Failure::new(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(Status { code, ..Status::default() }))))
}

fn list(view: &mut View, kind: Kind, names: &[&str]) -> Vec<Change> {
    assert_eq!(view.take(kind, Event::Init), []);
    for name in names {
        assert_eq!(view.take(kind, Event::InitApply(object("default", name))), []);
    }
    view.take(kind, Event::InitDone)
}

#[test]
fn a_list_counts_once_it_is_complete() {
    let mut view = View::default();
    let listed = |objects| vec![Change::Listed { kind: Kind::Service, objects }];
    assert_eq!(list(&mut view, Kind::Service, &["a", "b"]), listed(vec![trimmed("default", "a"), trimmed("default", "b")]));
    assert_eq!(view.take(Kind::Service, Event::Init), []);
    assert_eq!(view.take(Kind::Service, Event::InitApply(object("default", "c"))), []);
    assert_eq!(view.failed(Kind::Service, &refused(500)), [], "a list that breaks half-way changes nothing");
    assert_eq!(list(&mut view, Kind::Service, &["a"]), listed(vec![trimmed("default", "a")]));
}

#[test]
fn objects_come_and_go_without_their_ballast() {
    let mut view = View::default();
    let applied = Change::Applied { kind: Kind::Service, object: trimmed("default", "a"), origin: None };
    assert_eq!(view.take(Kind::Service, Event::Apply(object("default", "a"))), [applied]);
    let deleted = Change::Deleted { kind: Kind::Service, object: ObjectRef::new("Service", "default", "a") };
    assert_eq!(view.take(Kind::Service, Event::Delete(object("default", "a"))), [deleted]);
}

#[test]
fn synced_is_said_once_after_every_kind() {
    let mut view = View::default();
    for kind in Kind::ALL {
        let changes = list(&mut view, kind, &[]);
        assert_eq!(changes.contains(&Change::Synced), kind == Kind::Service, "{kind:?}");
    }
    for kind in Kind::ALL {
        assert_eq!(list(&mut view, kind, &[]), [Change::Listed { kind, objects: vec![] }]);
    }
}

#[test]
fn a_definition_that_is_not_installed_means_no_objects_and_one_that_went_changes_nothing() {
    let mut view = View::default();
    assert_eq!(view.failed(Kind::IpAddressPool, &refused(404)), [Change::Listed { kind: Kind::IpAddressPool, objects: vec![] }]);
    assert_eq!(view.failed(Kind::IpAddressPool, &refused(404)), []);
    assert_eq!(list(&mut view, Kind::IpAddressPool, &["a"]).len(), 1);
    assert_eq!(view.failed(Kind::IpAddressPool, &refused(404)), []);
    assert_eq!(view.failed(Kind::L2Advertisement, &refused(403)), [], "a right that is missing says nothing of objects");
    assert_eq!(view.failed(Kind::Service, &refused(404)), [], "every API server has Services");
}

#[test]
fn only_an_answer_shows_that_the_api_server_is_there() {
    let unreachable = || kube::Error::Service("connection refused".into());
    let gone = || Box::new(Status { code: 410, ..Status::default() });
    let cases = [
        (refused(403), true, true),
        (refused(410), true, false),
        (refused(503), false, true),
        (Failure::new(watcher::Error::WatchError(gone())), true, false),
        (Failure::new(watcher::Error::WatchStartFailed(kube::Error::Api(gone()))), true, false),
        (Failure::new(watcher::Error::WatchFailed(unreachable())), false, false),
        (Failure::new(watcher::Error::WatchStartFailed(unreachable())), false, false),
        (Failure::new(watcher::Error::InitialListFailed(unreachable())), false, false),
        (Failure::new(watcher::Error::NoResourceVersion), true, true),
    ];
    for (failure, answer, warning) in cases {
        assert_eq!((failure.is_answer(), failure.is_worth_a_warning()), (answer, warning), "{}", failure.error);
    }
}
