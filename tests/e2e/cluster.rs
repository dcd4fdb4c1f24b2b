//! On a real API server: kubectl in front, kube-proxy behind, the watcher under its own ServiceAccount.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::cluster::{Cluster, dns, nginx};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{Mooring, watcher};
use mooring_tests::lab::{Host, Lab, Process};
use serde_json::json;

use crate::Scenario;
use crate::failover::{VIP, announcer};
use crate::story::{COREDNS_TCP, COREDNS_UDP, NGINX_LB, NGINX_LB2, ONE_POOL, TWO_POOLS};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("cluster::the_story_by_kubectl", the_story_by_kubectl),
    (
        "cluster::nodes_that_kubectl_cordons_or_excludes_are_left_without_a_gap",
        nodes_that_kubectl_cordons_or_excludes_are_left_without_a_gap,
    ),
    ("cluster::crds_installed_after_mooring_are_found", crds_installed_after_mooring_are_found),
    (
        "cluster::without_the_api_server_all_answers_and_afterwards_all_converges",
        without_the_api_server_all_answers_and_afterwards_all_converges,
    ),
    (
        "cluster::etcd_restored_to_before_the_status_gives_the_same_address_back",
        etcd_restored_to_before_the_status_gives_the_same_address_back,
    ),
    ("cluster::a_second_watcher_stands_by_and_takes_over", a_second_watcher_stands_by_and_takes_over),
    (
        "cluster::a_leader_whose_requests_are_swallowed_stops_before_another_one_leads",
        a_leader_whose_requests_are_swallowed_stops_before_another_one_leads,
    ),
];

/// A cluster with everything of deploy/ in it, but run by the lab instead of kubelets.
pub(crate) struct Setup {
    pub(crate) mooring: Mooring,
    pub(crate) cluster: Cluster,
    pub(crate) account: PathBuf,
    pub(crate) backends: Vec<Process>,
}

impl Setup {
    /// Nodes, Pods and kube-proxies; Mooring as deployed, without a configuration.
    pub(crate) fn new(lab: &Lab, with_crds: bool) -> Result<Self> {
        let mut cluster = Cluster::start(lab)?;
        if with_crds {
            // The overlay is all of it, with pools that each scenario chooses for itself.
            cluster.apply_kustomization("overlays/kind")?;
            cluster.kubectl(&["delete", "configmap", "config", "--namespace", "metallb-system"])?;
        } else {
            cluster.apply(include_str!("../../deploy/kustomize/config/namespace.yaml"))?;
        }
        cluster.apply_kustomization("base")?;
        let account = cluster.account_kubeconfig("mooring-system", "mooring-watcher")?;
        cluster.start_controllers(lab.host("control"))?;
        let mut backends = Vec::new();
        for node in lab.nodes() {
            node.leave_vips()?;
            cluster.add_node(node)?;
        }
        let node = lab.host("node-a");
        backends.extend([nginx(lab, node, 8080)?, dns(node)?]);
        cluster.add_pod("default", "web", &json!({"run": "nginx-web"}), node)?;
        cluster.add_pod("kube-system", "coredns", &json!({"k8s-app": "kube-dns"}), node)?;
        for node in lab.nodes() {
            cluster.start_proxy(node)?;
        }
        let mooring =
            Mooring::start(lab, watcher()?.args(["--source", "kube"]).env("KUBECONFIG", &account).env("POD_NAMESPACE", "mooring-system"))?;
        Ok(Self { mooring, cluster, account, backends })
    }
}

fn the_story_by_kubectl() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    let client = lab.host("client");
    cluster.apply(ONE_POOL)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    let page = until(secs(10), "the Service answers through kube-proxy", || client.curl("http://172.17.200.100:8080/"))?;
    ensure!(page == "nginx on node-a\n", "{page}");
    let node = announcer(&mooring)?;
    ensure!(client.arp(VIP)? == lab.host(&node).mac());
    let updates = mooring.watcher.events("serviceUpdated").len();
    cluster.apply(TWO_POOLS)?;
    cluster.apply(NGINX_LB2)?;
    cluster.wait_external_ip("default", "nginx-lb2", "172.17.201.100")?;
    ensure!(announcer(&mooring)? == node && updates == 1, "the first Service has been touched");
    cluster.apply(COREDNS_TCP)?;
    cluster.apply(COREDNS_UDP)?;
    cluster.wait_external_ip("kube-system", "coredns-tcp", "172.17.200.101")?;
    cluster.wait_external_ip("kube-system", "coredns-udp", "172.17.200.101")?;
    for tcp in [true, false] {
        let answer = until(secs(10), "DNS answers through kube-proxy", || client.dig("172.17.200.101".parse()?, "web.lab.example", tcp))?;
        ensure!(answer == "192.0.2.53", "{answer}");
    }
    let listed = cluster.kubectl(&["get", "services", "--all-namespaces"])?;
    for (name, address) in [("nginx-lb", "172.17.200.100"), ("nginx-lb2", "172.17.201.100"), ("coredns-tcp", "172.17.200.101")] {
        let line = listed.lines().find(|line| line.contains(&format!(" {name} "))).unwrap_or_default();
        ensure!(line.contains(address), "{listed}");
    }
    let service = cluster.get(&["service", "nginx-lb"])?;
    ensure!(service.pointer("/status/loadBalancer/ingress/0/ipMode") == Some(&json!("VIP")), "{service}");
    ensure!(service.pointer("/metadata/annotations/metallb.io~1ip-allocated-from-pool") == Some(&json!("default")), "{service}");
    let described = until(secs(10), "kubectl describe shows the Events", || {
        let described = cluster.kubectl(&["describe", "service", "nginx-lb"])?;
        for text in [
            "IPAllocated",
            "Assigned IP [\"172.17.200.100\"]",
            "nodeAssigned",
            &format!("announcing from node \"{node}\" with protocol \"layer2\""),
        ] {
            ensure!(described.contains(text), "{described}");
        }
        Ok(described)
    })?;
    ensure!(described.matches("IPAllocated").count() == 1, "{described}");
    let l2 = cluster.get(&["servicel2statuses.metallb.io", "--namespace", "metallb-system"])?;
    let of = |name: &str| l2["items"].as_array().into_iter().flatten().filter(|item| item["status"]["serviceName"] == name).count();
    ensure!(of("nginx-lb") == 1 && of("nginx-lb2") == 1, "{l2}");
    cluster.kubectl(&["delete", "service", "nginx-lb"])?;
    until(secs(10), "ARP for the address falls silent", || {
        let answers = client.arp_all(VIP, millis(300))?;
        ensure!(answers.is_empty(), "{answers:?}");
        Ok(())
    })?;
    // Another type releases as deletion does, and leaves no trace in the object.
    cluster.kubectl(&["patch", "service", "nginx-lb2", "--type=merge", "--patch", r#"{"spec":{"type":"ClusterIP"}}"#])?;
    until(secs(10), "the lease is released and the annotation gone", || {
        let service = cluster.get(&["service", "nginx-lb2"])?;
        ensure!(service.pointer("/metadata/annotations/metallb.io~1ip-allocated-from-pool").is_none(), "{service}");
        ensure!(cluster.external_ips("default", "nginx-lb2")?.is_empty(), "{service}");
        ensure!(!mooring.leases()?.contains_key("default/nginx-lb2"));
        Ok(())
    })?;
    forbidden(&mut mooring)
}

/// The rights in deploy/ are enough.
fn forbidden(mooring: &mut Mooring) -> Result<()> {
    let refused: Vec<_> = mooring.watcher.log().iter().filter(|line| line.to_string().contains("forbidden")).cloned().collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

fn nodes_that_kubectl_cordons_or_excludes_are_left_without_a_gap() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    let client = lab.host("client");
    cluster.apply(ONE_POOL)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    let first = announcer(&mooring)?;
    let arps = client.arp_every(millis(5), VIP)?;
    until(secs(5), "answers come", || client.arp(VIP))?;
    let left = |before: &[&str]| {
        until(secs(10), &format!("{before:?} are left"), || {
            let now = mooring.announcer("172.17.200.100")?;
            ensure!(!before.contains(&now.as_str()), "still {now}");
            Ok(now)
        })
    };
    cluster.kubectl(&["cordon", &first])?;
    let second = left(&[&first])?;
    let label = "node.kubernetes.io/exclude-from-external-load-balancers";
    cluster.kubectl(&["label", "node", &second, &format!("{label}=")])?;
    let third = left(&[&first, &second])?;
    let only_third = || {
        until(secs(5), &format!("only {third} answers"), || {
            let answers = client.arp_all(VIP, millis(100))?;
            ensure!(!answers.is_empty() && answers.iter().all(|mac| *mac == lab.host(&third).mac()), "{answers:?}");
            Ok(())
        })
    };
    only_third()?;
    let page = until(secs(10), "the Service answers", || client.curl("http://172.17.200.100:8080/"))?;
    ensure!(page == "nginx on node-a\n", "{page}");
    until(secs(10), "the ServiceL2Status names the last node, and no other one is there", || {
        let l2 = cluster.get(&["servicel2statuses.metallb.io", "--namespace", "metallb-system"])?;
        let nodes: Vec<_> = l2["items"].as_array().into_iter().flatten().map(|item| item["status"]["node"].clone()).collect();
        ensure!(nodes == [json!(third)], "{nodes:?}");
        Ok(())
    })?;
    // Who takes part again takes nothing back.
    cluster.kubectl(&["uncordon", &first])?;
    mooring.allocator.wait_for(&json!({"event": "nodeRestored", "node": first, "reason": "cordon"}))?;
    cluster.kubectl(&["label", "node", &second, &format!("{label}-")])?;
    only_third()?;
    ensure!(announcer(&mooring)? == third, "the VIP has moved");
    let report = arps.finish()?;
    ensure!(report.gap < millis(200), "{report:?}");
    forbidden(&mut mooring)
}

fn crds_installed_after_mooring_are_found() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, false)?;
    cluster.apply(NGINX_LB)?;
    mooring.watcher.wait_for(&json!({"event": "noConfig"}))?;
    cluster.apply_kustomization("config")?;
    cluster.kubectl(&[
        "wait",
        "--for=condition=established",
        "crd/ipaddresspools.metallb.io",
        "crd/l2advertisements.metallb.io",
        "--timeout=20s",
    ])?;
    cluster.apply(include_str!("../../deploy/examples/pools.yaml"))?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    until(secs(10), "the Service answers", || lab.host("client").curl("http://172.17.200.100:8080/"))?;
    until(secs(10), "the pool's status counts", || {
        let pool = cluster.get(&["ipaddresspool", "default", "--namespace", "metallb-system"])?;
        ensure!(pool["status"]["assignedIPv4"] == 1, "{pool}");
        Ok(())
    })?;
    forbidden(&mut mooring)
}

fn without_the_api_server_all_answers_and_afterwards_all_converges() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, mut cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    let client = lab.host("client");
    cluster.apply(TWO_POOLS)?;
    cluster.apply(NGINX_LB)?;
    cluster.apply(NGINX_LB2)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    cluster.wait_external_ip("default", "nginx-lb2", "172.17.201.100")?;
    let second = "172.17.201.100".parse()?;
    for vip in [VIP, second] {
        until(secs(10), "the VIP answers", || client.arp(vip))?;
    }
    let (nodes, leases) = ((announcer(&mooring)?, mooring.announcer("172.17.201.100")?), mooring.leases()?);
    cluster.apiserver.kill_9()?;
    let stopped = now();
    until(secs(40), "30 s without the API server", || {
        ensure!(client.arp(VIP)? == lab.host(&nodes.0).mac() && client.arp(second)? == lab.host(&nodes.1).mac(), "another node answers");
        client.curl("http://172.17.200.100:8080/")?;
        ensure!(stopped.elapsed() >= secs(30));
        Ok(())
    })?;
    // Even then a lost speaker is followed by another.
    mooring.speaker(&nodes.0)?.kill_9()?;
    until(secs(5), "another node announces", || {
        let node = announcer(&mooring)?;
        ensure!(node != nodes.0 && client.arp(VIP)? == lab.host(&node).mac());
        Ok(())
    })?;
    cluster.apiserver.restart()?;
    cluster.wait_ready()?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "late"))?;
    cluster.wait_external_ip("default", "late", "172.17.200.101")?;
    let mut wanted = leases;
    wanted.insert("default/late".to_owned(), vec!["172.17.200.101".to_owned()]);
    ensure!(mooring.leases()? == wanted, "{:?}", mooring.leases()?);
    until(secs(10), "the new announcer is told", || {
        let (node, described) = (announcer(&mooring)?, cluster.kubectl(&["describe", "service", "nginx-lb"])?);
        ensure!(described.contains(&format!("announcing from node \"{node}\"")), "{described}");
        Ok(())
    })
}

fn etcd_restored_to_before_the_status_gives_the_same_address_back() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, mut cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    cluster.apply(ONE_POOL)?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "first"))?;
    cluster.wait_external_ip("default", "first", "172.17.200.100")?;
    // Saved with the Service in it, but without its address.
    mooring.watcher.kill_9()?;
    cluster.apply(NGINX_LB)?;
    cluster.save_etcd()?;
    mooring.watcher.restart()?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.101")?;
    cluster.kubectl(&["delete", "service", "first"])?;
    until(secs(10), "the lower address is free", || {
        ensure!(!mooring.leases()?.contains_key("default/first"));
        Ok(())
    })?;
    cluster.restore_etcd()?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.101")?;
    cluster.wait_external_ip("default", "first", "172.17.200.100")?;
    until(secs(10), "it is announced", || mooring.announcer("172.17.200.101"))?;
    // While the API server was away kube-proxy has waited longer and longer to ask it again, for half a minute at most.
    until(secs(40), "the Service answers", || lab.host("client").curl("http://172.17.200.101:8080/"))?;
    Ok(())
}

/// Another watcher beside Mooring's own, on a host of its choice.
fn second_watcher(account: &Path, host: &Host) -> Result<Process> {
    let second = mooring_tests::lab::Program::own("watcher-svc")?
        .args([
            "--source",
            "kube",
            "--allocator",
            "http://172.17.0.2:7470",
            "--insecure",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ])
        .env("KUBECONFIG", account)
        .env("POD_NAMESPACE", "mooring-system");
    let mut second = second.start(host)?;
    second.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    Ok(second)
}

fn a_second_watcher_stands_by_and_takes_over() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, account, backends: _backends, .. } = Setup::new(&lab, true)?;
    cluster.apply(ONE_POOL)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    let mut second = second_watcher(&account, lab.host("control"))?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "second"))?;
    cluster.wait_external_ip("default", "second", "172.17.200.101")?;
    ensure!(second.events("serviceUpdated").is_empty(), "the standby has written");
    // Told to end, the leader gives its Lease back, and the other one leads at once.
    ensure!(mooring.watcher.terminate()?.code() == Some(0));
    cluster.apply(&NGINX_LB.replace("nginx-lb", "third"))?;
    cluster.wait_external_ip("default", "third", "172.17.200.102")?;
    ensure!(second.events("serviceUpdated").len() == 1, "{:?}", second.events("serviceUpdated"));
    let lease = cluster.get(&["lease", "mooring-watcher", "--namespace", "mooring-system"])?;
    ensure!(lease["spec"]["leaseTransitions"].as_i64() >= Some(1), "{lease}");
    Ok(())
}

fn a_leader_whose_requests_are_swallowed_stops_before_another_one_leads() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, account, backends: _backends, .. } = Setup::new(&lab, true)?;
    cluster.apply(ONE_POOL)?;
    // The leader is on a host of its own, so that its way to the API server can be cut and no other.
    let host = lab.host("client");
    let mut cut_off = second_watcher(&account, host)?;
    ensure!(mooring.watcher.terminate()?.code() == Some(0));
    cut_off.wait_for(&json!({"event": "leading"}))?;
    mooring.watcher.restart()?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    ensure!(cut_off.events("serviceUpdated").len() == 1, "another one has written");
    // Nothing is refused: what is sent is never answered.
    let swallow = "table ip cut { chain out { type filter hook output priority filter; ip daddr 172.17.0.2 tcp dport 6443 drop; }; \
                   chain in { type filter hook input priority filter; ip saddr 172.17.0.2 tcp sport 6443 drop; }; }";
    host.netns().run("nft", &[swallow])?;
    let lost =
        until(secs(20), "the one that is cut off leads no more", || cut_off.events("leadershipLost").first().cloned().context("it leads"))?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "second"))?;
    let led = until(secs(20), "the other one leads", || mooring.watcher.events("leading").first().cloned().context("it does not"))?;
    ensure!(lost["ts"].as_str() < led["ts"].as_str(), "two have led at once: {lost} {led}");
    cluster.wait_external_ip("default", "second", "172.17.200.101")?;
    ensure!(cut_off.events("serviceUpdated").len() == 1 && cut_off.events("ipAllocated").len() == 1, "it has gone on");
    // Its requests are answered again: it sees what has happened meanwhile, and can lead again.
    host.netns().run("nft", &["delete table ip cut"])?;
    ensure!(mooring.watcher.terminate()?.code() == Some(0));
    until(secs(30), "it leads again", || {
        ensure!(cut_off.events("leading").len() == 2);
        Ok(())
    })?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "third"))?;
    until(secs(90), "the third Service has its address", || {
        ensure!(cluster.external_ips("default", "third")? == ["172.17.200.102"]);
        Ok(())
    })?;
    ensure!(mooring.leases()?.len() == 3, "{:?}", mooring.leases()?);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long the API server has been away is what is asked for")]
fn now() -> Instant {
    Instant::now()
}
