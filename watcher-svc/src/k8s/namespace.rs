//! Namespace → its labels, which pinned pools select by, and how many addresses it may hold.

use mooring_proto::types::labels::Labels;
use serde_json::Value;

use super::annotations::{self, ValueError};
use super::fields::{Errors, Field};
use super::{ObjectRef, Parsed};

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
    /// How many different addresses its Services may hold together; `None` = any number. An error is what is wrong with what it says.
    pub quota: Result<Option<u32>, ValueError>,
}

/// Reads a Namespace.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(value: &Value) -> Parsed<NamespaceView> {
    let mut errors = Errors::new(ObjectRef::of("Namespace", value));
    let metadata = Field::root(value).get("metadata").object(&mut errors);
    let name = metadata.get("name").required_text(&mut errors);
    let labels = metadata.get("labels").texts(&mut errors);
    let quota = annotations::address_quota(&metadata.get("annotations").texts(&mut errors));
    errors.finish(name.map(|name| NamespaceView { name: name.to_owned(), labels, quota }))
}
