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
    let [mut leases, mut syncs, mut leases_at_once, mut syncs_at_once, mut again] = [(); 5].map(|()| Samples::default());
    let [mut many, mut batches, mut many_again] = [Duration::ZERO; 3];
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
        for number in next - SINGLE..next {
            let began = now();
            client.allocate(claim(number)).await?;
            again.add(began.elapsed());
        }
        for (time, samples) in [(&mut many, Some(&mut leases_at_once)), (&mut many_again, None)] {
            let began = now();
            let tasks = (0..AT_ONCE).map(|task| burst(client.clone(), next + task * EACH));
            let each = futures::future::try_join_all(tasks).await.context("a claim was refused")?;
            *time += began.elapsed();
            if let Some(samples) = samples {
                each.into_iter().flatten().for_each(|sample| samples.add(sample));
            }
        }
        next += AT_ONCE * EACH;
        for _ in 0..EACH {
            let began = now();
            file.write_all(&RECORD.repeat(AT_ONCE))?;
            file.sync_data()?;
            syncs_at_once.add(began.elapsed());
            batches += began.elapsed();
        }
    }
    title("Durable leases, against fdatasync of 128 bytes each on the same disk");
    head("Allocate", "fdatasync");
    for percent in [50, 99] {
        compare(&format!("one in flight, p{percent}"), micros(leases.percentile(percent)), micros(syncs.percentile(percent)), "µs");
    }
    let single = |samples: &Samples| 1e6 / micros(samples.percentile(50));
    compare("one in flight, by p50", single(&leases), single(&syncs), "/s");
    for percent in [50, 99] {
        let (ours, peer) = (leases_at_once.percentile(percent), syncs_at_once.percentile(percent));
        compare(&format!("64 in flight, p{percent}"), micros(ours), micros(peer), "µs");
    }
    let all = ROUNDS * AT_ONCE * EACH;
    compare("64 in flight", rate(all, many), rate(all, batches), "/s");
    println!("\nThe same claims again: nothing is written");
    for percent in [50, 99] {
        alone(&format!("one in flight, p{percent}"), micros(again.percentile(percent)), "µs");
    }
    alone("64 in flight", rate(all, many_again), "/s");
    println!("\n{next} leases are held at the end");
    Ok(())
}

async fn burst(mut client: AllocatorServiceClient<Channel>, first: usize) -> Result<Vec<Duration>, tonic::Status> {
    let mut samples = Vec::with_capacity(EACH);
    for number in first..first + EACH {
        let began = now();
        client.allocate(claim(number)).await?;
        samples.push(began.elapsed());
    }
    Ok(samples)
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
