//! The streams between speakers and allocator: ordered both ways, late, held up by cuts, broken by ends.
//!
//! A speaker's session lives in its async shell, which counts heartbeats, pauses and patience beside the call. That counting is modeled
//! here with the shell's own constants; everything that is said on a stream comes from the cores.

use std::collections::VecDeque;
use std::time::Duration;

use mooring_allocator::core::SessionId;
use mooring_proto::types::assignment::{AllocatorMessage, HEARTBEAT, SpeakerMessage};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::time::Mono;
use mooring_speaker::session::{FIRST_PATIENCE, FIRST_PAUSE, LONGEST_PATIENCE, LONGEST_PAUSE, MISSED};

use super::Slot;

/// How long a connection may take, as `mooring_kit::tls` has it.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// After so long at most a connection to a machine that is gone is given up: interval and timeout of the HTTP/2 pings.
pub const KEEPALIVE: Duration = Duration::from_secs(10);

/// The longest time after which a sender tries again what a cut has swallowed: the doubled pauses of TCP for cuts of a few seconds.
pub const RETRANSMISSION: Duration = Duration::from_secs(2);

/// What a lost segment costs on a connection that is in use: Linux `TCP_RTO_MIN`.
pub const LOST_SEGMENT: Duration = Duration::from_millis(200);

/// Which way on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the allocator.
    Up,
    /// To the speaker.
    Down,
}

/// What arrives at an end of a stream.
#[derive(Clone, Debug)]
pub enum Word<T> {
    /// A message.
    Said(T),
    /// The other end is gone.
    End,
}

/// One way of a stream.
#[derive(Debug)]
pub struct Pipe<T> {
    /// What is on its way, in order.
    pub words: VecDeque<Word<T>>,
    /// When the last of them arrives.
    pub last: Mono,
    /// How many wait for a cut to heal.
    pub held: usize,
}

impl<T> Pipe<T> {
    fn new() -> Self {
        Self { words: VecDeque::new(), last: Mono::ZERO, held: 0 }
    }
}

/// A call of a speaker.
#[derive(Debug)]
pub struct Stream {
    /// Whose it is.
    pub slot: Slot,
    /// The speaker's process.
    pub speaker: u64,
    /// The allocator's process; `None` = not connected yet.
    pub allocator: Option<u64>,
    /// By what the allocator knows it.
    pub session: SessionId,
    /// To the allocator.
    pub up: Pipe<SpeakerMessage>,
    /// To the speaker.
    pub down: Pipe<AllocatorMessage>,
}

impl Stream {
    /// A call that is not connected yet.
    #[must_use]
    pub fn new(slot: Slot, speaker: u64, session: SessionId) -> Self {
        Self { slot, speaker, allocator: None, session, up: Pipe::new(), down: Pipe::new() }
    }
}

/// What a speaker's shell counts.
#[derive(Debug)]
pub struct Session {
    /// The present call.
    pub stream: Option<SessionId>,
    /// Something was said, so heartbeats go.
    pub greeted: bool,
    /// The allocator said something.
    pub was_heard: bool,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    pause: Duration,
    patience: Duration,
    seq: u64,
    unanswered: u64,
    acknowledged: u64,
    applied: Revision,
}

/// What a heartbeat's moment brings.
#[derive(Debug)]
pub enum Beat {
    /// This is said.
    Say(SpeakerMessage),
    /// Nothing can be said yet.
    Wait,
    /// Nobody is there.
    GiveUp,
}

impl Session {
    /// No call yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stream: None,
            greeted: false,
            was_heard: false,
            heartbeat: HEARTBEAT,
            pause: FIRST_PAUSE,
            patience: FIRST_PATIENCE,
            seq: 0,
            unanswered: 0,
            acknowledged: 0,
            applied: Revision::default(),
        }
    }

    /// A call begins; returned is how long its first word may take at most.
    pub fn open(&mut self, stream: SessionId) -> Duration {
        let patience = self.patience;
        let next = (patience * 2).min(LONGEST_PATIENCE);
        *self = Self { stream: Some(stream), pause: self.pause, patience: next, ..Self::new() };
        patience
    }

    /// The call is over; returned is the rest before the next one at most. A call that worked lets all begin anew.
    pub fn close(&mut self) -> Duration {
        if self.acknowledged >= MISSED {
            (self.pause, self.patience) = (FIRST_PAUSE, FIRST_PATIENCE);
        }
        let rest = self.pause;
        *self = Self { pause: (self.pause * 2).min(LONGEST_PAUSE), patience: self.patience, ..Self::new() };
        rest
    }

    /// The engine says something.
    pub fn say(&mut self, word: &SpeakerMessage) {
        self.greeted = true;
        if let SpeakerMessage::Applied { revision, .. } = word {
            self.applied = *revision;
        }
    }

    /// The allocator says something.
    pub fn hear(&mut self, message: &AllocatorMessage) {
        self.was_heard = true;
        self.unanswered = 0;
        match message {
            AllocatorMessage::HeartbeatAck { .. } => self.acknowledged = self.acknowledged.saturating_add(1),
            AllocatorMessage::Snapshot { heartbeat, .. } => self.heartbeat = *heartbeat,
            AllocatorMessage::Delta { .. } | AllocatorMessage::Goodbye { .. } => {}
        }
    }

    /// A heartbeat is due.
    pub fn beat(&mut self) -> Beat {
        if self.was_heard && self.unanswered >= MISSED {
            return Beat::GiveUp;
        }
        if !self.greeted || (!self.was_heard && self.unanswered >= MISSED) {
            return Beat::Wait;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.seq = self.seq.saturating_add(1);
        Beat::Say(SpeakerMessage::Heartbeat { seq: self.seq, applied: self.applied })
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}
