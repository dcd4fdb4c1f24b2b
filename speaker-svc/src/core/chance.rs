//! Chance, so that what came together drifts apart. The same seed gives the same run.

use std::time::Duration;

/// splitmix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Between nothing and this.
    pub fn within(&mut self, longest: Duration) -> Duration {
        longest / 1024 * u32::try_from(self.draw() % 1024).unwrap_or_default()
    }

    /// Between 3/4 and 5/4 of this.
    pub fn around(&mut self, mean: Duration) -> Duration {
        (mean - mean / 4) + self.within(mean / 2)
    }
}
