//! Mooring's three workloads on a LAN: the allocator and the watcher on `control`, a speaker on each node.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use mooring_proto::pb;
use mooring_proto::pb::allocator_service_client::AllocatorServiceClient;
use mooring_proto::pb::inspect_service_client::InspectServiceClient;
use mooring_proto::pb::operator_service_client::OperatorServiceClient;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{Lab, Process, Program, until};

/// Where the allocator serves the LAN.
pub const ALLOCATOR: &str = "172.17.0.2:7470";

/// The three workloads.
#[derive(Debug)]
pub struct Mooring {
    /// `allocator-svc`.
    pub allocator: Process,
    /// `watcher-svc`.
    pub watcher: Process,
    /// `speaker-svc`, by node.
    pub speakers: BTreeMap<String, Process>,
    folder: PathBuf,
}

impl Mooring {
    /// Starts all three on an empty directory of manifests, and waits until the nodes' speakers are known.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn on_directory(lab: &Lab) -> Result<Self> {
        Self::on_directory_with(lab, allocator(lab.folder())?)
    }

    /// The same, with an allocator of the caller's making.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn on_directory_with(lab: &Lab, allocator: Program) -> Result<Self> {
        let folder = lab.folder();
        fs::create_dir_all(folder.join("manifests"))?;
        let source = format!("dir:{}", folder.join("manifests").display());
        let watcher = watcher()?.args(["--source", &source]).arg("--status-dir").arg(folder.join("status"));
        Self::start_with(lab, allocator, watcher)
    }

    /// Starts all three, with a watcher of the caller's making.
    ///
    /// # Errors
    /// One of them does not start.
    pub fn start(lab: &Lab, watcher: Program) -> Result<Self> {
        Self::start_with(lab, allocator(lab.folder())?, watcher)
    }

    fn start_with(lab: &Lab, allocator: Program, watcher: Program) -> Result<Self> {
        let mut allocator = allocator.start(lab.host("control"))?;
        allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
        let watcher = watcher.start(lab.host("control"))?;
        let mut speakers = BTreeMap::new();
        for node in lab.nodes() {
            speakers.insert(node.name().to_owned(), speaker(node.name())?.start(node)?);
        }
        let mooring = Self { allocator, watcher, speakers, folder: lab.folder().to_owned() };
        mooring.wait_all_live()?;
        Ok(mooring)
    }

    /// Waits until the allocator hears the speakers of all nodes.
    ///
    /// # Errors
    /// It does not within 10 s.
    pub fn wait_all_live(&self) -> Result<()> {
        until(Duration::from_secs(10), "all speakers are live", || {
            let nodes = self.nodes()?;
            ensure!(nodes.iter().filter(|node| live(node)).count() == self.speakers.len(), "{nodes:?}");
            Ok(())
        })
    }

    /// A speaker by its node.
    ///
    /// # Errors
    /// There is none.
    pub fn speaker(&mut self, node: &str) -> Result<&mut Process> {
        self.speakers.get_mut(node).with_context(|| format!("no speaker on {node}"))
    }

    /// Puts a manifest into the directory, whole, as `kubectl apply` would.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let path = self.manifest(name);
        let new = path.with_file_name(format!(".{name}.new"));
        fs::write(&new, manifest)?;
        Ok(fs::rename(new, path)?)
    }

    /// Takes a manifest away.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn delete(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.manifest(name))?)
    }

    /// Where a manifest of a name is.
    #[must_use]
    pub fn manifest(&self, name: &str) -> PathBuf {
        self.folder.join("manifests").join(name)
    }

    /// The status files' folder.
    #[must_use]
    pub fn status_folder(&self) -> PathBuf {
        self.folder.join("status")
    }

    /// The addresses in a Service's status file.
    ///
    /// # Errors
    /// The file is there and is no Service.
    pub fn status(&self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let path = self.status_folder().join("services").join(format!("{namespace}_{name}.yaml"));
        let Ok(text) = fs::read_to_string(path) else { return Ok(Vec::new()) };
        let service: Value = serde_saphyr::from_str(&text)?;
        let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(ingress.iter().filter_map(|entry| entry.get("ip")?.as_str()).map(str::to_owned).collect())
    }

    /// Waits until a Service has just this address in its status.
    ///
    /// # Errors
    /// It has not within 10 s.
    pub fn wait_status(&self, namespace: &str, name: &str, address: &str) -> Result<()> {
        until(Duration::from_secs(10), &format!("{namespace}/{name} has {address}"), || {
            let has = self.status(namespace, name)?;
            ensure!(has == [address], "{namespace}/{name} has {has:?}");
            Ok(())
        })
    }

    /// All Events written so far.
    ///
    /// # Errors
    /// A line is no Event.
    pub fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.status_folder().join("events.jsonl")).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The nodes as the allocator sees them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn nodes(&self) -> Result<Vec<pb::NodeState>> {
        inspect(|mut client| async move { Ok(client.list_nodes(pb::ListNodesRequest::default()).await?.into_inner().nodes) })
    }

    /// All leases, as text by Service.
    ///
    /// # Errors
    /// The allocator does not answer.
    pub fn leases(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let list = inspect(|mut client| async move {
            let request = pb::ListLeasesRequest { page_size: 1000, ..pb::ListLeasesRequest::default() };
            Ok(client.list_leases(request).await?.into_inner().leases)
        })?;
        let entry = |lease: pb::Lease| lease.service.map(|service| (format!("{}/{}", service.namespace, service.name), lease.addresses));
        Ok(list.into_iter().filter_map(entry).collect())
    }

    /// All VIPs with the nodes that have a part in them, by the allocator's word.
    ///
    /// # Errors
    /// The allocator does not answer.
    pub fn assignments(&self) -> Result<Vec<pb::AssignmentState>> {
        inspect(|mut client| async move {
            let request = pb::ListAssignmentsRequest { page_size: 1000, ..pb::ListAssignmentsRequest::default() };
            Ok(client.list_assignments(request).await?.into_inner().assignments)
        })
    }

    /// The node that announces a VIP by the allocator's word, and has said so itself.
    ///
    /// # Errors
    /// Nobody does.
    pub fn announcer(&self, vip: &str) -> Result<String> {
        let Some(found) = self.assignments()?.into_iter().find(|assignment| assignment.vip == vip) else { bail!("{vip} is not assigned") };
        ensure!(!found.node.is_empty() && found.announced, "{vip} is not announced: {found:?}");
        Ok(found.node)
    }
}

fn live(node: &pb::NodeState) -> bool {
    node.speakers.iter().any(|speaker| speaker.liveness() == pb::SpeakerLiveness::Live)
}

/// The allocator's command line, with its data below a folder.
///
/// # Errors
/// It is not built.
pub fn allocator(folder: &Path) -> Result<Program> {
    let program = Program::own("allocator-svc")?.args(["--listen", ALLOCATOR, "--admin", "172.17.0.2:7472", "--insecure", "--data-dir"]);
    Ok(program.arg(folder.join("data")))
}

/// The watcher's command line, without its source.
///
/// # Errors
/// It is not built.
pub fn watcher() -> Result<Program> {
    let allocator = format!("http://{ALLOCATOR}");
    Ok(Program::own("watcher-svc")?.args([
        "--allocator",
        &allocator,
        "--insecure",
        "--listen",
        "172.17.0.2:7475",
        "--admin",
        "172.17.0.2:7473",
    ]))
}

/// Where a shadow serves its metrics.
pub const SHADOW_ADMIN: &str = "172.17.0.2:7483";

/// The command line of a watcher that only shows what would be, without its source.
///
/// # Errors
/// It is not built.
pub fn shadow() -> Result<Program> {
    let allocator = format!("http://{ALLOCATOR}");
    Ok(Program::own("watcher-svc")?.args([
        "--shadow",
        "--allocator",
        &allocator,
        "--insecure",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        SHADOW_ADMIN,
    ]))
}

/// A speaker's command line.
///
/// # Errors
/// It is not built.
pub fn speaker(node: &str) -> Result<Program> {
    let allocator = format!("http://{ALLOCATOR}");
    Ok(Program::own("speaker-svc")?.args(["--allocator", &allocator, "--insecure", "--node-name", node]))
}

/// Asks the allocator something.
///
/// # Errors
/// It does not answer within two seconds, or not well.
pub fn inspect<T, F>(ask: impl FnOnce(InspectServiceClient<Channel>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    within(Duration::from_secs(2), |channel| ask(InspectServiceClient::new(channel)))
}

/// Calls the allocator as people do who change things.
///
/// # Errors
/// It does not answer within two seconds, or not well.
pub fn operate<T, F>(call: impl FnOnce(OperatorServiceClient<Channel>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    within(Duration::from_secs(2), |channel| call(OperatorServiceClient::new(channel)))
}

/// Calls the allocator as a watcher does, only without a bound on what is sent.
///
/// # Errors
/// It does not answer within twenty seconds, or not well.
pub fn allocator_call<T, F>(call: impl FnOnce(AllocatorServiceClient<Channel>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    within(Duration::from_secs(20), |channel| call(AllocatorServiceClient::new(channel)))
}

fn within<T, F>(limit: Duration, work: impl FnOnce(Channel) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connect = Channel::from_shared(format!("http://{ALLOCATOR}"))?.connect_timeout(Duration::from_secs(1)).timeout(limit);
        work(connect.connect().await?).await
    })
}
