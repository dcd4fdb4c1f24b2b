//! From the wire to the types and back; the only place that reads a field of a message.
//!
//! A message that does not parse yields [`Violations`]: every field that is wrong, with its value.

use std::fmt;

mod assignment;
mod claim;
mod history;
mod inspect;
mod pool;

pub use assignment::interfaces_to_pb;
pub use claim::{service_key, service_ref, term};
pub use history::{reservation_key, time};
pub use inspect::{page_size, role_to_pb};
pub use pool::configuration;

/// Fields that are wrong, each with what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Violations(Vec<(String, String)>);

impl Violations {
    /// Notes a field.
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push((field.into(), problem.into()));
    }

    /// One wrong field.
    #[must_use]
    pub fn one(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(vec![(field.into(), problem.into())])
    }

    /// The fields.
    #[must_use]
    pub fn into_list(self) -> Vec<(String, String)> {
        self.0
    }

    /// The same fields, seen from outside: `path` in front of each.
    #[must_use]
    pub fn within(self, path: &str) -> Self {
        let mut outer = Self::default();
        outer.nest(path, self);
        outer
    }

    /// Takes over another message's wrong fields, `path` in front of each.
    pub(crate) fn nest(&mut self, path: &str, inner: Self) {
        self.0.extend(inner.0.into_iter().map(|(field, problem)| (format!("{path}.{field}"), problem)));
    }

    /// The value, or notes what is wrong.
    pub(crate) fn take<T, E: fmt::Display>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|problem| self.add(field, problem.to_string())).ok()
    }

    /// The value, if nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, problem)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{field}: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Violations {}

/// Says that a required field is missing.
pub(crate) const MISSING: &str = "is missing";

/// Every element parsed, the wrong ones noted as `field[index]`.
pub(crate) fn each<In, Out, E: fmt::Display>(
    violations: &mut Violations,
    field: &str,
    list: impl IntoIterator<Item = In>,
    mut parse: impl FnMut(In) -> Result<Out, E>,
) -> Vec<Out> {
    list.into_iter().enumerate().filter_map(|(index, item)| violations.take(&format!("{field}[{index}]"), parse(item))).collect()
}

#[cfg(test)]
mod tests;
