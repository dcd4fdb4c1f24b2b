//! What runs on one interface: its responder, its groups, and the way out for what nobody asked for.
//!
//! Gratuitous frames go out on a socket of their own, without ever waiting.

use std::io;
use std::net::IpAddr;

use mooring_kit::supervise::Spawner;
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::node::MacAddress;
use tracing::info;

use super::groups::Groups;
use super::responder::{Responder, Shared};
use super::socket::Transmitter;
use crate::core::interfaces::Port;
use crate::core::state::Counters;
use crate::logs;
use crate::metrics::FrameDrops;
use crate::wire::arp::{self, Operation};
use crate::wire::ndp;

/// An interface that answers.
#[derive(Debug)]
pub struct Station {
    port: Port,
    responder: Responder,
    transmitter: Transmitter,
    /// Where it has IPv6.
    groups: Option<Groups>,
    drops: FrameDrops,
}

impl Station {
    /// Begins to answer on an interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn open(port: &Port, shared: &Shared, spawner: &Spawner) -> io::Result<Self> {
        let transmitter = Transmitter::open(port.index)?;
        let responder = Responder::start(port, shared.clone(), spawner).await?;
        info!(event = logs::CREATE_ARP_RESPONDER, interface = %port.name, mac = %port.mac, "created ARP responder for interface");
        Ok(Self { port: port.clone(), responder, transmitter, groups: None, drops: shared.drops.clone() })
    }

    /// Ends everything.
    pub fn close(mut self) {
        info!(event = logs::DELETE_ARP_RESPONDER, interface = %self.port.name, "deleted ARP responder for interface");
        self.leave_groups();
    }

    /// Takes over which addresses the interface has now, and begins or ends with the groups, as it has IPv6 or not.
    pub async fn align(&mut self, port: &Port, shared: &Shared, spawner: &Spawner) {
        self.port.clone_from(port);
        let Self { port, groups, .. } = self;
        if !port.speaks(Family::V6) {
            self.leave_groups();
        } else if groups.is_none() {
            *groups = Some(Groups::start(port, shared, spawner).await);
            info!(event = logs::CREATE_NDP_RESPONDER, interface = %port.name, mac = %port.mac, "created NDP responder for interface");
        }
    }

    fn leave_groups(&mut self) {
        if self.groups.take().is_some() {
            info!(event = logs::DELETE_NDP_RESPONDER, interface = %self.port.name, "deleted NDP responder for interface");
        }
    }

    /// Its groups, where it has IPv6.
    #[must_use]
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// Whether its responder has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.responder.has_ended()
    }

    /// Sends a gratuitous round: an ARP request, then a reply, or an advertisement to all nodes (MetalLB behaviour 8.2, 8.3).
    pub fn announce(&self, vip: Vip, counters: &Counters) {
        match vip.addr() {
            IpAddr::V4(address) => {
                let mut frame = arp::EMPTY_FRAME;
                for operation in [Operation::Request, Operation::Reply] {
                    let (header, arp) = arp::gratuitous(operation, address, self.port.mac);
                    arp::emit(header, &arp, &mut frame);
                    if self.send(&frame) {
                        counters.note_gratuitous();
                    }
                }
            }
            IpAddr::V6(address) => {
                let mut frame = ndp::EMPTY_FRAME;
                let (header, ndp) = ndp::gratuitous(address, self.port.mac);
                if self.send(ndp::emit(header, &ndp, &mut frame)) {
                    counters.note_gratuitous();
                }
            }
        }
    }

    /// Asks a station, or all, whether it answers for a VIP that we do not. By ARP nobody who hears it learns anything (RFC 5227 §2.1.1); by NDP
    /// we ask in our own name where we have one, as the answer to a nameless question goes to all nodes.
    pub fn ask(&self, vip: Vip, station: Option<MacAddress>) {
        match vip.addr() {
            IpAddr::V4(address) => {
                let mut frame = arp::EMPTY_FRAME;
                let (header, arp) = arp::probe_to(station.unwrap_or(MacAddress::BROADCAST), address, self.port.mac);
                arp::emit(header, &arp, &mut frame);
                self.send(&frame);
            }
            IpAddr::V6(address) => {
                let mut frame = ndp::EMPTY_FRAME;
                let (header, ndp) = ndp::question(address, self.port.mac, self.port.link_local(), station);
                self.send(ndp::emit(header, &ndp, &mut frame));
            }
        }
    }

    /// Asks whether somebody else answers for a VIP, so that nobody who hears it learns anything (RFC 5227 §2.1.1, RFC 4862 §5.4.2).
    pub fn probe(&self, vip: Vip) {
        match vip.addr() {
            IpAddr::V4(address) => {
                let mut frame = arp::EMPTY_FRAME;
                let (header, arp) = arp::probe(address, self.port.mac);
                arp::emit(header, &arp, &mut frame);
                self.send(&frame);
            }
            IpAddr::V6(address) => {
                let mut frame = ndp::EMPTY_FRAME;
                let (header, ndp) = ndp::probe(address, self.port.mac);
                self.send(ndp::emit(header, &ndp, &mut frame));
            }
        }
    }

    /// Sends a frame; whether the kernel took it.
    fn send(&self, frame: &[u8]) -> bool {
        let sent = self.transmitter.send(frame).is_ok();
        if !sent {
            self.drops.unsent();
        }
        sent
    }
}
