//! The metrics that every service has: its build, its process, and its gRPC calls by result.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use mooring_proto::types::time::Mono;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tonic::Code;
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::telemetry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: String,
    revision: String,
}

/// A registry with the build's and the process's metrics.
#[must_use]
pub fn registry(version: &str) -> Registry {
    let mut registry = Registry::default();
    let build = Family::<BuildLabels, Gauge>::default();
    let revision = option_env!("MOORING_REVISION").unwrap_or("unknown");
    build.get_or_create(&BuildLabels { version: version.to_owned(), revision: revision.to_owned() }).set(1);
    registry.register("mooring_build_info", "Version and revision of the running build", build);
    registry.register_collector(Box::new(ProcessCollector));
    registry
}

/// The `process_*` metrics that every dashboard expects, read from /proc when asked for, and what the process could not log.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    #[expect(clippy::cast_precision_loss, reason = "metrics are floating point numbers")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let dropped = ConstCounter::new(telemetry::dropped());
        let help = "Log lines dropped, as standard output did not take them in time";
        dropped.encode(encoder.encode_descriptor("mooring_log_lines_dropped", help, None, dropped.metric_type())?)?;
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let seconds = stat.utime.saturating_add(stat.stime) as f64 / procfs::ticks_per_second() as f64;
            let cpu = ConstCounter::new(seconds);
            cpu.encode(encoder.encode_descriptor("process_cpu", "CPU time spent", Some(&Unit::Seconds), cpu.metric_type())?)?;
            let resident = ConstGauge::new(stat.rss.saturating_mul(procfs::page_size()) as f64);
            let descriptor =
                encoder.encode_descriptor("process_resident_memory", "Resident memory", Some(&Unit::Bytes), resident.metric_type())?;
            resident.encode(descriptor)?;
            let threads = ConstGauge::new(stat.num_threads);
            threads.encode(encoder.encode_descriptor("process_threads", "Threads", None, threads.metric_type())?)?;
        }
        if let Ok(count) = process.fd_count() {
            let open = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            open.encode(encoder.encode_descriptor("process_open_fds", "Open file descriptors", None, open.metric_type())?)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    grpc_service: String,
    grpc_method: String,
    grpc_code: &'static str,
}

/// A tower layer that counts each call once, when it ends; a call that the client dropped counts as `CANCELLED`.
#[derive(Clone, Debug)]
pub struct GrpcMetrics {
    clock: Clock,
    handled: Family<CallLabels, Counter>,
    seconds: Family<MethodLabels, Histogram>,
}

impl GrpcMetrics {
    /// Registers its series.
    #[must_use]
    pub fn new(registry: &mut Registry, clock: Clock) -> Self {
        let buckets = || Histogram::new(exponential_buckets(0.000_1, 4.0, 9));
        let metrics = Self { clock, handled: Family::default(), seconds: Family::new_with_constructor(buckets) };
        registry.register("grpc_server_handled", "gRPC calls by result", metrics.handled.clone());
        registry.register("grpc_server_handling_seconds", "Time to handle a gRPC call", metrics.seconds.clone());
        metrics
    }
}

impl<S> Layer<S> for GrpcMetrics {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: GrpcMetrics,
}

impl<S, In, Out> Service<Request<In>> for Counted<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    Out: Body<Data = Bytes> + Send + Unpin + 'static,
    Out::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let mut call = Call::new(&self.metrics, request.uri().path());
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            call.read(response.headers());
            let (parts, body) = response.into_parts();
            Ok(Response::from_parts(parts, tonic::body::Body::new(CountedBody { body, call })))
        })
    }
}

/// One call; counted when it is dropped, with the last result seen.
struct Call {
    metrics: GrpcMetrics,
    method: MethodLabels,
    began: Mono,
    code: Code,
}

impl Call {
    fn new(metrics: &GrpcMetrics, path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or(("unknown", "unknown"));
        let method = MethodLabels { grpc_service: service.to_owned(), grpc_method: method.to_owned() };
        Self { metrics: metrics.clone(), method, began: metrics.clock.now(), code: Code::Cancelled }
    }

    fn read(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // A path that no service of ours has would be a label from a stranger.
        if self.code == Code::Unimplemented {
            self.method = MethodLabels { grpc_service: "unknown".to_owned(), grpc_method: "unknown".to_owned() };
        }
        let MethodLabels { grpc_service, grpc_method } = self.method.clone();
        self.metrics.handled.get_or_create(&CallLabels { grpc_service, grpc_method, grpc_code: name_of(self.code) }).inc();
        let seconds = self.metrics.clock.now().saturating_since(self.began).as_secs_f64();
        self.metrics.seconds.get_or_create(&self.method).observe(seconds);
    }
}

struct CountedBody<B> {
    body: B,
    call: Call,
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.call.read(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The name that the gRPC specification gives a code.
const fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
