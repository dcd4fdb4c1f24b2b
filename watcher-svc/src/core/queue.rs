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
    failures: BTreeMap<ServiceKey, u32>,
    in_flight: BTreeSet<ServiceKey>,
}

impl Queue {
    /// Something about a Service changed: it is looked at at once, whatever failed before.
    pub fn touch(&mut self, service: &ServiceKey) {
        self.paused.remove(service);
        self.ready.insert(service.clone());
    }

    /// A Service's job failed: it is tried again after a pause that doubles.
    pub fn failed(&mut self, service: &ServiceKey, now: Mono) {
        let failures = self.failures.entry(service.clone()).or_default();
        let pause = FIRST_PAUSE.saturating_mul(1u32.checked_shl(*failures).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
        *failures = failures.saturating_add(1).min(16);
        if !self.ready.contains(service) {
            self.paused.insert(service.clone(), now + pause);
        }
    }

    /// A Service's job succeeded.
    pub fn succeeded(&mut self, service: &ServiceKey) {
        self.failures.remove(service);
    }

    /// The Services to look at now, none of them in flight, at most so many.
    pub fn due(&mut self, now: Mono, most: usize) -> Vec<ServiceKey> {
        let over: Vec<ServiceKey> = self.paused.iter().filter(|(_, until)| **until <= now).map(|(service, _)| service.clone()).collect();
        for service in over {
            self.paused.remove(&service);
            self.ready.insert(service);
        }
        let due: Vec<ServiceKey> = self.ready.iter().filter(|service| !self.in_flight.contains(*service)).take(most).cloned().collect();
        for service in &due {
            self.ready.remove(service);
        }
        due
    }

    /// When the next pause is over.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        self.paused.values().min().copied()
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
        self.paused.remove(service);
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
        assert_eq!(queue.due(now, 9), std::slice::from_ref(&a));
        queue.began(&a);
        queue.touch(&a);
        assert_eq!(queue.due(now, 9), [], "in flight");
        queue.ended(&a);
        assert_eq!(queue.due(now, 9), std::slice::from_ref(&a));
        for pause in [50, 100, 200] {
            queue.failed(&a, now);
            assert_eq!(queue.next_deadline(), Some(now + Duration::from_millis(pause)));
        }
        assert_eq!(queue.due(now, 9), []);
        queue.touch(&a);
        assert_eq!((queue.due(now, 9), queue.next_deadline()), (vec![a.clone()], None));
        queue.succeeded(&a);
        queue.failed(&a, now);
        assert_eq!(queue.due(now + Duration::from_millis(50), 9), [a]);
    }
}
