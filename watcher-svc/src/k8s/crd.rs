//! MetalLB's custom resources: their names, and the statuses that Mooring writes into them (MetalLB behaviour 2.3, 2.7).
//!
//! Their specs are read in `k8s/pool.rs`; their schemas are in `deploy/crds`.

use mooring_proto::types::labels::Labels;
use mooring_proto::types::node::{InterfaceName, NodeName};
use mooring_proto::types::service::ServiceKey;
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

/// The label of a ServiceL2Status with the announcing node.
pub const NODE_LABEL: &str = "metallb.io/node";
/// The label of a ServiceL2Status with the Service's name.
pub const SERVICE_NAME_LABEL: &str = "metallb.io/service-name";
/// The label of a ServiceL2Status with the Service's namespace.
pub const SERVICE_NAMESPACE_LABEL: &str = "metallb.io/service-namespace";

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

/// Who announces a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Status {
    /// The Service.
    pub service: ServiceKey,
    /// The announcing node.
    pub node: NodeName,
    /// The interfaces it announces on; empty = all, and then left out.
    pub interfaces: Vec<InterfaceName>,
}

/// What the names of ServiceL2Statuses begin with.
pub const L2_NAME_PREFIX: &str = "l2-";

impl L2Status {
    /// A name for the object where nobody generates one: the same for the same Service and node.
    #[must_use]
    pub fn name(&self) -> String {
        let bytes = [self.service.namespace(), self.service.name(), self.node.as_str()].join("/");
        // FNV-1a.
        let hash = bytes.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        format!("{L2_NAME_PREFIX}{hash:08x}")
    }

    /// The labels that the object is found by.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let labels = [
            (NODE_LABEL, self.node.as_str()),
            (SERVICE_NAME_LABEL, self.service.name()),
            (SERVICE_NAMESPACE_LABEL, self.service.namespace()),
        ];
        labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The field `status` of the ServiceL2Status.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut status = json!({
            "node": self.node.as_str(),
            "serviceName": self.service.name(),
            "serviceNamespace": self.service.namespace(),
        });
        if let Some(fields) = status.as_object_mut().filter(|_| !self.interfaces.is_empty()) {
            let interfaces: Vec<Value> = self.interfaces.iter().map(|name| json!({"name": name.as_str()})).collect();
            fields.insert("interfaces".to_owned(), json!(interfaces));
        }
        status
    }
}
