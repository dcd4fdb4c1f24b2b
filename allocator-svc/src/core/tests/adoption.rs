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

proptest! {
    #[test]
    fn none_moves_in_whatever_order_they_come(
        held in prop::collection::btree_set(0..200u8, 20),
        order in Just((0..24usize).collect::<Vec<_>>()).prop_shuffle(),
        ages in prop::collection::vec(0..5u64, 24),
        shadow in any::<bool>(),
    ) {
        let address = |last: u8| Vip::from(std::net::Ipv4Addr::new(10, 0, 0, last));
        // Twenty that hold something, and four that do not and may be older than all of them.
        let mut claims: Vec<Claim> = held.iter().enumerate()
            .map(|(at, last)| Claim { adopt: vec![address(*last)], ..claim(&format!("s{at}")) })
            .chain((0..4).map(|at| claim(&format!("new{at}"))))
            .zip(&ages)
            .map(|(claim, age)| Claim { created: Some(UnixMillis(*age)), ..claim })
            .collect();
        let wanted: BTreeMap<ServiceKey, Vec<Vip>> =
            claims.iter().filter(|claim| !claim.adopt.is_empty()).map(|claim| (claim.service.clone(), claim.adopt.clone())).collect();
        claims = order.iter().map(|at| claims[*at].clone()).collect();
        let mut rig = if shadow { Rig::shadow() } else { Rig::new() };
        let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/24"])], vec![]).unwrap();
        rig.command(Command::ReplacePools { leadership: Leadership::Next, configuration }).unwrap();
        rig.full_view(claims);
        let book = rig.state.book();
        for (service, addresses) in &wanted {
            prop_assert_eq!(book.lease(service).map(|lease| &lease.addresses), Some(addresses));
        }
        prop_assert_eq!((book.leases().len(), book.waiting().len()), (24, 0));
    }
}
