//! The allocator's records on disk: what is written before anything is answered.
//!
//! [`sled_tree`] keeps the bytes, [`codec`] says what they mean, [`history`] appends the facts of the past and reads them. The engine appends the facts of a batch once; only with the [`Durable`]
//! that it gets for them are answers sent and feeds moved on.

mod codec;
mod history;
pub(crate) mod sled_tree;

pub(crate) use codec::SCHEMA;
pub use codec::{Record, RecordError};
pub use history::{HistoryLimits, HistoryQuery, HistoryReader};
pub use sled_tree::{Found, LeaseStore, StoreError, changes, fact};

use mooring_proto::types::history::PastFact;
use mooring_proto::types::time::UnixMillis;

use crate::core::Event;

/// Says that everything decided so far is on disk, if it belongs there. Only the store makes one.
#[derive(Debug)]
pub struct Durable(());

/// Where an engine's facts go.
#[derive(Debug)]
pub(crate) enum Store {
    /// To the disk, before anybody hears of them.
    Disk(LeaseStore),
    /// Nowhere: a shadow's facts are gone with the process.
    Nowhere,
}

impl Store {
    /// Takes in facts of the past, to be kept with the next ones appended.
    pub(crate) fn note(&mut self, past: Vec<PastFact>, at: UnixMillis) {
        match self {
            Self::Disk(store) => store.note(past, at),
            Self::Nowhere => {}
        }
    }

    /// Keeps what of these facts must outlive the process, and returns once it is kept.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn append(&mut self, events: &[Event]) -> Result<Durable, StoreError> {
        match self {
            Self::Disk(store) => store.append(events),
            Self::Nowhere => Ok(Durable(())),
        }
    }
}
