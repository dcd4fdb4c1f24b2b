//! The process is asked to end: answer until others do, but not for ever.
//!
//! The allocator is told, gives our VIPs to others, and takes them from us when they are in force there. One that is away may come back
//! within the time, and is told then; until it has taken the VIPs, or a peer has, silence would help nobody.

use mooring_proto::types::time::Mono;

use super::assignment::service_updates;
use super::state::Standing;
use super::{Change, DRAIN_PATIENCE, Event, State, Withdrawal};

/// The process is asked to end; asking again changes nothing.
pub(super) fn start(state: &State, now: Mono) -> Vec<Event> {
    if state.is_draining() {
        return Vec::new();
    }
    vec![Event::DrainStarted { deadline: now + DRAIN_PATIENCE }]
}

/// Ends if nothing is announced any more, or the time is over.
pub(super) fn tick(state: &State, now: Mono) -> Vec<Event> {
    let Some(deadline) = next_deadline(state).filter(|deadline| *deadline <= now) else { return Vec::new() };
    debug_assert!(deadline <= now);
    let left = state.vips.values().filter(|held| held.standing == Standing::Announced);
    let mut events: Vec<Event> = left
        .flat_map(|held| service_updates(held.assigned.vip, &held.assigned.services, Change::Withdrawn(Withdrawal::Draining)))
        .collect();
    events.push(Event::Drained { left: state.announced });
    events
}

/// When to look next.
pub(super) fn next_deadline(state: &State) -> Option<Mono> {
    let deadline = state.drain.filter(|_| !state.drained)?;
    Some(if state.announced == 0 { Mono::ZERO } else { deadline })
}

#[cfg(test)]
mod tests;
