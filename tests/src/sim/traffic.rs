//! Frames on the LAN: sent, heard, answered.

use std::time::Duration;

use mooring_speaker::core::interfaces::{Link, LinkIndex};
use mooring_speaker::wire::ethernet::is_group;

use super::frame::{self, Frame};
use super::lan::{Machine, Nic};
use super::speaker::{Claim, link};
use super::{Due, Slot, World};

/// Between a responder thread's news and the engine's work on them.
const NEWS: Duration = Duration::from_millis(2);

/// How often the stranger claims what it claims.
const CLAIMS: Duration = Duration::from_millis(300);

impl World {
    /// Whether frames come in and go out on an interface.
    pub(super) fn is_up(&self, nic: Nic) -> bool {
        match nic.machine {
            Machine::Node(number) => {
                self.nodes.get(&number).is_some_and(|node| node.powered && node.ports.get(&nic.port).copied().unwrap_or_default())
            }
            Machine::Client | Machine::Listener | Machine::Stranger => true,
            Machine::Allocator => false,
        }
    }

    /// A node's links as its kernel tells them.
    pub(super) fn links(&self, number: u8) -> Vec<Link> {
        let ports = self.nodes.get(&number).into_iter().flat_map(|node| &node.ports);
        ports.filter_map(|(port, running)| link(Nic { machine: Machine::Node(number), port: *port }, *running)).collect()
    }

    /// Sends a frame to whom it is for.
    pub(super) fn transmit(&mut self, from: Nic, frame: &Frame) {
        let Some((header, _)) = frame::read(frame) else { return };
        if !self.is_up(from) {
            return;
        }
        let stations = [Machine::Client, Machine::Listener, Machine::Stranger].map(Nic::of);
        let all = self.shape.nics().into_iter().chain(stations);
        let to = all.filter(|nic| *nic != from && (is_group(header.destination) || header.destination == nic.mac()));
        for to in to.collect::<Vec<_>>() {
            for arrival in self.lan.carry(from, to, self.now, &mut self.random).into_iter().flatten() {
                self.at(arrival.saturating_since(self.now), Due::Frame(to, frame.clone()));
            }
        }
    }

    /// A frame comes in on an interface.
    pub(super) fn receive(&mut self, nic: Nic, frame: &Frame) -> anyhow::Result<()> {
        if !self.is_up(nic) {
            return Ok(());
        }
        match nic.machine {
            Machine::Client => self.client.hear(frame, self.now),
            Machine::Listener => self.listener.hear(frame, self.now),
            Machine::Stranger => self.answer_as_stranger(nic, frame),
            Machine::Node(number) => self.receive_on_node(number, nic, frame),
            Machine::Allocator => {}
        }
        Ok(())
    }

    /// Every speaker of a node hears what comes in.
    fn receive_on_node(&mut self, number: u8, nic: Nic, frame: &Frame) {
        let index = LinkIndex(u32::from(nic.port));
        let (first, last) = (Slot { node: number, instance: u8::MIN }, Slot { node: number, instance: u8::MAX });
        let speakers = self.speakers.range(first..=last).filter_map(|(slot, speaker)| Some((*slot, speaker.as_ref()?)));
        let heard: Vec<(Slot, u64, Option<Frame>, Option<Claim>)> = speakers
            .map(|(slot, speaker)| {
                let (answer, claim) = speaker.receive(index, frame);
                (slot, speaker.life, answer, claim)
            })
            .collect();
        for (slot, life, answer, claim) in heard {
            if let Some(answer) = answer {
                self.transmit(nic, &answer);
            }
            if let Some(claim) = claim {
                let after = self.random.between(Duration::ZERO, NEWS);
                self.at(after, Due::Claim(slot, life, claim));
            }
        }
    }

    /// The client asks for every VIP; the listener for those that it has no entry for.
    pub(super) fn ask(&mut self) -> anyhow::Result<()> {
        for vip in self.vips() {
            let request = self.client.request(vip);
            self.transmit(Nic::of(Machine::Client), &request);
            if self.listener.neighbor(vip).is_none() {
                let request = self.listener.request(vip);
                self.transmit(Nic::of(Machine::Listener), &request);
            }
        }
        self.at(self.shape.asks, Due::Ask);
        Ok(())
    }

    /// The stranger announces what it claims.
    pub(super) fn claim_as_stranger(&mut self) -> anyhow::Result<()> {
        let nic = Nic::of(Machine::Stranger);
        for vip in self.claimed.clone() {
            for frame in frame::round(vip, nic.mac()) {
                self.transmit(nic, &frame);
            }
        }
        self.at(CLAIMS, Due::Claims);
        Ok(())
    }

    fn answer_as_stranger(&mut self, nic: Nic, frame: &Frame) {
        if let Some((vip, answer)) = frame::answer(frame, nic.mac())
            && self.claimed.contains(&vip)
        {
            self.transmit(nic, &answer);
        }
    }
}
