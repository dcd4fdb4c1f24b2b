use mooring_proto::types::node::NodeName;
use mooring_proto::types::service::ServiceUid;
use mooring_proto::types::time::UnixMillis;

use super::*;
use crate::k8s::ObjectRef;
use crate::k8s::status::{ServiceStatus, patch};
use crate::source::event::{EventType, Reporter};

fn key() -> ServiceKey {
    "default/web".parse().unwrap()
}

fn granted() -> Value {
    let wanted = ServiceStatus::holding(&["192.0.2.1".parse().unwrap()], &PoolName::new("p").unwrap());
    patch(&ServiceUid::default(), &ServiceStatus::cleared(), &wanted).unwrap()
}

#[test]
fn a_service_is_written_as_kubectl_shows_it_and_read_back_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    folder.patch_service(&key(), &granted()).unwrap();
    let wanted = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}, "name": "web", "namespace": "default"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
    });
    let found = StatusDir::open(root.path(), "metallb-system").unwrap().statuses().unwrap();
    assert_eq!(found, [(key(), wanted)].into());
    let cleared =
        json!({"metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": null}}, "status": {"loadBalancer": {"ingress": null}}});
    folder.patch_service(&key(), &cleared).unwrap();
    let service = &folder.statuses().unwrap()[&key()];
    assert_eq!((&service["status"], &service["metadata"]["annotations"]), (&json!({"loadBalancer": {}}), &json!({})));
    folder.forget_service(&key()).unwrap();
    folder.forget_service(&key()).unwrap();
    assert!(folder.services().unwrap().is_empty());
}

#[test]
fn a_file_that_says_the_same_is_not_replaced() {
    use std::os::unix::fs::MetadataExt as _;
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    let inode = || fs::metadata(root.path().join("services/default_web.yaml")).unwrap().ino();
    folder.patch_service(&key(), &granted()).unwrap();
    let before = inode();
    folder.patch_service(&key(), &granted()).unwrap();
    assert_eq!(inode(), before);
}

#[test]
fn a_broken_status_file_is_written_anew() {
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    fs::write(root.path().join("services/default_web.yaml"), "a: [").unwrap();
    assert!(folder.statuses().unwrap().is_empty());
    folder.patch_service(&key(), &granted()).unwrap();
    assert_eq!(folder.statuses().unwrap().len(), 1);
}

#[test]
fn pools_and_announcers_come_and_go_and_no_name_leads_out_of_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    let pools = ["p", "../q", "r/s"].map(|name| PoolName::new(name).unwrap());
    for pool in &pools {
        folder.write_pool(pool, &PoolStatus::default()).unwrap();
    }
    assert_eq!(folder.files(POOLS).unwrap().len(), 3);
    folder.retain_pools(&[pools[0].clone()].into()).unwrap();
    assert_eq!(folder.files(POOLS).unwrap(), [root.path().join("ipaddresspools/p.yaml")]);
    let status = L2Status { service: key(), node: NodeName::new("n"), interfaces: vec![], reason: String::new() };
    folder.write_l2(&key(), Some(&status)).unwrap();
    assert_eq!(folder.services().unwrap(), [key()]);
    let object = read(&root.path().join("servicel2statuses/default_web.yaml")).unwrap();
    assert_eq!((&object["metadata"]["namespace"], &object["status"]["serviceNamespace"]), (&json!("metallb-system"), &json!("default")));
    assert!(object["metadata"]["name"].as_str().unwrap().starts_with("l2-"), "{object}");
    folder.write_l2(&key(), None).unwrap();
    assert!(folder.services().unwrap().is_empty());
}

#[test]
fn verdicts_on_the_configuration_come_and_go() {
    use crate::k8s::crd::{Component, Verdict};
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    let of = |component| ConfigurationStatus { component, verdict: Verdict::Valid };
    let (controller, speaker) = (of(Component::Controller), of(Component::Speaker(NodeName::new("a").unwrap())));
    folder.write_verdicts(&[controller.clone(), speaker], true, UnixMillis(0)).unwrap();
    let file = |name: &str| root.path().join(VERDICTS).join(name);
    assert_eq!(folder.files(VERDICTS).unwrap(), [file("controller.yaml"), file("speaker-a.yaml")]);
    let text = fs::read_to_string(file("controller.yaml")).unwrap();
    folder.write_verdicts(std::slice::from_ref(&controller), false, UnixMillis(0)).unwrap();
    assert_eq!(folder.files(VERDICTS).unwrap().len(), 2, "the others are not known");
    folder.write_verdicts(&[controller], true, UnixMillis(5000)).unwrap();
    assert_eq!(folder.files(VERDICTS).unwrap(), [file("controller.yaml")]);
    assert_eq!(fs::read_to_string(file("controller.yaml")).unwrap(), text, "since when it is so has not changed");
    let object = read(&file("controller.yaml")).unwrap();
    assert_eq!((&object["status"]["result"], &object["metadata"]["namespace"]), (&json!("Valid"), &json!("metallb-system")));
}

#[test]
fn events_are_added_a_line_each() {
    let root = tempfile::tempdir().unwrap();
    let folder = StatusDir::open(root.path(), "metallb-system").unwrap();
    let record = EventRecord {
        regarding: ObjectRef::new("Service", "default", "web"),
        api_version: "v1".to_owned(),
        uid: ServiceUid::default(),
        event_type: EventType::Warning,
        reason: "AllocationFailed".to_owned(),
        note: "two\nlines".to_owned(),
        reporter: Reporter::Controller,
        at: UnixMillis(1),
    };
    folder.write_event(&record).unwrap();
    folder.write_event(&record).unwrap();
    let text = fs::read_to_string(root.path().join(EVENTS)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["type"], &lines[0]["reason"], &lines[0]["note"]),
        (&json!("Warning"), &json!("AllocationFailed"), &json!("two\nlines"))
    );
    assert_eq!(lines[0]["regarding"], json!({"apiVersion": "v1", "kind": "Service", "name": "web", "namespace": "default"}));
}
