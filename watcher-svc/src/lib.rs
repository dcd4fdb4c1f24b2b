//! The watcher: it turns Service events into allocation requests, and writes status and Events.
//!
//! ```text
//!  source/kube ─┐                  ┌─ allocator.rs: Allocate, Release, Reconcile, …
//!  source/dir  ─┴► k8s/ (parse) ─► engine ── core/ (what next?) ─┤
//!  allocator.rs: the lease feed ──►┘        └─ source::Sink: status, Events, counters
//! ```
//!
//! Every decision is in [`core`]; `engine` owns the state and carries out the jobs that it names, one a Service at a time. With `--shadow`
//! the allocator's shadow is asked, nothing is written, and `shadow` logs where what would be differs from what is there.

#![forbid(unsafe_code)]

mod allocator;
pub mod args;
pub mod core;
mod engine;
pub mod k8s;
mod logs;
mod metrics;
mod shadow;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_kit::admin::{self, Readiness};
use mooring_kit::clock::{Clock, since_epoch};
use mooring_kit::leader::{self, Leadership};
use mooring_kit::metrics::GrpcMetrics;
use mooring_kit::server::{self, Api, Listener};
use mooring_kit::supervise::Supervisor;
use mooring_kit::tls;
use mooring_proto::FILE_DESCRIPTOR_SET;
use mooring_proto::types::lease::Term;
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::allocator::Allocator;
use crate::args::{Args, Source};
use crate::core::state::State;
use crate::engine::{CHANGES, Engine, Inputs};
use crate::metrics::Metrics;
use crate::source::dir::{Before, Writer};
use crate::source::kube::{Cluster, LEASE};
use crate::source::status_dir::StatusDir;
use crate::source::{Sink, dir, kube};

/// How long what is in flight has to end after a signal.
const DRAIN: Duration = Duration::from_secs(5);

/// How long a leader's Lease lives without being renewed, and the pause between renewals.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const LEASE_RENEW: Duration = Duration::from_secs(3);

/// Runs the watcher until a signal or a fault.
///
/// # Errors
/// The source cannot be read, or an address cannot be listened at.
pub async fn run(args: Args) -> anyhow::Result<()> {
    info!(event = "starting", version = env!("CARGO_PKG_VERSION"), config = ?args, "Mooring watcher starting");
    let clock = Clock::start();
    let readiness = Readiness::new();
    let listed = readiness.handle("source listed");
    let mut registry = mooring_kit::metrics::registry(env!("CARGO_PKG_VERSION"));
    let (metrics, grpc_metrics) = (Metrics::new(&mut registry), GrpcMetrics::new(&mut registry, clock));
    let mut supervisor = Supervisor::new();
    let listener = Listener::bind(&args.listen).await?;

    let (changes, incoming) = mpsc::channel(CHANGES);
    let (outdated, beyond) = watch::channel(Term::default());
    let (sink, leadership) = match &args.source {
        Source::Dir(root) => {
            let (status, writer) = if args.shadow {
                (StatusDir::look(&args.status_dir, &args.namespace), Writer::Other)
            } else {
                (StatusDir::open(&args.status_dir, &args.namespace)?, Writer::Own)
            };
            let config = dir::DirConfig { namespace: args.namespace.clone(), config_map: args.config.clone() };
            let (statuses, copies) = (status.statuses()?, status.copies());
            let before = Before { statuses, copies, services: status.services_folder(), pools: status.pools_folder(), writer };
            let follow = dir::follow(root.clone(), config, before, changes, clock, supervisor.stop());
            supervisor.task("manifests", follow);
            (if args.shadow { Sink::Shadow } else { Sink::Folder(status) }, None)
        }
        Source::Kube if args.shadow => {
            let cluster = Cluster::find(&args.namespace, &args.config, None).await?;
            supervisor.task("watches", kube::watch::watch(cluster, changes, supervisor.stop()));
            (Sink::Shadow, None)
        }
        Source::Kube => {
            let cluster = Cluster::find(&args.namespace, &args.config, std::env::var("POD_NAMESPACE").ok()).await?;
            supervisor.task("watches", kube::watch::watch(cluster.clone(), changes, supervisor.stop()));
            let (leader, leadership) = watch::channel(Leadership::Follower);
            let host = std::env::var("POD_NAME").or_else(|_unset| std::env::var("HOSTNAME")).unwrap_or_else(|_unset| "watcher".to_owned());
            let settings = leader::Settings {
                name: LEASE.to_owned(),
                identity: format!("{host}-{}-{}", std::process::id(), since_epoch().as_nanos()),
                duration: LEASE_DURATION,
                renew: LEASE_RENEW,
            };
            supervisor.task("election", leader::elect(cluster.leases(), settings, leader, beyond, supervisor.stop()));
            (Sink::Cluster(cluster), Some(leadership))
        }
    };
    let engine = if args.shadow { allocator::Engine::Shadow } else { allocator::Engine::Serving };
    let allocator = Allocator::new(tls::channel(&args.allocator, &args.common)?, engine);
    let (news, feed) = allocator::feed_channel();
    supervisor.task("lease feed", allocator::follow(allocator.clone(), news, supervisor.stop()));
    let state = State::new(engine::settings(&args), leadership.is_some());
    let engine = Engine { state, allocator, sink: Arc::new(sink), clock, metrics, uids: BTreeMap::new(), outdated };
    let inputs = Inputs { changes: incoming, feed, leadership };
    supervisor.task("engine", engine.run(inputs, || listed.done(), supervisor.stop()));
    let api = Api::new(&[FILE_DESCRIPTOR_SET]);
    let stop = supervisor.stop();
    supervisor.task("grpc", server::serve(listener, api, tls::server(&args.common, &args.listen)?, grpc_metrics, readiness.clone(), stop));
    supervisor.task("admin", admin::serve(args.admin, registry, readiness, supervisor.stop()));
    supervisor.run(DRAIN).await
}
