//! How much work a change makes for those who wait: counted in claims that are judged, whatever their number.

use super::*;

/// How many claims were judged.
fn judged(events: &[Event]) -> usize {
    let is_verdict =
        |event: &&Event| matches!(event, Event::LeaseGranted(_) | Event::ClaimRefused { .. } | Event::ClaimRetried(_) | Event::ClaimMet(_));
    events.iter().filter(is_verdict).count()
}

fn number(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:05}")
}

fn dual(claim: Claim, policy: FamilyPolicy) -> Claim {
    Claim { families: Families::Dual { primary: Family::V4 }, policy, ..claim }
}

fn asks(address: &str, claim: Claim) -> Claim {
    Claim { requested_addresses: vips(&[address]), ..claim }
}

fn in_pool(pool: &str, claim: Claim) -> Claim {
    Claim { requested_pool: PoolName::new(pool), ..claim }
}

/// Two pools that are full, one of both families, and ten thousand claims of many kinds that wait.
fn crowd() -> Rig {
    let mut rig = Rig::large(vec![pool("a", &["10.0.0.0/30", "fc00::/126"]), pool("b", &["10.0.1.0/30"])]);
    for holder in 0..4 {
        rig.claim(in_pool("a", dual(shared(&number("a", holder), "k", "TCP/80"), FamilyPolicy::RequireDualStack))).unwrap();
        rig.claim(in_pool("b", claim(&number("b", holder)))).unwrap();
    }
    type Kind = fn(&str) -> Claim;
    let kinds: [(&str, Kind); 10] = [
        ("any", claim),
        ("by-pool", |name| in_pool("a", claim(name))),
        ("explicit", |name| asks("10.0.0.2", claim(name))),
        ("elsewhere", |name| asks("192.0.2.1", claim(name))),
        ("shares", |name| shared(name, "k", "TCP/80")),
        ("shares-alone", |name| shared(name, name, "TCP/80")),
        ("shares-explicit", |name| asks("10.0.0.2", shared(name, "k", "TCP/80"))),
        ("v6", |name| Claim { families: Families::Single(Family::V6), ..claim(name) }),
        ("dual", |name| dual(claim(name), FamilyPolicy::RequireDualStack)),
        ("prefers-dual", |name| dual(claim(name), FamilyPolicy::PreferDualStack)),
    ];
    for waiter in 0..1_000 {
        for (kind, made) in kinds {
            rig.claim(made(&number(kind, waiter))).unwrap_err();
        }
    }
    assert_eq!(rig.state.book().waiting().len(), 10_000);
    rig
}

#[test]
fn of_ten_thousand_who_wait_a_release_looks_at_those_whom_it_helps() {
    let mut rig = crowd();
    let claimed = rig.events.len();
    for (released, served) in [
        ("b-00002", &[("any-00000", "10.0.1.2@b")][..]),
        // Of what becomes free explicit requests come first; the IPv6 address goes to the first that needs no more than that.
        ("a-00002", &[("explicit-00000", "10.0.0.2@a"), ("prefers-dual-00000", "fc00::2@a")]),
        // Who holds one of two comes before all others, as where all are looked at.
        ("a-00001", &[("prefers-dual-00000", "10.0.0.1,fc00::2@a"), ("prefers-dual-00001", "fc00::1@a")]),
        ("explicit-00000", &[("prefers-dual-00001", "10.0.0.2,fc00::1@a")]),
        ("prefers-dual-00001", &[("explicit-00001", "10.0.0.2@a"), ("prefers-dual-00002", "fc00::1@a")]),
    ] {
        let events = rig.release(&format!("default/{released}"));
        for (service, held) in served {
            assert_eq!(rig.held(&format!("default/{service}")), *held, "after the end of {released}");
        }
        assert_eq!(judged(&events), served.len(), "after the end of {released}");
    }
    assert_eq!(judged(&rig.events[..claimed]), 10_008, "each claim was judged once when it was made");
    assert_eq!(rig.state.book().waiting().len(), 10_000 - 6);
    audit(&rig.state).unwrap();
}

#[test]
fn a_change_of_sharing_looks_at_those_whom_it_lets_in() {
    let mut rig = Rig::large(vec![pool("a", &["10.0.0.0/32"])]);
    rig.claim(shared("holder", "k", "TCP/80")).unwrap();
    for waiter in 0..2_000 {
        rig.claim(shared(&number("same-port", waiter), "k", "TCP/80")).unwrap_err();
        rig.claim(shared(&number("other-key", waiter), "other", "TCP/81")).unwrap_err();
        rig.claim(claim(&number("alone", waiter))).unwrap_err();
        rig.claim(asks("10.0.0.0", shared(&number("explicit", waiter), "other", "TCP/80"))).unwrap_err();
    }
    // Another port: one of those that share under this key takes the old one, and then there is room for nobody else.
    let changed = rig.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(shared("holder", "k", "TCP/82")) });
    assert_eq!(judged(&changed.unwrap()), 2);
    assert_eq!(rig.held("default/same-port-00000"), "10.0.0.0@a");
    rig.release("default/same-port-00000");
    assert_eq!(rig.held("default/same-port-00001"), "10.0.0.0@a");
    rig.claim(shared("same-port-00001", "k", "TCP/83")).unwrap();
    assert_eq!(rig.held("default/same-port-00002"), "10.0.0.0@a");
    // Another key, once it is the only user: one explicit request has the port that is free under it, and one more the other.
    rig.release("default/same-port-00001");
    for waiter in 2..2_000 {
        rig.release(&format!("default/{}", number("same-port", waiter)));
    }
    let changed = rig.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(shared("holder", "other", "TCP/82")) });
    assert_eq!(judged(&changed.unwrap()), 3);
    let held = ["explicit-00000", "explicit-00001", "other-key-00000", "other-key-00001"].map(|name| rig.held(&format!("default/{name}")));
    assert_eq!(held, ["10.0.0.0@a", "", "10.0.0.0@a", ""]);
    audit(&rig.state).unwrap();
}

#[test]
fn the_end_of_a_lease_without_a_pool_makes_nobody_due() {
    let evicted = 2_000;
    let mut rig = Rig::large(vec![pool("a", &["10.0.0.0/16"])]);
    for number in 0..evicted {
        let adopt = vips(&[&format!("10.0.{}.{}", number / 256, number % 256)]);
        rig.claim(Claim { adopt, ..claim(&self::number("s", number)) }).unwrap();
    }
    // By then it has been told that there are no speakers.
    rig.wait(SETTINGS.recovery_window);
    rig.pools(vec![]);
    let from = rig.events.len();
    rig.wait(Duration::from_secs(10));
    assert_eq!((rig.state.book().leases().len(), rig.state.book().waiting().len()), (0, evicted));
    let events = &rig.events[from..];
    // For each: the lease ends and why, what the status held has its turn, the claim is refused and why, its address is nobody's to announce.
    assert_eq!(judged(events), evicted);
    assert!(events.len() <= 6 * evicted + 1, "{} facts for {evicted} Services", events.len());
    audit(&rig.state).unwrap();
}

#[test]
fn those_who_wait_for_a_pool_are_served_in_order_when_it_comes() {
    let mut rig = Rig::large(vec![]);
    for waiter in 0..2_000 {
        let created = Some(UnixMillis(u64::try_from(5_000 - waiter).unwrap()));
        rig.claim(Claim { created, ..claim(&number("s", waiter)) }).unwrap_err();
    }
    let events = rig.pools(vec![pool("a", &["10.0.0.0/22"])]);
    assert_eq!(judged(&events), 2_000);
    let held = ["s-01999", "s-01998", "s-00976", "s-00975"].map(|name| rig.held(&format!("default/{name}")));
    assert_eq!(held, ["10.0.0.0@a", "10.0.0.1@a", "10.0.3.255@a", ""], "the oldest first, as long as there are any");
    audit(&rig.state).unwrap();
}

#[test]
fn who_has_one_address_of_two_gets_the_other_as_soon_as_its_pool_has_one() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30", "fc00::/128"]), pool("b", &["fc00:1::/126"])]);
    rig.claim(Claim { families: Families::Single(Family::V6), requested_pool: PoolName::new("a"), ..claim("holder") }).unwrap();
    for name in ["prefers", "prefers-too"] {
        assert_eq!(
            rig.claim(in_pool("a", dual(claim(name), FamilyPolicy::PreferDualStack))).unwrap(),
            rig.held(&format!("default/{name}"))
        );
    }
    let held = |rig: &Rig| ["prefers", "prefers-too"].map(|name| rig.held(&format!("default/{name}")));
    assert_eq!(held(&rig), ["10.0.0.0@a", "10.0.0.1@a"]);
    assert_eq!(judged(&rig.release("default/holder")), 1);
    assert_eq!(held(&rig), ["10.0.0.0,fc00::@a", "10.0.0.1@a"]);
    assert_eq!(judged(&rig.release("default/prefers")), 1);
    assert_eq!(held(&rig), ["", "10.0.0.1,fc00::@a"]);
    // Who can share needs none that is free.
    rig.claim(dual(Claim { requested_pool: PoolName::new("a"), ..shared("shares", "k", "TCP/81") }, FamilyPolicy::PreferDualStack))
        .unwrap();
    assert_eq!(rig.held("default/shares"), "10.0.0.0@a");
    rig.claim(dual(shared("prefers-too", "k", "TCP/80"), FamilyPolicy::PreferDualStack)).unwrap();
    assert_eq!(rig.held("default/shares"), "10.0.0.0,fc00::@a");
}
