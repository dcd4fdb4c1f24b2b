//! What a Service's owner is told: status and Events, each once for the same state (MetalLB behaviour 3.5, 3.6).

use std::collections::BTreeSet;

use mooring_proto::types::address::{Quoted, Vip};
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy};
use mooring_proto::types::lease::Lease;
use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;

use super::service::{Why, Wish};
use super::{Announced, Fed, Refused};
use crate::k8s::annotations::ValueError;
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

    fn deprecated(annotation: &str) -> Self {
        Self::warning("deprecatedAnnotation", format!("Service uses deprecated annotation {annotation}"))
    }

    fn malformed(error: &ValueError) -> Self {
        Self::warning("InvalidAnnotation", format!("{error}; it counts as not given"))
    }

    fn of_speaker(self) -> Self {
        Self { announcing: true, ..self }
    }

    /// Whether it is about how things stand rather than about what was asked: a Service that was found with its addresses has been told.
    fn is_standing(&self) -> bool {
        matches!(
            self.reason,
            "deprecatedAnnotation" | "InvalidAnnotation" | "AdditionalAssignFailed" | "AddressConflict" | "announceFailed" | "lastResort"
        )
    }

    /// What the log says with it.
    fn line(&self, view: &ServiceView, wish: &Wish, fed: &Fed) -> Option<Line> {
        match self.reason {
            "AllocationFailed" => failure(view, wish, fed).map(|(reason, error)| Line::Failed { reason, error }),
            "deprecatedAnnotation" => {
                let mut annotations = view.deprecated_annotations.iter();
                annotations.find(|annotation| Self::deprecated(annotation) == *self).cloned().map(Line::Deprecated)
            }
            "InvalidAnnotation" => view.malformed().find(|error| Self::malformed(error) == *self).cloned().map(Line::Malformed),
            _ => None,
        }
    }
}

/// A line for the log (MetalLB behaviour 10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The Service does not keep the addresses that it had.
    Cleared(Cleared),
    /// Its claim is not met.
    Failed {
        /// The machine-readable reason.
        reason: String,
        /// MetalLB's text, then the cause.
        error: String,
    },
    /// This annotation of it makes no sense.
    Malformed(ValueError),
    /// It uses this annotation.
    Deprecated(String),
}

/// Why a Service does not keep the addresses that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// There is no pool any more.
    NoPools,
    /// They may not stay, for this reason.
    NotAllowed(String),
    /// It asks for another pool.
    DifferentPool,
    /// It asks for other addresses.
    DifferentAddress,
}

/// What is to be told of a Service now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct News {
    /// The Events to write.
    pub drafts: Vec<Draft>,
    /// The lines for the log.
    pub lines: Vec<Line>,
}

/// What was last reported of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reported {
    addresses: Vec<Vip>,
    pool: Option<PoolName>,
    nodes: BTreeSet<NodeName>,
    complaints: BTreeSet<Draft>,
    /// The Service was found with the addresses it has: who announces it then is no news.
    adopted: bool,
    /// What was wrong with it when it was found is known, and was told by whoever gave it its addresses.
    seeded: bool,
}

impl Reported {
    /// What a status that was found says: it has been reported already.
    #[must_use]
    pub fn found(view: &ServiceView) -> Self {
        let addresses = view.assigned.clone().unwrap_or_default();
        let pool = view.status.pool.as_deref().and_then(PoolName::new);
        Self { adopted: !addresses.is_empty(), seeded: addresses.is_empty(), addresses, pool, ..Self::default() }
    }

    /// Whether addresses that were reported are not among these: why is to be told with it.
    #[must_use]
    pub fn loses_by(&self, addresses: &[Vip]) -> bool {
        self.addresses.iter().any(|address| !addresses.contains(address))
    }

    /// Takes the present state as reported and returns what tells of the difference. `any_pool` says that there are pools: without any,
    /// nobody is told that addresses go or cannot be had (MetalLB behaviour 3.4.2).
    pub fn update(&mut self, view: &ServiceView, wish: &Wish, fed: &Fed, any_pool: bool) -> News {
        let mut news = News::default();
        if let Some(lease) = &fed.lease {
            self.holds(view, fed, lease, any_pool, &mut news);
        } else if matches!(wish, Wish::Nothing(_)) {
            (self.addresses, self.pool) = (Vec::new(), None);
        } else if fed.refusal.is_some() && !self.addresses.is_empty() {
            news.cleared(view, self, fed, any_pool);
            (self.addresses, self.pool) = (Vec::new(), None);
            self.adopted = false;
        }
        self.announced(fed, &mut news);
        if any_pool {
            let complaints = complaints(view, wish, fed);
            if !std::mem::replace(&mut self.seeded, true) && self.adopted {
                self.complaints.extend(complaints.iter().filter(|complaint| complaint.is_standing()).cloned());
            }
            let new: Vec<Draft> = complaints.difference(&self.complaints).cloned().collect();
            news.lines.extend(new.iter().flat_map(|draft| draft.line(view, wish, fed)));
            news.drafts.extend(new);
            self.complaints = complaints;
        }
        news
    }

    fn holds(&mut self, view: &ServiceView, fed: &Fed, lease: &Lease, any_pool: bool, news: &mut News) {
        let before: BTreeSet<Vip> = self.addresses.iter().copied().collect();
        let now: BTreeSet<Vip> = lease.addresses.iter().copied().collect();
        if before != now {
            if !before.is_subset(&now) {
                news.cleared(view, self, fed, any_pool);
            }
            let added: Vec<&Vip> = now.difference(&before).collect();
            // RequireDualStack and a request begin anew; only PreferDualStack adds to what is there (MetalLB behaviour 3.4.8).
            let adds = view.policy == FamilyPolicy::PreferDualStack && view.requested_addresses.as_ref().is_ok_and(Vec::is_empty);
            let note = match added.as_slice() {
                [one] if adds && !before.is_empty() && before.is_subset(&now) => format!("Assigned additional IP \"{one}\""),
                _ => format!("Assigned IP {}", Quoted(&lease.addresses)),
            };
            news.drafts.push(Draft::normal("IPAllocated", note));
            self.adopted = false;
        }
        self.addresses.clone_from(&lease.addresses);
        self.pool = Some(lease.pool.clone());
    }

    fn announced(&mut self, fed: &Fed, news: &mut News) {
        let nodes: BTreeSet<NodeName> = fed.announcements.values().filter_map(|announced| announced.node.clone()).collect();
        if !self.adopted || !self.nodes.is_empty() {
            let come = nodes.difference(&self.nodes);
            news.drafts.extend(come.map(|node| {
                Draft::normal("nodeAssigned", format!("announcing from node \"{node}\" with protocol \"layer2\"")).of_speaker()
            }));
        }
        let is_told = fed.announcements.values().any(|announced| announced.no_eligible_node);
        if !nodes.is_empty() {
            self.nodes = nodes;
        } else if is_told && !self.nodes.is_empty() {
            // It was told that nobody may, so it is news who does again.
            self.nodes.clear();
            self.adopted = false;
        }
    }
}

impl News {
    /// The Service does not keep what it had: by a rule, which is told, or by its own wish, which is not.
    fn cleared(&mut self, view: &ServiceView, before: &Reported, fed: &Fed, any_pool: bool) {
        let other_pool = view.requested_pool.is_some() && view.requested_pool != before.pool;
        let others_asked = view.requested_addresses.as_ref().is_ok_and(|asked| !asked.is_empty());
        let why = match &fed.untenable {
            _ if !any_pool => Cleared::NoPools,
            Some(Refused { message, .. }) => {
                self.drafts.push(Draft::cleared(&view.key, message));
                Cleared::NotAllowed(message.clone())
            }
            None if other_pool => Cleared::DifferentPool,
            None if others_asked => Cleared::DifferentAddress,
            None => return,
        };
        self.lines.push(Line::Cleared(why));
    }
}

/// Why a Service has no addresses, or not those that it wants: the machine-readable reason, and MetalLB's text with the cause.
fn failure(view: &ServiceView, wish: &Wish, fed: &Fed) -> Option<(String, String)> {
    let (why, text) = match wish {
        Wish::Claim(_) => {
            let stays = fed.lease.as_ref().map(|lease| format!("; it keeps {}", Quoted(&lease.addresses))).unwrap_or_default();
            return fed.refusal.as_ref().map(|refused| (refused.reason.clone(), format!("{}{stays}", refused.message)));
        }
        Wish::Hold(why @ Why::BadRequest(error)) => (why, error.to_string()),
        Wish::Hold(why @ Why::BadClusterIps(error)) => (why, error.why.to_string()),
        Wish::Hold(_) | Wish::Nothing(_) | Wish::Foreign => return None,
    };
    // What its status holds may be kept: until that is refused, nothing has failed.
    let holds = fed.lease.is_some() || (fed.refusal.is_none() && view.assigned.as_ref().is_ok_and(|assigned| !assigned.is_empty()));
    (!holds).then(|| (why.as_str().to_owned(), text))
}

/// What is wrong with a Service now, or was left unused.
fn complaints(view: &ServiceView, wish: &Wish, fed: &Fed) -> BTreeSet<Draft> {
    let mut complaints = BTreeSet::new();
    let key = &view.key;
    if let Some((_, error)) = failure(view, wish, fed) {
        complaints.insert(Draft::warning("AllocationFailed", format!("Failed to allocate IP for \"{key}\": {error}")));
    }
    match wish {
        Wish::Claim(claim) => {
            complaints.extend(view.malformed().map(Draft::malformed));
            if let Err(error) = &view.assigned {
                complaints.insert(Draft::warning("nolbIPsIPFamily", error.to_string()));
            }
            complaints.extend(second_missing(claim, fed));
        }
        Wish::Hold(Why::BadRequest(error)) if fed.lease.is_some() => {
            complaints.insert(Draft::warning("LoadBalancerFailed", format!("invalid requested loadbalancer IPs: {error}")));
        }
        Wish::Hold(Why::BadClusterIps(error)) if fed.lease.is_some() || view.assigned.as_ref().is_ok_and(|has| !has.is_empty()) => {
            complaints.insert(Draft::warning("noclusterIPsIPFamily", error.to_string()));
        }
        Wish::Nothing(Why::NotEnoughClusterIps(list)) => {
            let note = format!("Service requires dual stack but not enough clusterips [{}]", list.join(" "));
            complaints.insert(Draft::warning("not enough clusterips", note));
        }
        Wish::Nothing(_) | Wish::Hold(_) | Wish::Foreign => {}
    }
    if let Wish::Claim(_) | Wish::Hold(_) = wish {
        let deprecated = view.deprecated_annotations.iter().filter(|_| fed.lease.is_some());
        complaints.extend(deprecated.map(|annotation| Draft::deprecated(annotation)));
        complaints.extend(fed.announcements.iter().flat_map(|(vip, announced)| unannounced(*vip, announced)));
    }
    complaints
}

/// A Service that would rather have an address of each family has one alone.
fn second_missing(claim: &Claim, fed: &Fed) -> Option<Draft> {
    let wants_both = matches!(claim.families, Families::Dual { .. }) && claim.policy == FamilyPolicy::PreferDualStack;
    let lease = fed.lease.as_ref().filter(|_| wants_both && fed.refusal.is_none())?;
    let [one] = lease.addresses.as_slice() else { return None };
    let (pool, missing) = (&lease.pool, one.family().other());
    let why = format!("no available IPs in pool {pool} for dual IPFamily: no {missing} address is to be had");
    Some(Draft::normal("AdditionalAssignFailed", format!("cannot assign additional IP in PreferDualStack: {why}")))
}

/// What is wrong with an address on the network: a stranger claims it, nobody may announce it, or a node that is drained cannot be left.
fn unannounced(vip: Vip, announced: &Announced) -> Vec<Draft> {
    let mut complaints = Vec::new();
    if !announced.conflict_mac.is_empty() {
        let mac = &announced.conflict_mac;
        let note = format!("another machine, {mac}, claims \"{vip}\": find it on the network, or move the Service to another address");
        complaints.push(Draft::warning("AddressConflict", note).of_speaker());
    }
    if announced.no_eligible_node {
        let reason = &announced.reason;
        let note = match &announced.lacks_interfaces {
            Some(node) => format!(
                "the interfaces specified by LB IP \"{vip}\" doesn't exist in assigned node \"{node}\" with protocol \"layer2\": {reason}"
            ),
            None => format!("nobody announces \"{vip}\": {reason}"),
        };
        complaints.push(Draft::warning("announceFailed", note).of_speaker());
    }
    if !announced.last_resort.is_empty() {
        complaints.push(Draft::warning("lastResort", format!("\"{vip}\" stays: {}", announced.last_resort)).of_speaker());
    }
    complaints
}

/// The status that a Service is to have; `None` = it is left as it is.
#[must_use]
pub fn status(view: &ServiceView, wish: &Wish, fed: Option<&Fed>) -> Option<ServiceStatus> {
    let lease = fed.and_then(|fed| fed.lease.as_ref());
    let is_refused = fed.is_some_and(|fed| fed.refusal.is_some());
    match wish {
        Wish::Foreign => None,
        Wish::Nothing(_) => Some(ServiceStatus::cleared()),
        Wish::Claim(_) | Wish::Hold(_) if lease.is_some() => lease.map(|lease| ServiceStatus::holding(&lease.addresses, &lease.pool)),
        Wish::Claim(_) => is_refused.then(ServiceStatus::cleared),
        // Nothing of what stands there can be kept, or it was refused.
        Wish::Hold(Why::BadRequest(_)) if is_refused || view.assigned.as_ref().is_ok_and(Vec::is_empty) || view.assigned.is_err() => {
            Some(ServiceStatus::cleared())
        }
        Wish::Hold(_) => None,
    }
}

/// Who announces a Service, or why nobody may; `None` = nobody, and nobody is to.
#[must_use]
pub fn l2_status(service: &ServiceKey, fed: Option<&Fed>) -> Option<L2Status> {
    let all = &fed?.announcements;
    let silent = || all.values().find(|announced| announced.no_eligible_node);
    let announced = all.values().find(|announced| announced.node.is_some()).or_else(silent)?;
    let reason = if announced.node.is_some() { &announced.last_resort } else { &announced.reason };
    let (node, interfaces) = (announced.node.clone(), announced.interfaces.clone());
    Some(L2Status { service: service.clone(), node, interfaces, reason: reason.clone() })
}

#[cfg(test)]
mod tests;
