//! How VIPs are spread over nodes, and what moves when nodes come and go: over random histories.

use mooring_proto::types::address::Family;
use mooring_proto::types::claim::{Families, FamilyPolicy};

use super::*;

/// The most that a node of these has more than another.
fn unevenness(lan: &Lan, nodes: &BTreeSet<NodeName>) -> usize {
    let loads = || nodes.iter().map(|node| lan.load(node.as_str()));
    loads().max().unwrap_or_default() - loads().min().unwrap_or_default()
}

/// A Service that wants an address of each family.
fn dual(name: &str) -> Claim {
    Claim { families: Families::Dual { primary: Family::V4 }, policy: FamilyPolicy::RequireDualStack, ..claim(name) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn no_node_that_all_may_use_has_two_more_than_another(
        count in 2..7usize,
        common in 1..7usize,
        services in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<bool>(), 7)), 1..40),
    ) {
        let all: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let mut lan = Lan::empty(&all.iter().map(String::as_str).collect::<Vec<_>>());
        lan.rig.pools(vec![pool("a", &["10.0.0.0/24", "fd00::/120"])]);
        let common: BTreeSet<NodeName> = all.iter().take(common).map(|name| NodeName::new(name).unwrap()).collect();
        for (number, (both, others)) in services.iter().enumerate() {
            let name = format!("s{number}");
            lan.rig.claim(if *both { dual(&name) } else { claim(&name) }).unwrap();
            let others = all.iter().zip(others).filter(|(_, may)| **may).map(|(name, _)| NodeName::new(name).unwrap());
            lan.reach(&name, Reach::Nodes(common.iter().cloned().chain(others).collect()));
            prop_assert!(unevenness(&lan, &common) <= 1, "{name}: {:?}", lan.spread());
        }
    }

    #[test]
    fn the_two_addresses_of_a_service_are_on_different_nodes(count in 2..6usize, others in 0..6usize, services in 1..15usize) {
        let all: Vec<String> = (0..count).map(|number| format!("n{number}")).collect();
        let mut lan = Lan::empty(&all.iter().map(String::as_str).collect::<Vec<_>>());
        lan.rig.pools(vec![pool("a", &["10.0.0.0/24", "fd00::/120"])]);
        for number in 0..others {
            lan.service(&format!("single{number}"));
        }
        for number in 0..services {
            let name = format!("s{number}");
            lan.rig.claim(dual(&name)).unwrap();
            lan.reach(&name, Reach::Anywhere);
            let lease = lan.rig.state.book().lease(&ServiceKey::new("default", &name).unwrap()).unwrap();
            let spread = lan.spread();
            let nodes: BTreeSet<&NodeName> = lease.addresses.iter().map(|vip| &spread[vip].node).collect();
            prop_assert_eq!(nodes.len(), 2, "{:?}", spread);
        }
    }
}

#[test]
fn nodes_that_are_restarted_one_after_the_other_leave_the_others_even() {
    for drains in [true, false] {
        let mut lan = Lan::of(&["a", "b", "c"]);
        for number in 1..12 {
            lan.service(&format!("s{number}"));
        }
        for leaves in ["a", "b", "c"] {
            if drains {
                lan.say(leaves, SpeakerMessage::Draining);
                lan.deliver();
            }
            lan.reset(leaves);
            lan.wait(Duration::from_secs(5));
            let others = ["a", "b", "c"].into_iter().filter(|name| *name != leaves);
            assert_eq!(others.map(|name| lan.load(name)).collect::<Vec<_>>(), [6, 6], "drains: {drains}, without {leaves}");
            lan.join(leaves, &[]);
            lan.wait(Duration::from_secs(5));
        }
    }
}

/// What happens to a node or to what it may announce.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Service(usize),
    Join(usize),
    Lose(usize),
    Drain(usize),
    Restore(usize),
    Cordon(usize),
    Uncordon(usize),
}

fn turn() -> impl Strategy<Value = Turn> {
    let node = || 0..4usize;
    prop_oneof![
        3 => (0..30usize).prop_map(Turn::Service),
        3 => node().prop_map(Turn::Join),
        1 => node().prop_map(Turn::Lose),
        1 => node().prop_map(Turn::Drain),
        1 => node().prop_map(Turn::Restore),
        1 => node().prop_map(Turn::Cordon),
        1 => node().prop_map(Turn::Uncordon),
    ]
}

/// What is known of a node besides the core.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    is_there: bool,
    is_drained: bool,
    is_cordoned: bool,
}

impl Known {
    /// Whether it may be given anything while there is another one.
    fn is_first_hand(self) -> bool {
        self.is_there && !self.is_drained && !self.is_cordoned
    }
}

fn name(number: usize) -> String {
    format!("n{number}")
}

fn number_of(name: &str) -> usize {
    name.strip_prefix('n').unwrap().parse().unwrap()
}

/// The nodes as a watcher tells them.
fn specs(known: &[Known; 4]) -> Vec<NodeSpec> {
    (0..).zip(known).map(|(number, known)| NodeSpec { cordoned: known.is_cordoned, ..node(&name(number), &[]) }).collect()
}

fn take(lan: &mut Lan, known: &mut [Known; 4], turn: Turn) {
    match turn {
        Turn::Service(number) => lan.service(&format!("s{number}")),
        Turn::Join(number) if !known[number].is_there => {
            lan.join(&name(number), &[]);
            known[number].is_there = true;
        }
        Turn::Lose(number) if known[number].is_there => {
            lan.reset(&name(number));
            // Long enough, also where it is excused for a while, that no two are lost at once, which would be the allocator's own loss.
            lan.wait(SETTINGS.recovery_window * 2 + Duration::from_secs(1));
            known[number].is_there = false;
        }
        Turn::Join(_) | Turn::Lose(_) => {}
        Turn::Drain(number) => {
            lan.drain(&name(number));
            known[number].is_drained = true;
        }
        Turn::Restore(number) => {
            lan.restore(&name(number));
            known[number].is_drained = false;
        }
        Turn::Cordon(number) | Turn::Uncordon(number) => {
            known[number].is_cordoned = matches!(turn, Turn::Cordon(_));
            lan.nodes(specs(known));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn only_what_must_move_moves_and_nobody_is_dark_who_need_not_be(turns in prop::collection::vec(turn(), 1..40)) {
        let mut lan = Lan::empty(&[]);
        let mut known = [Known::default(); 4];
        lan.nodes(specs(&known));
        take(&mut lan, &mut known, Turn::Join(0));
        lan.wait(SETTINGS.recovery_window + Duration::from_millis(100));
        for turn in turns {
            let (before, on_wire): (_, Vec<Vip>) = (lan.spread(), lan.spread().into_keys().collect());
            let were = known;
            take(&mut lan, &mut known, turn);
            let after = lan.spread();
            let of = |id: &SpeakerId| known[number_of(id.node.as_str())];
            let any_first_hand = known.iter().any(|known| known.is_first_hand());
            // Nobody is dark while anybody is there, and a drained node has nothing while another one could have it.
            let all: BTreeSet<Vip> = lan.rig.state.book().holders().keys().copied().collect();
            let any = known.iter().any(|known| known.is_there);
            prop_assert_eq!(after.keys().copied().collect::<BTreeSet<_>>(), if any { all } else { BTreeSet::new() }, "{:?}", turn);
            for (vip, id) in &after {
                prop_assert_eq!(of(id).is_first_hand(), any_first_hand, "{:?}: {} on {}", turn, vip, id);
                let said = lan.rig.state.network().placements()[vip].as_ref().unwrap().last_resort;
                prop_assert_eq!(said, !any_first_hand, "{:?}: {} on {}", turn, vip, id);
                // One that is lost may be alive behind a cut, and answers there.
                let mut answering = lan.on_the_wire(&vip.to_string());
                answering.retain(|node| known[number_of(node)].is_there);
                prop_assert_eq!(answering, [id.node.to_string()], "{:?}: {}", turn, vip);
            }
            // Who moved had to: its node is lost, or drained with somewhere to go.
            for vip in on_wire.iter().filter(|vip| after.get(vip) != before.get(vip)) {
                let node = of(&before[vip]);
                prop_assert!(!node.is_first_hand(), "{:?}: {} left {} for {:?}", turn, vip, before[vip], after.get(vip));
            }
            // While all are worth the same, a new Service finds the least loaded.
            if let Turn::Service(_) = turn {
                for vip in after.keys().filter(|vip| !before.contains_key(vip)) {
                    let load = |id: &SpeakerId| before.values().filter(|other| other.node == id.node).count();
                    let may = (0..4).filter(|number| were[*number].is_there && were[*number].is_first_hand() == any_first_hand);
                    let least = may.map(|number| load(&id(&name(number)))).min();
                    prop_assert_eq!(Some(load(&after[vip])), least, "{}", vip);
                }
            }
        }
    }
}

#[test]
fn rebalancing_brings_vips_to_the_nodes_that_are_preferred_and_leaves_drained_ones_out() {
    let mut lan = Lan::empty(&["a", "b", "c"]);
    for number in 0..6 {
        lan.service(&format!("s{number}"));
    }
    let labeled_nodes = || vec![node("a", &[("name", "a")]), node("b", &[("name", "b")]), node("c", &[("name", "b")])];
    let mut nodes = labeled_nodes();
    nodes[2].cordoned = true;
    lan.nodes(nodes);
    assert_eq!((lan.load("a") + lan.load("b"), lan.load("c")), (6, 0));
    let prefers = NodePreference { weight: 50, selector: labeled("name", "b") };
    advertise(&mut lan, vec![AdvertisementSpec { preferences: vec![prefers], ..advertise_everything() }]);
    let on_a = lan.load("a");
    lan.wait(Duration::from_secs(120));
    assert_eq!(lan.load("a"), on_a, "nothing moves by itself");
    lan.rig.state.settings.rebalance = 60;
    lan.wait(Duration::from_millis(1_500));
    assert_eq!(lan.load("a"), on_a - 2, "one at once, then one a second");
    lan.wait(Duration::from_secs(20));
    assert_eq!((lan.load("a"), lan.load("b"), lan.load("c")), (0, 6, 0));
    lan.nodes(labeled_nodes());
    assert_eq!(lan.load("c"), 0, "it takes nothing back by itself");
    lan.wait(Duration::from_secs(20));
    assert_eq!((lan.load("a"), lan.load("b"), lan.load("c")), (0, 3, 3), "even among those that are preferred alike");
}

#[test]
fn each_node_announces_where_the_advertisements_about_it_say() {
    let mut lan = Lan::empty(&[]);
    for name in ["a", "b"] {
        lan.join_with(name, &[], &["eth0", "lan1"]);
    }
    lan.nodes(vec![node("a", &[("name", "a")]), node("b", &[("name", "b")])]);
    lan.service("web");
    let on = |name: &str| -> BTreeSet<InterfaceName> { [InterfaceName::new(name).unwrap()].into() };
    let of = |name: &str, interface: &str| AdvertisementSpec {
        name: name.to_owned(),
        node_selectors: vec![labeled("name", name)],
        interfaces: on(interface),
        ..advertise_everything()
    };
    advertise(&mut lan, vec![of("a", "eth0"), of("b", "lan1")]);
    let wanted = |name: &str| if name == "a" { on("eth0") } else { on("lan1") };
    let interfaces = |lan: &Lan, name: &str| told(&lan.rig.state, &id(name), [vip(VIP)]).0.remove(0).interfaces;
    for name in ["a", "b"] {
        assert_eq!(interfaces(&lan, name), wanted(name), "active or standby");
    }
    // Who is left goes on where it was until the other one has said that it announces.
    let (before, after) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.slow.insert(after.clone());
    lan.drain(&before);
    assert_eq!((lan.active(VIP), lan.answering(VIP).len()), (after.clone(), 2));
    assert_eq!((interfaces(&lan, &before), interfaces(&lan, &after)), (wanted(&before), wanted(&after)));
    lan.slow.clear();
    let newest = lan.newest(&after);
    lan.catch_up(&after, newest);
    assert_eq!((lan.on_the_wire(VIP), lan.standby(VIP)), (vec![after], Some(before)), "better than nobody");
}

#[test]
fn what_is_selected_by_labels_stays_where_it_is_until_they_are_known_again() {
    let mut lan = Lan::empty(&["a", "b"]);
    lan.nodes(vec![node("a", &[("name", "a")]), node("b", &[("name", "b")])]);
    let selected = Claim { labels: [("app".to_owned(), "web".to_owned())].into(), ..claim("web") };
    lan.rig.claim(selected.clone()).unwrap();
    lan.reach("web", Reach::Anywhere);
    let on_b = AdvertisementSpec { node_selectors: vec![labeled("name", "b")], name: "b".to_owned(), ..advertise_everything() };
    let web = AdvertisementSpec { service_selectors: vec![labeled("app", "web")], ..advertise_everything() };
    let web_on_a = AdvertisementSpec { node_selectors: vec![labeled("name", "a")], ..web.clone() };
    for advertisements in [vec![web.clone()], vec![web_on_a.clone(), on_b]] {
        advertise(&mut lan, vec![web_on_a.clone()]);
        assert_eq!(lan.active(VIP), "a");
        advertise(&mut lan, advertisements);
        lan.restarted();
        lan.join("a", &[VIP]);
        lan.join("b", &[]);
        lan.wait(Duration::from_secs(3));
        lan.nodes(vec![node("a", &[("name", "a")]), node("b", &[("name", "b")])]);
        assert_eq!((lan.active(VIP).as_str(), lan.on_the_wire(VIP)), ("a", vec!["a".to_owned()]));
        lan.rig.claim(selected.clone()).unwrap();
        lan.reach("web", Reach::Anywhere);
        assert_eq!(lan.active(VIP), "a", "and after that");
    }
    lan.rig.claim(claim("web")).unwrap();
    lan.deliver();
    assert_eq!(lan.active(VIP), "b", "which is selected without labels");
}
