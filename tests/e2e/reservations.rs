//! Addresses that are kept, namespaces that may hold only so many, and who held what at a time.

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::Mooring;
use serde_json::{Value, json};

use crate::inspection::{ALLOCATOR, call};
use crate::story::{NGINX_LB, ONE_POOL};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("reservations::a_service_that_is_deleted_and_comes_back_has_its_address", a_service_that_is_deleted_and_comes_back_has_its_address),
    ("reservations::what_a_person_reserves_nobody_else_gets", what_a_person_reserves_nobody_else_gets),
    ("reservations::a_namespace_gets_no_more_than_its_quota", a_namespace_gets_no_more_than_its_quota),
];

/// A pool of so many addresses from 172.17.200.100 on.
fn pool_to(last: &str) -> String {
    ONE_POOL.replace("172.17.200.125", &format!("172.17.200.{last}"))
}

/// A Service whose addresses stay reserved for so long.
fn retained(name: &str, retain: &str) -> String {
    NGINX_LB.replace("  name: nginx-lb", &format!("  name: {name}\n  annotations: {{mooring.io/retain: \"{retain}\"}}"))
}

fn plain(name: &str) -> String {
    NGINX_LB.replace("nginx-lb", name)
}

fn inspect(data: &Value, method: &str) -> Result<Value> {
    call(ALLOCATOR, data, &format!("mooring.v1.InspectService/{method}"))
}

fn operate(data: &Value, method: &str) -> Result<Value> {
    call(ALLOCATOR, data, &format!("mooring.v1.OperatorService/{method}"))
}

fn reservations() -> Result<Vec<Value>> {
    Ok(inspect(&json!({}), "ListReservations")?["reservations"].as_array().cloned().unwrap_or_default())
}

/// The notes of the Events about an object with a reason.
fn notes(mooring: &Mooring, name: &str, reason: &str) -> Result<Vec<String>> {
    let events = mooring.events()?;
    let of = |event: &&Value| event["regarding"]["name"] == name && event["reason"] == reason && event["type"] == "Warning";
    Ok(events.iter().filter(of).filter_map(|event| event["note"].as_str()).map(str::to_owned).collect())
}

fn wait_note(mooring: &Mooring, name: &str, reason: &str, wanted: &str) -> Result<()> {
    until(secs(5), "an Event says why", || {
        let notes = notes(mooring, name, reason)?;
        ensure!(notes.iter().any(|note| note.starts_with(wanted)), "want {wanted}: {notes:?}");
        Ok(())
    })
}

fn wait_released(mooring: &Mooring, service: &str) -> Result<()> {
    until(secs(5), "the lease is released", || {
        let leases = mooring.leases()?;
        ensure!(!leases.contains_key(service), "{leases:?}");
        Ok(())
    })
}

fn a_service_that_is_deleted_and_comes_back_has_its_address() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", &pool_to("101"))?;
    mooring.apply("web.yaml", &retained("web", "soon"))?;
    mooring.wait_status("default", "web", "172.17.200.100")?;
    let wrong = "mooring.io/retain: \"soon\" is no duration such as 24h or 30m; it counts as not given";
    wait_note(&mooring, "web", "InvalidAnnotation", wrong)?;
    mooring.apply("web.yaml", &retained("web", "1h"))?;
    until(secs(5), "the lease knows it", || {
        let state = inspect(&json!({"namespace": "default", "name": "web"}), "GetLease")?;
        ensure!(state["state"]["lease"]["retainMs"] == "3600000", "{state}");
        Ok(())
    })?;
    mooring.delete("web.yaml")?;
    wait_released(&mooring, "default/web")?;
    // The lowest free address is kept for another one.
    mooring.apply("other.yaml", &plain("other"))?;
    mooring.wait_status("default", "other", "172.17.200.101")?;
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let kept = reservations()?;
    ensure!(
        kept.len() == 1
            && kept[0]["address"] == "172.17.200.100"
            && kept[0]["service"] == json!({"namespace": "default", "name": "web"})
            && kept[0]["origin"] == "RESERVATION_ORIGIN_RETENTION",
        "{kept:?}"
    );
    mooring.apply("late.yaml", &plain("late"))?;
    let full = "Failed to allocate IP for \"default/late\": no available IPs: pool default: 1 of 2 IPv4 addresses leased and 1 reserved";
    wait_note(&mooring, "late", "AllocationFailed", full)?;
    mooring.apply("late.yaml", &format!("{}  loadBalancerIP: 172.17.200.100\n", plain("late")))?;
    let reserved =
        "Failed to allocate IP for \"default/late\": [\"172.17.200.100\"] is not allowed in config: reserved for default/web until ";
    wait_note(&mooring, "late", "AllocationFailed", reserved)?;
    mooring.apply("web.yaml", &retained("web", "1h"))?;
    mooring.wait_status("default", "web", "172.17.200.100")?;
    ensure!(reservations()?.is_empty(), "{:?}", reservations()?);
    what_is_told_of_it()
}

/// What the history says of the address, over the restart: each fact once, in order, and who held it in between.
fn what_is_told_of_it() -> Result<()> {
    let address = "172.17.200.100";
    let all = inspect(&json!({"address": address}), "ListHistory")?;
    let entries = all["entries"].as_array().context("no entries")?;
    let kinds: Vec<&str> = entries.iter().filter_map(|entry| entry["kind"].as_str()?.strip_prefix("HISTORY_KIND_")).collect();
    ensure!(kinds == ["GRANTED", "RELEASED", "RESERVED", "GRANTED", "RESERVATION_ENDED"], "{all}");
    ensure!(entries[1]["cause"] == "HISTORY_CAUSE_SERVICE_GONE" && entries[4]["cause"] == "HISTORY_CAUSE_SERVICE_BACK", "{all}");
    ensure!(entries.iter().all(|entry| entry["service"]["name"] == "web"), "{all}");
    let at = |entry: &Value| entry["atUnixMs"].as_str().and_then(|at| at.parse::<u64>().ok()).context("no time");
    let (granted, released) = (at(&entries[0])?, at(&entries[1])?);
    for (time, wanted) in [(granted, 1), (released - 1, 1), (released, 0), (at(&entries[4])?, 1)] {
        let found = inspect(&json!({"address": address, "at_unix_ms": time, "page_size": 1}), "ListHistory")?;
        let holders = found["holders"].as_array().cloned().unwrap_or_default();
        ensure!(holders.len() == wanted && holders.iter().all(|holder| holder["service"]["name"] == "web"), "{time}: {found}");
    }
    let page = inspect(&json!({"name": "web", "page_size": 2}), "ListHistory")?;
    let rest = inspect(&json!({"name": "web", "page_token": page["nextPageToken"]}), "ListHistory")?;
    ensure!(page["entries"].as_array().map(Vec::len) == Some(2) && rest["entries"].as_array().map(Vec::len) == Some(3), "{page} {rest}");
    ensure!(inspect(&json!({"namespace": "none"}), "ListHistory")?["entries"].is_null());
    let alone = refused(inspect(&json!({"at_unix_ms": 5}), "ListHistory"))?;
    ensure!(alone.contains("InvalidArgument") && alone.contains("at_unix_ms: needs an address"), "{alone}");
    Ok(())
}

fn what_a_person_reserves_nobody_else_gets() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", &pool_to("101"))?;
    mooring.watcher.wait_for(&json!({"event": "configLoaded"}))?;
    let mine = json!({"address": "172.17.200.100", "service": {"namespace": "default", "name": "web"}, "note": "moving house"});
    let reserved = operate(&mine, "ReserveAddress")?;
    ensure!(reserved["reservation"]["note"] == "moving house" && reserved["reservation"]["untilUnixMs"].is_null(), "{reserved}");
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.apply("other.yaml", &plain("other"))?;
    mooring.wait_status("default", "other", "172.17.200.101")?;
    let pools = inspect(&json!({}), "ListPools")?;
    ensure!(pools["pools"][0]["reservedIpv4"] == "1" && pools["pools"][0]["availableIpv4"].is_null(), "{pools}");
    mooring.apply("late.yaml", &plain("late"))?;
    wait_note(&mooring, "late", "AllocationFailed", "Failed to allocate IP for \"default/late\": no available IPs")?;
    mooring.apply("web.yaml", &plain("web"))?;
    mooring.wait_status("default", "web", "172.17.200.100")?;
    let cases = [
        (json!({"address": "192.0.2.1"}), "NotFound", "[\"192.0.2.1\"] is not allowed in config: 192.0.2.1 is in no pool"),
        (json!({"address": "172.17.200.101"}), "FailedPrecondition", "172.17.200.101 is held by default/other"),
        (json!({"address": "172.17.200"}), "InvalidArgument", "address: invalid IP address \"172.17.200\""),
        (json!({"address": "172.17.200.101", "note": "x".repeat(300)}), "InvalidArgument", "note: has 300 bytes, more than 256"),
    ];
    for (data, code, text) in cases {
        let told = refused(operate(&data, "ReserveAddress"))?;
        ensure!(told.contains(code) && told.contains(text), "{data}: {told}");
    }
    // It stays while the Service is there and after it is gone, until it is released: then who waits is served.
    mooring.delete("web.yaml")?;
    wait_released(&mooring, "default/web")?;
    ensure!(reservations()?.len() == 1 && mooring.leases()?.len() == 1);
    let ended = operate(&json!({"address": "172.17.200.100"}), "ReleaseReservation")?;
    ensure!(ended["ended"][0]["service"]["name"] == "web", "{ended}");
    mooring.wait_status("default", "late", "172.17.200.100")?;
    ensure!(operate(&json!({"address": "172.17.200.100"}), "ReleaseReservation")?["ended"].is_null());
    // One that ends by itself: who waits is served then.
    mooring.delete("late.yaml")?;
    wait_released(&mooring, "default/late")?;
    operate(&json!({"address": "172.17.200.100", "duration_ms": 1500}), "ReserveAddress")?;
    mooring.apply("next.yaml", &plain("next"))?;
    wait_note(&mooring, "next", "AllocationFailed", "Failed to allocate IP for \"default/next\": no available IPs")?;
    mooring.wait_status("default", "next", "172.17.200.100")?;
    let metrics = lab.host("control").curl("http://172.17.0.2:7472/metrics")?;
    ensure!(metrics.contains("\nmooring_allocator_reservations "), "{metrics}");
    Ok(())
}

fn a_namespace_gets_no_more_than_its_quota() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let namespace = |quota: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: prod, annotations: {{mooring.io/address-quota: \"{quota}\"}}}}\n")
    };
    let inside = |name: &str| plain(name).replace("metadata:\n", "metadata:\n  namespace: prod\n");
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("namespace.yaml", &namespace("1"))?;
    mooring.apply("one.yaml", &inside("one"))?;
    mooring.wait_status("prod", "one", "172.17.200.100")?;
    mooring.apply("two.yaml", &inside("two"))?;
    let full = "Failed to allocate IP for \"prod/two\": no available IPs: namespace prod holds 1 of its quota of 1 addresses (mooring.io/address-quota)";
    wait_note(&mooring, "two", "AllocationFailed", full)?;
    mooring.apply("elsewhere.yaml", &plain("elsewhere"))?;
    mooring.wait_status("default", "elsewhere", "172.17.200.101")?;
    // A quota that makes no sense: the last good one stays.
    mooring.apply("namespace.yaml", &namespace("ten"))?;
    wait_note(
        &mooring,
        "prod",
        "InvalidAnnotation",
        "mooring.io/address-quota: \"ten\" is no number of addresses such as 10; the last good",
    )?;
    mooring.watcher.wait_for(&json!({"event": "annotationMalformed", "namespace": "prod", "value": "ten"}))?;
    ensure!(mooring.status("prod", "two")?.is_empty());
    // What is given back in the namespace serves who waits.
    mooring.delete("one.yaml")?;
    mooring.wait_status("prod", "two", "172.17.200.100")?;
    mooring.apply("three.yaml", &inside("three"))?;
    wait_note(&mooring, "three", "AllocationFailed", "Failed to allocate IP for \"prod/three\": no available IPs: namespace prod holds 1")?;
    mooring.apply("namespace.yaml", &namespace("2"))?;
    mooring.wait_status("prod", "three", "172.17.200.102")?;
    // Less is no reason to take anything away.
    mooring.apply("namespace.yaml", &namespace("0"))?;
    mooring.apply("four.yaml", &inside("four"))?;
    wait_note(&mooring, "four", "AllocationFailed", "Failed to allocate IP for \"prod/four\": no available IPs: namespace prod holds 2")?;
    ensure!(mooring.status("prod", "two")? == ["172.17.200.100"] && mooring.status("prod", "three")? == ["172.17.200.102"]);
    Ok(())
}
