//! A core decides over plain data; each outside library has one owner.

use super::{code, is_test, none, sources, text};

/// What a core may name, by the beginning of the path.
const PURE: &[&str] = &[
    "std::collections",
    "std::fmt",
    "std::iter",
    "std::net::Ip",
    "std::net::{Ip",
    "std::sync::Arc",
    "std::time::Duration",
    "std::mem",
    "std::num",
    "std::cmp",
    "std::str::FromStr",
    "std::ops",
    "std::borrow",
    "ipnet",
    "range_set_blaze",
    "thiserror",
    "sha2",
    "mooring_proto::types",
    "mooring_proto::reason",
    "crate::core",
    "self",
    "super",
];

/// What the core of one crate may name besides: objects that its edge has parsed, frames that it has read.
const PURE_TOO: &[(&str, &[&str])] = &[
    ("watcher-svc", &["crate::k8s"]),
    ("speaker-svc", &["crate::wire", "std::sync::atomic"]),
    ("allocator-svc", &["mooring_proto::status::WireRefusal"]),
];

/// Words that no core has, however they come in.
const IMPURE: &[&str] = &[
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "tokio::",
    "tonic::",
    "kube::",
    "sled::",
    "tracing::",
    "std::fs",
    "std::env",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "rand::",
    "info!(",
    "warn!(",
    "debug!(",
    "error!(",
    "println!(",
];

fn is_core(path: &str) -> bool {
    path.contains("-svc/src/core/") && !is_test(path)
}

#[test]
fn cores_are_pure() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| is_core(path)) {
        let code = code(path);
        let own = PURE_TOO.iter().find(|(service, _)| path.starts_with(service)).map_or(&[][..], |(_, own)| own);
        for line in code.lines().map(str::trim) {
            let used = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("use "));
            let outside = used.filter(|used| used.contains("::") && !used.starts_with(|c: char| c.is_lowercase() && is_local(path, used)));
            if let Some(outside) = outside.filter(|used| !PURE.iter().chain(own).any(|pure| used.starts_with(pure))) {
                wrong.push(format!("{path}: uses {outside}"));
            }
            wrong.extend(IMPURE.iter().filter(|word| has(line, word)).map(|word| format!("{path}: has {word}: {line}")));
        }
    }
    none("a core names something outside of it", &wrong);
}

/// Whether the first part of a path is a module of the same crate's core, as in `pub use state::State`.
fn is_local(path: &str, used: &str) -> bool {
    let first = used.split("::").next().unwrap_or_default();
    path.ends_with("/core/mod.rs") && super::top().join(path).with_file_name(format!("{first}.rs")).is_file()
}

fn has(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// Each library, and the only places that may name it.
const OWNERS: &[(&str, &[&str])] = &[
    ("sled::", &["allocator-svc/src/store/"]),
    ("kube::", &["watcher-svc/src/source/", "watcher-svc/src/lib.rs", "proto/kit/src/leader.rs"]),
    ("k8s_openapi::", &["watcher-svc/src/source/kube", "proto/kit/src/leader.rs"]),
    ("notify::", &["watcher-svc/src/source/dir.rs"]),
    ("pnet_packet::", &["speaker-svc/src/wire/"]),
    ("pnet_datalink::", &[]),
    ("rtnetlink::", &["speaker-svc/src/net/links.rs"]),
    ("socket2::", &["speaker-svc/src/net/socket.rs"]),
    (
        "prometheus_client::",
        &[
            "proto/kit/src/metrics.rs",
            "proto/kit/src/admin.rs",
            "allocator-svc/src/metrics.rs",
            "speaker-svc/src/metrics.rs",
            "watcher-svc/src/metrics.rs",
        ],
    ),
    ("tonic_health::", &["proto/kit/src/server.rs"]),
    ("tonic_reflection::", &["proto/kit/src/server.rs"]),
    ("tracing_subscriber::", &["proto/kit/src/telemetry.rs"]),
    ("axum::", &["proto/kit/src/admin.rs", "proto/kit/src/server.rs"]),
    ("rand::", &["proto/kit/src/backoff.rs", "speaker-svc/src/lib.rs"]),
    ("range_set_blaze::", &["allocator-svc/src/core/free.rs", "allocator-svc/src/core/shared.rs"]),
];

#[test]
fn each_library_has_one_owner() {
    let mut wrong = Vec::new();
    for path in sources().iter().filter(|path| !is_test(path)) {
        let code = code(path);
        for (library, owners) in OWNERS {
            if !owners.iter().any(|owner| path.starts_with(owner)) && code.lines().any(|line| has(line, library)) {
                wrong.push(format!("{path} names {library}, which is {owners:?}'s"));
            }
        }
    }
    none("a library is used outside of its owner", &wrong);
}

/// Where unsafe code may stand (DESIGN: what the compiler cannot check must be short enough to read).
const UNSAFE: &[&str] = &["speaker-svc/src/net/socket.rs"];

/// Members of the workspace, by folder.
const MEMBERS: &[&str] = &["proto/", "allocator-svc/", "speaker-svc/", "watcher-svc/", "tests/"];

#[test]
fn unsafe_code_is_in_one_file() {
    // This folder names the word without using it.
    let own: Vec<String> = sources().into_iter().filter(|path| !path.starts_with("tests/repo/") && has_unsafe(&text(path))).collect();
    assert_eq!(own, UNSAFE);
}

#[test]
fn every_crate_but_the_one_with_sockets_forbids_unsafe_code() {
    let is_root = |path: &String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let target = path.contains("/src/bin/") || path.contains("/benches/");
        target || matches!(name, "lib.rs" | "main.rs" | "build.rs")
    };
    let roots: Vec<String> =
        sources().into_iter().filter(|path| MEMBERS.iter().any(|member| path.starts_with(member)) && is_root(path)).collect();
    assert!(roots.len() >= 15, "only these roots of crates: {roots:?}");
    let lax: Vec<String> = roots.into_iter().filter(|path| !text(path).lines().any(|line| line == "#![forbid(unsafe_code)]")).collect();
    assert_eq!(lax, ["speaker-svc/src/lib.rs"]);
}

#[test]
fn unsafe_code_is_found_in_every_form() {
    let forms = [
        "let x = unsafe { y() };",
        "unsafe fn y() {}",
        "unsafe impl Send for X {}",
        "unsafe trait X {}",
        "unsafe extern \"C\" {}",
        "#[unsafe(no_mangle)]",
        "    unsafe\n    {",
    ];
    for form in forms {
        assert!(has_unsafe(form), "{form}");
    }
    for other in ["// unsafe {", "#![forbid(unsafe_code)]", "\"--unsafe-no-fsync\"", "fn not_unsafe() {}"] {
        assert!(!has_unsafe(other), "{other}");
    }
}

/// Whether a text has the word as one of its own, outside of comments.
fn has_unsafe(text: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut words = code.flat_map(|line| line.split(|c: char| !part(c)));
    words.any(|word| word == "unsafe")
}
