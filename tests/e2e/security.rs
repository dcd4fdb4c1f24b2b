//! Mutual TLS between the workloads; whoever has no certificate is nobody.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::certs::{Authority, Certificate};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::{Host, Lab, Process, Program, output_of};
use serde_json::{Value, json};

use crate::failover::VIP;
use crate::story::{NGINX_LB, ONE_POOL};
use crate::{Scenario, refused};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("security::with_certificates_the_workloads_speak_and_nobody_else", with_certificates_the_workloads_speak_and_nobody_else),
    ("security::what_would_be_plain_text_against_the_flags_is_refused", what_would_be_plain_text_against_the_flags_is_refused),
];

const ALLOCATOR: &str = "172.17.0.2:7470";
const WATCHER: &str = "172.17.0.2:7475";

/// grpcurl with these flags.
fn grpcurl(flags: &[OsString], arguments: &[&str]) -> Result<String> {
    output_of(Command::new(Cluster::grpcurl_path()?).args(flags).args(["-max-time", "5"]).args(arguments))
}

/// A watcher on a directory with a pool and a Service.
fn watcher(lab: &Lab, allocator: &str, listen: &str, flags: [OsString; 6]) -> Result<Process> {
    let manifests = lab.folder().join("manifests");
    std::fs::create_dir_all(&manifests)?;
    std::fs::write(manifests.join("all.yaml"), format!("{ONE_POOL}---\n{NGINX_LB}"))?;
    let source = format!("dir:{}", manifests.display());
    let program = Program::own("watcher-svc")?.args(["--source", &source, "--allocator", allocator, "--listen", listen]);
    let program = program.args(["--admin", "127.0.0.1:0", "--status-dir"]).arg(lab.folder().join("status"));
    program.args(flags).start(lab.host("control"))
}

fn speaker(host: &Host, certificate: &Certificate) -> Result<Process> {
    let allocator = format!("https://{ALLOCATOR}");
    let program = Program::own("speaker-svc")?.args(["--allocator", &allocator, "--node-name", host.name()]);
    program.args(certificate.flags()).start(host)
}

fn with_certificates_the_workloads_speak_and_nobody_else() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (authority, another) = (Authority::new(lab.folder(), "ours")?, Authority::new(lab.folder(), "another")?);
    let here = |host: &str| [IpAddr::from(lab.host(host).address()), Ipv4Addr::LOCALHOST.into()];
    let allocator = Program::own("allocator-svc")?.args(["--listen", ALLOCATOR, "--admin", "127.0.0.1:0", "--data-dir"]);
    let allocator = allocator.arg(lab.folder().join("data")).args(authority.issue("allocator", &here("control"))?.flags());
    let mut allocator = allocator.start(lab.host("control"))?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    let flags = authority.issue("watcher", &here("control"))?.flags();
    let mut watcher = watcher(&lab, &format!("https://{ALLOCATOR}"), WATCHER, flags)?;
    // The first speaker trusts our authority, and comes with a certificate of another one: it stays outside.
    let trusted = authority.issue("node-b", &here("node-b"))?;
    let foreign = Certificate { ca: trusted.ca.clone(), ..another.issue("node-a", &here("node-a"))? };
    let mut stranger = speaker(lab.host("node-a"), &foreign)?;
    stranger.wait_for(&json!({"event": "sessionFailed"}))?;
    let mut speaker = speaker(lab.host("node-b"), &trusted)?;
    until(secs(10), "the address answers on the node that has a certificate", || {
        ensure!(lab.host("client").arp(VIP)? == lab.host("node-b").mac());
        Ok(())
    })?;
    let person = authority.issue("person", &[])?;
    let no_certificate: [OsString; 2] = ["-cacert".into(), person.ca.clone().into()];
    let of_another = Certificate { ca: person.ca.clone(), ..another.issue("person", &[])? };
    for (address, service) in [(ALLOCATOR, "mooring.v1.InspectService"), (WATCHER, "grpc.health.v1.Health")] {
        let listed = grpcurl(&person.grpcurl_flags(), &[address, "list"])?;
        ensure!(listed.lines().any(|line| line == service), "{listed}");
        for (what, flags) in [
            ("no certificate", &no_certificate[..]),
            ("a certificate of another authority", &of_another.grpcurl_flags()),
            ("plain text", &["-plaintext".into()]),
        ] {
            let told = refused(grpcurl(flags, &[address, "list"])).with_context(|| format!("{what} at {address}"))?;
            ensure!(!told.contains(service), "{what}: {told}");
        }
    }
    // The server shows who it is, too: who does not trust its authority does not speak.
    refused(grpcurl(&another.issue("third", &[])?.grpcurl_flags(), &[ALLOCATOR, "list"]))?;
    let nodes = grpcurl(&person.grpcurl_flags(), &[ALLOCATOR, "mooring.v1.InspectService/ListNodes"])?;
    let nodes: Value = serde_json::from_str(&nodes)?;
    ensure!(nodes["nodes"].as_array().map(Vec::len) == Some(1) && nodes["nodes"][0]["name"] == "node-b", "{nodes}");
    for process in [&mut allocator, &mut watcher, &mut stranger, &mut speaker] {
        ensure!(process.is_running()?, "{process:?} has ended");
    }
    Ok(())
}

fn what_would_be_plain_text_against_the_flags_is_refused() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let control = lab.host("control");
    let flags = Authority::new(lab.folder(), "ours")?.issue("all", &[])?.flags();
    for (program, arguments) in [
        ("watcher-svc", ["--source", "dir:/nowhere", "--allocator", "http://172.17.0.2:7470"]),
        ("speaker-svc", ["--node-name", "node-a", "--allocator", "http://172.17.0.2:7470"]),
        ("speaker-svc", ["--node-name", "node-a", "--allocator", "127.0.0.1:7470"]),
    ] {
        let mut process = Program::own(program)?.args(arguments).args(flags.clone()).start(control)?;
        ensure!(process.wait_end()?.code() == Some(2), "{program} {arguments:?}");
        ensure!(process.stderr().contains("in plain text although --tls-cert is given"), "{}", process.stderr());
    }
    // A Unix socket is plain text on both sides, whatever the flags say.
    let socket = format!("unix:{}", lab.folder().join("socket").display());
    let allocator = Program::own("allocator-svc")?.args(["--listen", &socket, "--admin", "127.0.0.1:0", "--data-dir"]);
    let mut allocator = allocator.arg(lab.folder().join("data")).args(flags.clone()).start(control)?;
    allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
    watcher(&lab, &socket, "127.0.0.1:0", flags)?.wait_for(&json!({"event": "ipAllocated", "ip": "172.17.200.100"}))?;
    Ok(())
}
