use std::mem::discriminant;
use std::time::Duration;

use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::pool::{AdvertisementSpec, PoolSpec};
use mooring_proto::types::reservation::ReservationKey;
use proptest::prelude::*;

use super::*;
use crate::core::state::Place;
use crate::core::tests::model::{Step, configurations, made, service_of, some_vip, step};
use crate::core::tests::{Rig, advertise_everything, claim, pinned, pool, ports, vips};
use crate::core::{Command, audit};

/// A copy of the rig's book, taken in parts of so many Services.
fn copy(rig: &Rig, most: usize) -> Book {
    let book = rig.state.book();
    let mut parts = vec![book.part(&Place::Services(None), most)];
    while let Some(next) = parts.last().unwrap().next().cloned() {
        parts.push(book.part(&next, most));
    }
    Book::copied(book.configuration(), parts)
}

fn rehearsed(rig: &Rig, most: usize, configuration: Configuration) -> Rehearsal {
    let mut rehearsal = Rehearsal::new(copy(rig, most), rig.state.settings, configuration, rig.now);
    for _ in 0..100_000 {
        if !rehearsal.step() {
            return rehearsal;
        }
    }
    panic!("a rehearsal goes on for ever");
}

fn configuration(pools: Vec<PoolSpec>) -> Configuration {
    Configuration::new(pools, vec![advertise_everything()]).unwrap()
}

/// `NAME before -> after FATE`, with what is told of it.
fn told(plan: &Plan) -> Vec<String> {
    let held = |held: Option<&Held>| {
        let addresses = |held: &Held| held.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        held.map(|held| format!("{}@{}", addresses(held), held.pool)).unwrap_or_else(|| "nothing".to_owned())
    };
    let line = |change: &Change| {
        let why = [&change.untenable, &change.refusal].into_iter().flatten().map(|refusal| format!(": {refusal}")).collect::<String>();
        let silent = if change.unadvertised { " unadvertised" } else { "" };
        let (before, after) = (held(change.before.as_ref()), held(change.after.as_ref()));
        format!("{} {before} -> {after} {:?}{silent}{why}", change.service.name(), change.fate)
    };
    let rest = format!("{} unchanged, {} waiting", plan.unchanged, plan.waiting);
    plan.changes.iter().map(line).chain([rest]).collect()
}

fn from(name: &str, wanted: &str) -> Claim {
    Claim { requested_pool: PoolName::new(wanted), ..claim(name) }
}

#[test]
fn how_each_service_would_fare() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"]), pool("b", &["10.0.1.0/31"])]);
    let dual = Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::PreferDualStack, ..claim("dual") };
    rig.claim(dual).unwrap();
    rig.claim(Claim { requested_addresses: vips(&["10.0.0.3"]), ..claim("asks") }).unwrap();
    rig.claim(claim("plain")).unwrap();
    rig.claim(from("stays", "b")).unwrap();
    rig.claim(from("wants-b", "b")).unwrap();
    rig.claim(from("waits", "b")).unwrap_err();
    rig.claim(from("waits-for-c", "c")).unwrap_err();
    rig.claim(from("waits-for-d", "d")).unwrap_err();
    let before = rig.state.book().leases().clone();
    let of = |pools: Vec<PoolSpec>| told(&rehearsed(&rig, 2, configuration(pools)).plan());
    assert_eq!(of(vec![pool("a", &["10.0.0.0/30"]), pool("b", &["10.0.1.0/31"])]), ["5 unchanged, 3 waiting"], "the same again");
    assert_eq!(
        of(vec![
            pool("a", &["10.0.0.0-10.0.0.2", "fc00::/127"]),
            pool("b", &["10.0.1.0/32"]),
            pool("c", &["10.0.2.0/31"]),
            pool("bb", &["10.0.1.1/32"])
        ]),
        [
            r#"asks 10.0.0.3@a -> nothing Lost: ["10.0.0.3"] is not allowed in config: 10.0.0.3 is in no pool: ["10.0.0.3"] is not allowed in config: 10.0.0.3 is in no pool"#,
            "dual 10.0.0.0@a -> 10.0.0.0,fc00::@a Gained",
            "waits-for-c nothing -> 10.0.2.0@c Served: unknown pool \"c\"",
            "wants-b 10.0.1.1@b -> 10.0.1.1@bb Renamed: no available IPs in pool b: 1 of 1 IPv4 addresses leased",
            "2 unchanged, 2 waiting",
        ]
    );
    assert_eq!(
        of(vec![pool("new", &["10.0.0.0/30"]), pool("z", &["10.0.9.0/24"])]),
        [
            "asks 10.0.0.3@a -> 10.0.0.3@new Renamed",
            "dual 10.0.0.0@a -> 10.0.0.0@new Renamed",
            "plain 10.0.0.1@a -> 10.0.0.1@new Renamed",
            r#"stays 10.0.1.0@b -> nothing Lost: ["10.0.1.0"] is not allowed in config: 10.0.1.0 is in no pool: unknown pool "b""#,
            r#"wants-b 10.0.1.1@b -> nothing Lost: ["10.0.1.1"] is not allowed in config: 10.0.1.1 is in no pool: unknown pool "b""#,
            "0 unchanged, 3 waiting",
        ]
    );
    assert_eq!(*rig.state.book().leases(), before, "nothing has changed");
}

#[test]
fn moves_are_told_with_what_stands_against_staying() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"])]);
    let shares = |name: &str, port: &str| Claim { sharing_key: SharingKey::new("k"), ports: ports(&[port]), ..claim(name) };
    rig.claim(shares("tcp", "TCP/53")).unwrap();
    rig.claim(shares("udp", "UDP/53")).unwrap();
    rig.claim(claim("web")).unwrap();
    let pools = vec![pinned(pool("a", &["10.0.0.0/30"]), 1, &["prod"]), pool("b", &["10.0.1.0/24"])];
    let against = "pool a not compatible for ip assignment: its serviceAllocation does not admit this Service";
    assert_eq!(
        told(&rehearsed(&rig, 1, configuration(pools)).plan()),
        [
            format!("tcp 10.0.0.0@a -> 10.0.1.0@b Moved: {against}"),
            format!("udp 10.0.0.0@a -> 10.0.1.0@b Moved: {against}"),
            format!("web 10.0.0.1@a -> 10.0.1.1@b Moved: {against}"),
            "0 unchanged, 0 waiting".to_owned(),
        ],
        "the two that share an address meet again"
    );
}

#[test]
fn reservations_and_quotas_count_in_a_plan() {
    let by_name = |name: &str, ranges: &[&str]| PoolSpec { auto_assign: false, ..pool(name, ranges) };
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/30"]), by_name("b", &["10.0.1.0/32"])]);
    rig.claim(claim("web")).unwrap();
    rig.claim(from("stays", "b")).unwrap();
    rig.claim(Claim { quota: Some(2), ..from("no-room", "c") }).unwrap_err();
    rig.claim(Claim { quota: Some(3), ..from("room", "c") }).unwrap_err();
    rig.reserve("10.0.0.2/default/other", None).unwrap();
    let after = |rig: &Rig| {
        let pools = vec![pool("a", &["10.0.0.2/31"]), by_name("b", &["10.0.1.0/32"]), by_name("c", &["10.0.3.0/31"])];
        told(&rehearsed(rig, 1, configuration(pools)).plan())
    };
    let room = "room nothing -> 10.0.3.0@c Served: unknown pool \"c\"";
    let untenable = r#"["10.0.0.0"] is not allowed in config: 10.0.0.0 is in no pool"#;
    rig.reserve("10.0.0.3", Some(9)).unwrap();
    let web = format!("web 10.0.0.0@a -> 10.0.0.3@a Moved: {untenable}");
    assert_eq!(after(&rig), [room, &web, "1 unchanged, 1 waiting"], "the reservation is over before the grace is");
    rig.reserve("10.0.0.3", Some(11)).unwrap();
    let full = "no available IPs: pool a: 0 of 2 IPv4 addresses leased and 2 reserved";
    let web = format!("web 10.0.0.0@a -> nothing Lost: {untenable}: {full}");
    assert_eq!(after(&rig), [room, &web, "1 unchanged, 1 waiting"]);
}

#[test]
fn addresses_that_nobody_would_announce_are_told() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/31"])]);
    rig.claim(claim("stays")).unwrap();
    rig.claim(from("moves", "b")).unwrap();
    let only_c = AdvertisementSpec { pools: [PoolName::new("c").unwrap()].into(), ..advertise_everything() };
    let pools = || vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.2.0/31"])];
    let silent = Configuration::new(pools(), vec![only_c]).unwrap();
    assert_eq!(
        told(&rehearsed(&rig, 9, silent.clone()).plan()),
        [
            r#"moves 10.0.1.0@b -> 10.0.2.0@b Moved unadvertised: ["10.0.1.0"] is not allowed in config: 10.0.1.0 is in no pool"#,
            "stays 10.0.0.0@a -> 10.0.0.0@a Unadvertised unadvertised",
            "0 unchanged, 0 waiting",
        ]
    );
    rig.command(Command::ReplacePools { leadership: Leadership::Present, configuration: silent.clone() }).unwrap();
    assert_eq!(told(&rehearsed(&rig, 9, silent).plan()), ["2 unchanged, 0 waiting"], "it is so already");
}

/// Does a step; what Services want is kept in `wanted`, and the quota of their namespaces in `quota`.
fn play(rig: &mut Rig, step: &Step, wanted: &mut BTreeMap<u8, Claim>, quota: &mut Option<u32>) {
    match step {
        Step::Claim { name, .. } => {
            let claim = Claim { quota: *quota, ..made(step).unwrap() };
            wanted.insert(*name, claim.clone());
            rig.claim(claim).ok();
        }
        Step::Release(name) => {
            wanted.remove(name);
            rig.release(&service_of(*name).to_string());
        }
        Step::Pools(which) => drop(rig.pools(configurations()[usize::from(*which)].clone())),
        Step::Wait(seconds) => rig.wait(Duration::from_secs(u64::from(*seconds))),
        Step::FullView(names) => {
            wanted.retain(|name, _| names.contains(name));
            rig.full_view(wanted.values().cloned().collect());
        }
        Step::Reserve { vip, service, seconds } => {
            let key = ReservationKey { address: some_vip(*vip), service: (*service < 8).then(|| service_of(*service)) };
            rig.reserve(&key.to_string(), (*seconds > 0).then_some(u64::from(*seconds))).ok();
        }
        Step::Unreserve(vip) => drop(rig.unreserve(&some_vip(*vip).to_string())),
        Step::Quota(most) => {
            *quota = (*most < 4).then_some(u32::from(*most));
            wanted.values_mut().for_each(|claim| claim.quota = *quota);
            rig.full_view(wanted.values().cloned().collect());
        }
        Step::Restart => {
            rig.restart();
            rig.full_view(wanted.values().cloned().collect());
        }
    }
}

fn pools() -> impl Strategy<Value = Vec<PoolSpec>> {
    let other = [
        vec![pool("b", &["10.0.0.0/31"]), pool("a", &["10.0.1.254-10.0.2.1", "fc00::/127"])],
        vec![pool("a", &["10.0.0.1-10.0.0.2"]), pool("c", &["10.0.3.0/30"])],
        vec![pinned(pool("a", &["10.0.0.0/31", "fc00::/127"]), 1, &["prod"]), pool("b", &["10.0.1.254-10.0.2.1"])],
    ];
    prop::sample::select(configurations().into_iter().chain(other).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn a_plan_foretells_what_happens(steps in prop::collection::vec(step(), 1..30), pools in pools(), most in 1..5usize) {
        let mut rig = Rig::with_pools(configurations()[0].clone());
        let (mut wanted, mut quota) = (BTreeMap::new(), None);
        for step in &steps {
            play(&mut rig, step, &mut wanted, &mut quota);
        }
        let copy = copy(&rig, most);
        prop_assert_eq!(copy.audit(), Ok(()));
        prop_assert_eq!((copy.leases(), copy.claims()), (rig.state.book().leases(), rig.state.book().claims()));
        prop_assert_eq!((copy.waiting(), copy.holders()), (rig.state.book().waiting(), rig.state.book().holders()));
        prop_assert_eq!((copy.next_stranded(), copy.has_due()), (rig.state.book().next_stranded(), false));
        prop_assert!(copy.reservations().agrees_with(rig.state.book().reservations()));

        let before = rig.state.book().clone();
        let rehearsal = rehearsed(&rig, most, configuration(pools.clone()));
        prop_assert_eq!(audit(&rehearsal.state), Ok(()));
        rig.pools(pools);
        rig.wait(rig.state.settings.pool_grace);
        let after = rig.state.book();
        let held = |book: &Book| -> BTreeMap<ServiceKey, Held> {
            book.leases().iter().map(|(service, lease)| (service.clone(), lease.into())).collect()
        };
        prop_assert_eq!(held(&rehearsal.state.book), held(after));
        prop_assert_eq!(rehearsal.state.book.waiting(), after.waiting());
        prop_assert_eq!(rehearsal.state.book.reservations().all(), after.reservations().all());

        let plan = rehearsal.plan();
        let (before, held) = (held(&before), held(after));
        let services: BTreeSet<&ServiceKey> = before.keys().chain(held.keys()).collect();
        let differ: BTreeSet<&ServiceKey> =
            services.iter().copied().filter(|service| before.get(service) != held.get(service)).collect();
        let told: BTreeSet<&ServiceKey> =
            plan.changes.iter().filter(|change| change.fate != Fate::Refused).map(|change| &change.service).collect();
        prop_assert_eq!(told, differ);
        prop_assert_eq!(plan.unchanged + plan.changes.len(), services.len());
        for change in &plan.changes {
            let service = &change.service;
            prop_assert_eq!((change.before.as_ref(), change.after.as_ref()), (before.get(service), held.get(service)));
            prop_assert_eq!(change.untenable.as_ref().map_or(Ok(()), |why| if after.untenable(service) == Some(why) { Ok(()) } else { Err(why) }), Ok(()));
            // How full a pool is, is told as it was when the claim was last looked at.
            let (foretold, told) = (change.refusal.as_ref().map(discriminant), after.refusal(service).map(discriminant));
            prop_assert!(change.fate == Fate::Served || foretold == told);
        }
    }
}
