use serde_json::json;

use super::*;

fn messages(read: impl FnOnce(&Field<'_>, &mut Errors), value: &Value) -> Vec<String> {
    let mut errors = Errors::new(ObjectRef::new("Service", "default", "web"));
    read(&Field::root(value), &mut errors);
    errors.found.iter().map(ToString::to_string).collect()
}

#[test]
fn an_error_names_object_field_and_value() {
    let value = json!({"spec": {"ports": [{"port": 80}, {"port": "x"}], "type": 3}, "labels": {"a": "b", "c": 1}});
    let found = messages(
        |root, errors| {
            for port in root.get("spec").get("ports").items(errors) {
                port.get("port").integer(errors);
            }
            root.get("spec").get("type").text(errors);
            root.get("spec").get("absent").required_text(errors);
            assert_eq!(root.get("labels").texts(errors).len(), 1);
            assert!(!root.get("spec").object(errors).get("nothing").is_present());
        },
        &value,
    );
    assert_eq!(
        found,
        [
            r#"Service default/web: spec.ports[1].port: "x": want a whole number"#,
            "Service default/web: spec.type: 3: want a text",
            "Service default/web: spec.absent: required",
            r#"Service default/web: labels["c"]: 1: want a text"#,
        ]
    );
}

#[test]
fn a_null_is_absent_and_a_long_value_is_shortened() {
    let long = "é".repeat(500);
    let found = messages(
        |root, errors| {
            assert!(!root.get("none").is_present());
            assert_eq!(root.get("none").boolean(errors), None);
            root.get("long").boolean(errors);
        },
        &json!({"none": null, "long": long}),
    );
    assert_eq!(found, [format!("Service default/web: long: \"{}…: want true or false", "é".repeat(119))]);
}
