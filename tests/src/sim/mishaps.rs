//! What each fault does to the world, and how all of them come to their end.

use std::collections::BTreeSet;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::backends::Reach;
use mooring_proto::types::node::NodeSpec;
use mooring_speaker::core::Command;

use super::allocator::{Allocator, Disk};
use super::lan::{Machine, Nic, Quality};
use super::plan::Fault;
use super::session::{KEEPALIVE, Word};
use super::speaker::Speaker;
use super::watcher::{Call, SESSION, configuration, node, node_spec, service};
use super::{Due, NOTICE, START, Slot, World};

/// How long a watcher takes at most to find an allocator that has begun.
const FIND: Duration = Duration::from_millis(500);

impl World {
    /// Something happens.
    ///
    /// # Errors
    /// Something that must always hold does not.
    pub fn befall(&mut self, fault: Fault) -> anyhow::Result<()> {
        self.note(|| format!("-- {fault:?}"));
        match fault {
            Fault::KillSpeaker(slot) => self.bury(slot),
            Fault::EndSpeaker(slot) => return self.end_speaker(slot),
            Fault::StartSpeaker(slot) => return self.start_speaker(slot),
            Fault::CrashNode(number) => self.crash_node(number),
            Fault::StartNode(number) => self.start_node(number),
            Fault::Pull(nic) => self.plug(nic, false),
            Fault::Plug(nic) => self.plug(nic, true),
            Fault::KillAllocator => self.kill_allocator(true),
            Fault::LoseAllocator => {
                self.kill_allocator(false);
                self.is_allocator_powered = false;
            }
            Fault::LoseVolume => {
                self.kill_allocator(true);
                self.disk = Disk::new();
            }
            Fault::StartAllocator => return self.start_allocator(),
            Fault::SplitLan(one, other) => {
                self.lan.cut(&one, &other);
                self.lan.cut(&other, &one);
            }
            Fault::CutLan(from, to) => self.lan.cut(&from, &to),
            Fault::CutControl(from, to) => self.control.cut(&from, &to),
            Fault::HealCuts => {
                self.lan.heal();
                self.control.heal();
                self.send_again();
            }
            Fault::Quality(quality) => (self.lan.quality, self.control.quality) = (quality, quality),
            Fault::Serve(number, nodes) => {
                let nodes = nodes.into_iter().map(node).collect::<anyhow::Result<BTreeSet<_>>>()?;
                return self.serve(number, if nodes.is_empty() { Reach::Anywhere } else { Reach::Nodes(nodes) });
            }
            Fault::Unserve(number) => return self.serve(number, Reach::Nowhere),
            Fault::MakeService(number) => {
                self.watcher.services.entry(service(number)?).or_insert(Reach::Anywhere);
                self.wish(Call::Service(service(number)?));
                self.wish(Call::Backends);
            }
            Fault::DeleteService(number) => {
                self.watcher.services.remove(&service(number)?);
                self.watcher.status.remove(&service(number)?);
                self.wish(Call::Service(service(number)?));
            }
            Fault::Configure(number) => {
                self.watcher.configuration = configuration(number)?;
                self.wish(Call::Pools);
            }
            Fault::Exclude(number, excluded) => return self.exclude(number, excluded),
            Fault::Join(number) => return self.join(number),
            Fault::Leave(number) => return self.leave(number),
            Fault::Claim(number) => {
                let vips = self.watcher.status.get(&service(number)?).cloned().unwrap_or_default();
                self.claimed.extend(vips);
            }
            Fault::ClaimAddress(vip) => {
                self.claimed.insert(vip);
            }
            Fault::Silence => self.claimed.clear(),
        }
        Ok(())
    }

    /// The cluster is whole: the network carries everything, all processes run, all cables are in, nobody is excluded, and the stranger is
    /// silent. What Services there are, and where they can be served, stays.
    ///
    /// # Errors
    /// Something that must always hold does not.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        self.due.retain(|_, due| !matches!(due, Due::Fault(_)));
        for fault in [Fault::Quality(Quality::GOOD), Fault::HealCuts, Fault::Silence, Fault::Configure(0), Fault::StartAllocator] {
            self.befall(fault)?;
        }
        for nic in self.shape.nics() {
            self.befall(Fault::Plug(nic))?;
        }
        for number in self.shape.numbers() {
            self.befall(Fault::StartNode(number))?;
            self.befall(Fault::Join(number))?;
            self.befall(Fault::Exclude(number, false))?;
        }
        // One that is just ending is followed by another one.
        for slot in self.shape.slots() {
            self.at(mooring_speaker::core::DRAIN_PATIENCE + START, Due::Fault(Fault::StartSpeaker(slot)));
        }
        Ok(())
    }

    fn end_speaker(&mut self, slot: Slot) -> anyhow::Result<()> {
        let life = self.speakers.get(&slot).and_then(Option::as_ref).map(|speaker| speaker.life);
        life.map_or(Ok(()), |life| self.command(slot, life, Command::Drain))
    }

    fn start_speaker(&mut self, slot: Slot) -> anyhow::Result<()> {
        let here = self.nodes.get(&slot.node).is_some_and(|node| node.powered && node.is_member);
        if !here || self.speakers.get(&slot).is_none_or(Option::is_some) {
            return Ok(());
        }
        let (life, seed) = (self.next_life(), self.random.draw());
        self.speakers.insert(slot, Some(Speaker::new(slot.id()?, life, seed, self.now)));
        self.at(NOTICE, Due::Links(slot, life));
        // The first Hello tells the interfaces, so it waits until they are known.
        self.at(NOTICE + NOTICE, Due::Call(slot, life));
        Ok(())
    }

    /// Without power nobody says farewell; the allocator's side of a connection notices much later.
    fn crash_node(&mut self, number: u8) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.powered = false;
        for slot in self.slots_of(number) {
            let Some(speaker) = self.speakers.get_mut(&slot).and_then(Option::take) else { continue };
            self.moved = self.now;
            let Some(session) = speaker.session.stream else { continue };
            let after = self.random.between(KEEPALIVE / 2, KEEPALIVE);
            self.at(after, Due::Forsake(session));
        }
    }

    fn start_node(&mut self, number: u8) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.powered = true;
        for slot in self.slots_of(number) {
            let after = self.random.between(START / 3, START);
            self.at(after, Due::Fault(Fault::StartSpeaker(slot)));
        }
    }

    /// A cable is in or out.
    fn plug(&mut self, nic: Nic, in_place: bool) {
        let Machine::Node(number) = nic.machine else { return };
        let Some(node) = self.nodes.get_mut(&number) else { return };
        if node.ports.insert(nic.port, in_place) == Some(in_place) {
            return;
        }
        for slot in self.slots_of(number) {
            if let Some(life) = self.speakers.get(&slot).and_then(Option::as_ref).map(|speaker| speaker.life) {
                let after = self.random.between(Duration::from_micros(100), NOTICE);
                self.at(after, Due::Links(slot, life));
            }
        }
        self.send_again();
    }

    /// A killed process leaves a kernel that ends its streams; a machine without power leaves nobody.
    fn kill_allocator(&mut self, tells: bool) {
        let Some(allocator) = self.allocator.take() else { return };
        let streams = self.streams.iter().filter(|(_, stream)| stream.allocator == Some(allocator.life));
        for session in streams.map(|(session, _)| *session).collect::<Vec<_>>() {
            if tells {
                self.push_down(session, Word::End);
            }
        }
    }

    fn start_allocator(&mut self) -> anyhow::Result<()> {
        self.is_allocator_powered = true;
        if self.allocator.is_some() {
            return Ok(());
        }
        let life = self.next_life();
        let allocator = Allocator::start(&mut self.disk, life, self.now)?;
        let (epoch, deadline) = (allocator.epoch(), allocator.deadline());
        self.allocator = Some(allocator);
        self.note(|| format!("the allocator leads with epoch {epoch}"));
        self.alarm_allocator(life, deadline);
        let found = self.now + self.random.between(Duration::ZERO, FIND);
        self.watcher.changed = found.max(self.watcher.changed);
        SESSION.into_iter().for_each(|call| self.wish(call));
        Ok(())
    }

    fn serve(&mut self, number: u8, reach: Reach) -> anyhow::Result<()> {
        if let Some(service) = self.watcher.services.get_mut(&service(number)?) {
            *service = reach;
            self.wish(Call::Backends);
        }
        Ok(())
    }

    fn exclude(&mut self, number: u8, excluded: bool) -> anyhow::Result<()> {
        let spec = node_spec(number, excluded)?;
        if let Some(listed) = self.watcher.nodes.iter_mut().find(|listed| listed.name == spec.name) {
            *listed = spec;
            self.wish(Call::Nodes);
        }
        Ok(())
    }

    fn join(&mut self, number: u8) -> anyhow::Result<()> {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.is_member = true;
        }
        self.list_nodes()?;
        self.start_node(number);
        Ok(())
    }

    fn leave(&mut self, number: u8) -> anyhow::Result<()> {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.is_member = false;
        }
        for slot in self.slots_of(number) {
            self.end_speaker(slot)?;
        }
        self.list_nodes()
    }

    /// The cluster lists its members, if it does at all; what labels they have stays.
    pub(super) fn list_nodes(&mut self) -> anyhow::Result<()> {
        if !self.shape.listed {
            return Ok(());
        }
        let members = self.nodes.iter().filter(|(_, node)| node.is_member).map(|(number, _)| node_spec(*number, false));
        let members = members.collect::<anyhow::Result<Vec<NodeSpec>>>()?;
        let known = std::mem::take(&mut self.watcher.nodes);
        let as_known = |spec: NodeSpec| known.iter().find(|known| known.name == spec.name).cloned().unwrap_or(spec);
        self.watcher.nodes = members.into_iter().map(as_known).collect();
        self.wish(Call::Nodes);
        Ok(())
    }

    /// The places for speakers on a node.
    #[must_use]
    pub fn slots_of(&self, number: u8) -> Vec<Slot> {
        self.shape.slots().into_iter().filter(|slot| slot.node == number).collect()
    }

    /// The VIP that a Service has.
    ///
    /// # Errors
    /// None for a number.
    pub fn vip_of(&self, number: u8) -> anyhow::Result<Option<Vip>> {
        Ok(self.watcher.status.get(&service(number)?).and_then(|vips| vips.first()).copied())
    }
}
