//! The allocator's client: each call with a deadline, and the feed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_kit::Stop;
use mooring_kit::backoff::Backoff;
use mooring_kit::telemetry::chain;
use mooring_proto::LARGEST_CALL;
use mooring_proto::convert;
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_client::AllocatorServiceClient;
use mooring_proto::pb::inspect_service_client::InspectServiceClient;
use mooring_proto::pb::watch_leases_response::Message;
use mooring_proto::reason::Reason;
use mooring_proto::shadow;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::{Lease, Revision, Term};
use mooring_proto::types::node::{InterfaceName, NodeName, NodeSpec};
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::service::ServiceKey;
use tokio::sync::mpsc;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use crate::core::{Announced, Done, Fed, Refused};
use crate::logs;

/// How long a call may take: an allocator under load flushes within milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a call about everything may take.
const LONG_DEADLINE: Duration = Duration::from_secs(60);

/// How many claims or backends a message has at most, so that it stays well under 4 MiB.
const PART: usize = 500;

/// Which of the allocator's engines is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The one whose leases Services hold.
    Serving,
    /// The one that shows what would be.
    Shadow,
}

impl Engine {
    /// Whether an answer is of this engine: an allocator without a shadow would take the calls of one for those of a watcher that serves.
    fn check(self, answer: &MetadataMap) -> Result<(), Status> {
        let is_shadow = answer.get(shadow::KEY).is_some_and(|value| value == shadow::YES);
        match self {
            Self::Shadow if !is_shadow => Err(Status::unimplemented("this allocator has no shadow: it is of another build")),
            Self::Shadow | Self::Serving => Ok(()),
        }
    }
}

impl Interceptor for Engine {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if *self == Self::Shadow {
            request.metadata_mut().insert(shadow::KEY, MetadataValue::from_static(shadow::YES));
        }
        Ok(request)
    }
}

/// A channel on which each call says which engine is meant.
type Line = InterceptedService<Channel, Engine>;

/// The allocator.
#[derive(Clone, Debug)]
pub(crate) struct Allocator {
    leases: AllocatorServiceClient<Line>,
    inspect: InspectServiceClient<Line>,
    engine: Engine,
}

/// A pool's counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PoolCount {
    pub(crate) name: String,
    pub(crate) assigned: (u64, u64),
    pub(crate) available: (u64, u64),
    pub(crate) reserved: (u64, u64),
}

fn within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// What a failed call comes to: the refusal that matters, or that it may be tried again.
fn failed(status: &Status) -> Done {
    let Some(refusal) = WireRefusal::from_status(status) else {
        tracing::debug!(error = %status, "a call to the allocator failed");
        return Done::Failed;
    };
    match refusal.reason {
        Reason::TermOutdated => Done::Outdated(Term(refusal.metadata.get("term").and_then(|term| term.parse().ok()).unwrap_or_default())),
        Reason::Busy | Reason::UnknownService | Reason::RevisionNotKept | Reason::IncompleteView => Done::Failed,
        Reason::InvalidField | Reason::InvalidConfiguration => {
            tracing::warn!(error = %refusal.message, "the allocator does not understand a call");
            Done::Refused(Refused { reason: refusal.reason.to_string(), message: refusal.message })
        }
        Reason::FamilyMismatch
        | Reason::UnknownPool
        | Reason::AddressNotInPool
        | Reason::NoAvailableAddress
        | Reason::QuotaExceeded
        | Reason::AddressReserved
        | Reason::AddressInUse
        | Reason::AddressHeld
        | Reason::UnknownNode
        | Reason::PoolNotCompatible
        | Reason::PoolMismatch
        | Reason::SharingForbidden
        | Reason::PortInUse => Done::Refused(Refused { reason: refusal.reason.to_string(), message: refusal.message }),
    }
}

impl Allocator {
    pub(crate) fn new(channel: Channel, engine: Engine) -> Self {
        let line = InterceptedService::new(channel, engine);
        let leases = AllocatorServiceClient::new(line.clone()).max_encoding_message_size(LARGEST_CALL);
        Self { leases, inspect: InspectServiceClient::new(line), engine }
    }

    pub(crate) async fn replace_pools(&self, term: Term, begin_term: bool, configuration: &Configuration) -> Done {
        let request = pb::ReplacePoolsRequest {
            term: term.0,
            begin_term,
            pools: configuration.pools().iter().map(Into::into).collect(),
            advertisements: configuration.advertisements().iter().map(Into::into).collect(),
        };
        match self.leases.clone().replace_pools(within(LONG_DEADLINE, request)).await {
            Ok(response) => {
                let response = response.into_inner();
                Done::Led(Term(response.term), Revision(response.revision))
            }
            Err(status) => failed(&status),
        }
    }

    pub(crate) async fn reconcile(&self, term: Term, begin_term: bool, claims: &[Claim]) -> Done {
        let part = |claims: &[Claim]| pb::ReconcileRequest {
            term: term.0,
            begin_term,
            claims: claims.iter().map(Into::into).collect(),
            complete: false,
        };
        let mut parts: Vec<pb::ReconcileRequest> = claims.chunks(PART).map(part).collect();
        let mut last = parts.pop().unwrap_or_else(|| part(&[]));
        last.complete = true;
        parts.push(last);
        match self.leases.clone().reconcile(within(LONG_DEADLINE, tokio_stream::iter(parts))).await {
            Ok(response) => {
                let response = response.into_inner();
                Done::Led(Term(response.term), Revision(response.revision))
            }
            Err(status) => failed(&status),
        }
    }

    pub(crate) async fn replace_nodes(&self, term: Term, nodes: &[NodeSpec]) -> Done {
        let request = pb::ReplaceNodesRequest { term: term.0, nodes: nodes.iter().map(Into::into).collect() };
        let called = self.leases.clone().replace_nodes(within(LONG_DEADLINE, request)).await;
        called.map_or_else(|status| failed(&status), |_| Done::Ok)
    }

    pub(crate) async fn report_backends(&self, term: Term, backends: &[Backends]) -> Done {
        for part in backends.chunks(PART) {
            let request = pb::ReportBackendsRequest { term: term.0, backends: part.iter().map(Into::into).collect() };
            if let Err(status) = self.leases.clone().report_backends(within(LONG_DEADLINE, request)).await {
                return failed(&status);
            }
        }
        Done::Ok
    }

    pub(crate) async fn allocate(&self, term: Term, claim: &Claim) -> Done {
        let request = pb::AllocateRequest { term: term.0, claim: Some(claim.into()) };
        match self.leases.clone().allocate(within(DEADLINE, request)).await {
            Ok(response) => match response.into_inner().lease.map(Lease::try_from) {
                Some(Ok(lease)) => Done::Granted(Box::new(lease)),
                Some(Err(_)) | None => Done::Failed,
            },
            Err(status) => failed(&status),
        }
    }

    pub(crate) async fn release(&self, term: Term, service: &ServiceKey) -> Done {
        let request = pb::ReleaseRequest { term: term.0, service: Some(convert::service_ref(service)) };
        let called = self.leases.clone().release(within(DEADLINE, request)).await;
        called.map_or_else(|status| failed(&status), |_| Done::Ok)
    }

    /// All pools' counters.
    pub(crate) async fn pools(&self) -> Result<Vec<PoolCount>, Status> {
        let (mut pools, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListPoolsRequest { page_size: 1000, page_token };
            let page = self.inspect.clone().list_pools(within(DEADLINE, request)).await?.into_inner();
            pools.extend(page.pools.into_iter().map(|state| PoolCount {
                name: state.pool.map(|pool| pool.name).unwrap_or_default(),
                assigned: (state.assigned_ipv4, state.assigned_ipv6),
                available: (state.available_ipv4, state.available_ipv6),
                reserved: (state.reserved_ipv4, state.reserved_ipv6),
            }));
            if page.next_page_token.is_empty() {
                return Ok(pools);
            }
            page_token = page.next_page_token;
        }
    }

    /// The nodes with a live speaker.
    pub(crate) async fn live_nodes(&self) -> Result<BTreeSet<NodeName>, Status> {
        let (mut nodes, mut page_token) = (BTreeSet::new(), String::new());
        let is_live = |speaker: &pb::SpeakerState| match speaker.liveness() {
            pb::SpeakerLiveness::Live | pb::SpeakerLiveness::Grace | pb::SpeakerLiveness::Draining => true,
            pb::SpeakerLiveness::Unspecified | pb::SpeakerLiveness::Lost | pb::SpeakerLiveness::Awaited => false,
        };
        loop {
            let request = pb::ListNodesRequest { page_size: 1000, page_token };
            let page = self.inspect.clone().list_nodes(within(DEADLINE, request)).await?.into_inner();
            let live = page.nodes.iter().filter(|node| node.speakers.iter().any(is_live));
            nodes.extend(live.filter_map(|node| NodeName::new(&node.name)));
            if page.next_page_token.is_empty() {
                return Ok(nodes);
            }
            page_token = page.next_page_token;
        }
    }

    /// The feed from a revision; 0 = with a snapshot first.
    pub(crate) async fn watch(&self, from_revision: u64) -> Result<Streaming<pb::WatchLeasesResponse>, Status> {
        let request = Request::new(pb::WatchLeasesRequest { from_revision });
        let feed = self.inspect.clone().watch_leases(request).await?;
        // A session begins with this answer.
        self.engine.check(feed.metadata())?;
        Ok(feed.into_inner())
    }
}

/// A step of the feed.
#[derive(Debug)]
pub(crate) enum News {
    /// All states, once a snapshot is whole, and its revision.
    All(BTreeMap<ServiceKey, Fed>, Revision),
    /// The states of some, `None` for those that are known no more, and the revision that is reached with them.
    Some(Vec<(ServiceKey, Option<Fed>)>, Revision),
}

/// Puts the parts of a snapshot together.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    snapshot: BTreeMap<ServiceKey, Fed>,
}

impl Reader {
    /// Takes a message in; `None` until a snapshot is whole.
    pub(crate) fn take(&mut self, message: pb::WatchLeasesResponse) -> Option<News> {
        match message.message? {
            Message::Snapshot(part) => {
                self.snapshot.extend(part.services.into_iter().filter_map(fed));
                part.complete.then(|| News::All(std::mem::take(&mut self.snapshot), Revision(part.revision)))
            }
            Message::Delta(delta) => {
                let removals = delta.removals.into_iter().filter_map(|service| convert::service_key(Some(service)).ok());
                let upserts = delta.upserts.into_iter().filter_map(fed).map(|(service, fed)| (service, Some(fed)));
                let states = upserts.chain(removals.map(|service| (service, None))).collect();
                Some(News::Some(states, Revision(delta.revision)))
            }
        }
    }
}

/// A Service's state. What the allocator sends parses; a field that does not is left out rather than trusted.
fn fed(state: pb::ServiceState) -> Option<(ServiceKey, Fed)> {
    let service = convert::service_key(state.service).ok()?;
    let announcement = |announcement: pb::Announcement| {
        let announced = Announced {
            node: NodeName::new(&announcement.node),
            interfaces: announcement.interfaces.iter().filter_map(|name| InterfaceName::new(name)).collect(),
            reason: announcement.reason,
            no_eligible_node: announcement.no_eligible_node,
            last_resort: announcement.last_resort,
            lacks_interfaces: NodeName::new(&announcement.lacks_interfaces),
            conflict_mac: announcement.conflict_mac,
        };
        Some((announcement.vip.parse().ok()?, announced))
    };
    let refused = |refusal: pb::Refusal| Refused { reason: refusal.reason, message: refusal.message };
    let fed = Fed {
        lease: state.lease.and_then(|lease| Lease::try_from(lease).ok()),
        refusal: state.refusal.map(refused),
        untenable: state.untenable.map(refused),
        announcements: state.announcements.into_iter().filter_map(announcement).collect(),
    };
    Some((service, fed))
}

/// How many steps of the feed may wait; the allocator coalesces the rest.
const NEWS: usize = 64;

/// The pauses between attempts to follow the allocator.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Something that the feed's task says.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Leases changed, or all were told anew.
    News(News),
    /// The allocator is not there.
    Away,
}

/// A channel for the feed's task.
pub(crate) fn feed_channel() -> (mpsc::Sender<Feed>, mpsc::Receiver<Feed>) {
    mpsc::channel(NEWS)
}

/// Follows the allocator's feed until asked to stop: from where it was, or from a snapshot.
pub(crate) async fn follow(allocator: Allocator, engine: mpsc::Sender<Feed>, stop: Stop) -> anyhow::Result<()> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut away = false;
    loop {
        let read = async {
            // Each session begins with a snapshot: the allocator may be another one, and is told everything anew in any case.
            let mut messages = allocator.watch(0).await?;
            let mut reader = Reader::default();
            while let Some(message) = messages.message().await? {
                if let Some(news) = reader.take(message) {
                    if matches!(news, News::All(..)) {
                        backoff.reset();
                        away = false;
                    }
                    if engine.send(Feed::News(news)).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Ok::<_, Status>(())
        };
        let ended = tokio::select! {
            ended = read => ended,
            () = stop.cancelled() => return Ok(()),
        };
        if !away {
            away = true;
            let error = ended.err().map_or_else(|| "it ended the feed".to_owned(), |status| chain(&status));
            tracing::warn!(event = logs::ALLOCATOR_AWAY, error, "the allocator is away; addresses go on answering, nothing new is decided");
        }
        if engine.send(Feed::Away).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = backoff.pause() => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadows_calls_are_marked_and_an_answer_without_the_mark_is_not_believed() {
        let mark = |engine: Engine| Interceptor::call(&mut { engine }, Request::new(())).unwrap().metadata().clone();
        assert_eq!(mark(Engine::Shadow).get(shadow::KEY).map(|value| value.to_str().unwrap().to_owned()), Some("true".to_owned()));
        assert!(mark(Engine::Serving).is_empty());
        let of = |value: Option<&'static str>| {
            let mut answer = MetadataMap::new();
            value.map(|value| answer.insert(shadow::KEY, MetadataValue::from_static(value)));
            answer
        };
        for (answer, believed) in [(of(Some("true")), true), (of(Some("false")), false), (of(None), false)] {
            assert_eq!((Engine::Shadow.check(&answer).is_ok(), Engine::Serving.check(&answer).is_ok()), (believed, true), "{answer:?}");
        }
    }
}
