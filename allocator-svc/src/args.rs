//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};
use mooring_kit::args::{CommonArgs, Endpoint, ListenAddress, bad_flag, duration};

use crate::core::Settings;
use crate::store::HistoryLimits;

/// Leases addresses to Services, keeps them on disk, and decides which node announces what.
#[derive(Parser, Clone, Debug)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Args {
    /// The gRPC services are served here: IP:PORT, or unix:PATH; port 0 picks a free port, and the log says which.
    #[arg(long, env = "MOORING_LISTEN", default_value = "127.0.0.1:7470")]
    pub listen: ListenAddress,
    /// Probes and metrics are served here over HTTP: IP:PORT.
    #[arg(long, env = "MOORING_ADMIN", default_value = "127.0.0.1:7472")]
    pub admin: SocketAddr,
    /// This folder holds the records; it is made if it is not there.
    #[arg(long, env = "MOORING_DATA_DIR", default_value = "./data", global = true)]
    pub data_dir: PathBuf,
    /// A node that is silent for this time, such as 800ms, is lost, and its addresses move.
    #[arg(long, env = "MOORING_SPEAKER_TTL", default_value = "800ms", value_parser = duration)]
    pub speaker_ttl: Duration,
    /// Every speaker says once in this time, such as 200ms, that it lives; it must be shorter than --speaker-ttl.
    #[arg(long, env = "MOORING_HEARTBEAT", default_value = "200ms", value_parser = duration)]
    pub heartbeat: Duration,
    /// After a start the speakers that announced something are waited for, for this time, such as 2s, from the moment when the first one has come.
    #[arg(long, env = "MOORING_RECOVERY_WINDOW", default_value = "2s", value_parser = duration)]
    pub recovery_window: Duration,
    /// Addresses outlive the pool that they came from by this time, such as 10s.
    #[arg(long, env = "MOORING_POOL_GRACE", default_value = "10s", value_parser = duration)]
    pub pool_grace: Duration,
    /// At most so many addresses move in a minute to spread the load over the nodes; with 0 none does.
    #[arg(long, env = "MOORING_REBALANCE", default_value_t = 0)]
    pub rebalance: u32,
    /// The addresses of a Service that is gone stay reserved for one of its name for this time, such as 24h; with 0s they do not. A Service
    /// says otherwise by its annotation mooring.io/retain.
    #[arg(long, env = "MOORING_RETAIN", default_value = "0s", value_parser = duration)]
    pub retain: Duration,
    /// Who held which address is kept for this time, such as 90d; with 0s it is kept as long as --history-size has room.
    #[arg(long, env = "MOORING_HISTORY_AGE", default_value = "90d", value_parser = duration)]
    pub history_age: Duration,
    /// At most so many facts of who held which address are kept, of about 150 bytes each; with 0 none is.
    #[arg(long, env = "MOORING_HISTORY_SIZE", default_value_t = 100_000)]
    pub history_size: u64,
    /// What all services have.
    #[command(flatten)]
    pub common: CommonArgs,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Task>,
}

const EXAMPLES: &str = "Examples:
  allocator-svc --data-dir /var/lib/mooring
  allocator-svc --listen unix:/run/mooring/allocator.sock
  allocator-svc export --data-dir /var/lib/mooring > records.jsonl
  allocator-svc plan --pools pools.yaml";

/// What to do instead of serving.
#[derive(Subcommand, Clone, Debug)]
pub enum Task {
    /// Writes every record that can be read to standard output, one JSON object a line; the allocator must not run.
    Export,
    /// Reads records as `export` writes them from standard input into an empty data directory.
    Import,
    /// Asks a running allocator what the configuration in a file would do if it replaced the present one, prints it as a table, and
    /// changes nothing. Exit code 0: nothing would change; 1: something would; 2: bad flags; 3: a fault.
    Plan(PlanArgs),
}

/// What a plan is made of.
#[derive(ClapArgs, Clone, Debug)]
pub struct PlanArgs {
    /// This file has the whole configuration, as YAML or JSON: all IPAddressPools and L2Advertisements, or the legacy ConfigMap; `-` is
    /// standard input.
    #[arg(long, env = "MOORING_POOLS", value_name = "FILE")]
    pub pools: PathBuf,
    /// The allocator is asked here: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, env = "MOORING_ALLOCATOR", default_value = "http://127.0.0.1:7470")]
    pub allocator: Endpoint,
    /// The configuration is in this namespace; objects of the file in another one do not count.
    #[arg(long, env = "MOORING_NAMESPACE", default_value = "metallb-system")]
    pub namespace: String,
}

impl Args {
    /// Ends the process with exit code 2 if the flags contradict each other.
    pub fn check(&self) {
        match &self.command {
            Some(Task::Plan(plan)) => self.common.check_allocator::<Self>(&plan.allocator),
            Some(Task::Export | Task::Import) | None => self.common.check_listen::<Self>(&self.listen),
        }
        if self.heartbeat.is_zero() || self.speaker_ttl <= self.heartbeat {
            let (ttl, heartbeat) = (self.speaker_ttl, self.heartbeat);
            bad_flag::<Self>(&format!("--speaker-ttl {ttl:?} must be longer than --heartbeat {heartbeat:?}, which must not be 0"));
        }
    }

    /// What the flags say about decisions.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            heartbeat: self.heartbeat,
            speaker_ttl: self.speaker_ttl,
            recovery_window: self.recovery_window,
            pool_grace: self.pool_grace,
            rebalance: self.rebalance,
            retain: self.retain,
        }
    }

    /// What the flags say about the history.
    #[must_use]
    pub fn history(&self) -> HistoryLimits {
        HistoryLimits { age: self.history_age, size: self.history_size }
    }
}

#[cfg(test)]
mod tests;
