use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::pool::PoolSpec;

use super::*;
use crate::core::tests::{PoolName, Rig, claim, pinned, pool, ports, vips};

const HOUR: u64 = 3600;

fn hours(hours: u64) -> Option<Duration> {
    Some(Duration::from_secs(hours * HOUR))
}

/// A claim whose addresses stay reserved for an hour.
fn retained(name: &str) -> Claim {
    Claim { retain: hours(1), ..claim(name) }
}

fn dual(claim: Claim, policy: FamilyPolicy) -> Claim {
    Claim { families: Families::Dual { primary: Family::V4 }, policy, ..claim }
}

/// In use, reserved and available of a pool's IPv4 addresses.
fn counts(rig: &Rig, name: &str) -> (u64, u64, u64) {
    let pool = &rig.state.book().pools()[&PoolName::new(name).unwrap()];
    let count = pool.count(Family::V4);
    (count.assigned, count.reserved, pool.available(Family::V4))
}

#[test]
fn a_service_that_comes_back_gets_its_address_and_meanwhile_nobody_else_does() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"])]);
    assert_eq!(rig.claim(retained("web")).unwrap(), "10.0.0.0@a");
    rig.release("default/web");
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec!["10.0.0.0/default/web".to_owned()], (0, 1, 1)));
    assert_eq!(rig.claim(claim("other")).unwrap(), "10.0.0.1@a");
    let full = "no available IPs: pool a: 1 of 2 IPv4 addresses leased and 1 reserved";
    assert_eq!(rig.claim(claim("late")).unwrap_err(), full);
    let asks = Claim { requested_addresses: vips(&["10.0.0.0"]), ..claim("asks") };
    let refused = "[\"10.0.0.0\"] is not allowed in config: reserved for default/web until 1970-01-01T01:00:01Z";
    assert_eq!(rig.claim(asks).unwrap_err(), refused);
    rig.wait(Duration::from_secs(HOUR - 1));
    assert_eq!(rig.claim(retained("web")).unwrap(), "10.0.0.0@a");
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec![], (2, 0, 0)), "what was reserved because it was gone is over");
}

#[test]
fn a_reservation_that_ends_by_time_serves_who_waits() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(retained("web")).unwrap();
    rig.release("default/web");
    rig.claim(claim("late")).unwrap_err();
    rig.wait(Duration::from_secs(HOUR - 1));
    assert_eq!(rig.held("default/late"), "");
    rig.wait(Duration::from_secs(1));
    assert_eq!((rig.held("default/late"), rig.reserved(), counts(&rig, "a")), ("10.0.0.0@a".to_owned(), vec![], (1, 0, 0)));
}

#[test]
fn how_long_is_what_the_service_says_or_else_the_flag() {
    for (said, flag, kept) in [(None, 0, None), (None, 2, Some(2)), (hours(0), 2, None), (hours(1), 2, Some(1)), (hours(1), 0, Some(1))] {
        let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
        rig.state.settings.retain = Duration::from_secs(flag * HOUR);
        rig.claim(Claim { retain: said, ..claim("web") }).unwrap();
        let since = rig.now.wall;
        rig.full_view(vec![]);
        let until: Vec<_> = rig.state.book().reservations().all().values().map(|found| found.until.unwrap()).collect();
        let wanted: Vec<_> = kept.map(|kept| since + Duration::from_secs(kept * HOUR)).into_iter().collect();
        assert_eq!(until, wanted, "{said:?} {flag}");
    }
}

#[test]
fn what_a_service_last_said_counts_also_after_a_restart() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"])]);
    rig.claim(claim("web")).unwrap();
    rig.claim(retained("web")).unwrap();
    rig.restart();
    assert!(rig.state.book().claims().is_empty());
    rig.full_view(vec![claim("other")]);
    assert_eq!((rig.reserved(), rig.held("default/other")), (vec!["10.0.0.0/default/web".to_owned()], "10.0.0.1@a".to_owned()));
}

#[test]
fn a_restart_keeps_reservations_and_the_wall_clock_says_which_are_over() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/29"])]);
    rig.reserve("10.0.0.0", None).unwrap();
    rig.reserve("10.0.0.1/default/web", Some(10)).unwrap();
    rig.reserve("10.0.0.2", Some(30)).unwrap();
    rig.now.wall = rig.now.wall + Duration::from_secs(20);
    rig.restart();
    assert_eq!(rig.reserved(), ["10.0.0.0", "10.0.0.2"]);
    rig.wait(Duration::from_secs(9));
    assert_eq!(rig.reserved(), ["10.0.0.0", "10.0.0.2"]);
    rig.wait(Duration::from_secs(1));
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec!["10.0.0.0".to_owned()], (0, 1, 7)));
}

#[test]
fn neither_a_move_nor_a_pool_that_vanishes_reserves_anything() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"]), pool("b", &["10.0.1.0/32"])]);
    rig.claim(retained("web")).unwrap();
    assert_eq!(rig.claim(Claim { requested_pool: PoolName::new("b"), ..retained("web") }).unwrap(), "10.0.1.0@b");
    rig.pools(vec![]);
    rig.wait(Duration::from_secs(20));
    assert_eq!((rig.held("default/web"), rig.reserved()), (String::new(), vec![]));
}

#[test]
fn both_halves_of_a_shared_address_meet_there_again() {
    let half = |name: &str, port: &str| Claim { sharing_key: SharingKey::new("dns"), ports: ports(&[port]), ..retained(name) };
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    rig.claim(claim("low")).unwrap();
    rig.claim(half("tcp", "TCP/53")).unwrap();
    rig.claim(half("udp", "UDP/53")).unwrap();
    rig.release("default/low");
    rig.release("default/tcp");
    assert_eq!(rig.claim(half("third", "TCP/853")).unwrap(), "10.0.0.0@a", "not attracted to what is reserved");
    rig.release("default/third");
    rig.release("default/udp");
    assert_eq!(rig.reserved(), ["10.0.0.0/default/third", "10.0.0.1/default/tcp", "10.0.0.1/default/udp"]);
    assert_eq!(rig.claim(half("udp", "UDP/53")).unwrap(), "10.0.0.1@a");
    assert_eq!(rig.claim(half("tcp", "TCP/53")).unwrap(), "10.0.0.1@a");
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec!["10.0.0.0/default/third".to_owned()], (1, 1, 2)));
}

#[test]
fn the_last_reservation_that_ends_lets_others_share_what_is_held() {
    let half = |name: &str, port: &str| Claim { sharing_key: SharingKey::new("dns"), ports: ports(&[port]), ..claim(name) };
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(half("tcp", "TCP/53")).unwrap();
    rig.reserve("10.0.0.0/default/tcp", None).unwrap();
    rig.claim(half("udp", "UDP/53")).unwrap_err();
    rig.unreserve("10.0.0.0");
    assert_eq!(rig.held("default/udp"), "10.0.0.0@a");
}

/// Pools, what is reserved, and what the Service then gets.
struct Case {
    name: &'static str,
    pools: Vec<PoolSpec>,
    reserved: &'static [&'static str],
    claim: Claim,
    wanted: Result<&'static str, &'static str>,
}

fn both() -> Vec<PoolSpec> {
    vec![pool("a", &["10.0.0.0/30", "fc00::/126"]), pool("b", &["10.0.1.0/30", "fc00:1::/126"])]
}

#[test]
fn a_service_gets_what_is_kept_for_it_where_its_claim_allows_that() {
    let (prefer, require) = (FamilyPolicy::PreferDualStack, FamilyPolicy::RequireDualStack);
    let manual = || vec![PoolSpec { auto_assign: false, ..pool("m", &["10.0.9.0/30"]) }, pool("a", &["10.0.0.0/30"])];
    let v6 = Claim { families: Families::Single(Family::V6), ..claim("web") };
    let cases = [
        Case { name: "it alone", pools: both(), reserved: &["10.0.1.2/default/web"], claim: claim("web"), wanted: Ok("10.0.1.2@b") },
        Case {
            name: "both",
            pools: both(),
            reserved: &["10.0.1.2/default/web", "fc00:1::2/default/web"],
            claim: dual(claim("web"), require),
            wanted: Ok("10.0.1.2,fc00:1::2@b"),
        },
        Case {
            name: "both preferred",
            pools: both(),
            reserved: &["10.0.1.2/default/web", "fc00:1::2/default/web"],
            claim: dual(claim("web"), prefer),
            wanted: Ok("10.0.1.2,fc00:1::2@b"),
        },
        Case {
            name: "one and one more of the same pool",
            pools: both(),
            reserved: &["fc00:1::2/default/web"],
            claim: dual(claim("web"), require),
            wanted: Ok("10.0.1.0,fc00:1::2@b"),
        },
        Case {
            name: "one preferred and one more",
            pools: both(),
            reserved: &["10.0.1.2/default/web"],
            claim: dual(claim("web"), prefer),
            wanted: Ok("10.0.1.2,fc00:1::@b"),
        },
        Case { name: "of its family only", pools: both(), reserved: &["10.0.1.2/default/web"], claim: v6, wanted: Ok("fc00::@a") },
        Case {
            name: "autoAssign does not matter",
            pools: manual(),
            reserved: &["10.0.9.2/default/web"],
            claim: claim("web"),
            wanted: Ok("10.0.9.2@m"),
        },
        Case {
            name: "from the pool it asks for",
            pools: both(),
            reserved: &["10.0.1.2/default/web", "10.0.0.3/default/web"],
            claim: Claim { requested_pool: PoolName::new("b"), ..claim("web") },
            wanted: Ok("10.0.1.2@b"),
        },
        Case {
            name: "not from another pool than it asks for",
            pools: both(),
            reserved: &["10.0.1.2/default/web"],
            claim: Claim { requested_pool: PoolName::new("a"), ..claim("web") },
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "not if it asks for another address",
            pools: both(),
            reserved: &["10.0.1.2/default/web"],
            claim: Claim { requested_addresses: vips(&["10.0.0.1"]), ..claim("web") },
            wanted: Ok("10.0.0.1@a"),
        },
        Case {
            name: "also if it asks for it",
            pools: both(),
            reserved: &["10.0.1.2/default/web"],
            claim: Claim { requested_addresses: vips(&["10.0.1.2"]), ..claim("web") },
            wanted: Ok("10.0.1.2@b"),
        },
        Case {
            name: "not from a pool that is not for it",
            pools: vec![pinned(pool("p", &["10.0.9.0/30"]), 1, &["prod"]), pool("a", &["10.0.0.0/30"])],
            reserved: &["10.0.9.2/default/web"],
            claim: claim("web"),
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "what its status holds comes first",
            pools: both(),
            reserved: &["10.0.1.2/default/web"],
            claim: Claim { adopt: vips(&["10.0.0.3"]), ..claim("web") },
            wanted: Ok("10.0.0.3@a"),
        },
        Case {
            name: "what is kept for nobody is not adopted",
            pools: both(),
            reserved: &["10.0.0.3"],
            claim: Claim { adopt: vips(&["10.0.0.3"]), ..claim("web") },
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "what is kept for nobody",
            pools: both(),
            reserved: &["10.0.0.0", "10.0.0.1"],
            claim: claim("web"),
            wanted: Ok("10.0.0.2@a"),
        },
        Case {
            name: "what is kept for another",
            pools: both(),
            reserved: &["10.0.0.0/default/x"],
            claim: Claim { requested_addresses: vips(&["10.0.0.0"]), ..claim("web") },
            wanted: Err("[\"10.0.0.0\"] is not allowed in config: reserved for default/x"),
        },
    ];
    for case in cases {
        let mut rig = Rig::with_pools(case.pools);
        for key in case.reserved {
            rig.reserve(key, None).unwrap_or_else(|refusal| panic!("{}: {key}: {refusal}", case.name));
        }
        assert_eq!(rig.claim(case.claim), case.wanted.map(str::to_owned).map_err(str::to_owned), "{}", case.name);
    }
}

#[test]
fn what_a_person_reserves_is_checked_and_replaced_and_stands() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/29"])]);
    rig.claim(retained("web")).unwrap();
    let no_pool = "[\"192.0.2.1\"] is not allowed in config: 192.0.2.1 is in no pool";
    assert_eq!(rig.reserve("192.0.2.1", None).unwrap_err(), no_pool);
    let held = "10.0.0.0 is held by default/web: only a Service that holds it alone can have it reserved";
    assert_eq!(rig.reserve("10.0.0.0", None).unwrap_err(), held);
    assert_eq!(rig.reserve("10.0.0.0/default/other", None).unwrap_err(), held);
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec![], (1, 0, 7)), "a refusal changes nothing");
    rig.reserve("10.0.0.0/default/web", None).unwrap();
    assert_eq!(counts(&rig, "a"), (1, 0, 7), "what is held is in use, reserved or not");
    rig.release("default/web");
    rig.wait(Duration::from_secs(2 * HOUR));
    assert_eq!((rig.reserved(), counts(&rig, "a")), (vec!["10.0.0.0/default/web".to_owned()], (0, 1, 7)), "a person's word stands");
    rig.reserve("10.0.0.0/default/other", Some(HOUR)).unwrap();
    assert_eq!(rig.reserved(), ["10.0.0.0/default/other"], "replaced");
    assert_eq!(rig.claim(claim("other")).unwrap(), "10.0.0.0@a");
    assert_eq!(rig.reserved(), ["10.0.0.0/default/other"], "and it stays while the Service is there");
    let ended = rig.unreserve("10.0.0.0");
    assert!(matches!(ended.as_slice(), [Event::ReservationEnded { cause: EndCause::Operator, .. }]), "{ended:?}");
    assert_eq!((rig.unreserve("10.0.0.0"), rig.reserved()), (vec![], vec![]));
}

#[test]
fn an_address_that_is_reserved_for_who_waits_serves_it() {
    let mut rig = Rig::with_pools(vec![PoolSpec { auto_assign: false, ..pool("m", &["10.0.9.0/30"]) }]);
    rig.claim(claim("web")).unwrap_err();
    rig.claim(claim("other")).unwrap_err();
    rig.reserve("10.0.9.1/default/web", None).unwrap();
    assert_eq!((rig.held("default/web"), rig.held("default/other")), ("10.0.9.1@m".to_owned(), String::new()));
}

#[test]
fn a_pool_that_comes_again_finds_its_reserved_addresses_reserved() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    rig.reserve("10.0.0.0", None).unwrap();
    rig.pools(vec![]);
    rig.pools(vec![PoolSpec { avoid_buggy_ips: true, ..pool("a", &["10.0.0.0/30"]) }]);
    assert_eq!(counts(&rig, "a"), (0, 0, 3), "kept back already");
    rig.pools(vec![pool("b", &["10.0.0.0/30"])]);
    assert_eq!((rig.claim(claim("web")).unwrap(), counts(&rig, "b")), ("10.0.0.1@b".to_owned(), (1, 1, 2)));
    rig.unreserve("10.0.0.0");
    assert_eq!(counts(&rig, "b"), (1, 0, 3));
}
