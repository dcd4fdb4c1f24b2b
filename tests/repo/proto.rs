//! The contract: every message, field, value and method has a comment, and names follow buf's STANDARD rules.

use super::{files, none, text};

/// Each line of a .proto file that declares something, with the path, and whether a comment stands before it.
fn declarations() -> Vec<(String, String, bool)> {
    let mut found = Vec::new();
    for path in files("proto/mooring", "proto") {
        let text = text(&path);
        let mut commented = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("//") {
                commented = true;
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let declares = matches!(words.first(), Some(&("message" | "enum" | "service" | "rpc" | "oneof")))
                || (line.ends_with(';') && line.contains(" = "));
            let about_file = matches!(words.first(), Some(&("syntax" | "package" | "import" | "option")));
            if declares && !about_file {
                found.push((path.clone(), line.to_owned(), commented));
            }
            commented = false;
        }
    }
    found
}

#[test]
fn everything_has_a_comment() {
    let declarations = declarations();
    assert!(declarations.len() > 200, "only {} declarations were found", declarations.len());
    let wrong: Vec<String> =
        declarations.into_iter().filter(|(.., commented)| !commented).map(|(path, line, _)| format!("{path}: {line}")).collect();
    none("no comment", &wrong);
}

#[test]
fn names_follow_the_rules() {
    let mut wrong = Vec::new();
    for path in files("proto/mooring", "proto") {
        let text = text(&path);
        if !text.contains("package mooring.v1;") {
            wrong.push(format!("{path}: the package is not mooring.v1"));
        }
        let mut prefix = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            let words: Vec<&str> = line.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
            match words.as_slice() {
                ["enum", name, ..] => prefix = snake(name).to_uppercase() + "_",
                ["message", ..] | ["service", ..] => prefix.clear(),
                _ => {}
            }
            if let ["service", name, ..] = words.as_slice()
                && !name.ends_with("Service")
            {
                wrong.push(format!("{path}: service {name} does not end with Service"));
            }
            if let ["rpc", name, rest @ ..] = words.as_slice() {
                let types: Vec<&&str> = rest.iter().filter(|word| !matches!(**word, "stream" | "returns")).collect();
                if types != [&&*format!("{name}Request"), &&*format!("{name}Response")] {
                    wrong.push(format!("{path}: {line}"));
                }
            }
            if let [value, number] = words.as_slice()
                && !prefix.is_empty()
                && number.parse::<u32>().is_ok()
                && (!value.starts_with(&prefix) || (*number == "0") != value.ends_with("_UNSPECIFIED"))
            {
                wrong.push(format!("{path}: {line}"));
            }
        }
    }
    none("against the rules for names", &wrong);
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter);
    }
    snake
}
