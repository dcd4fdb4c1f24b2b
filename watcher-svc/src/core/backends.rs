//! From where a Service can be announced (MetalLB behaviour 6, steps 1 and 5e). Pods that are served before they are ready
//! (`publishNotReadyAddresses`) count as ready in the slices.

use std::collections::BTreeSet;

use mooring_proto::types::backends::Reach;
use mooring_proto::types::node::NodeName;

use super::service::Settings;
use crate::k8s::annotations::Announce;
use crate::k8s::endpoints::EndpointsView;
use crate::k8s::service::{ServiceView, TrafficPolicy};

/// Which nodes can serve a Service, by its slices. In a directory a Service without any slice is served on every node; one that is to be
/// announced always is announced anywhere while nobody serves it.
#[must_use]
pub fn reach<'a>(view: &ServiceView, slices: impl Iterator<Item = &'a EndpointsView>, settings: &Settings) -> Reach {
    let mut any_slice = false;
    let (mut serving, mut anywhere, mut nodes) = (false, false, BTreeSet::<NodeName>::new());
    for endpoint in slices.inspect(|_| any_slice = true).flat_map(|slice| &slice.endpoints).filter(|endpoint| endpoint.serving) {
        serving = true;
        match &endpoint.node {
            Some(node) => {
                nodes.insert(node.clone());
            }
            None => anywhere = true,
        }
    }
    if !any_slice && !settings.is_cluster {
        return Reach::Anywhere;
    }
    match view.traffic_policy {
        _ if !serving => match view.announce.as_ref().ok().copied().flatten().unwrap_or_default() {
            Announce::WhileServed => Reach::Nowhere,
            Announce::Always => Reach::Anywhere,
        },
        TrafficPolicy::Cluster => Reach::Anywhere,
        TrafficPolicy::Local if anywhere => Reach::Anywhere,
        TrafficPolicy::Local => Reach::Nodes(nodes),
    }
}

#[cfg(test)]
mod tests;
