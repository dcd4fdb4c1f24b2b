use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{BackendKey, Claim, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::pool::PoolSpec;
use mooring_proto::types::service::ServiceKey;

use crate::core::tests::{PoolName, Rig, claim, pinned, pool, ports, vips};

fn dual(name: &str, policy: FamilyPolicy, primary: Family) -> Claim {
    Claim { families: Families::Dual { primary }, policy, ..claim(name) }
}

fn asks(name: &str, addresses: &[&str]) -> Claim {
    Claim { requested_addresses: vips(addresses), ..claim(name) }
}

fn from_pool(name: &str, wanted: &str) -> Claim {
    Claim { requested_pool: PoolName::new(wanted), ..claim(name) }
}

fn shares(name: &str, key: &str, port: &str) -> Claim {
    Claim { sharing_key: SharingKey::new(key), ports: ports(&[port]), ..claim(name) }
}

/// Pools, claims that are made first, then the claim in question and what comes of it.
struct Case {
    name: &'static str,
    pools: Vec<PoolSpec>,
    before: Vec<Claim>,
    claim: Claim,
    wanted: Result<&'static str, &'static str>,
}

fn check(cases: Vec<Case>) {
    for case in cases {
        let mut rig = Rig::with_pools(case.pools);
        for before in case.before {
            let service = before.service.clone();
            rig.claim(before).unwrap_or_else(|refusal| panic!("{}: {service}: {refusal}", case.name));
        }
        assert_eq!(rig.claim(case.claim), case.wanted.map(str::to_owned).map_err(str::to_owned), "{}", case.name);
    }
}

fn small() -> Vec<PoolSpec> {
    vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/31", "fc00:1::/127"])]
}

#[test]
fn explicit_addresses() {
    let manual = PoolSpec { auto_assign: false, ..pool("manual", &["10.0.9.0/24"]) };
    let buggy = PoolSpec { avoid_buggy_ips: true, ..pool("buggy", &["10.0.8.0/24"]) };
    let other_namespace = pinned(pool("pinned", &["10.0.7.0/24"]), 1, &["prod"]);
    check(vec![
        Case { name: "granted as asked", pools: small(), before: vec![], claim: asks("s", &["10.0.0.1"]), wanted: Ok("10.0.0.1@a") },
        Case {
            name: "autoAssign does not matter",
            pools: vec![manual],
            before: vec![],
            claim: asks("s", &["10.0.9.7"]),
            wanted: Ok("10.0.9.7@manual"),
        },
        Case {
            name: "in no pool",
            pools: small(),
            before: vec![],
            claim: asks("s", &["192.0.2.1"]),
            wanted: Err(r#"["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool"#),
        },
        Case {
            name: "buggy",
            pools: vec![buggy],
            before: vec![],
            claim: asks("s", &["10.0.8.0"]),
            wanted: Err(r#"["10.0.8.0"] is not allowed in config: pool buggy avoids buggy addresses such as 10.0.8.0"#),
        },
        Case {
            name: "not for this namespace",
            pools: vec![other_namespace],
            before: vec![],
            claim: asks("s", &["10.0.7.1"]),
            wanted: Err("pool pinned not compatible for ip assignment: its serviceAllocation does not admit this Service"),
        },
        Case {
            name: "of another family",
            pools: small(),
            before: vec![],
            claim: asks("s", &["fc00:1::1"]),
            wanted: Err(r#"requested loadBalancer IP(s) ["fc00:1::1"] does not match the ipFamily of the service"#),
        },
        Case {
            name: "one for a dual Service",
            pools: small(),
            before: vec![],
            claim: Claim { requested_addresses: vips(&["10.0.1.0"]), ..dual("s", FamilyPolicy::PreferDualStack, Family::V4) },
            wanted: Err(r#"requested loadBalancer IP(s) ["10.0.1.0"] does not match the ipFamily of the service"#),
        },
        Case {
            name: "two, as asked",
            pools: small(),
            before: vec![],
            claim: Claim { requested_addresses: vips(&["fc00:1::1", "10.0.1.1"]), ..dual("s", FamilyPolicy::RequireDualStack, Family::V6) },
            wanted: Ok("fc00:1::1,10.0.1.1@b"),
        },
        Case {
            name: "two in two pools",
            pools: small(),
            before: vec![],
            claim: Claim { requested_addresses: vips(&["10.0.0.1", "fc00:1::1"]), ..dual("s", FamilyPolicy::RequireDualStack, Family::V4) },
            wanted: Err(r#"["10.0.0.1" "fc00:1::1"] is not allowed in config: the addresses are in different pools, a and b"#),
        },
        Case {
            name: "in use",
            pools: small(),
            before: vec![asks("x", &["10.0.0.1"])],
            claim: asks("s", &["10.0.0.1"]),
            wanted: Err(
                r#"can't change sharing key for "default/s", address also in use by default/x: the sharing key on 10.0.0.1 differs"#,
            ),
        },
        Case {
            name: "with its pool",
            pools: small(),
            before: vec![],
            claim: Claim { requested_pool: PoolName::new("a"), ..asks("s", &["10.0.0.1"]) },
            wanted: Ok("10.0.0.1@a"),
        },
        Case {
            name: "with another pool",
            pools: small(),
            before: vec![],
            claim: Claim { requested_pool: PoolName::new("b"), ..asks("s", &["10.0.0.1"]) },
            wanted: Err(r#"requested loadBalancer IP(s) ["10.0.0.1"] is not compatible with requested address pool b: pool a has it"#),
        },
    ]);
}

#[test]
fn a_pool_by_name() {
    let manual = PoolSpec { auto_assign: false, ..pool("manual", &["10.0.9.0/32"]) };
    let v6 = pool("six", &["fc00::/127"]);
    check(vec![
        Case { name: "first free", pools: small(), before: vec![], claim: from_pool("s", "b"), wanted: Ok("10.0.1.0@b") },
        Case {
            name: "autoAssign does not matter",
            pools: vec![manual.clone()],
            before: vec![],
            claim: from_pool("s", "manual"),
            wanted: Ok("10.0.9.0@manual"),
        },
        Case { name: "unknown", pools: small(), before: vec![], claim: from_pool("s", "nope"), wanted: Err(r#"unknown pool "nope""#) },
        Case {
            name: "full, never another",
            pools: vec![manual, pool("a", &["10.0.0.0/24"])],
            before: vec![from_pool("x", "manual")],
            claim: from_pool("s", "manual"),
            wanted: Err("no available IPs in pool manual: 1 of 1 IPv4 addresses leased"),
        },
        Case {
            name: "of another family only",
            pools: vec![v6],
            before: vec![],
            claim: from_pool("s", "six"),
            wanted: Err("no available IPs in pool six: 0 of 0 IPv4 addresses leased"),
        },
        Case {
            name: "for another namespace",
            pools: vec![pinned(pool("p", &["10.0.0.0/24"]), 1, &["prod"])],
            before: vec![],
            claim: from_pool("s", "p"),
            wanted: Err("pool p not compatible for ip assignment: its serviceAllocation does not admit this Service"),
        },
        Case {
            name: "dual and one family missing",
            pools: small(),
            before: vec![],
            claim: Claim { requested_pool: PoolName::new("a"), ..dual("s", FamilyPolicy::RequireDualStack, Family::V4) },
            wanted: Err("no available IPs in pool a for dual IPFamily: 0 of 2 IPv4 addresses leased, 0 of 0 IPv6 addresses leased"),
        },
    ]);
}

#[test]
fn pools_chosen_automatically() {
    let manual = PoolSpec { auto_assign: false, ..pool("a-manual", &["10.0.9.0/24"]) };
    let pins = || {
        vec![
            pinned(pool("p3", &["10.1.3.0/32"]), 3, &[]),
            pinned(pool("p1", &["10.1.1.0/32"]), 1, &["default"]),
            pinned(pool("p0", &["10.1.0.0/32"]), 0, &[]),
            pinned(pool("other", &["10.1.9.0/32"]), 1, &["prod"]),
            pool("common", &["10.2.0.0/24"]),
        ]
    };
    check(vec![
        Case { name: "by name among common pools", pools: small(), before: vec![], claim: claim("s"), wanted: Ok("10.0.0.0@a") },
        Case {
            name: "the next when the first is full",
            pools: small(),
            before: vec![claim("x"), claim("y")],
            claim: claim("s"),
            wanted: Ok("10.0.1.0@b"),
        },
        Case {
            name: "not without autoAssign",
            pools: vec![manual],
            before: vec![],
            claim: claim("s"),
            wanted: Err("no available IPs: no pool is open to this Service"),
        },
        Case {
            name: "all full",
            pools: vec![pool("a", &["10.0.0.0/32"]), pool("b", &["10.0.1.0/32"])],
            before: vec![claim("x"), claim("y")],
            claim: claim("s"),
            wanted: Err("no available IPs: pool a: 1 of 1 IPv4 addresses leased; pool b: 1 of 1 IPv4 addresses leased"),
        },
        Case { name: "pinned by priority", pools: pins(), before: vec![], claim: claim("s"), wanted: Ok("10.1.1.0@p1") },
        Case { name: "then the next priority", pools: pins(), before: vec![claim("x")], claim: claim("s"), wanted: Ok("10.1.3.0@p3") },
        Case { name: "0 is the last", pools: pins(), before: vec![claim("x"), claim("y")], claim: claim("s"), wanted: Ok("10.1.0.0@p0") },
        Case {
            name: "common ones when the pinned are full",
            pools: pins(),
            before: vec![claim("x"), claim("y"), claim("z")],
            claim: claim("s"),
            wanted: Ok("10.2.0.0@common"),
        },
    ]);
}

#[test]
fn families() {
    let both = || vec![pool("a4", &["10.0.0.0/31"]), pool("b46", &["10.0.1.0/31", "fc00:1::/128"]), pool("c6", &["fc00:2::/127"])];
    let need = FamilyPolicy::RequireDualStack;
    let prefer = FamilyPolicy::PreferDualStack;
    check(vec![
        Case {
            name: "IPv6",
            pools: both(),
            before: vec![],
            claim: Claim { families: Families::Single(Family::V6), ..claim("s") },
            wanted: Ok("fc00:1::@b46"),
        },
        Case {
            name: "both from one pool, IPv4 first",
            pools: both(),
            before: vec![],
            claim: dual("s", need, Family::V6),
            wanted: Ok("10.0.1.0,fc00:1::@b46"),
        },
        Case {
            name: "required and no pool has both",
            pools: both(),
            before: vec![dual("x", need, Family::V4)],
            claim: dual("s", need, Family::V4),
            wanted: Err(
                "no available IPs: pool a4: 0 of 2 IPv4 addresses leased, 0 of 0 IPv6 addresses leased; pool b46: 1 of 2 IPv4 addresses leased, 1 of 1 IPv6 addresses leased; pool c6: 0 of 0 IPv4 addresses leased, 0 of 2 IPv6 addresses leased",
            ),
        },
        Case {
            name: "preferred and both",
            pools: both(),
            before: vec![],
            claim: dual("s", prefer, Family::V4),
            wanted: Ok("10.0.1.0,fc00:1::@b46"),
        },
        Case {
            name: "preferred, the primary one",
            pools: both(),
            before: vec![dual("x", need, Family::V4)],
            claim: dual("s", prefer, Family::V6),
            wanted: Ok("fc00:2::@c6"),
        },
        Case {
            name: "preferred, the other one",
            pools: vec![pool("a4", &["10.0.0.0/31"])],
            before: vec![],
            claim: dual("s", prefer, Family::V6),
            wanted: Ok("10.0.0.0@a4"),
        },
        Case {
            name: "one from a pinned pool before two from a common one",
            pools: vec![pinned(pool("pin", &["10.9.0.0/31"]), 1, &[]), pool("both", &["10.0.1.0/31", "fc00:1::/127"])],
            before: vec![],
            claim: dual("s", prefer, Family::V4),
            wanted: Ok("10.9.0.0@pin"),
        },
        Case {
            name: "one family whatever the policy says",
            pools: both(),
            before: vec![],
            claim: Claim { policy: prefer, ..claim("s") },
            wanted: Ok("10.0.0.0@a4"),
        },
    ]);
}

#[test]
fn sharing() {
    let local = |claim: Claim, selector: &str| Claim { backend_key: BackendKey(format!("local:{selector}")), ..claim };
    let at = |claim: Claim, address: &str| Claim { requested_addresses: vips(&[address]), ..claim };
    let first = || vec![at(shares("x", "k", "TCP/80"), "10.0.0.1")];
    check(vec![
        Case {
            name: "a key attracts past a lower free address",
            pools: small(),
            before: first(),
            claim: shares("s", "k", "UDP/80"),
            wanted: Ok("10.0.0.1@a"),
        },
        Case {
            name: "from an earlier pool with room as well",
            pools: small(),
            before: vec![at(shares("x", "k", "TCP/80"), "10.0.1.1")],
            claim: shares("s", "k", "UDP/80"),
            wanted: Ok("10.0.1.1@b"),
        },
        Case { name: "another key", pools: small(), before: first(), claim: shares("s", "other", "UDP/80"), wanted: Ok("10.0.0.0@a") },
        Case { name: "the same port", pools: small(), before: first(), claim: shares("s", "k", "TCP/80"), wanted: Ok("10.0.0.0@a") },
        Case {
            name: "the same port, asked for",
            pools: small(),
            before: first(),
            claim: at(shares("s", "k", "TCP/80"), "10.0.0.1"),
            wanted: Err(r#"port TCP/80 is already in use on "10.0.0.1": default/x has it"#),
        },
        Case {
            name: "another key, asked for",
            pools: small(),
            before: first(),
            claim: at(shares("s", "l", "UDP/80"), "10.0.0.1"),
            wanted: Err(
                r#"can't change sharing key for "default/s", address also in use by default/x: the sharing key on 10.0.0.1 differs"#,
            ),
        },
        Case {
            name: "another policy, asked for",
            pools: small(),
            before: first(),
            claim: at(local(shares("s", "k", "UDP/80"), ""), "10.0.0.1"),
            wanted: Err(
                r#"can't change sharing key for "default/s", address also in use by default/x: the backend key (externalTrafficPolicy, or the selector under Local) on 10.0.0.1 differs"#,
            ),
        },
        Case {
            name: "local with one selector",
            pools: small(),
            before: vec![local(at(shares("x", "k", "TCP/80"), "10.0.0.1"), "app=a")],
            claim: local(shares("s", "k", "UDP/80"), "app=a"),
            wanted: Ok("10.0.0.1@a"),
        },
        Case {
            name: "local with another selector",
            pools: small(),
            before: vec![local(at(shares("x", "k", "TCP/80"), "10.0.0.1"), "app=a")],
            claim: local(shares("s", "k", "UDP/80"), "app=b"),
            wanted: Ok("10.0.0.0@a"),
        },
        Case {
            name: "within a pool asked for",
            pools: small(),
            before: vec![at(shares("x", "k", "TCP/80"), "10.0.1.1")],
            claim: Claim { requested_pool: PoolName::new("b"), ..shares("s", "k", "UDP/80") },
            wanted: Ok("10.0.1.1@b"),
        },
        Case {
            name: "not into a pool without autoAssign",
            pools: vec![PoolSpec { auto_assign: false, ..pool("m", &["10.0.9.0/31"]) }, pool("z", &["10.0.0.0/31"])],
            before: vec![from_pool_shared("x", "m")],
            claim: shares("s", "k", "UDP/80"),
            wanted: Ok("10.0.0.0@z"),
        },
    ]);
}

fn from_pool_shared(name: &str, wanted: &str) -> Claim {
    Claim { requested_pool: PoolName::new(wanted), ..shares(name, "k", "TCP/80") }
}

#[test]
fn the_only_user_changes_its_key_in_place_and_a_partner_that_becomes_compatible_is_served() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/32"])]);
    assert_eq!(rig.claim(shares("x", "k", "TCP/80")).unwrap(), "10.0.0.0@a");
    rig.claim(shares("y", "l", "UDP/80")).unwrap_err();
    assert_eq!(rig.claim(shares("x", "l", "TCP/80")).unwrap(), "10.0.0.0@a", "in place");
    assert_eq!(rig.held("default/y"), "10.0.0.0@a", "served by the change");
    let third = rig.claim(shares("x", "m", "TCP/80")).unwrap_err();
    assert_eq!(third, "no available IPs: pool a: 1 of 1 IPv4 addresses leased");
    assert_eq!(rig.held("default/x"), "10.0.0.0@a", "kept under the old key");
    let lease = rig.state.book().lease(&ServiceKey::new("default", "x").unwrap()).unwrap();
    assert_eq!(lease.sharing_key, SharingKey::new("l"));
    rig.release("default/y");
    assert_eq!(rig.state.book().waiting().len(), 0, "the only user again: the change goes through");
}

#[test]
fn a_change_of_families_keeps_what_is_still_allowed() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30", "fc00::/126"])]);
    rig.claim(claim("low")).unwrap();
    assert_eq!(rig.claim(claim("s")).unwrap(), "10.0.0.1@a");
    rig.release("default/low");
    assert_eq!(rig.claim(dual("s", FamilyPolicy::RequireDualStack, Family::V4)).unwrap(), "10.0.0.1,fc00::@a");
    assert_eq!(rig.claim(claim("s")).unwrap(), "10.0.0.1@a");
}

#[test]
fn a_preferred_second_address_comes_when_the_pool_gains_the_family() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"])]);
    assert_eq!(rig.claim(dual("s", FamilyPolicy::PreferDualStack, Family::V4)).unwrap(), "10.0.0.0@a");
    rig.pools(vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/31", "fc00:1::/127"])]);
    assert_eq!(rig.held("default/s"), "10.0.0.0@a", "never jumps to another pool");
    rig.pools(vec![pool("a", &["10.0.0.0/31", "fc00::/127"])]);
    assert_eq!(rig.held("default/s"), "10.0.0.0,fc00::@a");
}

#[test]
fn who_asks_for_just_the_address_that_it_has_gets_no_second_one() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30", "fc00::/126"])]);
    rig.claim(claim("s")).unwrap();
    let one = Claim { requested_addresses: vips(&["10.0.0.0"]), ..dual("s", FamilyPolicy::PreferDualStack, Family::V4) };
    assert_eq!(rig.claim(one).unwrap(), "10.0.0.0@a");
    rig.pools(vec![pool("a", &["10.0.0.0/30", "fc00::/120"])]);
    assert_eq!(rig.outcome(&claim("s").service).unwrap(), "10.0.0.0@a", "nor when it is looked at again");
}

#[test]
fn a_dual_service_with_the_policy_single_stack_gets_only_what_it_asks_for() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30", "fc00::/126"])]);
    let odd = || dual("s", FamilyPolicy::SingleStack, Family::V4);
    assert!(rig.claim(odd()).unwrap_err().starts_with("no available IPs: pool a: "));
    assert_eq!(rig.claim(Claim { requested_addresses: vips(&["10.0.0.1", "fc00::1"]), ..odd() }).unwrap(), "10.0.0.1,fc00::1@a");
    assert_eq!(rig.claim(odd()).unwrap(), "10.0.0.1,fc00::1@a", "kept");
}
