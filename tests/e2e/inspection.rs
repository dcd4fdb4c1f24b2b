//! What people see: grpcurl, health, probes, metrics, and the log lines of MetalLB.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{Host, Lab, Process, Program};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::failover::{announcer, one_service};
use crate::story::{NGINX_LB, ONE_POOL, TWO_POOLS};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("inspection::grpcurl_lists_describes_and_calls_everything", grpcurl_lists_describes_and_calls_everything),
    ("inspection::health_is_honest", health_is_honest),
    ("inspection::whoever_watches_health_is_told_of_the_end", whoever_watches_health_is_told_of_the_end),
    ("inspection::probes_and_metrics_are_served", probes_and_metrics_are_served),
    ("inspection::the_log_lines_of_metallb", the_log_lines_of_metallb),
    ("inspection::a_dual_stack_service_logs_one_line_an_address", a_dual_stack_service_logs_one_line_an_address),
    ("inspection::flags_by_environment_port_zero_unix_sockets_and_exit_codes", flags_by_environment_port_zero_unix_sockets_and_exit_codes),
];

pub(crate) const ALLOCATOR: &str = "172.17.0.2:7470";
const INSPECT: &str = "mooring.v1.InspectService";
const ANNOUNCE: &str = "mooring.v1.AnnouncementService";

pub(crate) fn call(host: &str, data: &Value, method: &str) -> Result<Value> {
    let answer = Cluster::grpcurl(&["-d", &data.to_string(), host, method])?;
    serde_json::from_str(&answer).with_context(|| format!("{method}: {answer}"))
}

fn grpcurl_lists_describes_and_calls_everything() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    announcer(&mooring)?;
    let grpcurl = Cluster::grpcurl_path()?;
    let ask = |host: &str, arguments: &[&str]| lab.host(host).netns().output(&grpcurl, &[&["-plaintext"], arguments].concat());
    let always = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];
    let methods = [
        "GetLease",
        "ListLeases",
        "WatchLeases",
        "ListPools",
        "ListNodes",
        "ListAssignments",
        "Explain",
        "PlanPools",
        "ListReservations",
        "ListHistory",
    ];
    let workloads = [
        (
            "control",
            ALLOCATOR,
            &["mooring.v1.AllocatorService", "mooring.v1.AssignmentService", INSPECT, "mooring.v1.OperatorService"][..],
            Some((INSPECT, &methods[..])),
        ),
        ("control", "172.17.0.2:7475", &[], None),
        (&node, "127.0.0.1:7471", &[ANNOUNCE], Some((ANNOUNCE, &["ListAnnouncements"]))),
    ];
    for (host, at, services, described) in workloads {
        let listed = ask(host, &[at, "list"])?;
        ensure!(listed.lines().eq(always.iter().chain(services).copied()), "{at}: {listed}");
        let all = ask(host, &[at, "describe"])?;
        ensure!(always.iter().chain(services).all(|service| all.contains(&format!("{service} is a service:"))), "{at}: {all}");
        if let Some((service, methods)) = described {
            let one = ask(host, &[at, "describe", service])?;
            ensure!(methods.iter().all(|method| one.contains(&format!("rpc {method} ("))), "{at}: {one}");
        }
    }
    let service = json!({"namespace": "default", "name": "nginx-lb"});
    let state = call(ALLOCATOR, &service, "mooring.v1.InspectService/GetLease")?;
    ensure!(state["state"]["lease"]["addresses"] == json!(["172.17.200.100"]) && state["state"]["lease"]["pool"] == "default", "{state}");
    ensure!(state["state"]["announcements"][0]["node"] == node.as_str(), "{state}");
    let leases = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListLeases")?;
    ensure!(leases["leases"].as_array().map(Vec::len) == Some(1), "{leases}");
    let pools = call(ALLOCATOR, &json!({}), "mooring.v1.InspectService/ListPools")?;
    ensure!(pools["pools"][0]["pool"]["name"] == "default", "{pools}");
    let nodes = call(ALLOCATOR, &json!({"page_size": 2}), "mooring.v1.InspectService/ListNodes")?;
    ensure!(nodes["nodes"].as_array().map(Vec::len) == Some(2), "{nodes}");
    let rest = call(ALLOCATOR, &json!({"page_size": 2, "page_token": nodes["nextPageToken"]}), "mooring.v1.InspectService/ListNodes")?;
    ensure!(rest["nodes"].as_array().map(Vec::len) == Some(1) && rest["nextPageToken"].is_null(), "{rest}");
    let assignments = call(ALLOCATOR, &json!({"node": node}), "mooring.v1.InspectService/ListAssignments")?;
    ensure!(
        assignments["assignments"][0]["vip"] == "172.17.200.100" && assignments["assignments"][0]["announced"] == true,
        "{assignments}"
    );
    // A stream that does not end: the snapshot comes at once, then grpcurl's own deadline.
    let watched = refused(Cluster::grpcurl(&["-max-time", "1", "-d", "{}", ALLOCATOR, "mooring.v1.InspectService/WatchLeases"]))?;
    let snapshot = watched.find("{\n").and_then(|at| watched.get(at..)).context("no snapshot")?;
    let snapshot: Value = serde_json::Deserializer::from_str(snapshot).into_iter().next().context("no snapshot")??;
    ensure!(snapshot["snapshot"]["complete"] == true && snapshot["snapshot"]["services"] == json!([state["state"]]), "{watched}");
    ensure!(watched.contains("DeadlineExceeded"), "{watched}");
    let answer = ask(&node, &["127.0.0.1:7471", "mooring.v1.AnnouncementService/ListAnnouncements"])?;
    let announcements: Value = serde_json::from_str(&answer)?;
    ensure!(announcements["vips"][0]["vip"] == "172.17.200.100" && announcements["vips"][0]["role"] == "ROLE_ACTIVE", "{announcements}");
    let missing = refused(call(ALLOCATOR, &json!({"namespace": "default", "name": "none"}), "mooring.v1.InspectService/GetLease"))?;
    ensure!(missing.contains("NotFound") && missing.contains("default/none"), "{missing}");
    Ok(())
}

/// Health as one of a host's workloads tells it.
fn health(host: &Host, at: &str, service: &str) -> Result<String> {
    let asked = json!({"service": service}).to_string();
    let answer = host.netns().output(&Cluster::grpcurl_path()?, &["-plaintext", "-d", &asked, at, "grpc.health.v1.Health/Check"])?;
    let answer: Value = serde_json::from_str(&answer)?;
    answer["status"].as_str().map(str::to_owned).with_context(|| format!("no status: {answer}"))
}

/// Waits until health is just this.
fn wait_health(host: &Host, at: &str, service: &str, wanted: &str) -> Result<()> {
    until(secs(5), &format!("{at} {service:?} is {wanted}"), || {
        let status = health(host, at, service)?;
        ensure!(status == wanted, "{status}");
        Ok(())
    })
}

fn health_is_honest() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let (control, on_node, speaker) = (lab.host("control"), lab.host(&node), "127.0.0.1:7471");
    let all = [
        (control, ALLOCATOR, "mooring.v1.AllocatorService"),
        (control, ALLOCATOR, "mooring.v1.AssignmentService"),
        (control, ALLOCATOR, INSPECT),
        (control, ALLOCATOR, "mooring.v1.OperatorService"),
        (control, ALLOCATOR, ""),
        (control, "172.17.0.2:7475", ""),
        (on_node, speaker, ANNOUNCE),
        (on_node, speaker, ""),
    ];
    for (host, at, service) in all {
        wait_health(host, at, service, "SERVING")?;
    }
    let unknown = refused(health(control, ALLOCATOR, "mooring.v1.NoSuchService"))?;
    ensure!(unknown.contains("NotFound"), "{unknown}");
    // Without an interface nothing is announced; with it, all is as before.
    on_node.netns().run("ip", &["link", "set", "eth0", "down"])?;
    for service in [ANNOUNCE, ""] {
        wait_health(on_node, speaker, service, "NOT_SERVING")?;
    }
    ensure!(refused(on_node.curl("http://127.0.0.1:7474/readyz"))?.contains("503"));
    on_node.netns().run("ip", &["link", "set", "eth0", "up"])?;
    for service in [ANNOUNCE, ""] {
        wait_health(on_node, speaker, service, "SERVING")?;
    }
    // A speaker that has never reached an allocator is not ready, but can tell what it announces: nothing.
    mooring.allocator.kill_9()?;
    let process = mooring.speaker(&node)?;
    process.kill_9()?;
    process.restart()?;
    process.wait_for(&json!({"event": "createARPResponder"}))?;
    wait_health(on_node, speaker, ANNOUNCE, "SERVING")?;
    ensure!(health(on_node, speaker, "")? == "NOT_SERVING");
    // A watcher that has never reached its API server is not ready.
    let config = lab.folder().join("nobody.kubeconfig");
    let nobody = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "nobody",
        "clusters": [{"name": "nobody", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "nobody", "user": {}}], "contexts": [{"name": "nobody", "context": {"cluster": "nobody", "user": "nobody"}}],
    });
    std::fs::write(&config, nobody.to_string())?;
    let watcher = Program::own("watcher-svc")?.args(["--source", "kube", "--listen", "127.0.0.1:7480", "--admin", "127.0.0.1:7481"]);
    let mut watcher = watcher.env("KUBECONFIG", &config).start(control)?;
    watcher.wait_for(&json!({"event": "apiServerAway"}))?;
    ensure!(health(control, "127.0.0.1:7480", "")? == "NOT_SERVING");
    ensure!(refused(control.curl("http://127.0.0.1:7481/readyz"))?.contains("503"));
    ensure!(watcher.terminate()?.code() == Some(0));
    Ok(())
}

fn whoever_watches_health_is_told_of_the_end() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    announcer(&mooring)?;
    let watch = |host: &str, at: &str, service: &str| -> Result<Process> {
        let asked = json!({"service": service}).to_string();
        let grpcurl = Program::new(Cluster::grpcurl_path()?).args(["-plaintext", "-d", &asked, at, "grpc.health.v1.Health/Watch"]);
        let mut watch = grpcurl.start(lab.host(host))?;
        until(secs(5), "health is told", || {
            let told = statuses(&mut watch);
            ensure!(told == ["SERVING"], "{told:?}");
            Ok(())
        })?;
        Ok(watch)
    };
    // The allocator stands still, so that nobody takes the speaker's addresses from it while it drains.
    let (speaker, host) = ("127.0.0.1:7471", lab.host(&node));
    let mut watches = vec![watch(&node, speaker, "")?, watch(&node, speaker, ANNOUNCE)?];
    mooring.allocator.freeze(true)?;
    mooring.speaker(&node)?.ask_to_end()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "drainStarted"}))?;
    for service in ["", ANNOUNCE] {
        wait_health(host, speaker, service, "NOT_SERVING")?;
    }
    ensure!(refused(host.curl("http://127.0.0.1:7474/readyz"))?.contains("503"));
    let answer =
        host.netns().output(&Cluster::grpcurl_path()?, &["-plaintext", speaker, "mooring.v1.AnnouncementService/ListAnnouncements"])?;
    ensure!(answer.contains("172.17.200.100"), "{answer}");
    ensure!(mooring.speaker(&node)?.is_running()?, "the speaker has not waited for anybody");
    mooring.allocator.freeze(false)?;
    ensure!(mooring.speaker(&node)?.wait_end()?.code() == Some(0));
    watches.extend([watch("control", ALLOCATOR, INSPECT)?, watch("control", ALLOCATOR, "")?, watch("control", "172.17.0.2:7475", "")?]);
    for process in [&mut mooring.watcher, &mut mooring.allocator] {
        ensure!(process.terminate()?.code() == Some(0));
    }
    for watch in &mut watches {
        // The stream ended in order: nobody has broken it off.
        let end = watch.wait_end()?;
        let told = statuses(watch);
        ensure!(end.success() && told == ["SERVING", "NOT_SERVING"], "{end}: {told:?} {}", watch.said());
    }
    Ok(())
}

/// What a watch of health has told so far.
fn statuses(watch: &mut Process) -> Vec<String> {
    let told = watch.written().iter().filter_map(|line| line.trim().strip_prefix("\"status\": \""));
    told.map(|status| status.trim_end_matches('"').to_owned()).collect()
}

fn probes_and_metrics_are_served() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    announcer(&mooring)?;
    for (host, admin, series) in [
        ("control", "172.17.0.2:7472", "mooring_allocator_vips 1"),
        ("control", "172.17.0.2:7473", "metallb_allocator_addresses_in_use_total{pool=\"default\"} 1"),
        (&node, "127.0.0.1:7474", "metallb_speaker_announced{"),
    ] {
        for probe in ["healthz", "readyz"] {
            until(secs(5), "the probe succeeds", || lab.host(host).curl(&format!("http://{admin}/{probe}")))?;
        }
        until(secs(5), "the series is there", || {
            let metrics = lab.host(host).curl(&format!("http://{admin}/metrics"))?;
            ensure!(metrics.lines().any(|line| line.starts_with(series)), "no {series} in {metrics}");
            ensure!(metrics.contains("mooring_build_info") && metrics.ends_with("# EOF\n"), "{metrics}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The keys of a line, in the order written: a parsed object has forgotten it.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Keys, M::Error> {
        let mut keys = Vec::new();
        while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
            keys.push(key);
        }
        Ok(Keys(keys))
    }
}

fn the_log_lines_of_metallb() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let service = "default/nginx-lb";
    let ip = "172.17.200.100";
    let watched = [
        json!({"event": "startUpdate", "msg": "start of service update", "service": service}),
        json!({"event": "ipAllocated", "msg": "IP address assigned by controller", "service": service, "ip": ip, "pool": "default"}),
        json!({"event": "serviceUpdated", "msg": "updated service object", "service": service}),
        json!({"event": "endUpdate", "msg": "end of service update", "service": service}),
    ];
    let mut lines = Vec::new();
    for wanted in &watched {
        lines.push(mooring.watcher.wait_for(wanted)?);
    }
    let speaker = mooring.speaker(&node)?;
    for wanted in [
        json!({"event": "startUpdate", "msg": "start of service update", "service": service}),
        json!({"event": "serviceAnnounced", "msg": "service has IP, announcing", "service": service, "ip": ip, "pool": "default", "protocol": "layer2"}),
        json!({"event": "endUpdate", "msg": "end of service update", "service": service}),
    ] {
        lines.push(speaker.wait_for(&wanted)?);
    }
    mooring.delete("nginx-lb.yaml")?;
    let withdrawn = json!({"event": "serviceWithdrawn", "msg": "withdrawing service announcement", "service": service, "ip": ip, "pool": "default", "protocol": "layer2"});
    let line = mooring.speaker(&node)?.wait_for(&withdrawn)?;
    ensure!(line["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{line}");
    lines.push(line);
    for line in lines {
        ensure!(line["service"] == service, "{line}");
        let (ts, caller) = (line["ts"].as_str().unwrap_or_default(), line["caller"].as_str().unwrap_or_default());
        ensure!(ts.len() == "2026-01-01T00:00:00.123456789Z".len() && ts.ends_with('Z'), "{line}");
        ensure!(caller.split_once(".rs:").is_some_and(|(_, number)| number.parse::<u32>().is_ok()), "{line}");
    }
    for process in [&mut mooring.allocator, &mut mooring.watcher].into_iter().chain(mooring.speakers.values_mut()) {
        let written = process.written();
        ensure!(!written.is_empty(), "nothing was logged");
        for line in written {
            let Keys(keys) = serde_json::from_str(line).with_context(|| format!("not one JSON object: {line}"))?;
            ensure!(keys.is_sorted_by(|a, b| a < b), "keys are not in alphabetical order, each once: {line}");
            ensure!(["caller", "event", "level", "msg", "ts"].iter().all(|key| keys.iter().any(|found| found == key)), "{line}");
        }
    }
    Ok(())
}

fn a_dual_stack_service_logs_one_line_an_address() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let range = "- 172.17.200.100-172.17.200.125";
    mooring.apply("config.yaml", &ONE_POOL.replace(range, &format!("{range}\n      - fd00:200::100-fd00:200::125")))?;
    mooring.apply("nginx-lb.yaml", &format!("{NGINX_LB}  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n"))?;
    let service = "default/nginx-lb";
    mooring.watcher.wait_for(&json!({"event": "endUpdate", "service": service}))?;
    let addresses = ["172.17.200.100", "fd00:200::100"];
    ensure!(mooring.status("default", "nginx-lb")? == addresses, "{:?}", mooring.status("default", "nginx-lb")?);
    let mut logged: Vec<String> = Vec::new();
    for line in mooring.watcher.events("ipAllocated") {
        ensure!(line["service"] == service && line["pool"] == "default" && line["msg"] == "IP address assigned by controller", "{line}");
        logged.extend(line["ip"].as_str().map(str::to_owned));
    }
    ensure!(logged == addresses, "{logged:?}");
    Ok(())
}

fn flags_by_environment_port_zero_unix_sockets_and_exit_codes() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let control = lab.host("control");
    let socket = lab.folder().join("allocator.sock");
    let listen = format!("unix:{}", socket.display());
    let allocator = Program::own("allocator-svc")?.args(["--listen", &listen, "--admin", "127.0.0.1:0"]);
    let mut allocator = allocator.env("MOORING_DATA_DIR", lab.folder().join("elsewhere")).start(control)?;
    let line = allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    ensure!(line["address"].as_str() == Some(&listen), "{line}");
    ensure!(lab.folder().join("elsewhere").is_dir(), "the environment variable does not count");
    std::fs::create_dir_all(lab.folder().join("manifests"))?;
    std::fs::write(lab.folder().join("manifests/all.yaml"), TWO_POOLS)?;
    let source = format!("dir:{}", lab.folder().join("manifests").display());
    let watcher = Program::own("watcher-svc")?.args([
        "--source",
        &source,
        "--allocator",
        &listen,
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    let mut watcher = watcher.arg("--status-dir").arg(lab.folder().join("status")).start(control)?;
    watcher.wait_for(&json!({"event": "configLoaded", "pools": 2}))?;
    ensure!(watcher.terminate()?.code() == Some(0));
    ensure!(allocator.terminate()?.code() == Some(0));
    for (program, arguments, told) in [
        ("allocator-svc", &["--speaker-ttl", "soon"][..], "--speaker-ttl"),
        ("allocator-svc", &["--listen", "0.0.0.0:7470"], "--insecure"),
        ("watcher-svc", &["--source", "nowhere"], "--source"),
        ("watcher-svc", &[], "--source"),
        ("watcher-svc", &["--source", "kube", "--allocator", "http://192.0.2.1:7470"], "plain text beyond this machine"),
        (
            "watcher-svc",
            &["--source", "kube", "--allocator", "http://192.0.2.1:7470", "--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"],
            "give https://",
        ),
        ("watcher-svc", &["--source", "kube", "--allocator", "https://192.0.2.1:7470"], "needs a certificate"),
        ("speaker-svc", &[], "--node-name"),
        ("speaker-svc", &["--node-name", "/x"], "--node-name: \"/x\" is no such name"),
        ("speaker-svc", &["--node-name", "a", "--interfaces", "("], "--interfaces"),
    ] {
        let mut process = Program::own(program)?.args(arguments.iter().copied()).start(control)?;
        let status = process.wait_end()?;
        ensure!(status.code() == Some(2) && process.stderr().contains(told), "{program} {arguments:?}: {status}, {}", process.stderr());
    }
    let absent = ["--source", "dir:/no/such/folder", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut process = Program::own("watcher-svc")?.args(absent).arg("--status-dir").arg(lab.folder().join("status")).start(control)?;
    let status = process.wait_end()?;
    let told = format!("{}{:?}", process.stderr(), process.log());
    ensure!(status.code() == Some(1) && told.contains("/no/such/folder"), "{status}: {told}");
    Ok(())
}
