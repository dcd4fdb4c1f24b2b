//! Kubernetes objects as JSON or YAML turned into the types: the configuration, and what reading any object needs.
//!
//! Every reader takes the object as JSON, whether the API server sent it or a manifest held it, and either returns a view whose
//! values are all parsed or every error of the object, each with its field and value.

pub mod documents;
pub mod fields;

pub mod configmap;
pub mod pool;
mod selector;

use std::fmt;

use serde_json::Value;

/// The kinds read here whose objects have no namespace.
const CLUSTER_SCOPED: &[&str] = &["Namespace", "Node"];

/// Which object something is about; prints as `Service default/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty for objects without one.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// Names an object.
    #[must_use]
    pub fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The object that the JSON is, as far as it says. A manifest without a namespace means `default`, as for `kubectl apply`.
    ///
    /// List items of the API server carry no kind, so the reader names it.
    #[must_use]
    pub fn of(kind: &str, value: &Value) -> Self {
        let metadata = |key: &str| value.get("metadata").and_then(|metadata| metadata.get(key)).and_then(Value::as_str);
        let namespace = if CLUSTER_SCOPED.contains(&kind) { "" } else { metadata("namespace").unwrap_or("default") };
        Self::new(kind, namespace, metadata("name").unwrap_or(""))
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{slash}{}", self.kind, self.namespace, self.name)
    }
}

/// One thing wrong with an object; prints as `Service default/web: spec.ports[0].protocol: "TPC": unknown protocol …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ParseError {
    /// The object.
    pub object: ObjectRef,
    /// The field, as a path from the object's top; empty if it is the object as a whole.
    pub field: String,
    /// The field's value as JSON, shortened; empty if the field is absent.
    pub value: String,
    /// What is wrong with it; MetalLB's text where it has one.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        for part in [&self.field, &self.value] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// What a reader returns: the view, or all errors of the object in the order of its fields.
pub type Parsed<T> = Result<T, Vec<ParseError>>;
