//! What the LAN says of the VIPs that another node announces and we stand by for: who answers for each, about once a minute.
//!
//! A look is a question to everybody, and a moment in which answers are gathered. What is seen is reported to the allocator as it is; what
//! it means is decided there. A VIP that nobody answers for is asked for again at once, twice, as a frame may get lost. Looks are spread in
//! time and never more than [`AT_ONCE`] in [`PACE`], so that ten thousand VIPs that come together cost the LAN no burst.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{InterfaceName, MacAddress};
use mooring_proto::types::time::Mono;

use super::chance::Chance;
use super::interfaces::LinkIndex;
use super::state::{Session, Silence, Standing};
use super::{Event, State};

/// How long answers are gathered: an idle host answers in well under a millisecond, a busy one in some.
const WINDOW: Duration = Duration::from_millis(300);

/// Pause between two looks at a VIP, on average.
const PAUSE: Duration = Duration::from_secs(60);

/// Pause before the first look at a VIP that has another node now, which needs a moment to begin.
const SOON: Duration = Duration::from_secs(1);

/// Within so long after the allocator is back all VIPs are looked at, as it may know nothing of them.
const SPREAD: Duration = Duration::from_secs(10);

/// Looks without an answer before that is believed.
const TRIES: u8 = 3;

/// How often looks may begin or end.
const PACE: Duration = Duration::from_millis(10);

/// How many may in one [`PACE`].
const AT_ONCE: usize = 8;

/// Who answers, and where.
pub type Answers = BTreeMap<MacAddress, InterfaceName>;

/// What is next for a VIP.
#[derive(Debug)]
struct Plan {
    due: Mono,
    /// The look that is under way.
    open: Option<Answers>,
    /// Looks without an answer in a row.
    vain: u8,
}

/// All looks.
#[derive(Debug)]
pub struct Looks {
    plans: BTreeMap<Vip, Plan>,
    due: BTreeSet<(Mono, Vip)>,
    chance: Chance,
    /// When the next ones may begin or end.
    free: Mono,
}

impl Looks {
    /// None; pauses are jittered from the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { plans: BTreeMap::new(), due: BTreeSet::new(), chance: Chance::new(seed), free: Mono::ZERO }
    }

    /// Looks at a VIP soon, whatever was planned.
    pub(super) fn begin(&mut self, vip: Vip, now: Mono) {
        self.put(vip, Plan { due: now + SOON, open: None, vain: 0 });
    }

    /// Looks at a VIP no more.
    pub(super) fn end(&mut self, vip: Vip) {
        if let Some(plan) = self.plans.remove(&vip) {
            self.due.remove(&(plan.due, vip));
        }
    }

    /// The allocator is back: it is told anew what is seen.
    pub(super) fn hurry(&mut self, now: Mono) {
        for vip in self.plans.keys().copied().collect::<Vec<_>>() {
            let due = now + self.chance.within(SPREAD);
            self.put(vip, Plan { due, open: None, vain: 0 });
        }
    }

    /// Whether exactly these VIPs are looked at.
    pub(super) fn are_about(&self, vips: &BTreeSet<Vip>) -> bool {
        let due = self.plans.iter().map(|(vip, plan)| (plan.due, *vip));
        self.plans.keys().eq(vips) && due.collect::<BTreeSet<_>>() == self.due
    }

    fn put(&mut self, vip: Vip, plan: Plan) {
        self.end(vip);
        self.due.insert((plan.due, vip));
        self.plans.insert(vip, plan);
    }
}

/// What follows from the looks that begin or end now.
pub(super) fn due(state: &State, now: Mono) -> Vec<Event> {
    let looks = &state.looks;
    if looks.free > now {
        return Vec::new();
    }
    let due = looks.due.iter().take_while(|(at, _)| *at <= now).take(AT_ONCE);
    due.filter_map(|(_, vip)| Some(step(state, *vip, looks.plans.get(vip)?))).collect()
}

/// When that is next.
pub(super) fn next_deadline(state: &State) -> Option<Mono> {
    state.looks.due.first().map(|(at, _)| (*at).max(state.looks.free))
}

fn step(state: &State, vip: Vip, plan: &Plan) -> Event {
    let stands_by = state
        .vips
        .get(&vip)
        .is_some_and(|held| held.standing == Standing::Silent(Silence::Standby) && state.ports_for(&held.assigned).next().is_some());
    if !stands_by || state.session != Session::Live {
        return Event::LookPutOff(vip);
    }
    match &plan.open {
        None => Event::LookDue(vip),
        Some(answers) if answers.is_empty() && plan.vain + 1 < TRIES => Event::LookDue(vip),
        Some(answers) => Event::LookOver { vip, answers: answers.clone() },
    }
}

/// Somebody says that it has a VIP that is looked at.
pub(super) fn hear(state: &State, vip: Vip, mac: MacAddress, link: LinkIndex) -> Option<Event> {
    let port = state.interfaces.port(link).filter(|_| !state.interfaces.is_own(mac))?;
    let fresh = state.looks.plans.get(&vip)?.open.as_ref().is_some_and(|answers| !answers.contains_key(&mac));
    fresh.then(|| Event::AnswerSeen { vip, mac, interface: port.name.clone() })
}

/// An answer came.
pub(super) fn heard(state: &mut State, vip: Vip, mac: MacAddress, interface: &InterfaceName) {
    if let Some(answers) = state.looks.plans.get_mut(&vip).and_then(|plan| plan.open.as_mut()) {
        answers.insert(mac, interface.clone());
    }
}

/// Everybody was asked.
pub(super) fn began(state: &mut State, vip: Vip, now: Mono) {
    let looks = &mut state.looks;
    let vain = looks.plans.get(&vip).map_or(0, |plan| plan.vain + u8::from(plan.open.is_some()));
    looks.put(vip, Plan { due: now + WINDOW, open: Some(Answers::new()), vain });
    looks.free = now + PACE;
}

/// A look is over, or could not be.
pub(super) fn ended(state: &mut State, vip: Vip, now: Mono) {
    let looks = &mut state.looks;
    let due = now + looks.chance.around(PAUSE);
    looks.put(vip, Plan { due, open: None, vain: 0 });
    looks.free = now + PACE;
}

#[cfg(test)]
mod tests;
