//! Frames as they are seen on a link, parsed.
//!
//! The parser here is the lab's own, so that it can disagree with the product's.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mooring_proto::types::node::MacAddress;
use pnet_datalink::{Channel, Config};

use super::Host;
use super::ndp::Ndp;

/// The EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;

/// What an ARP packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has it?
    Request,
    /// I have it.
    Reply,
}

/// An ARP packet for IPv4 on Ethernet (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// What it is for.
    pub operation: Operation,
    /// Sender hardware address.
    pub sha: MacAddress,
    /// Sender protocol address.
    pub spa: Ipv4Addr,
    /// Target hardware address.
    pub tha: MacAddress,
    /// Target protocol address.
    pub tpa: Ipv4Addr,
}

impl Arp {
    /// Reads a whole Ethernet frame; `None` if it is not ARP for IPv4.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let field = |from: usize, to: usize| frame.get(from..to);
        if field(12, 14)? != ETHERTYPE_ARP.to_be_bytes() || field(14, 20)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let operation = match field(20, 22)? {
            [0, 1] => Operation::Request,
            [0, 2] => Operation::Reply,
            _ => return None,
        };
        let mac = |from| field(from, from + 6)?.try_into().ok().map(MacAddress);
        let address = |from| <[u8; 4]>::try_from(field(from, from + 4)?).ok().map(Ipv4Addr::from);
        Some(Self { operation, sha: mac(22)?, spa: address(28)?, tha: mac(32)?, tpa: address(38)? })
    }

    /// Whether nobody asked for it: sender and target address are the same (RFC 5227 §2.3).
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.spa == self.tpa
    }
}

/// A whole Ethernet frame with an ARP packet, padded to the smallest size.
#[must_use]
pub fn build_arp(destination: MacAddress, arp: &Arp) -> Vec<u8> {
    let operation = match arp.operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    let mut frame = Vec::with_capacity(60);
    frame.extend(destination.0);
    frame.extend(arp.sha.0);
    frame.extend(ETHERTYPE_ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(arp.sha.0);
    frame.extend(arp.spa.octets());
    frame.extend(arp.tha.0);
    frame.extend(arp.tpa.octets());
    frame.resize(60, 0);
    frame
}

/// A frame and when it was seen.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When.
    pub at: Instant,
    /// Its bytes, from the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// Everything that reaches a host's interface, from the moment it begins.
#[derive(Debug)]
pub struct Capture {
    frames: Vec<Frame>,
    receiver: Receiver<Frame>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Capture {
    /// Begins at a host's `eth0`.
    ///
    /// # Errors
    /// The interface cannot be used.
    pub fn begin(host: &Host) -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let (ready, opened) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = host.netns().spawn(move || {
            let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == "eth0").context("no eth0")?;
            let config = Config { read_timeout: Some(Duration::from_millis(20)), ..Config::default() };
            let Channel::Ethernet(_, mut frames) = pnet_datalink::channel(&interface, config)? else { bail!("no Ethernet") };
            ready.send(())?;
            while !asked.load(Ordering::Relaxed) {
                match frames.next() {
                    Ok(bytes) => sender.send(Frame { at: now(), bytes: bytes.to_vec() })?,
                    Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })?;
        opened.recv().context("the capture did not begin")?;
        Ok(Self { frames: Vec::new(), receiver, stop, thread: Some(thread) })
    }

    /// All frames so far.
    pub fn frames(&mut self) -> &[Frame] {
        self.frames.extend(self.receiver.try_iter());
        &self.frames
    }

    /// All ARP packets so far, with when they were seen.
    pub fn timed_arps(&mut self) -> Vec<(Instant, Arp)> {
        self.frames().iter().filter_map(|frame| Some((frame.at, Arp::parse(&frame.bytes)?))).collect()
    }

    /// All neighbor solicitations and advertisements so far, with when they were seen.
    pub fn timed_ndps(&mut self) -> Vec<(Instant, Ndp)> {
        self.frames().iter().filter_map(|frame| Some((frame.at, Ndp::parse(&frame.bytes)?))).collect()
    }

    /// All neighbor solicitations and advertisements so far.
    pub fn ndps(&mut self) -> Vec<Ndp> {
        self.frames().iter().filter_map(|frame| Ndp::parse(&frame.bytes)).collect()
    }

    /// All ARP packets so far.
    pub fn arps(&mut self) -> Vec<Arp> {
        self.frames().iter().filter_map(|frame| Arp::parse(&frame.bytes)).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the wire, decides nothing")]
fn now() -> Instant {
    Instant::now()
}
