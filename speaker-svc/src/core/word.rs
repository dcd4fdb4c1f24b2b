//! What the allocator is told of what has happened, and in which order.

use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Sight, SpeakerMessage};
use mooring_proto::types::node::{InterfaceName, MacAddress, NodeName};

use super::{Event, State};

/// Messages of which there is never more than one at a time, whatever else is told.
const SINGLE: usize = 6;

/// A machine, and where it was seen.
type Seen = (MacAddress, InterfaceName);

/// What the allocator is to be told once the reply table is published.
///
/// Reports about single VIPs may come by the thousand, whenever somebody on the LAN likes: they wait until there is room for them, one of a kind for each
/// VIP or node.
#[derive(Debug, Default)]
pub struct Due {
    hello: bool,
    interfaces: bool,
    applied: bool,
    draining: bool,
    conflicts: BTreeMap<Vip, Seen>,
    in_use: BTreeMap<Vip, Seen>,
    suspected: BTreeMap<NodeName, Vip>,
    sights: Vec<Sight>,
    proven: BTreeSet<Vip>,
}

impl Due {
    /// Room for fewer messages is no room for a report.
    pub const LEAST_ROOM: usize = SINGLE + 1;

    /// Takes note of what a fact means to the allocator.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::HelloDue => self.hello = true,
            Event::AppliedDue => self.applied = true,
            Event::InterfacesDue => self.interfaces = true,
            Event::DrainStarted { .. } => self.draining = true,
            Event::ConflictSeen { vip, mac, interface, defend: true } => {
                self.conflicts.insert(*vip, (*mac, interface.clone()));
            }
            Event::AddressFound { vip, mac, interface } => {
                self.in_use.insert(*vip, (*mac, interface.clone()));
            }
            Event::PeerSuspected { vip, node } => {
                self.suspected.insert(node.clone(), *vip);
            }
            Event::LookOver { vip, answers } => self.sights.push(Sight { vip: *vip, answers: answers.clone() }),
            Event::AddressProven(vip) => {
                self.proven.insert(*vip);
            }
            Event::SessionChanged(_)
            | Event::EpochRefused { .. }
            | Event::RevisionReached { .. }
            | Event::AssignmentStored(_)
            | Event::AssignmentRemoved(_)
            | Event::StandingChanged { .. }
            | Event::ReachChanged
            | Event::ServiceUpdated { .. }
            | Event::AssignmentFailed { .. }
            | Event::LinksReplaced(_)
            | Event::PortOpened(_)
            | Event::PortClosed(_)
            | Event::AnnouncementDue { .. }
            | Event::PeerContradicted { .. }
            | Event::ConflictSeen { defend: false, .. }
            | Event::Yielded { .. }
            | Event::PeerAsked { .. }
            | Event::LookDue(_)
            | Event::ProbeDue(_)
            | Event::ProbePutOff(_)
            | Event::PeerHeard { .. }
            | Event::AnswerSeen { .. }
            | Event::LookPutOff(_)
            | Event::TookOver { .. }
            | Event::Drained { .. } => {}
        }
    }

    /// Nobody is there to be told: the next Hello says it all but who claims what is ours.
    pub fn keep_conflicts(&mut self) {
        *self = Self { conflicts: std::mem::take(&mut self.conflicts), ..Self::default() };
    }

    /// Whether reports wait for room.
    #[must_use]
    pub fn has_reports(&self) -> bool {
        !(self.conflicts.is_empty() && self.in_use.is_empty() && self.suspected.is_empty())
    }

    /// Takes out the messages for which there is room, by the state as it is now; that assignments are in force only if they are.
    #[must_use]
    pub fn take(&mut self, state: &State, room: usize, in_force: bool) -> Vec<SpeakerMessage> {
        let mut messages = Vec::new();
        let draining = std::mem::take(&mut self.draining);
        if std::mem::take(&mut self.hello) {
            messages.extend(state.greeting());
        } else if draining {
            messages.push(SpeakerMessage::Draining);
        }
        if std::mem::take(&mut self.interfaces) {
            messages.push(SpeakerMessage::InterfacesChanged(state.interface_list()));
        }
        let reports = std::iter::from_fn(|| self.next_report()).take(room.saturating_sub(SINGLE));
        messages.extend(reports.collect::<Vec<_>>());
        if !self.proven.is_empty() {
            messages.push(SpeakerMessage::Proven(std::mem::take(&mut self.proven)));
        }
        if !self.sights.is_empty() {
            messages.push(SpeakerMessage::Seen(std::mem::take(&mut self.sights)));
        }
        if in_force && std::mem::take(&mut self.applied) {
            messages.push(SpeakerMessage::Applied { revision: state.revision(), failures: state.failures() });
        }
        messages
    }

    /// The next report: first what moves VIPs.
    fn next_report(&mut self) -> Option<SpeakerMessage> {
        let suspected = self.suspected.pop_first().map(|(node, vip)| SpeakerMessage::Suspected { vip, node });
        let in_use = || self.in_use.pop_first().map(|(vip, (mac, interface))| SpeakerMessage::AddressInUse { vip, mac, interface });
        let conflict = || self.conflicts.pop_first().map(|(vip, (mac, interface))| SpeakerMessage::Conflict { vip, mac, interface });
        suspected.or_else(in_use).or_else(conflict)
    }
}

#[cfg(test)]
mod tests;
