//! One tree of sled, one writer, group commit.
//!
//! sled's own flush ends in `sync_file_range`, which neither writes the file's size nor empties the disk's cache, so each flush is
//! followed by `fdatasync` on sled's file.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::Durable;
use super::codec::{self, Record, RecordError, RecordProblem, SCHEMA};
use super::history::{Chronicle, HistoryLimits, HistoryReader};
use crate::core::{Event, Now, Placement, reservations};
use crate::logs;
use mooring_proto::types::history::PastFact;
use mooring_proto::types::lease::{Epoch, Term};
use mooring_proto::types::time::{Mono, UnixMillis};
use tracing::warn;

/// Memory for sled's page cache, in bytes: all records of a large cluster are a few megabytes.
const CACHE: u64 = 64 << 20;

/// The name of sled's file in its folder.
const SLED_FILE: &str = "db";

/// The store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("data directory {0} is in use by another allocator")]
    InUse(PathBuf),
    /// sled could not open it.
    #[error("could not open the records in {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: sled::Error,
    },
    /// A record is damaged.
    #[error("a record in {path} cannot be read; `allocator-svc export --data-dir {path}` writes out the others", path = path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// Which, and how.
        source: RecordError,
    },
    /// A newer build has written it.
    #[error("the records in {path} are of a newer build", path = path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Which, and how new.
        source: RecordError,
    },
    /// A fact of the past, which was whole at the start, is damaged.
    #[error("a record of the history cannot be read")]
    History(#[source] RecordError),
    /// sled could not read.
    #[error("could not read the records")]
    Read(#[source] sled::Error),
    /// sled could not write.
    #[error("could not flush {records} records to {path}", path = path.display())]
    Flush {
        /// How many.
        records: usize,
        /// The folder.
        path: PathBuf,
        /// Why.
        source: sled::Error,
    },
    /// The disk could not be made to keep what was written.
    #[error("could not sync {records} records to the disk of {path}", path = path.display())]
    Sync {
        /// How many.
        records: usize,
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The records, open for this process alone.
#[derive(Debug)]
pub struct LeaseStore {
    tree: sled::Db,
    file: File,
    path: PathBuf,
    history: Chronicle,
}

/// What the records say besides facts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// The last leadership.
    pub epoch: Epoch,
    /// The schema that they were of; `None` = there were none.
    pub schema: Option<u8>,
    /// From when on the history is whole; `None` = it has not begun.
    since: Option<UnixMillis>,
}

impl Found {
    fn note(&mut self, record: &Record) {
        match record {
            Record::Epoch(epoch) => self.epoch = *epoch,
            Record::Schema(version) => self.schema = Some(*version),
            Record::HistorySince(since) => self.since = Some(*since),
            Record::Lease(_)
            | Record::Config(_)
            | Record::Place(..)
            | Record::Term(_)
            | Record::Reservation(_)
            | Record::Drain(..)
            | Record::History(_) => {}
        }
    }
}

impl LeaseStore {
    /// Opens the records in a folder, which is made if it is not there, and checks each of them. What an older build took for a value
    /// and others tell anew is left out, and says so in the log. The facts of the past stay on disk; all others are returned, as they were
    /// before a store of an older schema became one of this.
    ///
    /// # Errors
    /// Another process has them, one is damaged or of a newer build, or the disk fails.
    pub fn open(path: &Path) -> Result<(Self, Vec<Record>), StoreError> {
        let mut store = Self::open_unchecked(path)?;
        let (mut found, mut records) = (Found::default(), Vec::new());
        store.take_in(store.tree.iter(), &mut found, |record| records.push(record))?;
        store.ready(&found)?;
        Ok((store, records))
    }

    /// As [`LeaseStore::open`], but hands over one after the other the facts that the records stand for, in the order to apply them: leases
    /// first, so that the configuration finds those it has no pool for.
    ///
    /// # Errors
    /// As [`LeaseStore::open`]; some facts have been handed over then.
    pub fn load(path: &Path, stranded_until: Mono, now: Now, mut take: impl FnMut(Event)) -> Result<(Self, Found), StoreError> {
        let mut store = Self::open_unchecked(path)?;
        let mut found = Found::default();
        let (leases, after) = codec::lease_keys();
        for part in [store.tree.range(leases..after), store.tree.range(..leases), store.tree.range(after..)] {
            store.take_in(part, &mut found, |record| fact(record, stranded_until, now).into_iter().for_each(&mut take))?;
        }
        store.ready(&found)?;
        Ok((store, found))
    }

    /// Keeps what the history has to know, and hands over all other records.
    fn take_in(&mut self, entries: sled::Iter, found: &mut Found, mut take: impl FnMut(Record)) -> Result<(), StoreError> {
        for entry in entries {
            match read(entry)? {
                Ok(Record::History(entry)) => self.history.found(&entry),
                Ok(record) => {
                    found.note(&record);
                    take(record);
                }
                Err(error) if error.is_told_anew() => {
                    warn!(event = logs::RECORD_LEFT_OUT, error = %error, "this record of an older build is left out; what it said is told anew");
                }
                Err(source) => {
                    let (path, is_newer) = (self.path.clone(), matches!(source.problem, RecordProblem::Newer(_)));
                    return Err(if is_newer { StoreError::Newer { path, source } } else { StoreError::Damaged { path, source } });
                }
            }
        }
        Ok(())
    }

    /// All that is on disk was found. What older schemas lack comes by itself: there is nothing to be changed but the version.
    fn ready(&mut self, found: &Found) -> Result<(), StoreError> {
        self.history.ready(found.since);
        if found.schema != Some(SCHEMA) {
            self.write(&[Record::Schema(SCHEMA)], &[])?;
        }
        Ok(())
    }

    /// Keeps so much of the history.
    pub fn keep_history(&mut self, limits: HistoryLimits) {
        self.history.limit(limits);
    }

    /// Where others read the history.
    #[must_use]
    pub fn history(&self) -> HistoryReader {
        self.history.reader(self.tree.clone())
    }

    /// Takes in facts of the past, to be written with the next batch.
    pub fn note(&mut self, facts: Vec<PastFact>, at: UnixMillis) {
        self.history.note(facts, at);
    }

    /// Opens the records without looking at them.
    ///
    /// # Errors
    /// Another process has them, or the disk fails.
    pub fn open_unchecked(path: &Path) -> Result<Self, StoreError> {
        // sled says it in words only.
        let failed = |source: sled::Error| {
            let locked = source.to_string().contains("could not acquire lock");
            if locked { StoreError::InUse(path.to_owned()) } else { StoreError::Open { path: path.to_owned(), source } }
        };
        let tree = sled::Config::new().path(path).cache_capacity(CACHE).flush_every_ms(None).open().map_err(failed)?;
        let file = File::open(path.join(SLED_FILE)).map_err(|error| StoreError::Open { path: path.to_owned(), source: error.into() })?;
        Ok(Self { tree, file, path: path.to_owned(), history: Chronicle::default() })
    }

    /// Every record, or what is wrong with it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn scan(&self) -> Result<Vec<Result<Record, RecordError>>, StoreError> {
        self.tree.iter().map(read).collect()
    }

    /// Writes what of these facts must outlive the process, in one batch, and returns once the disk has it. Facts that need not outlive
    /// it cost nothing.
    ///
    /// # Errors
    /// The disk fails. What is on it then is not known: the process must end and read it again.
    pub fn append(&mut self, events: &[Event]) -> Result<Durable, StoreError> {
        let mut changes = changes(events);
        if !changes.is_empty() || self.history.has_news() {
            self.history.turn(&self.tree, &mut changes)?;
        }
        let (mut written, mut removed) = (Vec::new(), Vec::new());
        for (key, record) in changes {
            match record {
                Some(record) => written.push(record),
                None => removed.push(key),
            }
        }
        let durable = self.write(&written, &removed)?;
        self.history.durable();
        Ok(durable)
    }

    /// Writes and removes records, all of them or none.
    ///
    /// # Errors
    /// The disk fails.
    pub fn write(&self, written: &[Record], removed: &[String]) -> Result<Durable, StoreError> {
        let mut changes: Vec<(&[u8], Option<Vec<u8>>)> = Vec::new();
        for key in removed {
            // What is not there costs a look, and not a write: most addresses are announced by nobody before they are.
            if self.tree.contains_key(key).map_err(StoreError::Read)? {
                changes.push((key.as_bytes(), None));
            }
        }
        let keys: Vec<String> = written.iter().map(Record::key).collect();
        changes.extend(keys.iter().zip(written).map(|(key, record)| (key.as_bytes(), Some(record.encode()))));
        let records = changes.len();
        if records == 0 {
            return Ok(Durable(()));
        }
        let flushed = self.apply(changes).and_then(|()| self.tree.flush());
        flushed.map_err(|source| StoreError::Flush { records, path: self.path.clone(), source })?;
        self.file.sync_data().map_err(|source| StoreError::Sync { records, path: self.path.clone(), source })?;
        Ok(Durable(()))
    }

    /// One change is whole by itself. For several sled writes to its file what says that they belong together, and then them: twice the
    /// waits for the disk.
    fn apply(&self, mut changes: Vec<(&[u8], Option<Vec<u8>>)>) -> sled::Result<()> {
        if let [(key, bytes)] = changes.as_mut_slice() {
            match bytes.take() {
                Some(bytes) => self.tree.insert(key, bytes)?,
                None => self.tree.remove(key)?,
            };
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for (key, bytes) in changes {
            match bytes {
                Some(bytes) => batch.insert(key, bytes),
                None => batch.remove(key),
            }
        }
        self.tree.apply_batch(batch)
    }
}

fn read(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Result<Record, RecordError>, StoreError> {
    let (key, bytes) = entry.map_err(StoreError::Read)?;
    Ok(Record::decode(&key, &bytes))
}

/// What of some facts must outlive the process, by key: of several changes to a record only the last one counts. `None` = it goes.
#[must_use]
pub fn changes(events: &[Event]) -> BTreeMap<String, Option<Record>> {
    let mut last = BTreeMap::new();
    for event in events {
        match change(event) {
            Change::Write(record) => last.insert(record.key(), Some(record)),
            Change::Remove(key) => last.insert(key, None),
            Change::None => None,
        };
    }
    last
}

enum Change {
    Write(Record),
    Remove(String),
    None,
}

/// What of a fact must outlive the process.
fn change(event: &Event) -> Change {
    match event {
        Event::EpochBegan(epoch) => Change::Write(Record::Epoch(*epoch)),
        Event::TermBegan(term) => Change::Write(Record::Term(*term)),
        Event::ConfigurationReplaced { configuration, .. } => Change::Write(Record::Config(configuration.clone())),
        Event::LeaseGranted(lease) => Change::Write(Record::Lease(lease.clone())),
        Event::LeaseReleased(service) => Change::Remove(codec::lease_key(service)),
        Event::VipPlaced { vip, placement: Ok(placement) } => Change::Write(Record::Place(*vip, placement.active.clone())),
        Event::VipPlaced { vip, placement: Err(_) } | Event::VipDropped(vip) => Change::Remove(codec::place_key(*vip)),
        Event::AddressReserved { reservation, .. } => Change::Write(Record::Reservation((**reservation).clone())),
        Event::ReservationEnded { key, .. } => Change::Remove(codec::reservation_key(key)),
        Event::NodeDrained { node, since } => Change::Write(Record::Drain(node.clone(), *since)),
        Event::NodeRestored(node) => Change::Remove(codec::drain_key(node)),
        Event::ShadowBegan
        | Event::ClaimMade(_)
        | Event::ClaimDeferred(_)
        | Event::ClaimForgotten(_)
        | Event::ClaimRefused { .. }
        | Event::LeaseUntenable { .. }
        | Event::ClaimRetried(_)
        | Event::ClaimMet(_)
        | Event::ViewReconciled
        | Event::NodesReplaced(_)
        | Event::BackendsReported(_)
        | Event::Speaker(_)
        | Event::RecoveryEnded
        | Event::Rebalanced(_)
        | Event::VipKept(_)
        | Event::VipAnnounced { .. }
        | Event::RevisionReached(_) => Change::None,
    }
}

/// The fact that a record stands for; leases are to be applied first, so that the configuration finds those it has no pool for.
#[must_use]
pub fn fact(record: Record, stranded_until: Mono, now: Now) -> Option<Event> {
    match record {
        Record::Lease(lease) => Some(Event::LeaseGranted(lease)),
        Record::Config(configuration) => Some(Event::ConfigurationReplaced { configuration, stranded_until }),
        Record::Place(vip, speaker) => Some(Event::VipPlaced { vip, placement: Ok(Placement::on(speaker)) }),
        Record::Term(Term(term)) => Some(Event::TermBegan(Term(term))),
        Record::Reservation(reservation) => {
            let end = reservations::end(reservation.until, now);
            Some(Event::AddressReserved { reservation: Box::new(reservation), end })
        }
        Record::Drain(node, since) => Some(Event::NodeDrained { node, since }),
        Record::Epoch(_) | Record::Schema(_) | Record::History(_) | Record::HistorySince(_) => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
