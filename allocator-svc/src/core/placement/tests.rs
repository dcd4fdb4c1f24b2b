use std::net::Ipv4Addr;
use std::time::Duration;

use mooring_proto::types::assignment::{Hello, Role, SpeakerMessage};
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::{BackendKey, Claim, SharingKey};
use mooring_proto::types::labels::LabelSelector;
use mooring_proto::types::lease::{Epoch, Lease, Revision};
use mooring_proto::types::node::{EXCLUDE_LABEL, Interface, MacAddress, NodeSpec};
use mooring_proto::types::pool::{Configuration, NodePreference, PoolName};
use mooring_proto::types::service::{ServiceKey, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};
use proptest::prelude::*;

use super::*;
use crate::core::assignment::told;
use crate::core::tests::lan::{Lan, VIP, id, node, vip};
use crate::core::tests::{SETTINGS, advertise_everything, claim, pool, ports};
use crate::core::{Command, Leadership, Now, SessionId, apply, audit, decide};

const NODES: [&str; 3] = ["a", "b", "c"];

fn labeled(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: [(key.to_owned(), value.to_owned())].into(), requirements: vec![] }
}

fn names(list: &[&str]) -> BTreeSet<NodeName> {
    list.iter().map(|name| NodeName::new(name).unwrap()).collect()
}

fn advertise(lan: &mut Lan, advertisements: Vec<AdvertisementSpec>) {
    let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/24"])], advertisements).unwrap();
    lan.rig.command(Command::ReplacePools { leadership: Leadership::Present, configuration }).unwrap();
    lan.deliver();
}

mod spread;
mod unknown;

#[test]
fn vips_are_spread_evenly_and_each_has_a_standby() {
    let mut lan = Lan::empty(&NODES);
    for number in 0..30 {
        lan.service(&format!("s{number}"));
    }
    let network = lan.rig.state.network();
    for name in names(&NODES) {
        assert_eq!(network.active_on(&name), 10, "{name}");
        assert!((7..=13).contains(&network.standby_on(&name)), "{name}: {}", network.standby_on(&name));
    }
}

#[test]
fn nobody_moves_when_others_come() {
    let mut lan = Lan::of(&["a"]);
    for number in 0..9 {
        lan.service(&format!("s{number}"));
    }
    lan.join("b", &[]);
    lan.join("c", &[]);
    lan.wait(Duration::from_secs(2));
    assert_eq!(lan.rig.state.network().active_on(&NodeName::new("a").unwrap()), 10);
    assert!(lan.standby(VIP).is_some(), "but they stand by");
}

#[test]
fn only_what_a_lost_node_had_moves_and_it_is_spread() {
    let mut lan = Lan::empty(&NODES);
    for number in 0..30 {
        lan.service(&format!("s{number}"));
    }
    let before: BTreeMap<Vip, String> =
        lan.rig.state.network().placements().keys().map(|vip| (*vip, lan.active(&vip.to_string()))).collect();
    lan.reset("a");
    lan.wait(Duration::from_secs(1));
    for (vip, node) in before {
        let after = lan.active(&vip.to_string());
        assert!(if node == "a" { after != "a" } else { after == node }, "{vip}: {node}, then {after}");
    }
    let network = lan.rig.state.network();
    assert!(names(&["b", "c"]).iter().all(|name| (12..=18).contains(&network.active_on(name))));
}

#[test]
fn the_standby_takes_over_unless_another_node_has_less_to_do() {
    for (name, burdens, wanted) in [("equals", 0, "standby"), ("another one has less to do", 2, "c")] {
        let mut lan = Lan::of(&["a", "b"]);
        let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
        for number in 0..burdens {
            let burden = format!("s{number}");
            lan.rig.claim(claim(&burden)).unwrap();
            lan.reach(&burden, Reach::Nodes(names(&[&standby])));
        }
        lan.join("c", &[]);
        lan.reset(&active);
        lan.wait(Duration::from_millis(250));
        assert_eq!(lan.active(VIP), if wanted == "standby" { standby } else { wanted.to_owned() }, "{name}");
    }
}

#[test]
fn two_speakers_of_a_node_are_one_node_and_the_twin_takes_over_first() {
    let mut lan = Lan::empty(&["a", "a/second", "b"]);
    lan.nodes(vec![node("a", &[])]);
    lan.service("web");
    let active = lan.active(VIP);
    let twin = if active == "a" { "a/second" } else { "a" };
    lan.nodes(vec![node("a", &[]), node("b", &[])]);
    assert_eq!(lan.standby(VIP).as_deref(), Some(twin));
    lan.reset(&active);
    assert_eq!((lan.active(VIP).as_str(), lan.standby(VIP).as_deref()), (twin, Some("b")), "at once, without the grace");
    lan.wait(Duration::from_millis(250));
    lan.join(&active, &[]);
    assert_eq!((lan.active(VIP).as_str(), lan.standby(VIP)), (twin, Some(active)), "it takes nothing back");
}

#[test]
fn a_twin_leaves_a_speaker_its_time_to_come_back_after_a_start_of_the_allocator() {
    let mut lan = Lan::of(&["a", "a/second"]);
    let active = lan.active(VIP);
    let twin = lan.standby(VIP).unwrap();
    lan.restarted();
    lan.join(&twin, &[]);
    assert_eq!(lan.active(VIP), active, "it may well answer still");
    lan.wait(Duration::from_millis(1900));
    assert_eq!(lan.active(VIP), active);
    lan.wait(Duration::from_millis(200));
    assert_eq!(lan.active(VIP), twin);
}

#[test]
fn a_twin_that_has_not_yet_taken_over_leaves_no_gap_when_the_other_returns() {
    let mut lan = Lan::of(&["a", "a/second"]);
    let (active, twin) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(twin.clone());
    lan.reset(&active);
    lan.join(&active, &[VIP]);
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (twin.clone(), vec![active]));
    let told = lan.newest(&twin);
    lan.catch_up(&twin, told);
    assert_eq!(lan.on_the_wire(VIP), [twin]);
}

#[test]
fn a_vip_goes_where_its_endpoints_are_and_nowhere_without_any() {
    let mut lan = Lan::of(&NODES);
    lan.reach("web", Reach::Nodes(names(&["b"])));
    assert_eq!((lan.active(VIP).as_str(), lan.standby(VIP)), ("b", None));
    lan.reach("web", Reach::Nodes(names(&["c"])));
    assert_eq!(lan.active(VIP), "c");
    lan.reach("web", Reach::Nowhere);
    assert_eq!((lan.active(VIP).as_str(), lan.answering(VIP).len()), ("no endpoint can serve", 0));
    assert_eq!(lan.on_the_wire(VIP), Vec::<String>::new());
    lan.reach("web", Reach::Nodes(names(&["d"])));
    let local = "no endpoint there can serve, and externalTrafficPolicy is Local";
    assert_eq!(lan.active(VIP), format!("no node is eligible: a: {local}; b: {local}; c: {local}"));
    lan.reach("web", Reach::Anywhere);
    assert!(NODES.contains(&lan.active(VIP).as_str()));
}

#[test]
fn a_service_of_which_nothing_is_known_waits_and_an_old_one_stays_where_it_is() {
    let mut lan = Lan::empty(&NODES);
    lan.rig.claim(claim("web")).unwrap();
    assert_eq!(lan.active(VIP), "it is not known yet where it can be served");
    lan.reach("web", Reach::Anywhere);
    let active = lan.active(VIP);
    lan.restarted();
    for node in NODES {
        lan.join(node, if node == active { &[VIP] } else { &[] });
    }
    lan.wait(Duration::from_secs(3));
    assert_eq!(lan.active(VIP), active, "nobody has told the new allocator of backends");
}

#[test]
fn nodes_that_the_cluster_bars_announce_nothing() {
    let mut lan = Lan::of(&NODES);
    let excluded = node("a", &[(EXCLUDE_LABEL, "")]);
    let unavailable = NodeSpec { network_unavailable: true, ..node("b", &[]) };
    lan.nodes(vec![excluded.clone(), unavailable.clone(), node("c", &[])]);
    assert_eq!((lan.active(VIP).as_str(), lan.standby(VIP)), ("c", None));
    lan.nodes(vec![excluded, unavailable]);
    let wanted = "no node is eligible: a: it has the label that excludes it from external load balancers; \
                  b: its condition NetworkUnavailable is True; c: the cluster has no such node";
    assert_eq!((lan.active(VIP).as_str(), lan.on_the_wire(VIP).len()), (wanted, 0));
    lan.nodes(vec![]);
    assert!(NODES.contains(&lan.active(VIP).as_str()), "without any node manifest every speaker's node may");
}

#[test]
fn an_advertisement_says_which_nodes_and_interfaces() {
    let mut lan = Lan::empty(&[]);
    lan.join_with("a", &[], &["eth0"]);
    lan.join_with("b", &[], &["eth0", "lan1"]);
    lan.join_with("c", &[], &["lan1"]);
    lan.nodes(vec![node("a", &[("zone", "x")]), node("b", &[("zone", "x")]), node("c", &[("zone", "y")])]);
    lan.service("web");
    let on = |name: &str| [InterfaceName::new(name).unwrap()].into();
    let selector = |value: &str| vec![labeled("zone", value)];
    advertise(&mut lan, vec![AdvertisementSpec { interfaces: on("lan1"), node_selectors: selector("x"), ..advertise_everything() }]);
    assert_eq!((lan.active(VIP).as_str(), lan.standby(VIP)), ("b", None));
    let placed = lan.rig.state.network().placements()[&vip(VIP)].clone().unwrap();
    assert_eq!(placed.interfaces, on("lan1"));
    advertise(&mut lan, vec![AdvertisementSpec { interfaces: on("lan9"), ..advertise_everything() }]);
    let missing = "it has none of the advertised interfaces";
    assert_eq!(lan.active(VIP), format!("no node is eligible: a: {missing}; b: {missing}; c: {missing}"));
    let silent = |lan: &Lan| lan.rig.state.network().placements()[&vip(VIP)].clone().unwrap_err();
    assert_eq!((silent(&lan).is_amiss(), silent(&lan).lacks_interfaces()), (true, NodeName::new("a").as_ref()));
    advertise(&mut lan, vec![AdvertisementSpec { node_selectors: selector("z"), ..advertise_everything() }]);
    let unselected = "no L2Advertisement selects it";
    assert_eq!(lan.active(VIP), format!("no node is eligible: a: {unselected}; b: {unselected}; c: {unselected}"));
    assert_eq!((silent(&lan).is_amiss(), silent(&lan).lacks_interfaces()), (true, None));
    advertise(&mut lan, vec![]);
    assert_eq!((silent(&lan).is_amiss(), silent(&lan).lacks_interfaces()), (false, None));
    assert_eq!(lan.active(VIP), "no L2Advertisement is about pool a and this Service");
}

#[test]
fn preference_decides_for_a_new_vip_and_moves_no_old_one() {
    let mut lan = Lan::of(&["a", "b"]);
    let other = if lan.active(VIP) == "a" { "b" } else { "a" };
    lan.nodes(vec![node("a", &[("name", "a")]), node("b", &[("name", "b")])]);
    let prefers = NodePreference { weight: 50, selector: labeled("name", other) };
    let before = lan.active(VIP);
    advertise(&mut lan, vec![AdvertisementSpec { preferences: vec![prefers], ..advertise_everything() }]);
    assert_eq!(lan.active(VIP), before);
    for number in 0..3 {
        lan.service(&format!("s{number}"));
        assert_eq!(lan.active(&format!("10.0.0.{}", number + 1)), other);
    }
}

#[test]
fn a_node_without_interfaces_is_left_and_is_eligible_again_with_one() {
    let mut lan = Lan::of(&["a", "b"]);
    let active = lan.active(VIP);
    let other = lan.standby(VIP).unwrap();
    lan.mute.insert(other.clone());
    lan.interfaces(&active, &[]);
    assert_eq!((lan.active(VIP), lan.standby(VIP), lan.answering(VIP)), (other.clone(), None, vec![other.clone()]), "it cannot go on");
    let told = lan.newest(&other);
    lan.catch_up(&other, told);
    assert_eq!(lan.on_the_wire(VIP), [other]);
    lan.interfaces(&active, &["eth0"]);
    assert_eq!(lan.standby(VIP), Some(active));
}

#[test]
fn a_speaker_that_cannot_announce_a_vip_is_left_for_another() {
    let mut lan = Lan::of(&["a", "b"]);
    let active = lan.active(VIP);
    let failures = [(vip(VIP), "no interface".to_owned())].into();
    lan.say(&active, SpeakerMessage::Applied { revision: Revision(1), failures });
    assert_ne!(lan.active(VIP), active);
}

#[test]
fn shared_addresses_are_announced_while_one_of_the_services_can_be_served() {
    let mut lan = Lan::empty(&NODES);
    let key = SharingKey::new("k");
    for (name, port) in [("tcp", "TCP/53"), ("udp", "UDP/53")] {
        let shared = Claim { sharing_key: key.clone(), ports: ports(&[port]), ..claim(name) };
        lan.rig.claim(shared).unwrap();
    }
    lan.reach("tcp", Reach::Nowhere);
    lan.reach("udp", Reach::Nodes(names(&["b"])));
    assert_eq!(lan.active(VIP), "b");
    let mine = told(&lan.rig.state, &id("b"), [vip(VIP)]).0.remove(0);
    assert_eq!(mine.services.iter().map(|(service, _)| service.name()).collect::<Vec<_>>(), ["tcp", "udp"]);
    lan.reach("udp", Reach::Nowhere);
    assert_eq!(lan.active(VIP), "no endpoint can serve");
}

/// All that is to be looked at, in rounds of so many VIPs; how many decisions and judgments it took.
fn settle_in_rounds_of(state: &mut State, at_once: usize) -> (usize, usize) {
    let (mut decisions, mut fits) = (0, 0);
    while state.network.has_dirty() {
        let mut round = Round::new(state);
        let events: Vec<Event> = state.network.dirty().take(at_once).map(|vip| round.place(vip)).collect();
        fits += round.fits;
        decisions += events.len();
        events.iter().for_each(|event| apply(state, event));
    }
    (decisions, fits)
}

const NOW: Now = Now { mono: Mono::ZERO, wall: UnixMillis(1) };

fn carry_out(state: &mut State, command: Command) {
    decide(state, command, NOW).unwrap().iter().for_each(|event| apply(state, event));
}

/// A speaker with one interface comes on a stream.
fn join(state: &mut State, session: SessionId, speaker: &str, held: BTreeMap<Vip, Role>) {
    let mac = MacAddress([2, 0, 0, 0, 0, u8::try_from(session.0).unwrap()]);
    let interfaces = vec![Interface { name: InterfaceName::new("eth0").unwrap(), mac, addresses: vec![] }];
    let hello = Hello { speaker: id(speaker), boot_id: String::new(), interfaces, held, taken: BTreeSet::new(), asks_first: true };
    carry_out(state, Command::SpeakerSaid { session, message: SpeakerMessage::Hello(hello) });
}

/// A state as a start finds it on disk: so many VIPs on so many nodes.
fn on_disk(vips: u32, nodes: u32) -> State {
    let mut state = State::new(SETTINGS);
    let mut take = |event: Event| apply(&mut state, &event);
    let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/16"])], vec![advertise_everything()]).unwrap();
    take(Event::ConfigurationReplaced { configuration, stranded_until: Mono::ZERO });
    for number in 0..vips {
        let vip = Vip::from(Ipv4Addr::from(0x0a00_0000 + number));
        let lease = Lease {
            service: ServiceKey::new("default", &format!("s{number}")).unwrap(),
            uid: ServiceUid::default(),
            addresses: vec![vip],
            pool: PoolName::new("a").unwrap(),
            ports: BTreeSet::new(),
            sharing_key: None,
            backend_key: BackendKey::default(),
            revision: Revision::default(),
            granted: UnixMillis::default(),
            retain: None,
        };
        take(Event::LeaseGranted(Box::new(lease)));
        take(Event::VipPlaced { vip, placement: Ok(Placement::on(id(&format!("n{}", number % nodes)))) });
    }
    take(Event::EpochBegan(Epoch(1)));
    state
}

#[test]
fn speakers_that_come_back_after_a_start_cost_as_many_judgments_as_there_are_vips_and_speakers() {
    let (vips, nodes) = (10_000, 20);
    let mut state = on_disk(vips, nodes);
    let active = |placed: &Result<Placement, Unannounced>| placed.clone().unwrap().active;
    let before: BTreeMap<Vip, SpeakerId> = state.network.placements().iter().map(|(vip, placed)| (*vip, active(placed))).collect();
    let mut costs = vec![settle_in_rounds_of(&mut state, AT_ONCE)];
    for number in 0..nodes {
        let speaker = format!("n{number}");
        let held = before.iter().filter(|(_, active)| **active == id(&speaker)).map(|(vip, _)| (*vip, Role::Active)).collect();
        join(&mut state, SessionId(number.into()), &speaker, held);
        costs.push(settle_in_rounds_of(&mut state, AT_ONCE));
    }
    apply(&mut state, &Event::RecoveryEnded);
    costs.push(settle_in_rounds_of(&mut state, AT_ONCE));
    audit(&state).unwrap();
    let (decisions, fits) = costs.iter().fold((0, 0), |sum, cost| (sum.0 + cost.0, sum.1 + cost.1));
    let bound = usize::try_from(vips + nodes).unwrap();
    assert!(decisions <= 4 * bound && fits <= bound, "{decisions} decisions, {fits} judgments");
    for (vip, active) in &before {
        let placed = state.network.placements()[vip].clone().unwrap();
        assert!(placed.active == *active && placed.standby.is_some_and(|standby| standby.node != active.node), "{vip}");
    }
    for number in 0..nodes {
        let standby = state.network.standby_on(&id(&format!("n{number}")).node);
        assert!((450..=550).contains(&standby), "n{number} stands by for {standby}");
    }
}

#[test]
fn a_speaker_that_comes_is_no_reason_to_look_at_what_is_as_it_should_be() {
    let mut lan = Lan::empty(&NODES);
    for number in 0..30 {
        lan.service(&format!("s{number}"));
    }
    let looked_at = |lan: &mut Lan, what: &dyn Fn(&mut Lan)| {
        let from = lan.rig.events.len();
        what(lan);
        let looked = lan.rig.events[from..].iter().filter(|event| matches!(event, Event::VipPlaced { .. } | Event::VipKept(_)));
        looked.count()
    };
    assert_eq!(looked_at(&mut lan, &|lan| lan.join("d", &[])), 0, "everything has its node and its standby");
    let (network, a) = (lan.rig.state.network(), NodeName::new("a").unwrap());
    let own = network.active_on(&a) + network.standby_on(&a);
    assert_eq!(looked_at(&mut lan, &|lan| lan.interfaces("a", &["eth0", "eth1"])), own, "what its own node has");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn decisions_made_together_are_those_made_one_after_the_other(
        vips in 1..40u32,
        nodes in prop::collection::vec((0..3u32, any::<bool>(), any::<bool>()), 1..6),
        reaches in prop::collection::vec(0..4usize, 40),
        weights in any::<bool>(),
        drained in prop::collection::vec(any::<bool>(), 6),
    ) {
        let mut state = on_disk(vips, 2);
        let prefers = NodePreference { weight: 5, selector: labeled("good", "yes") };
        let preferences = if weights { vec![prefers] } else { vec![] };
        let advertisements = vec![AdvertisementSpec { preferences, ..advertise_everything() }];
        let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/16"])], advertisements).unwrap();
        carry_out(&mut state, Command::ReplacePools { leadership: Leadership::Present, configuration });
        let good = |number: usize| if number.is_multiple_of(2) { "yes" } else { "no" };
        let one = |number: usize| NodeSpec { cordoned: drained[number], ..node(&format!("n{number}"), &[("good", good(number))]) };
        let all = (0..nodes.len().max(2)).map(one).collect();
        carry_out(&mut state, Command::ReplaceNodes { leadership: Leadership::Present, nodes: all });
        for (number, reach) in (0..vips).zip(&reaches) {
            let some = [Reach::Anywhere, Reach::Nowhere, Reach::Nodes(names(&["n0", "n1"])), Reach::Nodes(names(&["n2"]))];
            let service = ServiceKey::new("default", &format!("s{number}")).unwrap();
            let backends = vec![Backends { service, reach: some[*reach].clone() }];
            carry_out(&mut state, Command::ReportBackends { leadership: Leadership::Present, backends });
        }
        for (number, (instances, drains, recovered)) in (0u64..).zip(&nodes) {
            for instance in 0..=*instances {
                let session = SessionId(number * 10 + u64::from(instance));
                join(&mut state, session, &format!("n{number}/i{instance}"), BTreeMap::new());
                if *drains {
                    carry_out(&mut state, Command::SpeakerSaid { session, message: SpeakerMessage::Draining });
                }
            }
            if *recovered {
                apply(&mut state, &Event::RecoveryEnded);
            }
            let (mut together, mut apart) = (state.clone(), state.clone());
            settle_in_rounds_of(&mut together, AT_ONCE);
            settle_in_rounds_of(&mut apart, 1);
            prop_assert_eq!(together.network.placements(), apart.network.placements());
            audit(&together).unwrap();
            state = together;
        }
    }
}

#[test]
fn everybody_who_may_announce_a_vip_is_a_peer_to_whom_the_holder_yields() {
    let lan = Lan::of(&NODES);
    let active = id(&lan.active(VIP));
    let mine = told(&lan.rig.state, &active, [vip(VIP)]).0.remove(0);
    let others: BTreeSet<NodeName> = names(&NODES).into_iter().filter(|name| *name != active.node).collect();
    assert_eq!(mine.peers.keys().cloned().collect::<BTreeSet<_>>(), others);
    assert!(mine.peers.values().all(|macs| macs.len() == 1));
}

#[test]
fn nobody_is_told_anew_of_a_node_that_goes_and_comes_with_the_hardware_addresses_that_it_had() {
    for goes in ["it is silent", "its stream breaks", "it is about to end"] {
        let mut lan = Lan::of(&NODES);
        let (holders, third) = ([lan.active(VIP), lan.standby(VIP).unwrap()], lan.other_than(VIP, &NODES));
        let told = |lan: &Lan| [lan.newest(&holders[0]), lan.newest(&holders[1])];
        let before = told(&lan);
        match goes {
            "it is silent" => {
                lan.mute.insert(third.clone());
            }
            "its stream breaks" => lan.reset(&third),
            _ => lan.say(&third, SpeakerMessage::Draining),
        }
        lan.wait(Duration::from_millis(900));
        assert_eq!(told(&lan), before, "{goes}");
        lan.mute.clear();
        lan.join(&third, &[]);
        assert_eq!(told(&lan), before, "{goes}, and comes back");
        lan.join_as(&third, "z");
        assert!(told(&lan) > before, "{goes}, and comes back from another one");
    }
}

#[test]
fn a_node_that_is_lost_or_about_to_end_stays_a_peer_with_its_hardware_addresses() {
    let mut lan = Lan::of(&NODES);
    let before = lan.active(VIP);
    let (lost, ending) = (before.clone(), lan.other_than(VIP, &NODES));
    let macs = |lan: &Lan, of: &str| -> BTreeSet<MacAddress> {
        let speaker = &lan.rig.state.network().speakers()[&id(of)];
        speaker.interfaces.iter().map(|interface| interface.mac).collect()
    };
    let wanted = [macs(&lan, &lost), macs(&lan, &ending)];
    lan.reset(&lost);
    lan.wait(Duration::from_secs(1));
    lan.say(&ending, SpeakerMessage::Draining);
    lan.deliver();
    let holder = lan.active(VIP);
    assert!(holder != lost && holder != ending, "{holder}");
    let (parts, _) = told(&lan.rig.state, &id(&holder), [vip(VIP)]);
    let found = [&lost, &ending].map(|name| parts[0].peers[&NodeName::new(name).unwrap()].clone());
    assert_eq!(found, wanted);
    assert!(found.iter().all(|macs| macs.len() == 1));
}

#[test]
fn rebalancing_moves_so_many_a_minute_make_before_break_until_the_spread_is_even() {
    let mut lan = Lan::empty(&["a"]);
    lan.rig.state.settings.rebalance = 2;
    for number in 0..6 {
        lan.service(&format!("s{number}"));
    }
    lan.join("b", &[]);
    let on_b = |lan: &Lan| lan.rig.state.network().active_on(&NodeName::new("b").unwrap());
    lan.wait(Duration::from_secs(25));
    assert_eq!(on_b(&lan), 0);
    lan.wait(Duration::from_secs(10));
    assert_eq!(on_b(&lan), 1);
    lan.mute.insert("b".to_owned());
    let moved = lan.rig.state.network().placements().iter().find(|(vip, _)| lan.active(&vip.to_string()) == "b").map(|(vip, _)| *vip);
    assert_eq!(lan.answering(&moved.unwrap().to_string()), ["b"], "it is over");
    lan.mute.clear();
    lan.wait(Duration::from_secs(180));
    assert_eq!(on_b(&lan), 3, "even, and no further");
    let from = lan.rig.events.len();
    lan.wait(Duration::from_secs(120));
    let moves = lan.rig.events[from..].iter().filter(|event| matches!(event, Event::VipPlaced { .. })).count();
    assert_eq!(moves, 0);
}

#[test]
fn who_asks_for_it_has_the_vips_spread_at_once_and_no_more_than_must_move() {
    let mut lan = Lan::empty(&["a"]);
    for number in 0..9 {
        lan.service(&format!("s{number}"));
    }
    lan.join("b", &[]);
    lan.join("c", &[]);
    assert_eq!(uneven(&lan.rig.state), 0, "speakers may still be coming back");
    lan.wait(Duration::from_secs(3));
    let loads = |lan: &Lan| ["a", "b", "c"].map(|name| lan.load(name));
    let moves = |events: &[Event]| events.iter().filter(|event| matches!(event, Event::VipPlaced { .. })).count();
    assert_eq!((loads(&lan), uneven(&lan.rig.state)), ([9, 0, 0], 6));
    for (most, moved, after) in [(Some(2), 2, [7, 1, 1]), (None, 4, [3, 3, 3]), (None, 0, [3, 3, 3])] {
        let from = lan.rig.events.len();
        lan.rig.command(Command::Rebalance(most)).unwrap();
        assert_eq!(moves(&lan.rig.events[from..]), moved, "{most:?}");
        lan.deliver();
        assert_eq!(loads(&lan), after);
    }
    assert!(lan.rig.state.network().placements().keys().all(|vip| lan.answering(&vip.to_string()).len() == 1), "the moves are over");
}

#[test]
fn what_a_speaker_that_asks_nobody_has_applied_counts_as_announced() {
    for plain in [true, false] {
        let mut lan = Lan::empty(&[]);
        lan.slow.insert("a".to_owned());
        if plain {
            lan.plain.insert("a".to_owned());
        }
        lan.join("a", &[]);
        lan.service("web");
        let told_first = told(&lan.rig.state, &id("a"), [vip(VIP)]).0.remove(0).probe_first;
        let announced = |lan: &Lan| lan.rig.state.network().is_announced(vip(VIP));
        assert_eq!((told_first, announced(&lan)), (!plain, false));
        lan.say("a", SpeakerMessage::Applied { revision: Revision(u64::MAX), failures: BTreeMap::new() });
        assert_eq!(announced(&lan), plain);
        lan.say("a", SpeakerMessage::Proven(BTreeSet::from([vip(VIP)])));
        assert!(announced(&lan));
    }
}
