//! Node → what placement needs of it: labels and the condition `NetworkUnavailable` (MetalLB behaviour 6, step 5).
//!
//! Readiness, cordons and taints are not looked at, as in MetalLB: a speaker's own heartbeat says whether it lives.

use mooring_proto::types::node::{NodeName, NodeSpec};
use serde_json::Value;

use super::fields::{Errors, Field};
use super::{ObjectRef, Parsed};

/// Reads a Node.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(value: &Value) -> Parsed<NodeSpec> {
    let mut errors = Errors::new(ObjectRef::of("Node", value));
    let root = Field::root(value);
    let metadata = root.get("metadata").object(&mut errors);
    let name = metadata.get("name");
    let name = name.required_text(&mut errors).and_then(|_text| name.parse::<NodeName>(&mut errors));
    let labels = metadata.get("labels").texts(&mut errors);
    let mut network_unavailable = false;
    for condition in root.get("status").object(&mut errors).get("conditions").items(&mut errors) {
        let is_network = condition.get("type").text(&mut errors) == Some("NetworkUnavailable");
        network_unavailable |= condition.get("status").text(&mut errors) == Some("True") && is_network;
    }
    errors.finish(name.map(|name| NodeSpec { name, labels, network_unavailable }))
}

#[cfg(test)]
mod tests;
