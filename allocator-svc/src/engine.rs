//! The one task that owns the state and the records.
//!
//! It takes what waits in its mailbox, decides and applies it, writes all of it in one batch, and only then answers, moves the feed on
//! and wakes the speakers' streams. Readers are never sent a queue: they are woken, and pull what changed since they last did.

mod tell;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mooring_kit::Stop;
use mooring_kit::clock::{Clock, wall};
use mooring_kit::mailbox::{Address, Closed, Mailbox, mailbox};
use mooring_proto::types::assignment::{AllocatorMessage, REPLACED, SpeakerMessage};
use mooring_proto::types::history::PastFact;
use mooring_proto::types::lease::{Epoch, Revision};
use mooring_proto::types::time::Mono;
use tokio::sync::{Notify, oneshot, watch};
use tracing::debug;

use crate::core::{Command, Event, Now, Refusal, SessionId, State, apply, assignment, decide, has_claims_due, history, next_deadline};
use crate::metrics::Metrics;
use crate::store::{Durable, Store};

/// How many requests may wait: 16 full batches, about a tenth of a second of work.
const DEPTH: usize = 4096;

/// How many requests share one flush.
const BATCH: usize = 256;

/// After so many full batches in a row deadlines are looked at although more waits.
const PATIENCE: u32 = 4;

/// How long a turn may work on what follows from its requests; what is left is done by the next ones, so that heartbeats are answered in
/// between: a tenth of the pause between two of them.
const WORK: Duration = Duration::from_millis(20);

/// How often the gauges are brought up to date at most.
const OBSERVE: Duration = Duration::from_millis(500);

/// What a caller does with the state once its command is durable, or with the refusal.
type Then = Box<dyn FnOnce(Result<&State, Refusal>) + Send>;

/// What a command came to, and what its caller does with that.
type Answer = (Result<(), Refusal>, Then);

/// What the engine is asked.
enum Request {
    /// A wish, or only a look at the durable state.
    Do { command: Option<Command>, then: Then },
    /// A speaker's stream opened: wake it through this when there is something for it.
    Open { session: SessionId, wake: Arc<Notify> },
    /// What is there for a speaker's stream?
    Pull { session: SessionId, reply: oneshot::Sender<Option<AllocatorMessage>> },
}

/// Where others reach the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    address: Address<Request>,
    revision: watch::Receiver<Revision>,
}

/// The engine's own end.
pub(crate) struct Owner {
    mailbox: Mailbox<Request>,
    revision: watch::Sender<Revision>,
    state: State,
    store: Store,
    clock: Clock,
    metrics: Metrics,
    streams: BTreeMap<SessionId, Stream>,
    /// Answers that wait until the claims that are due are met or refused.
    unmet: Vec<Answer>,
    full_batches: u32,
    observed: Mono,
    /// Something happened since.
    unobserved: bool,
}

/// How long a speaker whose place another process has taken should stay away.
const STAY_AWAY: Duration = Duration::from_secs(10);

/// What the commands of one turn lead to.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    /// What the history has to say of them.
    past: Vec<PastFact>,
}

/// A speaker's stream.
struct Stream {
    wake: Arc<Notify>,
    revision: Revision,
    /// A speaker said Hello on it: if it is nobody's stream any more, another one has taken its place.
    greeted: bool,
}

impl Engine {
    /// Carries out a wish and hands its durable outcome to `then`, whose result is returned.
    ///
    /// # Errors
    /// The engine has ended.
    pub(crate) async fn command<T: Send + 'static>(
        &self,
        command: Command,
        then: impl FnOnce(Result<&State, Refusal>) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        self.ask_with(Some(command), then).await
    }

    /// Looks at the durable state.
    ///
    /// # Errors
    /// The engine has ended.
    pub(crate) async fn ask<T: Send + 'static>(&self, look: impl FnOnce(&State) -> T + Send + 'static) -> Result<T, Closed> {
        self.ask_with(None, |state| state.ok().map(look)).await?.ok_or(Closed)
    }

    async fn ask_with<T: Send + 'static>(
        &self,
        command: Option<Command>,
        then: impl FnOnce(Result<&State, Refusal>) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (sender, receiver) = oneshot::channel();
        let then: Then = Box::new(move |outcome| {
            if sender.send(then(outcome)).is_err() {
                debug!("a caller did not wait for its answer");
            }
        });
        self.address.send(Request::Do { command, then }).await?;
        receiver.await.map_err(|_ended| Closed)
    }

    /// Announces a stream, and returns what wakes it.
    ///
    /// # Errors
    /// The engine has ended.
    pub(crate) async fn open(&self, session: SessionId) -> Result<Arc<Notify>, Closed> {
        let wake = Arc::new(Notify::new());
        self.address.send(Request::Open { session, wake: Arc::clone(&wake) }).await?;
        Ok(wake)
    }

    /// What there is for a stream; `None` = nothing.
    ///
    /// # Errors
    /// The engine has ended.
    pub(crate) async fn pull(&self, session: SessionId) -> Result<Option<AllocatorMessage>, Closed> {
        let (reply, receiver) = oneshot::channel();
        self.address.send(Request::Pull { session, reply }).await?;
        receiver.await.map_err(|_ended| Closed)
    }

    /// Tells of each new revision of the feed.
    pub(crate) fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }
}

impl Owner {
    /// An engine over records that were read, or over nothing; its leadership begins with [`Owner::run`].
    pub(crate) fn new(state: State, store: Store, clock: Clock, metrics: Metrics) -> (Engine, Self) {
        let (address, mailbox) = mailbox(DEPTH);
        let (sender, receiver) = watch::channel(Revision::default());
        let owner = Self {
            mailbox,
            revision: sender,
            state,
            store,
            clock,
            metrics,
            streams: BTreeMap::new(),
            unmet: Vec::new(),
            full_batches: 0,
            observed: Mono::ZERO,
            unobserved: false,
        };
        (Engine { address, revision: receiver }, owner)
    }

    /// Begins a leadership, then works until asked to stop.
    ///
    /// # Errors
    /// The disk fails: what is on it is then not known, and the process must end.
    pub(crate) async fn run(mut self, epoch: Epoch, ready: impl FnOnce(), stop: Stop) -> anyhow::Result<()> {
        self.turn(vec![Event::EpochBegan(epoch)], Vec::new())?;
        ready();
        loop {
            // What the gauges do not show yet is shown soon, also if nothing more happens.
            let show = self.unobserved.then(|| self.observed + OBSERVE);
            let deadline = next_deadline(&self.state).into_iter().chain(show).min();
            // What waits in the mailbox may be the heartbeat that a deadline is about, so it is looked at first.
            let letters = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                letters = self.mailbox.take(BATCH) => letters,
                () = self.clock.wait_until(deadline) => Vec::new(),
            };
            self.turn(Vec::new(), letters)?;
        }
        self.mailbox.close();
        let rest = self.mailbox.take_now(DEPTH);
        self.turn(Vec::new(), rest)?;
        while !self.unmet.is_empty() {
            self.turn(Vec::new(), Vec::new())?;
        }
        Ok(())
    }

    /// One batch: decide, write, answer.
    fn turn(&mut self, facts: Vec<Event>, letters: Vec<Request>) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        let mut answers: Vec<Answer> = Vec::new();
        let mut pulls = Vec::new();
        let full = letters.len() == BATCH;
        let end = self.clock.now() + WORK;
        self.metrics.batch.observe(f64::from(u32::try_from(letters.len()).unwrap_or(u32::MAX)));
        for fact in facts {
            self.take(fact, &mut batch);
        }
        for letter in letters {
            match letter {
                Request::Do { command: None, then } => answers.push((Ok(()), then)),
                Request::Do { command: Some(command), then } => {
                    if let Command::SpeakerSaid { session, message: SpeakerMessage::Hello(_) } = &command
                        && let Some(stream) = self.streams.get_mut(session)
                    {
                        stream.greeted = true;
                    }
                    let about_claims = is_about_claims(&command);
                    let outcome = self.carry_out(command, &mut batch);
                    self.meet_claims(&mut batch, end);
                    if about_claims { self.unmet.push((outcome, then)) } else { answers.push((outcome, then)) }
                }
                Request::Open { session, wake } => {
                    self.streams.insert(session, Stream { wake, revision: Revision::default(), greeted: false });
                }
                Request::Pull { session, reply } => pulls.push((session, reply)),
            }
        }
        // While batches are full more waits: deadlines can wait for it as well, for a while.
        self.full_batches = if full { self.full_batches.saturating_add(1) } else { 0 };
        let patient = full && self.full_batches < PATIENCE;
        if !patient {
            self.full_batches = 0;
        }
        self.settle(&mut batch, if patient { Mono::ZERO } else { self.clock.now() }, end);
        if !has_claims_due(&self.state) {
            answers.append(&mut self.unmet);
        }
        if let Some(revision) = self.state.feed().next() {
            self.take(Event::RevisionReached(revision), &mut batch);
        }
        let began = self.clock.now();
        self.store.note(batch.past, wall());
        let durable = self.store.append(&batch.events)?;
        if !batch.events.is_empty() {
            self.metrics.flush_seconds.observe(self.clock.now().saturating_since(began).as_secs_f64());
        }
        self.publish(durable, answers, pulls);
        Ok(())
    }

    /// Sends what the batch led to; only what is on disk can be sent.
    fn publish(&mut self, _durable: Durable, answers: Vec<Answer>, pulls: Vec<(SessionId, oneshot::Sender<Option<AllocatorMessage>>)>) {
        for (outcome, then) in answers {
            then(outcome.map(|()| &self.state));
        }
        for (session, reply) in pulls {
            if reply.send(self.tell(session)).is_err() {
                debug!("a stream did not wait for its assignments");
            }
        }
        let revision = self.state.feed().revision();
        self.revision.send_if_modified(|before| std::mem::replace(before, revision) != revision);
        let network = self.state.network();
        self.streams.retain(|session, stream| {
            let speaker = network.speaker_of(*session);
            if speaker.map_or(stream.greeted, |speaker| network.has_untold(speaker)) {
                stream.wake.notify_one();
            }
            speaker.is_some() || Arc::strong_count(&stream.wake) > 1
        });
        self.unobserved = true;
        if self.clock.now().saturating_since(self.observed) >= OBSERVE {
            self.unobserved = false;
            self.observed = self.clock.now();
            self.metrics.observe(&self.state);
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.clock.now(), wall: wall() }
    }

    fn carry_out(&mut self, command: Command, batch: &mut Batch) -> Result<(), Refusal> {
        for event in decide(&self.state, command, self.now())? {
            self.take(event, batch);
        }
        Ok(())
    }

    /// Meets the claims that a command has made due, so that they are met in the order of the commands. Nodes are found for all of a
    /// batch's addresses together.
    fn meet_claims(&mut self, batch: &mut Batch, end: Mono) {
        while has_claims_due(&self.state) && self.clock.now() < end {
            self.tick(batch, self.now());
        }
    }

    /// Does the work that is due by then, as if it were then, for as long as there is time.
    fn settle(&mut self, batch: &mut Batch, by: Mono, end: Mono) {
        while next_deadline(&self.state).is_some_and(|deadline| deadline <= by)
            && self.tick(batch, Now { mono: by, ..self.now() })
            && self.clock.now() < end
        {}
    }

    /// One piece of the work that is due; false if there is none.
    fn tick(&mut self, batch: &mut Batch, now: Now) -> bool {
        let events = decide(&self.state, Command::Tick, now).unwrap_or_default();
        let any = !events.is_empty();
        for event in events {
            self.take(event, batch);
        }
        any
    }

    fn take(&mut self, event: Event, batch: &mut Batch) {
        // What would be is nobody's news.
        if self.state.is_shadow() {
            if event == Event::ShadowBegan {
                self.perform(&event);
            } else {
                debug!(?event, "decided for a shadow");
            }
        } else {
            self.perform(&event);
            batch.past.extend(history::facts(&self.state, &event));
        }
        apply(&mut self.state, &event);
        batch.events.push(event);
    }

    /// What there is for a stream. Its revisions count its messages, so that a lost one is noticed.
    fn tell(&mut self, session: SessionId) -> Option<AllocatorMessage> {
        if self.state.network().speaker_of(session).is_none() {
            let replaced = self.streams.get(&session).is_some_and(|stream| stream.greeted);
            return replaced.then(|| AllocatorMessage::Goodbye { reason: REPLACED.to_owned(), retry_after: STAY_AWAY });
        }
        let stream = self.streams.get_mut(&session)?;
        let revision = stream.revision.next();
        let (message, told) = assignment::next_message(&self.state, session, revision)?;
        stream.revision = revision;
        apply(&mut self.state, &told);
        Some(message)
    }
}

/// Whether a command makes claims due, whose outcome its caller wants to hear.
fn is_about_claims(command: &Command) -> bool {
    match command {
        Command::Allocate { .. } | Command::Release { .. } | Command::Reconcile { .. } | Command::ReplacePools { .. } => true,
        Command::ReserveAddress { .. }
        | Command::DrainNode(_)
        | Command::RestoreNode(_)
        | Command::Rebalance(_)
        | Command::ReleaseReservation(_)
        | Command::ReplaceNodes { .. }
        | Command::ReportBackends { .. }
        | Command::SpeakerSaid { .. }
        | Command::SessionEnded { .. }
        | Command::Tick => false,
    }
}
