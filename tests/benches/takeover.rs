//! A speaker takes over ten thousand addresses at once: when each is first announced, how fast requests are answered meanwhile, and what the
//! speaker costs afterwards, when nothing happens.
//!
//! `cargo bench --bench takeover -- IPv6` measures what has that name.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::IntoRawFd as _;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mooring_proto::pb;
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::bench::{Samples, alone, compare, head, in_millis, micros, now, title};
use mooring_tests::lab::capture::{Arp, Operation, build_arp};
use mooring_tests::lab::ndp::{Ndp, SOLICITED};
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{allocator, inspect, speaker, watcher};
use mooring_tests::lab::{self, Host, Lab};
use nix::sys::socket::{setsockopt, sockopt};
use pnet_datalink::{Channel, Config, DataLinkReceiver, DataLinkSender};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

/// The addresses.
const VIPS: u32 = 10_000;
const FIRST: u32 = 0x0a01_0000;

/// How long everything is left alone after a takeover, so that its rounds are over.
const QUIET: Duration = Duration::from_secs(10);

/// Questions for the latency at rest.
const QUESTIONS: usize = 5_000;

/// How long idle costs are measured.
const IDLE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    lab::enter()?;
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for family in ["IPv4", "IPv6"] {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == family) {
            measure(family)?;
        }
    }
    println!();
    Ok(())
}

fn address(family: &str, bits: u32) -> IpAddr {
    let [a, b, c, d] = bits.to_be_bytes();
    if family == "IPv4" {
        Ipv4Addr::from(bits).into()
    } else {
        Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])).into()
    }
}

fn measure(family: &'static str) -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (control, first, second, client) = (lab.host("control"), lab.host("node-a"), lab.host("node-b"), lab.host("client"));
    let mut allocator = allocator(lab.folder())?.start(control)?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let manifests = lab.folder().join("manifests");
    std::fs::create_dir_all(&manifests)?;
    std::fs::write(manifests.join("all.yaml"), services(family)?)?;
    let source = format!("dir:{}", manifests.display());
    let _watcher = watcher()?.args(["--source", &source]).arg("--status-dir").arg(lab.folder().join("status")).start(control)?;
    let mut holder = speaker("node-a")?.start(first)?;
    until(secs(120), "the first speaker has all VIPs", || held_by("node-a"))?;
    // What comes has nothing, and stands by for all.
    let heir = speaker("node-b")?.start(second)?;
    until(secs(60), "the second speaker is known", || {
        let nodes = inspect(|mut client| async move { Ok(client.list_nodes(pb::ListNodesRequest::default()).await?.into_inner().nodes) })?;
        let standby: u32 = nodes.iter().filter(|node| node.name == "node-b").map(|node| node.standby).sum();
        ensure!(standby == VIPS, "{standby} of {VIPS}");
        Ok(())
    })?;
    let asker = Asker { family, mac: client.mac(), four: client.address(), six: client.address6(), station: second.mac() };
    let (ready, opened) = channel();
    let watching = client.netns().spawn(move || watch(asker, &ready))?;
    opened.recv().context("the client does not look on")?;
    // Before the kill, which waits until the process is gone: by then the other speaker may have begun.
    let killed = now();
    holder.kill_9()?;
    let Seen { announced, answers } = watching.join().map_err(|_panic| anyhow!("the client panicked"))??;
    ensure!(announced.len() == usize::try_from(VIPS)?, "{} of {VIPS} were announced", announced.len());
    // The rounds that follow are over, and the refreshes have drifted apart.
    client.arp_all(Ipv4Addr::from(FIRST - 1), QUIET)?;
    held_by("node-b")?;
    let calm = client.netns().within(move || ask(asker))?;
    let cpu = idle(client, heir.pid())?;
    let (memory, own) = (kilobytes(heir.pid(), "VmRSS:")? / 1024.0, kilobytes(heir.pid(), "RssAnon:")? / 1024.0);
    let (began, ended) = announced.values().min().zip(announced.values().max()).context("nothing was announced")?;
    title(&format!("{family}: a speaker takes over {VIPS} addresses"));
    alone("from the kill to the first gratuitous frame", in_millis(began.duration_since(killed)), "ms");
    alone("from that to the last address's first one", in_millis(ended.duration_since(*began)), "ms");
    head("meanwhile", "afterwards");
    for percent in [50, 99] {
        let what = format!("an answer by {}, p{percent}", if family == "IPv4" { "ARP" } else { "NDP" });
        compare(&what, micros(answers.percentile(percent)), micros(calm.percentile(percent)), "µs");
    }
    alone("answers meanwhile", f64::from(u32::try_from(answers.count())?), "");
    alone("at rest, of a core", cpu * 100.0, "%");
    alone("at rest, resident", memory, "MB");
    alone("of that besides the program itself", own, "MB");
    Ok(())
}

/// Whether a node announces all VIPs, by the allocator's word.
fn held_by(name: &str) -> Result<()> {
    let nodes = inspect(|mut client| async move { Ok(client.list_nodes(pb::ListNodesRequest::default()).await?.into_inner().nodes) })?;
    let held: u32 = nodes.iter().filter(|node| node.name == name).map(|node| node.active).sum();
    ensure!(held == VIPS, "{held} of {VIPS}");
    Ok(())
}

/// A pool and Services for all VIPs.
fn services(family: &str) -> Result<String> {
    let pools = format!(
        "address-pools: [{{name: p, protocol: layer2, addresses: [\"{}-{}\"]}}]",
        address(family, FIRST),
        address(family, FIRST + VIPS - 1)
    );
    let mut text =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config, namespace: metallb-system}}\ndata: {{config: {pools:?}}}\n");
    for number in 0..VIPS {
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{type: LoadBalancer, ipFamilies: [{family}], ports: [{{port: 80}}]}}\n"
        )?;
    }
    Ok(text)
}

/// Room for frames that wait.
const ROOM: usize = 64 << 20;

/// Longer than any takeover.
const LONGEST: Duration = Duration::from_secs(30);

/// Who asks whom, and how.
#[derive(Clone, Copy)]
struct Asker {
    family: &'static str,
    mac: MacAddress,
    four: Ipv4Addr,
    six: Ipv6Addr,
    station: MacAddress,
}

type Cable = (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>);

/// The client's cable, with room for a burst; it waits for a frame for so long.
fn cable(patience: Duration) -> Result<Cable> {
    let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == "eth0").context("no eth0")?;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM)?;
    let config = Config { socket_fd: Some(socket.into_raw_fd()), read_timeout: Some(patience), promiscuous: false, ..Config::default() };
    let Channel::Ethernet(sender, receiver) = pnet_datalink::channel(&interface, config)? else { bail!("no Ethernet") };
    Ok((sender, receiver))
}

impl Asker {
    fn question(&self) -> Vec<u8> {
        match address(self.family, FIRST) {
            IpAddr::V4(tpa) => {
                let request = Arp { operation: Operation::Request, sha: self.mac, spa: self.four, tha: MacAddress([0; 6]), tpa };
                build_arp(self.station, &request)
            }
            IpAddr::V6(target) => Ndp { to: self.station, destination: target, ..Ndp::solicitation(self.mac, self.six, target) }.build(),
        }
    }

    /// Whether a frame answers it.
    fn is_answer(&self, frame: &[u8]) -> bool {
        Arp::parse(frame).is_some_and(|arp| arp.operation == Operation::Reply && arp.sha == self.station && arp.tha == self.mac)
            || Ndp::parse(frame).is_some_and(|ndp| ndp.from == self.station && ndp.to == self.mac && ndp.flags & SOLICITED != 0)
    }

    /// The address that a frame of the station announces unasked.
    fn announced(&self, frame: &[u8]) -> Option<IpAddr> {
        let arp = Arp::parse(frame).filter(|arp| arp.is_gratuitous() && arp.sha == self.station).map(|arp| arp.spa.into());
        let ndp = || Ndp::parse(frame).filter(|ndp| ndp.is_gratuitous() && ndp.from == self.station).map(|ndp| ndp.target.into());
        arp.or_else(ndp)
    }
}

/// What a takeover looked like from the client.
#[derive(Default)]
struct Seen {
    /// When each address was first announced.
    announced: BTreeMap<IpAddr, Instant>,
    /// How long answers took, one question after the other.
    answers: Samples,
}

/// Looks on until all addresses are announced, and asks for the first of them from the moment it is.
fn watch(asker: Asker, ready: &Sender<()>) -> Result<Seen> {
    let (mut sender, mut receiver) = cable(Duration::from_millis(20))?;
    let (question, first) = (asker.question(), address(asker.family, FIRST));
    let (began, mut seen, mut asked) = (now(), Seen::default(), None::<Instant>);
    ready.send(())?;
    while seen.announced.len() < usize::try_from(VIPS)? && began.elapsed() < LONGEST {
        match receiver.next() {
            Ok(frame) => {
                if let Some(vip) = asker.announced(frame) {
                    seen.announced.entry(vip).or_insert_with(now);
                } else if asker.is_answer(frame)
                    && let Some(since) = asked.take()
                {
                    seen.answers.add(since.elapsed());
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error.into()),
        }
        if asked.is_none() && seen.announced.contains_key(&first) {
            asked = Some(now());
            sender.send_to(&question, None).context("no frame could be sent")??;
        }
    }
    Ok(seen)
}

/// The same questions when nothing else happens.
fn ask(asker: Asker) -> Result<Samples> {
    let (mut sender, mut receiver) = cable(secs(5))?;
    let (question, mut samples) = (asker.question(), Samples::default());
    for _ in 0..QUESTIONS {
        let began = now();
        sender.send_to(&question, None).context("no frame could be sent")??;
        while !asker.is_answer(receiver.next().context("an answer is missing")?) {}
        samples.add(began.elapsed());
    }
    Ok(samples)
}

/// The part of a core that a process needs while nothing happens.
fn idle(host: &Host, pid: u32) -> Result<f64> {
    let ticks = || -> Result<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let field = |number: usize| -> Result<u32> { Ok(fields.split_whitespace().nth(number).context("no times")?.parse()?) };
        Ok(field(11)? + field(12)?)
    };
    let (before, began) = (ticks()?, now());
    host.arp_all(Ipv4Addr::from(FIRST - 1), IDLE)?;
    // A tick is a hundredth of a second, by USER_HZ.
    Ok(f64::from(ticks()? - before) / 100.0 / began.elapsed().as_secs_f64())
}

/// A number of a process's status.
fn kilobytes(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
