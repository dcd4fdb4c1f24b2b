//! What was acknowledged under load stays: an allocator that is killed again and again, and one whose disk is full.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use mooring_kit::backoff::pause;
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_client::AllocatorServiceClient;
use mooring_tests::lab::until::millis;
use mooring_tests::lab::workloads::{ALLOCATOR, allocator, inspect};
use mooring_tests::lab::{Lab, Process, run};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "load::killed_a_hundred_times_under_load_nothing_acknowledged_is_lost",
        killed_a_hundred_times_under_load_nothing_acknowledged_is_lost,
    ),
    ("load::a_full_disk_ends_the_process_and_loses_nothing_acknowledged", a_full_disk_ends_the_process_and_loses_nothing_acknowledged),
];

/// How many clients call at once.
const CLIENTS: usize = 64;

/// One client, and what it was told.
#[derive(Debug)]
struct Client {
    id: usize,
    asked: usize,
    /// How many leases it keeps before it gives the oldest back.
    keeps: usize,
    /// How many bytes of uid each claim has, to fill a disk soon.
    weight: usize,
    /// Acknowledged, by Service.
    held: BTreeMap<String, String>,
    /// Services whose release was acknowledged.
    released: BTreeSet<String>,
}

impl Client {
    fn all(keeps: usize, weight: usize) -> Vec<Self> {
        (0..CLIENTS).map(|id| Self { id, asked: 0, keeps, weight, held: BTreeMap::new(), released: BTreeSet::new() }).collect()
    }

    /// Allocates and releases until a call fails; a release whose answer does not come may or may not have been carried out.
    async fn work(mut self, channel: Channel, acknowledged: &AtomicUsize) -> Self {
        let mut calls = AllocatorServiceClient::new(channel);
        loop {
            if self.held.len() >= self.keeps
                && let Some((name, _)) = self.held.pop_first()
            {
                let service = Some(pb::ServiceRef { namespace: "load".to_owned(), name: name.clone() });
                if calls.release(pb::ReleaseRequest { term: 0, service }).await.is_err() {
                    return self;
                }
                self.released.insert(name);
                continue;
            }
            self.asked += 1;
            let name = format!("client-{}-{:08}", self.id, self.asked);
            let Ok(answer) = calls.allocate(claim(&name, self.weight)).await else { return self };
            let addresses = answer.into_inner().lease.map(|lease| lease.addresses).unwrap_or_default();
            self.held.extend(addresses.into_iter().map(|address| (name.clone(), address)));
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn claim(name: &str, weight: usize) -> pb::AllocateRequest {
    let claim = pb::Claim {
        namespace: "load".to_owned(),
        name: name.to_owned(),
        uid: "u".repeat(weight),
        ip_families: vec![pb::IpFamily::Ipv4.into()],
        ..pb::Claim::default()
    };
    pb::AllocateRequest { term: 0, claim: Some(claim) }
}

/// An allocator with a pool that does not run out.
fn begin(lab: &Lab) -> Result<(Process, tokio::runtime::Runtime)> {
    let mut allocator = allocator(lab.folder())?.start(lab.host("control"))?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let pool = pb::Pool { name: "p".to_owned(), addresses: vec!["10.0.0.0/8".to_owned()], ..pb::Pool::default() };
        let pools = pb::ReplacePoolsRequest { pools: vec![pool], ..pb::ReplacePoolsRequest::default() };
        AllocatorServiceClient::new(connect().await?).replace_pools(pools).await?;
        anyhow::Ok(())
    })?;
    Ok((allocator, runtime))
}

async fn connect() -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{ALLOCATOR}"))?.connect().await?)
}

/// All leases of the restarted allocator: what was acknowledged is there, what was released is not, nothing is held twice.
fn verify(clients: &[Client]) -> Result<()> {
    let leases = leases()?;
    let mut holders: BTreeMap<&String, &String> = BTreeMap::new();
    for (service, address) in &leases {
        let other = holders.insert(address, service);
        ensure!(other.is_none(), "{address} is held by {service} and {other:?}");
    }
    for client in clients {
        for (service, address) in &client.held {
            ensure!(leases.get(service) == Some(address), "{service} was acknowledged {address} and has {:?}", leases.get(service));
        }
        for service in &client.released {
            ensure!(!leases.contains_key(service), "{service} was released and has {:?}", leases.get(service));
        }
    }
    Ok(())
}

/// The address of each Service.
fn leases() -> Result<BTreeMap<String, String>> {
    inspect(|mut client| async move {
        let (mut all, mut page_token) = (BTreeMap::new(), String::new());
        loop {
            let request = pb::ListLeasesRequest { page_size: 1000, page_token, ..pb::ListLeasesRequest::default() };
            let page = client.list_leases(request).await?.into_inner();
            for lease in page.leases {
                let service = lease.service.context("a lease of nobody")?;
                ensure!(lease.addresses.len() == 1, "{service:?} has {:?}", lease.addresses);
                all.insert(service.name, lease.addresses.concat());
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    })
}

fn killed_a_hundred_times_under_load_nothing_acknowledged_is_lost() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (mut allocator, runtime) = begin(&lab)?;
    let mut clients = Client::all(8, 36);
    for round in 0..100 {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        clients = runtime.block_on(async {
            let channel = connect().await?;
            // In the midst of the work, at another moment each time.
            let enough = 1 + round * 37 % 400;
            let kill = async {
                while acknowledged.load(Ordering::Relaxed) < enough {
                    pause(millis(1)).await;
                }
                allocator.kill_9()
            };
            let work = join_all(clients.into_iter().map(|client| client.work(channel.clone(), &acknowledged)));
            let (clients, killed) = futures::future::join(work, kill).await;
            killed?;
            anyhow::Ok(clients)
        })?;
        allocator.restart()?;
        allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
        verify(&clients)?;
        ensure!(allocator.stderr().is_empty(), "round {round}: {}", allocator.stderr());
    }
    let done: usize = clients.iter().map(|client| client.asked).sum();
    ensure!(done > 100 * CLIENTS, "only {done} claims were made");
    Ok(())
}

fn a_full_disk_ends_the_process_and_loses_nothing_acknowledged() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let data = lab.folder().join("data");
    std::fs::create_dir_all(&data)?;
    let at = data.display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "size=4m", "tmpfs", &at])?;
    let (mut allocator, runtime) = begin(&lab)?;
    let mut clients = Client::all(usize::MAX, 4096);
    for (round, size) in [8, 12, 16, 20].into_iter().enumerate() {
        let acknowledged = AtomicUsize::new(0);
        clients = runtime.block_on(async {
            let channel = connect().await?;
            anyhow::Ok(join_all(clients.into_iter().map(|client| client.work(channel.clone(), &acknowledged))).await)
        })?;
        let ended = allocator.wait_end()?;
        let fault = allocator.events("fault");
        let told = fault.last().map(ToString::to_string).unwrap_or_default();
        ensure!(ended.code() == Some(1), "round {round}: {ended}, {told}, {}", allocator.stderr());
        ensure!(told.contains("No space left on device") && told.contains(&at), "round {round}: {told}");
        ensure!(allocator.stderr().is_empty(), "round {round}: {}", allocator.stderr());
        ensure!(acknowledged.load(Ordering::Relaxed) > 0, "round {round}: nothing was acknowledged before");
        run("mount", &["-o", &format!("remount,size={size}m"), &at])?;
        allocator.restart()?;
        allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
        verify(&clients)?;
    }
    drop(allocator);
    run("umount", &[&at])
}
