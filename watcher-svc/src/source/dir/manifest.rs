//! The text of a file → the objects in it that the watcher follows.
//!
//! A file is good as a whole or not at all: half of one might be a file that is being written.

use serde_json::{Value, json};

use crate::k8s::ObjectRef;
use crate::source::Kind;

/// How much YAML a file may hold: some 100,000 Services.
const MOST_NODES: usize = 20_000_000;
const MOST_EVENTS: usize = 40_000_000;
const MOST_BYTES: usize = 1 << 30;

/// An object, and where in its file it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manifest {
    pub(super) kind: Kind,
    pub(super) name: ObjectRef,
    pub(super) object: Value,
    /// Which document of the file, from 1; empty ones do not count.
    pub(super) document: usize,
}

/// A file that is no good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Which document, from 1; empty ones do not count.
    pub(super) document: usize,
    /// The field, if it is one.
    pub(super) field: String,
    /// What is wrong, with line and column where known.
    pub(super) error: String,
}

/// Reads the text of a file. Kinds that the watcher has no use for are left out.
pub(super) fn manifests(text: &str) -> Result<Vec<Manifest>, Malformed> {
    let documents = match text.trim_start().starts_with('{').then(|| json_documents(text)) {
        Some(Ok(documents)) => documents,
        // YAML may begin with a brace too.
        Some(Err(_)) | None => yaml_documents(text)?,
    };
    let mut found = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let number = index.saturating_add(1);
        read(document, number, "", &mut found).map_err(|(field, error)| Malformed { document: number, field, error })?;
    }
    Ok(found)
}

/// JSON objects one after the other, as `kubectl` takes them.
fn json_documents(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

fn yaml_documents(text: &str) -> Result<Vec<Value>, Malformed> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: MOST_NODES, max_events: MOST_EVENTS, max_total_scalar_bytes: MOST_BYTES, max_documents: MOST_NODES },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Malformed {
        document: document_at(text, error.location().map_or(u64::MAX, |location| location.line())),
        field: String::new(),
        error: error.to_string(),
    })
}

/// Which document a line is in, from 1; empty ones do not count.
fn document_at(text: &str, line: u64) -> usize {
    let lines = text.lines().zip(1u64..).take_while(|(_, number)| *number <= line);
    let (mut document, mut content) = (1usize, false);
    for (text, _) in lines {
        if text == "---" || text.starts_with("--- ") {
            document = document.saturating_add(usize::from(content));
            content = false;
        } else {
            content |= !text.trim().is_empty() && !text.trim_start().starts_with('#');
        }
    }
    document
}

fn read(value: Value, document: usize, at: &str, found: &mut Vec<Manifest>) -> Result<(), (String, String)> {
    if value.is_null() {
        return Ok(());
    }
    let Value::Object(fields) = &value else {
        return Err((at.to_owned(), format!("want an object, found {}", shortened(&value))));
    };
    let text = |key: &str| match fields.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        None => Err((format!("{at}{key}"), "required".to_owned())),
        Some(other) => Err((format!("{at}{key}"), format!("want a text, found {}", shortened(other)))),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    if let Some(of) = kind.strip_suffix("List") {
        let common = (version.to_owned(), of.to_owned());
        let Value::Object(mut fields) = value else { return Ok(()) };
        let Some(Value::Array(items)) = fields.remove("items") else {
            return Err((format!("{at}items"), "want a list".to_owned()));
        };
        return items.into_iter().enumerate().try_for_each(|(index, mut item)| {
            // The items of a ServiceList are Services, whether they say so or not.
            if let (Value::Object(fields), false) = (&mut item, common.1.is_empty()) {
                fields.entry("apiVersion").or_insert_with(|| json!(common.0));
                fields.entry("kind").or_insert_with(|| json!(common.1));
            }
            read(item, document, &format!("{at}items[{index}]."), found)
        });
    }
    let Some(kind) = known(version, kind) else { return Ok(()) };
    let name = ObjectRef::of(kind.as_str(), &value);
    if name.name.is_empty() {
        let found = value.pointer("/metadata/name").map(|found| format!(", found {}", shortened(found))).unwrap_or_default();
        return Err((format!("{at}metadata.name"), format!("a {} needs a name, a text{found}", kind.as_str())));
    }
    found.push(Manifest { kind, name, object: value, document });
    Ok(())
}

/// The kind, if the watcher follows it: other groups have kinds of the same name.
fn known(version: &str, kind: &str) -> Option<Kind> {
    let group = version.split_once('/').map_or("", |(group, _version)| group);
    Kind::ALL.into_iter().find(|known| known.as_str() == kind && known.group() == group)
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n";

    fn names(text: &str) -> Vec<String> {
        manifests(text).unwrap().iter().map(|manifest| format!("{} #{}", manifest.name, manifest.document)).collect()
    }

    #[test]
    fn documents_lists_and_json_are_read_and_foreign_kinds_left_out() {
        let text = format!(
            "---\n# a comment\n{SERVICE}---\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: other}}\n---\n\
             apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Node, metadata: {{name: node-a}}}}\n\
             - {{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {{name: p, namespace: metallb-system}}}}\n"
        );
        assert_eq!(names(&text), ["Service default/web #1", "Node node-a #3", "IPAddressPool metallb-system/p #3"]);
        assert_eq!(
            names(r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "json", "namespace": "a"}}"#),
            ["Service a/json #1"]
        );
        assert_eq!(names(""), [""; 0]);
        let two = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}} {"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "b"}}]}"#;
        assert_eq!(names(two), ["Node a #1", "Service default/b #2"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_document_and_field() {
        let wrong = |text: &str| manifests(text).unwrap_err();
        let error = wrong(&format!("{SERVICE}---\nkind: Service\n"));
        assert_eq!((error.document, error.field.as_str(), error.error.as_str()), (2, "apiVersion", "required"));
        let error = wrong(&format!("---\n{SERVICE}---\na: [1, 2\n---\nb: 1\n"));
        assert!(error.document >= 2 && error.error.contains("line"), "{error:?}");
        assert_eq!(wrong("just text").error, "want an object, found \"just text\"");
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {}}\n";
        assert_eq!(wrong(list).field, "items[0].metadata.name");
        assert_eq!(wrong("apiVersion: v1\nkind: 7\n").field, "kind");
    }

    #[test]
    fn a_file_of_ten_thousand_services_is_read() {
        let text: String = (0..10_000).map(|n| format!("---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{n}\nspec:\n  type: LoadBalancer\n  ports:\n  - port: 80\n    protocol: TCP\n    targetPort: 8080\n  selector:\n    app: a\n")).collect();
        assert_eq!(manifests(&text).unwrap().len(), 10_000);
    }
}
