use std::time::Duration;

use crate::core::nodes::Liveness;
use crate::core::tests::lan::{Lan, VIP, id};

const NODES: [&str; 3] = ["a", "b", "c"];

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Nobody has been heard for a time; who announces, who stands by, and the third one.
fn unheard(time: Duration) -> (Lan, [String; 3]) {
    let mut lan = Lan::of(&NODES);
    let speakers = [lan.active(VIP), lan.standby(VIP).unwrap(), lan.other_than(VIP, &NODES)];
    lan.mute.extend(speakers.clone());
    lan.wait(time);
    (lan, speakers)
}

#[test]
fn as_long_as_nobody_is_heard_nobody_is_lost_and_nothing_moves() {
    let mut lan = Lan::of(&NODES);
    let before = lan.rig.state.network().placements().clone();
    lan.mute.extend(NODES.map(str::to_owned));
    lan.wait(Duration::from_secs(60));
    assert_eq!(lan.rig.state.network().placements(), &before);
    assert!(lan.rig.state.network().speakers().values().all(|speaker| speaker.liveness == Liveness::Live));
    assert_eq!(super::super::next_deadline(&lan.rig.state), None, "and there is nothing to do");
}

#[test]
fn the_silence_of_the_only_speaker_counts_and_it_gets_all_back() {
    let mut lan = Lan::of(&["a"]);
    lan.mute.insert("a".to_owned());
    lan.wait(ms(900));
    assert_eq!(lan.rig.state.network().speakers()[&id("a")].liveness, Liveness::Lost);
    assert_eq!(lan.on_the_wire(VIP), ["a"], "it is told nothing, and answers");
    lan.mute.clear();
    lan.wait(ms(300));
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), ("a".to_owned(), vec!["a".to_owned()]));
}

#[test]
fn once_one_is_heard_again_the_others_have_as_long_to_come_as_after_a_start() {
    for time in [ms(500), ms(900), ms(20_000)] {
        let (mut lan, [active, standby, third]) = unheard(time);
        lan.mute.remove(&third);
        lan.wait(ms(1900));
        assert_eq!(lan.active(VIP), active, "{time:?}");
        lan.wait(ms(200));
        assert_eq!(lan.active(VIP), third, "{time:?}");
        assert_eq!(lan.rig.state.network().speakers()[&id(&standby)].liveness, Liveness::Lost, "{time:?}");
    }
}

#[test]
fn whoever_comes_back_within_that_time_on_whatever_stream_has_lost_nothing() {
    for (name, ends) in [("heard on its stream", false), ("on another one", true)] {
        let (mut lan, [active, standby, third]) = unheard(ms(5000));
        if ends {
            lan.reset(&active);
            lan.reset(&standby);
        }
        lan.mute.remove(&third);
        lan.wait(ms(1500));
        assert_eq!((lan.active(VIP), lan.standby(VIP)), (active.clone(), (!ends).then(|| standby.clone()).or(lan.standby(VIP))), "{name}");
        lan.mute.clear();
        if ends {
            lan.join(&standby, &[]);
            lan.join(&active, &[VIP]);
        }
        lan.wait(ms(3000));
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (active.clone(), vec![active]), "{name}");
    }
}

#[test]
fn a_short_time_in_which_nobody_is_heard_excuses_nobody() {
    let (mut lan, [active, standby, _]) = unheard(ms(300));
    lan.mute.clear();
    lan.mute.insert(active.clone());
    lan.wait(ms(400));
    assert_eq!(lan.active(VIP), active);
    lan.wait(ms(150));
    assert_eq!(lan.active(VIP), standby);
}

#[test]
fn what_another_one_says_of_it_ends_the_wait_for_a_node() {
    let (mut lan, [active, standby, _]) = unheard(ms(5000));
    lan.mute.remove(&standby);
    lan.wait(ms(100));
    assert_eq!(lan.active(VIP), active);
    let node = mooring_proto::types::node::NodeName::new(&active).unwrap();
    lan.say(&standby, mooring_proto::types::assignment::SpeakerMessage::Suspected { vip: crate::core::tests::lan::vip(VIP), node });
    lan.wait(ms(50));
    assert_eq!(lan.active(VIP), standby, "it does not answer on the LAN either");
}
