//! What a speaker is told of its parts in the placements.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{AllocatorMessage, Assignment, Role};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::node::{MacAddress, NodeName, SpeakerId};

use super::nodes::{SpeakerEvent, Untold};
use super::state::State;
use super::{Event, SessionId};

/// The other nodes with their hardware addresses.
type Peers = BTreeMap<NodeName, BTreeSet<MacAddress>>;

/// What the speaker on a stream is told next, as the message of this revision, and the fact that it was; `None` = nothing is new for it.
#[must_use]
pub fn next_message(state: &State, session: SessionId, revision: Revision) -> Option<(AllocatorMessage, Event)> {
    let speaker = state.network.speaker_of(session)?;
    let (message, vips) = match state.network.untold(speaker)? {
        Untold::Snapshot => {
            let assignments = assignments(state, speaker);
            let vips = vips(&assignments);
            (AllocatorMessage::Snapshot { heartbeat: state.settings.heartbeat, epoch: state.epoch(), revision, assignments }, vips)
        }
        Untold::Delta(changed) => {
            let (upserts, removals) = told(state, speaker, changed);
            let vips = vips(&upserts);
            (AllocatorMessage::Delta { revision, upserts, removals }, vips)
        }
    };
    Some((message, Event::Speaker(SpeakerEvent::Told { session, revision, vips })))
}

fn vips(assignments: &[Assignment]) -> BTreeSet<Vip> {
    assignments.iter().map(|assignment| assignment.vip).collect()
}

/// What a speaker is told of these VIPs: the parts that it plays, and those VIPs in which it has none.
#[must_use]
pub fn told(state: &State, speaker: &SpeakerId, vips: impl IntoIterator<Item = Vip>) -> (Vec<Assignment>, Vec<Vip>) {
    let peers = Arc::new(peers(state, &speaker.node));
    let (mut parts, mut none) = (Vec::new(), Vec::new());
    for vip in vips {
        match assignment(state, vip, speaker, &peers) {
            Some(part) => parts.push(part),
            None => none.push(vip),
        }
    }
    (parts, none)
}

/// All that a speaker is told, by address.
#[must_use]
pub fn assignments(state: &State, speaker: &SpeakerId) -> Vec<Assignment> {
    told(state, speaker, state.network.parts_of(speaker)).0
}

/// The part that a speaker plays for a VIP, as it is told; `None` = none.
fn assignment(state: &State, vip: Vip, speaker: &SpeakerId, peers: &Arc<Peers>) -> Option<Assignment> {
    let placement = state.network.placements().get(&vip)?.as_ref().ok()?;
    let (role, rank) = if placement.active == *speaker {
        (Role::Active, 0)
    } else if placement.outgoing.as_ref() == Some(speaker) {
        (Role::Active, 1)
    } else if placement.standby.as_ref() == Some(speaker) {
        (Role::Standby, 1)
    } else {
        return None;
    };
    let holders = state.book.holders().get(&vip).into_iter().flatten();
    let services = holders.filter_map(|holder| Some((holder.clone(), state.book.lease(holder)?.pool.clone()))).collect();
    let active = Some(&placement.active.node).filter(|node| role == Role::Standby && **node != speaker.node).cloned();
    let asks_first = state.network.speakers().get(speaker).is_some_and(|speaker| speaker.asks_first);
    let probe_first = rank == 0 && asks_first && !state.network.is_proven(vip);
    let interfaces = placement.interfaces_of(speaker).clone();
    Some(Assignment { vip, role, rank, interfaces, services, peers: Arc::clone(peers), active, probe_first })
}

/// The other nodes with their hardware addresses. Also those that are lost or about to end: one that comes back, and has not heard yet
/// that its VIPs moved, is no stranger to whoever has them now.
fn peers(state: &State, own: &NodeName) -> Peers {
    let mut peers = Peers::new();
    let others = state.network.speakers().iter().filter(|(id, _)| id.node != *own);
    for (id, speaker) in others {
        peers.entry(id.node.clone()).or_default().extend(speaker.interfaces.iter().map(|interface| interface.mac));
    }
    peers
}
