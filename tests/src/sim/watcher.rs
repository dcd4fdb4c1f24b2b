//! What a watcher tells the allocator: all of it on each contact, then each change. The watcher's own core is not simulated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::Context as _;
use mooring_allocator::core::{Command, Leadership};
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::backends::{Backends, Reach};
use mooring_proto::types::claim::{BackendKey, Claim, Families, FamilyPolicy};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::Term;
use mooring_proto::types::node::{EXCLUDE_LABEL, NodeName, NodeSpec};
use mooring_proto::types::pool::{AdvertisementSpec, Configuration, PoolName, PoolSpec};
use mooring_proto::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};

/// How long a call takes at most to reach the allocator.
pub const CALL: Duration = Duration::from_millis(10);

/// What a call is about; what it says is what is so when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The configuration.
    Pools,
    /// All claims.
    View,
    /// All nodes.
    Nodes,
    /// Where all Services can be served.
    Backends,
    /// One Service.
    Service(ServiceKey),
}

/// All that a session begins with, in its order.
pub const SESSION: [Call; 4] = [Call::Pools, Call::Nodes, Call::View, Call::Backends];

/// What the cluster has.
#[derive(Debug)]
pub struct Watcher {
    /// Where each Service can be served.
    pub services: BTreeMap<ServiceKey, Reach>,
    /// The configuration.
    pub configuration: Configuration,
    /// The nodes; none = every node that has a speaker.
    pub nodes: Vec<NodeSpec>,
    /// What each Service's status holds.
    pub status: BTreeMap<ServiceKey, Vec<Vip>>,
    /// When the last change of it is told.
    pub changed: Mono,
}

impl Watcher {
    /// A cluster without Services.
    ///
    /// # Errors
    /// The configuration is no good.
    pub fn new() -> anyhow::Result<Self> {
        let (services, status) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { services, configuration: configuration(0)?, nodes: Vec::new(), status, changed: Mono::ZERO })
    }

    /// A call as it is made now; `None` = there is nothing to say.
    #[must_use]
    pub fn command(&self, call: &Call) -> Command {
        let leadership = Leadership::Term(Term(1));
        let backends = |services: &mut dyn Iterator<Item = (&ServiceKey, &Reach)>| {
            services.map(|(service, reach)| Backends { service: service.clone(), reach: reach.clone() }).collect()
        };
        match call {
            Call::Pools => Command::ReplacePools { leadership, configuration: self.configuration.clone() },
            Call::View => Command::Reconcile { leadership, claims: self.services.keys().map(|service| self.claim(service)).collect() },
            Call::Nodes => Command::ReplaceNodes { leadership, nodes: self.nodes.clone() },
            Call::Backends => Command::ReportBackends { leadership, backends: backends(&mut self.services.iter()) },
            Call::Service(service) if self.services.contains_key(service) => {
                Command::Allocate { leadership, claim: Box::new(self.claim(service)) }
            }
            Call::Service(service) => Command::Release { leadership, service: service.clone() },
        }
    }

    fn claim(&self, service: &ServiceKey) -> Claim {
        let number = service.name().trim_start_matches('s').parse().unwrap_or_default();
        let (families, policy) = match families(number) {
            [Some(primary), Some(_)] => (Families::Dual { primary }, FamilyPolicy::PreferDualStack),
            [one, other] => (Families::Single(one.or(other).unwrap_or(Family::V4)), FamilyPolicy::SingleStack),
        };
        Claim {
            service: service.clone(),
            uid: ServiceUid::default(),
            labels: Labels::new(),
            namespace_labels: Labels::new(),
            ports: BTreeSet::from([ServicePort { protocol: Protocol::Tcp, port: 80 }]),
            families,
            policy,
            requested_addresses: Vec::new(),
            requested_pool: None,
            sharing_key: None,
            backend_key: BackendKey::default(),
            quota: None,
            retain: None,
            adopt: self.status.get(service).cloned().unwrap_or_default(),
            created: Some(UnixMillis(1)),
        }
    }

    /// The Service whose status holds a VIP.
    #[must_use]
    pub fn holder(&self, vip: Vip) -> Option<&ServiceKey> {
        let held = self.status.iter().find(|(service, vips)| vips.contains(&vip) && self.services.contains_key(service))?;
        Some(held.0)
    }

    /// The VIPs that Services have.
    #[must_use]
    pub fn vips(&self) -> BTreeSet<Vip> {
        self.services.keys().filter_map(|service| self.status.get(service)).flatten().copied().collect()
    }

    /// Whether the cluster lets a node announce a VIP.
    #[must_use]
    pub fn admits(&self, vip: Vip, node: &NodeName) -> bool {
        let spec = self.nodes.iter().find(|spec| spec.name == *node);
        let listed = self.nodes.is_empty() || spec.is_some_and(|spec| !spec.labels.contains_key(EXCLUDE_LABEL));
        let served = self.holder(vip).and_then(|service| self.services.get(service)).is_some_and(|reach| match reach {
            Reach::Nowhere => false,
            Reach::Anywhere => true,
            Reach::Nodes(nodes) => nodes.contains(node),
        });
        listed && served
    }

    /// Whether a VIP may be announced on an interface.
    #[must_use]
    pub fn advertises_on(&self, interface: &str) -> bool {
        let fits = |ad: &AdvertisementSpec| ad.interfaces.is_empty() || ad.interfaces.iter().any(|name| name.as_str() == interface);
        self.configuration.advertisements().iter().any(fits)
    }
}

/// A Service by number.
///
/// # Errors
/// None for a number.
pub fn service(number: u8) -> anyhow::Result<ServiceKey> {
    ServiceKey::new("default", &format!("s{number}")).context("the name of a Service")
}

/// The families of a Service's addresses, in order: each third one has both, and of the others every second IPv6.
#[must_use]
pub const fn families(number: u8) -> [Option<Family>; 2] {
    match number % 6 {
        0 => [Some(Family::V6), Some(Family::V4)],
        3 => [Some(Family::V4), Some(Family::V6)],
        2 | 5 => [Some(Family::V6), None],
        _ => [Some(Family::V4), None],
    }
}

/// The address with this number of those that the usual configuration hands out, the lowest first.
#[must_use]
pub fn address(family: Family, number: u8) -> Vip {
    match family {
        Family::V4 => Vip::from(Ipv4Addr::new(172, 17, 200, number)),
        Family::V6 => Vip::from(Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, u16::from(number))),
    }
}

/// A node by number.
///
/// # Errors
/// None for a number.
pub fn node(number: u8) -> anyhow::Result<NodeName> {
    NodeName::new(&format!("node-{number}")).context("the name of a node")
}

/// The cluster's word about a node.
///
/// # Errors
/// None for a number.
pub fn node_spec(number: u8, excluded: bool) -> anyhow::Result<NodeSpec> {
    let labels = if excluded { Labels::from([(EXCLUDE_LABEL.to_owned(), String::new())]) } else { Labels::new() };
    Ok(NodeSpec { name: node(number)?, labels, network_unavailable: false, cordoned: false })
}

/// How many configurations there are.
pub const CONFIGURATIONS: u8 = 4;

/// One of the configurations: the usual one of both families, one with other addresses, one with the first interface only, one that advertises nothing.
///
/// # Errors
/// It is no good.
pub fn configuration(number: u8) -> anyhow::Result<Configuration> {
    let ranges =
        if number == 1 { ["172.17.200.3-172.17.200.40", "fd00:200::3-fd00:200::40"] } else { ["172.17.200.0/27", "fd00:200::/123"] };
    let ranges = ranges.iter().map(|range| range.parse().context("the range of a pool")).collect::<anyhow::Result<_>>()?;
    let pool = PoolSpec {
        name: PoolName::new("a").context("the name of a pool")?,
        ranges,
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        labels: Labels::new(),
    };
    let advertisement = AdvertisementSpec {
        name: "all".to_owned(),
        pools: BTreeSet::new(),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: if number == 2 { super::interface(1).into_iter().collect() } else { BTreeSet::new() },
        service_selectors: Vec::new(),
        preferences: Vec::new(),
    };
    let advertisements = if number == 3 { Vec::new() } else { vec![advertisement] };
    Configuration::new(vec![pool], advertisements).map_err(|errors| anyhow::anyhow!("{errors:?}"))
}
