//! Service → claim, or none (MetalLB behaviour 3.1 to 3.4).

use std::net::IpAddr;

use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::Lease;

use crate::k8s::service::{ServiceType, ServiceView};

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

/// What is to be done for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It claims addresses.
    Claim(Box<Claim>),
    /// It is to hold nothing, and its status to say nothing.
    Nothing(Why),
    /// It is another implementation's: nothing of it is touched, and nothing is held for it.
    Foreign,
    /// What it wants cannot be told: it keeps what it has.
    Hold(Why),
}

/// Why a Service claims nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its type is another one.
    NotLoadBalancer,
    /// It has no cluster IP yet.
    NoClusterIps,
    /// RequireDualStack, and fewer than two cluster IPs.
    NotEnoughClusterIps(Vec<IpAddr>),
    /// Its cluster IPs make no sense; MetalLB's text.
    BadClusterIps(String),
    /// Its request makes no sense; MetalLB's text.
    BadRequest(String),
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
pub fn wish(view: &ServiceView, namespace_labels: &Labels, settings: &Settings) -> Wish {
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
        Err(why @ Why::NotEnoughClusterIps(_)) => return Wish::Nothing(why),
        Err(why) => return Wish::Hold(why),
    };
    let requested_addresses = match &view.requested_addresses {
        Ok(addresses) => addresses.clone(),
        Err(error) => return Wish::Hold(Why::BadRequest(error.to_string())),
    };
    Wish::Claim(Box::new(Claim {
        service: view.key.clone(),
        uid: view.uid.clone(),
        labels: view.labels.clone(),
        namespace_labels: namespace_labels.clone(),
        ports: view.ports.clone(),
        families,
        policy: view.policy,
        requested_addresses,
        requested_pool: view.requested_pool.clone(),
        sharing_key: view.sharing_key.clone(),
        backend_key: view.backend_key.clone(),
        adopt: view.assigned.clone().unwrap_or_default(),
        created: view.created,
    }))
}

/// The families of the cluster IPs; in a directory, where nobody assigns them, those that the Service names.
fn families(view: &ServiceView, settings: &Settings) -> Result<Families, Why> {
    let addresses = view.cluster_ips.as_ref().map_err(|error| Why::BadClusterIps(error.to_string()))?;
    match addresses.as_slice() {
        [] if settings.is_cluster => Err(Why::NoClusterIps),
        [] => Ok(named_families(view)),
        [_one] if view.policy == FamilyPolicy::RequireDualStack => Err(Why::NotEnoughClusterIps(addresses.clone())),
        [one] => Ok(Families::Single(Family::of(*one))),
        [one, ..] => Ok(Families::Dual { primary: view.families.first().copied().unwrap_or_else(|| Family::of(*one)) }),
    }
}

fn named_families(view: &ServiceView) -> Families {
    let primary = view.families.first().copied().unwrap_or(Family::V4);
    match view.policy {
        FamilyPolicy::SingleStack => Families::Single(primary),
        FamilyPolicy::PreferDualStack | FamilyPolicy::RequireDualStack => Families::Dual { primary },
    }
}

/// The claim that keeps a lease as it is, for a Service whose object cannot be read.
#[must_use]
pub fn claim_of_lease(lease: &Lease) -> Claim {
    let families = match lease.addresses.as_slice() {
        [one, _other] => Families::Dual { primary: one.family() },
        other => Families::Single(other.first().map_or(Family::V4, |vip| vip.family())),
    };
    Claim {
        service: lease.service.clone(),
        uid: lease.uid.clone(),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        ports: lease.ports.clone(),
        families,
        policy: FamilyPolicy::SingleStack,
        requested_addresses: lease.addresses.clone(),
        requested_pool: None,
        sharing_key: lease.sharing_key.clone(),
        backend_key: lease.backend_key.clone(),
        adopt: lease.addresses.clone(),
        created: None,
    }
}

#[cfg(test)]
mod tests;
