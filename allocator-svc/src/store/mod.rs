//! The allocator's records on disk: what is written before anything is answered.
//!
//! [`sled_tree`] keeps the bytes, [`codec`] says what they mean. The engine appends the facts of a batch once; only with the [`Durable`]
//! that it gets for them are answers sent and feeds moved on.

mod codec;
pub(crate) mod sled_tree;

pub use codec::{Record, RecordError};
pub use sled_tree::{LeaseStore, StoreError};

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
    /// Keeps what of these facts must outlive the process, and returns once it is kept.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn append(&self, events: &[Event]) -> Result<Durable, StoreError> {
        match self {
            Self::Disk(store) => store.append(events),
            Self::Nowhere => Ok(Durable(())),
        }
    }
}
