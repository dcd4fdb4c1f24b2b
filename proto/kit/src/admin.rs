//! The server for probes and metrics: `/healthz`, `/livez`, `/readyz`, `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Stop;

/// What a process still has to do before it is ready.
#[derive(Clone, Debug)]
pub struct Readiness {
    awaited: watch::Sender<Vec<&'static str>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Nothing to do yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self { awaited: watch::Sender::new(Vec::new()) }
    }

    /// One more thing that must be done first.
    pub fn handle(&self, what: &'static str) -> ReadinessHandle {
        self.awaited.send_modify(|awaited| awaited.push(what));
        ReadinessHandle { what, readiness: self.clone() }
    }

    /// What is still to be done; empty = ready.
    #[must_use]
    pub fn awaited(&self) -> Vec<&'static str> {
        self.awaited.borrow().clone()
    }

    /// Tells of each change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Vec<&'static str>> {
        self.awaited.subscribe()
    }
}

/// One thing that must be done before the process is ready.
#[derive(Debug)]
#[must_use = "the process is not ready before it is done"]
pub struct ReadinessHandle {
    what: &'static str,
    readiness: Readiness,
}

impl ReadinessHandle {
    /// It is done.
    pub fn done(self) {
        self.set(true);
    }

    /// It is done, or has to be done again.
    pub fn set(&self, done: bool) {
        self.readiness.awaited.send_if_modified(|awaited| {
            let waits = awaited.contains(&self.what);
            match (waits, done) {
                (true, true) => awaited.retain(|what| *what != self.what),
                (false, false) => awaited.push(self.what),
                (true, false) | (false, true) => return false,
            }
            true
        });
    }
}

#[derive(Clone)]
struct Shared {
    registry: Arc<Registry>,
    readiness: Readiness,
}

/// Serves probes and metrics until asked to stop.
///
/// # Errors
/// The address cannot be listened at, or the server fails.
pub async fn serve(address: SocketAddr, registry: Registry, readiness: Readiness, stop: Stop) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("could not listen at --admin {address}"))?;
    let bound = listener.local_addr()?;
    tracing::info!(event = "listening", address = %bound, server = "admin", "serving probes and metrics");
    let shared = Shared { registry: Arc::new(registry), readiness };
    axum::serve(listener, router(shared)).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

fn router(shared: Shared) -> Router {
    let alive = || async { "ok\n" };
    Router::new()
        .route("/healthz", get(alive))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn ready(State(shared): State<Shared>) -> Response {
    let awaited = shared.readiness.awaited();
    if awaited.is_empty() {
        "ok\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", awaited.join(", "))).into_response()
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &shared.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    async fn get(shared: &Shared, path: &str) -> (StatusCode, String) {
        let response = router(shared.clone()).oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_means_done() {
        let readiness = Readiness::new();
        let shared = Shared { registry: Arc::new(crate::metrics::registry("1.2.3")), readiness: readiness.clone() };
        let (store, sockets) = (readiness.handle("store loaded"), readiness.handle("sockets open"));
        let waiting = |what: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {what}\n"));
        assert_eq!(get(&shared, "/readyz").await, waiting("store loaded, sockets open"));
        store.done();
        assert_eq!(get(&shared, "/readyz").await, waiting("sockets open"));
        assert_eq!(get(&shared, "/healthz").await, (StatusCode::OK, "ok\n".to_owned()));
        sockets.set(true);
        assert_eq!(get(&shared, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
        for _again in 0..2 {
            sockets.set(false);
            assert_eq!(get(&shared, "/readyz").await, waiting("sockets open"));
        }
        sockets.done();
        assert_eq!(get(&shared, "/readyz").await, (StatusCode::OK, "ok\n".to_owned()));
        let (status, text) = get(&shared, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("mooring_build_info{version=\"1.2.3\"") && text.contains("process_resident_memory_bytes "), "{text}");
    }
}
