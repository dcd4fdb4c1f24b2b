//! Mishaps on a real API server: what a person or a crash does there, and what comes of it.

use anyhow::{Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::until::{millis, secs, until};
use serde_json::{Value, json};

use crate::cluster::Setup;
use crate::failover::VIP;
use crate::story::{COREDNS_TCP, COREDNS_UDP, NGINX_LB, ONE_POOL};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "mishaps::dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free",
        dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free,
    ),
    ("mishaps::a_watcher_killed_between_lease_and_status_catches_up", a_watcher_killed_between_lease_and_status_catches_up),
    ("mishaps::pools_that_are_no_good_keep_the_last_good_configuration", pools_that_are_no_good_keep_the_last_good_configuration),
];

const POOLS: &str = include_str!("../../deploy/examples/pools.yaml");

fn dns_by_tcp_and_udp_share_an_address_also_when_a_lower_one_is_free() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    cluster.apply(ONE_POOL)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    cluster.apply(COREDNS_TCP)?;
    cluster.wait_external_ip("kube-system", "coredns-tcp", "172.17.200.101")?;
    cluster.kubectl(&["delete", "service", "nginx-lb"])?;
    until(secs(10), "the lower address is free", || {
        let leases = mooring.leases()?;
        ensure!(!leases.contains_key("default/nginx-lb"), "{leases:?}");
        Ok(())
    })?;
    cluster.apply(COREDNS_UDP)?;
    cluster.wait_external_ip("kube-system", "coredns-udp", "172.17.200.101")?;
    for tcp in [true, false] {
        let client = lab.host("client");
        let answer = until(secs(10), "DNS answers through kube-proxy", || client.dig("172.17.200.101".parse()?, "web.lab.example", tcp))?;
        ensure!(answer == "192.0.2.53", "{answer}");
    }
    Ok(())
}

fn a_watcher_killed_between_lease_and_status_catches_up() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    let client = lab.host("client");
    cluster.apply(ONE_POOL)?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "first"))?;
    cluster.wait_external_ip("default", "first", "172.17.200.100")?;
    until(secs(10), "the first address answers", || client.arp(VIP))?;
    // Without the right to write statuses the lease is all that there is.
    let mut role = cluster.get(&["clusterrole", "mooring:watcher"])?;
    if let Some(rules) = role["rules"].as_array_mut() {
        rules.retain(|rule| rule["resources"] != json!(["services/status"]));
    }
    cluster.apply(&role.to_string())?;
    let account = "system:serviceaccount:mooring-system:mooring-watcher";
    until(secs(10), "the right is gone", || {
        refused(cluster.kubectl(&["auth", "can-i", "patch", "services", "--subresource=status", "--as", account]))
    })?;
    cluster.apply(&NGINX_LB.replace("nginx-lb", "second"))?;
    until(secs(10), "the lease is granted", || {
        let leases = mooring.leases()?;
        ensure!(leases.get("default/second") == Some(&vec!["172.17.200.101".to_owned()]), "{leases:?}");
        Ok(())
    })?;
    mooring.watcher.wait_for(&json!({"event": "writeFailed"}))?;
    mooring.watcher.kill_9()?;
    ensure!(cluster.external_ips("default", "second")?.is_empty(), "the status is there already");
    // Meanwhile the first one is deleted, and a lower address would be free.
    cluster.kubectl(&["delete", "service", "first"])?;
    ensure!(mooring.leases()?.len() == 2, "{:?}", mooring.leases()?);
    cluster.apply_kustomization("base")?;
    mooring.watcher.restart()?;
    // The Lease of the one that was killed has to run out first.
    until(secs(40), "the same address is in the status, and the deleted Service's lease is released", || {
        let (status, leases) = (cluster.external_ips("default", "second")?, mooring.leases()?);
        ensure!(status == ["172.17.200.101"] && leases.keys().collect::<Vec<_>>() == ["default/second"], "{status:?} {leases:?}");
        Ok(())
    })?;
    until(secs(10), "the deleted Service's address falls silent", || {
        let answers = client.arp_all(VIP, millis(300))?;
        ensure!(answers.is_empty(), "{answers:?}");
        Ok(())
    })?;
    until(secs(10), "the other one's answers", || client.curl("http://172.17.200.101:8080/"))?;
    Ok(())
}

fn pools_that_are_no_good_keep_the_last_good_configuration() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    cluster.apply(POOLS)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    // What the definition's own rules cannot see.
    let wrong = [
        ("reversed", "fd00:2::1-fd00:1::9", &["spec.addresses[0]", "start IP \"fd00:2::1\" is after the end IP \"fd00:1::9\""][..]),
        ("overlapping", "172.17.200.110-172.17.200.120", &["overlaps with already defined CIDR", "172.17.200.120/32"]),
    ];
    for (name, range, told) in wrong {
        let stale = mooring.watcher.events("configStale").len();
        let pool = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": name, "namespace": "metallb-system"},
            "spec": {"addresses": [range]},
        });
        cluster.apply(&pool.to_string())?;
        let line = until(secs(10), "the configuration is refused", || {
            let lines = mooring.watcher.events("configStale");
            ensure!(lines.len() > stale, "nothing new");
            Ok(lines.last().cloned().unwrap_or_default())
        })?;
        let error = line["error"].as_str().unwrap_or_default();
        ensure!(error.contains(name) && told.iter().all(|told| error.contains(told)), "want {name} and {told:?}: {line}");
        until(secs(10), "an Event on the pool says so", || {
            let described = cluster.kubectl(&["describe", "ipaddresspool", name, "--namespace", "metallb-system"])?;
            ensure!(described.contains("InvalidConfiguration") && told.iter().all(|told| described.contains(told)), "{described}");
            Ok(())
        })?;
        let during = format!("during-{name}");
        cluster.apply(&NGINX_LB.replace("nginx-lb", &during))?;
        cluster.wait_external_ip("default", &during, "172.17.200.101")?;
        cluster.kubectl(&["delete", "service", &during])?;
        let good = mooring.watcher.events("configLoaded").len();
        cluster.kubectl(&["delete", "ipaddresspool", name, "--namespace", "metallb-system"])?;
        until(secs(10), "the configuration is good again, and the address is free", || {
            let loaded: Vec<Value> = mooring.watcher.events("configLoaded");
            ensure!(loaded.len() > good && mooring.leases()?.len() == 1, "{loaded:?} {:?}", mooring.leases()?);
            Ok(())
        })?;
        let metrics = lab.host("control").curl("http://172.17.0.2:7473/metrics")?;
        ensure!(metrics.lines().any(|line| line == "metallb_k8s_client_config_stale_bool 0"), "{metrics}");
    }
    ensure!(cluster.external_ips("default", "nginx-lb")? == ["172.17.200.100"]);
    let cleared = mooring.watcher.events("clearAssignment");
    ensure!(cleared.iter().all(|line| line["service"] != "default/nginx-lb"), "{cleared:?}");
    ensure!(mooring.watcher.is_running()? && mooring.allocator.is_running()?);
    Ok(())
}
