use std::time::Duration;

use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::core::{Announced, Refused};
use crate::k8s::crd::Verdict;
use crate::k8s::{pool, service as service_view};

/// A watcher's state, and an allocator and an API server that answer as told.
struct Rig {
    state: State,
    now: Mono,
    leases: BTreeMap<ServiceKey, Lease>,
    /// What each kind of step comes to, if not success.
    answers: BTreeMap<&'static str, Done>,
    /// All that was done.
    done: Vec<String>,
    /// The feed tells of a grant before its answer comes.
    feeds: bool,
    /// All claims of Services that hold nothing are refused, with this text.
    refuses: Option<&'static str>,
    /// The reasons of all Events.
    events: Vec<&'static str>,
}

fn key() -> ServiceKey {
    "default/web".parse().unwrap()
}

fn service(change: &Value) -> Seen {
    let mut object = json!({"metadata": {"name": "web"}, "spec": {"type": "LoadBalancer"}});
    object.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    Seen::Service(Box::new(service_view::parse(&object).unwrap()))
}

fn a_pool(range: &str) -> Seen {
    let object = json!({"metadata": {"name": "p", "namespace": "metallb-system"}, "spec": {"addresses": [range]}});
    Seen::Config(ObjectRef::of("IPAddressPool", &object), Box::new(Part::Pool(pool::pool(&object).unwrap())))
}

fn lease(claim: &Claim) -> Lease {
    Lease {
        service: claim.service.clone(),
        uid: claim.uid.clone(),
        addresses: vec![claim.adopt.first().copied().unwrap_or_else(|| "192.0.2.1".parse().unwrap())],
        pool: PoolName::new("p").unwrap(),
        ports: claim.ports.clone(),
        sharing_key: None,
        backend_key: BackendKey::default(),
        revision: Revision(1),
        granted: UnixMillis(0),
        retain: claim.retain,
    }
}

fn refused(text: &str) -> Fed {
    Fed { refusal: Some(Refused { reason: "R".to_owned(), message: text.to_owned() }), ..Fed::default() }
}

fn a_lease() -> Lease {
    Lease {
        service: key(),
        uid: ServiceUid::default(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pool: PoolName::new("p").unwrap(),
        ports: BTreeSet::new(),
        sharing_key: None,
        backend_key: BackendKey::default(),
        revision: Revision(1),
        granted: UnixMillis(0),
        retain: None,
    }
}

impl Rig {
    fn new(elected: bool) -> Self {
        let state = State::new(Settings::default(), elected);
        Self {
            state,
            now: Mono::ZERO,
            leases: BTreeMap::new(),
            answers: BTreeMap::new(),
            done: Vec::new(),
            feeds: true,
            refuses: None,
            events: Vec::new(),
        }
    }

    /// A rig with a pool and a Service, which are known to the allocator.
    fn live() -> Self {
        let mut rig = Self::new(false);
        for seen in [a_pool("192.0.2.0/28"), service(&json!({})), Seen::Synced] {
            rig.state.see(seen);
        }
        rig.state.connected(Some(BTreeMap::new()));
        rig.rest();
        rig.done.clear();
        rig.events.clear();
        rig
    }

    /// The reasons of the Events so far, by name.
    fn told(&self) -> Vec<&'static str> {
        let mut told = self.events.clone();
        told.sort_unstable();
        told
    }

    /// Whether a claim is refused, and what the feed says then.
    fn refusal(&self, claim: &Claim) -> Option<Fed> {
        let text = self.refuses.filter(|_| !self.leases.contains_key(&claim.service))?;
        let fed = refused(text);
        Some(Fed { untenable: fed.refusal.clone().filter(|_| !claim.adopt.is_empty()), ..fed })
    }

    fn see(&mut self, seen: Seen) -> Vec<String> {
        self.state.see(seen);
        self.rest()
    }

    /// Does jobs until there are none, and returns their names.
    fn rest(&mut self) -> Vec<String> {
        let before = self.done.len();
        for _ in 0..100 {
            let (jobs, _) = self.state.jobs(self.now);
            if jobs.is_empty() {
                return self.done.split_off(before);
            }
            for job in jobs {
                let (name, answer) = self.answer(&job);
                self.done.push(name.to_owned());
                self.state.done(&job, answer, self.now);
            }
        }
        panic!("never at rest: {:?}", self.done);
    }

    fn answer(&mut self, job: &Job) -> (&'static str, Done) {
        let (name, success) = match job {
            Job::Pools { .. } => ("pools", Done::Led(Term(1), Revision(0))),
            Job::View { claims, .. } => {
                self.leases.retain(|key, _| claims.iter().any(|claim| claim.service == *key));
                for claim in claims {
                    if let Some(fed) = self.refusal(claim) {
                        self.state.feed(&claim.service, Some(fed));
                        continue;
                    }
                    let granted = self.leases.entry(claim.service.clone()).or_insert_with(|| lease(claim)).clone();
                    self.state.feed(&claim.service, Some(Fed { lease: Some(granted), ..Fed::default() }));
                }
                ("view", Done::Led(Term(1), Revision(0)))
            }
            Job::Nodes(_) => ("nodes", Done::Ok),
            Job::Complain(..) => ("complain", Done::Ok),
            Job::Backends(_) => ("backends", Done::Ok),
            Job::Service(_, Step::Allocate(claim)) if self.refusal(claim).is_some() => {
                let fed = self.refusal(claim).unwrap();
                self.state.feed(&claim.service, Some(fed.clone()));
                ("allocate", Done::Refused(fed.refusal.unwrap()))
            }
            Job::Service(_, Step::Allocate(claim)) => {
                let granted = self.leases.entry(claim.service.clone()).or_insert_with(|| lease(claim)).clone();
                if self.feeds && !self.answers.contains_key("allocate") {
                    self.state.feed(&claim.service, Some(Fed { lease: Some(granted.clone()), ..Fed::default() }));
                }
                ("allocate", Done::Granted(Box::new(granted)))
            }
            Job::Service(key, Step::Release) => {
                self.leases.remove(key);
                ("release", Done::Ok)
            }
            Job::Service(_, Step::Backends(_)) => ("reach", Done::Ok),
            Job::Service(_, Step::Status(_)) => ("status", Done::Ok),
            Job::Service(_, Step::Event(draft)) => {
                self.events.push(draft.reason);
                ("event", Done::Ok)
            }
            Job::Service(_, Step::L2(_)) => ("l2", Done::Ok),
            Job::Service(_, Step::Forget) => ("forget", Done::Ok),
        };
        (name, self.answers.get(name).cloned().unwrap_or(success))
    }
}

#[test]
fn the_allocator_is_told_everything_in_order_and_then_each_change() {
    let mut rig = Rig::new(false);
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.see(a_pool("192.0.2.0/28")), [""; 0], "nothing before all is listed");
    assert_eq!(rig.see(Seen::Synced), ["pools", "nodes", "view", "backends"]);
    assert_eq!(rig.see(service(&json!({}))), ["allocate", "reach", "status", "event"]);
    assert_eq!(rig.see(service(&json!({}))), [""; 0], "the same again");
    assert_eq!(rig.see(a_pool("192.0.2.0/27")), ["pools"]);
    assert_eq!(rig.see(Seen::Gone(ObjectRef::new("Service", "default", "web"))), ["release", "forget"]);
    assert!(rig.leases.is_empty() && rig.state.progress.is_empty(), "{:?}", rig.state);
}

#[test]
fn a_full_view_takes_the_place_of_single_claims() {
    let mut rig = Rig::new(false);
    for seen in [a_pool("192.0.2.0/28"), service(&json!({})), Seen::Synced] {
        rig.state.see(seen);
    }
    assert_eq!(rig.rest(), [""; 0], "the allocator is away");
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["pools", "nodes", "view", "backends", "status", "event"]);
    rig.state.connected(None);
    let fed = |lease: &Lease| Fed { lease: Some(lease.clone()), ..Fed::default() };
    let all: BTreeMap<ServiceKey, Fed> = rig.leases.iter().map(|(key, lease)| (key.clone(), fed(lease))).collect();
    rig.state.connected(Some(all));
    assert_eq!(rig.rest(), ["pools", "nodes", "view", "backends"], "nothing is written twice");
}

#[test]
fn leadership_that_comes_after_the_allocator_begins_a_session_and_without_it_nothing_is_said() {
    let mut rig = Rig::new(true);
    for seen in [a_pool("192.0.2.0/28"), Seen::Synced] {
        rig.state.see(seen);
    }
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), [""; 0]);
    rig.state.lead(Some(Term(3)));
    assert_eq!((rig.rest().len(), rig.state.is_live()), (4, true));
    rig.state.lead(None);
    assert_eq!(rig.see(service(&json!({}))), [""; 0]);
    rig.state.lead(Some(Term(5)));
    assert_eq!(rig.rest(), ["pools", "nodes", "view", "backends", "status", "event"]);
}

#[test]
fn an_outdated_watcher_waits_for_election_or_begins_a_term_after_a_pause() {
    for elected in [true, false] {
        let mut rig = Rig::new(elected);
        for seen in [a_pool("192.0.2.0/28"), Seen::Synced] {
            rig.state.see(seen);
        }
        rig.state.connected(Some(BTreeMap::new()));
        rig.state.lead(elected.then_some(Term(1)));
        rig.answers.insert("pools", Done::Outdated(Term(7)));
        assert_eq!(rig.rest(), ["pools"]);
        rig.answers.clear();
        assert_eq!(rig.rest(), [""; 0], "at once");
        rig.now = rig.state.next_deadline().unwrap_or(rig.now) + Duration::from_secs(1);
        assert_eq!(rig.rest().is_empty(), elected);
    }
}

#[test]
fn one_job_is_in_flight_and_the_newest_state_wins() {
    let mut rig = Rig::live();
    rig.state.see(service(&json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.2"}})));
    let (jobs, _) = rig.state.jobs(rig.now);
    let [job @ Job::Service(_, Step::Allocate(_))] = jobs.as_slice() else { panic!("{jobs:?}") };
    rig.state.see(service(&json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.3"}})));
    assert_eq!(rig.state.jobs(rig.now).0, [], "one is in flight");
    let (_, answer) = rig.answer(job);
    rig.state.done(job, answer, rig.now);
    let (jobs, _) = rig.state.jobs(rig.now);
    let [Job::Service(_, Step::Allocate(claim))] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!(claim.requested_addresses, ["192.0.2.3".parse().unwrap()]);
}

/// The Services whose claims are made by these jobs.
fn claimed(jobs: &[Job]) -> Vec<String> {
    let name = |job: &Job| match job {
        Job::Service(key, Step::Allocate(_)) => Some(key.name().to_owned()),
        Job::Pools { .. } | Job::View { .. } | Job::Nodes(_) | Job::Backends(_) | Job::Complain(..) | Job::Service(..) => None,
    };
    jobs.iter().filter_map(name).collect()
}

#[test]
fn claims_are_made_one_at_a_time_in_order() {
    let mut rig = Rig::live();
    let named =
        |name: &str, created: &str, spec: Value| service(&json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}));
    let (any, asking) = (json!({"type": "LoadBalancer"}), json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9"}));
    for (name, created, spec) in [
        ("b", "2026-01-02T00:00:00Z", &any),
        ("a", "2026-01-02T00:00:00Z", &any),
        ("old", "2026-01-01T00:00:00Z", &any),
        ("z", "2026-01-03T00:00:00Z", &asking),
    ] {
        rig.state.see(named(name, created, spec.clone()));
    }
    let mut order = Vec::new();
    for _ in 0..40 {
        let (jobs, _) = rig.state.jobs(rig.now);
        let now = claimed(&jobs);
        assert!(now.len() <= 1, "{now:?}");
        order.extend(now);
        for job in jobs {
            let (_, answer) = rig.answer(&job);
            rig.state.done(&job, answer, rig.now);
        }
    }
    assert_eq!(order, ["z", "old", "a", "b"]);
    // A claim may ask for what the configuration has just gained.
    rig.state.see(a_pool("192.0.2.0/27"));
    rig.state.see(named("late", "2026-01-03T00:00:00Z", any));
    let (jobs, _) = rig.state.jobs(rig.now);
    assert!(matches!(jobs.as_slice(), [Job::Pools { .. }]), "{jobs:?}");
}

#[test]
fn many_claims_at_once_are_made_by_a_full_view() {
    let mut rig = Rig::live();
    for number in 0..100 {
        rig.state.see(service(&json!({"metadata": {"name": format!("s{number}")}})));
    }
    let done = rig.rest();
    let count = |name: &str| done.iter().filter(|done| *done == name).count();
    assert_eq!((count("allocate"), rig.leases.len(), count("status")), (0, 101, 100), "{done:?}");
    assert!(count("view") >= 1 && rig.state.is_live());
}

#[test]
fn what_failed_is_tried_again_after_a_pause_and_what_is_hopeless_only_after_a_change() {
    let mut rig = Rig::live();
    rig.answers.insert("allocate", Done::Failed);
    let labeled = |name: &str| service(&json!({"metadata": {"name": "web", "labels": {"a": name}}}));
    assert_eq!(rig.see(labeled("1")), ["allocate"]);
    rig.answers.clear();
    rig.now = rig.state.next_deadline().unwrap();
    assert_eq!(rig.rest(), ["allocate"]);
    rig.leases.get_mut(&key()).unwrap().addresses = vec!["192.0.2.7".parse().unwrap()];
    rig.answers.insert("status", Done::Hopeless);
    assert_eq!(rig.see(labeled("2")), ["allocate", "status", "event"]);
    assert_eq!(rig.state.next_deadline(), None);
    rig.answers.clear();
    assert_eq!(rig.see(labeled("3")), ["allocate", "status"]);
}

#[test]
fn a_refused_claim_is_told_and_not_asked_again() {
    let mut rig = Rig::live();
    let refused = Refused { reason: "R".to_owned(), message: "no".to_owned() };
    rig.answers.insert("allocate", Done::Refused(refused));
    assert_eq!(rig.see(service(&json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9"}}))), ["allocate", "event"]);
    assert_eq!((rig.rest(), rig.state.next_deadline()), (vec![], None));
    assert!(rig.leases.contains_key(&key()), "the present lease stays");
}

#[test]
fn another_type_releases_and_another_class_is_left_alone() {
    let mut rig = Rig::live();
    assert_eq!(rig.see(service(&json!({"spec": {"type": "ClusterIP"}}))), ["release", "status"]);
    assert_eq!(rig.state.service(&key()).unwrap().status, status::ServiceStatus::cleared());
    let mut rig = Rig::live();
    let other = json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": "other"}});
    assert_eq!(rig.see(service(&other)), ["release"]);
}

#[test]
fn where_a_service_can_be_served_is_told_once_it_has_claimed() {
    let mut rig = Rig::new(false);
    for seen in [a_pool("192.0.2.0/28"), Seen::Synced] {
        rig.state.see(seen);
    }
    rig.state.connected(Some(BTreeMap::new()));
    rig.rest();
    let asks = |address: &str| service(&json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": address}}));
    assert_eq!(rig.see(asks("nonsense")), ["event"], "it claims nothing");
    assert_eq!(rig.see(asks("192.0.2.1")), ["allocate", "reach", "status", "event"]);
    rig.state.connected(Some(BTreeMap::new()));
    rig.state.see(asks("nonsense"));
    assert_eq!(rig.rest(), ["pools", "nodes", "view", "backends", "event"]);
}

#[test]
fn an_object_that_cannot_be_read_keeps_its_lease_also_in_a_full_view() {
    let mut rig = Rig::live();
    let malformed = Seen::Malformed(ObjectRef::new("Service", "default", "web"), Vec::new());
    assert_eq!(rig.see(malformed.clone()), [""; 0]);
    // A watcher that starts with it has no good view of it.
    let held = rig.leases[&key()].clone();
    let mut fresh = Rig::new(false);
    fresh.leases = rig.leases;
    for seen in [a_pool("192.0.2.0/28"), malformed, Seen::Synced] {
        fresh.state.see(seen);
    }
    fresh.state.connected(Some([(key(), Fed { lease: Some(held.clone()), ..Fed::default() })].into()));
    assert_eq!(fresh.rest(), ["pools", "nodes", "view", "backends"]);
    assert_eq!(fresh.leases.get(&key()), Some(&held));
    assert_eq!(fresh.see(Seen::Gone(ObjectRef::new("Service", "default", "web"))), ["release", "forget"]);
}

#[test]
fn a_bad_configuration_keeps_the_last_good_one() {
    let mut rig = Rig::live();
    let object = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    let error = ParseError { object: object.clone(), field: "f".to_owned(), value: "v".to_owned(), message: "m".to_owned() };
    assert_eq!(rig.see(Seen::Malformed(object.clone(), vec![error.clone()])), ["complain"]);
    assert_eq!(rig.see(Seen::Malformed(object.clone(), vec![error])), [""; 0], "told once");
    assert!(matches!(rig.state.merged(), Merged::Bad(_)));
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["nodes", "view", "backends"], "the allocator keeps its configuration");
    assert_eq!(rig.see(Seen::Gone(object)), ["pools"], "a configuration that is taken away is an empty one");
    assert_eq!(rig.state.merged(), &Merged::Good(Configuration::default()));
}

#[test]
fn a_status_that_was_wiped_is_written_again() {
    let mut rig = Rig::live();
    rig.state.status_gone(&key());
    assert_eq!(rig.rest(), ["status"]);
}

#[test]
fn until_there_is_a_good_configuration_nobody_is_told_anything_and_no_status_is_touched() {
    let mut rig = Rig::new(false);
    let object = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    let error = ParseError { object: object.clone(), field: String::new(), value: String::new(), message: "m".to_owned() };
    let held = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}});
    let other = service(&json!({"metadata": {"name": "other"}, "spec": {"type": "ClusterIP"}, "status": held["status"]}));
    for seen in [Seen::Malformed(object, vec![error]), service(&held), other, Seen::Synced] {
        rig.state.see(seen);
    }
    rig.refuses = Some("no pool");
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["complain", "nodes", "view", "backends"]);
    // A Service that holds something by the allocator's own configuration is told of it.
    rig.refuses = None;
    assert_eq!(rig.see(service(&json!({"metadata": {"name": "new"}}))), ["allocate", "reach", "status", "event"]);
    rig.refuses = Some("no pool");
    let done = rig.see(a_pool("192.0.2.0/28"));
    // The claim is made again without the addresses that stood there: they are no longer to be adopted.
    assert_eq!(done, ["pools", "status", "status", "allocate", "event", "event"], "refused, and another type");
    assert_eq!(rig.told(), ["AllocationFailed", "ClearAssignment", "IPAllocated"]);
}

#[test]
fn without_pools_addresses_go_in_silence() {
    let mut rig = Rig::live();
    assert_eq!(rig.see(Seen::Gone(ObjectRef::new("IPAddressPool", "metallb-system", "p"))), ["pools"]);
    rig.refuses = Some("no pool is open to this Service");
    rig.leases.clear();
    rig.state.feed(&key(), Some(refused("no pool")));
    assert_eq!(rig.rest(), ["allocate", "status", "allocate"]);
    assert_eq!(rig.see(service(&json!({"metadata": {"name": "new"}}))), ["allocate", "reach"]);
    assert_eq!(rig.told(), [""; 0]);
    // A pool that has nothing for them: now it is told.
    assert_eq!(rig.see(a_pool("192.0.2.0/28")), ["pools", "event", "event"]);
    assert_eq!(rig.told(), ["AllocationFailed", "AllocationFailed"]);
}

#[test]
fn a_legacy_config_map_that_is_taken_away_leaves_all_as_it_is() {
    let mut rig = Rig::new(false);
    let map = |text: &str| json!({"metadata": {"name": "config", "namespace": "metallb-system"}, "data": {"config": text}});
    let text = "address-pools: [{name: p, protocol: layer2, addresses: [192.0.2.0/28]}]";
    let object = ObjectRef::of("ConfigMap", &map(text));
    let legacy = Seen::Config(object.clone(), Box::new(Part::Legacy(crate::k8s::configmap::parse(&map(text)).unwrap())));
    for seen in [legacy.clone(), service(&json!({})), Seen::Synced] {
        rig.state.see(seen);
    }
    rig.state.connected(Some(BTreeMap::new()));
    rig.rest();
    assert_eq!(rig.state.see(Seen::Gone(object.clone())), [Told::Config(Merged::Missing)]);
    assert_eq!(rig.rest(), [""; 0]);
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["nodes", "view", "backends"], "a new session goes on with what the allocator has");
    assert_eq!(rig.state.see(legacy.clone()), [Told::Config(rig.state.merged().clone())]);
    assert_eq!(rig.rest(), ["pools"]);
    rig.state.see(Seen::Gone(object));
    assert_eq!(rig.state.see(legacy), [Told::ConfigRestored(1)]);
    assert_eq!(rig.rest(), [""; 0]);
}

#[test]
fn going_back_to_the_configuration_in_force_is_told() {
    let mut rig = Rig::live();
    let object = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    let error = ParseError { object: object.clone(), field: String::new(), value: String::new(), message: "m".to_owned() };
    let told = rig.state.see(Seen::Malformed(object, vec![error]));
    assert!(matches!(told.as_slice(), [Told::Config(Merged::Bad(_))]), "{told:?}");
    assert_eq!(rig.state.see(a_pool("192.0.2.0/28")), [Told::ConfigRestored(1)]);
    assert_eq!(rig.state.see(a_pool("192.0.2.0/28")), []);
    assert_eq!(rig.rest(), ["complain"]);
}

#[test]
fn an_address_that_takes_the_place_of_another_waits_for_the_feed_to_say_why() {
    for feed_first in [true, false] {
        let mut rig = Rig::live();
        let other = Lease { addresses: vec!["192.0.2.7".parse().unwrap()], revision: Revision(2), ..rig.leases[&key()].clone() };
        let why = Refused { reason: "U".to_owned(), message: "in use".to_owned() };
        let fed = Fed { lease: Some(other.clone()), untenable: Some(why), ..Fed::default() };
        rig.leases.insert(key(), other);
        rig.feeds = false;
        if feed_first {
            rig.state.feed(&key(), Some(fed.clone()));
        }
        let done = rig.see(service(&json!({"metadata": {"name": "web", "labels": {"a": "b"}}})));
        let wanted = ["allocate", "status", "event", "event"];
        assert_eq!(done, wanted[..if feed_first { 4 } else { 1 }]);
        if !feed_first {
            // What the feed said before does not count.
            let before =
                Fed { lease: rig.state.fed[&key()].lease.clone().map(|lease| Lease { revision: Revision(1), ..lease }), ..Fed::default() };
            rig.state.feed(&key(), Some(before));
            assert_eq!(rig.rest(), [""; 0]);
            rig.state.feed(&key(), Some(fed));
            assert_eq!(rig.rest(), wanted[1..]);
        }
        assert_eq!(rig.told(), ["ClearAssignment", "IPAllocated"]);
    }
}

#[test]
fn a_request_that_makes_no_sense_keeps_just_what_is_there_or_claims_nothing() {
    let mut rig = Rig::live();
    let bad = json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "garbage", "ports": [{"port": 80}]}});
    rig.state.see(service(&bad));
    let (jobs, _) = rig.state.jobs(rig.now);
    let [job @ Job::Service(_, Step::Allocate(claim))] = jobs.as_slice() else { panic!("{jobs:?}") };
    assert_eq!((claim.requested_addresses.clone(), claim.ports.len()), (rig.leases[&key()].addresses.clone(), 1));
    let (_, answer) = rig.answer(job);
    rig.state.done(job, answer, rig.now);
    assert_eq!((rig.rest(), rig.told()), (vec!["event".to_owned()], vec!["LoadBalancerFailed"]));
    // One that waits for an address is not to get it by what it asked before.
    let mut rig = Rig::live();
    rig.refuses = Some("full");
    let named = |spec: Value| service(&json!({"metadata": {"name": "new"}, "spec": spec}));
    rig.see(named(json!({"type": "LoadBalancer"})));
    assert_eq!(rig.see(named(json!({"type": "LoadBalancer", "loadBalancerIP": "garbage"}))), ["release", "event"]);
    assert_eq!(rig.told(), ["AllocationFailed", "AllocationFailed"]);
}

#[test]
fn a_status_edited_by_somebody_is_written_back() {
    let mut rig = Rig::live();
    let ingress = rig.state.service(&key()).unwrap().status.clone();
    assert_eq!(rig.see(service(&json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}}))), [""; 0], "a manifest's");
    rig.state.settings.is_cluster = true;
    let edited = json!({
        "metadata": {"name": "web", "annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
    });
    assert_eq!(rig.see(service(&edited)), ["reach", "status"]);
    assert_eq!(rig.state.service(&key()).unwrap().status, ingress);
    assert!(rig.told().is_empty());
}

#[test]
fn who_begins_to_lead_does_not_tell_again_what_the_leader_before_has_told() {
    let mut rig = Rig::new(true);
    rig.state.settings.is_cluster = true;
    let object = |status: Value| {
        service(&json!({
            "metadata": {"name": "web", "annotations": {"metallb.io/ip-allocated-from-pool": "p"}},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}, "status": status,
        }))
    };
    for seen in [a_pool("192.0.2.0/28"), object(json!({})), Seen::Synced] {
        rig.state.see(seen);
    }
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.see(object(json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}))), [""; 0]);
    rig.state.lead(Some(Term(3)));
    assert_eq!(rig.rest(), ["pools", "nodes", "view", "backends"]);
    // It loses its leadership and has it again: nobody led meanwhile, so what has changed is still to be told.
    let on = |node: &str| {
        let announced = Announced { node: NodeName::new(node), ..Announced::default() };
        let fed = Fed { lease: Some(a_lease()), ..Fed::default() };
        Fed { announcements: [("192.0.2.1".parse().unwrap(), announced)].into(), ..fed }
    };
    rig.state.feed(&key(), Some(on("a")));
    assert_eq!((rig.rest(), rig.told()), (vec!["l2".to_owned()], vec![]));
    for (term, told) in [(Term(3), vec!["nodeAssigned"]), (Term(5), vec!["nodeAssigned"])] {
        rig.state.lead(None);
        rig.state.lead(Some(term));
        rig.rest();
        rig.state.feed(&key(), Some(on(if term == Term(3) { "b" } else { "c" })));
        rig.rest();
        assert_eq!(rig.told(), told, "{term:?}");
    }
}

#[test]
fn what_stands_written_of_who_announces_is_written_anew_or_taken_away() {
    let mut rig = Rig::live();
    rig.state.found_l2(&key());
    assert_eq!(rig.rest(), ["l2"], "nobody announces it");
    rig.state.found_l2(&"default/gone".parse().unwrap());
    assert_eq!(rig.rest(), ["l2", "forget"]);
}

#[test]
fn the_verdict_on_the_configuration_is_written_for_the_controller_and_each_speaker() {
    let mut rig = Rig::live();
    let names = |rig: &mut Rig| {
        let (verdicts, _all) = rig.state.new_verdicts().unwrap_or_default();
        verdicts.into_iter().map(|status| (status.name(), status.verdict)).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut rig), [("controller".to_owned(), Verdict::Valid)], "the nodes are not known yet");
    rig.state.verdicts().live_nodes([NodeName::new("a").unwrap()].into());
    assert_eq!(names(&mut rig), [], "one at a time");
    rig.state.verdicts().ended(true);
    assert_eq!(names(&mut rig).len(), 2);
    rig.state.verdicts().ended(true);
    rig.state.verdicts().live_nodes([NodeName::new("a").unwrap()].into());
    assert_eq!(names(&mut rig), [], "only what differs");
    let object = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    let error = |text: &str| ParseError { object: object.clone(), field: "f".to_owned(), value: String::new(), message: text.to_owned() };
    rig.see(Seen::Malformed(object.clone(), vec![error("one"), error("two")]));
    let invalid = Verdict::Invalid("one; two".to_owned());
    assert_eq!(names(&mut rig), [("controller".to_owned(), invalid.clone()), ("speaker-a".to_owned(), invalid)]);
    rig.state.verdicts().ended(false);
    assert_eq!(names(&mut rig), [], "not at once");
    rig.state.verdicts().live_nodes([NodeName::new("a").unwrap()].into());
    assert_eq!(names(&mut rig).len(), 2);
    // One that does not lead writes nothing.
    let mut rig = Rig::new(true);
    rig.see(Seen::Synced);
    assert_eq!(names(&mut rig), []);
    rig.state.lead(Some(Term(1)));
    assert_eq!(names(&mut rig), [("controller".to_owned(), Verdict::Unknown("configuration is missing".to_owned()))]);
}

#[test]
fn counters_are_written_where_they_differ_from_what_stands_there() {
    let mut rig = Rig::live();
    let pool = PoolName::new("p").unwrap();
    let counts = |assigned_ipv4| PoolStatus { assigned_ipv4, ..PoolStatus::default() };
    let written = |rig: &mut Rig, count| rig.state.new_counts([(pool.clone(), counts(count))].into()).len();
    assert_eq!((written(&mut rig, 1), written(&mut rig, 1), written(&mut rig, 2)), (1, 0, 1));
    rig.state.found_counts(&pool, Some(counts(2)));
    assert_eq!(written(&mut rig, 2), 0, "as written");
    rig.state.found_counts(&pool, Some(counts(9)));
    assert_eq!(written(&mut rig, 2), 1, "edited");
    rig.state.found_counts(&pool, None);
    assert_eq!(written(&mut rig, 2), 1, "made anew");
    rig.state.counts_touched();
    assert_eq!(written(&mut rig, 2), 1);
}

#[test]
fn what_was_refused_before_the_configuration_came_is_not_told_after_it() {
    let mut rig = Rig::new(false);
    let advertisement = json!({"metadata": {"name": "l2", "namespace": "metallb-system"}, "spec": {}});
    let part = Part::Advertisement(pool::advertisement(&advertisement).unwrap());
    let held = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}});
    for seen in [Seen::Config(ObjectRef::of("L2Advertisement", &advertisement), Box::new(part)), service(&held), Seen::Synced] {
        rig.state.see(seen);
    }
    rig.refuses = Some("no pool is open to this Service");
    rig.state.connected(Some(BTreeMap::new()));
    rig.state.reached(Revision(7));
    rig.rest();
    // The pool is in force with revision 9, and the feed is behind.
    rig.refuses = None;
    rig.answers.insert("pools", Done::Led(Term(1), Revision(9)));
    assert_eq!(rig.see(a_pool("192.0.2.0/28")), ["pools"]);
    rig.state.reached(Revision(8));
    assert_eq!((rig.rest(), rig.state.next_deadline()), (vec![], None));
    rig.leases.insert(key(), a_lease());
    rig.state.feed(&key(), Some(Fed { lease: Some(a_lease()), ..Fed::default() }));
    rig.state.reached(Revision(9));
    assert!(!rig.rest().is_empty());
    assert!(!rig.told().contains(&"AllocationFailed"), "{:?}", rig.told());
}

fn named(name: &str) -> Seen {
    service(&json!({"metadata": {"name": name}}))
}

#[test]
fn who_waits_for_a_status_waits_for_no_event_of_others() {
    let mut rig = Rig::live();
    // Each has its address, none has been told, and there are more of them than may be in flight.
    let many: Vec<String> = (0..IN_FLIGHT * 2).map(|number| format!("s-{number:03}")).collect();
    for name in &many {
        rig.state.see(named(name));
    }
    let jobs = rig.state.jobs(rig.now).0;
    assert!(matches!(jobs.as_slice(), [Job::View { .. }]), "{jobs:?}");
    let mut in_flight = Vec::new();
    for job in jobs {
        let answer = rig.answer(&job).1;
        rig.state.done(&job, answer, rig.now);
    }
    let backends = rig.state.jobs(rig.now).0.remove(0);
    assert!(matches!(backends, Job::Backends(_)), "{backends:?}");
    rig.state.done(&backends, Done::Ok, rig.now);
    let is_status = |job: &&Job| matches!(job, Job::Service(_, Step::Status(_)));
    let is_event = |job: &&Job| matches!(job, Job::Service(_, Step::Event(_)));
    let (mut statuses, mut events, mut most_events) = (0, 0, 0);
    loop {
        let jobs = rig.state.jobs(rig.now).0;
        statuses += jobs.iter().filter(is_status).count();
        events += jobs.iter().filter(is_event).count();
        assert!(events == 0 || statuses == many.len(), "an Event before the last status");
        in_flight.extend(jobs);
        most_events = most_events.max(in_flight.iter().filter(is_event).count());
        assert!(in_flight.len() <= IN_FLIGHT);
        if in_flight.is_empty() {
            break;
        }
        let job = in_flight.remove(0);
        rig.state.done(&job, Done::Ok, rig.now);
    }
    assert_eq!((statuses, events, most_events), (many.len(), many.len(), ASIDE));
}

#[test]
fn where_a_service_can_be_served_follows_its_own_slices() {
    let slice = |name: &str, service: Option<&str>, ready: bool| {
        Seen::Endpoints(EndpointsView {
            object: ObjectRef::new("EndpointSlice", "default", name),
            service: service.map(|service| format!("default/{service}").parse().unwrap()),
            endpoints: vec![crate::k8s::endpoints::EndpointView { node: NodeName::new("a"), serving: ready }],
        })
    };
    let mut rig = Rig::live();
    let reach = |rig: &Rig| rig.state.progress.get(&key()).unwrap().reach.clone().unwrap();
    assert_eq!(rig.see(slice("one", Some("web"), false)), ["reach"]);
    assert_eq!(reach(&rig), Reach::Nowhere);
    assert_eq!(rig.see(slice("two", Some("other"), true)), ["forget"], "nothing is to stand of a Service that is not there");
    assert_eq!(reach(&rig), Reach::Nowhere);
    assert_eq!(rig.see(slice("two", Some("web"), true)), ["reach", "forget"], "and now this one's");
    assert_eq!(reach(&rig), Reach::Anywhere);
    assert_eq!(rig.see(slice("two", None, true)), ["reach"]);
    assert_eq!(rig.see(Seen::Gone(ObjectRef::new("EndpointSlice", "default", "one"))), ["reach"]);
    assert!(rig.state.slices_of.is_empty(), "{:?}", rig.state.slices_of);
}

#[test]
fn a_quota_that_makes_no_sense_is_told_once_and_keeps_the_last_good_one() {
    let mut rig = Rig::live();
    let namespace = |quota: &str| {
        let object = json!({"metadata": {"name": "default", "annotations": {"mooring.io/address-quota": quota}}});
        Seen::Namespace(crate::k8s::namespace::parse(&object).unwrap())
    };
    let quota = |rig: &Rig| rig.state.progress[&key()].claimed.as_ref().unwrap().quota;
    assert_eq!((rig.see(namespace("10")), quota(&rig)), (vec!["allocate".to_owned()], Some(10)));
    let Seen::Namespace(bad) = namespace("ten") else { panic!() };
    let error = bad.quota.clone().unwrap_err();
    let told = rig.state.see(Seen::Namespace(bad.clone()));
    assert_eq!(told, [Told::BadQuota { namespace: "default".to_owned(), quota: Some(10), error: error.clone() }]);
    let (jobs, _) = rig.state.jobs(rig.now);
    assert_eq!(
        jobs,
        [Job::Complain(ObjectRef::new("Namespace", "", "default"), format!("{error}; the last good quota of 10 stays in force"))],
        "no claim changes"
    );
    assert_eq!(rig.state.see(Seen::Namespace(bad.clone())), [], "told once");
    assert_eq!((rig.see(namespace("5")), quota(&rig)), (vec!["allocate".to_owned()], Some(5)));
    let again = Told::BadQuota { namespace: "default".to_owned(), quota: Some(5), error: error.clone() };
    assert_eq!(rig.state.see(Seen::Namespace(bad.clone())), [again], "and again after it was good");
    assert_eq!(rig.see(namespace("")), ["complain", "allocate"]);
    assert_eq!(quota(&rig), None);
    let first = Told::BadQuota { namespace: "default".to_owned(), quota: None, error: error.clone() };
    assert_eq!(rig.state.see(Seen::Namespace(bad)), [first], "where none was good there is none");
    let (jobs, _) = rig.state.jobs(rig.now);
    assert_eq!(jobs, [Job::Complain(ObjectRef::new("Namespace", "", "default"), format!("{error}; no quota is in force"))]);
}
