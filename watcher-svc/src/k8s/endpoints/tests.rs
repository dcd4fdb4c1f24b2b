use serde_json::json;

use super::*;

fn slice(endpoints: Value) -> Value {
    json!({"metadata": {"namespace": "default", "name": "web-x1", "labels": {"kubernetes.io/service-name": "web"}}, "endpoints": endpoints})
}

#[test]
fn an_endpoint_can_serve_if_ready_or_serving() {
    let cases = [
        (json!({}), true),
        (json!({"conditions": null}), true),
        (json!({"conditions": {"ready": true}}), true),
        (json!({"conditions": {"ready": false}}), false),
        (json!({"conditions": {"ready": true, "serving": false}}), true),
        (json!({"conditions": {"ready": false, "serving": true, "terminating": true}}), true),
        (json!({"conditions": {"ready": false, "serving": false}}), false),
    ];
    for (mut endpoint, serving) in cases {
        endpoint["nodeName"] = json!("node-a");
        let view = parse(&slice(json!([endpoint]))).unwrap();
        assert_eq!(view.endpoints, [EndpointView { serving, node: NodeName::new("node-a") }], "{endpoint}");
    }
}

#[test]
fn a_slice_names_its_service_and_may_lack_nodes_and_endpoints() {
    let view = parse(&slice(json!([{"addresses": ["10.0.0.1"]}]))).unwrap();
    assert_eq!(view.object.to_string(), "EndpointSlice default/web-x1");
    assert_eq!(view.service, ServiceKey::new("default", "web").ok());
    assert_eq!(view.endpoints, [EndpointView { serving: true, node: None }]);
    assert_eq!(parse(&slice(json!(null))).unwrap().endpoints, []);
    let stray = parse(&json!({"metadata": {"namespace": "default", "name": "x"}})).unwrap();
    assert_eq!((stray.service, stray.endpoints), (None, vec![]));
}

#[test]
fn a_wrong_condition_is_named() {
    let errors = parse(&slice(json!([{"conditions": {"ready": "yes"}}]))).unwrap_err();
    assert_eq!(errors[0].to_string(), r#"EndpointSlice default/web-x1: endpoints[0].conditions.ready: "yes": want true or false"#);
}
