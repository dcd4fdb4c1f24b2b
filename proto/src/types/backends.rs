//! From where a Service may be announced.

use std::collections::BTreeSet;

use super::node::NodeName;
use super::service::ServiceKey;

/// Which nodes can serve a Service (MetalLB behaviour 6, steps 1 and 5e).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// No endpoint can serve: nobody announces.
    Nowhere,
    /// Any node can: policy Cluster, or an endpoint without a node.
    Anywhere,
    /// Only these: policy Local.
    Nodes(BTreeSet<NodeName>),
}

/// What a watcher reports of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backends {
    /// The Service.
    pub service: ServiceKey,
    /// Which nodes can serve it.
    pub reach: Reach,
}
