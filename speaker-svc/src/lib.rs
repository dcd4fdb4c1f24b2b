//! Streams a node's assignments and answers for them by ARP and NDP on raw sockets.
//!
//! ```text
//!  allocator ⇄ session ──────┐            ┌────► reply table ──► responder threads ⇄ LAN
//!  kernel ───► links ────────┼──► engine ─┤                          │ claims
//!  people ───► grpc ─────────┘   (core)   └────► gratuitous frames ──┼─────────────► LAN
//!                                  ▲                                 │
//!                                  └─────────────────────────────────┘
//! ```
//!
//! | task or thread | file | does |
//! |---|---|---|
//! | engine | `engine.rs` | owns the state: takes news, has [`core`] decide, carries out what follows |
//! | session | `session.rs` | the stream to the allocator: hello, heartbeats, reconnection |
//! | links | `net/links.rs` | says what interfaces there are, whenever that changes |
//! | responder IFACE | `net/responder.rs` | one thread an interface: reads ARP and NDP, answers by the newest reply table |
//! | groups IFACE | `net/groups.rs` | one thread an interface: joins the groups that solicitations are sent to |
//! | grpc, admin | `grpc/` and mooring-kit | what people and probes ask |
//!
//! The way in is [`core`]; its first file lists all that can happen.

pub mod core;

pub mod args;
pub mod engine;
pub mod grpc;
pub mod logs;
pub mod metrics;
pub mod net;
pub mod session;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use mooring_kit::Stop;
use mooring_kit::admin::Readiness;
use mooring_kit::backoff::Backoff;
use mooring_kit::clock::Clock;
use mooring_kit::mailbox::{Address, mailbox};
use mooring_kit::metrics::GrpcMetrics;
use mooring_kit::server::{Api, Listener, Needs};
use mooring_kit::supervise::Supervisor;
use mooring_kit::{admin, server, tls};
use mooring_proto::pb::announcement_service_server::AnnouncementServiceServer;
use tokio::select;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::args::Config;
use crate::core::reply::ReplyTable;
use crate::core::{DRAIN_PATIENCE, Settings};
use crate::engine::{CLAIMS, Engine, EngineFault, INBOX, Input, Mailboxes, Ready};
use crate::grpc::announcement::Announcements;
use crate::metrics::Metrics;
use crate::net::links::{Links, LinksError};
use crate::net::responder::Shared;
use crate::net::socket;

/// How long the process may take to end: the drain, and a moment to say farewell.
const END: Duration = DRAIN_PATIENCE.saturating_add(Duration::from_secs(1));

/// Pauses after a list of links that could not be read.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs a speaker until it is asked to end.
///
/// # Errors
/// The first fault.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let Config { allocator, speaker, filter, refresh, admin, listen, common } = config;
    info!(event = logs::STARTING, version = env!("CARGO_PKG_VERSION"), node = %speaker.node, instance = %speaker.instance, %allocator, ?filter, ?refresh, "Mooring speaker starting");
    socket::check().map_err(EngineFault::Privilege)?;
    let clock = Clock::start();
    let mut service = Supervisor::new();
    let (stop, ending) = (service.stop(), Stop::new());

    let table = Arc::new(ArcSwap::from_pointee(ReplyTable::default()));
    let mut registry = mooring_kit::metrics::registry(env!("CARGO_PKG_VERSION"));
    let metrics = Metrics::register(&mut registry, &speaker.node, Arc::clone(&table));
    let calls = GrpcMetrics::new(&mut registry, clock);
    let readiness = Readiness::new();

    let (engine_address, inputs) = mailbox(INBOX);
    let (claims_address, claims) = mailbox(CLAIMS);
    let (heeded, drops) = (Arc::default(), metrics.drops.clone());
    let shared = Shared { table, heeded, claims: claims_address, ended: Arc::default(), grouped: Arc::default(), drops };
    let settings = Settings { speaker, boot_id: uuid::Uuid::new_v4().to_string(), refresh, seed: rand::random() };
    let ready =
        Ready { links: readiness.handle(LINKS), sockets: readiness.handle(SOCKETS), session: readiness.handle("assignments received") };
    let engine = Engine::new(settings, shared, metrics, clock, service.spawner(), ready);

    let connect = {
        let common = common.clone();
        move || tls::channel(&allocator, &common)
    };
    drop(connect().context("--allocator cannot be used")?);
    let listener = Listener::bind(&listen).await?;
    let announcements = AnnouncementServiceServer::new(Announcements::new(engine_address.clone()));
    // It tells what is announced, allocator or not.
    let api = Api::new(&[mooring_proto::FILE_DESCRIPTOR_SET]).with(announcements, Needs::Only(&[SOCKETS, DRAIN]));
    let (links, netlink) = Links::open(filter)?;

    service.task("engine", run_engine(engine, Mailboxes { inputs, claims }, stop.clone(), ending.clone()));
    service.task("netlink", run_netlink(netlink, ending.clone()));
    service.task("links", follow(links, engine_address.clone(), ending.clone()));
    service.task("session", run_session(connect, engine_address, readiness.clone(), ending.clone()));
    service.task("drain", not_ready_while_draining(readiness.clone(), stop, ending.clone()));
    service.task("grpc", server::serve(listener, api, tls::server(&common, &listen)?, calls, readiness.clone(), ending.clone()));
    service.task("admin", admin::serve(admin, registry, readiness, ending));
    service.run(END).await
}

/// What readiness waits for: the interfaces are known, one of them answers, and the process is not about to end.
const LINKS: &str = "interfaces known";
const SOCKETS: &str = "sockets open";
const DRAIN: &str = "drain";

/// The engine is asked to end by `stop`; when it has, the tasks that serve it end by `ending`.
async fn run_engine(engine: Engine, mut mailboxes: Mailboxes, stop: Stop, ending: Stop) -> anyhow::Result<()> {
    let ended = engine.run(&mut mailboxes, stop).await;
    // Before the mailboxes close: whoever finds them closed lets go of the netlink connection, whose end would count as a fault.
    ending.cancel();
    Ok(ended?)
}

async fn run_netlink(connection: impl Future<Output = ()>, ending: Stop) -> anyhow::Result<()> {
    select! {
        biased;
        () = ending.cancelled() => Ok(()),
        () = connection => Err(LinksError::Closed.into()),
    }
}

/// While it gives its addresses away the speaker still tells what it announces, and that nobody should count on it.
async fn not_ready_while_draining(readiness: Readiness, stop: Stop, ending: Stop) -> anyhow::Result<()> {
    stop.cancelled().await;
    let _never_done = readiness.handle(DRAIN);
    ending.cancelled().await;
    Ok(())
}

/// The first `Hello` tells the interfaces, so it waits until they are known: without any a speaker would be given nothing.
async fn run_session(
    connect: impl Fn() -> anyhow::Result<Channel> + Send,
    engine: Address<Input>,
    readiness: Readiness,
    ending: Stop,
) -> anyhow::Result<()> {
    let mut awaited = readiness.subscribe();
    let ready = async { awaited.wait_for(|waiting| !waiting.contains(&LINKS)).await.map(drop) };
    select! {
        biased;
        () = ending.cancelled() => return Ok(()),
        ready = ready => ready?,
    }
    session::run(connect, engine, ending).await
}

/// Tells the engine the links, now and after each change.
async fn follow(mut links: Links, engine: Address<Input>, ending: Stop) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let follow = async {
        loop {
            match links.list().await {
                // The engine's end is the engine's to explain.
                Ok(list) => match engine.send(Input::Links(list)).await {
                    Ok(()) => backoff.reset(),
                    Err(_closed) => return Ok(()),
                },
                Err(error) => {
                    warn!(event = logs::LINKS_FAILED, error = %mooring_kit::telemetry::chain(&error), "trying again");
                    backoff.pause().await;
                    continue;
                }
            }
            links.changed().await?;
        }
    };
    select! {
        biased;
        () = ending.cancelled() => Ok(()),
        ended = follow => ended,
    }
}
