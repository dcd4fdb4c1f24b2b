use std::collections::BTreeSet;

use mooring_proto::types::claim::{BackendKey, SharingKey};
use mooring_proto::types::history::{EndCause, Holding, PastFact, ReleaseCause};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::reservation::ReservationOrigin;
use mooring_proto::types::service::{Protocol, ServicePort, ServiceUid};

use super::*;
use crate::core::tests::{advertise_everything, pool};

fn lease() -> Lease {
    Lease {
        service: "default/web".parse().unwrap(),
        uid: ServiceUid("u".to_owned()),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pool: PoolName::new("prod").unwrap(),
        ports: BTreeSet::from([ServicePort { protocol: Protocol::Tcp, port: 80 }]),
        sharing_key: SharingKey::new("k"),
        backend_key: BackendKey::default(),
        revision: Revision(7),
        granted: UnixMillis(9),
        retain: None,
    }
}

fn records() -> Vec<Record> {
    let lease = Lease { retain: Some(std::time::Duration::from_secs(86_400)), ..lease() };
    let reservation = Reservation {
        key: "192.0.2.1/default/web".parse().unwrap(),
        until: Some(UnixMillis(9)),
        note: "note".to_owned(),
        since: UnixMillis(7),
        origin: ReservationOrigin::Operator,
    };
    let Lease { service, uid, addresses, pool: from, .. } = lease.clone();
    let holding = Holding { service, uid, addresses, pool: from };
    let entry = |sequence: u64, fact: PastFact| Record::History(Box::new(HistoryEntry { sequence, at: UnixMillis(8), fact }));
    let released = PastFact::Released { holding, since: UnixMillis(3), cause: ReleaseCause::Moved };
    let ended = PastFact::ReservationEnded { reservation: reservation.clone(), cause: EndCause::Expired };
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    vec![
        Record::Lease(Box::new(lease)),
        Record::Config(Configuration::new(vec![pool("prod", &["192.0.2.0/24"])], vec![advertise_everything()]).unwrap()),
        Record::Place("192.0.2.1".parse().unwrap(), speaker),
        Record::Reservation(reservation),
        entry(5, released),
        entry(6, ended),
        Record::HistorySince(UnixMillis(7)),
        Record::Schema(SCHEMA),
        Record::Epoch(Epoch(3)),
        Record::Term(Term(4)),
    ]
}

#[test]
fn every_record_comes_back_and_every_cut_and_flip_is_noticed() {
    for record in records() {
        let (key, bytes) = (record.key(), record.encode());
        assert_eq!(Record::decode(key.as_bytes(), &bytes).unwrap(), record);
        for end in 0..bytes.len() {
            Record::decode(key.as_bytes(), &bytes[..end]).expect_err("cut off");
        }
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            Record::decode(key.as_bytes(), &flipped).expect_err("flipped");
        }
    }
}

/// What schema 1 wrote.
pub(crate) const VERSION_1: &[(&str, &[u8])] = &[
    ("meta/schema", b"\x01\xb7\xef\xdc\x831"),
    ("meta/epoch", b"\x01\x9b\x8e\xd2m3"),
    ("meta/term", b"\x018\x1b\xb6\xf34"),
    ("place/192.0.2.1", b"\x01\xd4sv\x1anode-a/default"),
    ("config", b"\x01aum\x84\x1a\x16\x0a\x04prod\x12\x0c192.0.2.0/24\x18\x01\x22\x05\x0a\x03all"),
    (
        "lease/default/web",
        b"\x01\x0a\xaf2\xb2\x0a\x0e\x0a\x07default\x12\x03web\x12\x01u\x1a\x09192.0.2.1\x22\x04prod*\x04\x08\x01\x10P2\x01k@\x07H\x09",
    ),
];

/// What schema 2 writes besides.
const VERSION_2: &[(&str, &[u8])] = &[
    (
        "lease/default/web",
        b"\x02Ld\xb0\x94\x0a\x0e\x0a\x07default\x12\x03web\x12\x01u\x1a\x09192.0.2.1\x22\x04prod*\x04\x08\x01\x10P2\x01k@\x07H\x09P\x80\xb8\x99)",
    ),
    (
        "reservation/192.0.2.1/default/web",
        b"\x02\xd30\xf2+\x0a\x09192.0.2.1\x12\x0e\x0a\x07default\x12\x03web\x18\x09\x22\x04note(\x070\x01",
    ),
    (
        "history/0000000000000005",
        b"\x02\x0c\x1d\x144\x08\x05\x10\x08\x18\x02 \x02*\x0e\x0a\x07default\x12\x03web2\x01u:\x09192.0.2.1B\x04prodH\x03",
    ),
    (
        "history/0000000000000006",
        b"\x02\x9e\x11\x82\xf2\x08\x06\x10\x08\x18\x04 \x04*\x0e\x0a\x07default\x12\x03web:\x09192.0.2.1H\x07P\x09Z\x04note`\x01",
    ),
    ("meta/history-since", b"\x02\x82J\xbfj7"),
];

#[test]
fn the_bytes_of_every_version_stay_readable() {
    for (key, bytes) in VERSION_1.iter().chain(VERSION_2) {
        let record = Record::decode(key.as_bytes(), bytes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((record.key().as_str(), &record.encode()[1..]), (*key, &bytes[1..]), "only the version may differ");
    }
    let found: Vec<Record> = VERSION_2.iter().map(|(key, bytes)| Record::decode(key.as_bytes(), bytes).unwrap()).collect();
    assert!(found.iter().all(|record| records().contains(record)), "{found:?}");
    assert!(VERSION_2.iter().all(|(key, bytes)| records().iter().any(|record| record.key() == *key && record.encode() == *bytes)));
}

#[test]
fn what_cannot_be_read_says_why() {
    let newer = {
        let mut bytes = Record::Epoch(Epoch(3)).encode();
        bytes[0] = 9;
        bytes
    };
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("meta/epoch", vec![1, 2], r#"record "meta/epoch": it is cut off after 2 bytes"#),
        ("meta/epoch", newer, r#"record "meta/epoch": it has version 9, and this build reads up to 2: use the newer build"#),
        (
            "meta/schema",
            Record::Schema(3).encode(),
            r#"record "meta/schema": it has version 3, and this build reads up to 2: use the newer build"#,
        ),
        (
            "reservation/192.0.2.1",
            vec![2, 0, 0, 0, 0],
            r#"record "reservation/192.0.2.1": reservation.address: invalid IP address ""; origin: origin 0 is unknown"#,
        ),
        ("else", Record::Epoch(Epoch(3)).encode(), r#"record "else": its key is unknown"#),
        (
            "meta/term",
            Record::Place("192.0.2.1".parse().unwrap(), SpeakerId { node: NodeName::new("n").unwrap(), instance: Instance::default() })
                .encode(),
            r#"record "meta/term": "n/default" is no value of its kind"#,
        ),
    ];
    for (key, bytes, wanted) in cases {
        assert_eq!(Record::decode(key.as_bytes(), bytes).unwrap_err().to_string(), *wanted);
    }
}
