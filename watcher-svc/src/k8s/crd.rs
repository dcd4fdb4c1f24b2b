//! MetalLB's custom resources: their names, and the statuses that Mooring writes into them (MetalLB behaviour 2.3, 2.7).
//!
//! Their specs are read in `k8s/pool.rs`; their schemas are in `deploy/crds`.

use jiff::Timestamp;
use mooring_proto::types::labels::Labels;
use mooring_proto::types::node::{InterfaceName, NodeName};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The API group.
pub const GROUP: &str = "metallb.io";
/// The version of all of them.
pub const VERSION: &str = "v1beta1";

/// A custom resource's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its kind.
    pub kind: &'static str,
    /// Its plural, as in URLs.
    pub plural: &'static str,
}

/// Pools; read, and their status written.
pub const IP_ADDRESS_POOL: Resource = Resource { kind: "IPAddressPool", plural: "ipaddresspools" };
/// Advertisements; read.
pub const L2_ADVERTISEMENT: Resource = Resource { kind: "L2Advertisement", plural: "l2advertisements" };
/// Who announces a Service; written.
pub const SERVICE_L2_STATUS: Resource = Resource { kind: "ServiceL2Status", plural: "servicel2statuses" };

/// Whether the newest configuration is good; written.
pub const CONFIGURATION_STATE: Resource = Resource { kind: "ConfigurationState", plural: "configurationstates" };

/// The label of a ServiceL2Status with the announcing node.
pub const NODE_LABEL: &str = "metallb.io/node";
/// The label of a ServiceL2Status with the Service's name.
pub const SERVICE_NAME_LABEL: &str = "metallb.io/service-name";
/// The label of a ServiceL2Status with the Service's namespace.
pub const SERVICE_NAMESPACE_LABEL: &str = "metallb.io/service-namespace";

/// The label of a ConfigurationState that says `controller` or `speaker`.
pub const COMPONENT_LABEL: &str = "metallb.io/component-type";
/// The label of a ConfigurationState with the speaker's node.
pub const NODE_NAME_LABEL: &str = "metallb.io/node-name";

/// The counters of a pool: distinct addresses, not Services. A count beyond `i64` is written as `i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PoolStatus {
    /// IPv4 addresses in use.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses in use.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// IPv4 addresses still to be had.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// IPv6 addresses still to be had.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}

impl PoolStatus {
    /// The counters that stand in an IPAddressPool; `None` if none do, or no good ones.
    #[must_use]
    pub fn found(object: &Value) -> Option<Self> {
        Self::deserialize(object.get("status")?).ok()
    }

    /// The field `status` of the IPAddressPool.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "assignedIPv4": self.assigned_ipv4,
            "assignedIPv6": self.assigned_ipv6,
            "availableIPv4": self.available_ipv4,
            "availableIPv6": self.available_ipv6,
        })
    }
}

/// Who announces a Service, or why nobody can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Status {
    /// The Service.
    pub service: ServiceKey,
    /// The announcing node; `None` = no node is eligible.
    pub node: Option<NodeName>,
    /// The interfaces it announces on; empty = all, and then left out.
    pub interfaces: Vec<InterfaceName>,
    /// Why no node is eligible, or none but one that is drained; empty, and then left out, if all is well.
    pub reason: String,
}

/// What the names of ServiceL2Statuses begin with.
pub const L2_NAME_PREFIX: &str = "l2-";

impl L2Status {
    /// A name for the object where nobody generates one: the same for the same Service and node.
    #[must_use]
    pub fn name(&self) -> String {
        let bytes = [self.service.namespace(), self.service.name(), self.node.as_ref().map_or("", NodeName::as_str)].join("/");
        // FNV-1a.
        let hash = bytes.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{L2_NAME_PREFIX}{hash:08x}")
    }

    /// The labels that the object is found by.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let labels = [(SERVICE_NAME_LABEL, self.service.name()), (SERVICE_NAMESPACE_LABEL, self.service.namespace())];
        let node = self.node.iter().map(|node| (NODE_LABEL, node.as_str()));
        node.chain(labels).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The field `status` of the ServiceL2Status.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "serviceName": self.service.name(),
            "serviceNamespace": self.service.namespace(),
        });
        let Some(fields) = status.as_object_mut() else { return status };
        fields.extend(self.node.iter().map(|node| ("node".to_owned(), json!(node.as_str()))));
        if !self.interfaces.is_empty() {
            let interfaces: Vec<Value> = self.interfaces.iter().map(|name| json!({"name": name.as_str()})).collect();
            fields.insert("interfaces".to_owned(), json!(interfaces));
        }
        if !self.reason.is_empty() {
            fields.insert("reason".to_owned(), json!(self.reason));
        }
        status
    }
}

/// Whom a ConfigurationState is about. The configuration is one for all, and so is the verdict; MetalLB has one for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// Who gives out addresses.
    Controller,
    /// Who announces them on a node.
    Speaker(NodeName),
}

/// What was found of the newest configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Valid,
    /// It is no good, for these reasons.
    Invalid(String),
    /// There is none to judge.
    Unknown(String),
}

/// What a ConfigurationState says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationStatus {
    /// Whom it is about.
    pub component: Component,
    /// What was found.
    pub verdict: Verdict,
}

impl ConfigurationStatus {
    /// The object's name.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.component {
            Component::Controller => "controller".to_owned(),
            Component::Speaker(node) => format!("speaker-{node}"),
        }
    }

    /// The object's labels.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let labels = match &self.component {
            Component::Controller => vec![(COMPONENT_LABEL, "controller")],
            Component::Speaker(node) => vec![(COMPONENT_LABEL, "speaker"), (NODE_NAME_LABEL, node.as_str())],
        };
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The field `status` of the ConfigurationState, where `found` stands now.
    #[must_use]
    pub fn to_json(&self, found: Option<&Value>, now: UnixMillis) -> Value {
        let kind = match &self.component {
            Component::Controller => "poolReconcilerValid",
            Component::Speaker(_) => "configReconcilerValid",
        };
        let (result, is_valid, reason, message) = match &self.verdict {
            Verdict::Valid => ("Valid", "True", "Reconciled", String::new()),
            Verdict::Invalid(why) => ("Invalid", "False", "ConfigurationError", format!("configuration error: {why}")),
            Verdict::Unknown(why) => ("Unknown", "Unknown", "UnknownError", why.clone()),
        };
        let message = message.get(..message.floor_char_boundary(MESSAGE_LIMIT)).unwrap_or_default();
        let before = found.and_then(|found| found.get("conditions")?.as_array()?.iter().find(|condition| condition["type"] == kind));
        let since = before.filter(|before| before["status"] == is_valid).and_then(|before| before.get("lastTransitionTime")).cloned();
        let mut status = json!({
            "result": result,
            "conditions": [{
                "type": kind, "status": is_valid, "reason": reason, "message": message,
                "lastTransitionTime": since.unwrap_or_else(|| json!(rfc3339(now))),
            }],
        });
        if let Some(fields) = status.as_object_mut().filter(|_| !message.is_empty()) {
            fields.insert("errorSummary".to_owned(), json!(message));
        }
        status
    }
}

/// The longest message of a condition, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

/// The moment as Kubernetes writes it, in whole seconds.
fn rfc3339(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.0 / 1000).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    seconds.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests;
