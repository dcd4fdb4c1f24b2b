//! Watches: all objects of each kind at once, then one by one as they change.
//!
//! A list counts only once it is complete; one that breaks half-way changes nothing. While the API server is away nothing is said, so
//! nothing is withdrawn; when it is back everything is listed anew, because it may be another one, restored to an older state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use kube::core::{DynamicObject, Status};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff as KubeBackoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt as _};
use mooring_kit::Stop;
use mooring_kit::backoff::Backoff;
use mooring_kit::telemetry::chain;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{Cluster, RequestError, api_resource, resource};
use crate::k8s::{ObjectRef, crd};

/// The pauses between attempts to list or watch.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long the API server may take to say that it is ready.
const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// The annotation in which kubectl keeps a second copy of every object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A kind of object that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces, for their labels.
    Namespace,
    /// Nodes.
    Node,
    /// The legacy ConfigMap, that one only.
    ConfigMap,
    /// Pools; none if their definition is not installed.
    IpAddressPool,
    /// Advertisements; none if their definition is not installed.
    L2Advertisement,
    /// Endpoints of Services.
    EndpointSlice,
    /// Services of every type.
    Service,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Namespace, Self::Node, Self::ConfigMap, Self::IpAddressPool, Self::L2Advertisement, Self::EndpointSlice, Self::Service];

    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ConfigMap => "ConfigMap",
            Self::IpAddressPool => crd::IP_ADDRESS_POOL.kind,
            Self::L2Advertisement => crd::L2_ADVERTISEMENT.kind,
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
        }
    }

    /// Whether the API server may not know the kind.
    fn is_custom(self) -> bool {
        match self {
            Self::IpAddressPool | Self::L2Advertisement => true,
            Self::Namespace | Self::Node | Self::ConfigMap | Self::EndpointSlice | Self::Service => false,
        }
    }
}

/// What the watches say.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// These are all objects of the kind; others are gone.
    Listed {
        /// The kind.
        kind: Kind,
        /// The objects.
        objects: Vec<Value>,
    },
    /// An object is new or different.
    Applied {
        /// Its kind.
        kind: Kind,
        /// The object.
        object: Value,
    },
    /// An object is gone.
    Deleted {
        /// Its kind.
        kind: Kind,
        /// Which.
        object: ObjectRef,
    },
    /// Every kind has been listed once. Said once.
    Synced,
}

/// Watches until asked to stop.
///
/// # Errors
/// Whoever reads `changes` has ended. An API server that is away is waited for.
pub async fn watch(cluster: Cluster, changes: mpsc::Sender<Change>, stop: Stop) -> anyhow::Result<()> {
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
        for change in told {
            changes.send(change).await.context("nobody reads the watches")?;
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

/// What was heard of each kind.
#[derive(Debug, Default)]
struct View {
    /// The objects of a list that is not complete yet.
    listing: BTreeMap<Kind, Vec<Value>>,
    /// The kinds that were listed once.
    listed: BTreeSet<Kind>,
    /// The kinds whose present trouble has been logged.
    troubled: BTreeSet<Kind>,
    synced: bool,
}

impl View {
    fn take(&mut self, kind: Kind, event: Event<DynamicObject>) -> Vec<Change> {
        match event {
            Event::Init => Vec::new(),
            Event::InitApply(object) => {
                self.listing.entry(kind).or_default().push(json(object));
                Vec::new()
            }
            Event::InitDone => {
                let objects = self.listing.remove(&kind).unwrap_or_default();
                self.listed(kind, objects)
            }
            Event::Apply(object) => vec![Change::Applied { kind, object: json(object) }],
            Event::Delete(object) => {
                let namespace = object.namespace().unwrap_or_default();
                vec![Change::Deleted { kind, object: ObjectRef::new(kind.as_str(), &namespace, &object.name_any()) }]
            }
        }
    }

    fn listed(&mut self, kind: Kind, objects: Vec<Value>) -> Vec<Change> {
        if self.troubled.remove(&kind) {
            info!(event = "watchRestored", kind = kind.as_str(), "listed again");
        }
        self.listed.insert(kind);
        let mut changes = vec![Change::Listed { kind, objects }];
        if !self.synced && Kind::ALL.iter().all(|kind| self.listed.contains(kind)) {
            self.synced = true;
            changes.push(Change::Synced);
        }
        changes
    }

    /// What was listed half is not worth anything any more.
    fn begin_anew(&mut self) {
        self.listing.clear();
    }

    /// A kind that the API server does not know has no objects, unless it had some before: then they stay.
    fn failed(&mut self, kind: Kind, failure: &Failure) -> Vec<Change> {
        self.listing.remove(&kind);
        if kind.is_custom() && failure.error.code() == Some(404) {
            if self.listed.contains(&kind) {
                return Vec::new();
            }
            info!(event = "kindAbsent", kind = kind.as_str(), "this custom resource is not installed; looked for again and again");
            return self.listed(kind, Vec::new());
        }
        if failure.is_worth_a_warning() && self.troubled.insert(kind) {
            warn!(event = "watchFailed", kind = kind.as_str(), error = %chain(&failure.error), "could not list or watch; what is known stays");
        } else {
            debug!(event = "watchFailed", kind = kind.as_str(), error = %chain(&failure.error), "could not list or watch");
        }
        Vec::new()
    }
}

/// Why a list or a watch ended.
struct Failure {
    error: RequestError,
    listing: bool,
}

impl Failure {
    fn new(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) => Self { error: RequestError::new(error), listing: true },
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Self { error: RequestError::new(error), listing: false }
            }
            watcher::Error::WatchError(status) => Self { error: RequestError::Refused(status), listing: false },
            watcher::Error::NoResourceVersion => {
                let status = Status { message: "a list or object without a resource version".to_owned(), ..Status::default() };
                Self { error: RequestError::Refused(Box::new(status)), listing: true }
            }
        }
    }

    /// Whether it is the API server's considered answer rather than a sign that it is away.
    fn is_answer(&self) -> bool {
        self.error.code().is_some_and(|code| code < 500)
    }

    /// Watches end as they like and fall behind (410); then the list comes again. A list that is refused, or a right to watch that is
    /// missing, stays so until somebody acts.
    fn is_worth_a_warning(&self) -> bool {
        self.error.code().is_some_and(|code| code != 410 && (code < 500 || self.listing))
    }
}

/// The object as JSON, without what nobody here reads and what makes it big.
fn json(object: DynamicObject) -> Value {
    let DynamicObject { mut metadata, mut data, types: _ } = object;
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let (Some(fields), Ok(metadata)) = (data.as_object_mut(), serde_json::to_value(metadata)) {
        fields.insert("metadata".to_owned(), metadata);
    }
    data
}

type Said = (Kind, Result<Event<DynamicObject>, watcher::Error>);

impl Cluster {
    fn streams(&self) -> SelectAll<BoxStream<'static, Said>> {
        futures::stream::select_all(Kind::ALL.iter().map(|kind| self.stream(*kind)))
    }

    fn stream(&self, kind: Kind) -> BoxStream<'static, Said> {
        let core = |plural| Api::all_with(self.client.clone(), &api_resource("", "v1", kind.as_str(), plural));
        let here = |resource| Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let every = watcher::Config::default();
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

#[cfg(test)]
mod tests;
