//! Coming from elsewhere: what others gave is adopted, and a shadow shows beforehand what would change, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mooring_proto::pb;
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{self, ALLOCATOR, Mooring, SHADOW_ADMIN, inspect};
use mooring_tests::lab::{Lab, Process, Program};
use serde_json::{Value, json};

use crate::story::{NGINX_LB, ONE_POOL, TWO_POOLS};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "shadow::what_others_gave_is_adopted_from_a_directory_in_whatever_order",
        what_others_gave_is_adopted_from_a_directory_in_whatever_order,
    ),
    ("shadow::what_others_gave_is_adopted_from_a_cluster", what_others_gave_is_adopted_from_a_cluster),
    (
        "shadow::beside_mooring_a_shadow_disturbs_nothing_and_tells_what_differs",
        beside_mooring_a_shadow_disturbs_nothing_and_tells_what_differs,
    ),
    ("shadow::with_rights_to_read_alone_a_shadow_compares_a_cluster", with_rights_to_read_alone_a_shadow_compares_a_cluster),
];

/// Services as others leave them, in no order: one that comes first by name and age and holds what is in no pool, twenty with scattered
/// addresses, then three without any.
fn left_by_others() -> Vec<Value> {
    let mut services = vec![service("0-outside", &json!({}), &json!({}), &json!([{"ip": "192.0.2.50"}]))];
    for number in 0..20u32 {
        // Neither by name nor by age are they in the order of their addresses.
        let name = format!("s{:02}", (number * 7) % 20);
        let ip = format!("172.17.20{}.{}", number % 2, 100 + (number * 11) % 26);
        let (annotations, spec, entry) = match number % 4 {
            0 => (json!({"metallb.universe.tf/ip-allocated-from-pool": "default"}), json!({}), json!({"ip": ip})),
            1 => (
                json!({"kube-vip.io/loadbalancerIPs": ip, "kube-vip.io/vipHost": "node-a"}),
                json!({"loadBalancerIP": ip}),
                json!({"ip": ip, "ports": [{"port": 8080, "protocol": "TCP"}]}),
            ),
            2 => (json!({}), json!({}), json!({"ip": ip, "ipMode": "VIP"})),
            _ => (json!({"kube-vip.io/loadbalancerIPs": ip}), json!({}), json!({"ip": ip})),
        };
        services.push(service(&name, &annotations, &spec, &json!([entry])));
    }
    services.extend(["a", "m", "z"].map(|name| service(&format!("{name}-new"), &json!({}), &json!({}), &json!([]))));
    services
}

fn service(name: &str, annotations: &Value, spec: &Value, ingress: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 8080}], "selector": {"run": "nginx-web"}},
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    if let (Some(all), Some(more)) = (object["spec"].as_object_mut(), spec.as_object()) {
        all.extend(more.clone());
    }
    object
}

fn name_of(service: &Value) -> &str {
    service["metadata"]["name"].as_str().unwrap_or_default()
}

/// The addresses of the pools that Services have by their objects, by `namespace/name`.
fn held(services: &[Value]) -> BTreeMap<String, Vec<String>> {
    let entries = services.iter().filter_map(|service| {
        let ip = service.pointer("/status/loadBalancer/ingress/0/ip")?.as_str()?;
        ip.starts_with("172.17.20").then(|| (format!("default/{}", name_of(service)), vec![ip.to_owned()]))
    });
    entries.collect()
}

/// Waits until all have addresses, and those that had some have the same.
fn none_moves(mooring: &Mooring, services: &[Value]) -> Result<()> {
    let leases = until(secs(20), "every Service holds an address", || {
        let leases = mooring.leases()?;
        ensure!(leases.len() == services.len(), "{leases:?}");
        Ok(leases)
    })?;
    let held = held(services);
    ensure!(held.len() == 20, "{held:?}");
    for (service, addresses) in &held {
        ensure!(leases.get(service) == Some(addresses), "{service} had {addresses:?}: {leases:?}");
    }
    Ok(())
}

fn what_others_gave_is_adopted_from_a_directory_in_whatever_order() -> Result<()> {
    for reversed in [false, true] {
        let lab = Lab::of_three_nodes()?;
        let manifests = lab.folder().join("manifests");
        fs::create_dir_all(&manifests)?;
        let mut services = left_by_others();
        if reversed {
            services.reverse();
        }
        // Half of them in one list, as `kubectl get services --output yaml` writes it, the others in files of their own.
        let (list, single) = services.split_at(services.len() / 2);
        fs::write(manifests.join("list.json"), json!({"apiVersion": "v1", "kind": "List", "items": list}).to_string())?;
        for service in single {
            fs::write(manifests.join(format!("{}.json", name_of(service))), service.to_string())?;
        }
        fs::write(manifests.join("config.yaml"), TWO_POOLS)?;
        let mooring = Mooring::on_directory(&lab)?;
        none_moves(&mooring, &services)?;
        for (service, addresses) in held(&services) {
            mooring.wait_status("default", service.trim_start_matches("default/"), &addresses[0])?;
        }
        // Who got a new address is told, and nobody else.
        let told = until(secs(5), "four new addresses are told", || {
            let told: Vec<Value> = mooring.events()?.into_iter().filter(|event| event["reason"] == "IPAllocated").collect();
            ensure!(told.len() == 4, "{told:?}");
            Ok(told)
        })?;
        let about = |event: &Value| format!("default/{}", event["regarding"]["name"].as_str().unwrap_or_default());
        ensure!(told.iter().all(|event| !held(&services).contains_key(&about(event))), "{told:?}");
    }
    Ok(())
}

/// A control plane with the definitions, the workloads' and the shadow's rights, and these Services with their statuses.
fn cluster_of(lab: &Lab, config: &str, services: &[Value]) -> Result<Cluster> {
    let cluster = Cluster::start(lab)?;
    for folder in ["config", "base", "overlays/shadow"] {
        cluster.apply_kustomization(folder)?;
    }
    for node in lab.nodes() {
        cluster.add_node(node)?;
    }
    cluster.apply(config)?;
    for service in services {
        add(&cluster, service)?;
    }
    Ok(cluster)
}

/// Makes a Service and gives it its status, as its implementation would.
fn add(cluster: &Cluster, service: &Value) -> Result<()> {
    let name = name_of(service);
    cluster.apply(
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": service["metadata"], "spec": service["spec"],
        })
        .to_string(),
    )?;
    if service.pointer("/status/loadBalancer/ingress/0").is_some() {
        let patch = json!({"status": service["status"]}).to_string();
        cluster.kubectl(&["patch", "service", name, "--subresource=status", "--type=merge", "--patch", &patch])?;
    }
    Ok(())
}

/// Every object that a watcher could have written to or made: its resource version, by its kind and name.
fn written(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for kind in [
        "services",
        "ipaddresspools.metallb.io",
        "servicel2statuses.metallb.io",
        "configurationstates.metallb.io",
        "events",
        "leases",
        "configmaps",
    ] {
        let list = cluster.get(&[kind, "--all-namespaces"])?;
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let name = format!("{kind} {}/{}", text("/metadata/namespace"), text("/metadata/name"));
            // What the control plane says of itself changes all the time.
            let is_others =
                text("/metadata/namespace") == "kube-system" || (kind == "events" && !text("/reportingComponent").starts_with("metallb-"));
            if !is_others {
                found.insert(name, text("/metadata/resourceVersion"));
            }
        }
    }
    Ok(found)
}

/// The shadow as deployed, but run by the lab.
fn shadow_on(cluster: &Cluster) -> Result<Program> {
    let account = cluster.account_kubeconfig("mooring-shadow", "mooring-shadow")?;
    Ok(workloads::shadow()?.args(["--source", "kube"]).env("KUBECONFIG", &account).env("POD_NAMESPACE", "mooring-shadow"))
}

/// Waits for a summary with these numbers; the newest one counts.
fn wait_summary(shadow: &mut Process, services: usize, differ: usize) -> Result<()> {
    until(secs(20), &format!("a summary of {services} Services of which {differ} differ"), || {
        let summaries = shadow.events("shadowSummary");
        let newest = summaries.last().with_context(|| format!("none yet: {:?}", shadow.log().iter().rev().take(5).collect::<Vec<_>>()))?;
        let wanted = json!([services, services.saturating_sub(differ), differ, true]);
        ensure!(json!([newest["services"], newest["same"], newest["differ"], newest["complete"]]) == wanted, "{newest}");
        Ok(())
    })
}

/// What was told last of each Service that differs: reason, what it has, what it would have, of which pool.
fn differences(shadow: &mut Process) -> BTreeMap<String, [String; 4]> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let mut told = BTreeMap::new();
    for line in shadow.log().to_vec() {
        let service = text(&line, "service");
        match line["event"].as_str() {
            Some("shadowDiffers") => {
                told.insert(service, ["reason", "ip", "wanted", "pool"].map(|key| text(&line, key)));
            }
            Some("shadowAgrees" | "serviceDeleted") => {
                told.remove(&service);
            }
            _ => {}
        }
    }
    told
}

/// It ends well when it is told to, with a last summary.
fn end(shadow: &mut Process, differ: usize) -> Result<()> {
    let before = shadow.events("shadowSummary").len();
    ensure!(shadow.terminate()?.code() == Some(0), "{}", shadow.stderr());
    let summaries = until(secs(5), "the last summary", || {
        let summaries = shadow.events("shadowSummary");
        ensure!(summaries.len() == before + 1, "{summaries:?}");
        Ok(summaries)
    })?;
    let last = &summaries[before];
    ensure!(last["differ"] == differ && last["complete"] == true, "{last}");
    let wrong: Vec<&Value> = shadow.log().iter().filter(|line| line["level"] != "info").collect();
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}

fn what_others_gave_is_adopted_from_a_cluster() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let services = left_by_others();
    let cluster = cluster_of(&lab, TWO_POOLS, &services)?;
    let account = cluster.account_kubeconfig("mooring-system", "mooring-watcher")?;
    let watcher = workloads::watcher()?.args(["--source", "kube"]).env("KUBECONFIG", &account).env("POD_NAMESPACE", "mooring-system");
    let mut mooring = Mooring::start(&lab, watcher)?;
    none_moves(&mooring, &services)?;
    // It is at rest once it was seen so three times; to look takes the better part of a second.
    let (mut latest, mut quiet) = (None, 0);
    let settled = until(secs(30), "statuses say what is leased, and nothing more is written", || {
        let (leases, before) = (mooring.leases()?, written(&cluster)?);
        for (service, addresses) in &leases {
            let has = cluster.external_ips("default", service.trim_start_matches("default/"))?;
            ensure!(has == *addresses, "{service} has {has:?}, not {addresses:?}");
        }
        let before = but_for_leadership(before);
        quiet = if latest.as_ref() == Some(&before) { quiet + 1 } else { 0 };
        latest = Some(before.clone());
        ensure!(quiet > 2, "something is still written");
        Ok(before)
    })?;
    // A shadow on the same cluster and the same allocator finds nothing to tell and leaves no trace.
    let terms = mooring.allocator.events("termBegan").len();
    let mut shadow = shadow_on(&cluster)?.start(lab.host("control"))?;
    wait_summary(&mut shadow, 24, 0)?;
    ensure!(differences(&mut shadow).is_empty(), "{:?}", differences(&mut shadow));
    end(&mut shadow, 0)?;
    let now = but_for_leadership(written(&cluster)?);
    let changed: Vec<_> = now.iter().filter(|(name, version)| settled.get(*name) != Some(*version)).collect();
    ensure!(now == settled, "something was written: {changed:?}");
    ensure!(mooring.allocator.events("termBegan").len() == terms && mooring.allocator.events("shadowBegan").len() == 1);
    ensure!(mooring.watcher.events("termOutdated").is_empty() && mooring.watcher.events("leadershipLost").is_empty());
    Ok(())
}

/// Without the Lease that a leader renews all the time; that there is no other one stays to be seen.
fn but_for_leadership(mut written: BTreeMap<String, String>) -> BTreeMap<String, String> {
    written.remove("leases mooring-system/mooring-watcher");
    written
}

/// All files below a folder, byte for byte.
fn bytes_below(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path)?);
            }
        }
    }
    Ok(found)
}

/// All that production consists of: files, records, the feed with its term and revision, pools, who announces what, metrics.
#[derive(Debug)]
struct Production {
    files: BTreeMap<PathBuf, Vec<u8>>,
    feed: pb::LeaseSnapshot,
    pools: Vec<pb::PoolState>,
    assignments: Vec<pb::AssignmentState>,
    metrics: Vec<String>,
}

impl Production {
    fn look(lab: &Lab, mooring: &Mooring) -> Result<Self> {
        let mut files = BTreeMap::new();
        for folder in ["manifests", "status", "data"] {
            files.extend(bytes_below(&lab.folder().join(folder))?);
        }
        let (feed, pools) = inspect(|mut client| async move {
            let mut feed = client.watch_leases(pb::WatchLeasesRequest::default()).await?.into_inner();
            let Some(pb::watch_leases_response::Message::Snapshot(snapshot)) = feed.message().await?.and_then(|message| message.message)
            else {
                anyhow::bail!("no snapshot")
            };
            Ok((snapshot, client.list_pools(pb::ListPoolsRequest::default()).await?.into_inner().pools))
        })?;
        let metrics = lab.host("control").curl("http://172.17.0.2:7472/metrics")?;
        // How long flushes take and how many commands came: heartbeats come all the time.
        let kept = |line: &&str| line.starts_with("mooring_allocator") && !line.contains("_batch_commands") && !line.contains("_flush_");
        let metrics = metrics.lines().filter(kept).map(str::to_owned).collect();
        // What other nodes see of an address is looked at again and again.
        let unseen = |assignment| pb::AssignmentState { seen: None, ..assignment };
        let assignments = mooring.assignments()?.into_iter().map(unseen).collect();
        Ok(Self { files, feed, pools, assignments, metrics })
    }

    /// Whether nothing of it has changed.
    fn is_still(&self, now: &Self) -> Result<()> {
        let changed: Vec<&PathBuf> =
            now.files.iter().filter(|(path, bytes)| self.files.get(*path) != Some(*bytes)).map(|(path, _)| path).collect();
        ensure!(changed.is_empty() && self.files.len() == now.files.len(), "changed: {changed:?}");
        ensure!(self.feed == now.feed, "{:?} is not {:?}", now.feed, self.feed);
        ensure!(self.pools == now.pools, "{:?} is not {:?}", now.pools, self.pools);
        ensure!(self.assignments == now.assignments, "{:?} is not {:?}", now.assignments, self.assignments);
        ensure!(self.metrics == now.metrics, "{:?} is not {:?}", now.metrics, self.metrics);
        Ok(())
    }
}

fn beside_mooring_a_shadow_disturbs_nothing_and_tells_what_differs() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let manifest = |name: &str| NGINX_LB.replace("nginx-lb", name);
    mooring.apply("config.yaml", ONE_POOL)?;
    for (number, name) in ["s0", "s1", "s2", "s3"].iter().enumerate() {
        mooring.apply(&format!("{name}.yaml"), &manifest(name))?;
        let ip = format!("172.17.200.{}", 100 + number);
        mooring.wait_status("default", name, &ip)?;
        until(secs(10), "it is announced", || mooring.announcer(&ip))?;
    }
    // A plan: fewer addresses and a second pool, a Service more, one that asks for what is in no pool, one that is none any more.
    let planned = lab.folder().join("planned");
    fs::create_dir_all(&planned)?;
    let plan = |name: &str, text: &str| -> Result<()> {
        let new = planned.join(format!(".{name}.new"));
        fs::write(&new, text)?;
        Ok(fs::rename(new, planned.join(name))?)
    };
    plan("config.yaml", &TWO_POOLS.replace("172.17.200.100-172.17.200.125", "172.17.200.100-172.17.200.101"))?;
    for name in ["s0", "s1", "s2", "s3", "s4"] {
        plan(&format!("{name}.yaml"), &manifest(name))?;
    }
    let asks = service("asks", &json!({}), &json!({"loadBalancerIP": "192.0.2.7"}), &json!([{"ip": "192.0.2.7"}]));
    let was = service("was", &json!({}), &json!({"type": "ClusterIP"}), &json!([{"ip": "192.0.2.8"}]));
    plan("others.json", &json!({"apiVersion": "v1", "kind": "List", "items": [asks, was]}).to_string())?;
    let before = until(secs(10), "production is at rest", || {
        let (one, other) = (Production::look(&lab, &mooring)?, Production::look(&lab, &mooring)?);
        one.is_still(&other)?;
        ensure!(one.assignments.iter().all(|assignment| assignment.announced), "{:?}", one.assignments);
        let shown = ["mooring_allocator_leases 4", "mooring_allocator_unannounced_vips 0"];
        ensure!(shown.iter().all(|line| one.metrics.iter().any(|found| found == line)), "{:?}", one.metrics);
        Ok(one)
    })?;
    let (source, statuses) = (format!("dir:{}", planned.display()), mooring.status_folder());
    let start = |more: &[&str]| {
        workloads::shadow()?.args(["--source", &source]).args(more).arg("--status-dir").arg(&statuses).start(lab.host("control"))
    };
    let mut shadow = start(&[])?;
    wait_summary(&mut shadow, 7, 5)?;
    let second = "subnet-201";
    let wanted: BTreeMap<String, [String; 4]> = [
        ("default/s2", ["wouldMove", "172.17.200.102", "172.17.201.100", second]),
        ("default/s3", ["wouldMove", "172.17.200.103", "172.17.201.101", second]),
        ("default/s4", ["wouldGain", "", "172.17.201.102", second]),
        ("default/asks", ["refused", "192.0.2.7", "", ""]),
        ("default/was", ["wouldLose", "192.0.2.8", "", ""]),
    ]
    .map(|(service, told)| (service.to_owned(), told.map(str::to_owned)))
    .into();
    ensure!(differences(&mut shadow) == wanted, "{:?}", differences(&mut shadow));
    for (service, error) in [
        ("default/asks", "[\"192.0.2.7\"] is not allowed in config: 192.0.2.7 is in no pool"),
        ("default/s2", "[\"172.17.200.102\"] is not allowed in config: 172.17.200.102 is in no pool"),
        ("default/s4", ""),
    ] {
        shadow.wait_for(&json!({"event": "shadowDiffers", "service": service, "error": error}))?;
    }
    let metrics = lab.host("control").curl(&format!("http://{SHADOW_ADMIN}/metrics"))?;
    ensure!(metrics.lines().any(|line| line == "mooring_watcher_shadow_differs 5"), "{metrics}");
    marked_calls_see_the_shadow(&mooring)?;
    before.is_still(&Production::look(&lab, &mooring)?)?;
    end(&mut shadow, 5)?;
    before.is_still(&Production::look(&lab, &mooring)?)?;
    ensure!(mooring.watcher.events("termOutdated").is_empty() && mooring.allocator.events("termBegan").len() == 1);
    // For people.
    let mut readable = start(&["--log-format", "text"])?;
    until(secs(10), "a line that reads well", || {
        let line =
            "default/s3 would move from 172.17.200.103 to 172.17.201.101 of pool subnet-201: [\"172.17.200.103\"] is not allowed in config";
        let log = readable.log();
        ensure!(log.iter().any(|found| found.as_str().is_some_and(|found| found.contains(line))), "{log:?}");
        Ok(())
    })?;
    ensure!(readable.terminate()?.code() == Some(0));
    follows_what_happens(&mooring, &mut shadow, &plan, &manifest)
}

/// People see the shadow's state by the same metadata, and nobody reaches production by a mark that is not clear.
fn marked_calls_see_the_shadow(mooring: &Mooring) -> Result<()> {
    let list = |mark: &str| -> Result<Vec<String>> {
        let answer = Cluster::grpcurl(&["-H", mark, ALLOCATOR, "mooring.v1.InspectService/ListLeases"])?;
        let answer: Value = serde_json::from_str(&answer)?;
        let name = |lease: &Value| Some(format!("default/{}", lease["service"]["name"].as_str()?));
        Ok(answer["leases"].as_array().into_iter().flatten().filter_map(name).collect())
    };
    ensure!(list("mooring-shadow: true")? == ["default/s0", "default/s1", "default/s2", "default/s3", "default/s4"]);
    let real: Vec<String> = mooring.leases()?.into_keys().collect();
    ensure!(list("mooring-shadow: false")? == real && real.len() == 4, "{real:?}");
    let unclear = refused(list("mooring-shadow: yes"))?;
    ensure!(unclear.contains("InvalidArgument") && unclear.contains("\"yes\" is neither true nor false"), "{unclear}");
    let hello = json!({"hello": {"node": "node-x", "instance": "default", "boot_id": "b"}}).to_string();
    let method = "mooring.v1.AssignmentService/StreamAssignments";
    let alone = refused(Cluster::grpcurl(&["-H", "mooring-shadow: true", "-d", &hello, ALLOCATOR, method]))?;
    ensure!(alone.contains("mooring.v1.AssignmentService has no shadow"), "{alone}");
    ensure!(mooring.nodes()?.len() == 3, "a speaker has come in: {:?}", mooring.nodes()?);
    Ok(())
}

/// The plan changes, and so does production, while a shadow compares the two.
fn follows_what_happens(
    mooring: &Mooring,
    shadow: &mut Process,
    plan: &dyn Fn(&str, &str) -> Result<()>,
    manifest: &dyn Fn(&str) -> String,
) -> Result<()> {
    shadow.restart()?;
    wait_summary(shadow, 7, 5)?;
    plan("config.yaml", TWO_POOLS)?;
    plan("others.json", "{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": []}")?;
    wait_summary(shadow, 5, 1)?;
    let told = differences(shadow);
    ensure!(told.keys().collect::<Vec<_>>() == ["default/s4"], "{told:?}");
    // Production gives an address that the shadow has given to s4 in its mind: the one that is there counts.
    let planned = told["default/s4"][2].clone();
    ensure!(planned.starts_with("172.17.20"), "{planned}");
    let late = format!("{}  loadBalancerIP: {planned}\n", manifest("late"));
    mooring.apply("config.yaml", TWO_POOLS)?;
    mooring.apply("late.yaml", &late)?;
    mooring.wait_status("default", "late", &planned)?;
    plan("late.yaml", &manifest("late"))?;
    wait_summary(shadow, 6, 1)?;
    let told = differences(shadow);
    ensure!(told.len() == 1 && told["default/s4"][0] == "wouldGain" && told["default/s4"][2] != planned, "{told:?}");
    // And what production takes away would be there.
    mooring.delete("s0.yaml")?;
    wait_summary(shadow, 6, 2)?;
    ensure!(differences(shadow)["default/s0"][..2] == ["wouldGain", ""], "{:?}", differences(shadow));
    end(shadow, 2)
}

fn with_rights_to_read_alone_a_shadow_compares_a_cluster() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let cluster = cluster_of(&lab, TWO_POOLS, &left_by_others())?;
    rights_to_read_alone(&cluster)?;
    let mut allocator = workloads::allocator(lab.folder())?.start(lab.host("control"))?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let before = written(&cluster)?;
    ensure!(before.keys().all(|name| !name.starts_with("leases ") && !name.starts_with("events ")), "{before:?}");
    let mut shadow = shadow_on(&cluster)?.start(lab.host("control"))?;
    wait_summary(&mut shadow, 24, 4)?;
    let told = differences(&mut shadow);
    ensure!(told["default/0-outside"][..2] == ["wouldMove", "192.0.2.50"], "{told:?}");
    for name in ["default/a-new", "default/m-new", "default/z-new"] {
        ensure!(told[name][..2] == ["wouldGain", ""], "{told:?}");
    }
    // It follows: a Service comes, and its implementation gives it another address than Mooring would have.
    let later = |ingress: &Value| service("later", &json!({}), &json!({}), ingress);
    add(&cluster, &later(&json!([])))?;
    shadow.wait_for(&json!({"event": "shadowDiffers", "service": "default/later", "reason": "wouldGain"}))?;
    add(&cluster, &later(&json!([{"ip": "172.17.201.124"}])))?;
    shadow.wait_for(&json!({"event": "shadowAgrees", "service": "default/later"}))?;
    wait_summary(&mut shadow, 25, 4)?;
    end(&mut shadow, 4)?;
    let mut after = written(&cluster)?;
    ensure!(after.remove("services default/later").is_some() && after == before, "{after:?} is not {before:?}");
    ensure!(cluster.external_ips("default", "later")? == ["172.17.201.124"]);
    ensure!(allocator.events("termBegan").is_empty() && allocator.events("leaseGranted").is_empty());
    the_same_from_a_dump(&lab, &cluster)?;
    // Other pools, tried where nobody else reads them.
    let config = ONE_POOL.replace("namespace: metallb-system", "namespace: mooring-shadow").replace("172.17.200.", "172.17.9.");
    cluster.apply(&config)?;
    let mut tried = shadow_on(&cluster)?.args(["--namespace", "mooring-shadow"]).start(lab.host("control"))?;
    wait_summary(&mut tried, 25, 25)?;
    let told = differences(&mut tried);
    let reasons = |reason: &str| told.values().filter(|told| told[0] == reason).count();
    // Those that ask for their address by the field would be refused another one.
    ensure!((reasons("wouldMove"), reasons("refused"), reasons("wouldGain")) == (17, 5, 3), "{told:?}");
    end(&mut tried, 25)
}

/// Whoever may not run anything in the cluster compares what `kubectl get` wrote.
fn the_same_from_a_dump(lab: &Lab, cluster: &Cluster) -> Result<()> {
    let (dump, absent) = (lab.folder().join("dump"), lab.folder().join("absent"));
    fs::create_dir_all(&dump)?;
    fs::write(dump.join("all.yaml"), cluster.kubectl(&["get", "services,namespaces,nodes", "--all-namespaces", "--output", "yaml"])?)?;
    fs::write(
        dump.join("config.yaml"),
        cluster.kubectl(&["get", "configmap", "config", "--namespace", "metallb-system", "--output", "yaml"])?,
    )?;
    let source = format!("dir:{}", dump.display());
    let mut shadow = workloads::shadow()?.args(["--source", &source]).arg("--status-dir").arg(&absent).start(lab.host("control"))?;
    wait_summary(&mut shadow, 25, 4)?;
    shadow.wait_for(&json!({"event": "statusAbsent"}))?;
    end(&mut shadow, 4)?;
    ensure!(!absent.exists(), "a folder was made");
    Ok(())
}

/// No verb that writes, of anything.
fn rights_to_read_alone(cluster: &Cluster) -> Result<()> {
    for role in ["mooring:shadow", "mooring:shadow-config"] {
        let role = cluster.get(&["clusterrole", role])?;
        let rules = role["rules"].as_array().context("no rules")?;
        let verbs: Vec<&Value> = rules.iter().flat_map(|rule| rule["verbs"].as_array().into_iter().flatten()).collect();
        ensure!(!verbs.is_empty() && verbs.iter().all(|verb| ["get", "list", "watch"].iter().any(|read| *verb == read)), "{role}");
    }
    for (verb, what) in [
        ("patch", "services/status"),
        ("create", "events.events.k8s.io"),
        ("create", "leases.coordination.k8s.io"),
        ("patch", "ipaddresspools.metallb.io/status"),
        ("create", "servicel2statuses.metallb.io"),
    ] {
        let account = "--as=system:serviceaccount:mooring-shadow:mooring-shadow";
        let answer = refused(cluster.kubectl(&["auth", "can-i", verb, what, account, "--all-namespaces"]))?;
        ensure!(answer.contains("no\n"), "{verb} {what}: {answer}");
    }
    Ok(())
}
