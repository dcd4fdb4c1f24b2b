//! What is counted for each VIP.

use std::sync::atomic::{AtomicU64, Ordering};

use mooring_proto::types::time::UnixMillis;

/// What was counted for a VIP; responder threads and the engine write, anybody reads.
#[derive(Debug, Default)]
pub struct Counters {
    answered: AtomicU64,
    last_answered: AtomicU64,
    gratuitous: AtomicU64,
}

impl Counters {
    /// Counts an answered request.
    pub fn note_answer(&self, at: UnixMillis) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.last_answered.store(at.0, Ordering::Relaxed);
    }

    /// Counts a gratuitous frame.
    pub fn note_gratuitous(&self) {
        self.gratuitous.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// When the last one was; zero = never.
    #[must_use]
    pub fn last_answered(&self) -> UnixMillis {
        UnixMillis(self.last_answered.load(Ordering::Relaxed))
    }

    /// Gratuitous frames sent.
    #[must_use]
    pub fn gratuitous(&self) -> u64 {
        self.gratuitous.load(Ordering::Relaxed)
    }
}
