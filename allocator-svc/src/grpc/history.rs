//! The history's answers: read from disk, beside the engine.

use std::sync::Arc;

use mooring_kit::telemetry::chain;
use mooring_proto::convert::{self, Violations};
use mooring_proto::pb;
use mooring_proto::types::address::Vip;
use mooring_proto::types::time::UnixMillis;
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::error;

use super::ending;
use crate::core::State;
use crate::core::history::Holders;
use crate::engine::Engine;
use crate::logs;
use crate::store::{HistoryQuery, HistoryReader, StoreError};

/// How many questions are answered at once: each may keep a processor busy for a moment, and the engine needs one too.
const AT_ONCE: usize = 2;

/// Who answers.
pub(super) struct History {
    engine: Engine,
    /// A shadow has none.
    reader: Option<HistoryReader>,
    turns: Arc<Semaphore>,
}

impl History {
    pub(super) fn new(engine: Engine, reader: Option<HistoryReader>) -> Self {
        Self { engine, reader, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Answers a question.
    pub(super) async fn list(&self, request: pb::ListHistoryRequest) -> Result<pb::ListHistoryResponse, Status> {
        let at = convert::time(request.at_unix_ms);
        let query = query(request)?;
        let of = match (at, query.address) {
            (None, _) => None,
            (Some(at), Some(vip)) => Some((at, vip)),
            (Some(_), None) => return Err(Violations::one("at_unix_ms", "needs an address: who held what at that time").into()),
        };
        let Some(reader) = self.reader.clone() else { return Ok(pb::ListHistoryResponse::default()) };
        // The engine looks and publishes in one task, so these holders and this end belong together.
        let end = reader.clone();
        let look = move |state: &State| (end.end(), of.map(|(at, vip)| (at, Holders::now(state, vip))));
        let (end, held) = self.engine.ask(look).await.map_err(ending)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let read = move || {
            let answer = answer(&reader, &query, end, held);
            drop(turn);
            answer
        };
        #[expect(clippy::disallowed_methods, reason = "it reads a bounded history and ends by itself")]
        let read = tokio::task::spawn_blocking(read).await;
        match read {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(fault)) => {
                error!(event = logs::HISTORY_UNREADABLE, error = %chain(&fault), "the history could not be read");
                Err(Status::internal("the history could not be read"))
            }
            Err(_ended) => Err(Status::internal("the history could not be read")),
        }
    }
}

/// What is asked.
fn query(request: pb::ListHistoryRequest) -> Result<HistoryQuery, Violations> {
    let text = |text: String| (!text.is_empty()).then_some(text);
    let address = text(request.address).map(|text| text.parse::<Vip>().map_err(|error| Violations::one("address", error.to_string())));
    let unknown = |token: &str| Violations::one("page_token", format!("{token:?} is no token of this list"));
    let after = text(request.page_token).map(|token| token.parse().map_err(|_invalid| unknown(&token)));
    Ok(HistoryQuery {
        address: address.transpose()?,
        namespace: text(request.namespace),
        name: text(request.name),
        from: convert::time(request.from_unix_ms),
        to: convert::time(request.to_unix_ms),
        after: after.transpose()?,
        size: convert::page_size(request.page_size),
    })
}

/// Reads the answer. `held` is who holds the address asked about now, and the time for which that is asked.
fn answer(
    reader: &HistoryReader,
    query: &HistoryQuery,
    end: u64,
    held: Option<(UnixMillis, Holders)>,
) -> Result<pb::ListHistoryResponse, StoreError> {
    let (entries, more) = reader.page(query, end)?;
    let holders = match held {
        None => Vec::new(),
        Some((at, mut holders)) => {
            reader.back_to(at, end, |fact| holders.undo(fact))?;
            // Asked for after the facts were read: if some were pruned meanwhile, it says so.
            holders.at(at, reader.since()?)
        }
    };
    let known = reader.since()?;
    let next = entries.last().filter(|_| more).map(|entry| entry.sequence.to_string());
    Ok(pb::ListHistoryResponse {
        entries: entries.iter().map(Into::into).collect(),
        next_page_token: next.unwrap_or_default(),
        holders: holders.iter().map(Into::into).collect(),
        known_since_unix_ms: known.0,
    })
}
