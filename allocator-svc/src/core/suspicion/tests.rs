use mooring_proto::types::assignment::SpeakerMessage;

use super::*;
use crate::core::nodes::Liveness;
use crate::core::tests::lan::{Lan, VIP, id, vip};

const NODES: [&str; 3] = ["a", "b", "c"];

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn suspect(lan: &mut Lan, by: &str, node: &str) {
    lan.say(by, SpeakerMessage::Suspected { vip: vip(VIP), node: NodeName::new(node).unwrap() });
}

#[test]
fn who_is_silent_and_does_not_answer_is_lost_after_a_heartbeat_and_a_half() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(active.clone());
    lan.wait(ms(200));
    suspect(&mut lan, &standby, &active);
    lan.wait(ms(50));
    assert_eq!(lan.active(VIP), active, "a heartbeat may be late");
    lan.wait(ms(100));
    assert_eq!(lan.active(VIP), standby);
}

#[test]
fn who_is_heard_is_not_lost_though_it_does_not_answer() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    for _ in 0..20 {
        suspect(&mut lan, &standby, &active);
        lan.wait(ms(100));
    }
    assert_eq!(lan.active(VIP), active);
    // What was said before it was heard last counts for nothing.
    lan.mute.insert(active.clone());
    lan.wait(ms(700));
    assert_eq!(lan.active(VIP), active);
    lan.wait(ms(150));
    assert_eq!(lan.active(VIP), standby, "and so it has its whole time to live");
}

#[test]
fn only_who_stands_by_is_believed_and_only_of_the_node_that_is_to_announce() {
    let mut lan = Lan::of(&NODES);
    let (active, standby, third) = (lan.active(VIP), lan.standby(VIP).unwrap(), lan.other_than(VIP, &NODES));
    lan.mute.extend([active.clone(), third.clone()]);
    lan.wait(ms(200));
    suspect(&mut lan, &third, &active);
    suspect(&mut lan, &standby, &third);
    lan.say(&standby, SpeakerMessage::Suspected { vip: vip("10.0.0.9"), node: NodeName::new(&active).unwrap() });
    lan.wait(ms(500));
    assert_eq!(lan.active(VIP), active);
    assert!(lan.rig.state.network().speakers().values().all(|speaker| speaker.liveness == Liveness::Live));
}

#[test]
fn after_a_start_the_newest_takeover_has_the_vip_whoever_comes_first() {
    for taker_first in [true, false] {
        let mut lan = Lan::of(&NODES);
        let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
        lan.restarted();
        if taker_first {
            lan.join_taking(&standby, &[VIP]);
            lan.join(&active, &[VIP]);
        } else {
            lan.join(&active, &[VIP]);
            lan.join_taking(&standby, &[VIP]);
        }
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![standby.clone()]), "taker first: {taker_first}");
        lan.wait(ms(5_000));
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![standby]), "taker first: {taker_first}");
    }
}

#[test]
fn after_a_start_who_has_yielded_announces_nothing_until_the_taker_has_come_or_is_given_up() {
    for comes in [true, false] {
        let mut lan = Lan::of(&NODES);
        let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
        lan.restarted();
        lan.join_yielded(&active, VIP);
        lan.reach("web", mooring_proto::types::backends::Reach::Anywhere);
        assert_eq!(lan.on_the_wire(VIP), [""; 0]);
        if comes {
            lan.join_taking(&standby, &[VIP]);
            assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![standby]));
        } else {
            lan.wait(ms(1_900));
            assert_eq!(lan.on_the_wire(VIP), [""; 0]);
            lan.wait(ms(200));
            assert_eq!(lan.on_the_wire(VIP), [active.as_str()], "nobody else has come");
        }
    }
}

#[test]
fn a_takeover_of_one_that_was_cut_off_moves_nothing_from_a_node_that_lives() {
    let mut lan = Lan::of(&NODES);
    lan.wait(ms(5_000));
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.reset(&standby);
    lan.wait(ms(1_000));
    lan.join_taking(&standby, &[VIP]);
    lan.wait(ms(1_000));
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (active.clone(), vec![active]));
}

#[test]
fn a_takeover_while_the_allocator_could_be_reached_by_nobody_stays() {
    let mut lan = Lan::of(&["a", "b"]);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.reset(&active);
    lan.reset(&standby);
    lan.wait(ms(1_000));
    lan.join_taking(&standby, &[VIP]);
    lan.wait(ms(1_000));
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![active.clone(), standby.clone()]), "the old one is cut off");
    lan.join(&active, &[VIP]);
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![standby]));
    assert_eq!(lan.rig.state.network().speakers()[&id(&active)].liveness, Liveness::Live);
}
