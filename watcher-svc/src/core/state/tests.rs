use std::time::Duration;

use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::core::Refused;
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
    }
}

impl Rig {
    fn new(elected: bool) -> Self {
        let state = State::new(Settings::default(), elected);
        Self { state, now: Mono::ZERO, leases: BTreeMap::new(), answers: BTreeMap::new(), done: Vec::new() }
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
        rig
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
            Job::Pools { .. } => ("pools", Done::Led(Term(1))),
            Job::View { claims, .. } => {
                self.leases.retain(|key, _| claims.iter().any(|claim| claim.service == *key));
                for claim in claims {
                    let granted = self.leases.entry(claim.service.clone()).or_insert_with(|| lease(claim)).clone();
                    self.state.feed(&claim.service, Some(Fed { lease: Some(granted), ..Fed::default() }));
                }
                ("view", Done::Led(Term(1)))
            }
            Job::Nodes(_) => ("nodes", Done::Ok),
            Job::Complain(..) => ("complain", Done::Ok),
            Job::Backends(_) => ("backends", Done::Ok),
            Job::Service(_, Step::Allocate(claim)) => {
                let granted = self.leases.entry(claim.service.clone()).or_insert_with(|| lease(claim)).clone();
                ("allocate", Done::Granted(Box::new(granted)))
            }
            Job::Service(key, Step::Release) => {
                self.leases.remove(key);
                ("release", Done::Ok)
            }
            Job::Service(_, Step::Backends(_)) => ("reach", Done::Ok),
            Job::Service(_, Step::Status(_)) => ("status", Done::Ok),
            Job::Service(_, Step::Event(_)) => ("event", Done::Ok),
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
    assert_eq!(rig.see(Seen::Synced), ["pools", "view", "nodes", "backends"]);
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
    assert_eq!(rig.rest(), ["pools", "view", "nodes", "backends", "status", "event"]);
    rig.state.connected(None);
    let fed = |lease: &Lease| Fed { lease: Some(lease.clone()), ..Fed::default() };
    let all: BTreeMap<ServiceKey, Fed> = rig.leases.iter().map(|(key, lease)| (key.clone(), fed(lease))).collect();
    rig.state.connected(Some(all));
    assert_eq!(rig.rest(), ["pools", "view", "nodes", "backends"], "nothing is written twice");
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
    assert_eq!(rig.rest(), ["pools", "view", "nodes", "backends", "status", "event"]);
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
    assert_eq!(rig.see(labeled("2")), ["allocate", "status", "event", "event"]);
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
    assert_eq!(rig.rest(), ["pools", "view", "nodes", "backends", "event"]);
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
    assert_eq!(fresh.rest(), ["pools", "view", "nodes", "backends"]);
    assert_eq!(fresh.leases.get(&key()), Some(&held));
    assert_eq!(fresh.see(Seen::Gone(ObjectRef::new("Service", "default", "web"))), ["release", "l2", "forget"]);
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
    assert_eq!(rig.rest(), ["view", "nodes", "backends"], "the allocator keeps its configuration");
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
fn an_allocator_without_pools_that_refuses_everybody_wipes_no_status() {
    let mut rig = Rig::new(false);
    let object = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    let error = ParseError { object: object.clone(), field: String::new(), value: String::new(), message: "m".to_owned() };
    let held = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}}});
    for seen in [Seen::Malformed(object, vec![error]), service(&held), Seen::Synced] {
        rig.state.see(seen);
    }
    let refused = Fed { refusal: Some(Refused { reason: "R".to_owned(), message: "no pool".to_owned() }), ..Fed::default() };
    rig.state.connected(Some(BTreeMap::new()));
    rig.rest();
    rig.state.feed(&key(), Some(refused));
    assert!(!rig.rest().contains(&"status".to_owned()));
}
