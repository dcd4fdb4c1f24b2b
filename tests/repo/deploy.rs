//! What operators read is what the binaries have: flags, metrics, log events.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{code, files, none, text};

const SERVICES: [&str; 3] = ["allocator-svc", "watcher-svc", "speaker-svc"];

/// The long flags that a text names.
fn flags(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("--").filter(|(at, _)| !text[..*at].ends_with(|c: char| c == '-' || c.is_alphanumeric()));
    let name = |at: usize| text[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect::<String>();
    starts.map(|(at, _)| name(at + 2)).filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())).collect()
}

/// The flags that a binary has: the fields of its `Args` and of those that all have.
fn own_flags(service: &str) -> BTreeSet<String> {
    let fields = |path: &str| {
        let code = code(path);
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        let is_flag = |pair: &&[&str]| pair[0].starts_with("#[arg(") && pair[0].contains("long") || pair[0].ends_with(")]");
        let name =
            |pair: &[&str]| pair[1].strip_prefix("pub ").and_then(|field| field.split(':').next()).map(|name| name.replace('_', "-"));
        lines.windows(2).filter(is_flag).filter_map(name).collect::<BTreeSet<String>>()
    };
    let mut own = fields(&format!("{service}/src/args.rs"));
    own.extend(fields("proto/kit/src/args.rs"));
    own.retain(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
    for no_flag in ["common", "command"] {
        own.remove(no_flag);
    }
    own
}

/// A flag as code declares it.
#[derive(Debug, Default)]
struct Flag {
    name: String,
    help: String,
    attribute: String,
}

/// The flags that a file of `Args` declares.
fn declared(path: &str) -> Vec<Flag> {
    let mut flags = Vec::new();
    let mut flag = Flag::default();
    for line in text(path).lines().map(str::trim) {
        if let Some(help) = line.strip_prefix("///") {
            flag.help = format!("{} {}", flag.help, help.trim()).trim().to_owned();
        } else if line.starts_with("#[arg(") || (!flag.attribute.is_empty() && !flag.attribute.ends_with(")]")) {
            flag.attribute += line;
        } else {
            let field = line.strip_prefix("pub ").and_then(|field| field.split_once(':'));
            if let Some((field, _)) = field.filter(|_| flag.attribute.starts_with("#[arg(long")) {
                flags.push(Flag { name: field.replace('_', "-"), ..std::mem::take(&mut flag) });
            }
            flag = Flag::default();
        }
    }
    flags
}

#[test]
fn each_flag_has_its_variable_and_a_help_in_sentences() {
    let common = declared("proto/kit/src/args.rs");
    let mut wrong = Vec::new();
    for service in SERVICES {
        let flags: Vec<Flag> = declared(&format!("{service}/src/args.rs"));
        let names: BTreeSet<String> = flags.iter().chain(&common).map(|flag| flag.name.clone()).collect();
        assert_eq!(names, own_flags(service), "{service}");
        for flag in flags.iter().chain(&common) {
            let variable = format!("env = \"MOORING_{}\"", flag.name.replace('-', "_").to_uppercase());
            if !flag.attribute.contains(&variable) {
                wrong.push(format!("{service} --{}: no {variable}", flag.name));
            }
            let sentence = flag.help.starts_with(char::is_uppercase) && flag.help.ends_with('.') && flag.help.split(' ').count() > 4;
            if !sentence {
                wrong.push(format!("{service} --{}: no sentence: {:?}", flag.name, flag.help));
            }
        }
    }
    none("flags", &wrong);
}

/// The part of OPERATIONS.md about one binary, and that about all.
fn chapter(name: &str) -> String {
    let text = text("deploy/OPERATIONS.md");
    let start = text.find(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no chapter {name}"));
    let rest = &text[start + 1..];
    rest[..rest.find("\n## ").unwrap_or(rest.len())].to_owned()
}

/// The first cells of the tables of a section.
fn cells(chapter: &str, section: &str) -> BTreeSet<String> {
    let start =
        chapter.find(&format!("### {section}\n")).unwrap_or_else(|| panic!("no section {section} in {}", chapter.lines().next().unwrap()));
    let rest = &chapter[start + 4..];
    let section = &rest[..rest.find("\n### ").unwrap_or(rest.len())];
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
}

fn differences(what: &str, written: &BTreeSet<String>, real: &BTreeSet<String>) -> Vec<String> {
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>, text: &str| {
        a.difference(b).map(|name| format!("{what}: {name} {text}")).collect::<Vec<_>>()
    };
    [only(written, real, "is written of and does not exist"), only(real, written, "is not written of")].concat()
}

#[test]
fn flags_in_manifests_exist() {
    let mut wrong = Vec::new();
    for path in files("deploy/kustomize", "yaml") {
        let text = text(&path);
        // A pod may have several containers; each one's arguments stand after its image.
        for container in text.split("image: mooring/").skip(1) {
            let service = container.split(':').next().unwrap_or_default();
            assert!(SERVICES.contains(&service), "{path}: image mooring/{service}");
            let args: String = container.lines().map(str::trim).filter(|line| line.starts_with("- --")).collect::<Vec<_>>().join("\n");
            wrong.extend(flags(&args).difference(&own_flags(service)).map(|flag| format!("{path}: --{flag}")));
        }
    }
    none("a manifest has a flag that the binary lacks", &wrong);
}

/// The objects of the base, whatever file they are in.
fn base() -> Vec<Value> {
    let files = files("deploy/kustomize/base", "yaml");
    let documents = files.iter().flat_map(|path| text(path).split("\n---\n").map(str::to_owned).collect::<Vec<_>>());
    documents.map(|document| serde_saphyr::from_str(&document).unwrap()).collect()
}

fn of_kind<'o>(objects: &'o [Value], kind: &'o str) -> impl Iterator<Item = &'o Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

#[test]
fn the_allocator_and_the_speaker_have_no_token_and_no_rights() {
    let objects = base();
    for (kind, account) in [("StatefulSet", "mooring-allocator"), ("DaemonSet", "mooring-speaker")] {
        let workloads: Vec<&Value> = of_kind(&objects, kind).collect();
        assert_eq!(workloads.len(), 1, "{kind}");
        let pod = &workloads[0]["spec"]["template"]["spec"];
        assert_eq!((&pod["serviceAccountName"], &pod["automountServiceAccountToken"]), (&account.into(), &false.into()), "{account}");
        assert!(!pod.to_string().contains("serviceAccountToken\""), "{account} mounts a token: {pod}");
        let accounts: Vec<&Value> = of_kind(&objects, "ServiceAccount").filter(|object| object["metadata"]["name"] == account).collect();
        assert_eq!(accounts.len(), 1, "{account}");
        assert_eq!(accounts[0]["automountServiceAccountToken"], false, "{account}");
    }
    // All there is bound is bound to the watcher's account, not to a group that others are in.
    let bindings: Vec<&Value> = of_kind(&objects, "ClusterRoleBinding").chain(of_kind(&objects, "RoleBinding")).collect();
    assert!(bindings.len() >= 3, "{bindings:?}");
    let subject = serde_json::json!({"kind": "ServiceAccount", "name": "mooring-watcher", "namespace": "mooring-system"});
    for binding in bindings {
        assert_eq!(binding["subjects"], Value::Array(vec![subject.clone()]), "{binding}");
    }
}

#[test]
fn flags_are_those_written_of() {
    let all = cells(&chapter("Every workload"), "Flags");
    let mut wrong = Vec::new();
    for service in SERVICES {
        let written: BTreeSet<String> =
            cells(&chapter(service), "Flags").union(&all).map(|flag| flag.trim_start_matches('-').to_owned()).collect();
        wrong.extend(differences(service, &written, &own_flags(service)));
    }
    none("flags", &wrong);
}

/// The metrics that a file registers, by the names under which they are served.
fn metrics(path: &str) -> BTreeSet<String> {
    let code = code(path);
    let quoted: Vec<&str> = code.split('"').collect();
    let name =
        |text: &str| text.len() > 8 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') && text.contains('_');
    let known = ["mooring_", "metallb_", "grpc_server_", "process_"];
    quoted
        .into_iter()
        .skip(1)
        .step_by(2)
        .filter(|text| name(text) && known.iter().any(|prefix| text.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// A counter is served with `_total` and a unit is added too; only the registration tells.
fn as_registered(written: &BTreeSet<String>, real: &BTreeSet<String>) -> BTreeSet<String> {
    let shorter = |name: &String| {
        let ends = ["_total", "_seconds_total", "_bytes"].iter();
        ends.filter_map(|end| name.strip_suffix(end)).find(|short| real.contains(*short)).map(str::to_owned)
    };
    written.iter().map(|name| if real.contains(name) { name.clone() } else { shorter(name).unwrap_or_else(|| name.clone()) }).collect()
}

#[test]
fn metrics_are_those_written_of() {
    let mut wrong = Vec::new();
    for service in SERVICES {
        let real = metrics(&format!("{service}/src/metrics.rs"));
        let written = cells(&chapter(service), "Metrics");
        wrong.extend(differences(service, &as_registered(&written, &real), &real));
    }
    let real = metrics("proto/kit/src/metrics.rs");
    let written = cells(&chapter("Every workload"), "Metrics");
    wrong.extend(differences("all", &as_registered(&written, &real), &real));
    none("metrics", &wrong);
}

/// The log events that a service names, in its `logs.rs` or in place.
fn events(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files(folder, "rs").into_iter().filter(|path| !super::is_test(path)) {
        let code = code(&path);
        let after =
            |start: &str| code.split(start).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect::<Vec<_>>();
        found.extend(after("event = \""));
        if path.ends_with("/logs.rs") {
            found.extend(after(": &str = \""));
        }
    }
    found
}

#[test]
fn log_events_are_those_written_of() {
    let all = cells(&chapter("Every workload"), "Log events");
    let mut wrong = differences("all", &all, &events("proto/kit/src"));
    for service in SERVICES {
        let real: BTreeSet<String> = events(&format!("{service}/src")).difference(&all).cloned().collect();
        wrong.extend(differences(service, &cells(&chapter(service), "Log events"), &real));
    }
    none("log events", &wrong);
}
