//! The allocator's process and its disk: the real core, driven turn by turn as its engine drives it.
//!
//! A turn decides what waits, then the work that is due, then writes; only when that is durable are streams told and heartbeats
//! acknowledged. What a process has not written when it is killed is gone; the next one replays the records, as the real one does.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use mooring_allocator::core::{
    Command, Event, Now, Placement, SessionId, Settings, State, Unannounced, apply, assignment, audit, decide, next_deadline,
};
use mooring_allocator::next_epoch;
use mooring_allocator::store::{Record, changes, fact};
use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{AllocatorMessage, REPLACED, SpeakerMessage};
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::time::{Mono, UnixMillis};

/// The allocator's defaults.
pub const SETTINGS: Settings = Settings::DEFAULT;

/// When the run begins by the wall clock.
const BEGIN: u64 = 1_800_000_000_000;

/// How long one whose place another has taken is to stay away; the allocator's shell says so.
const STAY_AWAY: Duration = Duration::from_secs(10);

/// More work than one turn may have; beyond it there is no end.
const MOST_TICKS: usize = 10_000;

/// What is on the disk.
pub type Disk = BTreeMap<String, Record>;

/// What waits for the engine.
#[derive(Debug)]
pub enum Letter {
    /// A watcher's wish.
    Wish(Command),
    /// A stream is there.
    Open(SessionId),
    /// A speaker's word.
    Said(SessionId, SpeakerMessage),
    /// A stream is gone.
    Ended(SessionId),
    /// A stream asks what there is for it.
    Pull(SessionId),
}

/// What a stream is to the engine.
#[derive(Debug, Default)]
struct Listener {
    revision: Revision,
    greeted: bool,
    /// It was woken, and has not pulled yet.
    woken: bool,
}

/// What is sent when a turn is durable.
#[derive(Debug, Default)]
pub struct Publication {
    /// Words for streams, in order.
    pub words: Vec<(SessionId, AllocatorMessage)>,
    /// Streams that should pull.
    pub woken: Vec<SessionId>,
}

/// A VIP that lost its place in a turn.
#[derive(Clone, Debug)]
pub struct Unplaced {
    /// The VIP.
    pub vip: Vip,
    /// Where it was.
    pub before: Placement,
    /// What the allocator says about it.
    pub reason: String,
    /// The speaker itself has said that it has it no more: after a start a peer that has taken it over is awaited.
    pub given_up: bool,
}

/// A running process.
#[derive(Debug)]
pub struct Allocator {
    /// The core's state.
    pub state: State,
    /// Which of all processes of the run it is.
    pub life: u64,
    /// The deadline for which it is to be woken.
    pub wake: Option<Mono>,
    /// A turn is being written.
    pub busy: bool,
    /// VIPs that lost their place in this turn.
    pub unplaced: Vec<Unplaced>,
    /// VIPs whose active speaker changed in this turn.
    pub moved: usize,
    born: Mono,
    mailbox: Vec<Letter>,
    batch: Vec<Event>,
    acks: Vec<(SessionId, u64)>,
    pulls: Vec<SessionId>,
    listeners: BTreeMap<SessionId, Listener>,
}

impl Allocator {
    /// Begins a leadership over what is on the disk.
    ///
    /// # Errors
    /// The records contradict each other, or the epoch goes back.
    pub fn start(disk: &mut Disk, life: u64, now: Mono) -> anyhow::Result<Self> {
        let (leases, rest): (Vec<&Record>, Vec<&Record>) = disk.values().partition(|record| matches!(record, Record::Lease(_)));
        let last = rest.iter().find_map(|record| if let Record::Epoch(epoch) = record { Some(*epoch) } else { None }).unwrap_or_default();
        let mut state = State::new(SETTINGS);
        for record in leases.into_iter().chain(rest) {
            let fact = fact(record.clone(), Mono::ZERO + SETTINGS.pool_grace, Now { mono: Mono::ZERO, wall: wall(now) });
            fact.iter().for_each(|fact| apply(&mut state, fact));
        }
        audit(&state).context("the records contradict each other")?;
        let mut process = Self {
            state,
            life,
            wake: None,
            busy: false,
            unplaced: Vec::new(),
            moved: 0,
            born: now,
            mailbox: Vec::new(),
            batch: Vec::new(),
            acks: Vec::new(),
            pulls: Vec::new(),
            listeners: BTreeMap::new(),
        };
        let epoch = next_epoch(last, wall(now));
        ensure!(epoch > last, "epoch {epoch} follows {last}");
        process.carry_out(Event::EpochBegan(epoch))?;
        let written = std::mem::take(&mut process.batch);
        write(disk, &written);
        Ok(process)
    }

    /// When it next has to be woken, by the world's clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let deadline = next_deadline(&self.state)?;
        Some(self.born + Duration::from_nanos(deadline.as_nanos()))
    }

    /// The leadership.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.state.epoch()
    }

    /// Something waits for the engine.
    pub fn post(&mut self, letter: Letter) {
        self.mailbox.push(letter);
    }

    /// Whether something waits.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// Decides what waits and what is due; returned is whether there is anything to write.
    ///
    /// # Errors
    /// An invariant does not hold, a watcher's call is refused, or work is due without end.
    pub fn turn(&mut self, now: Mono) -> anyhow::Result<bool> {
        self.busy = true;
        let now = Now { mono: Mono::ZERO + now.saturating_since(self.born), wall: wall(now) };
        for letter in std::mem::take(&mut self.mailbox) {
            let command = match letter {
                Letter::Wish(command) => command,
                Letter::Open(session) => {
                    self.listeners.insert(session, Listener::default());
                    continue;
                }
                Letter::Pull(session) => {
                    self.pulls.push(session);
                    continue;
                }
                Letter::Ended(session) => {
                    self.listeners.remove(&session);
                    Command::SessionEnded { session }
                }
                Letter::Said(session, message) => {
                    if let SpeakerMessage::Heartbeat { seq, .. } = &message {
                        self.acks.push((session, *seq));
                    }
                    if let (SpeakerMessage::Hello(_), Some(listener)) = (&message, self.listeners.get_mut(&session)) {
                        listener.greeted = true;
                    }
                    Command::SpeakerSaid { session, message }
                }
            };
            for event in decide(&self.state, command, now).context("a call is refused")? {
                self.carry_out(event)?;
            }
        }
        self.settle(now)?;
        if let Some(revision) = self.state.feed().next() {
            self.carry_out(Event::RevisionReached(revision))?;
        }
        Ok(!changes(&self.batch).is_empty())
    }

    fn settle(&mut self, now: Now) -> anyhow::Result<()> {
        for _ in 0..MOST_TICKS {
            if next_deadline(&self.state).is_none_or(|deadline| deadline > now.mono) {
                return Ok(());
            }
            for event in decide(&self.state, Command::Tick, now).context("a tick is refused")? {
                self.carry_out(event)?;
            }
        }
        anyhow::bail!("the allocator is never done: {:?} at {:?}", next_deadline(&self.state), now.mono)
    }

    fn carry_out(&mut self, event: Event) -> anyhow::Result<()> {
        let before = if let Event::VipPlaced { vip, .. } | Event::VipDropped(vip) = &event {
            self.state.network().placements().get(vip).and_then(|placed| placed.clone().ok()).map(|placement| (*vip, placement))
        } else {
            None
        };
        apply(&mut self.state, &event);
        audit(&self.state).with_context(|| format!("the allocator after {event:?}"))?;
        if let Some((vip, before)) = before {
            match self.state.network().placements().get(&vip) {
                Some(Ok(after)) if after.active == before.active => {}
                Some(Ok(_)) => self.moved = self.moved.saturating_add(1),
                Some(Err(reason)) => {
                    let given_up = *reason == Unannounced::HolderAwaited && !self.state.network().is_forsaken();
                    self.unplaced.push(Unplaced { vip, before, reason: reason.to_string(), given_up });
                }
                None => self.unplaced.push(Unplaced { vip, before, reason: "dropped".to_owned(), given_up: false }),
            }
        }
        self.batch.push(event);
        Ok(())
    }

    /// The turn is durable: what it led to may be heard.
    pub fn publish(&mut self, disk: &mut Disk) -> Publication {
        self.busy = false;
        write(disk, &std::mem::take(&mut self.batch));
        let mut publication = Publication::default();
        let acks = std::mem::take(&mut self.acks).into_iter();
        publication.words.extend(acks.map(|(session, seq)| (session, AllocatorMessage::HeartbeatAck { seq })));
        for session in std::mem::take(&mut self.pulls) {
            if let Some(listener) = self.listeners.get_mut(&session) {
                listener.woken = false;
            }
            publication.words.extend(self.tell(session).map(|message| (session, message)));
        }
        for (session, listener) in &mut self.listeners {
            let speaker = self.state.network().speaker_of(*session);
            let news = speaker.map_or(listener.greeted, |speaker| self.state.network().has_untold(speaker));
            if news && !std::mem::replace(&mut listener.woken, true) {
                publication.woken.push(*session);
            }
        }
        publication
    }

    /// What there is for a stream. One whose place another has taken is told so, once, and ends.
    fn tell(&mut self, session: SessionId) -> Option<AllocatorMessage> {
        if self.state.network().speaker_of(session).is_none() {
            let listener = self.listeners.get(&session)?;
            if !listener.greeted {
                return None;
            }
            self.listeners.remove(&session);
            return Some(AllocatorMessage::Goodbye { reason: REPLACED.to_owned(), retry_after: STAY_AWAY });
        }
        let listener = self.listeners.get_mut(&session)?;
        let revision = listener.revision.next();
        let (message, told) = assignment::next_message(&self.state, session, revision)?;
        listener.revision = revision;
        apply(&mut self.state, &told);
        Some(message)
    }
}

/// The wall clock, which goes on while processes come and go.
fn wall(now: Mono) -> UnixMillis {
    UnixMillis(BEGIN.saturating_add(now.as_nanos() / 1_000_000))
}

fn write(disk: &mut Disk, events: &[Event]) {
    for (key, record) in changes(events) {
        match record {
            Some(record) => disk.insert(key, record),
            None => disk.remove(&key),
        };
    }
}
