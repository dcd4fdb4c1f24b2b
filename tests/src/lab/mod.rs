//! A LAN in a namespace tree of its own: a bridge, hosts on it, and processes in them.
//!
//! Everything lives in the mount, network and process namespaces that [`enter`] makes, so it needs no root, touches nothing of the
//! host, and is gone when the program ends, however it ends: files too, as they are on a file system in memory. One LAN exists at a time.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use mooring_proto::types::node::MacAddress;
use tempfile::TempDir;

pub mod bench;
pub mod capture;
pub mod certs;
pub mod cluster;
pub mod host;
pub mod ndp;
pub mod netns;
pub mod process;
pub mod until;
pub mod workloads;

pub use host::Host;
pub use process::{Process, Program};
pub use until::until;

/// Says that the program is in the lab's namespaces already, and which process outside began it.
const INSIDE: &str = "MOORING_LAB";

/// A file system of the lab's own, in memory: names of namespaces (`ip netns` wants them here) and every temporary file.
const OWN: &str = "/run";

/// The address of the bridge itself, where this program is.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// The ranges from which the lab's VIPs come: every node answers to them as its own once a frame has reached it.
pub const VIP_RANGES: [&str; 3] = ["172.17.200.0/24", "172.17.201.0/24", "fd00:200::100/120"];

/// Moves this program into a namespace tree of its own, by starting it again there; returns only once inside.
///
/// # Errors
/// The namespaces cannot be made, or a program that the lab runs is missing.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_none() {
        let me = std::env::current_exe()?;
        let mut unshare = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.args(["--mount", "--net", "--pid", "--fork", "--kill-child=SIGKILL", "--mount-proc", "--"]);
        unshare.arg(me).args(std::env::args_os().skip(1)).env(INSIDE, std::process::id().to_string()).env("TMPDIR", OWN);
        return Err(unshare.exec()).context("could not start `unshare` (package util-linux)");
    }
    run("mount", &["-t", "tmpfs", "tmpfs", OWN])?;
    fs::create_dir_all(Path::new(OWN).join("netns"))?;
    run("ip", &["link", "set", "lo", "up"])
}

/// Shell functions to paste outside: `lab COMMAND` runs one beside the control plane, `on HOST COMMAND` on a host of the LAN.
#[must_use]
pub fn ways_in() -> [String; 2] {
    let user = if user_namespace() { "--user --preserve-credentials " } else { "" };
    [
        format!("lab() {{ nsenter --target {} {user}--mount --net --pid -- \"$@\"; }}", inner()),
        "on() { local host=$1; shift; lab nsenter --net=/run/netns/$host -- \"$@\"; }".to_owned(),
    ]
}

/// The name that a file of the lab has outside, for a shell.
#[must_use]
pub fn from_outside(path: &Path) -> String {
    format!("/proc/{}/root{}", inner(), path.display())
}

/// This program's process id outside, for a shell: it is the only child of the process that began it.
fn inner() -> String {
    format!("$(pgrep --parent {})", std::env::var(INSIDE).unwrap_or_default())
}

/// Whether the lab has a user namespace of its own, as it has if root did not start it.
fn user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.split_whitespace().nth(2) != Some("4294967295"))
}

/// Runs a program to its end.
///
/// # Errors
/// It is missing, or ends with another exit code than 0: its output is in the error.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    output(program, arguments).map(|_| ())
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// As [`run`].
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    output_of(Command::new(program).args(arguments))
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// As [`run`].
pub fn output_of(command: &mut Command) -> Result<String> {
    let done = command.env("PATH", search_path()).output().with_context(|| format!("could not start {command:?}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        bail!("{command:?}: {}: {text}{}", done.status, String::from_utf8_lossy(&done.stderr));
    }
    Ok(text)
}

/// Where programs are looked for: Debian keeps some of them out of a user's path.
#[must_use]
pub fn search_path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// One of the project's own binaries, built beside this program.
///
/// # Errors
/// It is not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let beside = me.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.with_context(|| format!("{name} is not built: run `cargo build --workspace --bins`"))
}

/// A LAN. Dropping it ends its processes and takes it down.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Host>,
    folder: TempDir,
}

impl Lab {
    /// A bridge without hosts.
    ///
    /// # Errors
    /// The kernel refuses, or another LAN is up.
    pub fn new() -> Result<Self> {
        run("ip", &["link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
        run("ip", &["address", "add", &format!("{BRIDGE}/16"), "dev", "br0"])?;
        run("ip", &["link", "set", "br0", "up"])?;
        Ok(Self { hosts: Vec::new(), folder: TempDir::with_prefix("mooring-lab-")? })
    }

    /// A LAN of three nodes, a client, and a host for the control plane.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn of_three_nodes() -> Result<Self> {
        let mut lab = Self::new()?;
        for (name, last) in [("control", 2), ("node-a", 11), ("node-b", 12), ("node-c", 13), ("client", 100)] {
            let host = Host::new(name, Ipv4Addr::new(172, 17, 0, last))?;
            if name.starts_with("node-") {
                host.serve_vips()?;
            }
            lab.hosts.push(host);
        }
        Ok(lab)
    }

    /// The same LAN, with its folder below another one, on a disk: for benchmarks in which the disk counts.
    ///
    /// # Errors
    /// No folder can be made there.
    pub fn on_disk(mut self, parent: &str) -> Result<Self> {
        self.folder = TempDir::with_prefix_in("mooring-lab-", parent)?;
        Ok(self)
    }

    /// A host by name.
    ///
    /// # Panics
    /// There is no such host.
    #[must_use]
    #[expect(clippy::panic, reason = "a test that names a host which it did not make is wrong")]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name() == name).unwrap_or_else(|| panic!("no host {name}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.name().starts_with("node-"))
    }

    /// Plugs one more cable into a host, as an interface of this name and hardware address that is up and has no address; on the LAN, or, if
    /// `bridge` says so, on another one. It goes with the host.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn plug(&self, host: &Host, interface: &str, mac: MacAddress, bridge: &str) -> Result<()> {
        let port = format!("{interface}-{}", host.name());
        let mac = mac.to_string();
        run("ip", &["link", "add", &port, "type", "veth", "peer", "name", interface, "address", &mac, "netns", host.name()])?;
        run("ip", &["link", "set", &port, "master", bridge, "up"])?;
        host.netns().run("ip", &["link", "set", interface, "up"])
    }

    /// A folder that lives as long as the LAN.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hosts.clear();
        if let Err(error) = run("ip", &["link", "delete", "br0"]) {
            eprintln_once(&error);
        }
    }
}

#[expect(clippy::print_stderr, reason = "a LAN that cannot be taken down is told to whoever runs the test")]
fn eprintln_once(error: &anyhow::Error) {
    eprintln!("lab: {error:#}");
}
