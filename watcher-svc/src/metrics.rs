//! Metrics, under MetalLB's names where it has them (MetalLB behaviour 9).

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::allocator::PoolCount;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

type ByPool = Family<PoolLabels, Gauge<f64, AtomicU64>>;

/// The watcher's metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    addresses: ByPool,
    in_use: ByPool,
    v4_addresses: ByPool,
    v4_in_use: ByPool,
    v6_addresses: ByPool,
    v6_in_use: ByPool,
    updates: Counter,
    errors: Counter,
    loaded: Gauge,
    stale: Gauge,
    shadow_differs: Gauge,
}

impl Metrics {
    /// Registered at zero.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            addresses: ByPool::default(),
            in_use: ByPool::default(),
            v4_addresses: ByPool::default(),
            v4_in_use: ByPool::default(),
            v6_addresses: ByPool::default(),
            v6_in_use: ByPool::default(),
            updates: Counter::default(),
            errors: Counter::default(),
            loaded: Gauge::default(),
            stale: Gauge::default(),
            shadow_differs: Gauge::default(),
        };
        registry.register("metallb_allocator_addresses_total", "Number of usable IP addresses per pool", metrics.addresses.clone());
        registry.register("metallb_allocator_addresses_in_use_total", "Number of IP addresses in use per pool", metrics.in_use.clone());
        let v4 = "Number of usable IPv4 addresses per pool";
        registry.register("metallb_allocator_ipv4_addresses_total", v4, metrics.v4_addresses.clone());
        registry.register(
            "metallb_allocator_ipv4_addresses_in_use_total",
            "Number of IPv4 addresses in use per pool",
            metrics.v4_in_use.clone(),
        );
        let v6 = "Number of usable IPv6 addresses per pool";
        registry.register("metallb_allocator_ipv6_addresses_total", v6, metrics.v6_addresses.clone());
        registry.register(
            "metallb_allocator_ipv6_addresses_in_use_total",
            "Number of IPv6 addresses in use per pool",
            metrics.v6_in_use.clone(),
        );
        registry.register("metallb_k8s_client_updates", "Number of object updates that were processed", metrics.updates.clone());
        registry.register("metallb_k8s_client_update_errors", "Number of object updates that failed", metrics.errors.clone());
        registry.register(
            "metallb_k8s_client_config_loaded_bool",
            "1 if the configuration was successfully loaded at least once",
            metrics.loaded.clone(),
        );
        registry.register("metallb_k8s_client_config_stale_bool", "1 if running on a stale configuration", metrics.stale.clone());
        let differs = "Services that would have other addresses than they have, with --shadow";
        registry.register("mooring_watcher_shadow_differs", differs, metrics.shadow_differs.clone());
        metrics
    }

    pub(crate) fn update(&self) {
        self.updates.inc();
    }

    pub(crate) fn update_error(&self) {
        self.errors.inc();
    }

    pub(crate) fn config_loaded(&self) {
        self.loaded.set(1);
        self.stale.set(0);
    }

    pub(crate) fn config_stale(&self) {
        self.stale.set(1);
    }

    pub(crate) fn shadow_differs(&self, services: usize) {
        self.shadow_differs.set(i64::try_from(services).unwrap_or(i64::MAX));
    }

    /// Shows the pools as they are; those that are gone have no series.
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
    pub(crate) fn pools(&self, counts: &[PoolCount]) {
        for family in [&self.addresses, &self.in_use, &self.v4_addresses, &self.v4_in_use, &self.v6_addresses, &self.v6_in_use] {
            family.clear();
        }
        for count in counts {
            let labels = PoolLabels { pool: count.name.clone() };
            let set = |family: &ByPool, value: f64| {
                let _before = family.get_or_create(&labels).set(value);
            };
            let (v4, v6) = (count.assigned.0 as f64, count.assigned.1 as f64);
            let v4_all = v4 + count.available.0 as f64 + count.reserved.0 as f64;
            let v6_all = v6 + count.available.1 as f64 + count.reserved.1 as f64;
            set(&self.addresses, v4_all + v6_all);
            set(&self.in_use, v4 + v6);
            set(&self.v4_addresses, v4_all);
            set(&self.v4_in_use, v4);
            set(&self.v6_addresses, v6_all);
            set(&self.v6_in_use, v6);
        }
    }
}
