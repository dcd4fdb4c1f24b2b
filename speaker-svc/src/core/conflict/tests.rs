use std::collections::{BTreeMap, BTreeSet};

use mooring_proto::types::assignment::Assignment;
use proptest::prelude::*;

use super::super::tests::{
    PEER, STRANGER, answering, assignment, delta, eth, live, own_mac, pool, service, settings, snapshot, trace, vip, vip6,
};
use super::super::{Command, next_deadline, step};
use super::*;

const NOW: Mono = Mono::ZERO;

fn claim(mac: MacAddress) -> Command {
    Command::NoteClaim { vip: vip(1), mac, link: LinkIndex(1) }
}

#[test]
fn a_stranger_is_defended_against_and_reported_once_in_ten_seconds_and_never_obeyed() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let seen = |defend| format!("conflict 172.17.200.1 02:00:00:00:ee:00 eth1 defend={defend}");
    let defense = "announce 172.17.200.1 on 1 Defense".to_owned();
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), [seen(true), defense.clone()]);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW + Duration::from_millis(9_999)), [seen(false)]);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW + DEFEND_INTERVAL), [seen(true), defense]);
    assert_eq!(answering(&state), [vip(1)]);
    let strife = state.vips[&vip(1)].strife.as_deref().unwrap();
    assert_eq!((strife.claims, strife.mac), (3, STRANGER));
}

#[test]
fn the_same_holds_for_ipv6() {
    let ours = || assignment(vip6(1), Role::Active);
    let claim = |mac| Command::NoteClaim { vip: vip6(1), mac, link: LinkIndex(1) };
    let mut state = live(vec![ours()]);
    let seen = ["conflict fd00:201::c8:1 02:00:00:00:ee:00 eth1 defend=true", "announce fd00:201::c8:1 on 1 Defense"];
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), seen);
    assert_eq!(trace(&mut state, claim(PEER), NOW), ["02:00:00:00:bb:00 contradicts fd00:201::c8:1 on 1"]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    let yielded = ["stored fd00:201::c8:1 standby", "fd00:201::c8:1 Silent(Yielded)", "yielded fd00:201::c8:1 to 02:00:00:00:bb:00"];
    assert_eq!(trace(&mut state, claim(PEER), NOW)[..3], yielded);
    assert_eq!(answering(&state), []);
}

#[test]
fn a_stranger_is_a_conflict_without_a_session_too() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(trace(&mut state, claim(STRANGER), NOW).len(), 2);
    assert_eq!(answering(&state), [vip(1)]);
}

#[test]
fn a_peer_is_a_handover_to_one_that_only_answers_until_the_other_has_begun() {
    let mut state = live(vec![Assignment { rank: 1, ..assignment(vip(1), Role::Active) }]);
    assert_eq!(answering(&state), [vip(1)]);
    assert_eq!(trace(&mut state, claim(PEER), NOW), [""; 0]);
    assert_eq!((answering(&state), next_deadline(&state)), (vec![vip(1)], None));
}

/// When rounds go out from `from` until `end`, in milliseconds, on eth1.
fn rounds(state: &mut State, end: Duration) -> Vec<u128> {
    let mut rounds = Vec::new();
    while let Some(deadline) = next_deadline(state).filter(|deadline| *deadline <= NOW + end) {
        let announced = trace(state, Command::Tick, deadline);
        let on_one = announced.iter().filter(|event| event.starts_with("announce 172.17.200.1 on 1 "));
        rounds.extend(on_one.map(|_| deadline.saturating_since(NOW).as_millis()));
    }
    rounds
}

#[test]
fn a_peer_that_announces_what_is_ours_is_contradicted_at_once_and_is_no_conflict() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    assert_eq!(rounds(&mut state, Duration::from_secs(10)), [0, 1_100, 2_200, 3_300, 4_400]);
    let at = |millis| NOW + Duration::from_millis(millis);
    assert_eq!(trace(&mut state, claim(PEER), at(10_000)), ["02:00:00:00:bb:00 contradicts 172.17.200.1 on 1"]);
    assert_eq!(rounds(&mut state, Duration::from_millis(10_030)), [10_030]);
    // A request and a reply, as rounds are, and more: the last of it is answered too, and not more than five times a second.
    for millis in 10_030..10_530 {
        assert_eq!(trace(&mut state, claim(PEER), at(millis)).len(), 1);
        let _events = step(&mut state, Command::Tick, at(millis));
    }
    let after = rounds(&mut state, Duration::from_secs(20));
    assert_eq!(after, [10_630, 11_730]);
    assert_eq!((state.vips[&vip(1)].strife.as_deref(), answering(&state)), (None, vec![vip(1)]));
}

#[test]
fn a_peer_that_the_allocator_has_just_given_the_vip_to_is_not_contradicted() {
    let ours = || assignment(vip(1), Role::Active);
    let mut state = live(vec![ours()]);
    let _rounds = rounds(&mut state, Duration::from_secs(10));
    let claimed = NOW + Duration::from_secs(10);
    assert_eq!(trace(&mut state, claim(PEER), claimed), ["02:00:00:00:bb:00 contradicts 172.17.200.1 on 1"]);
    let _events = trace(&mut state, delta(2, vec![Assignment { rank: 1, ..ours() }], vec![]), claimed + Duration::from_millis(5));
    assert_eq!((rounds(&mut state, Duration::from_secs(20)), answering(&state)), (vec![], vec![vip(1)]), "its word was on its way");
}

#[test]
fn in_doubt_a_peer_is_yielded_to_also_while_the_session_seems_live_and_a_stranger_is_not_defended_against() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(2)]), NOW);
    let _events = trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2)]), NOW);
    assert!(state.session().is_live());
    assert_eq!(trace(&mut state, claim(STRANGER), NOW), ["conflict 172.17.200.1 02:00:00:00:ee:00 eth1 defend=false"]);
    assert_eq!(
        trace(&mut state, claim(PEER), NOW),
        [
            "stored 172.17.200.1 standby",
            "172.17.200.1 Silent(Yielded)",
            "yielded 172.17.200.1 to 02:00:00:00:bb:00",
            "default/web 172.17.200.1 Withdrawn(YieldedToPeer)"
        ]
    );
    // The allocator has the last word, and what it says is announced at once.
    let _events = trace(&mut state, snapshot(2, vec![assignment(vip(1), Role::Active)]), NOW);
    assert_eq!(answering(&state), [vip(1)]);
    let defended = trace(&mut state, claim(STRANGER), NOW);
    assert_eq!(defended.len(), 2, "{defended:?}");
}

#[test]
fn a_peer_gets_the_vip_while_the_allocator_is_not_there_until_it_says_otherwise() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    assert_eq!(
        trace(&mut state, claim(PEER), NOW),
        [
            "stored 172.17.200.1 standby",
            "172.17.200.1 Silent(Yielded)",
            "yielded 172.17.200.1 to 02:00:00:00:bb:00",
            "default/web 172.17.200.1 Withdrawn(YieldedToPeer)"
        ]
    );
    let held: Vec<_> = state.hello().held.into_iter().collect();
    assert_eq!(held, [(vip(1), Role::Standby)]);
    let _events = step(&mut state, Command::OpenSession, NOW);
    assert_eq!(
        trace(&mut state, snapshot(1, vec![assignment(vip(1), Role::Active)]), NOW),
        [
            "session Live",
            "stored 172.17.200.1 active",
            "172.17.200.1 Announced",
            "default/web 172.17.200.1 Announced",
            "revision 1.1",
            "applied"
        ]
    );
}

/// We announce a VIP and no allocator is there; the peer's node has this name.
fn alone(peer: &str) -> State {
    let peers = BTreeMap::from([(NodeName::new(peer).unwrap(), BTreeSet::from([PEER]))]);
    let mut state = live(vec![Assignment { peers: peers.into(), ..assignment(vip(1), Role::Active) }]);
    let _events = step(&mut state, Command::CloseSession, NOW);
    state
}

/// Whether we say that the VIP is ours when the peer claims it, at these times in milliseconds.
fn says(state: &mut State, times: &[u64]) -> Vec<bool> {
    let contradicts = |time: &u64| {
        let events = trace(state, claim(PEER), NOW + Duration::from_millis(*time));
        events.last().is_some_and(|event| event == "02:00:00:00:bb:00 contradicts 172.17.200.1 on 1")
    };
    times.iter().map(contradicts).collect()
}

#[test]
fn who_did_not_follow_the_peer_yields_at_once() {
    for peer in ["node-b", "node-0"] {
        let mut state = alone(peer);
        assert_eq!((says(&mut state, &[0]), answering(&state)), (vec![false], vec![]), "{peer}");
    }
}

#[test]
fn whom_we_followed_by_the_allocators_word_has_to_yield_also_without_it() {
    for (peer, times) in [("node-b", 10), ("node-0", 11)] {
        let peers = || BTreeMap::from([(NodeName::new(peer).unwrap(), BTreeSet::from([PEER]))]).into();
        let stands_by = Assignment { active: NodeName::new(peer), peers: peers(), ..assignment(vip(1), Role::Standby) };
        let mut state = live(vec![stands_by]);
        let ours = |services| Assignment { peers: peers(), services, ..assignment(vip(1), Role::Active) };
        let _events = trace(&mut state, delta(2, vec![ours([].into())], vec![]), NOW);
        // A later word about something else leaves it so.
        let changed = [(service("default/dns"), pool())].into();
        let _events = trace(&mut state, delta(3, vec![ours(changed)], vec![]), NOW);
        let _events = step(&mut state, Command::CloseSession, NOW);
        let said = says(&mut state, &(0..15).map(|claim| 200 * claim).collect::<Vec<u64>>());
        assert_eq!(said.iter().take_while(|said| **said).count(), times, "but it may have the VIP by a later word: {said:?}");
    }
}

#[test]
fn whom_we_yield_to_is_asked_and_has_the_vip_if_it_answers() {
    let mut state = alone("node-b");
    let _events = trace(&mut state, claim(PEER), NOW);
    assert_eq!(trace(&mut state, Command::Tick, NOW)[0], "ask node-b [(Vip(172.17.200.1), Active)]");
    let heard = trace(&mut state, claim(PEER), NOW + Duration::from_millis(1));
    assert_eq!(heard, ["02:00:00:00:bb:00 answers for 172.17.200.1", "172.17.200.1 Silent(Standby)"]);
    assert_eq!((answering(&state), state.hello().held), (vec![], [(vip(1), Role::Standby)].into()));
}

#[test]
fn whom_we_followed_hears_of_all_vips_at_once_when_it_is_heard_again() {
    let stands_by = |last| Assignment { active: NodeName::new("node-b"), ..assignment(vip(last), Role::Standby) };
    let mut state = live((1..=3).map(stands_by).collect());
    let ours = (1..=3).map(|last| assignment(vip(last), Role::Active)).collect();
    let _events = trace(&mut state, delta(2, ours, vec![]), NOW);
    let _events = step(&mut state, Command::CloseSession, NOW);
    let said: Vec<_> = trace(&mut state, claim(PEER), NOW).into_iter().filter(|event| event.contains("contradicts")).collect();
    let contradicts = |last: u8, link: u8| format!("02:00:00:00:bb:00 contradicts 172.17.200.{last} on {link}");
    assert_eq!(said, [contradicts(1, 1), contradicts(2, 1), contradicts(2, 2), contradicts(3, 1), contradicts(3, 2)]);
    assert_eq!(says(&mut state, &[1, 400]), [true, true]);
}

/// We have announced, and yield so long afterwards; when we answer again, if the peer never does.
fn silent_after(peer: &str, yielded: Duration) -> Option<Duration> {
    let mut state = alone(peer);
    let events = trace(&mut state, Command::Tick, NOW);
    assert!(events.iter().any(|event| event.starts_with("announce 172.17.200.1 on 1 ")), "{events:?}");
    assert_eq!(says(&mut state, &[u64::try_from(yielded.as_millis()).unwrap()]), [false]);
    assert_eq!(answering(&state), []);
    while let Some(now) = next_deadline(&state).filter(|now| *now < NOW + Duration::from_secs(60)) {
        let _events = trace(&mut state, Command::Tick, now);
        if !answering(&state).is_empty() {
            assert_eq!(state.hello().taken, [vip(1)].into());
            return Some(now.saturating_since(NOW + yielded));
        }
    }
    None
}

#[test]
fn who_said_so_in_the_same_moment_and_does_not_answer_has_yielded_to_us() {
    let crossing = Duration::from_millis(5);
    assert_eq!(silent_after("node-0", crossing), Some(Duration::from_millis(60)));
    assert_eq!(silent_after("node-b", crossing), Some(Duration::from_millis(100)), "not at the same time again");
    assert_eq!(silent_after("node-b", CROSSING * 2), None, "else it has the VIP, whether it answers us or not");
}

/// Two nodes announce one VIP on a LAN without an allocator, each with what it knows; `followed` says who stood by for the other one.
struct Two {
    states: [State; 2],
    /// Who claims the VIP to whom, when it arrives, with a number that keeps them apart.
    claims: BTreeMap<(Mono, u64), usize>,
    questions: BTreeMap<(Mono, u64), usize>,
    count: u64,
    chance: u64,
    loss: u64,
}

const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

impl Two {
    fn new(followed: [bool; 2], loss: u64, seed: u64) -> Self {
        let names = ["node-a", "node-b"].map(|name| NodeName::new(name).unwrap());
        let states = [0, 1].map(|own: usize| {
            let other = 1 - own;
            let mut state = State::new(super::super::Settings {
                speaker: mooring_proto::types::node::SpeakerId { node: names[own].clone(), instance: Default::default() },
                ..settings()
            });
            let link = super::super::interfaces::Link { mac: Some(MACS[own]), ..eth(1) };
            let peers = || BTreeMap::from([(names[other].clone(), BTreeSet::from([MACS[other]]))]).into();
            let active = followed[own].then(|| names[other].clone());
            let stands_by = Assignment { active, peers: peers(), ..assignment(vip(1), Role::Standby) };
            let ours = Assignment { peers: peers(), ..assignment(vip(1), Role::Active) };
            for command in [Command::ReplaceLinks(vec![link]), Command::OpenSession, snapshot(1, vec![stands_by])] {
                let _events = step(&mut state, command, NOW);
            }
            let _events = step(&mut state, delta(2, vec![ours], vec![]), NOW);
            let _events = step(&mut state, Command::CloseSession, NOW);
            state
        });
        Self { states, claims: BTreeMap::new(), questions: BTreeMap::new(), count: 0, chance: seed | 1, loss }
    }

    /// When a frame that is sent now arrives; `None` = it is lost.
    fn arrival(&mut self, now: Mono) -> Option<(Mono, u64)> {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.count += 1;
        let at = now + Duration::from_micros(50 + (self.chance >> 33) % 5_000);
        ((self.chance >> 40) % 100 >= self.loss).then_some((at, self.count))
    }

    fn take(&mut self, own: usize, command: Command, now: Mono) {
        let events = step(&mut self.states[own], command, now);
        super::super::audit(&self.states[own]).unwrap();
        for event in events {
            let claims = matches!(event, Event::AnnouncementDue { phase, .. } if phase != Phase::Probe);
            let asks = matches!(event, Event::ProbeDue(_) | Event::PeerAsked { .. } | Event::AnnouncementDue { phase: Phase::Probe, .. });
            if let Some(arrival) = (claims || asks).then(|| self.arrival(now)).flatten() {
                if claims {
                    self.claims.insert(arrival, 1 - own)
                } else {
                    self.questions.insert(arrival, 1 - own)
                };
            }
        }
    }

    /// What happens next, until then; whether anything does.
    fn go_on(&mut self, end: Mono) -> Option<Mono> {
        let deadlines = [0, 1].map(|own| next_deadline(&self.states[own]));
        let claim = self.claims.keys().next().copied();
        let question = self.questions.keys().next().copied();
        let next = deadlines.into_iter().chain([claim.map(|(at, _)| at), question.map(|(at, _)| at)]).flatten().min();
        let now = next.filter(|now| *now <= end)?;
        if let Some(own) = claim.filter(|(at, _)| *at <= now).and_then(|claim| self.claims.remove(&claim)) {
            self.take(own, Command::NoteClaim { vip: vip(1), mac: MACS[1 - own], link: LinkIndex(1) }, now);
        } else if let Some(own) = question.filter(|(at, _)| *at <= now).and_then(|question| self.questions.remove(&question)) {
            let answer = (!answering(&self.states[own]).is_empty()).then(|| self.arrival(now)).flatten();
            answer.map(|arrival| self.claims.insert(arrival, 1 - own));
        } else {
            for own in [0, 1].into_iter().filter(|own| deadlines[*own].is_some_and(|deadline| deadline <= now)) {
                self.take(own, Command::Tick, now);
            }
        }
        Some(now)
    }

    fn announcing(&self) -> Vec<usize> {
        [0, 1].into_iter().filter(|own| !answering(&self.states[*own]).is_empty()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whoever knows what, and whatever is lost: on a good LAN the VIP is never silent where one followed the other, else it is so for a
    /// moment, and on a good one again one of the two has it, that one which followed the other if one did.
    #[test]
    fn of_two_that_announce_one_vip_without_an_allocator_one_remains(
        followed in prop::array::uniform2(any::<bool>()), lossy in any::<bool>(), seed in any::<u64>()
    ) {
        let mut two = Two::new(followed, if lossy { 20 } else { 0 }, seed);
        let mut silent: Option<Mono> = None;
        let bad = NOW + Duration::from_secs(20);
        // Two that have lost the last word of each other say no more until they refresh.
        while let Some(now) = two.go_on(if lossy { bad + Duration::from_secs(80) } else { bad }) {
            if now > bad {
                two.loss = 0;
            }
            silent = if two.announcing().is_empty() { silent.or(Some(now)) } else { None };
            let long = silent.map(|since| now.saturating_since(since)).unwrap_or_default();
            prop_assert!(silent.is_none() || lossy || followed == [false; 2], "both have yielded at {:?}", now);
            prop_assert!(long <= Duration::from_millis(500), "silent for {:?} at {:?}", long, now);
        }
        let announcing = two.announcing();
        prop_assert_eq!(announcing.len(), 1, "{:?}", announcing);
        if !lossy && followed[0] != followed[1] {
            prop_assert_eq!(&announcing, &[usize::from(followed[1])]);
        }
    }
}

#[test]
fn what_is_not_ours_or_comes_from_ourselves_is_no_claim() {
    let mut state = live(vec![assignment(vip(1), Role::Standby), assignment(vip(2), Role::Active)]);
    let rows: [(&str, Command); 4] = [
        ("standby", claim(STRANGER)),
        ("unknown", Command::NoteClaim { vip: vip(9), mac: STRANGER, link: LinkIndex(1) }),
        ("an interface that is gone", Command::NoteClaim { vip: vip(2), mac: STRANGER, link: LinkIndex(9) }),
        ("the node's other interface", Command::NoteClaim { vip: vip(2), mac: own_mac(2), link: LinkIndex(1) }),
    ];
    for (name, command) in rows {
        assert_eq!(trace(&mut state, command, NOW), [""; 0], "{name}");
    }
}
