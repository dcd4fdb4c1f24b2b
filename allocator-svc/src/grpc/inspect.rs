//! InspectService: what the allocator knows, in pages, and the feed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use mooring_kit::mailbox::Closed;
use mooring_kit::supervise::Spawner;
use mooring_proto::convert::{self, Violations};
use mooring_proto::pb;
use mooring_proto::pb::inspect_service_server::InspectService;
use mooring_proto::pb::watch_leases_response::Message;
use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::reservation::ReservationKey;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::history::History;
use super::lan::{quarantined, sighting};
use super::{configuration, ending, explain, plan, refusal_to_pb, refused};
use crate::core::nodes::{Liveness, Speaker};
use crate::core::{self, Now, Placement, State, Unannounced};
use crate::engine::Engine;
use crate::store::HistoryReader;
use mooring_kit::clock::{Clock, wall};

/// How many Services a message of the feed has at most, so that it stays well under 4 MiB.
const PART: usize = 500;

/// How many messages may wait for a reader of the feed; what more there is stays in the state, coalesced.
const DEPTH: usize = 4;

/// The service.
pub(crate) struct Inspect {
    engine: Engine,
    spawner: Spawner,
    clock: Clock,
    history: History,
    /// One plan is made at a time: each holds a copy of all leases.
    plans: Arc<Semaphore>,
}

impl Inspect {
    pub(crate) fn new(engine: Engine, spawner: Spawner, clock: Clock, history: Option<HistoryReader>) -> Self {
        let plans = Arc::new(Semaphore::new(1));
        Self { history: History::new(engine.clone(), history), engine, spawner, clock, plans }
    }

    async fn ask<T: Send + 'static>(&self, look: impl FnOnce(&State) -> T + Send + 'static) -> Result<T, Status> {
        self.engine.ask(look).await.map_err(ending)
    }
}

/// A page of a map: what comes after the token, and the token of the next page.
fn page<K: Ord + ToString, V>(
    map: &BTreeMap<K, V>,
    after: Option<K>,
    size: usize,
    keep: impl Fn(&K, &V) -> bool,
) -> (Vec<(&K, &V)>, String) {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = map.range((from, Bound::Unbounded)).filter(|(key, value)| keep(key, value));
    let page: Vec<_> = found.by_ref().take(size).collect();
    let next = found.next().and(page.last()).map(|(key, _)| key.to_string()).unwrap_or_default();
    (page, next)
}

/// Where a page begins; an empty token is the start.
fn token<K>(text: &str, parse: impl Fn(&str) -> Option<K>) -> Result<Option<K>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some).ok_or_else(|| Violations::one("page_token", format!("{text:?} is no token of this list")).into())
}

/// The Service that a request is about.
fn named(namespace: &str, name: &str) -> Result<ServiceKey, Status> {
    ServiceKey::new(namespace, name).map_err(|error| Violations::one("name", error.to_string()).into())
}

fn unknown(service: &ServiceKey) -> Status {
    WireRefusal::new(Reason::UnknownService, format!("{service} holds and claims nothing")).with("service", service).into()
}

#[tonic::async_trait]
impl InspectService for Inspect {
    type WatchLeasesStream = Pin<Box<dyn Stream<Item = Result<pb::WatchLeasesResponse, Status>> + Send>>;
    type PlanPoolsStream = Pin<Box<dyn Stream<Item = Result<pb::PlanPoolsResponse, Status>> + Send>>;

    async fn get_lease(&self, request: Request<pb::GetLeaseRequest>) -> Result<Response<pb::GetLeaseResponse>, Status> {
        let pb::GetLeaseRequest { namespace, name } = request.into_inner();
        let service = named(&namespace, &name)?;
        let key = service.clone();
        let known = move |state: &State| state.book().lease(&key).is_some() || state.book().claim(&key).is_some();
        let look = move |state: &State| known(state).then(|| service_state(state, &service)).ok_or(service);
        let state = self.ask(look).await?.map_err(|service| unknown(&service))?;
        Ok(Response::new(pb::GetLeaseResponse { state: Some(state) }))
    }

    async fn list_leases(&self, request: Request<pb::ListLeasesRequest>) -> Result<Response<pb::ListLeasesResponse>, Status> {
        let request = request.into_inner();
        let after = token(&request.page_token, |text| text.parse::<ServiceKey>().ok())?;
        let size = convert::page_size(request.page_size);
        let look = move |state: &State| {
            let wanted = |key: &ServiceKey, _: &_| request.namespace.is_empty() || key.namespace() == request.namespace;
            let (page, next_page_token) = page(state.book().leases(), after, size, wanted);
            pb::ListLeasesResponse { leases: page.into_iter().map(|(_, lease)| lease.into()).collect(), next_page_token }
        };
        self.ask(look).await.map(Response::new)
    }

    async fn watch_leases(&self, request: Request<pb::WatchLeasesRequest>) -> Result<Response<Self::WatchLeasesStream>, Status> {
        let from = Revision(request.into_inner().from_revision);
        let (reader, receiver) = mpsc::channel(DEPTH);
        let feed = Feed { engine: self.engine.clone(), at: from, reader };
        // A revision that is not kept is told before anything else.
        let first = if from == Revision::default() { None } else { Some(feed.changes().await?) };
        let stop = self.spawner.stop();
        let run = async move {
            tokio::select! {
                () = feed.run(first) => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        };
        self.spawner.task("lease feed", run).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_pools(&self, request: Request<pb::ListPoolsRequest>) -> Result<Response<pb::ListPoolsResponse>, Status> {
        let request = request.into_inner();
        let (after, size) = (token(&request.page_token, PoolName::new)?, convert::page_size(request.page_size));
        let look = move |state: &State| {
            let (page, next_page_token) = page(state.book().pools(), after, size, |_, _| true);
            let pools = page.into_iter().map(|(_, pool)| pb::PoolState {
                pool: Some(pool.spec().into()),
                assigned_ipv4: pool.count(Family::V4).assigned,
                assigned_ipv6: pool.count(Family::V6).assigned,
                available_ipv4: pool.available(Family::V4),
                available_ipv6: pool.available(Family::V6),
                reserved_ipv4: pool.count(Family::V4).reserved,
                reserved_ipv6: pool.count(Family::V6).reserved,
                quarantined: quarantined(state, pool),
            });
            pb::ListPoolsResponse { pools: pools.collect(), next_page_token }
        };
        self.ask(look).await.map(Response::new)
    }

    async fn list_nodes(&self, request: Request<pb::ListNodesRequest>) -> Result<Response<pb::ListNodesResponse>, Status> {
        let request = request.into_inner();
        let (after, size) = (token(&request.page_token, NodeName::new)?, convert::page_size(request.page_size));
        let now = self.clock.now();
        let look = move |state: &State| {
            let network = state.network();
            let names = network.nodes().keys().chain(network.drains().by_hand().keys());
            let names = names.chain(network.speakers().keys().map(|speaker| &speaker.node));
            let names: BTreeMap<NodeName, ()> = names.map(|name| (name.clone(), ())).collect();
            let (page, next_page_token) = page(&names, after, size, |_, ()| true);
            let nodes = page.into_iter().map(|(name, ())| node_state(state, name, now)).collect();
            pb::ListNodesResponse { nodes, next_page_token }
        };
        self.ask(look).await.map(Response::new)
    }

    async fn list_assignments(
        &self,
        request: Request<pb::ListAssignmentsRequest>,
    ) -> Result<Response<pb::ListAssignmentsResponse>, Status> {
        let request = request.into_inner();
        let after = token(&request.page_token, |text| text.parse::<Vip>().ok())?;
        let (size, node) = (convert::page_size(request.page_size), NodeName::new(&request.node));
        let look = move |state: &State| {
            let (page, next_page_token) = page(state.network().placements(), after, size, |_, placed| {
                let parts = placed.iter().flat_map(Placement::speakers);
                node.is_none() || parts.map(|speaker| &speaker.node).any(|part| Some(part) == node.as_ref())
            });
            let assignments = page.into_iter().map(|(vip, _)| assignment_state(state, *vip)).collect();
            pb::ListAssignmentsResponse { assignments, next_page_token }
        };
        self.ask(look).await.map(Response::new)
    }

    async fn explain(&self, request: Request<pb::ExplainRequest>) -> Result<Response<pb::ExplainResponse>, Status> {
        let pb::ExplainRequest { namespace, name } = request.into_inner();
        let service = named(&namespace, &name)?;
        let (key, now) = (service.clone(), Now { mono: self.clock.now(), wall: wall() });
        let explained = self.ask(move |state| core::explain::explain(state, &key, now)).await?;
        explained.map(|explained| Response::new(explain::response(&service, explained))).ok_or_else(|| unknown(&service))
    }

    async fn plan_pools(&self, request: Request<pb::PlanPoolsRequest>) -> Result<Response<Self::PlanPoolsStream>, Status> {
        let pb::PlanPoolsRequest { pools, advertisements } = request.into_inner();
        let configuration = configuration(pools, advertisements)?;
        let permit = Arc::clone(&self.plans).acquire_owned().await.map_err(|_closed| ending(Closed))?;
        let now = Now { mono: self.clock.now(), wall: wall() };
        let messages = plan::plan(&self.engine, &self.spawner, configuration, now, permit).await.map_err(ending)?;
        Ok(Response::new(Box::pin(tokio_stream::iter(messages.into_iter().map(Ok)))))
    }

    async fn list_reservations(
        &self,
        request: Request<pb::ListReservationsRequest>,
    ) -> Result<Response<pb::ListReservationsResponse>, Status> {
        let request = request.into_inner();
        let after = token(&request.page_token, |text| text.parse::<ReservationKey>().ok())?;
        let size = convert::page_size(request.page_size);
        let look = move |state: &State| {
            let (page, next_page_token) = page(state.book().reservations().all(), after, size, |_, _| true);
            let reservations = page.into_iter().map(|(_, reservation)| reservation.into()).collect();
            pb::ListReservationsResponse { reservations, next_page_token }
        };
        self.ask(look).await.map(Response::new)
    }

    async fn list_history(&self, request: Request<pb::ListHistoryRequest>) -> Result<Response<pb::ListHistoryResponse>, Status> {
        self.history.list(request.into_inner()).await.map(Response::new)
    }
}

/// A reader of the feed.
struct Feed {
    engine: Engine,
    /// The revision that the reader has reached.
    at: Revision,
    reader: mpsc::Sender<Result<pb::WatchLeasesResponse, Status>>,
}

/// Why a feed ends.
enum End {
    /// Its reader has gone.
    Gone,
    /// This is told to the reader.
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// The Services that changed up to a revision.
struct Changes {
    revision: Revision,
    services: Vec<ServiceKey>,
}

/// A part of a snapshot.
struct Page {
    part: pb::LeaseSnapshot,
    /// The last Service of it, if there are more.
    last: Option<ServiceKey>,
}

impl Feed {
    /// Sends a snapshot or these changes, then each change, until the reader goes.
    async fn run(mut self, first: Option<Changes>) {
        if let Err(End::Refused(status)) = self.follow(first).await
            && self.reader.send(Err(status)).await.is_err()
        {
            tracing::debug!("a reader of the feed did not wait for its end");
        }
    }

    async fn follow(&mut self, first: Option<Changes>) -> Result<(), End> {
        let mut revisions = self.engine.revisions();
        match first {
            None => self.snapshot().await?,
            Some(changes) => self.tell(changes).await?,
        }
        loop {
            let newer = revisions.wait_for(|revision| *revision > self.at);
            tokio::select! {
                newer = newer => drop(newer.map_err(|_ended| End::Gone)?),
                () = self.reader.closed() => return Err(End::Gone),
            }
            let changes = self.changes().await?;
            self.tell(changes).await?;
        }
    }

    async fn send(&self, message: Message) -> Result<(), End> {
        self.reader.send(Ok(pb::WatchLeasesResponse { message: Some(message) })).await.map_err(|_gone| End::Gone)
    }

    /// All Services' states, a few hundred at a time so that nobody waits for them. The snapshot is that of the first part's revision,
    /// later parts may say what is newer: whatever has changed since follows as changes.
    async fn snapshot(&mut self) -> Result<(), End> {
        let mut after = None;
        let mut revision = None;
        loop {
            let Page { mut part, last } = self.engine.ask(move |state| page_of_snapshot(state, after)).await.map_err(ending)?;
            part.revision = *revision.get_or_insert(part.revision);
            self.at = Revision(part.revision);
            self.send(Message::Snapshot(part)).await?;
            if last.is_none() {
                return Ok(());
            }
            after = last;
        }
    }

    /// Who changed since this reader's revision.
    async fn changes(&self) -> Result<Changes, Status> {
        let from = self.at;
        let look = move |state: &State| {
            let services = state.feed().since(from)?.into_iter().cloned().collect();
            Ok(Changes { revision: state.feed().revision(), services })
        };
        self.engine.ask(look).await.map_err(ending)?.map_err(|refusal| refused(&refusal))
    }

    /// What became of those that changed, a few hundred at a time. The reader reaches the revision with the last part.
    async fn tell(&mut self, changes: Changes) -> Result<(), End> {
        let mut services = changes.services;
        while !services.is_empty() {
            let rest = services.split_off(services.len().min(PART));
            let revision = if rest.is_empty() { changes.revision } else { self.at };
            let part = std::mem::replace(&mut services, rest);
            let delta = self.engine.ask(move |state| delta_of(state, revision, &part)).await.map_err(ending)?;
            self.send(Message::Delta(delta)).await?;
        }
        self.at = changes.revision;
        Ok(())
    }
}

/// The states of the next Services after one, by name.
fn page_of_snapshot(state: &State, after: Option<ServiceKey>) -> Page {
    let book = state.book();
    let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
    // The first of both together are among the first of each.
    let mut keys: Vec<&ServiceKey> = book.leases().range(range.clone()).map(|(service, _)| service).take(PART).collect();
    keys.extend(book.claims().range(range).map(|(service, _)| service).take(PART));
    keys.sort();
    keys.dedup();
    let last = keys.get(PART.saturating_sub(1)).map(|service| (*service).clone());
    keys.truncate(PART);
    let part = pb::LeaseSnapshot {
        epoch: state.epoch().0,
        term: state.term().0,
        revision: state.feed().revision().0,
        services: keys.into_iter().map(|service| service_state(state, service)).collect(),
        complete: last.is_none(),
    };
    Page { part, last }
}

/// What became of these Services.
fn delta_of(state: &State, revision: Revision, services: &[ServiceKey]) -> pb::LeaseDelta {
    let mut delta = pb::LeaseDelta { revision: revision.0, ..pb::LeaseDelta::default() };
    for service in services {
        if state.book().lease(service).is_some() || state.book().claim(service).is_some() {
            delta.upserts.push(service_state(state, service));
        } else {
            delta.removals.push(convert::service_ref(service));
        }
    }
    delta
}

/// All that is known of one Service.
fn service_state(state: &State, service: &ServiceKey) -> pb::ServiceState {
    let book = state.book();
    let lease = book.lease(service);
    let vips = lease.into_iter().flat_map(|lease| &lease.addresses);
    pb::ServiceState {
        service: Some(convert::service_ref(service)),
        lease: lease.map(Into::into),
        refusal: book.refusal(service).map(refusal_to_pb),
        untenable: book.untenable(service).map(refusal_to_pb),
        announcements: vips.map(|vip| announcement(state, *vip)).collect(),
    }
}

fn announcement(state: &State, vip: Vip) -> pb::Announcement {
    let assignment = assignment_state(state, vip);
    let unannounced = state.network().placements().get(&vip).and_then(|placed| placed.as_ref().err());
    pb::Announcement {
        vip: assignment.vip,
        node: assignment.node,
        interfaces: assignment.interfaces,
        reason: assignment.reason,
        conflict_mac: assignment.conflict_mac,
        no_eligible_node: unannounced.is_some_and(Unannounced::is_amiss),
        last_resort: assignment.last_resort,
        lacks_interfaces: unannounced.and_then(Unannounced::lacks_interfaces).map(ToString::to_string).unwrap_or_default(),
    }
}

fn assignment_state(state: &State, vip: Vip) -> pb::AssignmentState {
    let network = state.network();
    let holders = state.book().holders().get(&vip).into_iter().flatten();
    let pool = holders.clone().find_map(|service| state.book().lease(service)).map(|lease| lease.pool.to_string());
    let known = pb::AssignmentState {
        vip: vip.to_string(),
        services: holders.map(ToString::to_string).collect(),
        pool: pool.unwrap_or_default(),
        conflict_mac: network.conflict(vip).map(|conflict| conflict.mac.to_string()).unwrap_or_default(),
        ..pb::AssignmentState::default()
    };
    match network.placements().get(&vip) {
        Some(Ok(placement)) => pb::AssignmentState {
            node: placement.active.node.to_string(),
            instance: placement.active.instance.to_string(),
            standby_node: placement.standby.as_ref().map(|standby| standby.node.to_string()).unwrap_or_default(),
            standby_instance: placement.standby.as_ref().map(|standby| standby.instance.to_string()).unwrap_or_default(),
            interfaces: placement.interfaces.iter().map(ToString::to_string).collect(),
            announced: network.is_announced(vip),
            last_resort: last_resort(state, placement),
            seen: Some(sighting(state, vip, placement)),
            ..known
        },
        Some(Err(reason)) => pb::AssignmentState { reason: reason.to_string(), ..known },
        None => known,
    }
}

/// Why a drained node announces a VIP; empty if the node is not drained.
fn last_resort(state: &State, placement: &Placement) -> String {
    let node = &placement.active.node;
    let why = state.network().drains().why(node).filter(|_| placement.last_resort);
    why.map(|why| format!("node {node} goes on though {why}: no other node is eligible")).unwrap_or_default()
}

fn node_state(state: &State, name: &NodeName, now: Mono) -> pb::NodeState {
    let network = state.network();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let speakers = network.speakers().iter().filter(|(speaker, _)| speaker.node == *name);
    pb::NodeState {
        name: name.to_string(),
        ineligible_reason: network.bar(name).unwrap_or_default().to_owned(),
        speakers: speakers.map(|(id, speaker)| speaker_state(id.instance.as_str(), speaker, now)).collect(),
        active: count(network.active_on(name)),
        standby: count(network.standby_on(name)),
        drained_unix_ms: network.drains().by_hand().get(name).map(|since| since.0).unwrap_or_default(),
        cordoned: network.drains().cordoned().contains(name),
        last_resort: count(network.last_resort_on(name)),
    }
}

fn speaker_state(instance: &str, speaker: &Speaker, now: Mono) -> pb::SpeakerState {
    let liveness = match speaker.liveness {
        Liveness::Live => pb::SpeakerLiveness::Live,
        Liveness::Grace(_) => pb::SpeakerLiveness::Grace,
        Liveness::Draining => pb::SpeakerLiveness::Draining,
        Liveness::Lost => pb::SpeakerLiveness::Lost,
        Liveness::Awaited => pb::SpeakerLiveness::Awaited,
    };
    pb::SpeakerState {
        instance: instance.to_owned(),
        boot_id: speaker.boot_id.clone(),
        liveness: liveness.into(),
        heard_ms_ago: u64::try_from(now.saturating_since(speaker.heard).as_millis()).unwrap_or(u64::MAX),
        interfaces: convert::interfaces_to_pb(&speaker.interfaces),
        applied_revision: speaker.applied.0,
    }
}

#[cfg(test)]
mod tests;
