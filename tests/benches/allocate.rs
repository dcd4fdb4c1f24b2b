//! Durable leases a second, against fdatasync on the same disk.
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

/// How many rounds of either side, in turn.
const ROUNDS: usize = 5;

/// How many operations a round has.
const SINGLE: usize = 1000;
const AT_ONCE: usize = 64;
const EACH: usize = 250;

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
    let (mut leases, mut syncs) = (Samples::default(), Samples::default());
    let (mut many, mut batches) = (Duration::ZERO, Duration::ZERO);
    let mut next = 0usize;
    for _ in 0..ROUNDS {
        for _ in 0..SINGLE {
            let began = now();
            client.allocate(claim(next)).await?;
            leases.add(began.elapsed());
            next += 1;
        }
        for _ in 0..SINGLE {
            let began = now();
            file.write_all(&RECORD)?;
            file.sync_data()?;
            syncs.add(began.elapsed());
        }
        let began = now();
        let tasks = (0..AT_ONCE).map(|task| burst(client.clone(), next + task * EACH));
        futures::future::try_join_all(tasks).await.context("a claim was refused")?;
        many += began.elapsed();
        next += AT_ONCE * EACH;
        let began = now();
        for _ in 0..EACH {
            file.write_all(&RECORD.repeat(AT_ONCE))?;
            file.sync_data()?;
        }
        batches += began.elapsed();
    }
    title("Durable leases, against fdatasync of 128 bytes each on the same disk");
    head("Allocate", "fdatasync");
    let single = |samples: &Samples| 1e6 / micros(samples.percentile(50));
    compare("one in flight, p50", micros(leases.percentile(50)), micros(syncs.percentile(50)), "µs");
    compare("one in flight, p99", micros(leases.percentile(99)), micros(syncs.percentile(99)), "µs");
    compare("one in flight, by p50", single(&leases), single(&syncs), "/s");
    compare("64 in flight", rate(ROUNDS * AT_ONCE * EACH, many), rate(ROUNDS * AT_ONCE * EACH, batches), "/s");
    alone("leases held at the end", rate(next, Duration::from_secs(1)), "");
    println!();
    Ok(())
}

async fn burst(mut client: AllocatorServiceClient<Channel>, first: usize) -> Result<(), tonic::Status> {
    for number in first..first + EACH {
        client.allocate(claim(number)).await?;
    }
    Ok(())
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
