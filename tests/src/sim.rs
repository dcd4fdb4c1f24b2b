//! The real cores of allocator and speakers on a virtual LAN: one thread, one virtual clock, one source of chance.
//!
//! ```text
//!  plan ─── faults ──► world ◄── deadlines, frames, words, in the order of the virtual clock
//!                        │
//!     allocator ⇄ streams ⇄ speakers ⇄ wires ⇄ client, listener, stranger
//!      (core, disk)          (core, reply table)   (neighbor table as Linux has it)
//! ```
//!
//! Speakers also ask each other: a standby its active node, whoever announces a new address all others, and everybody now and then what
//! others announce. These questions and their answers are frames on the same wires, lost, cut and late like all.
//!
//! [`World`] is a cluster; [`plan`] says what goes wrong in it. After every event the cores are audited and nothing may be withdrawn for
//! want of information (`speaker`, `judge`); once the cluster is healed it has to come to rest within a bound ([`World::rest`]). A seed
//! gives a run, always the same one.
//!
//! To teach it something new: a fact of a core is carried out in `speaker::Speaker::perform` or in `allocator`, a new kind of frame is
//! understood in `speaker::Speaker::receive` and in `client`, a new mishap is a [`plan::Fault`], its effect in `mishaps`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use mooring_allocator::core::SessionId;
use mooring_proto::types::address::Vip;
use mooring_proto::types::node::{Instance, InterfaceName, MacAddress, SpeakerId};
use mooring_proto::types::time::Mono;
use mooring_speaker::core::Command;

pub mod allocator;
pub mod client;
pub mod frame;
mod judge;
pub mod lan;
mod mishaps;
pub mod plan;
pub mod random;
pub mod session;
pub mod speaker;
mod streams;
mod traffic;
pub mod watcher;

pub use judge::{HEALED, QUIET};

use allocator::{Allocator, Disk};
use client::Client;
use frame::Frame;
use lan::{Machine, Nic, Wires};
use plan::{Fault, Plan, Shape};
use random::Random;
use session::{Stream, Way};
use speaker::{Claim, Output, Speaker};
use watcher::{Call, Watcher};

/// A place for a speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The node's number, from 1.
    pub node: u8,
    /// Which of the node's speakers, from 1.
    pub instance: u8,
}

impl Slot {
    fn id(self) -> anyhow::Result<SpeakerId> {
        use anyhow::Context as _;
        let instance = Instance::new(&format!("speaker-{}", self.instance)).context("the name of an instance")?;
        Ok(SpeakerId { node: watcher::node(self.node)?, instance })
    }
}

/// The name of an interface, by number.
#[must_use]
pub fn interface(port: u8) -> Option<InterfaceName> {
    InterfaceName::new(&format!("eth{port}"))
}

/// Between the moment when something changes in a kernel and the one when a process hears of it.
const NOTICE: Duration = Duration::from_millis(5);

/// How long a process takes to begin.
const START: Duration = Duration::from_millis(300);

/// Something that is due.
#[derive(Debug)]
enum Due {
    /// The next of the plan.
    Fault(Fault),
    /// A frame arrives.
    Frame(Nic, Frame),
    /// A responder thread's news reach the engine.
    Claim(Slot, u64, Claim),
    /// A speaker's deadline, if it still is one.
    WakeSpeaker(Slot, u64),
    /// A speaker hears of its links.
    Links(Slot, u64),
    /// A speaker opens a stream.
    Call(Slot, u64),
    /// A stream is connected, if it can be; a later attempt would come too late.
    Connect(SessionId),
    /// A connection attempt has taken too long.
    ConnectTimeout(SessionId),
    /// The first word has taken too long.
    Patience(SessionId),
    /// A heartbeat is due.
    Beat(SessionId),
    /// A word arrives.
    Word(SessionId, Way),
    /// A connection to a machine that is gone is given up by the allocator's side.
    Forsake(SessionId),
    /// A stream of the allocator pulls.
    Pull(SessionId, u64),
    /// The allocator works.
    Turn(u64),
    /// A turn of the allocator is on the disk.
    Durable(u64),
    /// A watcher calls.
    Wish(Call),
    /// The client asks for all VIPs.
    Ask,
    /// The stranger claims what it claims.
    Claims,
}

/// A node's machine.
#[derive(Debug)]
struct Node {
    powered: bool,
    /// Whether the cable of each interface is in.
    ports: BTreeMap<u8, bool>,
    /// Its wires to the allocator are its interfaces on the LAN.
    shares_wires: bool,
    /// It is part of the cluster.
    is_member: bool,
}

/// A cluster, its LAN, and what is due in it.
#[derive(Debug)]
pub struct World {
    /// What it is like.
    pub shape: Shape,
    /// What happens by chance.
    pub random: Random,
    now: Mono,
    due: BTreeMap<(Mono, u64), Due>,
    count: u64,
    lan: Wires,
    control: Wires,
    nodes: BTreeMap<u8, Node>,
    speakers: BTreeMap<Slot, Option<Speaker>>,
    streams: BTreeMap<SessionId, Stream>,
    allocator: Option<Allocator>,
    /// The allocator's machine has power.
    is_allocator_powered: bool,
    disk: Disk,
    watcher: Watcher,
    client: Client,
    listener: Client,
    /// The VIPs that the stranger claims.
    claimed: BTreeSet<Vip>,
    lives: u64,
    /// When anybody last began or ceased to answer, or a VIP moved.
    moved: Mono,
    /// What happened, if somebody wants to read it.
    journal: Option<Vec<String>>,
}

/// The client's address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// The listener's address.
const LISTENER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 2);

impl World {
    /// A cluster that has just been given power.
    ///
    /// # Errors
    /// Something cannot begin.
    pub fn new(shape: Shape, seed: u64, is_told: bool) -> anyhow::Result<Self> {
        let nodes = shape.nodes.iter().zip(1u8..).map(|((ports, _, shares_wires), number)| {
            let ports = (1..=*ports).map(|port| (port, true)).collect();
            (number, Node { powered: true, ports, shares_wires: *shares_wires, is_member: true })
        });
        let mut world = Self {
            nodes: nodes.collect(),
            speakers: shape.slots().into_iter().map(|slot| (slot, None)).collect(),
            random: Random::new(seed),
            now: Mono::ZERO,
            due: BTreeMap::new(),
            count: 0,
            lan: Wires::new(),
            control: Wires::new(),
            streams: BTreeMap::new(),
            allocator: None,
            is_allocator_powered: true,
            disk: Disk::new(),
            watcher: Watcher::new()?,
            client: Client::new(Nic::of(Machine::Client), CLIENT),
            listener: Client::new(Nic::of(Machine::Listener), LISTENER),
            claimed: BTreeSet::new(),
            lives: 0,
            moved: Mono::ZERO,
            journal: is_told.then(Vec::new),
            shape,
        };
        for number in 1..=world.shape.services {
            world.befall(Fault::MakeService(number))?;
        }
        world.list_nodes()?;
        world.befall(Fault::StartAllocator)?;
        for slot in world.shape.slots() {
            let after = world.random.between(Duration::ZERO, START);
            world.at(after, Due::Fault(Fault::StartSpeaker(slot)));
        }
        world.at(Duration::ZERO, Due::Ask);
        world.at(Duration::ZERO, Due::Claims);
        Ok(world)
    }

    /// The virtual time.
    #[must_use]
    pub fn now(&self) -> Mono {
        self.now
    }

    /// What happened, in the order of time.
    #[must_use]
    pub fn journal(&self) -> &[String] {
        self.journal.as_deref().unwrap_or_default()
    }

    /// The VIPs of all Services.
    #[must_use]
    pub fn vips(&self) -> BTreeSet<Vip> {
        self.watcher.vips()
    }

    /// Lets a plan begin now.
    pub fn schedule(&mut self, plan: &Plan) {
        for (at, fault) in plan {
            self.at(*at, Due::Fault(fault.clone()));
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// Something that must always hold does not.
    pub fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = self.now + time;
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), due) = entry.remove_entry();
            self.now = at;
            self.happen(due)?;
        }
        self.now = end;
        Ok(())
    }

    fn at(&mut self, after: Duration, due: Due) {
        self.count = self.count.saturating_add(1);
        self.due.insert((self.now + after, self.count), due);
    }

    fn happen(&mut self, due: Due) -> anyhow::Result<()> {
        match due {
            Due::Fault(fault) => self.befall(fault),
            Due::Frame(nic, frame) => self.receive(nic, &frame),
            Due::Claim(slot, life, Claim { vip, mac, link }) => self.command(slot, life, Command::NoteClaim { vip, mac, link }),
            Due::WakeSpeaker(slot, life) => self.wake_speaker(slot, life),
            Due::Links(slot, life) => {
                let links = self.links(slot.node);
                self.command(slot, life, Command::ReplaceLinks(links))
            }
            Due::Call(slot, life) => self.call(slot, life),
            Due::Connect(session) => self.connect(session),
            Due::ConnectTimeout(session) => self.time_out(session),
            Due::Patience(session) => self.lose_patience(session),
            Due::Beat(session) => self.beat(session),
            Due::Word(session, way) => self.arrive(session, way),
            Due::Forsake(session) => self.forsake(session),
            Due::Pull(session, life) => self.pull(session, life),
            Due::Turn(life) => self.turn(life),
            Due::Durable(life) => self.publish(life),
            Due::Wish(call) => self.tell_allocator(&call),
            Due::Ask => self.ask(),
            Due::Claims => self.claim_as_stranger(),
        }
    }

    /// Writes down what happened, if somebody wants to read it.
    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(journal) = &mut self.journal {
            journal.push(format!("{:>12.6} {}", self.now.saturating_since(Mono::ZERO).as_secs_f64(), text()));
        }
    }

    /// A process of this run.
    fn next_life(&mut self) -> u64 {
        self.lives = self.lives.saturating_add(1);
        self.lives
    }

    /// The speaker's process, if it is still that one.
    fn process(&mut self, slot: Slot, life: u64) -> Option<&mut Speaker> {
        self.speakers.get_mut(&slot)?.as_mut().filter(|speaker| speaker.life == life)
    }

    /// The hardware addresses of all nodes.
    fn peers(&self) -> BTreeSet<MacAddress> {
        self.shape.nics().into_iter().map(Nic::mac).collect()
    }

    /// Gives a speaker's process a command, and carries out what follows.
    fn command(&mut self, slot: Slot, life: u64, command: Command) -> anyhow::Result<()> {
        let (peers, now) = (self.peers(), self.now);
        let Some(speaker) = self.process(slot, life) else { return Ok(()) };
        let output = speaker.take(command, &peers, now)?;
        self.carry_out(slot, life, output)
    }

    fn wake_speaker(&mut self, slot: Slot, life: u64) -> anyhow::Result<()> {
        let now = self.now;
        let Some(speaker) = self.process(slot, life) else { return Ok(()) };
        speaker.wake = None;
        if speaker.deadline().is_some_and(|deadline| deadline <= now) {
            return self.command(slot, life, Command::Tick);
        }
        self.set_alarm(slot, life);
        Ok(())
    }

    /// Sees to it that a speaker is woken for its next deadline.
    fn set_alarm(&mut self, slot: Slot, life: u64) {
        let Some(speaker) = self.process(slot, life) else { return };
        let Some(deadline) = speaker.deadline().filter(|deadline| speaker.wake.is_none_or(|wake| *deadline < wake)) else { return };
        speaker.wake = Some(deadline);
        self.at(deadline.saturating_since(self.now), Due::WakeSpeaker(slot, life));
    }

    fn carry_out(&mut self, slot: Slot, life: u64, output: Output) -> anyhow::Result<()> {
        let Output { frames, words, gives_up, ends, changed, taken } = output;
        if !changed.is_empty() {
            self.moved = self.now;
            let answering = self.process(slot, life).map(|speaker| speaker.answering()).unwrap_or_default();
            self.note(|| format!("{slot:?} answers for {answering:?}"));
        }
        if !taken.is_empty() {
            self.note(|| format!("{slot:?} took over {taken:?} by itself"));
        }
        for (link, frame) in frames {
            if let Ok(port) = u8::try_from(link.0) {
                self.transmit(Nic { machine: Machine::Node(slot.node), port }, &frame);
            }
        }
        for word in words {
            self.say(slot, life, word);
        }
        if gives_up {
            self.hang_up(slot, life)?;
        }
        if ends {
            self.note(|| format!("{slot:?} has ended"));
            self.bury(slot);
        }
        self.set_alarm(slot, life);
        Ok(())
    }
}
