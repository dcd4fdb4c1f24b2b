//! How fast what is due for thousands of VIPs goes out, so that neither the LAN nor ARP answering suffers.
//!
//! Batches have their places in time, one each [`PACE`]. One that is late keeps its place, as timers are late by a millisecond or two and a
//! busy process by more: so the pace is the same whoever keeps it, and nobody ever sees more than two batches together. What is later than
//! that is not made up for.

use std::time::Duration;

use mooring_proto::types::time::Mono;

/// How often a batch of rounds may go out.
///
/// Short enough that a single VIP behind a burst loses no time worth measuring.
pub const PACE: Duration = Duration::from_millis(5);

/// Rounds on an interface in a batch: 8,000 a second, so a takeover of 10,000 VIPs has sent each first round after 1.25 s, while its 16,000 frames
/// a second are 11 Mbit/s with preamble and gap, about 1 % of a gigabit link, and below what a switch's broadcast storm control lets by.
pub const BATCH: usize = 40;

/// The batch that is going out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Batch {
    /// Its place in time.
    place: Mono,
    used: usize,
}

impl Batch {
    /// How many more may go out now.
    pub(super) fn room(self, now: Mono) -> usize {
        if now >= self.next_place() { BATCH } else { BATCH.saturating_sub(self.used) }
    }

    /// One has gone out.
    pub(super) fn note(&mut self, now: Mono) {
        let next = self.next_place();
        *self = if now < next {
            Self { used: self.used.saturating_add(1), ..*self }
        } else {
            Self { place: if now < next + PACE { next } else { now }, used: 1 }
        };
    }

    /// When what is due then may go out.
    pub(super) fn opens(self, due: Mono) -> Mono {
        if self.used < BATCH { due } else { due.max(self.next_place()) }
    }

    fn next_place(self) -> Mono {
        self.place + PACE
    }
}

#[cfg(test)]
mod tests;
