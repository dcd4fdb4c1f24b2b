//! Whose silence counts (DESIGN 3.4): a speaker is lost for it only if another one was heard when it should have been.
//!
//! Where nobody is heard it is the allocator that cannot be reached, and nothing is known of anybody. Once somebody is heard again the others
//! have as long to come as after a start: until then neither silence nor a stream that ends makes anybody lost, and nothing moves.

use std::collections::BTreeSet;
use std::time::Duration;

use mooring_proto::types::node::SpeakerId;
use mooring_proto::types::time::Mono;

use super::state::Settings;
use super::suspicion;

/// How long nobody at all is heard before that says something of the allocator: two heartbeats of everybody, and half the time to live, so
/// that whoever was cut off for less is heard in time.
fn outage(settings: &Settings) -> Duration {
    (settings.speaker_ttl / 2).max(settings.heartbeat.saturating_mul(2))
}

/// Who is silent, and since when nobody is.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    /// When anybody was last heard; `None` = nobody was yet.
    heard: Option<Mono>,
    /// Until then nobody is lost for what it does not say.
    excused: Mono,
    /// When each speaker is lost for its silence unless it is heard.
    due: BTreeSet<(Mono, SpeakerId)>,
}

impl Silence {
    /// Somebody is heard.
    pub(super) fn hear(&mut self, at: Mono, settings: &Settings) {
        self.excused = self.excused_until(at, settings);
        self.heard = Some(at);
    }

    /// Until when nobody is lost for what it does not say, if something else is heard now.
    pub(super) fn excused_until(&self, now: Mono, settings: &Settings) -> Mono {
        let missed = self.heard.filter(|_| !self.due.is_empty()).is_some_and(|heard| now >= heard + outage(settings));
        if missed { now + settings.recovery_window } else { self.excused }
    }

    /// A speaker's silence lasts until then.
    pub(super) fn add(&mut self, due: Mono, id: &SpeakerId) {
        self.due.insert((due, id.clone()));
    }

    /// Takes back what [`Silence::add`] did.
    pub(super) fn remove(&mut self, due: Mono, id: &SpeakerId) {
        self.due.remove(&(due, id.clone()));
    }

    /// Who is lost next for its silence, and when; `None` = nobody, unless somebody else is heard. Where there is no other one the silence of
    /// the only one counts: it says as much, and nothing can move.
    pub(super) fn next(&self, settings: &Settings, is_only: bool) -> Option<(Mono, &SpeakerId)> {
        let (due, id) = self.due.first()?;
        let is_told_apart = *due + suspicion::patience(settings) <= self.heard? + settings.speaker_ttl;
        (is_told_apart || is_only).then(|| ((*due).max(self.excused), id))
    }

    /// Whether exactly these silences are waited for.
    pub(super) fn is_of(&self, due: &BTreeSet<(Mono, SpeakerId)>) -> bool {
        self.due == *due
    }
}

#[cfg(test)]
mod tests;
