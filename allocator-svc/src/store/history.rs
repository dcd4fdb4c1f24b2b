//! The history: facts of the past, appended with the facts themselves and pruned in the same batch, read from disk when somebody asks.
//!
//! In memory are only the numbers of the first and the next entry. A reader sees what is durable, and keeps nobody waiting.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::history::{HistoryEntry, PastFact};
use mooring_proto::types::time::UnixMillis;

use super::codec::{META_HISTORY_SINCE, Record, history_key};
use super::sled_tree::StoreError;

/// How many entries more than it gains a batch may prune, so that a smaller limit costs no long batch.
const PRUNED: usize = 64;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    /// For how long; zero = as long as there is room.
    pub age: Duration,
    /// How many entries; 0 = none.
    pub size: u64,
}

/// What is known of the history without reading it.
#[derive(Debug)]
pub(super) struct Chronicle {
    limits: HistoryLimits,
    /// The first entry that is kept, with its time; `None` = there is none.
    oldest: Option<(u64, UnixMillis)>,
    /// The number of the next entry.
    next: u64,
    /// From when on the history is whole; `None` = it has not begun.
    since: Option<UnixMillis>,
    /// The time of the batch.
    at: UnixMillis,
    /// Entries of the batch.
    news: Vec<HistoryEntry>,
    /// The number after that of the last durable entry.
    end: Arc<AtomicU64>,
}

impl Default for Chronicle {
    fn default() -> Self {
        let limits = HistoryLimits { age: Duration::ZERO, size: u64::MAX };
        let (at, end) = (UnixMillis::default(), Arc::default());
        Self { limits, oldest: None, next: 0, since: None, at, news: Vec::new(), end }
    }
}

impl Chronicle {
    /// An entry is on disk; they come in order.
    pub(super) fn found(&mut self, entry: &HistoryEntry) {
        self.oldest.get_or_insert((entry.sequence, entry.at));
        self.next = entry.sequence.saturating_add(1);
    }

    /// All that is on disk was found.
    pub(super) fn ready(&mut self, since: Option<UnixMillis>) {
        self.since = since;
        self.durable();
    }

    pub(super) fn limit(&mut self, limits: HistoryLimits) {
        self.limits = limits;
    }

    pub(super) fn reader(&self, tree: sled::Db) -> HistoryReader {
        HistoryReader { tree, end: Arc::clone(&self.end) }
    }

    pub(super) fn note(&mut self, facts: Vec<PastFact>, at: UnixMillis) {
        self.at = at;
        for fact in facts {
            self.news.push(HistoryEntry { sequence: self.next, at, fact });
            self.next = self.next.saturating_add(1);
        }
    }

    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// What a batch changes of the history: it gains the new entries and loses the oldest that are beyond the limits.
    pub(super) fn turn(&mut self, tree: &sled::Db, changes: &mut BTreeMap<String, Option<Record>>) -> Result<(), StoreError> {
        let news = std::mem::take(&mut self.news);
        let most = news.len().saturating_add(PRUNED);
        self.oldest = self.oldest.or_else(|| news.first().map(|entry| (entry.sequence, entry.at)));
        changes.extend(news.iter().map(|entry| (history_key(entry.sequence), Some(Record::History(Box::new(entry.clone()))))));
        let mut since = self.since.is_none().then_some(self.at);
        for _ in 0..most {
            let Some((number, at)) = self.oldest.filter(|(number, at)| self.is_beyond(*number, *at)) else { break };
            changes.insert(history_key(number), None);
            since = Some(at);
            let next = number.saturating_add(1);
            let first_new = || news.iter().find(|entry| entry.sequence >= next).map(|entry| (entry.sequence, entry.at));
            self.oldest = first_from(tree, next)?.or_else(first_new);
        }
        if let Some(since) = since {
            self.since = Some(since);
            changes.insert(META_HISTORY_SINCE.to_owned(), Some(Record::HistorySince(since)));
        }
        Ok(())
    }

    /// What was handed out is on disk.
    pub(super) fn durable(&self) {
        self.end.store(self.next, Ordering::Release);
    }

    fn is_beyond(&self, number: u64, at: UnixMillis) -> bool {
        let is_old = !self.limits.age.is_zero() && self.at.saturating_since(at) > self.limits.age;
        is_old || self.next.saturating_sub(number) > self.limits.size
    }
}

/// The first entry on disk with this number or a larger one.
fn first_from(tree: &sled::Db, number: u64) -> Result<Option<(u64, UnixMillis)>, StoreError> {
    let found = entries(tree, number, u64::MAX).next().transpose()?;
    Ok(found.map(|entry| (entry.sequence, entry.at)))
}

/// The entries on disk from one number up to another, which is not among them.
fn entries(tree: &sled::Db, from: u64, end: u64) -> impl DoubleEndedIterator<Item = Result<HistoryEntry, StoreError>> {
    let (from, end) = (history_key(from), history_key(end));
    let empty = from >= end;
    let range = (!empty).then(|| tree.range(from..end));
    range.into_iter().flatten().filter_map(|entry| {
        let (key, bytes) = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(StoreError::Read(error))),
        };
        match Record::decode(&key, &bytes) {
            Ok(Record::History(entry)) => Some(Ok(*entry)),
            Ok(_) => None,
            Err(error) => Some(Err(StoreError::History(error))),
        }
    })
}

/// What is asked of the history. All conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// About this address.
    pub address: Option<Vip>,
    /// About Services of this namespace.
    pub namespace: Option<String>,
    /// About Services of this name.
    pub name: Option<String>,
    /// At this time or later.
    pub from: Option<UnixMillis>,
    /// At this time or before.
    pub to: Option<UnixMillis>,
    /// After the entry of this number.
    pub after: Option<u64>,
    /// How many at most.
    pub size: usize,
}

impl HistoryQuery {
    fn admits(&self, entry: &HistoryEntry) -> bool {
        let service = entry.fact.service();
        let is_of = |wanted: &Option<String>, part: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == part);
        self.address.is_none_or(|vip| entry.fact.addresses().contains(&vip))
            && is_of(&self.namespace, service.map(|service| service.namespace()))
            && is_of(&self.name, service.map(|service| service.name()))
            && self.from.is_none_or(|from| entry.at >= from)
            && self.to.is_none_or(|to| entry.at <= to)
    }
}

/// Reads the history from disk; each answer may take a moment.
#[derive(Clone, Debug)]
pub struct HistoryReader {
    tree: sled::Db,
    end: Arc<AtomicU64>,
}

impl HistoryReader {
    /// The number after that of the last durable entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// From when on the history is whole.
    ///
    /// # Errors
    /// The disk fails.
    pub fn since(&self) -> Result<UnixMillis, StoreError> {
        let bytes = self.tree.get(META_HISTORY_SINCE).map_err(StoreError::Read)?;
        let record = bytes.map(|bytes| Record::decode(META_HISTORY_SINCE.as_bytes(), &bytes)).transpose().map_err(StoreError::History)?;
        Ok(if let Some(Record::HistorySince(since)) = record { since } else { UnixMillis::default() })
    }

    /// A page of the entries before `end` that are asked for, the oldest first, and whether there are more.
    ///
    /// # Errors
    /// The disk fails.
    pub fn page(&self, query: &HistoryQuery, end: u64) -> Result<(Vec<HistoryEntry>, bool), StoreError> {
        let from = query.after.map_or(0, |after| after.saturating_add(1));
        let mut page = Vec::new();
        for entry in entries(&self.tree, from, end) {
            let entry = entry?;
            if query.admits(&entry) {
                if page.len() == query.size {
                    return Ok((page, true));
                }
                page.push(entry);
            }
        }
        Ok((page, false))
    }

    /// Hands each fact before `end` that came after a time to `visit`, the newest first.
    ///
    /// # Errors
    /// The disk fails.
    pub fn back_to(&self, at: UnixMillis, end: u64, mut visit: impl FnMut(&PastFact)) -> Result<(), StoreError> {
        let read = entries(&self.tree, 0, end).rev().try_for_each(|entry| match entry {
            Ok(entry) if entry.at > at => {
                visit(&entry.fact);
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(Ok(())),
            Err(error) => ControlFlow::Break(Err(error)),
        });
        read.break_value().unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests;
