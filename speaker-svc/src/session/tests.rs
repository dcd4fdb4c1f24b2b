use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream;
use mooring_proto::types::assignment::Hello;
use mooring_proto::types::lease::Epoch;
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};

use super::*;

/// A session whose other end the test holds.
struct Bench {
    session: Session,
    outbox: Address<SpeakerMessage>,
    said: mpsc::Receiver<pb::StreamAssignmentsRequest>,
    tell: mpsc::Sender<Result<pb::StreamAssignmentsResponse, Status>>,
    engine: Address<Input>,
    _heard: Mailbox<Input>,
}

impl Bench {
    /// The engine has said Hello.
    fn greeted() -> Self {
        let (wire, said) = mpsc::channel(WIRE);
        let (tell, told) = mpsc::channel(64);
        let (session, outbox) = Session::over(wire, ReceiverStream::new(told).boxed());
        let (engine, _heard) = mailbox(64);
        assert!(outbox.offer(hello()));
        Self { session, outbox, said, tell, engine, _heard }
    }

    /// Serves for a time; `None` = the session goes on.
    async fn serve(&mut self, time: Duration, patience: Duration) -> Option<String> {
        match timeout(time, self.session.serve(&self.engine, patience)).await {
            Ok(End::Lost(lost)) => Some(lost.to_string()),
            Ok(End::Goodbye { reason, .. }) => Some(reason),
            Err(_elapsed) => None,
        }
    }

    fn tell(&self, message: &AllocatorMessage) {
        self.tell.try_send(Ok(message.into())).unwrap();
    }

    /// The heartbeats that were said since the last look.
    fn beats(&mut self) -> Vec<u64> {
        let mut beats = Vec::new();
        while let Ok(request) = self.said.try_recv() {
            if let SpeakerMessage::Heartbeat { seq, .. } = SpeakerMessage::try_from(request).unwrap() {
                beats.push(seq);
            }
        }
        beats
    }
}

fn hello() -> SpeakerMessage {
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    SpeakerMessage::Hello(Hello {
        speaker,
        boot_id: "boot-1".into(),
        interfaces: vec![],
        held: Default::default(),
        taken: Default::default(),
        asks_first: true,
    })
}

fn snapshot() -> AllocatorMessage {
    AllocatorMessage::Snapshot { heartbeat: HEARTBEAT, epoch: Epoch(1), revision: Revision(1), assignments: vec![] }
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn before_the_first_word_heartbeats_are_sent_and_none_is_missed() {
    let mut bench = Bench::greeted();
    assert_eq!(bench.serve(HEARTBEAT * 5, LONG).await, None);
    assert_eq!(bench.beats(), [1, 2, 3, 4, 5, 6]);
    bench.tell(&snapshot());
    // From here on it counts: the four that follow are not answered.
    assert_eq!(bench.serve(HEARTBEAT * 4, LONG).await, None);
    assert_eq!(bench.serve(HEARTBEAT, LONG).await.as_deref(), Some("4 heartbeats were not answered"));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_that_come_late_keep_the_session_as_long_as_they_come() {
    let mut bench = Bench::greeted();
    assert_eq!(bench.serve(HEARTBEAT * 5, LONG).await, None);
    for seq in 1..40 {
        bench.tell(&AllocatorMessage::HeartbeatAck { seq });
        assert_eq!(bench.serve(HEARTBEAT, LONG).await, None, "{seq}");
        let _beats = bench.beats();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_connection_takes_what_the_engine_says_until_patience_is_over() {
    let mut bench = Bench::greeted();
    // Nothing is written for so long that heartbeats alone would have filled the way.
    assert_eq!(bench.serve(HEARTBEAT * 60, LONG).await, None);
    for _ in 0..WIRE / 2 - 1 {
        assert!(bench.outbox.offer(SpeakerMessage::Draining));
    }
    assert_eq!(bench.serve(LONG - HEARTBEAT, LONG).await, None);
    assert_eq!(bench.serve(HEARTBEAT, HEARTBEAT / 2).await.as_deref(), Some("the allocator said nothing within 100ms"));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_writes_one_message_after_the_other_gets_all_of_them() {
    let mut bench = Bench::greeted();
    bench.tell(&snapshot());
    for _ in 1..OUTBOX {
        assert!(bench.outbox.offer(SpeakerMessage::Draining));
    }
    let Bench { session, said, engine, .. } = &mut bench;
    let written = async {
        let mut count = 0;
        while count < OUTBOX {
            pause(HEARTBEAT / 8).await;
            let request = SpeakerMessage::try_from(said.recv().await.unwrap()).unwrap();
            count += usize::from(!matches!(request, SpeakerMessage::Heartbeat { .. }));
        }
    };
    select! {
        end = session.serve(engine, LONG) => panic!("{}", if let End::Lost(lost) = end { lost.to_string() } else { String::new() }),
        () = written => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_writes_nothing_is_given_up() {
    let mut bench = Bench::greeted();
    bench.tell(&snapshot());
    for _ in 1..OUTBOX {
        assert!(bench.outbox.offer(SpeakerMessage::Draining));
    }
    let ended = bench.serve(HEARTBEAT * (BEATS_TO_WRITE + 1), LONG).await;
    assert_eq!(ended.as_deref(), Some("the allocator does not take messages as fast as they come"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_ends_the_session_at_once() {
    let (wire, _said) = mpsc::channel(WIRE);
    let told = stream::once(async { Err(Status::unavailable("no route to host")) }).boxed();
    let (mut session, _outbox) = Session::over(wire, told);
    let (engine, _heard) = mailbox(64);
    let ended = timeout(HEARTBEAT, session.serve(&engine, LONG)).await.unwrap();
    assert!(matches!(ended, End::Lost(Lost::Call(_))));
}

fn lost() -> End {
    End::Lost(Lost::GivenUp)
}

#[test]
fn sessions_that_end_as_soon_as_they_are_heard_are_tried_less_and_less_often() {
    let mut attempts = Attempts::new();
    for whole in [50, 100, 200, 400, 800, 1_000, 1_000] {
        let (rest, whole) = (attempts.after(false, lost()), Duration::from_millis(whole));
        assert!(rest >= whole / 2 && rest <= whole, "{rest:?} of {whole:?}");
    }
    assert!(attempts.after(true, lost()) <= FIRST_PAUSE);
}

#[test]
fn who_was_replaced_comes_back_rarely_however_well_its_session_worked() {
    let mut attempts = Attempts::new();
    let replaced = || End::Goodbye { reason: REPLACED.to_owned(), retry_after: Duration::ZERO };
    assert_eq!([true, true, false].map(|worked| attempts.after(worked, replaced())), [LONGEST_RETRY; 3]);
    let ending = End::Goodbye { reason: "the allocator is about to end".into(), retry_after: Duration::from_millis(200) };
    assert_eq!(attempts.after(true, ending), Duration::from_millis(200));
}

#[test]
fn patience_grows_until_a_session_has_worked() {
    let mut attempts = Attempts::new();
    for whole in [4, 8, 16, 32, 32] {
        let (patience, whole) = (attempts.patience(), Duration::from_secs(whole));
        assert!(patience >= whole / 2 && patience <= whole, "{patience:?} of {whole:?}");
        let _rest = attempts.after(false, lost());
    }
    let _rest = attempts.after(true, lost());
    assert!(attempts.patience() <= FIRST_PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_session_has_worked_once_it_has_lasted() {
    let mut bench = Bench::greeted();
    bench.tell(&snapshot());
    for seq in 1..=MISSED {
        assert!(!bench.session.has_worked());
        bench.tell(&AllocatorMessage::HeartbeatAck { seq });
        assert_eq!(bench.serve(HEARTBEAT, LONG).await, None);
    }
    assert!(bench.session.has_worked());
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_cannot_be_made_is_tried_again() {
    let (engine, mut heard) = mailbox(64);
    let tries = AtomicU64::new(0);
    let connect = || match tries.fetch_add(1, Ordering::Relaxed) {
        0..3 => anyhow::bail!("could not read --tls-cert"),
        _ => Ok(tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy()),
    };
    let stop = Stop::new();
    let ended = select! {
        ended = run(connect, engine, stop.clone()) => panic!("ended: {ended:?}"),
        inputs = heard.take(1) => inputs,
    };
    assert!(matches!(ended[..], [Input::SessionOpened(_)]), "{ended:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 4);
}
