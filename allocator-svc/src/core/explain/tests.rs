use std::collections::BTreeSet;
use std::time::Duration;

use mooring_proto::types::address::Family;
use mooring_proto::types::backends::Reach;
use mooring_proto::types::claim::{BackendKey, Families, FamilyPolicy, SharingKey};
use mooring_proto::types::labels::LabelSelector;
use mooring_proto::types::node::{InterfaceName, NodeName};
use mooring_proto::types::pool::{AdvertisementSpec, Configuration, NodePreference, PoolSpec};

use super::*;
use crate::core::tests::lan::{Lan, VIP, node, vip};
use crate::core::tests::{Rig, advertise_everything, claim, pinned, pool, ports, vips};
use crate::core::{Command, Leadership, apply};

/// What is explained of `default/NAME`, a line each; rules that are not asked stand in brackets.
fn told(rig: &Rig, name: &str) -> Vec<String> {
    let explained = explain(&rig.state, &claim(name).service, rig.now).unwrap();
    let list = |vips: &[Vip]| vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut lines = Vec::new();
    for trial in &explained.trials {
        let said = match &trial.said {
            Said::Passes(reason) => format!("{} passes: {reason}", trial.rule),
            Said::Grants(grant, reason) => format!("{} grants {}@{}: {reason}", trial.rule, list(&grant.addresses), grant.pool),
            Said::Refuses(refusal) => format!("{} refuses: {refusal}", trial.rule),
        };
        lines.push(if trial.asked { said } else { format!("({said})") });
        let pool = |pool: &PoolTrial| {
            format!("  {} {}{}: {}", if pool.taken { "+" } else { "-" }, pool.pool, list(&pool.offers).replacen("", " ", 1), pool.reason)
        };
        lines.extend(trial.pools.iter().map(pool).map(|line| line.replace(" :", ":")));
    }
    let lease = explained.lease.map(|lease| format!("{}@{}", list(&lease.addresses), lease.pool)).unwrap_or_default();
    let refusal = explained.refusal.map(|refusal| format!(", refused: {refusal}")).unwrap_or_default();
    lines.push(format!("by {}: {lease}{refusal}", explained.decided_by));
    lines
}

/// Only the rules that are asked.
fn asked(rig: &Rig, name: &str) -> Vec<String> {
    let mut asked = true;
    let mut lines = told(rig, name);
    lines.retain(|line| {
        if !line.starts_with(' ') {
            asked = !line.starts_with('(');
        }
        asked
    });
    lines
}

#[test]
fn a_service_that_has_what_it_may_keep_is_told_what_it_would_get_anew() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/31"])]);
    rig.claim(claim("one")).unwrap();
    rig.claim(claim("two")).unwrap();
    rig.claim(claim("web")).unwrap();
    rig.release("default/one");
    assert_eq!(
        told(&rig, "web"),
        [
            "keep grants 10.0.1.0@b: it has them and may have them: nothing moves that can stay",
            "(explicit passes: the Service asks for no address)",
            "(reserved passes: nothing is reserved for the Service)",
            "(requested passes: the Service asks for no pool)",
            "(sharing passes: the Service has no sharing key)",
            "(pinned passes: no pool with a serviceAllocation has what the Service needs)",
            "(auto grants 10.0.0.0@a: 10.0.0.0 is the first that is free)",
            "  + a 10.0.0.0: 10.0.0.0 is the first that is free",
            "  - b 10.0.1.0: pool a is asked before it",
            "by keep: 10.0.1.0@b",
        ]
    );
}

/// Pools, claims that are made first, and what is asked about the claim in question.
struct Case {
    name: &'static str,
    pools: Vec<PoolSpec>,
    before: Vec<Claim>,
    claim: Claim,
    wanted: &'static [&'static str],
}

fn check(cases: Vec<Case>) {
    for case in cases {
        let mut rig = Rig::with_pools(case.pools);
        for before in case.before {
            rig.claim(before).unwrap();
        }
        let name = case.claim.service.name().to_owned();
        rig.claim(case.claim).unwrap_err();
        assert_eq!(asked(&rig, &name), case.wanted, "{}", case.name);
    }
}

const NOTHING: &str = "keep passes: it has no addresses";

fn shares(name: &str, key: &str, port: &str) -> Claim {
    Claim { sharing_key: SharingKey::new(key), ports: ports(&[port]), ..claim(name) }
}

#[test]
fn a_claim_that_waits_is_told_why_each_pool_was_passed_over() {
    let manual = || PoolSpec { auto_assign: false, ..pool("manual", &["10.0.9.0/31"]) };
    let full = || vec![pool("a", &["10.0.0.0/32"]), manual(), pool("six", &["fc00::/127"])];
    let from = |name: &str, wanted: &str| Claim { requested_pool: PoolName::new(wanted), ..claim(name) };
    let local = |claim: Claim| Claim { backend_key: BackendKey("local:app=a".to_owned()), ..claim };
    check(vec![
        Case {
            name: "no room",
            pools: full(),
            before: vec![claim("x")],
            claim: claim("web"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested passes: the Service asks for no pool",
                "sharing passes: the Service has no sharing key",
                "pinned passes: no pool with a serviceAllocation has what the Service needs",
                "auto refuses: no available IPs: pool a: 1 of 1 IPv4 addresses leased; pool six: 0 of 0 IPv4 addresses leased",
                "  - a: 1 of 1 IPv4 addresses leased",
                "  - manual: its autoAssign is false",
                "  - six: it has no IPv4 addresses",
                "by auto: , refused: no available IPs: pool a: 1 of 1 IPv4 addresses leased; pool six: 0 of 0 IPv4 addresses leased",
            ],
        },
        Case {
            name: "pinned pools for others",
            pools: vec![
                PoolSpec { auto_assign: false, ..pinned(pool("p0", &["10.1.0.0/32"]), 0, &[]) },
                pinned(pool("p1", &["10.1.1.0/32"]), 1, &["prod"]),
                pinned(pool("p2", &["10.1.2.0/32"]), 2, &["default"]),
            ],
            before: vec![claim("x")],
            claim: claim("web"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested passes: the Service asks for no pool",
                "sharing passes: the Service has no sharing key",
                "pinned passes: no pool with a serviceAllocation has what the Service needs",
                "  - p1: its serviceAllocation does not admit this Service",
                "  - p2: 1 of 1 IPv4 addresses leased",
                "  - p0: its autoAssign is false",
                "auto refuses: no available IPs: pool p2: 1 of 1 IPv4 addresses leased",
                "by auto: , refused: no available IPs: pool p2: 1 of 1 IPv4 addresses leased",
            ],
        },
        Case {
            name: "an address in use",
            pools: full(),
            before: vec![claim("x")],
            claim: Claim { requested_addresses: vips(&["10.0.0.0"]), ..claim("web") },
            wanted: &[
                NOTHING,
                r#"explicit refuses: can't change sharing key for "default/web", address also in use by default/x: the sharing key on 10.0.0.0 differs"#,
                "  - a: it has an address asked for, which is refused",
                r#"by explicit: , refused: can't change sharing key for "default/web", address also in use by default/x: the sharing key on 10.0.0.0 differs"#,
            ],
        },
        Case {
            name: "an address in no pool",
            pools: full(),
            before: vec![],
            claim: Claim { requested_addresses: vips(&["192.0.2.1"]), ..claim("web") },
            wanted: &[
                NOTHING,
                r#"explicit refuses: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool"#,
                r#"by explicit: , refused: ["192.0.2.1"] is not allowed in config: 192.0.2.1 is in no pool"#,
            ],
        },
        Case {
            name: "a pool that does not exist",
            pools: full(),
            before: vec![],
            claim: from("web", "nope"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                r#"requested refuses: unknown pool "nope""#,
                "  - nope: it does not exist",
                r#"by requested: , refused: unknown pool "nope""#,
            ],
        },
        Case {
            name: "a pool asked for that is for others",
            pools: vec![pinned(pool("p", &["10.0.0.0/24"]), 1, &["prod"])],
            before: vec![],
            claim: from("web", "p"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested refuses: pool p not compatible for ip assignment: its serviceAllocation does not admit this Service",
                "  - p: its serviceAllocation does not admit this Service",
                "by requested: , refused: pool p not compatible for ip assignment: its serviceAllocation does not admit this Service",
            ],
        },
        Case {
            name: "a pool asked for that is full",
            pools: vec![pool("a", &["10.0.0.0/32"]), pool("b", &["10.0.1.0/32"])],
            before: vec![claim("x")],
            claim: from("web", "a"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested refuses: no available IPs in pool a: 1 of 1 IPv4 addresses leased",
                "  - a: 1 of 1 IPv4 addresses leased",
                "by requested: , refused: no available IPs in pool a: 1 of 1 IPv4 addresses leased",
            ],
        },
        Case {
            name: "addresses of its key that it cannot share",
            pools: vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/32"])],
            before: vec![local(shares("x", "k", "UDP/80")), shares("y", "k", "TCP/80"), shares("z", "l", "TCP/80")],
            claim: shares("web", "k", "TCP/80"),
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested passes: the Service asks for no pool",
                "sharing passes: no pool has an address that the Service could share",
                r#"  - a: port TCP/80 is already in use on "10.0.0.1": default/y has it; can't change sharing key for "default/web", address also in use by default/x: the backend key (externalTrafficPolicy, or the selector under Local) on 10.0.0.0 differs"#,
                "  - b: no address of it is held under the Service's sharing key and backend key",
                "pinned passes: no pool with a serviceAllocation has what the Service needs",
                "auto refuses: no available IPs: pool a: 2 of 2 IPv4 addresses leased; pool b: 1 of 1 IPv4 addresses leased",
                "  - a: 2 of 2 IPv4 addresses leased",
                "  - b: 1 of 1 IPv4 addresses leased",
                "by auto: , refused: no available IPs: pool a: 2 of 2 IPv4 addresses leased; pool b: 1 of 1 IPv4 addresses leased",
            ],
        },
        Case {
            name: "both families, and no pool has both",
            pools: vec![pool("a", &["10.0.0.0/31"]), pool("six", &["fc00::/127"])],
            before: vec![],
            claim: Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::RequireDualStack, ..claim("web") },
            wanted: &[
                NOTHING,
                "explicit passes: the Service asks for no address",
                "reserved passes: nothing is reserved for the Service",
                "requested passes: the Service asks for no pool",
                "sharing passes: the Service has no sharing key",
                "pinned passes: no pool with a serviceAllocation has what the Service needs",
                "auto refuses: no available IPs: pool a: 0 of 2 IPv4 addresses leased, 0 of 0 IPv6 addresses leased; pool six: 0 of 0 IPv4 addresses leased, 0 of 2 IPv6 addresses leased",
                "  - a 10.0.0.0: it has no IPv6 addresses",
                "  - six fc00::: it has no IPv4 addresses",
                "by auto: , refused: no available IPs: pool a: 0 of 2 IPv4 addresses leased, 0 of 0 IPv6 addresses leased; pool six: 0 of 0 IPv4 addresses leased, 0 of 2 IPv6 addresses leased",
            ],
        },
    ]);
}

#[test]
fn where_an_address_comes_from_is_told() {
    let mut rig = Rig::with_pools(vec![pinned(pool("p", &["10.1.0.0/30"]), 1, &["default"]), pool("a", &["10.0.0.0/30"])]);
    rig.claim(shares("tcp", "k", "TCP/53")).unwrap();
    let udp = Claim { adopt: vips(&["10.0.0.3"]), requested_pool: PoolName::new("a"), ..shares("udp", "k", "UDP/53") };
    rig.claim(udp.clone()).unwrap();
    rig.claim(Claim { requested_pool: None, adopt: vec![], ..udp }).unwrap();
    // Without what it keeps it would come together with the other half, and its own address would be free.
    assert_eq!(
        told(&rig, "udp"),
        [
            "keep grants 10.0.0.3@a: it has them and may have them: nothing moves that can stay",
            "(explicit passes: the Service asks for no address)",
            "(reserved passes: nothing is reserved for the Service)",
            "(requested passes: the Service asks for no pool)",
            "(sharing grants 10.1.0.0@p: 10.1.0.0 is held by default/tcp and can be shared)",
            "  + p 10.1.0.0: 10.1.0.0 is held by default/tcp and can be shared",
            "  - a: no address of it is held under the Service's sharing key and backend key",
            "(pinned grants 10.1.0.0@p: 10.1.0.0 is held by default/tcp and can be shared)",
            "  + p 10.1.0.0: 10.1.0.0 is held by default/tcp and can be shared",
            "(auto grants 10.0.0.3@a: 10.0.0.3 is its own already)",
            "  + a 10.0.0.3: 10.0.0.3 is its own already",
            "by keep: 10.0.0.3@a",
        ]
    );
}

#[test]
fn what_is_reserved_for_a_service_or_kept_from_it_is_told() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"]), PoolSpec { auto_assign: false, ..pool("manual", &["10.0.9.0/31"]) }]);
    rig.reserve("10.0.9.1/default/web", None).unwrap();
    rig.claim(claim("web")).unwrap();
    let told_anew = |rig: &Rig| told(rig, "web").into_iter().skip(2).take(2).collect::<Vec<_>>();
    assert_eq!(
        told_anew(&rig),
        ["(reserved grants 10.0.9.1@manual: 10.0.9.1 is its own already)", "  + manual 10.0.9.1: 10.0.9.1 is its own already"]
    );
    rig.reserve("10.0.0.1", None).unwrap();
    rig.claim(Claim { requested_addresses: vips(&["10.0.0.1"]), ..claim("asks") }).unwrap_err();
    assert_eq!(
        asked(&rig, "asks"),
        [
            NOTHING,
            r#"explicit refuses: ["10.0.0.1"] is not allowed in config: reserved"#,
            "  - a: it has an address asked for, which is refused",
            r#"by explicit: , refused: ["10.0.0.1"] is not allowed in config: reserved"#,
        ]
    );
    rig.claim(claim("first")).unwrap();
    rig.claim(claim("second")).unwrap_err();
    let full = "no available IPs: pool a: 1 of 2 IPv4 addresses leased and 1 reserved";
    assert_eq!(
        asked(&rig, "second")[6..],
        [
            format!("auto refuses: {full}"),
            "  - a: 1 of 2 IPv4 addresses leased and 1 reserved".to_owned(),
            "  - manual: its autoAssign is false".to_owned(),
            format!("by auto: , refused: {full}"),
        ]
    );
    rig.unreserve("10.0.0.1");
    rig.reserve("10.0.0.0/default/first", None).unwrap();
    rig.claim(Claim { requested_pool: PoolName::new("manual"), ..claim("first") }).unwrap();
    assert_eq!(
        told(&rig, "first")[2..4],
        ["(reserved passes: the Service can have nothing of what is reserved for it)", "  - a: the Service asks for another pool"]
    );
    rig.claim(Claim { families: Families::Single(Family::V6), ..claim("first") }).unwrap_err();
    assert_eq!(
        told(&rig, "first")[2..4],
        [
            "reserved passes: the Service can have nothing of what is reserved for it",
            "  - a: what is kept for the Service in it is of a family that it does not need",
        ]
    );
}

#[test]
fn what_a_service_finds_again_is_told() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31", "fc00::/127"])]);
    rig.claim(Claim { retain: Some(Duration::from_secs(60)), ..claim("web") }).unwrap();
    rig.release("default/web");
    let explained = |claim: &Claim| {
        let mut copy = Rig { state: rig.state.clone(), now: rig.now, events: vec![], is_audited: true };
        apply(&mut copy.state, &Event::ClaimMade(Box::new(claim.clone())));
        told(&copy, "web").into_iter().skip(2).take(2).collect::<Vec<_>>()
    };
    assert_eq!(
        explained(&claim("web")),
        ["reserved grants 10.0.0.0@a: 10.0.0.0 is reserved for it", "  + a 10.0.0.0: 10.0.0.0 is reserved for it"]
    );
    let dual = Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::RequireDualStack, ..claim("web") };
    let both = "10.0.0.0 is reserved for it; fc00:: is the first that is free";
    assert_eq!(explained(&dual), [format!("reserved grants 10.0.0.0,fc00::@a: {both}"), format!("  + a 10.0.0.0,fc00::: {both}")]);
    let exceeded = "no available IPs: namespace default holds 0 of its quota of 0 addresses (mooring.io/address-quota)";
    assert_eq!(
        explained(&Claim { quota: Some(0), ..claim("web") }),
        ["reserved passes: the Service can have nothing of what is reserved for it".to_owned(), format!("  - a: {exceeded}")]
    );
}

#[test]
fn a_quota_that_is_used_up_is_told() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/24", "fc00::/120"])]);
    rig.claim(Claim { quota: Some(1), ..claim("one") }).unwrap();
    rig.claim(Claim { quota: Some(1), ..claim("web") }).unwrap_err();
    let full = "no available IPs: namespace default holds 1 of its quota of 1 addresses (mooring.io/address-quota)";
    assert_eq!(asked(&rig, "web")[6..], [format!("auto refuses: {full}"), format!("  - a: {full}"), format!("by auto: , refused: {full}")]);
    let dual = Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::RequireDualStack, ..claim("web") };
    rig.claim(Claim { quota: Some(2), ..dual }).unwrap_err();
    let full = "no available IPs: namespace default holds 1 of its quota of 2 addresses (mooring.io/address-quota), and 2 more are needed";
    assert_eq!(
        asked(&rig, "web")[6..],
        [format!("auto refuses: {full}"), format!("  - a 10.0.0.1,fc00::: {full}"), format!("by auto: , refused: {full}")]
    );
}

#[test]
fn why_addresses_are_not_kept_is_told_before_the_rules() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"]), pool("b", &["10.0.1.0/32"])]);
    let from = |name: &str, wanted: &str| Claim { requested_pool: PoolName::new(wanted), ..claim(name) };
    let keep = |rig: &Rig, name: &str| told(rig, name).swap_remove(0);
    rig.claim(claim("web")).unwrap();
    rig.claim(from("x", "b")).unwrap();
    rig.claim(from("web", "b")).unwrap_err();
    let why = asked(&rig, "web");
    assert_eq!(why[0], "keep passes: what it has is in pool a, and it asks for another one");
    assert_eq!(
        why.last().unwrap(),
        "by requested: 10.0.0.0@a, refused: no available IPs in pool b: 1 of 1 IPv4 addresses leased",
        "it keeps what it has"
    );
    rig.claim(Claim { requested_addresses: vips(&["10.0.1.0"]), ..claim("web") }).unwrap_err();
    assert_eq!(keep(&rig, "web"), "keep passes: it asks for other addresses than those that it has");
    rig.claim(Claim { families: Families::Single(Family::V6), ..claim("web") }).unwrap_err();
    assert_eq!(keep(&rig, "web"), "keep passes: what it has is not of the families that it needs");
    rig.claim(claim("web")).unwrap();
    rig.pools(vec![]);
    assert_eq!(keep(&rig, "web"), "keep grants 10.0.0.0@a: pool a is gone; until its grace is over it may come back");
    rig.pools(vec![pool("a", &["10.0.9.0/32"]), pool("b", &["10.0.1.0/32"])]);
    assert_eq!(asked(&rig, "web").last().unwrap(), "by keep: 10.0.9.0@a", "it has moved");
    rig.pools(vec![pool("a", &["10.0.8.0/24"]), pinned(pool("c", &["10.0.9.0/32"]), 1, &["prod"])]);
    assert_eq!(asked(&rig, "web").last().unwrap(), "by keep: 10.0.8.0@a");
    rig.pools(vec![pinned(pool("c", &["10.0.8.0/24"]), 1, &["prod"])]);
    let why = asked(&rig, "web");
    assert_eq!(why[0], "keep passes: pool c not compatible for ip assignment: its serviceAllocation does not admit this Service");
    assert_eq!(why.last().unwrap(), "by auto: 10.0.8.0@a, refused: no available IPs: no pool is open to this Service");
    // What only the status holds.
    let adopts = Claim { adopt: vips(&["10.0.0.1"]), ..claim("new") };
    rig.full_view(vec![adopts]);
    assert_eq!(keep(&rig, "new"), r#"keep passes: ["10.0.0.1"] is not allowed in config: 10.0.0.1 is in no pool"#);
}

#[test]
fn a_service_that_is_unknown_or_of_which_only_the_lease_is_known() {
    let mut lan = Lan::of(&["a"]);
    assert!(explain(&lan.rig.state, &claim("nobody").service, lan.rig.now).is_none());
    lan.restarted();
    assert_eq!(told(&lan.rig, "web"), ["by : 10.0.0.0@a"], "nobody has said yet what it asks for");
    let explained = explain(&lan.rig.state, &claim("web").service, lan.rig.now).unwrap();
    assert_eq!((explained.claim, explained.vips.len()), (None, 1));
}

/// Why the VIP is where it is, then each speaker.
fn placed(lan: &Lan) -> Vec<String> {
    let explained = explain(&lan.rig.state, &claim("web").service, lan.rig.now).unwrap();
    let vips = &explained.vips;
    assert_eq!((vips.len(), vips[0].vip, &vips[0].services[..]), (1, vip(VIP), &[claim("web").service][..]));
    let speaker = |speaker: &SpeakerTrial| {
        let part = speaker.part.map_or("-".to_owned(), |part| format!("{part:?}").to_lowercase());
        let worth = match &speaker.worth {
            Ok(worth) => {
                let drained = worth.drained.map(|why| format!(", {why}")).unwrap_or_default();
                format!("place {} score {}{drained}", worth.place.unwrap_or_default(), worth.score)
            }
            Err(reason) => reason.clone(),
        };
        format!("{} {part} {}/{}: {worth}", speaker.id, speaker.active_on, speaker.standby_on)
    };
    std::iter::once(vips[0].reason.clone()).chain(vips[0].speakers.iter().map(speaker)).collect()
}

fn labeled(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: [(key.to_owned(), value.to_owned())].into(), requirements: vec![] }
}

fn advertise(lan: &mut Lan, pools: Vec<PoolSpec>, advertisements: Vec<AdvertisementSpec>) {
    let configuration = Configuration::new(pools, advertisements).unwrap();
    lan.rig.command(Command::ReplacePools { leadership: Leadership::Present, configuration }).unwrap();
    lan.deliver();
}

#[test]
fn every_speaker_is_told_with_what_it_is_worth() {
    let mut lan = Lan::empty(&["a", "b", "c", "d"]);
    lan.nodes(vec![node("a", &[]), node("b", &[("rack", "1")]), node("c", &[("rack", "1")])]);
    let preference = NodePreference { weight: 7, selector: labeled("rack", "1") };
    advertise(
        &mut lan,
        vec![pool("a", &["10.0.0.0/24"])],
        vec![AdvertisementSpec { preferences: vec![preference], ..advertise_everything() }],
    );
    lan.service("web");
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    assert_eq!(BTreeSet::from([&*active, &*standby]), BTreeSet::from(["b", "c"]), "the preferred ones");
    let told = placed(&lan);
    assert_eq!(told[0], format!("{active} announces it: an address stays where it is as long as its node may announce it"));
    // The one that has it already counts it, so that the other one would come first if it were placed anew.
    assert_eq!(told[1], "a/default - 0/0: place 3 score 0");
    assert!(told.contains(&format!("{active}/default active 1/0: place 2 score 7")), "{told:?}");
    assert!(told.contains(&format!("{standby}/default standby 0/1: place 1 score 7")), "{told:?}");
    assert_eq!(told[4], "d/default - 0/0: the cluster has no such node");
    let explained = explain(&lan.rig.state, &claim("web").service, lan.rig.now).unwrap();
    assert_eq!(explained.vips[0].advertisements, ["all"]);
}

#[test]
fn why_a_speaker_may_not_announce_is_told() {
    let mut lan = Lan::of(&["a", "b"]);
    let active = lan.active(VIP);
    let other = lan.other_than(VIP, &["a", "b"].iter().copied().filter(|name| *name != active).chain(["none"]).collect::<Vec<_>>());
    assert_eq!(other, "none", "both have a part");
    let standby = lan.standby(VIP).unwrap();
    lan.reach("web", Reach::Nodes(BTreeSet::from([NodeName::new(&active).unwrap()])));
    assert!(
        placed(&lan).contains(&format!("{standby}/default - 0/0: no endpoint there can serve, and externalTrafficPolicy is Local")),
        "{:?}",
        placed(&lan)
    );
    lan.reach("web", Reach::Nowhere);
    assert_eq!(placed(&lan), ["no endpoint can serve", "a/default - 0/0: no endpoint can serve", "b/default - 0/0: no endpoint can serve"]);
    lan.reach("web", Reach::Anywhere);
    let active = lan.active(VIP);
    lan.reset(&active);
    assert!(placed(&lan).iter().any(|line| line.starts_with(&format!("{active}/default"))), "{:?}", placed(&lan));
    lan.wait(Duration::from_secs(1));
    assert!(placed(&lan).contains(&format!("{active}/default - 0/0: its speaker is lost")), "{:?}", placed(&lan));
    let elsewhere = AdvertisementSpec { interfaces: [InterfaceName::new("eth9").unwrap()].into(), ..advertise_everything() };
    advertise(&mut lan, vec![pool("a", &["10.0.0.0/24"])], vec![elsewhere]);
    assert!(placed(&lan)[0].starts_with("no node is eligible: "), "{:?}", placed(&lan));
    advertise(&mut lan, vec![pool("a", &["10.0.0.0/24"])], vec![]);
    assert_eq!(placed(&lan)[0], "no L2Advertisement is about pool a and this Service");
}

#[test]
fn a_move_that_is_not_over_and_the_grace_of_a_pool_are_told() {
    let mut lan = Lan::of(&["a", "b"]);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(standby.clone());
    lan.reach("web", Reach::Nodes(BTreeSet::from([NodeName::new(&standby).unwrap()])));
    let told = placed(&lan);
    let why = "announces it: an address stays where it is as long as its node may announce it";
    assert_eq!(told[0], format!("{standby} {why}; {active} answers until {standby} has said that it announces it"));
    let line = format!("{active}/default outgoing 0/0: no endpoint there can serve, and externalTrafficPolicy is Local");
    assert!(told.contains(&line), "{told:?}");
    lan.catch_up(&standby, lan.newest(&standby));
    assert_eq!(placed(&lan)[0], format!("{standby} {why}"));
    advertise(&mut lan, vec![], vec![advertise_everything()]);
    assert_eq!(
        placed(&lan)[0],
        format!("{standby} goes on announcing it for now, although no L2Advertisement is about pool a and this Service")
    );
}

#[test]
fn a_drained_node_is_told_as_such() {
    let mut lan = Lan::of(&["a", "b"]);
    lan.wait(Duration::from_secs(3));
    let active = lan.active(VIP);
    lan.drain(&active);
    let other = lan.active(VIP);
    assert_ne!(active, other);
    let told = placed(&lan);
    assert_eq!(told[0], format!("{other} announces it: an address stays where it is as long as its node may announce it"));
    assert!(told.contains(&format!("{active}/default standby 0/1: place 2 score 0, it is drained by hand")), "{told:?}");
    lan.drain(&other);
    assert_eq!(placed(&lan)[0], format!("{other} goes on announcing it although it is drained by hand: no other node is eligible"));
}
