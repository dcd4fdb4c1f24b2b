//! Which interfaces answer (MetalLB behaviour 8.1).
//!
//! Links come and go as the kernel tells. One that can answer is a [`Port`]: a responder runs on it, and answers from its first moment.
//! A changed hardware address is another port. What was announced may have moved while a port was away, and a live session may have broken
//! unnoticed with it, so the allocator is asked anew before anything is announced there (`announce`).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mooring_proto::types::assignment::Role;
use mooring_proto::types::node::{InterfaceName, MacAddress};
use mooring_proto::types::time::Mono;

use super::assignment::{service_updates, standing_now};
use super::state::{Session, Silence, Standing};
use super::{Change, Event, State, Withdrawal};

/// The kernel's number of a link; a link that is made again under its old name has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIndex(pub u32);

impl LinkIndex {
    /// Below all.
    pub const MIN: Self = Self(0);
    /// Above all.
    pub const MAX: Self = Self(u32::MAX);
}

/// A link as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: LinkIndex,
    /// Its name.
    pub name: InterfaceName,
    /// Its hardware address, if it is of Ethernet's kind.
    pub mac: Option<MacAddress>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
    /// The flags let us use it; `false` for one that the flags exclude, which then does not even count as existing.
    pub admitted: bool,
    /// It is up and its carrier is there (RFC 2863 `ifOperStatus` up or unknown).
    pub running: bool,
    /// It reaches all stations at once, and has no NOARP.
    pub resolves: bool,
    /// It is a port of a bridge, a bond or the like, which answers in its place.
    pub enslaved: bool,
}

impl Link {
    /// As a port, if it can answer.
    fn port(&self) -> Option<Port> {
        let fit = self.admitted && self.running && self.resolves && !self.enslaved;
        let mac = self.mac.filter(|_| fit)?;
        Some(Port { index: self.index, name: self.name.clone(), mac, addresses: self.addresses.clone() })
    }
}

/// An interface that can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub index: LinkIndex,
    /// Its name.
    pub name: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
}

impl Port {
    /// Whether a responder for `other` serves this port as well.
    fn is_served_by(&self, other: &Self) -> bool {
        (self.index, self.mac, &self.name) == (other.index, other.mac, &other.name)
    }
}

/// The node's interfaces.
#[derive(Debug, Default)]
pub struct Interfaces {
    ports: BTreeMap<LinkIndex, Port>,
    /// Names that count as existing, in whatever state.
    existing: BTreeSet<InterfaceName>,
    /// The hardware addresses of all links: frames from them are the node's own.
    own: BTreeSet<MacAddress>,
}

impl Interfaces {
    /// Those that can answer.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// One that can answer.
    #[must_use]
    pub fn port(&self, index: LinkIndex) -> Option<&Port> {
        self.ports.get(&index)
    }

    /// Whether a hardware address is the node's.
    #[must_use]
    pub fn is_own(&self, mac: MacAddress) -> bool {
        self.own.contains(&mac)
    }

    /// Whether one of the interfaces exists, in whatever state (MetalLB behaviour 7). No names stand for all interfaces, and are never missing.
    #[must_use]
    pub fn has_any(&self, wanted: &BTreeSet<InterfaceName>) -> bool {
        wanted.is_empty() || wanted.iter().any(|name| self.existing.contains(name))
    }

    fn note(&mut self, links: &[Link]) {
        self.existing = links.iter().filter(|link| link.admitted).map(|link| link.name.clone()).collect();
        self.own = links.iter().filter_map(|link| link.mac).collect();
        for port in links.iter().filter_map(Link::port) {
            if let Some(known) = self.ports.get_mut(&port.index) {
                known.addresses = port.addresses;
            }
        }
    }
}

/// The links are these: opens and closes ports, and starts or stops VIPs bound to interfaces that came or went.
pub(super) fn replace(state: &State, links: Vec<Link>) -> Vec<Event> {
    let after: BTreeMap<LinkIndex, Port> = links.iter().filter_map(Link::port).map(|port| (port.index, port)).collect();
    let before = &state.interfaces.ports;
    let stays = |port: &Port, others: &BTreeMap<LinkIndex, Port>| others.get(&port.index).is_some_and(|other| port.is_served_by(other));
    let mut events: Vec<Event> = before.values().filter(|port| !stays(port, &after)).cloned().map(Event::PortClosed).collect();
    let mut interfaces = Interfaces::default();
    interfaces.note(&links);
    events.push(Event::LinksReplaced(links));
    let opened: Vec<Port> = after.values().filter(|port| !stays(port, before)).cloned().collect();
    let asks = state.session == Session::Live && opened.iter().any(|port| is_wanted(state, port));
    if asks {
        events.push(Event::SessionChanged(Session::Resyncing));
    }
    events.extend(opened.into_iter().map(Event::PortOpened));
    if asks {
        // It tells the interfaces too.
        events.push(Event::HelloDue);
    } else if after != *before {
        events.push(Event::InterfacesDue);
    }
    let changed = restand(state, &interfaces);
    let told = !changed.is_empty() && state.session.is_live() && !asks;
    events.extend(changed);
    if told {
        events.push(Event::AppliedDue);
    }
    events
}

/// Whether any VIP would be announced on a port.
fn is_wanted(state: &State, port: &Port) -> bool {
    state.vips.values().any(|held| held.assigned.role == Role::Active && held.assigned.allows(&port.name))
}

/// The VIPs whose standing the interfaces change.
fn restand(state: &State, interfaces: &Interfaces) -> Vec<Event> {
    let mut events = Vec::new();
    for (vip, held) in &state.vips {
        let standing = standing_now(held, interfaces);
        if standing == held.standing {
            continue;
        }
        events.push(Event::StandingChanged { vip: *vip, standing });
        let change = match (held.standing, standing) {
            (_, Standing::Announced) => Change::Announced,
            (Standing::Announced, Standing::Silent(_)) => Change::Withdrawn(Withdrawal::InterfaceGone),
            (Standing::Silent(_), Standing::Silent(_)) => Change::Noted,
        };
        if let Standing::Silent(silence @ (Silence::Family | Silence::NoInterface)) = standing {
            events.push(Event::AssignmentFailed { vip: *vip, silence });
        }
        events.extend(service_updates(*vip, &held.assigned.services, change));
    }
    events
}

/// Keeps what the links say besides the ports.
pub(super) fn store(state: &mut State, links: &[Link]) {
    state.interfaces.note(links);
}

/// An interface can answer: everything that may be announced there is.
pub(super) fn open(state: &mut State, port: &Port, now: Mono) {
    state.interfaces.ports.insert(port.index, port.clone());
    let certain = state.session == Session::Live;
    for held in state.vips.values() {
        if held.standing == Standing::Announced && held.assigned.allows(&port.name) {
            state.schedule.start(held.assigned.vip, port.index, certain, now);
            if !held.assigned.leads {
                state.schedule.quiet(held.assigned.vip);
            }
        }
    }
}

/// An interface cannot answer any more.
pub(super) fn close(state: &mut State, port: &Port) {
    state.interfaces.ports.remove(&port.index);
    state.vigil.begin_anew();
    for vip in state.vips.keys() {
        state.schedule.stop(*vip, port.index);
    }
}

#[cfg(test)]
mod tests;
