use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::Reach;

use super::*;
use crate::core::Command;
use crate::core::placement::{Outlook, outlook};
use crate::core::tests::lan::{Lan, VIP, node};

const NODES: [&str; 3] = ["a", "b", "c"];

fn named(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// Three nodes with three VIPs each.
fn lan_of_nine() -> Lan {
    let mut lan = Lan::empty(&NODES);
    for number in 0..9 {
        lan.service(&format!("s{number}"));
    }
    assert_eq!(NODES.map(|name| lan.load(name)), [3, 3, 3]);
    lan
}

fn on(lan: &Lan, node: &str) -> Vec<String> {
    lan.spread().into_iter().filter(|(_, id)| id.node == named(node)).map(|(vip, _): (Vip, _)| vip.to_string()).collect()
}

#[test]
fn a_drained_node_answers_until_others_do_and_gets_nothing_new() {
    let mut lan = lan_of_nine();
    let (vips, spread) = (on(&lan, "a"), lan.spread());
    lan.slow.extend(["b".to_owned(), "c".to_owned()]);
    lan.drain("a");
    assert_eq!(NODES.map(|name| lan.load(name)).iter().max(), Some(&5), "spread over the others");
    for vip in &vips {
        assert_eq!(lan.on_the_wire(vip), ["a"], "{vip}");
    }
    lan.slow.clear();
    for speaker in ["b", "c"] {
        let newest = lan.newest(speaker);
        lan.catch_up(speaker, newest);
    }
    for vip in &vips {
        assert_eq!(lan.on_the_wire(vip), [lan.active(vip)], "{vip}");
        assert_ne!(lan.active(vip), "a", "{vip}");
    }
    let stayed = |(vip, before): (&Vip, &mooring_proto::types::node::SpeakerId)| before.node == named("a") || lan.spread()[vip] == *before;
    assert!(spread.iter().all(stayed), "nothing else moves");
    lan.service("new");
    assert_eq!(lan.load("a"), 0);
    lan.drain("a");
    lan.restore("a");
    assert_eq!(lan.load("a"), 0, "it takes nothing back by itself");
    lan.service("newer");
    assert_eq!(lan.load("a"), 1, "and takes part again");
}

#[test]
fn a_drained_node_is_the_last_resort_and_says_so() {
    let mut lan = Lan::of(&["a", "b"]);
    lan.wait(Duration::from_secs(3));
    let (active, other) = (lan.active(VIP), lan.standby(VIP).unwrap());
    let is_last = |lan: &Lan| lan.rig.state.network().placements()[&VIP.parse().unwrap()].as_ref().unwrap().last_resort;
    lan.drain(&other);
    assert_eq!(
        (lan.active(VIP), lan.standby(VIP), is_last(&lan)),
        (active.clone(), Some(other.clone()), false),
        "a standby is better than none"
    );
    lan.drain(&active);
    assert_eq!((lan.active(VIP), is_last(&lan), lan.on_the_wire(VIP)), (active.clone(), true, vec![active.clone()]));
    assert_eq!(outlook(&lan.rig.state, &named(&active)), Outlook { moving: 0, staying: 1 });
    let network = lan.rig.state.network();
    assert_eq!((network.last_resorts(), network.last_resort_on(&named(&active))), (1, 1));
    lan.service("new");
    assert_eq!((lan.load("a"), lan.load("b")), (1, 1), "a new one is not left dark either");
    lan.restore(&other);
    assert_eq!((lan.active(VIP), is_last(&lan), lan.load(&active)), (other.clone(), false, 0), "at once, as it can go");
    lan.drain(&other);
    lan.join("c", &[]);
    assert_eq!((lan.active(VIP).as_str(), is_last(&lan), lan.load(&other)), ("c", false, 0));
    lan.reach("web", Reach::Nodes([named(&active)].into()));
    assert_eq!((lan.active(VIP), is_last(&lan)), (active, true), "nobody else has an endpoint");
}

#[test]
fn a_cordon_drains_and_looks_at_no_other_node() {
    let mut lan = lan_of_nine();
    let all = |cordoned: &[&str]| NODES.map(|name| NodeSpec { cordoned: cordoned.contains(&name), ..node(name, &[]) }).to_vec();
    lan.nodes(all(&[]));
    let vips = on(&lan, "a");
    let touched = |lan: &Lan, from: usize| -> BTreeSet<String> {
        let vip = |event: &Event| if let Event::VipPlaced { vip, .. } | Event::VipKept(vip) = event { Some(vip.to_string()) } else { None };
        lan.rig.events[from..].iter().filter_map(vip).collect()
    };
    let parts: BTreeSet<String> = lan.rig.state.network().parts_of_node(&named("a")).map(|vip| vip.to_string()).collect();
    let from = lan.rig.events.len();
    lan.nodes(all(&["a"]));
    assert_eq!((touched(&lan, from), lan.load("a")), (parts, 0));
    assert_eq!(lan.rig.state.network().drains().why(&named("a")), Some("it is cordoned"));
    lan.drain("a");
    assert_eq!(lan.rig.state.network().drains().why(&named("a")), Some("it is drained by hand"));
    lan.nodes(all(&[]));
    lan.service("new");
    assert_eq!(lan.load("a"), 0, "the one outlives the other");
    lan.restore("a");
    lan.service("newer");
    assert_eq!((lan.load("a"), vips.len()), (1, 3));
    assert_eq!(lan.rig.state.network().drains().why(&named("a")), None);
}

#[test]
fn a_drain_by_hand_outlives_the_allocator() {
    let mut lan = lan_of_nine();
    lan.drain("a");
    lan.restarted();
    assert_eq!(lan.rig.state.network().drains().by_hand().keys().collect::<Vec<_>>(), [&named("a")]);
    let spread = lan.spread();
    for name in NODES {
        let held = on(&lan, name);
        lan.join(name, &held.iter().map(String::as_str).collect::<Vec<_>>());
    }
    lan.wait(Duration::from_secs(3));
    assert_eq!((lan.spread(), lan.load("a")), (spread, 0));
    lan.restore("a");
    lan.restarted();
    assert!(lan.rig.state.network().drains().by_hand().is_empty());
}

#[test]
fn nothing_is_called_a_last_resort_while_speakers_are_still_coming_back() {
    let mut lan = Lan::of(&["a", "b"]);
    let (active, other) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.drain(&active);
    assert_eq!(lan.active(VIP), other);
    lan.restarted();
    lan.join(&active, &[VIP]);
    lan.drain(&other);
    let placed = |lan: &Lan| lan.rig.state.network().placements()[&VIP.parse().unwrap()].clone().unwrap();
    assert!(!placed(&lan).last_resort, "the others may be about to come");
    lan.wait(Duration::from_secs(3));
    assert_eq!((placed(&lan).active.node, placed(&lan).last_resort), (named(&active), true));
}

#[test]
fn a_node_that_nobody_knows_is_refused_by_name() {
    let mut lan = Lan::of(&["a"]);
    lan.nodes(vec![node("a", &[]), node("d", &[])]);
    let refused = lan.rig.command(Command::DrainNode(named("e"))).unwrap_err();
    assert_eq!(refused.to_string(), "unknown node \"e\": it has no speaker, and the cluster has no such node");
    assert_eq!(lan.rig.command(Command::RestoreNode(named("e"))), Ok(vec![]));
    lan.drain("d");
    assert_eq!(lan.rig.command(Command::DrainNode(named("d"))), Ok(vec![]), "it is drained already");
}

#[test]
fn a_drain_tells_how_many_move_and_how_many_cannot() {
    let mut lan = lan_of_nine();
    let stuck = on(&lan, "a").remove(0);
    let service = lan.rig.state.book().holders()[&stuck.parse().unwrap()].first().unwrap().name().to_owned();
    lan.reach(&service, Reach::Nodes([named("a")].into()));
    assert_eq!(outlook(&lan.rig.state, &named("a")), Outlook { moving: 0, staying: 3 }, "it is not drained");
    lan.slow.extend(["b".to_owned(), "c".to_owned()]);
    lan.drain("a");
    assert_eq!(outlook(&lan.rig.state, &named("a")), Outlook { moving: 2, staying: 1 });
    lan.slow.clear();
    for speaker in ["b", "c"] {
        let newest = lan.newest(speaker);
        lan.catch_up(speaker, newest);
    }
    assert_eq!(outlook(&lan.rig.state, &named("a")), Outlook { moving: 0, staying: 1 }, "two have moved");
    assert_eq!(lan.active(&stuck), "a");
}
