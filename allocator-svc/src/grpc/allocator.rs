//! AllocatorService: what the watcher calls.

use std::collections::BTreeSet;

use mooring_proto::convert::{self, Violations};
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_server::AllocatorService;
use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::node::NodeSpec;
use mooring_proto::types::service::ServiceKey;
use tonic::{Request, Response, Status, Streaming};

use super::{configuration, ending, refused};
use crate::core::{Command, Leadership, State};
use crate::engine::Engine;

/// How many Services a full view may name: a guard against a caller gone wild, far beyond any cluster.
const MOST_CLAIMS: usize = 2_000_000;

/// The service.
pub(crate) struct Allocator {
    engine: Engine,
}

impl Allocator {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Carries out a wish and answers from the state that is then durable.
    async fn carry_out<T: Send + 'static>(
        &self,
        command: Command,
        answer: impl FnOnce(&State) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let outcome = self.engine.command(command, |outcome| match outcome {
            Ok(state) => answer(state),
            Err(refusal) => Err(refused(&refusal)),
        });
        outcome.await.map_err(ending)?.map(Response::new)
    }
}

fn leadership(term: u64, begin: bool) -> Leadership {
    match convert::term(term) {
        _ if begin => Leadership::Next,
        Some(term) => Leadership::Term(term),
        None => Leadership::Present,
    }
}

/// The lease that meets a Service's claim, or why it is not met.
fn lease_of(state: &State, service: &ServiceKey) -> Result<pb::AllocateResponse, Status> {
    if let Some(refusal) = state.book().refusal(service) {
        return Err(refused(refusal));
    }
    let lease = state.book().lease(service).ok_or_else(|| {
        Status::from(WireRefusal::new(Reason::UnknownService, format!("{service} was released meanwhile")).with("service", service))
    })?;
    Ok(pb::AllocateResponse { lease: Some(lease.into()) })
}

#[tonic::async_trait]
impl AllocatorService for Allocator {
    async fn allocate(&self, request: Request<pb::AllocateRequest>) -> Result<Response<pb::AllocateResponse>, Status> {
        let request = request.into_inner();
        let claim = request.claim.ok_or_else(|| Violations::one("claim", "is missing"))?;
        let claim = Box::new(Claim::try_from(claim).map_err(|bad| bad.within("claim"))?);
        let service = claim.service.clone();
        let command = Command::Allocate { leadership: leadership(request.term, false), claim };
        self.carry_out(command, move |state| lease_of(state, &service)).await
    }

    async fn release(&self, request: Request<pb::ReleaseRequest>) -> Result<Response<pb::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let service = convert::service_key(request.service)?;
        let key = service.clone();
        let held = move |state: &State| state.book().lease(&key).map(|lease| lease.addresses.clone()).unwrap_or_default();
        let released = self.engine.ask(held).await.map_err(ending)?.iter().map(ToString::to_string).collect();
        let command = Command::Release { leadership: leadership(request.term, false), service };
        self.carry_out(command, |_| Ok(pb::ReleaseResponse { released })).await
    }

    async fn reconcile(&self, request: Request<Streaming<pb::ReconcileRequest>>) -> Result<Response<pb::ReconcileResponse>, Status> {
        let mut parts = request.into_inner();
        let mut view = View::default();
        while !view.complete {
            let Some(part) = parts.message().await? else {
                let text = "complete: the stream ended before a message with complete = true; nothing was changed";
                return Err(WireRefusal::new(Reason::IncompleteView, text).into());
            };
            view.take(part)?;
        }
        let claims = view.claims;
        let named = claims.iter().map(|claim| claim.service.clone()).collect::<BTreeSet<_>>();
        let unnamed =
            move |state: &State| state.book().leases().keys().filter(|service| !named.contains(*service)).cloned().collect::<Vec<_>>();
        let released = self.engine.ask(unnamed).await.map_err(ending)?.iter().map(convert::service_ref).collect();
        let command = Command::Reconcile { leadership: leadership(view.term, view.begin_term), claims };
        let answer = |state: &State| {
            Ok(pb::ReconcileResponse {
                term: state.term().0,
                revision: state.feed().revision().0,
                leased: u64::try_from(state.book().leases().len()).unwrap_or(u64::MAX),
                waiting: u64::try_from(state.book().waiting().len()).unwrap_or(u64::MAX),
                released,
            })
        };
        self.carry_out(command, answer).await
    }

    async fn replace_pools(&self, request: Request<pb::ReplacePoolsRequest>) -> Result<Response<pb::ReplacePoolsResponse>, Status> {
        let request = request.into_inner();
        let configuration = configuration(request.pools, request.advertisements)?;
        let command = Command::ReplacePools { leadership: leadership(request.term, request.begin_term), configuration };
        let answer = |state: &State| Ok(pb::ReplacePoolsResponse { term: state.term().0, revision: state.feed().revision().0 });
        self.carry_out(command, answer).await
    }

    async fn replace_nodes(&self, request: Request<pb::ReplaceNodesRequest>) -> Result<Response<pb::ReplaceNodesResponse>, Status> {
        let request = request.into_inner();
        let nodes = list(request.nodes, "nodes", NodeSpec::try_from)?;
        let command = Command::ReplaceNodes { leadership: leadership(request.term, false), nodes };
        self.carry_out(command, |_| Ok(pb::ReplaceNodesResponse {})).await
    }

    async fn report_backends(&self, request: Request<pb::ReportBackendsRequest>) -> Result<Response<pb::ReportBackendsResponse>, Status> {
        let request = request.into_inner();
        let backends = list(request.backends, "backends", Backends::try_from)?;
        let command = Command::ReportBackends { leadership: leadership(request.term, false), backends };
        self.carry_out(command, |_| Ok(pb::ReportBackendsResponse {})).await
    }
}

fn list<In, Out>(items: Vec<In>, field: &str, parse: impl Fn(In) -> Result<Out, Violations>) -> Result<Vec<Out>, Violations> {
    items.into_iter().enumerate().map(|(index, item)| parse(item).map_err(|bad| bad.within(&format!("{field}[{index}]")))).collect()
}

/// A full view as it comes in.
#[derive(Default)]
struct View {
    term: u64,
    begin_term: bool,
    begun: bool,
    claims: Vec<Claim>,
    seen: BTreeSet<ServiceKey>,
    complete: bool,
}

impl View {
    fn take(&mut self, part: pb::ReconcileRequest) -> Result<(), Violations> {
        if !self.begun {
            (self.term, self.begin_term, self.begun) = (part.term, part.begin_term, true);
        }
        for claim in part.claims {
            let path = format!("claims[{}]", self.claims.len());
            let claim = Claim::try_from(claim).map_err(|bad| bad.within(&path))?;
            if !self.seen.insert(claim.service.clone()) {
                return Err(Violations::one(path, format!("{} is named twice", claim.service)));
            }
            if self.claims.len() >= MOST_CLAIMS {
                return Err(Violations::one(path, format!("more than {MOST_CLAIMS} Services")));
            }
            self.claims.push(claim);
        }
        self.complete = part.complete;
        Ok(())
    }
}
