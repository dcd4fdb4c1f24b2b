use std::collections::BTreeSet;

use mooring_proto::types::claim::{BackendKey, SharingKey};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::{Protocol, ServicePort, ServiceUid};
use mooring_proto::types::time::UnixMillis;

use super::*;
use crate::core::tests::{advertise_everything, pool};

fn records() -> Vec<Record> {
    let lease = Lease {
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
    };
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    vec![
        Record::Lease(Box::new(lease)),
        Record::Config(Configuration::new(vec![pool("prod", &["192.0.2.0/24"])], vec![advertise_everything()]).unwrap()),
        Record::Place("192.0.2.1".parse().unwrap(), speaker),
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

#[test]
fn the_bytes_of_version_1_stay_readable() {
    let golden: &[(&str, &[u8])] = &[
        ("meta/epoch", b"\x01\x9b\x8e\xd2m3"),
        ("place/192.0.2.1", b"\x01\xd4sv\x1anode-a/default"),
        (
            "lease/default/web",
            b"\x01\x0a\xaf2\xb2\x0a\x0e\x0a\x07default\x12\x03web\x12\x01u\x1a\x09192.0.2.1\x22\x04prod*\x04\x08\x01\x10P2\x01k@\x07H\x09",
        ),
    ];
    for (key, bytes) in golden {
        let record = Record::decode(key.as_bytes(), bytes).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(record.encode(), *bytes, "{key}");
    }
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
        ("meta/epoch", newer, r#"record "meta/epoch": it has version 9, and this build reads up to 1: use the newer build"#),
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
