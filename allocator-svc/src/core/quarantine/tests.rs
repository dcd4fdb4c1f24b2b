use std::collections::BTreeMap;

use mooring_proto::types::assignment::SpeakerMessage;
use mooring_proto::types::node::{InterfaceName, MacAddress};

use super::*;
use crate::core::Unannounced;
use crate::core::assignment;
use crate::core::tests::claim;
use crate::core::tests::lan::{Lan, VIP, id, vip};

const NODES: [&str; 3] = ["a", "b", "c"];
const NEXT: &str = "10.0.0.1";
const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 9, 9]);

/// A Service with [`VIP`] whose speaker has not said yet whether somebody else has it.
fn asking() -> (Lan, String) {
    let mut lan = Lan::empty(&NODES);
    lan.slow.extend(NODES.map(str::to_owned));
    lan.service("web");
    let active = lan.active(VIP);
    (lan, active)
}

fn in_use(lan: &mut Lan, by: &str) {
    let interface = InterfaceName::new("eth0").unwrap();
    lan.say(by, SpeakerMessage::AddressInUse { vip: vip(VIP), mac: STRANGER, interface });
}

fn probes_first(lan: &Lan, speaker: &str, address: &str) -> Option<bool> {
    let told = assignment::told(&lan.rig.state, &id(speaker), [vip(address)]).0;
    told.first().map(|assignment| assignment.probe_first)
}

fn addresses(lan: &Lan, name: &str) -> Vec<String> {
    let lease = lan.rig.state.book().lease(&format!("default/{name}").parse().unwrap());
    lease.into_iter().flat_map(|lease| &lease.addresses).map(ToString::to_string).collect()
}

#[test]
fn a_new_vip_is_asked_for_first_and_counts_as_announced_only_when_nobody_has_it() {
    let (mut lan, active) = asking();
    assert_eq!(probes_first(&lan, &active, VIP), Some(true));
    let revision = lan.newest(&active);
    lan.say(&active, SpeakerMessage::Applied { revision, failures: BTreeMap::new() });
    assert!(!lan.rig.state.network().is_announced(vip(VIP)));
    lan.say(&active, SpeakerMessage::Proven([vip(VIP)].into()));
    assert!(lan.rig.state.network().is_announced(vip(VIP)));
    assert_eq!(probes_first(&lan, &active, VIP), Some(false));
    // The next one to have it asks nobody.
    let standby = lan.standby(VIP).unwrap();
    lan.reset(&active);
    lan.wait(Duration::from_millis(300));
    assert_eq!((lan.active(VIP), probes_first(&lan, &standby, VIP)), (standby.clone(), Some(false)));
}

#[test]
fn what_was_leased_before_a_start_or_is_held_by_a_speaker_or_a_status_is_not_asked_for() {
    let (mut lan, active) = asking();
    lan.restarted();
    lan.join(&active, &[]);
    lan.wait(Duration::from_millis(2_100));
    assert_eq!(probes_first(&lan, &active, VIP), Some(false), "leased before");

    let mut lan = Lan::empty(&NODES);
    lan.slow.extend(NODES.map(str::to_owned));
    // Nobody is awaited any more who might announce it.
    lan.wait(Duration::from_millis(2_100));
    let adopting = mooring_proto::types::claim::Claim { adopt: vec![vip(VIP)], ..claim("web") };
    lan.rig.claim(adopting).unwrap();
    lan.reach("web", mooring_proto::types::backends::Reach::Anywhere);
    let active = lan.active(VIP);
    assert_eq!(probes_first(&lan, &active, VIP), Some(false), "in a status before");
}

#[test]
fn an_address_in_use_goes_into_quarantine_and_the_service_gets_the_next_one() {
    let (mut lan, active) = asking();
    in_use(&mut lan, &active);
    assert_eq!(addresses(&lan, "web"), [NEXT]);
    let book = lan.rig.state.book();
    let found = of(book, vip(VIP)).unwrap();
    assert!(found.to_string().starts_with(&format!("in use by {STRANGER} on node {active} (eth0), in quarantine until ")), "{found}");
    let why = book.untenable(&"default/web".parse().unwrap()).unwrap().to_string();
    assert!(why.starts_with(&format!("[\"{VIP}\"] is not allowed in config: in use by {STRANGER} on node {active}")), "{why}");
    // It is nobody's for ten minutes.
    lan.service("other");
    assert_eq!(addresses(&lan, "other"), ["10.0.0.2"]);
    assert_eq!(lan.active(VIP), "dropped");
    lan.wait(Duration::from_secs(601));
    lan.service("third");
    assert_eq!(addresses(&lan, "third"), [VIP]);
    let active = lan.active(VIP);
    assert_eq!(probes_first(&lan, &active, VIP), Some(true), "and it is asked for again");
}

#[test]
fn who_asks_for_just_this_address_is_told_why_and_gets_it_announced_when_it_is_free() {
    let mut lan = Lan::empty(&NODES);
    lan.slow.extend(NODES.map(str::to_owned));
    let asking = mooring_proto::types::claim::Claim { requested_addresses: vec![vip(VIP)], ..claim("web") };
    lan.rig.claim(asking).unwrap();
    lan.reach("web", mooring_proto::types::backends::Reach::Anywhere);
    let active = lan.active(VIP);
    in_use(&mut lan, &active);
    let service = "default/web".parse().unwrap();
    let why = lan.rig.state.book().refusal(&service).unwrap().to_string();
    assert!(why.starts_with(&format!("[\"{VIP}\"] is not allowed in config: in use by {STRANGER} on node {active}")), "{why}");
    assert_eq!(addresses(&lan, "web"), [VIP]);
    let placed = lan.rig.state.network().placements().get(&vip(VIP)).cloned().unwrap();
    assert!(matches!(placed, Err(Unannounced::InUse(_))), "{placed:?}");
    lan.wait(Duration::from_secs(601));
    assert_eq!(lan.rig.state.book().refusal(&service), None);
    let active = lan.active(VIP);
    assert_eq!(probes_first(&lan, &active, VIP), Some(true));
}

#[test]
fn what_is_proven_or_found_by_another_one_or_at_a_node_of_ours_is_no_quarantine() {
    let (mut lan, active) = asking();
    let standby = lan.standby(VIP).unwrap();
    in_use(&mut lan, &standby);
    let interface = InterfaceName::new("eth0").unwrap();
    let ours = MacAddress([2, 0, 0, 0, 0, *standby.as_bytes().last().unwrap()]);
    lan.say(&active, SpeakerMessage::AddressInUse { vip: vip(VIP), mac: ours, interface });
    lan.say(&active, SpeakerMessage::Proven([vip(VIP)].into()));
    in_use(&mut lan, &active);
    assert_eq!((addresses(&lan, "web"), of(lan.rig.state.book(), vip(VIP))), (vec![VIP.to_owned()], None));
}
