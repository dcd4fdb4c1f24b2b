//! Services that wait for a pool, when it comes: until all have their status, on a real API server; beside the time that the API server takes
//! for the same patches of the same Services, 32 at a time, with nothing else to do.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use mooring_tests::lab::bench::{compare, head, now, title};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{Mooring, watcher};
use mooring_tests::lab::{self, Lab};
use serde_json::{Value, json};

/// How many Services wait.
const SERVICES: [usize; 2] = [2_000, 10_000];

/// How many plain patches are in flight.
const AT_ONCE: usize = 32;

fn main() -> Result<()> {
    lab::enter()?;
    title("Services that wait when their pool comes: until all have their status");
    head("Mooring", "patches");
    for services in SERVICES {
        let (ours, peer) = measure(services)?;
        compare(&format!("{services} Services"), ours.as_secs_f64(), peer.as_secs_f64(), "s");
    }
    println!();
    Ok(())
}

/// The time that Mooring takes, and that the plain patches take: before it, and after.
fn measure(services: usize) -> Result<(Duration, Duration)> {
    let lab = Lab::of_three_nodes()?;
    let cluster = Cluster::start(&lab)?;
    cluster.apply_kustomization("overlays/kind")?;
    cluster.kubectl(&["delete", "configmap", "config", "--namespace", "metallb-system"])?;
    cluster.apply_kustomization("base")?;
    let account = cluster.account_kubeconfig("mooring-system", "mooring-watcher")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = || client(&cluster);
    let before = runtime.block_on(async {
        let api = Api::default_namespaced(client().await?);
        create(&api, services).await?;
        let before = patch_all(&api, services, true).await?;
        patch_all(&api, services, false).await?;
        Ok::<_, anyhow::Error>(before)
    })?;
    let source = watcher()?.args(["--source", "kube"]).env("KUBECONFIG", &account).env("POD_NAMESPACE", "mooring-system");
    let mooring = Mooring::start(&lab, source)?;
    let other = runtime.block_on(async { create_pool(client().await?, "other", "192.0.2.0/24", false).await });
    other.context("a pool for nobody")?;
    until(secs(300), "all Services wait, and have been told", || {
        let waiting = metric(&lab, "7472", "mooring_allocator_waiting ")?;
        ensure!(waiting == services.to_string(), "{waiting} of {services} wait");
        let names = r#"--output=jsonpath={range .items[*]}{.regarding.name}{"\n"}{end}"#;
        let events = cluster.kubectl(&["get", "events.events.k8s.io", "--chunk-size=0", names])?;
        let told = events.lines().filter(|name| name.starts_with("service-")).collect::<BTreeSet<_>>().len();
        ensure!(told == services, "{told} have been told");
        Ok(())
    })?;
    let ours = runtime.block_on(async {
        let api: Api<Service> = Api::default_namespaced(client().await?);
        let from = api.list_metadata(&Default::default()).await?.metadata.resource_version.unwrap_or_default();
        let mut changes = api.watch(&WatchParams::default(), &from).await?.boxed();
        let pools = client().await?;
        let began = now();
        create_pool(pools, "default", "10.0.0.0/16", true).await?;
        let mut served = BTreeSet::new();
        while served.len() < services {
            let change = changes.try_next().await?.context("the watch ended")?;
            if let WatchEvent::Modified(service) | WatchEvent::Added(service) = change {
                served.extend(has_address(&service).then_some(service.metadata.name).flatten());
            }
        }
        Ok::<_, anyhow::Error>(began.elapsed())
    })?;
    drop(mooring);
    let after = runtime.block_on(async {
        let api = Api::default_namespaced(client().await?);
        patch_all(&api, services, false).await?;
        patch_all(&api, services, true).await
    })?;
    Ok((ours, (before + after) / 2))
}

async fn client(cluster: &Cluster) -> Result<Client> {
    let config = Kubeconfig::read_from(cluster.kubeconfig("admin"))?;
    Ok(Client::try_from(Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)?)
}

fn name(number: usize) -> String {
    format!("service-{number:05}")
}

async fn create(api: &Api<Service>, services: usize) -> Result<()> {
    let create = |number: usize| async move {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name(number)},
            "spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": {"app": name(number)}, "ports": [{"port": 80}]},
        });
        api.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        Ok::<_, anyhow::Error>(())
    };
    futures::stream::iter((0..services).map(create)).buffer_unordered(AT_ONCE).try_collect().await
}

/// Writes an address into each status, or takes it out.
async fn patch_all(api: &Api<Service>, services: usize, address: bool) -> Result<Duration> {
    let patch = |number: usize| async move {
        let ingress =
            if address { json!([{"ip": format!("10.1.{}.{}", number / 256, number % 256), "ipMode": "VIP"}]) } else { Value::Null };
        let pool = if address { json!("default") } else { Value::Null };
        let patch = json!({
            "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": pool}},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        api.patch_status(&name(number), &PatchParams::default(), &Patch::Merge(&patch)).await
    };
    let began = now();
    futures::stream::iter((0..services).map(patch)).buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await?;
    Ok(began.elapsed())
}

async fn create_pool(client: Client, name: &str, range: &str, auto_assign: bool) -> Result<()> {
    let resource = ApiResource {
        group: "metallb.io".to_owned(),
        version: "v1beta1".to_owned(),
        api_version: "metallb.io/v1beta1".to_owned(),
        kind: "IPAddressPool".to_owned(),
        plural: "ipaddresspools".to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client, "metallb-system", &resource);
    let mut pool = DynamicObject::new(name, &resource);
    pool.data = json!({"spec": {"addresses": [range], "autoAssign": auto_assign}});
    api.create(&PostParams::default(), &pool).await?;
    Ok(())
}

fn has_address(service: &Service) -> bool {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|status| status.ingress.as_ref()).is_some_and(|ingress| !ingress.is_empty())
}

/// A gauge of a workload on `control`.
fn metric(lab: &Lab, port: &str, start: &str) -> Result<String> {
    let text = lab.host("control").curl(&format!("http://172.17.0.2:{port}/metrics"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(start)).with_context(|| format!("no metric {start}"))?;
    Ok(value.to_owned())
}
