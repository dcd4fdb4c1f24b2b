//! The one task that owns the state: it takes what the source shows and the allocator says, and carries out the jobs that follow.

mod aside;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use mooring_kit::Stop;
use mooring_kit::clock::{Clock, wall};
use mooring_kit::leader::Leadership;
use mooring_kit::telemetry::chain;
use mooring_proto::types::lease::Term;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::{ServiceKey, ServiceUid};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

use self::aside::Aside;
use crate::allocator::{Allocator, Feed, News};
use crate::args::{Args, Source};
use crate::core::pools::{Merged, Part};
use crate::core::report::Draft;
use crate::core::service::Settings;
use crate::core::state::State;
use crate::core::{Done, Job, Seen, Step};
use crate::k8s::crd::{self, PoolStatus};
use crate::k8s::{ObjectRef, Parsed, configmap, endpoints, namespace, node, pool, service};
use crate::logs;
use crate::metrics::Metrics;
use crate::source::event::{EventRecord, EventType, Reporter};
use crate::source::{Change, Kind, Sink, WriteError};

/// How many times a source may say what changed before it waits.
pub(crate) const CHANGES: usize = 1024;

/// The engine's parts.
pub(crate) struct Engine {
    pub(crate) state: State,
    pub(crate) allocator: Allocator,
    pub(crate) sink: Arc<Sink>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    /// The uids of objects that configure and of namespaces, for Events about them.
    pub(crate) uids: BTreeMap<ObjectRef, ServiceUid>,
    /// Tells the election of a term beyond its own.
    pub(crate) outdated: watch::Sender<Term>,
}

/// What the engine listens to.
pub(crate) struct Inputs {
    /// What a source saw at once, taken in as a whole before anything is done about it.
    pub(crate) changes: mpsc::Receiver<Vec<Change>>,
    pub(crate) feed: mpsc::Receiver<Feed>,
    pub(crate) leadership: Option<watch::Receiver<Leadership>>,
}

type Running = FuturesUnordered<BoxFuture<'static, (Job, Done)>>;

impl Engine {
    /// Works until asked to stop; what is in flight then is finished.
    pub(crate) async fn run(mut self, mut inputs: Inputs, synced: impl FnOnce(), stop: Stop) -> anyhow::Result<()> {
        let mut running = Running::new();
        let asides = FuturesUnordered::new();
        asides.push(self.find_nodes(Duration::ZERO));
        tokio::pin!(asides);
        let (mut counting, mut counts_due) = (false, false);
        let mut synced = Some(synced);
        loop {
            let (jobs, told) = self.state.jobs(self.clock.now());
            self.tell(told);
            if let Some(differ) = self.state.differ() {
                self.metrics.shadow_differs(differ);
            }
            for job in jobs {
                running.push(self.begin(job));
            }
            if counts_due && !counting && self.state.may_write() {
                (counting, counts_due) = (true, false);
                asides.push(self.count());
            }
            asides.extend(self.write_verdicts());
            let deadline = self.state.next_deadline();
            tokio::select! {
                biased;
                Some((job, done)) = running.next() => {
                    counts_due |= matches!(job, Job::Pools { .. });
                    self.finished(&job, done);
                }
                Some(feed) = inputs.feed.recv() => {
                    counts_due = true;
                    if matches!(feed, Feed::News(News::All(..))) {
                        asides.push(self.find_written());
                    }
                    self.hear(feed);
                }
                Some(aside) = asides.next() => {
                    counting &= !matches!(aside, Aside::Counted(_));
                    asides.extend(self.take_aside(aside));
                }
                changes = inputs.changes.recv() => match changes {
                    Some(changes) => for change in changes {
                        if let Some(synced) = synced.take_if(|_| change == Change::Synced) {
                            synced();
                        }
                        counts_due |= touches_counts(&change);
                        self.see(change);
                    },
                    None => break,
                },
                leadership = next_leadership(&mut inputs.leadership) => {
                    self.lead(leadership);
                    // What the leader before wrote is seen anew.
                    if self.state.may_write() {
                        asides.push(self.find_written());
                    }
                }
                () = self.clock.wait_until(deadline) => {}
                () = stop.cancelled() => break,
            }
        }
        while let Some((job, done)) = running.next().await {
            self.finished(&job, done);
        }
        self.tell(Vec::from_iter(self.state.end()));
        Ok(())
    }

    fn lead(&mut self, leadership: Leadership) {
        let term = match leadership {
            Leadership::Leader { term } => Some(term),
            Leadership::Follower => None,
        };
        self.state.lead(term);
    }

    fn hear(&mut self, feed: Feed) {
        match feed {
            Feed::News(News::All(all, revision)) => {
                self.state.connected(Some(all));
                self.state.reached(revision);
            }
            Feed::News(News::Some(some, revision)) => {
                for (service, fed) in some {
                    self.state.feed(&service, fed);
                }
                self.state.reached(revision);
            }
            Feed::Away => self.state.connected(None),
        }
    }

    /// Reads what a source shows and takes it in.
    fn see(&mut self, change: Change) {
        let mut origin = String::new();
        self.note_objects(&change);
        let seen = match change {
            Change::Listed { kind, objects } => {
                let names: BTreeSet<ObjectRef> = objects.iter().map(|object| ObjectRef::of(kind.as_str(), object)).collect();
                let mut seen: Vec<Seen> = objects.iter().map(|object| read(kind, object)).collect();
                seen.extend(self.state.known(kind.as_str()).into_iter().filter(|known| !names.contains(known)).map(Seen::Gone));
                seen
            }
            Change::Applied { kind, object, origin: from } => {
                origin = from.unwrap_or_default();
                vec![read(kind, &object)]
            }
            Change::Deleted { object, .. } => vec![Seen::Gone(object)],
            Change::Synced => vec![Seen::Synced],
            Change::StatusGone(service) => {
                self.state.status_gone(&service);
                Vec::new()
            }
            Change::CountersTouched => {
                self.state.counts_touched();
                Vec::new()
            }
            Change::Ignored { object, reason } => {
                self.state.ignored(object, reason);
                Vec::new()
            }
        };
        for seen in seen {
            if let Seen::Gone(object) = &seen {
                self.uids.remove(object);
            }
            self.metrics.update();
            match &seen {
                Seen::Malformed(object, errors) => {
                    self.metrics.update_error();
                    for error in errors {
                        let service = format!("{}/{}", object.namespace, object.name);
                        warn!(event = logs::OBJECT_MALFORMED, service, origin, field = error.field, value = error.value, %error, "the object does not parse; its last good view stays");
                    }
                }
                Seen::Gone(object) if object.kind == "Service" => {
                    let service = format!("{}/{}", object.namespace, object.name);
                    info!(event = logs::SERVICE_DELETED, service, "service deleted");
                }
                Seen::Service(_)
                | Seen::Endpoints(_)
                | Seen::Namespace(_)
                | Seen::Node(_)
                | Seen::Config(..)
                | Seen::Gone(_)
                | Seen::Synced => {}
            }
            let told = self.state.see(seen);
            self.tell(told);
        }
    }

    /// Notes of objects that configure what is not part of the configuration: their uids, and the counters that stand in them.
    fn note_objects(&mut self, change: &Change) {
        let (kind, objects) = match change {
            Change::Listed { kind, objects } => (*kind, objects.as_slice()),
            Change::Applied { kind, object, .. } => (*kind, std::slice::from_ref(object)),
            Change::Deleted { .. } | Change::Synced | Change::StatusGone(_) | Change::CountersTouched | Change::Ignored { .. } => return,
        };
        if matches!(kind, Kind::Namespace | Kind::ConfigMap | Kind::IpAddressPool | Kind::L2Advertisement) {
            let uid =
                |object: &serde_json::Value| object.pointer("/metadata/uid").and_then(|uid| Some(ServiceUid(uid.as_str()?.to_owned())));
            self.uids.extend(objects.iter().filter_map(|object| Some((ObjectRef::of(kind.as_str(), object), uid(object)?))));
        }
        // A directory has them in files of their own.
        if kind == Kind::IpAddressPool && matches!(*self.sink, Sink::Cluster(_)) {
            for object in objects {
                let Some(pool) = PoolName::new(&ObjectRef::of(kind.as_str(), object).name) else { continue };
                self.state.found_counts(&pool, PoolStatus::found(object));
            }
        }
    }

    /// Begins a job; it ends by itself, with what became of it.
    fn begin(&self, job: Job) -> BoxFuture<'static, (Job, Done)> {
        let (allocator, sink) = (self.allocator.clone(), Arc::clone(&self.sink));
        let term = self.state.term().unwrap_or_default();
        let record = match &job {
            Job::Service(key, Step::Event(draft)) => Some(self.record(key, draft)),
            Job::Complain(object, reason) => Some(self.complaint(object, reason)),
            Job::Pools { .. } | Job::View { .. } | Job::Nodes(_) | Job::Backends(_) | Job::Service(..) => None,
        };
        async move {
            let done = match &job {
                Job::Pools { configuration, begin_term } => allocator.replace_pools(term, *begin_term, configuration).await,
                Job::View { claims, begin_term } => allocator.reconcile(term, *begin_term, claims).await,
                Job::Nodes(nodes) => allocator.replace_nodes(term, nodes).await,
                Job::Backends(backends) => allocator.report_backends(term, backends).await,
                Job::Complain(..) => match &record {
                    Some(record) => written(sink.write_event(record).await),
                    None => Done::Ok,
                },
                Job::Service(key, step) => match step {
                    Step::Allocate(claim) => allocator.allocate(term, claim).await,
                    Step::Release => allocator.release(term, key).await,
                    Step::Backends(backends) => allocator.report_backends(term, std::slice::from_ref(backends)).await,
                    Step::Status(patch) => written(sink.write_service_status(key, patch).await),
                    Step::Event(_) => match &record {
                        Some(record) => written(sink.write_event(record).await),
                        None => Done::Ok,
                    },
                    Step::L2(l2) => written(sink.write_l2_status(key, l2.as_ref()).await),
                    Step::Forget => written(sink.forget_service(key)),
                },
            };
            (job, done)
        }
        .boxed()
    }

    fn record(&self, key: &ServiceKey, draft: &Draft) -> EventRecord {
        EventRecord {
            regarding: ObjectRef::new("Service", key.namespace(), key.name()),
            api_version: "v1".to_owned(),
            uid: self.state.uid(key),
            event_type: if draft.warning { EventType::Warning } else { EventType::Normal },
            reason: draft.reason.to_owned(),
            note: draft.note.clone(),
            reporter: if draft.announcing { Reporter::Speaker } else { Reporter::Controller },
            at: wall(),
        }
    }

    fn complaint(&self, object: &ObjectRef, reason: &str) -> EventRecord {
        let is_namespace = object.kind == Kind::Namespace.as_str();
        let is_core = is_namespace || object.kind == Kind::ConfigMap.as_str();
        let about = if is_namespace { "InvalidAnnotation" } else { "InvalidConfiguration" };
        EventRecord {
            regarding: object.clone(),
            api_version: if is_core { "v1".to_owned() } else { format!("{}/{}", crd::GROUP, crd::VERSION) },
            uid: self.uids.get(object).cloned().unwrap_or_default(),
            event_type: EventType::Warning,
            reason: about.to_owned(),
            note: reason.to_owned(),
            reporter: Reporter::Controller,
            at: wall(),
        }
    }

    fn finished(&mut self, job: &Job, done: Done) {
        if let Done::Outdated(newest) = &done {
            self.metrics.update_error();
            warn!(event = logs::TERM_OUTDATED, term = %newest, "another watcher leads");
            self.outdated.send_if_modified(|term| {
                *newest > *term && {
                    *term = *newest;
                    true
                }
            });
        }
        match (job, &done) {
            // What would be is no Service's news; what of it differs is told when it is compared.
            (Job::Service(..), _) if self.state.is_shadow() => {}
            (Job::Pools { configuration, .. }, Done::Led(..)) => {
                self.config_loaded(configuration.pools().len());
                // Meanwhile there may be a newer one, and it may be no good.
                if !matches!(self.state.merged(), Merged::Good(_)) {
                    self.metrics.config_stale();
                }
            }
            (Job::Pools { .. }, Done::Refused(refused)) => {
                self.metrics.config_stale();
                error!(event = logs::CONFIG_STALE, error = refused.message, "config (re)load failed, config marked stale");
            }
            (Job::Service(key, Step::Release), Done::Ok) => {
                let reason = self.state.why_nothing(key);
                info!(event = logs::CLEAR_ASSIGNMENT, service = %key, reason, "clearing assignment");
            }
            (Job::Service(key, Step::Status(_)), Done::Ok) => {
                info!(event = logs::SERVICE_UPDATED, service = %key, "updated service object");
            }
            (Job::Service(key, step @ (Step::Status(_) | Step::Event(_) | Step::L2(_) | Step::Forget)), Done::Failed | Done::Hopeless) => {
                self.metrics.update_error();
                let what = match step {
                    Step::Status(_) => "status",
                    Step::Event(_) => "Event",
                    Step::L2(_) => "ServiceL2Status",
                    Step::Forget | Step::Allocate(_) | Step::Release | Step::Backends(_) => "files",
                };
                debug!(event = logs::WRITE_FAILED, service = %key, what, "not written; tried again");
            }
            _ => {}
        }
        let told = self.state.done(job, done, self.clock.now());
        self.tell(told);
    }
}

/// Whether what stands written of pools' counters may have changed. After an outage everything is listed anew, and what could not be
/// written before can be.
fn touches_counts(change: &Change) -> bool {
    match change {
        Change::Listed { .. } | Change::CountersTouched => true,
        Change::Applied { kind, .. } => *kind == Kind::IpAddressPool,
        Change::Deleted { .. } | Change::Synced | Change::StatusGone(_) | Change::Ignored { .. } => false,
    }
}

/// A write that failed for good is not tried again until something changes.
fn written<T>(result: Result<T, WriteError>) -> Done {
    match result {
        Ok(_) => Done::Ok,
        Err(error) => {
            warn!(event = logs::WRITE_FAILED, error = %chain(&error), "could not write");
            if error.is_lasting() { Done::Hopeless } else { Done::Failed }
        }
    }
}

async fn next_leadership(leadership: &mut Option<watch::Receiver<Leadership>>) -> Leadership {
    if let Some(leadership) = leadership
        && leadership.changed().await.is_ok()
    {
        return *leadership.borrow_and_update();
    }
    std::future::pending().await
}

/// An object as the core takes it.
fn read(kind: Kind, object: &serde_json::Value) -> Seen {
    let reference = ObjectRef::of(kind.as_str(), object);
    let parsed: Parsed<Seen> = match kind {
        Kind::Service => service::parse(object).map(|view| Seen::Service(Box::new(view))),
        Kind::EndpointSlice => endpoints::parse(object).map(Seen::Endpoints),
        Kind::Namespace => namespace::parse(object).map(Seen::Namespace),
        Kind::Node => node::parse(object).map(Seen::Node),
        Kind::ConfigMap => configmap::parse(object).map(|legacy| Seen::Config(reference.clone(), Box::new(Part::Legacy(legacy)))),
        Kind::IpAddressPool => pool::pool(object).map(|spec| Seen::Config(reference.clone(), Box::new(Part::Pool(spec)))),
        Kind::L2Advertisement => {
            pool::advertisement(object).map(|spec| Seen::Config(reference.clone(), Box::new(Part::Advertisement(spec))))
        }
    };
    parsed.unwrap_or_else(|errors| Seen::Malformed(reference, errors))
}

/// What the flags say about Services.
pub(crate) fn settings(args: &Args) -> Settings {
    Settings {
        lb_class: args.lb_class.clone().filter(|class| !class.is_empty()),
        is_cluster: matches!(args.source, Source::Kube),
        is_shadow: args.shadow,
    }
}
