//! What the watches say, made of what kube's watchers say: lists only when complete, objects without their ballast.
//!
//! No request is made here; `watch.rs` asks, and hands over answers and failures.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use kube::core::{DynamicObject, Status};
use kube::runtime::watcher::{self, Event};
use mooring_kit::telemetry::chain;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::RequestError;
use crate::k8s::ObjectRef;
use crate::source::{Change, Kind};

/// The annotation in which kubectl keeps a second copy of every object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What was heard of each kind.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The objects of a list that is not complete yet.
    listing: BTreeMap<Kind, Vec<Value>>,
    /// The kinds that were listed once.
    listed: BTreeSet<Kind>,
    /// The kinds whose present trouble has been logged.
    troubled: BTreeSet<Kind>,
    synced: bool,
}

impl View {
    pub(super) fn take(&mut self, kind: Kind, event: Event<DynamicObject>) -> Vec<Change> {
        match event {
            Event::Init => Vec::new(),
            Event::InitApply(object) => {
                self.listing.entry(kind).or_default().push(json(object));
                Vec::new()
            }
            Event::InitDone => {
                let objects = self.listing.remove(&kind).unwrap_or_default();
                self.listed(kind, objects)
            }
            Event::Apply(object) => vec![Change::Applied { kind, object: json(object), origin: None }],
            Event::Delete(object) => {
                let namespace = object.namespace().unwrap_or_default();
                vec![Change::Deleted { kind, object: ObjectRef::new(kind.as_str(), &namespace, &object.name_any()) }]
            }
        }
    }

    fn listed(&mut self, kind: Kind, objects: Vec<Value>) -> Vec<Change> {
        if self.troubled.remove(&kind) {
            info!(event = "watchRestored", kind = kind.as_str(), "listed again");
        }
        self.listed.insert(kind);
        let mut changes = vec![Change::Listed { kind, objects }];
        if !self.synced && Kind::ALL.iter().all(|kind| self.listed.contains(kind)) {
            self.synced = true;
            changes.push(Change::Synced);
        }
        changes
    }

    /// What was listed half is not worth anything any more.
    pub(super) fn begin_anew(&mut self) {
        self.listing.clear();
    }

    /// A kind that the API server does not know has no objects, unless it had some before: then they stay.
    pub(super) fn failed(&mut self, kind: Kind, failure: &Failure) -> Vec<Change> {
        self.listing.remove(&kind);
        if kind.is_custom() && failure.error.code() == Some(404) {
            if self.listed.contains(&kind) {
                return Vec::new();
            }
            info!(event = "kindAbsent", kind = kind.as_str(), "this custom resource is not installed; looked for again and again");
            return self.listed(kind, Vec::new());
        }
        if failure.is_worth_a_warning() && self.troubled.insert(kind) {
            warn!(event = "watchFailed", kind = kind.as_str(), error = %chain(&failure.error), "could not list or watch; what is known stays");
        } else {
            debug!(event = "watchFailed", kind = kind.as_str(), error = %chain(&failure.error), "could not list or watch");
        }
        Vec::new()
    }
}

/// Why a list or a watch ended.
pub(super) struct Failure {
    error: RequestError,
    listing: bool,
}

impl Failure {
    pub(super) fn new(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) => Self { error: RequestError::new(error), listing: true },
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Self { error: RequestError::new(error), listing: false }
            }
            watcher::Error::WatchError(status) => Self { error: RequestError::Refused(status), listing: false },
            watcher::Error::NoResourceVersion => {
                let status = Status { message: "a list or object without a resource version".to_owned(), ..Status::default() };
                Self { error: RequestError::Refused(Box::new(status)), listing: true }
            }
        }
    }

    /// Whether it is the API server's considered answer rather than a sign that it is away.
    pub(super) fn is_answer(&self) -> bool {
        self.error.code().is_some_and(|code| code < 500)
    }

    /// Watches end as they like and fall behind (410); then the list comes again. A list that is refused, or a right to watch that is
    /// missing, stays so until somebody acts.
    fn is_worth_a_warning(&self) -> bool {
        self.error.code().is_some_and(|code| code != 410 && (code < 500 || self.listing))
    }
}

/// The object as JSON, without what nobody here reads and what makes it big.
fn json(object: DynamicObject) -> Value {
    let DynamicObject { mut metadata, mut data, types: _ } = object;
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    if let (Some(fields), Ok(metadata)) = (data.as_object_mut(), serde_json::to_value(metadata)) {
        fields.insert("metadata".to_owned(), metadata);
    }
    data
}

#[cfg(test)]
mod tests;
