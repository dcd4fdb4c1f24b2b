//! Reads fields of a JSON object and collects what is wrong with them, so that all errors of an object come together.
//!
//! The one place that knows how a wrong type is reported. An absent field and a `null` are the same, as Kubernetes treats them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use super::{ObjectRef, ParseError, Parsed};

/// How much of a wrong value an error quotes, in characters.
const QUOTED: usize = 120;

/// What is wrong with an object, collected while it is read.
#[derive(Debug)]
pub struct Errors {
    object: ObjectRef,
    found: Vec<ParseError>,
}

impl Errors {
    /// Nothing wrong yet.
    #[must_use]
    pub fn new(object: ObjectRef) -> Self {
        Self { object, found: Vec::new() }
    }

    /// Something is wrong with a field.
    pub fn at(&mut self, field: &Field<'_>, message: impl Display) {
        let value = field.value.map(quoted).unwrap_or_default();
        self.found.push(ParseError { object: self.object.clone(), field: field.path.clone(), value, message: message.to_string() });
    }

    /// How much is wrong so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// The object as read, if nothing is wrong with it.
    ///
    /// # Errors
    /// All that was found.
    pub fn finish<T>(self, view: Option<T>) -> Parsed<T> {
        match view {
            Some(view) if self.found.is_empty() => Ok(view),
            Some(_) | None => Err(self.found),
        }
    }
}

fn quoted(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        None => text,
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

/// A field that may be absent, with its path.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    path: String,
    value: Option<&'a Value>,
}

impl<'a> Field<'a> {
    /// The object itself.
    #[must_use]
    pub fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value: Some(value) }
    }

    /// A value that stands in the object as text, for example a document inside a `ConfigMap`, under the path of that text.
    #[must_use]
    pub fn inside(path: &str, value: &'a Value) -> Self {
        Self { path: path.to_owned(), value: Some(value) }
    }

    /// Where it stands in the object.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it has a value.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.value.is_some()
    }

    /// The JSON text of its value; empty if it is absent.
    #[must_use]
    pub fn json(&self) -> String {
        self.value.map(ToString::to_string).unwrap_or_default()
    }

    /// A field of this object; absent if this one is.
    ///
    /// A value that is no object has no fields; its own type is checked by whoever needs it, see [`Field::object`].
    #[must_use]
    pub fn get(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { path, value: self.value.and_then(|value| value.get(key)).filter(|value| !value.is_null()) }
    }

    /// The same field, reported if it is present and no object.
    #[must_use]
    pub fn object(self, errors: &mut Errors) -> Self {
        if self.value.is_some_and(|value| !value.is_object()) {
            errors.at(&self, "want an object");
            return Self { value: None, ..self };
        }
        self
    }

    /// Its text.
    pub fn text(&self, errors: &mut Errors) -> Option<&'a str> {
        self.typed(errors, "a text", Value::as_str)
    }

    /// Its text, which must be there and not be empty.
    pub fn required_text(&self, errors: &mut Errors) -> Option<&'a str> {
        if self.value.is_none() {
            errors.at(self, "required");
            return None;
        }
        let text = self.text(errors)?;
        if text.is_empty() {
            errors.at(self, "must not be empty");
            return None;
        }
        Some(text)
    }

    /// Its truth value.
    pub fn boolean(&self, errors: &mut Errors) -> Option<bool> {
        self.typed(errors, "true or false", Value::as_bool)
    }

    /// Its value as a whole number.
    pub fn integer(&self, errors: &mut Errors) -> Option<i64> {
        self.typed(errors, "a whole number", Value::as_i64)
    }

    /// Its text, parsed.
    pub fn parse<T: FromStr<Err: Display>>(&self, errors: &mut Errors) -> Option<T> {
        let text = self.text(errors)?;
        text.parse().map_err(|error| errors.at(self, error)).ok()
    }

    /// The elements of its list; none if it is absent.
    pub fn items(&self, errors: &mut Errors) -> Vec<Self> {
        let items = self.typed(errors, "a list", Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().enumerate().map(|(index, value)| Self { path: format!("{}[{index}]", self.path), value: Some(value) }).collect()
    }

    /// Its texts by key, as labels and annotations are written.
    pub fn texts(&self, errors: &mut Errors) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let Some(fields) = self.typed(errors, "an object of texts", Value::as_object) else { return texts };
        for key in fields.keys() {
            let field = Self { path: format!("{}[{key:?}]", self.path), value: fields.get(key) };
            if let Some(text) = field.text(errors) {
                texts.insert(key.clone(), text.to_owned());
            }
        }
        texts
    }

    fn typed<T>(&self, errors: &mut Errors, want: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let read = read(self.value?);
        if read.is_none() {
            errors.at(self, format_args!("want {want}"));
        }
        read
    }
}

#[cfg(test)]
mod tests;
