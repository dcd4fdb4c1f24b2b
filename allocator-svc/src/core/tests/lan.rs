//! Speakers as the core sees them: streams that open and end, words that arrive, deltas that are put in force.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mooring_proto::types::assignment::{Hello, Role, SpeakerMessage};
use mooring_proto::types::backends::{Backends, Reach};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::node::{Instance, Interface, InterfaceName, MacAddress, NodeName, NodeSpec, SpeakerId};

use super::*;
use crate::core::assignment;
use crate::core::nodes::{SpeakerEvent, Untold};
use crate::store::sled_tree::changes;

/// The VIP that most tests are about.
pub(crate) const VIP: &str = "10.0.0.0";

/// A rig with speakers, each of which puts in force what it is told unless it is mute.
pub(crate) struct Lan {
    pub(crate) rig: Rig,
    sessions: BTreeMap<String, SessionId>,
    /// Speakers that say nothing of their own.
    pub(crate) mute: BTreeSet<String>,
    /// Speakers that live and put nothing in force.
    pub(crate) slow: BTreeSet<String>,
    /// Speakers that ask nobody before they announce.
    pub(crate) plain: BTreeSet<String>,
    ears: BTreeMap<String, Ear>,
    next: u64,
    revision: u64,
}

/// What a speaker plays for which VIP.
type Table = BTreeMap<Vip, Role>;

/// What a speaker was told on its present stream, and what it made of it.
#[derive(Default)]
struct Ear {
    /// Its table after each message, by the message's revision.
    told: BTreeMap<Revision, Table>,
    /// What it has in force: what it answers by, whatever the allocator believes.
    in_force: Table,
}

pub(crate) fn id(speaker: &str) -> SpeakerId {
    let (node, instance) = speaker.split_once('/').unwrap_or((speaker, "default"));
    SpeakerId { node: NodeName::new(node).unwrap(), instance: Instance::new(instance).unwrap() }
}

pub(crate) fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

pub(crate) fn node(name: &str, labels: &[(&str, &str)]) -> NodeSpec {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Labels>();
    NodeSpec { name: NodeName::new(name).unwrap(), labels, network_unavailable: false, cordoned: false }
}

fn interface(node: &str, name: &str) -> Interface {
    let last = node.bytes().last().unwrap();
    Interface { name: InterfaceName::new(name).unwrap(), mac: MacAddress([2, 0, 0, 0, 0, last]), addresses: vec![] }
}

impl Lan {
    /// Speakers, a pool, and one Service with [`VIP`] that can be served anywhere.
    pub(crate) fn of(speakers: &[&str]) -> Self {
        let mut lan = Self::empty(speakers);
        lan.service("web");
        lan
    }

    pub(crate) fn empty(speakers: &[&str]) -> Self {
        let rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/24"])]);
        let (mute, slow, ears) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut lan = Self { rig, sessions: BTreeMap::new(), mute, slow, plain: BTreeSet::new(), ears, next: 0, revision: 0 };
        for speaker in speakers {
            lan.join(speaker, &[]);
        }
        lan
    }

    /// Another allocator takes over what is durable of this one.
    pub(crate) fn restarted(&mut self) {
        let records = changes(&self.rig.events).into_values().flatten().collect();
        let now = Now { mono: Mono::ZERO, wall: self.rig.now.wall };
        let mut rig = Rig { state: State::new(SETTINGS), now, events: Vec::new(), is_audited: true };
        for fact in replay(records, now.mono + SETTINGS.pool_grace, now) {
            apply(&mut rig.state, &fact);
            rig.events.push(fact);
        }
        rig.take(Event::EpochBegan(Epoch(2)));
        self.rig = rig;
        self.sessions.clear();
        self.rig.settle();
    }

    pub(crate) fn service(&mut self, name: &str) {
        self.rig.claim(claim(name)).unwrap();
        self.reach(name, Reach::Anywhere);
    }

    pub(crate) fn reach(&mut self, name: &str, reach: Reach) {
        let backends = vec![Backends { service: ServiceKey::new("default", name).unwrap(), reach }];
        self.rig.command(Command::ReportBackends { leadership: Leadership::Present, backends }).unwrap();
        self.deliver();
    }

    pub(crate) fn nodes(&mut self, nodes: Vec<NodeSpec>) {
        self.rig.command(Command::ReplaceNodes { leadership: Leadership::Present, nodes }).unwrap();
        self.deliver();
    }

    pub(crate) fn drain(&mut self, node: &str) {
        self.rig.command(Command::DrainNode(NodeName::new(node).unwrap())).unwrap();
        self.deliver();
    }

    pub(crate) fn restore(&mut self, node: &str) {
        self.rig.command(Command::RestoreNode(NodeName::new(node).unwrap())).unwrap();
        self.deliver();
    }

    /// How many VIPs a node announces.
    pub(crate) fn load(&self, node: &str) -> usize {
        self.rig.state.network().active_on(&NodeName::new(node).unwrap())
    }

    /// The node of each VIP that is announced.
    pub(crate) fn spread(&self) -> BTreeMap<Vip, SpeakerId> {
        let placements = self.rig.state.network().placements();
        placements.iter().filter_map(|(vip, placed)| Some((*vip, placed.as_ref().ok()?.active.clone()))).collect()
    }

    pub(crate) fn join(&mut self, speaker: &str, held: &[&str]) {
        self.join_with(speaker, held, &["eth0"]);
    }

    /// A speaker comes that has taken these VIPs over by itself.
    pub(crate) fn join_taking(&mut self, speaker: &str, taken: &[&str]) {
        let held = taken.iter().map(|text| (vip(text), Role::Active)).collect();
        self.join_holding(speaker, held, &["eth0"], taken.iter().map(|text| vip(text)).collect());
    }

    pub(crate) fn join_with(&mut self, speaker: &str, held: &[&str], interfaces: &[&str]) {
        let held = held.iter().map(|text| (vip(text), Role::Active)).collect();
        self.join_holding(speaker, held, interfaces, BTreeSet::new());
    }

    /// A speaker comes that has yielded a VIP to a peer.
    pub(crate) fn join_yielded(&mut self, speaker: &str, yielded: &str) {
        self.ears.entry(speaker.to_owned()).or_default().in_force.clear();
        self.join_holding(speaker, Table::from([(vip(yielded), Role::Standby)]), &["eth0"], BTreeSet::new());
    }

    /// A speaker's process is gone, and what it had in force.
    pub(crate) fn forget(&mut self, speaker: &str) {
        self.ears.remove(speaker);
    }

    /// A speaker comes whose interface has the hardware address of another node's.
    pub(crate) fn join_as(&mut self, speaker: &str, node: &str) {
        self.join_hello(Hello { interfaces: vec![interface(node, "eth0")], ..self.hello(speaker) });
    }

    fn join_holding(&mut self, speaker: &str, held: Table, interfaces: &[&str], taken: BTreeSet<Vip>) {
        let interfaces = interfaces.iter().map(|name| interface(id(speaker).node.as_str(), name)).collect();
        self.join_hello(Hello { interfaces, held, taken, ..self.hello(speaker) });
    }

    /// What a speaker says of itself that holds nothing and has no interfaces.
    pub(crate) fn hello(&self, speaker: &str) -> Hello {
        Hello {
            speaker: id(speaker),
            boot_id: format!("boot-{}", self.next + 1),
            interfaces: Vec::new(),
            held: Table::new(),
            taken: BTreeSet::new(),
            asks_first: !self.plain.contains(speaker),
        }
    }

    fn join_hello(&mut self, hello: Hello) {
        self.next += 1;
        let session = SessionId(self.next);
        let speaker = short(&hello.speaker);
        self.sessions.insert(speaker.clone(), session);
        let ear = self.ears.entry(speaker).or_default();
        ear.told.clear();
        ear.in_force.extend(&hello.held);
        self.rig.command(Command::SpeakerSaid { session, message: SpeakerMessage::Hello(hello) }).unwrap();
        self.deliver();
    }

    pub(crate) fn say(&mut self, speaker: &str, message: SpeakerMessage) {
        let session = self.sessions[speaker];
        self.rig.command(Command::SpeakerSaid { session, message }).unwrap();
        self.deliver();
    }

    /// The stream breaks.
    pub(crate) fn reset(&mut self, speaker: &str) {
        let session = self.sessions.remove(speaker).unwrap();
        self.rig.command(Command::SessionEnded { session }).unwrap();
        self.deliver();
    }

    pub(crate) fn session(&self, speaker: &str) -> SessionId {
        self.sessions[speaker]
    }

    pub(crate) fn interfaces(&mut self, speaker: &str, names: &[&str]) {
        let interfaces = names.iter().map(|name| interface(id(speaker).node.as_str(), name)).collect();
        self.say(speaker, SpeakerMessage::InterfacesChanged(interfaces));
    }

    /// Tells each speaker what changed for it, and lets it put that in force, until nothing is left to tell.
    pub(crate) fn deliver(&mut self) {
        for _ in 0..100 {
            let mut quiet = true;
            for speaker in self.sessions.keys().cloned().collect::<Vec<_>>() {
                let Some(untold) = self.rig.state.network().untold(&id(&speaker)) else { continue };
                quiet = false;
                let revision = self.tell(&speaker, untold);
                if !self.mute.contains(&speaker) && !self.slow.contains(&speaker) {
                    self.put_in_force(&speaker, revision);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("there is something to tell for ever");
    }

    /// One message, as the engine makes it: a snapshot replaces the speaker's table, a delta changes what it names.
    fn tell(&mut self, speaker: &str, untold: Untold) -> Revision {
        self.revision += 1;
        let revision = Revision(self.revision);
        let mine: Table = assignment::assignments(&self.rig.state, &id(speaker)).into_iter().map(|mine| (mine.vip, mine.role)).collect();
        let ear = self.ears.get_mut(speaker).unwrap();
        let (table, vips, removals) = match untold {
            Untold::Snapshot => (mine.clone(), mine.keys().copied().collect(), Vec::new()),
            Untold::Delta(changed) => {
                let before = ear.told.values().next_back().unwrap().clone();
                let kept = before.into_iter().filter(|(vip, _)| !changed.contains(vip));
                let upserts: Table = mine.into_iter().filter(|(vip, _)| changed.contains(vip)).collect();
                let vips: BTreeSet<Vip> = upserts.keys().copied().collect();
                let removals = changed.difference(&vips).copied().collect();
                (kept.chain(upserts).collect(), vips, removals)
            }
        };
        ear.told.insert(revision, table);
        let session = self.sessions[speaker];
        self.rig.take(Event::Speaker(SpeakerEvent::Told { session, revision, vips, removals }));
        revision
    }

    /// A speaker answers by a message from now on, and says so.
    fn put_in_force(&mut self, speaker: &str, revision: Revision) {
        let ear = self.ears.get_mut(speaker).unwrap();
        ear.in_force = ear.told[&revision].clone();
        let (session, message) = (self.sessions[speaker], SpeakerMessage::Applied { revision, failures: BTreeMap::new() });
        let active = self.ears[speaker].in_force.iter().filter(|(_, role)| **role == Role::Active).map(|(vip, _)| *vip);
        let proven = SpeakerMessage::Proven(active.collect());
        for message in [message, proven] {
            self.rig.command(Command::SpeakerSaid { session, message }).unwrap();
        }
    }

    /// A mute speaker gets as far as this message of those it was told.
    pub(crate) fn catch_up(&mut self, speaker: &str, revision: Revision) {
        self.put_in_force(speaker, revision);
        self.deliver();
    }

    /// The newest message that a speaker was told.
    pub(crate) fn newest(&self, speaker: &str) -> Revision {
        *self.ears[speaker].told.keys().next_back().unwrap()
    }

    /// All speakers that really answer for a VIP: by what they have in force.
    pub(crate) fn on_the_wire(&self, address: &str) -> Vec<String> {
        let active = |ear: &Ear| ear.in_force.get(&vip(address)) == Some(&Role::Active);
        self.ears.iter().filter(|(_, ear)| active(ear)).map(|(speaker, _)| speaker.clone()).collect()
    }

    /// Time passes; whoever is not mute sends heartbeats.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let step = Duration::from_millis(50);
        let end = self.rig.now.mono + duration;
        while self.rig.now.mono < end {
            let beating: Vec<SessionId> =
                self.sessions.iter().filter(|(speaker, _)| !self.mute.contains(*speaker)).map(|(_, session)| *session).collect();
            for session in beating {
                let message = SpeakerMessage::Heartbeat { seq: 0, applied: Revision::default() };
                self.rig.command(Command::SpeakerSaid { session, message }).unwrap();
            }
            self.rig.wait(step);
            self.deliver();
        }
    }

    /// The speaker that is to announce a VIP, or why nobody is.
    pub(crate) fn active(&self, address: &str) -> String {
        match self.rig.state.network().placements().get(&vip(address)) {
            None => "dropped".to_owned(),
            Some(Err(reason)) => reason.to_string(),
            Some(Ok(placement)) => short(&placement.active),
        }
    }

    pub(crate) fn standby(&self, address: &str) -> Option<String> {
        let placed = self.rig.state.network().placements().get(&vip(address))?.as_ref().ok()?;
        placed.standby.as_ref().map(short)
    }

    /// All speakers that answer for a VIP by what they were told.
    pub(crate) fn answering(&self, address: &str) -> Vec<String> {
        let active =
            |speaker: &SpeakerId| assignment::told(&self.rig.state, speaker, [vip(address)]).0.iter().any(|mine| mine.role == Role::Active);
        self.rig.state.network().speakers().keys().filter(|speaker| active(speaker)).map(short).collect()
    }

    /// A node that has no part in a VIP.
    pub(crate) fn other_than(&self, address: &str, speakers: &[&str]) -> String {
        let (active, standby) = (self.active(address), self.standby(address));
        let found = speakers.iter().find(|speaker| **speaker != active && Some(**speaker) != standby.as_deref());
        (*found.unwrap()).to_owned()
    }
}

fn short(speaker: &SpeakerId) -> String {
    match speaker.instance.as_str() {
        "default" => speaker.node.as_str().to_owned(),
        instance => format!("{}/{instance}", speaker.node),
    }
}
