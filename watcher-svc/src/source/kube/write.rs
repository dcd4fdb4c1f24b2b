//! Writes: a Service's status, Events, a pool's counters, who announces a Service.
//!
//! Each is one function that may be called as often as one likes: what is there already is not written twice. Whether and when to
//! repeat a failed one is the caller's decision; the client is shared, so any number may be in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use mooring_proto::types::node::NodeName;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;
use serde_json::{Value, json};

use super::event::event;
use super::{Cluster, RequestError, resource};
use crate::k8s::ObjectRef;
use crate::k8s::crd::{self, ConfigurationStatus, L2Status, PoolStatus};
use crate::source::event::EventRecord;

/// How long one request may take; the API server's own limit is a minute.
const DEADLINE: Duration = Duration::from_secs(10);

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Done,
    /// The object is gone, or another one of the same name took its place: there is nothing to write any more.
    Gone,
}

/// A write that failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The API server took too long.
    #[error("could not {action} {object}: no answer within {DEADLINE:?}")]
    Deadline {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: ObjectRef,
    },
    /// The API server refused it, or could not be reached.
    #[error("could not {action} {object}")]
    Failed {
        /// What was being done.
        action: &'static str,
        /// To what.
        object: ObjectRef,
        /// Why.
        source: RequestError,
    },
}

impl WriteError {
    /// Whether the same write will fail again: it is invalid or forbidden, and only a change helps.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Deadline { .. } => false,
            Self::Failed { source, .. } => matches!(source.code(), Some(400 | 403 | 405 | 413 | 415 | 422)),
        }
    }
}

impl Cluster {
    /// Patches a Service's status, with a patch of `crate::k8s::status::patch`. Annotations travel on the status subresource, so no
    /// right to write Services is needed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn patch_service_status(&self, key: &ServiceKey, patch: &Value) -> Result<Written, WriteError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), key.namespace());
        let object = || ObjectRef::new("Service", key.namespace(), key.name());
        let patched = within("write the status of", object, api.patch_status(key.name(), &params(), &Patch::Merge(patch))).await;
        gone_is_fine(patched)
    }

    /// Writes an Event.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_event(&self, record: &EventRecord) -> Result<Written, WriteError> {
        let event = event(record);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let object = || record.regarding.clone();
        match within("write an Event on", object, api.create(&PostParams::default(), &event)).await {
            // Its name says that it is this very record.
            Err(WriteError::Failed { source, .. }) if source.code() == Some(409) => Ok(Written::Done),
            // The namespace is on its way out, and refuses anything new.
            Err(WriteError::Failed { source, .. }) if source.blames("NamespaceTerminating") => Ok(Written::Gone),
            created => gone_is_fine(created),
        }
    }

    /// Writes a pool's counters.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn patch_pool_status(&self, pool: &PoolName, status: &PoolStatus) -> Result<Written, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource(crd::IP_ADDRESS_POOL));
        let object = || ObjectRef::new(crd::IP_ADDRESS_POOL.kind, &self.namespace, pool.as_str());
        let patch = json!({"status": status.to_json()});
        gone_is_fine(within("write the status of", object, api.patch_status(pool.as_str(), &params(), &Patch::Merge(&patch))).await)
    }

    /// Says who announces a Service, or why nobody can: one ServiceL2Status of its node, none of others; none at all if there is nothing to
    /// say.
    ///
    /// [`Written::Gone`] means that the custom resource is not installed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_l2_status(&self, service: &ServiceKey, wanted: Option<&L2Status>) -> Result<Written, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource(crd::SERVICE_L2_STATUS));
        let object = || ObjectRef::new(crd::SERVICE_L2_STATUS.kind, service.namespace(), service.name());
        let (name, namespace) = (crd::SERVICE_NAME_LABEL, crd::SERVICE_NAMESPACE_LABEL);
        let selector = ListParams::default().labels(&format!("{name}={},{namespace}={}", service.name(), service.namespace()));
        let found = match within("list", object, api.list(&selector)).await {
            Ok(found) => found.items,
            Err(error) => return gone_is_fine::<()>(Err(error)),
        };
        let node = |object: &DynamicObject| object.labels().get(crd::NODE_LABEL).cloned();
        let (mut right, mut wrong): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|found| wanted.is_some_and(|wanted| node(found).as_deref() == wanted.node.as_ref().map(NodeName::as_str)));
        // A second one of the same node is one too many.
        wrong.extend(right.split_off(right.len().min(1)));
        if let Some(wanted) = wanted {
            let present = match right.pop() {
                Some(present) => present,
                None => within("create", object, api.create(&PostParams::default(), &l2_object(wanted))).await?,
            };
            let status = wanted.to_json();
            if present.data.get("status") != Some(&status) {
                // What is left out must go, where it was there.
                let mut status = status;
                if let Some(fields) = status.as_object_mut() {
                    fields.entry("interfaces").or_insert(Value::Null);
                    fields.entry("reason").or_insert(Value::Null);
                }
                let patch = json!({"status": status});
                within("write the status of", object, api.patch_status(&present.name_any(), &params(), &Patch::Merge(&patch))).await?;
            }
        }
        for wrong in wrong {
            gone_is_fine(within("delete", object, api.delete(&wrong.name_any(), &DeleteParams::default())).await)?;
        }
        Ok(Written::Done)
    }

    /// Says what was found of the configuration, each ConfigurationState only where it differs. If these are `all`, there are no others of
    /// controllers and speakers.
    ///
    /// [`Written::Gone`] means that the custom resource is not installed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_verdicts(&self, verdicts: &[ConfigurationStatus], all: bool, now: UnixMillis) -> Result<Written, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource(crd::CONFIGURATION_STATE));
        let object = |name: &str| ObjectRef::new(crd::CONFIGURATION_STATE.kind, &self.namespace, name);
        let own = ListParams::default().labels(crd::COMPONENT_LABEL);
        let found = match within("list", || object(""), api.list(&own)).await {
            Ok(found) => found.items,
            Err(error) => return gone_is_fine::<()>(Err(error)),
        };
        let mut found: BTreeMap<String, DynamicObject> = found.into_iter().map(|object| (object.name_any(), object)).collect();
        for verdict in verdicts {
            let (name, before) = (verdict.name(), found.remove(&verdict.name()));
            let before = match before {
                Some(before) => before,
                None => {
                    let new = verdict_object(verdict);
                    within("create", || object(&name), api.create(&PostParams::default(), &new)).await?
                }
            };
            let before = before.data.get("status");
            let mut status = verdict.to_json(before, now);
            if before != Some(&status) {
                if let Some(fields) = status.as_object_mut() {
                    // What is left out must go, where it was there.
                    fields.entry("errorSummary").or_insert(Value::Null);
                }
                let patch = json!({"status": status});
                within("write the status of", || object(&name), api.patch_status(&name, &params(), &Patch::Merge(&patch))).await?;
            }
        }
        for name in found.keys().filter(|_| all) {
            gone_is_fine(within("delete", || object(name), api.delete(name, &DeleteParams::default())).await)?;
        }
        Ok(Written::Done)
    }

    /// The Services that some ServiceL2Status is about: after a start, those of them that nobody announces any more need
    /// [`Cluster::write_l2_status`] with nobody. Empty if the custom resource is not installed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn services_with_l2_status(&self) -> Result<Vec<ServiceKey>, WriteError> {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource(crd::SERVICE_L2_STATUS));
        let object = || ObjectRef::new(crd::SERVICE_L2_STATUS.kind, &self.namespace, "");
        let found = match within("list", object, api.list(&ListParams::default())).await {
            Err(WriteError::Failed { source, .. }) if source.code() == Some(404) => return Ok(Vec::new()),
            found => found?.items,
        };
        let label = |object: &DynamicObject, key: &str| object.labels().get(key).cloned().unwrap_or_default();
        let key = |object: &DynamicObject| {
            ServiceKey::new(&label(object, crd::SERVICE_NAMESPACE_LABEL), &label(object, crd::SERVICE_NAME_LABEL)).ok()
        };
        Ok(found.iter().filter_map(key).collect())
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some("mooring".to_owned()), ..PatchParams::default() }
}

async fn within<T>(
    action: &'static str,
    object: impl Fn() -> ObjectRef,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(WriteError::Failed { action, object: object(), source: RequestError::new(error) }),
        Err(_elapsed) => Err(WriteError::Deadline { action, object: object() }),
    }
}

fn gone_is_fine<T>(answer: Result<T, WriteError>) -> Result<Written, WriteError> {
    match answer {
        Ok(_) => Ok(Written::Done),
        Err(WriteError::Failed { source, .. }) if is_gone(&source) => Ok(Written::Gone),
        Err(error) => Err(error),
    }
}

/// There is no such object, or the uid in the patch is not that of the one that is there.
fn is_gone(error: &RequestError) -> bool {
    error.code() == Some(404) || error.blames("metadata.uid")
}

/// The object of a Service that is announced. The API server makes its name. MetalLB's speakers write it and their Pods own it; here the
/// watcher does for all of them, and takes away what is outdated itself, so it has no owner.
fn l2_object(wanted: &L2Status) -> DynamicObject {
    let mut object = DynamicObject::new("", &resource(crd::SERVICE_L2_STATUS));
    object.metadata.name = None;
    object.metadata.generate_name = Some(crd::L2_NAME_PREFIX.to_owned());
    object.metadata.labels = Some(wanted.labels());
    object.data = json!({"spec": {}});
    object
}

fn verdict_object(verdict: &ConfigurationStatus) -> DynamicObject {
    let mut object = DynamicObject::new(&verdict.name(), &resource(crd::CONFIGURATION_STATE));
    object.metadata.labels = Some(verdict.labels());
    object.data = json!({"spec": {}});
    object
}

#[cfg(test)]
mod tests;
