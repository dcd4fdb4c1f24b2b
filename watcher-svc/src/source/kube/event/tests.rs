use serde_json::json;

use mooring_proto::types::service::ServiceUid;
use mooring_proto::types::time::UnixMillis;

use super::*;
use crate::k8s::ObjectRef;

fn record() -> EventRecord {
    EventRecord {
        regarding: ObjectRef::new("Service", "default", "web"),
        api_version: "v1".to_owned(),
        uid: ServiceUid("u-1".to_owned()),
        event_type: EventType::Normal,
        reason: "IPAllocated".to_owned(),
        note: r#"Assigned IP ["192.0.2.1"]"#.to_owned(),
        reporter: Reporter::Controller,
        at: UnixMillis(1_784_455_200_123),
    }
}

#[test]
fn an_event_says_all_that_the_api_server_and_kubectl_want() {
    let event = serde_json::to_value(event(&record())).unwrap();
    let wanted = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "web.ee5a60bf15310720", "namespace": "default"},
        "type": "Normal", "reason": "IPAllocated", "note": r#"Assigned IP ["192.0.2.1"]"#, "action": "Allocate",
        "eventTime": "2026-07-19T10:00:00.123000Z",
        "regarding": {"apiVersion": "v1", "kind": "Service", "namespace": "default", "name": "web", "uid": "u-1"},
        "reportingController": "metallb-controller", "reportingInstance": "metallb-controller",
    });
    assert_eq!(event, wanted);
}

#[test]
fn the_name_is_that_of_the_record() {
    let name = |record: &EventRecord| event(record).metadata.name.unwrap();
    assert_eq!(name(&record()), name(&record()));
    let others = [
        EventRecord { note: "other".to_owned(), ..record() },
        EventRecord { reason: "other".to_owned(), ..record() },
        EventRecord { at: UnixMillis(1), ..record() },
        EventRecord { uid: ServiceUid("u-2".to_owned()), ..record() },
    ];
    for other in others {
        assert_ne!(name(&other), name(&record()));
    }
    let long = EventRecord { regarding: ObjectRef::new("Node", "", &"n".repeat(253)), ..record() };
    assert_eq!((name(&long).len(), event(&long).metadata.namespace.as_deref()), (253, Some("default")));
}

#[test]
fn a_long_note_is_cut_at_a_character() {
    let long =
        EventRecord { note: format!("x{}", "é".repeat(600)), event_type: EventType::Warning, reporter: Reporter::Speaker, ..record() };
    let event = event(&long);
    let note = event.note.unwrap();
    assert_eq!((note.len(), note.chars().count()), (1023, 512));
    assert_eq!(
        (event.type_.as_deref(), event.reporting_controller.as_deref(), event.action.as_deref()),
        (Some("Warning"), Some("metallb-speaker"), Some("Announce"))
    );
}
