//! Labels and selectors over them, as Kubernetes' `LabelSelector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An object's labels.
pub type Labels = BTreeMap<String, String>;

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
