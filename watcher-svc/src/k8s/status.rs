//! A Service's status as Kubernetes stores it, and the patch from one to another.
//!
//! MetalLB behaviour 3.4 step 10 and 3.6; unlike MetalLB `ipMode` is written. Which status is wanted is the core's decision.

use mooring_proto::types::address::Vip;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceUid;
use serde_json::{Map, Value, json};

use super::annotations::ALLOCATED_FROM_POOL;

/// What kube-proxy is to do with the address: take packets for it as they are (KEP-1860).
const IP_MODE: &str = "VIP";

/// One entry of `status.loadBalancer.ingress`, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ingress {
    /// The address; empty if the entry is a host name.
    pub ip: String,
    /// The host name, which Mooring never writes.
    pub hostname: String,
    /// `VIP` or `Proxy`; empty if absent.
    pub ip_mode: String,
    /// Whether it says something of ports, which Mooring never writes.
    pub has_ports: bool,
}

/// What Mooring writes of a Service: its ingress entries and the annotation that names the pool.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceStatus {
    /// The entries of `status.loadBalancer.ingress`.
    pub ingress: Vec<Ingress>,
    /// The annotation `metallb.io/ip-allocated-from-pool`.
    pub pool: Option<String>,
}

impl ServiceStatus {
    /// The status of a Service with these addresses from this pool.
    #[must_use]
    pub fn holding(addresses: &[Vip], pool: &PoolName) -> Self {
        let entry = |vip: &Vip| Ingress { ip: vip.to_string(), ip_mode: IP_MODE.to_owned(), ..Ingress::default() };
        Self { ingress: addresses.iter().map(entry).collect(), pool: Some(pool.as_str().to_owned()) }
    }

    /// The status of a Service without an address.
    #[must_use]
    pub fn cleared() -> Self {
        Self::default()
    }

    /// The field `status` of the Service.
    #[must_use]
    pub fn to_json(&self) -> Value {
        if self.ingress.is_empty() {
            return json!({"loadBalancer": {}});
        }
        json!({"loadBalancer": {"ingress": self.ingress_json()}})
    }

    /// The annotations that Mooring sets on the Service.
    #[must_use]
    pub fn annotations(&self) -> Map<String, Value> {
        self.pool.iter().map(|pool| (ALLOCATED_FROM_POOL.key.to_owned(), json!(pool))).collect()
    }

    /// Takes in a patch that was written: what the object's next view will show.
    pub fn apply(&mut self, patch: &Value) {
        if let Some(annotations) = patch.get("metadata").and_then(|metadata| metadata.get("annotations")) {
            self.pool = annotations.get(ALLOCATED_FROM_POOL.key).and_then(Value::as_str).map(str::to_owned);
        }
        if let Some(load_balancer) = patch.get("status").and_then(|status| status.get("loadBalancer")) {
            let entries = load_balancer.get("ingress").and_then(Value::as_array).into_iter().flatten();
            let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            let entry = |entry: &Value| Ingress { ip: text(entry, "ip"), ip_mode: text(entry, "ipMode"), ..Ingress::default() };
            self.ingress = entries.map(entry).collect();
        }
    }

    fn ingress_json(&self) -> Vec<Value> {
        self.ingress.iter().map(|ingress| json!({"ip": ingress.ip, "ipMode": ingress.ip_mode})).collect()
    }
}

/// The merge patch (RFC 7386) of subresource `status` that makes `found` into `wanted`; `None` if nothing differs.
///
/// The uid keeps a late patch from a Service that was made anew under the same name: the API server refuses it. A Service without
/// addresses keeps neither list nor annotation.
#[must_use]
pub fn patch(uid: &ServiceUid, found: &ServiceStatus, wanted: &ServiceStatus) -> Option<Value> {
    if found == wanted {
        return None;
    }
    let mut metadata = Map::new();
    if !uid.0.is_empty() {
        metadata.insert("uid".to_owned(), json!(uid.0));
    }
    if found.pool != wanted.pool {
        metadata.insert("annotations".to_owned(), json!({ALLOCATED_FROM_POOL.key: wanted.pool}));
    }
    let mut patch = Map::from_iter([("metadata".to_owned(), Value::Object(metadata))]);
    if found.ingress != wanted.ingress {
        let ingress = if wanted.ingress.is_empty() { Value::Null } else { json!(wanted.ingress_json()) };
        patch.insert("status".to_owned(), json!({"loadBalancer": {"ingress": ingress}}));
    }
    Some(Value::Object(patch))
}

#[cfg(test)]
mod tests;
