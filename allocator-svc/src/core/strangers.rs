//! Strangers that claim VIPs: each is remembered until it has been silent for a while, so that one that returns is news again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::time::Mono;

use super::Event;
use super::nodes::{Conflict, SpeakerEvent};

/// How long a stranger is remembered after it was last seen: hosts on a LAN ask by ARP every few minutes.
const MEMORY: Duration = Duration::from_secs(600);

/// The strangers by the VIP that they claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    seen: BTreeMap<Vip, (Conflict, Mono)>,
    by_time: BTreeSet<(Mono, Vip)>,
}

impl Strangers {
    /// The stranger that claims a VIP.
    pub(super) fn of(&self, vip: Vip) -> Option<&Conflict> {
        self.seen.get(&vip).map(|(conflict, _)| conflict)
    }

    /// A stranger claims a VIP: it is news, or known, whichever node sees it now.
    pub(super) fn claimed(&self, vip: Vip, conflict: Conflict, at: Mono) -> Event {
        Event::Speaker(match self.of(vip) {
            Some(known) if known.mac == conflict.mac => SpeakerEvent::ConflictRepeated { vip, at },
            Some(_) | None => SpeakerEvent::ConflictSeen { vip, conflict, at },
        })
    }

    /// A stranger is seen, for the first time or again.
    pub(super) fn note(&mut self, vip: Vip, conflict: &Conflict, at: Mono) {
        self.forget(vip);
        self.seen.insert(vip, (conflict.clone(), at));
        self.by_time.insert((at, vip));
    }

    /// Nobody claims a VIP any more.
    pub(super) fn forget(&mut self, vip: Vip) {
        if let Some((_, at)) = self.seen.remove(&vip) {
            self.by_time.remove(&(at, vip));
        }
    }

    /// The VIP whose stranger is forgotten next, and when.
    pub(super) fn next(&self) -> Option<(Mono, Vip)> {
        self.by_time.first().map(|(at, vip)| (*at + MEMORY, *vip))
    }
}
