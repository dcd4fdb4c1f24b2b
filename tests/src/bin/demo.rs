//! The story, shown: three nodes on a LAN, Services from manifests in a directory, addresses that answer and move.
//!
//! Each step says what is done and what was seen for it on the wire; the program ends with success only if all of it held.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it is there to be read")]

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::capture::{Arp, Capture, Operation};
use mooring_tests::lab::cluster::{dns, nginx};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{ALLOCATOR, Mooring};
use mooring_tests::lab::{self, Lab};

const ONE_POOL: &str = include_str!("../../../deploy/examples/metallb-config.yaml");
const TWO_POOLS: &str = include_str!("../../../deploy/examples/metallb-config-two-pools.yaml");
const NGINX_LB: &str = include_str!("../../../deploy/examples/nginx-lb.yaml");
const NGINX_LB2: &str = include_str!("../../../deploy/examples/nginx-lb2.yaml");
const COREDNS_TCP: &str = include_str!("../../../deploy/examples/coredns-tcp.yaml");
const COREDNS_UDP: &str = include_str!("../../../deploy/examples/coredns-udp.yaml");

const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

fn main() -> Result<()> {
    lab::enter()?;
    let stay = std::env::args().any(|argument| argument == "--stay");
    step("A LAN of three nodes and a client, each with its own network; Mooring's three workloads on it");
    let lab = Lab::of_three_nodes()?;
    for host in ["control", "node-a", "node-b", "node-c", "client"].map(|name| lab.host(name)) {
        seen(&format!("{:<8} {:<13} {}", host.name(), host.address().to_string(), host.mac()));
    }
    let mut backends = Vec::new();
    for node in lab.nodes() {
        backends.extend([nginx(&lab, node, 8080)?, dns(node)?]);
    }
    let mut mooring = Mooring::on_directory(&lab)?;
    seen("allocator-svc and watcher-svc on control, speaker-svc on each node, nginx and a name server behind them");

    first_service(&lab, &mooring)?;
    second_pool(&lab, &mooring)?;
    shared_address(&lab, &mooring)?;
    node_dies(&lab, &mut mooring)?;
    step("All of it held");
    if stay { look_around(&mooring) } else { Ok(()) }
}

fn first_service(lab: &Lab, mooring: &Mooring) -> Result<()> {
    step("A pool 172.17.200.100-125 and a Service of type LoadBalancer: nginx-lb");
    let client = lab.host("client");
    let mut capture = Capture::begin(client)?;
    let began = now();
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    seen(&format!("status.loadBalancer.ingress: 172.17.200.100, {} ms after the manifest", began.elapsed().as_millis()));
    until(secs(5), "somebody answers ARP", || client.arp(VIP))?;
    for arp in capture.arps().iter().filter(|arp| arp.spa == VIP || arp.tpa == VIP).take(4) {
        seen(&line(lab, arp));
    }
    curl(lab, VIP)
}

fn second_pool(lab: &Lab, mooring: &Mooring) -> Result<()> {
    step("The ConfigMap gains a second pool, subnet-201, and nginx-lb2 asks for it by annotation");
    let before = mooring.announcer("172.17.200.100")?;
    let pings = lab.host("client").ping_every(millis(5), VIP)?;
    mooring.apply("config.yaml", TWO_POOLS)?;
    mooring.apply("nginx-lb2.yaml", NGINX_LB2)?;
    mooring.wait_status("default", "nginx-lb2", "172.17.201.100")?;
    let vip = Ipv4Addr::new(172, 17, 201, 100);
    until(secs(5), "the second address answers", || lab.host("client").arp(vip))?;
    seen("status.loadBalancer.ingress: 172.17.201.100");
    curl(lab, vip)?;
    let report = pings.finish()?;
    ensure!(report.lost == 0 && mooring.announcer("172.17.200.100")? == before, "nginx-lb was disturbed: {report:?}");
    seen(&format!("meanwhile nginx-lb: {} pings, none lost, still on {before}", report.sent));
    Ok(())
}

fn shared_address(lab: &Lab, mooring: &Mooring) -> Result<()> {
    step("coredns-tcp and coredns-udp have the same sharing key: one address, both protocols");
    mooring.apply("coredns-tcp.yaml", COREDNS_TCP)?;
    mooring.apply("coredns-udp.yaml", COREDNS_UDP)?;
    mooring.wait_status("kube-system", "coredns-tcp", "172.17.200.101")?;
    mooring.wait_status("kube-system", "coredns-udp", "172.17.200.101")?;
    seen("both have 172.17.200.101");
    for (name, tcp) in [("TCP", true), ("UDP", false)] {
        let answer =
            until(secs(5), "the name server answers", || lab.host("client").dig("172.17.200.101".parse()?, "web.lab.example", tcp))?;
        seen(&format!("dig @172.17.200.101 web.lab.example over {name}: {answer}"));
    }
    Ok(())
}

fn node_dies(lab: &Lab, mooring: &mut Mooring) -> Result<()> {
    let client = lab.host("client");
    let before = mooring.announcer("172.17.200.100")?;
    step(&format!("{before}, which announces nginx-lb, loses its power: no cable, no speaker"));
    let mut capture = Capture::begin(client)?;
    let pings = client.ping_every(millis(5), VIP)?;
    until(secs(5), "pings run", || client.arp(VIP))?;
    lab.host(&before).port_down()?;
    mooring.speaker(&before)?.kill_9()?;
    let after = until(secs(10), "another node announces", || {
        let node = mooring.announcer("172.17.200.100")?;
        ensure!(node != before, "still {node}");
        Ok(node)
    })?;
    until(secs(5), "the address answers again", || client.curl("http://172.17.200.100:8080/"))?;
    let report = pings.finish()?;
    let mac = lab.host(&after).mac();
    let first = capture.arps().into_iter().find(|arp| arp.is_gratuitous() && arp.spa == VIP && arp.sha == mac);
    seen(&line(lab, &first.context("no gratuitous ARP was seen")?));
    seen(&format!("{} of {} pings lost, one each 5 ms: a gap of {} ms", report.lost, report.sent, report.gap.as_millis()));
    curl(lab, VIP)?;
    // Without any failover the neighbor entry of the client would go on pointing to the dead node.
    ensure!(report.gap < Duration::from_secs(2), "the gap was {:?}", report.gap);
    Ok(())
}

fn curl(lab: &Lab, vip: Ipv4Addr) -> Result<()> {
    let url = format!("http://{vip}:8080/");
    let page = until(secs(5), "the page comes", || lab.host("client").curl(&url))?;
    seen(&format!("client$ curl {url}  ->  {}", page.trim()));
    Ok(())
}

/// A packet as tcpdump would print it.
fn line(lab: &Lab, arp: &Arp) -> String {
    let sender = ["node-a", "node-b", "node-c", "client"].into_iter().find(|name| lab.host(name).mac() == arp.sha).unwrap_or("?");
    let kind = if arp.is_gratuitous() { "gratuitous " } else { "" };
    match arp.operation {
        Operation::Request => format!("on the wire: {kind}ARP request from {sender} {}: who has {}? tell {}", arp.sha, arp.tpa, arp.spa),
        Operation::Reply => format!("on the wire: {kind}ARP reply from {sender}: {} is at {}", arp.spa, arp.sha),
    }
}

/// Says how to look around. The first lines are for the shell; the others work once it has them.
fn look_around(mooring: &Mooring) -> Result<()> {
    let [lab, on] = lab::ways_in();
    step("It stays up until you press Enter. In another terminal, in the folder of the project, first:");
    println!("  {lab}");
    println!("  {on}");
    println!("  manifests={}", lab::from_outside(&mooring.manifest("")));
    println!("  status={}", lab::from_outside(&mooring.status_folder()));
    let binaries = lab::binary("allocator-svc")?.with_file_name("");
    let path = format!("{}:$(tests/tools/build):$PATH", binaries.display());
    println!("  export PATH={path}   # and grpcurl, if you have none: builds it with the control plane of `make test`");
    step("and then, for example:");
    println!("  on client curl http://172.17.200.100:8080/");
    println!("  lab grpcurl -plaintext {ALLOCATOR} list");
    println!("  lab grpcurl -plaintext {ALLOCATOR} mooring.v1.InspectService/ListAssignments");
    let node = mooring.announcer("172.17.200.100")?;
    println!("  on {node} grpcurl -plaintext 127.0.0.1:7471 mooring.v1.AnnouncementService/ListAnnouncements");
    println!("  lab curl http://172.17.0.2:7472/metrics        # the allocator's; 7473 is the watcher's");
    println!("  ls $manifests                                  # followed as you change them");
    println!("  cat $status/events.jsonl");
    let mut pressed = [0];
    let _end_of_input = std::io::stdin().read(&mut pressed)?;
    Ok(())
}

fn step(text: &str) {
    println!("\n== {text}");
}

fn seen(text: &str) {
    println!("   {text}");
}

#[expect(clippy::disallowed_methods, reason = "shows how long a step took")]
fn now() -> Instant {
    Instant::now()
}
