//! A node of which another one says that it does not answer: its silence counts sooner.

use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{NodeName, SpeakerId};

use super::Event;
use super::nodes::{Network, SpeakerEvent};
use super::state::Settings;

/// How long a speaker may be silent while another one says that its node does not answer.
///
/// One heartbeat is certainly missing after an interval; half of one more lets one pass that is only late. Two that say the same need no
/// third: whoever is heard meanwhile is suspected no more.
pub(super) fn patience(settings: &Settings) -> Duration {
    settings.speaker_ttl.min(settings.heartbeat.saturating_add(settings.heartbeat / 2))
}

/// A speaker says that a node does not answer for a VIP. It counts if the speaker stands by for the VIP, and the node is to announce it.
pub(super) fn suspected(network: &Network, by: &SpeakerId, vip: Vip, node: &NodeName) -> Option<Event> {
    let placement = network.placements().get(&vip)?.as_ref().ok()?;
    let meant = placement.standby.as_ref() == Some(by) && placement.active.node == *node;
    let speaker = network.speakers().get(&placement.active).filter(|speaker| meant && !speaker.is_suspected());
    speaker.map(|_| Event::Speaker(SpeakerEvent::Suspected(placement.active.clone())))
}

#[cfg(test)]
mod tests;
