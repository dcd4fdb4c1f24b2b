//! The one clock reader. Cores never look at a clock; engines hand them what this says.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mooring_proto::types::time::{Mono, UnixMillis};

/// The clocks of this machine. Cheap to copy; all copies count from the same start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Counts from now on.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one clock reader")]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start, by a clock that never goes back.
    #[must_use]
    pub fn now(&self) -> Mono {
        Mono::ZERO + self.start.elapsed()
    }

    /// Waits until a moment, forever if there is none; returns at once if it is past.
    pub async fn wait_until(&self, deadline: impl Into<Option<Mono>>) {
        match deadline.into() {
            Some(deadline) => tokio::time::sleep_until((self.start + deadline.saturating_since(Mono::ZERO)).into()).await,
            None => std::future::pending().await,
        }
    }
}

/// The wall clock, for people and records.
#[must_use]
pub fn wall() -> UnixMillis {
    UnixMillis(u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX))
}

/// Time since the Unix epoch; zero before it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one clock reader")]
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
