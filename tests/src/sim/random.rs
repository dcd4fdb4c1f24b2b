//! The one source of chance: the same seed gives the same run.

use std::time::Duration;

use mooring_speaker::core::chance::Chance;

/// The speaker's own source, with more ways to draw.
#[derive(Clone, Debug)]
pub struct Random(Chance);

impl Random {
    /// Begins at a seed; seeds that follow each other have nothing in common.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Chance::new(Chance::new(seed).draw()))
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below another one; 0 below 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw().checked_rem(end).unwrap_or_default()
    }

    /// A small number from `from` up to and with `to`.
    pub fn within(&mut self, from: u8, to: u8) -> u8 {
        let more = self.below(u64::from(to.saturating_sub(from)).saturating_add(1));
        from.saturating_add(u8::try_from(more).unwrap_or_default())
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.below(100) < percent
    }

    /// A time from `least` up to `most`.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_nanos()).unwrap_or(u64::MAX);
        least + Duration::from_nanos(self.below(span.saturating_add(1)))
    }

    /// One of a list; `None` of an empty one.
    pub fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        let index = self.below(u64::try_from(list.len()).ok()?);
        list.get(usize::try_from(index).ok()?).cloned()
    }
}
