//! How long an address is silent when its speaker is lost, in three ways.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use mooring_proto::pb::SpeakerLiveness;
use mooring_tests::lab::bench::{Samples, alone, in_millis, title};
use mooring_tests::lab::cluster::nginx;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{self, Lab};

const ONE_POOL: &str = include_str!("../../deploy/examples/metallb-config.yaml");
const NGINX_LB: &str = include_str!("../../deploy/examples/nginx-lb.yaml");
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// How many times each way.
const RUNS: usize = 20;

/// A way to lose a speaker, and to bring it back.
struct Way {
    name: &'static str,
    lose: fn(&Lab, &mut Mooring, &str) -> Result<()>,
    restore: fn(&Lab, &mut Mooring, &str) -> Result<()>,
}

fn main() -> Result<()> {
    lab::enter()?;
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let _web = lab.nodes().map(|node| nginx(&lab, node, 8080)).collect::<Result<Vec<_>>>()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    let restart = |_: &Lab, mooring: &mut Mooring, node: &str| mooring.speaker(node)?.restart();
    let ways = [
        Way { name: "node's port down", lose: |lab, _, node| lab.host(node).port_down(), restore: |lab, _, node| lab.host(node).port_up() },
        Way { name: "speaker killed (kill -9)", lose: |_, mooring, node| mooring.speaker(node)?.kill_9(), restore: restart },
        Way {
            name: "speaker told to end (SIGTERM)",
            lose: |_, mooring, node| mooring.speaker(node)?.terminate().map(drop),
            restore: restart,
        },
    ];
    title("Failover: the longest silence in a train of one question each 5 ms, 20 runs each way");
    for way in ways {
        let (mut ping, mut arp, mut lost) = (Samples::default(), Samples::default(), 0);
        for _ in 0..RUNS {
            let (pings, arps) = run(&lab, &mut mooring, &way)?;
            ping.add(pings.gap);
            arp.add(arps.gap);
            lost += pings.lost;
        }
        for (of, samples) in [("ping", ping), ("ARP", arp)] {
            for (name, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
                alone(&format!("{}, {of}, {name}", way.name), in_millis(samples.percentile(percent)), "ms");
            }
        }
        alone(&format!("{}, pings lost in all", way.name), f64::from(lost), "");
        println!();
    }
    Ok(())
}

fn run(lab: &Lab, mooring: &mut Mooring, way: &Way) -> Result<(lab::host::PingReport, lab::host::PingReport)> {
    let client = lab.host("client");
    let before = until(secs(10), "the VIP is announced", || mooring.announcer("172.17.200.100"))?;
    until(secs(10), "the VIP answers", || client.arp(VIP))?;
    let (pings, arps) = (client.ping_every(millis(5), VIP)?, client.arp_every(millis(5), VIP)?);
    client.arp_all(VIP, millis(300))?;
    (way.lose)(lab, mooring, &before)?;
    let after = until(secs(10), "another node announces", || {
        let node = mooring.announcer("172.17.200.100")?;
        ensure!(node != before, "still {node}");
        Ok(node)
    })?;
    until(secs(10), "the other node answers", || {
        ensure!(client.arp(VIP)? == lab.host(&after).mac());
        Ok(())
    })?;
    client.arp_all(VIP, millis(300))?;
    let reports = (pings.finish()?, arps.finish()?);
    (way.restore)(lab, mooring, &before)?;
    until(secs(10), "the node is back", || {
        let nodes = mooring.nodes()?;
        let node = nodes.iter().find(|node| node.name == before).context("no such node")?;
        ensure!(node.speakers.iter().any(|speaker| speaker.liveness() == SpeakerLiveness::Live), "{node:?}");
        Ok(())
    })?;
    Ok(reports)
}
