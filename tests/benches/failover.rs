//! How long an address is silent: whatever way its node, its speaker or the allocator is lost, and when a stranger has or takes it.
//!
//! `cargo bench --bench failover -- killed parted` loses nodes in those ways alone.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use mooring_proto::pb::DrainNodeRequest;
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::bench::{Samples, alone, now, spread, title};
use mooring_tests::lab::capture::{Arp, Operation, build_arp};
use mooring_tests::lab::cluster::nginx;
use mooring_tests::lab::host::PingReport;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{self, Mooring};
use mooring_tests::lab::{self, Lab};

const ONE_POOL: &str = include_str!("../../deploy/examples/metallb-config.yaml");
const NGINX_LB: &str = include_str!("../../deploy/examples/nginx-lb.yaml");
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// How many times each way.
const RUNS: u8 = 50;

/// A node drops what it has to say to the allocator, and the LAN is whole.
const PARTED: &str = "table ip parted { chain out { type filter hook output priority filter; ip daddr 172.17.0.2 drop; }; }";

/// A way to lose a node, or something of it, and to have it back.
struct Way {
    name: &'static str,
    lose: fn(&Lab, &mut Mooring, &str) -> Result<()>,
    restore: fn(&Lab, &mut Mooring, &str) -> Result<()>,
    /// Whether another node has the address afterwards, or may have it.
    moves: bool,
}

const PORT_DOWN: Way = Way {
    name: "node's port down",
    lose: |lab, _, node| lab.host(node).port_down(),
    restore: |lab, _, node| lab.host(node).port_up(),
    moves: true,
};

const KILLED: Way = Way {
    name: "speaker killed (kill -9)",
    lose: |_, mooring, node| mooring.speaker(node)?.kill_9(),
    restore: |_, mooring, node| mooring.speaker(node)?.restart(),
    moves: true,
};

const WAYS: [Way; 7] = [
    PORT_DOWN,
    KILLED,
    Way {
        name: "speaker told to end (SIGTERM)",
        lose: |_, mooring, node| mooring.speaker(node)?.terminate().map(drop),
        restore: |_, mooring, node| mooring.speaker(node)?.restart(),
        moves: true,
    },
    Way { name: "node drained", lose: |_, _, node| drain(node, false), restore: |_, _, node| drain(node, true), moves: true },
    Way {
        name: "allocator and node lost at once",
        lose: |lab, mooring, node| {
            mooring.allocator.kill_9()?;
            lab.host(node).port_down()
        },
        restore: |lab, mooring, node| {
            lab.host(node).port_up()?;
            mooring.allocator.restart()
        },
        moves: true,
    },
    Way {
        name: "speaker parted from the allocator",
        lose: |lab, _, node| lab.host(node).netns().run("nft", &[PARTED]),
        restore: |lab, _, node| lab.host(node).netns().run("nft", &["delete table ip parted"]),
        moves: true,
    },
    Way {
        name: "interface down for 100 ms",
        lose: |lab, _, node| {
            lab.host(node).port_down()?;
            wait(lab, 100)?;
            lab.host(node).port_up()
        },
        restore: |_, _, _| Ok(()),
        moves: false,
    },
];

fn main() -> Result<()> {
    lab::enter()?;
    title(&format!("Failover: the longest silence in a train of one question each 5 ms, {RUNS} times each way; p50, p99, max"));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |way: &&Way| wanted.is_empty() || wanted.iter().any(|part| way.name.contains(part));
    lose_nodes(&[], WAYS.iter().filter(is_wanted))?;
    if !wanted.is_empty() {
        return Ok(());
    }
    title("The same with --speaker-ttl 200ms --heartbeat 50ms");
    lose_nodes(&["--speaker-ttl", "200ms", "--heartbeat", "50ms"], [PORT_DOWN].iter())?;
    title(&format!("Strangers, {RUNS} addresses; p50, p99, max"));
    claim_addresses()?;
    hold_addresses()?;
    println!();
    Ok(())
}

fn drain(node: &str, cancel: bool) -> Result<()> {
    let request = DrainNodeRequest { node: node.to_owned(), cancel };
    workloads::operate(|mut client| async move { Ok(client.drain_node(request).await.map(drop)?) })
}

/// Lets time go by on the LAN.
fn wait(lab: &Lab, milliseconds: u64) -> Result<()> {
    lab.host("client").arp_all(Ipv4Addr::new(172, 17, 255, 254), millis(milliseconds)).map(drop)
}

fn lose_nodes<'a>(flags: &[&str], ways: impl Iterator<Item = &'a Way>) -> Result<()> {
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let _web = lab.nodes().map(|node| nginx(&lab, node, 8080)).collect::<Result<Vec<_>>>()?;
    let mut mooring = Mooring::on_directory_with(&lab, workloads::allocator(lab.folder())?.args(flags))?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    for way in ways {
        let (mut ping, mut arp, mut lost) = (Samples::default(), Samples::default(), 0);
        for _ in 0..RUNS {
            let (pings, arps) = lose_node(&lab, &mut mooring, way)?;
            ping.add(pings.gap);
            arp.add(arps.gap);
            lost += pings.lost;
        }
        spread(&format!("{}, ping", way.name), &ping);
        spread(&format!("{}, ARP", way.name), &arp);
        alone(&format!("{}, pings lost in all", way.name), f64::from(lost), "");
    }
    Ok(())
}

fn lose_node(lab: &Lab, mooring: &mut Mooring, way: &Way) -> Result<(PingReport, PingReport)> {
    let client = lab.host("client");
    let before = until(secs(10), "the VIP is announced, and another node stands by", || {
        let assignments = mooring.assignments()?;
        ensure!(assignments.iter().all(|found| !found.standby_node.is_empty()), "{assignments:?}");
        mooring.announcer("172.17.200.100")
    })?;
    until(secs(10), "one node answers", || one_answers(lab))?;
    let (pings, arps) = (client.ping_every(millis(5), VIP)?, client.arp_every(millis(5), VIP)?);
    wait(lab, 300)?;
    (way.lose)(lab, mooring, &before)?;
    until(secs(10), "another node answers", || {
        ensure!(!way.moves || client.arp(VIP)? != lab.host(&before).mac(), "still {before}");
        Ok(())
    })?;
    until(secs(10), "one node answers", || one_answers(lab))?;
    wait(lab, 300)?;
    let reports = (pings.finish()?, arps.finish()?);
    (way.restore)(lab, mooring, &before)?;
    mooring.wait_all_live()?;
    Ok(reports)
}

fn one_answers(lab: &Lab) -> Result<()> {
    // The train's own questions are answered meanwhile, too.
    let answers: BTreeSet<MacAddress> = lab.host("client").arp_all(VIP, millis(100))?.into_iter().collect();
    ensure!(answers.len() == 1, "{answers:?}");
    Ok(())
}

/// A pool of its own for each of the two kinds of strangers.
fn pool(range: &str) -> String {
    ONE_POOL.replace("172.17.200.100-172.17.200.125", range)
}

/// A machine says of one address after the other that it has it, once; the client's kernel believes it until the speaker defends.
fn claim_addresses() -> Result<()> {
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let mooring = Mooring::on_directory(&lab)?;
    let (client, stranger) = (lab.host("client"), lab.host("control"));
    mooring.apply("config.yaml", &pool("172.17.201.100-172.17.201.200"))?;
    let mut services = String::new();
    for number in 0..RUNS {
        writeln!(services, "{}---", NGINX_LB.replace("nginx-lb", &format!("s{number}")))?;
    }
    mooring.apply("services.yaml", &services)?;
    let (mut gaps, mut lost) = (Samples::default(), 0);
    for number in 0..RUNS {
        let vip = Ipv4Addr::new(172, 17, 201, 100 + number);
        let node = until(secs(10), "the VIP is announced", || mooring.announcer(&vip.to_string()))?;
        // What it said when it began may still be repeated.
        wait(&lab, 1_000)?;
        let pings = client.ping_every(millis(5), vip)?;
        wait(&lab, 100)?;
        let claim = Arp { operation: Operation::Request, sha: stranger.mac(), spa: vip, tha: MacAddress([0; 6]), tpa: vip };
        stranger.send_frames(vec![build_arp(MacAddress::BROADCAST, &claim)])?;
        wait(&lab, 200)?;
        ensure!(client.neighbor(vip)? == lab.host(&node).mac(), "the client sends {vip} to the stranger");
        let report = pings.finish()?;
        gaps.add(report.gap);
        lost += report.lost;
    }
    spread("a stranger claims the address, ping", &gaps);
    alone("a stranger claims the address, pings lost in all", f64::from(lost), "");
    Ok(())
}

/// A machine has the address that each new Service would get.
fn hold_addresses() -> Result<()> {
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let mooring = Mooring::on_directory(&lab)?;
    let (client, stranger) = (lab.host("client"), lab.host("control"));
    mooring.apply("config.yaml", &pool("172.17.201.100-172.17.201.250"))?;
    let mut answers = Samples::default();
    for number in 0..RUNS {
        let (held, next) = (Ipv4Addr::new(172, 17, 201, 100 + 2 * number), Ipv4Addr::new(172, 17, 201, 101 + 2 * number));
        stranger.netns().run("ip", &["address", "add", &format!("{held}/32"), "dev", "eth0"])?;
        let first = client.arp_until_answered(next)?;
        let (began, name) = (now(), format!("s{number}"));
        mooring.apply(&format!("{name}.yaml"), &NGINX_LB.replace("nginx-lb", &name))?;
        answers.add(first.join()?.saturating_duration_since(began));
        mooring.wait_status("default", &name, &next.to_string())?;
        let all = client.arp_all(held, millis(20))?;
        ensure!(all == [stranger.mac()], "{held} is answered by {all:?}");
    }
    spread("a stranger has the address: manifest to the next one's answer", &answers);
    Ok(())
}
