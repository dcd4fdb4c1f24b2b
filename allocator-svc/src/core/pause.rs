//! A time in which this allocator did not run: what speakers said meanwhile is still on its way, so their silence does not count (DESIGN 3.4).

use std::time::Duration;

use super::nodes::SpeakerEvent;
use super::state::{Settings, State};
use super::{Event, Now};

/// How late somebody's time to be lost may be looked at without a doubt that something said in time has not been heard yet. Right after
/// such a doubt only another pause is one, or somebody who is lost would not be while there is always much to do.
fn allowed(settings: &Settings, is_excused: bool) -> Duration {
    if is_excused { settings.speaker_ttl } else { settings.heartbeat / 2 }
}

/// How long nobody is lost then: a heartbeat, by which everybody is heard. After a pause in which speakers gave their streams up they have
/// as long to come back as after a start.
fn excuse(settings: &Settings, late: Duration) -> Duration {
    if late > settings.heartbeat { settings.recovery_window } else { settings.heartbeat }
}

/// The engine goes on after a wait. If somebody should have been lost a while ago, the process did not run, or the disk kept it: a machine
/// that was frozen, a stop by a signal, a slow flush.
pub(super) fn woken(state: &State, now: Now) -> Option<Event> {
    let (network, settings) = (&state.network, &state.settings);
    let due = network.next_loss()?;
    let late = now.mono.saturating_since(due);
    let is_excused = due == network.excused();
    let until = now.mono + excuse(settings, late);
    (late > allowed(settings, is_excused)).then_some(Event::Speaker(SpeakerEvent::Excused(until)))
}

#[cfg(test)]
mod tests;
