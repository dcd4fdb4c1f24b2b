//! What the allocator is told of what has happened, and in which order.

use std::collections::BTreeSet;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Sight, SpeakerMessage};

use super::{Event, State};

/// What the allocator is to be told once the reply table is published.
#[derive(Debug, Default)]
pub struct Due {
    hello: bool,
    interfaces: bool,
    applied: bool,
    draining: bool,
    reports: Vec<SpeakerMessage>,
    sights: Vec<Sight>,
    proven: BTreeSet<Vip>,
}

impl Due {
    /// Takes note of what a fact means to the allocator.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::HelloDue => self.hello = true,
            Event::AppliedDue => self.applied = true,
            Event::InterfacesDue => self.interfaces = true,
            Event::DrainStarted { .. } => self.draining = true,
            Event::ConflictSeen { vip, mac, interface, defend: true } => {
                self.reports.push(SpeakerMessage::Conflict { vip: *vip, mac: *mac, interface: interface.clone() });
            }
            Event::AddressFound { vip, mac, interface } => {
                self.reports.push(SpeakerMessage::AddressInUse { vip: *vip, mac: *mac, interface: interface.clone() });
            }
            Event::PeerSuspected { vip, node } => self.reports.push(SpeakerMessage::Suspected { vip: *vip, node: node.clone() }),
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

    /// Takes out that assignments are in force, as long as they are not.
    #[must_use]
    pub fn put_off_applied(&mut self) -> Self {
        Self { applied: std::mem::take(&mut self.applied), ..Self::default() }
    }

    /// The messages, by the state as it is now.
    #[must_use]
    pub fn messages(self, state: &State) -> Vec<SpeakerMessage> {
        let mut messages = Vec::new();
        if self.hello {
            messages.extend(state.greeting());
        } else if self.draining {
            messages.push(SpeakerMessage::Draining);
        }
        if self.interfaces {
            messages.push(SpeakerMessage::InterfacesChanged(state.interface_list()));
        }
        messages.extend(self.reports);
        if !self.proven.is_empty() {
            messages.push(SpeakerMessage::Proven(self.proven));
        }
        if !self.sights.is_empty() {
            messages.push(SpeakerMessage::Seen(self.sights));
        }
        if self.applied {
            messages.push(SpeakerMessage::Applied { revision: state.revision(), failures: state.failures() });
        }
        messages
    }
}
