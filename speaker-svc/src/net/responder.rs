//! The thread of an interface: receive, ask `crate::core::reply`, send.
//!
//! A frame costs no allocation, no lock and no log line. One thread serves two sockets, ARP's and NDP's: it waits in poll(2) for a frame of either,
//! or for the pipe that stops it to be closed, and then takes frames until there are none, or so many that the other socket gets its turn.
//! So a lone request costs four system calls and a flood two a frame, and the thread stops at once without ever waking up in vain, as a
//! receive timeout would. Claims go to the engine by a channel that sheds.

use std::io::{self, PipeReader, PipeWriter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use mooring_kit::Stop;
use mooring_kit::mailbox::Address;
use mooring_kit::supervise::Spawner;
use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use tokio::sync::Notify;
use tracing::debug;

use super::socket::{FrameSocket, RECEIVE_LEN, Traffic, Woken, is_interface_gone, wait};
use crate::core::heed::Heeded;
use crate::core::interfaces::{LinkIndex, Port};
use crate::core::reply::{Outcome, Receiver, ReplyTable, reply_to_arp, reply_to_ndp};
use crate::core::state::Assigned;
use crate::logs;
use crate::metrics::FrameDrops;
use crate::wire::{arp, ndp};

/// Frames taken from one socket before the other is looked at: under a flood of one kind the other waits for a millisecond at most.
const TURN: usize = 64;

/// A frame names a VIP that we have a part in as its sender's address.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The address.
    pub vip: Vip,
    /// The sender.
    pub mac: MacAddress,
    /// The interface.
    pub link: LinkIndex,
}

/// What all responders share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The newest table.
    pub table: Arc<ArcSwap<ReplyTable>>,
    /// The newest list of VIPs that we do not answer for and may ask for.
    pub heeded: Arc<ArcSwap<Heeded>>,
    /// Where claims go.
    pub claims: Address<Claim>,
    /// Notified when a thread has ended by itself.
    pub ended: Arc<Notify>,
    /// Notified when groups have been joined and left.
    pub grouped: Arc<Notify>,
    /// Counts what is dropped.
    pub drops: FrameDrops,
}

/// A running responder; dropping it ends its thread.
#[derive(Debug)]
pub struct Responder {
    /// Closed by the drop, which wakes the thread.
    _stop: PipeWriter,
    ended: Arc<AtomicBool>,
}

impl Responder {
    /// Opens the sockets and starts a thread on them. An interface that goes down or away ends the thread; any other error, or a panic, the
    /// process.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn start(port: &Port, shared: Shared, spawner: &Spawner) -> io::Result<Self> {
        let (arp, ndp) = (FrameSocket::open(Traffic::Arp, port.index)?, FrameSocket::open(Traffic::Ndp, port.index)?);
        let (stopped, stop) = io::pipe()?;
        let on = Receiver { link: port.index, name: port.name.clone(), mac: port.mac };
        let end = End { ended: Arc::default(), notify: Arc::clone(&shared.ended) };
        let ended = Arc::clone(&end.ended);
        let work = Work { arp, ndp, on, shared };
        // The supervisor's own stop does not matter here: while the process drains, requests are answered.
        let thread = move |_stop: &Stop| {
            let _end = end;
            match work.serve(&stopped) {
                Err(error) if !is_interface_gone(&error) => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            }
        };
        spawner.thread(format!("responder {}", port.name), thread).await;
        Ok(Self { _stop: stop, ended })
    }

    /// Whether the thread has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Says that a thread has ended, also when it panics.
struct End {
    ended: Arc<AtomicBool>,
    notify: Arc<Notify>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.notify.notify_one();
    }
}

struct Work {
    arp: FrameSocket,
    ndp: FrameSocket,
    on: Receiver,
    shared: Shared,
}

impl Work {
    fn serve(&self, stop: &PipeReader) -> io::Result<()> {
        let mut buffer = [0; RECEIVE_LEN];
        loop {
            match wait(&self.arp, &self.ndp, stop)? {
                Woken::Frames { arp, ndp } => {
                    if arp {
                        take_turn(&self.arp, &mut buffer, |frame| self.take_arp(frame))?;
                    }
                    if ndp {
                        take_turn(&self.ndp, &mut buffer, |frame| self.take_ndp(frame))?;
                    }
                }
                Woken::Stop => return Ok(()),
            }
        }
    }

    fn take_arp(&self, received: &[u8]) {
        let drops = &self.shared.drops;
        let (header, request) = match arp::parse(received) {
            Ok(parsed) => parsed,
            Err(malformed) => return drops.malformed(malformed),
        };
        let table = self.shared.table.load();
        let Ok(Outcome { answer, claim }) = reply_to_arp(&table, &self.on, header.destination, &request) else { return drops.foreign() };
        if let Some(assigned) = answer {
            let mut frame = arp::EMPTY_FRAME;
            let (header, answer) = arp::answer_to(&request, self.on.mac);
            arp::emit(header, &answer, &mut frame);
            if self.send(&self.arp, &frame, assigned) {
                debug!(
                    event = logs::ARP_REQUEST, interface = %self.on.name, ip = %assigned.vip, senderIP = %request.spa, senderMAC = %request.sha,
                    responseMAC = %self.on.mac, "got ARP request for service IP, sending response"
                );
            }
        }
        let claimed = claim.map(|assigned| assigned.vip);
        if let Some(vip) = claimed.or_else(|| self.shared.heeded.load().answer(&self.on, header.destination, &request)) {
            self.claim(vip, request.sha);
        }
    }

    fn take_ndp(&self, received: &[u8]) {
        let drops = &self.shared.drops;
        let (header, asked) = match ndp::parse(received) {
            Ok(parsed) => parsed,
            Err(malformed) => return drops.malformed(malformed),
        };
        let table = self.shared.table.load();
        let Ok(Outcome { answer, claim }) = reply_to_ndp(&table, &self.on, header, &asked) else { return drops.foreign() };
        if let Some(assigned) = answer {
            let mut frame = ndp::EMPTY_FRAME;
            let (to, answer) = ndp::answer_to(header, &asked, self.on.mac);
            if self.send(&self.ndp, ndp::emit(to, &answer, &mut frame), assigned) {
                debug!(
                    event = logs::NDP_REQUEST, interface = %self.on.name, ip = %assigned.vip, senderIP = %asked.source,
                    senderMAC = %asked.sender(header), responseMAC = %self.on.mac, "got NDP request for service IP, sending response"
                );
            }
        }
        let claimed = claim.map(|assigned| assigned.vip);
        if let Some(vip) = claimed.or_else(|| self.shared.heeded.load().advertisement(&self.on, header, &asked)) {
            self.claim(vip, asked.sender(header));
        }
    }

    /// Sends an answer; whether the kernel took it.
    fn send(&self, socket: &FrameSocket, frame: &[u8], assigned: &Assigned) -> bool {
        let sent = socket.send(frame).is_ok();
        if sent {
            assigned.counters.note_answer(mooring_kit::clock::wall());
        } else {
            self.shared.drops.unsent();
        }
        sent
    }

    fn claim(&self, vip: Vip, mac: MacAddress) {
        if !self.shared.claims.offer(Claim { vip, mac, link: self.on.link }) {
            self.shared.drops.claim();
        }
    }
}

/// Takes what a socket has, and not more than a turn.
fn take_turn(socket: &FrameSocket, buffer: &mut [u8], take: impl Fn(&[u8])) -> io::Result<()> {
    for _ in 0..TURN {
        match socket.receive(buffer) {
            Ok(len) => take(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
