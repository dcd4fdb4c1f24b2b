//! Labels and selectors over them, as Kubernetes' `LabelSelector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

/// The longest name in a label's key, and the longest value, in bytes.
const NAME_LIMIT: usize = 63;

/// The longest prefix of a label's key, in bytes.
const PREFIX_LIMIT: usize = 253;

/// A label's key or value that Kubernetes refuses; the text is its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct LabelError(Vec<String>);

/// Checks a label's key: a name, with an optional DNS name and a slash in front of it.
///
/// # Errors
/// All that is wrong with it.
pub fn check_key(key: &str) -> Result<(), LabelError> {
    let mut wrong = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, name)) if name.contains('/') => {
            let with_prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return Err(LabelError(vec![format!("a qualified name {NAME_WANTED} {with_prefix}")]));
        }
        Some((prefix, name)) => {
            wrong.extend(too_long_or_empty("prefix part", prefix, PREFIX_LIMIT));
            if !is_dns_name(prefix) && !prefix.is_empty() {
                wrong.push(format!("prefix part {PREFIX_WANTED}"));
            }
            name
        }
    };
    wrong.extend(too_long_or_empty("name part", name, NAME_LIMIT));
    if !is_name(name) {
        wrong.push(format!("name part {NAME_WANTED}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(LabelError(wrong)) }
}

/// Checks a label's value; it may be empty.
///
/// # Errors
/// All that is wrong with it.
pub fn check_value(value: &str) -> Result<(), LabelError> {
    let mut wrong = Vec::new();
    if value.len() > NAME_LIMIT {
        wrong.push(format!("must be no more than {NAME_LIMIT} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        wrong.push(format!("a valid label must be an empty string or {VALUE_WANTED}"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(LabelError(wrong)) }
}

const NAME_WANTED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
     (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

const VALUE_WANTED: &str = "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
     (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

const PREFIX_WANTED: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
     end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn too_long_or_empty(what: &str, text: &str, limit: usize) -> Option<String> {
    if text.is_empty() {
        return Some(format!("{what} must be non-empty"));
    }
    (text.len() > limit).then(|| format!("{what} must be no more than {limit} bytes"))
}

fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.bytes().all(is_inner) && ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn is_dns_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.split('.').all(|part| {
        let ends = [part.bytes().next(), part.bytes().next_back()];
        part.bytes().all(|byte| is_plain(byte) || byte == b'-') && ends.iter().all(|end| end.is_some_and(is_plain))
    })
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The label is absent or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
}

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How to compare.
    pub operator: Operator,
    /// The values for `In` and `NotIn`.
    pub values: BTreeSet<String>,
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A selector: all its parts must hold; an empty one matches everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LabelSelector {
    /// Labels that must have just these values.
    pub match_labels: Labels,
    /// Further requirements.
    pub requirements: Vec<Requirement>,
}

impl LabelSelector {
    /// Whether the labels satisfy every part.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.requirements.iter().all(|requirement| requirement.matches(labels))
    }
}

impl fmt::Display for LabelSelector {
    /// As `kubectl -l` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let equal = self.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
        let other = self.requirements.iter().map(|requirement| {
            let key = &requirement.key;
            let values = requirement.values.iter().cloned().collect::<Vec<_>>().join(",");
            match requirement.operator {
                Operator::In => format!("{key} in ({values})"),
                Operator::NotIn => format!("{key} notin ({values})"),
                Operator::Exists => key.clone(),
                Operator::DoesNotExist => format!("!{key}"),
            }
        });
        f.write_str(&equal.chain(other).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn requirement(key: &str, operator: Operator, values: &[&str]) -> LabelSelector {
        let values = values.iter().map(ToString::to_string).collect();
        LabelSelector { match_labels: Labels::new(), requirements: vec![Requirement { key: key.to_owned(), operator, values }] }
    }

    #[test]
    fn keys_and_values_are_those_that_kubernetes_takes() {
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        for key in ["app", "App.Kubernetes_io-x", "1", "example.com/app", "a-b.c/9", &long, &format!("{}/{long}", ["a"; 127].join("."))] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        let prefix = format!("{}/a", ["a"; 128].join("."));
        let (name, domain) = ("name part must consist of", "prefix part a lowercase RFC 1123 subdomain");
        let cases = [
            ("", "name part must be non-empty; name part must consist of"),
            ("a b", name),
            ("-a", name),
            ("a.", name),
            ("ä", name),
            ("/a", "prefix part must be non-empty"),
            ("a/", "name part must be non-empty; "),
            ("A/b", domain),
            ("a..b/c", domain),
            ("a/b/c", "a qualified name must consist of"),
            (&longer, "name part must be no more than 63 bytes"),
            (&prefix, "prefix part must be no more than 253 bytes"),
        ];
        for (key, text) in cases {
            let error = check_key(key).unwrap_err().to_string();
            assert!(error.starts_with(text), "{key:?}: {error}");
        }
        for value in ["", "web", "1.2_3-4", &long] {
            assert_eq!(check_value(value), Ok(()), "{value}");
        }
        for (value, text) in [("a b", "a valid label must be"), ("_a", "a valid label must be"), (&longer, "must be no more than 63 bytes")]
        {
            let error = check_value(value).unwrap_err().to_string();
            assert!(error.starts_with(text), "{value:?}: {error}");
        }
    }

    #[test]
    fn a_selector_matches_as_kubernetes_says() {
        let web = labels(&[("app", "web")]);
        let cases = [
            (LabelSelector::default(), true, ""),
            (LabelSelector { match_labels: web.clone(), requirements: vec![] }, true, "app=web"),
            (LabelSelector { match_labels: labels(&[("app", "db")]), requirements: vec![] }, false, "app=db"),
            (requirement("app", Operator::In, &["db", "web"]), true, "app in (db,web)"),
            (requirement("tier", Operator::In, &["db"]), false, "tier in (db)"),
            (requirement("tier", Operator::NotIn, &["db"]), true, "tier notin (db)"),
            (requirement("app", Operator::NotIn, &["web"]), false, "app notin (web)"),
            (requirement("app", Operator::Exists, &[]), true, "app"),
            (requirement("app", Operator::DoesNotExist, &[]), false, "!app"),
        ];
        for (selector, wanted, text) in cases {
            assert_eq!((selector.matches(&web), selector.to_string().as_str()), (wanted, text));
        }
    }
}
