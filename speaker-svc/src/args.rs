//! The flags, and the configuration that they become.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use mooring_kit::args::{CommonArgs, Endpoint, ListenAddress, bad_flag, duration};
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use regex::Regex;

use crate::net::links::NameFilter;

/// The interfaces that MetalLB's chart leaves out: those of containers and tunnels, and the loopback (MetalLB behaviour 7).
const EXCLUDED: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];

/// Where MetalLB's speaker finds the node's name.
const METALLB_NODE_NAME: &str = "METALLB_NODE_NAME";

/// Answers ARP and neighbor solicitations on a node for the addresses that the allocator assigns to it.
#[derive(Parser, Clone, Debug)]
#[command(name = "speaker-svc", version)]
pub struct Args {
    /// The allocator is here: http://HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, env = "MOORING_ALLOCATOR", default_value = "http://127.0.0.1:7470", value_name = "ADDRESS")]
    pub allocator: Endpoint,
    /// This is the name of the node that the speaker runs on; the variable METALLB_NODE_NAME is read too.
    #[arg(long, env = "MOORING_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// This tells the speakers of a node apart, where a node runs several.
    #[arg(long, env = "MOORING_INSTANCE", default_value = "default", value_name = "NAME")]
    pub instance: String,
    /// Only interfaces are used whose name one of these regular expressions, repeated or separated by commas, matches anywhere; without the flag all are.
    #[arg(long, env = "MOORING_INTERFACES", value_delimiter = ',', value_name = "REGEX")]
    pub interfaces: Vec<Regex>,
    /// Interfaces are never used whose name one of these regular expressions, repeated or separated by commas, matches anywhere; if it is empty none is left out.
    #[arg(long, env = "MOORING_EXCLUDE_INTERFACES", value_delimiter = ',', default_values = EXCLUDED, value_name = "REGEX")]
    pub exclude_interfaces: Vec<Regex>,
    /// Each announced address is announced again once in this time on average, as switches forget; with 0 never.
    #[arg(long, env = "MOORING_REFRESH", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub refresh: Duration,
    /// Probes and metrics are served here over HTTP: IP:PORT.
    #[arg(long, env = "MOORING_ADMIN", default_value = "127.0.0.1:7474", value_name = "ADDRESS")]
    pub admin: SocketAddr,
    /// The gRPC services are served here: IP:PORT, or unix:PATH; port 0 picks a free port, and the log says which.
    #[arg(long, env = "MOORING_LISTEN", default_value = "127.0.0.1:7471", value_name = "ADDRESS")]
    pub listen: ListenAddress,
    /// The flags that all services have.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The flags, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the allocator is.
    pub allocator: Endpoint,
    /// Who we are.
    pub speaker: SpeakerId,
    /// Which interfaces may be used.
    pub filter: NameFilter,
    /// Mean pause between two refreshes; `None` = never.
    pub refresh: Option<Duration>,
    /// Where probes and metrics are served.
    pub admin: SocketAddr,
    /// Where gRPC is served.
    pub listen: ListenAddress,
    /// What all services have.
    pub common: CommonArgs,
}

impl Args {
    /// Checks the flags; ends the process with exit code 2 if they are wrong.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.common.check_listen::<Self>(&self.listen);
        self.common.check_allocator::<Self>(&self.allocator);
        let metallb = std::env::var(METALLB_NODE_NAME).ok();
        self.checked(metallb.as_deref()).unwrap_or_else(|message| bad_flag::<Self>(&message))
    }

    fn checked(self, metallb_node_name: Option<&str>) -> Result<Config, String> {
        let given = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let named = given(self.node_name.as_deref()).map(|text| ("--node-name", text));
        let named = named.or_else(|| given(metallb_node_name).map(|text| (METALLB_NODE_NAME, text)));
        let (flag, text) = named.ok_or("must specify --node-name or METALLB_NODE_NAME")?;
        let node = text.parse::<NodeName>().map_err(|error| format!("{flag}: {error}"))?;
        let instance = match self.instance.as_str() {
            "" => Instance::default(),
            text => text.parse().map_err(|error| format!("--instance: {error}"))?,
        };
        // An empty pattern would match every name; who writes one means none.
        let given = |patterns: Vec<Regex>| patterns.into_iter().filter(|pattern| !pattern.as_str().is_empty()).collect();
        Ok(Config {
            allocator: self.allocator,
            speaker: SpeakerId { node, instance },
            filter: NameFilter { only: given(self.interfaces), except: given(self.exclude_interfaces) },
            refresh: Some(self.refresh).filter(|refresh| !refresh.is_zero()),
            admin: self.admin,
            listen: self.listen,
            common: self.common,
        })
    }
}

#[cfg(test)]
mod tests;
