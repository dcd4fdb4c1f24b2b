//! What a Service's owner is told: status and Events, each once for the same state (MetalLB behaviour 3.5, 3.6).

use std::collections::BTreeSet;

use mooring_proto::types::address::{Quoted, Vip};
use mooring_proto::types::node::NodeName;
use mooring_proto::types::service::ServiceKey;

use super::service::{Why, Wish};
use super::{Fed, Refused};
use crate::k8s::crd::L2Status;
use crate::k8s::service::ServiceView;
use crate::k8s::status::ServiceStatus;

/// An Event to be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Draft {
    /// Somebody should look.
    pub warning: bool,
    /// The machine-readable reason.
    pub reason: &'static str,
    /// The text.
    pub note: String,
    /// It is about announcing rather than about addresses.
    pub announcing: bool,
}

impl Draft {
    fn normal(reason: &'static str, note: String) -> Self {
        Self { warning: false, reason, note, announcing: false }
    }

    fn warning(reason: &'static str, note: String) -> Self {
        Self { warning: true, reason, note, announcing: false }
    }

    fn cleared(service: &ServiceKey, why: &str) -> Self {
        Self::normal(
            "ClearAssignment",
            format!("current IP for \"{service}\" not allowed by config, will attempt for new IP assignment: {why}"),
        )
    }

    fn of_speaker(self) -> Self {
        Self { announcing: true, ..self }
    }
}

/// What was last reported of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reported {
    addresses: Vec<Vip>,
    nodes: BTreeSet<NodeName>,
    complaints: BTreeSet<Draft>,
    /// The Service was found with the addresses it has: who announces it then is no news.
    adopted: bool,
}

impl Reported {
    /// What a status that was found says: it has been reported already.
    #[must_use]
    pub fn found(view: &ServiceView) -> Self {
        let addresses = view.assigned.clone().unwrap_or_default();
        Self { adopted: !addresses.is_empty(), addresses, ..Self::default() }
    }

    /// Takes the present state as reported and returns the Events that tell of the difference.
    pub fn update(&mut self, view: &ServiceView, wish: &Wish, fed: &Fed) -> Vec<Draft> {
        let mut drafts = Vec::new();
        if let Some(lease) = &fed.lease {
            let before: BTreeSet<Vip> = self.addresses.iter().copied().collect();
            let now: BTreeSet<Vip> = lease.addresses.iter().copied().collect();
            if before != now {
                if !before.is_subset(&now) && view.requested_addresses.as_ref().is_ok_and(Vec::is_empty) && view.requested_pool.is_none() {
                    let lost: Vec<Vip> = before.difference(&now).copied().collect();
                    drafts.push(Draft::cleared(&view.key, &format!("{} is in no pool that serves it", Quoted(&lost))));
                }
                let added: Vec<&Vip> = now.difference(&before).collect();
                let note = match added.as_slice() {
                    [one] if !before.is_empty() && before.is_subset(&now) => format!("Assigned additional IP \"{one}\""),
                    _ => format!("Assigned IP {}", Quoted(&lease.addresses)),
                };
                drafts.push(Draft::normal("IPAllocated", note));
                self.adopted = false;
            }
            self.addresses.clone_from(&lease.addresses);
        } else if matches!(wish, Wish::Nothing(_)) {
            self.addresses.clear();
        } else if let Some(refusal) = fed.refusal.as_ref().filter(|_| !self.addresses.is_empty()) {
            drafts.push(Draft::cleared(&view.key, &refusal.message));
            self.addresses.clear();
        }
        let nodes: BTreeSet<NodeName> = fed.announcements.values().filter_map(|announced| announced.node.clone()).collect();
        if !self.adopted || !self.nodes.is_empty() {
            let come = nodes.difference(&self.nodes);
            drafts.extend(come.map(|node| {
                Draft::normal("nodeAssigned", format!("announcing from node \"{node}\" with protocol \"layer2\"")).of_speaker()
            }));
        }
        if !nodes.is_empty() {
            self.nodes = nodes;
        }
        let complaints = complaints(view, wish, fed);
        drafts.extend(complaints.difference(&self.complaints).cloned());
        self.complaints = complaints;
        drafts
    }
}

/// What is wrong with a Service now, or was left unused.
fn complaints(view: &ServiceView, wish: &Wish, fed: &Fed) -> BTreeSet<Draft> {
    let mut complaints = BTreeSet::new();
    let key = &view.key;
    match wish {
        Wish::Claim(_) => {
            if let Some(Refused { message, .. }) = &fed.refusal {
                complaints.insert(Draft::warning("AllocationFailed", format!("Failed to allocate IP for \"{key}\": {message}")));
            }
            if let Err(error) = &view.retain {
                complaints.insert(Draft::warning("InvalidAnnotation", format!("{error}; it counts as not given")));
            }
            if let Err(error) = &view.assigned {
                complaints.insert(Draft::warning("nolbIPsIPFamily", error.to_string()));
            }
        }
        Wish::Hold(Why::BadRequest(text)) if fed.lease.is_some() => {
            complaints.insert(Draft::warning("LoadBalancerFailed", format!("invalid requested loadbalancer IPs: {text}")));
        }
        Wish::Hold(Why::BadRequest(text)) => {
            complaints.insert(Draft::warning("AllocationFailed", format!("Failed to allocate IP for \"{key}\": {text}")));
        }
        Wish::Hold(Why::BadClusterIps(text)) => {
            complaints.insert(Draft::warning("noclusterIPsIPFamily", text.clone()));
        }
        Wish::Nothing(Why::NotEnoughClusterIps(list)) => {
            let list = list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            complaints
                .insert(Draft::warning("not enough clusterips", format!("Service requires dual stack but not enough clusterips [{list}]")));
        }
        Wish::Nothing(_) | Wish::Hold(_) | Wish::Foreign => {}
    }
    if let Wish::Claim(_) = wish {
        let deprecated = view.deprecated_annotations.iter();
        complaints
            .extend(deprecated.map(|key| Draft::warning("deprecatedAnnotation", format!("Service uses deprecated annotation {key}"))));
        for (vip, announced) in &fed.announcements {
            if !announced.conflict_mac.is_empty() {
                let mac = &announced.conflict_mac;
                let note =
                    format!("another machine, {mac}, claims \"{vip}\": find it on the network, or move the Service to another address");
                complaints.insert(Draft::warning("AddressConflict", note).of_speaker());
            }
            if announced.reason.starts_with("no node") || announced.reason.starts_with("no L2Advertisement") {
                let note = format!("nobody announces \"{vip}\": {}", announced.reason);
                complaints.insert(Draft::warning("announceFailed", note).of_speaker());
            }
        }
    }
    complaints
}

/// The status that a Service is to have; `None` = it is left as it is. `pools` says whether there are any.
#[must_use]
pub fn status(view: &ServiceView, wish: &Wish, fed: Option<&Fed>, pools: bool) -> Option<ServiceStatus> {
    let lease = fed.and_then(|fed| fed.lease.as_ref());
    match wish {
        Wish::Foreign => None,
        Wish::Nothing(_) => Some(ServiceStatus::cleared()),
        Wish::Claim(_) | Wish::Hold(_) => match (lease, wish) {
            (Some(lease), _) => Some(ServiceStatus::holding(&lease.addresses, &lease.pool)),
            // Without any pool an empty status would say that the addresses are gone, and DNS would forget them.
            (None, Wish::Claim(_)) if pools || view.status.ingress.is_empty() => {
                fed.filter(|fed| fed.refusal.is_some()).map(|_| ServiceStatus::cleared())
            }
            (None, _) => None,
        },
    }
}

/// Who announces a Service; `None` = nobody.
#[must_use]
pub fn l2_status(service: &ServiceKey, fed: Option<&Fed>) -> Option<L2Status> {
    let announced = fed?.announcements.values().find(|announced| announced.node.is_some())?;
    Some(L2Status { service: service.clone(), node: announced.node.clone()?, interfaces: announced.interfaces.clone() })
}

#[cfg(test)]
mod tests;
