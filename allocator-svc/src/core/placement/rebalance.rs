//! The spread of VIPs over the nodes: what a new VIP would get, old ones get in time (DESIGN 3.3).

use mooring_proto::types::address::Vip;

use super::{Placement, Round, Unannounced, demand};
use crate::core::state::State;
use crate::core::{Event, Now};

/// Moves one VIP to a node that the advertisements prefer to its own, or from a node that announces at least two more than another one that
/// may announce it as well, make-before-break; once in so long that `--rebalance` is kept.
pub(in crate::core) fn rebalance_next(state: &State, now: Now) -> Vec<Event> {
    if state.network.next_rebalance(&state.settings).is_none_or(|due| due > now.mono) {
        return Vec::new();
    }
    let mut round = Round::new(state);
    let relief =
        movable(state).filter_map(|(vip, _, placement)| round.relieve(vip, placement).map(|(gain, relieved)| (gain, vip, relieved)));
    // The first of those that gain the most.
    let best = relief.reduce(|best, next| if next.0 > best.0 { next } else { best });
    let moved = best.map(|(_, vip, placement)| Event::VipPlaced { vip, placement: Ok(placement) });
    std::iter::once(Event::Rebalanced(now.mono)).chain(moved).collect()
}

/// Moves VIPs by the same rule, but all at once, and at most so many; each goes on answering where it is until the other node does.
pub(in crate::core) fn spread(state: &State, most: Option<usize>) -> Vec<Event> {
    moves(state).take(most.unwrap_or(usize::MAX)).collect()
}

/// How many VIPs would move if all were spread now.
pub(crate) fn uneven(state: &State) -> usize {
    moves(state).count()
}

/// The moves by which all would be spread now, each over what those before it leave. None while speakers are still coming back after a
/// start.
fn moves(state: &State) -> impl Iterator<Item = Event> {
    let mut round = Round::new(state);
    movable(state).filter(|_| !state.network.is_recovering()).filter_map(move |(vip, placed, placement)| {
        let moved = Ok(round.relieve(vip, placement)?.1);
        round.loaded(Some(placed), &moved);
        Some(Event::VipPlaced { vip, placement: moved })
    })
}

/// The VIPs that some node announces and that are not on the move already.
fn movable(state: &State) -> impl Iterator<Item = (Vip, &Result<Placement, Unannounced>, &Placement)> {
    let placements = state.network.placements().iter();
    placements.filter_map(|(vip, placed)| Some((*vip, placed, placed.as_ref().ok().filter(|placement| placement.outgoing.is_none())?)))
}

impl<'a> Round<'a> {
    /// A VIP's placement on the node that would have it if it were new, if the advertisements prefer that one, or it announces at least
    /// two fewer; and what is gained: by how much it is preferred, and how many fewer it announces.
    fn relieve(&mut self, vip: Vip, present: &'a Placement) -> Option<((u32, usize), Placement)> {
        let holders = self.state.book.holders().get(&vip)?;
        let (book, network) = (&self.state.book, &self.state.network);
        // What is not known yet is no reason to move anything.
        if !network.knows_reach(holders.iter()) || holders.iter().any(|holder| book.claim(holder).is_none()) {
            return None;
        }
        let demand = demand(self.state, vip, Some(holders), Some(present)).ok().filter(|demand| !demand.takes_any_node)?;
        self.with_judgment(demand, |round, demand, judgment| {
            let score = round.may(vip, demand, judgment, &present.active)?.score;
            let best = round.best(vip, demand, judgment, |candidate| candidate.score >= score, |load| (load.active, 0), None)?;
            let candidate = round.may(vip, demand, judgment, best).filter(|candidate| !candidate.drained)?;
            let (preferred, interfaces) = (candidate.score.saturating_sub(score), candidate.interfaces.clone());
            let (here, there) = (round.load(&present.active.node).active, round.load(&best.node).active);
            let fewer = here.saturating_sub(there);
            let outgoing = Some(present.active.clone());
            let elsewhere = outgoing.iter().map(|outgoing| (outgoing.clone(), present.interfaces.clone()));
            let elsewhere = elsewhere.filter(|(_, before)| *before != interfaces).collect();
            let moved = Placement { outgoing, interfaces, elsewhere, ..Placement::on(best.clone()) };
            (preferred > 0 || fewer > 1).then_some(((preferred, fewer), moved))
        })
    }
}
