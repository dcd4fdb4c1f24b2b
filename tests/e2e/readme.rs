//! README says what works: its commands are run, and what it shows of their answers is compared.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use mooring_tests::lab::cluster::Cluster;
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::{Lab, Process, Program, binary, search_path};
use serde_json::{Value, json};

use crate::Scenario;
use crate::failover::VIP;

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("readme::the_demo_shows_what_is_said_and_answers_what_is_asked", the_demo_shows_what_is_said_and_answers_what_is_asked),
    ("readme::the_commands_without_a_cluster_give_an_address_that_answers", the_commands_without_a_cluster_give_an_address_that_answers),
    ("readme::the_commands_on_a_cluster_apply", the_commands_on_a_cluster_apply),
];

const README: &str = include_str!("../../README.md");

/// The top of the project, where its commands are run.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The code blocks of a chapter in one language.
fn blocks(chapter: &str, language: &str) -> Result<Vec<&'static str>> {
    let (_, rest) = README.split_once(&format!("\n## {chapter}\n")).with_context(|| format!("no chapter {chapter}"))?;
    let chapter = rest.split("\n## ").next().unwrap_or_default();
    let blocks: Vec<&str> =
        chapter.split("\n```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect();
    ensure!(!blocks.is_empty(), "no block in {language}");
    Ok(blocks)
}

/// Numbers that no two runs share.
const VOLATILE: [&str; 3] = ["requestsAnswered", "gratuitousSent", "lastAnsweredUnixMs"];

/// An answer without what may differ: white space, and the numbers that no two runs share.
fn stable(text: &str) -> String {
    let mut text: String = text.split_whitespace().collect();
    for key in VOLATILE {
        let start = format!("\"{key}\":\"");
        let parts: Vec<&str> = text.split(&start).collect();
        let rest = parts.iter().skip(1).map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        text = parts.first().copied().into_iter().chain(rest).collect::<Vec<_>>().join(&start);
    }
    text
}

/// Whether an answer has what is shown of it: the pieces between lines of dots, in their order.
fn shows(shown: &str, answer: &str) -> Result<()> {
    let stable_answer = stable(answer);
    let mut rest = stable_answer.as_str();
    let mut pieces = vec![String::new()];
    for line in shown.lines() {
        match (line.trim(), pieces.last_mut()) {
            ("...", _) => pieces.push(String::new()),
            (line, Some(piece)) => piece.push_str(line),
            (_, None) => {}
        }
    }
    for piece in pieces.iter().map(|piece| stable(piece)) {
        let (_, after) = rest.split_once(&piece).with_context(|| format!("README shows {piece}, which is not in: {answer}"))?;
        rest = after;
    }
    Ok(())
}

/// The commands of a console block, each with what is shown of its answer.
fn questions(block: &str) -> Vec<(&str, String)> {
    let mut questions: Vec<(&str, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), questions.last_mut()) {
            (Some(command), _) => questions.push((command, String::new())),
            (None, Some((_, shown))) => *shown += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    questions
}

/// Runs a command as a person would type it, and returns whether it went well and all that it printed. A watch goes on for ever and is
/// ended after a while.
fn typed(setup: &str, command: &str) -> Result<(bool, String)> {
    let script = format!("{setup}\n{{ {command}\n}} 2>&1");
    let done = Command::new("timeout").args(["5", "bash", "-c", &script]).current_dir(top()).env("PATH", search_path()).output()?;
    // A plan that finds differences ends as `kubectl diff` does.
    let wanted = if command.contains("Watch") { 124 } else { i32::from(command.contains(" plan ")) };
    let went_well = done.status.code() == Some(wanted);
    Ok((went_well, String::from_utf8_lossy(&done.stdout).into_owned()))
}

/// The demo as `make demo STAY=1` runs it, once it waits for somebody to look around.
fn staying_demo(lab: &Lab) -> Result<Process> {
    // It makes namespaces of its own, as if this program had none.
    let mut demo =
        Program::new("env").args(["-u", "MOORING_LAB"]).arg(binary("demo")?).arg("--stay").with_person().start(lab.host("client"))?;
    until(secs(60), "the demo stays up", || {
        ensure!(demo.written().iter().any(|line| line.contains("events.jsonl")), "{}", demo.said());
        Ok(())
    })?;
    Ok(demo)
}

/// What a demo printed under a heading that begins so, without the indentation.
fn under(demo: &mut Process, heading: &str) -> Vec<String> {
    let lines = demo.written().iter().skip_while(|line| !line.starts_with(heading)).skip(1);
    lines.take_while(|line| line.starts_with(' ')).map(|line| line.trim().to_owned()).collect()
}

/// A line without the numbers that stand alone in it: times and counts.
fn without_numbers(line: &str) -> String {
    line.split_whitespace().map(|word| if word.parse::<u32>().is_ok() { "N" } else { word }).collect::<Vec<_>>().join(" ")
}

fn the_demo_shows_what_is_said_and_answers_what_is_asked() -> Result<()> {
    for line in blocks("See it", "sh")?.iter().flat_map(|block| block.lines()) {
        let make = line.strip_prefix("make ").with_context(|| format!("not a target of make: {line}"))?;
        let (went_well, said) = typed("", &format!("make --dry-run {make}"))?;
        ensure!(went_well && (!make.contains("STAY=1") || said.contains("demo --stay")), "{line}: {said}");
    }
    let lab = Lab::of_three_nodes()?;
    let mut demo = staying_demo(&lab)?;
    let printed: Vec<String> = demo.written().iter().map(|line| without_numbers(line)).collect();
    // Which packets are seen first is not always the same.
    for line in
        blocks("See it", "text")?.iter().flat_map(|block| block.lines()).filter(|line| *line != "..." && !line.contains("on the wire"))
    {
        ensure!(printed.contains(&without_numbers(line)), "README shows {line:?}, and the demo printed {printed:#?}");
    }
    let setup = under(&mut demo, "== It stays up").join("\n");
    let examples = under(&mut demo, "== and then");
    ensure!(setup.lines().count() == 5 && examples.len() > 5, "{setup} {examples:?}");
    for example in examples {
        let (went_well, said) = typed(&setup, &example)?;
        ensure!(went_well && !said.is_empty(), "{example}: {said}");
    }
    let questions: Vec<(&str, String)> = blocks("Ask it", "console")?.into_iter().flat_map(questions).collect();
    ensure!(questions.len() > 12, "only {} questions", questions.len());
    for (question, shown) in questions {
        let (went_well, said) = typed(&setup, question)?;
        ensure!(went_well != shown.starts_with("ERROR:"), "{question}: {said}");
        let is_silent = question.starts_with("rm ") || question.starts_with("cp ") || question.contains(" > ");
        ensure!(!said.is_empty() || is_silent, "{question}: no answer");
        shows(&shown, &said).with_context(|| question.to_owned())?;
    }
    // The last of them has deleted a Service.
    until(secs(5), "its status is gone", || {
        let (_, said) = typed(&setup, "ls $status/services")?;
        ensure!(said.contains("default_nginx-lb.yaml") && !said.contains("nginx-lb2"), "{said}");
        Ok(())
    })
}

fn the_commands_without_a_cluster_give_an_address_that_answers() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let (node, client) = (lab.host("node-a"), lab.host("client"));
    // A clone in which all is built, as the first line does.
    let clone = lab.folder().join("clone");
    std::fs::create_dir_all(clone.join("target"))?;
    symlink(top().canonicalize()?.join("deploy"), clone.join("deploy"))?;
    symlink(binary("allocator-svc")?.parent().context("no folder")?, clone.join("target/release"))?;
    let typed = |command: &str| Program::new("bash").args(["-euc", &format!("cd {}\n{command}", clone.display())]).start(node);
    let mut services = Vec::new();
    let mut seen = Vec::new();
    for line in blocks("Without a cluster", "sh")?.iter().flat_map(|block| block.lines()).filter(|line| !line.is_empty()) {
        let root = line.trim_start_matches("sudo ");
        if line == "cargo build --release" {
            continue;
        } else if let Some(service) = root.strip_suffix(" &") {
            services.push(typed(&format!("exec {service}"))?);
        } else if line.starts_with("mkdir ") {
            ensure!(typed(line)?.wait_end()?.success(), "{line}");
        } else if line.starts_with("cat ") || line.starts_with("tail -f ") {
            let answer = until(secs(10), &format!("{line} shows the address"), || {
                let mut process = typed(&line.replace("tail -f ", "cat "))?;
                let status = process.wait_end()?;
                until(secs(1), "all of it is read", || {
                    let text = process.written().join("\n");
                    ensure!(status.success() && text.contains("172.17.200.100"), "{status}: {}", process.said());
                    Ok(text)
                })
            })?;
            seen.push(answer);
        } else {
            bail!("a command that this scenario does not know: {line}");
        }
    }
    ensure!(services.len() == 3, "{services:?}");
    let [status, events] = &seen[..] else { bail!("{seen:?}") };
    let status: Value = serde_saphyr::from_str(status)?;
    ensure!(status.pointer("/status/loadBalancer/ingress/0/ip") == Some(&json!("172.17.200.100")), "{status}");
    ensure!(events.contains("IPAllocated"), "{events}");
    let mac = until(secs(5), "the address answers", || client.arp(VIP))?;
    ensure!(mac == node.mac() && client.arp_all(VIP, millis(200))? == [mac]);
    for service in &mut services {
        ensure!(service.is_running()?, "{}", service.said());
    }
    Ok(())
}

fn the_commands_on_a_cluster_apply() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let cluster = Cluster::start(&lab)?;
    let blocks = blocks("On a cluster", "sh")?;
    let [block] = &blocks[..] else { bail!("{blocks:?}") };
    // Images cannot be built here; their names are those of the manifests and of the Dockerfile's stages.
    let (images, rest) = block.split_once("\ndone ").context("no loop that builds images")?;
    let dockerfile = std::fs::read_to_string(top().join("deploy/images/Dockerfile"))?;
    ensure!(images.contains("-f deploy/images/Dockerfile --target $service -t mooring/$service:0.1.0"), "{images}");
    let (_, rest) = rest.split_once('\n').context("nothing after the images")?;
    cluster.shell(&top(), rest)?;
    for (kind, name, binary) in [
        ("statefulset", "mooring-allocator", "allocator-svc"),
        ("deployment", "mooring-watcher", "watcher-svc"),
        ("daemonset", "mooring-speaker", "speaker-svc"),
    ] {
        ensure!(images.contains(binary) && dockerfile.contains(&format!(" AS {binary}\n")), "no image of {binary}");
        let workload = cluster.get(&[kind, name, "--namespace", "mooring-system"])?;
        let image = workload.pointer("/spec/template/spec/containers/0/image");
        ensure!(image == Some(&json!(format!("mooring/{binary}:0.1.0"))), "{workload}");
    }
    let pool = cluster.get(&["ipaddresspool", "default", "--namespace", "metallb-system"])?;
    ensure!(pool["spec"]["addresses"] == json!(["192.168.1.240-192.168.1.250"]), "{pool}");
    cluster.get(&["l2advertisement", "default", "--namespace", "metallb-system"])?;
    Ok(())
}
