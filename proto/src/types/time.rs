//! Time as the cores see it: they are told, they never look.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since the process started, by a clock that never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(u64);

impl Mono {
    /// The start of the process.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    /// Saturates: the end of time is 584 years after the start.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Milliseconds since the Unix epoch, for people and records; never compared to decide anything but age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// How long after `earlier` it is; zero if it is before it.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for UnixMillis {
    type Output = Self;

    /// Saturates: the end of time is 584 million years away.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for UnixMillis {
    /// As RFC 3339 writes it, in UTC; what is beyond the year 9999 is its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        time.unwrap_or(jiff::Timestamp::MAX).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        let cases =
            [(0, "1970-01-01T00:00:00Z"), (1_795_531_010_998, "2026-11-24T14:36:50.998Z"), (u64::MAX, "9999-12-30T22:00:00.999999999Z")];
        for (millis, wanted) in cases {
            assert_eq!(UnixMillis(millis).to_string(), wanted);
        }
        assert_eq!(UnixMillis(1) + Duration::MAX, UnixMillis(u64::MAX));
    }
}
