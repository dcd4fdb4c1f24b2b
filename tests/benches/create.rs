//! From a Service's manifest to the first ARP answer for its address.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use mooring_tests::lab::bench::{Samples, now, spread, title};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{self, Lab};

const ONE_POOL: &str = include_str!("../../deploy/examples/metallb-config.yaml");
const NGINX_LB: &str = include_str!("../../deploy/examples/nginx-lb.yaml");
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// How many Services, one after the other.
const RUNS: u8 = 100;

fn main() -> Result<()> {
    lab::enter()?;
    title(&format!("A Service's manifest appears in the directory, {RUNS} times; p50, p99, max"));
    again()?;
    anew()?;
    println!();
    Ok(())
}

/// One address after the other that Mooring knows for its own: each Service goes before the next one comes.
fn again() -> Result<()> {
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    let (mut status, mut answer) = (Samples::default(), Samples::default());
    for number in 0..RUNS {
        let name = format!("s{number}");
        let [shown, answered] = create(&lab, &mooring, &name, VIP)?;
        status.add(shown);
        answer.add(answered);
        mooring.delete(&format!("{name}.yaml"))?;
        until(secs(5), "the address is free and silent", || {
            ensure!(mooring.leases()?.is_empty(), "the lease is still there");
            ensure!(lab.host("client").arp_all(VIP, millis(20))?.is_empty(), "it still answers");
            Ok(())
        })?;
    }
    spread("address in its status", &status);
    spread("first ARP answer for an address that Mooring has held", &answer);
    Ok(())
}

/// Each Service has a new address, which is asked for first.
fn anew() -> Result<()> {
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", &ONE_POOL.replace("172.17.200.100-172.17.200.125", "172.17.201.1-172.17.201.250"))?;
    let mut answer = Samples::default();
    for number in 1..=RUNS {
        let [_, answered] = create(&lab, &mooring, &format!("s{number}"), Ipv4Addr::new(172, 17, 201, number))?;
        answer.add(answered);
    }
    spread("first ARP answer for an address that is asked for first", &answer);
    Ok(())
}

/// From the manifest of a Service to its status, and to the first answer for its address.
fn create(lab: &Lab, mooring: &Mooring, name: &str, vip: Ipv4Addr) -> Result<[Duration; 2]> {
    let arps = lab.host("client").arp_until_answered(vip)?;
    let began = now();
    mooring.apply(&format!("{name}.yaml"), &NGINX_LB.replace("nginx-lb", name))?;
    mooring.wait_status("default", name, &vip.to_string())?;
    let shown = began.elapsed();
    Ok([shown, arps.join()?.saturating_duration_since(began)])
}
