//! When gratuitous rounds go out: at once, about each 1.1 s for 5 s, then a refresh now and then.
//!
//! That is so where the allocator's word is fresh. Without it a VIP that begins to be announced on an interface may have moved while the
//! interface was away: its round waits for a snapshot, and meanwhile probes ask whether somebody else answers for it (RFC 5227 §2.1.1).
//! Whoever does makes us yield (`conflict`); if nobody does for about a second, and no snapshot comes, the VIP is still ours.
//!
//! Each VIP has a plan on each interface that answers for it. A takeover of thousands of VIPs is paced, on each interface for itself: every
//! VIP's first round goes before anybody's second, and never more rounds than [`super::pace`] lets. What a round is (two ARP frames, or a
//! neighbor advertisement) is the shell's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::time::Mono;

use super::chance::Chance;
use super::interfaces::LinkIndex;
use super::pace::Batch;
use super::{Event, State};

/// Pause between two gratuitous rounds of one VIP on one interface.
///
/// Above 1 s, as a Linux receiver keeps a fresh entry for `neigh/*/locktime` (1 s). RFC 5227 §2.3 asks for two, 2 s apart; MetalLB's
/// pause is this one (MetalLB behaviour 8.4).
const INTERVAL: Duration = Duration::from_millis(1_100);

/// Rounds after a takeover: at 0, 1.1, 2.2, 3.3 and 4.4 s, which is what fits in MetalLB's window of 5 s (MetalLB behaviour 8.4).
const ROUNDS: u8 = 5;

/// Probes of a VIP that may have moved, before its first round.
const PROBES: u8 = 4;

/// Pause after each probe: together longer than the allocator's default for `--speaker-ttl`, so a node that takes over meanwhile has begun
/// to answer before the last one.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// The first probe goes out at a random moment within this time (RFC 5227 §2.1.1: `PROBE_WAIT`, there for hosts that are powered on
/// together). Of two nodes whose cables come back together the one that asks first yields, and then the other hears nobody.
const PROBE_WAIT: Duration = Duration::from_millis(50);

/// The least pause between two rounds by which we answer a peer that announces our VIP: five in a second, however many it sends.
const REASSERT_PAUSE: Duration = Duration::from_millis(200);

/// Why a round goes out; the order is that of urgency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// We have just begun to answer here.
    First,
    /// We may have to begin here: no round, but a probe.
    Probe,
    /// The rounds that follow, for those that missed the first.
    Repeat,
    /// Long after, because switches forget.
    Refresh,
    /// A stranger claimed the VIP (RFC 5227 §2.4 c). Not in the queue: it goes out at once, and rarely.
    Defense,
}

/// What is next for a VIP on an interface; `None` = nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    rounds: u8,
    /// Probes sent before the first round; none where the allocator's word was fresh.
    probes: u8,
    next: Option<(Phase, Mono)>,
    /// No round answers a peer before then.
    rested: Mono,
}

impl Plan {
    /// Whether the first round waits for the allocator's word.
    fn is_in_doubt(&self) -> bool {
        match self.next {
            Some((Phase::Probe, _)) => true,
            Some((Phase::First, _)) => self.probes > 0,
            Some((Phase::Repeat | Phase::Refresh | Phase::Defense, _)) | None => false,
        }
    }
}

/// What waits on an interface.
#[derive(Debug, Default)]
struct Lane {
    queue: BTreeMap<Phase, BTreeSet<(Mono, Vip)>>,
    batch: Batch,
}

impl Lane {
    /// What may go out now, the most urgent first.
    fn due(&self, now: Mono) -> impl Iterator<Item = (Phase, Vip)> {
        let each = self
            .queue
            .iter()
            .flat_map(move |(phase, due)| due.iter().take_while(move |(at, _)| *at <= now).map(move |(_, vip)| (*phase, *vip)));
        each.take(self.batch.room(now))
    }

    fn next_deadline(&self) -> Option<Mono> {
        let earliest = self.queue.values().filter_map(|due| due.first().map(|(at, _)| *at)).min()?;
        Some(self.batch.opens(earliest))
    }
}

/// All that is to be sent.
#[derive(Debug)]
pub struct Schedule {
    plans: BTreeMap<(Vip, LinkIndex), Plan>,
    lanes: BTreeMap<LinkIndex, Lane>,
    refresh: Option<Duration>,
    chance: Chance,
}

impl Schedule {
    /// Nothing to send; refreshes come that often, jittered from the seed.
    #[must_use]
    pub fn new(refresh: Option<Duration>, seed: u64) -> Self {
        Self { plans: BTreeMap::new(), lanes: BTreeMap::new(), refresh, chance: Chance::new(seed) }
    }

    /// Begins with the first round, whatever was planned; with probes if it is not certain that the VIP is ours.
    pub(super) fn start(&mut self, vip: Vip, link: LinkIndex, certain: bool, now: Mono) {
        let next = if certain { (Phase::First, now) } else { (Phase::Probe, now + self.chance.within(PROBE_WAIT)) };
        self.put(vip, link, Plan { rounds: 0, probes: 0, next: Some(next), rested: Mono::ZERO });
    }

    /// What is planned is ours by the allocator's fresh word: first rounds that waited for it go out.
    pub(super) fn confirm(&mut self, now: Mono) {
        let doubtful = |lane: &Lane| -> Vec<Vip> {
            let waiting = [Phase::First, Phase::Probe].iter().filter_map(|phase| lane.queue.get(phase)).flatten();
            waiting.map(|(_, vip)| *vip).collect()
        };
        let waiting = self.lanes.iter().flat_map(|(link, lane)| doubtful(lane).into_iter().map(move |vip| (vip, *link)));
        let waiting: Vec<_> = waiting.filter(|(vip, link)| self.doubts(*vip, *link)).collect();
        for (vip, link) in waiting {
            self.start(vip, link, true, now);
        }
    }

    /// Whether it is not certain that a VIP is ours to announce on an interface.
    pub(super) fn doubts(&self, vip: Vip, link: LinkIndex) -> bool {
        self.plans.get(&(vip, link)).is_some_and(Plan::is_in_doubt)
    }

    /// Whether there is any doubt.
    pub(super) fn has_doubts(&self) -> bool {
        self.plans.values().any(Plan::is_in_doubt)
    }

    /// Somebody else has announced our VIP: one more round at this time, or as soon as may be afterwards, and one to follow it.
    pub(super) fn reassert(&mut self, vip: Vip, link: LinkIndex, at: Mono) {
        let Some(plan) = self.plans.get(&(vip, link)).copied() else { return };
        let due = at.max(plan.rested);
        let next = plan.next.filter(|(_, at)| *at <= due).unwrap_or((Phase::First, due));
        self.put(vip, link, Plan { rounds: plan.rounds.min(ROUNDS.saturating_sub(2)), next: Some(next), ..plan });
    }

    /// Whether a VIP was announced within so long before now, which is less than [`REASSERT_PAUSE`].
    pub(super) fn was_announced(&self, vip: Vip, within: Duration, now: Mono) -> bool {
        let plans = self.plans.range((vip, LinkIndex::MIN)..=(vip, LinkIndex::MAX));
        plans.into_iter().any(|(_, plan)| plan.rounds > 0 && plan.rested + within >= now + REASSERT_PAUSE)
    }

    /// Whether nothing is to be announced for a VIP.
    pub(super) fn is_quiet(&self, vip: Vip) -> bool {
        self.plans.range((vip, LinkIndex::MIN)..=(vip, LinkIndex::MAX)).all(|(_, plan)| plan.next.is_none())
    }

    /// Answers only: nothing is announced for a VIP until it is started anew.
    pub(super) fn quiet(&mut self, vip: Vip) {
        for link in self.links_of(vip) {
            self.put(vip, link, Plan { rounds: 0, probes: 0, next: None, rested: Mono::ZERO });
        }
    }

    /// Forgets a VIP on an interface.
    pub(super) fn stop(&mut self, vip: Vip, link: LinkIndex) {
        if let Some(Plan { next: Some((phase, due)), .. }) = self.plans.remove(&(vip, link)) {
            self.dequeue(link, phase, (due, vip));
        }
    }

    /// Makes the interfaces of a VIP these: new ones start, the others go on, what is not named stops.
    pub(super) fn align(&mut self, vip: Vip, links: &BTreeSet<LinkIndex>, certain: bool, now: Mono) {
        let present = self.links_of(vip);
        for link in present.difference(links) {
            self.stop(vip, *link);
        }
        for link in links.difference(&present) {
            self.start(vip, *link, certain, now);
        }
    }

    /// The interfaces on which a VIP has a plan.
    pub(super) fn links_of(&self, vip: Vip) -> BTreeSet<LinkIndex> {
        self.plans.range((vip, LinkIndex::MIN)..=(vip, LinkIndex::MAX)).map(|((_, link), _)| *link).collect()
    }

    /// All VIPs with a plan, once for each interface.
    pub(super) fn vips(&self) -> impl Iterator<Item = Vip> {
        self.plans.keys().map(|(vip, _)| *vip)
    }

    /// Whether queue and plans say the same.
    pub(super) fn is_consistent(&self) -> bool {
        let queued = self
            .lanes
            .iter()
            .flat_map(|(link, lane)| lane.queue.iter().flat_map(|(phase, due)| due.iter().map(|(at, vip)| ((*vip, *link), (*phase, *at)))));
        let planned = self.plans.iter().filter_map(|(key, plan)| Some((*key, plan.next?)));
        queued.collect::<BTreeMap<_, _>>() == planned.collect()
    }

    /// What may go out now, the most urgent first on each interface.
    fn due(&self, now: Mono) -> impl Iterator<Item = (Phase, Vip, LinkIndex)> {
        self.lanes.iter().flat_map(move |(link, lane)| lane.due(now).map(move |(phase, vip)| (phase, vip, *link)))
    }

    /// A round or a probe has gone out: plans what comes after it.
    fn sent(&mut self, vip: Vip, link: LinkIndex, phase: Phase, now: Mono) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.batch.note(now);
        }
        let Some(Plan { rounds, probes, rested, .. }) = self.plans.get(&(vip, link)).copied() else { return };
        if phase == Phase::Probe {
            let probes = probes.saturating_add(1);
            let after = if probes < PROBES { Phase::Probe } else { Phase::First };
            return self.put(vip, link, Plan { rounds, probes, next: Some((after, now + PROBE_PAUSE)), rested });
        }
        let rounds = rounds.saturating_add(1).min(ROUNDS);
        let next = if rounds < ROUNDS { Some((Phase::Repeat, now + INTERVAL)) } else { self.next_refresh(now) };
        self.put(vip, link, Plan { rounds, probes: 0, next, rested: now + REASSERT_PAUSE });
    }

    fn next_refresh(&mut self, now: Mono) -> Option<(Phase, Mono)> {
        Some((Phase::Refresh, now + self.chance.around(self.refresh?)))
    }

    fn put(&mut self, vip: Vip, link: LinkIndex, plan: Plan) {
        self.stop(vip, link);
        self.plans.insert((vip, link), plan);
        if let Some((phase, due)) = plan.next {
            self.lanes.entry(link).or_default().queue.entry(phase).or_default().insert((due, vip));
        }
    }

    fn dequeue(&mut self, link: LinkIndex, phase: Phase, entry: (Mono, Vip)) {
        if let Some(due) = self.lanes.get_mut(&link).and_then(|lane| lane.queue.get_mut(&phase)) {
            due.remove(&entry);
        }
    }

    /// Forgets an interface on which nothing is planned.
    pub(super) fn close(&mut self, link: LinkIndex) {
        self.lanes.remove(&link);
    }

    fn next_deadline(&self) -> Option<Mono> {
        self.lanes.values().filter_map(Lane::next_deadline).min()
    }
}

/// The rounds and probes that may go out now.
pub(super) fn due(state: &State, now: Mono) -> Vec<Event> {
    state.schedule.due(now).map(|(phase, vip, link)| Event::AnnouncementDue { vip, link, phase }).collect()
}

/// A round or a probe has gone out.
pub(super) fn sent(state: &mut State, vip: Vip, link: LinkIndex, phase: Phase, now: Mono) {
    match phase {
        Phase::First | Phase::Probe | Phase::Repeat | Phase::Refresh => state.schedule.sent(vip, link, phase, now),
        Phase::Defense => {}
    }
}

/// When the next round may go out.
pub(super) fn next_deadline(state: &State) -> Option<Mono> {
    state.schedule.next_deadline()
}

#[cfg(test)]
mod tests;
