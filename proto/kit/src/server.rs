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

/// What a service waits for before it is healthy.
#[derive(Clone, Copy, Debug)]
pub enum Needs {
    /// All that the process waits for.
    Everything,
    /// Only these, by the names of their readiness handles.
    Only(&'static [&'static str]),
}

impl Needs {
    /// The status while all this is awaited.
    fn status(self, awaited: &[&str]) -> ServingStatus {
        let waits = match self {
            Self::Everything => !awaited.is_empty(),
            Self::Only(needed) => awaited.iter().any(|what| needed.contains(what)),
        };
        if waits { ServingStatus::NotServing } else { ServingStatus::Serving }
    }
}

/// What is served: the routes with the names of their services, for health.
#[derive(Debug, Default)]
pub struct Api {
    routes: RoutesBuilder,
    names: Vec<(&'static str, Needs)>,
    descriptors: Vec<&'static [u8]>,
}

impl Api {
    /// Serves the services that these descriptor sets describe.
    #[must_use]
    pub fn new(descriptors: &[&'static [u8]]) -> Self {
        Self { descriptors: descriptors.to_vec(), ..Self::default() }
    }

    /// One more service, which is healthy when what it needs is done.
    #[must_use]
    pub fn with<S>(mut self, service: S, needs: Needs) -> Self
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
        self.names.push((S::NAME, needs));
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
    for name in names.iter().map(|(name, _)| *name).chain(ALWAYS.iter().copied()) {
        (v1, v1alpha) = (v1.with_service_name(name), v1alpha.with_service_name(name));
    }
    routes.add_service(health).add_service(v1.build_v1()?).add_service(v1alpha.build_v1alpha()?);
    let mut server = Server::builder().http2_keepalive_interval(Some(KEEPALIVE)).http2_keepalive_timeout(Some(KEEPALIVE)).tcp_nodelay(true);
    if let Some(tls) = tls {
        server = server.tls_config(tls).context("--tls-cert, --tls-key or --tls-ca is no good")?;
    }
    let router = server.layer(metrics).add_routes(routes.routes());
    let mut health = Health::new(reporter, names, readiness, stop.clone());
    // Before the first call can come.
    health.tell().await;
    let serve = async {
        let stopped = stop.clone().cancelled_owned();
        match listener {
            Listener::Tcp(tcp) => router.serve_with_incoming_shutdown(TcpListenerStream::new(tcp), stopped).await,
            Listener::Unix(unix) => router.serve_with_incoming_shutdown(UnixListenerStream::new(unix), stopped).await,
        }
    };
    let (served, ()) = tokio::join!(serve, health.follow());
    served.context("the gRPC server failed")
}

/// Keeps health as it is: SERVING while what is needed is done, NOT_SERVING otherwise and from the moment the server is asked to stop.
struct Health {
    reporter: HealthReporter,
    /// What each name needs and what was last said of it; the empty name is the process.
    names: Vec<(&'static str, Needs, Option<ServingStatus>)>,
    readiness: Readiness,
    stop: Stop,
}

impl Health {
    fn new(reporter: HealthReporter, names: Vec<(&'static str, Needs)>, readiness: Readiness, stop: Stop) -> Self {
        let names = names.into_iter().chain([("", Needs::Everything)]).map(|(name, needs)| (name, needs, None)).collect();
        Self { reporter, names, readiness, stop }
    }

    /// Says what has changed, and only that: whoever watches hears of each change once.
    async fn tell(&mut self) {
        let awaited = self.readiness.awaited();
        for (name, needs, told) in &mut self.names {
            let status = if self.stop.is_cancelled() { ServingStatus::NotServing } else { needs.status(&awaited) };
            if told.replace(status) != Some(status) {
                self.reporter.set_service_status(*name, status).await;
            }
        }
    }

    /// Tells each change until the server is asked to stop. Then those who watch have heard of it and their streams end, for which the
    /// server waits.
    async fn follow(mut self) {
        let mut changes = self.readiness.subscribe();
        while !self.stop.is_cancelled() {
            changes.mark_unchanged();
            self.tell().await;
            tokio::select! {
                () = self.stop.cancelled() => {}
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        self.tell().await;
        for (name, ..) in &self.names {
            self.reporter.clear_service_status(name).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use mooring_proto::pb;
    use mooring_proto::pb::announcement_service_server::{AnnouncementService, AnnouncementServiceServer};
    use prometheus_client::registry::Registry;
    use tonic::transport::Endpoint;
    use tonic::{Request, Response, Status, Streaming};
    use tonic_health::pb::health_check_response::ServingStatus::{NotServing, Serving};
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

    use super::*;
    use crate::clock::Clock;

    struct Speaker;

    #[tonic::async_trait]
    impl AnnouncementService for Speaker {
        async fn list_announcements(
            &self,
            _request: Request<pb::ListAnnouncementsRequest>,
        ) -> Result<Response<pb::ListAnnouncementsResponse>, Status> {
            Err(Status::unimplemented("not asked for"))
        }
    }

    async fn next(watched: &mut Streaming<HealthCheckResponse>) -> Option<i32> {
        watched.message().await.unwrap().map(|answer| answer.status)
    }

    #[tokio::test]
    async fn health_is_that_of_each_service_and_whoever_watches_it_holds_up_no_end() {
        let (readiness, stop) = (Readiness::new(), Stop::new());
        let (sockets, session) = (readiness.handle("sockets open"), readiness.handle("assignments received"));
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let Listener::Tcp(tcp) = &listener else { panic!("{listener:?}") };
        let at = Endpoint::from_shared(format!("http://{}", tcp.local_addr().unwrap())).unwrap();
        let api =
            Api::new(&[mooring_proto::FILE_DESCRIPTOR_SET]).with(AnnouncementServiceServer::new(Speaker), Needs::Only(&["sockets open"]));
        let metrics = GrpcMetrics::new(&mut Registry::default(), Clock::start());
        let look = async {
            let mut client = HealthClient::new(at.connect().await.unwrap());
            let mut watch = async |service: &str| {
                let request = HealthCheckRequest { service: service.to_owned() };
                client.watch(request).await.unwrap().into_inner()
            };
            let (mut process, mut speaker) = (watch("").await, watch("mooring.v1.AnnouncementService").await);
            assert_eq!((next(&mut process).await, next(&mut speaker).await), (Some(NotServing.into()), Some(NotServing.into())));
            sockets.set(true);
            assert_eq!(next(&mut speaker).await, Some(Serving.into()));
            session.done();
            assert_eq!(next(&mut process).await, Some(Serving.into()));
            sockets.set(false);
            assert_eq!((next(&mut process).await, next(&mut speaker).await), (Some(NotServing.into()), Some(NotServing.into())));
            sockets.set(true);
            assert_eq!((next(&mut process).await, next(&mut speaker).await), (Some(Serving.into()), Some(Serving.into())));
            stop.cancel();
            for watched in [&mut process, &mut speaker] {
                assert_eq!((next(watched).await, next(watched).await), (Some(NotServing.into()), None));
            }
        };
        let (served, ()) = tokio::join!(serve(listener, api, None, metrics, readiness.clone(), stop.clone()), look);
        served.unwrap();
    }
}
