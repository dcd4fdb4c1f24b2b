//! The gRPC server that every service runs: its own API, honest health, and reflection.

use std::os::unix::fs::FileTypeExt as _;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::service::RoutesBuilder;
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::Stop;
use crate::admin::Readiness;
use crate::args::ListenAddress;
use crate::metrics::GrpcMetrics;

/// How long a connection may be silent before the server asks whether its client lives.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A bound listener; bound early, so that a taken address fails at start.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Binds the address and says so in the log; port 0 picks a port, and the log line tells which.
    ///
    /// # Errors
    /// The address is taken or not this machine's.
    pub async fn bind(address: &ListenAddress) -> anyhow::Result<Self> {
        let failed = || format!("could not listen at --listen {address}");
        let (listener, bound) = match address {
            ListenAddress::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).await.with_context(failed)?;
                let bound = listener.local_addr()?.to_string();
                (Self::Tcp(listener), bound)
            }
            ListenAddress::Unix(path) => {
                // A socket that nobody listens at any more is left over from a process that was killed.
                let is_socket = std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
                if is_socket && tokio::net::UnixStream::connect(path).await.is_err() {
                    std::fs::remove_file(path).with_context(failed)?;
                }
                (Self::Unix(UnixListener::bind(path).with_context(failed)?), address.to_string())
            }
        };
        tracing::info!(event = "listening", address = bound, server = "grpc", "serving gRPC");
        Ok(listener)
    }
}

/// The services that every process serves.
const ALWAYS: &[&str] = &["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// What is served: the routes with the names of their services, for health.
#[derive(Debug, Default)]
pub struct Api {
    routes: RoutesBuilder,
    names: Vec<&'static str>,
    descriptors: Vec<&'static [u8]>,
}

impl Api {
    /// Serves the services that these descriptor sets describe.
    #[must_use]
    pub fn new(descriptors: &[&'static [u8]]) -> Self {
        Self { descriptors: descriptors.to_vec(), ..Self::default() }
    }

    /// One more service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: tower::Service<http::Request<tonic::body::Body>, Error = std::convert::Infallible>
            + tonic::server::NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(service);
        self.names.push(S::NAME);
        self
    }
}

/// Serves until asked to stop, then says NOT_SERVING, takes no new calls and lets the open ones end.
///
/// # Errors
/// The descriptors are no good, or the server fails.
pub async fn serve(
    listener: Listener,
    api: Api,
    tls: Option<ServerTlsConfig>,
    metrics: GrpcMetrics,
    readiness: Readiness,
    stop: Stop,
) -> anyhow::Result<()> {
    let Api { mut routes, names, descriptors } = api;
    let (reporter, health) = tonic_health::server::health_reporter();
    let descriptors = descriptors.into_iter().chain([
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_types::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]);
    let (mut v1, mut v1alpha) = (tonic_reflection::server::Builder::configure(), tonic_reflection::server::Builder::configure());
    for set in descriptors {
        v1 = v1.register_encoded_file_descriptor_set(set);
        v1alpha = v1alpha.register_encoded_file_descriptor_set(set);
    }
    // The descriptors are those of the whole contract; what is listed is what is served here.
    for name in names.iter().chain(ALWAYS) {
        (v1, v1alpha) = (v1.with_service_name(*name), v1alpha.with_service_name(*name));
    }
    routes.add_service(health).add_service(v1.build_v1()?).add_service(v1alpha.build_v1alpha()?);
    let mut server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).http2_keepalive_timeout(Some(KEEPALIVE)).tcp_nodelay(true);
    if let Some(tls) = tls {
        server = server.tls_config(tls).context("--tls-cert, --tls-key or --tls-ca is no good")?;
    }
    let router = server.layer(metrics).add_routes(routes.routes());
    let report = report(reporter, names, readiness, stop.clone());
    let serve = async {
        let stopped = stop.clone().cancelled_owned();
        match listener {
            Listener::Tcp(tcp) => router.serve_with_incoming_shutdown(TcpListenerStream::new(tcp), stopped).await,
            Listener::Unix(unix) => router.serve_with_incoming_shutdown(UnixListenerStream::new(unix), stopped).await,
        }
    };
    let (served, ()) = tokio::join!(serve, report);
    served.context("the gRPC server failed")
}

/// Keeps health as it is: SERVING once ready, NOT_SERVING before that and from the moment the process is asked to stop.
async fn report(reporter: HealthReporter, names: Vec<&'static str>, readiness: Readiness, stop: Stop) {
    let mut changes = readiness.subscribe();
    loop {
        let ready = changes.borrow_and_update().is_empty() && !stop.is_cancelled();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in names.iter().copied().chain([""]) {
            reporter.set_service_status(name, status).await;
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}
