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
pub use sled_tree::{LeaseStore, StoreError, replay};

/// Says that everything decided so far is on disk. Only the store makes one.
#[derive(Debug)]
pub struct Durable(());
