use mooring_proto::types::assignment::{AllocatorMessage, Sight};
use mooring_proto::types::backends::Backends;
use mooring_proto::types::claim::Claim;

use super::*;
use crate::core::assignment::next_message;
use crate::core::tests::lan::{Lan, VIP, id};
use crate::core::tests::{claim, pool};
use crate::core::{Command, Leadership, decide};

const NODES: [&str; 3] = ["a", "b", "c"];

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn a_broken_stream_has_a_quarter_of_the_ttl_and_then_the_standby_takes_over() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.reset(&active);
    lan.wait(ms(150));
    assert_eq!(lan.active(VIP), active, "within the grace");
    lan.wait(ms(100));
    assert_eq!(lan.active(VIP), standby);
    assert!(lan.standby(VIP).is_some_and(|next| next != active && next != standby), "{:?}", lan.standby(VIP));
}

#[test]
fn a_speaker_that_returns_within_its_grace_has_lost_nothing() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let before = lan.rig.state.network().placements().clone();
    lan.reset(&active);
    lan.wait(ms(150));
    lan.join(&active, &[VIP]);
    lan.wait(ms(2000));
    assert_eq!((lan.rig.state.network().placements(), lan.on_the_wire(VIP)), (&before, vec![active]));
}

#[test]
fn a_silent_speaker_is_lost_after_its_time_to_live_and_not_before() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(active.clone());
    lan.wait(ms(750));
    assert_eq!(lan.active(VIP), active);
    lan.wait(ms(100));
    assert_eq!(lan.active(VIP), standby);
    // Heard again, it takes nothing back by itself.
    lan.mute.clear();
    lan.wait(ms(1000));
    assert_eq!(lan.active(VIP), standby);
    assert_eq!(lan.rig.state.network().speakers()[&id(&active)].liveness, Liveness::Live);
}

#[test]
fn a_speaker_that_comes_back_takes_nothing_back() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    lan.reset(&active);
    lan.wait(ms(300));
    let after = lan.active(VIP);
    lan.join(&active, &[VIP]);
    lan.wait(ms(1000));
    assert_eq!((lan.active(VIP), lan.answering(VIP)), (after.clone(), vec![after]));
}

#[test]
fn a_vip_without_any_other_node_stays_until_somebody_comes() {
    let mut lan = Lan::of(&["a"]);
    lan.reset("a");
    lan.wait(ms(1000));
    assert_ne!(lan.active(VIP), "a", "it is lost");
    lan.join("b", &[]);
    assert_eq!(lan.active(VIP), "b");
}

#[test]
fn a_draining_speaker_answers_until_the_other_one_says_that_it_does() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(standby.clone());
    lan.say(&active, SpeakerMessage::Draining);
    let told = lan.newest(&standby);
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![active.clone()]), "make before break");
    lan.catch_up(&standby, told);
    assert_eq!(lan.on_the_wire(VIP), [standby.as_str()], "the removal follows");
    lan.reset(&active);
    assert_eq!(lan.rig.state.network().speakers()[&id(&active)].liveness, Liveness::Lost, "no grace for one that said goodbye");
}

#[test]
fn a_word_about_an_older_message_does_not_end_a_drain() {
    let mut lan = Lan::empty(&NODES);
    lan.mute.extend(NODES.map(str::to_owned));
    lan.service("web");
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    let (role_of_active, stands_by) = (lan.newest(&active), lan.newest(&standby));
    lan.catch_up(&active, role_of_active);
    lan.say(&active, SpeakerMessage::Draining);
    let takes_over = lan.newest(&standby);
    assert!(stands_by < takes_over);
    lan.mute.remove(&active);
    lan.catch_up(&standby, stands_by);
    assert_eq!(lan.on_the_wire(VIP), [active.as_str()], "it only said that it stands by");
    lan.catch_up(&standby, takes_over);
    assert_eq!(lan.on_the_wire(VIP), [standby.as_str()]);
}

#[test]
fn a_draining_speaker_answers_on_when_its_successor_fails_dies_or_drains_too() {
    for fate in ["fails", "dies", "drains"] {
        let mut lan = Lan::of(&NODES);
        let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
        let third = lan.other_than(VIP, &NODES);
        lan.mute.extend([standby.clone(), third.clone()]);
        lan.say(&active, SpeakerMessage::Draining);
        let failures = [(VIP.parse().unwrap(), "no interface".to_owned())].into();
        match fate {
            "fails" => {
                let revision = lan.newest(&standby);
                lan.say(&standby, SpeakerMessage::Applied { revision, failures });
            }
            "dies" => {
                lan.reset(&standby);
                lan.wait(ms(250));
            }
            _ => lan.say(&standby, SpeakerMessage::Draining),
        }
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (third.clone(), vec![active]), "{fate}");
        let told = lan.newest(&third);
        lan.catch_up(&third, told);
        assert_eq!(lan.on_the_wire(VIP), [third], "{fate}");
    }
}

#[test]
fn a_drain_outlives_a_restart_of_the_allocator() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.mute.insert(standby.clone());
    lan.say(&active, SpeakerMessage::Draining);
    lan.restarted();
    lan.join(&standby, &[]);
    lan.join(&active, &[VIP]);
    lan.say(&active, SpeakerMessage::Draining);
    assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (standby.clone(), vec![active]), "its successor has not said that it answers");
    let told = lan.newest(&standby);
    lan.catch_up(&standby, told);
    assert_eq!(lan.on_the_wire(VIP), [standby]);
}

#[test]
fn a_move_that_a_restart_interrupts_leaves_the_vip_with_whoever_answers_for_it() {
    for (name, old_comes_first) in [("whoever answers comes first", true), ("whoever is to take over comes first", false)] {
        let mut lan = Lan::of(&NODES);
        let (old, new) = (lan.active(VIP), lan.standby(VIP).unwrap());
        lan.slow.insert(new.clone());
        lan.drain(&old);
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (new.clone(), vec![old.clone()]), "{name}");
        lan.restarted();
        for comes in [old_comes_first, !old_comes_first] {
            if comes {
                lan.join(&old, &[VIP])
            } else {
                lan.join_yielded(&new, VIP)
            }
            assert_eq!(lan.on_the_wire(VIP), [old.as_str()], "{name}");
        }
        lan.wait(ms(2500));
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (new.clone(), vec![old]), "{name}: it has not said yet that it does");
        let told = lan.newest(&new);
        lan.catch_up(&new, told);
        assert_eq!(lan.on_the_wire(VIP), [new], "{name}");
    }
}

#[test]
fn a_move_to_a_speaker_that_is_lost_is_taken_back_where_the_old_one_may_go_on() {
    for restarts in [true, false] {
        let mut lan = Lan::of(&NODES);
        let (old, new, third) = (lan.active(VIP), lan.standby(VIP).unwrap(), lan.other_than(VIP, &NODES));
        lan.slow.insert(new.clone());
        lan.drain(&old);
        if restarts {
            lan.restarted();
            lan.join(&old, &[VIP]);
        }
        lan.restore(&old);
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (new.clone(), vec![old.clone()]), "restarts: {restarts}");
        if restarts {
            lan.join(&third, &[]);
        } else {
            lan.reset(&new);
        }
        lan.wait(ms(2500));
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (old.clone(), vec![old]), "restarts: {restarts}");
    }
}

#[test]
fn who_stood_by_before_a_restart_does_so_at_once() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    for active_comes_first in [true, false] {
        lan.restarted();
        for comes in [active_comes_first, !active_comes_first] {
            if comes { lan.join(&active, &[VIP]) } else { lan.join_yielded(&standby, VIP) }
        }
        assert!(lan.rig.state.network().is_recovering());
        assert_eq!((lan.active(VIP), lan.standby(VIP)), (active.clone(), Some(standby.clone())));
        lan.join(&lan.other_than(VIP, &NODES), &[]);
        lan.wait(ms(2500));
        assert_eq!((lan.active(VIP), lan.standby(VIP)), (active.clone(), Some(standby.clone())), "and goes on");
    }
}

#[test]
fn a_drain_of_the_last_node_takes_nothing_away_while_it_lives() {
    let mut lan = Lan::of(&["a"]);
    lan.say("a", SpeakerMessage::Draining);
    assert_eq!(lan.answering(VIP), ["a"]);
}

#[test]
fn after_a_start_speakers_are_awaited_and_what_they_hold_is_adopted() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    lan.restarted();
    assert_eq!(lan.rig.state.network().speakers()[&id(&active)].liveness, Liveness::Awaited);
    let (first, second) = (lan.other_than(VIP, &NODES), active.clone());
    lan.join(&first, &[]);
    lan.wait(ms(1500));
    assert_eq!(lan.active(VIP), active, "within the recovery window nobody is lost");
    lan.join(&second, &[VIP]);
    lan.wait(ms(2000));
    assert_eq!(lan.active(VIP), active);
}

#[test]
fn who_does_not_come_within_the_recovery_window_is_lost() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let other = lan.other_than(VIP, &NODES);
    lan.restarted();
    lan.join(&other, &[]);
    lan.wait(ms(1900));
    assert_eq!(lan.active(VIP), active);
    lan.wait(ms(200));
    assert_eq!(lan.active(VIP), other);
}

#[test]
fn after_a_start_nobody_is_lost_as_long_as_nobody_has_come() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let other = lan.other_than(VIP, &NODES);
    let before = lan.rig.state.network().placements().clone();
    lan.restarted();
    lan.wait(Duration::from_secs(60));
    let placed = |lan: &Lan| lan.rig.state.network().placements()[&VIP.parse().unwrap()].clone().unwrap();
    assert_eq!(placed(&lan).active, before[&VIP.parse().unwrap()].clone().unwrap().active, "nobody can reach the allocator yet");
    assert_eq!(lan.rig.state.network().speakers()[&id(&active)].liveness, Liveness::Awaited);
    lan.join(&other, &[]);
    lan.wait(ms(1900));
    assert_eq!(lan.active(VIP), active, "the window counts from the first one that came");
    lan.wait(ms(200));
    assert_eq!((lan.active(VIP), lan.rig.state.network().speakers()[&id(&active)].liveness), (other, Liveness::Lost));
}

#[test]
fn a_speaker_that_comes_too_late_gets_back_what_nobody_has_said_to_announce_yet() {
    for said in [false, true] {
        let mut lan = Lan::of(&NODES);
        let active = lan.active(VIP);
        let other = lan.other_than(VIP, &NODES);
        lan.restarted();
        lan.join(&other, &[]);
        lan.slow.insert(other.clone());
        lan.wait(ms(2100));
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (other.clone(), vec![active.clone()]), "it was given up, and answers");
        let told = lan.newest(&other);
        if said {
            lan.catch_up(&other, told);
        }
        lan.join(&active, &[VIP]);
        let wanted = if said { &other } else { &active };
        let told = lan.newest(&other);
        lan.catch_up(&other, told);
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (wanted.clone(), vec![wanted.clone()]), "said: {said}");
    }
}

#[test]
fn a_lost_volume_keeps_what_speakers_hold_until_the_first_full_view() {
    for named in [true, false] {
        let mut lan = Lan::empty(&[]);
        lan.join("a", &["10.0.0.9"]);
        lan.join("b", &[]);
        lan.wait(ms(5000));
        assert_eq!(lan.on_the_wire("10.0.0.9"), ["a"], "nobody knows yet whose it is");
        let adopts = Claim { adopt: vec!["10.0.0.9".parse().unwrap()], ..claim("web") };
        lan.rig.full_view(if named { vec![adopts] } else { vec![] });
        lan.deliver();
        let wanted: &[&str] = if named { &["a"] } else { &[] };
        assert_eq!(lan.on_the_wire("10.0.0.9"), wanted);
    }
}

#[test]
fn after_a_start_without_records_an_address_that_a_status_holds_waits_for_whoever_announces_it() {
    for comes in [true, false] {
        let mut lan = Lan::empty(&[]);
        let adopts = Claim { adopt: vec!["10.0.0.9".parse().unwrap()], ..claim("old") };
        lan.rig.full_view(vec![adopts, claim("new")]);
        for name in ["old", "new"] {
            lan.reach(name, Reach::Anywhere);
        }
        let awaited = "the allocator has just started or hears nobody, and whoever announces it may still say so";
        assert_eq!(lan.active("10.0.0.9"), awaited);
        lan.join("a", &[]);
        assert_eq!((lan.active("10.0.0.9").as_str(), lan.active(VIP).as_str()), (awaited, "a"), "nobody can have had the new one");
        lan.wait(ms(1900));
        if comes {
            lan.join("b", &["10.0.0.9"]);
        }
        lan.wait(ms(200));
        let wanted = if comes { "b" } else { "a" };
        assert_eq!((lan.active("10.0.0.9").as_str(), lan.on_the_wire("10.0.0.9")), (wanted, vec![wanted.to_owned()]), "comes: {comes}");
    }
}

#[test]
fn what_a_speaker_holds_is_left_with_it_only_as_far_as_it_may_announce_it() {
    let mut lan = Lan::of(&["a"]);
    lan.reset("a");
    lan.wait(ms(1000));
    lan.rig.full_view(vec![claim("web")]);
    lan.nodes(vec![crate::core::tests::lan::node("a", &[(EXCLUDE_LABEL, "")])]);
    lan.mute.insert("a".to_owned());
    lan.join("a", &[VIP, "10.0.0.77"]);
    assert_eq!(lan.answering(VIP), Vec::<String>::new(), "the node is excluded");
    assert_eq!(lan.active("10.0.0.77"), "dropped", "no Service holds it");
    let told = lan.newest("a");
    lan.catch_up("a", told);
    assert_eq!((lan.on_the_wire(VIP), lan.on_the_wire("10.0.0.77")), (vec![], vec![]));
}

#[test]
fn words_on_a_stream_that_has_been_replaced_are_ignored() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let old = lan.session(&active);
    lan.join(&active, &[VIP]);
    for message in [
        SpeakerMessage::Heartbeat { seq: 9, applied: Revision(9) },
        SpeakerMessage::Draining,
        SpeakerMessage::InterfacesChanged(vec![]),
        SpeakerMessage::Applied { revision: Revision(9), failures: BTreeMap::new() },
    ] {
        let events = decide(&lan.rig.state, Command::SpeakerSaid { session: old, message }, lan.rig.now).unwrap();
        assert_eq!(events, []);
    }
    assert_eq!(decide(&lan.rig.state, Command::SessionEnded { session: old }, lan.rig.now).unwrap(), []);
    assert_eq!(lan.active(VIP), active);
}

#[test]
fn a_greeting_that_comes_late_on_a_stream_that_was_left_takes_nobodys_place() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let old = lan.session(&active);
    lan.join(&active, &[VIP]);
    let new = lan.session(&active);
    let (held, taken) = (BTreeMap::new(), BTreeSet::new());
    let hello = Hello { speaker: id(&active), boot_id: "boot".to_owned(), interfaces: vec![], held, taken, asks_first: true };
    let late = Command::SpeakerSaid { session: old, message: SpeakerMessage::Hello(hello) };
    assert_eq!(decide(&lan.rig.state, late, lan.rig.now).unwrap(), []);
    assert_eq!(lan.rig.state.network().speaker_of(new), Some(&id(&active)));
}

#[test]
fn a_second_name_on_a_stream_ends_it_for_the_first() {
    let mut lan = Lan::of(&NODES);
    let (first, second) = (lan.active(VIP), "z".to_owned());
    let (session, other) = (lan.session(&first), SessionId(100));
    let greet = |lan: &mut Lan, session: SessionId, name: &str| {
        let message = SpeakerMessage::Hello(lan.hello(name));
        lan.rig.command(Command::SpeakerSaid { session, message }).unwrap();
    };
    let speaker = |lan: &Lan, name: &str| lan.rig.state.network().speakers().get(&id(name)).map(|speaker| speaker.liveness);
    greet(&mut lan, session, &second);
    assert!(matches!(speaker(&lan, &first), Some(Liveness::Grace(_))), "{:?}", speaker(&lan, &first));
    assert_eq!(lan.rig.state.network().speaker_of(session), Some(&id(&second)));
    lan.rig.wait(ms(250));
    assert_eq!(speaker(&lan, &first), Some(Liveness::Lost));
    greet(&mut lan, other, &first);
    assert_eq!(lan.rig.state.network().speaker_of(session), Some(&id(&second)), "whose stream it is by now");
    lan.rig.command(Command::SessionEnded { session: other }).unwrap();
    lan.rig.wait(Duration::from_secs(700));
    assert_eq!(speaker(&lan, &first), None, "it is forgotten");
}

#[test]
fn who_is_not_heard_is_told_nothing_until_it_is_heard_again() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    let told = lan.newest(&active);
    lan.mute.insert(active.clone());
    lan.wait(ms(900));
    assert_eq!(lan.active(VIP), standby);
    assert_eq!(lan.newest(&active), told, "it may hear without being heard, and answers as long as nobody else does");
    lan.say(&active, SpeakerMessage::Heartbeat { seq: 9, applied: Revision::default() });
    assert_eq!((lan.active(VIP), lan.newest(&active) > told), (standby, true));
}

#[test]
fn a_speaker_that_began_anew_without_an_allocator_does_not_announce_what_another_may_have_taken_over() {
    for (name, comes) in [("by its own word", Some(true)), ("by an older one", Some(false)), ("nobody", None)] {
        let mut lan = Lan::of(&NODES);
        let (active, other) = (lan.active(VIP), lan.standby(VIP).unwrap());
        lan.restarted();
        lan.forget(&active);
        lan.join(&active, &[]);
        lan.wait(ms(1000));
        assert_eq!((lan.active(VIP), lan.answering(VIP), lan.on_the_wire(VIP)), (active.clone(), vec![], vec![]), "{name}");
        match comes {
            Some(true) => lan.join_taking(&other, &[VIP]),
            Some(false) => lan.join(&other, &[VIP]),
            None => {}
        }
        lan.wait(ms(1100));
        let wanted = if comes.is_some() { other } else { active };
        assert_eq!((lan.active(VIP), lan.on_the_wire(VIP)), (wanted.clone(), vec![wanted]), "{name}");
    }
}

#[test]
fn where_all_streams_end_at_once_the_first_speaker_to_come_back_does_not_get_what_all_had() {
    for comes in [true, false] {
        let mut lan = Lan::of(&NODES);
        let (active, standby, third) = (lan.active(VIP), lan.standby(VIP).unwrap(), lan.other_than(VIP, &NODES));
        for speaker in NODES {
            lan.reset(speaker);
            lan.wait(ms(50));
        }
        lan.wait(ms(1000));
        assert_eq!(lan.active(VIP), "the allocator has just started or hears nobody, and whoever announces it may still say so");
        lan.join(&third, &[]);
        lan.join(&standby, &[]);
        lan.wait(ms(1900));
        assert_eq!((lan.answering(VIP), lan.on_the_wire(VIP)), (vec![], vec![active.clone()]), "it was told nothing, and answers");
        if comes {
            lan.join(&active, &[VIP]);
        }
        lan.wait(ms(2200));
        assert_eq!(lan.active(VIP) == active, comes, "{}", lan.active(VIP));
        assert!(lan.active(VIP) == active || [standby, third].contains(&lan.active(VIP)));
    }
}

#[test]
fn a_speaker_that_began_anew_and_is_about_to_end_does_not_go_on_with_what_it_has_not_begun() {
    let mut lan = Lan::of(&NODES);
    let (active, other) = (lan.active(VIP), lan.standby(VIP).unwrap());
    lan.restarted();
    lan.forget(&active);
    lan.slow.insert(other.clone());
    lan.join(&other, &[]);
    lan.join(&active, &[]);
    lan.say(&active, SpeakerMessage::Draining);
    assert_eq!((lan.active(VIP), lan.answering(VIP)), (other.clone(), vec![other]));
}

/// What the engine tells a speaker next: the VIPs in which it has a part, and those in which it has none.
fn tell(lan: &mut Lan, speaker: &str, revision: u64) -> Option<(BTreeSet<Vip>, Vec<Vip>)> {
    let (message, told) = next_message(&lan.rig.state, lan.session(speaker), Revision(revision))?;
    lan.rig.take(told);
    let (parts, none) = match message {
        AllocatorMessage::Delta { upserts, removals, .. } => (upserts, removals),
        AllocatorMessage::Snapshot { assignments, .. } => (assignments, Vec::new()),
        AllocatorMessage::HeartbeatAck { .. } | AllocatorMessage::Goodbye { .. } => panic!("{message:?}"),
    };
    Some((parts.into_iter().map(|part| part.vip).collect(), none))
}

#[test]
fn much_that_changes_is_told_in_parts_and_nothing_is_left_out() {
    let mut lan = Lan::empty(&["a", "b"]);
    lan.rig.is_audited = false;
    lan.rig.pools(vec![pool("a", &["10.0.0.0/21"])]);
    let count = 2 * PART + 7;
    lan.rig.full_view((0..count).map(|number| claim(&format!("s{number}"))).collect());
    let backends = (0..count).map(|number| Backends { service: claim(&format!("s{number}")).service, reach: Reach::Anywhere }).collect();
    lan.rig.command(Command::ReportBackends { leadership: Leadership::Present, backends }).unwrap();
    lan.rig.settle();
    // Each has a part in all: it announces a half, and stands by for the other one.
    let all: BTreeSet<Vip> = lan.spread().into_keys().collect();
    assert_eq!(all.len(), count);
    let mut parts: Vec<_> = (2..5).map(|revision| tell(&mut lan, "a", revision).unwrap()).collect();
    assert_eq!(tell(&mut lan, "a", 5), None);
    assert_eq!(parts.iter().map(|(vips, none)| (vips.len(), none.len())).collect::<Vec<_>>(), [(PART, 0), (PART, 0), (7, 0)]);
    assert_eq!(parts.iter().flat_map(|(vips, _)| vips).copied().collect::<BTreeSet<_>>(), all);
    // The other one has another hardware address, which concerns all, and while that is told the first VIP goes.
    let interfaces = vec![Interface { name: InterfaceName::new("eth0").unwrap(), mac: MacAddress([2, 0, 0, 0, 9, 9]), addresses: vec![] }];
    let (session, message) = (lan.session("b"), SpeakerMessage::InterfacesChanged(interfaces));
    lan.rig.command(Command::SpeakerSaid { session, message }).unwrap();
    let first = *all.first().unwrap();
    parts = vec![tell(&mut lan, "a", 5).unwrap()];
    assert!(parts[0].0.contains(&first));
    let released = lan.rig.state.book().holders()[&first].into_iter().next().unwrap().to_string();
    lan.rig.release(&released);
    parts.extend((6..8).map(|revision| tell(&mut lan, "a", revision).unwrap()));
    assert_eq!(tell(&mut lan, "a", 8), None);
    assert_eq!(parts.iter().map(|(vips, none)| vips.len() + none.len()).collect::<Vec<_>>(), [PART, PART, 8]);
    assert_eq!(parts.iter().flat_map(|(_, none)| none).collect::<Vec<_>>(), [&first]);
    assert_eq!(parts.iter().flat_map(|(vips, _)| vips).copied().collect::<BTreeSet<_>>(), all);
}

#[test]
fn a_stranger_is_remembered_with_its_address_and_moves_nothing() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let mac = MacAddress([2, 9, 9, 9, 9, 9]);
    lan.say(&active, SpeakerMessage::Conflict { vip: VIP.parse().unwrap(), mac, interface: InterfaceName::new("eth0").unwrap() });
    let conflict = lan.rig.state.network().conflict(VIP.parse().unwrap()).unwrap();
    assert_eq!((conflict.mac, conflict.node.as_str()), (mac, active.as_str()));
    assert_eq!(lan.active(VIP), active);
}

fn conflict(lan: &mut Lan, speaker: &str, address: &str, last: u8) -> Vec<Event> {
    let (mac, interface) = (MacAddress([2, 9, 9, 9, 9, last]), InterfaceName::new("eth0").unwrap());
    let from = lan.rig.events.len();
    lan.say(speaker, SpeakerMessage::Conflict { vip: address.parse().unwrap(), mac, interface });
    let seen = |event: &&Event| matches!(event, Event::Speaker(SpeakerEvent::ConflictSeen { .. }));
    lan.rig.events[from..].iter().filter(seen).cloned().collect()
}

#[test]
fn a_stranger_that_falls_silent_is_forgotten_and_is_news_when_it_returns() {
    let mut lan = Lan::of(&NODES);
    let active = lan.active(VIP);
    let vip = VIP.parse().unwrap();
    assert_eq!(conflict(&mut lan, &active, VIP, 9).len(), 1);
    lan.wait(Duration::from_secs(400));
    assert_eq!(conflict(&mut lan, &active, VIP, 9), [], "it is known");
    lan.wait(Duration::from_secs(400));
    assert!(lan.rig.state.network().conflict(vip).is_some(), "it was seen less than ten minutes ago");
    let before = lan.rig.state.feed().revision();
    lan.wait(Duration::from_secs(201));
    assert_eq!(lan.rig.state.network().conflict(vip), None);
    assert_eq!(lan.rig.state.feed().since(before).unwrap().len(), 1, "readers of the feed are told");
    assert_eq!(conflict(&mut lan, &active, VIP, 9).len(), 1, "it is news again");
    assert_eq!(conflict(&mut lan, &active, VIP, 8).len(), 1, "and so is another one");
}

#[test]
fn a_stranger_that_several_nodes_see_is_one_conflict_as_it_was_seen_first() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    assert_eq!(conflict(&mut lan, &active, VIP, 9).len(), 1);
    let before = lan.rig.events.len();
    let answers = BTreeMap::from([(MacAddress([2, 9, 9, 9, 9, 9]), InterfaceName::new("lan1").unwrap())]);
    for _ in 0..2 {
        lan.say(&standby, SpeakerMessage::Seen(vec![Sight { vip: VIP.parse().unwrap(), answers: answers.clone() }]));
        assert_eq!(conflict(&mut lan, &active, VIP, 9), []);
    }
    let seen = |event: &Event| matches!(event, Event::Speaker(SpeakerEvent::ConflictSeen { .. }));
    assert!(!lan.rig.events[before..].iter().any(seen));
    let known = lan.rig.state.network().conflict(VIP.parse().unwrap()).unwrap();
    assert_eq!((known.node.as_str(), known.interface.as_str()), (active.as_str(), "eth0"));
}

#[test]
fn a_conflict_about_what_is_not_the_speakers_is_nobodys() {
    let mut lan = Lan::of(&NODES);
    let (active, other) = (lan.active(VIP), lan.other_than(VIP, &NODES));
    assert_eq!(conflict(&mut lan, &active, "10.0.0.77", 9), []);
    assert_eq!(conflict(&mut lan, &other, VIP, 9), []);
}

#[test]
fn a_speaker_that_stays_away_is_forgotten_once_nothing_is_its() {
    let mut lan = Lan::of(&NODES);
    let gone = lan.other_than(VIP, &NODES);
    let silent = lan.active(VIP);
    lan.reset(&gone);
    lan.mute.insert(silent.clone());
    lan.wait(Duration::from_secs(590));
    let known = |lan: &Lan| lan.rig.state.network().speakers().keys().map(|id| id.node.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(known(&lan), NODES.map(str::to_owned).into());
    lan.wait(Duration::from_secs(20));
    assert!(!known(&lan).contains(&gone), "its stream is gone");
    assert!(known(&lan).contains(&silent), "its stream is open: it may be heard again");
    lan.mute.clear();
    lan.wait(ms(100));
    assert_eq!(lan.rig.state.network().speakers()[&id(&silent)].liveness, Liveness::Live);
    lan.join(&gone, &[]);
    assert_eq!(lan.rig.state.network().speakers()[&id(&gone)].liveness, Liveness::Live);
}

#[test]
fn where_a_service_can_be_served_is_kept_as_long_as_it_claims_or_holds_something() {
    let mut lan = Lan::of(&NODES);
    let known = |lan: &Lan| lan.rig.state.network().backends.keys().map(ServiceKey::name).map(str::to_owned).collect::<Vec<_>>();
    lan.reach("unknown", Reach::Anywhere);
    assert_eq!(known(&lan), ["web"]);
    // After a start a lease is known before its claim.
    let active = lan.active(VIP);
    lan.restarted();
    lan.join(&active, &[VIP]);
    lan.reach("web", Reach::Anywhere);
    assert_eq!(known(&lan), ["web"]);
    lan.rig.full_view(vec![]);
    assert_eq!(known(&lan), Vec::<String>::new());
}

#[test]
fn that_no_speaker_ever_comes_is_told_once_the_recovery_window_is_over() {
    let mut lan = Lan::of(&[]);
    let placed = |lan: &Lan| {
        let silent = lan.rig.state.network().placements()[&VIP.parse().unwrap()].clone().unwrap_err();
        (silent.to_string(), silent.is_amiss())
    };
    let nobody = "no node has a speaker".to_owned();
    let before = lan.rig.state.feed().revision();
    lan.wait(ms(1950));
    assert_eq!((placed(&lan), lan.rig.state.feed().since(before).unwrap().len()), ((nobody.clone(), false), 0), "they may just be coming");
    lan.wait(ms(100));
    assert_eq!((placed(&lan), lan.rig.state.feed().since(before).unwrap().len()), ((nobody.clone(), true), 1), "the feed tells");
    let told = lan.rig.state.feed().revision();
    lan.wait(Duration::from_secs(60));
    assert_eq!(lan.rig.state.feed().revision(), told, "once");
    lan.service("second");
    assert!(lan.rig.state.network().placements().values().all(|placed| placed.as_ref().is_err_and(Unannounced::is_amiss)));
    lan.join("a", &[]);
    assert_eq!(lan.active(VIP), "a");
    lan.reset("a");
    lan.wait(ms(250));
    assert_eq!(placed(&lan), ("no node is eligible: a: its speaker is lost".to_owned(), true));
    lan.wait(Duration::from_secs(700));
    assert_eq!(placed(&lan), (nobody, true), "all that were there are forgotten");
    lan.join("b", &[]);
    assert_eq!(lan.active(VIP), "b");
}

#[test]
fn a_speaker_that_comes_in_time_is_not_missed() {
    let mut lan = Lan::of(&[]);
    lan.wait(ms(1500));
    let before = lan.rig.events.len();
    lan.join("a", &[]);
    lan.wait(Duration::from_secs(10));
    let missed = |event: &Event| matches!(event, Event::VipPlaced { placement: Err(_), .. });
    assert!(!lan.rig.events[before..].iter().any(missed));
    assert_eq!(lan.active(VIP), "a");
}
