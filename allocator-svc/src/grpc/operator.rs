//! OperatorService: what people change.

use std::time::Duration;

use mooring_proto::convert::{self, Violations};
use mooring_proto::pb;
use mooring_proto::pb::operator_service_server::OperatorService;
use tonic::{Request, Response, Status};

use super::{ending, refused};
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
