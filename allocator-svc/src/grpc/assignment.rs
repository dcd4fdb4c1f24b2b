//! AssignmentService: one stream a speaker.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_kit::Stop;
use mooring_kit::supervise::Spawner;
use mooring_proto::convert::Violations;
use mooring_proto::pb;
use mooring_proto::pb::assignment_service_server::AssignmentService;
use mooring_proto::types::assignment::{AllocatorMessage, SpeakerMessage};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::ending;
use crate::core::{Command, SessionId};
use crate::engine::Engine;

/// How many messages may wait for a speaker: what more there is stays in the state, coalesced.
const DEPTH: usize = 4;

/// When a speaker should come back after this allocator has ended: another one, or the same, starts meanwhile.
const COME_BACK: Duration = Duration::from_millis(200);

/// The service.
pub(crate) struct Assignments {
    engine: Engine,
    spawner: Spawner,
    next: AtomicU64,
}

impl Assignments {
    pub(crate) fn new(engine: Engine, spawner: Spawner) -> Self {
        Self { engine, spawner, next: AtomicU64::new(1) }
    }
}

#[tonic::async_trait]
impl AssignmentService for Assignments {
    type StreamAssignmentsStream = Pin<Box<dyn Stream<Item = Result<pb::StreamAssignmentsResponse, Status>> + Send>>;

    async fn stream_assignments(
        &self,
        request: Request<Streaming<pb::StreamAssignmentsRequest>>,
    ) -> Result<Response<Self::StreamAssignmentsStream>, Status> {
        let session = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let wake = self.engine.open(session).await.map_err(ending)?;
        let (sender, receiver) = mpsc::channel(DEPTH);
        let talk = Talk { engine: self.engine.clone(), session, wake, speaker: sender, stop: self.spawner.stop() };
        self.spawner.task(format!("speaker stream {}", session.0), talk.run(request.into_inner())).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver).map(|message| message))))
    }
}

/// One stream's conversation.
struct Talk {
    engine: Engine,
    session: SessionId,
    wake: Arc<Notify>,
    speaker: mpsc::Sender<Result<pb::StreamAssignmentsResponse, Status>>,
    stop: Stop,
}

impl Talk {
    /// Runs until either side ends; a stream's end is no fault of the process.
    async fn run(self, words: Streaming<pb::StreamAssignmentsRequest>) -> anyhow::Result<()> {
        if let Err(status) = self.converse(words).await {
            self.send(Err(status)).await;
        }
        let ended = Command::SessionEnded { session: self.session };
        if self.engine.command(ended, |_| ()).await.is_err() {
            tracing::debug!("the engine has ended before the stream");
        }
        Ok(())
    }

    async fn converse(&self, mut words: Streaming<pb::StreamAssignmentsRequest>) -> Result<(), Status> {
        let mut begun = false;
        loop {
            tokio::select! {
                word = words.message() => {
                    let Some(word) = word? else { return Ok(()) };
                    let message = SpeakerMessage::try_from(word)?;
                    begun = begun || matches!(message, SpeakerMessage::Hello(_));
                    if !begun {
                        return Err(Violations::one("message", "the first word on a stream must be hello").into());
                    }
                    self.hear(message).await?;
                }
                () = self.wake.notified() => {
                    while let Some(message) = self.engine.pull(self.session).await.map_err(ending)? {
                        self.tell(&message).await;
                        if matches!(message, AllocatorMessage::Goodbye { .. }) {
                            return Ok(());
                        }
                    }
                }
                () = self.stop.cancelled() => {
                    self.tell(&AllocatorMessage::Goodbye { reason: "the allocator is about to end".to_owned(), retry_after: COME_BACK }).await;
                    return Ok(());
                }
                () = self.speaker.closed() => return Ok(()),
            }
        }
    }

    async fn hear(&self, message: SpeakerMessage) -> Result<(), Status> {
        let ack = match &message {
            SpeakerMessage::Heartbeat { seq, .. } => Some(AllocatorMessage::HeartbeatAck { seq: *seq }),
            SpeakerMessage::Hello(_)
            | SpeakerMessage::Applied { .. }
            | SpeakerMessage::InterfacesChanged(_)
            | SpeakerMessage::Conflict { .. }
            | SpeakerMessage::Draining
            | SpeakerMessage::Suspected { .. }
            | SpeakerMessage::AddressInUse { .. }
            | SpeakerMessage::Proven(_)
            | SpeakerMessage::Seen(_) => None,
        };
        let said = Command::SpeakerSaid { session: self.session, message };
        self.engine.command(said, |_| ()).await.map_err(ending)?;
        if let Some(ack) = ack {
            self.tell(&ack).await;
        }
        Ok(())
    }

    async fn tell(&self, message: &AllocatorMessage) {
        self.send(Ok(message.into())).await;
    }

    /// A speaker that does not read is noticed by its heartbeats' absence, or by its stream's end.
    async fn send(&self, message: Result<pb::StreamAssignmentsResponse, Status>) {
        if self.speaker.send(message).await.is_err() {
            tracing::debug!(session = self.session.0, "the speaker has gone");
        }
    }
}
