//! The allocator or the watcher is lost: addresses go on answering, and none is lost or held twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use mooring_allocator::store::{LeaseStore, Record};
use mooring_proto::types::claim::BackendKey;
use mooring_proto::types::lease::{Epoch, Lease, Revision};
use mooring_proto::types::node::MacAddress;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::{ServiceKey, ServiceUid};
use mooring_proto::types::time::UnixMillis;
use mooring_tests::lab::Lab;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use serde_json::{Value, json};

use crate::Scenario;
use crate::failover::{VIP, announcer, one_service, only};
use crate::story::{NGINX_LB, ONE_POOL};

pub(crate) const SCENARIOS: &[Scenario] = &[
    (
        "durability::without_the_allocator_a_speaker_yields_to_a_peer_that_takes_over",
        without_the_allocator_a_speaker_yields_to_a_peer_that_takes_over,
    ),
    (
        "durability::without_the_allocator_addresses_answer_and_after_it_nothing_has_moved",
        without_the_allocator_addresses_answer_and_after_it_nothing_has_moved,
    ),
    (
        "durability::an_allocator_that_is_found_late_after_its_start_moves_nothing",
        an_allocator_that_is_found_late_after_its_start_moves_nothing,
    ),
    ("durability::an_allocator_that_was_stopped_for_a_while_moves_nothing", an_allocator_that_was_stopped_for_a_while_moves_nothing),
    (
        "durability::an_allocator_that_does_not_know_the_nodes_yet_withdraws_nothing",
        an_allocator_that_does_not_know_the_nodes_yet_withdraws_nothing,
    ),
    ("durability::that_no_speaker_comes_is_told_until_one_does", that_no_speaker_comes_is_told_until_one_does),
    (
        "durability::an_allocator_killed_twenty_times_loses_no_lease_and_grants_none_twice",
        an_allocator_killed_twenty_times_loses_no_lease_and_grants_none_twice,
    ),
    ("durability::a_second_allocator_on_the_same_data_is_refused", a_second_allocator_on_the_same_data_is_refused),
    ("durability::an_export_of_damaged_records_is_what_import_reads", an_export_of_damaged_records_is_what_import_reads),
    ("durability::a_lost_volume_costs_no_address", a_lost_volume_costs_no_address),
    ("durability::a_watcher_killed_before_the_status_writes_the_same_address", a_watcher_killed_before_the_status_writes_the_same_address),
    ("durability::a_service_deleted_while_the_watcher_was_down_is_released", a_service_deleted_while_the_watcher_was_down_is_released),
];

fn without_the_allocator_addresses_answer_and_after_it_nothing_has_moved() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let leases = mooring.leases()?;
    let mut capture = Capture::begin(client)?;
    let pings = client.ping_every(millis(5), VIP)?;
    mooring.allocator.kill_9()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    only(client, lab.host(&node))?;
    mooring.allocator.restart()?;
    mooring.allocator.wait_for(&json!({"event": "recoveryEnded"}))?;
    ensure!(announcer(&mooring)? == node, "the VIP has moved");
    ensure!(mooring.leases()? == leases, "{:?}", mooring.leases()?);
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    let others = capture.arps().into_iter().filter(|arp| arp.spa == VIP && arp.sha != lab.host(&node).mac()).count();
    ensure!(others == 0, "another node has announced the VIP");
    let speaker = mooring.speaker(&node)?;
    ensure!(speaker.events("serviceWithdrawn").is_empty());
    // The attempts in between are no news.
    let states: Vec<_> = speaker.events("sessionChanged").iter().map(|line| line["state"].clone()).collect();
    ensure!(states == ["live", "away", "live"], "{states:?}");
    ensure!(speaker.events("sessionFailed").len() == 1, "{:?}", speaker.events("sessionFailed"));
    Ok(())
}

fn an_allocator_that_is_found_late_after_its_start_moves_nothing() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let control = lab.host("control").netns();
    let pings = client.ping_every(millis(5), VIP)?;
    mooring.allocator.kill_9()?;
    control.run("nft", &["table ip late { chain in { type filter hook input priority filter; iif eth0 tcp dport 7470 drop; }; }"])?;
    mooring.allocator.restart()?;
    mooring.allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let served = now();
    until(secs(10), "the recovery window would be over twice", || {
        ensure!(served.elapsed() >= secs(4));
        Ok(())
    })?;
    ensure!(mooring.allocator.events("speakerLost").is_empty(), "somebody was given up whom nobody could hear");
    control.run("nft", &["delete table ip late"])?;
    mooring.allocator.wait_for(&json!({"event": "recoveryEnded"}))?;
    ensure!(mooring.allocator.events("speakerLost").is_empty() && announcer(&mooring)? == node, "the VIP has moved");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

fn an_allocator_that_was_stopped_for_a_while_moves_nothing() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let mut capture = Capture::begin(client)?;
    let pings = client.ping_every(millis(5), VIP)?;
    let passed = |what: &str, since: Instant, time| {
        until(secs(10), what, || {
            ensure!(since.elapsed() >= time);
            Ok(())
        })
    };
    mooring.allocator.freeze(true)?;
    passed("it has been stopped for three seconds", now(), secs(3))?;
    mooring.allocator.freeze(false)?;
    let resumed = now();
    mooring.wait_all_live()?;
    passed("whoever was not heard would be lost", resumed, secs(4))?;
    ensure!(mooring.allocator.events("speakerLost").is_empty() && announcer(&mooring)? == node, "the VIP has moved");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    let others = capture.arps().into_iter().filter(|arp| arp.spa == VIP && arp.sha != lab.host(&node).mac()).count();
    ensure!(others == 0 && mooring.speaker(&node)?.events("serviceWithdrawn").is_empty(), "another node has announced the VIP");
    Ok(())
}

fn an_allocator_that_does_not_know_the_nodes_yet_withdraws_nothing() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let labeled = |(name, rack): (&str, &str)| {
        let metadata = json!({"name": name, "labels": {"rack": rack}});
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata})
    };
    let nodes = [("node-a", "1"), ("node-b", "2"), ("node-c", "3")].map(labeled);
    let nodes = json!({"apiVersion": "v1", "kind": "List", "items": nodes});
    mooring.apply("nodes.yaml", &nodes.to_string())?;
    let of_metallb = |kind: &str, spec: &Value| {
        json!({"apiVersion": "metallb.io/v1beta1", "kind": kind, "metadata": {"name": "p", "namespace": "metallb-system"}, "spec": spec})
            .to_string()
    };
    mooring.apply("pool.yaml", &of_metallb("IPAddressPool", &json!({"addresses": ["172.17.200.100-172.17.200.125"]})))?;
    let selector = json!({"nodeSelectors": [{"matchLabels": {"rack": "2"}}]});
    mooring.apply("ad.yaml", &of_metallb("L2Advertisement", &selector))?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    let client = lab.host("client");
    only(client, lab.host("node-b"))?;
    let pings = client.ping_every(millis(5), VIP)?;
    mooring.watcher.kill_9()?;
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.allocator.wait_for(&json!({"event": "recoveryEnded"}))?;
    only(client, lab.host("node-b"))?;
    mooring.watcher.restart()?;
    mooring.watcher.wait_for(&json!({"event": "stateSynced"}))?;
    only(client, lab.host("node-b"))?;
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    let speaker = mooring.speaker("node-b")?;
    ensure!(speaker.events("serviceWithdrawn").is_empty(), "{:?}", speaker.events("serviceWithdrawn"));
    Ok(())
}

fn that_no_speaker_comes_is_told_until_one_does() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    for speaker in mooring.speakers.values_mut() {
        speaker.terminate()?;
    }
    mooring.allocator.kill_9()?;
    mooring.allocator.restart()?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    mooring.wait_status("default", "nginx-lb", "172.17.200.100")?;
    let told = |mooring: &Mooring| -> Result<Vec<Value>> {
        Ok(mooring.events()?.into_iter().filter(|event| event["reason"] == "announceFailed").map(|event| event["note"].clone()).collect())
    };
    let wanted = ["nobody announces \"172.17.200.100\": no node has a speaker"];
    until(secs(10), "an Event says that nobody announces it", || {
        let told = told(&mooring)?;
        ensure!(told == wanted, "{told:?}");
        Ok(())
    })?;
    mooring.allocator.wait_for(&json!({"event": "speakersMissed"}))?;
    mooring.speaker("node-b")?.restart()?;
    only(lab.host("client"), lab.host("node-b"))?;
    let assignments = mooring.assignments()?;
    ensure!(assignments.iter().all(|assignment| assignment.reason.is_empty()), "{assignments:?}");
    let told = told(&mooring)?;
    ensure!(told == wanted, "{told:?}");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "how long the allocator has not been found, or not run, is what is asked for")]
fn now() -> Instant {
    Instant::now()
}

fn without_the_allocator_a_speaker_yields_to_a_peer_that_takes_over() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let peer = lab.nodes().find(|host| host.name() != node).context("no other node")?;
    mooring.allocator.kill_9()?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    let claim = Arp { operation: Operation::Request, sha: peer.mac(), spa: VIP, tha: MacAddress([0; 6]), tpa: VIP };
    peer.send_frames(vec![build_arp(MacAddress::BROADCAST, &claim)])?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "yielded", "ip": "172.17.200.100"}))?;
    ensure!(client.arp_all(VIP, millis(200))?.is_empty(), "the speaker still answers");
    // The peer was a trick of this test: with the allocator one node, and only one, answers again.
    mooring.allocator.restart()?;
    until(secs(10), "one node answers", || {
        let answers = client.arp_all(VIP, millis(200))?;
        ensure!(answers.len() == 1, "{answers:?}");
        Ok(())
    })
}

fn an_allocator_killed_twenty_times_loses_no_lease_and_grants_none_twice() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", &ONE_POOL.replace("172.17.200.100-172.17.200.125", "172.17.200.10-172.17.200.250"))?;
    // What the status of a Service has said once was acknowledged, and stays true as long as the Service lives.
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..20 {
        for number in 0..4 {
            let name = format!("s{round}-{number}");
            mooring.apply(&format!("{name}.yaml"), &NGINX_LB.replace("nginx-lb", &name))?;
        }
        if round > 1 {
            let gone = format!("s{}-1", round - 2);
            mooring.delete(&format!("{gone}.yaml"))?;
            acknowledged.remove(&gone);
        }
        // Not at a round's end but in its midst: some of these are granted, some under way, some not yet asked for.
        until(secs(10), "the first of the round has its address", || {
            ensure!(!mooring.status("default", &format!("s{round}-0"))?.is_empty(), "none yet");
            Ok(())
        })?;
        mooring.allocator.kill_9()?;
        note(&mooring, &mut acknowledged)?;
        mooring.allocator.restart()?;
        mooring.allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
        let leases = mooring.leases()?;
        unique(&leases)?;
        for (name, address) in &acknowledged {
            ensure!(leases.get(&format!("default/{name}")) == Some(&vec![address.clone()]), "{name} had {address}: {leases:?}");
        }
    }
    until(secs(20), "every Service that is left has an address, and no other", || {
        let leases = mooring.leases()?;
        ensure!(leases.len() == 20 * 4 - 18, "{} leases", leases.len());
        Ok(())
    })?;
    note(&mooring, &mut acknowledged)?;
    unique(&mooring.leases()?)
}

fn note(mooring: &Mooring, acknowledged: &mut BTreeMap<String, String>) -> Result<()> {
    for file in std::fs::read_dir(mooring.status_folder().join("services"))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_prefix("default_").and_then(|name| name.strip_suffix(".yaml")) else { continue };
        if !mooring.manifest(&format!("{name}.yaml")).exists() {
            continue;
        }
        for address in mooring.status("default", name)? {
            let before = acknowledged.insert(name.to_owned(), address.clone());
            ensure!(before.as_ref().is_none_or(|before| *before == address), "{name} had {before:?}, now {address}");
        }
    }
    Ok(())
}

fn unique(leases: &BTreeMap<String, Vec<String>>) -> Result<()> {
    let all: Vec<&String> = leases.values().flatten().collect();
    let distinct: BTreeSet<&String> = all.iter().copied().collect();
    ensure!(distinct.len() == all.len(), "an address is held twice: {leases:?}");
    Ok(())
}

fn a_second_allocator_on_the_same_data_is_refused() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let second =
        mooring_tests::lab::Program::own("allocator-svc")?.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir"]);
    let mut second = second.arg(lab.folder().join("data")).start(lab.host("control"))?;
    let told = second.wait_for(&json!({"event": "fault"}))?.to_string();
    ensure!(told.contains("another allocator") && told.contains("data"), "{told}");
    ensure!(second.wait_end()?.code() == Some(1));
    ensure!(mooring.allocator.is_running()?);
    Ok(())
}

/// A record whose bytes are whole and which is no lease, as only a fault of some build can leave it.
fn damaged() -> Result<Record> {
    Ok(Record::Lease(Box::new(Lease { addresses: Vec::new(), ..lease("damaged", "172.17.200.99")? })))
}

fn lease(name: &str, address: &str) -> Result<Lease> {
    Ok(Lease {
        service: ServiceKey::new("default", name)?,
        uid: ServiceUid::default(),
        addresses: vec![address.parse()?],
        pool: PoolName::new("default").context("a name")?,
        ports: BTreeSet::new(),
        sharing_key: None,
        backend_key: BackendKey::default(),
        revision: Revision::default(),
        granted: UnixMillis::default(),
        retain: None,
    })
}

fn an_export_of_damaged_records_is_what_import_reads() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (written, old, new) = (lab.folder().join("written"), lab.folder().join("old"), lab.folder().join("new"));
    let (store, _) = LeaseStore::open(&written)?;
    store.write(&[damaged()?, Record::Lease(Box::new(lease("whole", "172.17.200.101")?)), Record::Epoch(Epoch(3))], &[])?;
    // The store lets go of its lock only a moment after it is closed; a copy has none.
    mooring_tests::lab::run("cp", &["-a", &written.display().to_string(), &old.display().to_string()])?;
    let task = |name: &str, folder: &Path| -> Result<Command> {
        let mut command = Command::new(mooring_tests::lab::binary("allocator-svc")?);
        command.arg(name).arg("--data-dir").arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    };
    let exported = task("export", &old)?.output()?;
    let told = String::from_utf8(exported.stderr)?;
    ensure!(exported.status.code() == Some(1), "{}: {told}", exported.status);
    ensure!(told.contains("left out: record \"lease/default/damaged\"") && told.contains("\"event\":\"fault\""), "{told}");
    let mut import = task("import", &new)?.spawn()?;
    import.stdin.take().context("no standard input")?.write_all(&exported.stdout)?;
    let imported = import.wait_with_output()?;
    let told = String::from_utf8(imported.stderr)?;
    ensure!(imported.status.success() && imported.stdout.is_empty(), "{}: {told}", imported.status);
    ensure!(told.contains("\"event\":\"imported\"") && told.contains("\"records\":3"), "{told}");
    let (_, records) = LeaseStore::open(&new)?;
    let keys: Vec<String> = records.iter().map(Record::key).collect();
    ensure!(keys == ["lease/default/whole", "meta/epoch", "meta/schema"], "{keys:?}");
    Ok(())
}

fn a_lost_volume_costs_no_address() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("first.yaml", &NGINX_LB.replace("nginx-lb", "first"))?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.wait_status("default", "first", "172.17.200.100")?;
    mooring.apply("second.yaml", &NGINX_LB.replace("nginx-lb", "second"))?;
    mooring.wait_status("default", "second", "172.17.200.101")?;
    mooring.delete("first.yaml")?;
    until(secs(5), "the first address is free", || {
        ensure!(mooring.leases()?.len() == 1);
        Ok(())
    })?;
    let vip = Ipv4Addr::new(172, 17, 200, 101);
    let node = until(secs(5), "the VIP is announced", || mooring.announcer("172.17.200.101"))?;
    let client = lab.host("client");
    until(secs(5), "the VIP answers", || client.arp(vip))?;
    let pings = client.ping_every(millis(5), vip)?;
    mooring.allocator.kill_9()?;
    std::fs::remove_dir_all(lab.folder().join("data"))?;
    mooring.allocator.restart()?;
    // A lower address is free, and still it is the one in the status that comes back.
    until(secs(10), "the lease is back", || {
        let leases = mooring.leases()?;
        ensure!(leases.get("default/second") == Some(&vec!["172.17.200.101".to_owned()]), "{leases:?}");
        Ok(())
    })?;
    ensure!(until(secs(5), "the VIP is announced", || mooring.announcer("172.17.200.101"))? == node, "the VIP has moved");
    let report = pings.finish()?;
    ensure!(report.lost == 0, "{report:?}");
    Ok(())
}

fn a_watcher_killed_before_the_status_writes_the_same_address() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    mooring.apply("config.yaml", ONE_POOL)?;
    mooring.apply("first.yaml", &NGINX_LB.replace("nginx-lb", "first"))?;
    mooring.wait_status("default", "first", "172.17.200.100")?;
    // A folder where the status file would go: the lease is granted, the status cannot be written.
    let blocked = mooring.status_folder().join("services/default_second.yaml");
    std::fs::create_dir_all(blocked.join("in-the-way"))?;
    mooring.apply("second.yaml", &NGINX_LB.replace("nginx-lb", "second"))?;
    until(secs(5), "the lease is granted", || {
        ensure!(mooring.leases()?.contains_key("default/second"));
        Ok(())
    })?;
    mooring.watcher.wait_for(&json!({"event": "writeFailed"}))?;
    mooring.watcher.kill_9()?;
    mooring.delete("first.yaml")?;
    std::fs::remove_dir_all(&blocked)?;
    mooring.watcher.restart()?;
    mooring.wait_status("default", "second", "172.17.200.101")
}

fn a_service_deleted_while_the_watcher_was_down_is_released() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    one_service(&lab, &mooring)?;
    mooring.apply("other.yaml", &NGINX_LB.replace("nginx-lb", "other"))?;
    mooring.wait_status("default", "other", "172.17.200.101")?;
    until(secs(5), "both are told", || {
        ensure!(mooring.events()?.iter().filter(|event| event["reason"] == "IPAllocated").count() == 2);
        Ok(())
    })?;
    mooring.watcher.kill_9()?;
    mooring.delete("nginx-lb.yaml")?;
    ensure!(mooring.leases()?.len() == 2);
    mooring.watcher.restart()?;
    until(secs(10), "the lease is released and its status is gone", || {
        let leases = mooring.leases()?;
        ensure!(leases.keys().collect::<Vec<_>>() == ["default/other"], "{leases:?}");
        ensure!(!mooring.status_folder().join("services/default_nginx-lb.yaml").exists(), "the status is still there");
        Ok(())
    })?;
    let written = mooring.watcher.events("serviceUpdated");
    ensure!(written.is_empty(), "a status that was right has been written again: {written:?}");
    let told = mooring.events()?;
    let allocated = told.iter().filter(|event| event["reason"] == "IPAllocated").count();
    ensure!(allocated == 2, "an Event was written again: {told:?}");
    Ok(())
}
