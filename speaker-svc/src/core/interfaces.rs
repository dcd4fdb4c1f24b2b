//! Which interfaces answer (MetalLB behaviour 8.1), and which of them for which VIP.
//!
//! Links come and go as the kernel tells. One that can answer is a [`Port`]: a responder runs on it, and answers from its first moment.
//! A changed hardware address is another port. What was announced may have moved while a port was away, and a live session may have broken
//! unnoticed with it, so the allocator is asked anew before anything is announced there (`announce`).
//!
//! A VIP is answered for on the interfaces that the allocator names; where it names none, on those in whose networks the VIP is, and where it is
//! in no network of the node, on all. An IPv6 VIP needs an interface that has IPv6.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::assignment::Role;
use mooring_proto::types::node::{InterfaceName, MacAddress};
use mooring_proto::types::time::Mono;

use super::assignment::{align, service_updates, standing_now};
use super::state::{Failure, Session, Standing};
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
    /// Its hardware address, if it can answer whenever it is up.
    fn fit(&self) -> Option<MacAddress> {
        self.mac.filter(|_| self.admitted && self.resolves && !self.enslaved)
    }

    /// As a port, if it can answer.
    fn port(&self) -> Option<Port> {
        let mac = self.fit().filter(|_| self.running)?;
        Some(Port { index: self.index, name: self.name.clone(), mac, addresses: self.addresses.clone() })
    }

    /// The networks that it is in, be it up or down. An address alone is no network, and every link has the link-local one.
    fn homes(&self) -> impl Iterator<Item = (IpNet, LinkIndex)> {
        let addresses = self.addresses.iter().filter(|_| self.fit().is_some());
        let networks = addresses.map(IpNet::trunc).filter(|net| net.prefix_len() < net.max_prefix_len());
        let link_local = |net: &IpNet| matches!(net, IpNet::V6(net) if net.addr().is_unicast_link_local());
        networks.filter(move |net| !link_local(net)).map(|net| (net, self.index))
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
    /// An IPv6 address of it that is good on the link only; by it we ask others (RFC 4291 §2.5.6).
    #[must_use]
    pub fn link_local(&self) -> Option<std::net::Ipv6Addr> {
        let one = |address: &IpNet| if let std::net::IpAddr::V6(address) = address.addr() { Some(address) } else { None };
        self.addresses.iter().filter_map(one).find(std::net::Ipv6Addr::is_unicast_link_local)
    }

    /// Whether addresses of a family can be announced. A link without any IPv6 address has no IPv6, and what it attracted would be lost; IPv4
    /// needs no address (MetalLB behaviour 8.1).
    #[must_use]
    pub fn speaks(&self, family: Family) -> bool {
        match family {
            Family::V4 => true,
            Family::V6 => self.addresses.iter().any(|address| matches!(address, IpNet::V6(_))),
        }
    }

    /// Whether a responder for `other` serves this port as well.
    fn is_served_by(&self, other: &Self) -> bool {
        (self.index, self.mac, &self.name) == (other.index, other.mac, &other.name)
    }
}

/// The node's interfaces.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    ports: BTreeMap<LinkIndex, Port>,
    /// The networks of the node, with the links that are in them, up or down.
    homes: BTreeSet<(IpNet, LinkIndex)>,
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

    /// The interfaces on which a VIP is answered for, of those that can answer; no names stand for all interfaces.
    pub(super) fn links_for(&self, vip: Vip, wanted: &BTreeSet<InterfaceName>) -> BTreeSet<LinkIndex> {
        let homes = self.homes_of(vip, wanted);
        let ports = self.named(wanted).filter(|port| port.speaks(vip.family()));
        ports.map(|port| port.index).filter(|link| homes.is_empty() || homes.contains(link)).collect()
    }

    /// Why nothing of a VIP would be heard on the LAN although the node has interfaces that answer. That it has none the allocator knows.
    pub(super) fn failure(&self, vip: Vip, wanted: &BTreeSet<InterfaceName>) -> Option<Failure> {
        if !self.has_any(wanted) {
            return Some(Failure::NoInterface);
        }
        if self.named(wanted).next().is_none() || !self.links_for(vip, wanted).is_empty() {
            return None;
        }
        let homes = self.homes_of(vip, wanted);
        let away = !homes.is_empty() && homes.iter().all(|link| self.port(*link).is_none());
        Some(if away { Failure::Away } else { Failure::NoIpv6 })
    }

    /// The ports of these names.
    fn named(&self, wanted: &BTreeSet<InterfaceName>) -> impl Iterator<Item = &Port> {
        self.ports().filter(|port| wanted.is_empty() || wanted.contains(&port.name))
    }

    /// The links in whose networks a VIP is, unless the interfaces are named.
    fn homes_of(&self, vip: Vip, wanted: &BTreeSet<InterfaceName>) -> BTreeSet<LinkIndex> {
        let homes = self.homes.iter().filter(|_| wanted.is_empty());
        homes.filter(|(net, _)| net.contains(&vip.addr())).map(|(_, link)| *link).collect()
    }

    /// What links would make of these interfaces.
    fn with(&self, links: &[Link]) -> Self {
        let mut interfaces = self.clone();
        interfaces.ports = links.iter().filter_map(Link::port).map(|port| (port.index, port)).collect();
        interfaces.note(links);
        interfaces
    }

    /// Whether VIPs are answered for on the same interfaces as by others.
    fn reaches_as(&self, other: &Self) -> bool {
        let ports = |interfaces: &Self| -> Vec<_> {
            interfaces.ports().map(|port| (port.index, port.mac, port.name.clone(), port.speaks(Family::V6))).collect()
        };
        (&self.homes, &self.existing) == (&other.homes, &other.existing) && ports(self) == ports(other)
    }

    fn note(&mut self, links: &[Link]) {
        self.homes = links.iter().flat_map(Link::homes).collect();
        self.existing = links.iter().filter(|link| link.admitted).map(|link| link.name.clone()).collect();
        self.own = links.iter().filter_map(|link| link.mac).collect();
        for port in links.iter().filter_map(Link::port) {
            if let Some(known) = self.ports.get_mut(&port.index) {
                known.addresses = port.addresses;
            }
        }
    }
}

/// The links are these: opens and closes ports, and starts or stops VIPs bound to interfaces or networks that came or went.
pub(super) fn replace(state: &State, links: Vec<Link>) -> Vec<Event> {
    let before = &state.interfaces;
    let after = before.with(&links);
    let stays = |port: &Port, others: &Interfaces| others.port(port.index).is_some_and(|other| port.is_served_by(other));
    let mut events: Vec<Event> = before.ports().filter(|port| !stays(port, &after)).cloned().map(Event::PortClosed).collect();
    events.push(Event::LinksReplaced(links));
    let opened: Vec<Port> = after.ports().filter(|port| !stays(port, before)).cloned().collect();
    let asks = state.session == Session::Live && opened.iter().any(|port| is_wanted(state, port));
    if asks {
        events.push(Event::SessionChanged(Session::Resyncing));
    }
    events.extend(opened.into_iter().map(Event::PortOpened));
    let moved = !after.reaches_as(before);
    if moved {
        events.push(Event::ReachChanged);
    }
    let told = after.ports != before.ports;
    if told {
        events.push(Event::InterfacesDue);
    }
    if asks {
        events.push(Event::HelloDue);
    }
    let changed = if moved { restand(state, &after) } else { Vec::new() };
    // To the allocator other interfaces are a reason to try again what failed.
    let applied = !changed.is_empty() || (told && !state.failing.is_empty());
    events.extend(changed);
    if applied && state.session.is_live() && !asks {
        events.push(Event::AppliedDue);
    }
    events
}

/// Whether any VIP may be announced on a port.
fn is_wanted(state: &State, port: &Port) -> bool {
    state.vips.values().any(|held| held.assigned.role == Role::Active && held.assigned.allows(&port.name))
}

/// The VIPs whose standing the interfaces change, and those that nobody can hear any more.
fn restand(state: &State, interfaces: &Interfaces) -> Vec<Event> {
    let mut events = Vec::new();
    for (vip, held) in &state.vips {
        let failure = interfaces.failure(*vip, &held.assigned.interfaces);
        let failed = failure.filter(|failure| state.failing.get(vip) != Some(failure));
        let standing = standing_now(held, interfaces);
        if standing != held.standing {
            events.push(Event::StandingChanged { vip: *vip, standing });
        }
        events.extend(failed.map(|failure| Event::AssignmentFailed { vip: *vip, failure }));
        let change = match (held.standing, standing) {
            (Standing::Silent(_), Standing::Announced) => Change::Announced,
            (Standing::Announced, Standing::Silent(_)) => Change::Withdrawn(Withdrawal::InterfaceGone),
            (before, after) if before != after => Change::Noted,
            (Standing::Announced, Standing::Announced) | (Standing::Silent(_), Standing::Silent(_)) => continue,
        };
        events.extend(service_updates(*vip, &held.assigned.services, change));
    }
    events
}

/// Keeps what the links say besides the ports.
pub(super) fn store(state: &mut State, links: &[Link]) {
    state.interfaces.note(links);
}

/// An interface can answer.
pub(super) fn open(state: &mut State, port: &Port) {
    state.interfaces.ports.insert(port.index, port.clone());
}

/// An interface cannot answer any more: if it comes back everything begins anew there.
pub(super) fn close(state: &mut State, port: &Port) {
    state.interfaces.ports.remove(&port.index);
    state.vigil.begin_anew();
    for vip in state.vips.keys() {
        state.schedule.stop(*vip, port.index);
    }
    state.schedule.close(port.index);
}

/// Other interfaces may answer for a VIP than before: everything that may be announced on them is.
pub(super) fn align_all(state: &mut State, now: Mono) {
    let vips: Vec<Vip> = state.vips.keys().copied().collect();
    for vip in vips {
        align(state, vip, now);
    }
}

#[cfg(test)]
mod tests;
