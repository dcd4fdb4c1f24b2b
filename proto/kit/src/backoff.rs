//! The pause of a loop that fails; the one place that sleeps.

use std::time::Duration;

use rand::Rng as _;

/// A pause that doubles with each failure up to a limit, with jitter so that many who failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    /// A pause that begins at `first` and ends at `limit`.
    #[must_use]
    pub fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// The next pause: between half of the doubled time and all of it.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.next.min(self.limit);
        self.next = whole.saturating_mul(2).min(self.limit);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It worked: the next failure begins anew.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits for the next pause.
    pub async fn pause(&mut self) {
        pause(self.next_pause()).await;
    }
}

/// Waits for a time.
#[expect(clippy::disallowed_methods, reason = "the one sleeper")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        for whole in [100u64, 200, 350, 350] {
            let pause = backoff.next_pause();
            assert!(pause >= Duration::from_millis(whole) / 2 && pause <= Duration::from_millis(whole), "{whole}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }
}
