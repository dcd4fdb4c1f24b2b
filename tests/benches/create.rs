//! From a Service's manifest to the first ARP answer for its address.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use mooring_tests::lab::bench::{Samples, now, spread, title};
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{self, Lab};

const ONE_POOL: &str = include_str!("../../deploy/examples/metallb-config.yaml");
const NGINX_LB: &str = include_str!("../../deploy/examples/nginx-lb.yaml");
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// How many Services, one after the other.
const RUNS: usize = 100;

fn main() -> Result<()> {
    lab::enter()?;
    let lab = Lab::of_three_nodes()?.on_disk(env!("CARGO_TARGET_TMPDIR"))?;
    let mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    let (mut status, mut answer) = (Samples::default(), Samples::default());
    for number in 0..RUNS {
        let name = format!("s{number}");
        let manifest = NGINX_LB.replace("nginx-lb", &name);
        let arps = lab.host("client").arp_until_answered(VIP)?;
        let began = now();
        mooring.apply("service.yaml", &manifest)?;
        mooring.wait_status("default", &name, "172.17.200.100")?;
        status.add(began.elapsed());
        answer.add(arps.join()?.saturating_duration_since(began));
        mooring.delete("service.yaml")?;
        until(secs(5), "the address is free and silent", || {
            ensure!(mooring.leases()?.is_empty(), "the lease is still there");
            ensure!(lab.host("client").arp_all(VIP, std::time::Duration::from_millis(20))?.is_empty(), "it still answers");
            Ok(())
        })?;
    }
    title("A Service's manifest appears in the directory, 100 times; p50, p99, max");
    for (what, samples) in [("address in its status", status), ("first ARP answer", answer)] {
        spread(what, &samples);
    }
    println!();
    Ok(())
}
