//! Service → claim, or none (MetalLB behaviour 3.1 to 3.4).

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::Lease;

use crate::k8s::annotations::RequestError;
use crate::k8s::service::{ClusterIpsError, ServiceType, ServiceView};

/// Which Services are taken, and what their source does for them.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `--lb-class`.
    pub lb_class: Option<String>,
    /// Somebody assigns cluster IPs and writes EndpointSlices: an API server, not a directory.
    pub is_cluster: bool,
    /// `--shadow`: nothing is written, and what would be is compared with what is there.
    pub is_shadow: bool,
}

/// What of a namespace matters to its Services.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Its labels.
    pub labels: Labels,
    /// How many different addresses its Services may hold together; `None` = any number.
    pub quota: Option<u32>,
}

/// A namespace that nothing is known of.
pub static UNKNOWN: Namespace = Namespace { labels: Labels::new(), quota: None };

/// What is to be done for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It claims addresses.
    Claim(Box<Claim>),
    /// It is to hold nothing, and its status to say nothing.
    Nothing(Why),
    /// It is another implementation's: nothing of it is touched, and nothing is held for it.
    Foreign,
    /// What it wants cannot be told: it keeps just what it has.
    Hold(Why),
}

/// Why a Service claims nothing, or nothing new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its type is another one.
    NotLoadBalancer,
    /// It has no cluster IP yet.
    NoClusterIps,
    /// RequireDualStack, and fewer than two cluster IPs: `spec.clusterIPs` as it is written.
    NotEnoughClusterIps(Vec<String>),
    /// Its cluster IPs make no sense.
    BadClusterIps(ClusterIpsError),
    /// Its request makes no sense.
    BadRequest(RequestError),
}

impl Why {
    /// The word for the log (MetalLB behaviour 10).
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotLoadBalancer => "notLoadBalancer",
            Self::NoClusterIps => "noClusterIPs",
            Self::NotEnoughClusterIps(_) => "notEnoughClusterIPs",
            Self::BadClusterIps(_) => "noclusterIPsIPFamily",
            Self::BadRequest(_) => "badRequest",
        }
    }
}

/// What is to be done for a Service.
#[must_use]
pub fn wish(view: &ServiceView, namespace: &Namespace, settings: &Settings) -> Wish {
    if view.service_type != ServiceType::LoadBalancer {
        // The API server drops the class with the type, so the class says nothing here; the annotation says whose the status is.
        let is_own = settings.lb_class.is_none() || view.status.pool.is_some();
        return if is_own { Wish::Nothing(Why::NotLoadBalancer) } else { Wish::Foreign };
    }
    if view.class != settings.lb_class {
        return Wish::Foreign;
    }
    let families = match families(view, settings) {
        Ok(families) => families,
        Err(why @ (Why::NoClusterIps | Why::NotEnoughClusterIps(_))) => return Wish::Nothing(why),
        Err(why) => return Wish::Hold(why),
    };
    match &view.requested_addresses {
        Ok(addresses) => Wish::Claim(Box::new(Claim {
            requested_addresses: addresses.clone(),
            requested_pool: view.requested_pool.clone(),
            ..claim(view, namespace, families, view.policy)
        })),
        Err(error) => Wish::Hold(Why::BadRequest(error.clone())),
    }
}

/// A claim of any addresses.
fn claim(view: &ServiceView, namespace: &Namespace, families: Families, policy: FamilyPolicy) -> Claim {
    Claim {
        service: view.key.clone(),
        uid: view.uid.clone(),
        labels: view.labels.clone(),
        namespace_labels: namespace.labels.clone(),
        ports: view.ports.clone(),
        families,
        policy,
        requested_addresses: Vec::new(),
        requested_pool: None,
        sharing_key: view.sharing_key.clone(),
        backend_key: view.backend_key.clone(),
        adopt: view.assigned.clone().unwrap_or_default(),
        created: view.created,
        retain: view.retain.clone().unwrap_or_default(),
        quota: namespace.quota,
    }
}

/// The families of the cluster IPs; in a directory, where nobody assigns them, those that the Service names.
fn families(view: &ServiceView, settings: &Settings) -> Result<Families, Why> {
    if matches!(&view.cluster_ips, Ok(addresses) if addresses.is_empty()) {
        return if settings.is_cluster { Err(Why::NoClusterIps) } else { Ok(named_families(view)) };
    }
    if view.policy == FamilyPolicy::RequireDualStack && view.cluster_ip_list.len() < 2 {
        return Err(Why::NotEnoughClusterIps(view.cluster_ip_list.clone()));
    }
    match &view.cluster_ips {
        Ok(addresses) => Ok(match addresses.as_slice() {
            [one] => Families::Single(Family::of(*one)),
            [..] => Families::Dual { primary: primary(view) },
        }),
        Err(error) => Err(Why::BadClusterIps(error.clone())),
    }
}

fn named_families(view: &ServiceView) -> Families {
    match view.policy {
        FamilyPolicy::SingleStack => Families::Single(primary(view)),
        FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack => Families::Dual { primary: primary(view) },
    }
}

/// The family preferred, IPv4 where nothing is said, whatever the cluster IPs begin with (MetalLB behaviour 5.3).
fn primary(view: &ServiceView) -> Family {
    view.families.first().copied().unwrap_or(Family::V4)
}

/// The claim by which a Service keeps just these addresses, under its present ports and keys, while what it wants cannot be told.
#[must_use]
pub fn keeping(view: &ServiceView, namespace: &Namespace, addresses: &[Vip]) -> Claim {
    let families = families_of(addresses);
    Claim { requested_addresses: addresses.to_vec(), ..claim(view, namespace, families, FamilyPolicy::SingleStack) }
}

/// The claim that keeps a lease as it is, for a Service whose object cannot be read.
#[must_use]
pub fn claim_of_lease(lease: &Lease) -> Claim {
    Claim {
        service: lease.service.clone(),
        uid: lease.uid.clone(),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        ports: lease.ports.clone(),
        families: families_of(&lease.addresses),
        policy: FamilyPolicy::SingleStack,
        requested_addresses: lease.addresses.clone(),
        requested_pool: None,
        sharing_key: lease.sharing_key.clone(),
        backend_key: lease.backend_key.clone(),
        adopt: lease.addresses.clone(),
        created: None,
        retain: lease.retain,
        quota: None,
    }
}

fn families_of(addresses: &[Vip]) -> Families {
    match addresses {
        [one, _other] => Families::Dual { primary: one.family() },
        other => Families::Single(other.first().map_or(Family::V4, |vip| vip.family())),
    }
}

#[cfg(test)]
mod tests;
