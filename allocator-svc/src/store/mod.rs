//! The allocator's records on disk: what is written before anything is answered.
//!
//! [`sled_tree`] keeps the bytes, [`codec`] says what they mean. The engine appends the facts of a batch once; only with the [`Durable`]
//! that it gets for them are answers sent and feeds moved on.

mod codec;
pub(crate) mod sled_tree;

pub use codec::{Record, RecordError};
pub use sled_tree::{LeaseStore, StoreError, replay};

/// Says that everything decided so far is on disk. Only the store makes one.
#[derive(Debug)]
pub struct Durable(());
