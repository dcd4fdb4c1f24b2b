//! Durable leases a second, against fdatasync on the same disk; and the same calls when nothing is to be written, which shows what of
//! their time is the call's.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_client::AllocatorServiceClient;
use mooring_tests::lab::bench::{Samples, alone, compare, head, micros, now, rate, title};
use mooring_tests::lab::{self, Lab, Program};
use serde_json::json;
use tonic::transport::Channel;

/// How many claims are in flight, and how many rounds of either side there are, in turn.
const IN_FLIGHT: [usize; 4] = [1, 8, 64, 256];
const ROUNDS: usize = 5;

/// How many claims a round has.
const CLAIMS: [usize; 4] = [1_000, 4_000, 16_000, 32_000];

/// About what one lease's record has.
const RECORD: [u8; 128] = [0x5a; 128];

fn main() -> Result<()> {
    lab::enter()?;
    let lab = Lab::of_three_nodes()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let program = Program::own("allocator-svc")?.args(["--listen", &socket, "--admin", "127.0.0.1:0", "--data-dir"]);
    let mut allocator = program.arg(folder.path().join("data")).start(lab.host("control"))?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(socket.clone())?.connect().await?;
        measure(channel, folder.path()).await
    })
}

async fn measure(channel: Channel, folder: &Path) -> Result<()> {
    let mut client = AllocatorServiceClient::new(channel);
    let pool = pb::Pool { name: "p".to_owned(), addresses: vec!["10.0.0.0/12".to_owned()], auto_assign: Some(true), ..pb::Pool::default() };
    client.replace_pools(pb::ReplacePoolsRequest { pools: vec![pool], ..pb::ReplacePoolsRequest::default() }).await?;
    let mut file = File::create(folder.join("peer"))?;
    let mut sides: Vec<Sides> = IN_FLIGHT.iter().map(|_| Sides::default()).collect();
    let mut next = 0;
    for _ in 0..ROUNDS {
        for ((in_flight, claims), sides) in IN_FLIGHT.into_iter().zip(CLAIMS).zip(&mut sides) {
            sides.leases.add(burst(&client, in_flight, next, claims).await?);
            sides.again.add(burst(&client, in_flight, next, claims).await?);
            sides.syncs.add(sync(&mut file, in_flight, claims)?);
            next += claims;
        }
    }
    title("Durable leases, against fdatasync of 128 bytes each on the same disk");
    head("Allocate", "fdatasync");
    for (in_flight, sides) in IN_FLIGHT.iter().zip(&sides) {
        for percent in [50, 99] {
            let (ours, peer) = (sides.leases.each.percentile(percent), sides.syncs.each.percentile(percent));
            compare(&format!("{in_flight} in flight, p{percent}"), micros(ours), micros(peer), "µs");
        }
        compare(&format!("{in_flight} in flight"), sides.leases.rate(), sides.syncs.rate(), "/s");
    }
    println!("\nThe same claims again: nothing is written, so this is what the calls alone take");
    for (in_flight, sides) in IN_FLIGHT.iter().zip(&sides) {
        alone(&format!("{in_flight} in flight, p50"), micros(sides.again.each.percentile(50)), "µs");
        alone(&format!("{in_flight} in flight"), sides.again.rate(), "/s");
    }
    println!("\n{next} leases are held at the end");
    Ok(())
}

/// What was measured with so many in flight.
#[derive(Default)]
struct Sides {
    leases: Side,
    again: Side,
    syncs: Side,
}

/// Operations of one kind.
#[derive(Default)]
struct Side {
    each: Samples,
    time: Duration,
    count: usize,
}

impl Side {
    fn add(&mut self, (each, time, count): (Vec<Duration>, Duration, usize)) {
        each.into_iter().for_each(|sample| self.each.add(sample));
        self.time += time;
        self.count += count;
    }

    fn rate(&self) -> f64 {
        rate(self.count, self.time)
    }
}

/// Claims from so many callers at once: the time of each, and of all.
async fn burst(
    client: &AllocatorServiceClient<Channel>,
    callers: usize,
    first: usize,
    claims: usize,
) -> Result<(Vec<Duration>, Duration, usize)> {
    let each = claims / callers;
    let began = now();
    let callers = (0..callers).map(|caller| call(client.clone(), first + caller * each, each));
    let samples = futures::future::try_join_all(callers).await.context("a claim was refused")?;
    Ok((samples.into_iter().flatten().collect(), began.elapsed(), claims))
}

async fn call(mut client: AllocatorServiceClient<Channel>, first: usize, claims: usize) -> Result<Vec<Duration>, tonic::Status> {
    let mut samples = Vec::with_capacity(claims);
    for number in first..first + claims {
        let began = now();
        client.allocate(claim(number)).await?;
        samples.push(began.elapsed());
    }
    Ok(samples)
}

/// Records written and synced, so many at once: the time of each sync, and of all.
fn sync(file: &mut File, at_once: usize, records: usize) -> Result<(Vec<Duration>, Duration, usize)> {
    let (mut samples, batch, all) = (Vec::new(), RECORD.repeat(at_once), now());
    for _ in 0..records / at_once {
        let began = now();
        file.write_all(&batch)?;
        file.sync_data()?;
        samples.push(began.elapsed());
    }
    Ok((samples, all.elapsed(), records))
}

fn claim(number: usize) -> pb::AllocateRequest {
    let claim = pb::Claim {
        namespace: "default".to_owned(),
        name: format!("service-{number}"),
        ip_families: vec![pb::IpFamily::Ipv4.into()],
        ip_family_policy: pb::IpFamilyPolicy::SingleStack.into(),
        ports: vec![pb::ServicePort { protocol: pb::Protocol::Tcp.into(), port: 80 }],
        ..pb::Claim::default()
    };
    pb::AllocateRequest { term: 0, claim: Some(claim) }
}
