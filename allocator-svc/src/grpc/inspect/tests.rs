use mooring_kit::Stop;
use mooring_proto::types::lease::{Epoch, Lease};
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::time::UnixMillis;

use super::*;
use crate::core::tests::{SETTINGS, claim, pool};
use crate::core::{Command, Leadership, Now, apply, decide, next_deadline};
use crate::engine::Owner;
use crate::metrics::Metrics;
use crate::store::{LeaseStore, Store};

/// What a reader makes of the feed: each Service with its addresses.
#[derive(Default)]
struct Reader {
    services: BTreeMap<String, Vec<String>>,
    revision: u64,
    parts: usize,
    complete: bool,
}

impl Reader {
    fn take(&mut self, message: pb::WatchLeasesResponse) {
        let name = |service: Option<pb::ServiceRef>| service.unwrap().name;
        let held = |state: pb::ServiceState| (name(state.service), state.lease.map(|lease| lease.addresses).unwrap_or_default());
        match message.message.unwrap() {
            Message::Snapshot(part) => {
                assert!(!self.complete && (self.parts == 0 || part.revision == self.revision), "one snapshot, of one revision");
                self.parts += 1;
                assert!(part.services.len() <= PART);
                (self.revision, self.complete) = (part.revision, part.complete);
                self.services.extend(part.services.into_iter().map(held));
            }
            Message::Delta(delta) => {
                assert!(self.complete && delta.upserts.len() + delta.removals.len() <= PART && delta.revision >= self.revision);
                self.revision = delta.revision;
                self.services.extend(delta.upserts.into_iter().map(held));
                for removed in delta.removals {
                    self.services.remove(&removed.name);
                }
            }
        }
    }
}

fn carry_out(state: &mut State, command: Command) {
    let now = Now { mono: Mono::ZERO, wall: UnixMillis(1) };
    decide(state, command, now).unwrap().iter().for_each(|event| apply(state, event));
    while next_deadline(state) == Some(Mono::ZERO) {
        decide(state, Command::Tick, now).unwrap().iter().for_each(|event| apply(state, event));
    }
}

fn allocate(name: &str) -> Command {
    Command::Allocate { leadership: Leadership::Present, claim: Box::new(claim(name)) }
}

fn release(name: &str) -> Command {
    Command::Release { leadership: Leadership::Present, service: claim(name).service }
}

#[tokio::test]
async fn a_snapshot_in_parts_with_changes_in_between_comes_to_the_present_state() {
    let mut state = State::new(SETTINGS);
    let configuration = Configuration::new(vec![pool("a", &["10.0.0.0/16"])], vec![]).unwrap();
    carry_out(&mut state, Command::ReplacePools { leadership: Leadership::Present, configuration });
    let claims = (0..10 * PART).map(|number| claim(&format!("s{number:05}"))).collect();
    carry_out(&mut state, Command::Reconcile { leadership: Leadership::Present, claims });
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = LeaseStore::open(folder.path()).unwrap();
    let metrics = Metrics::new(&mut mooring_kit::metrics::registry("test"));
    let clock = Clock::start();
    let (engine, owner) = Owner::new(state, Store::Disk(store), clock, metrics);
    let stop = Stop::new();
    let test = async {
        let (sender, mut receiver) = mpsc::channel(DEPTH);
        let feed = Feed { engine: engine.clone(), at: Revision::default(), reader: sender };
        let mut reader = Reader::default();
        let read = async {
            reader.take(receiver.recv().await.unwrap().unwrap());
            // The feed is somewhere behind the first parts, and in front of the last.
            for command in [release("s00001"), allocate("s00000a"), release("s04999"), allocate("s04998a"), release("s00000a")] {
                engine.command(command, |outcome| outcome.map(|_| ())).await.unwrap().unwrap();
            }
            let wanted = engine.ask(|state| {
                let held = |lease: &Lease| lease.addresses.iter().map(ToString::to_string).collect();
                let services = state.book().leases().iter().map(|(service, lease)| (service.name().to_owned(), held(lease)));
                (services.collect::<BTreeMap<String, Vec<String>>>(), state.feed().revision().0)
            });
            let (wanted, revision) = wanted.await.unwrap();
            while reader.revision < revision {
                reader.take(receiver.recv().await.unwrap().unwrap());
            }
            assert_eq!((reader.services.len(), &reader.services), (10 * PART - 1, &wanted));
            assert!(reader.parts >= 10, "{} parts", reader.parts);
        };
        tokio::select! {
            () = feed.run(None) => panic!("the feed has ended"),
            () = read => {}
        }
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(owner.run(Epoch(1), || (), stop.clone()), test);
    ended.unwrap();
}
