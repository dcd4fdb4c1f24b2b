//! Bad input of every kind: a clear error that names the thing, nothing lost, nothing stopped.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use mooring_proto::pb;
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::{ALLOCATOR, Mooring, allocator_call, inspect};
use mooring_tests::lab::{Host, Lab};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use crate::failover::{VIP, announcer, one_service, only};
use crate::story::{NGINX_LB, NGINX_LB2, ONE_POOL, TWO_POOLS};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("input::a_file_that_is_no_good_keeps_what_it_last_said", a_file_that_is_no_good_keeps_what_it_last_said),
    ("input::a_configuration_that_is_no_good_keeps_the_last_good_one", a_configuration_that_is_no_good_keeps_the_last_good_one),
    ("input::a_request_that_cannot_be_met_is_told_and_met_once_it_can_be", a_request_that_cannot_be_met_is_told_and_met_once_it_can_be),
    ("input::wrong_calls_are_refused_with_field_and_value", wrong_calls_are_refused_with_field_and_value),
    ("input::messages_that_are_none_are_refused", messages_that_are_none_are_refused),
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

/// A call that has to be refused: its status with all its details.
fn status_of(method: &str, data: &str) -> Result<Value> {
    let refused = refused(Cluster::grpcurl(&["-format-error", "-d", data, ALLOCATOR, method]))?;
    let status = refused.find("{\n").and_then(|at| refused.get(at..)).with_context(|| format!("no status: {refused}"))?;
    Ok(serde_json::from_str(status)?)
}

/// What programs read of a refusal, as `google.rpc` has it; the metadata is left out where there is none.
fn error_info(reason: &str, metadata: &Value) -> Value {
    let mut info = json!({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "domain": "mooring.io", "reason": reason});
    if let Some(info) = info.as_object_mut().filter(|_| !metadata.is_null()) {
        info.insert("metadata".to_owned(), metadata.clone());
    }
    info
}

/// The fields that do not parse, each with what is wrong.
fn bad_request(violations: &[(&str, &str)]) -> Value {
    let violations: Vec<Value> = violations.iter().map(|(field, what)| json!({"field": field, "description": what})).collect();
    json!({"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations})
}

/// What it is that is not there.
fn resource_info(kind: &str, name: &str, message: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.rpc.ResourceInfo", "resourceType": kind, "resourceName": name, "description": message})
}

fn wrong_calls_are_refused_with_field_and_value() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    // Two pools of one address each, both in use.
    let narrow =
        TWO_POOLS.replace("200.100-172.17.200.125", "200.100-172.17.200.100").replace("201.100-172.17.201.125", "201.100-172.17.201.100");
    mooring.apply("config.yaml", &narrow)?;
    mooring.apply("nginx-lb2.yaml", NGINX_LB2)?;
    mooring.wait_status("default", "nginx-lb2", "172.17.201.100")?;
    let claim = |change: Value| {
        let mut claim = json!({"namespace": "default", "name": "byhand", "ip_families": ["IP_FAMILY_IPV4"], "ip_family_policy": "IP_FAMILY_POLICY_SINGLE_STACK"});
        if let (Some(claim), Some(change)) = (claim.as_object_mut(), change.as_object()) {
            claim.extend(change.clone());
        }
        json!({"claim": claim})
    };
    // Method, request, the code, the message, and after the error's reason and values whatever other details there are.
    let field = |field: &str, what: &str| {
        (format!("{field}: {what}"), vec![error_info("INVALID_FIELD", &Value::Null), bad_request(&[(field, what)])])
    };
    let range = "invalid IP range \"1.2.3.4-1.2.3.1\": start IP \"1.2.3.4\" is after the end IP \"1.2.3.1\"";
    let (unknown_pool, unknown_service) = ("unknown pool \"nowhere\"", "default/none holds and claims nothing");
    let full = "pool default: 1 of 1 IPv4 addresses leased; pool subnet-201: 1 of 1 IPv4 addresses leased";
    let calls = [
        ("AllocatorService/Allocate", json!({}), Code::InvalidArgument, field("claim", "is missing")),
        (
            "AllocatorService/Allocate",
            claim(json!({"name": "No Name"})),
            Code::InvalidArgument,
            field("claim.name", "\"default/No Name\" is not NAMESPACE/NAME of lower case letters, digits, - and ."),
        ),
        (
            "AllocatorService/Allocate",
            claim(json!({"requested_addresses": ["172.17.200.300"]})),
            Code::InvalidArgument,
            field("claim.requested_addresses[0]", "invalid IP address \"172.17.200.300\""),
        ),
        (
            "AllocatorService/Allocate",
            claim(json!({"requested_pool": "nowhere"})),
            Code::NotFound,
            (unknown_pool.to_owned(), vec![error_info("UNKNOWN_POOL", &json!({"pool": "nowhere"})), resource_info("pool", "nowhere", unknown_pool)]),
        ),
        (
            "AllocatorService/Allocate",
            claim(json!({})),
            Code::ResourceExhausted,
            (format!("no available IPs: {full}"), vec![error_info("NO_AVAILABLE_ADDRESS", &json!({"pool": "default,subnet-201"}))]),
        ),
        (
            "AllocatorService/Allocate",
            claim(json!({"requested_addresses": ["172.17.200.100"]})),
            Code::FailedPrecondition,
            (
                "can't change sharing key for \"default/byhand\", address also in use by default/nginx-lb: the sharing key on 172.17.200.100 differs".to_owned(),
                vec![error_info("SHARING_FORBIDDEN", &json!({"vip": "172.17.200.100", "holder": "default/nginx-lb", "differs": "key"}))],
            ),
        ),
        (
            "AllocatorService/Release",
            json!({"service": {"namespace": "", "name": "x"}}),
            Code::InvalidArgument,
            field("service", "\"/x\" is not NAMESPACE/NAME of lower case letters, digits, - and ."),
        ),
        (
            "AllocatorService/ReplacePools",
            json!({"pools": [{"name": "", "addresses": ["1.2.3.4-1.2.3.1"]}]}),
            Code::InvalidArgument,
            (
                format!("pools[0].name: is empty; pools[0].addresses[0]: {range}"),
                vec![error_info("INVALID_CONFIGURATION", &Value::Null), bad_request(&[("pools[0].name", "is empty"), ("pools[0].addresses[0]", range)])],
            ),
        ),
        (
            "InspectService/GetLease",
            json!({"namespace": "default", "name": "none"}),
            Code::NotFound,
            (
                unknown_service.to_owned(),
                vec![error_info("UNKNOWN_SERVICE", &json!({"service": "default/none"})), resource_info("service", "default/none", unknown_service)],
            ),
        ),
        (
            "InspectService/ListLeases",
            json!({"page_token": "made up"}),
            Code::InvalidArgument,
            field("page_token", "\"made up\" is no token of this list"),
        ),
        (
            "InspectService/WatchLeases",
            json!({"from_revision": "18446744073709551615"}),
            Code::OutOfRange,
            (
                "revision 18446744073709551615 is not kept: ask for a snapshot, from_revision 0".to_owned(),
                vec![error_info("REVISION_NOT_KEPT", &json!({"revision": "18446744073709551615"}))],
            ),
        ),
        (
            "AssignmentService/StreamAssignments",
            json!({"hello": {"node": "/x"}}),
            Code::InvalidArgument,
            field("hello.node", "\"/x\" is no such name, want at most 253 lower case letters, digits, - and ., the first and the last a letter or digit"),
        ),
    ];
    for (method, data, code, (message, details)) in calls {
        let status = status_of(&format!("mooring.v1.{method}"), &data.to_string())?;
        let wanted = json!({"code": i32::from(code), "message": message, "details": details});
        ensure!(status == wanted, "{method} {data}: want {wanted}, got {status}");
    }
    ensure!(mooring.leases()?.len() == 2, "a refused call changed something: {:?}", mooring.leases()?);
    unharmed(&lab, &mut mooring, &node)
}

/// Makes a gRPC call on a host with just these bytes as its body, ended in order, and returns the status that comes back.
fn call_with(host: &Host, at: &str, path: &str, body: &[u8]) -> Result<Status> {
    let (at, path, body) = (format!("http://{at}"), path.to_owned(), Bytes::copy_from_slice(body));
    host.netns().within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut channel = tonic::transport::Channel::from_shared(at)?.timeout(secs(5)).connect().await?;
            let request = http::Request::post(&path).header("content-type", "application/grpc").header("te", "trailers");
            let answer = channel.ready().await?.call(request.body(tonic::body::Body::new(Full::new(body)))?).await?;
            // The status is in the headers if nothing else comes, and at the end otherwise.
            if let Some(status) = Status::from_header_map(answer.headers()) {
                return Ok(status);
            }
            let whole = answer.into_body().collect().await?;
            whole.trailers().and_then(Status::from_header_map).context("no status")
        })
    })
}

fn messages_that_are_none_are_refused() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let health = "/grpc.health.v1.Health/Check";
    let paths = [
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/Allocate"),
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/Release"),
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/Reconcile"),
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/ReplacePools"),
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/ReplaceNodes"),
        ("control", ALLOCATOR, "/mooring.v1.AllocatorService/ReportBackends"),
        ("control", ALLOCATOR, "/mooring.v1.AssignmentService/StreamAssignments"),
        ("control", ALLOCATOR, "/mooring.v1.InspectService/GetLease"),
        ("control", ALLOCATOR, "/mooring.v1.InspectService/WatchLeases"),
        ("control", ALLOCATOR, health),
        ("control", "172.17.0.2:7475", health),
        (&node, "127.0.0.1:7471", "/mooring.v1.AnnouncementService/ListAnnouncements"),
        (&node, "127.0.0.1:7471", health),
    ];
    // A message is a flag (compressed or not), its length in four bytes, and so many bytes.
    let bodies: [(&str, &[u8], Code); 5] = [
        ("ends within its head", &[0, 0, 0], Code::Internal),
        ("is shorter than its head says", &[0, 0, 0, 0, 100, 10, 3, b'a'], Code::Internal),
        ("is no protobuf", &[0, 0, 0, 0, 2, 0xff, 0xff], Code::Internal),
        ("is compressed in a way that nobody named", &[1, 0, 0, 0, 1, 0], Code::Internal),
        ("is larger than any may be", &[0, 0xff, 0xff, 0xff, 0xff, 0], Code::OutOfRange),
    ];
    for (host, at, path) in paths {
        for (what, body, code) in bodies {
            let status = call_with(lab.host(host), at, path, body).with_context(|| format!("{at}{path}, a message that {what}"))?;
            ensure!(status.code() == code, "{at}{path}, a message that {what}: {status:?}");
        }
    }
    ensure!(mooring.leases()?.len() == 1, "a message that is none changed something");
    unharmed(&lab, &mut mooring, &node)
}

/// The beginning of a gRPC call as bytes, up to within its message: RFC 9113 sections 3.4, 4.1, 6.1 and 6.2; RFC 7541 section 6.2.2.
fn half_a_call(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap_or_default()], text.as_bytes()].concat();
    // Of the static table: `:method: POST`, `:scheme: http`, the names `:path`, `:authority` and `content-type`.
    let headers = [
        vec![0x83, 0x86, 0x04],
        text(path),
        vec![0x01],
        text("mooring"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0],
        text("te"),
        text("trailers"),
    ]
    .concat();
    let frame =
        |length: usize, kind: u8, flags: u8, stream: u8| [0, 0, u8::try_from(length).unwrap_or_default(), kind, flags, 0, 0, 0, stream];
    let (settings, begin, data) = (frame(0, 4, 0, 0), frame(headers.len(), 1, 4, 1), frame(100, 0, 1, 1));
    [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &settings, &begin, &headers, &data, &[0, 0, 0, 0, 95, 10]].concat()
}

fn garbage_on_the_ports_stops_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    // A preface and a HEADERS frame that no table decodes.
    let wrong_headers =
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], b"\0\0\x05\x01\x05\0\0\0\x01\xff\xff\xff\xff\xff"].concat();
    let half = half_a_call("/mooring.v1.AnnouncementService/ListAnnouncements");
    let garbage = [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 4096], wrong_headers, half, Vec::new()];
    for (host, address, ports) in [("control", "172.17.0.2", &[7470, 7472, 7473, 7475][..]), (&node, "127.0.0.1", &[7471, 7474])] {
        for (port, bytes) in ports.iter().flat_map(|port| garbage.iter().map(move |bytes| (*port, bytes.clone()))) {
            lab.host(host).netns().within(move || {
                let mut stream = TcpStream::connect((address, port))?;
                stream.set_read_timeout(Some(millis(200)))?;
                drop(stream.write_all(&bytes));
                let mut answer = [0; 1024];
                drop(stream.read(&mut answer));
                Ok(())
            })?;
        }
    }
    let large = json!({"namespace": "n".repeat(8 << 20), "name": "x"}).to_string();
    let file = lab.folder().join("large.json");
    std::fs::write(&file, large)?;
    let command =
        format!("{} -plaintext -d @ {ALLOCATOR} mooring.v1.InspectService/GetLease < {}", Cluster::grpcurl_path()?, file.display());
    let refused = refused(mooring_tests::lab::run("sh", &["-c", &command]))?;
    ensure!(refused.contains("OutOfRange") || refused.contains("ResourceExhausted"), "{refused}");
    unharmed(&lab, &mut mooring, &node)
}

/// A cluster of so many nodes, the lab's own among them, each with the labels of a large one.
fn large_cluster(nodes: usize) -> pb::ReplaceNodesRequest {
    let node = |number: usize| {
        let name = ["node-a", "node-b", "node-c"].get(number).map_or_else(|| format!("node-{number}"), ToString::to_string);
        let label = |label: usize| (format!("topology.example.com/of-some-length-{label}"), format!("{name}-value-of-some-length-{label}"));
        pb::Node { labels: (0..30).map(label).collect(), name, network_unavailable: false, cordoned: false }
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

/// The frames that a node's speaker has dropped so far, by reason.
fn drops(node: &Host) -> Result<BTreeMap<String, u64>> {
    let metrics = node.curl("http://127.0.0.1:7474/metrics")?;
    let series = metrics.lines().filter_map(|line| line.strip_prefix("mooring_speaker_frames_dropped_total{reason=\"")?.split_once("\"} "));
    series.map(|(reason, count)| Ok((reason.to_owned(), count.parse()?))).collect()
}

fn wrong_frames_stop_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_service(&lab, &mooring)?;
    let client = lab.host("client");
    // A sender of its own, at the client's cable: whatever is sent to it answers one of these frames.
    let sender = MacAddress([2, 0, 0, 0, 0x99, 0x99]);
    let request = Arp { operation: Operation::Request, sha: sender, spa: [172, 17, 0, 199].into(), tha: MacAddress([0; 6]), tpa: VIP };
    let right = build_arp(MacAddress::BROADCAST, &request);
    let with = |at: usize, bytes: &[u8]| -> Vec<u8> {
        let mut frame = right.clone();
        frame.splice(at..at + bytes.len(), bytes.iter().copied());
        frame
    };
    let each_wrong = |bytes: std::ops::Range<usize>| bytes.map(|at| with(at, &[!right[at]])).collect::<Vec<_>>();
    let others = [MacAddress::BROADCAST, MacAddress([0; 6]), MacAddress([1, 0, 0x5e, 0, 0, 1])];
    // Frames by what they are dropped for; those of another EtherType, or to another station or group, are dropped by the socket's filter.
    let wrong: [(&str, Vec<Vec<u8>>); 6] = [
        ("ether_type", each_wrong(12..14)),
        ("format", each_wrong(14..20)),
        ("operation", [each_wrong(20..22), vec![with(20, &[0, 0]), with(20, &[0, 3])]].concat()),
        ("truncated", (22..42).map(|length| right[..length].to_vec()).collect()),
        ("sender", others.iter().map(|mac| with(22, &mac.0)).collect()),
        ("foreign", vec![with(0, &[1, 0, 0x5e, 0, 0, 1]), with(0, &[2, 0, 0, 0, 0x77, 0x77])]),
    ];
    let unseen = |reason: &str| if matches!(reason, "ether_type" | "foreign") { 2 } else { 0 };
    let before: BTreeMap<String, BTreeMap<String, u64>> =
        lab.nodes().map(|node| Ok((node.name().to_owned(), drops(node)?))).collect::<Result<_>>()?;
    let mut capture = Capture::begin(client)?;
    client.send_frames(wrong.iter().flat_map(|(_, frames)| frames.clone()).collect())?;
    // A flood of what is merely not for a VIP.
    client.send_frames(
        (0..2000u32).map(|number| build_arp(MacAddress::BROADCAST, &Arp { tpa: (0xac11_0800 + number).into(), ..request })).collect(),
    )?;
    for host in lab.nodes() {
        let mut wanted = before.get(host.name()).cloned().context("no such node")?;
        for (reason, frames) in &wrong {
            *wanted.get_mut(*reason).with_context(|| format!("no series for {reason}"))? += u64::try_from(frames.len())? - unseen(reason);
        }
        until(secs(5), "each wrong frame is counted once, by what is wrong with it", || {
            let counted = drops(host)?;
            ensure!(counted == wanted, "{}: want {wanted:?}, got {counted:?}", host.name());
            Ok(())
        })?;
    }
    // Only the one that is right is answered, once.
    let mac = lab.host(&node).mac();
    client.send_frames(vec![right.clone()])?;
    let to_sender = |capture: &mut Capture| {
        capture.arps().into_iter().filter(|arp| arp.tha == sender && arp.operation == Operation::Reply).collect::<Vec<_>>()
    };
    until(secs(5), "the right frame is answered", || {
        ensure!(!to_sender(&mut capture).is_empty());
        Ok(())
    })?;
    only(client, lab.host(&node))?;
    let answers = to_sender(&mut capture);
    ensure!(answers.len() == 1 && answers[0].sha == mac && answers[0].spa == VIP, "{answers:?}");
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
