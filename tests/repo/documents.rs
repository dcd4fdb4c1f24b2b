//! The documents name only files that are there.

use super::{none, text, top};

const DOCUMENTS: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/OPERATIONS.md", "deploy/FROM-METALLB.md"];

/// All files and folders, by their paths from the top; folders end in a slash.
fn paths() -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![top()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned();
            if !path.is_dir() {
                found.push(name);
            } else if name != "target" && name != ".git" {
                found.push(format!("{name}/"));
                folders.push(path);
            }
        }
    }
    found
}

/// What a document puts between backticks that looks like a file or folder of ours, or links to.
fn named(document: &str) -> Vec<String> {
    let text = text(document);
    let prose: Vec<&str> = text.split("\n```").step_by(2).collect();
    let endings = [".rs", ".proto", ".md", ".toml", ".yaml", ".mod"];
    let of_ours = |word: &&str| {
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) && !word.starts_with(['/', '.', '-']);
        // Names of an API, and what a reader makes.
        let others = ["mooring.v1", "metallb.io/", "metallb.universe.tf/", "metallb/", "target/", "manifests/", "dump/"];
        let is_other = others.iter().any(|start| word.starts_with(start));
        plain
            && !is_other
            && (word.ends_with('/')
                || endings.iter().any(|ending| word.ends_with(ending))
                || word.split_once('/').is_some_and(|(first, _)| top().join(first).is_dir()))
    };
    let quoted = prose.iter().flat_map(|prose| prose.split('`').skip(1).step_by(2)).flat_map(str::split_whitespace);
    let linked = prose.iter().flat_map(|prose| prose.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    quoted.chain(linked).map(|word| word.trim_start_matches("./")).filter(of_ours).map(str::to_owned).collect()
}

#[test]
fn files_that_are_named_are_there() {
    let paths = paths();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for document in DOCUMENTS {
        let named = named(document);
        count += named.len();
        // A name may leave out the folders before it, where the sentence says which.
        let is_there =
            |name: &String| paths.iter().any(|path| path == name || path.ends_with(&format!("/{name}")) || *path == format!("{name}/"));
        wrong.extend(named.iter().filter(|name| !is_there(name)).map(|name| format!("{document}: {name}")));
    }
    assert!(count > 50, "only {count} names were found");
    none("a file that is not there is named", &wrong);
}

#[test]
fn aliases_of_cargo_that_are_named_exist() {
    let config = text(".cargo/config.toml");
    let builtin = ["build", "test", "fmt", "clippy", "check", "bench", "run", "install", "deny"];
    let mut wrong = Vec::new();
    for document in DOCUMENTS {
        let text = text(document);
        let words = text.split("cargo ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next());
        let unknown = words.filter(|word| !word.is_empty() && !builtin.contains(word) && !config.contains(&format!("\n{word} = ")));
        wrong.extend(unknown.map(|word| format!("{document}: cargo {word}")));
    }
    none("cargo has no such command", &wrong);
}
