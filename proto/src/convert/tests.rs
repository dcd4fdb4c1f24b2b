use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message as _;

use crate::pb;
use crate::types::assignment::{AllocatorMessage, Assignment, Hello, Role, Sight, SpeakerMessage};
use crate::types::claim::{BackendKey, Claim, Families, FamilyPolicy, SharingKey};
use crate::types::history::{EndCause, HistoryEntry, Holding, PastFact, ReleaseCause};
use crate::types::lease::{Epoch, Revision};
use crate::types::node::{Instance, Interface, InterfaceName, NodeName, SpeakerId};
use crate::types::pool::PoolName;
use crate::types::reservation::{Reservation, ReservationKey, ReservationOrigin};
use crate::types::service::{Protocol, ServicePort, ServiceUid};
use crate::types::time::UnixMillis;

fn claim() -> Claim {
    Claim {
        service: "kube-system/dns".parse().unwrap(),
        uid: ServiceUid("u1".to_owned()),
        labels: BTreeMap::from([("app".to_owned(), "dns".to_owned())]),
        namespace_labels: BTreeMap::new(),
        ports: BTreeSet::from([ServicePort { protocol: Protocol::Udp, port: 53 }]),
        families: Families::Dual { primary: crate::types::address::Family::V6 },
        policy: FamilyPolicy::PreferDualStack,
        requested_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
        requested_pool: PoolName::new("prod"),
        sharing_key: SharingKey::new("dns"),
        backend_key: BackendKey("local:app=dns".to_owned()),
        adopt: vec!["192.0.2.2".parse().unwrap()],
        created: Some(UnixMillis(7)),
        retain: Some(Duration::from_secs(86_400)),
        quota: Some(10),
    }
}

#[test]
fn a_claim_crosses_the_wire() {
    assert_eq!(Claim::try_from(pb::Claim::from(&claim())), Ok(claim()));
}

#[test]
fn every_wrong_field_of_a_claim_is_named() {
    let mut wrong = pb::Claim::from(&claim());
    wrong.name.clear();
    wrong.ports = vec![pb::ServicePort { protocol: 9, port: 53 }, pb::ServicePort { protocol: 1, port: 70_000 }];
    wrong.ip_families = vec![1, 1];
    wrong.requested_addresses = vec!["192.0.2.300".to_owned()];
    assert_eq!(
        Claim::try_from(wrong).unwrap_err().to_string(),
        "name: \"kube-system/\" is not NAMESPACE/NAME of lower case letters, digits, - and .; ports[0]: protocol 9 is unknown; ports[1]: port 70000 is not 1 to 65535; \
         ip_families: want one family or two different ones, got 2; requested_addresses[0]: invalid IP address \"192.0.2.300\""
    );
}

fn reservations() -> [Reservation; 2] {
    let for_web = Reservation {
        key: "192.0.2.1/default/web".parse().unwrap(),
        until: Some(UnixMillis(9)),
        note: "moving house".to_owned(),
        since: UnixMillis(7),
        origin: ReservationOrigin::Operator,
    };
    let key = "2001:db8::1".parse().unwrap();
    [for_web.clone(), Reservation { key, until: None, note: String::new(), origin: ReservationOrigin::Retention, ..for_web }]
}

#[test]
fn reservations_and_facts_of_the_past_cross_the_wire() {
    let holding = Holding {
        service: "default/web".parse().unwrap(),
        uid: ServiceUid("u1".to_owned()),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pool: PoolName::new("prod").unwrap(),
    };
    let released = |cause| PastFact::Released { holding: holding.clone(), since: UnixMillis(3), cause };
    let mut facts = vec![PastFact::Granted(holding.clone())];
    facts.extend([ReleaseCause::ServiceGone, ReleaseCause::Moved, ReleaseCause::PoolGone].map(released));
    for reservation in reservations() {
        assert_eq!(Reservation::try_from(pb::Reservation::from(&reservation)), Ok(reservation.clone()));
        facts.push(PastFact::Reserved(reservation.clone()));
        let ended = |cause| PastFact::ReservationEnded { reservation: reservation.clone(), cause };
        facts.extend([EndCause::Expired, EndCause::Operator, EndCause::Replaced, EndCause::ServiceBack].map(ended));
    }
    for fact in facts {
        let entry = HistoryEntry { sequence: 5, at: UnixMillis(8), fact };
        assert_eq!(HistoryEntry::try_from(pb::HistoryEntry::from(&entry)), Ok(entry));
    }
}

#[test]
fn a_wrong_fact_of_the_past_names_the_field() {
    let granted = pb::HistoryEntry { kind: pb::HistoryKind::Granted.into(), ..pb::HistoryEntry::default() };
    let reserved = pb::HistoryEntry { kind: pb::HistoryKind::Reserved.into(), ..pb::HistoryEntry::default() };
    let one = pb::HistoryEntry { addresses: vec!["x".to_owned()], ..reserved.clone() };
    let cases = [
        (pb::HistoryEntry::default(), "kind: 0 is unknown"),
        (granted, "holding.service: is missing; addresses: is empty; pool: is empty"),
        (reserved, "addresses: want one address, got 0"),
        (one, "reservation.address: invalid IP address \"x\"; origin: origin 0 is unknown"),
    ];
    for (entry, wanted) in cases {
        assert_eq!(HistoryEntry::try_from(entry).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn a_refusal_says_for_whom_until_when_and_why() {
    let texts = reservations().map(|reservation| reservation.to_string());
    assert_eq!(texts, ["reserved for default/web until 1970-01-01T00:00:00.009Z (moving house)", "reserved"]);
    for key in ["192.0.2.1", "192.0.2.1/default/web"] {
        assert_eq!(key.parse::<ReservationKey>().unwrap().to_string(), key);
    }
    let wrong = "192.0.2.1/web".parse::<ReservationKey>().unwrap_err();
    assert_eq!(wrong.to_string(), "\"192.0.2.1/web\" is neither ADDRESS nor ADDRESS/NAMESPACE/NAME");
}

fn interface() -> Interface {
    Interface {
        name: InterfaceName::new("eth0").unwrap(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        addresses: vec!["192.0.2.7/24".parse().unwrap()],
    }
}

#[test]
fn all_that_a_speaker_says_crosses_the_wire() {
    let vip = "192.0.2.1".parse().unwrap();
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    let said = [
        SpeakerMessage::Hello(Hello {
            speaker,
            boot_id: "b".to_owned(),
            interfaces: vec![interface()],
            held: BTreeMap::from([(vip, Role::Active), ("192.0.2.2".parse().unwrap(), Role::Active)]),
            taken: BTreeSet::from([vip]),
            asks_first: true,
        }),
        SpeakerMessage::Heartbeat { seq: 1, applied: Revision(2) },
        SpeakerMessage::Applied { revision: Revision(3), failures: BTreeMap::from([(vip, "no interface".to_owned())]) },
        SpeakerMessage::InterfacesChanged(vec![interface()]),
        SpeakerMessage::Conflict { vip, mac: interface().mac, interface: interface().name },
        SpeakerMessage::Draining,
        SpeakerMessage::AddressInUse { vip, mac: interface().mac, interface: interface().name },
        SpeakerMessage::Proven(BTreeSet::from([vip])),
        SpeakerMessage::Seen(vec![Sight { vip, answers: BTreeMap::from([(interface().mac, interface().name)]) }]),
        SpeakerMessage::Suspected { vip, node: NodeName::new("node-b").unwrap() },
    ];
    for message in said {
        assert_eq!(SpeakerMessage::try_from(pb::StreamAssignmentsRequest::from(&message)), Ok(message));
    }
}

#[test]
fn all_that_the_allocator_says_crosses_the_wire() {
    let vip = "192.0.2.1".parse().unwrap();
    let assignment = Assignment {
        vip,
        role: Role::Standby,
        rank: 1,
        interfaces: BTreeSet::from([interface().name]),
        services: BTreeMap::from([("default/web".parse().unwrap(), PoolName::new("prod").unwrap())]),
        peers: BTreeMap::from([(NodeName::new("node-b").unwrap(), BTreeSet::from([interface().mac]))]).into(),
        active: NodeName::new("node-b"),
        probe_first: true,
    };
    let told = [
        AllocatorMessage::Snapshot {
            heartbeat: Duration::from_millis(50),
            epoch: Epoch(1),
            revision: Revision(2),
            assignments: vec![assignment.clone()],
        },
        AllocatorMessage::Delta { revision: Revision(3), upserts: vec![assignment], removals: vec![vip] },
        AllocatorMessage::HeartbeatAck { seq: 4 },
        AllocatorMessage::Goodbye { reason: "restart".to_owned(), retry_after: Duration::from_millis(50) },
    ];
    for message in told {
        assert_eq!(AllocatorMessage::try_from(pb::StreamAssignmentsResponse::from(&message)), Ok(message));
    }
}

#[test]
fn wrong_words_on_the_stream_name_the_field() {
    let hello = pb::Hello { held: vec![pb::HeldVip { vip: "x".to_owned(), role: 1, taken_over: false }], ..pb::Hello::default() };
    let request = pb::StreamAssignmentsRequest { message: Some(pb::stream_assignments_request::Message::Hello(hello)) };
    assert_eq!(SpeakerMessage::try_from(request).unwrap_err().to_string(), "hello.node: is empty; hello.held[0]: invalid IP address \"x\"");
    let want = "want at most 253 lower case letters, digits, - and ., the first and the last a letter or digit";
    let hello = pb::Hello { node: "/x".to_owned(), instance: "a b".to_owned(), ..pb::Hello::default() };
    let request = pb::StreamAssignmentsRequest { message: Some(pb::stream_assignments_request::Message::Hello(hello)) };
    let wanted = format!("hello.node: \"/x\" is no such name, {want}; hello.instance: \"a b\" is no such name, {want}");
    assert_eq!(SpeakerMessage::try_from(request).unwrap_err().to_string(), wanted);
    let empty = SpeakerMessage::try_from(pb::StreamAssignmentsRequest::default());
    assert_eq!(empty.unwrap_err().to_string(), "message: is missing");
}

#[test]
fn a_truncated_message_never_panics_and_never_parses_as_the_whole() {
    let bytes = pb::Claim::from(&claim()).encode_to_vec();
    for end in 0..bytes.len() {
        if let Ok(Ok(parsed)) = pb::Claim::decode(&bytes[..end]).map(Claim::try_from) {
            assert_ne!(parsed, claim(), "{end} of {}", bytes.len());
        }
    }
}
