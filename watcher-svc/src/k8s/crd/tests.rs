use super::*;

#[test]
fn a_verdict_is_written_as_metallb_writes_it_and_keeps_its_time() {
    let status = |component, verdict| ConfigurationStatus { component, verdict };
    let good = status(Component::Controller, Verdict::Valid);
    let first = good.to_json(None, UnixMillis(1_784_455_200_999));
    let condition = |kind: &str, status: &str, reason: &str, message: &str, time: &str| json!([{"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time}]);
    let began = "2026-07-19T10:00:00Z";
    assert_eq!(first, json!({"result": "Valid", "conditions": condition("poolReconcilerValid", "True", "Reconciled", "", began)}));
    assert_eq!(good.to_json(Some(&first), UnixMillis(1_784_455_300_000)), first, "nothing to write");
    let bad = status(Component::Controller, Verdict::Invalid("no prefixes".to_owned()));
    let error = "configuration error: no prefixes";
    let later = bad.to_json(Some(&first), UnixMillis(1_784_455_201_000));
    let wanted = condition("poolReconcilerValid", "False", "ConfigurationError", error, "2026-07-19T10:00:01Z");
    assert_eq!(later, json!({"result": "Invalid", "errorSummary": error, "conditions": wanted}));
    let node = status(Component::Speaker(NodeName::new("a").unwrap()), Verdict::Unknown("none".to_owned()));
    let wanted = condition("configReconcilerValid", "Unknown", "UnknownError", "none", began);
    assert_eq!(
        node.to_json(None, UnixMillis(1_784_455_200_000)),
        json!({"result": "Unknown", "errorSummary": "none", "conditions": wanted})
    );
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>();
    assert_eq!((node.name(), node.labels()), ("speaker-a".to_owned(), labels(&[(COMPONENT_LABEL, "speaker"), (NODE_NAME_LABEL, "a")])));
    assert_eq!((good.name(), good.labels()), ("controller".to_owned(), labels(&[(COMPONENT_LABEL, "controller")])));
}

#[test]
fn counters_are_read_as_they_stand_or_not_at_all() {
    let counters = PoolStatus { assigned_ipv4: 1, available_ipv6: 2, ..PoolStatus::default() };
    assert_eq!(PoolStatus::found(&json!({"status": counters.to_json()})), Some(counters));
    for status in [json!({}), json!({"assignedIPv4": 1}), json!(null), json!({"assignedIPv4": "x"})] {
        assert_eq!(PoolStatus::found(&json!({"status": status})), None, "{status}");
    }
}
