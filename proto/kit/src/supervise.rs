//! Named tasks and threads; the first fault stops them all, and then the process.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, info};

use crate::Stop;
use crate::shutdown::Signals;

/// How many tasks may wait to be taken over by the supervisor; it takes them at once, so few ever do.
const STARTING: usize = 256;

/// What a task or thread comes to.
pub type Outcome = anyhow::Result<()>;

/// How a task's end is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It lives as long as the process: an end unasked is a fault.
    Permanent,
    /// It may end when its work is done.
    Transient,
}

struct Started {
    name: String,
    life: Life,
    work: std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>,
}

struct Ended {
    name: String,
    life: Life,
    outcome: Outcome,
}

/// Runs named tasks and threads until they are asked to stop or one of them fails.
pub struct Supervisor {
    stop: Stop,
    running: JoinSet<Ended>,
    spawner: Spawner,
    starting: mpsc::Receiver<Started>,
}

/// Starts more tasks and threads under the same supervisor, later.
#[derive(Clone, Debug)]
pub struct Spawner {
    stop: Stop,
    starting: mpsc::Sender<Started>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("name", &self.name).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Supervises nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let stop = Stop::new();
        let (sender, starting) = mpsc::channel(STARTING);
        Self { spawner: Spawner { stop: stop.clone(), starting: sender }, stop, running: JoinSet::new(), starting }
    }

    /// Is cancelled when the process is asked to end, or something failed.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Starts more later.
    #[must_use]
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Starts a task that lives as long as the process.
    pub fn task(&mut self, name: impl Into<String>, work: impl Future<Output = Outcome> + Send + 'static) {
        self.start(Started { name: name.into(), life: Life::Permanent, work: Box::pin(work) });
    }

    /// Starts a thread that lives as long as the process.
    pub fn thread(&mut self, name: impl Into<String>, work: impl FnOnce(&Stop) -> Outcome + Send + 'static) {
        let name = name.into();
        let work = on_thread(&name, self.stop.clone(), work);
        self.start(Started { name, life: Life::Permanent, work: Box::pin(work) });
    }

    fn start(&mut self, started: Started) {
        let Started { name, life, work } = started;
        self.running.spawn(async move { Ended { name, life, outcome: work.await } });
    }

    /// Runs until a signal or a fault, then gives the tasks `drain` to end.
    ///
    /// # Errors
    /// The first fault: a task that failed, panicked, or ended unasked.
    pub async fn run(self, drain: Duration) -> Outcome {
        let signals = Signals::new()?;
        self.run_with(drain, signals).await
    }

    async fn run_with(mut self, drain: Duration, mut signals: Signals) -> Outcome {
        let mut fault = None;
        while fault.is_none() && !self.stop.is_cancelled() {
            tokio::select! {
                signal = signals.next() => {
                    info!(event = "stopping", signal, "asked to end");
                    self.stop.cancel();
                }
                Some(started) = self.starting.recv() => self.start(started),
                Some(ended) = self.running.join_next() => fault = fault_of(ended, self.stop.is_cancelled()),
                () = self.stop.cancelled() => {}
            }
        }
        self.stop.cancel();
        let emptied = async {
            loop {
                tokio::select! {
                    Some(started) = self.starting.recv() => self.start(started),
                    ended = self.running.join_next() => match ended {
                        Some(ended) => fault = fault.take().or_else(|| fault_of(ended, true)),
                        None => break,
                    },
                }
            }
        };
        tokio::select! {
            () = emptied => {}
            () = crate::backoff::pause(drain) => debug!(?drain, "tasks did not end in time"),
            signal = signals.next() => info!(event = "stopping", signal, "asked again: ending at once"),
        }
        fault.map_or(Ok(()), Err)
    }
}

impl Spawner {
    /// Is cancelled when the process is asked to end, or something failed.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Starts a task that may end when its work is done; if it fails, the process does.
    pub async fn task(&self, name: impl Into<String>, work: impl Future<Output = Outcome> + Send + 'static) {
        self.start(Started { name: name.into(), life: Life::Transient, work: Box::pin(work) }).await;
    }

    /// Starts a thread that may end when its work is done; if it fails, the process does.
    pub async fn thread(&self, name: impl Into<String>, work: impl FnOnce(&Stop) -> Outcome + Send + 'static) {
        let name = name.into();
        let work = on_thread(&name, self.stop.clone(), work);
        self.start(Started { name, life: Life::Transient, work: Box::pin(work) }).await;
    }

    async fn start(&self, started: Started) {
        if let Err(refused) = self.starting.send(started).await {
            debug!(task = refused.0.name, "not started: the process ends");
        }
    }
}

fn fault_of(ended: Result<Ended, tokio::task::JoinError>, asked: bool) -> Option<anyhow::Error> {
    match ended {
        Err(error) if error.is_cancelled() => None,
        Err(error) => Some(anyhow::anyhow!("a task panicked: {}", text_of(error.into_panic().as_ref()))),
        Ok(Ended { name, outcome: Err(error), .. }) => Some(error.context(format!("task {name} failed"))),
        Ok(Ended { name, life: Life::Permanent, .. }) if !asked => Some(anyhow::anyhow!("task {name} ended unasked")),
        Ok(Ended { name, .. }) => {
            debug!(task = name, "ended");
            None
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

/// Runs the work on a thread of its own and waits for its end.
fn on_thread(
    name: &str,
    stop: Stop,
    work: impl FnOnce(&Stop) -> Outcome + Send + 'static,
) -> impl Future<Output = Outcome> + Send + 'static {
    let (done, ended) = oneshot::channel();
    let body = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&stop)))
            .unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", text_of(panic.as_ref()))));
        if done.send(outcome).is_err() {
            debug!("a thread outlived its supervisor");
        }
    };
    let spawned = std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(body);
    async move {
        spawned?;
        ended.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signals() -> Signals {
        Signals::new().unwrap()
    }

    #[tokio::test]
    async fn the_first_fault_stops_the_rest_and_is_returned() {
        let mut supervisor = Supervisor::new();
        let stop = supervisor.stop();
        supervisor.task("patient", async move {
            stop.cancelled().await;
            Ok(())
        });
        supervisor.thread("broken", |_| anyhow::bail!("no such device"));
        let fault = supervisor.run_with(Duration::from_secs(60), signals()).await.unwrap_err();
        assert_eq!(format!("{fault:#}"), "task broken failed: no such device");
    }

    #[tokio::test]
    async fn an_end_unasked_and_a_panic_are_faults_and_a_finished_transient_is_none() {
        let mut supervisor = Supervisor::new();
        supervisor.task("short", async { Ok(()) });
        let fault = supervisor.run_with(Duration::from_secs(60), signals()).await.unwrap_err();
        assert_eq!(fault.to_string(), "task short ended unasked");

        let mut supervisor = Supervisor::new();
        supervisor.thread("loud", |_| panic!("boom"));
        let fault = supervisor.run_with(Duration::from_secs(60), signals()).await.unwrap_err();
        assert_eq!(format!("{fault:#}"), "task loud failed: panicked: boom");

        let mut supervisor = Supervisor::new();
        let (spawner, stop) = (supervisor.spawner(), supervisor.stop());
        supervisor.task("parent", async move {
            let (sender, receiver) = oneshot::channel();
            spawner.task("child", async move { sender.send(()).map_err(|()| anyhow::anyhow!("parent is gone")) }).await;
            receiver.await?;
            spawner.stop().cancel();
            stop.cancelled().await;
            Ok(())
        });
        supervisor.run_with(Duration::from_secs(60), signals()).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_left_behind_after_the_drain() {
        let mut supervisor = Supervisor::new();
        supervisor.task("stubborn", std::future::pending());
        supervisor.stop().cancel();
        supervisor.run_with(Duration::from_millis(1), signals()).await.unwrap();
    }
}
