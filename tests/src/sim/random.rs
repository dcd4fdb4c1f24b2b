//! The one source of chance: the same seed gives the same run.

use std::time::Duration;

/// splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins at a seed; seeds that follow each other have nothing in common.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        let mixed = random.draw();
        Self(mixed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
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
