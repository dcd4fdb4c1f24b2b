//! Drives the core as the engine does: every wish, then all the work it made due, with the invariants checked after every fact.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::pool::{PoolSpec, ServiceAllocation};
use mooring_proto::types::reservation::UnknownReservation;
use mooring_proto::types::service::{Protocol, ServicePort, ServiceUid};

use super::*;
use crate::store::Record;
use crate::store::sled_tree::tests::replay;

/// A core with a clock that the test moves.
pub(crate) struct Rig {
    pub(crate) state: State,
    pub(crate) now: Now,
    /// All facts so far, for replay.
    pub(crate) events: Vec<Event>,
    /// The invariants are checked after every fact.
    pub(crate) is_audited: bool,
}

pub(crate) const SETTINGS: Settings = Settings::DEFAULT;

impl Rig {
    pub(crate) fn new() -> Self {
        let now = Now { mono: Mono::ZERO, wall: UnixMillis(1_000) };
        let mut rig = Self { state: State::new(SETTINGS), now, events: Vec::new(), is_audited: true };
        rig.take(Event::EpochBegan(Epoch(1)));
        rig
    }

    /// A rig whose state only shows what would be.
    pub(crate) fn shadow() -> Self {
        let mut rig = Self { state: State::shadow(SETTINGS), ..Self::new() };
        rig.events.clear();
        rig.take(Event::EpochBegan(Epoch(1)));
        rig
    }

    /// A rig that serves these pools to everybody.
    pub(crate) fn with_pools(pools: Vec<PoolSpec>) -> Self {
        let mut rig = Self::new();
        rig.pools(pools);
        rig
    }

    /// A rig for thousands of Services: the invariants are checked where the test says so.
    pub(crate) fn large(pools: Vec<PoolSpec>) -> Self {
        let mut rig = Self { is_audited: false, ..Self::new() };
        rig.pools(pools);
        rig
    }

    pub(crate) fn take(&mut self, event: Event) {
        apply(&mut self.state, &event);
        if self.is_audited {
            audit(&self.state).unwrap_or_else(|violation| panic!("after {event:?}: {violation}"));
        }
        self.events.push(event);
    }

    /// One wish and all that follows from it.
    pub(crate) fn command(&mut self, command: Command) -> Result<Vec<Event>, Refusal> {
        let from = self.events.len();
        for event in decide(&self.state, command, self.now)? {
            self.take(event);
        }
        self.settle();
        Ok(self.events[from..].to_vec())
    }

    /// All the work that is due now.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if next_deadline(&self.state).is_none_or(|deadline| deadline > self.now.mono) {
                if let Some(revision) = self.state.feed().next() {
                    self.take(Event::RevisionReached(revision));
                }
                return;
            }
            for event in decide(&self.state, Command::Tick, self.now).unwrap() {
                self.take(event);
            }
        }
        panic!("work is due for ever: {:?}", next_deadline(&self.state));
    }

    /// Time passes, and what is due by then happens when it is due.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now.mono + duration;
        while let Some(deadline) = next_deadline(&self.state).filter(|deadline| *deadline <= end) {
            self.pass(deadline);
            self.settle();
        }
        self.pass(end);
    }

    /// Both clocks go on to a moment, unless it is past.
    fn pass(&mut self, to: Mono) {
        let passed = to.saturating_since(self.now.mono);
        self.now = Now { mono: self.now.mono + passed, wall: self.now.wall + passed };
    }

    pub(crate) fn pools(&mut self, pools: Vec<PoolSpec>) -> Vec<Event> {
        let configuration = Configuration::new(pools, vec![advertise_everything()]).unwrap();
        self.command(Command::ReplacePools { leadership: Leadership::Present, configuration }).unwrap()
    }

    /// What a claim leads to: the addresses with their pool, or the refusal's text.
    pub(crate) fn claim(&mut self, claim: Claim) -> Result<String, String> {
        let service = claim.service.clone();
        let done = self.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(claim) });
        done.map_err(|refusal| refusal.to_string())?;
        self.outcome(&service)
    }

    pub(crate) fn outcome(&self, service: &ServiceKey) -> Result<String, String> {
        match self.state.book().refusal(service) {
            Some(refusal) => Err(refusal.to_string()),
            None => Ok(self.held(&service.to_string())),
        }
    }

    /// `address,address@pool`, or nothing.
    pub(crate) fn held(&self, service: &str) -> String {
        let Some(lease) = self.state.book().lease(&service.parse().unwrap()) else { return String::new() };
        let addresses = lease.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        format!("{}@{}", addresses.join(","), lease.pool)
    }

    pub(crate) fn release(&mut self, service: &str) -> Vec<Event> {
        self.command(Command::Release { leadership: Leadership::Present, service: service.parse().unwrap() }).unwrap()
    }

    /// A person reserves an address, for a Service or for nobody, for so many seconds or for ever.
    pub(crate) fn reserve(&mut self, key: &str, seconds: Option<u64>) -> Result<Vec<Event>, String> {
        let key = key.parse().map_err(|unknown: UnknownReservation| unknown.to_string())?;
        let (duration, note) = (seconds.map(Duration::from_secs), String::new());
        self.command(Command::ReserveAddress { key, duration, note }).map_err(|refusal| refusal.to_string())
    }

    pub(crate) fn unreserve(&mut self, address: &str) -> Vec<Event> {
        self.command(Command::ReleaseReservation(address.parse().unwrap())).unwrap()
    }

    /// All reservations, as text.
    pub(crate) fn reserved(&self) -> Vec<String> {
        self.state.book().reservations().all().keys().map(ToString::to_string).collect()
    }

    /// What another process would know: the state made anew from the records that there are now.
    pub(crate) fn restart(&mut self) {
        let book = self.state.book();
        let mut records: Vec<Record> = book.leases().values().cloned().map(Box::new).map(Record::Lease).collect();
        records.push(Record::Config(book.configuration().clone()));
        records.extend(book.reservations().all().values().cloned().map(Record::Reservation));
        records.push(Record::Term(self.state.term()));
        self.now.mono = Mono::ZERO;
        let facts = replay(records, self.now.mono + SETTINGS.pool_grace, self.now);
        self.state = State::new(self.state.settings);
        for fact in facts {
            self.take(fact);
        }
        self.take(Event::EpochBegan(Epoch(self.events.len().try_into().unwrap())));
        self.settle();
    }

    pub(crate) fn full_view(&mut self, claims: Vec<Claim>) -> Vec<Event> {
        self.command(Command::Reconcile { leadership: Leadership::Present, claims }).unwrap()
    }
}

pub(crate) fn advertise_everything() -> mooring_proto::types::pool::AdvertisementSpec {
    mooring_proto::types::pool::AdvertisementSpec {
        name: "all".to_owned(),
        pools: BTreeSet::new(),
        pool_selectors: vec![],
        node_selectors: vec![],
        interfaces: BTreeSet::new(),
        service_selectors: vec![],
        preferences: vec![],
    }
}

pub(crate) fn pool(name: &str, ranges: &[&str]) -> PoolSpec {
    PoolSpec {
        name: PoolName::new(name).unwrap(),
        ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        labels: Labels::new(),
    }
}

pub(crate) use mooring_proto::types::pool::PoolName;

/// A claim by `default/NAME` for an IPv4 address and port TCP/80.
pub(crate) fn claim(name: &str) -> Claim {
    Claim {
        service: ServiceKey::new("default", name).unwrap(),
        uid: ServiceUid::default(),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        ports: ports(&["TCP/80"]),
        families: Families::Single(Family::V4),
        policy: FamilyPolicy::SingleStack,
        requested_addresses: vec![],
        requested_pool: None,
        sharing_key: None,
        backend_key: BackendKey::default(),
        adopt: vec![],
        created: None,
        retain: None,
        quota: None,
    }
}

pub(crate) fn ports(list: &[&str]) -> BTreeSet<ServicePort> {
    list.iter()
        .map(|text| {
            let (protocol, port) = text.split_once('/').unwrap();
            ServicePort { protocol: protocol.parse::<Protocol>().unwrap(), port: port.parse().unwrap() }
        })
        .collect()
}

pub(crate) fn vips(list: &[&str]) -> Vec<Vip> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn shared(name: &str, key: &str, port: &str) -> Claim {
    Claim { sharing_key: SharingKey::new(key), ports: ports(&[port]), ..claim(name) }
}

#[test]
fn the_story_gives_the_addresses_it_promises() {
    let mut rig = Rig::with_pools(vec![pool("default", &["172.17.200.100-172.17.200.125"])]);
    assert_eq!(rig.claim(claim("nginx-lb")).unwrap(), "172.17.200.100@default");
    rig.pools(vec![pool("default", &["172.17.200.100-172.17.200.125"]), pool("subnet-201", &["172.17.201.100-172.17.201.125"])]);
    let second = Claim { requested_pool: PoolName::new("subnet-201"), ..claim("nginx-lb2") };
    assert_eq!(rig.claim(second).unwrap(), "172.17.201.100@subnet-201");
    assert_eq!(rig.claim(shared("coredns-tcp", "dns", "TCP/53")).unwrap(), "172.17.200.101@default");
    rig.release("default/nginx-lb");
    assert_eq!(rig.claim(shared("coredns-udp", "dns", "UDP/53")).unwrap(), "172.17.200.101@default", "though 172.17.200.100 is free");
}

#[test]
fn the_same_claim_writes_nothing() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    rig.claim(claim("web")).unwrap();
    let again = rig.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(claim("web")) });
    assert_eq!(again, Ok(vec![]));
    let adopted = Claim { adopt: vips(&["10.0.0.0"]), ..claim("web") };
    let after_status = rig.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(adopted) });
    assert_eq!(after_status, Ok(vec![]));
}

#[test]
fn a_move_that_fails_keeps_the_address_and_says_why() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"]), pool("b", &["10.0.1.0/32"])]);
    assert_eq!(rig.claim(claim("web")).unwrap(), "10.0.0.0@a");
    assert_eq!(rig.claim(Claim { requested_pool: PoolName::new("b"), ..claim("other") }).unwrap(), "10.0.1.0@b");
    let moves = Claim { requested_pool: PoolName::new("b"), ..claim("web") };
    assert_eq!(rig.claim(moves).unwrap_err(), "no available IPs in pool b: 1 of 1 IPv4 addresses leased");
    assert_eq!(rig.held("default/web"), "10.0.0.0@a");
    rig.release("default/other");
    assert_eq!(rig.held("default/web"), "10.0.1.0@b", "moves as soon as it can");
    assert_eq!(rig.state.book().waiting().len(), 0);
}

#[test]
fn those_who_wait_are_served_in_order() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(claim("first")).unwrap();
    let waits = |name: &str, created: u64| Claim { created: Some(UnixMillis(created)), ..claim(name) };
    for late in [waits("b-young", 9), waits("a-young", 9), waits("old", 3)] {
        rig.claim(late).unwrap_err();
    }
    let explicit = Claim { requested_addresses: vips(&["10.0.0.0"]), ..waits("explicit", 10) };
    rig.claim(explicit).unwrap_err();
    for wanted in ["explicit", "old", "a-young", "b-young"] {
        let holder = rig.state.book().leases().keys().next().unwrap().to_string();
        rig.release(&holder);
        assert_eq!(rig.held(&format!("default/{wanted}")), "10.0.0.0@a");
    }
}

#[test]
fn a_pool_that_vanishes_takes_its_addresses_only_after_the_grace() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    rig.claim(claim("web")).unwrap();
    rig.pools(vec![]);
    rig.wait(Duration::from_secs(9));
    assert_eq!(rig.held("default/web"), "10.0.0.0@a");
    rig.pools(vec![pool("renamed", &["10.0.0.0/24"])]);
    rig.wait(Duration::from_secs(20));
    assert_eq!(rig.held("default/web"), "10.0.0.0@renamed", "a pool came back in time");
    rig.pools(vec![pool("b", &["10.0.1.0/24"])]);
    rig.wait(Duration::from_secs(9));
    assert_eq!(rig.held("default/web"), "10.0.0.0@renamed");
    rig.wait(Duration::from_secs(1));
    assert_eq!(rig.held("default/web"), "10.0.1.0@b");
    rig.pools(vec![]);
    rig.wait(Duration::from_secs(10));
    assert_eq!(rig.outcome(&claim("web").service), Err("no available IPs: no pool is open to this Service".to_owned()));
    assert_eq!(rig.held("default/web"), "");
    rig.pools(vec![pool("b", &["10.0.1.0/24"])]);
    assert_eq!(rig.held("default/web"), "10.0.1.0@b");
}

#[test]
fn a_pool_that_changed_moves_its_leases_at_once_before_those_who_wait() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(claim("holds")).unwrap();
    rig.claim(claim("b-waits")).unwrap_err();
    rig.pools(vec![pool("a", &["10.1.0.0/32"])]);
    assert_eq!((rig.held("default/holds"), rig.held("default/b-waits")), ("10.1.0.0@a".to_owned(), String::new()));
    // Where it cannot have another one it keeps what it has for the grace.
    rig.pools(vec![pool("a", &["10.2.0.0/32"]), pool("z", &["10.3.0.0/32"])]);
    assert_eq!((rig.held("default/holds"), rig.held("default/b-waits")), ("10.2.0.0@a".to_owned(), "10.3.0.0@z".to_owned()));
    rig.pools(vec![pool("a", &["10.4.0.0/32"])]);
    assert_eq!((rig.held("default/holds"), rig.held("default/b-waits")), ("10.4.0.0@a".to_owned(), "10.3.0.0@z".to_owned()));
    rig.wait(Duration::from_secs(10));
    assert_eq!((rig.held("default/holds"), rig.held("default/b-waits")), ("10.4.0.0@a".to_owned(), String::new()));
}

#[test]
fn why_addresses_could_not_stay_is_told_and_own_wishes_are_not() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"]), pool("b", &["10.0.1.0/30"])]);
    let why = |rig: &Rig, name: &str| rig.state.book().untenable(&claim(name).service).map(ToString::to_string).unwrap_or_default();
    rig.claim(shared("one", "k", "TCP/80")).unwrap();
    rig.claim(shared("two", "k", "TCP/81")).unwrap();
    assert_eq!((rig.held("default/two"), why(&rig, "two")), ("10.0.0.0@a".to_owned(), String::new()));
    rig.claim(shared("two", "k", "TCP/80")).unwrap();
    assert_eq!(rig.held("default/two"), "10.0.0.1@a");
    assert_eq!(why(&rig, "two"), "port TCP/80 is already in use on \"10.0.0.0\": default/one has it");
    rig.claim(Claim { requested_pool: PoolName::new("b"), ..shared("two", "k", "TCP/80") }).unwrap();
    assert_eq!((rig.held("default/two"), why(&rig, "two")), ("10.0.1.0@b".to_owned(), String::new()), "its own wish");
    rig.pools(vec![pool("b", &["10.0.2.0/30"])]);
    assert_eq!(rig.held("default/two"), "10.0.2.0@b");
    assert_eq!(why(&rig, "two"), "[\"10.0.1.0\"] is not allowed in config: 10.0.1.0 is in no pool");
    rig.release("default/two");
    assert_eq!(why(&rig, "two"), "");
    // What only a status holds is told as well.
    rig.claim(Claim { adopt: vips(&["192.0.2.1"]), ..claim("three") }).unwrap();
    assert_eq!(why(&rig, "three"), "[\"192.0.2.1\"] is not allowed in config: 192.0.2.1 is in no pool");
}

#[test]
fn a_full_view_releases_whom_it_does_not_name_and_adopts_in_order() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    let adopts = |name: &str, address: &str| Claim { adopt: vips(&[address]), ..claim(name) };
    rig.full_view(vec![claim("new"), adopts("had", "10.0.0.0"), adopts("twice", "10.0.0.0"), adopts("outside", "192.0.2.1")]);
    let held = ["had", "new", "outside", "twice"].map(|name| rig.held(&format!("default/{name}")));
    assert_eq!(held, ["10.0.0.0@a", "10.0.0.3@a", "10.0.0.1@a", "10.0.0.2@a"]);
    rig.full_view(vec![claim("new")]);
    assert_eq!(rig.state.book().leases().len(), 1);
    assert_eq!(rig.state.book().claims().len(), 1);
}

#[test]
fn an_older_term_is_refused_and_changes_nothing() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    let allocate = |leadership| Command::Allocate { leadership, claim: Box::new(claim("web")) };
    rig.command(Command::Reconcile { leadership: Leadership::Term(Term(3)), claims: vec![] }).unwrap();
    let refused = rig.command(allocate(Leadership::Term(Term(2)))).unwrap_err();
    assert_eq!(refused.to_string(), "term 2 is over: a watcher leads with term 3");
    assert_eq!(rig.held("default/web"), "");
    rig.command(allocate(Leadership::Next)).unwrap();
    assert_eq!((rig.state.term().0, rig.held("default/web")), (4, "10.0.0.0@a".to_owned()));
}

#[test]
fn the_feed_tells_who_changed_and_refuses_what_it_does_not_keep() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"])]);
    let start = rig.state.feed().revision();
    assert_eq!(start, Revision(1 << 32));
    rig.claim(claim("one")).unwrap();
    let one = rig.state.feed().revision();
    rig.claim(claim("two")).unwrap();
    rig.claim(claim("three")).unwrap_err();
    let keys = |revision| rig.state.feed().since(revision).map(|keys| keys.into_iter().map(ServiceKey::name).collect::<Vec<_>>());
    assert_eq!(keys(start), Ok(vec!["one", "three", "two"]));
    assert_eq!(keys(one), Ok(vec!["three", "two"]));
    assert_eq!(keys(rig.state.feed().revision()), Ok(vec![]));
    assert_eq!(keys(Revision(7)), Err(Refusal::RevisionNotKept { revision: Revision(7) }));
    assert!(keys(rig.state.feed().revision().next()).is_err());
}

/// What durable facts lead to when they are applied again in a new process.
fn replayed(events: &[Event]) -> BTreeMap<ServiceKey, Lease> {
    let mut state = State::new(SETTINGS);
    for event in events {
        apply(&mut state, event);
    }
    state.book().leases().clone()
}

pub(crate) fn pinned(spec: PoolSpec, priority: u32, namespaces: &[&str]) -> PoolSpec {
    let allocation = ServiceAllocation {
        priority: mooring_proto::types::pool::Priority(priority),
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        namespace_selectors: vec![],
        service_selectors: vec![],
    };
    PoolSpec { allocation: Some(allocation), ..spec }
}

mod adoption;
pub(crate) mod lan;
pub(crate) mod model;
mod shadow;
mod waiting;
