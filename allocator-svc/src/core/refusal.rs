//! Why not: MetalLB's text first, then the cause (MetalLB behaviour 3.3, 5.5).

use std::fmt;

use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::address::{Family, Quoted, Vip};
use mooring_proto::types::lease::{Revision, Term};
use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::reservation::{Reservation, ReservationOrigin};
use mooring_proto::types::service::{ServiceKey, ServicePort};

/// What differs between two Services that may not share an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Differs {
    /// One of them has no sharing key, or another one.
    SharingKey,
    /// Their traffic policy or, under `Local`, their pod selector.
    BackendKey,
}

/// A rule said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The requested addresses are not of the Service's families.
    FamilyMismatch {
        /// The addresses.
        requested: Vec<Vip>,
    },
    /// The requested addresses are not all in one pool.
    NotInConfig {
        /// The addresses.
        requested: Vec<Vip>,
        /// What is the matter with them.
        cause: NotInConfig,
    },
    /// The pool is not for this Service.
    PoolNotCompatible {
        /// The pool.
        pool: PoolName,
    },
    /// The requested addresses are not in the requested pool.
    PoolMismatch {
        /// The addresses.
        requested: Vec<Vip>,
        /// The pool asked for.
        pool: PoolName,
        /// The pool that has them.
        actual: PoolName,
    },
    /// The requested pool does not exist.
    UnknownPool {
        /// The pool.
        pool: PoolName,
    },
    /// The requested pool has no address left for the Service.
    PoolFull {
        /// The pool.
        pool: PoolName,
        /// One address of each family was needed.
        dual: bool,
        /// For each family wanted: in use and in all.
        counts: Vec<Count>,
    },
    /// No pool has an address left for the Service.
    NoneAvailable {
        /// For each pool that was asked: what was wanted of it, in use and in all.
        asked: Vec<(PoolName, Vec<Count>)>,
    },
    /// The Service's namespace holds as many addresses as it may.
    QuotaExceeded {
        /// The namespace.
        namespace: String,
        /// How many different addresses its Services hold.
        held: usize,
        /// How many they may hold.
        quota: u32,
        /// How many more the Service needs.
        more: usize,
    },
    /// The address cannot be reserved, as somebody else holds it.
    AddressHeld {
        /// The address.
        vip: Vip,
        /// Who holds it.
        holders: Vec<ServiceKey>,
    },
    /// The address is in use by Services with which this one may not share.
    SharingForbidden {
        /// The Service that asks.
        service: ServiceKey,
        /// The address.
        vip: Vip,
        /// Who holds it.
        holders: Vec<ServiceKey>,
        /// The one thing that differs from the first of them.
        differs: Differs,
    },
    /// The address is shared with a Service that has the same port.
    PortInUse {
        /// The port.
        port: ServicePort,
        /// The address.
        vip: Vip,
        /// Who has it.
        holder: ServiceKey,
    },
    /// The node has no speaker, and the cluster has none of that name.
    UnknownNode {
        /// The node.
        node: NodeName,
    },
    /// A newer watcher leads.
    TermOutdated {
        /// The caller's term.
        given: Term,
        /// The newest.
        current: Term,
    },
    /// The feed does not reach back so far.
    RevisionNotKept {
        /// The revision asked for.
        revision: Revision,
    },
}

/// Why addresses are not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotInConfig {
    /// One of them is in no pool.
    NoPool(Vip),
    /// They are in different pools.
    TwoPools(PoolName, PoolName),
    /// `avoidBuggyIPs` keeps one back.
    Buggy(Vip, PoolName),
    /// One is kept for another Service, or for nobody, or another machine has it.
    Reserved(Box<Reservation>),
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The family.
    pub family: Family,
    /// Addresses in use.
    pub assigned: u64,
    /// Addresses in all, at most 2^63-1.
    pub total: u64,
    /// Addresses that are reserved and not in use.
    pub reserved: u64,
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {} addresses leased", self.assigned, self.total, self.family)?;
        if self.reserved > 0 { write!(f, " and {} reserved", self.reserved) } else { Ok(()) }
    }
}

fn join<T: fmt::Display>(list: &[T], separator: &str) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

impl fmt::Display for NotInConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool(vip) => write!(f, "{vip} is in no pool"),
            Self::TwoPools(one, other) => write!(f, "the addresses are in different pools, {one} and {other}"),
            Self::Buggy(vip, pool) => write!(f, "pool {pool} avoids buggy addresses such as {vip}"),
            Self::Reserved(reservation) => reservation.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FamilyMismatch { requested } => {
                write!(f, "requested loadBalancer IP(s) {} does not match the ipFamily of the service", Quoted(requested))
            }
            Self::NotInConfig { requested, cause } => write!(f, "{} is not allowed in config: {cause}", Quoted(requested)),
            Self::PoolNotCompatible { pool } => {
                write!(f, "pool {pool} not compatible for ip assignment: its serviceAllocation does not admit this Service")
            }
            Self::PoolMismatch { requested, pool, actual } => write!(
                f,
                "requested loadBalancer IP(s) {} is not compatible with requested address pool {pool}: pool {actual} has it",
                Quoted(requested)
            ),
            Self::UnknownPool { pool } => write!(f, "unknown pool {:?}", pool.as_str()),
            Self::PoolFull { pool, dual, counts } => {
                let dual = if *dual { " for dual IPFamily" } else { "" };
                write!(f, "no available IPs in pool {pool}{dual}: {}", join(counts, ", "))
            }
            Self::NoneAvailable { asked } if asked.is_empty() => f.write_str("no available IPs: no pool is open to this Service"),
            Self::NoneAvailable { asked } => {
                let pools = asked.iter().map(|(pool, counts)| format!("pool {pool}: {}", join(counts, ", "))).collect::<Vec<_>>();
                write!(f, "no available IPs: {}", pools.join("; "))
            }
            Self::QuotaExceeded { namespace, held, quota, more } => {
                write!(
                    f,
                    "no available IPs: namespace {namespace} holds {held} of its quota of {quota} addresses (mooring.io/address-quota)"
                )?;
                if *more > 1 { write!(f, ", and {more} more are needed") } else { Ok(()) }
            }
            Self::AddressHeld { vip, holders } => {
                write!(f, "{vip} is held by {}: only a Service that holds it alone can have it reserved", join(holders, ","))
            }
            Self::SharingForbidden { service, vip, holders, differs } => {
                let differs = match differs {
                    Differs::SharingKey => "sharing key",
                    Differs::BackendKey => "backend key (externalTrafficPolicy, or the selector under Local)",
                };
                let holders = join(holders, ",");
                write!(f, "can't change sharing key for \"{service}\", address also in use by {holders}: the {differs} on {vip} differs")
            }
            Self::PortInUse { port, vip, holder } => write!(f, "port {port} is already in use on \"{vip}\": {holder} has it"),
            Self::UnknownNode { node } => write!(f, "unknown node \"{node}\": it has no speaker, and the cluster has no such node"),
            Self::TermOutdated { given, current } => write!(f, "term {given} is over: a watcher leads with term {current}"),
            Self::RevisionNotKept { revision } => write!(f, "revision {revision} is not kept: ask for a snapshot, from_revision 0"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether there is no room, rather than a rule against the addresses.
    pub(crate) fn is_of_room(&self) -> bool {
        matches!(self, Self::PoolFull { .. } | Self::NoneAvailable { .. })
    }

    /// The machine-readable reason.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::FamilyMismatch { .. } => Reason::FamilyMismatch,
            Self::NotInConfig { cause: NotInConfig::Reserved(found), .. } if found.origin == ReservationOrigin::Quarantine => {
                Reason::AddressInUse
            }
            Self::NotInConfig { cause: NotInConfig::Reserved(_), .. } => Reason::AddressReserved,
            Self::NotInConfig { .. } => Reason::AddressNotInPool,
            Self::PoolNotCompatible { .. } => Reason::PoolNotCompatible,
            Self::PoolMismatch { .. } => Reason::PoolMismatch,
            Self::UnknownPool { .. } => Reason::UnknownPool,
            Self::PoolFull { .. } | Self::NoneAvailable { .. } => Reason::NoAvailableAddress,
            Self::QuotaExceeded { .. } => Reason::QuotaExceeded,
            Self::AddressHeld { .. } => Reason::AddressHeld,
            Self::SharingForbidden { .. } => Reason::SharingForbidden,
            Self::PortInUse { .. } => Reason::PortInUse,
            Self::UnknownNode { .. } => Reason::UnknownNode,
            Self::TermOutdated { .. } => Reason::TermOutdated,
            Self::RevisionNotKept { .. } => Reason::RevisionNotKept,
        }
    }
}

impl From<&Refusal> for WireRefusal {
    fn from(refusal: &Refusal) -> Self {
        let wire = Self::new(refusal.reason(), refusal.to_string());
        match refusal {
            Refusal::FamilyMismatch { requested } | Refusal::NotInConfig { requested, .. } => {
                requested.iter().fold(wire, |wire, vip| wire.with("vip", vip))
            }
            Refusal::PoolNotCompatible { pool } | Refusal::UnknownPool { pool } | Refusal::PoolFull { pool, .. } => wire.with("pool", pool),
            Refusal::PoolMismatch { pool, actual, .. } => wire.with("pool", pool).with("actual_pool", actual),
            Refusal::NoneAvailable { asked } if asked.is_empty() => wire,
            Refusal::NoneAvailable { asked } => wire.with("pool", join(&asked.iter().map(|(pool, _)| pool).collect::<Vec<_>>(), ",")),
            Refusal::QuotaExceeded { namespace, held, quota, .. } => {
                wire.with("namespace", namespace).with("held", held).with("quota", quota)
            }
            Refusal::AddressHeld { vip, holders } => wire.with("vip", vip).with("holder", join(holders, ",")),
            Refusal::SharingForbidden { vip, holders, differs, .. } => {
                let differs = match differs {
                    Differs::SharingKey => "key",
                    Differs::BackendKey => "backend",
                };
                wire.with("vip", vip).with("holder", join(holders, ",")).with("differs", differs)
            }
            Refusal::PortInUse { port, vip, holder } => {
                wire.with("vip", vip).with("holder", holder).with("differs", "port").with("port", port)
            }
            Refusal::UnknownNode { node } => wire.with("node", node),
            Refusal::TermOutdated { current, .. } => wire.with("term", current),
            Refusal::RevisionNotKept { revision } => wire.with("revision", revision),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_is_named_to_programs_too_also_if_there_are_several() {
        let pool = |name: &str| PoolName::new(name).unwrap();
        let counts = || vec![Count { family: Family::V4, assigned: 1, total: 1, reserved: 0 }];
        let cases = [
            (Refusal::PoolFull { pool: pool("a"), dual: false, counts: counts() }, Some("a")),
            (Refusal::NoneAvailable { asked: vec![(pool("a"), counts()), (pool("b"), counts())] }, Some("a,b")),
            (Refusal::NoneAvailable { asked: Vec::new() }, None),
        ];
        for (refusal, wanted) in cases {
            let wire = WireRefusal::from(&refusal);
            let pools = wanted.map(|pools| ("pool".to_owned(), pools.to_owned())).into_iter().collect();
            assert_eq!((wire.reason, wire.metadata), (Reason::NoAvailableAddress, pools), "{refusal}");
        }
    }
}
