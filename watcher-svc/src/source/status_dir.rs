//! Status as files: what a cluster would hold of the results, for a directory as source.
//!
//! `services/NAMESPACE_NAME.yaml`, `ipaddresspools/NAME.yaml`, `servicel2statuses/NAMESPACE_NAME.yaml` and `configurationstates/NAME.yaml`
//! look as `kubectl get -o yaml` shows the objects, cut down to what Mooring writes; `events.jsonl` has an Event a line, the newest last. A file is replaced whole, by
//! rename, and only if it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use mooring_kit::telemetry::chain;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;
use serde_json::{Map, Value, json};
use tracing::warn;

use super::event::EventRecord;
use super::kube::event::event;
use crate::k8s::crd::{self, ConfigurationStatus, L2Status, PoolStatus};
use crate::logs;

/// The folders below the root.
const SERVICES: &str = "services";
const POOLS: &str = "ipaddresspools";
const L2_STATUSES: &str = "servicel2statuses";
const VERDICTS: &str = "configurationstates";

/// Copies of the manifests, as they were when they were good; for the watcher's own use.
const COPIES: &str = ".manifests";

const EVENTS: &str = "events.jsonl";

/// How long `events.jsonl` may become, in bytes, before its older half goes at a start.
const EVENTS_LIMIT: u64 = 16 << 20;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refuses it.
    #[error("could not {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The object cannot be written as YAML.
    #[error("could not write {path} as YAML: {why}")]
    Yaml {
        /// To which file.
        path: String,
        /// Why.
        why: String,
    },
}

impl FolderError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.display().to_string(), source }
    }
}

/// The folder of `--status-dir`.
#[derive(Debug)]
pub struct StatusDir {
    root: PathBuf,
    /// `--namespace`, where pools are.
    namespace: String,
}

impl StatusDir {
    /// Opens the folder, and makes what is missing of it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn open(root: &Path, namespace: &str) -> Result<Self, FolderError> {
        for folder in [SERVICES, POOLS, L2_STATUSES, VERDICTS] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(FolderError::io("make the folder", &path))?;
        }
        let folder = Self { root: root.to_owned(), namespace: namespace.to_owned() };
        folder.shorten_events()?;
        Ok(folder)
    }

    /// The folder as it is, for whoever only reads; it need not be there.
    #[must_use]
    pub fn look(root: &Path, namespace: &str) -> Self {
        Self { root: root.to_owned(), namespace: namespace.to_owned() }
    }

    /// The Services as their files have them, to be adopted after a start. A file that cannot be read is none, and is written anew.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn statuses(&self) -> Result<BTreeMap<ServiceKey, Value>, FolderError> {
        let mut found = BTreeMap::new();
        for path in self.files(SERVICES)? {
            if let (Some(key), Some(service)) = (key_of(&path), read(&path)) {
                found.insert(key, service);
            }
        }
        Ok(found)
    }

    /// The folder for copies of good manifests.
    #[must_use]
    pub fn copies(&self) -> PathBuf {
        self.root.join(COPIES)
    }

    /// The folder of the Services' files.
    #[must_use]
    pub fn services_folder(&self) -> PathBuf {
        self.root.join(SERVICES)
    }

    /// The folder of the pools' files.
    #[must_use]
    pub fn pools_folder(&self) -> PathBuf {
        self.root.join(POOLS)
    }

    /// The Services that have any file here.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn services(&self) -> Result<Vec<ServiceKey>, FolderError> {
        let (services, l2) = (self.files(SERVICES)?, self.files(L2_STATUSES)?);
        let keys: BTreeSet<ServiceKey> = services.iter().chain(&l2).filter_map(|path| key_of(path)).collect();
        Ok(keys.into_iter().collect())
    }

    /// Applies a merge patch to a Service's file.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn patch_service(&self, key: &ServiceKey, patch: &Value) -> Result<(), FolderError> {
        let path = self.service_file(SERVICES, key);
        let fresh = || json!({"status": {"loadBalancer": {}}});
        let mut object = read(&path).unwrap_or_else(fresh);
        merge(&mut object, patch);
        let metadata = json!({"name": key.name(), "namespace": key.namespace()});
        merge(&mut object, &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata}));
        write(&path, &object)
    }

    /// Writes a pool's counters.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write_pool(&self, pool: &PoolName, status: &PoolStatus) -> Result<(), FolderError> {
        let metadata = json!({"name": pool.as_str(), "namespace": self.namespace});
        write(&self.file(POOLS, pool.as_str()), &custom(crd::IP_ADDRESS_POOL, &metadata, &status.to_json()))
    }

    /// Says who announces a Service; `None` = nobody. The file is named after the Service; the object in it is where MetalLB has it.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write_l2(&self, service: &ServiceKey, status: Option<&L2Status>) -> Result<(), FolderError> {
        let path = self.service_file(L2_STATUSES, service);
        let Some(status) = status else { return remove(&path) };
        let metadata = json!({"name": status.name(), "namespace": self.namespace, "labels": status.labels()});
        write(&path, &custom(crd::SERVICE_L2_STATUS, &metadata, &status.to_json()))
    }

    /// Says what was found of the configuration. If these are `all`, there are no other files.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write_verdicts(&self, verdicts: &[ConfigurationStatus], all: bool, now: UnixMillis) -> Result<(), FolderError> {
        let mut kept = BTreeSet::new();
        for verdict in verdicts {
            let path = self.file(VERDICTS, &verdict.name());
            let found = read(&path).and_then(|object| object.get("status").cloned());
            let metadata = json!({"name": verdict.name(), "namespace": self.namespace, "labels": verdict.labels()});
            write(&path, &custom(crd::CONFIGURATION_STATE, &metadata, &verdict.to_json(found.as_ref(), now)))?;
            kept.insert(path);
        }
        let others = self.files(VERDICTS)?;
        others.iter().filter(|path| all && !kept.contains(*path)).try_for_each(|path| remove(path))
    }

    /// Adds an Event.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn write_event(&self, record: &EventRecord) -> Result<(), FolderError> {
        let path = self.root.join(EVENTS);
        let failed = || FolderError::io("add an Event to", &path);
        let line = serde_json::to_string(&event(record)).map_err(|error| failed()(error.into()))?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed())?;
        // One write, so that a reader never sees half a line of it.
        file.write_all(format!("{line}\n").as_bytes()).map_err(failed())
    }

    /// Takes away all of a Service.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn forget_service(&self, key: &ServiceKey) -> Result<(), FolderError> {
        [SERVICES, L2_STATUSES].iter().try_for_each(|folder| remove(&self.service_file(folder, key)))
    }

    /// Takes away all pools but these.
    ///
    /// # Errors
    /// [`FolderError`].
    pub fn retain_pools(&self, pools: &BTreeSet<PoolName>) -> Result<(), FolderError> {
        let kept: BTreeSet<PathBuf> = pools.iter().map(|pool| self.file(POOLS, pool.as_str())).collect();
        self.files(POOLS)?.iter().filter(|path| !kept.contains(*path)).try_for_each(|path| remove(path))
    }

    /// A pool of the legacy ConfigMap may have any name: what might lead out of the folder is written as its code.
    fn file(&self, folder: &str, stem: &str) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let stem: String = stem.chars().map(|c| if plain(c) { c.to_string() } else { format!("%{:02X}", u32::from(c)) }).collect();
        self.root.join(folder).join(format!("{stem}.yaml"))
    }

    /// Neither part can hold an underscore, so the name is unique.
    fn service_file(&self, folder: &str, key: &ServiceKey) -> PathBuf {
        self.file(folder, &format!("{}_{}", key.namespace(), key.name()))
    }

    fn files(&self, folder: &str) -> Result<Vec<PathBuf>, FolderError> {
        let path = self.root.join(folder);
        let failed = || FolderError::io("list", &path);
        let mut files = Vec::new();
        let listed = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            listed => listed.map_err(failed())?,
        };
        for entry in listed {
            files.push(entry.map_err(failed())?.path());
        }
        files.retain(|path| path.extension() == Some(OsStr::new("yaml")));
        files.sort();
        Ok(files)
    }

    fn shorten_events(&self) -> Result<(), FolderError> {
        let path = self.root.join(EVENTS);
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) <= EVENTS_LIMIT {
            return Ok(());
        }
        let text = fs::read_to_string(&path).map_err(FolderError::io("read", &path))?;
        let lines: Vec<&str> = text.lines().collect();
        let newest = lines.get(lines.len() / 2..).unwrap_or_default().join("\n");
        replace(&path, &format!("{newest}\n"))
    }
}

/// The Service that a file is about, by its name.
pub(super) fn key_of(path: &Path) -> Option<ServiceKey> {
    let (namespace, name) = path.file_stem()?.to_str()?.split_once('_')?;
    ServiceKey::new(namespace, name).ok()
}

/// The object in a file; none if there is no such file, or it is no object.
pub(super) fn read(path: &Path) -> Option<Value> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!(event = logs::STATUS_UNREADABLE, file = %path.display(), error = %chain(&error), "status file not readable, it counts as absent");
            }
            return None;
        }
    };
    match serde_saphyr::from_str::<Value>(&text) {
        Ok(object) if object.is_object() => Some(object),
        Ok(_) => None,
        Err(error) => {
            warn!(event = logs::STATUS_UNREADABLE, file = %path.display(), %error, "status file not readable, it counts as absent");
            None
        }
    }
}

fn custom(resource: crd::Resource, metadata: &Value, status: &Value) -> Value {
    json!({"apiVersion": format!("{}/{}", crd::GROUP, crd::VERSION), "kind": resource.kind, "metadata": metadata, "status": status})
}

/// RFC 7386, section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Replaces the file if what it would say differs.
fn write(path: &Path, object: &Value) -> Result<(), FolderError> {
    let text = serde_saphyr::to_string(object);
    let text = text.map_err(|error| FolderError::Yaml { path: path.display().to_string(), why: error.to_string() })?;
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    replace(path, &text)
}

fn replace(path: &Path, text: &str) -> Result<(), FolderError> {
    replace_file(path, text).map_err(FolderError::io("write", path))
}

/// What the file is called that takes the place of another one.
const REPLACEMENT: &str = "new";

/// Whether a file is there to take the place of another one.
pub(super) fn is_replacement(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(REPLACEMENT))
}

/// Replaces a file whole.
pub(super) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension(REPLACEMENT);
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

fn remove(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FolderError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
