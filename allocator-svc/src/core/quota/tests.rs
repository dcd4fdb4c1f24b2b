use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Families, FamilyPolicy, SharingKey};
use mooring_proto::types::pool::PoolSpec;

use super::*;
use crate::core::tests::{PoolName, Rig, claim, pool, ports, vips};

/// A claim in a namespace that may hold so many addresses.
fn limited(quota: u32, service: &str) -> Claim {
    Claim { service: service.parse().unwrap(), quota: Some(quota), ..claim("x") }
}

fn dual(policy: FamilyPolicy, claim: Claim) -> Claim {
    Claim { families: Families::Dual { primary: Family::V4 }, policy, ..claim }
}

fn shares(port: &str, claim: Claim) -> Claim {
    Claim { sharing_key: SharingKey::new("k"), ports: ports(&[port]), ..claim }
}

fn asks(address: &str, claim: Claim) -> Claim {
    Claim { requested_addresses: vips(&[address]), ..claim }
}

fn pools() -> Vec<PoolSpec> {
    vec![pool("a", &["10.0.0.0/29", "fc00::/125"]), pool("b", &["10.0.1.0/29"])]
}

/// Claims that are made first, then the one in question and what comes of it.
struct Case {
    name: &'static str,
    before: Vec<Claim>,
    claim: Claim,
    wanted: Result<&'static str, &'static str>,
}

#[test]
fn a_namespace_holds_no_more_than_its_quota() {
    let (prefer, require) = (FamilyPolicy::PreferDualStack, FamilyPolicy::RequireDualStack);
    let one = || vec![limited(1, "prod/one")];
    let full = Err("no available IPs: namespace prod holds 1 of its quota of 1 addresses (mooring.io/address-quota)");
    let cases = [
        Case { name: "room", before: one(), claim: limited(2, "prod/s"), wanted: Ok("10.0.0.1@a") },
        Case { name: "no room", before: one(), claim: limited(1, "prod/s"), wanted: full },
        Case {
            name: "none at all",
            before: vec![],
            claim: limited(0, "prod/s"),
            wanted: Err("no available IPs: namespace prod holds 0 of its quota of 0 addresses (mooring.io/address-quota)"),
        },
        Case { name: "of another namespace", before: one(), claim: limited(1, "test/s"), wanted: Ok("10.0.0.1@a") },
        Case { name: "without quota", before: one(), claim: Claim { quota: None, ..limited(1, "prod/s") }, wanted: Ok("10.0.0.1@a") },
        Case { name: "by pool", before: one(), claim: Claim { requested_pool: PoolName::new("b"), ..limited(1, "prod/s") }, wanted: full },
        Case { name: "by address", before: one(), claim: asks("10.0.0.5", limited(1, "prod/s")), wanted: full },
        Case {
            name: "an address that is in no pool is told first",
            before: one(),
            claim: asks("192.0.2.1", limited(1, "prod/s")),
            wanted: Err("[\"192.0.2.1\"] is not allowed in config: 192.0.2.1 is in no pool"),
        },
        Case {
            name: "an unknown pool is told first",
            before: one(),
            claim: Claim { requested_pool: PoolName::new("z"), ..limited(1, "prod/s") },
            wanted: Err("unknown pool \"z\""),
        },
        Case {
            name: "joining what the namespace holds",
            before: vec![shares("TCP/53", limited(1, "prod/tcp"))],
            claim: shares("UDP/53", limited(1, "prod/udp")),
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "joining by address",
            before: vec![shares("TCP/53", limited(1, "prod/tcp"))],
            claim: asks("10.0.0.0", shares("UDP/53", limited(1, "prod/udp"))),
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "joining what another namespace holds",
            before: vec![limited(1, "prod/one"), shares("TCP/53", limited(9, "test/tcp"))],
            claim: shares("UDP/53", limited(1, "prod/udp")),
            wanted: full,
        },
        Case {
            name: "joining its own past a lower one of another namespace",
            before: vec![
                asks("10.0.0.1", shares("TCP/53", limited(1, "prod/tcp"))),
                asks("10.0.0.0", shares("TCP/53", limited(9, "test/tcp"))),
            ],
            claim: shares("UDP/53", limited(1, "prod/udp")),
            wanted: Ok("10.0.0.1@a"),
        },
        Case { name: "two and room for two", before: one(), claim: dual(require, limited(3, "prod/s")), wanted: Ok("10.0.0.1,fc00::@a") },
        Case {
            name: "two and room for one",
            before: one(),
            claim: dual(require, limited(2, "prod/s")),
            wanted: Err(
                "no available IPs: namespace prod holds 1 of its quota of 2 addresses (mooring.io/address-quota), and 2 more are needed",
            ),
        },
        Case { name: "two preferred and room for one", before: one(), claim: dual(prefer, limited(2, "prod/s")), wanted: Ok("10.0.0.1@a") },
        Case { name: "two preferred and no room", before: one(), claim: dual(prefer, limited(1, "prod/s")), wanted: full },
        Case {
            name: "two asked for and room for one",
            before: one(),
            claim: Claim { requested_addresses: vips(&["10.0.0.4", "fc00::4"]), ..dual(prefer, limited(2, "prod/s")) },
            wanted: Err(
                "no available IPs: namespace prod holds 1 of its quota of 2 addresses (mooring.io/address-quota), and 2 more are needed",
            ),
        },
        Case {
            name: "what its status holds is held already",
            before: one(),
            claim: Claim { adopt: vips(&["10.0.0.6"]), ..limited(1, "prod/s") },
            wanted: Ok("10.0.0.6@a"),
        },
        Case {
            name: "a second one to what its status holds",
            before: one(),
            claim: Claim { adopt: vips(&["10.0.0.6"]), ..dual(prefer, limited(2, "prod/s")) },
            wanted: Ok("10.0.0.6@a"),
        },
    ];
    for case in cases {
        let mut rig = Rig::with_pools(pools());
        for before in case.before {
            let service = before.service.clone();
            rig.claim(before).unwrap_or_else(|refusal| panic!("{}: {service}: {refusal}", case.name));
        }
        assert_eq!(rig.claim(case.claim), case.wanted.map(str::to_owned).map_err(str::to_owned), "{}", case.name);
    }
}

#[test]
fn pools_that_are_full_are_told_where_the_quota_has_room() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(limited(2, "prod/one")).unwrap();
    assert_eq!(rig.claim(limited(2, "prod/two")).unwrap_err(), "no available IPs: pool a: 1 of 1 IPv4 addresses leased");
    let both = rig.claim(limited(1, "prod/two")).unwrap_err();
    assert_eq!(both, "no available IPs: namespace prod holds 1 of its quota of 1 addresses (mooring.io/address-quota)");
}

#[test]
fn a_lower_quota_takes_nothing_away_and_lets_services_move() {
    let mut rig = Rig::with_pools(pools());
    for name in ["prod/one", "prod/two", "prod/three"] {
        rig.claim(limited(3, name)).unwrap();
    }
    for name in ["prod/one", "prod/two", "prod/three"] {
        rig.claim(limited(1, name)).unwrap();
    }
    assert_eq!(["prod/one", "prod/two", "prod/three"].map(|name| rig.held(name)), ["10.0.0.0@a", "10.0.0.1@a", "10.0.0.2@a"]);
    let moves = Claim { requested_pool: PoolName::new("b"), ..limited(1, "prod/one") };
    assert_eq!(rig.claim(moves).unwrap(), "10.0.1.0@b", "one for one");
    rig.pools(vec![pool("c", &["10.0.2.0/29"])]);
    rig.wait(std::time::Duration::from_secs(10));
    assert_eq!(rig.held("prod/two"), "10.0.2.1@c", "also where its pool is gone");
    let more = rig.claim(limited(1, "prod/four")).unwrap_err();
    assert_eq!(more, "no available IPs: namespace prod holds 2 of its quota of 1 addresses (mooring.io/address-quota)");
}

#[test]
fn who_waits_for_the_quota_is_served_when_its_namespace_gives_something_back() {
    let mut rig = Rig::with_pools(pools());
    let both = dual(FamilyPolicy::RequireDualStack, limited(2, "prod/both"));
    rig.claim(both.clone()).unwrap();
    rig.claim(limited(2, "prod/one")).unwrap_err();
    rig.claim(limited(9, "test/other")).unwrap();
    rig.release("test/other");
    assert_eq!(rig.held("prod/one"), "");
    rig.claim(Claim { families: Families::Single(Family::V4), ..both }).unwrap();
    assert_eq!(rig.held("prod/one"), "10.0.0.1@a", "a Service needs fewer");
    rig.claim(limited(2, "prod/two")).unwrap_err();
    rig.release("prod/both");
    assert_eq!(rig.held("prod/two"), "10.0.0.0@a", "a Service is gone");
    rig.claim(limited(2, "prod/three")).unwrap_err();
    rig.claim(limited(3, "prod/three")).unwrap();
}

#[test]
fn what_a_status_holds_is_kept_beyond_the_quota_also_where_it_had_to_wait_for_it() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"]), pool("b", &["10.0.1.0/32"])]);
    let adopting = |name: &str| Claim { adopt: vips(&["10.0.0.0"]), ..limited(1, name) };
    assert_eq!(rig.claim(adopting("default/one")).unwrap(), "10.0.0.0@a");
    let full = "no available IPs: namespace default holds 1 of its quota of 1 addresses (mooring.io/address-quota)";
    assert_eq!(rig.claim(adopting("default/two")).unwrap_err(), full);
    assert_eq!(rig.claim(Claim { requested_pool: PoolName::new("b"), ..limited(1, "default/one") }).unwrap(), "10.0.1.0@b");
    assert_eq!(rig.held("default/two"), "10.0.0.0@a", "its status holds it, and nobody else does any more");
    assert_eq!(rig.claim(limited(1, "default/three")).unwrap_err(), full.replace("holds 1", "holds 2"));
}
