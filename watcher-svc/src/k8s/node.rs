//! Node → what placement needs of it: labels, the condition `NetworkUnavailable` (MetalLB behaviour 6, step 5), and whether it is cordoned.
//!
//! Readiness and other taints are not looked at, as in MetalLB: a speaker's own heartbeat says whether it lives.

use mooring_proto::types::node::{NodeName, NodeSpec};
use serde_json::Value;

use super::fields::{Errors, Field};
use super::{ObjectRef, Parsed};

/// The taint that a cordon puts on a node (Kubernetes' well-known taints).
const CORDON_TAINT: &str = "node.kubernetes.io/unschedulable";

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
    // The taint follows the field by the node controller's hand, where there is one.
    let spec = root.get("spec").object(&mut errors);
    let mut cordoned = spec.get("unschedulable").boolean(&mut errors).unwrap_or(false);
    for taint in spec.get("taints").items(&mut errors) {
        cordoned |= taint.get("key").text(&mut errors) == Some(CORDON_TAINT);
    }
    errors.finish(name.map(|name| NodeSpec { name, labels, network_unavailable, cordoned }))
}

#[cfg(test)]
mod tests;
