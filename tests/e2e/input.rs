//! Bad input of every kind: a clear error that names the thing, nothing lost, nothing stopped.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Result, ensure};
use mooring_proto::pb;
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::Lab;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{Mooring, allocator_call, inspect};
use prost::Message as _;
use serde_json::{Value, json};

use crate::failover::{VIP, announcer, one_service, only};
use crate::story::{NGINX_LB, ONE_POOL, TWO_POOLS};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("input::a_file_that_is_no_good_keeps_what_it_last_said", a_file_that_is_no_good_keeps_what_it_last_said),
    ("input::a_configuration_that_is_no_good_keeps_the_last_good_one", a_configuration_that_is_no_good_keeps_the_last_good_one),
    ("input::a_request_that_cannot_be_met_is_told_and_met_once_it_can_be", a_request_that_cannot_be_met_is_told_and_met_once_it_can_be),
    ("input::wrong_calls_are_refused_with_field_and_value", wrong_calls_are_refused_with_field_and_value),
    ("input::garbage_on_the_ports_stops_nobody", garbage_on_the_ports_stops_nobody),
    (
        "input::five_thousand_nodes_fit_into_one_call_and_what_is_too_large_stops_nobody",
        five_thousand_nodes_fit_into_one_call_and_what_is_too_large_stops_nobody,
    ),
    ("input::wrong_frames_stop_nobody", wrong_frames_stop_nobody),
    ("input::a_stranger_that_claims_an_address_is_reported", a_stranger_that_claims_an_address_is_reported),
];

/// All is as before: the Service's address answers where it did.
fn unharmed(lab: &Lab, mooring: &mut Mooring, node: &str) -> Result<()> {
    only(lab.host("client"), lab.host(node))?;
    ensure!(announcer(mooring)? == node, "the VIP has moved");
    ensure!(mooring.status("default", "nginx-lb")? == ["172.17.200.100"]);
    for process in [&mut mooring.allocator, &mut mooring.watcher].into_iter().chain(mooring.speakers.values_mut()) {
        ensure!(process.is_running()?, "{process:?} has ended");
        ensure!(!process.stderr().contains("panicked"), "{}", process.stderr());
    }
    Ok(())
}

fn a_file_that_is_no_good_keeps_what_it_last_said() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let file = mooring.manifest("nginx-lb.yaml").display().to_string();
    let wrong = [
        (format!("{NGINX_LB}---\nkind: [1, 2\n"), 2, ""),
        (format!("{NGINX_LB}---\nmetadata: {{name: x}}\n"), 2, "apiVersion"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  na".to_owned(), 1, "metadata.name"),
        (String::new(), 0, ""),
        ("\u{0}\u{1}".to_owned(), 1, ""),
    ];
    for (text, document, field) in wrong {
        mooring.apply("nginx-lb.yaml", &text)?;
        mooring.watcher.wait_for(&json!({"event": "fileMalformed", "file": file, "document": document, "field": field}))?;
        mooring.apply("nginx-lb.yaml", NGINX_LB)?;
    }
    // An object that is wrong in itself names file, document, field and value, and keeps its last good view.
    mooring.apply("nginx-lb.yaml", &NGINX_LB.replace("port: 8080", "port: eighty"))?;
    let line = mooring.watcher.wait_for(&json!({"event": "objectMalformed", "service": "default/nginx-lb"}))?;
    let origin = line["origin"].as_str().unwrap_or_default();
    ensure!(origin.ends_with("nginx-lb.yaml, document 1") && line["value"] == "\"eighty\"", "{line}");
    ensure!(line["field"].as_str().is_some_and(|field| field.starts_with("spec.ports[0]")), "{line}");
    unharmed(&lab, &mut mooring, &node)?;
    // Written in two halves with the file kept open: other files do not wait for it.
    let other = NGINX_LB.replace("nginx-lb", "other");
    let (first, second) = other.split_at(other.find("  type:").unwrap_or(0));
    let mut open = std::fs::File::create(mooring.manifest("other.yaml"))?;
    open.write_all(first.as_bytes())?;
    mooring.apply("third.yaml", &NGINX_LB.replace("nginx-lb", "third"))?;
    mooring.wait_status("default", "third", "172.17.200.101")?;
    open.write_all(second.as_bytes())?;
    drop(open);
    mooring.wait_status("default", "other", "172.17.200.102")?;
    // Several at once: who gets which address is not chance but explicit requests first, then age, then name.
    let many = ["d", "c", "b", "a"].map(|name| NGINX_LB.replace("nginx-lb", name));
    let asking = format!("{NGINX_LB}  loadBalancerIP: 172.17.200.103\n").replace("nginx-lb", "z");
    mooring.apply("many.yaml", &[many.join("---\n"), asking].join("---\n"))?;
    for (name, last) in [("z", 103), ("a", 104), ("b", 105), ("c", 106), ("d", 107)] {
        mooring.wait_status("default", name, &format!("172.17.200.{last}"))?;
    }
    ensure!(mooring.watcher.events("clearAssignment").is_empty());
    unharmed(&lab, &mut mooring, &node)
}

fn a_configuration_that_is_no_good_keeps_the_last_good_one() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let wrong = [
        (ONE_POOL.replace("protocol: layer2", "protocol: ospf"), "unknown protocol \"ospf\""),
        (ONE_POOL.replace("protocol: layer2", "protocol: bgp"), "announces by layer 2 only for now"),
        (ONE_POOL.replace("172.17.200.100-172.17.200.125", "172.17.200.125-172.17.200.100"), "172.17.200.125-172.17.200.100"),
        (TWO_POOLS.replace("172.17.201.100-172.17.201.125", "172.17.200.110-172.17.200.120"), "overlaps"),
        (ONE_POOL.replace("protocol: layer2", "protocoll: layer2"), "protocoll"),
    ];
    let mut stale = 0;
    for (config, told) in wrong {
        mooring.apply("config.yaml", &config)?;
        let line = until(secs(5), "the configuration is refused", || {
            let lines = mooring.watcher.events("configStale");
            ensure!(lines.len() > stale, "nothing new");
            Ok(lines.last().cloned().unwrap_or_default())
        })?;
        stale = mooring.watcher.events("configStale").len();
        ensure!(line["error"].as_str().is_some_and(|error| error.contains(told)), "want {told}: {line}");
        // The last good one goes on to serve.
        let name = format!("during-{stale}");
        mooring.apply("during.yaml", &NGINX_LB.replace("nginx-lb", &name))?;
        mooring.wait_status("default", &name, "172.17.200.101")?;
        mooring.delete("during.yaml")?;
        until(secs(5), "it is released", || {
            ensure!(mooring.leases()?.len() == 1);
            Ok(())
        })?;
    }
    let events: Vec<Value> = mooring.events()?.into_iter().filter(|event| event["reason"] == "InvalidConfiguration").collect();
    ensure!(
        events.len() >= 5 && events.iter().all(|event| event["regarding"]["kind"] == "ConfigMap" && event["type"] == "Warning"),
        "{events:?}"
    );
    let metrics = lab.host("control").curl("http://172.17.0.2:7473/metrics")?;
    ensure!(metrics.lines().any(|line| line == "metallb_k8s_client_config_stale_bool 1"), "{metrics}");
    mooring.apply("config.yaml", TWO_POOLS)?;
    mooring.watcher.wait_for(&json!({"event": "configLoaded", "pools": 2}))?;
    unharmed(&lab, &mut mooring, &node)
}

fn a_request_that_cannot_be_met_is_told_and_met_once_it_can_be() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let asking = |address: &str| format!("{NGINX_LB}  loadBalancerIP: {address}\n").replace("nginx-lb", "asking");
    mooring.apply("asking.yaml", &asking("172.17.201.100"))?;
    let refused = until(secs(5), "an Event says why", || {
        let events = mooring.events()?;
        let found = events.into_iter().find(|event| event["regarding"]["name"] == "asking" && event["reason"] == "AllocationFailed");
        found.ok_or_else(|| anyhow::anyhow!("no such Event"))
    })?;
    let note = refused["note"].as_str().unwrap_or_default();
    ensure!(
        note.starts_with("Failed to allocate IP for \"default/asking\": ")
            && note.contains("172.17.201.100")
            && refused["type"] == "Warning",
        "{refused}"
    );
    // The pool it waits for appears.
    mooring.apply("config.yaml", TWO_POOLS)?;
    mooring.wait_status("default", "asking", "172.17.201.100")?;
    // A move that cannot be made keeps the old address.
    mooring.apply("asking.yaml", &asking("10.9.9.9"))?;
    until(secs(5), "a second Event says why", || {
        let failed = mooring.events()?.into_iter().filter(|event| event["reason"] == "AllocationFailed").count();
        ensure!(failed == 2, "{failed}");
        Ok(())
    })?;
    ensure!(mooring.status("default", "asking")? == ["172.17.201.100"]);
    mooring.apply("asking.yaml", &asking("no.address"))?;
    until(secs(5), "the request is named", || {
        let events = mooring.events()?;
        ensure!(events.iter().any(|event| event["note"].as_str().is_some_and(|note| note.contains("no.address"))), "{events:?}");
        Ok(())
    })?;
    ensure!(mooring.status("default", "asking")? == ["172.17.201.100"]);
    unharmed(&lab, &mut mooring, &node)
}

fn wrong_calls_are_refused_with_field_and_value() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let claim = |change: Value| {
        let mut claim = json!({"namespace": "default", "name": "byhand", "ip_families": ["IP_FAMILY_IPV4"], "ip_family_policy": "IP_FAMILY_POLICY_SINGLE_STACK"});
        if let (Some(claim), Some(change)) = (claim.as_object_mut(), change.as_object()) {
            claim.extend(change.clone());
        }
        json!({"claim": claim}).to_string()
    };
    let calls = [
        ("mooring.v1.AllocatorService/Allocate", json!({}).to_string(), "InvalidArgument", "claim"),
        ("mooring.v1.AllocatorService/Allocate", claim(json!({"name": "No Name"})), "InvalidArgument", "claim.name"),
        (
            "mooring.v1.AllocatorService/Allocate",
            claim(json!({"requested_addresses": ["172.17.200.300"]})),
            "InvalidArgument",
            "172.17.200.300",
        ),
        ("mooring.v1.AllocatorService/Allocate", claim(json!({"requested_pool": "nowhere"})), "", "nowhere"),
        (
            "mooring.v1.AllocatorService/Release",
            json!({"term": 0, "service": {"namespace": "", "name": "x"}}).to_string(),
            "InvalidArgument",
            "service",
        ),
        (
            "mooring.v1.AllocatorService/ReplacePools",
            json!({"pools": [{"name": "", "addresses": ["1.2.3.4-1.2.3.1"]}]}).to_string(),
            "",
            "pools[0]",
        ),
        (
            "mooring.v1.AssignmentService/StreamAssignments",
            json!({"hello": {"node": "/x"}}).to_string(),
            "InvalidArgument",
            "hello.node: \"/x\" is no such name",
        ),
        ("mooring.v1.InspectService/ListLeases", json!({"page_token": "made up"}).to_string(), "InvalidArgument", "page_token"),
        ("mooring.v1.InspectService/WatchLeases", json!({"from_revision": "18446744073709551615"}).to_string(), "OutOfRange", ""),
    ];
    for (method, data, code, told) in calls {
        let refused = refused(Cluster::grpcurl(&["-d", &data, "172.17.0.2:7470", method]))?;
        ensure!(refused.contains(code) && refused.contains(told), "{method} {data}: want {code} and {told}: {refused}");
    }
    ensure!(mooring.leases()?.len() == 1, "a refused call changed something");
    unharmed(&lab, &mut mooring, &node)
}

fn garbage_on_the_ports_stops_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    // HTTP/2's preface, then a gRPC request whose message claims more bytes than come: RFC 9113 sections 3.4 and 4.1.
    let headers =
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], b"\0\0\x05\0\x01\0\0\0\x01\0\0\x10\0\0", b"\0\0\0\0\0\0\0\0\0"]
            .concat();
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 4096], headers, Vec::new()] {
        for port in [7470, 7472, 7473, 7475] {
            let mut stream = TcpStream::connect(("172.17.0.2", port))?;
            stream.set_read_timeout(Some(millis(200)))?;
            drop(stream.write_all(&garbage));
            let mut answer = [0; 1024];
            drop(stream.read(&mut answer));
        }
    }
    let large = json!({"namespace": "n".repeat(8 << 20), "name": "x"}).to_string();
    let file = lab.folder().join("large.json");
    std::fs::write(&file, large)?;
    let command =
        format!("{} -plaintext -d @ 172.17.0.2:7470 mooring.v1.InspectService/GetLease < {}", Cluster::grpcurl_path()?, file.display());
    let refused = refused(mooring_tests::lab::run("sh", &["-c", &command]))?;
    ensure!(refused.contains("OutOfRange") || refused.contains("ResourceExhausted"), "{refused}");
    unharmed(&lab, &mut mooring, &node)
}

/// A cluster of so many nodes, the lab's own among them, each with the labels of a large one.
fn large_cluster(nodes: usize) -> pb::ReplaceNodesRequest {
    let node = |number: usize| {
        let name = ["node-a", "node-b", "node-c"].get(number).map_or_else(|| format!("node-{number}"), ToString::to_string);
        let label = |label: usize| (format!("topology.example.com/of-some-length-{label}"), format!("{name}-value-of-some-length-{label}"));
        pb::Node { labels: (0..30).map(label).collect(), name, network_unavailable: false }
    };
    pb::ReplaceNodesRequest { term: 0, nodes: (0..nodes).map(node).collect() }
}

fn five_thousand_nodes_fit_into_one_call_and_what_is_too_large_stops_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let replace =
        |nodes: usize| allocator_call(|mut client| async move { Ok(client.replace_nodes(large_cluster(nodes)).await.map(|_answer| ())?) });
    ensure!(large_cluster(5000).encoded_len() > 2 * (4 << 20), "{} bytes", large_cluster(5000).encoded_len());
    replace(5000)?;
    let known = inspect(|mut client| async move {
        let (mut known, mut page_token) = (0, String::new());
        loop {
            let page = client.list_nodes(pb::ListNodesRequest { page_size: 1000, page_token }).await?.into_inner();
            known += page.nodes.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(known);
            }
        }
    })?;
    ensure!(known == 5000, "{known}");
    let refused = refused(replace(20_000))?;
    ensure!(refused.contains("limit") && refused.contains("33554432"), "{refused}");
    unharmed(&lab, &mut mooring, &node)
}

fn wrong_frames_stop_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let request = Arp { operation: Operation::Request, sha: client.mac(), spa: client.address(), tha: MacAddress([0; 6]), tpa: VIP };
    let right = build_arp(MacAddress::BROADCAST, &request);
    // Each byte of the header wrong, each length, and a flood of what is merely not for a VIP.
    let mut frames: Vec<Vec<u8>> =
        (12..22).map(|at| right.iter().enumerate().map(|(index, byte)| if index == at { !byte } else { *byte }).collect()).collect();
    frames.extend((14..42).map(|length| right[..length].to_vec()));
    frames.extend((0..2000u32).map(|number| build_arp(MacAddress::BROADCAST, &Arp { tpa: (0xac11_0000 + number).into(), ..request })));
    let mut capture = Capture::begin(client)?;
    client.send_frames(frames)?;
    only(client, lab.host(&node))?;
    let answers: Vec<Arp> = capture.arps().into_iter().filter(|arp| arp.operation == Operation::Reply).collect();
    let speakers: Vec<MacAddress> = lab.nodes().map(|node| node.mac()).collect();
    let nodes: Vec<_> = lab.nodes().map(|node| node.address()).collect();
    ensure!(answers.iter().all(|arp| arp.spa == VIP || nodes.contains(&arp.spa) || !speakers.contains(&arp.sha)), "{answers:?}");
    unharmed(&lab, &mut mooring, &node)
}

fn a_stranger_that_claims_an_address_is_reported() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    let claim = Arp { operation: Operation::Reply, sha: client.mac(), spa: VIP, tha: MacAddress::BROADCAST, tpa: VIP };
    client.send_frames(vec![build_arp(MacAddress::BROADCAST, &claim)])?;
    let mac = client.mac().to_string();
    mooring.speaker(&node)?.wait_for(&json!({"event": "addressConflict", "ip": "172.17.200.100", "mac": mac}))?;
    until(secs(5), "an Event names the stranger", || {
        let events = mooring.events()?;
        let found = events
            .iter()
            .any(|event| event["reason"] == "AddressConflict" && event["note"].as_str().is_some_and(|note| note.contains(&mac)));
        ensure!(found, "{events:?}");
        Ok(())
    })?;
    unharmed(&lab, &mut mooring, &node)
}
