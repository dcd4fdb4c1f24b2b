//! The text of a file → the objects in it, one after the other.
//!
//! A file is good as a whole or not at all: half of one might be a file that is being written.

use std::fmt;

use serde_json::{Value, json};

use super::ObjectRef;

/// How much YAML a file may hold: some 100,000 Services.
const MOST_NODES: usize = 20_000_000;
const MOST_EVENTS: usize = 40_000_000;
const MOST_BYTES: usize = 1 << 30;

/// An object, and where in its file it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its `apiVersion`.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The object.
    pub value: Value,
    /// Which document of the file, from 1; empty ones do not count.
    pub document: usize,
    /// Where it is in the document, in front of its fields.
    at: String,
}

impl Object {
    /// Its API group; empty for the core's.
    #[must_use]
    pub fn group(&self) -> &str {
        self.version.split_once('/').map_or("", |(group, _version)| group)
    }

    /// Its kind, namespace and name.
    ///
    /// # Errors
    /// It has no name.
    pub fn name(&self) -> Result<ObjectRef, Malformed> {
        let name = ObjectRef::of(&self.kind, &self.value);
        if name.name.is_empty() {
            let found = self.value.pointer("/metadata/name").map(|found| format!(", found {}", shortened(found))).unwrap_or_default();
            let error = format!("a {} needs a name, a text{found}", self.kind);
            return Err(Malformed { document: self.document, field: format!("{}metadata.name", self.at), error });
        }
        Ok(name)
    }
}

/// A file that is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Malformed {
    /// Which document, from 1; empty ones do not count.
    pub document: usize,
    /// The field, if it is one.
    pub field: String,
    /// What is wrong, with line and column where known.
    pub error: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}: ", self.document)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.error)
    }
}

/// Reads the text of a file, and hands over each object in it.
///
/// # Errors
/// The first thing that is wrong with the file, also by the word of `take`.
pub fn objects(text: &str, mut take: impl FnMut(Object) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let documents = match text.trim_start().starts_with('{').then(|| json_documents(text)) {
        Some(Ok(documents)) => documents,
        // YAML may begin with a brace too.
        Some(Err(_)) | None => yaml_documents(text)?,
    };
    for (index, value) in documents.into_iter().enumerate() {
        read(value, index.saturating_add(1), "", &mut take)?;
    }
    Ok(())
}

/// JSON objects one after the other, as `kubectl` takes them.
fn json_documents(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

fn yaml_documents(text: &str) -> Result<Vec<Value>, Malformed> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_nodes: MOST_NODES, max_events: MOST_EVENTS, max_total_scalar_bytes: MOST_BYTES, max_documents: MOST_NODES },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Malformed {
        document: document_at(text, error.location().map_or(u64::MAX, |location| location.line())),
        field: String::new(),
        error: error.to_string(),
    })
}

/// Which document a line is in, from 1; empty ones do not count.
fn document_at(text: &str, line: u64) -> usize {
    let lines = text.lines().zip(1u64..).take_while(|(_, number)| *number <= line);
    let (mut document, mut content) = (1usize, false);
    for (text, _) in lines {
        if text == "---" || text.starts_with("--- ") {
            document = document.saturating_add(usize::from(content));
            content = false;
        } else {
            content |= !text.trim().is_empty() && !text.trim_start().starts_with('#');
        }
    }
    document
}

fn read(value: Value, document: usize, at: &str, take: &mut impl FnMut(Object) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let malformed = |field: String, error: String| Malformed { document, field, error };
    if value.is_null() {
        return Ok(());
    }
    let Value::Object(fields) = &value else {
        return Err(malformed(at.to_owned(), format!("want an object, found {}", shortened(&value))));
    };
    let text = |key: &str| match fields.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.to_owned()),
        None => Err(malformed(format!("{at}{key}"), "required".to_owned())),
        Some(other) => Err(malformed(format!("{at}{key}"), format!("want a text, found {}", shortened(other)))),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    let Some(of) = kind.strip_suffix("List") else {
        return take(Object { version, kind, value, document, at: at.to_owned() });
    };
    let of = of.to_owned();
    let Value::Object(mut fields) = value else { return Ok(()) };
    let Some(Value::Array(items)) = fields.remove("items") else {
        return Err(malformed(format!("{at}items"), "want a list".to_owned()));
    };
    items.into_iter().enumerate().try_for_each(|(index, mut item)| {
        // The items of a ServiceList are Services, whether they say so or not.
        if let (Value::Object(fields), false) = (&mut item, of.is_empty()) {
            fields.entry("apiVersion").or_insert_with(|| json!(version));
            fields.entry("kind").or_insert_with(|| json!(of));
        }
        read(item, document, &format!("{at}items[{index}]."), take)
    })
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind, group, document and name of each object.
    fn read(text: &str) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let took = objects(text, |object| {
            found.push(format!("{:?} {} #{}", object.group(), object.name()?, object.document));
            Ok(())
        });
        took.map(|()| found).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_of_a_file_in_order_or_what_is_wrong_with_it() {
        let node = "{apiVersion: v1, kind: Node, metadata: {name: a}}";
        let cases = [
            (format!("---\n---\n{node}\n---\n{node}\n"), Ok(vec!["\"\" Node a #1", "\"\" Node a #2"])),
            (
                format!("apiVersion: v1\nkind: NodeList\nitems: [{{metadata: {{name: b}}}}, {node}]"),
                Ok(vec!["\"\" Node b #1", "\"\" Node a #1"]),
            ),
            (
                "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}".to_owned(),
                Ok(vec!["\"metallb.io\" IPAddressPool default/p #1"]),
            ),
            (format!("{node}\n---\nkind: Node\n"), Err("document 2: apiVersion: required")),
            (format!("{node}\n---\napiVersion: v1\nkind: Node\n"), Err("document 2: metadata.name: a Node needs a name, a text")),
            ("apiVersion: v1\nkind: List\nitems: 3".to_owned(), Err("document 1: items: want a list")),
            ("nothing".to_owned(), Err("document 1: want an object, found \"nothing\"")),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>()).map_err(str::to_owned);
            assert_eq!(read(&text), wanted, "{text}");
        }
    }
}
