//! The text of a file → the objects in it that the watcher follows.

use mooring_proto::manifest::documents::{Malformed, Object, objects};
use serde_json::Value;

use crate::k8s::ObjectRef;
use crate::source::Kind;

/// An object, and where in its file it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Manifest {
    pub(super) kind: Kind,
    pub(super) name: ObjectRef,
    pub(super) object: Value,
    /// Which document of the file, from 1; empty ones do not count.
    pub(super) document: usize,
}

/// Reads the text of a file. Kinds that the watcher has no use for are left out.
pub(super) fn manifests(text: &str) -> Result<Vec<Manifest>, Malformed> {
    let mut found = Vec::new();
    objects(text, |object| {
        let Some(kind) = known(&object) else { return Ok(()) };
        let name = object.name()?;
        found.push(Manifest { kind, name, object: object.value, document: object.document });
        Ok(())
    })?;
    Ok(found)
}

/// The kind, if the watcher follows it: other groups have kinds of the same name.
fn known(object: &Object) -> Option<Kind> {
    Kind::ALL.into_iter().find(|known| known.as_str() == object.kind && known.group() == object.group())
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
