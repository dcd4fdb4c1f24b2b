//! The real core against a naive one: after any random commands no rule of sharing is broken, nothing moved that could stay, whoever
//! waits, for all or for a second address, could really not be served, and replaying the facts gives the same leases.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::core::free::Pool;

#[derive(Clone, Debug)]
enum Step {
    Claim { name: u8, key: u8, port: u8, pool: u8, address: u8, family: u8 },
    Release(u8),
    Pools(u8),
    Wait(u8),
    FullView(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8u8, 0..3u8, 0..3u8, 0..4u8, 0..14u8, 0..5u8)
            .prop_map(|(name, key, port, pool, address, family)| Step::Claim { name, key, port, pool, address, family }),
        2 => (0..8u8).prop_map(Step::Release),
        1 => (0..4u8).prop_map(Step::Pools),
        1 => (0..20u8).prop_map(Step::Wait),
        1 => prop::collection::vec(0..8u8, 0..8).prop_map(Step::FullView),
    ]
}

fn configurations() -> [Vec<PoolSpec>; 4] {
    let buggy = PoolSpec { avoid_buggy_ips: true, ..pool("b", &["10.0.1.254-10.0.2.1"]) };
    [
        vec![pool("a", &["10.0.0.0/31", "fc00::/127"]), pool("b", &["10.0.1.254-10.0.2.1"])],
        vec![pool("a", &["10.0.0.0/30"]), pinned(buggy, 1, &["default"])],
        vec![PoolSpec { auto_assign: false, ..pool("a", &["10.0.0.0/31", "fc00::/127"]) }],
        vec![],
    ]
}

fn made(step: &Step) -> Option<Claim> {
    let Step::Claim { name, key, port, pool, address, family } = step else { return None };
    let key = ["", "k1", "k2"][usize::from(*key)];
    let port = ["TCP/80", "UDP/80", "TCP/443"][usize::from(*port)];
    let requested = match address {
        0 => vips(&["10.0.0.0"]),
        1 => vips(&["10.0.1.255"]),
        2 => vips(&["192.0.2.1"]),
        3 => vips(&["fc00::1"]),
        4 => vips(&["10.0.0.1", "fc00::"]),
        _ => vec![],
    };
    let adopt = match address {
        5 => vips(&["10.0.0.1"]),
        6 => vips(&["10.0.0.0", "fc00::1"]),
        _ => vec![],
    };
    let (families, policy) = match family {
        0 => (Families::Single(Family::V6), FamilyPolicy::SingleStack),
        1 => (Families::Dual { primary: Family::V4 }, FamilyPolicy::PreferDualStack),
        2 | 3 => (Families::Dual { primary: Family::V6 }, FamilyPolicy::RequireDualStack),
        _ => (Families::Single(Family::V4), FamilyPolicy::SingleStack),
    };
    let requested_pool = PoolName::new(["", "", "a", "b"][usize::from(*pool)]);
    let sharing_key = SharingKey::new(key);
    let ports = ports(&[port]);
    let requested_addresses = requested;
    Some(Claim { requested_addresses, adopt, requested_pool, sharing_key, ports, families, policy, ..claim(&format!("s{name}")) })
}

/// The addresses of a pool that a claim could hold, by looking at each of them.
fn naive_addresses(rig: &Rig, claim: &Claim, pool: &Pool) -> BTreeSet<Vip> {
    let v4 = (0..=2u8).flat_map(|third| (0..=255u8).map(move |low| Vip::from(Ipv4Addr::new(10, 0, third, low))));
    let everything = v4.chain(vips(&["fc00::", "fc00::1"]));
    let of_pool = |vip: &Vip| pool.spec().prefixes().any(|net| net.contains(&vip.addr()));
    let handed_out = |vip: &Vip| !(pool.spec().avoid_buggy_ips && vip.is_buggy());
    let let_in = |vip: &Vip| {
        let others = rig.state.book().leases().values().filter(|lease| lease.service != claim.service && lease.addresses.contains(vip));
        others.into_iter().all(|lease| {
            claim.sharing_key.is_some()
                && lease.sharing_key == claim.sharing_key
                && lease.backend_key == claim.backend_key
                && lease.ports.is_disjoint(&claim.ports)
        })
    };
    everything.filter(|vip| of_pool(vip) && handed_out(vip) && let_in(vip)).collect()
}

fn naive_admits(claim: &Claim, pool: &Pool) -> bool {
    pool.spec().allocation.as_ref().is_none_or(|allocation| allocation.namespaces.contains(claim.service.namespace()))
}

/// Whether one pool has all of these addresses for a claim, and they are of the families that it needs.
fn naive_could_hold(rig: &Rig, claim: &Claim, addresses: &[Vip], all_families: bool) -> bool {
    let families: BTreeSet<Family> = addresses.iter().map(|vip| vip.family()).collect();
    let fits = match (claim.families, claim.policy) {
        (Families::Single(family), _) => families == BTreeSet::from([family]),
        (Families::Dual { .. }, FamilyPolicy::PreferDualStack) if !all_families => !families.is_empty(),
        (Families::Dual { .. }, _) => families.len() == 2,
    };
    let named = |pool: &&Pool| claim.requested_pool.as_ref().is_none_or(|name| *name == pool.spec().name);
    let mut pools = rig.state.book().pools().values().filter(named).filter(|pool| naive_admits(claim, pool));
    fits && pools.any(|pool| addresses.iter().all(|vip| naive_addresses(rig, claim, pool).contains(vip)))
}

/// Whether a claim could be met, by looking at every address of every pool.
fn naive_could_be_served(rig: &Rig, claim: &Claim) -> bool {
    let book = rig.state.book();
    let own = book.lease(&claim.service).map_or(&claim.adopt, |lease| &lease.addresses);
    let sorted = |list: &[Vip]| list.iter().copied().collect::<BTreeSet<_>>();
    let requested = &claim.requested_addresses;
    if (requested.is_empty() || sorted(requested) == sorted(own)) && naive_could_hold(rig, claim, own, false) {
        return true;
    }
    if !requested.is_empty() {
        return naive_could_hold(rig, claim, requested, true);
    }
    let open = |pool: &&Pool| match &claim.requested_pool {
        Some(name) => *name == pool.spec().name && naive_admits(claim, pool),
        None => pool.spec().auto_assign && naive_admits(claim, pool),
    };
    book.pools().values().filter(open).any(|pool| {
        let families: BTreeSet<Family> = naive_addresses(rig, claim, pool).iter().map(|vip| vip.family()).collect();
        match (claim.families, claim.policy) {
            (Families::Single(family), _) => families.contains(&family),
            (Families::Dual { .. }, FamilyPolicy::RequireDualStack) => families.len() == 2,
            (Families::Dual { .. }, FamilyPolicy::PreferDualStack) => !families.is_empty(),
            (Families::Dual { .. }, FamilyPolicy::SingleStack) => false,
        }
    })
}

/// A claim that is refused leaves the Service with what it had.
fn refusal_keeps_the_lease(rig: &Rig, service: &ServiceKey, before: &BTreeMap<ServiceKey, Lease>) -> bool {
    rig.state.book().refusal(service).is_none() || rig.state.book().lease(service) == before.get(service)
}

/// Services that nothing was said about and that want nothing else hold the addresses they held.
fn nothing_moved_that_could_stay(rig: &Rig, before: &BTreeMap<ServiceKey, Lease>) -> bool {
    let book = rig.state.book();
    before.iter().all(|(service, lease)| {
        let Some(claim) = book.claim(service) else { return true };
        let content = lease.ports == claim.ports && lease.sharing_key == claim.sharing_key && lease.addresses.len() == 1;
        let plain =
            claim.requested_addresses.is_empty() && claim.requested_pool.is_none() && claim.families == Families::Single(Family::V4);
        !(plain && content) || book.lease(service).map(|after| &after.addresses) == Some(&lease.addresses)
    })
}

/// Whoever waits, whatever it asks for, could really not be served.
fn who_waits_cannot_be_served(rig: &Rig) -> bool {
    let book = rig.state.book();
    book.waiting().keys().filter_map(|service| book.claim(service)).all(|claim| !naive_could_be_served(rig, claim))
}

/// Whoever may have one address of each family and has one could really not have the other from the same pool.
fn who_has_one_of_two_could_have_no_other(rig: &Rig) -> bool {
    let book = rig.state.book();
    let settled = book.leases().values().filter(|lease| book.refusal(&lease.service).is_none());
    settled.filter_map(|lease| Some((book.claim(&lease.service)?, lease))).all(|(claim, lease)| {
        let may = matches!((claim.families, claim.policy), (Families::Dual { .. }, FamilyPolicy::PreferDualStack));
        let (true, [one], Some(pool)) = (may, lease.addresses.as_slice(), book.pools().get(&lease.pool)) else { return true };
        naive_addresses(rig, claim, pool).iter().all(|vip| vip.family() == one.family())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_core_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..40)) {
        let mut rig = Rig::with_pools(configurations()[0].clone());
        let mut wanted: BTreeMap<u8, Claim> = BTreeMap::new();
        for step in &steps {
            let before = rig.state.book().leases().clone();
            match step {
                Step::Claim { name, .. } => {
                    let claim = made(step).unwrap();
                    wanted.insert(*name, claim.clone());
                    let service = claim.service.clone();
                    let others: BTreeMap<_, _> = before.clone().into_iter().filter(|(other, _)| *other != service).collect();
                    rig.claim(claim).ok();
                    prop_assert!(refusal_keeps_the_lease(&rig, &service, &before));
                    prop_assert!(nothing_moved_that_could_stay(&rig, &others));
                }
                Step::Release(name) => {
                    rig.release(&format!("default/s{name}"));
                    wanted.remove(name);
                    prop_assert!(nothing_moved_that_could_stay(&rig, &before));
                }
                Step::Pools(which) => {
                    rig.pools(configurations()[usize::from(*which)].clone());
                }
                Step::Wait(seconds) => rig.wait(Duration::from_secs(u64::from(*seconds))),
                Step::FullView(names) => {
                    wanted.retain(|name, _| names.contains(name));
                    rig.full_view(wanted.values().cloned().collect());
                    let claims: BTreeSet<&ServiceKey> = wanted.values().map(|claim| &claim.service).collect();
                    prop_assert_eq!(rig.state.book().claims().keys().collect::<BTreeSet<_>>(), claims);
                    prop_assert!(nothing_moved_that_could_stay(&rig, &before));
                }
            }
            prop_assert!(who_waits_cannot_be_served(&rig));
            prop_assert!(who_has_one_of_two_could_have_no_other(&rig));
        }
        prop_assert_eq!(replayed(&rig.events), rig.state.book().leases().clone());
    }
}
