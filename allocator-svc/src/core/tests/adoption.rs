//! A first full view adopts what statuses hold, whoever wrote them and in whatever order they come.

use proptest::prelude::*;

use super::*;

fn held(name: &str, addresses: &[&str]) -> Claim {
    Claim { adopt: vips(addresses), ..claim(name) }
}

#[test]
fn what_a_status_holds_is_adopted_before_anybody_gets_anything_new() {
    let dual = |policy, claim: Claim| Claim { families: Families::Dual { primary: Family::V4 }, policy, ..claim };
    let asks = |claim: Claim, addresses: &[&str]| Claim { requested_addresses: vips(addresses), ..claim };
    let of_pool = |claim: Claim, pool: &str| Claim { requested_pool: PoolName::new(pool), ..claim };
    let outside = "[\"192.0.2.1\"] is not allowed in config: 192.0.2.1 is in no pool";
    let cases = [
        ("an address in the midst of a pool", held("web", &["10.0.0.77"]), "10.0.0.77@a", ""),
        (
            "and the very address asked for, as kube-vip's provider does",
            asks(held("web", &["10.0.0.77"]), &["10.0.0.77"]),
            "10.0.0.77@a",
            "",
        ),
        ("in a pool that gives nothing by itself", held("web", &["10.0.2.7"]), "10.0.2.7@manual", ""),
        ("in the pool asked for", of_pool(held("web", &["10.0.2.7"]), "manual"), "10.0.2.7@manual", ""),
        ("in another pool than the one asked for", of_pool(held("web", &["10.0.2.7"]), "a"), "10.0.0.0@a", ""),
        ("another one than the one asked for", asks(held("web", &["10.0.0.77"]), &["10.0.0.9"]), "10.0.0.9@a", ""),
        ("in no pool", held("web", &["192.0.2.1"]), "10.0.0.0@a", outside),
        ("in no pool and asked for", asks(held("web", &["192.0.2.1"]), &["192.0.2.1"]), outside, outside),
        ("one of each family", dual(FamilyPolicy::RequireDualStack, held("web", &["10.0.0.77", "fc00::7"])), "10.0.0.77,fc00::7@a", ""),
        ("one that gains the other", dual(FamilyPolicy::PreferDualStack, held("web", &["10.0.0.77"])), "10.0.0.77,fc00::@a", ""),
        ("of the other family", held("web", &["fc00::7"]), "10.0.0.0@a", ""),
    ];
    let manual = PoolSpec { auto_assign: false, ..pool("manual", &["10.0.2.0/24"]) };
    for (name, claim, wanted, why) in cases {
        let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/24", "fc00::/120"]), manual.clone()]);
        let service = claim.service.clone();
        // Older ones without an address come after it.
        let older = Claim { created: Some(UnixMillis(1)), requested_addresses: claim.adopt.clone(), ..self::claim("older") };
        rig.full_view(vec![older, claim]);
        assert_eq!(rig.outcome(&service).unwrap_or_else(|refusal| refusal), wanted, "{name}");
        assert_eq!(rig.state.book().untenable(&service).map(ToString::to_string).unwrap_or_default(), why, "{name}");
    }
}

#[test]
fn who_asks_in_vain_for_something_else_keeps_what_its_status_holds() {
    let asks = |address: &str| Claim { requested_addresses: vips(&[address]), ..held("web", &["10.0.0.7"]) };
    let cases = [
        (asks("10.9.0.1"), "[\"10.9.0.1\"] is not allowed in config: 10.9.0.1 is in no pool"),
        (asks("10.0.0.8"), "can't change sharing key for \"default/web\", address also in use by default/other"),
        (Claim { requested_pool: PoolName::new("none"), ..held("web", &["10.0.0.7"]) }, "unknown pool \"none\""),
        (Claim { families: Families::Single(Family::V6), ..held("web", &["10.0.0.7"]) }, "no available IPs"),
    ];
    for (claim, refusal) in cases {
        let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/24"])]);
        let service = claim.service.clone();
        rig.full_view(vec![held("other", &["10.0.0.8"]), claim]);
        let outcome = rig.outcome(&service).unwrap_err();
        assert!(rig.held("default/web") == "10.0.0.7@a" && outcome.starts_with(refusal), "{outcome}");
    }
}

#[test]
fn of_two_that_may_not_share_one_keeps_the_address() {
    let both = |name: &str, key: &str, port: &str| Claim { adopt: vips(&["10.0.0.5"]), ..shared(name, key, port) };
    let cases = [
        (both("one", "", "TCP/80"), both("two", "", "TCP/443"), "10.0.0.5@a", "10.0.0.0@a"),
        (both("one", "k", "TCP/80"), both("two", "k", "TCP/443"), "10.0.0.5@a", "10.0.0.5@a"),
        (both("one", "k", "TCP/80"), both("two", "k", "TCP/80"), "10.0.0.5@a", "10.0.0.0@a"),
    ];
    for (one, two, first, second) in cases {
        for order in [vec![one.clone(), two.clone()], vec![two, one]] {
            let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/24"])]);
            rig.full_view(order);
            assert_eq!((rig.held("default/one").as_str(), rig.held("default/two").as_str()), (first, second));
        }
    }
}

#[test]
fn who_cannot_keep_its_address_or_wants_more_takes_nothing_that_another_one_keeps() {
    let prefers =
        Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::PreferDualStack, ..held("a-dual", &["10.0.0.2"]) };
    let v6 = Claim { families: Families::Single(Family::V6), ..held("z-six", &["fc00::"]) };
    // By name those come first that may not have what the others hold: the lowest addresses.
    let claims = vec![prefers, held("a-outside", &["192.0.2.1"]), held("a-twice", &["10.0.0.2"]), held("z", &["10.0.0.0"]), v6, claim("a")];
    let mut rig = Rig::with_pools(vec![pool("p", &["10.0.0.0/29", "fc00::/126"])]);
    rig.full_view(claims);
    let held = ["a-dual", "a-outside", "a-twice", "z", "z-six", "a"].map(|name| rig.held(&format!("default/{name}")));
    assert_eq!(held, ["10.0.0.2,fc00::1@p", "10.0.0.1@p", "10.0.0.3@p", "10.0.0.0@p", "fc00::@p", "10.0.0.4@p"]);
}

/// Four kinds of Services: that keep what they hold, that hold it by mistake, that want more, and that hold nothing.
fn made(at: usize, last: u8, kind: u8) -> Claim {
    let name = format!("s{at}");
    let v4 = format!("10.0.0.{last}");
    let v6 = format!("fc00::{last:x}");
    match kind {
        0 => held(&name, &[&v4]),
        1 => Claim { families: Families::Single(Family::V6), ..held(&name, &[&v6]) },
        2 => held(&name, &[&format!("192.0.2.{last}")]),
        3 => Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::PreferDualStack, ..held(&name, &[&v4]) },
        _ => claim(&name),
    }
}

proptest! {
    #[test]
    fn none_moves_in_whatever_order_they_come(
        services in prop::collection::btree_map(0..60u8, (0..5u8, 0..4u64), 20..40).prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle(),
        shadow in any::<bool>(),
    ) {
        let claims: Vec<Claim> = services.iter().enumerate()
            .map(|(at, (last, (kind, age)))| Claim { created: Some(UnixMillis(*age)), ..made(at, *last, *kind) })
            .collect();
        let mut rig = if shadow { Rig::shadow() } else { Rig::new() };
        let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/24", "fc00::/120"])], vec![]).unwrap();
        rig.command(Command::ReplacePools { leadership: Leadership::Next, configuration }).unwrap();
        rig.full_view(claims.clone());
        let book = rig.state.book();
        for (claim, (_, (kind, _))) in claims.iter().zip(&services) {
            let addresses = &book.lease(&claim.service).unwrap().addresses;
            let (kept, count) = (claim.adopt.iter().all(|vip| addresses.contains(vip)), if *kind == 3 { 2 } else { 1 });
            prop_assert_eq!((kept, addresses.len()), (*kind != 2, count), "{} has {:?}", claim.service, addresses);
        }
        prop_assert_eq!((book.leases().len(), book.waiting().len()), (claims.len(), 0));
        // And again: nothing is news.
        prop_assert_eq!(rig.full_view(claims), vec![]);
    }
}
