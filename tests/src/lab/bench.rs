//! What benchmarks share: samples, two sides measured in turn, and the table that compares them.
//!
//! A figure alone says more about the machine than about Mooring, so each is printed beside its peer's of the same run.
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::time::{Duration, Instant};

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that so many percent are not above; zero if there is none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = sorted.len().saturating_mul(percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or_default()
    }
}

/// The clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "benchmarks measure")]
pub fn now() -> Instant {
    Instant::now()
}

/// Prints what the table is about and on which machine.
pub fn title(text: &str) {
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        model.lines().find_map(|line| line.strip_prefix("model name")).map_or("?", |name| name.trim_start_matches([' ', '\t', ':']));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("\n## {text}\n{cores} cores of {model}, Linux {}\n", kernel.trim());
}

/// Prints one line of the table: ours, the peer's, their ratio.
pub fn compare(what: &str, ours: f64, peer: f64, unit: &str) {
    println!("{what:<44} {:>12} {:>12} {unit:<6} ratio {:.2}", figure(ours), figure(peer), ours / peer);
}

/// Prints one line that has no peer.
pub fn alone(what: &str, value: f64, unit: &str) {
    println!("{what:<44} {:>12} {:>12} {unit}", figure(value), "");
}

/// Prints the median, the 99th percentile and the longest of durations, in milliseconds.
pub fn spread(what: &str, samples: &Samples) {
    let [median, tail, longest] = [50, 99, 100].map(|percent| figure(in_millis(samples.percentile(percent))));
    println!("{what:<64} {median:>8} {tail:>8} {longest:>8} ms");
}

/// Prints the head of the table.
pub fn head(ours: &str, peer: &str) {
    println!("{:<44} {ours:>12} {peer:>12}", "");
}

fn figure(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// A duration in milliseconds.
#[must_use]
pub fn in_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// So many a second.
#[must_use]
pub fn rate(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_seen() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentile(50), Duration::ZERO);
        for number in (1..=100).rev() {
            samples.add(Duration::from_millis(number));
        }
        for (percent, wanted) in [(1, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(samples.percentile(percent), Duration::from_millis(wanted));
        }
        assert_eq!(samples.count(), 100);
    }
}
