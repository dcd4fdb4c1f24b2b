//! Each invariant in ARCHITECTURE.md names tests that hold it, and those tests exist.

use super::{files, none, text};

#[test]
fn the_tests_that_are_named_exist() {
    let architecture = text("ARCHITECTURE.md");
    let section = architecture.split("## Invariants").nth(1).expect("no section Invariants").split("\n## ").next().unwrap();
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| invariant")).collect();
    assert!(rows.len() >= 12, "only {} invariants", rows.len());
    let all: String = ["allocator-svc", "speaker-svc", "watcher-svc", "proto", "tests"]
        .iter()
        .flat_map(|folder| files(folder, "rs"))
        .map(|path| text(&path))
        .collect();
    let mut wrong = Vec::new();
    for row in rows {
        let tests: Vec<&str> = row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2).collect();
        if tests.is_empty() {
            wrong.push(format!("names no test: {row}"));
        }
        let missing = tests.into_iter().filter(|test| !all.contains(&format!("fn {}(", test.rsplit("::").next().unwrap())));
        wrong.extend(missing.map(|test| format!("there is no test {test}")));
    }
    none("invariants", &wrong);
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    assert!(text("ARCHITECTURE.md").lines().count() <= 250);
}
