//! OperatorService: what people change.

use std::time::Duration;

use mooring_proto::convert::{self, Violations};
use mooring_proto::pb;
use mooring_proto::pb::operator_service_server::OperatorService;
use mooring_proto::types::node::NodeName;
use tonic::{Request, Response, Status};

use super::{ending, refused};
use crate::core::placement::{Outlook, outlook, uneven};
use crate::core::{Command, State};
use crate::engine::Engine;

/// The longest note, in bytes: it stands in every refusal that the reservation causes.
const LONGEST_NOTE: usize = 256;

/// The service.
pub(crate) struct Operator {
    engine: Engine,
}

impl Operator {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl OperatorService for Operator {
    async fn reserve_address(&self, request: Request<pb::ReserveAddressRequest>) -> Result<Response<pb::ReserveAddressResponse>, Status> {
        let pb::ReserveAddressRequest { address, service, duration_ms, note } = request.into_inner();
        let key = convert::reservation_key(&address, service)?;
        if note.len() > LONGEST_NOTE {
            return Err(Violations::one("note", format!("has {} bytes, more than {LONGEST_NOTE}", note.len())).into());
        }
        let duration = (duration_ms != 0).then(|| Duration::from_millis(duration_ms));
        let command = Command::ReserveAddress { key: key.clone(), duration, note };
        let outcome = self.engine.command(command, move |outcome| match outcome {
            Ok(state) => Ok(state.book().reservations().all().get(&key).map(Into::into)),
            Err(refusal) => Err(refused(&refusal)),
        });
        let reservation = outcome.await.map_err(ending)??;
        Ok(Response::new(pb::ReserveAddressResponse { reservation }))
    }

    async fn drain_node(&self, request: Request<pb::DrainNodeRequest>) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let pb::DrainNodeRequest { node, cancel } = request.into_inner();
        let node = node.parse::<NodeName>().map_err(|error| Violations::one("node", error.to_string()))?;
        let command = if cancel { Command::RestoreNode(node.clone()) } else { Command::DrainNode(node.clone()) };
        let outcome = self.engine.command(command, move |outcome| match outcome {
            Ok(state) => Ok(drain_response(state, &node)),
            Err(refusal) => Err(refused(&refusal)),
        });
        outcome.await.map_err(ending)?.map(Response::new)
    }

    async fn rebalance(&self, request: Request<pb::RebalanceRequest>) -> Result<Response<pb::RebalanceResponse>, Status> {
        let most = usize::try_from(request.into_inner().max_moves).ok().filter(|most| *most != 0);
        let outcome = self.engine.command(Command::Rebalance(most), |outcome| match outcome {
            Ok(state) => {
                let placements = state.network().placements().values().flatten();
                let moving = placements.filter(|placement| placement.outgoing.is_some()).count();
                Ok(pb::RebalanceResponse { moving: count(moving), remaining: count(uneven(state)) })
            }
            Err(refusal) => Err(refused(&refusal)),
        });
        outcome.await.map_err(ending)?.map(Response::new)
    }

    async fn release_reservation(
        &self,
        request: Request<pb::ReleaseReservationRequest>,
    ) -> Result<Response<pb::ReleaseReservationResponse>, Status> {
        let vip = convert::reservation_key(&request.into_inner().address, None)?.address;
        let look = move |state: &State| state.book().reservations().of(vip).map(Into::into).collect::<Vec<pb::Reservation>>();
        let ended = self.engine.ask(look).await.map_err(ending)?;
        let outcome =
            self.engine.command(Command::ReleaseReservation(vip), |outcome| outcome.map(|_| ()).map_err(|refusal| refused(&refusal)));
        outcome.await.map_err(ending)??;
        Ok(Response::new(pb::ReleaseReservationResponse { ended }))
    }
}

fn drain_response(state: &State, node: &NodeName) -> pb::DrainNodeResponse {
    let drains = state.network().drains();
    let outlook = if drains.has(node) { outlook(state, node) } else { Outlook::default() };
    pb::DrainNodeResponse {
        moving: count(outlook.moving),
        staying: count(outlook.staying),
        drained_unix_ms: drains.by_hand().get(node).map(|since| since.0).unwrap_or_default(),
        cordoned: drains.cordoned().contains(node),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
