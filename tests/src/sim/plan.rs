//! What goes wrong, and when: a schedule that a seed gives.

use std::collections::BTreeSet;
use std::time::Duration;

use mooring_proto::types::address::Vip;

use super::Slot;
use super::lan::{Machine, Nic, Quality};
use super::random::Random;
use super::watcher::CONFIGURATIONS;

/// Something that happens to the cluster.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A speaker's process is killed.
    KillSpeaker(Slot),
    /// A speaker's process is asked to end.
    EndSpeaker(Slot),
    /// A speaker's process begins, if there is none.
    StartSpeaker(Slot),
    /// A node is without power.
    CrashNode(u8),
    /// A node has power again, and its speakers begin.
    StartNode(u8),
    /// A cable is pulled.
    Pull(Nic),
    /// A cable is plugged in.
    Plug(Nic),
    /// The allocator's process is killed.
    KillAllocator,
    /// The allocator's machine is without power, so nobody is told.
    LoseAllocator,
    /// The allocator's process is killed, and its volume is lost.
    LoseVolume,
    /// The allocator begins, if there is none.
    StartAllocator,
    /// Two sides of the LAN do not hear each other.
    SplitLan(BTreeSet<Machine>, BTreeSet<Machine>),
    /// Some machines of the LAN are not heard by others, but hear them.
    CutLan(BTreeSet<Machine>, BTreeSet<Machine>),
    /// The same between nodes and allocator, on the wires between these.
    CutControl(BTreeSet<Machine>, BTreeSet<Machine>),
    /// Everybody hears everybody again.
    HealCuts,
    /// The LAN and the allocator's wires are of this quality.
    Quality(Quality),
    /// A Service can be served by these nodes; none = by all.
    Serve(u8, BTreeSet<u8>),
    /// A Service has no endpoint.
    Unserve(u8),
    /// A Service is made.
    MakeService(u8),
    /// A Service is deleted.
    DeleteService(u8),
    /// The configuration is this one.
    Configure(u8),
    /// A node has the label that excludes it, or has it no more.
    Exclude(u8, bool),
    /// A node joins the cluster.
    Join(u8),
    /// A node leaves the cluster: its speakers are asked to end, and it is listed no more.
    Leave(u8),
    /// A stranger claims the VIP of a Service.
    Claim(u8),
    /// A stranger claims an address.
    ClaimAddress(Vip),
    /// The stranger is silent.
    Silence,
}

/// What a cluster is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For each node its interfaces, its speakers, and whether its wires to the allocator are its interfaces on the LAN.
    pub nodes: Vec<(u8, u8, bool)>,
    /// How many Services there are.
    pub services: u8,
    /// The cluster lists its nodes.
    pub listed: bool,
    /// How often the client asks for each VIP.
    pub asks: Duration,
}

impl Shape {
    /// A cluster by chance, of so many nodes.
    #[must_use]
    pub fn draw(random: &mut Random, least: u8, most: u8) -> Self {
        let nodes = (0..random.within(least, most))
            .map(|_| (1 + u8::from(random.chance(30)), 1 + u8::from(random.chance(20)), random.chance(30)))
            .collect();
        Self { nodes, services: random.within(2, 6), listed: random.chance(50), asks: Duration::from_millis(10) }
    }

    /// All places for speakers.
    #[must_use]
    pub fn slots(&self) -> Vec<Slot> {
        let numbered = (1u8..).zip(&self.nodes);
        numbered.flat_map(|(node, (_, speakers, _))| (1..=*speakers).map(move |instance| Slot { node, instance })).collect()
    }

    /// All interfaces of nodes.
    #[must_use]
    pub fn nics(&self) -> Vec<Nic> {
        let numbered = (1u8..).zip(&self.nodes);
        numbered.flat_map(|(node, (ports, _, _))| (1..=*ports).map(move |port| Nic { machine: Machine::Node(node), port })).collect()
    }

    /// The numbers of all nodes.
    #[must_use]
    pub fn numbers(&self) -> Vec<u8> {
        (1u8..).zip(&self.nodes).map(|(node, _)| node).collect()
    }
}

/// Faults with their moments, from the schedule's beginning.
pub type Plan = Vec<(Duration, Fault)>;

/// Whatever may happen, within a time; most of it comes to an end by itself, and all of it when the cluster is healed.
#[must_use]
pub fn anything(random: &mut Random, shape: &Shape, within: Duration) -> Plan {
    let mut plan = Plan::new();
    for _ in 0..random.within(2, 12) {
        let from = random.between(Duration::ZERO, within);
        let least = Duration::from_millis(if random.chance(50) { 10 } else { 500 });
        let to = from + random.between(least, Duration::from_secs(5));
        plan.extend(one(random, shape).into_iter().zip([from, to]).map(|(fault, at)| (at, fault)));
    }
    plan.sort_by_key(|(at, _)| *at);
    plan
}

/// A fault, and what ends it.
fn one(random: &mut Random, shape: &Shape) -> Vec<Fault> {
    let (slots, nics, numbers) = (shape.slots(), shape.nics(), shape.numbers());
    let (Some(slot), Some(nic), Some(node)) = (random.pick(&slots), random.pick(&nics), random.pick(&numbers)) else {
        return Vec::new();
    };
    let service = random.within(1, shape.services);
    match random.below(25) {
        0 | 1 => vec![Fault::KillSpeaker(slot), Fault::StartSpeaker(slot)],
        2 | 3 => vec![Fault::EndSpeaker(slot), Fault::StartSpeaker(slot)],
        4 => vec![Fault::CrashNode(node), Fault::StartNode(node)],
        5 | 6 => vec![Fault::Pull(nic), Fault::Plug(nic)],
        7 | 8 => vec![Fault::KillAllocator, Fault::StartAllocator],
        9 => vec![Fault::LoseAllocator, Fault::StartAllocator],
        10 => vec![Fault::LoseVolume, Fault::StartAllocator],
        11..=13 => {
            let (one, other) = sides(random, &numbers, &[Machine::Client, Machine::Listener]);
            vec![if random.chance(60) { Fault::SplitLan(one, other) } else { Fault::CutLan(one, other) }, Fault::HealCuts]
        }
        14..=16 => {
            let allocator = BTreeSet::from([Machine::Allocator]);
            let some: BTreeSet<Machine> = numbers.iter().filter(|_| random.chance(60)).map(|node| Machine::Node(*node)).collect();
            let cut = if random.chance(50) { Fault::CutControl(some, allocator) } else { Fault::CutControl(allocator, some) };
            vec![cut, Fault::HealCuts]
        }
        17 => {
            let (loss, duplicates) = (random.below(30), random.below(20));
            let delay = random.between(Duration::from_micros(300), Duration::from_millis(30));
            vec![Fault::Quality(Quality { loss, duplicates, delay }), Fault::Quality(Quality::GOOD)]
        }
        18 => {
            vec![Fault::Serve(service, numbers.into_iter().filter(|_| random.chance(50)).collect()), Fault::Serve(service, BTreeSet::new())]
        }
        19 => vec![Fault::Unserve(service), Fault::Serve(service, BTreeSet::new())],
        20 => vec![Fault::DeleteService(service), Fault::MakeService(service)],
        21 => vec![Fault::Configure(random.within(1, CONFIGURATIONS - 1)), Fault::Configure(0)],
        22 => vec![Fault::Exclude(node, true), Fault::Exclude(node, false)],
        23 => vec![Fault::Leave(node), Fault::Join(node)],
        _ => vec![Fault::Claim(service), Fault::Silence],
    }
}

/// Two sides of a LAN, of which at least one is not heard by the other.
pub fn sides(random: &mut Random, nodes: &[u8], others: &[Machine]) -> (BTreeSet<Machine>, BTreeSet<Machine>) {
    let all = nodes.iter().map(|node| Machine::Node(*node)).chain(others.iter().copied());
    let (mut one, mut other) = (BTreeSet::new(), BTreeSet::new());
    for machine in all {
        if random.chance(50) {
            one.insert(machine)
        } else {
            other.insert(machine)
        };
    }
    (one, other)
}
