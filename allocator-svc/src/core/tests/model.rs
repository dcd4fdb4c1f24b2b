//! The real core against a naive one: after any random commands no rule of sharing is broken, nothing moved that could stay, whoever
//! waits could really not be served, nobody gained what is kept from it or more than its namespace may hold, and replaying the facts, as
//! well as a restart from the records, gives the same.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use mooring_proto::types::reservation::ReservationOrigin;

use super::*;
use crate::core::dual_stack::Grant;
use crate::core::explain::{Said, explain};
use crate::core::free::Pool;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Claim { name: u8, key: u8, port: u8, pool: u8, address: u8, family: u8 },
    Release(u8),
    Pools(u8),
    Wait(u8),
    FullView(Vec<u8>),
    Reserve { vip: u8, service: u8, seconds: u8 },
    Unreserve(u8),
    Quota(u8),
    Restart,
}

/// The namespaces that the Services are in, in turn.
const NAMESPACES: [&str; 2] = ["default", "prod"];

pub(crate) fn service_of(name: u8) -> ServiceKey {
    ServiceKey::new(NAMESPACES[usize::from(name % 2)], &format!("s{name}")).unwrap()
}

pub(crate) fn some_vip(which: u8) -> Vip {
    vips(&["10.0.0.0", "10.0.0.1", "10.0.1.254", "10.0.1.255", "10.0.2.0", "fc00::", "fc00::1", "192.0.2.1"])[usize::from(which)]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8u8, 0..3u8, 0..3u8, 0..4u8, 0..14u8, 0..5u8)
            .prop_map(|(name, key, port, pool, address, family)| Step::Claim { name, key, port, pool, address, family }),
        2 => (0..8u8).prop_map(Step::Release),
        1 => (0..4u8).prop_map(Step::Pools),
        1 => (0..20u8).prop_map(Step::Wait),
        1 => prop::collection::vec(0..8u8, 0..8).prop_map(Step::FullView),
        2 => (0..8u8, 0..9u8, 0..9u8).prop_map(|(vip, service, seconds)| Step::Reserve { vip, service, seconds }),
        1 => (0..8u8).prop_map(Step::Unreserve),
        1 => (0..5u8).prop_map(Step::Quota),
        1 => Just(Step::Restart),
    ]
}

pub(crate) fn configurations() -> [Vec<PoolSpec>; 4] {
    let buggy = PoolSpec { avoid_buggy_ips: true, ..pool("b", &["10.0.1.254-10.0.2.1"]) };
    [
        vec![pool("a", &["10.0.0.0/31", "fc00::/127"]), pool("b", &["10.0.1.254-10.0.2.1"])],
        vec![pool("a", &["10.0.0.0/30"]), pinned(buggy, 1, &["default"])],
        vec![PoolSpec { auto_assign: false, ..pool("a", &["10.0.0.0/31", "fc00::/127"]) }],
        vec![],
    ]
}

pub(crate) fn made(step: &Step) -> Option<Claim> {
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
    // Odd Services keep their addresses for some seconds after they are gone.
    let retain = (name % 2 == 1).then(|| Duration::from_secs(u64::from(*name)));
    let service = service_of(*name);
    Some(Claim { service, requested_addresses, adopt, requested_pool, sharing_key, ports, families, policy, retain, ..claim("x") })
}

/// Whether a reservation keeps an address from a Service, by looking at all of them.
fn naive_kept_from(reserved: &[ReservationKey], vip: Vip, service: &ServiceKey) -> bool {
    let of: Vec<_> = reserved.iter().filter(|key| key.address == vip).collect();
    !of.is_empty() && of.iter().all(|key| key.service.as_ref() != Some(service))
}

/// The different addresses that a namespace's Services hold, by looking at all leases; without those of one Service.
fn naive_held<'a>(leases: impl IntoIterator<Item = &'a Lease>, namespace: &str, without: Option<&ServiceKey>) -> BTreeSet<Vip> {
    let inside = |lease: &&Lease| lease.service.namespace() == namespace && Some(&lease.service) != without;
    leases.into_iter().filter(inside).flat_map(|lease| lease.addresses.clone()).collect()
}

/// How many of these addresses a Service may hold that no other of its namespace holds, by looking at all leases.
fn naive_affords(rig: &Rig, claim: &Claim, addresses: &BTreeSet<Vip>) -> bool {
    let Some(quota) = claim.quota else { return true };
    let (leases, namespace) = (rig.state.book().leases(), claim.service.namespace());
    let held = naive_held(leases.values(), namespace, None);
    let after: BTreeSet<Vip> = naive_held(leases.values(), namespace, Some(&claim.service)).union(addresses).copied().collect();
    after.len() <= held.len().max(usize::try_from(quota).unwrap())
}

fn reservations(rig: &Rig) -> Vec<ReservationKey> {
    rig.state.book().reservations().all().keys().cloned().collect()
}

/// No Service gained an address that was kept from it all the time, or that its namespace could not afford; what a status held is held.
fn nobody_gained_what_it_may_not(rig: &Rig, before: &BTreeMap<ServiceKey, Lease>, reserved: &[ReservationKey], quota: Option<u32>) -> bool {
    let (book, leases) = (rig.state.book(), rig.state.book().leases());
    let is_kept_from =
        |vip: Vip, service: &ServiceKey| naive_kept_from(reserved, vip, service) && naive_kept_from(&reservations(rig), vip, service);
    let gained = |lease: &Lease, vip: &Vip| !before.get(&lease.service).is_some_and(|before| before.addresses.contains(vip));
    let kept =
        leases.values().all(|lease| lease.addresses.iter().filter(|vip| gained(lease, vip)).all(|vip| !is_kept_from(*vip, &lease.service)));
    let within = NAMESPACES.iter().all(|namespace| {
        let (held, had) = (naive_held(leases.values(), namespace, None), naive_held(before.values(), namespace, None));
        // Whoever gains what its own status holds does so whatever the quota, also where another one of the namespace had it before.
        let adopts = |lease: &&Lease, vip: &Vip| book.claim(&lease.service).is_some_and(|claim| claim.adopt.contains(vip));
        let is_adopted = |vip: &&Vip| {
            let mut holders = leases.values().filter(|lease| lease.addresses.contains(vip));
            holders.any(|lease| gained(lease, vip) && adopts(&lease, vip))
        };
        let adopted = held.iter().filter(is_adopted).count();
        quota.is_none_or(|quota| held.len() - adopted <= had.len().max(usize::try_from(quota).unwrap()))
    });
    kept && within
}

/// Nothing is retained for a Service that holds addresses.
fn who_is_back_has_nothing_retained(rig: &Rig) -> bool {
    let book = rig.state.book();
    let retained = book.reservations().all().values().filter(|found| found.origin == ReservationOrigin::Retention);
    retained.filter_map(|found| found.key.service.as_ref()).all(|service| book.lease(service).is_none())
}

/// A Service whose lease has just ended because it is gone finds its addresses reserved as long as it said.
fn who_is_gone_keeps_its_addresses(rig: &Rig, lease: &Lease) -> bool {
    let Some(retain) = lease.retain.filter(|retain| !retain.is_zero()) else { return true };
    lease.addresses.iter().all(|vip| {
        let key = ReservationKey { address: *vip, service: Some(lease.service.clone()) };
        let found = rig.state.book().reservations().all().get(&key);
        found.is_some_and(|found| found.origin == ReservationOrigin::Operator || found.until == Some(rig.now.wall + retain))
    })
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
    let reserved = reservations(rig);
    let holds_it = |vip: &Vip| rig.state.book().lease(&claim.service).is_some_and(|lease| lease.addresses.contains(vip));
    let kept_from = |vip: &Vip| naive_kept_from(&reserved, *vip, &claim.service) && !holds_it(vip);
    everything.filter(|vip| of_pool(vip) && handed_out(vip) && let_in(vip) && !kept_from(vip)).collect()
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
        return naive_could_hold(rig, claim, requested, true) && naive_affords(rig, claim, &sorted(requested));
    }
    let is_open = |pool: &Pool| claim.requested_pool.is_some() || pool.spec().auto_assign;
    let is_named = |pool: &&Pool| claim.requested_pool.as_ref().is_none_or(|name| *name == pool.spec().name);
    book.pools().values().filter(is_named).filter(|pool| naive_admits(claim, pool)).any(|pool| {
        let all = naive_addresses(rig, claim, pool);
        let kept =
            |vip: &Vip| book.reservations().all().contains_key(&ReservationKey { address: *vip, service: Some(claim.service.clone()) });
        // From a pool that is not open only what is kept for the Service, and what it lacks besides.
        let may = |chosen: &[Vip]| {
            let chosen: BTreeSet<Vip> = chosen.iter().copied().collect();
            (is_open(pool) || chosen.iter().any(kept)) && naive_affords(rig, claim, &chosen)
        };
        let one = |family: Family| all.iter().any(|vip| vip.family() == family && may(&[*vip]));
        let two = || all.iter().any(|v4| all.iter().any(|v6| v4.family() == Family::V4 && v6.family() == Family::V6 && may(&[*v4, *v6])));
        match (claim.families, claim.policy) {
            (Families::Single(family), _) => one(family),
            (Families::Dual { .. }, FamilyPolicy::RequireDualStack) => two(),
            (Families::Dual { .. }, FamilyPolicy::PreferDualStack) => one(Family::V4) || one(Family::V6),
            (Families::Dual { .. }, FamilyPolicy::SingleStack) => false,
        }
    })
}

/// A claim that is refused leaves the Service with what it had.
fn refusal_keeps_the_lease(rig: &Rig, service: &ServiceKey, before: &BTreeMap<ServiceKey, Lease>) -> bool {
    rig.state.book().refusal(service).is_none() || rig.state.book().lease(service) == before.get(service)
}

fn is_one_v4(lease: &Lease) -> bool {
    matches!(lease.addresses.as_slice(), [one] if one.family() == Family::V4)
}

/// Services that were content, that nothing was said about and that want nothing else hold the addresses they held.
fn nothing_moved_that_could_stay(rig: &Rig, before: &BTreeMap<ServiceKey, Lease>) -> bool {
    let book = rig.state.book();
    before.iter().all(|(service, lease)| {
        let Some(claim) = book.claim(service) else { return true };
        let content = lease.ports == claim.ports && lease.sharing_key == claim.sharing_key && is_one_v4(lease);
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

/// The first Service of which something else is explained than what is.
fn told_otherwise(rig: &Rig) -> Option<ServiceKey> {
    let book = rig.state.book();
    // A claim that is met by one address is not looked at again for each one of the other family that is released.
    let holds = |lease: &Lease, grant: &Grant| match &grant.addresses[..] {
        [one, other] if lease.addresses.len() == 1 => [one, other].contains(&&lease.addresses[0]),
        addresses => lease.addresses == addresses,
    };
    let agrees = |service: &&ServiceKey| {
        let told = explain(&rig.state, service, rig.now).unwrap();
        let decided = told.trials.iter().find(|trial| trial.asked && trial.rule == told.decided_by).map(|trial| &trial.said);
        let agrees = match decided {
            Some(Said::Grants(grant, _)) => told.refusal.is_none() && told.lease.as_ref().is_some_and(|lease| holds(lease, grant)),
            Some(Said::Refuses(refusal)) => told.refusal.as_ref() == Some(refusal),
            Some(Said::Passes(_)) | None => false,
        };
        // What others have taken since a claim was refused counts in what is explained.
        agrees && told.lease.as_ref() == book.lease(service) && told.refusal.is_some() == book.refusal(service).is_some()
    };
    book.claims().keys().find(|service| !agrees(service)).cloned()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_core_agrees_with_the_naive_model(steps in prop::collection::vec(step(), 1..40)) {
        let mut rig = Rig::with_pools(configurations()[0].clone());
        let mut wanted: BTreeMap<u8, Claim> = BTreeMap::new();
        let mut quota = None;
        for step in &steps {
            let (before, reserved) = (rig.state.book().leases().clone(), reservations(&rig));
            let content: BTreeMap<_, _> =
                before.clone().into_iter().filter(|(service, _)| rig.state.book().refusal(service).is_none()).collect();
            match step {
                Step::Claim { name, .. } => {
                    let claim = Claim { quota, ..made(step).unwrap() };
                    wanted.insert(*name, claim.clone());
                    let service = claim.service.clone();
                    let others: BTreeMap<_, _> = content.clone().into_iter().filter(|(other, _)| *other != service).collect();
                    rig.claim(claim).ok();
                    prop_assert!(refusal_keeps_the_lease(&rig, &service, &before));
                    prop_assert!(nothing_moved_that_could_stay(&rig, &others));
                }
                Step::Release(name) => {
                    let service = service_of(*name);
                    rig.release(&service.to_string());
                    wanted.remove(name);
                    prop_assert!(before.get(&service).is_none_or(|lease| who_is_gone_keeps_its_addresses(&rig, lease)));
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
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
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
                }
                Step::Reserve { vip, service, seconds } => {
                    let (address, service) = (some_vip(*vip), (*service < 8).then(|| service_of(*service)));
                    let key = ReservationKey { address, service: service.clone() };
                    let others = before.values().any(|lease| lease.addresses.contains(&address) && Some(&lease.service) != service.as_ref());
                    let is_in_a_pool = rig.state.book().pool_of(address).is_some();
                    let done = rig.reserve(&key.to_string(), (*seconds > 0).then_some(u64::from(*seconds)));
                    prop_assert_eq!(done.is_ok(), is_in_a_pool && !others);
                    prop_assert!(done.is_err() || rig.state.book().reservations().of(address).map(|found| &found.key).eq([&key]));
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
                }
                Step::Unreserve(vip) => {
                    rig.unreserve(&some_vip(*vip).to_string());
                    prop_assert!(!rig.state.book().reservations().is_reserved(some_vip(*vip)));
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
                }
                Step::Quota(most) => {
                    quota = (*most < 4).then_some(u32::from(*most));
                    wanted.values_mut().for_each(|claim| claim.quota = quota);
                    rig.full_view(wanted.values().cloned().collect());
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
                }
                Step::Restart => {
                    rig.restart();
                    prop_assert_eq!(rig.state.book().leases(), &before);
                    prop_assert_eq!(reservations(&rig), reserved.clone());
                    rig.full_view(wanted.values().cloned().collect());
                    prop_assert!(nothing_moved_that_could_stay(&rig, &content));
                }
            }
            prop_assert!(who_waits_cannot_be_served(&rig));
            prop_assert_eq!(told_otherwise(&rig), None);
            prop_assert!(nobody_gained_what_it_may_not(&rig, &before, &reserved, quota));
            prop_assert!(who_is_back_has_nothing_retained(&rig));
        }
        prop_assert_eq!(replayed(&rig.events), rig.state.book().leases().clone());
    }
}
