//! What changed since a revision.
//!
//! The feed keeps which Services changed at which revision, never what they were: a reader that fell behind is told the present state
//! of all that changed since, once. A revision carries the epoch in its upper half, so revisions rise over restarts without being
//! written down.

use std::collections::{BTreeSet, VecDeque};

use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::service::ServiceKey;

use super::nodes::SpeakerEvent;
use super::state::Book;
use super::{Event, Refusal};

/// How many changes are kept: a reader further behind gets a snapshot, which then costs about the same.
const KEPT: usize = 65_536;

/// Which Services changed at which revision.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    revision: Revision,
    floor: Revision,
    changes: VecDeque<(Revision, ServiceKey)>,
    pending: BTreeSet<ServiceKey>,
}

impl Feed {
    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision to reach with what has changed since the newest; `None` if nothing has.
    #[must_use]
    pub fn next(&self) -> Option<Revision> {
        (!self.pending.is_empty()).then(|| self.revision.next())
    }

    /// The Services that changed after a revision.
    ///
    /// # Errors
    /// The revision is not kept, or not of this epoch.
    pub fn since(&self, revision: Revision) -> Result<BTreeSet<&ServiceKey>, Refusal> {
        if revision < self.floor || revision > self.revision {
            return Err(Refusal::RevisionNotKept { revision });
        }
        Ok(self.changes.iter().rev().take_while(|(at, _)| *at > revision).map(|(_, service)| service).collect())
    }

    /// Notes whom a fact is about. The book is as it was before the fact.
    pub(super) fn note(&mut self, event: &Event, before: &Book) {
        match event {
            Event::EpochBegan(epoch) => self.begin(*epoch),
            Event::RevisionReached(revision) => self.reach(*revision),
            Event::LeaseGranted(lease) => {
                self.pending.insert(lease.service.clone());
            }
            Event::LeaseReleased(service)
            | Event::ClaimForgotten(service)
            | Event::ClaimRefused { service, .. }
            | Event::LeaseUntenable { service, .. } => {
                self.pending.insert(service.clone());
            }
            Event::ClaimMet(service) => self.pending.extend(before.refusal(service).map(|_| service.clone())),
            Event::VipPlaced { vip, .. }
            | Event::VipDropped(vip)
            | Event::Speaker(SpeakerEvent::ConflictSeen { vip, .. } | SpeakerEvent::ConflictOver(vip)) => {
                self.pending.extend(before.holders().get(vip).into_iter().flatten().cloned());
            }
            Event::ShadowBegan => self.pending.extend(before.leases().keys().chain(before.claims().keys()).cloned()),
            Event::TermBegan(_)
            | Event::ConfigurationReplaced { .. }
            | Event::AddressReserved { .. }
            | Event::ReservationEnded { .. }
            | Event::ClaimMade(_)
            | Event::ClaimDeferred(_)
            | Event::ClaimRetried(_)
            | Event::ViewReconciled
            | Event::NodesReplaced(_)
            | Event::BackendsReported(_)
            | Event::Speaker(_)
            | Event::RecoveryEnded
            | Event::Rebalanced(_)
            | Event::VipKept(_)
            | Event::VipAnnounced { .. } => {}
        }
    }

    fn begin(&mut self, epoch: Epoch) {
        let first = Revision(epoch.0 << 32);
        *self = Self { revision: first, floor: first, ..Self::default() };
    }

    fn reach(&mut self, revision: Revision) {
        self.revision = revision;
        self.changes.extend(std::mem::take(&mut self.pending).into_iter().map(|service| (revision, service)));
        while self.changes.len() > KEPT {
            self.floor = self.changes.pop_front().map_or(self.floor, |(at, _)| at);
        }
    }
}
