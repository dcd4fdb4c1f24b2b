//! The only wait of the tests.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// Looks until what is wanted is there, and returns it.
///
/// # Errors
/// It is not there in time: the error says what was waited for and what was last seen.
#[expect(clippy::disallowed_methods, reason = "the only wait of the tests")]
pub fn until<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(last) if began.elapsed() >= limit => return Err(last).with_context(|| format!("not within {limit:?}: {what}")),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// So many seconds.
#[must_use]
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many milliseconds.
#[must_use]
pub const fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
