//! When each Service is worked on next: at once when something changed, after a pause when the last try failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

/// The pause after a first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: an API server that was away for minutes is found again within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause before a whole-state call that failed is tried again.
pub const STAGE_PAUSE: Duration = Duration::from_millis(100);

/// The pause after one that was refused: nothing but a change, or another watcher's end, will help.
pub const LONG_STAGE_PAUSE: Duration = Duration::from_secs(1);

/// Services that are due, one job each in flight.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    ready: BTreeSet<ServiceKey>,
    paused: BTreeMap<ServiceKey, Mono>,
    /// The ends of the pauses, in order.
    ends: BTreeSet<(Mono, ServiceKey)>,
    failures: BTreeMap<ServiceKey, u32>,
    in_flight: BTreeSet<ServiceKey>,
}

impl Queue {
    /// Something about a Service changed: it is looked at at once, whatever failed before.
    pub fn touch(&mut self, service: &ServiceKey) {
        self.end_pause(service);
        self.ready.insert(service.clone());
    }

    fn end_pause(&mut self, service: &ServiceKey) {
        if let Some(end) = self.paused.remove(service) {
            self.ends.remove(&(end, service.clone()));
        }
    }

    /// A Service's job failed: it is tried again after a pause that doubles.
    pub fn failed(&mut self, service: &ServiceKey, now: Mono) {
        let failures = self.failures.entry(service.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1).min(16);
        if !self.ready.contains(service) {
            self.end_pause(service);
            self.paused.insert(service.clone(), now + pause);
            self.ends.insert((now + pause, service.clone()));
        }
    }

    /// A Service's job succeeded.
    pub fn succeeded(&mut self, service: &ServiceKey) {
        self.failures.remove(service);
    }

    /// The next Service to look at now that is not in flight.
    pub fn next_due(&mut self, now: Mono) -> Option<ServiceKey> {
        while let Some((_, service)) = self.ends.first().filter(|(end, _)| *end <= now).cloned() {
            self.touch(&service);
        }
        let due = self.ready.iter().find(|service| !self.in_flight.contains(*service)).cloned()?;
        self.ready.remove(&due);
        Some(due)
    }

    /// When the next pause is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// Whether nothing is due, now or after a pause.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.paused.is_empty()
    }

    /// Whether a job for the Service is under way.
    #[must_use]
    pub fn is_in_flight(&self, service: &ServiceKey) -> bool {
        self.in_flight.contains(service)
    }

    /// A job for the Service began.
    pub fn began(&mut self, service: &ServiceKey) {
        self.in_flight.insert(service.clone());
    }

    /// The Service's job ended.
    pub fn ended(&mut self, service: &ServiceKey) {
        self.in_flight.remove(service);
    }

    /// Nothing of the Service is left.
    pub fn forget(&mut self, service: &ServiceKey) {
        self.ready.remove(service);
        self.end_pause(service);
        self.failures.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_a_service_pauses_that_double_and_a_change_that_ends_them() {
        let (a, now) = ("n/a".parse::<ServiceKey>().unwrap(), Mono::ZERO);
        let mut queue = Queue::default();
        queue.touch(&a);
        assert_eq!(queue.next_due(now), Some(a.clone()));
        queue.began(&a);
        queue.touch(&a);
        assert_eq!(queue.next_due(now), None, "in flight");
        queue.ended(&a);
        assert_eq!(queue.next_due(now), Some(a.clone()));
        for pause in [50, 100, 200] {
            queue.failed(&a, now);
            assert_eq!(queue.next_deadline(), Some(now + Duration::from_millis(pause)));
        }
        assert_eq!(queue.next_due(now), None);
        queue.touch(&a);
        assert_eq!((queue.next_due(now), queue.next_deadline()), (Some(a.clone()), None));
        queue.succeeded(&a);
        queue.failed(&a, now);
        assert_eq!(queue.next_due(now + Duration::from_millis(50)), Some(a));
    }
}
