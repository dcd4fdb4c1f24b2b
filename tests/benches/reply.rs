//! ARP answers of a speaker against those of the kernel's own responder, for the same number of addresses.
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mooring_proto::pb;
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::bench::{Samples, compare, head, micros, now, rate, title};
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{allocator, inspect, speaker, watcher};
use mooring_tests::lab::{self, Host, Lab};
use pnet_datalink::{Channel, Config};
use serde_json::json;

/// Requests of each side, in turn, for the latency.
const REQUESTS: usize = 20_000;

/// Rounds of flooding of each side, in turn, and how long one lasts.
const ROUNDS: usize = 4;
const FLOOD: Duration = Duration::from_secs(1);

/// The speaker's first address, and the kernel's.
const OURS: u32 = 0x0a01_0000;
const PEERS: u32 = 0x0a02_0000;

fn main() -> Result<()> {
    lab::enter()?;
    for vips in [10u32, 10_000] {
        measure(vips)?;
    }
    println!();
    Ok(())
}

fn measure(vips: u32) -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (control, node, kernel, client) = (lab.host("control"), lab.host("node-a"), lab.host("node-b"), lab.host("client"));
    let mut addresses = String::new();
    for number in 0..vips {
        writeln!(addresses, "address add {}/32 dev eth0", Ipv4Addr::from(PEERS + number))?;
    }
    let batch = lab.folder().join("addresses");
    std::fs::write(&batch, addresses)?;
    kernel.netns().run("ip", &["-batch", batch.to_str().context("a path that is not text")?])?;

    let mut allocator = allocator(lab.folder())?.start(control)?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let manifests = lab.folder().join("manifests");
    std::fs::create_dir_all(&manifests)?;
    std::fs::write(manifests.join("all.yaml"), services(vips)?)?;
    let source = format!("dir:{}", manifests.display());
    let _watcher = watcher()?.args(["--source", &source]).arg("--status-dir").arg(lab.folder().join("status")).start(control)?;
    let _speaker = speaker("node-a")?.start(node)?;
    until(secs(120), "all VIPs are announced", || {
        let request = pb::ListNodesRequest::default();
        let nodes = inspect(|mut client| async move { Ok(client.list_nodes(request).await?.into_inner().nodes) })?;
        let held: u32 = nodes.iter().map(|node| node.active).sum();
        ensure!(held == vips, "{held} of {vips}");
        client.arp(Ipv4Addr::from(OURS + vips - 1)).map(drop)
    })?;
    // The bursts of gratuitous packets are over before anything is measured.
    let mut capture = Capture::begin(client)?;
    let mut seen = usize::MAX;
    until(secs(60), "no more gratuitous packets", || {
        let before = std::mem::replace(&mut seen, capture.arps().len());
        client.arp_all(Ipv4Addr::from(OURS - 1), secs(2))?;
        ensure!(capture.arps().len() <= before.saturating_add(5).min(seen.saturating_add(5)), "still some");
        Ok(())
    })?;
    drop(capture);

    let sides = [Side::new(node, OURS, vips), Side::new(kernel, PEERS, vips)];
    let (mac, address) = (client.mac(), client.address());
    let [ours, peers] = client.netns().within(move || latencies(mac, address, sides))?;
    let mut floods = [0.0, 0.0];
    for _ in 0..ROUNDS {
        for (side, total) in sides.into_iter().zip(&mut floods) {
            *total += client.netns().within(move || flood(mac, address, side))? / f64::from(u32::try_from(ROUNDS)?);
        }
    }
    title(&format!("ARP answers with {vips} addresses, against the kernel's own"));
    head("speaker", "kernel");
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        compare(&format!("one request at a time, {name}"), micros(ours.percentile(percent)), micros(peers.percentile(percent)), "µs");
    }
    let [speaker, kernel] = floods;
    compare("flood, answers", speaker, kernel, "/s");
    Ok(())
}

/// A pool and Services for all VIPs.
fn services(vips: u32) -> Result<String> {
    let (first, last) = (Ipv4Addr::from(OURS), Ipv4Addr::from(OURS + vips - 1));
    let pools = format!("address-pools: [{{name: p, protocol: layer2, addresses: [{first}-{last}]}}]");
    let mut text =
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: config, namespace: metallb-system}}\ndata: {{config: {pools:?}}}\n");
    for number in 0..vips {
        write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
        )?;
    }
    Ok(text)
}

/// One of the two that answer.
#[derive(Clone, Copy)]
struct Side {
    mac: MacAddress,
    first: u32,
    count: u32,
}

impl Side {
    fn new(host: &Host, first: u32, count: u32) -> Self {
        Self { mac: host.mac(), first, count }
    }

    /// A unicast request for one of its addresses, so that nobody else is asked.
    fn request(&self, mac: MacAddress, address: Ipv4Addr, number: u32) -> Vec<u8> {
        // A stride that visits every address, far from the last one.
        let tpa = Ipv4Addr::from(self.first + number.wrapping_mul(7919) % self.count);
        build_arp(self.mac, &Arp { operation: Operation::Request, sha: mac, spa: address, tha: MacAddress([0; 6]), tpa })
    }
}

fn channel() -> Result<(Box<dyn pnet_datalink::DataLinkSender>, Box<dyn pnet_datalink::DataLinkReceiver>)> {
    let interface = pnet_datalink::interfaces().into_iter().find(|interface| interface.name == "eth0").context("no eth0")?;
    let config = Config { read_timeout: Some(Duration::from_millis(50)), promiscuous: false, ..Config::default() };
    let Channel::Ethernet(sender, receiver) = pnet_datalink::channel(&interface, config)? else { bail!("no Ethernet") };
    Ok((sender, receiver))
}

fn latencies(mac: MacAddress, address: Ipv4Addr, sides: [Side; 2]) -> Result<[Samples; 2]> {
    let (mut sender, mut receiver) = channel()?;
    let mut samples = [Samples::default(), Samples::default()];
    for number in 0..u32::try_from(REQUESTS)? {
        for (side, samples) in sides.iter().zip(&mut samples) {
            let request = side.request(mac, address, number);
            let began = now();
            sender.send_to(&request, None).context("no frame could be sent")??;
            loop {
                let answer = Arp::parse(receiver.next().context("an answer is missing")?);
                if answer.is_some_and(|arp| arp.operation == Operation::Reply && arp.sha == side.mac) {
                    break;
                }
            }
            samples.add(began.elapsed());
        }
    }
    Ok(samples)
}

/// Answers a second to as many requests as one thread can send.
fn flood(mac: MacAddress, address: Ipv4Addr, side: Side) -> Result<f64> {
    let (mut sender, mut receiver) = channel()?;
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (asked, counted) = (Arc::clone(&stop), Arc::clone(&answers));
    let count = move || {
        while !asked.load(Ordering::Relaxed) {
            if receiver.next().ok().and_then(Arp::parse).is_some_and(|arp| arp.operation == Operation::Reply && arp.sha == side.mac) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let thread = std::thread::Builder::new().name("answers".to_owned()).spawn(count)?;
    let requests: Vec<Vec<u8>> = (0..side.count).map(|number| side.request(mac, address, number)).collect();
    let began = now();
    let mut next = requests.iter().cycle();
    while began.elapsed() < FLOOD {
        for request in next.by_ref().take(64) {
            // A full queue drops, as a wire does.
            drop(sender.send_to(request, None));
        }
    }
    let answered = answers.load(Ordering::Relaxed);
    let time = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    ensure!(thread.join().is_ok(), "the counting thread panicked");
    Ok(rate(answered, time))
}
