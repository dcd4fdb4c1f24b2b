//! The thread of an interface: receive, ask `crate::core::reply`, send.
//!
//! A frame costs no allocation, no lock and no log line. The thread takes frames until there are none and only then waits in poll(2),
//! for the next one or for the pipe that stops it to be closed: so a lone request costs three system calls and a flood two a frame, and
//! the thread stops at once without ever waking up in vain, as a receive timeout would. Claims go to the engine by a channel that sheds.

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

use super::socket::{ArpSocket, Woken, is_interface_gone};
use crate::core::heed::Heeded;
use crate::core::interfaces::{LinkIndex, Port};
use crate::core::reply::{Receiver, ReplyTable, reply};
use crate::core::state::Assigned;
use crate::logs;
use crate::metrics::FrameDrops;
use crate::wire::arp::{self, Arp, EMPTY_FRAME, Frame};

/// What the kernel gives of a frame at most; the filter lets through 64 bytes.
const RECEIVE_LEN: usize = 64;

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
    /// Opens a socket and starts a thread on it. An interface that goes down or away ends the thread; any other error, or a panic, the
    /// process.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn start(port: &Port, shared: Shared, spawner: &Spawner) -> io::Result<Self> {
        let socket = ArpSocket::open(port.index)?;
        let (stopped, stop) = io::pipe()?;
        let on = Receiver { name: port.name.clone(), mac: port.mac };
        let end = End { ended: Arc::default(), notify: Arc::clone(&shared.ended) };
        let ended = Arc::clone(&end.ended);
        let mut work = Work { socket, link: port.index, on, shared, frame: EMPTY_FRAME };
        // The supervisor's own stop does not matter here: while the process drains, requests are answered.
        let thread = move |_stop: &Stop| {
            let _end = end;
            match work.serve(&stopped) {
                Err(error) if !is_interface_gone(&error) => Err(error.into()),
                Ok(()) | Err(_) => Ok(()),
            }
        };
        spawner.thread(format!("arp {}", port.name), thread).await;
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
    socket: ArpSocket,
    link: LinkIndex,
    on: Receiver,
    shared: Shared,
    /// The answer is built here.
    frame: Frame,
}

impl Work {
    fn serve(&mut self, stop: &PipeReader) -> io::Result<()> {
        let mut received = [0; RECEIVE_LEN];
        loop {
            match self.socket.receive(&mut received) {
                Ok(len) => self.take(received.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.socket.wait(stop)? {
                    Woken::Frame => {}
                    Woken::Stop => return Ok(()),
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, received: &[u8]) {
        let (header, arp) = match arp::parse(received) {
            Ok(parsed) => parsed,
            Err(malformed) => return self.shared.drops.malformed(malformed),
        };
        let table = self.shared.table.load();
        let Ok(outcome) = reply(&table, &self.on, header.destination, &arp) else { return self.shared.drops.foreign() };
        if let Some(assigned) = outcome.answer {
            answer(&self.socket, &mut self.frame, &self.on, assigned, &arp, &self.shared.drops);
        }
        let claimed = outcome.claim.map(|assigned| assigned.vip);
        if let Some(vip) = claimed.or_else(|| self.shared.heeded.load().answer(&self.on, header.destination, &arp)) {
            let claim = Claim { vip, mac: arp.sha, link: self.link };
            if !self.shared.claims.offer(claim) {
                self.shared.drops.claim();
            }
        }
    }
}

fn answer(socket: &ArpSocket, frame: &mut Frame, on: &Receiver, assigned: &Assigned, request: &Arp, drops: &FrameDrops) {
    let (header, answer) = arp::answer_to(request, on.mac);
    arp::emit(header, &answer, frame);
    if socket.send(frame).is_err() {
        return drops.unsent();
    }
    assigned.counters.note_answer(mooring_kit::clock::wall());
    debug!(
        event = logs::ARP_REQUEST, interface = %on.name, ip = %assigned.vip, senderIP = %request.spa, senderMAC = %request.sha, responseMAC = %on.mac,
        "got ARP request for service IP, sending response"
    );
}
