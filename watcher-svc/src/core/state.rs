//! What was seen, what the allocator says, and what is under way; and of it the next jobs.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::{Backends, Reach};
use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::{Lease, Revision, Term};
use mooring_proto::types::node::{NodeName, NodeSpec};
use mooring_proto::types::pool::{Configuration, PoolName};
use mooring_proto::types::service::{ServiceKey, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};

use super::pools::{self, Flaw, Merged, Part};
use super::queue::Queue;
use super::report::{self, Draft, Line, Reported};
use super::service::{self, Namespace, Settings, Wish};
use super::shadow::{self, Finding, Findings, News};
use super::verdicts::Verdicts;
use super::{Done, Fed, Job, Seen, Step, backends};
use crate::k8s::annotations::ValueError;
use crate::k8s::crd::{ConfigurationStatus, L2Status, PoolStatus};
use crate::k8s::endpoints::EndpointsView;
use crate::k8s::namespace::NamespaceView;
use crate::k8s::service::ServiceView;
use crate::k8s::{ObjectRef, ParseError, status};

/// How many jobs for Services may be in flight: twice what keeps an API server busy.
pub const IN_FLIGHT: usize = 64;

/// How many of them may be for Events and the like: they wait for no address, and are not to hold up one that comes next.
const ASIDE: usize = 16;

/// How many claims may wait for each other before all of them are made at once, by a full view.
const MANY_CLAIMS: usize = 32;

/// How many claims of a full view cost about as much as one by itself: with many Services, a full view for a few of them is the dearer way.
const ALIKE: usize = 16;

/// The place of a Service among those whose claims are to be made: explicit requests first, then age, then name (DESIGN 3.1.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    automatic: bool,
    created: UnixMillis,
    service: ServiceKey,
}

impl Turn {
    fn of(claim: &Claim) -> Self {
        let automatic = claim.requested_addresses.is_empty();
        Self { automatic, created: claim.created.unwrap_or_default(), service: claim.service.clone() }
    }
}

/// How far a session with the allocator has come. Each stage's job must be done before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The allocator is not there, or another watcher leads.
    Down,
    /// It gets the configuration.
    Pools,
    /// It gets the nodes, so that it knows which of them are selected before it places what the view names.
    Nodes,
    /// It gets the full view.
    View,
    /// It gets the backends of all.
    Backends,
    /// It has everything, and gets each change.
    Live,
}

/// What is known of one Service besides its object.
#[derive(Clone, Debug, Default)]
struct Progress {
    claimed: Option<Claim>,
    reach: Option<Reach>,
    l2: Option<L2Status>,
    /// Something stands written of who announces it that is not known.
    l2_found: bool,
    reported: Option<Reported>,
    events: Vec<Draft>,
    updating: bool,
    /// The addresses that the log has told of.
    told: Vec<Vip>,
    /// What the feed is to say first: why the Service does not keep the addresses that it had.
    awaits: Option<Awaited>,
    /// A status that the API server refuses for good, until something changes.
    hopeless: Option<serde_json::Value>,
    /// The object is gone and what stood of it outside has been taken away.
    forgotten: bool,
}

impl Progress {
    /// What an object says has been told already.
    fn take_as_found(&mut self, view: &ServiceView) {
        self.reported = Some(Reported::found(view));
        self.told = view.assigned.clone().unwrap_or_default();
        self.events.clear();
    }

    /// Where a lease takes the place of other addresses, the feed says why.
    fn awaits_lease(&mut self, lease: &Lease) {
        let loses = self.reported.as_ref().is_some_and(|reported| reported.loses_by(&lease.addresses));
        self.awaits = loses.then_some(Awaited::Lease(lease.revision));
    }
}

/// An answer of the allocator that the feed is to confirm, with what only the feed tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// A lease of this revision, or a newer one.
    Lease(Revision),
    /// That the claim is refused, or what has come since.
    Refusal,
}

impl Awaited {
    fn is_told_by(self, fed: Option<&Fed>) -> bool {
        let Some(fed) = fed else { return true };
        match self {
            Self::Lease(revision) => fed.lease.as_ref().is_some_and(|lease| lease.revision >= revision),
            Self::Refusal => fed.refusal.is_some() || fed.lease.is_some(),
        }
    }
}

/// Everything the watcher knows.
#[derive(Debug)]
pub struct State {
    settings: Settings,
    services: BTreeMap<ServiceKey, ServiceView>,
    slices: BTreeMap<ObjectRef, EndpointsView>,
    /// The slices of each Service.
    slices_of: BTreeMap<ServiceKey, BTreeSet<ObjectRef>>,
    namespaces: BTreeMap<String, Namespace>,
    /// Namespaces whose quota makes no sense, with what is wrong.
    bad_quotas: BTreeMap<String, ValueError>,
    nodes: BTreeMap<NodeName, NodeSpec>,
    parts: BTreeMap<ObjectRef, Part>,
    malformed: BTreeMap<ObjectRef, Vec<ParseError>>,
    synced: bool,
    merged: Merged,
    /// There was a good configuration since the start.
    had_config: bool,
    /// The last configuration that was there was not the legacy ConfigMap alone.
    by_resources: bool,
    /// What is wrong with which part of the configuration, and what of it is still to be told.
    complaints: BTreeSet<(ObjectRef, String)>,
    untold: Vec<(ObjectRef, String)>,
    /// What the log is still to say of Services.
    lines: Vec<(ServiceKey, Line)>,
    sent_pools: Option<Configuration>,
    /// The nodes are others than those that were last sent.
    nodes_changed: bool,
    /// The revision that the feed has reached, and the one at which it has told all that followed from what the allocator was told.
    fed_at: Revision,
    settled_at: Revision,
    fed: BTreeMap<ServiceKey, Fed>,
    progress: BTreeMap<ServiceKey, Progress>,
    queue: Queue,
    /// Services for which nothing is to be done but Events and the like: whoever waits for an address comes first.
    aside: BTreeSet<ServiceKey>,
    /// How many of the jobs in flight are of that kind.
    aside_in_flight: usize,
    /// The allocator is there.
    connected: bool,
    stage: Stage,
    /// A stage's job is in flight.
    staging: bool,
    /// A failed stage waits until then.
    stage_pause: Option<Mono>,
    /// Somebody else decides who leads; without, each session begins a term.
    elected: bool,
    term: Option<Term>,
    /// The last term that somebody elected this watcher for.
    led: Option<Term>,
    in_flight: usize,
    /// Claims that are to be made, one at a time, so that who gets which address does not depend on which call is faster.
    turns: BTreeSet<Turn>,
    /// One of them is under way.
    claiming: bool,
    /// The allocator has been told everything in this session.
    is_synced: bool,
    /// Each pool's counters as last written.
    counts: BTreeMap<PoolName, PoolStatus>,
    /// What the ConfigurationStates say.
    verdicts: Verdicts,
    /// What a shadow found, in the place of all that is written.
    findings: Option<Findings>,
}

/// What happened, for the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Work on a Service begins.
    UpdateBegan(ServiceKey),
    /// Work on a Service is done.
    UpdateEnded(ServiceKey),
    /// A Service has an address that it had not.
    Allocated {
        /// The Service.
        service: ServiceKey,
        /// The address.
        ip: Vip,
        /// The pool it is from.
        pool: PoolName,
    },
    /// The configuration is now of another kind: good, bad or missing.
    Config(Merged),
    /// The quota of a namespace makes no sense; the last good one stays, if there was one.
    BadQuota {
        /// The namespace.
        namespace: String,
        /// The quota in force; `None` = any number.
        quota: Option<u32>,
        /// What is wrong.
        error: ValueError,
    },
    /// The configuration in force, of so many pools, is the newest one again.
    ConfigRestored(usize),
    /// Something about a Service.
    Reported(ServiceKey, Line),
    /// The allocator has everything.
    Synced,
    /// What a shadow found.
    Found(News),
}

impl State {
    /// Nothing known yet. `elected` says that leadership comes from elsewhere.
    #[must_use]
    pub fn new(settings: Settings, elected: bool) -> Self {
        let findings = settings.is_shadow.then(Findings::default);
        Self {
            settings,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            bad_quotas: BTreeMap::new(),
            nodes: BTreeMap::new(),
            parts: BTreeMap::new(),
            malformed: BTreeMap::new(),
            synced: false,
            merged: Merged::Missing,
            had_config: false,
            by_resources: false,
            complaints: BTreeSet::new(),
            untold: Vec::new(),
            lines: Vec::new(),
            sent_pools: None,
            nodes_changed: true,
            fed_at: Revision::default(),
            settled_at: Revision::default(),
            fed: BTreeMap::new(),
            progress: BTreeMap::new(),
            queue: Queue::default(),
            aside: BTreeSet::new(),
            aside_in_flight: 0,
            connected: false,
            stage: Stage::Down,
            staging: false,
            stage_pause: None,
            elected,
            term: None,
            led: None,
            in_flight: 0,
            turns: BTreeSet::new(),
            claiming: false,
            is_synced: false,
            counts: BTreeMap::new(),
            verdicts: Verdicts::default(),
            findings,
        }
    }

    /// A Service's object.
    #[must_use]
    pub fn service(&self, key: &ServiceKey) -> Option<&ServiceView> {
        self.services.get(key)
    }

    /// The objects of a kind that are known, well-formed or not.
    #[must_use]
    pub fn known(&self, kind: &str) -> Vec<ObjectRef> {
        let named = |namespace: &str, name: &str| ObjectRef::new(kind, namespace, name);
        let mut known: BTreeSet<ObjectRef> = self.malformed.keys().filter(|object| object.kind == kind).cloned().collect();
        match kind {
            "Service" => known.extend(self.services.keys().map(|key| named(key.namespace(), key.name()))),
            "EndpointSlice" => known.extend(self.slices.keys().cloned()),
            "Namespace" => known.extend(self.namespaces.keys().map(|name| named("", name))),
            "Node" => known.extend(self.nodes.keys().map(|name| named("", name.as_str()))),
            _ => known.extend(self.parts.keys().filter(|object| object.kind == kind).cloned()),
        }
        known.into_iter().collect()
    }

    /// Why a Service is to hold nothing, as the log says it.
    #[must_use]
    pub fn why_nothing(&self, key: &ServiceKey) -> &'static str {
        match self.services.get(key).map(|view| self.wish(view)) {
            None => "serviceDeleted",
            Some(Wish::Nothing(why) | Wish::Hold(why)) => why.as_str(),
            Some(Wish::Foreign) => "otherClass",
            Some(Wish::Claim(_)) => "changed",
        }
    }

    /// The counters that differ from what was last written; they count as written from now on.
    pub fn new_counts(&mut self, counts: BTreeMap<PoolName, PoolStatus>) -> BTreeMap<PoolName, PoolStatus> {
        let news = counts.iter().filter(|(pool, status)| self.counts.get(*pool) != Some(status));
        let news = news.map(|(pool, status)| (pool.clone(), *status)).collect();
        self.counts = counts;
        news
    }

    /// What stands written of a pool's counters, as far as is known.
    pub fn found_counts(&mut self, pool: &PoolName, found: Option<PoolStatus>) {
        match found {
            Some(found) => self.counts.insert(pool.clone(), found),
            None => self.counts.remove(pool),
        };
    }

    /// What the ConfigurationStates are to say, if that is to be written now; see [`Verdicts::begin`].
    pub fn new_verdicts(&mut self) -> Option<(Vec<ConfigurationStatus>, bool)> {
        if !self.synced || !self.may_write() {
            return None;
        }
        self.verdicts.begin(&self.merged)
    }

    /// How far the ConfigurationStates are written.
    pub fn verdicts(&mut self) -> &mut Verdicts {
        &mut self.verdicts
    }

    /// All counters are to be written again, where they differ from what stands there.
    pub fn counts_touched(&mut self) {
        self.counts.clear();
    }

    /// A pool's counters were not written after all.
    pub fn uncounted(&mut self, pool: &PoolName) {
        self.counts.remove(pool);
    }

    /// The uid that an Event about a Service needs.
    #[must_use]
    pub fn uid(&self, key: &ServiceKey) -> ServiceUid {
        self.services.get(key).map(|view| view.uid.clone()).unwrap_or_default()
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn merged(&self) -> &Merged {
        &self.merged
    }

    /// The term under which calls are made.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.term
    }

    /// Whether this watcher may write for all of them: it leads, or nobody is elected.
    #[must_use]
    pub fn may_write(&self) -> bool {
        !self.elected || self.term.is_some()
    }

    /// Whether this watcher only shows what would be.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.settings.is_shadow
    }

    /// How many Services would differ; `None` if this watcher is no shadow.
    #[must_use]
    pub fn differ(&self) -> Option<usize> {
        self.findings.as_ref().map(Findings::differ)
    }

    /// A shadow's last word.
    #[must_use]
    pub fn end(&self) -> Option<Told> {
        self.findings.as_ref().map(|findings| Told::Found(findings.end(self.is_idle())))
    }

    /// Whether the allocator has everything.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Takes in what a source shows.
    pub fn see(&mut self, seen: Seen) -> Vec<Told> {
        match seen {
            Seen::Service(view) => self.see_service(*view),
            Seen::Endpoints(slice) => {
                self.malformed.remove(&slice.object);
                self.forget_slice(&slice.object);
                if let Some(service) = &slice.service {
                    self.slices_of.entry(service.clone()).or_default().insert(slice.object.clone());
                    self.queue.touch(service);
                }
                self.slices.insert(slice.object.clone(), slice);
            }
            Seen::Namespace(view) => return self.see_namespace(view),
            Seen::Node(node) => {
                if self.nodes.get(&node.name) != Some(&node) {
                    self.nodes.insert(node.name.clone(), node);
                    self.nodes_changed = true;
                }
            }
            Seen::Config(object, part) => {
                self.malformed.remove(&object);
                self.parts.insert(object, *part);
                return self.merge();
            }
            Seen::Malformed(object, errors) => {
                let is_part = pools::is_part(&object);
                self.malformed.insert(object, errors);
                if is_part {
                    return self.merge();
                }
            }
            Seen::Gone(object) => return self.see_gone(&object),
            Seen::Synced => {
                self.synced = true;
                return self.merge();
            }
        }
        Vec::new()
    }

    fn see_service(&mut self, mut view: ServiceView) {
        let key = view.key.clone();
        // Nobody but this watcher writes a status in a directory; a manifest's own counts when it is first seen.
        if let Some(before) = self.services.get(&key).filter(|_| !self.settings.is_cluster && !self.settings.is_shadow) {
            view.status = before.status.clone();
            view.assigned = before.assigned.clone();
        }
        self.malformed.remove(&ObjectRef::new("Service", key.namespace(), key.name()));
        let progress = self.progress.entry(key.clone()).or_default();
        progress.forgotten = false;
        if progress.reported.is_none() {
            progress.take_as_found(&view);
        }
        if self.services.get(&key) != Some(&view) {
            progress.hopeless = None;
            self.services.insert(key.clone(), view);
            self.queue.touch(&key);
        }
    }

    /// A quota that makes no sense is told once, and keeps the last good one.
    fn see_namespace(&mut self, view: NamespaceView) -> Vec<Told> {
        let NamespaceView { name, labels, quota } = view;
        let object = ObjectRef::new("Namespace", "", &name);
        self.malformed.remove(&object);
        let (quota, wrong) = match quota {
            Ok(quota) => (quota, None),
            Err(wrong) => (self.namespaces.get(&name).and_then(|before| before.quota), Some(wrong)),
        };
        let seen = Namespace { labels, quota };
        if self.namespaces.insert(name.clone(), seen.clone()) != Some(seen) {
            self.touch_namespace(&name);
        }
        let Some(error) = wrong else {
            self.bad_quotas.remove(&name);
            return Vec::new();
        };
        if self.bad_quotas.insert(name.clone(), error.clone()).as_ref() == Some(&error) {
            return Vec::new();
        }
        let in_force =
            quota.map_or_else(|| "no quota is in force".to_owned(), |quota| format!("the last good quota of {quota} stays in force"));
        self.untold.push((object, format!("{error}; {in_force}")));
        vec![Told::BadQuota { namespace: name, quota, error }]
    }

    fn see_gone(&mut self, object: &ObjectRef) -> Vec<Told> {
        let was_malformed = self.malformed.remove(object).is_some();
        match object.kind.as_str() {
            "Service" => {
                if let Ok(key) = ServiceKey::new(&object.namespace, &object.name)
                    && (self.services.remove(&key).is_some() || was_malformed)
                {
                    self.queue.touch(&key);
                }
            }
            "EndpointSlice" => self.forget_slice(object),
            "Namespace" => {
                self.namespaces.remove(&object.name);
                self.bad_quotas.remove(&object.name);
                self.touch_namespace(&object.name);
            }
            "Node" => {
                if let Some(name) = NodeName::new(&object.name) {
                    self.nodes_changed |= self.nodes.remove(&name).is_some();
                }
            }
            _ => {
                self.parts.remove(object);
                return self.merge();
            }
        }
        Vec::new()
    }

    /// A slice that is gone, or of another Service than before.
    fn forget_slice(&mut self, object: &ObjectRef) {
        let Some(service) = self.slices.remove(object).and_then(|slice| slice.service) else { return };
        if let Some(slices) = self.slices_of.get_mut(&service) {
            slices.remove(object);
            if slices.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        self.queue.touch(&service);
    }

    fn touch_namespace(&mut self, name: &str) {
        let inside: Vec<ServiceKey> = self.services.keys().filter(|key| key.namespace() == name).cloned().collect();
        for key in inside {
            self.queue.touch(&key);
        }
    }

    /// The configuration counts once everything has been listed.
    fn merge(&mut self) -> Vec<Told> {
        if !self.synced {
            return Vec::new();
        }
        let malformed = self.malformed.iter().filter(|(object, _)| pools::is_part(object));
        let malformed = malformed.map(|(object, errors)| (object.clone(), errors.clone())).collect();
        let merged = pools::merge(&self.parts, &malformed);
        let flaws: &[Flaw] = if let Merged::Bad(flaws) = &merged { flaws } else { &[] };
        let complaints: BTreeSet<_> = flaws.iter().filter_map(|flaw| Some((flaw.object.clone()?, flaw.text.clone()))).collect();
        let told =
            |(object, reason): &(ObjectRef, String)| (object.clone(), format!("{reason}; the last good configuration stays in force"));
        self.untold.extend(complaints.difference(&self.complaints).map(told));
        self.complaints = complaints;
        let mut present = self.parts.keys().chain(self.malformed.keys()).filter(|object| pools::is_part(object)).peekable();
        if present.peek().is_some() {
            self.by_resources = present.any(|object| object.kind != "ConfigMap");
        }
        // Resources that were there and are taken away leave an empty configuration: the allocator's grace begins. A ConfigMap that is
        // taken away leaves all as it is (MetalLB behaviour 2.2), and none at all at the start is none.
        let merged = if merged == Merged::Missing && self.by_resources { Merged::Good(Configuration::default()) } else { merged };
        let is_first = merged == Merged::Missing && !self.had_config;
        self.had_config |= matches!(merged, Merged::Good(_));
        let before = std::mem::replace(&mut self.merged, merged);
        if before != self.merged || is_first {
            self.verdicts.outdate();
        }
        if before == self.merged && !is_first {
            return Vec::new();
        }
        match (&self.merged, &before) {
            (Merged::Good(configuration), Merged::Bad(_) | Merged::Missing) if self.sent_pools.as_ref() == Some(configuration) => {
                vec![Told::ConfigRestored(configuration.pools().len())]
            }
            (merged, _) => vec![Told::Config(merged.clone())],
        }
    }

    /// Whether this watcher may speak to the allocator: somebody elected it, with this term, or nobody any more.
    pub fn lead(&mut self, term: Option<Term>) {
        self.begin_session();
        // What another leader has meanwhile written and told is in the objects; under the same term there was none.
        if term.is_some() && self.led != term {
            self.led = term;
            for (key, view) in &self.services {
                self.progress.entry(key.clone()).or_default().take_as_found(view);
            }
            self.verdicts.outdate();
        }
        self.term = term;
    }

    /// The allocator is there, with these states of all Services; or it is not.
    pub fn connected(&mut self, fed: Option<BTreeMap<ServiceKey, Fed>>) {
        self.connected = fed.is_some();
        let Some(fed) = fed else {
            self.stage = Stage::Down;
            return;
        };
        self.fed_at = Revision::default();
        let touched: BTreeSet<ServiceKey> = self.fed.keys().chain(fed.keys()).cloned().collect();
        self.fed = fed;
        for service in touched {
            self.queue.touch(&service);
        }
        if let Some(findings) = &mut self.findings {
            findings.connected();
        }
        self.begin_session();
    }

    /// The allocator is told everything anew, as soon as it is there and this watcher leads.
    fn begin_session(&mut self) {
        self.stage = if self.connected { Stage::Pools } else { Stage::Down };
        self.stage_pause = None;
        if !self.elected {
            self.term = None;
        }
        if self.settings.is_shadow {
            // The allocator's shadow forgets everything when it is given a new term.
            self.fed.clear();
        }
        self.sent_pools = None;
        self.nodes_changed = true;
        self.settled_at = Revision::default();
        self.turns.clear();
        self.is_synced = false;
        for progress in self.progress.values_mut() {
            progress.claimed = None;
            progress.reach = None;
            progress.awaits = None;
        }
    }

    /// An object that its owner probably means to be configuration does not count.
    pub fn ignored(&mut self, object: ObjectRef, reason: String) {
        self.untold.push((object, reason));
    }

    /// A Service's status as written is gone: it is written again.
    pub fn status_gone(&mut self, service: &ServiceKey) {
        if let Some(view) = self.services.get_mut(service) {
            view.status = status::ServiceStatus::cleared();
            self.queue.touch(service);
        }
    }

    /// What the allocator says of one Service has changed; `None` = it knows nothing of it.
    pub fn feed(&mut self, service: &ServiceKey, fed: Option<Fed>) {
        if let Some(progress) = self.progress.get_mut(service) {
            progress.awaits.take_if(|awaited| awaited.is_told_by(fed.as_ref()));
        }
        match fed {
            Some(fed) => self.fed.insert(service.clone(), fed),
            None => self.fed.remove(service),
        };
        self.queue.touch(service);
    }

    /// The feed has reached this revision.
    pub fn reached(&mut self, revision: Revision) {
        self.fed_at = revision;
    }

    /// Whether the feed has told what followed from all that the allocator was told: until then it may say of a Service what was.
    fn is_settled(&self) -> bool {
        self.fed_at >= self.settled_at
    }

    /// Some ServiceL2Status from before the start is about this Service: it is written again, or taken away.
    pub fn found_l2(&mut self, service: &ServiceKey) {
        self.progress.entry(service.clone()).or_default().l2_found = true;
        self.queue.touch(service);
    }

    /// When there may be jobs again without anything new.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let is_worked_off = self.stage == Stage::Live && self.is_settled();
        let queued = self.queue.next_deadline().filter(|_| is_worked_off);
        queued.into_iter().chain(self.stage_pause).chain(self.next_view()).min()
    }

    /// When a shadow looks at everything anew, because statuses have come to hold what it did not expect.
    fn next_view(&self) -> Option<Mono> {
        let is_possible = self.is_idle() && matches!(self.merged, Merged::Good(_));
        self.findings.as_ref().filter(|_| is_possible).and_then(Findings::next_view)
    }

    /// Whether a shadow begins with nothing again: for the statuses' sake, or because another configuration would serve them from the start.
    fn looks_anew(&self, now: Mono) -> bool {
        let is_free = self.settings.is_shadow && self.stage == Stage::Live && !self.staging;
        let is_changed = matches!(&self.merged, Merged::Good(configuration) if self.sent_pools.as_ref() != Some(configuration));
        is_free && (is_changed || self.next_view().is_some_and(|due| due <= now))
    }

    /// Whether the allocator has everything and nothing is under way or due.
    fn is_idle(&self) -> bool {
        let is_told = self.stage == Stage::Live && !self.staging && self.sent_pools.is_some();
        is_told && self.in_flight == 0 && self.turns.is_empty() && self.queue.is_empty()
    }

    /// The jobs to begin now, and what the log says of them.
    pub fn jobs(&mut self, now: Mono) -> (Vec<Job>, Vec<Told>) {
        let (jobs, mut told) = self.next_jobs(now);
        told.extend(self.lines.drain(..).map(|(service, line)| Told::Reported(service, line)));
        (jobs, told)
    }

    fn next_jobs(&mut self, now: Mono) -> (Vec<Job>, Vec<Told>) {
        let (mut jobs, mut told) = (Vec::new(), Vec::new());
        if self.may_write() {
            jobs.extend(self.untold.drain(..).map(|(object, reason)| Job::Complain(object, reason)));
        }
        if self.looks_anew(now) {
            self.begin_session();
        }
        if self.stage != Stage::Live {
            jobs.extend(self.stage_job(now));
            return (jobs, told);
        }
        jobs.extend(self.changed_whole());
        if !self.is_settled() {
            return (jobs, told);
        }
        // Those that turn out to be as they should be leave their place to the next.
        while self.in_flight < IN_FLIGHT
            && let Some((key, nobody_waits)) = self.next_due(now)
        {
            match self.step(&key) {
                Some(Step::Allocate(claim)) => {
                    self.turns.insert(Turn::of(&claim));
                }
                Some(step) if is_aside(&step) && !nobody_waits => {
                    self.aside.insert(key);
                }
                step => self.begin(key, step, &mut jobs, &mut told),
            }
        }
        if self.turns.len() >= MANY_CLAIMS.max(self.services.len() / ALIKE) && !self.staging {
            self.turns.clear();
            if self.settings.is_shadow {
                self.begin_session();
            } else {
                self.stage = Stage::View;
            }
            jobs.extend(self.stage_job(now));
            return (jobs, told);
        }
        // The configuration may be what a claim asks for.
        while !self.claiming
            && !self.staging
            && let Some(turn) = self.turns.pop_first()
        {
            if !self.queue.is_in_flight(&turn.service) {
                let step = self.step(&turn.service);
                self.begin(turn.service, step, &mut jobs, &mut told);
            }
        }
        if self.is_idle() {
            told.extend(self.findings.as_mut().and_then(Findings::at_rest).map(Told::Found));
        }
        (jobs, told)
    }

    /// The next Service to look at, and whether even an Event about it may be written: only once nobody waits for more than that.
    fn next_due(&mut self, now: Mono) -> Option<(ServiceKey, bool)> {
        if let Some(key) = self.queue.next_due(now) {
            return Some((key, false));
        }
        while self.aside_in_flight < ASIDE
            && let Some(key) = self.aside.pop_first()
        {
            if !self.queue.is_in_flight(&key) {
                return Some((key, true));
            }
        }
        None
    }

    /// Begins a Service's step; without one, all of it is as it should be.
    fn begin(&mut self, key: ServiceKey, step: Option<Step>, jobs: &mut Vec<Job>, told: &mut Vec<Told>) {
        self.aside.remove(&key);
        let allocated = self.allocated(&key);
        let found = if step.is_none() { self.found(&key) } else { None };
        let progress = self.progress.entry(key.clone()).or_default();
        let Some(step) = step else {
            told.extend(found);
            let is_done = progress.awaits.is_none();
            let ended = (is_done && std::mem::take(&mut progress.updating)).then(|| Told::UpdateEnded(key.clone()));
            told.extend(allocated.into_iter().chain(ended));
            if !self.services.contains_key(&key) && !self.fed.contains_key(&key) {
                self.progress.remove(&key);
                self.queue.forget(&key);
            }
            return;
        };
        if !progress.updating && !self.settings.is_shadow && !matches!(step, Step::Forget) {
            progress.updating = true;
            told.push(Told::UpdateBegan(key.clone()));
        }
        told.extend(allocated);
        self.claiming |= matches!(step, Step::Allocate(_));
        self.aside_in_flight = self.aside_in_flight.saturating_add(usize::from(is_aside(&step)));
        self.queue.began(&key);
        self.in_flight = self.in_flight.saturating_add(1);
        jobs.push(Job::Service(key, step));
    }

    /// What a shadow finds about a Service that was not found before.
    fn found(&mut self, key: &ServiceKey) -> Option<Told> {
        let finding = match self.services.get(key) {
            Some(view) => shadow::compare(view, &self.wish(view), self.fed.get(key)),
            None => Finding::NoConcern,
        };
        // An allocator that was given no good configuration refuses everybody, which says nothing.
        let findings = self.findings.as_mut().filter(|_| self.sent_pools.is_some())?;
        findings.take(key, finding).map(Told::Found)
    }

    /// The addresses that a Service has gained since this was last asked; by a shadow nobody gains any.
    fn allocated(&mut self, key: &ServiceKey) -> Vec<Told> {
        let is_real = self.services.contains_key(key) && !self.settings.is_shadow;
        let (Some(progress), true) = (self.progress.get_mut(key), is_real) else { return Vec::new() };
        let Some(lease) = self.fed.get(key).and_then(|fed| fed.lease.as_ref()) else {
            progress.told.clear();
            return Vec::new();
        };
        let before = std::mem::replace(&mut progress.told, lease.addresses.clone());
        let gained = lease.addresses.iter().filter(|ip| !before.contains(ip));
        gained.map(|ip| Told::Allocated { service: key.clone(), ip: *ip, pool: lease.pool.clone() }).collect()
    }

    /// The configuration or the nodes, if they changed while live; only one of them at a time.
    fn changed_whole(&mut self) -> Option<Job> {
        if self.staging || self.stage_pause.is_some() {
            return None;
        }
        if let Merged::Good(configuration) = &self.merged
            && self.sent_pools.as_ref() != Some(configuration)
        {
            self.staging = true;
            return Some(Job::Pools { configuration: configuration.clone(), begin_term: false });
        }
        self.nodes_changed.then(|| {
            self.staging = true;
            self.all_nodes()
        })
    }

    /// All nodes; what changes from now on is to be sent again.
    fn all_nodes(&mut self) -> Job {
        self.nodes_changed = false;
        Job::Nodes(self.nodes.values().cloned().collect())
    }

    fn stage_job(&mut self, now: Mono) -> Option<Job> {
        if self.staging || !self.synced || (self.elected && self.term.is_none()) {
            return None;
        }
        if self.stage_pause.is_some_and(|until| until > now) {
            return None;
        }
        self.stage_pause = None;
        let begin_term = self.term.is_none();
        let job = match self.stage {
            Stage::Down | Stage::Live => return None,
            Stage::Pools => match &self.merged {
                // Without any configuration nothing is decided; with a bad one the allocator's last good one stays.
                Merged::Missing if !self.had_config => return None,
                Merged::Good(configuration) => Job::Pools { configuration: configuration.clone(), begin_term },
                Merged::Bad(_) | Merged::Missing => {
                    self.stage = Stage::Nodes;
                    return self.stage_job(now);
                }
            },
            Stage::Nodes => self.all_nodes(),
            Stage::View => Job::View { claims: self.full_view(now), begin_term },
            Stage::Backends => Job::Backends(self.all_backends()),
        };
        self.staging = true;
        Some(job)
    }

    /// All claims; a Service whose object cannot be read, or whose wish makes no sense, keeps what it has.
    fn full_view(&mut self, now: Mono) -> Vec<Claim> {
        let mut claims = BTreeMap::new();
        let unreadable = self.malformed.keys().filter(|object| object.kind == "Service");
        let unreadable = unreadable.filter_map(|object| ServiceKey::new(&object.namespace, &object.name).ok());
        for key in unreadable.filter(|key| !self.services.contains_key(key)) {
            let lease = self.fed.get(&key).and_then(|fed| fed.lease.as_ref());
            claims.extend(lease.map(|lease| (key, service::claim_of_lease(lease))));
        }
        for (key, view) in &self.services {
            claims.extend(self.claim(view, &self.wish(view)).map(|claim| (key.clone(), claim)));
        }
        for (key, claim) in &claims {
            self.progress.entry(key.clone()).or_default().claimed = Some(claim.clone());
        }
        if let Some(findings) = &mut self.findings {
            findings.viewed(self.services.values(), now);
        }
        claims.into_values().collect()
    }

    fn all_backends(&mut self) -> Vec<Backends> {
        let has_claimed = |view: &ServiceView| self.progress.get(&view.key).is_some_and(|progress| progress.claimed.is_some());
        let claims = |view: &&ServiceView| has_claimed(view) && self.claim(view, &self.wish(view)).is_some();
        let all: Vec<Backends> = self.services.values().filter(claims).filter_map(|view| self.backends_of(view)).collect();
        for Backends { service, reach } in &all {
            self.progress.entry(service.clone()).or_default().reach = Some(reach.clone());
        }
        all
    }

    /// Where a Service that claims addresses can be served; nobody serves what only would be.
    fn backends_of(&self, view: &ServiceView) -> Option<Backends> {
        if self.settings.is_shadow {
            return None;
        }
        let slices = self.slices_of.get(&view.key).into_iter().flatten().filter_map(|object| self.slices.get(object));
        Some(Backends { service: view.key.clone(), reach: backends::reach(view, slices, &self.settings) })
    }

    fn wish(&self, view: &ServiceView) -> Wish {
        service::wish(view, self.namespace_of(view), &self.settings)
    }

    fn namespace_of(&self, view: &ServiceView) -> &Namespace {
        self.namespaces.get(view.key.namespace()).unwrap_or(&service::UNKNOWN)
    }

    /// What a Service claims: what it wants, or, where that cannot be told, just what it has.
    fn claim(&self, view: &ServiceView, wish: &Wish) -> Option<Claim> {
        match wish {
            Wish::Claim(claim) => Some((**claim).clone()),
            Wish::Hold(_) => {
                let lease = self.fed.get(&view.key).and_then(|fed| fed.lease.as_ref());
                let held = lease.map_or_else(|| view.assigned.clone().unwrap_or_default(), |lease| lease.addresses.clone());
                (!held.is_empty()).then(|| service::keeping(view, self.namespace_of(view), &held))
            }
            Wish::Nothing(_) | Wish::Foreign => None,
        }
    }

    /// Whether there are pools, as far as the allocator was told and is to be told.
    fn any_pool(&self) -> bool {
        let is_empty = |configuration: &Configuration| configuration.pools().is_empty();
        let is_to_be_empty = matches!(&self.merged, Merged::Good(configuration) if is_empty(configuration));
        !is_to_be_empty && self.sent_pools.as_ref().is_some_and(|sent| !is_empty(sent))
    }

    /// The first thing about a Service that is not as it should be.
    fn step(&mut self, key: &ServiceKey) -> Option<Step> {
        let Some(view) = self.services.get(key).cloned() else { return self.step_gone(key) };
        let wish = self.wish(&view);
        let fed = self.fed.get(key).cloned();
        let (claim, any_pool) = (self.claim(&view, &wish), self.any_pool());
        let backends = claim.as_ref().and_then(|_| self.backends_of(&view));
        let is_shadow = self.settings.is_shadow;
        let progress = self.progress.entry(key.clone()).or_default();
        match claim {
            Some(claim) if is_shadow && shadow::is_overtaken(progress.claimed.as_ref(), &claim, fed.as_ref()) => {
                return Some(Step::Release);
            }
            Some(claim) if !is_said(progress.claimed.as_ref(), &claim, fed.as_ref()) => return Some(Step::Allocate(Box::new(claim))),
            None if progress.claimed.is_some() || fed.is_some() => return Some(Step::Release),
            Some(_) | None => {}
        }
        // The allocator passes over what is said of a Service that has claimed nothing.
        let claimed = progress.claimed.is_some();
        if let Some(backends) = backends.filter(|backends| claimed && progress.reach.as_ref() != Some(&backends.reach)) {
            return Some(Step::Backends(backends));
        }
        if is_shadow {
            return None;
        }
        // An allocator that was given no good configuration yet refuses everybody: that is nothing to tell, and no order to take
        // addresses away.
        let holds = fed.as_ref().is_some_and(|fed| fed.lease.is_some());
        if progress.awaits.is_some() || (self.sent_pools.is_none() && !holds) {
            return None;
        }
        // What is to be told is seen before the status is written over what was found, and told after.
        if wish != Wish::Foreign {
            let reported = progress.reported.get_or_insert_with(|| Reported::found(&view));
            let news = reported.update(&view, &wish, fed.as_ref().unwrap_or(&Fed::default()), any_pool);
            progress.events.extend(news.drafts);
            self.lines.extend(news.lines.into_iter().map(|line| (key.clone(), line)));
        }
        let wanted = report::status(&view, &wish, fed.as_ref());
        let patch = wanted.and_then(|wanted| status::patch(&view.uid, &view.status, &wanted));
        if let Some(patch) = patch.filter(|patch| progress.hopeless.as_ref() != Some(patch)) {
            return Some(Step::Status(patch));
        }
        if let Some(draft) = progress.events.first() {
            return Some(Step::Event(draft.clone()));
        }
        let l2 = report::l2_status(key, fed.as_ref()).filter(|_| wish != Wish::Foreign);
        (progress.l2_found || progress.l2 != l2).then_some(Step::L2(l2))
    }

    /// A Service whose object is gone gives back what it holds; one that merely cannot be read keeps it.
    fn step_gone(&mut self, key: &ServiceKey) -> Option<Step> {
        let unreadable = self.malformed.contains_key(&ObjectRef::new("Service", key.namespace(), key.name()));
        if unreadable {
            return None;
        }
        let progress = self.progress.entry(key.clone()).or_default();
        if progress.claimed.is_some() || self.fed.contains_key(key) {
            return Some(Step::Release);
        }
        if self.settings.is_shadow {
            return None;
        }
        if progress.l2_found || progress.l2.is_some() {
            return Some(Step::L2(None));
        }
        (!progress.forgotten).then_some(Step::Forget)
    }

    /// Takes in what became of a job.
    pub fn done(&mut self, job: &Job, done: Done, now: Mono) -> Vec<Told> {
        if let Done::Outdated(term) = done {
            self.outdated(term);
        }
        match job {
            Job::Service(key, step) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.claiming &= !matches!(step, Step::Allocate(_));
                self.aside_in_flight = self.aside_in_flight.saturating_sub(usize::from(is_aside(step)));
                self.queue.ended(key);
                self.done_step(key, step, done, now);
                Vec::new()
            }
            Job::Pools { .. } | Job::View { .. } | Job::Nodes(_) | Job::Backends(_) => self.done_stage(job, &done, now),
            // An Event that could not be written is not worth another try: the log and the metric have told as well.
            Job::Complain(..) => Vec::new(),
        }
    }

    /// A newer watcher leads. An elected one waits to be elected again; any other begins anew, after a pause that keeps two watchers on
    /// one directory from deposing each other without end.
    fn outdated(&mut self, _newest: Term) {
        self.term = None;
        self.stage = if self.elected { Stage::Down } else { Stage::Pools };
    }

    fn done_stage(&mut self, job: &Job, done: &Done, now: Mono) -> Vec<Told> {
        self.staging = false;
        match done {
            Done::Led(term, revision) => {
                self.term = Some(*term);
                self.settled_at = self.settled_at.max(*revision);
            }
            Done::Ok => {}
            Done::Granted(_) | Done::Refused(_) | Done::Failed | Done::Hopeless | Done::Outdated(_) => {
                let pause = if matches!(done, Done::Failed) { super::queue::STAGE_PAUSE } else { super::queue::LONG_STAGE_PAUSE };
                self.stage_pause = Some(now + pause);
                self.nodes_changed |= matches!(job, Job::Nodes(_));
                return Vec::new();
            }
        }
        let (was_live, had_pools) = (self.stage == Stage::Live, self.any_pool());
        match job {
            Job::Pools { configuration, .. } => self.sent_pools = Some(configuration.clone()),
            Job::Nodes(_) | Job::View { .. } | Job::Backends(_) | Job::Complain(..) | Job::Service(..) => {}
        }
        self.stage = match (self.stage, job) {
            (Stage::Pools, Job::Pools { .. }) => Stage::Nodes,
            (Stage::Nodes, Job::Nodes(_)) => Stage::View,
            (Stage::View, Job::View { .. }) => Stage::Backends,
            (Stage::Backends, Job::Backends(_)) => Stage::Live,
            (stage, _) => stage,
        };
        let goes_live = self.stage == Stage::Live && !was_live;
        // Those who were left in peace while there was no pool are looked at again.
        if goes_live || (!had_pools && self.any_pool()) {
            let all: Vec<ServiceKey> = self.services.keys().chain(self.progress.keys()).chain(self.fed.keys()).cloned().collect();
            for key in all {
                self.queue.touch(&key);
            }
        }
        let first = goes_live && !std::mem::replace(&mut self.is_synced, true);
        Vec::from_iter(first.then_some(Told::Synced))
    }

    fn done_step(&mut self, key: &ServiceKey, step: &Step, done: Done, now: Mono) {
        let progress = self.progress.entry(key.clone()).or_default();
        match (step, done) {
            (_, Done::Outdated(_)) => {
                self.queue.touch(key);
                return;
            }
            (_, Done::Failed) => {
                self.queue.failed(key, now);
                return;
            }
            (Step::Status(patch), Done::Hopeless) => progress.hopeless = Some(patch.clone()),
            (Step::Allocate(claim), Done::Granted(lease)) => {
                progress.claimed = Some((**claim).clone());
                let fed = self.fed.entry(key.clone()).or_default();
                // The feed may be ahead of the answer.
                if fed.lease.as_ref().is_none_or(|known| known.revision <= lease.revision) {
                    if fed.lease.as_ref() != Some(&*lease) {
                        progress.awaits_lease(&lease);
                    }
                    fed.refusal = None;
                    fed.lease = Some(*lease);
                }
            }
            (Step::Allocate(claim), Done::Refused(refused)) => {
                progress.claimed = Some((**claim).clone());
                let fed = self.fed.entry(key.clone()).or_default();
                if fed.refusal.as_ref() != Some(&refused) {
                    let loses = fed.lease.is_none() && progress.reported.as_ref().is_some_and(|reported| reported.loses_by(&[]));
                    progress.awaits = loses.then_some(Awaited::Refusal);
                    fed.refusal = Some(refused);
                }
            }
            (Step::Release, _) => {
                progress.claimed = None;
                progress.reach = None;
                progress.awaits = None;
                self.fed.remove(key);
            }
            (Step::Backends(backends), _) => progress.reach = Some(backends.reach.clone()),
            (Step::Status(patch), _) => {
                if let Some(view) = self.services.get_mut(key) {
                    view.written(patch);
                }
            }
            (Step::Event(draft), _) => {
                if progress.events.first() == Some(draft) {
                    progress.events.remove(0);
                }
            }
            (Step::L2(l2), _) => {
                progress.l2.clone_from(l2);
                progress.l2_found = false;
            }
            (Step::Forget, _) => progress.forgotten = true,
            (Step::Allocate(_), Done::Ok | Done::Hopeless | Done::Led(..)) => {}
        }
        self.queue.succeeded(key);
        self.queue.touch(key);
    }
}

/// Whether nobody waits for an address until the step is done.
fn is_aside(step: &Step) -> bool {
    match step {
        Step::Event(_) | Step::L2(_) | Step::Forget => true,
        Step::Allocate(_) | Step::Release | Step::Backends(_) | Step::Status(_) => false,
    }
}

/// Whether the allocator has been told just this claim. What the status holds matters only as long as there is no lease.
fn is_said(said: Option<&Claim>, claim: &Claim, fed: Option<&Fed>) -> bool {
    let Some(said) = said else { return false };
    if fed.is_some_and(|fed| fed.lease.is_some()) {
        return Claim { adopt: claim.adopt.clone(), ..said.clone() } == *claim;
    }
    said == claim
}

#[cfg(test)]
mod tests;
