use std::path::Path;

use mooring_proto::types::history::Holding;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceUid;

use super::super::sled_tree::LeaseStore;
use super::super::sled_tree::tests::copy;
use super::*;
use crate::core::Event;
use mooring_proto::types::lease::Epoch;

fn granted(service: &str, address: &str) -> PastFact {
    let (uid, pool) = (ServiceUid::default(), PoolName::new("p").unwrap());
    PastFact::Granted(Holding { service: service.parse().unwrap(), uid, addresses: vec![address.parse().unwrap()], pool })
}

/// A store that keeps so much; the folder stays as long as the store.
struct Rig {
    folder: tempfile::TempDir,
    store: LeaseStore,
}

impl Rig {
    fn new(age: u64, size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), age, size);
        Self { folder, store }
    }

    /// Ends the process and starts another one on the same disk.
    fn restart(self, age: u64, size: u64) -> Self {
        let folder = copy(self.folder.path());
        let store = open(folder.path(), age, size);
        Self { folder, store }
    }

    fn append(&mut self, at: u64, facts: Vec<PastFact>) {
        self.store.note(facts, UnixMillis(at));
        self.store.append(&[Event::EpochBegan(Epoch(at))]).unwrap();
    }

    /// The numbers of the entries that there are, and from when on all of them are.
    fn kept(&self) -> (Vec<u64>, u64) {
        let reader = self.store.history();
        let (page, more) = reader.page(&HistoryQuery { size: 1_000_000, ..HistoryQuery::default() }, reader.end()).unwrap();
        assert!(!more);
        (page.iter().map(|entry| entry.sequence).collect(), reader.since().unwrap().0)
    }
}

fn open(folder: &Path, age: u64, size: u64) -> LeaseStore {
    let (mut store, _) = LeaseStore::open(folder).unwrap();
    store.keep_history(HistoryLimits { age: Duration::from_millis(age), size });
    store
}

#[test]
fn entries_are_kept_up_to_a_number_and_counted_on_after_a_restart() {
    let mut rig = Rig::new(0, 3);
    rig.append(10, vec![]);
    assert_eq!(rig.kept(), (vec![], 10), "whole from its beginning on");
    rig.append(20, vec![granted("a/a", "10.0.0.1"), granted("a/b", "10.0.0.2")]);
    assert_eq!(rig.kept(), (vec![0, 1], 10));
    rig.append(30, vec![granted("a/c", "10.0.0.3"), granted("a/d", "10.0.0.4")]);
    assert_eq!(rig.kept(), (vec![1, 2, 3], 20));
    let mut rig = rig.restart(0, 3);
    assert_eq!(rig.kept(), (vec![1, 2, 3], 20));
    rig.append(40, (1..6).map(|last| granted("a/e", &format!("10.0.1.{last}"))).collect());
    assert_eq!(rig.kept(), (vec![6, 7, 8], 40), "some of them not even written");
    let mut rig = rig.restart(0, 0);
    rig.append(50, vec![granted("a/f", "10.0.2.1")]);
    assert_eq!(rig.kept(), (vec![], 50), "none is kept");
    rig.append(60, vec![granted("a/f", "10.0.2.2")]);
    assert_eq!(rig.kept(), (vec![], 60));
}

#[test]
fn entries_are_kept_for_a_time_and_a_batch_prunes_only_so_many() {
    let mut rig = Rig::new(100, u64::MAX);
    for at in 1..=500 {
        rig.store.note(vec![granted("a/a", "10.0.0.1")], UnixMillis(at));
    }
    rig.append(500, vec![]);
    assert_eq!(rig.kept().0.len(), 101, "those of the batch too");
    rig.append(550, vec![]);
    assert_eq!(rig.kept(), ((449..500).collect(), 449));
    rig.append(10_000, vec![]);
    assert_eq!(rig.kept(), (vec![], 500));
    let mut rig = Rig::new(0, u64::MAX);
    rig.append(1, (0..500).map(|_| granted("a/a", "10.0.0.1")).collect());
    let mut rig = rig.restart(0, 10);
    let mut left = Vec::new();
    for at in 2..11 {
        rig.append(at, vec![]);
        left.push(rig.kept().0.len());
    }
    assert_eq!(left, [436, 372, 308, 244, 180, 116, 52, 10, 10]);
}

#[test]
fn what_is_asked_is_found_in_pages() {
    let mut rig = Rig::new(0, u64::MAX);
    for (at, (service, address)) in (1..).zip([("a/x", "10.0.0.1"), ("a/y", "10.0.0.2"), ("b/x", "10.0.0.1"), ("b/y", "fc00::1")]) {
        rig.append(at, vec![granted(service, address)]);
    }
    let any = || HistoryQuery { size: 10, ..HistoryQuery::default() };
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        ("all", any(), vec![0, 1, 2, 3], false),
        ("an address", HistoryQuery { address: "10.0.0.1".parse().ok(), ..any() }, vec![0, 2], false),
        ("a namespace", HistoryQuery { namespace: text("b"), ..any() }, vec![2, 3], false),
        ("a name", HistoryQuery { name: text("y"), ..any() }, vec![1, 3], false),
        ("a Service", HistoryQuery { namespace: text("a"), name: text("y"), ..any() }, vec![1], false),
        ("from and to", HistoryQuery { from: Some(UnixMillis(2)), to: Some(UnixMillis(3)), ..any() }, vec![1, 2], false),
        ("a page", HistoryQuery { size: 2, ..any() }, vec![0, 1], true),
        ("the next", HistoryQuery { size: 2, after: Some(1), ..any() }, vec![2, 3], false),
        ("a page of an address", HistoryQuery { address: "10.0.0.1".parse().ok(), size: 1, ..any() }, vec![0], true),
        ("beyond the end", HistoryQuery { after: Some(u64::MAX), ..any() }, vec![], false),
    ];
    let reader = rig.store.history();
    for (name, query, wanted, wanted_more) in cases {
        let (page, more) = reader.page(&query, reader.end()).unwrap();
        assert_eq!((page.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), more), (wanted, wanted_more), "{name}");
    }
    assert_eq!(reader.page(&any(), 2).unwrap().0.len(), 2, "what is not durable yet is not seen");
    let mut seen = Vec::new();
    reader.back_to(UnixMillis(2), reader.end(), |fact| seen.push(fact.service().unwrap().to_string())).unwrap();
    assert_eq!(seen, ["b/y", "b/x"]);
}

#[test]
fn facts_that_wait_for_a_batch_are_not_seen() {
    let mut rig = Rig::new(0, u64::MAX);
    rig.store.note(vec![granted("a/a", "10.0.0.1")], UnixMillis(1));
    assert_eq!((rig.store.history().end(), rig.kept().0), (0, vec![]));
    rig.store.append(&[]).unwrap();
    assert_eq!((rig.store.history().end(), rig.kept().0), (1, vec![0]));
}
