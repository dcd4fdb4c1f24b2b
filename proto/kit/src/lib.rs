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

use std::io::{self, Write as _};
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

/// Runs a question to its end: the answer is on standard output and in the exit code. A fault is told in a sentence on standard error and
/// ends with the exit code `fault`.
pub fn run_question<F>(common: &CommonArgs, fault: u8, question: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<ExitCode>>,
{
    let answer = block_on(common, telemetry::Output::Error, question);
    telemetry::flush();
    answer.unwrap_or_else(|error| {
        // If nobody reads it, the exit code says that there was a fault.
        drop(writeln!(io::stderr(), "error: {}", telemetry::chain(error.as_ref())));
        ExitCode::from(fault)
    })
}

fn run_with<F>(common: &CommonArgs, logs: telemetry::Output, service: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let result = block_on(common, logs, service);
    if let Err(fault) = &result {
        tracing::error!(event = "fault", error = %telemetry::chain(fault.as_ref()), "the process ends on a fault");
    }
    telemetry::flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// If not even logs can be set up there is no way left for a service to say so.
fn block_on<F, T>(common: &CommonArgs, logs: telemetry::Output, work: impl FnOnce() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    telemetry::init(common.log_format, common.log_level, logs)?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider is installed already");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work())
}
