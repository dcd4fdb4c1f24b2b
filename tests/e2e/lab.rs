//! The lab itself: if this fails, no other failure means anything.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::capture::Capture;
use mooring_tests::lab::cluster::{Cluster, dns, nginx};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::{Lab, Process, Program, binary, output, run};
use serde_json::json;

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("lab::hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled", hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled),
    ("lab::the_kernel_serves_vips_but_never_answers_arp_for_them", the_kernel_serves_vips_but_never_answers_arp_for_them),
    ("lab::a_real_control_plane_serves_real_pods", a_real_control_plane_serves_real_pods),
    ("lab::a_process_is_killed_and_started_again", a_process_is_killed_and_started_again),
    (
        "lab::nothing_of_the_host_is_written_and_nothing_is_left_of_a_killed_lab",
        nothing_of_the_host_is_written_and_nothing_is_left_of_a_killed_lab,
    ),
];

fn hosts_resolve_and_ping_each_other_and_a_cable_can_be_pulled() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (client, node) = (lab.host("client"), lab.host("node-a"));
    let mut capture = Capture::begin(node)?;
    ensure!(client.arp(node.address())? == node.mac());
    ensure!(capture.arps().iter().any(|arp| arp.spa == client.address() && arp.tpa == node.address()));
    let pings = client.ping_every(millis(5), node.address())?;
    until(secs(5), "node-a answers", || client.arp(node.address()))?;
    node.port_down()?;
    ensure!(client.arp_all(node.address(), millis(200))?.is_empty(), "answers without a cable");
    node.port_up()?;
    until(secs(5), "node-a answers again", || client.arp(node.address()))?;
    let report = pings.finish()?;
    ensure!(report.lost > 0 && report.gap >= millis(150), "{report:?}");
    Ok(())
}

fn the_kernel_serves_vips_but_never_answers_arp_for_them() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let vip = "172.17.200.100".parse()?;
    ensure!(lab.host("client").arp_all(vip, millis(200))?.is_empty());
    lab.host("client")
        .netns()
        .run("ip", &["neighbor", "replace", "172.17.200.100", "lladdr", &lab.host("node-b").mac().to_string(), "dev", "eth0"])?;
    let pings = lab.host("client").ping_every(millis(5), vip)?;
    lab.host("client").arp_all(vip, millis(200))?;
    let report = pings.finish()?;
    ensure!(report.sent > 10 && report.lost == 0, "{report:?}");
    Ok(())
}

fn a_process_is_killed_and_started_again() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let script = r#"echo '{"event":"up"}'; exec sleep 60"#;
    let mut process = Program::new("sh").args(["-c", script]).start(lab.host("node-c"))?;
    process.wait_for(&json!({"event": "up"}))?;
    process.kill_9()?;
    ensure!(!process.is_running()?);
    process.restart()?;
    process.wait_for(&json!({"event": "up"}))?;
    ensure!(process.terminate()?.code().is_none(), "ended by the signal");
    Ok(())
}

fn a_real_control_plane_serves_real_pods() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut cluster = Cluster::start(&lab)?;
    let node = lab.host("node-a");
    cluster.add_node(node)?;
    cluster.start_controllers(lab.host("control"))?;
    cluster.start_proxy(node)?;
    let (_nginx, _dns) = (nginx(&lab, node, 8080)?, dns(node)?);
    cluster.add_pod("default", "web", &json!({"run": "nginx-web"}), node)?;
    cluster.apply(include_str!("../../deploy/examples/nginx-lb.yaml"))?;
    cluster.kubectl(&["patch", "service", "nginx-lb", "--type=merge", "--patch", r#"{"spec":{"externalIPs":["172.17.200.7"]}}"#])?;
    lab.host("client").netns().run("ip", &["route", "add", "172.17.200.7/32", "via", &node.address().to_string()])?;
    let page = until(secs(20), "the Service answers through kube-proxy", || lab.host("client").curl("http://172.17.200.7:8080/"))?;
    ensure!(page == "nginx on node-a\n", "{page}");
    cluster.save_etcd()?;
    cluster.kubectl(&["delete", "service", "nginx-lb"])?;
    cluster.restore_etcd()?;
    cluster.get(&["service", "nginx-lb"])?;
    Ok(())
}

/// Runs a program where nothing of the host can be written: every file system that keeps files is there for reading only.
const READ_ONLY: &str = r#"
set -eu
while read -r _ _ _ _ point options rest; do
  kind="${rest#*- }"
  case "${kind%% *}" in
    proc|sysfs|cgroup*|devpts|mqueue|nsfs|bpf|pstore|tracefs|debugfs|securityfs|configfs|fusectl|hugetlbfs|binfmt_misc|autofs) ;;
    *) mount -o "remount,bind,ro,$options,ro" "$point" ;;
  esac
done < /proc/self/mountinfo
for folder in / /tmp /var/tmp /run /dev/shm "$HOME"; do
  if touch "$folder/mooring-was-here" 2>/dev/null; then echo "$folder can be written" >&2; exit 1; fi
done
exec env -u MOORING_LAB -u MOORING_LAB_LOGS -u TMPDIR "$@"
"#;

fn on_read_only_host(lab: &Lab, program: &Path, arguments: &[&str]) -> Result<Process> {
    let unshare = Program::new("unshare").args(["--mount", "sh", "-c", READ_ONLY, "sh"]).arg(program);
    unshare.args(arguments.iter().copied()).with_person().start(lab.host("client"))
}

/// The processes of a lab, by what each was told of the process that began it.
fn processes_of(starter: u32) -> Result<Vec<String>> {
    let mark = format!("MOORING_LAB={starter}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // One that has just ended cannot be read, and is none.
        let variables = std::fs::read(path.join("environ")).unwrap_or_default();
        if variables.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            found.push(std::fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn nothing_of_the_host_is_written_and_nothing_is_left_of_a_killed_lab() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    for inner in [false, true] {
        let mut demo = on_read_only_host(&lab, &binary("demo")?, &["--stay"])?;
        until(secs(60), "the demo stays up", || {
            let said = demo.log().iter().any(|line| line.as_str().is_some_and(|line| line.starts_with("== It stays up")));
            ensure!(said, "{}", demo.said());
            Ok(())
        })?;
        let starter = demo.pid();
        let running = processes_of(starter)?;
        for name in ["demo", "allocator-svc", "watcher-svc", "speaker-svc", "nginx", "dnsmasq"] {
            ensure!(running.iter().any(|running| running == name), "no {name}: {running:?}");
        }
        if inner {
            let child = output("pgrep", &["--parent", &starter.to_string()])?;
            run("kill", &["-9", child.trim()])?;
            demo.wait_end()?;
        } else {
            demo.kill_9()?;
        }
        until(secs(5), "all of it is gone", || {
            let left = processes_of(starter)?;
            ensure!(left.is_empty(), "left: {left:?}");
            Ok(())
        })?;
    }
    // The control plane with its keys and its data is no different.
    let me = std::env::current_exe()?;
    let mut scenario = on_read_only_host(&lab, &me, &["--exact", "lab::a_real_control_plane_serves_real_pods"])?;
    until(secs(120), "the scenario ends", || {
        ensure!(!scenario.is_running()?, "{}", scenario.said());
        Ok(())
    })?;
    let status = scenario.wait_end()?;
    let passed = scenario.log().iter().any(|line| line.as_str().is_some_and(|line| line.contains("1 passed")));
    ensure!(status.success() && passed, "{status}: {}", scenario.said());
    processes_of(scenario.pid())?.is_empty().then_some(()).context("something is left of the control plane")
}
