//! Every decision of the watcher, as functions over plain data.
//!
//! [`state::State`] takes what was seen ([`Seen`]), what the allocator said ([`Fed`]) and what became of a piece of work ([`Done`]), and
//! says what to do next ([`Job`]): for each Service the first thing that is not yet as it should be. One job a Service is in flight, so
//! its newest state wins and a lost answer is simply asked for again.

use std::collections::BTreeMap;

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::{Lease, Revision, Term};
use mooring_proto::types::node::{InterfaceName, NodeName, NodeSpec};
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::service::ServiceKey;

use crate::k8s::crd::L2Status;
use crate::k8s::endpoints::EndpointsView;
use crate::k8s::namespace::NamespaceView;
use crate::k8s::service::ServiceView;
use crate::k8s::{ObjectRef, ParseError};

pub mod backends;
pub mod pools;
pub mod queue;
pub mod report;
pub mod service;
pub mod shadow;
pub mod state;
pub mod verdicts;

/// What a source shows of one object.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A Service.
    Service(Box<ServiceView>),
    /// Endpoints of a Service.
    Endpoints(EndpointsView),
    /// A namespace.
    Namespace(NamespaceView),
    /// A node.
    Node(NodeSpec),
    /// A part of the configuration.
    Config(ObjectRef, Box<pools::Part>),
    /// An object that does not parse: its last good view stays.
    Malformed(ObjectRef, Vec<ParseError>),
    /// An object is gone.
    Gone(ObjectRef),
    /// Every kind has been listed once.
    Synced,
}

/// What the allocator says of one Service.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fed {
    /// What it holds.
    pub lease: Option<Lease>,
    /// Why its newest claim is not met.
    pub refusal: Option<Refused>,
    /// Why the addresses that it had before could not stay; `None` if it changed them by its own wish, or never.
    pub untenable: Option<Refused>,
    /// Who announces its addresses.
    pub announcements: BTreeMap<Vip, Announced>,
}

/// Why a claim is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The machine-readable reason.
    pub reason: String,
    /// The text for people.
    pub message: String,
}

/// Who announces an address.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Announced {
    /// The node; `None` = nobody.
    pub node: Option<NodeName>,
    /// The interfaces; empty = all.
    pub interfaces: Vec<InterfaceName>,
    /// Why nobody does.
    pub reason: String,
    /// Nobody may: none of the nodes that have speakers may, or no speaker comes.
    pub no_eligible_node: bool,
    /// Why the node announces it though it is drained; empty if it is not.
    pub last_resort: String,
    /// The first of them that may but for the advertised interfaces, of which it has none.
    pub lacks_interfaces: Option<NodeName>,
    /// The stranger that claims the address.
    pub conflict_mac: String,
}

/// A piece of work for the outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// Give the allocator the configuration.
    Pools {
        /// The configuration.
        configuration: Configuration,
        /// Begin a leadership with it.
        begin_term: bool,
    },
    /// Give the allocator the full view.
    View {
        /// All claims.
        claims: Vec<Claim>,
        /// Begin a leadership with it.
        begin_term: bool,
    },
    /// Give the allocator the nodes.
    Nodes(Vec<NodeSpec>),
    /// Tell the allocator where Services can be served.
    Backends(Vec<Backends>),
    /// Tell an object's owner what is wrong with it as a part of the configuration.
    Complain(ObjectRef, String),
    /// One step for one Service.
    Service(ServiceKey, Step),
}

/// A step for one Service.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Claim addresses.
    Allocate(Box<Claim>),
    /// Give them back.
    Release,
    /// Tell where it can be served.
    Backends(Backends),
    /// Patch its status.
    Status(serde_json::Value),
    /// Write an Event about it.
    Event(report::Draft),
    /// Say who announces it; `None` = nobody.
    L2(Option<L2Status>),
    /// Its object is gone: nothing of it is to be left.
    Forget,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// It is done.
    Ok,
    /// The allocator granted.
    Granted(Box<Lease>),
    /// The allocator refused the claim.
    Refused(Refused),
    /// It failed, and may succeed when it is tried again.
    Failed,
    /// It failed, and will again until something changes.
    Hopeless,
    /// A newer watcher leads.
    Outdated(Term),
    /// The leadership began, or went on, with this term; the feed has told all that follows once it reaches the revision.
    Led(Term, Revision),
}
