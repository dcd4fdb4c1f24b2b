//! A speaker's process: the real core and reply table, driven as its engine and its responder threads drive them.
//!
//! What the engine does besides is modeled here in few words: it publishes the table, and the list of VIPs whose answers are heeded, once for
//! all events of a command, then tells the allocator what is due, then looks at deadlines. Its session is [`super::session`]'s. A frame to a
//! group reaches every station, so nothing waits for the kernel to join one.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{AllocatorMessage, SpeakerMessage};
use mooring_proto::types::lease::Epoch;
use mooring_proto::types::node::{MacAddress, NodeName, SpeakerId};
use mooring_proto::types::time::Mono;
use mooring_speaker::core::announce::Phase;
use mooring_speaker::core::heed::Heeded;
use mooring_speaker::core::interfaces::{Link, LinkIndex, Port};
use mooring_speaker::core::reply::{Entry, Receiver, ReplyTable, reply_to_arp, reply_to_ndp};
use mooring_speaker::core::standby::Addressee;
use mooring_speaker::core::word::Due;
use mooring_speaker::core::{Command, Event, Settings, State, apply, audit, decide, next_deadline};
use mooring_speaker::wire::{arp, ndp};

use super::frame::{self, Frame, Packet};
use super::session::Session;

/// Pause between two refreshes: the default of `--refresh`.
const REFRESH: Duration = Duration::from_secs(60);

/// Looks at deadlines that one moment may need; beyond it there is no end.
const MOST_TICKS: usize = 8;

/// What a command led to, for the world to carry out.
#[derive(Debug, Default)]
pub struct Output {
    /// Frames to send, each on an interface.
    pub frames: Vec<(LinkIndex, Frame)>,
    /// What the allocator is told, in this order.
    pub words: Vec<SpeakerMessage>,
    /// The session is given up.
    pub gives_up: bool,
    /// The process ends by itself.
    pub ends: bool,
    /// VIPs for which whether we answer changed.
    pub changed: BTreeSet<Vip>,
    /// VIPs that were taken over without an allocator.
    pub taken: Vec<Vip>,
}

/// A station's frame that names a VIP as its own: one that we answer for, or one that we have asked for.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The VIP.
    pub vip: Vip,
    /// The station.
    pub mac: MacAddress,
    /// Where.
    pub link: LinkIndex,
}

/// What a command is, for the rule that nothing is withdrawn because information is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The allocator said so.
    Told,
    /// A peer has it, or the interfaces are gone.
    Seen,
    /// Nothing that takes a VIP away.
    None,
}

impl Cause {
    fn of(command: &Command, peers: &BTreeSet<MacAddress>) -> Self {
        match command {
            Command::Hear(AllocatorMessage::Snapshot { .. } | AllocatorMessage::Delta { .. }) => Self::Told,
            Command::NoteClaim { mac, .. } if peers.contains(mac) => Self::Seen,
            Command::ReplaceLinks(_) => Self::Seen,
            Command::NoteClaim { .. }
            | Command::Hear(AllocatorMessage::HeartbeatAck { .. } | AllocatorMessage::Goodbye { .. })
            | Command::OpenSession
            | Command::CloseSession
            | Command::Drain
            | Command::Tick => Self::None,
        }
    }
}

/// A running process.
#[derive(Debug)]
pub struct Speaker {
    /// The core's state.
    pub state: State,
    /// Its stream to the allocator.
    pub session: Session,
    /// Which of all processes of the run it is.
    pub life: u64,
    /// The deadline for which it is to be woken.
    pub wake: Option<Mono>,
    born: Mono,
    table: ReplyTable,
    heeded: Heeded,
}

impl Speaker {
    /// A process that begins now and knows nothing.
    #[must_use]
    pub fn new(id: SpeakerId, life: u64, seed: u64, born: Mono) -> Self {
        let settings = Settings { speaker: id, boot_id: format!("boot-{life}"), refresh: Some(REFRESH), seed };
        let (table, heeded) = (ReplyTable::default(), Heeded::default());
        Self { state: State::new(settings), session: Session::new(), life, wake: None, born, table, heeded }
    }

    /// The VIPs it answers for.
    #[must_use]
    pub fn answering(&self) -> BTreeSet<Vip> {
        self.state.answering().map(|held| held.assigned.vip).collect()
    }

    /// When it next has to be woken, by the world's clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let deadline = next_deadline(&self.state)?;
        Some(self.born + Duration::from_nanos(deadline.as_nanos()))
    }

    /// The process's own clock.
    fn local(&self, now: Mono) -> Mono {
        Mono::ZERO + now.saturating_since(self.born)
    }

    /// One command, then what is due, as the engine does it. Peers are the hardware addresses of all nodes.
    ///
    /// # Errors
    /// An invariant does not hold, a VIP is withdrawn for no reason, an epoch goes back, or work is due without end.
    pub fn take(&mut self, command: Command, peers: &BTreeSet<MacAddress>, now: Mono) -> anyhow::Result<Output> {
        let (mut output, local) = (Output::default(), self.local(now));
        self.work(command, peers, local, &mut output)?;
        // A takeover by ourselves makes its first rounds due at once, so one look may lead to another.
        for _ in 0..MOST_TICKS {
            if output.ends || next_deadline(&self.state).is_none_or(|deadline| deadline > local) {
                return Ok(output);
            }
            self.work(Command::Tick, peers, local, &mut output)?;
        }
        bail!("{} is never done", self.state.settings().speaker)
    }

    fn work(&mut self, command: Command, peers: &BTreeSet<MacAddress>, local: Mono, output: &mut Output) -> anyhow::Result<()> {
        let (cause, text) = (Cause::of(&command, peers), format!("{command:?}"));
        let (answered, epoch) = (self.answering(), self.state.epoch());
        let mut due = Due::default();
        for event in decide(&self.state, command, local) {
            apply(&mut self.state, &event, local);
            due.note(&event);
            self.perform(event, output);
        }
        audit(&self.state).with_context(|| format!("{} after {text}", self.state.settings().speaker))?;
        let answering = self.answering();
        let speaker = &self.state.settings().speaker;
        if cause == Cause::None
            && let Some(vip) = answered.difference(&answering).next()
        {
            bail!("{speaker} withdrew {vip} after {text}, which is no reason to");
        }
        ensure!(self.state.epoch() >= epoch, "{speaker} went back from epoch {epoch} to {}", self.state.epoch());
        output.changed.extend(answered.symmetric_difference(&answering));
        self.table = ReplyTable::new(self.table.version().saturating_add(1), self.state.answering().map(Entry::from));
        self.heeded = Heeded::new(self.state.silent(), self.state.probed());
        output.words.extend(due.take(&self.state, usize::MAX, true));
        Ok(())
    }

    fn perform(&self, event: Event, output: &mut Output) {
        match event {
            Event::EpochRefused { .. } => output.gives_up = true,
            Event::AnnouncementDue { vip, link, phase: Phase::Probe } => output.frames.extend(self.probe(vip, link)),
            Event::AnnouncementDue { vip, link, phase: Phase::First | Phase::Repeat | Phase::Refresh | Phase::Defense } => {
                output.frames.extend(self.round(vip, link));
            }
            Event::PeerAsked { node, questions } => output.frames.extend(self.questions(&node, &questions)),
            Event::LookDue(vip) => output.frames.extend(self.ask_all(vip)),
            Event::ProbeDue(vip) => output.frames.extend(self.probe_all(vip)),
            Event::TookOver { vip, .. } => output.taken.push(vip),
            Event::Drained { .. } => output.ends = true,
            Event::SessionChanged(_)
            | Event::RevisionReached { .. }
            | Event::AssignmentStored(_)
            | Event::AssignmentRemoved(_)
            | Event::StandingChanged { .. }
            | Event::ServiceUpdated { .. }
            | Event::AssignmentFailed { .. }
            | Event::LinksReplaced(_)
            | Event::PortOpened(_)
            | Event::PortClosed(_)
            | Event::ReachChanged
            | Event::ProbePutOff(_)
            | Event::PeerHeard { .. }
            | Event::AnswerSeen { .. }
            | Event::LookPutOff(_)
            | Event::PeerContradicted { .. }
            | Event::ConflictSeen { .. }
            | Event::HelloDue
            | Event::AppliedDue
            | Event::InterfacesDue
            | Event::AddressProven(_)
            | Event::AddressFound { .. }
            | Event::LookOver { .. }
            | Event::PeerSuspected { .. }
            | Event::DrainStarted { .. }
            | Event::Yielded { .. } => {}
        }
    }

    /// A gratuitous round.
    fn round(&self, vip: Vip, link: LinkIndex) -> Vec<(LinkIndex, Frame)> {
        let Some(port) = self.state.interfaces().port(link) else { return Vec::new() };
        frame::round(vip, port.mac).into_iter().map(|frame| (link, frame)).collect()
    }

    fn probe(&self, vip: Vip, link: LinkIndex) -> Option<(LinkIndex, Frame)> {
        let port = self.state.interfaces().port(link)?;
        Some((link, frame::probe(vip, port.mac)))
    }

    /// Asks a node, or everybody, for VIPs that we stand by for, on each interface where it might answer.
    fn questions(&self, node: &NodeName, questions: &[(Vip, Addressee)]) -> Vec<(LinkIndex, Frame)> {
        let mut frames = Vec::new();
        for (vip, addressee) in questions {
            let Some(held) = self.state.vips().get(vip) else { continue };
            let stations = self.state.stations(&held.assigned, node, *addressee);
            let ports = self.state.ports_for(&held.assigned);
            frames.extend(ports.flat_map(|port| stations.iter().map(|station| question(*vip, port, *station))));
        }
        frames
    }

    /// Asks everybody for a VIP that we do not announce, wherever it may be announced.
    fn ask_all(&self, vip: Vip) -> Vec<(LinkIndex, Frame)> {
        let Some(held) = self.state.vips().get(&vip) else { return Vec::new() };
        self.state.ports_for(&held.assigned).map(|port| question(vip, port, None)).collect()
    }

    /// The same for one that it is about to announce, as a host asks that is given an address.
    fn probe_all(&self, vip: Vip) -> Vec<(LinkIndex, Frame)> {
        let held = self.state.vips().get(&vip);
        let ports = held.into_iter().flat_map(|held| self.state.ports_for(&held.assigned));
        ports.filter_map(|port| self.probe(vip, port.index)).collect()
    }

    /// A frame on an interface, as its responder thread takes it: the answer, and what the sender claims.
    #[must_use]
    pub fn receive(&self, link: LinkIndex, frame: &Frame) -> (Option<Frame>, Option<Claim>) {
        let (Some(port), Some((header, packet))) = (self.state.interfaces().port(link), frame::read(frame)) else { return (None, None) };
        let Port { name, mac, .. } = port.clone();
        let on = Receiver { link, name, mac };
        let (outcome, sender) = match &packet {
            Packet::Arp(arp) => (reply_to_arp(&self.table, &on, header.destination, arp), arp.sha),
            Packet::Ndp(ndp) => (reply_to_ndp(&self.table, &on, header, ndp), ndp.sender(header)),
        };
        let Ok(outcome) = outcome else { return (None, None) };
        let answer = outcome.answer.map(|_| match &packet {
            Packet::Arp(arp) => frame::of_arp(arp::answer_to(arp, mac)),
            Packet::Ndp(ndp) => frame::of_ndp(ndp::answer_to(header, ndp, mac)),
        });
        let heeded = || match &packet {
            Packet::Arp(arp) => self.heeded.answer(&on, header.destination, arp),
            Packet::Ndp(ndp) => self.heeded.advertisement(&on, header, ndp),
        };
        let claimed = outcome.claim.map(|assigned| assigned.vip).or_else(heeded);
        (answer, claimed.map(|vip| Claim { vip, mac: sender, link }))
    }

    /// The newest leadership it has heard.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.state.epoch()
    }
}

/// A question on an interface, to a station or to all.
fn question(vip: Vip, port: &Port, station: Option<MacAddress>) -> (LinkIndex, Frame) {
    (port.index, frame::question(vip, port.mac, port.link_local(), station))
}

/// A node's link as its kernel tells it.
#[must_use]
pub fn link(nic: super::lan::Nic, running: bool) -> Option<Link> {
    Some(Link {
        index: LinkIndex(u32::from(nic.port)),
        name: super::interface(nic.port)?,
        mac: Some(nic.mac()),
        addresses: format!("{}/64", nic.link_local()).parse().into_iter().collect(),
        admitted: true,
        running,
        resolves: true,
        enslaved: false,
    })
}
