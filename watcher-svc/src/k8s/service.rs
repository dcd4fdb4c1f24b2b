//! Service → [`ServiceView`]: everything of a Service that an address can depend on, parsed.
//!
//! What a Service asks for and whether Mooring takes it is the core's. Node ports and target ports never matter and are not read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, FamilyPolicy, SharingKey};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use mooring_proto::types::time::UnixMillis;
use serde_json::Value;

use super::annotations::{self, FamilyError, RequestError, ValueError};
use super::fields::{Errors, Field};
use super::status::{Ingress, ServiceStatus};
use super::{ObjectRef, Parsed};

/// `spec.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceType {
    /// The default.
    ClusterIp,
    /// Ports on nodes.
    NodePort,
    /// The type that Mooring serves.
    LoadBalancer,
    /// A name only.
    ExternalName,
}

/// `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Any node passes traffic on to any endpoint.
    Cluster,
    /// A node serves only its own endpoints.
    Local,
}

/// A Service as Mooring sees it. Two equal views need the same treatment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Its uid; empty in a manifest.
    pub uid: ServiceUid,
    /// Its labels.
    pub labels: Labels,
    /// Its type.
    pub service_type: ServiceType,
    /// `spec.loadBalancerClass`.
    pub class: Option<String>,
    /// Its cluster IPs: one, two of different families, or none yet. An error names what else stands there.
    pub cluster_ips: Result<Vec<IpAddr>, ClusterIpsError>,
    /// `spec.clusterIPs` as it is written.
    pub cluster_ip_list: Vec<String>,
    /// `spec.ipFamilies`, in order.
    pub families: Vec<Family>,
    /// `spec.ipFamilyPolicy`; absent = single stack.
    pub policy: FamilyPolicy,
    /// Its ports.
    pub ports: BTreeSet<ServicePort>,
    /// The addresses it asks for, in order; empty = any. An error is what is wrong with the request.
    pub requested_addresses: Result<Vec<Vip>, RequestError>,
    /// The pool it asks for.
    pub requested_pool: Option<PoolName>,
    /// Its sharing key.
    pub sharing_key: Option<SharingKey>,
    /// For how long its addresses stay reserved once it is gone. An error is what is wrong with what it says.
    pub retain: Result<Option<Duration>, ValueError>,
    /// Deprecated annotation keys on it, by key.
    pub deprecated_annotations: Vec<String>,
    /// Its external traffic policy.
    pub traffic_policy: TrafficPolicy,
    /// What must be equal to share an address: empty, or `local:` and the pod selector for policy Local.
    pub backend_key: BackendKey,
    /// Its status as it stands.
    pub status: ServiceStatus,
    /// The addresses that its status holds: none, one, or two of different families. An error names what else stands there.
    pub assigned: Result<Vec<Vip>, AssignedError>,
    /// When it was created; `None` in a manifest.
    pub created: Option<UnixMillis>,
    /// It is being deleted; it counts until it is gone.
    pub deleting: bool,
}

/// The cluster IPs are not those of one Service; MetalLB's text of event `noclusterIPsIPFamily`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Failed to retrieve ClusterIPs IPFamily for [{list}] {cluster_ip}: {why}", list = list.join(" "))]
pub struct ClusterIpsError {
    /// `spec.clusterIPs`.
    pub list: Vec<String>,
    /// `spec.clusterIP`.
    pub cluster_ip: String,
    /// What is wrong.
    pub why: FamilyError,
}

/// The addresses in the status are not those of one Service; MetalLB's text of event `nolbIPsIPFamily`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Failed to retrieve LBIPs IPFamily for [{list}]: {why}", list = list.join(" "))]
pub struct AssignedError {
    /// The addresses in the status.
    pub list: Vec<String>,
    /// What is wrong.
    pub why: FamilyError,
}

impl ServiceView {
    /// Takes in a patch of the status that was written: what the object's next view will show.
    pub fn written(&mut self, patch: &Value) {
        self.status.apply(patch);
        self.assigned = assigned(&self.status);
    }
}

/// Reads a Service.
///
/// # Errors
/// All that is wrong with it, but for its cluster IPs, its request and its status: those are part of the view, because each has its
/// own consequence.
pub fn parse(value: &Value) -> Parsed<ServiceView> {
    let object = ObjectRef::of("Service", value);
    let mut errors = Errors::new(object.clone());
    let e = &mut errors;
    let root = Field::root(value);
    let metadata = root.get("metadata").object(e);
    let spec = root.get("spec").object(e);
    let key = metadata
        .get("name")
        .required_text(e)
        .and_then(|name| ServiceKey::new(&object.namespace, name).map_err(|error| e.at(&metadata.get("name"), error)).ok());
    let annotations = metadata.get("annotations").texts(e);
    let traffic_policy = traffic_policy(&spec, e);
    // The current key alone: it is what was written here, and what is to stand there.
    let status = status(&root, annotations.get(annotations::ALLOCATED_FROM_POOL.key).map(String::as_str), e);
    let cluster_ip_list = cluster_ip_list(&spec, e);
    let view = key.map(|key| ServiceView {
        key,
        uid: ServiceUid(metadata.get("uid").text(e).unwrap_or("").to_owned()),
        labels: metadata.get("labels").texts(e),
        service_type: service_type(&spec, e),
        class: spec.get("loadBalancerClass").text(e).map(str::to_owned),
        cluster_ips: cluster_ips(&cluster_ip_list, &spec, e),
        cluster_ip_list,
        families: families(&spec, e),
        policy: policy(&spec, e),
        ports: ports(&spec, e),
        requested_addresses: annotations::requested_addresses(&annotations, spec.get("loadBalancerIP").text(e).unwrap_or("")),
        requested_pool: annotations::requested_pool(&annotations),
        sharing_key: annotations::sharing_key(&annotations),
        retain: annotations::retain(&annotations),
        deprecated_annotations: annotations::deprecated_keys(&annotations),
        traffic_policy,
        backend_key: backend_key(traffic_policy, &spec, e),
        assigned: assigned(&status),
        status,
        created: created(&metadata, e),
        deleting: metadata.get("deletionTimestamp").is_present(),
    });
    errors.finish(view)
}

fn service_type(spec: &Field<'_>, errors: &mut Errors) -> ServiceType {
    let field = spec.get("type");
    match field.text(errors) {
        None | Some("" | "ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(_) => {
            errors.at(&field, "unknown type, want ClusterIP, NodePort, LoadBalancer or ExternalName");
            ServiceType::ClusterIp
        }
    }
}

fn cluster_ip_list(spec: &Field<'_>, errors: &mut Errors) -> Vec<String> {
    spec.get("clusterIPs").items(errors).iter().filter_map(|item| item.text(errors)).map(str::to_owned).collect()
}

/// `None`, which makes a Service headless, is no address and an error.
fn cluster_ips(list: &[String], spec: &Field<'_>, errors: &mut Errors) -> Result<Vec<IpAddr>, ClusterIpsError> {
    let cluster_ip = spec.get("clusterIP").text(errors).unwrap_or("").to_owned();
    let texts = if list.is_empty() { std::slice::from_ref(&cluster_ip) } else { list };
    match addresses(texts.iter().filter(|text| !text.is_empty())) {
        Ok(addresses) => Ok(addresses.into_iter().map(Vip::addr).collect()),
        Err(why) => Err(ClusterIpsError { list: list.to_vec(), cluster_ip, why }),
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<Vip>, FamilyError> {
    let parsed: Result<Vec<Vip>, FamilyError> =
        texts.map(|text| text.parse().map_err(|_invalid| FamilyError::Address(text.clone()))).collect();
    annotations::of_one_service(parsed?)
}

fn families(spec: &Field<'_>, errors: &mut Errors) -> Vec<Family> {
    let mut families = Vec::new();
    for item in spec.get("ipFamilies").items(errors) {
        match item.text(errors) {
            Some("IPv4") => families.push(Family::V4),
            Some("IPv6") => families.push(Family::V6),
            Some(_) => errors.at(&item, "unknown family, want IPv4 or IPv6"),
            None => {}
        }
    }
    families
}

fn policy(spec: &Field<'_>, errors: &mut Errors) -> FamilyPolicy {
    let field = spec.get("ipFamilyPolicy");
    match field.text(errors) {
        None | Some("" | "SingleStack") => FamilyPolicy::SingleStack,
        Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
        Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
        Some(_) => {
            errors.at(&field, "unknown policy, want SingleStack, PreferDualStack or RequireDualStack");
            FamilyPolicy::SingleStack
        }
    }
}

fn ports(spec: &Field<'_>, errors: &mut Errors) -> BTreeSet<ServicePort> {
    let mut ports = BTreeSet::new();
    for item in spec.get("ports").items(errors) {
        let protocol = match item.get("protocol") {
            field if field.is_present() => field.parse(errors),
            _ => Some(Protocol::Tcp),
        };
        let field = item.get("port");
        if !field.is_present() {
            errors.at(&field, "required");
        }
        let port = field.integer(errors).and_then(|number| match u16::try_from(number) {
            Ok(port) if port > 0 => Some(port),
            Ok(_) | Err(_) => {
                errors.at(&field, "want a port number, 1 to 65535");
                None
            }
        });
        ports.extend(protocol.zip(port).map(|(protocol, port)| ServicePort { protocol, port }));
    }
    ports
}

fn traffic_policy(spec: &Field<'_>, errors: &mut Errors) -> TrafficPolicy {
    let field = spec.get("externalTrafficPolicy");
    match field.text(errors) {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(_) => {
            errors.at(&field, "unknown policy, want Cluster or Local");
            TrafficPolicy::Cluster
        }
    }
}

fn backend_key(policy: TrafficPolicy, spec: &Field<'_>, errors: &mut Errors) -> BackendKey {
    let selector = spec.get("selector").texts(errors);
    match policy {
        TrafficPolicy::Cluster => BackendKey::default(),
        TrafficPolicy::Local => {
            let pairs: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            BackendKey(format!("local:{}", pairs.join(",")))
        }
    }
}

fn status(root: &Field<'_>, pool: Option<&str>, errors: &mut Errors) -> ServiceStatus {
    let balancer = root.get("status").object(errors).get("loadBalancer").object(errors);
    let mut ingress = Vec::new();
    for item in balancer.get("ingress").items(errors) {
        let mut text = |key: &str| item.get(key).text(errors).unwrap_or("").to_owned();
        let (ip, hostname, ip_mode) = (text("ip"), text("hostname"), text("ipMode"));
        ingress.push(Ingress { ip, hostname, ip_mode, has_ports: item.get("ports").is_present() });
    }
    ServiceStatus { ingress, pool: pool.map(str::to_owned) }
}

/// Entries with a host name alone are ignored, as MetalLB does.
fn assigned(status: &ServiceStatus) -> Result<Vec<Vip>, AssignedError> {
    let texts = || status.ingress.iter().map(|ingress| &ingress.ip).filter(|ip| !ip.is_empty());
    addresses(texts()).map_err(|why| AssignedError { list: texts().cloned().collect(), why })
}

fn created(metadata: &Field<'_>, errors: &mut Errors) -> Option<UnixMillis> {
    let field = metadata.get("creationTimestamp");
    let Ok(created) = field.text(errors)?.parse::<Timestamp>() else {
        errors.at(&field, "want a time as RFC 3339 writes it");
        return None;
    };
    u64::try_from(created.as_millisecond()).ok().map(UnixMillis)
}

#[cfg(test)]
mod tests;
