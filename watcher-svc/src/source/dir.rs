//! Manifests in a directory as a source, followed.
//!
//! `.yaml`, `.yml` and `.json` files in any nesting of folders are read, names that begin with `.` are passed over, as `kubectl apply -R -f`
//! does. A file counts when whoever writes it has closed it, and what cannot be read keeps what it last said.

mod manifest;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mooring_kit::Stop;
use mooring_kit::backoff::{Backoff, pause};
use mooring_kit::clock::Clock;
use mooring_kit::telemetry::chain;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};
use walkdir::WalkDir;

use self::manifest::Manifest;
use self::tree::{Found, Tree};
use crate::logs;
use crate::source::status_dir::{is_replacement, key_of, replace_file};
use crate::source::{Change, Kind};

/// How long it must be quiet before the directory is read: editors replace a file in several steps.
const QUIET: Duration = Duration::from_millis(10);

/// How long a file may stay open after the last write to it before it is read all the same; other files do not wait for it.
const OPEN_LIMIT: Duration = Duration::from_secs(1);

/// How long the directory may be unquiet before it is read all the same.
const UNQUIET_LIMIT: Duration = Duration::from_secs(1);

/// The pauses between attempts to read a directory that has vanished.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Which objects are configuration.
#[derive(Clone, Debug)]
pub struct DirConfig {
    /// `--namespace`.
    pub namespace: String,
    /// `--config`.
    pub config_map: String,
}

impl DirConfig {
    /// Whether an object is of a kind that configures, but not where the configuration is read from; and if so, whether its owner
    /// probably meant it to be.
    fn misplaced(&self, manifest: &Manifest) -> Option<bool> {
        match manifest.kind {
            Kind::ConfigMap if manifest.name.name != self.config_map => Some(false),
            Kind::ConfigMap | Kind::IpAddressPool | Kind::L2Advertisement => {
                (manifest.name.namespace != self.namespace).then_some(manifest.kind != Kind::ConfigMap)
            }
            Kind::Namespace | Kind::Node | Kind::EndpointSlice | Kind::Service => None,
        }
    }
}

/// What stood in `--status-dir` at the start.
#[derive(Debug)]
pub struct Before {
    /// The Services as their status files have them.
    pub statuses: BTreeMap<ServiceKey, Value>,
    /// The folder with the files of the directory as they were when they were good: one that is no good after a restart says what it
    /// last said, as one does that is no good while the watcher runs.
    pub copies: PathBuf,
    /// The folder with the Services' status files; one that is taken away or edited is told.
    pub services: PathBuf,
    /// The folder with the pools' status files; what becomes of them is told.
    pub pools: PathBuf,
    /// Who writes all that.
    pub writer: Writer,
}

/// Who writes what stands in `--status-dir`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// This watcher alone, so that what it wrote is no news to it.
    #[default]
    Own,
    /// Another one, if any: nothing is written there, and each status that changes is told.
    Other,
}

/// The folders of status files that are followed.
#[derive(Clone, Debug)]
struct Written {
    services: PathBuf,
    pools: PathBuf,
}

/// What happened in the directory since it was last read.
#[derive(Debug, Default)]
struct Pending {
    /// How many things happened in all.
    seen: u64,
    /// Files that are open for writing, each with when it was last written to.
    open: BTreeMap<PathBuf, Mono>,
    /// Files that were written to.
    touched: BTreeSet<PathBuf>,
    /// The directory itself came or went, or events were lost.
    renewed: bool,
    /// Services whose status file was taken away or edited.
    wiped: BTreeSet<ServiceKey>,
    /// Something became of the pools' status files.
    counters: bool,
    /// Status files that another watcher wrote or took away.
    restated: BTreeSet<PathBuf>,
    writer: Writer,
    /// The rename by which this watcher last replaced a file, as the file system counts them.
    own_rename: Option<usize>,
}

impl Pending {
    fn take_in(&mut self, event: notify::Result<notify::Event>, root: &Path, written: &Written, now: Mono) {
        let Ok(event) = event else {
            self.renewed = true;
            self.seen = self.seen.saturating_add(1);
            return;
        };
        if event.need_rescan() {
            self.renewed = true;
        }
        self.take_in_status(&event, written);
        // Reading the directory is no news, and neither is what happens beside it.
        let is_news = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => false,
            EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
        };
        let paths: Vec<PathBuf> = event.paths.into_iter().filter(|path| path.starts_with(root)).collect();
        if !is_news || (paths.is_empty() && !self.renewed) {
            return;
        }
        self.seen = self.seen.saturating_add(1);
        for path in paths {
            match event.kind {
                EventKind::Access(_) | EventKind::Remove(_) => {
                    self.open.remove(&path);
                }
                // A link is made at once, nobody writes to it.
                EventKind::Create(CreateKind::File) if path.is_symlink() => {}
                EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Data(_)) => {
                    self.open.insert(path.clone(), now);
                }
                EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => {}
            }
            if path == root {
                self.renewed = true;
            }
            self.touched.insert(path);
        }
    }

    /// Takes in what became of status files. Another watcher's are all news; this one's own replaces them by a rename of its own, so
    /// whoever removes one, writes to one in place or moves another one there is somebody else.
    fn take_in_status(&mut self, event: &notify::Event, written: &Written) {
        let before = (self.wiped.len(), self.restated.len(), self.counters);
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::From)) && event.paths.iter().all(|path| is_replacement(path)) {
            self.own_rename = event.tracker();
        }
        let is_own_rename = event.tracker().is_some() && event.tracker() == self.own_rename;
        for path in event.paths.iter().filter(|path| is_manifest(path)) {
            let is_service = path.parent() == Some(&written.services);
            match (self.writer, event.kind) {
                (Writer::Other, EventKind::Access(AccessKind::Open(_) | AccessKind::Read)) => {}
                (Writer::Other, _) => self.restated.extend(is_service.then(|| path.clone())),
                (Writer::Own, EventKind::Modify(ModifyKind::Name(_))) if is_own_rename => {}
                (Writer::Own, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) => {
                    self.wiped.extend(key_of(path).filter(|_| is_service));
                    self.counters |= path.parent() == Some(&written.pools);
                }
                (Writer::Own, EventKind::Access(AccessKind::Close(AccessMode::Write))) => {
                    self.wiped.extend(key_of(path).filter(|_| is_service));
                    self.counters |= path.parent() == Some(&written.pools);
                }
                (Writer::Own, _) => {}
            }
        }
        self.seen = self.seen.saturating_add(u64::from(before != (self.wiped.len(), self.restated.len(), self.counters)));
    }

    /// What has happened; files that are still being written to are left for later and named apart.
    fn take_out(&mut self, now: Mono) -> Happened {
        self.open.retain(|_, written| *written + OPEN_LIMIT > now);
        let busy: BTreeSet<PathBuf> = self.open.keys().cloned().collect();
        let (later, touched) = std::mem::take(&mut self.touched).into_iter().partition(|path| busy.contains(path));
        self.touched = later;
        Happened {
            touched,
            busy,
            wiped: std::mem::take(&mut self.wiped),
            restated: std::mem::take(&mut self.restated),
            counters: std::mem::take(&mut self.counters),
            renewed: std::mem::take(&mut self.renewed),
        }
    }

    /// When the first file that is open is read all the same.
    fn next_deadline(&self) -> Option<Mono> {
        self.open.values().min().map(|written| *written + OPEN_LIMIT)
    }
}

/// What happened in the directory, to be acted on now.
#[derive(Debug, Default)]
struct Happened {
    touched: BTreeSet<PathBuf>,
    /// Files that are being written to: they say what they last said.
    busy: BTreeSet<PathBuf>,
    wiped: BTreeSet<ServiceKey>,
    counters: bool,
    restated: BTreeSet<PathBuf>,
    renewed: bool,
}

/// Follows the directory until asked to stop, and says what is in it.
///
/// `before` is what `--status-dir` has from before the start.
///
/// # Errors
/// The directory is not there at the start, or cannot be followed; or whoever reads `changes` has ended.
pub async fn follow(
    root: PathBuf,
    config: DirConfig,
    before: Before,
    changes: mpsc::Sender<Vec<Change>>,
    clock: Clock,
    stop: Stop,
) -> anyhow::Result<()> {
    let root = std::path::absolute(&root).with_context(|| format!("no such directory: {}", root.display()))?;
    let Before { statuses, copies, services, pools, writer } = before;
    let (pending, mut news) = watch::channel(Pending { writer, ..Pending::default() });
    let written = Written { services: std::path::absolute(&services)?, pools: std::path::absolute(&pools)? };
    let mut watcher = watcher(&root, written.clone(), pending.clone(), clock)?;
    watch_root(&mut watcher, &root)?;
    let services = &written.services;
    if writer == Writer::Other && !services.is_dir() {
        info!(event = logs::STATUS_ABSENT, directory = %services.display(), "no status files; only what the manifests say of statuses counts");
    } else {
        watcher.watch(services, RecursiveMode::NonRecursive).with_context(|| format!("could not follow {}", services.display()))?;
    }
    if writer == Writer::Own {
        let pools = &written.pools;
        watcher.watch(pools, RecursiveMode::NonRecursive).with_context(|| format!("could not follow {}", pools.display()))?;
    }
    let mut reader = Reader { root: root.clone(), copies, writer, stamps: BTreeMap::new(), tree: Tree::new(config, statuses) };
    // Followed first, read then: what another watcher writes meanwhile is read once more.
    let restated = if writer == Writer::Other { files_in(services) } else { BTreeSet::new() };
    let mut happened = Happened { restated, ..Happened::default() };
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut away = false;
    loop {
        #[expect(clippy::disallowed_methods, reason = "one reading at a time, and it ends by itself")]
        let reading = tokio::task::spawn_blocking(move || reader.read(&happened));
        let (back, read) = reading.await.context("the directory's reader ended")?;
        reader = back;
        match read {
            Ok(told) => {
                if std::mem::take(&mut away) {
                    info!(event = logs::DIRECTORY_BACK, directory = %root.display(), "the directory is back");
                }
                tokio::select! {
                    sent = changes.send(told) => sent.context("nobody reads the manifests")?,
                    () = stop.cancelled() => return Ok(()),
                }
                tokio::select! {
                    () = settled(&mut news, clock) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    let error = chain(error.as_ref());
                    warn!(event = logs::DIRECTORY_AWAY, directory = %root.display(), error, "the directory cannot be read; what it said stays");
                }
                tokio::select! {
                    () = backoff.pause() => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
        happened = Happened::default();
        pending.send_if_modified(|pending| {
            happened = pending.take_out(clock.now());
            false
        });
        let wiped = std::mem::take(&mut happened.wiped).into_iter().map(Change::StatusGone);
        let wiped: Vec<Change> = wiped.chain(happened.counters.then_some(Change::CountersTouched)).collect();
        if !wiped.is_empty() {
            changes.send(wiped).await.context("nobody reads the manifests")?;
        }
        if happened.renewed || away {
            // Another directory may stand under the name by now. While there is none it is looked for again.
            let _absent = watcher.unwatch(&root);
            if let Err(error) = watch_root(&mut watcher, &root) {
                away = true;
                debug!(error = %chain(error.as_ref()), "not followed yet");
            } else {
                backoff.reset();
            }
        }
    }
}

fn watcher(root: &Path, written: Written, pending: watch::Sender<Pending>, clock: Clock) -> anyhow::Result<RecommendedWatcher> {
    let at = root.to_owned();
    let told = move |event: notify::Result<notify::Event>| {
        pending.send_if_modified(|pending| {
            let before = pending.seen;
            pending.take_in(event, &at, &written, clock.now());
            pending.seen != before
        });
    };
    let mut watcher = notify::recommended_watcher(told).context("could not follow any directory (inotify)")?;
    // The directory may be a link that is changed, or be removed and made again: its parent sees that.
    if let Some(parent) = root.parent() {
        watcher.watch(parent, RecursiveMode::NonRecursive).with_context(|| format!("could not follow {}", parent.display()))?;
    }
    Ok(watcher)
}

/// The files in a folder; none if it is not there.
fn files_in(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| is_manifest(path)).collect()
}

fn watch_root(watcher: &mut RecommendedWatcher, root: &Path) -> anyhow::Result<()> {
    watcher.watch(root, RecursiveMode::Recursive).with_context(|| format!("could not follow the directory {}", root.display()))
}

/// Waits until something happened and it is quiet again, or it has been unquiet for too long, or a file has been open for too long.
async fn settled(news: &mut watch::Receiver<Pending>, clock: Clock) {
    let open = news.borrow().next_deadline();
    tokio::select! {
        changed = news.changed() => if changed.is_err() { return std::future::pending().await },
        () = clock.wait_until(open) => return,
    }
    let quiet = async {
        loop {
            news.mark_unchanged();
            tokio::select! {
                changed = news.changed() => if changed.is_err() { return },
                () = pause(QUIET) => return,
            }
        }
    };
    tokio::select! {
        () = quiet => {}
        () = pause(UNQUIET_LIMIT) => {}
    }
}

/// A file's marks, by which it is known not to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

struct Reader {
    root: PathBuf,
    copies: PathBuf,
    writer: Writer,
    stamps: BTreeMap<PathBuf, Stamp>,
    tree: Tree,
}

impl Reader {
    /// Reads the directory again and says what changed.
    fn read(mut self, happened: &Happened) -> (Self, anyhow::Result<Vec<Change>>) {
        let listed = fs::read_dir(&self.root).with_context(|| format!("could not list {}", self.root.display()));
        if let Err(error) = listed {
            return (self, Err(error));
        }
        let (mut found, mut unknown) = (BTreeMap::new(), Vec::new());
        let shown = |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
        for entry in WalkDir::new(&self.root).follow_links(true).into_iter().filter_entry(shown) {
            match entry {
                Ok(entry) if entry.file_type().is_file() && is_manifest(entry.path()) => {
                    let path = entry.into_path();
                    let read = if happened.busy.contains(&path) { Found::Same } else { self.read_file(&path, &happened.touched) };
                    found.insert(path, read);
                }
                Ok(_) => {}
                // A link to nothing, or a file that has just gone, is no file.
                Err(error) if error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(&self.root).to_owned();
                    warn!(event = logs::FILE_MALFORMED, file = %path.display(), error = %chain(&error), "not readable; what it last said stays");
                    unknown.push(path);
                }
            }
        }
        self.stamps.retain(|path, _| found.contains_key(path));
        if self.tree.is_new() {
            self.forget_copies(&found);
        }
        for path in &happened.restated {
            self.tree.restate(path);
        }
        let copy = |path: &Path| path.strip_prefix(&self.root).map_or_else(|_outside| self.copies.clone(), |inner| self.copies.join(inner));
        let keep = self.tree.read(found, &unknown, |path| fs::read_to_string(copy(path)).ok());
        for (path, text) in keep.into_iter().filter(|_| self.writer == Writer::Own) {
            let copy = copy(&path);
            let kept = match &text {
                Some(text) if fs::read_to_string(&copy).is_ok_and(|kept| kept == *text) => Ok(()),
                Some(text) => fs::create_dir_all(copy.parent().unwrap_or(&self.copies)).and_then(|()| replace_file(&copy, text)),
                None => fs::remove_file(&copy),
            };
            if let Err(error) = kept {
                debug!(file = %copy.display(), error = %chain(&error), "the copy of a good file could not be kept");
            }
        }
        let changes = self.tree.changes();
        (self, Ok(changes))
    }

    /// Files that went while nobody looked are not to come back by their copies.
    fn forget_copies(&self, found: &BTreeMap<PathBuf, Found>) {
        if self.writer == Writer::Other {
            return;
        }
        for copy in WalkDir::new(&self.copies).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
            let of = copy.path().strip_prefix(&self.copies).map(|inner| self.root.join(inner));
            if of.is_ok_and(|path| !found.contains_key(&path))
                && let Err(error) = fs::remove_file(copy.path())
            {
                debug!(file = %copy.path().display(), error = %chain(&error), "the copy of a file that is gone stays");
            }
        }
    }

    fn read_file(&mut self, path: &Path, touched: &BTreeSet<PathBuf>) -> Found {
        let stamp = fs::metadata(path).ok().map(|file| Stamp {
            inode: file.ino(),
            length: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        });
        if stamp.is_some() && self.stamps.get(path) == stamp.as_ref() && !touched.contains(path) {
            return Found::Same;
        }
        match fs::read_to_string(path) {
            Ok(text) => {
                self.stamps.extend(stamp.map(|stamp| (path.to_owned(), stamp)));
                Found::Text(text)
            }
            Err(error) => {
                self.stamps.remove(path);
                Found::Unreadable(error.to_string())
            }
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests;
