//! The real allocator over a million leases: its start until it answers, and its memory, beside reading the same files once from end to end;
//! and then a claim, beside one that is made of an allocator with a thousand leases.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mooring_allocator::core::Event;
use mooring_allocator::store::LeaseStore;
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_client::AllocatorServiceClient;
use mooring_proto::pb::inspect_service_client::InspectServiceClient;
use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Lease, Revision};
use mooring_proto::types::pool::{Configuration, PoolName, PoolSpec};
use mooring_proto::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};
use mooring_tests::lab::bench::{Samples, alone, compare, head, in_millis, micros, now, rate, title};
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::{self, Lab, Process, Program};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// How many Services hold an address.
const LEASES: usize = 1_000_000;

/// And where there are few.
const FEW: usize = 1_000;

/// How many claims are made of either.
const CLAIMS: usize = 2_000;

/// How many of them a batch writes.
const BATCH: usize = 1_000;

/// How many starts.
const ROUNDS: usize = 3;

fn main() -> Result<()> {
    lab::enter()?;
    let lab = Lab::of_three_nodes()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let (data, few) = (folder.path().join("data"), folder.path().join("few"));
    fill(&few, FEW)?;
    let began = now();
    fill(&data, LEASES)?;
    let filling = began.elapsed();
    let (mut starts, mut reads, mut resident, mut most) = (Samples::default(), Samples::default(), 0.0_f64, 0.0_f64);
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        forget(&data)?;
        let began = now();
        bytes = read(&data)?;
        reads.add(began.elapsed());
        forget(&data)?;
        let began = now();
        let mut allocator = start(&lab, &data)?;
        starts.add(began.elapsed());
        resident = resident.max(memory(allocator.pid(), "VmRSS:")?);
        most = most.max(memory(allocator.pid(), "VmHWM:")?);
        allocator.terminate()?;
    }
    let (many, _few) = (start(&lab, &data)?, start(&lab, &few)?);
    let claims = claims([&data, &few])?;
    let settled = memory(many.pid(), "VmRSS:")?;
    title(&format!("Start with {LEASES} leases, nothing of them in the page cache"));
    head("start", "plain read");
    for (name, percent) in [("best", 1), ("median", 50), ("worst", 100)] {
        compare(name, in_millis(starts.percentile(percent)), in_millis(reads.percentile(percent)), "ms");
    }
    println!();
    alone("files", f64::from(u32::try_from(bytes >> 20)?), "MiB");
    alone("memory once it answers", resident, "MiB");
    alone("most memory until then", most, "MiB");
    alone("memory once each address was looked at", settled, "MiB");
    alone(&format!("written before, {BATCH} a batch"), rate(LEASES, filling), "/s");
    println!();
    head(&format!("{LEASES} leases"), &format!("{FEW} leases"));
    for percent in [50, 99] {
        let [many, few] = claims.each_ref().map(|samples| micros(samples.percentile(percent)));
        compare(&format!("a durable claim, one in flight, p{percent}"), many, few, "µs");
    }
    println!();
    Ok(())
}

/// Starts an allocator, and waits until it answers.
fn start(lab: &Lab, data: &Path) -> Result<Process> {
    let socket = socket(data);
    let program = Program::own("allocator-svc")?.args(["--listen", &socket, "--admin", "127.0.0.1:0", "--data-dir"]);
    let allocator = program.arg(data).start(lab.host("control"))?;
    until(secs(120), "the allocator answers", || answers(&socket))?;
    Ok(allocator)
}

fn socket(data: &Path) -> String {
    format!("unix:{}", data.with_extension("socket").display())
}

/// The time of claims, made of both in turn.
fn claims(data: [&Path; 2]) -> Result<[Samples; 2]> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut sides = Vec::new();
        for data in data {
            let channel = tonic::transport::Endpoint::from_shared(socket(data))?.connect().await?;
            sides.push((AllocatorServiceClient::new(channel), Samples::default()));
        }
        for number in 0..CLAIMS {
            for (client, samples) in &mut sides {
                let claim = pb::Claim {
                    namespace: format!("namespace-{}", number % 1000),
                    name: format!("another-{number}"),
                    ip_families: vec![pb::IpFamily::Ipv4.into()],
                    ip_family_policy: pb::IpFamilyPolicy::SingleStack.into(),
                    ports: vec![pb::ServicePort { protocol: pb::Protocol::Tcp.into(), port: 80 }],
                    ..pb::Claim::default()
                };
                let began = now();
                client.allocate(pb::AllocateRequest { term: 0, claim: Some(claim) }).await?;
                samples.add(began.elapsed());
            }
        }
        let samples: Vec<Samples> = sides.into_iter().map(|(_, samples)| samples).collect();
        samples.try_into().map_err(|sides: Vec<Samples>| anyhow::anyhow!("{} sides", sides.len()))
    })
}

/// Writes the leases as the engine does, in batches.
fn fill(data: &Path, leases: usize) -> Result<()> {
    let (mut store, _records) = LeaseStore::open(data)?;
    let pool = PoolName::new("default").context("a pool without a name")?;
    let spec = PoolSpec {
        name: pool.clone(),
        ranges: vec!["10.0.0.0/8".parse()?],
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        labels: Default::default(),
    };
    let configuration = Configuration::new(vec![spec], Vec::new()).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
    store.append(&[Event::ConfigurationReplaced { configuration, stranded_until: Mono::ZERO }])?;
    let ports: BTreeSet<ServicePort> = [ServicePort { protocol: Protocol::Tcp, port: 80 }].into();
    let lease = |number: usize| -> Result<Event> {
        Ok(Event::LeaseGranted(Box::new(Lease {
            service: ServiceKey::new(&format!("namespace-{}", number % 1000), &format!("service-{number:07}"))?,
            uid: ServiceUid(format!("4dd55ab7-2a65-45a4-9f2c-{number:012}")),
            addresses: vec![std::net::Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number)?).into()],
            pool: pool.clone(),
            ports: ports.clone(),
            sharing_key: None,
            backend_key: BackendKey::default(),
            revision: Revision(u64::try_from(number)?),
            granted: UnixMillis(1_760_000_000_000),
            retain: None,
        })))
    };
    for first in (0..leases).step_by(BATCH) {
        store.append(&(first..first + BATCH).map(lease).collect::<Result<Vec<Event>>>()?)?;
    }
    Ok(())
}

/// Whether the allocator answers, and has all leases.
fn answers(socket: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = tonic::transport::Endpoint::from_shared(socket.to_owned())?.timeout(Duration::from_secs(60)).connect().await?;
        let request = pb::ListLeasesRequest { page_size: 1, ..pb::ListLeasesRequest::default() };
        let leases = InspectServiceClient::new(channel).list_leases(request).await?.into_inner().leases;
        ensure!(leases.len() == 1, "it has no leases");
        Ok(())
    })
}

/// Has the kernel forget what it has of the files.
fn forget(data: &Path) -> Result<()> {
    for file in files(data)? {
        let file = File::open(file)?;
        file.sync_all()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    }
    Ok(())
}

/// Reads the files once, and returns how many bytes they have.
fn read(data: &Path) -> Result<usize> {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    for file in files(data)? {
        let mut file = File::open(file)?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => total += read,
            }
        }
    }
    Ok(total)
}

fn files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// A line of a process's status, in MiB.
fn memory(pid: u32, line: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)).with_context(|| format!("no {line}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
