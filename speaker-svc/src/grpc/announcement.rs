//! `AnnouncementService`: what the speaker announces, for people.
//!
//! The engine makes a page from its state, so a page is consistent in itself; the token of the next page is the last address of this
//! one, so pages stay right when VIPs come and go between them.

use std::net::IpAddr;
use std::sync::Arc;

use mooring_kit::mailbox::Address;
use mooring_proto::convert::{Violations, page_size, role_to_pb};
use mooring_proto::pb;
use mooring_proto::pb::announcement_service_server::AnnouncementService;
use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::Role;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::core::state::{Assigned, Held, Standing, State, Strife};
use crate::engine::Input;

/// Which page.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The last address of the page before.
    pub after: Option<Vip>,
    /// How many VIPs at most.
    pub limit: usize,
}

/// A VIP as it stood.
#[derive(Debug)]
struct Row {
    assigned: Arc<Assigned>,
    role: Role,
    interfaces: Vec<pb::AnnouncedInterface>,
    strife: Option<Strife>,
}

/// A page.
#[derive(Debug)]
pub struct Page {
    answer: pb::ListAnnouncementsResponse,
    rows: Vec<Row>,
}

impl Page {
    /// Reads a page from the state.
    #[must_use]
    pub fn of(state: &State, query: Query) -> Self {
        let vips = state.vips();
        let after = query.after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let mut rest = vips.range((after, std::ops::Bound::Unbounded));
        let rows: Vec<Row> = rest.by_ref().take(query.limit).map(|(_, held)| row(state, held)).collect();
        let last = rows.last().filter(|_| rest.next().is_some());
        let speaker = &state.settings().speaker;
        let answer = pb::ListAnnouncementsResponse {
            node: speaker.node.to_string(),
            instance: speaker.instance.to_string(),
            session_live: state.session().is_live(),
            epoch: state.epoch().0,
            revision: state.revision().0,
            vips: Vec::new(),
            next_page_token: last.map(|row| row.assigned.vip.to_string()).unwrap_or_default(),
        };
        Self { answer, rows }
    }

    /// For the wire; not done by the engine, as text takes its time.
    fn into_pb(self) -> pb::ListAnnouncementsResponse {
        pb::ListAnnouncementsResponse { vips: self.rows.into_iter().map(to_pb).collect(), ..self.answer }
    }
}

fn row(state: &State, held: &Held) -> Row {
    let interfaces = state.ports_of(held).map(|port| pb::AnnouncedInterface { name: port.name.to_string(), mac: port.mac.to_string() });
    let role = if held.standing == Standing::Announced { Role::Active } else { Role::Standby };
    Row { assigned: Arc::clone(&held.assigned), role, interfaces: interfaces.collect(), strife: held.strife.as_deref().copied() }
}

fn to_pb(row: Row) -> pb::AnnouncedVip {
    let counters = &row.assigned.counters;
    pb::AnnouncedVip {
        vip: row.assigned.vip.to_string(),
        role: role_to_pb(row.role),
        services: row.assigned.services.iter().map(|(service, _)| service.to_string()).collect(),
        interfaces: row.interfaces,
        requests_answered: counters.answered(),
        gratuitous_sent: counters.gratuitous(),
        last_answered_unix_ms: counters.last_answered().0,
        conflicts: row.strife.map_or(0, |strife| strife.claims),
        conflict_mac: row.strife.map(|strife| strife.mac.to_string()).unwrap_or_default(),
    }
}

/// Asks the engine.
#[derive(Clone, Debug)]
pub struct Announcements {
    engine: Address<Input>,
}

impl Announcements {
    /// Of that engine.
    #[must_use]
    pub fn new(engine: Address<Input>) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl AnnouncementService for Announcements {
    async fn list_announcements(
        &self,
        request: Request<pb::ListAnnouncementsRequest>,
    ) -> Result<Response<pb::ListAnnouncementsResponse>, Status> {
        let pb::ListAnnouncementsRequest { page_size: size, page_token } = request.into_inner();
        let query = Query { after: token(&page_token)?, limit: page_size(size) };
        let ending = || Status::from(WireRefusal::new(Reason::Busy, "the speaker is about to end"));
        let (reply, page) = oneshot::channel();
        self.engine.send(Input::Listed(query, reply)).await.map_err(|_gone| ending())?;
        let page = page.await.map_err(|_gone| ending())?;
        Ok(Response::new(page.into_pb()))
    }
}

fn token(text: &str) -> Result<Option<Vip>, Violations> {
    if text.is_empty() {
        return Ok(None);
    }
    let vip = text.parse::<IpAddr>().map(Vip::from);
    vip.map(Some).map_err(|_invalid| Violations::one("page_token", format!("{text:?} is not a token of this service")))
}

#[cfg(test)]
mod tests;
