//! The API server as a source: watches of everything that matters, and the writes.
//!
//! Nothing is decided here. [`watch`] sends [`view`]'s objects as JSON to whoever reads them by `crate::k8s`; [`write`] carries out what was
//! decided. Both live through an API server that is away.

pub mod view;
pub mod watch;

pub mod event;
pub mod write;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::core::Status;
use kube::{Api, Client, Config};

use crate::k8s::crd;

/// The Lease by which watchers elect their leader.
pub const LEASE: &str = "mooring-watcher";

/// Where the Lease lives if neither the pod nor the kubeconfig says where the watcher is at home.
const HOME: &str = "mooring-system";

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a watch lasts before it is begun anew; the API server ends it.
const WATCH_LASTS: u32 = 60;

/// How long the API server may send nothing where something is awaited: longer than a watch lasts.
const READ_TIMEOUT: Duration = Duration::from_secs(75);

/// The API server could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a pod's ServiceAccount is there, or they are no good.
    #[error("no access to a Kubernetes API server: want KUBECONFIG, ~/.kube/config or a pod's ServiceAccount")]
    Config(#[source] Box<kube::config::InferConfigError>),
    /// The configuration is there but no client can be made of it.
    #[error("the access to the Kubernetes API server is configured wrongly")]
    Client(#[source] kube::Error),
}

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It answered no.
    #[error("{} (HTTP {})", .0.message, .0.code)]
    Refused(Box<Status>),
    /// It did not answer, or not in a way that can be understood.
    #[error("no answer of the API server")]
    Unanswered(#[source] Box<kube::Error>),
}

impl RequestError {
    fn new(error: kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Unanswered(Box::new(error)) };
        Self::Refused(status)
    }

    /// The HTTP status code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Unanswered(_) => None,
        }
    }

    /// Whether a refusal names this field or this reason among its causes.
    fn blames(&self, field_or_reason: &str) -> bool {
        let Self::Refused(status) = self else { return false };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        causes.any(|cause| cause.field == field_or_reason || cause.reason == field_or_reason)
    }
}

/// Access to one API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// The namespace that the configuration is read from and statuses are written to.
    namespace: String,
    /// The legacy ConfigMap's name in it.
    config_map: String,
    /// The namespace of the Lease.
    home: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).field("config_map", &self.config_map).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Finds the API server by `KUBECONFIG`, `~/.kube/config` or the pod's ServiceAccount, in this order. Nothing is sent yet.
    ///
    /// `pod_namespace` is what the environment variable `POD_NAMESPACE` says.
    ///
    /// # Errors
    /// There is no such configuration, or it is no good.
    pub async fn find(namespace: &str, config_map: &str, pod_namespace: Option<String>) -> Result<Self, ConnectError> {
        let mut config = Config::infer().await.map_err(|error| ConnectError::Config(Box::new(error)))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        // Otherwise the time that a connection was not used counts.
        config.reset_reader_on_write = true;
        // A kubeconfig that names no namespace reads as "default", where nobody keeps a controller's Lease.
        let inferred = Some(config.default_namespace.clone()).filter(|namespace| namespace != "default");
        let home = pod_namespace.filter(|namespace| !namespace.is_empty()).or(inferred).unwrap_or_else(|| HOME.to_owned());
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, namespace: namespace.to_owned(), config_map: config_map.to_owned(), home })
    }

    /// The Leases of the namespace where the watcher is at home.
    #[must_use]
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.home)
    }
}

/// A custom resource as kube names it.
fn resource(custom: crd::Resource) -> kube::core::ApiResource {
    api_resource(crd::GROUP, crd::VERSION, custom.kind, custom.plural)
}

fn api_resource(group: &str, version: &str, kind: &str, plural: &str) -> kube::core::ApiResource {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    kube::core::ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}
