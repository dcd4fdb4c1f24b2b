//! Metrics.

use std::sync::atomic::AtomicU64;

use mooring_proto::types::address::Family;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Series;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::core::State;
use crate::core::nodes::Liveness;

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// It got addresses.
    Granted,
    /// It waits.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
    family: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LivenessLabels {
    liveness: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrainLabels {
    by: &'static str,
}

/// The allocator's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    claims: Series<OutcomeLabels, Counter>,
    leases: Gauge,
    waiting: Gauge,
    assigned: Series<PoolLabels, Gauge<f64, AtomicU64>>,
    available: Series<PoolLabels, Gauge<f64, AtomicU64>>,
    reserved: Series<PoolLabels, Gauge<f64, AtomicU64>>,
    reservations: Gauge,
    speakers: Series<LivenessLabels, Gauge>,
    vips: Gauge,
    unannounced: Gauge,
    drained: Series<DrainLabels, Gauge>,
    last_resorts: Gauge,
    unreachable: Gauge,
    contested: Gauge,
    in_use: Counter,
    conflicts: Counter,
    moves: Counter,
    /// Seconds that a batch took to reach the disk.
    pub(crate) flush_seconds: Histogram,
    /// Commands in a batch.
    pub(crate) batch: Histogram,
}

impl Metrics {
    /// Registered at zero.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            claims: Series::default(),
            leases: Gauge::default(),
            waiting: Gauge::default(),
            assigned: Series::default(),
            available: Series::default(),
            reserved: Series::default(),
            reservations: Gauge::default(),
            speakers: Series::default(),
            vips: Gauge::default(),
            unannounced: Gauge::default(),
            drained: Series::default(),
            last_resorts: Gauge::default(),
            unreachable: Gauge::default(),
            contested: Gauge::default(),
            in_use: Counter::default(),
            conflicts: Counter::default(),
            moves: Counter::default(),
            flush_seconds: Histogram::new(exponential_buckets(0.000_05, 2.0, 16)),
            batch: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
        };
        for outcome in [Outcome::Granted, Outcome::Refused] {
            drop(metrics.claims.get_or_create(&OutcomeLabels { outcome }));
        }
        for by in ["hand", "cordon"] {
            drop(metrics.drained.get_or_create(&DrainLabels { by }));
        }
        registry.register("mooring_allocator_claims", "Claims by what became of them", metrics.claims.clone());
        registry.register("mooring_allocator_leases", "Services that hold addresses", metrics.leases.clone());
        registry.register("mooring_allocator_waiting", "Services whose newest claim is not met", metrics.waiting.clone());
        registry.register("mooring_allocator_pool_assigned_addresses", "Addresses in use", metrics.assigned.clone());
        registry.register("mooring_allocator_pool_available_addresses", "Addresses that can be handed out", metrics.available.clone());
        let reserved = "Addresses that are reserved and held by nobody";
        registry.register("mooring_allocator_pool_reserved_addresses", reserved, metrics.reserved.clone());
        registry.register("mooring_allocator_reservations", "Reservations of addresses", metrics.reservations.clone());
        registry.register("mooring_allocator_speakers", "Speakers by how they are", metrics.speakers.clone());
        registry.register("mooring_allocator_vips", "Addresses in use", metrics.vips.clone());
        registry.register("mooring_allocator_unannounced_vips", "Addresses in use that no node announces", metrics.unannounced.clone());
        registry.register("mooring_allocator_drained_nodes", "Nodes that are drained, by whom", metrics.drained.clone());
        let last_resorts = "Addresses in use that a drained node announces, as no other is eligible";
        registry.register("mooring_allocator_last_resort_vips", last_resorts, metrics.last_resorts.clone());
        let help = "Addresses that their node does not answer for, as another node sees it";
        registry.register("mooring_allocator_unreachable_vips", help, metrics.unreachable.clone());
        let help = "Addresses that not only their node answers for, as another node sees it";
        registry.register("mooring_allocator_contested_vips", help, metrics.contested.clone());
        registry.register(
            "mooring_allocator_addresses_in_use",
            "Addresses found at other machines before they were announced",
            metrics.in_use.clone(),
        );
        registry.register("mooring_allocator_conflicts", "Strangers seen to claim an address", metrics.conflicts.clone());
        registry.register("mooring_allocator_moves", "Addresses that changed their node", metrics.moves.clone());
        registry.register("mooring_allocator_flush_seconds", "Time for a batch to reach the disk", metrics.flush_seconds.clone());
        registry.register("mooring_allocator_batch_commands", "Commands in a batch", metrics.batch.clone());
        metrics
    }

    /// Counts what nobody asks for.
    pub(crate) fn unseen() -> Self {
        Self::new(&mut Registry::default())
    }

    pub(crate) fn claim(&self, outcome: Outcome) {
        self.claims.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.inc();
    }

    pub(crate) fn in_use(&self) {
        self.in_use.inc();
    }

    pub(crate) fn moved(&self) {
        self.moves.inc();
    }

    /// Sets the gauges to what the state says.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
    pub(crate) fn observe(&self, state: &State) {
        let (book, network) = (state.book(), state.network());
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.leases.set(gauge(book.leases().len()));
        self.waiting.set(gauge(book.waiting().len()));
        self.vips.set(gauge(book.holders().len()));
        self.unannounced.set(gauge(network.unannounced()));
        let drains = network.drains();
        for (by, count) in [("hand", drains.by_hand().len()), ("cordon", drains.cordoned().len())] {
            self.drained.get_or_create(&DrainLabels { by }).set(gauge(count));
        }
        self.last_resorts.set(gauge(network.last_resorts()));
        self.unreachable.set(gauge(network.unreachable()));
        self.contested.set(gauge(network.contested()));
        self.assigned.clear();
        self.available.clear();
        self.reserved.clear();
        self.reservations.set(gauge(book.reservations().all().len()));
        for (name, pool) in book.pools() {
            for (family, label) in [(Family::V4, "ipv4"), (Family::V6, "ipv6")] {
                let labels = PoolLabels { pool: name.to_string(), family: label };
                let count = pool.count(family);
                self.assigned.get_or_create(&labels).set(count.assigned as f64);
                self.reserved.get_or_create(&labels).set(count.reserved as f64);
                self.available.get_or_create(&labels).set(pool.available(family) as f64);
            }
        }
        for liveness in ["live", "grace", "draining", "lost", "awaited"] {
            let count = network.speakers().values().filter(|speaker| name_of(speaker.liveness) == liveness).count();
            self.speakers.get_or_create(&LivenessLabels { liveness }).set(gauge(count));
        }
    }
}

const fn name_of(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Live => "live",
        Liveness::Grace(_) => "grace",
        Liveness::Draining => "draining",
        Liveness::Lost => "lost",
        Liveness::Awaited => "awaited",
    }
}
