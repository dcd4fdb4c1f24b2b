//! The allocator: it leases addresses, keeps the leases on disk, and decides which node announces what.
//!
//! ```text
//!  grpc/allocator ─┐                                   ┌─ feed (grpc/inspect)
//!  grpc/operator ──┤                                   │
//!  grpc/inspect  ──┼─► engine ── decide, apply (core/) ─┼─ answers
//!  grpc/assignment ┘      └── store/ (sled) ── Durable ─┴─ speakers' streams
//! ```
//!
//! A second engine, without disk and speakers, is a shadow's: `grpc/shadow` sends it the calls that ask only what would be.
//!
//! Every decision is in [`core`], as functions over plain data; `engine` owns the state and is the only one to change it; nothing leaves
//! it before `store` has it on disk.

#![forbid(unsafe_code)]

pub mod args;
pub mod core;
mod engine;
pub mod export;
mod grpc;
mod logs;
mod metrics;
pub mod plan;
pub mod store;

use std::time::Duration;

use anyhow::Context as _;
use mooring_kit::admin::{self, Readiness};
use mooring_kit::clock::{Clock, wall};
use mooring_kit::metrics::GrpcMetrics;
use mooring_kit::server::{self, Api, Listener, Needs};
use mooring_kit::supervise::Supervisor;
use mooring_kit::tls;
use mooring_proto::pb::allocator_service_server::AllocatorServiceServer;
use mooring_proto::pb::assignment_service_server::AssignmentServiceServer;
use mooring_proto::pb::inspect_service_server::InspectServiceServer;
use mooring_proto::pb::operator_service_server::OperatorServiceServer;
use mooring_proto::types::lease::Epoch;
use mooring_proto::types::time::{Mono, UnixMillis};
use mooring_proto::{FILE_DESCRIPTOR_SET, LARGEST_CALL};
use tracing::info;

use crate::args::Args;
use crate::core::{Event, Now, State, apply};
use crate::engine::{Engine, Owner};
use crate::grpc::allocator::Allocator;
use crate::grpc::assignment::Assignments;
use crate::grpc::inspect::Inspect;
use crate::grpc::operator::Operator;
use crate::grpc::shadow::Shadowed;
use crate::metrics::Metrics;
use crate::store::{Found, HistoryReader, LeaseStore, Store};

/// How long open calls and streams have to end after a signal.
const DRAIN: Duration = Duration::from_secs(5);

/// How many facts of the records go from thread to thread at once, and how many times so many may wait: a few megabytes.
const CHUNK: usize = 1024;
const CHUNKS: usize = 8;

/// Runs the allocator until a signal or a fault.
///
/// # Errors
/// The records cannot be read or written, or an address cannot be listened at.
pub async fn run(args: Args) -> anyhow::Result<()> {
    info!(event = "starting", version = env!("CARGO_PKG_VERSION"), config = ?args, "Mooring allocator starting");
    let readiness = Readiness::new();
    let loaded = readiness.handle("store loaded");

    let mut state = State::new(args.settings());
    let (mut store, found) = load(&args, &mut state)?;
    core::audit_records(&state).context("the records contradict each other")?;
    if let Some(before) = found.schema.filter(|before| *before < store::SCHEMA) {
        info!(event = "storeMigrated", before, now = store::SCHEMA, "the records are of this build's schema now");
    }
    store.keep_history(args.history());
    let (history, last) = (store.history(), found.epoch);

    let mut supervisor = Supervisor::new();
    let listener = Listener::bind(&args.listen).await?;
    // What counts from the start counts from here, when the allocator can be reached: to read many records takes a while.
    let clock = Clock::start();
    let mut registry = mooring_kit::metrics::registry(env!("CARGO_PKG_VERSION"));
    let (metrics, grpc_metrics) = (Metrics::new(&mut registry), GrpcMetrics::new(&mut registry, clock));
    let (engine, owner) = Owner::new(state, Store::Disk(store), clock, metrics);
    let (shadow, shadow_owner) = Owner::new(State::shadow(args.settings()), Store::Nowhere, clock, Metrics::unseen());
    supervisor.thread("engine", move |stop| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(owner.run(next_epoch(last, wall()), || loaded.done(), stop.clone()))
    });
    supervisor.thread("shadow", move |stop| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(shadow_owner.run(next_epoch(last, wall()), || (), stop.clone()))
    });
    let allocator = |engine: &Engine| AllocatorServiceServer::new(Allocator::new(engine.clone())).max_decoding_message_size(LARGEST_CALL);
    let inspect = |engine: &Engine, history: Option<HistoryReader>| {
        InspectServiceServer::new(Inspect::new(engine.clone(), supervisor.spawner(), clock, history))
    };
    let assignments = AssignmentServiceServer::new(Assignments::new(engine.clone(), supervisor.spawner()));
    let api = Api::new(&[FILE_DESCRIPTOR_SET])
        .with(Shadowed::new(allocator(&engine), Some(allocator(&shadow))), Needs::Everything)
        .with(Shadowed::new(assignments, None), Needs::Everything)
        .with(Shadowed::new(OperatorServiceServer::new(Operator::new(engine.clone())), None), Needs::Everything)
        .with(Shadowed::new(inspect(&engine, Some(history)), Some(inspect(&shadow, None))), Needs::Everything);
    let stop = supervisor.stop();
    supervisor.task("grpc", server::serve(listener, api, tls::server(&args.common, &args.listen)?, grpc_metrics, readiness.clone(), stop));
    supervisor.task("admin", admin::serve(args.admin, registry, readiness, supervisor.stop()));
    supervisor.run(DRAIN).await
}

/// Reads the records and takes in what they say; one thread does the one and this one the other, as there may be a million.
fn load(args: &Args, state: &mut State) -> anyhow::Result<(LeaseStore, Found)> {
    let now = Now { mono: Mono::ZERO, wall: wall() };
    let (sender, chunks) = std::sync::mpsc::sync_channel::<Vec<Event>>(CHUNKS);
    std::thread::scope(|scope| {
        let read = move || {
            let mut chunk = Vec::new();
            let opened = LeaseStore::load(&args.data_dir, now.mono + args.pool_grace, now, |fact| {
                chunk.push(fact);
                if chunk.len() == CHUNK {
                    drop(sender.send(std::mem::take(&mut chunk)));
                }
            });
            drop(sender.send(chunk));
            opened
        };
        let reader = std::thread::Builder::new().name("records".to_owned()).spawn_scoped(scope, read)?;
        chunks.iter().flatten().for_each(|fact| apply(state, &fact));
        let opened = reader.join().map_err(|_panic| anyhow::anyhow!("the reader of the records panicked"))?;
        Ok(opened?)
    })
}

/// The next leadership: more than the last on disk, and more than any before it even if the disk was lost, as seconds since the Unix epoch.
#[must_use]
pub fn next_epoch(last: Epoch, now: UnixMillis) -> Epoch {
    Epoch(last.0.saturating_add(1).max(now.0 / 1000))
}
