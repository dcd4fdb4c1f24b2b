//! Streams in the world: calls, connections, words on their way, and the allocator's turns that they lead to.

use std::time::Duration;

use anyhow::Context as _;
use mooring_allocator::core::SessionId;
use mooring_proto::types::assignment::{AllocatorMessage, SpeakerMessage};
use mooring_proto::types::time::Mono;
use mooring_speaker::core::Command;
use mooring_speaker::session::LONGEST_RETRY;

use super::allocator::{Letter, Publication};
use super::lan::Machine;
use super::session::{Beat, CONNECT_TIMEOUT, LOST_SEGMENT, RETRANSMISSION, Stream, Way, Word};
use super::watcher::{CALL, Call};
use super::{Due, Slot, World};

/// How late a process is at most for what it has set itself.
const LATENESS: Duration = Duration::from_millis(4);

/// Between something for the allocator's engine and its work on it.
const TURN: Duration = Duration::from_micros(200);

/// How long a flush takes at least and mostly at most.
const FLUSH: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(2));

/// How long it takes now and then.
const SLOW_FLUSH: Duration = Duration::from_millis(40);

impl World {
    /// Whether a node and the allocator's machine hear each other, one way.
    fn is_open(&self, node: u8, way: Way) -> bool {
        let (machine, allocator) = (Machine::Node(node), Machine::Allocator);
        let (from, to) = match way {
            Way::Up => (machine, allocator),
            Way::Down => (allocator, machine),
        };
        let wired = |node: &super::Node| node.powered && (!node.shares_wires || node.ports.values().any(|port| *port));
        self.is_allocator_powered && self.nodes.get(&node).is_some_and(wired) && self.control.carry_between(from, to)
    }

    /// A speaker opens a stream. Its engine speaks at once; the words wait for the connection.
    pub(super) fn call(&mut self, slot: Slot, life: u64) -> anyhow::Result<()> {
        let session = SessionId(self.next_life());
        let Some(speaker) = self.process(slot, life).filter(|speaker| speaker.session.stream.is_none()) else { return Ok(()) };
        let patience = speaker.session.open(session);
        let patience = self.random.between(patience / 2, patience);
        self.streams.insert(session, Stream::new(slot, life, session));
        self.at(patience, Due::Patience(session));
        self.at(CONNECT_TIMEOUT, Due::ConnectTimeout(session));
        let round_trip = self.delay() + self.delay();
        self.at(round_trip, Due::Connect(session));
        self.command(slot, life, Command::OpenSession)
    }

    fn delay(&mut self) -> Duration {
        self.random.between(Duration::from_micros(50), self.control.quality.delay)
    }

    pub(super) fn connect(&mut self, session: SessionId) -> anyhow::Result<()> {
        let Some(stream) = self.streams.get_mut(&session) else { return Ok(()) };
        let (slot, life, node) = (stream.slot, stream.speaker, stream.slot.node);
        if !self.is_open(node, Way::Up) || !self.is_open(node, Way::Down) {
            return Ok(());
        }
        let Some(allocator) = self.allocator.as_mut().map(|allocator| {
            allocator.post(Letter::Open(session));
            allocator.life
        }) else {
            return self.lose(slot, life, session, Duration::ZERO);
        };
        let mut waiting = 0;
        if let Some(stream) = self.streams.get_mut(&session) {
            stream.allocator = Some(allocator);
            waiting = stream.up.words.len();
        }
        self.need_turn();
        for _ in 0..waiting {
            self.send_off(session, Way::Up);
        }
        Ok(())
    }

    pub(super) fn time_out(&mut self, session: SessionId) -> anyhow::Result<()> {
        match self.streams.get(&session) {
            Some(Stream { slot, speaker, allocator: None, .. }) => self.lose(*slot, *speaker, session, Duration::ZERO),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn lose_patience(&mut self, session: SessionId) -> anyhow::Result<()> {
        let Some(Stream { slot, speaker: life, .. }) = self.streams.get(&session) else { return Ok(()) };
        let (slot, life) = (*slot, *life);
        let unheard = self.process(slot, life).is_some_and(|speaker| !speaker.session.was_heard);
        if unheard { self.lose(slot, life, session, Duration::ZERO) } else { Ok(()) }
    }

    /// A speaker's heartbeat, and the next one.
    pub(super) fn beat(&mut self, session: SessionId) -> anyhow::Result<()> {
        let Some(Stream { slot, speaker: life, .. }) = self.streams.get(&session) else { return Ok(()) };
        let (slot, life) = (*slot, *life);
        let Some(speaker) = self.process(slot, life).filter(|speaker| speaker.session.stream == Some(session)) else { return Ok(()) };
        let (beat, pause) = (speaker.session.beat(), speaker.session.heartbeat);
        match beat {
            Beat::Say(word) => self.push_up(session, Word::Said(word)),
            Beat::Wait => {}
            Beat::GiveUp => return self.lose(slot, life, session, Duration::ZERO),
        }
        let late = self.random.between(Duration::ZERO, LATENESS);
        self.at(pause + late, Due::Beat(session));
        Ok(())
    }

    /// A speaker's engine says something.
    pub(super) fn say(&mut self, slot: Slot, life: u64, word: SpeakerMessage) {
        let Some(speaker) = self.process(slot, life) else { return };
        let Some(session) = speaker.session.stream else { return };
        let first = !speaker.session.greeted;
        speaker.session.say(&word);
        self.push_up(session, Word::Said(word));
        if first {
            self.at(Duration::ZERO, Due::Beat(session));
        }
    }

    /// The engine gives its session up.
    pub(super) fn hang_up(&mut self, slot: Slot, life: u64) -> anyhow::Result<()> {
        match self.process(slot, life).and_then(|speaker| speaker.session.stream) {
            Some(session) => self.lose(slot, life, session, Duration::ZERO),
            None => Ok(()),
        }
    }

    /// A speaker's session is over; another one begins after a rest.
    fn lose(&mut self, slot: Slot, life: u64, session: SessionId, least: Duration) -> anyhow::Result<()> {
        let Some(speaker) = self.process(slot, life).filter(|speaker| speaker.session.stream == Some(session)) else { return Ok(()) };
        let rest = speaker.session.close();
        let rest = self.random.between(rest / 2, rest).max(least);
        self.note(|| format!("{slot:?} lost its session"));
        self.push_up(session, Word::End);
        self.at(rest, Due::Call(slot, life));
        self.command(slot, life, Command::CloseSession)
    }

    /// A speaker's process is gone; its kernel ends its stream.
    pub(super) fn bury(&mut self, slot: Slot) {
        let Some(speaker) = self.speakers.get_mut(&slot).and_then(Option::take) else { return };
        if !speaker.answering().is_empty() {
            self.moved = self.now;
        }
        if let Some(session) = speaker.session.stream {
            self.push_up(session, Word::End);
        }
    }

    /// Something for the allocator; before the connection it waits.
    pub(super) fn push_up(&mut self, session: SessionId, word: Word<SpeakerMessage>) {
        let Some(stream) = self.streams.get_mut(&session) else { return };
        match (stream.allocator, &word) {
            (None, Word::End) => {
                self.streams.remove(&session);
            }
            (None, Word::Said(_)) => stream.up.words.push_back(word),
            (Some(_), _) => {
                stream.up.words.push_back(word);
                self.send_off(session, Way::Up);
            }
        }
    }

    /// Something for the speaker.
    pub(super) fn push_down(&mut self, session: SessionId, word: Word<AllocatorMessage>) {
        if let Some(stream) = self.streams.get_mut(&session) {
            stream.down.words.push_back(word);
            self.send_off(session, Way::Down);
        }
    }

    /// Lets one more word arrive, after those before it.
    fn send_off(&mut self, session: SessionId, way: Way) {
        let (delay, lost) = (self.delay(), self.random.chance(self.control.quality.loss));
        let Some(stream) = self.streams.get_mut(&session) else { return };
        let last = match way {
            Way::Up => &mut stream.up.last,
            Way::Down => &mut stream.down.last,
        };
        let at = (self.now + delay + if lost { LOST_SEGMENT } else { Duration::ZERO }).max(*last);
        *last = at;
        self.at(at.saturating_since(self.now), Due::Word(session, way));
    }

    /// A word arrives, or waits for the cut to heal.
    pub(super) fn arrive(&mut self, session: SessionId, way: Way) -> anyhow::Result<()> {
        let Some(node) = self.streams.get(&session).map(|stream| stream.slot.node) else { return Ok(()) };
        let open = self.is_open(node, way);
        let Some(stream) = self.streams.get_mut(&session) else { return Ok(()) };
        match way {
            Way::Up if !open => stream.up.held = stream.up.held.saturating_add(1),
            Way::Down if !open => stream.down.held = stream.down.held.saturating_add(1),
            Way::Up => {
                if let Some(word) = stream.up.words.pop_front() {
                    return self.arrive_up(session, word);
                }
            }
            Way::Down => {
                if let Some(word) = stream.down.words.pop_front() {
                    return self.arrive_down(session, word);
                }
            }
        }
        Ok(())
    }

    /// A cut has healed: what it held up is sent again, after the pause that the sender happens to be in.
    pub(super) fn send_again(&mut self) {
        let held: Vec<(SessionId, Way, usize)> = self
            .streams
            .iter()
            .flat_map(|(session, stream)| [(*session, Way::Up, stream.up.held), (*session, Way::Down, stream.down.held)])
            .filter(|(.., held)| *held > 0)
            .collect();
        for (session, way, held) in held {
            let after = self.random.between(Duration::ZERO, RETRANSMISSION);
            if let Some(stream) = self.streams.get_mut(&session) {
                match way {
                    Way::Up => stream.up.held = 0,
                    Way::Down => stream.down.held = 0,
                }
            }
            for _ in 0..held {
                self.at(after, Due::Word(session, way));
            }
        }
    }

    fn arrive_up(&mut self, session: SessionId, word: Word<SpeakerMessage>) -> anyhow::Result<()> {
        let life = self.streams.get(&session).and_then(|stream| stream.allocator);
        let Some(allocator) = self.allocator.as_mut().filter(|allocator| Some(allocator.life) == life) else {
            // Nobody listens there any more: the machine says so.
            self.push_down(session, Word::End);
            return Ok(());
        };
        match word {
            Word::Said(message) => allocator.post(Letter::Said(session, message)),
            Word::End => {
                allocator.post(Letter::Ended(session));
                self.streams.remove(&session);
            }
        }
        self.need_turn();
        Ok(())
    }

    fn arrive_down(&mut self, session: SessionId, word: Word<AllocatorMessage>) -> anyhow::Result<()> {
        let Some(Stream { slot, speaker: life, .. }) = self.streams.get(&session) else { return Ok(()) };
        let (slot, life) = (*slot, *life);
        let Some(speaker) = self.process(slot, life).filter(|speaker| speaker.session.stream == Some(session)) else { return Ok(()) };
        match word {
            Word::End => self.lose(slot, life, session, Duration::ZERO),
            Word::Said(message) => {
                speaker.session.hear(&message);
                match message {
                    AllocatorMessage::Goodbye { retry_after, .. } => self.lose(slot, life, session, retry_after.min(LONGEST_RETRY)),
                    AllocatorMessage::HeartbeatAck { .. } => Ok(()),
                    AllocatorMessage::Snapshot { .. } | AllocatorMessage::Delta { .. } => self.command(slot, life, Command::Hear(message)),
                }
            }
        }
    }

    /// The allocator's side gives a connection up.
    pub(super) fn forsake(&mut self, session: SessionId) -> anyhow::Result<()> {
        if let Some(stream) = self.streams.remove(&session)
            && let Some(allocator) = self.allocator.as_mut().filter(|allocator| Some(allocator.life) == stream.allocator)
        {
            allocator.post(Letter::Ended(session));
            self.need_turn();
        }
        Ok(())
    }

    pub(super) fn pull(&mut self, session: SessionId, life: u64) -> anyhow::Result<()> {
        if let Some(allocator) = self.allocator.as_mut().filter(|allocator| allocator.life == life) {
            allocator.post(Letter::Pull(session));
            self.need_turn();
        }
        Ok(())
    }

    /// A watcher calls, if somebody is there; who begins later is told everything.
    pub(super) fn tell_allocator(&mut self, call: &Call) -> anyhow::Result<()> {
        let command = self.watcher.command(call);
        if let Some(allocator) = &mut self.allocator {
            allocator.post(Letter::Wish(command));
            self.need_turn();
        }
        Ok(())
    }

    /// A watcher has something to say, after what it has said before.
    pub(super) fn wish(&mut self, call: Call) {
        let at = self.now + self.random.between(Duration::from_millis(1), CALL);
        self.watcher.changed = at.max(self.watcher.changed);
        self.at(self.watcher.changed.saturating_since(self.now), Due::Wish(call));
    }

    /// The allocator's engine has work.
    fn need_turn(&mut self) {
        if let Some(life) = self.allocator.as_ref().filter(|allocator| !allocator.busy).map(|allocator| allocator.life) {
            self.at(TURN, Due::Turn(life));
        }
    }

    pub(super) fn turn(&mut self, life: u64) -> anyhow::Result<()> {
        let now = self.now;
        let Some(allocator) = self.allocator.as_mut().filter(|allocator| allocator.life == life && !allocator.busy) else { return Ok(()) };
        let woken = allocator.wake.is_some_and(|wake| wake <= now);
        if woken {
            allocator.wake = None;
        }
        if !woken && !allocator.has_mail() {
            return Ok(());
        }
        let writes = allocator.turn(now)?;
        let (unplaced, moved) = (std::mem::take(&mut allocator.unplaced), std::mem::take(&mut allocator.moved));
        if moved > 0 {
            self.moved = now;
            self.note(|| format!("the allocator moved {moved}"));
        }
        for lost in unplaced {
            self.moved = now;
            self.note(|| format!("the allocator has no place for {}: {}", lost.vip, lost.reason));
            self.justify(&lost).with_context(|| format!("{} lost its place on {}: {}", lost.vip, lost.before.active, lost.reason))?;
        }
        let flush = if !writes {
            Duration::ZERO
        } else if self.random.chance(2) {
            self.random.between(FLUSH.1, SLOW_FLUSH)
        } else {
            self.random.between(FLUSH.0, FLUSH.1)
        };
        self.at(flush, Due::Durable(life));
        Ok(())
    }

    pub(super) fn publish(&mut self, life: u64) -> anyhow::Result<()> {
        let Some(allocator) = self.allocator.as_mut().filter(|allocator| allocator.life == life) else { return Ok(()) };
        let Publication { words, woken } = allocator.publish(&mut self.disk);
        let leases = allocator.state.book().leases();
        for service in self.watcher.services.keys() {
            match leases.get(service) {
                Some(lease) => self.watcher.status.insert(service.clone(), lease.addresses.clone()),
                // Without a lease the status stands until there is one: the allocator may have lost its volume.
                None => None,
            };
        }
        allocator.wake = allocator.wake.filter(|wake| *wake > self.now);
        let has_mail = allocator.has_mail();
        let deadline = allocator.deadline();
        for (session, message) in words {
            let ends = matches!(message, AllocatorMessage::Goodbye { .. });
            self.push_down(session, Word::Said(message));
            if ends {
                self.push_down(session, Word::End);
            }
        }
        for session in woken {
            let after = self.random.between(Duration::from_micros(20), Duration::from_millis(1));
            self.at(after, Due::Pull(session, life));
        }
        if has_mail {
            self.need_turn();
        }
        self.alarm_allocator(life, deadline);
        Ok(())
    }

    /// Sees to it that the allocator is woken for its next deadline.
    pub(super) fn alarm_allocator(&mut self, life: u64, deadline: Option<Mono>) {
        let Some(allocator) = self.allocator.as_mut().filter(|allocator| allocator.life == life) else { return };
        let Some(deadline) = deadline.filter(|deadline| allocator.wake.is_none_or(|wake| *deadline < wake)) else { return };
        allocator.wake = Some(deadline.max(self.now));
        self.at(deadline.saturating_since(self.now), Due::Turn(life));
    }
}
