//! A plan: the book copied in parts, a configuration tried over the copy on a thread of its own, and the changes told in parts.

use mooring_kit::Stop;
use mooring_kit::mailbox::Closed;
use mooring_kit::supervise::Spawner;
use mooring_proto::convert;
use mooring_proto::pb;
use mooring_proto::types::address::Vip;
use mooring_proto::types::pool::{Configuration, PoolName};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::debug;

use super::refusal_to_pb;
use crate::core::plan::{Change, Fate, Held, Plan, Rehearsal};
use crate::core::state::{Book, Part, Place};
use crate::core::{Now, Settings, State};
use crate::engine::Engine;

/// How many Services and reservations are copied at a time: a few milliseconds, between which the engine hears its speakers.
const PART: usize = 2_000;

/// By how much more are copied at a time when the book was changed meanwhile; in the end it is copied at once.
const MORE: usize = 8;

/// How large a message of the answer is about, of the 4 MiB that clients take.
const MESSAGE_BYTES: usize = 1 << 20;

/// What a configuration would do, as messages of which the last one is complete. Whoever waits no longer ends the work, and the permit
/// is held until it ends.
///
/// # Errors
/// The engine or the process is about to end.
pub(super) async fn plan(
    engine: &Engine,
    spawner: &Spawner,
    configuration: Configuration,
    now: Now,
    permit: OwnedSemaphorePermit,
) -> Result<Vec<pb::PlanPoolsResponse>, Closed> {
    let copy = copy(engine).await?;
    let (sender, receiver) = oneshot::channel();
    let rehearse = move |stop: &Stop| {
        let book = Book::copied(&copy.configuration, copy.parts);
        let mut rehearsal = Rehearsal::new(book, copy.settings, configuration, now);
        while rehearsal.step() {
            if stop.is_cancelled() || sender.is_closed() {
                return Ok(());
            }
        }
        if sender.send(messages(&rehearsal.plan())).is_err() {
            debug!("nobody waits for the plan any more");
        }
        drop(permit);
        Ok(())
    };
    spawner.thread("plan", rehearse).await;
    receiver.await.map_err(|_ended| Closed)
}

/// What a book is made of, as it was at one moment.
struct Copy {
    parts: Vec<Part>,
    configuration: Configuration,
    settings: Settings,
}

/// Takes a copy in parts that belong together.
async fn copy(engine: &Engine) -> Result<Copy, Closed> {
    let mut most = PART;
    loop {
        let (mut parts, mut place) = (Vec::<Part>::new(), Place::Services(None));
        let (configuration, settings) = loop {
            let look = move |state: &State| {
                let part = state.book().part(&place, most);
                let next = part.next().cloned().ok_or_else(|| (state.book().configuration().clone(), state.settings));
                (part, next)
            };
            let (part, next) = engine.ask(look).await?;
            parts.push(part);
            match next {
                Ok(next) => place = next,
                Err(rest) => break rest,
            }
        };
        let edition = parts.first().map(Part::edition);
        if parts.iter().all(|part| Some(part.edition()) == edition) {
            return Ok(Copy { parts, configuration, settings });
        }
        most = most.saturating_mul(MORE);
    }
}

/// The messages of an answer; the last one is complete.
fn messages(plan: &Plan) -> Vec<pb::PlanPoolsResponse> {
    let mut messages = vec![pb::PlanPoolsResponse::default()];
    let mut bytes = 0usize;
    for change in plan.changes.iter().map(change) {
        bytes = bytes.saturating_add(change.encoded_len());
        if bytes > MESSAGE_BYTES {
            bytes = change.encoded_len();
            messages.push(pb::PlanPoolsResponse::default());
        }
        if let Some(message) = messages.last_mut() {
            message.changes.push(change);
        }
    }
    if let Some(last) = messages.last_mut() {
        last.complete = true;
        last.summary = Some(summary(plan));
    }
    messages
}

fn summary(plan: &Plan) -> pb::PlanSummary {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let of = |fate| count(plan.count(fate));
    pb::PlanSummary {
        unchanged: count(plan.unchanged),
        renamed: of(Fate::Renamed),
        gained: of(Fate::Gained),
        moved: of(Fate::Moved),
        lost: of(Fate::Lost),
        served: of(Fate::Served),
        refused: of(Fate::Refused),
        unadvertised: count(plan.changes.iter().filter(|change| change.unadvertised).count()),
        waiting: count(plan.waiting),
    }
}

fn change(change: &Change) -> pb::PlannedChange {
    let kind = match change.fate {
        Fate::Renamed => pb::PlannedChangeKind::Renamed,
        Fate::Gained => pb::PlannedChangeKind::Gained,
        Fate::Moved => pb::PlannedChangeKind::Moved,
        Fate::Lost => pb::PlannedChangeKind::Lost,
        Fate::Served => pb::PlannedChangeKind::Served,
        Fate::Refused => pb::PlannedChangeKind::Refused,
        Fate::Unadvertised => pb::PlannedChangeKind::Unadvertised,
    };
    let addresses = |held: Option<&Held>| held.iter().flat_map(|held| &held.addresses).map(Vip::to_string).collect();
    let pool = |held: Option<&Held>| held.map(|held| &held.pool).map(PoolName::to_string).unwrap_or_default();
    pb::PlannedChange {
        service: Some(convert::service_ref(&change.service)),
        kind: kind.into(),
        addresses: addresses(change.before.as_ref()),
        pool: pool(change.before.as_ref()),
        new_addresses: addresses(change.after.as_ref()),
        new_pool: pool(change.after.as_ref()),
        untenable: change.untenable.as_ref().map(refusal_to_pb),
        refusal: change.refusal.as_ref().map(refusal_to_pb),
        unadvertised: change.unadvertised,
    }
}
