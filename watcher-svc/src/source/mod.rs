//! What a source gives and takes.
//!
//! [`kube`] watches an API server and writes to it; [`dir`] follows manifests in a directory, and [`status_dir`] writes there what a
//! cluster would hold of the results. Both say [`Change`]s; a [`Sink`] takes the results, or lets them go.

pub mod dir;
pub mod event;
pub mod kube;
pub mod status_dir;

use std::collections::BTreeSet;

use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;
use serde_json::Value;

use self::event::EventRecord;
use self::kube::Cluster;
use self::status_dir::{FolderError, StatusDir};
use crate::k8s::ObjectRef;
use crate::k8s::crd::{self, ConfigurationStatus, L2Status, PoolStatus};

/// A kind of object that the watcher follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces, for their labels.
    Namespace,
    /// Nodes.
    Node,
    /// The legacy ConfigMap, that one only.
    ConfigMap,
    /// Pools; none if their definition is not installed.
    IpAddressPool,
    /// Advertisements; none if their definition is not installed.
    L2Advertisement,
    /// Endpoints of Services.
    EndpointSlice,
    /// Services of every type.
    Service,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Namespace, Self::Node, Self::ConfigMap, Self::IpAddressPool, Self::L2Advertisement, Self::EndpointSlice, Self::Service];

    /// As Kubernetes writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::ConfigMap => "ConfigMap",
            Self::IpAddressPool => crd::IP_ADDRESS_POOL.kind,
            Self::L2Advertisement => crd::L2_ADVERTISEMENT.kind,
            Self::EndpointSlice => "EndpointSlice",
            Self::Service => "Service",
        }
    }

    /// Its API group; empty for the core's.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::ConfigMap | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::IpAddressPool | Self::L2Advertisement => crd::GROUP,
        }
    }

    /// Whether the API server may not know the kind.
    pub(crate) fn is_custom(self) -> bool {
        match self {
            Self::IpAddressPool | Self::L2Advertisement => true,
            Self::Namespace | Self::Node | Self::ConfigMap | Self::EndpointSlice | Self::Service => false,
        }
    }
}

/// What a source says.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// These are all objects of the kind; others are gone.
    Listed {
        /// The kind.
        kind: Kind,
        /// The objects.
        objects: Vec<Value>,
    },
    /// An object is new or different.
    Applied {
        /// Its kind.
        kind: Kind,
        /// The object.
        object: Value,
        /// The file and document it is from, if it is from a file.
        origin: Option<String>,
    },
    /// An object is gone.
    Deleted {
        /// Its kind.
        kind: Kind,
        /// Which.
        object: ObjectRef,
    },
    /// A Service's status as written was taken away or edited by somebody.
    StatusGone(ServiceKey),
    /// Something became of the counters that were written of pools; perhaps it was the writing itself.
    CountersTouched,
    /// An object does not count as configuration, for this reason, though its owner probably means it to.
    Ignored {
        /// Which.
        object: ObjectRef,
        /// Why.
        reason: String,
    },
    /// Every kind has been listed once. Said once.
    Synced,
}

/// Where results go.
#[derive(Debug)]
pub enum Sink {
    /// To an API server.
    Cluster(Cluster),
    /// Into files.
    Folder(StatusDir),
    /// Nowhere: a shadow leaves everything as it is.
    Shadow,
}

/// A result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// To the API server.
    #[error(transparent)]
    Cluster(#[from] kube::write::WriteError),
    /// Into a file.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl WriteError {
    /// Whether the same write will fail again: it is invalid or forbidden, and only a change helps.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Cluster(error) => error.is_lasting(),
            Self::Folder(_) => false,
        }
    }
}

impl Sink {
    /// Patches a Service's status, with a patch of `crate::k8s::status::patch`. A Service that is gone needs none.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_service_status(&self, key: &ServiceKey, patch: &Value) -> Result<(), WriteError> {
        match self {
            Self::Cluster(cluster) => cluster.patch_service_status(key, patch).await.map(|_written| ())?,
            Self::Folder(folder) => folder.patch_service(key, patch)?,
            Self::Shadow => {}
        }
        Ok(())
    }

    /// Writes an Event.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_event(&self, record: &EventRecord) -> Result<(), WriteError> {
        match self {
            Self::Cluster(cluster) => cluster.write_event(record).await.map(|_written| ())?,
            Self::Folder(folder) => folder.write_event(record)?,
            Self::Shadow => {}
        }
        Ok(())
    }

    /// Writes a pool's counters; a pool of the legacy ConfigMap has no object to take them.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_pool_status(&self, pool: &PoolName, status: &PoolStatus) -> Result<(), WriteError> {
        match self {
            Self::Cluster(cluster) => cluster.patch_pool_status(pool, status).await.map(|_written| ())?,
            Self::Folder(folder) => folder.write_pool(pool, status)?,
            Self::Shadow => {}
        }
        Ok(())
    }

    /// Says who announces a Service; `None` = nobody.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_l2_status(&self, service: &ServiceKey, status: Option<&L2Status>) -> Result<(), WriteError> {
        match self {
            Self::Cluster(cluster) => cluster.write_l2_status(service, status).await.map(|_written| ())?,
            Self::Folder(folder) => folder.write_l2(service, status)?,
            Self::Shadow => {}
        }
        Ok(())
    }

    /// Says what was found of the configuration, each ConfigurationState only where it differs. If these are `all`, there are no others.
    /// Returns whether there is a place for them.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write_verdicts(&self, verdicts: &[ConfigurationStatus], all: bool, now: UnixMillis) -> Result<bool, WriteError> {
        match self {
            Self::Cluster(cluster) => Ok(cluster.write_verdicts(verdicts, all, now).await? == kube::write::Written::Done),
            Self::Folder(folder) => Ok(folder.write_verdicts(verdicts, all, now).map(|()| true)?),
            Self::Shadow => Ok(true),
        }
    }

    /// The Services about which something stands written that outlives their object: after a start, what is outdated of it is taken away.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn services_written(&self) -> Result<Vec<ServiceKey>, WriteError> {
        match self {
            Self::Cluster(cluster) => Ok(cluster.services_with_l2_status().await?),
            Self::Folder(folder) => Ok(folder.services()?),
            Self::Shadow => Ok(Vec::new()),
        }
    }

    /// Takes away what stands of a Service whose object is gone; an API server does so itself.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn forget_service(&self, key: &ServiceKey) -> Result<(), WriteError> {
        match self {
            Self::Cluster(_) | Self::Shadow => Ok(()),
            Self::Folder(folder) => Ok(folder.forget_service(key)?),
        }
    }

    /// Takes away the counters of all other pools; an API server does so itself.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn retain_pools(&self, pools: &BTreeSet<PoolName>) -> Result<(), WriteError> {
        match self {
            Self::Cluster(_) | Self::Shadow => Ok(()),
            Self::Folder(folder) => Ok(folder.retain_pools(pools)?),
        }
    }
}
