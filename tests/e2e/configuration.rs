//! Configuration on a real API server: what it refuses at once, and what stands written of the rest.

use anyhow::{Result, ensure};
use mooring_proto::pb;
use mooring_tests::lab::Lab;
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{Mooring, inspect, watcher};
use serde_json::{Value, json};

use crate::story::NGINX_LB;
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "configuration::the_definitions_refuse_what_an_object_says_wrong_by_itself",
        the_definitions_refuse_what_an_object_says_wrong_by_itself,
    ),
    ("configuration::the_verdict_and_the_counters_are_written_and_come_back", the_verdict_and_the_counters_are_written_and_come_back),
    (
        "configuration::interfaces_that_no_node_has_are_told_and_a_missing_advertisement_is_not",
        interfaces_that_no_node_has_are_told_and_a_missing_advertisement_is_not,
    ),
];

/// A pool, or what else of the group has a `spec`.
fn object(kind: &str, namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "p", "namespace": namespace}, "spec": spec})
}

/// Pools by their addresses, each with what the API server says of it; empty = it takes it.
const ADDRESSES: &[(&[&str], &str)] = &[
    (&["192.0.2.0/24", "2001:db8::/64"], ""),
    (&["192.0.2.7/24"], ""),
    (&["192.0.2.1-192.0.2.9", " 198.51.100.4 - 198.51.100.4 "], ""),
    (&["2001:db8::a-2001:DB8::10", "fd00::9-fd00:1::"], ""),
    (&["::ffff:192.0.2.0/120", "::ffff:198.51.100.1-::ffff:198.51.100.9"], ""),
    (&[], "parsing address pool p: pool has no prefixes defined"),
    (&["192.0.2.1"], r#"parsing address pool p: invalid CIDR "192.0.2.1" in pool "p": invalid CIDR "192.0.2.1""#),
    (&["192.0.2.0/24", "192.0.2.0/33"], r#"invalid CIDR "192.0.2.0/33" in pool "p": invalid CIDR "192.0.2.0/33""#),
    (&["192.0.2.01/24"], r#"in pool "p": invalid CIDR "192.0.2.01/24""#),
    (&["x-192.0.2.1"], r#"in pool "p": invalid IP range "x-192.0.2.1": invalid start IP "x""#),
    (&["192.0.2.1- y"], r#"in pool "p": invalid IP range "192.0.2.1- y": invalid end IP " y""#),
    (&["fe80::1%eth0-fe80::2"], r#"invalid start IP "fe80::1%eth0""#),
    (
        &["192.0.3.1-192.0.2.9"],
        r#"parsing address pool p: invalid CIDR "192.0.3.1-192.0.2.9" in pool "p": invalid IP range "192.0.3.1-192.0.2.9": start IP "192.0.3.1" is after the end IP "192.0.2.9""#,
    ),
    (&["2001:db8::10-2001:db8::9"], r#"start IP "2001:db8::10" is after the end IP "2001:db8::9""#),
    (&["2001:db8::b-2001:DB8::A"], r#"start IP "2001:db8::b" is after the end IP "2001:DB8::A""#),
    (&["192.0.2.1-2001:db8::1"], "start IP and end IP are of different families"),
    (&["10.0.0.0/8", "10.1.0.0/16"], r#"CIDR "10.0.0.0/8" in pool "p" overlaps"#),
    (&["192.0.2.7/24", "192.0.2.0/24"], r#"CIDR "192.0.2.7/24" in pool "p" overlaps"#),
];

/// Parts of specs, each with what the API server says of it.
fn specs() -> Vec<(&'static str, Value, &'static str)> {
    let allocation = |allocation: Value| json!({"addresses": ["192.0.2.0/24"], "serviceAllocation": allocation});
    let selects = |expression: Value| allocation(json!({"serviceSelectors": [{"matchExpressions": [expression]}]}));
    let rack = json!({"matchLabels": {"rack": "1"}});
    let many: Vec<String> = (0..2000).map(|number| format!("node-{number}")).collect();
    let (pool, ad) = ("IPAddressPool", "L2Advertisement");
    vec![
        (pool, allocation(json!({})), ""),
        (pool, allocation(json!({"priority": 50, "namespaces": ["a", "b"], "namespaceSelectors": [rack, {}]})), ""),
        (pool, selects(json!({"key": "example.com/a.b-c_d", "operator": "NotIn", "values": many})), ""),
        (pool, json!({}), "spec.addresses: Required value"),
        (pool, allocation(json!({"priority": -1})), "should be greater than or equal to 0"),
        (pool, allocation(json!({"namespaces": ["a", "b", "a"]})), "parsing address pool p: duplicate definition in namespaces field"),
        (
            pool,
            allocation(json!({"namespaceSelectors": [rack, rack]})),
            "parsing address pool p: duplicate definition of namespaceSelectors",
        ),
        (pool, allocation(json!({"serviceSelectors": [rack, rack]})), "parsing address pool p: duplicate definition of serviceSelectors"),
        (pool, selects(json!({"key": "k", "operator": "Like"})), r#""Like" is not a valid label selector operator"#),
        (pool, selects(json!({"key": "k", "operator": "In"})), "for 'in', 'notin' operators, values set can't be empty"),
        (
            pool,
            selects(json!({"key": "k", "operator": "Exists", "values": ["v"]})),
            "values set must be empty for exists and does not exist",
        ),
        (pool, selects(json!({"key": "k", "operator": "In", "values": ["v", "v"]})), r#"values[1]: Duplicate value: "v""#),
        (pool, selects(json!({"key": "k k", "operator": "Exists"})), r#"Invalid value: "k k""#),
        (pool, selects(json!({"key": "k", "operator": "In", "values": ["-"]})), r#"Invalid value: "-""#),
        (pool, allocation(json!({"serviceSelectors": [{"matchLabels": {"k k": "v"}}]})), r#"key: Invalid value: "k k""#),
        (ad, json!({}), ""),
        (
            ad,
            json!({"interfaces": ["eth0", "eth0"], "nodeSelectors": [rack, {}], "preferredNodeSelectors": [{"weight": 1, "preference": rack}]}),
            "",
        ),
        (ad, json!({"ipAddressPools": ["a", "b", "a"]}), r#"duplicate definition of ipAddressPools "a""#),
        (ad, json!({"ipAddressPoolSelectors": [rack, rack]}), "duplicate definition of ipAddressPoolSelectors"),
        (ad, json!({"nodeSelectors": [rack, rack]}), "duplicate definition of nodeSelectors"),
        (ad, json!({"serviceSelectors": [rack, rack]}), "duplicate definition of serviceSelectors"),
        (ad, json!({"preferredNodeSelectors": [{"weight": 101, "preference": {}}]}), "should be less than or equal to 100"),
        (
            ad,
            json!({"nodeSelectors": [{"matchExpressions": [{"key": "k", "operator": "Exists"}, {"key": "k", "operator": "Exists"}]}]}),
            "duplicate definition of match expressions",
        ),
    ]
}

fn the_definitions_refuse_what_an_object_says_wrong_by_itself() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let cluster = Cluster::start(&lab)?;
    cluster.apply_kustomization("config")?;
    cluster.kubectl(&["wait", "--for=condition=established", "crd", "--all", "--timeout=20s"])?;
    let judged = |object: &Value, told: &str| {
        let answer = cluster.dry_run(&object.to_string());
        if told.is_empty() {
            return answer.map(|_| ());
        }
        let text = refused(answer)?;
        ensure!(text.contains(told), "{object}: want {told}: {text}");
        Ok(())
    };
    for (addresses, told) in ADDRESSES {
        judged(&object("IPAddressPool", "metallb-system", &json!({"addresses": addresses})), told)?;
    }
    for (kind, spec, told) in specs() {
        judged(&object(kind, "metallb-system", &spec), told)?;
    }
    cluster.apply(include_str!("../../deploy/kustomize/components/namespace-policy/policy.yaml"))?;
    for kind in ["IPAddressPool", "L2Advertisement"] {
        let elsewhere = object(kind, "default", &json!({"addresses": ["192.0.2.0/24"]}));
        until(secs(20), "the policy is in force", || judged(&elsewhere, "resource must be created in metallb-system namespace"))?;
        judged(&object(kind, "metallb-system", &json!({"addresses": ["192.0.2.0/24"]})), "")?;
    }
    Ok(())
}

fn the_verdict_and_the_counters_are_written_and_come_back() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let cluster = Cluster::start(&lab)?;
    for folder in ["config", "base"] {
        cluster.apply_kustomization(folder)?;
    }
    let account = cluster.account_kubeconfig("mooring-system", "mooring-watcher")?;
    let watcher = watcher()?.args(["--source", "kube"]).env("KUBECONFIG", &account).env("POD_NAMESPACE", "mooring-system");
    let mut mooring = Mooring::start(&lab, watcher)?;
    let pool = |name: &str, range: &str| {
        let mut pool = object("IPAddressPool", "metallb-system", &json!({"addresses": [range]}));
        pool["metadata"]["name"] = json!(name);
        cluster.apply(&pool.to_string())
    };
    let state = |name: &str| cluster.get(&["configurationstate", name, "--namespace", "metallb-system"]);
    let verdict = |name: &str, wanted: &Value| {
        until(secs(20), &format!("{name} says {wanted}"), || {
            let state = state(name)?;
            let condition = &state["status"]["conditions"][0];
            let found = json!([
                state["status"]["result"],
                condition["type"],
                condition["status"],
                condition["reason"],
                state["status"]["errorSummary"]
            ]);
            ensure!(found == *wanted, "{state}");
            Ok(state)
        })
    };
    pool("a", "192.0.2.0/28")?;
    let good = verdict("controller", &json!(["Valid", "poolReconcilerValid", "True", "Reconciled", null]))?;
    ensure!(good["metadata"]["labels"] == json!({"metallb.io/component-type": "controller"}), "{good}");
    for node in ["node-a", "node-b", "node-c"] {
        let state = verdict(&format!("speaker-{node}"), &json!(["Valid", "configReconcilerValid", "True", "Reconciled", null]))?;
        ensure!(state["metadata"]["labels"] == json!({"metallb.io/component-type": "speaker", "metallb.io/node-name": node}), "{state}");
    }
    pool("b", "192.0.2.8/29")?;
    let overlap = r#"configuration error: CIDR "192.0.2.8/29" in pool "b" overlaps with already defined CIDR "192.0.2.0/28""#;
    let bad = verdict("controller", &json!(["Invalid", "poolReconcilerValid", "False", "ConfigurationError", overlap]))?;
    ensure!(bad["status"]["conditions"][0]["message"] == overlap, "{bad}");
    mooring.watcher.wait_for(&json!({"event": "configStale", "msg": "failed to parse the configuration"}))?;
    verdict("speaker-node-c", &json!(["Invalid", "configReconcilerValid", "False", "ConfigurationError", overlap]))?;
    cluster.kubectl(&["delete", "ipaddresspool", "b", "--namespace", "metallb-system"])?;
    verdict("controller", &json!(["Valid", "poolReconcilerValid", "True", "Reconciled", null]))?;
    mooring.speaker("node-c")?.terminate()?;
    until(secs(20), "a node without a speaker has no verdict", || refused(state("speaker-node-c")))?;
    // Counters that somebody edits are written again, and so are those of a pool that is made anew.
    let counted = |available: i64| {
        until(secs(10), &format!("pool a has {available} addresses left"), || {
            let pool = cluster.get(&["ipaddresspool", "a", "--namespace", "metallb-system"])?;
            ensure!(pool["status"]["availableIPv4"] == available && pool["status"]["assignedIPv4"] == 0, "{pool}");
            Ok(())
        })
    };
    counted(16)?;
    let edit = r#"{"status": {"assignedIPv4": 7, "availableIPv4": 7, "assignedIPv6": 7, "availableIPv6": 7}}"#;
    cluster.kubectl(&[
        "patch",
        "ipaddresspool",
        "a",
        "--namespace",
        "metallb-system",
        "--subresource=status",
        "--type=merge",
        "--patch",
        edit,
    ])?;
    counted(16)?;
    cluster.kubectl(&["delete", "ipaddresspool", "a", "--namespace", "metallb-system"])?;
    pool("a", "192.0.2.0/28")?;
    counted(16)?;
    let refused: Vec<_> = mooring.watcher.log().iter().filter(|line| line.to_string().contains("forbidden")).cloned().collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

fn interfaces_that_no_node_has_are_told_and_a_missing_advertisement_is_not() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let spec = json!({"addresses": ["172.17.200.100-172.17.200.125"]});
    let namespaced = |kind: &str, spec: &Value| object(kind, "metallb-system", spec).to_string();
    mooring.apply("pool.yaml", &namespaced("IPAddressPool", &spec))?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    let failed = |count: usize| {
        until(secs(10), &format!("{count} Events say that it is not announced"), || {
            let events = mooring.events()?;
            let failed: Vec<Value> = events.iter().filter(|event| event["reason"] == "announceFailed").cloned().collect();
            ensure!(failed.len() == count, "{events:?}");
            Ok(failed.last().cloned().unwrap_or_default())
        })
    };
    let announced = |wanted: &str| {
        until(secs(10), &format!("the assignment says {wanted:?}"), || {
            let assignments = inspect(|mut client| async move {
                Ok(client.list_assignments(pb::ListAssignmentsRequest::default()).await?.into_inner().assignments)
            })?;
            ensure!(assignments.iter().any(|assignment| assignment.reason.starts_with(wanted)), "{assignments:?}");
            Ok(())
        })
    };
    announced("no L2Advertisement is about pool p")?;
    mooring.apply("ad.yaml", &namespaced("L2Advertisement", &json!({"interfaces": ["lan9"]})))?;
    let event = failed(1)?;
    let text = "the interfaces specified by LB IP \"172.17.200.100\" doesn't exist in assigned node \"node-a\" with protocol \"layer2\": no node is eligible";
    ensure!(event["note"].as_str().is_some_and(|note| note.starts_with(text)) && event["type"] == "Warning", "{event}");
    ensure!(event["reportingController"] == "metallb-speaker", "{event}");
    let selector = json!({"nodeSelectors": [{"matchLabels": {"rack": "none"}}]});
    mooring.apply("ad.yaml", &namespaced("L2Advertisement", &selector))?;
    let event = failed(2)?;
    ensure!(
        event["note"].as_str().is_some_and(|note| note.starts_with("nobody announces \"172.17.200.100\": no node is eligible")),
        "{event}"
    );
    mooring.delete("ad.yaml")?;
    announced("no L2Advertisement is about pool p")?;
    mooring.apply("ad.yaml", &namespaced("L2Advertisement", &json!({})))?;
    until(secs(10), "it is announced", || mooring.announcer("172.17.200.100"))?;
    failed(2)?;
    // A file of counters that somebody takes away or edits comes back.
    let counters = mooring.status_folder().join("ipaddresspools/p.yaml");
    let text = until(secs(10), "the counters are written", || {
        let text = std::fs::read_to_string(&counters)?;
        ensure!(text.contains("assignedIPv4: 1"), "{text}");
        Ok(text)
    })?;
    let as_it_was = |what: &str| {
        until(secs(10), what, || {
            ensure!(std::fs::read_to_string(&counters)? == text);
            Ok(())
        })
    };
    std::fs::write(&counters, "status: {assignedIPv4: 7}\n")?;
    as_it_was("the edited file is as it was")?;
    std::fs::remove_file(&counters)?;
    as_it_was("the removed file is as it was")
}
