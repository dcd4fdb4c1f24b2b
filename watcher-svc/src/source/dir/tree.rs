//! The files of a directory as last read, and what the objects in them come to.
//!
//! What cannot be read keeps what it last said. Nothing is read here; `dir.rs` hands over texts.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use mooring_proto::types::service::ServiceKey;
use serde_json::{Map, Value};
use tracing::{info, warn};

use super::DirConfig;
use super::manifest::{Manifest, manifests};
use crate::k8s::ObjectRef;
use crate::k8s::annotations::ALLOCATED_FROM_POOL;
use crate::logs;
use crate::source::status_dir::{self, key_of};
use crate::source::{Change, Kind};

/// What a file came to when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is as it was.
    Same,
    /// Its text.
    Text(String),
    /// It cannot be read: why.
    Unreadable(String),
}

#[derive(Debug, Default)]
struct File {
    text: Option<String>,
    manifests: Vec<Manifest>,
    complaint: Option<String>,
}

impl File {
    fn from_before(text: Option<String>) -> Self {
        Self { manifests: text.and_then(|text| manifests(&text).ok()).unwrap_or_default(), ..Self::default() }
    }
}

/// All files, and what was told of them.
#[derive(Debug)]
pub(super) struct Tree {
    config: DirConfig,
    /// Statuses found at the start; they are newer than what manifests say.
    adopted: BTreeMap<ServiceKey, Value>,
    files: BTreeMap<PathBuf, File>,
    told: BTreeMap<(Kind, ObjectRef), (Value, String)>,
    /// Objects found twice, each with the path that does not count.
    twice: BTreeSet<(ObjectRef, String)>,
    /// Services whose status is now another one.
    restated: BTreeSet<ServiceKey>,
    synced: bool,
}

impl Tree {
    pub(super) fn new(config: DirConfig, adopted: BTreeMap<ServiceKey, Value>) -> Self {
        let (told, twice, restated) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { config, adopted, files: BTreeMap::new(), told, twice, restated, synced: false }
    }

    /// Whether nothing was taken in yet.
    pub(super) fn is_new(&self) -> bool {
        !self.synced
    }

    /// Takes in all files that there are now. Those below an `unknown` folder, which cannot be listed, stay. A file that is no good and was
    /// not seen good yet says what `kept` has of it from before the start. Returns what to keep: files that are good, with their texts, and
    /// those that are gone.
    pub(super) fn read(
        &mut self,
        found: BTreeMap<PathBuf, Found>,
        unknown: &[PathBuf],
        kept: impl Fn(&Path) -> Option<String>,
    ) -> Vec<(PathBuf, Option<String>)> {
        let is_gone = |path: &PathBuf| !found.contains_key(path) && !unknown.iter().any(|folder| path.starts_with(folder));
        let gone: Vec<PathBuf> = self.files.keys().filter(|path| is_gone(path)).cloned().collect();
        let mut keep = Vec::new();
        for path in gone {
            self.files.remove(&path);
            keep.push((path, None));
        }
        for (path, found) in found {
            let file = self.files.entry(path.clone()).or_insert_with(|| File::from_before(kept(&path)));
            match found {
                Found::Same => {}
                Found::Unreadable(why) => complain(file, &path, None, "", &format!("not readable: {why}")),
                Found::Text(text) if file.text.as_deref() == Some(text.as_str()) => {}
                // Emptied and about to be filled: whoever means it removes the file.
                Found::Text(text) if text.trim().is_empty() && !file.manifests.is_empty() => {
                    complain(file, &path, None, "", "the file is empty");
                }
                Found::Text(text) => {
                    match manifests(&text) {
                        Ok(manifests) => {
                            file.manifests = manifests;
                            keep.push((path.clone(), Some(text.clone())));
                            if file.complaint.take().is_some() {
                                info!(event = logs::FILE_GOOD, file = %path.display(), "the file is good again");
                            }
                        }
                        Err(wrong) => complain(file, &path, Some(wrong.document), &wrong.field, &wrong.error),
                    }
                    file.text = Some(text);
                }
            }
        }
        keep
    }

    /// Another watcher wrote a Service's status, or took it away.
    pub(super) fn restate(&mut self, file: &Path) {
        let Some(service) = key_of(file) else { return };
        match status_dir::read(file) {
            Some(status) => self.adopted.insert(service.clone(), status),
            None => self.adopted.remove(&service),
        };
        self.restated.insert(service);
    }

    /// What has to be told now.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut now: BTreeMap<(Kind, ObjectRef), (Value, String)> = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for (path, file) in &self.files {
            for manifest in &file.manifests {
                let origin = format!("{}, document {}", path.display(), manifest.document);
                if let Some(elsewhere) = self.config.misplaced(manifest) {
                    if elsewhere
                        && twice.insert((manifest.name.clone(), origin.clone()))
                        && !self.twice.contains(&(manifest.name.clone(), origin.clone()))
                    {
                        let (object, namespace) = (&manifest.name, &self.config.namespace);
                        warn!(event = logs::OBJECT_IGNORED, %object, origin, "ignored: the configuration is read from namespace {namespace} only");
                        let reason = format!("resource must be created in {namespace} namespace: elsewhere it counts for nothing");
                        changes.push(Change::Ignored { object: object.clone(), reason });
                    }
                    continue;
                }
                match now.entry((manifest.kind, manifest.name.clone())) {
                    Entry::Vacant(free) => {
                        free.insert((manifest.object.clone(), origin));
                    }
                    Entry::Occupied(first) => {
                        let again = (manifest.name.clone(), origin.clone());
                        if !self.twice.contains(&again) {
                            warn!(event = logs::OBJECT_IGNORED, object = %manifest.name, origin, "ignored: the object stands already in {}", first.get().1);
                        }
                        twice.insert(again);
                    }
                }
            }
        }
        self.twice = twice;
        for (kind, name) in self.told.keys().filter(|key| !now.contains_key(*key)) {
            if let Some(key) = service_key(*kind, name) {
                self.adopted.remove(&key);
            }
            changes.push(Change::Deleted { kind: *kind, object: name.clone() });
        }
        for ((kind, name), (object, origin)) in &now {
            let told = self.told.get(&(*kind, name.clone()));
            let service = service_key(*kind, name);
            let is_restated = service.as_ref().is_some_and(|service| self.restated.contains(service));
            if is_restated || told.is_none_or(|(told, _)| told != object) {
                let mut object = object.clone();
                if let Some(key) = service {
                    adopt(&mut object, self.adopted.get(&key));
                }
                changes.push(Change::Applied { kind: *kind, object, origin: Some(origin.clone()) });
            }
        }
        self.told = now;
        self.restated.clear();
        if !std::mem::replace(&mut self.synced, true) {
            changes.push(Change::Synced);
        }
        changes
    }
}

fn complain(file: &mut File, path: &Path, document: Option<usize>, field: &str, error: &str) {
    let complaint = format!("{document:?} {field} {error}");
    if file.complaint.as_ref() != Some(&complaint) {
        let document = document.unwrap_or(0);
        warn!(event = logs::FILE_MALFORMED, file = %path.display(), document, field, error, "file no good; what it last said stays");
        file.complaint = Some(complaint);
    }
}

fn service_key(kind: Kind, name: &ObjectRef) -> Option<ServiceKey> {
    (kind == Kind::Service).then(|| ServiceKey::new(&name.namespace, &name.name).ok())?
}

/// Puts the status of a file of `--status-dir` where a cluster would have kept it. Without such a file the addresses of the manifest's own
/// status are adopted, but nothing counts as written yet, neither they nor the annotation that names their pool.
fn adopt(object: &mut Value, written: Option<&Value>) {
    let Value::Object(fields) = object else { return };
    let Some(written) = written else {
        let ingress = fields.get_mut("status").and_then(|status| status.pointer_mut("/loadBalancer/ingress"));
        for entry in ingress.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("ipMode");
        }
        let annotations = fields.get_mut("metadata").and_then(|metadata| metadata.get_mut("annotations"));
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove(ALLOCATED_FROM_POOL.key);
        }
        return;
    };
    fields.insert("status".to_owned(), written.get("status").cloned().unwrap_or_default());
    let annotations = written.get("metadata").and_then(|metadata| metadata.get("annotations")).and_then(Value::as_object);
    if let (Some(annotations), Some(Value::Object(metadata))) = (annotations, fields.get_mut("metadata")) {
        let present = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if present.is_null() {
            *present = Value::Object(Map::new());
        }
        if let Value::Object(present) = present {
            present.extend(annotations.clone());
        }
    }
}

#[cfg(test)]
mod tests;
