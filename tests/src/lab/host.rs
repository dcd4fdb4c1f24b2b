//! A host on the LAN: it resolves, pings, fetches and asks as any machine does.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use mooring_proto::types::node::MacAddress;
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};
use socket2::{Domain, Protocol, Socket, Type};

use super::capture::{Arp, Operation, build_arp};
use super::netns::Netns;
use super::{VIP_RANGES, run};

/// A host with one interface, `eth0`, on the LAN.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    netns: Netns,
}

impl Drop for Host {
    /// Pulls the cable out for good; its name is free at once, though the namespace may live until its last process has ended.
    fn drop(&mut self) {
        drop(run("ip", &["link", "delete", &self.port()]));
    }
}

impl Host {
    /// Plugs a new host into the bridge. Its hardware address ends in the last byte of its address.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(name: &str, address: Ipv4Addr) -> Result<Self> {
        let netns = Netns::new(name)?;
        let host = Self { name: name.to_owned(), address, netns };
        // Until its link-local address is sure of itself a kernel asks for no neighbor in the name of a VIP that it only takes as its own.
        for of in ["all", "default"] {
            host.netns.run("sh", &["-c", &format!("echo 0 > /proc/sys/net/ipv6/conf/{of}/accept_dad")])?;
        }
        let (port, mac) = (host.port(), host.mac().to_string());
        run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "address", &mac, "netns", name])?;
        run("ip", &["link", "set", &port, "master", "br0", "up"])?;
        for setting in ["all/arp_ignore=1", "all/arp_announce=2", "all/rp_filter=0", "default/rp_filter=0", "all/forwarding=1"] {
            let (key, value) = setting.split_once('=').unwrap_or((setting, "1"));
            let write = format!("echo {value} > /proc/sys/net/ipv4/conf/{key}");
            host.netns.run("sh", &["-c", &write])?;
        }
        host.netns.run("ip", &["address", "add", &format!("{address}/16"), "dev", "eth0"])?;
        host.netns.run("ip", &["address", "add", &format!("{}/64", host.address6()), "dev", "eth0", "nodad"])?;
        host.netns.run("ip", &["link", "set", "eth0", "up"])?;
        host.netns.run("ip", &["route", "add", "default", "via", &super::BRIDGE.to_string()])?;
        Ok(host)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the LAN.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its IPv6 address on the LAN: the same last byte.
    #[must_use]
    pub fn address6(&self) -> Ipv6Addr {
        let [.., last] = self.address.octets();
        Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, u16::from(last))
    }

    /// The hardware address of its `eth0`.
    #[must_use]
    pub fn mac(&self) -> MacAddress {
        let [_, _, third, fourth] = self.address.octets();
        MacAddress([0x02, 0, 0, 0, third, fourth])
    }

    /// Its network namespace.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The bridge's end of its cable.
    #[must_use]
    pub fn port(&self) -> String {
        format!("p-{}", self.name)
    }

    /// Pulls its cable out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port_down(&self) -> Result<()> {
        run("ip", &["link", "set", &self.port(), "down"])
    }

    /// Plugs its cable in.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn port_up(&self) -> Result<()> {
        run("ip", &["link", "set", &self.port(), "up"])
    }

    /// Lets the bridge pass nothing to or from it, without its noticing: its cable stays as it is (`BR_STATE_DISABLED`, linux/if_bridge.h).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn cut_off(&self) -> Result<()> {
        run("bridge", &["link", "set", "dev", &self.port(), "state", "0"])
    }

    /// Lets the bridge pass its frames again (`BR_STATE_FORWARDING`).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn let_through(&self) -> Result<()> {
        run("bridge", &["link", "set", "dev", &self.port(), "state", "3"])
    }

    /// Takes what arrives for a VIP as its own: Mooring only attracts frames, and without a kube-proxy the lab does the rest. The
    /// kernel never answers ARP for these addresses, as they are on no interface (`arp_ignore` is 1), and neighbor solicitations neither.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn serve_vips(&self) -> Result<()> {
        for range in VIP_RANGES {
            self.netns.run("ip", &["route", "add", "local", range, "dev", "lo", "table", "local"])?;
        }
        Ok(())
    }

    /// Takes nothing any more that arrives for a VIP: what answers then is kube-proxy's doing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn leave_vips(&self) -> Result<()> {
        for range in VIP_RANGES {
            self.netns.run("ip", &["route", "delete", "local", range, "dev", "lo", "table", "local"])?;
        }
        Ok(())
    }

    /// The hardware address that its kernel would send to for a neighbor.
    ///
    /// # Errors
    /// It knows none.
    pub fn neighbor(&self, address: impl Into<IpAddr>) -> Result<MacAddress> {
        let address = address.into();
        let entry = self.netns.output("ip", &["neighbor", "show", &address.to_string()])?;
        let mac = entry.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
        mac.and_then(|mac| mac.parse().ok()).with_context(|| format!("no neighbor {address}: {entry:?}"))
    }

    /// Asks by ARP who has an address, and returns everybody who answers within the time.
    ///
    /// # Errors
    /// The interface cannot be used.
    pub fn arp_all(&self, target: Ipv4Addr, wait: Duration) -> Result<Vec<MacAddress>> {
        let (mac, address) = (self.mac(), self.address);
        self.netns.within(move || arp(mac, address, target, wait, usize::MAX))
    }

    /// Asks by ARP who has an address; the first answer within a second.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn arp(&self, target: Ipv4Addr) -> Result<MacAddress> {
        let (mac, address) = (self.mac(), self.address);
        let answers = self.netns.within(move || arp(mac, address, target, Duration::from_secs(1), 1))?;
        answers.first().copied().with_context(|| format!("nobody answers ARP for {target}"))
    }

    /// Asks with `ndisc6` who has an address, and returns everybody who answers within the time.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn ndisc6_all(&self, target: Ipv6Addr, wait: Duration) -> Result<Vec<MacAddress>> {
        let (wait, target) = (wait.as_millis().to_string(), target.to_string());
        // It ends with 2 if nobody answers.
        let asked = self.netns.command("ndisc6").args(["-m", "-n", "-q", "-r", "1", "-w", &wait, &target, "eth0"]).output()?;
        if !matches!(asked.status.code(), Some(0 | 2)) {
            bail!("ndisc6: {}: {}", asked.status, String::from_utf8_lossy(&asked.stderr));
        }
        let told = String::from_utf8_lossy(&asked.stdout);
        told.split_whitespace().map(|mac| mac.to_lowercase().parse().with_context(|| format!("ndisc6: {told}"))).collect()
    }

    /// Asks with `ndisc6` who has an address; the first answer within a second.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn ndisc6(&self, target: Ipv6Addr) -> Result<MacAddress> {
        let asked = ["-1", "-n", "-q", "-r", "1", "-w", "1000", &target.to_string(), "eth0"];
        let told = self.netns.output("ndisc6", &asked).with_context(|| format!("nobody answers solicitations for {target}"))?;
        told.trim().to_lowercase().parse().with_context(|| format!("ndisc6: {told}"))
    }

    /// Begins to ask by ARP for an address at an interval; the report counts answers as it does those to pings.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn arp_every(&self, interval: Duration, target: Ipv4Addr) -> Result<Pings> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let (mac, address) = (self.mac(), self.address);
        let thread = self.netns.spawn(move || arp_train(mac, address, target, interval, &asked))?;
        Ok(Pings { stop, thread })
    }

    /// Begins to ask by ARP for an address, once a millisecond, until somebody answers.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn arp_until_answered(&self, target: Ipv4Addr) -> Result<FirstAnswer> {
        let (mac, address) = (self.mac(), self.address);
        Ok(FirstAnswer(self.netns.spawn(move || first_answer(mac, address, target))?))
    }

    /// Sends frames as they are.
    ///
    /// # Errors
    /// The interface cannot be used.
    pub fn send_frames(&self, frames: Vec<Vec<u8>>) -> Result<()> {
        self.netns.within(move || {
            let (mut sender, _) = cable(Duration::from_millis(1))?;
            frames.iter().try_for_each(|frame| Ok(sender.send_to(frame, None).context("no frame could be sent")??))
        })
    }

    /// Fetches a page with curl.
    ///
    /// # Errors
    /// Nobody answers within two seconds, or not with success.
    pub fn curl(&self, url: &str) -> Result<String> {
        super::output_of(self.netns.command("curl").args(["--silent", "--show-error", "--fail", "--max-time", "2", url]))
    }

    /// Asks a name server for the address of a name.
    ///
    /// # Errors
    /// No answer within two seconds.
    pub fn dig(&self, server: IpAddr, name: &str, tcp: bool) -> Result<String> {
        let transport = if tcp { "+tcp" } else { "+notcp" };
        let answer =
            super::output_of(self.netns.command("dig").args([&format!("@{server}"), name, transport, "+short", "+time=1", "+tries=1"]))?;
        if answer.trim().is_empty() { bail!("{server} does not know {name}") } else { Ok(answer.trim().to_owned()) }
    }

    /// Begins to ping an address at an interval.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn ping_every(&self, interval: Duration, target: impl Into<IpAddr>) -> Result<Pings> {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, target) = (Arc::clone(&stop), target.into());
        let thread = self.netns.spawn(move || ping(target, interval, &asked))?;
        Ok(Pings { stop, thread })
    }
}

/// A socket on the host's cable that waits so long for a frame.
fn cable(wait: Duration) -> Result<(Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>)> {
    let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == "eth0").context("no eth0")?;
    let config = Config { read_timeout: Some(wait), promiscuous: false, ..Config::default() };
    let Channel::Ethernet(sender, receiver) = pnet_datalink::channel(&interface, config)? else { bail!("no Ethernet") };
    Ok((sender, receiver))
}

fn who_has(mac: MacAddress, address: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    build_arp(MacAddress::BROADCAST, &Arp { operation: Operation::Request, sha: mac, spa: address, tha: MacAddress([0; 6]), tpa: target })
}

fn arp(mac: MacAddress, address: Ipv4Addr, target: Ipv4Addr, wait: Duration, enough: usize) -> Result<Vec<MacAddress>> {
    let (mut sender, mut receiver) = cable(Duration::from_millis(5))?;
    sender.send_to(&who_has(mac, address, target), None).context("no frame could be sent")??;
    let began = clock();
    let mut answers = Vec::new();
    while answers.len() < enough && began.elapsed() < wait {
        match receiver.next() {
            Ok(frame) => {
                let reply = Arp::parse(frame).filter(|arp| arp.operation == Operation::Reply && arp.spa == target && arp.tha == mac);
                answers.extend(reply.map(|arp| arp.sha));
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answers)
}

/// An answer that is waited for.
#[derive(Debug)]
pub struct FirstAnswer(JoinHandle<Result<Instant>>);

/// How long a first answer is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

impl FirstAnswer {
    /// When it came.
    ///
    /// # Errors
    /// It did not within 10 s.
    pub fn join(self) -> Result<Instant> {
        self.0.join().map_err(|_panic| anyhow!("the ARP requests panicked"))?
    }
}

/// Asks once a millisecond until somebody answers, on one socket: to close one takes longer than to ask.
fn first_answer(mac: MacAddress, address: Ipv4Addr, target: Ipv4Addr) -> Result<Instant> {
    let (mut sender, mut receiver) = cable(Duration::from_millis(1))?;
    let request = who_has(mac, address, target);
    let (began, mut asked) = (clock(), 0u32);
    while began.elapsed() < FIRST_ANSWER {
        if began.elapsed() >= Duration::from_millis(1) * asked {
            sender.send_to(&request, None).context("no frame could be sent")??;
            asked += 1;
        }
        match receiver.next() {
            Ok(frame) if is_answer(frame, mac, target) => return Ok(clock()),
            Err(error) if !matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    bail!("nobody answers ARP for {target}")
}

fn is_answer(frame: &[u8], mac: MacAddress, target: Ipv4Addr) -> bool {
    Arp::parse(frame).is_some_and(|arp| arp.operation == Operation::Reply && arp.spa == target && arp.tha == mac)
}

/// Asks at an even pace and notes when answers come.
fn arp_train(mac: MacAddress, address: Ipv4Addr, target: Ipv4Addr, interval: Duration, stop: &AtomicBool) -> Result<PingReport> {
    let (mut sender, mut receiver) = cable(Duration::from_micros(500))?;
    let request = who_has(mac, address, target);
    let began = clock();
    let (mut sent, mut answered, mut last, mut gap) = (0u32, 0u32, None::<Instant>, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        if began.elapsed() >= interval * sent {
            sender.send_to(&request, None).context("no frame could be sent")??;
            sent += 1;
        }
        match receiver.next() {
            Ok(frame) => {
                if is_answer(frame, mac, target) {
                    answered += 1;
                    let now = clock();
                    if let Some(last) = last.replace(now) {
                        gap = gap.max(now.duration_since(last).saturating_sub(interval));
                    }
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(PingReport { sent, lost: sent.saturating_sub(answered), gap })
}

/// Pings that are under way.
#[derive(Debug)]
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<PingReport>>,
}

impl Pings {
    /// Ends them and says what was seen.
    ///
    /// # Errors
    /// The socket failed.
    pub fn finish(self) -> Result<PingReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_panic| anyhow!("the pings panicked"))?
    }
}

/// What a train of pings saw.
#[derive(Clone, Debug)]
pub struct PingReport {
    /// How many were sent.
    pub sent: u32,
    /// How many were not answered.
    pub lost: u32,
    /// The longest time between two answers, less the interval.
    pub gap: Duration,
}

/// How long an answer is waited for after the last ping.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// Sends numbered echo requests (RFC 792, RFC 4443 §4) at an even pace and notes when each is answered. A ping that the kernel cannot send, as it
/// does not know the neighbor, is a lost one.
fn ping(target: IpAddr, interval: Duration, stop: &AtomicBool) -> Result<PingReport> {
    let (domain, protocol, last) = match target {
        IpAddr::V4(address) => (Domain::IPV4, Protocol::ICMPV4, address.octets()[3]),
        IpAddr::V6(address) => (Domain::IPV6, Protocol::ICMPV6, address.octets()[15]),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default() ^ u16::from(last);
    let peer = SocketAddr::new(target, 0).into();
    // By IPv6 the kernel leaves the header away; what only the target is asked comes from it alone.
    if target.is_ipv6() {
        socket.connect(&peer)?;
    }
    let began = clock();
    let (mut sent, mut answered) = (0u32, std::collections::BTreeSet::new());
    let (mut last_answer, mut gap) = (None::<Instant>, Duration::ZERO);
    let mut finishing = None::<Instant>;
    loop {
        let now = clock();
        if finishing.is_none() && stop.load(Ordering::Relaxed) {
            finishing = Some(now);
        }
        if finishing.is_some_and(|since| since.elapsed() > LAST_ANSWER) {
            break;
        }
        if finishing.is_none() && began.elapsed() >= interval * sent {
            let packet = echo_request(target, identifier, sent);
            if let Err(error) = socket.send_to(&packet, &peer)
                && !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
            {
                return Err(error).context("could not send a ping");
            }
            sent += 1;
        }
        let next = began + interval * sent;
        socket.set_read_timeout(Some(next.saturating_duration_since(clock()).clamp(Duration::from_micros(200), interval)))?;
        let mut buffer = [0; 256];
        if let Ok(length) = socket.read(&mut buffer)
            && let Some(number) = buffer.get(..length).and_then(|packet| echo_reply(packet, identifier, target))
        {
            let now = clock();
            if let Some(last) = last_answer.replace(now) {
                gap = gap.max(now.duration_since(last).saturating_sub(interval));
            }
            answered.insert(number);
        }
    }
    if let (Some(last), Some(end)) = (last_answer, finishing) {
        gap = gap.max(end.saturating_duration_since(last).saturating_sub(interval));
    }
    let answered = u32::try_from(answered.len()).unwrap_or(u32::MAX);
    Ok(PingReport { sent, lost: sent.saturating_sub(answered), gap })
}

#[expect(clippy::disallowed_methods, reason = "measures the wire, decides nothing")]
fn clock() -> Instant {
    Instant::now()
}

/// Of IPv6 the kernel makes the checksum.
fn echo_request(target: IpAddr, identifier: u16, number: u32) -> Vec<u8> {
    let mut packet = vec![if target.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(u16::try_from(number & 0xffff).unwrap_or_default().to_be_bytes());
    packet.extend(number.to_be_bytes());
    let sum = packet.chunks(2).fold(0u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX);
    for (byte, sum) in packet.iter_mut().skip(2).zip(checksum.to_be_bytes()) {
        *byte = sum;
    }
    packet
}

/// The number of the ping that a packet answers, if it does.
fn echo_reply(packet: &[u8], identifier: u16, target: IpAddr) -> Option<u32> {
    let (icmp, kind) = match target {
        IpAddr::V4(address) => {
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            (packet.get(usize::from(packet.first()? & 0x0f) * 4..).filter(|_| Ipv4Addr::from(source) == address)?, 0)
        }
        IpAddr::V6(_) => (packet, 129),
    };
    let ours = icmp.first() == Some(&kind) && icmp.get(4..6)? == identifier.to_be_bytes();
    let number: [u8; 4] = icmp.get(8..12)?.try_into().ok()?;
    ours.then(|| u32::from_be_bytes(number))
}
