use mooring_proto::pb;
use mooring_proto::types::claim::Claim;
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::core::State;
use crate::core::apply;
use crate::core::tests::{Rig, SETTINGS, claim, pool};
use crate::store::codec::tests::VERSION_1;

fn state_of(records: Vec<Record>) -> State {
    let mut state = State::new(SETTINGS);
    let (events, _) = replay(records, Mono::ZERO, Now { mono: Mono::ZERO, wall: UnixMillis(0) });
    events.iter().for_each(|event| apply(&mut state, event));
    state
}

/// What a crash would leave of a data directory, whether its store is open or not: sled lets go of its lock only a moment after it was
/// closed, so nothing is opened twice.
pub(crate) fn copy(of: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let copied = std::process::Command::new("cp").arg("-a").arg(of.join(".")).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    copy
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn what_was_appended_is_what_the_next_process_finds(steps in prop::collection::vec((0..6u8, any::<bool>(), any::<bool>()), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
        let (mut store, _) = LeaseStore::open(folder.path()).unwrap();
        store.append(&rig.events).unwrap();
        for (name, claims, other) in steps {
            let from = rig.events.len();
            let retain = other.then(|| std::time::Duration::from_secs(60));
            if claims {
                rig.claim(Claim { retain, ..claim(&format!("s{name}")) }).ok();
            } else if other {
                rig.reserve(&format!("10.0.0.{}", name % 4), None).ok();
                rig.unreserve(&format!("10.0.0.{}", name % 3));
            } else {
                rig.release(&format!("default/s{name}"));
            }
            store.append(&rig.events[from..]).unwrap();
        }
        let crashed = copy(folder.path());
        let (_, records) = LeaseStore::open(crashed.path()).unwrap();
        let found = state_of(records);
        prop_assert_eq!(found.book().leases(), rig.state.book().leases());
        prop_assert_eq!(found.book().configuration(), rig.state.book().configuration());
        let holders: BTreeMap<_, _> = found.book().holders().clone();
        prop_assert_eq!(&holders, rig.state.book().holders());
        prop_assert_eq!(found.book().reservations().all(), rig.state.book().reservations().all());
    }
}

/// A folder with these records, written as they are.
fn folder_of(records: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = LeaseStore::open_unchecked(folder.path()).unwrap();
    for (key, bytes) in records {
        store.tree.insert(key, *bytes).unwrap();
    }
    store.tree.flush().unwrap();
    copy(folder.path())
}

#[test]
fn a_store_of_schema_1_becomes_one_of_this_schema_and_loses_nothing() {
    let folder = folder_of(VERSION_1);
    let (store, records) = LeaseStore::open(folder.path()).unwrap();
    assert!(records.contains(&Record::Schema(1)), "{records:?}");
    let state = state_of(records);
    assert_eq!(state.book().leases().values().map(|lease| lease.addresses.len()).collect::<Vec<_>>(), [1]);
    assert_eq!((state.book().configuration().pools().len(), state.term()), (1, Term(4)));
    drop(store);
    let (_, again) = LeaseStore::open(copy(folder.path()).path()).unwrap();
    assert_eq!((again.len(), again.contains(&Record::Schema(SCHEMA))), (VERSION_1.len(), true));
    assert_eq!(state_of(again).book().leases(), state.book().leases());
}

#[test]
fn a_store_of_a_newer_build_is_refused() {
    let newer = Record::Schema(SCHEMA + 1).encode();
    let epoch = [&[SCHEMA + 1], &Record::Epoch(Epoch(1)).encode()[1..]].concat();
    for (key, bytes) in [("meta/schema", &newer), ("meta/epoch", &epoch)] {
        let folder = folder_of(&[(key, bytes)]);
        let error = LeaseStore::open(folder.path()).unwrap_err();
        let told = mooring_kit::telemetry::chain(&error);
        let path = folder.path().display();
        assert_eq!(
            told,
            format!(
                "the records in {path} are of a newer build: record {key:?}: it has version 3, and this build reads up to 2: use the newer build"
            )
        );
    }
}

#[test]
fn of_several_changes_to_a_record_the_last_one_counts() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    rig.claim(claim("stays")).unwrap();
    rig.claim(claim("goes")).unwrap();
    rig.release("default/goes");
    rig.claim(claim("returns")).unwrap();
    rig.release("default/returns");
    rig.claim(claim("returns")).unwrap();
    let changed = changes(&rig.events);
    let leases: Vec<(&str, Option<&Record>)> =
        changed.iter().filter_map(|(key, record)| Some((key.strip_prefix("lease/")?, record.as_ref()))).collect();
    let held = |name: &str| Record::Lease(Box::new(rig.state.book().lease(&claim(name).service).unwrap().clone()));
    let wanted = [("default/goes", None), ("default/returns", Some(&held("returns"))), ("default/stays", Some(&held("stays")))];
    assert_eq!(leases, wanted);
}

#[test]
fn what_an_older_build_took_for_a_name_is_left_out_if_others_tell_it_anew_and_refused_if_not() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = LeaseStore::open(folder.path()).unwrap();
    let put = |key: &str, payload: &[u8]| {
        let bytes = [&[SCHEMA][..], &crc32fast::hash(payload).to_le_bytes(), payload].concat();
        store.tree.insert(key, bytes).unwrap();
        store.tree.flush().unwrap();
    };
    put("place/192.0.2.1", b"/x/default");
    put("place/192.0.2.2", b"node-a/default");
    let advertisement =
        pb::L2Advertisement { name: "a".to_owned(), interfaces: vec!["eth 0".to_owned()], ..pb::L2Advertisement::default() };
    let configuration = pb::ReplacePoolsRequest { advertisements: vec![advertisement], ..pb::ReplacePoolsRequest::default() };
    put("config", &configuration.encode_to_vec());
    let (_, records) = LeaseStore::open(copy(folder.path()).path()).unwrap();
    assert_eq!(records.iter().map(Record::key).collect::<Vec<_>>(), ["meta/schema", "place/192.0.2.2"]);
    put("lease/default/web", &pb::Lease::default().encode_to_vec());
    let error = LeaseStore::open(copy(folder.path()).path()).unwrap_err();
    assert!(mooring_kit::telemetry::chain(&error).contains("record \"lease/default/web\": lease.service"), "{error:?}");
    // Bytes that are not those that were written are another matter.
    store.tree.remove("lease/default/web").unwrap();
    store.tree.insert("place/192.0.2.2", b"\x01broken").unwrap();
    store.tree.flush().unwrap();
    LeaseStore::open(copy(folder.path()).path()).unwrap_err();
}

#[test]
fn a_second_process_and_a_damaged_record_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = LeaseStore::open(folder.path()).unwrap();
    let error = LeaseStore::open(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("data directory {} is in use by another allocator", folder.path().display()));
    store.tree.insert("meta/term", b"\x01broken").unwrap();
    store.tree.flush().unwrap();
    let error = LeaseStore::open(copy(folder.path()).path()).unwrap_err();
    assert!(mooring_kit::telemetry::chain(&error).contains("record \"meta/term\": its checksum is"), "{error:?}");
    let copy = copy(folder.path());
    let store = LeaseStore::open_unchecked(copy.path()).unwrap();
    assert_eq!(store.scan().unwrap().iter().filter(|record| record.is_ok()).count(), 1, "the schema is whole");
}
