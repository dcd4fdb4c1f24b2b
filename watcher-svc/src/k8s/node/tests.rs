use serde_json::json;

use super::*;

#[test]
fn a_node_is_read_with_its_labels_and_network() {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
    let cases = [
        (json!(null), false),
        (json!([condition("Ready", "True"), condition("NetworkUnavailable", "True")]), true),
        (json!([condition("Ready", "True"), condition("NetworkUnavailable", "False")]), false),
        (json!([condition("NetworkUnavailable", "Unknown"), condition("DiskPressure", "True")]), false),
    ];
    for (conditions, network_unavailable) in cases {
        let value = json!({"metadata": {"name": "node-a", "labels": {"rack": "1"}}, "status": {"conditions": conditions}});
        let labels = [("rack".to_owned(), "1".to_owned())].into();
        let wanted = NodeSpec { name: NodeName::new("node-a").unwrap(), labels, network_unavailable, cordoned: false };
        assert_eq!(parse(&value), Ok(wanted), "{value}");
    }
}

#[test]
fn a_node_is_cordoned_by_its_field_and_by_its_taint() {
    let taint = |key: &str| json!({"taints": [{"key": "a", "effect": "NoExecute"}, {"key": key, "effect": "NoSchedule"}]});
    let cases = [
        (json!({}), false),
        (json!({"unschedulable": false}), false),
        (json!({"unschedulable": true}), true),
        (taint("node-role.kubernetes.io/control-plane"), false),
        (taint("node.kubernetes.io/unschedulable"), true),
    ];
    for (spec, cordoned) in cases {
        assert_eq!(parse(&json!({"metadata": {"name": "node-a"}, "spec": spec})).unwrap().cordoned, cordoned, "{spec}");
    }
}

#[test]
fn all_errors_of_a_node_come_together() {
    let value = json!({"metadata": {"labels": {"rack": 1}}, "status": {"conditions": {}}});
    let errors: Vec<_> = parse(&value).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "Node : metadata.name: required",
            r#"Node : metadata.labels["rack"]: 1: want a text"#,
            "Node : status.conditions: {}: want a list",
        ]
    );
}
