//! What the log and the metrics say of a fact.

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::NodeSpec;
use tracing::{debug, info, warn};

use super::Owner;
use crate::core::nodes::SpeakerEvent;
use crate::core::{Event, Placement, Sighting, Unannounced};
use crate::logs;
use crate::metrics::Outcome;

impl Owner {
    /// Tells people of a fact, in the log and the metrics. The state is as it was before the fact.
    pub(super) fn perform(&self, event: &Event) {
        match event {
            Event::EpochBegan(epoch) => info!(event = logs::EPOCH_BEGAN, %epoch, "leading"),
            Event::TermBegan(term) => info!(event = logs::TERM_BEGAN, %term, "a watcher leads"),
            Event::ShadowBegan => info!(event = logs::SHADOW_BEGAN, "a shadow asks what would be; nobody holds what it is told"),
            Event::ConfigurationReplaced { configuration, .. } => {
                let (pools, advertisements) = (configuration.pools().len(), configuration.advertisements().len());
                info!(event = logs::CONFIG_REPLACED, pools, advertisements, "the configuration is now another one");
            }
            Event::LeaseGranted(lease) => {
                self.metrics.claim(Outcome::Granted);
                let before = self.state.book().lease(&lease.service);
                if before.map(|before| &before.addresses) != Some(&lease.addresses) {
                    let ip = lease.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
                    info!(event = logs::LEASE_GRANTED, service = %lease.service, ip, pool = %lease.pool, "granted");
                }
            }
            Event::LeaseReleased(service) => info!(event = logs::LEASE_RELEASED, %service, "released"),
            Event::AddressReserved { reservation, .. } => {
                info!(event = logs::ADDRESS_RESERVED, ip = %reservation.key.address, "{reservation}");
            }
            Event::ReservationEnded { key, cause } => {
                let service = key.service.as_ref().map(ToString::to_string).unwrap_or_default();
                info!(event = logs::RESERVATION_ENDED, ip = %key.address, service, reason = ?cause, "not reserved any more");
            }
            Event::ClaimRefused { service, refusal } => {
                self.metrics.claim(Outcome::Refused);
                info!(event = logs::CLAIM_REFUSED, %service, reason = %refusal.reason(), "{refusal}");
            }
            Event::ViewReconciled => info!(event = logs::VIEW_RECONCILED, "a watcher's full view is in"),
            Event::RecoveryEnded => info!(event = logs::RECOVERY_ENDED, "waiting for no speaker any more"),
            Event::VipPlaced { vip, placement: Ok(now) } => {
                let before = self.state.network().placements().get(vip).and_then(|placed| placed.as_ref().ok());
                self.placed(&vip.to_string(), before, now);
            }
            // Of a new address it is not known yet where it can be served: that is no news.
            Event::VipPlaced { placement: Err(Unannounced::BackendsUnknown), .. } => debug!(?event, "decided"),
            Event::VipPlaced { vip, placement: Err(reason) } => {
                info!(event = logs::VIP_UNANNOUNCED, ip = %vip, %reason, "announced by nobody");
            }
            Event::NodesReplaced(nodes) => self.cordons(nodes),
            Event::NodeDrained { node, .. } => info!(event = logs::NODE_DRAINED, %node, reason = "by hand", "its addresses leave"),
            Event::NodeRestored(node) => info!(event = logs::NODE_RESTORED, %node, reason = "by hand", "it takes part again"),
            Event::Speaker(event) => self.perform_speaker(event),
            Event::ClaimMade(_)
            | Event::ClaimDeferred(_)
            | Event::ClaimForgotten(_)
            | Event::LeaseUntenable { .. }
            | Event::ClaimRetried(_)
            | Event::ClaimMet(_)
            | Event::BackendsReported(_)
            | Event::VipDropped(_)
            | Event::VipKept(_)
            | Event::VipAnnounced { .. }
            | Event::Rebalanced(_)
            | Event::RevisionReached(_) => debug!(?event, "decided"),
        }
    }

    /// Tells which nodes are cordoned now, and which no longer.
    fn cordons(&self, nodes: &[NodeSpec]) {
        let before = self.state.network().drains().cordoned();
        for NodeSpec { name: node, cordoned, .. } in nodes {
            match (before.contains(node), cordoned) {
                (false, true) => info!(event = logs::NODE_DRAINED, %node, reason = "cordon", "its addresses leave"),
                (true, false) => info!(event = logs::NODE_RESTORED, %node, reason = "cordon", "it takes part again"),
                (true, true) | (false, false) => {}
            }
        }
    }

    fn placed(&self, ip: &str, before: Option<&Placement>, now: &Placement) {
        if now.last_resort && before.is_none_or(|before| !before.last_resort || before.active != now.active) {
            let node = &now.active.node;
            warn!(event = logs::LAST_RESORT, ip, %node, "the node is drained and announces on: no other is eligible");
        }
        if before.is_some_and(|before| before.active == now.active) {
            return;
        }
        let standby = now.standby.as_ref().map(ToString::to_string).unwrap_or_default();
        let from = before.map(|before| before.active.to_string()).unwrap_or_default();
        if before.is_some() {
            self.metrics.moved();
        }
        info!(event = logs::VIP_PLACED, ip, node = %now.active.node, instance = %now.active.instance, standby, from, "announced from this node");
    }

    /// Tells what is new about who answers for a VIP.
    fn seen(&self, ip: Vip, now: &Sighting) {
        let before = self.state.network().sighting(ip);
        let (was_reachable, was_contested) = before.map_or((true, false), |before| (before.reachable, before.contested));
        let macs = now.macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match (was_reachable, now.reachable) {
            (true, false) => warn!(event = logs::VIP_UNREACHABLE, %ip, by = %now.by, mac = macs, "its node does not answer for it"),
            (false, true) => info!(event = logs::VIP_REACHABLE, %ip, by = %now.by, "its node answers for it again"),
            (true, true) | (false, false) => {}
        }
        if now.contested && !was_contested {
            warn!(event = logs::VIP_CONTESTED, %ip, by = %now.by, mac = macs, "not only its node answers for it");
        }
    }

    fn perform_speaker(&self, event: &SpeakerEvent) {
        match event {
            SpeakerEvent::Joined { hello, .. } => {
                let (speaker, held) = (&hello.speaker, hello.held.len());
                info!(event = logs::SPEAKER_JOINED, node = %speaker.node, instance = %speaker.instance, held, "said hello");
            }
            SpeakerEvent::Suspected(speaker) => {
                info!(event = logs::SPEAKER_SUSPECTED, node = %speaker.node, instance = %speaker.instance, "does not answer, says its standby");
            }
            SpeakerEvent::Returned(speaker) => {
                info!(event = logs::SPEAKER_RETURNED, node = %speaker.node, instance = %speaker.instance, "heard again");
            }
            SpeakerEvent::InterfacesChanged(speaker, interfaces) => {
                let names = interfaces.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(",");
                info!(event = logs::INTERFACES_CHANGED, node = %speaker.node, interface = names, "its interfaces are now these");
            }
            SpeakerEvent::Failed(speaker, failures) => {
                for (ip, reason) in failures {
                    warn!(event = logs::ANNOUNCE_FAILED, node = %speaker.node, %ip, reason, "cannot announce");
                }
            }
            SpeakerEvent::ConflictSeen { vip, conflict, .. } => {
                self.metrics.conflict();
                let (mac, interface, node) = (&conflict.mac, &conflict.interface, &conflict.node);
                warn!(event = logs::ADDRESS_CONFLICT, ip = %vip, %mac, %interface, %node, "another machine claims the address");
            }
            SpeakerEvent::DrainBegan(speaker) => {
                info!(event = logs::SPEAKER_DRAINING, node = %speaker.node, instance = %speaker.instance, "about to end");
            }
            SpeakerEvent::GraceBegan(speaker, _) => {
                info!(event = logs::SPEAKER_GRACE, node = %speaker.node, instance = %speaker.instance, "its stream ended");
            }
            SpeakerEvent::ConflictOver(ip) => {
                info!(event = logs::CONFLICT_OVER, %ip, "the other machine has not claimed the address for a while");
            }
            SpeakerEvent::Lost(speaker, _) => {
                warn!(event = logs::SPEAKER_LOST, node = %speaker.node, instance = %speaker.instance, "given up, its addresses move");
            }
            SpeakerEvent::Forgotten(speaker) => {
                info!(event = logs::SPEAKER_FORGOTTEN, node = %speaker.node, instance = %speaker.instance, "away for long, not awaited any more");
            }
            SpeakerEvent::Missed => warn!(event = logs::SPEAKERS_MISSED, "no speaker has come: nobody announces anything new"),
            SpeakerEvent::FoundInUse { vip, conflict } => {
                self.metrics.in_use();
                let (mac, interface, node) = (&conflict.mac, &conflict.interface, &conflict.node);
                warn!(event = logs::ADDRESS_IN_USE, ip = %vip, %mac, %interface, %node, "another machine has the address, which goes into quarantine");
            }
            SpeakerEvent::Seen { vip, sighting } => self.seen(*vip, sighting),
            SpeakerEvent::ConflictRepeated { .. } | SpeakerEvent::Heard { .. } | SpeakerEvent::Told { .. } => {}
        }
    }
}
