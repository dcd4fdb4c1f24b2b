use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use mooring_kit::admin::Readiness;
use mooring_kit::mailbox::mailbox;
use mooring_kit::supervise::Supervisor;
use mooring_proto::types::assignment::{Assignment, HEARTBEAT, Role};
use mooring_proto::types::lease::Revision;
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};

use super::*;

/// Looks at the table whenever a Service's address is logged.
#[derive(Clone)]
struct Watch {
    table: Arc<ArcSwap<ReplyTable>>,
    /// Log lines of announced and withdrawn Services, and those of them that came too early.
    announced: Arc<AtomicUsize>,
    withdrawn: Arc<AtomicUsize>,
    early: Arc<AtomicUsize>,
}

/// What a log line says of an address.
#[derive(Default)]
struct Line {
    event: String,
    ip: Option<Vip>,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "ip" => self.ip = format!("{value:?}").parse().ok(),
            "event" => self.event = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" {
            value.clone_into(&mut self.event);
        }
    }
}

impl Subscriber for Watch {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let answers = line.ip.is_some_and(|ip| self.table.load().get(ip).is_some());
        let (lines, right) = match line.event.as_str() {
            logs::SERVICE_ANNOUNCED => (&self.announced, answers),
            logs::SERVICE_WITHDRAWN => (&self.withdrawn, !answers),
            _ => return,
        };
        lines.fetch_add(1, Ordering::Relaxed);
        self.early.fetch_add(usize::from(!right), Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// More Services than are logged at once.
const VIPS: u8 = 200;

fn assignments() -> Vec<Assignment> {
    let vips = (1..=VIPS).map(|last| Vip::from(std::net::Ipv4Addr::new(172, 17, 200, last)));
    let one = |vip: Vip| Assignment {
        vip,
        role: Role::Active,
        rank: 0,
        interfaces: [].into(),
        services: [(format!("default/s{vip}").parse().unwrap(), PoolName::new("prod").unwrap())].into(),
        peers: Arc::default(),
        active: None,
        probe_first: false,
    };
    vips.map(one).collect()
}

#[tokio::test]
async fn a_service_is_logged_once_the_table_says_so() {
    let watch = Watch { table: Arc::default(), announced: Arc::default(), withdrawn: Arc::default(), early: Arc::default() };
    let _guard = tracing::subscriber::set_default(watch.clone());
    let speaker = SpeakerId { node: NodeName::new("node-a").unwrap(), instance: Instance::default() };
    let mut registry = mooring_kit::metrics::registry("0");
    let metrics = Metrics::register(&mut registry, &speaker.node, Arc::clone(&watch.table));
    let ((engine, inputs), (claims_address, claims)) = (mailbox(INBOX), mailbox(CLAIMS));
    let (table, drops, heeded) = (Arc::clone(&watch.table), metrics.drops.clone(), Arc::default());
    let shared = Shared { table, heeded, claims: claims_address, ended: Arc::default(), grouped: Arc::default(), drops };
    let settings = Settings { speaker, boot_id: "boot-1".into(), refresh: None, seed: 1 };
    let (supervisor, readiness, stop) = (Supervisor::new(), Readiness::new(), Stop::new());
    let ready = Ready { links: readiness.handle("links"), sockets: readiness.handle("sockets"), session: readiness.handle("assignments") };
    let running = Engine::new(settings, shared, metrics, Clock::start(), supervisor.spawner(), ready);

    let allocator = async {
        let (outbox, mut said) = mailbox(64);
        engine.send(Input::SessionOpened(outbox)).await.unwrap();
        let (epoch, assignments) = (Epoch(1), assignments());
        let removals = assignments.iter().map(|assignment| assignment.vip).collect();
        let snapshot = AllocatorMessage::Snapshot { heartbeat: HEARTBEAT, epoch, revision: Revision(1), assignments };
        engine.send(Input::Heard(snapshot)).await.unwrap();
        applied(&mut said, Revision(1)).await;
        let delta = AllocatorMessage::Delta { revision: Revision(2), upserts: vec![], removals };
        // Once all of it is logged, as the log may be behind what is in force.
        while watch.announced.load(Ordering::Relaxed) < usize::from(VIPS) {
            tokio::task::yield_now().await;
        }
        engine.send(Input::Heard(delta)).await.unwrap();
        applied(&mut said, Revision(2)).await;
        stop.cancel();
    };
    let mut mailboxes = Mailboxes { inputs, claims };
    let (ended, ()) = tokio::join!(running.run(&mut mailboxes, stop.clone()), allocator);
    ended.unwrap();
    engine.send(Input::SessionClosed).await.unwrap();
    let counts = [&watch.announced, &watch.withdrawn, &watch.early].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [usize::from(VIPS), usize::from(VIPS), 0]);
}

/// Waits until the engine has said that a revision is in force.
async fn applied(said: &mut Mailbox<SpeakerMessage>, wanted: Revision) {
    loop {
        let messages = said.take(64).await;
        assert!(!messages.is_empty(), "the engine dropped the session");
        if messages.iter().any(|message| matches!(message, SpeakerMessage::Applied { revision, .. } if *revision == wanted)) {
            return;
        }
    }
}
