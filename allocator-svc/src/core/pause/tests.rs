use std::time::Duration;

use crate::core::nodes::Liveness;
use crate::core::tests::lan::{Lan, VIP, id};
use crate::core::{Command, decide};

const NODES: [&str; 3] = ["a", "b", "c"];

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Time passes in which the engine does not run, and then it does.
fn pause(lan: &mut Lan, time: Duration) {
    lan.rig.now.mono = lan.rig.now.mono + time;
    lan.rig.command(Command::Wake).unwrap();
}

#[test]
fn after_a_pause_nobody_is_lost_before_what_was_said_meanwhile_is_heard() {
    for time in [ms(950), ms(3_000), ms(60_000)] {
        let mut lan = Lan::of(&NODES);
        let before = lan.rig.state.network().placements().clone();
        pause(&mut lan, time);
        lan.rig.wait(ms(150));
        lan.wait(ms(5_000));
        assert_eq!(lan.rig.state.network().placements(), &before, "{time:?}");
        assert!(lan.rig.state.network().speakers().values().all(|speaker| speaker.liveness == Liveness::Live), "{time:?}");
    }
}

#[test]
fn after_a_long_pause_speakers_whose_streams_have_ended_have_as_long_to_come_back_as_after_a_start() {
    let mut lan = Lan::of(&NODES);
    let before = lan.spread();
    pause(&mut lan, ms(3_000));
    NODES.iter().for_each(|speaker| lan.reset(speaker));
    lan.wait(ms(1_900));
    for speaker in NODES {
        lan.join(speaker, if before.values().any(|active| *active == id(speaker)) { &[VIP] } else { &[] });
    }
    lan.wait(ms(5_000));
    assert_eq!(lan.spread(), before);
}

#[test]
fn who_is_lost_is_lost_also_after_a_pause_but_later() {
    for (time, until) in [(ms(200), ms(200)), (ms(3_000), ms(2_000))] {
        let mut lan = Lan::of(&NODES);
        let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
        lan.mute.insert(active.clone());
        lan.wait(ms(750));
        pause(&mut lan, time);
        lan.wait(until - ms(50));
        assert_eq!(lan.active(VIP), active, "{time:?}");
        lan.wait(ms(100));
        assert_eq!(lan.active(VIP), standby, "{time:?}");
    }
}

#[test]
fn an_engine_that_is_always_a_little_late_does_not_excuse_for_ever() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(active.clone());
    lan.wait(ms(750));
    pause(&mut lan, ms(200));
    lan.wait(ms(50));
    assert_eq!(lan.active(VIP), active);
    pause(&mut lan, ms(300));
    assert_eq!(lan.active(VIP), standby);
}

#[test]
fn an_engine_that_runs_in_time_excuses_nobody() {
    let mut lan = Lan::of(&NODES);
    for time in [ms(0), ms(799), ms(850), ms(900)] {
        let now = crate::core::Now { mono: lan.rig.now.mono + time, ..lan.rig.now };
        assert_eq!(decide(&lan.rig.state, Command::Wake, now).unwrap(), [], "{time:?}");
    }
    let active = lan.active(VIP);
    lan.restarted();
    lan.rig.now.mono = lan.rig.now.mono + Duration::from_secs(60);
    assert_eq!(decide(&lan.rig.state, Command::Wake, lan.rig.now).unwrap(), [], "nobody has come yet: {active} is awaited");
}
