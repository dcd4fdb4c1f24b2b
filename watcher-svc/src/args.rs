//! Flags.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use mooring_kit::args::{CommonArgs, Endpoint, ListenAddress};

/// Turns Service events into allocation requests, and writes status and Events.
#[derive(Parser, Clone, Debug)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Args {
    /// Objects come from here: `kube` is a Kubernetes API server, `dir:PATH` are manifests in a directory.
    #[arg(long, env = "MOORING_SOURCE")]
    pub source: Source,
    /// This folder gets what a cluster would hold of the results, if the source is a directory.
    #[arg(long, env = "MOORING_STATUS_DIR", default_value = "./status")]
    pub status_dir: PathBuf,
    /// The watcher writes nothing anywhere and claims nothing that others could miss: it logs where what Mooring would do differs from what is there.
    ///
    /// The allocator decides in memory, beside what it serves. Statuses are only read, also those in --status-dir.
    #[arg(long, env = "MOORING_SHADOW")]
    pub shadow: bool,
    /// The allocator is here: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, env = "MOORING_ALLOCATOR", default_value = "http://127.0.0.1:7470")]
    pub allocator: Endpoint,
    /// The configuration is read from this namespace, and its statuses are written to it.
    #[arg(long, env = "MOORING_NAMESPACE", default_value = "metallb-system")]
    pub namespace: String,
    /// The legacy ConfigMap in that namespace has this name.
    #[arg(long, env = "MOORING_CONFIG", default_value = "config")]
    pub config: String,
    /// Only Services with just this spec.loadBalancerClass are served; without the flag only those that have none.
    #[arg(long, env = "MOORING_LB_CLASS")]
    pub lb_class: Option<String>,
    /// Probes and metrics are served here over HTTP: IP:PORT.
    #[arg(long, env = "MOORING_ADMIN", default_value = "127.0.0.1:7473")]
    pub admin: SocketAddr,
    /// Health and reflection by gRPC are served here: IP:PORT, or unix:PATH; port 0 picks a free port, and the log says which.
    #[arg(long, env = "MOORING_LISTEN", default_value = "127.0.0.1:7475")]
    pub listen: ListenAddress,
    /// What all services have.
    #[command(flatten)]
    pub common: CommonArgs,
}

const EXAMPLES: &str = "Examples:
  watcher-svc --source dir:./manifests --status-dir ./status
  watcher-svc --source kube --allocator http://mooring-allocator:7470 --insecure
  watcher-svc --source kube --lb-class mooring.io/layer2
  watcher-svc --source kube --shadow --log-format text";

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Kubernetes API server.
    Kube,
    /// Manifests in a directory.
    Dir(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("dir:") {
            Some(path) if !path.is_empty() => Ok(Self::Dir(path.into())),
            None if text == "kube" => Ok(Self::Kube),
            _ => Err("want kube or dir:PATH".to_owned()),
        }
    }
}

impl Args {
    /// Ends the process with exit code 2 if the flags contradict each other.
    pub fn check(&self) {
        self.common.check_listen::<Self>(&self.listen);
        self.common.check_allocator::<Self>(&self.allocator);
    }
}
