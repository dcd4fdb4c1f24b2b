//! Why a Service has what it has, and what other pools would do before they are applied.

use std::fs::File;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{ALLOCATOR, Mooring};
use serde_json::{Value, json};

use crate::failover::one_service;
use crate::inspection::call;
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("explain::every_rule_is_told_and_why_a_node_announces", every_rule_is_told_and_why_a_node_announces),
    ("explain::a_plan_is_told_and_comes_true", a_plan_is_told_and_comes_true),
    ("explain::a_plan_by_the_command_line", a_plan_by_the_command_line),
];

/// Pools of which the first lacks the address that the Service has.
const OTHER_POOLS: &str = "\
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: default, namespace: metallb-system}
spec: {addresses: [172.17.200.110-172.17.200.125]}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: wanted, namespace: metallb-system}
spec: {addresses: [172.17.201.0/30], autoAssign: false}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: all, namespace: metallb-system}
";

/// A Service that waits for a pool.
const WAITS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: waits, annotations: {metallb.io/address-pool: wanted}}
spec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: waits}}
";

const REFUSAL: &str = "unknown pool \"wanted\"";

/// A lab in which one Service has an address and one waits.
fn one_holds_and_one_waits(lab: &Lab) -> Result<(Mooring, String)> {
    let mooring = Mooring::on_directory(lab)?;
    let node = one_service(lab, &mooring)?;
    mooring.apply("waits.yaml", WAITS)?;
    until(secs(5), "the other Service is refused", || {
        let state = call(ALLOCATOR, &json!({"namespace": "default", "name": "waits"}), "mooring.v1.InspectService/GetLease")?;
        ensure!(state["state"]["refusal"]["message"] == REFUSAL, "{state}");
        Ok(())
    })?;
    Ok((mooring, node))
}

fn explain(name: &str) -> Result<Value> {
    call(ALLOCATOR, &json!({"namespace": "default", "name": name}), "mooring.v1.InspectService/Explain")
}

fn every_rule_is_told_and_why_a_node_announces() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (_mooring, node) = one_holds_and_one_waits(&lab)?;
    let told = explain("nginx-lb")?;
    let rules: Vec<&str> = told["rules"].as_array().context("no rules")?.iter().filter_map(|rule| rule["rule"].as_str()).collect();
    ensure!(rules.starts_with(&["keep", "explicit"]) && rules.ends_with(&["pinned", "auto"]), "{told}");
    ensure!(told["decidedBy"] == "keep" && told["rules"][0]["verdict"] == "RULE_VERDICT_GRANTS", "{told}");
    ensure!(told["rules"][0]["addresses"] == json!(["172.17.200.100"]) && told["lease"]["pool"] == "default", "{told}");
    let vip = &told["vips"][0];
    ensure!(vip["vip"] == "172.17.200.100" && vip["reason"].as_str().is_some_and(|reason| reason.starts_with(&node)), "{vip}");
    let speakers = vip["speakers"].as_array().context("no speakers")?;
    ensure!(speakers.len() == 3 && speakers.iter().all(|speaker| speaker["eligible"] == true), "{vip}");
    let active: Vec<&Value> = speakers.iter().filter(|speaker| speaker["part"] == "ANNOUNCEMENT_PART_ACTIVE").collect();
    ensure!(active.len() == 1 && active[0]["node"] == node.as_str() && active[0]["active"] == 1, "{vip}");

    let told = explain("waits")?;
    ensure!(told["decidedBy"] == "requested" && told["refusal"]["message"] == REFUSAL && told["lease"].is_null(), "{told}");
    let rule = told["rules"].as_array().and_then(|rules| rules.iter().find(|rule| rule["rule"] == "requested")).context("no rule")?;
    ensure!(rule["verdict"] == "RULE_VERDICT_REFUSES" && rule["asked"] == true && rule["reason"] == REFUSAL, "{rule}");
    ensure!(rule["pools"] == json!([{"pool": "wanted", "reason": "it does not exist"}]), "{rule}");
    let missing = refused(explain("none"))?;
    ensure!(missing.contains("NotFound") && missing.contains("default/none holds and claims nothing"), "{missing}");
    Ok(())
}

/// The messages of a plan, one JSON object after the other.
fn plan(pools: &Value) -> Result<Vec<Value>> {
    let request = json!({"pools": pools, "advertisements": [{"name": "all"}]});
    let answer = Cluster::grpcurl(&["-d", &request.to_string(), ALLOCATOR, "mooring.v1.InspectService/PlanPools"])?;
    Ok(serde_json::Deserializer::from_str(&answer).into_iter().collect::<Result<_, _>>()?)
}

fn a_plan_is_told_and_comes_true() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (mooring, node) = one_holds_and_one_waits(&lab)?;
    let pools = json!([
        {"name": "default", "addresses": ["172.17.200.110-172.17.200.125"]},
        {"name": "wanted", "addresses": ["172.17.201.0/30"], "auto_assign": false},
    ]);
    let parts = plan(&pools)?;
    ensure!(parts.len() == 1 && parts[0]["complete"] == true, "{parts:?}");
    ensure!(parts[0]["summary"] == json!({"moved": "1", "served": "1"}), "{parts:?}");
    let (moved, served) = (&parts[0]["changes"][0], &parts[0]["changes"][1]);
    ensure!(moved["service"]["name"] == "nginx-lb" && moved["kind"] == "PLANNED_CHANGE_KIND_MOVED", "{moved}");
    ensure!(moved["addresses"] == json!(["172.17.200.100"]) && moved["newAddresses"] == json!(["172.17.200.110"]), "{moved}");
    ensure!(moved["untenable"]["reason"] == "ADDRESS_NOT_IN_POOL", "{moved}");
    ensure!(served["service"]["name"] == "waits" && served["kind"] == "PLANNED_CHANGE_KIND_SERVED", "{served}");
    ensure!(served["newAddresses"] == json!(["172.17.201.0"]) && served["refusal"]["message"] == REFUSAL, "{served}");
    ensure!(mooring.status("default", "nginx-lb")? == ["172.17.200.100"], "the plan has moved something");
    ensure!(mooring.announcer("172.17.200.100")? == node, "the plan has moved something");

    let overlap = json!([{"name": "a", "addresses": ["10.0.0.0/24"]}, {"name": "b", "addresses": ["10.0.0.0/30"]}, {"name": ""}]);
    let wrong = refused(plan(&overlap))?;
    for told in ["InvalidArgument", "overlaps with already defined CIDR", "pools[2].name: is empty"] {
        ensure!(wrong.contains(told), "{wrong}");
    }

    mooring.apply("config.yaml", OTHER_POOLS)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.110")?;
    mooring.wait_status("default", "waits", "172.17.201.0")?;
    let parts = plan(&pools)?;
    ensure!(parts == [json!({"complete": true, "summary": {"unchanged": "2"}})], "{parts:?}");
    Ok(())
}

fn a_plan_by_the_command_line() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (mooring, _node) = one_holds_and_one_waits(&lab)?;
    let control = lab.host("control");
    let file = |name: &str, text: &str| -> Result<String> {
        let path = lab.folder().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    // What it prints, what it says on standard error, and its exit code.
    let program = mooring_tests::lab::binary("allocator-svc")?;
    let planned = |arguments: &[&str], input: Stdio| -> Result<(String, String, Option<i32>)> {
        let done = control.netns().command(&program).arg("plan").args(arguments).stdin(input).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(&done.stdout), text(&done.stderr), done.status.code()))
    };
    let (allocator, url) = ("--allocator", format!("http://{ALLOCATOR}"));
    let present = mooring.manifest("config.yaml").display().to_string();
    let printed = planned(&["--pools", &present, allocator, &url, "--insecure"], Stdio::null())?;
    ensure!(printed == ("1 unchanged, 1 still waiting\n".to_owned(), String::new(), Some(0)), "{printed:?}");

    let other = file("other.yaml", OTHER_POOLS)?;
    let (table, notes, code) = planned(&["--pools", &other, allocator, &url, "--insecure"], Stdio::null())?;
    let wanted = "\
SERVICE            ADDRESSES        POOL      CHANGE   BECOMES                    WHY
default/nginx-lb   172.17.200.100   default   moved    172.17.200.110 (default)   [\"172.17.200.100\"] is not allowed in config: 172.17.200.100 is in no pool
default/waits      <none>           <none>    served   172.17.201.0 (wanted)      waited: unknown pool \"wanted\"
0 unchanged, 1 moved, 1 served, 0 still waiting
";
    ensure!((table.as_str(), notes.as_str(), code) == (wanted, "", Some(1)), "{table}{notes}{code:?}");
    let piped = planned(&["--pools", "-", allocator, &url, "--insecure"], File::open(&other)?.into())?;
    ensure!((piped.0.as_str(), piped.2) == (wanted, Some(1)), "{piped:?}");

    let bad = file("bad.yaml", &OTHER_POOLS.replace("172.17.201.0/30", "172.17.201.9-172.17.201.1"))?;
    let overlapping = file("overlapping.yaml", &OTHER_POOLS.replace("172.17.201.0/30", "172.17.200.112/32"))?;
    let away = "http://127.0.0.1:1";
    let cases: [(&[&str], i32, &[&str]); 6] = [
        (&["--pools", &bad, allocator, &url, "--insecure"], 3, &["document 2", "spec.addresses[0]", "172.17.201.9-172.17.201.1"]),
        (&["--pools", &overlapping, allocator, &url, "--insecure"], 3, &["172.17.200.112/32", "overlaps with already defined CIDR"]),
        (&["--pools", "/no/such/file", allocator, &url, "--insecure"], 3, &["/no/such/file", "No such file"]),
        (&["--pools", &other, allocator, away], 3, &["http://127.0.0.1:1"]),
        (&["--pools", &other, allocator, &url], 2, &["--insecure"]),
        (&[allocator, &url, "--insecure"], 2, &["--pools"]),
    ];
    for (arguments, wanted, told) in cases {
        let (printed, error, code) = planned(arguments, Stdio::null())?;
        ensure!(printed.is_empty() && code == Some(wanted), "{arguments:?}: {code:?}, {printed}{error}");
        ensure!(told.iter().all(|told| error.contains(told)), "{arguments:?}: {error}");
    }
    ensure!(mooring.status("default", "nginx-lb")? == ["172.17.200.100"], "a plan has moved something");
    Ok(())
}
