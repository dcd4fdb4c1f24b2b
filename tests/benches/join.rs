//! Twenty speakers come back to an allocator that has started with 10,000 VIPs: how long it takes, and how long heartbeats wait meanwhile,
//! against heartbeats of the same streams when nothing else happens.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use mooring_allocator::store::{LeaseStore, Record};
use mooring_proto::pb;
use mooring_proto::pb::assignment_service_client::AssignmentServiceClient;
use mooring_proto::pb::inspect_service_client::InspectServiceClient;
use mooring_proto::pb::stream_assignments_request::Message as Said;
use mooring_proto::pb::stream_assignments_response::Message as Told;
use mooring_proto::types::address::Vip;
use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use mooring_proto::types::pool::{AdvertisementSpec, Configuration, PoolName, PoolSpec};
use mooring_proto::types::service::{ServiceKey, ServiceUid};
use mooring_proto::types::time::UnixMillis;
use mooring_tests::lab::bench::{Samples, alone, compare, head, micros, now, title};
use mooring_tests::lab::{self, Lab, Program};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// How many VIPs are on the disk, and on how many nodes.
const VIPS: u32 = 10_000;
const NODES: u32 = 20;

/// How many heartbeats each stream sends in either half.
const BEATS: u64 = 200;

/// The pause between two heartbeats of a stream.
const PAUSE: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    lab::enter()?;
    let lab = Lab::of_three_nodes()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (written, data) = (folder.path().join("written"), folder.path().join("data"));
    let (store, _) = LeaseStore::open(&written)?;
    store.write(&records()?, &[])?;
    lab::run("cp", &["-a", &written.display().to_string(), &data.display().to_string()])?;
    let socket = format!("unix:{}", folder.path().join("socket").display());
    let program = Program::own("allocator-svc")?.args(["--listen", &socket, "--admin", "127.0.0.1:0", "--data-dir"]);
    let mut allocator = program.arg(data).start(lab.host("control"))?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure(&socket))
}

fn vip(number: u32) -> Vip {
    Vip::from(Ipv4Addr::from(0x0a00_0000 + number))
}

fn records() -> Result<Vec<Record>> {
    let pool = PoolName::new("p").context("a name")?;
    let spec = PoolSpec {
        name: pool.clone(),
        ranges: vec!["10.0.0.0/16".parse()?],
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        labels: Default::default(),
    };
    let advertisement = AdvertisementSpec {
        name: "all".to_owned(),
        pools: BTreeSet::new(),
        pool_selectors: Vec::new(),
        node_selectors: Vec::new(),
        interfaces: BTreeSet::new(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
    };
    let configuration = Configuration::new(vec![spec], vec![advertisement]).map_err(|errors| anyhow!("{errors:?}"))?;
    let mut records = vec![Record::Config(configuration)];
    for number in 0..VIPS {
        let lease = Lease {
            service: ServiceKey::new("default", &format!("s{number}"))?,
            uid: ServiceUid::default(),
            addresses: vec![vip(number)],
            pool: pool.clone(),
            ports: BTreeSet::new(),
            sharing_key: None,
            backend_key: BackendKey::default(),
            revision: Revision::default(),
            granted: UnixMillis::default(),
            retain: None,
        };
        let node = NodeName::new(&format!("n{}", number % NODES)).context("a name")?;
        records.extend([Record::Lease(Box::new(lease)), Record::Place(vip(number), SpeakerId { node, instance: Instance::default() })]);
    }
    Ok(records)
}

async fn measure(socket: &str) -> Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(socket.to_owned())?.connect().await?;
    let began = now();
    let streams = futures::future::try_join_all((0..NODES).map(|node| speak(socket.to_owned(), node)));
    let settled = settled(InspectServiceClient::new(channel), began);
    let (streams, settled) = futures::future::try_join(streams, settled).await?;
    let (mut busy, mut idle) = (Samples::default(), Samples::default());
    for (during, after) in streams {
        during.into_iter().for_each(|sample| busy.add(sample));
        after.into_iter().for_each(|sample| idle.add(sample));
    }
    title(&format!("{NODES} speakers come back to {VIPS} VIPs after a start of the allocator"));
    head("coming back", "nothing else");
    for percent in [50, 99, 100] {
        compare(&format!("a heartbeat waits, p{percent}"), micros(busy.percentile(percent)), micros(idle.percentile(percent)), "µs");
    }
    alone("until all VIPs have a standby, window and all", settled.as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// One speaker's stream: it says Hello, then beats, first while the others come and after the window, then with nothing else going on.
async fn speak(socket: String, node: u32) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let channel = tonic::transport::Endpoint::from_shared(socket)?.connect().await?;
    let (words, requests) = mpsc::channel(16);
    let held = (0..VIPS).filter(|number| number % NODES == node);
    let held = held.map(|number| pb::HeldVip { vip: vip(number).to_string(), role: pb::Role::Active.into(), taken_over: false }).collect();
    let mac = format!("02:00:00:00:00:{node:02x}");
    let interfaces = vec![pb::Interface { name: "eth0".to_owned(), mac, addresses: Vec::new() }];
    let hello = pb::Hello { node: format!("n{node}"), boot_id: "b".to_owned(), interfaces, held, ..pb::Hello::default() };
    words.send(said(Said::Hello(hello))).await?;
    let mut client = AssignmentServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let mut told = client.stream_assignments(ReceiverStream::new(requests)).await?.into_inner();
    let mut ticks = tokio::time::interval(PAUSE);
    let (mut sent, mut samples): (Vec<Instant>, Vec<Duration>) = (Vec::new(), Vec::new());
    while samples.len() < usize::try_from(2 * BEATS)? {
        tokio::select! {
            _ = ticks.tick(), if sent.len() < usize::try_from(2 * BEATS)? => {
                let heartbeat = pb::Heartbeat { seq: u64::try_from(sent.len())?, applied_revision: 0 };
                sent.push(now());
                words.send(said(Said::Heartbeat(heartbeat))).await?;
            }
            message = told.message() => {
                if let Some(Told::HeartbeatAck(ack)) = message?.context("the allocator ended the stream")?.message {
                    samples.push(sent.get(usize::try_from(ack.seq)?).context("an answer to nothing")?.elapsed());
                }
            }
        }
    }
    let after = samples.split_off(usize::try_from(BEATS)?);
    Ok((samples, after))
}

fn said(message: Said) -> pb::StreamAssignmentsRequest {
    pb::StreamAssignmentsRequest { message: Some(message) }
}

/// How long it takes until every VIP has its standby.
async fn settled(mut inspect: InspectServiceClient<Channel>, began: Instant) -> Result<Duration> {
    let mut ticks = tokio::time::interval(PAUSE);
    loop {
        ticks.tick().await;
        let nodes = inspect.list_nodes(pb::ListNodesRequest::default()).await?.into_inner().nodes;
        if nodes.iter().map(|node| node.standby).sum::<u32>() == VIPS {
            return Ok(began.elapsed());
        }
    }
}
