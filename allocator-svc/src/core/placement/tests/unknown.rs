//! What is not known yet, as after a start, takes nothing away and keeps nobody from following who is lost.

use super::*;

const UNKNOWN: &str = "its labels are not known yet";

/// Two nodes in the rack that is selected, and one that is not.
fn racks() -> Vec<NodeSpec> {
    vec![node("a", &[("rack", "1")]), node("b", &[("rack", "2")]), node("c", &[("rack", "1")])]
}

fn on_rack_one() -> AdvertisementSpec {
    AdvertisementSpec { node_selectors: vec![labeled("rack", "1")], ..advertise_everything() }
}

/// One VIP that is announced on the rack, and who announces it.
fn racked() -> (Lan, String) {
    let mut lan = Lan::empty(&NODES);
    lan.nodes(racks());
    advertise(&mut lan, vec![on_rack_one()]);
    lan.service("web");
    let active = lan.active(VIP);
    assert_ne!(active, "b");
    (lan, active)
}

/// Another allocator, to which all speakers have come.
fn begin_anew(lan: &mut Lan, active: &str) {
    lan.restarted();
    for node in NODES {
        lan.join(node, if node == active { &[VIP] } else { &[] });
    }
}

/// Who is to announce the VIP, and who answers for it.
fn placed(lan: &Lan) -> (String, Vec<String>) {
    (lan.active(VIP), lan.on_the_wire(VIP))
}

fn just(speaker: &str) -> (String, Vec<String>) {
    (speaker.to_owned(), vec![speaker.to_owned()])
}

#[test]
fn what_is_selected_by_node_labels_stays_where_it_is_until_the_nodes_are_told() {
    for is_told_the_view in [true, false] {
        let (mut lan, active) = racked();
        begin_anew(&mut lan, &active);
        assert_eq!(placed(&lan), just(&active), "all have come");
        lan.wait(Duration::from_secs(3));
        assert_eq!(placed(&lan), just(&active), "the recovery is over");
        if is_told_the_view {
            lan.rig.full_view(vec![claim("web")]);
            lan.reach("web", Reach::Anywhere);
            assert_eq!(placed(&lan), just(&active), "the view is in");
        }
        lan.nodes(racks());
        let other = if active == "a" { "c" } else { "a" };
        assert_eq!((placed(&lan), lan.standby(VIP).as_deref()), (just(&active), Some(other)));
    }
}

#[test]
fn what_a_speaker_holds_that_no_record_tells_of_stays_with_it_until_the_nodes_are_told() {
    let mut lan = Lan::empty(&[]);
    advertise(&mut lan, vec![on_rack_one()]);
    lan.join("a", &[VIP]);
    lan.rig.full_view(vec![Claim { adopt: vec![vip(VIP)], ..claim("web") }]);
    lan.reach("web", Reach::Anywhere);
    assert_eq!(placed(&lan), just("a"));
    lan.nodes(racks());
    assert_eq!(placed(&lan), just("a"));
}

#[test]
fn once_the_nodes_are_told_only_those_that_are_selected_announce_also_where_there_are_none() {
    let unselected = "no L2Advertisement selects it";
    let nobody = format!("no node is eligible: a: {unselected}; b: {unselected}; c: {unselected}");
    for (nodes, wanted) in [(vec![], None), (vec![node("a", &[]), node("b", &[("rack", "1")]), node("c", &[])], Some("b"))] {
        let (mut lan, active) = racked();
        begin_anew(&mut lan, &active);
        lan.nodes(nodes);
        assert_eq!(placed(&lan), wanted.map_or((nobody.clone(), vec![]), just));
    }
}

/// The active speaker is about to end, or is lost, and its standby has the VIP, which is returned.
fn follow(lan: &mut Lan, active: &str, ends: bool) -> String {
    let standby = lan.standby(VIP).unwrap();
    if ends {
        lan.say(active, SpeakerMessage::Draining);
    } else {
        lan.reset(active);
        lan.forget(active);
        lan.wait(Duration::from_millis(250));
    }
    assert_eq!(placed(lan), just(&standby), "ends: {ends}");
    standby
}

#[test]
fn before_the_nodes_are_told_any_node_follows_one_that_is_lost_or_about_to_end() {
    for ends in [true, false] {
        let (mut lan, active) = racked();
        begin_anew(&mut lan, &active);
        lan.wait(Duration::from_secs(3));
        let _standby = follow(&mut lan, &active, ends);
    }
}

#[test]
fn a_new_vip_that_is_selected_by_node_labels_waits_for_the_nodes() {
    let mut lan = Lan::empty(&NODES);
    advertise(&mut lan, vec![on_rack_one()]);
    lan.service("web");
    assert_eq!(lan.active(VIP), format!("no node is eligible: a: {UNKNOWN}; b: {UNKNOWN}; c: {UNKNOWN}"));
    lan.nodes(racks());
    assert!(["a", "c"].contains(&lan.active(VIP).as_str()));
}

/// Two Services that share an address.
fn share(lan: &mut Lan) {
    for (name, port) in [("tcp", "TCP/53"), ("udp", "UDP/53")] {
        let shared = Claim { sharing_key: SharingKey::new("k"), ports: ports(&[port]), ..claim(name) };
        assert_eq!(lan.rig.claim(shared).unwrap(), format!("{VIP}@a"));
    }
}

#[test]
fn a_service_of_which_nothing_is_known_yet_keeps_the_address_that_it_shares_where_it_is() {
    for (name, elsewhere) in
        [("the other cannot be served", Reach::Nowhere), ("the other can be served elsewhere", Reach::Nodes(names(&["b"])))]
    {
        let mut lan = Lan::empty(&NODES);
        share(&mut lan);
        lan.reach("tcp", elsewhere.clone());
        lan.reach("udp", Reach::Nodes(names(&["a"])));
        lan.reach("tcp", Reach::Nodes(names(&["a"])));
        lan.reach("tcp", elsewhere.clone());
        let active = lan.active(VIP);
        begin_anew(&mut lan, &active);
        lan.reach("tcp", elsewhere);
        assert_eq!(placed(&lan), just(&active), "{name}");
        lan.wait(Duration::from_secs(3));
        assert_eq!(placed(&lan), just(&active), "{name}");
        lan.reach("udp", Reach::Nodes(names(&[&active])));
        assert_eq!(placed(&lan), just(&active), "{name}: and when all is known");
    }
}

#[test]
fn a_new_shared_address_is_announced_as_soon_as_one_service_can_be_served() {
    let unknown = "it is not known yet where it can be served";
    let rows = [(Reach::Nowhere, unknown), (Reach::Nodes(names(&["b"])), "b")];
    for (reach, wanted) in rows {
        let mut lan = Lan::empty(&NODES);
        share(&mut lan);
        assert_eq!(lan.active(VIP), unknown);
        lan.reach("tcp", reach);
        assert_eq!(lan.active(VIP), wanted);
        lan.reach("udp", Reach::Nowhere);
        assert_eq!(lan.active(VIP), if wanted == "b" { "b" } else { "no endpoint can serve" });
    }
}

#[test]
fn what_is_selected_by_labels_that_are_not_known_yet_is_followed_and_has_a_standby() {
    let selected = Claim { labels: [("app".to_owned(), "web".to_owned())].into(), ..claim("web") };
    for ends in [true, false] {
        let mut lan = Lan::empty(&NODES);
        advertise(&mut lan, vec![AdvertisementSpec { service_selectors: vec![labeled("app", "web")], ..advertise_everything() }]);
        lan.rig.claim(selected.clone()).unwrap();
        lan.reach("web", Reach::Anywhere);
        let active = lan.active(VIP);
        begin_anew(&mut lan, &active);
        lan.wait(Duration::from_secs(3));
        let standby = follow(&mut lan, &active, ends);
        lan.rig.claim(selected.clone()).unwrap();
        lan.deliver();
        assert_eq!(placed(&lan), just(&standby), "and once they are known");
    }
}
