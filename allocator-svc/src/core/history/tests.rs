use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy};
use mooring_proto::types::service::ServiceUid;

use super::*;
use crate::core::Command;
use crate::core::tests::{PoolName, Rig, claim, pool};

/// What the history says of the facts that a rig has gone through, a line each.
fn told(events: &[Event]) -> Vec<String> {
    past(events).iter().map(text).collect()
}

fn past(events: &[Event]) -> Vec<PastFact> {
    let mut state = State::new(crate::core::tests::SETTINGS);
    let mut past = Vec::new();
    for event in events {
        past.extend(facts(&state, event));
        crate::core::apply(&mut state, event);
    }
    past
}

fn text(fact: &PastFact) -> String {
    let list = fact.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let of = |holding: &Holding| format!("{list} {}{} {}", holding.service.name(), holding.uid.0, holding.pool);
    match fact {
        PastFact::Granted(holding) => format!("granted {}", of(holding)),
        PastFact::Released { holding, since, cause } => format!("released {} {} {cause:?}", of(holding), since.0),
        PastFact::Reserved(reservation) => format!("reserved {}", reservation.key),
        PastFact::ReservationEnded { reservation, cause } => format!("ended {} {cause:?}", reservation.key),
    }
}

#[test]
fn every_fact_about_an_address_is_kept_once_with_its_cause() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30", "fc00::/126"]), pool("b", &["10.0.1.0/30"])]);
    let made = |uid: &str| Claim { uid: ServiceUid(uid.to_owned()), ..claim("web") };
    let both = Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::PreferDualStack, ..made("1") };
    rig.claim(claim("web")).unwrap();
    rig.claim(made("1")).unwrap();
    rig.claim(both).unwrap();
    rig.claim(made("2")).unwrap();
    rig.claim(Claim { requested_pool: PoolName::new("b"), retain: Some(std::time::Duration::from_secs(9)), ..made("2") }).unwrap();
    rig.release("default/web");
    rig.wait(std::time::Duration::from_secs(9));
    rig.claim(claim("late")).unwrap();
    rig.reserve("10.0.0.3", None).unwrap();
    rig.reserve("10.0.0.3/default/web", None).unwrap();
    rig.unreserve("10.0.0.3");
    rig.pools(vec![pool("c", &["10.0.2.0/32"])]);
    rig.wait(std::time::Duration::from_secs(10));
    rig.pools(vec![]);
    rig.wait(std::time::Duration::from_secs(10));
    assert_eq!(
        told(&rig.events),
        [
            "granted 10.0.0.0 web a",
            "granted fc00:: web1 a",
            "released 10.0.0.0,fc00:: web1 a 1000 ServiceGone",
            "granted 10.0.0.0 web2 a",
            "released 10.0.0.0 web2 a 1000 Moved",
            "granted 10.0.1.0 web2 b",
            "released 10.0.1.0 web2 b 1000 ServiceGone",
            "reserved 10.0.1.0/default/web",
            "ended 10.0.1.0/default/web Expired",
            "granted 10.0.0.0 late a",
            "reserved 10.0.0.3",
            "ended 10.0.0.3 Replaced",
            "reserved 10.0.0.3/default/web",
            "ended 10.0.0.3/default/web Operator",
            "released 10.0.0.0 late a 10000 PoolGone",
            "granted 10.0.2.0 late c",
            "released 10.0.2.0 late c 20000 PoolGone",
        ]
    );
}

#[test]
fn a_service_that_comes_back_ends_its_reservation_in_the_history_too() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    let kept = Claim { retain: Some(std::time::Duration::from_secs(9)), ..claim("web") };
    rig.claim(kept.clone()).unwrap();
    rig.release("default/web");
    rig.claim(kept).unwrap();
    let wanted = [
        "granted 10.0.0.0 web a",
        "released 10.0.0.0 web a 1000 ServiceGone",
        "reserved 10.0.0.0/default/web",
        "granted 10.0.0.0 web a",
        "ended 10.0.0.0/default/web ServiceBack",
    ];
    assert_eq!(told(&rig.events), wanted);
}

#[test]
fn who_held_an_address_is_found_by_undoing_what_came_since() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    let vip = "10.0.0.0".parse().unwrap();
    let mut times = Vec::new();
    // From the 2nd to the 4th second `a` holds it, then nobody, then `b`.
    for step in ["", "+a", "", "-a", "+b"] {
        rig.wait(std::time::Duration::from_secs(1));
        if let Some(name) = step.strip_prefix('+') {
            rig.claim(claim(name)).unwrap();
        } else if let Some(name) = step.strip_prefix('-') {
            rig.command(Command::Release { leadership: crate::core::Leadership::Present, service: claim(name).service }).unwrap();
        }
        times.push((rig.now.wall, rig.events.len()));
    }
    let wanted = [vec![], vec!["a"], vec!["a"], vec![], vec!["b"]];
    let facts = past(&rig.events);
    for ((at, events), wanted) in times.iter().zip(wanted) {
        let before = past(&rig.events[..*events]).len();
        let mut holders = Holders::now(&rig.state, vip);
        facts[before..].iter().rev().for_each(|fact| holders.undo(fact));
        let names = |known: u64| {
            let found = holders.clone().at(*at, UnixMillis(known));
            assert!(found.iter().all(|holder| holder.since <= *at));
            found.into_iter().map(|holder| holder.service.name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(0), wanted);
        assert_eq!(names(u64::MAX), wanted, "each of them by its own word");
    }
    // Of a time whose facts are pruned only what the present holder says itself is certain.
    let names = |at: u64| Holders::now(&rig.state, vip).at(UnixMillis(at), UnixMillis(7_000)).len();
    assert_eq!((names(5_999), names(6_000)), (0, 1));
}
