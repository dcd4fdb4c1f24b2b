//! Claims, leases, ports, backends and nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{MISSING, Violations, each};
use crate::pb;
use crate::types::address::{Family, Vip};
use crate::types::backends::{Backends, Reach};
use crate::types::claim::{BackendKey, Claim, Families, FamilyPolicy, SharingKey};
use crate::types::lease::{Lease, Revision, Term};
use crate::types::node::{NodeName, NodeSpec};
use crate::types::pool::PoolName;
use crate::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use crate::types::time::UnixMillis;

/// The term of a request; 0 = a person's call, at the present term.
#[must_use]
pub fn term(value: u64) -> Option<Term> {
    (value != 0).then_some(Term(value))
}

/// A Service's name from a request.
///
/// # Errors
/// It is missing or a part of it is empty.
pub fn service_key(service: Option<pb::ServiceRef>) -> Result<ServiceKey, Violations> {
    let service = service.ok_or_else(|| Violations::one("service", MISSING))?;
    ServiceKey::new(&service.namespace, &service.name).map_err(|error| Violations::one("service", error.to_string()))
}

/// A Service's name for an answer.
#[must_use]
pub fn service_ref(key: &ServiceKey) -> pb::ServiceRef {
    pb::ServiceRef { namespace: key.namespace().to_owned(), name: key.name().to_owned() }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn protocol(value: i32) -> Result<Protocol, String> {
    match pb::Protocol::try_from(value) {
        Ok(pb::Protocol::Unspecified | pb::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(pb::Protocol::Udp) => Ok(Protocol::Udp),
        Ok(pb::Protocol::Sctp) => Ok(Protocol::Sctp),
        Err(_unknown) => Err(format!("protocol {value} is unknown")),
    }
}

fn port(port: pb::ServicePort) -> Result<ServicePort, String> {
    let protocol = protocol(port.protocol)?;
    match u16::try_from(port.port) {
        Ok(number) if number > 0 => Ok(ServicePort { protocol, port: number }),
        _ => Err(format!("port {} is not 1 to 65535", port.port)),
    }
}

fn port_to_pb(port: &ServicePort) -> pb::ServicePort {
    let protocol = match port.protocol {
        Protocol::Tcp => pb::Protocol::Tcp,
        Protocol::Udp => pb::Protocol::Udp,
        Protocol::Sctp => pb::Protocol::Sctp,
    };
    pb::ServicePort { protocol: protocol.into(), port: u32::from(port.port) }
}

fn family(value: i32) -> Result<Family, String> {
    match pb::IpFamily::try_from(value) {
        Ok(pb::IpFamily::Ipv4) => Ok(Family::V4),
        Ok(pb::IpFamily::Ipv6) => Ok(Family::V6),
        Ok(pb::IpFamily::Unspecified) | Err(_) => Err(format!("family {value} is unknown")),
    }
}

fn family_to_pb(family: Family) -> i32 {
    match family {
        Family::V4 => pb::IpFamily::Ipv4.into(),
        Family::V6 => pb::IpFamily::Ipv6.into(),
    }
}

fn families(list: &[Family]) -> Result<Families, String> {
    match list {
        [one] => Ok(Families::Single(*one)),
        [primary, other] if primary != other => Ok(Families::Dual { primary: *primary }),
        _ => Err(format!("want one family or two different ones, got {}", list.len())),
    }
}

fn policy(value: i32) -> Result<FamilyPolicy, String> {
    match pb::IpFamilyPolicy::try_from(value) {
        Ok(pb::IpFamilyPolicy::Unspecified | pb::IpFamilyPolicy::SingleStack) => Ok(FamilyPolicy::SingleStack),
        Ok(pb::IpFamilyPolicy::PreferDualStack) => Ok(FamilyPolicy::PreferDualStack),
        Ok(pb::IpFamilyPolicy::RequireDualStack) => Ok(FamilyPolicy::RequireDualStack),
        Err(_unknown) => Err(format!("policy {value} is unknown")),
    }
}

/// At most one address of each family.
fn requested(list: Vec<Vip>) -> Result<Vec<Vip>, String> {
    let families: BTreeSet<Family> = list.iter().map(|vip| vip.family()).collect();
    if families.len() == list.len() { Ok(list) } else { Err("at most one address of each family can be requested".to_owned()) }
}

impl TryFrom<pb::Claim> for Claim {
    type Error = Violations;

    fn try_from(claim: pb::Claim) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let service = bad.take("name", ServiceKey::new(&claim.namespace, &claim.name));
        let ports = each(&mut bad, "ports", claim.ports, port).into_iter().collect();
        let listed = each(&mut bad, "ip_families", claim.ip_families, family);
        let families = bad.take("ip_families", families(&listed));
        let policy = bad.take("ip_family_policy", policy(claim.ip_family_policy));
        let asked = each(&mut bad, "requested_addresses", &claim.requested_addresses, |text| text.parse::<Vip>());
        let requested_addresses = bad.take("requested_addresses", requested(asked));
        let adopt = each(&mut bad, "adopt_addresses", &claim.adopt_addresses, |text| text.parse::<Vip>());
        let parts = service.zip(families).zip(policy.zip(requested_addresses));
        let value = parts.map(|((service, families), (policy, requested_addresses))| Self {
            service,
            uid: ServiceUid(claim.uid),
            labels: claim.labels,
            namespace_labels: claim.namespace_labels,
            ports,
            families,
            policy,
            requested_addresses,
            requested_pool: PoolName::new(&claim.requested_pool),
            sharing_key: SharingKey::new(&claim.sharing_key),
            backend_key: BackendKey(claim.backend_key),
            adopt,
            created: (claim.created_unix_ms != 0).then_some(UnixMillis(claim.created_unix_ms)),
            retain: claim.retain_ms.map(Duration::from_millis),
            quota: claim.address_quota,
        });
        bad.finish(value)
    }
}

impl From<&Claim> for pb::Claim {
    fn from(claim: &Claim) -> Self {
        let ip_families = match claim.families {
            Families::Single(family) => vec![family_to_pb(family)],
            Families::Dual { primary } => vec![family_to_pb(primary), family_to_pb(primary.other())],
        };
        let policy = match claim.policy {
            FamilyPolicy::SingleStack => pb::IpFamilyPolicy::SingleStack,
            FamilyPolicy::PreferDualStack => pb::IpFamilyPolicy::PreferDualStack,
            FamilyPolicy::RequireDualStack => pb::IpFamilyPolicy::RequireDualStack,
        };
        Self {
            namespace: claim.service.namespace().to_owned(),
            name: claim.service.name().to_owned(),
            uid: claim.uid.0.clone(),
            labels: claim.labels.clone(),
            namespace_labels: claim.namespace_labels.clone(),
            ports: claim.ports.iter().map(port_to_pb).collect(),
            ip_families,
            ip_family_policy: policy.into(),
            requested_addresses: claim.requested_addresses.iter().map(ToString::to_string).collect(),
            requested_pool: claim.requested_pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            sharing_key: claim.sharing_key.as_ref().map(|key| key.as_str().to_owned()).unwrap_or_default(),
            backend_key: claim.backend_key.0.clone(),
            adopt_addresses: claim.adopt.iter().map(ToString::to_string).collect(),
            created_unix_ms: claim.created.map_or(0, |created| created.0),
            retain_ms: claim.retain.map(millis),
            address_quota: claim.quota,
        }
    }
}

impl TryFrom<pb::Lease> for Lease {
    type Error = Violations;

    fn try_from(lease: pb::Lease) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let service = service_key(lease.service).map_err(|inner| bad.nest("lease", inner)).ok();
        let addresses = each(&mut bad, "addresses", &lease.addresses, |text| text.parse::<Vip>());
        if addresses.is_empty() {
            bad.add("addresses", "is empty");
        }
        let pool = bad.take("pool", PoolName::new(&lease.pool).ok_or("is empty"));
        let ports = each(&mut bad, "ports", lease.ports, port).into_iter().collect();
        let value = service.zip(pool).map(|(service, pool)| Self {
            service,
            uid: ServiceUid(lease.uid),
            addresses,
            pool,
            ports,
            sharing_key: SharingKey::new(&lease.sharing_key),
            backend_key: BackendKey(lease.backend_key),
            revision: Revision(lease.revision),
            granted: UnixMillis(lease.granted_unix_ms),
            retain: lease.retain_ms.map(Duration::from_millis),
        });
        bad.finish(value)
    }
}

impl From<&Lease> for pb::Lease {
    fn from(lease: &Lease) -> Self {
        Self {
            service: Some(service_ref(&lease.service)),
            uid: lease.uid.0.clone(),
            addresses: lease.addresses.iter().map(ToString::to_string).collect(),
            pool: lease.pool.to_string(),
            ports: lease.ports.iter().map(port_to_pb).collect(),
            sharing_key: lease.sharing_key.as_ref().map(|key| key.as_str().to_owned()).unwrap_or_default(),
            backend_key: lease.backend_key.0.clone(),
            revision: lease.revision.0,
            granted_unix_ms: lease.granted.0,
            retain_ms: lease.retain.map(millis),
        }
    }
}

impl TryFrom<pb::Backends> for Backends {
    type Error = Violations;

    fn try_from(backends: pb::Backends) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let service = service_key(backends.service).map_err(|inner| bad.nest("backends", inner)).ok();
        let nodes = each(&mut bad, "nodes", &backends.nodes, |text| text.parse::<NodeName>());
        let reach = match pb::Reach::try_from(backends.reach) {
            Ok(pb::Reach::Nowhere) => Some(Reach::Nowhere),
            Ok(pb::Reach::Anywhere) => Some(Reach::Anywhere),
            Ok(pb::Reach::Nodes) => Some(Reach::Nodes(nodes.into_iter().collect())),
            Ok(pb::Reach::Unspecified) | Err(_) => {
                bad.add("reach", format!("{} is unknown", backends.reach));
                None
            }
        };
        let value = service.zip(reach).map(|(service, reach)| Self { service, reach });
        bad.finish(value)
    }
}

impl From<&Backends> for pb::Backends {
    fn from(backends: &Backends) -> Self {
        let (reach, nodes) = match &backends.reach {
            Reach::Nowhere => (pb::Reach::Nowhere, Vec::new()),
            Reach::Anywhere => (pb::Reach::Anywhere, Vec::new()),
            Reach::Nodes(nodes) => (pb::Reach::Nodes, nodes.iter().map(ToString::to_string).collect()),
        };
        Self { service: Some(service_ref(&backends.service)), reach: reach.into(), nodes }
    }
}

impl TryFrom<pb::Node> for NodeSpec {
    type Error = Violations;

    fn try_from(node: pb::Node) -> Result<Self, Violations> {
        let name = node.name.parse::<NodeName>().map_err(|error| Violations::one("name", error.to_string()))?;
        Ok(Self { name, labels: node.labels, network_unavailable: node.network_unavailable })
    }
}

impl From<&NodeSpec> for pb::Node {
    fn from(node: &NodeSpec) -> Self {
        Self { name: node.name.to_string(), labels: node.labels.clone(), network_unavailable: node.network_unavailable }
    }
}
