//! The stream to the allocator: opened again and again, for as long as the speaker lives.
//!
//! A session is one call on a connection of its own, so a connection that hangs is left with it. The engine says what is to be said,
//! beginning with `Hello`; the session adds heartbeats, and counts those that no word of the allocator has followed. It does so from the
//! allocator's first word on: until then it may be connecting, or have much to do, which is a matter of patience and not of heartbeats.
//! When a session ends the engine is told, and keeps everything.

use std::time::Duration;

use futures::{StreamExt as _, TryFutureExt as _};
use mooring_kit::Stop;
use mooring_kit::backoff::{Backoff, pause};
use mooring_kit::mailbox::{Address, Mailbox, mailbox};
use mooring_kit::telemetry::chain;
use mooring_proto::convert::Violations;
use mooring_proto::pb;
use mooring_proto::pb::assignment_service_client::AssignmentServiceClient;
use mooring_proto::types::assignment::{AllocatorMessage, HEARTBEAT, REPLACED, SpeakerMessage};
use mooring_proto::types::lease::Revision;
use tokio::select;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

use crate::engine::Input;
use crate::logs;

/// Heartbeats without a word of the allocator after which nobody is there: together the allocator's default for `--speaker-ttl`, so both sides
/// give a session up at about the same time.
pub const MISSED: u64 = 4;

/// The first pause between two attempts; it doubles up to the longest, short enough that a restarted allocator has heard all its
/// speakers within its recovery window of 2 s.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// See [`FIRST_PAUSE`].
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long the allocator's first word may take, its connection included. It grows with each attempt in vain, so that an allocator with
/// thousands of speakers to greet is not asked again before it can have answered.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(4);
/// See [`FIRST_PATIENCE`].
pub const LONGEST_PATIENCE: Duration = Duration::from_secs(32);

/// The longest pause an allocator may ask for by its farewell: silence for longer is no better than a lost allocator.
pub const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// How long the last messages may take to arrive when the process ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// Messages of the engine that may wait; policy: a session that cannot take one is given up.
const OUTBOX: usize = 64;

/// Messages between session and connection; the connection's own window follows.
const WIRE: usize = 16;

/// Heartbeats that may be due before a message is written: a connection that is slower than that is none.
const BEATS_TO_WRITE: u32 = 2;

/// The largest message of an allocator: a snapshot of some 200,000 VIPs.
const LARGEST: usize = 64 << 20;

/// Opens sessions until `stop`. Whatever keeps one from working, be it a certificate file that is just being replaced, is tried again.
///
/// # Errors
/// None; the signature is that of a task.
pub async fn run(connect: impl Fn() -> anyhow::Result<Channel> + Send, engine: Address<Input>, stop: Stop) -> anyhow::Result<()> {
    let mut attempts = Attempts::new();
    loop {
        let (worked, end) = match connect() {
            Ok(channel) => {
                let (mut session, outbox) = Session::open(channel);
                if engine.send(Input::SessionOpened(outbox)).await.is_err() {
                    // The engine's end is the engine's to explain.
                    return Ok(());
                }
                let end = select! {
                    biased;
                    () = stop.cancelled() => {
                        session.close().await;
                        return Ok(());
                    }
                    end = session.serve(&engine, attempts.patience()) => end,
                };
                if engine.send(Input::SessionClosed).await.is_err() {
                    return Ok(());
                }
                (session.has_worked(), end)
            }
            Err(error) => (false, End::Lost(Lost::Channel(error.into()))),
        };
        select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = pause(attempts.after(worked, end)) => {}
        }
    }
}

/// What the sessions so far mean for the next one.
struct Attempts {
    backoff: Backoff,
    patience: Backoff,
    /// A session failed, and none has worked since.
    failing: bool,
    /// Another process took our place, and somebody was told.
    replaced: bool,
}

impl Attempts {
    fn new() -> Self {
        let (backoff, patience) = (Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), Backoff::new(FIRST_PATIENCE, LONGEST_PATIENCE));
        Self { backoff, patience, failing: false, replaced: false }
    }

    /// How long the next session's first word may take.
    fn patience(&mut self) -> Duration {
        self.patience.next_pause()
    }

    /// Says how a session ended, and how long to rest before the next one. Only one that worked begins anew: an allocator that is heard and
    /// refused each time must not be asked without rest.
    fn after(&mut self, worked: bool, end: End) -> Duration {
        if worked {
            *self = Self { replaced: self.replaced, ..Self::new() };
        }
        match end {
            End::Goodbye { reason, .. } if reason == REPLACED => {
                // Once for good: the two take turns from now on.
                if std::mem::replace(&mut self.replaced, true) {
                    debug!(event = logs::SESSION_REPLACED, reason, "the allocator listens to another speaker in our place");
                } else {
                    warn!(event = logs::SESSION_REPLACED, reason, "the allocator listens to another speaker in our place");
                }
                LONGEST_RETRY
            }
            End::Goodbye { reason, retry_after } => {
                info!(event = logs::GOODBYE, reason, ?retry_after, "the allocator ends the session");
                retry_after.min(LONGEST_RETRY).max(self.backoff.next_pause())
            }
            End::Lost(lost) => {
                // Once, until a session works again: an allocator may be away for long.
                if std::mem::replace(&mut self.failing, true) {
                    debug!(event = logs::SESSION_FAILED, error = %chain(&lost), "no session to the allocator; trying on");
                } else {
                    warn!(event = logs::SESSION_FAILED, error = %chain(&lost), "no session to the allocator; trying on");
                }
                self.backoff.next_pause()
            }
        }
    }
}

/// How a session ended.
enum End {
    /// The allocator ended it.
    Goodbye { reason: String, retry_after: Duration },
    /// Something broke.
    Lost(Lost),
}

/// Why a session broke.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no connection can be prepared")]
    Channel(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the call failed")]
    Call(#[source] Status),
    #[error("the allocator closed the stream")]
    Closed,
    #[error("a message of the allocator does not parse")]
    Malformed(#[source] Violations),
    #[error("the allocator said nothing within {patience:?}")]
    Unanswered { patience: Duration },
    #[error("{MISSED} heartbeats were not answered")]
    Silent,
    #[error("the allocator does not take messages as fast as they come")]
    Slow,
    #[error("the engine gave the session up")]
    GivenUp,
}

type Told = futures::stream::BoxStream<'static, Result<pb::StreamAssignmentsResponse, Status>>;

/// One call.
struct Session {
    due: Mailbox<SpeakerMessage>,
    wire: mpsc::Sender<pb::StreamAssignmentsRequest>,
    told: Told,
    ticks: Interval,
    greeted: bool,
    was_heard: bool,
    seq: u64,
    /// Heartbeats since the allocator's last word.
    unanswered: u64,
    acknowledged: u64,
    applied: Revision,
}

/// When heartbeats are due; one that is late moves all after it.
fn beats(heartbeat: Duration) -> Interval {
    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

impl Session {
    /// Begins a call, and gives the engine's end of it; nothing is sent before it is served.
    fn open(channel: Channel) -> (Self, Address<SpeakerMessage>) {
        let (wire, requests) = mpsc::channel(WIRE);
        let mut client = AssignmentServiceClient::new(channel).max_decoding_message_size(LARGEST);
        // A server may wait for the first request before it answers, so the call is part of the stream that is read while we write.
        let call = async move { client.stream_assignments(ReceiverStream::new(requests)).await };
        Self::over(wire, call.map_ok(tonic::Response::into_inner).try_flatten_stream().boxed())
    }

    /// A call that is written to and read from by these.
    fn over(wire: mpsc::Sender<pb::StreamAssignmentsRequest>, told: Told) -> (Self, Address<SpeakerMessage>) {
        let (outbox, due) = mailbox(OUTBOX);
        let ticks = beats(HEARTBEAT);
        let (greeted, was_heard, seq, unanswered, acknowledged, applied) = (false, false, 0, 0, 0, Revision::default());
        (Self { due, wire, told, ticks, greeted, was_heard, seq, unanswered, acknowledged, applied }, outbox)
    }

    /// Whether it lasted: one that ended before was perhaps refused as soon as it was heard.
    fn has_worked(&self) -> bool {
        self.acknowledged >= MISSED
    }

    /// Until the session ends; the allocator's first word has to come within `patience`.
    async fn serve(&mut self, engine: &Address<Input>, patience: Duration) -> End {
        let mut too_long = std::pin::pin!(pause(patience));
        loop {
            // Each branch is cancel-safe: mailbox, stream and interval keep what they have.
            let result = select! {
                messages = self.due.take(OUTBOX) => self.say(&messages).await,
                told = self.told.next() => match self.hear(told) {
                    Ok(Some(AllocatorMessage::Goodbye { reason, retry_after })) => return End::Goodbye { reason, retry_after },
                    Ok(Some(message)) => engine.send(Input::Heard(message)).await.map_err(|_closed| Lost::GivenUp),
                    Ok(None) => Ok(()),
                    Err(lost) => Err(lost),
                },
                _ = self.ticks.tick(), if self.greeted => self.beat().await,
                () = &mut too_long, if !self.was_heard => Err(Lost::Unanswered { patience }),
            };
            if let Err(lost) = result {
                return End::Lost(lost);
            }
        }
    }

    /// Passes on what the engine says. Nothing at all means that it dropped its end.
    async fn say(&mut self, messages: &[SpeakerMessage]) -> Result<(), Lost> {
        if messages.is_empty() {
            return Err(Lost::GivenUp);
        }
        for message in messages {
            if let SpeakerMessage::Applied { revision, .. } = message {
                self.applied = *revision;
            }
            self.send(message).await?;
        }
        self.greeted = true;
        Ok(())
    }

    /// Waits for its turn, though not for longer than the allocator may be silent.
    async fn send(&mut self, message: &SpeakerMessage) -> Result<(), Lost> {
        let sent = timeout(self.ticks.period() * BEATS_TO_WRITE, self.wire.send(message.into())).await;
        sent.map_err(|_elapsed| Lost::Slow)?.map_err(|_closed| Lost::Closed)
    }

    /// Says that we live. Before the allocator's first word nothing is missed, and what waits to be written leaves room for the engine's
    /// words.
    async fn beat(&mut self) -> Result<(), Lost> {
        if !self.was_heard && self.wire.capacity() <= WIRE / 2 {
            return Ok(());
        }
        if self.was_heard && self.unanswered >= MISSED {
            return Err(Lost::Silent);
        }
        self.unanswered = self.unanswered.saturating_add(1);
        self.seq = self.seq.saturating_add(1);
        self.send(&SpeakerMessage::Heartbeat { seq: self.seq, applied: self.applied }).await
    }

    /// Reads what the allocator said; `None` for an acknowledgement. What does not parse ends the session: a change would be missed.
    fn hear(&mut self, told: Option<Result<pb::StreamAssignmentsResponse, Status>>) -> Result<Option<AllocatorMessage>, Lost> {
        let message = told.ok_or(Lost::Closed)?.map_err(Lost::Call)?;
        let message = AllocatorMessage::try_from(message).map_err(Lost::Malformed)?;
        self.was_heard = true;
        self.unanswered = 0;
        if let AllocatorMessage::HeartbeatAck { .. } = message {
            self.acknowledged = self.acknowledged.saturating_add(1);
            return Ok(None);
        }
        if let AllocatorMessage::Snapshot { heartbeat, .. } = message
            && heartbeat != self.ticks.period()
            && !heartbeat.is_zero()
        {
            self.ticks = beats(heartbeat);
        }
        Ok(Some(message))
    }

    /// Passes on what the engine said last, and lets it arrive.
    async fn close(mut self) {
        let messages = self.due.take_now(OUTBOX);
        let told = messages.is_empty() || self.say(&messages).await.is_ok();
        let Self { wire, told: mut stream, .. } = self;
        drop(wire);
        let ended = timeout(FAREWELL, async { while let Some(Ok(_)) = stream.next().await {} }).await;
        debug!(told, answered = ended.is_ok(), "session closed");
    }
}

#[cfg(test)]
mod tests;
