//! Network namespaces by name, as `ip netns` keeps them.

use std::fs::File;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use super::run;

/// A network namespace; dropping it takes it away with all that is in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// A new namespace with its loopback up.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn new(name: &str) -> Result<Self> {
        run("ip", &["netns", "add", name])?;
        let netns = Self { name: name.to_owned() };
        netns.run("ip", &["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that runs in the namespace.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program).env("PATH", super::search_path());
        command
    }

    /// Runs a program to its end in the namespace.
    ///
    /// # Errors
    /// As [`super::run`].
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        super::output_of(self.command(program).args(arguments)).map(|_| ())
    }

    /// Runs a program to its end in the namespace and returns what it printed.
    ///
    /// # Errors
    /// As [`super::run`].
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        super::output_of(self.command(program).args(arguments))
    }

    /// Starts a thread in the namespace.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<thread::JoinHandle<Result<T>>> {
        let namespace = File::open(self.path()).with_context(|| format!("no namespace {}", self.name))?;
        let body = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).context("could not enter the namespace")?;
            work()
        };
        Ok(thread::Builder::new().name(self.name.chars().take(15).collect()).spawn(body)?)
    }

    /// Runs a piece of this program in the namespace and waits for what it returns.
    ///
    /// # Errors
    /// What the work returns.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.spawn(work)?.join().map_err(|_panic| anyhow!("a piece of the lab panicked in {}", self.name))?
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(run("ip", &["netns", "delete", &self.name]));
    }
}
