//! Programs on a host: started, watched through their log, killed, started again.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Host, until};

/// How to start a program.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    waits_for_input: bool,
}

impl Program {
    /// A program by its path, or by its name in the search path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), arguments: Vec::new(), variables: Vec::new(), waits_for_input: false }
    }

    /// One of the project's own binaries.
    ///
    /// # Errors
    /// It is not built.
    pub fn own(name: &str) -> Result<Self> {
        Ok(Self::new(super::binary(name)?))
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Gives it an input that says nothing and does not end, as a person at a terminal does.
    #[must_use]
    pub fn with_person(mut self) -> Self {
        self.waits_for_input = true;
        self
    }

    /// Starts it on a host.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(self, host: &Host) -> Result<Process> {
        let command = host.netns().command(&self.path);
        Process::start(self, command)
    }
}

/// A program that runs, or ran. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    program: Program,
    /// How it is put into its namespace.
    entry: (OsString, Vec<OsString>),
    child: Child,
    lines: Receiver<String>,
    log: Vec<Value>,
    written: Vec<String>,
    stderr: PathBuf,
}

impl Process {
    fn start(program: Program, command: Command) -> Result<Self> {
        let entry = (command.get_program().to_owned(), command.get_args().map(ToOwned::to_owned).collect());
        let name = program.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stderr = std::env::temp_dir().join(format!("mooring-lab-{name}-{}.stderr", unique()));
        let (child, lines) = spawn(&entry, &program, &stderr)?;
        Ok(Self { program, entry, child, lines, log: Vec::new(), written: Vec::new(), stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log so far: each line that is JSON, any other as text.
    pub fn log(&mut self) -> &[Value] {
        while let Ok(line) = self.lines.try_recv() {
            self.note(line);
        }
        &self.log
    }

    fn note(&mut self, line: String) {
        self.log.push(serde_json::from_str(&line).unwrap_or_else(|_text| Value::String(line.clone())));
        self.written.push(line);
    }

    /// Its log so far, each line as it was written.
    pub fn written(&mut self) -> &[String] {
        self.log();
        &self.written
    }

    /// The log lines of an event so far.
    pub fn events(&mut self, event: &str) -> Vec<Value> {
        self.log().iter().filter(|line| line["event"] == event).cloned().collect()
    }

    /// What it wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// All that it said so far, for whoever reads why a scenario failed.
    pub fn said(&mut self) -> String {
        let stderr = self.stderr();
        format!("{:?} {stderr}", self.log())
    }

    /// Waits for a log line with these keys and values.
    ///
    /// # Errors
    /// It does not come in time, or the program ends.
    pub fn wait_for(&mut self, wanted: &Value) -> Result<Value> {
        self.wait_for_within(Duration::from_secs(10), wanted)
    }

    /// Waits so long for a log line with these keys and values.
    ///
    /// # Errors
    /// As [`Process::wait_for`].
    pub fn wait_for_within(&mut self, limit: Duration, wanted: &Value) -> Result<Value> {
        until(limit, &format!("log line {wanted}"), || {
            let found = self.log().iter().find(|line| has(line, wanted)).cloned();
            if let Some(line) = found {
                return Ok(line);
            }
            let end = self.child.try_wait()?.map(|status| format!("ended with {status}: {}", self.stderr()));
            bail!("{}; last lines: {:?}", end.unwrap_or_default(), self.log.iter().rev().take(5).collect::<Vec<_>>())
        })
    }

    /// Ends it as a crash does.
    ///
    /// # Errors
    /// It has ended already.
    pub fn kill_9(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "{} has ended already: {}", self.program.path.display(), self.stderr());
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and returns how it did.
    ///
    /// # Errors
    /// It does not end within 15 s.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.ask_to_end()?;
        self.wait_end()
    }

    /// Asks it to end, as SIGTERM does, and waits for nothing.
    ///
    /// # Errors
    /// It has ended.
    pub fn ask_to_end(&self) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.pid())?), Signal::SIGTERM)?)
    }

    /// Stops or resumes it, as SIGSTOP and SIGCONT do.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        Ok(kill(Pid::from_raw(i32::try_from(self.pid())?), signal)?)
    }

    /// Waits for its end, and for what it said last: a program can be gone before its last lines are read.
    ///
    /// # Errors
    /// It does not end within 15 s.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let name = self.program.path.display().to_string();
        let status = until(Duration::from_secs(15), &format!("the end of {name}"), || self.child.try_wait()?.context("it runs"))?;
        // Whoever it left behind may hold its output open.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.note(line);
        }
        Ok(status)
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Starts it again with the same arguments. Its log begins anew.
    ///
    /// # Errors
    /// It still runs, or cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.try_wait()?.is_some(), "{} still runs", self.program.path.display());
        (self.child, self.lines) = spawn(&self.entry, &self.program, &self.stderr)?;
        self.log.clear();
        self.written.clear();
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(std::fs::remove_file(&self.stderr));
    }
}

fn spawn(entry: &(OsString, Vec<OsString>), program: &Program, stderr: &PathBuf) -> Result<(Child, Receiver<String>)> {
    let mut command = Command::new(&entry.0);
    command.args(&entry.1).args(&program.arguments).envs(program.variables.iter().cloned()).env("PATH", super::search_path());
    command.stdin(if program.waits_for_input { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(File::create(stderr)?);
    let mut child = command.spawn().with_context(|| format!("could not start {command:?}"))?;
    let stdout = child.stdout.take().context("no standard output")?;
    let (sender, lines) = mpsc::channel();
    let mut kept = kept(program, child.id())?;
    let read = move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(file) = &mut kept {
                drop(writeln!(file, "{line}"));
            }
            if sender.send(line).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("log".to_owned()).spawn(read)?;
    Ok((child, lines))
}

/// A file for the log in the folder that `MOORING_LAB_LOGS` names, for whoever wants to read all of it afterwards.
fn kept(program: &Program, pid: u32) -> Result<Option<File>> {
    let Some(folder) = std::env::var_os("MOORING_LAB_LOGS") else { return Ok(None) };
    std::fs::create_dir_all(&folder)?;
    let name = program.path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(File::create(PathBuf::from(folder).join(format!("{name}-{pid}.log")))?))
}

fn has(line: &Value, wanted: &Value) -> bool {
    wanted.as_object().is_some_and(|keys| keys.iter().all(|(key, value)| line.get(key) == Some(value)))
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
