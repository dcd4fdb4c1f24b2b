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

/// Takes part in the election until asked to stop, then hands the Lease over.
///
/// `leadership` tells of each change. `outdated` carries a term that somebody has seen beyond ours (the Lease was deleted and its count
/// began anew): the count then goes on from there.
///
/// # Errors
/// The settings are no good; an API server that is away is waited for.
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
        // An API server that takes requests and never answers must not keep a leader in office.
        let renew = candidate.settings.renew;
        match tokio::time::timeout(renew, candidate.attempt(beyond)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = %crate::telemetry::chain(&error), "could not read or write the Lease"),
            Err(_elapsed) => debug!("no answer about the Lease in time"),
        }
        let now = candidate.current();
        leadership.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                match now {
                    Leadership::Leader { term } => info!(event = "leading", %term, identity = candidate.settings.identity, "leading"),
                    Leadership::Follower => warn!(event = "leadershipLost", identity = candidate.settings.identity, "leading no more"),
                }
            }
            *before = now;
            changed
        });
        tokio::select! {
            () = pause(candidate.settings.renew) => {}
            changed = outdated.changed() => if changed.is_err() { pause(candidate.settings.renew).await },
            () = stop.cancelled() => break,
        }
    }
    leadership.send_replace(Leadership::Follower);
    candidate.hand_over().await;
    Ok(())
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
    /// The leadership, as long as its Lease cannot run out before this is asked again: after a pause and an attempt in vain.
    fn current(&self) -> Leadership {
        let margin = self.settings.renew.saturating_mul(2);
        let alive = |renewed: Mono| self.clock.now().saturating_since(renewed) + margin < self.settings.duration;
        match self.held {
            Some((term, renewed)) if alive(renewed) => Leadership::Leader { term },
            _ => Leadership::Follower,
        }
    }

    /// Renews the Lease if it is ours, takes it if it is nobody's or has run out.
    async fn attempt(&mut self, beyond: Term) -> kube::Result<()> {
        let began = self.clock.now();
        let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
            let transitions = i32::try_from(beyond.0).unwrap_or(i32::MAX);
            let metadata = ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(transitions, None)) };
            let created = self.api.create(&PostParams::default(), &lease).await?;
            self.won(&created, began);
            return Ok(());
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != version) {
            self.seen = Some((version, began));
        }
        let transitions = spec.lease_transitions.unwrap_or_default();
        let outdated = u64::from(transitions.unsigned_abs()) < beyond.0;
        if holder == self.settings.identity {
            let transitions = if outdated { i32::try_from(beyond.0).unwrap_or(i32::MAX) } else { transitions };
            return self.write(lease, self.spec(transitions, spec.acquire_time), began).await;
        }
        let patience = Duration::from_secs(u64::from(spec.lease_duration_seconds.unwrap_or(self.seconds).unsigned_abs()));
        let since = self.seen.as_ref().map_or(began, |(_, since)| *since);
        if holder.is_empty() || began.saturating_since(since) > patience {
            let next = if outdated { i32::try_from(beyond.0).unwrap_or(i32::MAX) } else { transitions.saturating_add(1) };
            return self.write(lease, self.spec(next, None), began).await;
        }
        self.held = None;
        Ok(())
    }

    /// Writes the Lease as ours; a conflict means that another one was faster.
    async fn write(&mut self, mut lease: Lease, spec: LeaseSpec, began: Mono) -> kube::Result<()> {
        lease.spec = Some(spec);
        match self.api.replace(&self.settings.name, &PostParams::default(), &lease).await {
            Ok(written) => self.won(&written, began),
            Err(kube::Error::Api(status)) if status.code == 409 => self.held = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn won(&mut self, lease: &Lease, began: Mono) {
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default();
        self.seen = lease.metadata.resource_version.clone().map(|version| (version, began));
        self.held = Some((Term(u64::from(transitions.unsigned_abs()) + 1), began));
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
    async fn hand_over(&mut self) {
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
