//! The real core against a naive one: after any random commands no rule of sharing is broken, nothing moved that could stay, whoever
//! waits could really not be served, nobody gained what is kept from it or more than its namespace may hold, and replaying the facts, as
//! well as a restart from the records, gives the same.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use mooring_proto::types::reservation::ReservationOrigin;

use super::*;
use crate::core::free::Pool;

#[derive(Clone, Debug)]
enum Step {
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

fn service_of(name: u8) -> ServiceKey {
    ServiceKey::new(NAMESPACES[usize::from(name % 2)], &format!("s{name}")).unwrap()
}

fn some_vip(which: u8) -> Vip {
    vips(&["10.0.0.0", "10.0.0.1", "10.0.1.254", "10.0.1.255", "10.0.2.0", "fc00::", "fc00::1", "192.0.2.1"])[usize::from(which)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..8u8, 0..3u8, 0..3u8, 0..4u8, 0..12u8, 0..4u8)
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
        _ => vec![],
    };
    let (families, policy) = match family {
        0 => (Families::Single(Family::V6), FamilyPolicy::SingleStack),
        1 => (Families::Dual { primary: Family::V4 }, FamilyPolicy::PreferDualStack),
        2 => (Families::Dual { primary: Family::V6 }, FamilyPolicy::RequireDualStack),
        _ => (Families::Single(Family::V4), FamilyPolicy::SingleStack),
    };
    let requested_pool = PoolName::new(["", "", "a", "b"][usize::from(*pool)]);
    let sharing_key = SharingKey::new(key);
    let ports = ports(&[port]);
    let requested_addresses = requested;
    // Odd Services keep their addresses for some seconds after they are gone.
    let retain = (name % 2 == 1).then(|| Duration::from_secs(u64::from(*name)));
    let service = service_of(*name);
    Some(Claim { service, requested_addresses, requested_pool, sharing_key, ports, families, policy, retain, ..claim("x") })
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

/// Whether a Service's namespace may hold this address as well.
fn naive_affords(rig: &Rig, claim: &Claim, vip: Vip) -> bool {
    let Some(quota) = claim.quota else { return true };
    let namespace = claim.service.namespace();
    let (leases, quota) = (rig.state.book().leases(), usize::try_from(quota).unwrap());
    let mut after = naive_held(leases.values(), namespace, Some(&claim.service));
    after.insert(vip);
    after.len() <= quota.max(naive_held(leases.values(), namespace, None).len())
}

fn reservations(rig: &Rig) -> Vec<ReservationKey> {
    rig.state.book().reservations().all().keys().cloned().collect()
}

/// No Service gained an address that was kept from it all the time, or that its namespace could not afford.
fn nobody_gained_what_it_may_not(rig: &Rig, before: &BTreeMap<ServiceKey, Lease>, reserved: &[ReservationKey], quota: Option<u32>) -> bool {
    let leases = rig.state.book().leases();
    let is_kept_from =
        |vip: Vip, service: &ServiceKey| naive_kept_from(reserved, vip, service) && naive_kept_from(&reservations(rig), vip, service);
    let gained = |lease: &Lease, vip: &Vip| !before.get(&lease.service).is_some_and(|before| before.addresses.contains(vip));
    let kept =
        leases.values().all(|lease| lease.addresses.iter().filter(|vip| gained(lease, vip)).all(|vip| !is_kept_from(*vip, &lease.service)));
    let within = NAMESPACES.iter().all(|namespace| {
        let (held, had) = (naive_held(leases.values(), namespace, None).len(), naive_held(before.values(), namespace, None).len());
        quota.is_none_or(|quota| held <= had.max(usize::try_from(quota).unwrap()))
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

/// Every free or shareable address that a claim without requests could have, by looking at each address of each pool.
fn naive_could_have(rig: &Rig, claim: &Claim, family: Family) -> bool {
    let (book, reserved) = (rig.state.book(), reservations(rig));
    let v4 = (0..=2u8).flat_map(|third| (0..=255u8).map(move |low| Vip::from(Ipv4Addr::new(10, 0, third, low))));
    let mut everything = v4.chain(vips(&["fc00::", "fc00::1"])).filter(|vip| vip.family() == family);
    everything.any(|vip| {
        let has = |pool: &&Pool| pool.spec().prefixes().any(|net| net.contains(&vip.addr()));
        let Some(pool) = book.pools().values().find(has) else { return false };
        let usable = pool.spec().auto_assign && !(pool.spec().avoid_buggy_ips && vip.is_buggy());
        let is_open = pool.spec().allocation.as_ref().is_none_or(|only| only.namespaces.contains(claim.service.namespace()));
        usable
            && is_open
            && !naive_kept_from(&reserved, vip, &claim.service)
            && naive_affords(rig, claim, vip)
            && book.leases().values().filter(|lease| lease.service != claim.service && lease.addresses.contains(&vip)).all(|lease| {
                claim.sharing_key.is_some()
                    && lease.sharing_key == claim.sharing_key
                    && lease.backend_key == claim.backend_key
                    && lease.ports.is_disjoint(&claim.ports)
            })
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

/// Whoever waits without asking for anything special could really not be served.
fn who_waits_cannot_be_served(rig: &Rig) -> bool {
    let book = rig.state.book();
    book.waiting().keys().filter_map(|service| book.claim(service)).all(|claim| match claim.families {
        Families::Single(family) if claim.requested_addresses.is_empty() && claim.requested_pool.is_none() => {
            !naive_could_have(rig, claim, family)
        }
        Families::Single(_) | Families::Dual { .. } => true,
    })
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
            prop_assert!(nobody_gained_what_it_may_not(&rig, &before, &reserved, quota));
            prop_assert!(who_is_back_has_nothing_retained(&rig));
        }
        prop_assert_eq!(replayed(&rig.events), rig.state.book().leases().clone());
    }
}
