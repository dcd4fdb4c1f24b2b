use mooring_proto::types::assignment::Assignment;
use proptest::prelude::*;

use super::super::interfaces::LinkIndex;
use super::super::tests::{PEER, STRANGER, answering, assignment, delta, eth, live, snapshot, trace, vip};
use super::super::{Command, audit, next_deadline, step};
use super::*;

const OTHER: MacAddress = MacAddress([0x02, 0, 0, 0, 0xcc, 0]);

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

/// We stand by for a VIP of node-b; node-c is there too.
fn stands_by(last: u8) -> Assignment {
    let peers = BTreeMap::from([(node("node-b"), BTreeSet::from([PEER])), (node("node-c"), BTreeSet::from([OTHER]))]);
    Assignment { active: Some(node("node-b")), peers: Arc::new(peers), ..assignment(vip(last), Role::Standby) }
}

fn standby(vips: u8) -> State {
    live((1..=vips).map(stands_by).collect())
}

fn claim(last: u8, mac: MacAddress) -> Command {
    Command::NoteClaim { vip: vip(last), mac, link: LinkIndex(1) }
}

fn at(millis: u64) -> Mono {
    Mono::ZERO + Duration::from_millis(millis)
}

/// Who answers a question for a VIP.
type Lan<'a> = &'a dyn Fn(Vip, Addressee) -> Option<MacAddress>;

/// Lets time pass on a LAN; returns what is taken over, suspected and contradicted, with its time in milliseconds.
fn run(state: &mut State, until: u64, lan: Lan<'_>) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(now) = next_deadline(state).filter(|deadline| *deadline <= at(until)) {
        let events = step(state, Command::Tick, now);
        audit(state).unwrap();
        let asked = events.iter().filter_map(|event| if let Event::PeerAsked { questions, .. } = event { Some(questions) } else { None });
        let asked_of_all =
            events.iter().filter_map(|event| if let Event::ProbeDue(vip) = event { Some((*vip, Addressee::All)) } else { None });
        let asked = asked.flatten().copied().chain(asked_of_all);
        let answers: Vec<(Vip, MacAddress)> = asked.filter_map(|(vip, addressee)| Some((vip, lan(vip, addressee)?))).collect();
        let time = now.saturating_since(Mono::ZERO).as_millis();
        seen.extend(events.iter().filter_map(told).map(|told| format!("{time}: {told}")));
        for (vip, mac) in answers {
            let events = step(state, Command::NoteClaim { vip, mac, link: LinkIndex(1) }, now);
            audit(state).unwrap();
            seen.extend(events.iter().filter_map(told).map(|told| format!("{time}: {told}")));
        }
    }
    seen
}

fn told(event: &Event) -> Option<String> {
    if let Event::TookOver { vip, node } = event {
        return Some(format!("took {vip} from {node}"));
    }
    if let Event::PeerSuspected { vip, node } = event {
        return Some(format!("suspects {node} for {vip}"));
    }
    matches!(event, Event::PeerContradicted { .. }).then(|| "contradicts".to_owned())
}

const NOBODY: Lan<'_> = &|_, _| None;
const THE_ACTIVE: Lan<'_> = &|_, _| Some(PEER);

#[test]
fn a_node_is_asked_once_a_beat_for_one_vip_after_the_other() {
    let mut state = standby(3);
    let mut asked = Vec::new();
    for beat in 0..7 {
        let events = trace(&mut state, Command::Tick, at(100 * beat));
        asked.extend(events);
        let last = u8::try_from(beat % 3).unwrap() + 1;
        assert_eq!(trace(&mut state, claim(last, PEER), at(100 * beat)), [format!("02:00:00:00:bb:00 answers for 172.17.200.{last}")]);
    }
    let question = |last: u8| format!("ask node-b [(Vip(172.17.200.{last}), Active)]");
    assert_eq!(asked, [1, 2, 3, 1, 2, 3, 1].map(question));
}

#[test]
fn as_long_as_the_active_node_answers_nobody_takes_anything_over_whether_an_allocator_is_there_or_not() {
    let mut state = standby(20);
    assert_eq!(run(&mut state, 10_000, THE_ACTIVE), [""; 0]);
    let _events = step(&mut state, Command::CloseSession, at(10_000));
    assert_eq!(run(&mut state, 600_000, THE_ACTIVE), [""; 0]);
    assert_eq!(answering(&state), []);
}

#[test]
fn while_an_allocator_is_there_it_is_told_each_three_misses_and_nothing_is_taken_over() {
    for vips in [1, 2, 100] {
        let mut state = standby(vips);
        let _events = run(&mut state, 1_000, THE_ACTIVE);
        let told = run(&mut state, 2_000, NOBODY);
        assert_eq!(told, [1_400, 1_700, 2_000].map(|time| format!("{time}: suspects node-b for 172.17.200.1")), "{vips}");
        assert_eq!(answering(&state), []);
    }
}

#[test]
fn without_an_allocator_three_misses_take_over_all_that_the_node_had_and_announce_it_at_once() {
    let mut state = standby(200);
    let _events = run(&mut state, 1_000, THE_ACTIVE);
    let _events = step(&mut state, Command::CloseSession, at(1_050));
    let taken = run(&mut state, 1_400, NOBODY);
    let wanted: Vec<String> = (1..=200).map(|last| format!("1400: took 172.17.200.{last} from node-b")).collect();
    assert!(taken == wanted, "{taken:?}");
    assert_eq!(answering(&state).len(), 200);
    assert_eq!(state.hello().taken.len(), 200);
    assert!((1..=200).all(|last| state.hello().held.get(&vip(last)) == Some(&Role::Active)));
    assert!(!state.schedule.has_doubts(), "no probes come before the first round");
    assert_eq!(run(&mut state, 20_000, NOBODY), [""; 0]);
}

#[test]
fn what_was_missed_while_the_allocator_was_there_is_taken_over_as_soon_as_it_is_gone() {
    let mut state = standby(1);
    let _events = run(&mut state, 2_000, NOBODY);
    let _events = step(&mut state, Command::CloseSession, at(2_010));
    assert_eq!(run(&mut state, 2_200, NOBODY), ["2010: took 172.17.200.1 from node-b"]);
}

#[test]
fn one_vip_that_its_node_does_not_answer_for_is_taken_over_alone() {
    let mut state = standby(5);
    let _events = step(&mut state, Command::CloseSession, at(0));
    let but_three: Lan<'_> = &|asked, _| (asked != vip(3)).then_some(PEER);
    assert_eq!(run(&mut state, 5_000, but_three), ["500: took 172.17.200.3 from node-b"]);
    assert_eq!(answering(&state), [vip(3)]);
}

#[test]
fn lost_frames_are_no_loss_of_the_node() {
    let mut state = standby(4);
    let _events = step(&mut state, Command::CloseSession, at(0));
    for round in 0..50 {
        let (from, to) = (1_000 * round, 1_000 * round + 250);
        assert_eq!(run(&mut state, from + 700, THE_ACTIVE), [""; 0]);
        assert_eq!(run(&mut state, to + 700, NOBODY), [""; 0], "two or three questions are not answered");
        assert_eq!(run(&mut state, from + 1_000, THE_ACTIVE), [""; 0]);
    }
}

#[test]
fn what_another_peer_answers_for_is_not_taken_over_and_a_stranger_is_nobody() {
    let mut state = standby(2);
    let _events = step(&mut state, Command::CloseSession, at(0));
    let moved: Lan<'_> = &|asked, addressee| match addressee {
        Addressee::All if asked == vip(1) => Some(OTHER),
        Addressee::All => Some(STRANGER),
        Addressee::Active => None,
    };
    assert_eq!(run(&mut state, 60_000, moved), ["300: took 172.17.200.2 from node-b"]);
    // The other peer is lost too.
    let taken = run(&mut state, 62_000, NOBODY);
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert!(taken[0].ends_with("took 172.17.200.1 from node-b"), "{taken:?}");
}

#[test]
fn without_an_interface_to_ask_on_nothing_is_known_and_nothing_taken_over() {
    let mut state = standby(1);
    let _events = step(&mut state, Command::CloseSession, at(0));
    let _events = run(&mut state, 150, THE_ACTIVE);
    let _events = step(&mut state, Command::ReplaceLinks(vec![]), at(160));
    assert_eq!(run(&mut state, 60_000, NOBODY), [""; 0]);
    let _events = step(&mut state, Command::ReplaceLinks(vec![eth(1)]), at(60_010));
    assert_eq!(run(&mut state, 60_310, NOBODY), [""; 0]);
    assert_eq!(run(&mut state, 60_500, NOBODY), ["60400: took 172.17.200.1 from node-b"]);
}

#[test]
fn a_speaker_that_is_about_to_end_takes_nothing_over() {
    let mut state = standby(1);
    let _events = step(&mut state, Command::CloseSession, at(0));
    let _events = step(&mut state, Command::Drain, at(0));
    let mut now = at(0);
    for _ in 0..20 {
        let events = step(&mut state, Command::Tick, now);
        assert!(!events.iter().any(|event| matches!(event, Event::TookOver { .. })), "{events:?}");
        now = now + BEAT;
    }
}

#[test]
fn a_speaker_on_the_node_of_the_active_one_has_nothing_to_ask() {
    let mut state = live(vec![assignment(vip(1), Role::Standby)]);
    assert_eq!(next_deadline(&state), None);
    let _events = step(&mut state, Command::CloseSession, at(0));
    assert_eq!(next_deadline(&state), None);
}

/// We have taken a VIP over from node-b.
fn taker() -> State {
    let mut state = standby(1);
    let _events = step(&mut state, Command::CloseSession, at(0));
    assert_eq!(run(&mut state, 300, NOBODY), ["300: took 172.17.200.1 from node-b"]);
    state
}

#[test]
fn whom_the_vip_was_taken_from_is_contradicted_and_any_other_peer_has_taken_it_later() {
    let mut state = taker();
    assert_eq!(run(&mut state, 550, THE_ACTIVE), ["400: contradicts", "500: contradicts"]);
    assert_eq!(answering(&state), [vip(1)]);
    assert_eq!(
        trace(&mut state, claim(1, OTHER), at(560)).last().map(String::as_str),
        Some("default/web 172.17.200.1 Withdrawn(YieldedToPeer)")
    );
    assert_eq!((answering(&state), state.hello().taken.len()), (vec![], 0));
    // As long as that one answers it stays so; then it is ours again.
    assert_eq!(run(&mut state, 10_000, &|_, _| Some(OTHER)), [""; 0]);
    let taken = run(&mut state, 11_000, NOBODY);
    assert_eq!((taken.len(), answering(&state)), (1, vec![vip(1)]), "{taken:?}");
    assert!(taken[0].ends_with("took 172.17.200.1 from node-c"), "{taken:?}");
}

#[test]
fn whoever_had_the_vip_yields_to_the_taker() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, at(0));
    let events = trace(&mut state, claim(1, PEER), at(10));
    assert_eq!(events[1], "172.17.200.1 Silent(Yielded)");
}

#[test]
fn a_node_that_was_silent_and_claims_a_vip_has_it_as_long_as_the_next_one_that_is_yielded_to() {
    let peers = stands_by(2).peers;
    let mut state = live(vec![Assignment { peers, ..assignment(vip(1), Role::Active) }, stands_by(2)]);
    let _events = step(&mut state, Command::CloseSession, at(0));
    assert_eq!(run(&mut state, 350, NOBODY), ["300: took 172.17.200.2 from node-b"]);
    let _events = step(&mut state, claim(1, PEER), at(360));
    assert_eq!(answering(&state), [vip(2)]);
    assert_eq!(run(&mut state, 2_000, NOBODY), [""; 0], "whether it answers us or not");
}

#[test]
fn the_allocator_has_the_last_word_on_what_was_taken_over() {
    let mut state = taker();
    let _events = step(&mut state, Command::OpenSession, at(1_000));
    let ours = trace(&mut state, snapshot(2, vec![assignment(vip(1), Role::Active)]), at(1_000));
    assert_eq!(ours, ["session Live", "stored 172.17.200.1 active", "revision 1.2", "applied"], "nobody notices");
    let rounds = step(&mut state, Command::Tick, at(1_000));
    assert_eq!(rounds.len(), 2, "announced anew on both interfaces: {rounds:?}");
    assert!(state.hello().taken.is_empty());

    let mut state = taker();
    let _events = step(&mut state, Command::OpenSession, at(1_000));
    let theirs = trace(&mut state, snapshot(2, vec![stands_by(1)]), at(1_000));
    assert_eq!(
        theirs,
        [
            "session Live",
            "stored 172.17.200.1 standby",
            "172.17.200.1 Silent(Standby)",
            "default/web 172.17.200.1 Withdrawn(NotOwner)",
            "revision 1.2",
            "applied"
        ]
    );
    assert_eq!((answering(&state), state.hello().taken.len()), (vec![], 0));
}

#[test]
fn another_active_node_is_asked_from_now_on_and_no_longer_the_one_before() {
    let mut state = standby(1);
    let after = Assignment { active: Some(node("node-c")), ..stands_by(1) };
    let _events = trace(&mut state, delta(2, vec![after], vec![]), at(0));
    assert_eq!(trace(&mut state, Command::Tick, at(0)), ["ask node-c [(Vip(172.17.200.1), Active)]"]);
    let _events = trace(&mut state, delta(3, vec![], vec![vip(1)]), at(0));
    assert_eq!(next_deadline(&state), None);
}

proptest! {
    /// Nodes lose frames as they like: what is answered at least each third time is never taken over, and what is answered by nobody is,
    /// within four beats.
    #[test]
    fn nothing_is_taken_over_that_is_answered_for_and_all_is_that_is_not(
        vips in 1..12u8,
        losses in prop::collection::vec(prop::bool::weighted(0.5), 0..200),
    ) {
        let mut state = standby(vips);
        let _events = step(&mut state, Command::CloseSession, at(0));
        let mut in_a_row = BTreeMap::<Vip, u32>::new();
        for (beat, lost) in losses.iter().enumerate() {
            let now = at(100 * u64::try_from(beat).unwrap());
            for event in step(&mut state, Command::Tick, now) {
                prop_assert!(!matches!(event, Event::TookOver { .. }), "{event:?}");
                let Event::PeerAsked { questions, .. } = event else { continue };
                prop_assert!(questions.len() <= SAMPLE * usize::try_from(MISSES).unwrap());
                for (vip, _) in questions {
                    let misses = in_a_row.entry(vip).or_default();
                    *misses += 1;
                    if *misses == MISSES || !*lost {
                        *misses = 0;
                        let _events = step(&mut state, Command::NoteClaim { vip, mac: PEER, link: LinkIndex(1) }, now);
                    }
                }
            }
            prop_assert_eq!(audit(&state), Ok(()));
        }
        let end = 100 * u64::try_from(losses.len()).unwrap();
        let taken = run(&mut state, end + 400, NOBODY);
        prop_assert_eq!(taken.len(), usize::from(vips), "{:?}", taken);
    }
}
