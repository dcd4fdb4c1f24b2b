//! What allocator and speaker tell each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::inspect::role_to_pb;
use super::{MISSING, Violations, each};
use crate::pb;
use crate::pb::stream_assignments_request::Message as Said;
use crate::pb::stream_assignments_response::Message as Told;
use crate::types::address::Vip;
use crate::types::assignment::{AllocatorMessage, Assignment, HEARTBEAT, Hello, Role, Sight, SpeakerMessage};
use crate::types::lease::{Epoch, Revision};
use crate::types::node::{Instance, Interface, InterfaceName, MacAddress, NodeName, SpeakerId};
use crate::types::pool::PoolName;
use crate::types::service::ServiceKey;

fn role(value: i32) -> Result<Role, String> {
    match pb::Role::try_from(value) {
        Ok(pb::Role::Active) => Ok(Role::Active),
        Ok(pb::Role::Standby) => Ok(Role::Standby),
        Ok(pb::Role::Unspecified) | Err(_) => Err(format!("role {value} is unknown")),
    }
}

/// An address with a prefix length; without one it stands for itself alone.
fn interface_address(text: &String) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_no_prefix| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_invalid| format!("invalid interface address {text:?}"))
}

fn interfaces(bad: &mut Violations, field: &str, list: Vec<pb::Interface>) -> Vec<Interface> {
    let mut found = Vec::with_capacity(list.len());
    for (index, interface) in list.into_iter().enumerate() {
        let path = format!("{field}[{index}]");
        let name = bad.take(&format!("{path}.name"), interface.name.parse::<InterfaceName>());
        let mac = bad.take(&format!("{path}.mac"), interface.mac.parse::<MacAddress>());
        let addresses = each(bad, &format!("{path}.addresses"), &interface.addresses, interface_address);
        found.extend(name.zip(mac).map(|(name, mac)| Interface { name, mac, addresses }));
    }
    found
}

/// Interfaces for the wire.
#[must_use]
pub fn interfaces_to_pb(interfaces: &[Interface]) -> Vec<pb::Interface> {
    let one = |interface: &Interface| pb::Interface {
        name: interface.name.to_string(),
        mac: interface.mac.to_string(),
        addresses: interface.addresses.iter().map(ToString::to_string).collect(),
    };
    interfaces.iter().map(one).collect()
}

impl TryFrom<pb::Hello> for Hello {
    type Error = Violations;

    fn try_from(hello: pb::Hello) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let node = bad.take("node", hello.node.parse::<NodeName>());
        let instance = match hello.instance.as_str() {
            "" => Some(Instance::default()),
            text => bad.take("instance", text.parse::<Instance>()),
        };
        let interfaces = interfaces(&mut bad, "interfaces", hello.interfaces);
        let held = each(&mut bad, "held", &hello.held, |held| {
            let vip = held.vip.parse::<Vip>().map_err(|error| error.to_string())?;
            Ok::<_, String>((vip, role(held.role)?, held.taken_over))
        });
        let value = node.zip(instance).map(|(node, instance)| Self {
            speaker: SpeakerId { node, instance },
            boot_id: hello.boot_id,
            interfaces,
            taken: held.iter().filter(|(_, _, taken_over)| *taken_over).map(|(vip, ..)| *vip).collect(),
            held: held.into_iter().map(|(vip, role, _)| (vip, role)).collect(),
            asks_first: hello.asks_first,
        });
        bad.finish(value)
    }
}

impl From<&Hello> for pb::Hello {
    fn from(hello: &Hello) -> Self {
        let held = hello.held.iter().map(|(vip, role)| pb::HeldVip {
            vip: vip.to_string(),
            role: role_to_pb(*role),
            taken_over: hello.taken.contains(vip),
        });
        Self {
            node: hello.speaker.node.to_string(),
            instance: hello.speaker.instance.to_string(),
            boot_id: hello.boot_id.clone(),
            interfaces: interfaces_to_pb(&hello.interfaces),
            held: held.collect(),
            asks_first: hello.asks_first,
        }
    }
}

impl TryFrom<pb::StreamAssignmentsRequest> for SpeakerMessage {
    type Error = Violations;

    fn try_from(request: pb::StreamAssignmentsRequest) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let value = match request.message {
            Some(Said::Hello(hello)) => Hello::try_from(hello).map_err(|inner| bad.nest("hello", inner)).ok().map(Self::Hello),
            Some(Said::Heartbeat(beat)) => Some(Self::Heartbeat { seq: beat.seq, applied: Revision(beat.applied_revision) }),
            Some(Said::Applied(applied)) => {
                let failures = each(&mut bad, "applied.failures", applied.failures, |failure| {
                    failure.vip.parse::<Vip>().map(|vip| (vip, failure.reason))
                });
                Some(Self::Applied { revision: Revision(applied.revision), failures: failures.into_iter().collect() })
            }
            Some(Said::InterfacesChanged(changed)) => {
                Some(Self::InterfacesChanged(interfaces(&mut bad, "interfaces_changed.interfaces", changed.interfaces)))
            }
            Some(Said::Conflict(conflict)) => {
                let vip = bad.take("conflict.vip", conflict.vip.parse::<Vip>());
                let mac = bad.take("conflict.mac", conflict.mac.parse::<MacAddress>());
                let interface = bad.take("conflict.interface", conflict.interface.parse::<InterfaceName>());
                vip.zip(mac).zip(interface).map(|((vip, mac), interface)| Self::Conflict { vip, mac, interface })
            }
            Some(Said::Draining(pb::Draining {})) => Some(Self::Draining),
            Some(Said::Suspected(suspected)) => {
                let vip = bad.take("suspected.vip", suspected.vip.parse::<Vip>());
                let node = bad.take("suspected.node", suspected.node.parse::<NodeName>());
                vip.zip(node).map(|(vip, node)| Self::Suspected { vip, node })
            }
            Some(Said::AddressInUse(found)) => {
                let vip = bad.take("address_in_use.vip", found.vip.parse::<Vip>());
                let mac = bad.take("address_in_use.mac", found.mac.parse::<MacAddress>());
                let interface = bad.take("address_in_use.interface", found.interface.parse::<InterfaceName>());
                vip.zip(mac).zip(interface).map(|((vip, mac), interface)| Self::AddressInUse { vip, mac, interface })
            }
            Some(Said::Proven(proven)) => {
                Some(Self::Proven(each(&mut bad, "proven.vips", &proven.vips, |text| text.parse::<Vip>()).into_iter().collect()))
            }
            Some(Said::Seen(seen)) => Some(Self::Seen(sights(&mut bad, seen.sights))),
            None => {
                bad.add("message", MISSING);
                None
            }
        };
        bad.finish(value)
    }
}

fn sights(bad: &mut Violations, list: Vec<pb::Sight>) -> Vec<Sight> {
    let answer = |answer: pb::Answer| {
        let mac = answer.mac.parse::<MacAddress>().map_err(|error| error.to_string())?;
        Ok::<_, String>((mac, answer.interface.parse::<InterfaceName>().map_err(|error| format!("interface {error}"))?))
    };
    let mut found = Vec::with_capacity(list.len());
    for (index, sight) in list.into_iter().enumerate() {
        let path = format!("seen.sights[{index}]");
        let vip = bad.take(&format!("{path}.vip"), sight.vip.parse::<Vip>());
        let answers = each(bad, &format!("{path}.answers"), sight.answers, answer).into_iter().collect();
        found.extend(vip.map(|vip| Sight { vip, answers }));
    }
    found
}

fn sight_to_pb(sight: &Sight) -> pb::Sight {
    let answers = sight.answers.iter().map(|(mac, interface)| pb::Answer { mac: mac.to_string(), interface: interface.to_string() });
    pb::Sight { vip: sight.vip.to_string(), answers: answers.collect() }
}

impl From<&SpeakerMessage> for pb::StreamAssignmentsRequest {
    fn from(message: &SpeakerMessage) -> Self {
        let said = match message {
            SpeakerMessage::Hello(hello) => Said::Hello(hello.into()),
            SpeakerMessage::Heartbeat { seq, applied } => Said::Heartbeat(pb::Heartbeat { seq: *seq, applied_revision: applied.0 }),
            SpeakerMessage::Applied { revision, failures } => {
                let failures = failures.iter().map(|(vip, reason)| pb::ApplyFailure { vip: vip.to_string(), reason: reason.clone() });
                Said::Applied(pb::Applied { revision: revision.0, failures: failures.collect() })
            }
            SpeakerMessage::InterfacesChanged(interfaces) => {
                Said::InterfacesChanged(pb::InterfacesChanged { interfaces: interfaces_to_pb(interfaces) })
            }
            SpeakerMessage::Conflict { vip, mac, interface } => {
                Said::Conflict(pb::Conflict { vip: vip.to_string(), mac: mac.to_string(), interface: interface.to_string() })
            }
            SpeakerMessage::Draining => Said::Draining(pb::Draining {}),
            SpeakerMessage::AddressInUse { vip, mac, interface } => {
                Said::AddressInUse(pb::AddressInUse { vip: vip.to_string(), mac: mac.to_string(), interface: interface.to_string() })
            }
            SpeakerMessage::Proven(vips) => Said::Proven(pb::Proven { vips: vips.iter().map(ToString::to_string).collect() }),
            SpeakerMessage::Seen(sights) => Said::Seen(pb::Seen { sights: sights.iter().map(sight_to_pb).collect() }),
            SpeakerMessage::Suspected { vip, node } => Said::Suspected(pb::Suspected { vip: vip.to_string(), node: node.to_string() }),
        };
        Self { message: Some(said) }
    }
}

fn services(bad: &mut Violations, list: Vec<pb::AssignedService>) -> BTreeMap<ServiceKey, PoolName> {
    let pairs = each(bad, "services", list, |service| {
        let key = service.key.parse::<ServiceKey>().map_err(|error| error.to_string())?;
        let pool = PoolName::new(&service.pool).ok_or_else(|| format!("pool of {key} is empty"))?;
        Ok::<_, String>((key, pool))
    });
    pairs.into_iter().collect()
}

fn peers(bad: &mut Violations, list: Vec<pb::Peer>) -> BTreeMap<NodeName, BTreeSet<MacAddress>> {
    let pairs = each(bad, "peers", list, |peer| {
        let node = peer.node.parse::<NodeName>().map_err(|error| format!("node {error}"))?;
        let macs = peer.macs.iter().map(|mac| mac.parse().map_err(|error| format!("{error}"))).collect::<Result<_, String>>()?;
        Ok::<_, String>((node, macs))
    });
    pairs.into_iter().collect()
}

impl TryFrom<pb::Assignment> for Assignment {
    type Error = Violations;

    fn try_from(assignment: pb::Assignment) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let vip = bad.take("vip", assignment.vip.parse::<Vip>());
        let role = bad.take("role", role(assignment.role));
        let interfaces = each(&mut bad, "interfaces", &assignment.interfaces, |text| text.parse::<InterfaceName>());
        let services = services(&mut bad, assignment.services);
        let peers = Arc::new(peers(&mut bad, assignment.peers));
        let rank = assignment.rank;
        let active = match assignment.active_node.as_str() {
            "" => None,
            text => bad.take("active_node", text.parse::<NodeName>()),
        };
        let interfaces = interfaces.into_iter().collect();
        let probe_first = assignment.probe_first;
        let value = vip.zip(role).map(|(vip, role)| Self { vip, role, rank, interfaces, services, peers, active, probe_first });
        bad.finish(value)
    }
}

impl From<&Assignment> for pb::Assignment {
    fn from(assignment: &Assignment) -> Self {
        let services = assignment.services.iter().map(|(key, pool)| pb::AssignedService { key: key.to_string(), pool: pool.to_string() });
        let peers = assignment
            .peers
            .iter()
            .map(|(node, macs)| pb::Peer { node: node.to_string(), macs: macs.iter().map(ToString::to_string).collect() });
        Self {
            vip: assignment.vip.to_string(),
            role: role_to_pb(assignment.role),
            rank: assignment.rank,
            interfaces: assignment.interfaces.iter().map(ToString::to_string).collect(),
            services: services.collect(),
            peers: peers.collect(),
            probe_first: assignment.probe_first,
            active_node: assignment.active.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

fn assignments(bad: &mut Violations, field: &str, list: Vec<pb::Assignment>) -> Vec<Assignment> {
    let mut found = Vec::with_capacity(list.len());
    for (index, assignment) in list.into_iter().enumerate() {
        match Assignment::try_from(assignment) {
            Ok(assignment) => found.push(assignment),
            Err(inner) => bad.nest(&format!("{field}[{index}]"), inner),
        }
    }
    found
}

impl TryFrom<pb::StreamAssignmentsResponse> for AllocatorMessage {
    type Error = Violations;

    fn try_from(response: pb::StreamAssignmentsResponse) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let value = match response.message {
            Some(Told::Snapshot(snapshot)) => Some(Self::Snapshot {
                heartbeat: match snapshot.heartbeat_ms {
                    0 => HEARTBEAT,
                    given => Duration::from_millis(given.into()),
                },
                epoch: Epoch(snapshot.epoch),
                revision: Revision(snapshot.revision),
                assignments: assignments(&mut bad, "snapshot.assignments", snapshot.assignments),
            }),
            Some(Told::Delta(delta)) => {
                let upserts = assignments(&mut bad, "delta.upserts", delta.upserts);
                let removals = each(&mut bad, "delta.removals", &delta.removals, |text| text.parse::<Vip>());
                Some(Self::Delta { revision: Revision(delta.revision), upserts, removals })
            }
            Some(Told::HeartbeatAck(ack)) => Some(Self::HeartbeatAck { seq: ack.seq }),
            Some(Told::Goodbye(goodbye)) => {
                Some(Self::Goodbye { reason: goodbye.reason, retry_after: Duration::from_millis(goodbye.retry_after_ms) })
            }
            None => {
                bad.add("message", MISSING);
                None
            }
        };
        bad.finish(value)
    }
}

impl From<&AllocatorMessage> for pb::StreamAssignmentsResponse {
    fn from(message: &AllocatorMessage) -> Self {
        let told = match message {
            AllocatorMessage::Snapshot { heartbeat, epoch, revision, assignments } => {
                let heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
                let assignments = assignments.iter().map(Into::into).collect();
                Told::Snapshot(pb::Snapshot { epoch: epoch.0, revision: revision.0, assignments, heartbeat_ms })
            }
            AllocatorMessage::Delta { revision, upserts, removals } => Told::Delta(pb::Delta {
                revision: revision.0,
                upserts: upserts.iter().map(Into::into).collect(),
                removals: removals.iter().map(ToString::to_string).collect(),
            }),
            AllocatorMessage::HeartbeatAck { seq } => Told::HeartbeatAck(pb::HeartbeatAck { seq: *seq }),
            AllocatorMessage::Goodbye { reason, retry_after } => {
                let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
                Told::Goodbye(pb::Goodbye { reason: reason.clone(), retry_after_ms })
            }
        };
        Self { message: Some(told) }
    }
}
