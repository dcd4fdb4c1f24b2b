//! Every file is part of something, says what it is, and holds nothing unfinished.

use std::path::Path;

use super::{files, is_test, none, sources, text, top};

/// Roots of crates and test targets, which nothing declares.
const ROOTS: &[&str] = &["lib.rs", "main.rs", "build.rs"];

/// Where each file is a program of its own, declared in the manifest.
const PROGRAMS: &[&str] = &["tests/benches/", "tests/fuzz/fuzz_targets/"];

#[test]
fn every_file_is_declared() {
    let mut wrong = Vec::new();
    for path in sources() {
        let file = Path::new(&path);
        let (stem, folder) = (file.file_stem().unwrap().to_str().unwrap(), file.parent().unwrap());
        if ROOTS.contains(&file.file_name().unwrap().to_str().unwrap())
            || path.contains("/src/bin/")
            || PROGRAMS.iter().any(|programs| path.starts_with(programs))
        {
            continue;
        }
        // `x/mod.rs` is declared beside the folder; `x/y.rs` by `x/mod.rs`, `x.rs`, or the crate's root in the same folder.
        let (name, home) =
            if stem == "mod" { (folder.file_name().unwrap().to_str().unwrap(), folder.parent().unwrap()) } else { (stem, folder) };
        let parents = [home.join("mod.rs"), home.join("lib.rs"), home.join("main.rs"), home.with_extension("rs")];
        let declares = |parent: &Path| {
            let Ok(text) = std::fs::read_to_string(top().join(parent)) else { return false };
            text.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
        };
        if !parents.iter().any(|parent| declares(parent)) {
            wrong.push(path);
        }
    }
    none("no `mod` names this file", &wrong);
}

#[test]
fn every_file_says_what_it_is() {
    let wrong: Vec<String> = sources().into_iter().filter(|path| !path.ends_with("tests.rs") && !text(path).starts_with("//! ")).collect();
    none("does not begin with `//!`", &wrong);
}

/// What no file has: unfinished work, waits without a reason, words of the place where it was made.
fn forbidden() -> Vec<String> {
    let parts =
        [("to", "do!("), ("un", "implemented!("), ("TO", "DO"), ("FIX", "ME"), ("#[ign", "ore"), ("thread::", "sleep("), ("dbg", "!(")];
    parts.iter().map(|(a, b)| format!("{a}{b}")).collect()
}

#[test]
fn nothing_is_unfinished() {
    let forbidden = forbidden();
    let mut wrong = Vec::new();
    // The tests' one wait sleeps between two looks.
    for path in sources().into_iter().filter(|path| path != "tests/src/lab/until.rs") {
        let text = text(&path);
        wrong.extend(forbidden.iter().filter(|word| text.contains(*word)).map(|word| format!("{path}: {word}")));
    }
    none("something unfinished", &wrong);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    let mut wrong = Vec::new();
    let all = ["rs", "md", "yaml", "toml", "proto"].iter().flat_map(|extension| files("", extension));
    for path in all.filter(|path| !path.starts_with("tests/repo/")) {
        let text = text(&path);
        let places = ["/work/", "/root/", "/home/"];
        wrong.extend(places.iter().filter(|place| text.contains(*place)).map(|place| format!("{path}: {place}")));
    }
    none("a path of some machine", &wrong);
}

#[test]
fn a_file_is_one_idea_that_is_read_in_one_sitting() {
    let length = |path: &String| text(path).lines().count();
    // The states are long because each is one list of what can happen.
    let long = ["watcher-svc/src/core/state.rs", "allocator-svc/src/core/nodes.rs", "allocator-svc/src/core/state.rs"];
    let wrong = sources().into_iter().filter(|path| !is_test(path) && !long.contains(&path.as_str()) && length(path) > 480);
    none("too long", &wrong.map(|path| format!("{path}: {} lines", length(&path))).collect::<Vec<_>>());
}
