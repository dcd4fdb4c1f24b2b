use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Lease, Revision, Term};
use mooring_proto::types::service::ServiceUid;
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::*;
use crate::core::pools::Part;
use crate::core::service::{Settings, Why};
use crate::core::state::{State, Told};
use crate::core::{Done, Job, Refused, Seen, Step};
use crate::k8s::{ObjectRef, pool, service as service_view};

/// A Service with these addresses in its status, and a change of its spec.
fn view(name: &str, has: &[&str], spec: &Value) -> ServiceView {
    let mut object = json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer"}});
    object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let ingress: Vec<Value> = has.iter().map(|ip| json!({"ip": ip})).collect();
    object["status"] = json!({"loadBalancer": {"ingress": ingress}});
    service_view::parse(&object).unwrap()
}

fn lease(service: &ServiceKey, addresses: &[&str]) -> Lease {
    Lease {
        service: service.clone(),
        uid: ServiceUid::default(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        pool: PoolName::new("p").unwrap(),
        ports: BTreeSet::new(),
        sharing_key: None,
        backend_key: BackendKey::default(),
        revision: Revision(1),
        granted: UnixMillis(0),
        retain: None,
    }
}

fn because(message: &str) -> Option<Refused> {
    (!message.is_empty()).then(|| Refused { reason: "R".to_owned(), message: message.to_owned() })
}

/// What a Service has, what it would have, its refusal, why it could not stay; and what that comes to, if it is not the same.
type Row = (&'static [&'static str], &'static [&'static str], &'static str, &'static str, &'static str);

#[test]
fn what_would_be_is_compared_with_what_is_there() {
    let none = json!({});
    let cases: &[Row] = &[
        (&["192.0.2.1"], &["192.0.2.1"], "", "", ""),
        (&["192.0.2.1", "2001:DB8::1"], &["2001:db8::1", "192.0.2.1"], "", "", ""),
        (&["192.0.2.1"], &["192.0.2.1"], "refused, and keeps it", "", ""),
        (&[], &[], "refused, and has nothing to lose", "", ""),
        (&["192.0.2.9"], &["192.0.2.1"], "", "no pool", "wouldMove: would move from 192.0.2.9 to 192.0.2.1 of pool p: no pool"),
        (&["192.0.2.9"], &["192.0.2.1"], "", "", "wouldMove: would move from 192.0.2.9 to 192.0.2.1 of pool p"),
        (&["192.0.2.9"], &["192.0.2.1"], "no", "no pool", "wouldMove: would move from 192.0.2.9 to 192.0.2.1 of pool p: no"),
        (&["web"], &["192.0.2.1"], "", "", "wouldMove: would move from web to 192.0.2.1 of pool p"),
        (&[], &["192.0.2.1"], "", "", "wouldGain: has no address and would gain 192.0.2.1 of pool p"),
        (&[], &["192.0.2.1"], "", "long ago", "wouldGain: has no address and would gain 192.0.2.1 of pool p"),
        (&["192.0.2.1"], &["192.0.2.1", "2001:db8::1"], "", "", "wouldGain: would gain 2001:db8::1 besides 192.0.2.1 of pool p"),
        (&["192.0.2.1", "2001:db8::1"], &["192.0.2.1"], "", "", "wouldLose: would lose 2001:db8::1 and keep 192.0.2.1 of pool p"),
        (&["192.0.2.9"], &[], "no available IPs", "no pool", "refused: would lose 192.0.2.9: no available IPs"),
    ];
    for (has, wanted, refusal, untenable, said) in cases {
        let view = view("web", has, &none);
        let lease = (!wanted.is_empty()).then(|| lease(&view.key, wanted));
        let fed = Fed { lease, refusal: because(refusal), untenable: because(untenable), ..Fed::default() };
        let wish = crate::core::service::wish(&view, &Default::default(), &Settings::default());
        let got = match compare(&view, &wish, Some(&fed)) {
            Finding::Same => String::new(),
            Finding::Differs(found) => format!("{}: {found}", found.reason.as_str()),
            other @ (Finding::NoConcern | Finding::Open) => format!("{other:?}"),
        };
        assert_eq!(got, *said, "{has:?} {wanted:?}");
    }
}

#[test]
fn what_is_no_claim_is_compared_by_what_would_become_of_its_status() {
    let (held, free) = (view("web", &["192.0.2.1"], &json!({})), view("web", &[], &json!({})));
    assert_eq!(compare(&held, &Wish::Foreign, None), Finding::NoConcern);
    assert_eq!(compare(&free, &Wish::Nothing(Why::NotLoadBalancer), None), Finding::NoConcern);
    assert_eq!(compare(&held, &Wish::Hold(Why::NoClusterIps), None), Finding::Same, "left as it is");
    let Finding::Differs(found) = compare(&held, &Wish::Nothing(Why::NotLoadBalancer), None) else { panic!() };
    assert_eq!((found.reason, found.to_string().as_str()), (Reason::WouldLose, "would lose 192.0.2.1: notLoadBalancer"));
    let claim = crate::core::service::wish(&held, &Default::default(), &Settings::default());
    assert_eq!(compare(&held, &claim, None), Finding::Open);
    assert_eq!(compare(&held, &claim, Some(&Fed::default())), Finding::Open);
}

/// A shadow's state, and an allocator's shadow with the addresses 192.0.2.1 to 192.0.2.9: what a status holds first, then the lowest.
struct Rig {
    state: State,
    now: Mono,
    held: BTreeMap<ServiceKey, String>,
    /// How many sessions have begun.
    sessions: u64,
    told: Vec<String>,
}

impl Rig {
    fn new(seen: Vec<Seen>) -> Self {
        let settings = Settings { is_shadow: true, ..Settings::default() };
        let mut rig = Self { state: State::new(settings, false), now: Mono::ZERO, held: BTreeMap::new(), sessions: 0, told: Vec::new() };
        for seen in seen.into_iter().chain([a_pool(), Seen::Synced]) {
            rig.state.see(seen);
        }
        rig.state.connected(Some(BTreeMap::new()));
        rig
    }

    /// Does jobs until there are none for a long while, and returns what was told.
    fn rest(&mut self) -> Vec<String> {
        for _ in 0..1000 {
            let (jobs, told) = self.state.jobs(self.now);
            self.told.extend(told.into_iter().map(text));
            if jobs.is_empty() {
                match self.state.next_deadline() {
                    Some(due) if due <= self.now + Duration::from_secs(10) => self.now = self.now.max(due),
                    Some(_) | None => return std::mem::take(&mut self.told),
                }
            }
            for job in jobs {
                let done = self.answer(&job);
                let told = self.state.done(&job, done, self.now);
                assert!(told.iter().all(|told| *told == Told::Synced), "{told:?}");
            }
        }
        panic!("never at rest: {:?}", self.told);
    }

    fn answer(&mut self, job: &Job) -> Done {
        match job {
            Job::Pools { begin_term, .. } => {
                if *begin_term {
                    self.sessions += 1;
                    for service in std::mem::take(&mut self.held).keys() {
                        self.state.feed(service, None);
                    }
                }
                Done::Led(Term(self.sessions), Revision(0))
            }
            Job::View { claims, begin_term } => {
                assert!(!begin_term && self.held.is_empty(), "a full view of a shadow is made over nothing");
                for holds in [true, false] {
                    for claim in claims.iter().filter(|claim| claim.adopt.is_empty() != holds) {
                        self.grant(claim);
                    }
                }
                let all: Vec<ServiceKey> = self.held.keys().cloned().collect();
                for service in all {
                    let fed = self.fed(&service);
                    self.state.feed(&service, Some(fed));
                }
                Done::Led(Term(self.sessions), Revision(0))
            }
            Job::Service(service, Step::Allocate(claim)) => {
                self.grant(claim);
                Done::Granted(Box::new(self.fed(service).lease.unwrap()))
            }
            Job::Service(service, Step::Release) => {
                self.held.remove(service);
                Done::Ok
            }
            Job::Nodes(_) => Done::Ok,
            Job::Backends(backends) if backends.is_empty() => Done::Ok,
            Job::Backends(_)
            | Job::Complain(..)
            | Job::Service(_, Step::Backends(_) | Step::Status(_) | Step::Event(_) | Step::L2(_) | Step::Forget) => panic!("{job:?}"),
        }
    }

    fn grant(&mut self, claim: &Claim) {
        let mut all = (1..10).map(|last| format!("192.0.2.{last}"));
        let is_free = |ip: &String| !self.held.iter().any(|(service, held)| held == ip && *service != claim.service);
        let adopted = claim.adopt.first().map(ToString::to_string).filter(|ip| all.clone().any(|all| all == *ip) && is_free(ip));
        let granted = self.held.get(&claim.service).cloned().or(adopted).or_else(|| all.find(is_free));
        self.held.insert(claim.service.clone(), granted.unwrap());
    }

    fn fed(&self, service: &ServiceKey) -> Fed {
        Fed { lease: Some(lease(service, &[&self.held[service]])), ..Fed::default() }
    }
}

fn text(told: Told) -> String {
    match told {
        Told::Found(News::Differs(service, found)) => format!("{} {found}", service.name()),
        Told::Found(News::Agrees(service)) => format!("{} agrees", service.name()),
        Told::Found(News::AtRest(summary)) => format!("{} of {} differ", summary.differ, summary.services),
        other @ (Told::Found(News::CutShort(_))
        | Told::UpdateBegan(_)
        | Told::UpdateEnded(_)
        | Told::Allocated { .. }
        | Told::Config(_)
        | Told::Synced
        | Told::ConfigRestored(_)
        | Told::BadQuota { .. }
        | Told::Reported(..)) => panic!("{other:?}"),
    }
}

fn a_pool() -> Seen {
    pool_of("192.0.2.0/28")
}

fn pool_of(range: &str) -> Seen {
    let object = json!({"metadata": {"name": "p", "namespace": "metallb-system"}, "spec": {"addresses": [range]}});
    Seen::Config(ObjectRef::of("IPAddressPool", &object), Box::new(Part::Pool(pool::pool(&object).unwrap())))
}

fn has(name: &str, addresses: &[&str]) -> Seen {
    Seen::Service(Box::new(view(name, addresses, &json!({}))))
}

#[test]
fn each_difference_is_told_once_and_a_summary_at_rest() {
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"]), has("b", &["10.0.0.1"]), has("c", &[])]);
    let moves = "b would move from 10.0.0.1 to 192.0.2.1 of pool p";
    assert_eq!(rig.rest(), [moves, "c has no address and would gain 192.0.2.2 of pool p", "2 of 3 differ"]);
    assert_eq!((rig.rest(), rig.state.differ()), (vec![], Some(2)));
    rig.state.see(has("a", &["192.0.2.7"]));
    assert_eq!(rig.rest(), [""; 0], "the same again");
    // The other implementation gives just that address.
    rig.state.see(has("c", &["192.0.2.2"]));
    assert_eq!(rig.rest(), ["c agrees", "1 of 3 differ"]);
    rig.state.see(Seen::Gone(ObjectRef::new("Service", "default", "b")));
    assert_eq!(rig.rest(), ["0 of 2 differ"]);
    assert_eq!(rig.sessions, 1);
    // All is told again where the allocator's shadow begins anew, but no difference that was told.
    rig.state.see(has("b", &["10.0.0.1"]));
    assert_eq!(rig.rest(), [moves, "1 of 3 differ"]);
    rig.state.connected(None);
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["1 of 3 differ"]);
    assert_eq!(rig.state.end(), Some(Told::Found(News::AtRest(Summary { services: 3, same: 2, differ: 1 }))));
}

#[test]
fn an_address_that_appears_in_a_status_comes_before_what_the_shadow_granted() {
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"])]);
    assert_eq!(rig.rest(), ["0 of 1 differ"]);
    rig.state.see(has("b", &[]));
    assert_eq!(rig.rest(), ["b has no address and would gain 192.0.2.1 of pool p", "1 of 2 differ"]);
    rig.state.see(has("b", &["192.0.2.5"]));
    assert_eq!((rig.rest(), rig.sessions), (vec!["b agrees".to_owned(), "0 of 2 differ".to_owned()], 1));
    // One that the shadow granted to another Service: only a look at all of them anew shows that both would keep what they have.
    rig.state.see(has("x", &[]));
    rig.state.see(has("y", &[]));
    let both = ["x has no address and would gain 192.0.2.1 of pool p", "y has no address and would gain 192.0.2.2 of pool p"];
    assert_eq!(rig.rest(), [&both[..], &["2 of 4 differ"]].concat());
    rig.state.see(has("y", &["192.0.2.1"]));
    assert_eq!(rig.rest(), ["x has no address and would gain 192.0.2.2 of pool p", "y agrees", "1 of 4 differ"]);
    assert_eq!(rig.sessions, 2);
    rig.state.see(has("x", &["192.0.2.2"]));
    assert_eq!((rig.rest(), rig.sessions), (vec!["x agrees".to_owned(), "0 of 4 differ".to_owned()], 2));
    // An address that really cannot stay is looked at once more, and then told.
    rig.state.see(has("z", &["10.0.0.1"]));
    assert_eq!(rig.rest(), ["z would move from 10.0.0.1 to 192.0.2.3 of pool p", "1 of 5 differ"]);
    assert_eq!(rig.sessions, 3);
}

#[test]
fn what_a_service_or_the_configuration_was_meanwhile_leaves_no_trace() {
    let asking = |ip: &str| Seen::Service(Box::new(view("a", &["192.0.2.7"], &json!({"loadBalancerIP": ip}))));
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"]), has("b", &["192.0.2.5"])]);
    assert_eq!(rig.rest(), ["0 of 2 differ"]);
    rig.held.insert(key("a"), "192.0.2.1".to_owned());
    rig.state.feed(&key("a"), Some(rig.fed(&key("a"))));
    assert_eq!(rig.rest(), ["a would move from 192.0.2.7 to 192.0.2.1 of pool p", "1 of 2 differ"]);
    rig.state.see(asking("192.0.2.7"));
    assert_eq!((rig.rest(), rig.sessions), (vec!["a agrees".to_owned(), "0 of 2 differ".to_owned()], 1), "claimed as from the start");
    // Another configuration: all is looked at as if it had been there from the start.
    rig.state.see(pool_of("192.0.2.0/27"));
    assert_eq!((rig.rest(), rig.sessions), (vec![], 2));
    rig.state.see(pool_of("192.0.2.0/27"));
    assert_eq!((rig.rest(), rig.sessions), (vec![], 2), "the same again");
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("default", name).unwrap()
}

#[test]
fn full_views_follow_each_other_after_a_pause() {
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"])]);
    rig.rest();
    rig.state.see(has("b", &["10.0.0.1"]));
    for _ in 0..20 {
        let (jobs, _) = rig.state.jobs(rig.now);
        for job in jobs {
            let done = rig.answer(&job);
            rig.state.done(&job, done, rig.now);
        }
    }
    assert_eq!((rig.sessions, rig.state.next_deadline()), (1, Some(Mono::ZERO + VIEW_PAUSE)));
    let Some(Told::Found(end)) = rig.state.end() else { panic!() };
    assert_eq!(end, News::CutShort(Summary { services: 1, same: 1, differ: 0 }), "not all is known yet");
}

#[test]
fn many_at_once_are_looked_at_by_a_full_view_over_nothing() {
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"])]);
    rig.rest();
    for number in 0..40 {
        rig.state.see(has(&format!("s{number}"), &["192.0.2.9"]));
        rig.state.see(Seen::Gone(ObjectRef::new("Service", "default", &format!("s{number}"))));
    }
    for number in 0..8 {
        rig.state.see(has(&format!("n{number}"), &[]));
    }
    let told = rig.rest();
    assert_eq!((told.len(), told.last().map(String::as_str)), (9, Some("8 of 9 differ")), "{told:?}");
    assert!(rig.state.is_live());
}

#[test]
fn without_a_good_configuration_nothing_is_said() {
    let mut rig = Rig::new(vec![has("a", &["192.0.2.7"])]);
    let pool = ObjectRef::new("IPAddressPool", "metallb-system", "p");
    rig.state.see(Seen::Malformed(pool.clone(), vec![]));
    let error = crate::k8s::ParseError { object: pool.clone(), field: "f".to_owned(), value: "v".to_owned(), message: "m".to_owned() };
    rig.state.see(Seen::Malformed(pool, vec![error]));
    for _ in 0..10 {
        let (jobs, told) = rig.state.jobs(rig.now);
        assert_eq!(told, []);
        for job in jobs.into_iter().filter(|job| !matches!(job, Job::Complain(..))) {
            let done = if matches!(job, Job::View { .. }) { Done::Led(Term(1), Revision(0)) } else { rig.answer(&job) };
            rig.state.done(&job, done, rig.now);
        }
    }
    assert_eq!(rig.state.end(), Some(Told::Found(News::CutShort(Summary::default()))));
    rig.state.see(a_pool());
    rig.state.connected(Some(BTreeMap::new()));
    assert_eq!(rig.rest(), ["0 of 1 differ"]);
}
