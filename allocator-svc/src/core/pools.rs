//! A new configuration, and leases whose pool it no longer has (MetalLB behaviour 3.8).

use mooring_proto::types::pool::Configuration;

use super::refusal::Refusal;
use super::state::State;
use super::{Event, Leadership, Now, allocate};

/// The whole configuration. One that is in force already changes nothing.
pub(super) fn replace(state: &State, leadership: Leadership, configuration: Configuration, now: Now) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    if *state.book.configuration() != configuration {
        events.push(Event::ConfigurationReplaced { configuration, stranded_until: now.mono + state.settings.pool_grace });
    }
    Ok(events)
}

/// Ends the first lease that is in no pool and has outlived its grace; `None` if there is none.
pub(super) fn strand_next(state: &State, now: Now) -> Option<Vec<Event>> {
    state.book.first_overdue(now.mono).map(|claim| allocate::evict(state, claim, now))
}
