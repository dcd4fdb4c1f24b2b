//! What the engine does beside its jobs, and waits for nobody: counters, verdicts on the configuration, what stands from before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use mooring_kit::backoff::pause;
use mooring_kit::clock::wall;
use mooring_kit::telemetry::chain;
use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use tracing::debug;

use super::Engine;
use crate::allocator::PoolCount;
use crate::k8s::crd::PoolStatus;
use crate::logs;
use crate::source::WriteError;

/// How long counters may lag behind the leases.
const COUNT: Duration = Duration::from_millis(100);

/// How often it is asked which nodes have a live speaker: people alone read what follows from it.
const NODES: Duration = Duration::from_secs(5);

/// What was done.
pub(super) enum Aside {
    /// The allocator's counters.
    Counted(Option<Vec<PoolCount>>),
    /// A pool's counters were written, or not.
    CountWritten(PoolName, Result<(), WriteError>),
    /// The Services about which something stood written before the start.
    Found(Result<Vec<ServiceKey>, WriteError>),
    /// The nodes with a live speaker; `None` = the allocator does not say.
    Nodes(Option<BTreeSet<NodeName>>),
    /// What was found of the configuration was written, or not.
    VerdictsWritten(Result<bool, WriteError>),
}

impl Engine {
    /// Takes in what was done, and begins what follows from it.
    pub(super) fn take_aside(&mut self, aside: Aside) -> Vec<BoxFuture<'static, Aside>> {
        match aside {
            Aside::Counted(Some(counts)) => return self.counted(&counts),
            Aside::Counted(None) | Aside::CountWritten(_, Ok(())) => {}
            Aside::CountWritten(pool, Err(error)) => {
                self.state.uncounted(&pool);
                debug!(event = logs::WRITE_FAILED, %pool, error = %chain(&error), "counters not written; tried again");
            }
            Aside::Found(Ok(services)) => services.iter().for_each(|service| self.state.found_l2(service)),
            Aside::Found(Err(error)) => debug!(error = %chain(&error), "could not list what is announced"),
            Aside::Nodes(nodes) => {
                if let Some(nodes) = nodes {
                    self.state.verdicts().live_nodes(nodes);
                }
                return vec![self.find_nodes(NODES)];
            }
            Aside::VerdictsWritten(written) => {
                // Where the custom resource is not installed it is looked for again.
                self.state.verdicts().ended(matches!(written, Ok(true)));
                if let Err(error) = written {
                    debug!(event = logs::WRITE_FAILED, error = %chain(&error), "ConfigurationStates not written; tried again");
                }
            }
        }
        Vec::new()
    }

    /// Writes what is found of the configuration, if that is to be written now.
    pub(super) fn write_verdicts(&mut self) -> Option<BoxFuture<'static, Aside>> {
        let (verdicts, all) = self.state.new_verdicts()?;
        let sink = Arc::clone(&self.sink);
        Some(async move { Aside::VerdictsWritten(sink.write_verdicts(&verdicts, all, wall()).await) }.boxed())
    }

    /// Looks for what stands written of who announces.
    pub(super) fn find_written(&self) -> BoxFuture<'static, Aside> {
        let sink = Arc::clone(&self.sink);
        async move { Aside::Found(sink.services_written().await) }.boxed()
    }

    /// Asks, after a pause, which nodes have a live speaker.
    pub(super) fn find_nodes(&self, after: Duration) -> BoxFuture<'static, Aside> {
        let allocator = self.allocator.clone();
        async move {
            pause(after).await;
            Aside::Nodes(allocator.live_nodes().await.ok())
        }
        .boxed()
    }

    /// Asks for the counters, a moment later so that many changes are one question.
    pub(super) fn count(&self) -> BoxFuture<'static, Aside> {
        let allocator = self.allocator.clone();
        async move {
            pause(COUNT).await;
            Aside::Counted(allocator.pools().await.ok())
        }
        .boxed()
    }

    /// Shows the counters of all pools in the metrics, and writes those that changed to the pools' objects.
    fn counted(&mut self, counts: &[PoolCount]) -> Vec<BoxFuture<'static, Aside>> {
        self.metrics.pools(counts);
        let clamp = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let status = |count: &PoolCount| PoolStatus {
            assigned_ipv4: clamp(count.assigned.0),
            assigned_ipv6: clamp(count.assigned.1),
            available_ipv4: clamp(count.available.0),
            available_ipv6: clamp(count.available.1),
        };
        let wanted: BTreeMap<PoolName, PoolStatus> =
            counts.iter().filter_map(|count| Some((PoolName::new(&count.name)?, status(count)))).collect();
        if let Err(error) = self.sink.retain_pools(&wanted.keys().cloned().collect()) {
            debug!(event = logs::WRITE_FAILED, error = %chain(&error), "counters of pools that are gone stay");
        }
        let write = |(pool, status): (PoolName, PoolStatus)| {
            let sink = Arc::clone(&self.sink);
            async move {
                let written = sink.write_pool_status(&pool, &status).await;
                Aside::CountWritten(pool, written)
            }
            .boxed()
        };
        self.state.new_counts(wanted).into_iter().map(write).collect()
    }
}
