//! Leadership by a Kubernetes Lease (coordination.k8s.io/v1); the count of its transitions is the term.
//!
//! Verbs used: get, create and update on the one Lease. A leader that cannot renew in time stops leading before its Lease runs out, so
//! that never two lead at once; even if they did, the older term would be refused.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use mooring_proto::types::lease::Term;
use mooring_proto::types::time::Mono;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::Stop;
use crate::backoff::pause;
use crate::clock::{Clock, since_epoch};

/// Whether this process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Another one leads, or nobody.
    Follower,
    /// This process leads.
    Leader {
        /// The count of leaderships; rises with each.
        term: Term,
    },
}

/// How leadership is held.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Lease's name.
    pub name: String,
    /// Who holds it: unique to this process, so that a restart is a new leadership.
    pub identity: String,
    /// How long the Lease lives without being renewed; whole seconds.
    pub duration: Duration,
    /// The pause between two renewals or attempts.
    pub renew: Duration,
}

/// How long the Lease may take to be handed over: the process is about to end.
const HAND_OVER: Duration = Duration::from_secs(2);

/// An attempt may take this part of the Lease's duration, so that a second one still fits in.
const ATTEMPT_PART: u32 = 3;

/// Takes part in the election until asked to stop, then hands the Lease over.
///
/// `leadership` tells of each change: it ends before the Lease does, whatever becomes of the attempts to renew it. `outdated` carries a
/// term that somebody has seen beyond ours (the Lease was deleted and its count began anew): the count then goes on from there.
///
/// # Errors
/// The settings are no good; an API server that is away, or takes requests and never answers, is waited for.
pub async fn elect(
    api: Api<Lease>,
    settings: Settings,
    leadership: watch::Sender<Leadership>,
    mut outdated: watch::Receiver<Term>,
    stop: Stop,
) -> anyhow::Result<()> {
    let seconds = i32::try_from(settings.duration.as_secs()).context("the Lease's duration is too long")?;
    let mut candidate = Candidate { api, settings, seconds, clock: Clock::start(), seen: None, held: None };
    loop {
        let beyond = *outdated.borrow_and_update();
        let attempt = timeout(candidate.settings.duration / ATTEMPT_PART, candidate.attempt(beyond));
        let Some(found) = candidate.meanwhile(attempt, &leadership, &stop).await else { break };
        match found {
            Ok(Ok(found)) => candidate.take(found),
            Ok(Err(error)) => debug!(error = %crate::telemetry::chain(&error), "could not read or write the Lease"),
            Err(_elapsed) => debug!("the API server takes too long to answer for the Lease"),
        }
        candidate.tell(&leadership);
        let rest = async {
            tokio::select! {
                () = pause(candidate.settings.renew) => {}
                changed = outdated.changed() => if changed.is_err() { pause(candidate.settings.renew).await },
            }
        };
        if candidate.meanwhile(rest, &leadership, &stop).await.is_none() {
            break;
        }
    }
    leadership.send_replace(Leadership::Follower);
    if timeout(HAND_OVER, candidate.hand_over()).await.is_err() {
        debug!("the API server takes too long to take the Lease back");
    }
    Ok(())
}

/// What an attempt came to.
struct Found {
    /// The Lease's version.
    seen: Option<String>,
    /// The term, if the Lease is ours.
    held: Option<Term>,
    /// When the attempt began.
    began: Mono,
}

struct Candidate {
    api: Api<Lease>,
    settings: Settings,
    seconds: i32,
    clock: Clock,
    /// What the Lease last was, and since when it has been so by our own clock: other machines' clocks are not trusted.
    seen: Option<(String, Mono)>,
    /// The term that this process holds, and when it last renewed it.
    held: Option<(Term, Mono)>,
}

impl Candidate {
    /// The end of the leadership, before that of its Lease; `None` = there is none.
    fn end(&self) -> Option<Mono> {
        let (_, renewed) = self.held?;
        Some(renewed + self.settings.duration.saturating_sub(self.settings.renew))
    }

    /// The leadership, as long as its Lease cannot have run out.
    fn current(&self) -> Leadership {
        match (self.held, self.end()) {
            (Some((term, _)), Some(end)) if self.clock.now() < end => Leadership::Leader { term },
            _ => Leadership::Follower,
        }
    }

    /// Tells of the leadership, if it is another one than before.
    fn tell(&self, leadership: &watch::Sender<Leadership>) {
        let now = self.current();
        leadership.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                match now {
                    Leadership::Leader { term } => info!(event = "leading", %term, identity = self.settings.identity, "leading"),
                    Leadership::Follower => warn!(event = "leadershipLost", identity = self.settings.identity, "leading no more"),
                }
            }
            *before = now;
            changed
        });
    }

    /// Waits for something, and meanwhile ends the leadership when its time is over; `None` = asked to stop.
    async fn meanwhile<T>(&self, work: impl Future<Output = T>, leadership: &watch::Sender<Leadership>, stop: &Stop) -> Option<T> {
        let mut work = std::pin::pin!(work);
        loop {
            // Once it is over it stays so until something is found.
            let end = self.end().filter(|_| *leadership.borrow() != Leadership::Follower);
            tokio::select! {
                () = stop.cancelled() => return None,
                done = &mut work => return Some(done),
                () = self.clock.wait_until(end) => self.tell(leadership),
            }
        }
    }

    /// Takes in what an attempt came to.
    fn take(&mut self, found: Found) {
        let Found { seen, held, began } = found;
        if seen.is_some() && self.seen.as_ref().map(|(version, _)| version) != seen.as_ref() {
            self.seen = seen.map(|version| (version, began));
        }
        self.held = held.map(|term| (term, began));
    }

    /// Renews the Lease if it is ours, takes it if it is nobody's or has run out.
    async fn attempt(&self, beyond: Term) -> kube::Result<Found> {
        let began = self.clock.now();
        let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
            let transitions = i32::try_from(beyond.0).unwrap_or(i32::MAX);
            let metadata = ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(transitions, None)) };
            let created = self.api.create(&PostParams::default(), &lease).await?;
            return Ok(won(&created, began));
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let transitions = spec.lease_transitions.unwrap_or_default();
        let outdated = u64::from(transitions.unsigned_abs()) < beyond.0;
        if holder == self.settings.identity {
            let transitions = if outdated { i32::try_from(beyond.0).unwrap_or(i32::MAX) } else { transitions };
            return self.write(lease, self.spec(transitions, spec.acquire_time), began).await;
        }
        let patience = Duration::from_secs(u64::from(spec.lease_duration_seconds.unwrap_or(self.seconds).unsigned_abs()));
        let since = self.seen.as_ref().filter(|(seen, _)| *seen == version).map_or(began, |(_, since)| *since);
        if holder.is_empty() || began.saturating_since(since) > patience {
            let next = if outdated { i32::try_from(beyond.0).unwrap_or(i32::MAX) } else { transitions.saturating_add(1) };
            return self.write(lease, self.spec(next, None), began).await;
        }
        Ok(Found { seen: Some(version), held: None, began })
    }

    /// Writes the Lease as ours; a conflict means that another one was faster.
    async fn write(&self, mut lease: Lease, spec: LeaseSpec, began: Mono) -> kube::Result<Found> {
        lease.spec = Some(spec);
        match self.api.replace(&self.settings.name, &PostParams::default(), &lease).await {
            Ok(written) => Ok(won(&written, began)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Found { seen: None, held: None, began }),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::UNIX_EPOCH.saturating_add(since_epoch()).unwrap_or(Timestamp::UNIX_EPOCH));
        LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(self.seconds),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Leaves the Lease to whoever comes next, at once rather than when it runs out.
    async fn hand_over(&self) {
        let Leadership::Leader { .. } = self.current() else { return };
        let Ok(Some(lease)) = self.api.get_opt(&self.settings.name).await else { return };
        let mut spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.settings.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        if let Err(error) = self.api.replace(&self.settings.name, &PostParams::default(), &Lease { spec: Some(spec), ..lease }).await {
            debug!(error = %crate::telemetry::chain(&error), "could not hand the Lease over");
        }
    }
}

/// The Lease is ours as it was written.
fn won(lease: &Lease, began: Mono) -> Found {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
    Found { seen: lease.metadata.resource_version.clone(), held: Some(Term(u64::from(transitions.unsigned_abs()) + 1)), began }
}
