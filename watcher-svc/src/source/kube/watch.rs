//! Watches: all objects of each kind at once, then one by one as they change.
//!
//! A list counts only once it is complete; one that breaks half-way changes nothing. While the API server is away nothing is said, so
//! nothing is withdrawn; when it is back everything is listed anew, because it may be another one, restored to an older state.

use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff as KubeBackoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use mooring_kit::Stop;
use mooring_kit::backoff::Backoff;
use mooring_kit::telemetry::chain;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::view::{Failure, View};
use super::{Cluster, WATCH_LASTS, api_resource, resource};
use crate::k8s::crd;
use crate::source::{Change, Kind};

/// The pauses between attempts to list or watch.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the API server may take to say that it is ready.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// Watches until asked to stop.
///
/// # Errors
/// Whoever reads `changes` has ended. An API server that is away is waited for.
pub async fn watch(cluster: Cluster, changes: mpsc::Sender<Vec<Change>>, stop: Stop) -> anyhow::Result<()> {
    let mut view = View::default();
    let mut streams = cluster.streams();
    let mut probe: Option<BoxFuture<'static, bool>> = None;
    loop {
        let said = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            was_away = answer(&mut probe) => {
                probe = None;
                if was_away {
                    info!(event = "apiServerBack", "the API server answers again, listing everything");
                    view.begin_anew();
                    streams = cluster.streams();
                }
                continue;
            }
            // Nobody asks while it is not known whether anybody answers.
            said = streams.next(), if probe.is_none() => said.context("the watches ended")?,
        };
        let told = match said {
            (kind, Ok(event)) => view.take(kind, event),
            (kind, Err(error)) => {
                let failure = Failure::new(error);
                if !failure.is_answer() {
                    probe = Some(Box::pin(until_ready(cluster.client.clone())));
                }
                view.failed(kind, &failure)
            }
        };
        if told.is_empty() {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            sent = changes.send(told) => sent.context("nobody reads the watches")?,
        }
    }
}

/// The probe's answer; never, if there is none under way. Cancel-safe: the probe stays where it is.
async fn answer(probe: &mut Option<BoxFuture<'static, bool>>) -> bool {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}

/// Waits until the API server is ready; true if it was not at first.
async fn until_ready(client: Client) -> bool {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut away = false;
    while let Err(error) = ready(&client).await {
        if !away {
            away = true;
            warn!(event = "apiServerAway", error = %chain(error.as_ref()), "the API server does not answer; everything stays as it is");
        }
        backoff.pause().await;
    }
    away
}

async fn ready(client: &Client) -> anyhow::Result<()> {
    let request = http_get("/readyz")?;
    tokio::time::timeout(PROBE_DEADLINE, client.request_text(request)).await.context("no answer in time")??;
    Ok(())
}

fn http_get(path: &str) -> anyhow::Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

type Said = (Kind, Result<Event<DynamicObject>, watcher::Error>);

impl Cluster {
    fn streams(&self) -> SelectAll<BoxStream<'static, Said>> {
        futures::stream::select_all(Kind::ALL.iter().map(|kind| self.stream(*kind)))
    }

    fn stream(&self, kind: Kind) -> BoxStream<'static, Said> {
        let core = |plural| Api::all_with(self.client.clone(), &api_resource("", "v1", kind.as_str(), plural));
        let here = |resource| Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let every = watcher::Config::default().timeout(WATCH_LASTS);
        let (api, config): (Api<DynamicObject>, _) = match kind {
            Kind::Namespace => (core("namespaces"), every),
            Kind::Node => (core("nodes"), every),
            Kind::Service => (core("services"), every),
            Kind::EndpointSlice => {
                let slices = api_resource("discovery.k8s.io", "v1", kind.as_str(), "endpointslices");
                (Api::all_with(self.client.clone(), &slices), every)
            }
            // Named, so that a Role may name it too.
            Kind::ConfigMap => {
                (here(api_resource("", "v1", kind.as_str(), "configmaps")), every.fields(&format!("metadata.name={}", self.config_map)))
            }
            Kind::IpAddressPool => (here(resource(crd::IP_ADDRESS_POOL)), every),
            Kind::L2Advertisement => (here(resource(crd::L2_ADVERTISEMENT)), every),
        };
        // The beginning of a list is no success: it is said before anything is asked, and would end the pauses.
        let asked = watcher(api, config).filter(|said| std::future::ready(!matches!(said, Ok(Event::Init))));
        asked.backoff(Pauses(Backoff::new(FIRST_PAUSE, LONGEST_PAUSE))).map(move |said| (kind, said)).boxed()
    }
}

/// Our pauses in kube's form.
struct Pauses(Backoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next_pause())
    }
}

impl KubeBackoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}
