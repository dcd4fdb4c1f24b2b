//! How a Mooring service runs.
//!
//! A service's `main.rs` parses its flags and calls [`run`]; its `lib.rs` wires named tasks under a [`supervise::Supervisor`]. What all
//! three share is here: flags ([`args`]), supervision and signals ([`supervise`], [`shutdown`]), bounded channels ([`mailbox`]), the one
//! clock reader ([`clock`]) and the one sleeper ([`backoff`]), logs and metrics ([`telemetry`], [`metrics`]), the servers for people
//! and probes ([`admin`]) and for gRPC ([`server`], [`tls`]), and leadership by a Kubernetes Lease ([`leader`]). No decision of Mooring's
//! own is here.

#![forbid(unsafe_code)]

pub mod admin;
pub mod args;
pub mod backoff;
pub mod clock;
pub mod leader;
pub mod mailbox;
pub mod metrics;
pub mod server;
pub mod shutdown;
pub mod supervise;
pub mod telemetry;
pub mod tls;

use std::process::ExitCode;

use args::CommonArgs;

/// Asks the tasks of a process to end; cloned freely.
pub use tokio_util::sync::CancellationToken as Stop;

/// Runs a service to its end: logs, the TLS provider and the runtime are set up, then `service` runs.
///
/// Exit code 0 after an orderly end, 1 on a fault, whose whole chain of causes is logged once. Bad flags end earlier, with 2.
pub fn run<F>(common: &CommonArgs, service: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    run_with(common, telemetry::Output::Standard, service)
}

/// Runs a task to its end as [`run`] does a service; its log goes to standard error, as standard output is its result.
pub fn run_task<F>(common: &CommonArgs, task: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    run_with(common, telemetry::Output::Error, task)
}

fn run_with<F>(common: &CommonArgs, logs: telemetry::Output, service: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    if telemetry::init(common.log_format, common.log_level, logs).is_err() {
        // There is no way left to say so.
        return ExitCode::FAILURE;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(service()));
    if let Err(fault) = &result {
        tracing::error!(event = "fault", error = %telemetry::chain(fault.as_ref()), "the process ends on a fault");
    }
    telemetry::flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
