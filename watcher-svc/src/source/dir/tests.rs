use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::k8s::ObjectRef;

const WAIT: Duration = Duration::from_secs(10);

struct Followed {
    folder: TempDir,
    changes: mpsc::Receiver<Vec<Change>>,
    told: std::collections::VecDeque<Change>,
    stop: Stop,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Followed {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        let services = folder.path().to_owned();
        Self::begin_in(folder, services, Writer::Own).await
    }

    #[expect(clippy::disallowed_methods, reason = "joined at the end of the test")]
    async fn begin_in(folder: TempDir, services: PathBuf, writer: Writer) -> Self {
        let (sender, changes) = mpsc::channel(64);
        let stop = Stop::new();
        let config = DirConfig { namespace: "metallb-system".to_owned(), config_map: "config".to_owned() };
        let pools = folder.path().join("pools");
        if writer == Writer::Own {
            fs::create_dir(&pools).unwrap();
        }
        let before = Before { statuses: BTreeMap::new(), copies: folder.path().join("copies"), services, pools, writer };
        let task = tokio::spawn(follow(folder.path().join("in"), config, before, sender, Clock::start(), stop.clone()));
        let mut followed = Self { folder, changes, told: Default::default(), stop, task };
        if writer == Writer::Own {
            assert_eq!(followed.next().await, "synced");
        }
        followed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    async fn next(&mut self) -> String {
        while self.told.is_empty() {
            self.told.extend(tokio::time::timeout(WAIT, self.changes.recv()).await.unwrap().unwrap());
        }
        match self.told.pop_front().unwrap() {
            Change::Applied { kind, object, .. } => {
                let ip = object.pointer("/status/loadBalancer/ingress/0/ip").and_then(Value::as_str);
                format!("+{}{}", ObjectRef::of(kind.as_str(), &object).name, ip.map(|ip| format!(" {ip}")).unwrap_or_default())
            }
            Change::Deleted { object, .. } => format!("-{}", object.name),
            Change::Synced => "synced".to_owned(),
            Change::StatusGone(service) => format!("wiped {service}"),
            Change::CountersTouched => "counters".to_owned(),
            Change::Ignored { object, .. } => format!("ignored {object}"),
            Change::Listed { .. } => unreachable!("a directory lists nothing"),
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn nowhere() -> Written {
    Written { services: PathBuf::from("/nowhere"), pools: PathBuf::from("/nowhere") }
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

#[tokio::test]
async fn files_are_followed_in_new_folders_by_rename_and_as_links() {
    let mut followed = Followed::begin().await;
    fs::create_dir_all(followed.path("a/b")).unwrap();
    fs::write(followed.path("a/b/x.yml"), service("x")).unwrap();
    assert_eq!(followed.next().await, "+x");
    fs::write(followed.path(".hidden.yaml"), service("hidden")).unwrap();
    fs::write(followed.path("notes.txt"), service("notes")).unwrap();
    fs::write(followed.path("new"), service("why")).unwrap();
    fs::rename(followed.path("new"), followed.path("y.json")).unwrap();
    assert_eq!(followed.next().await, "+why");
    fs::rename(followed.path("a"), followed.folder.path().join("elsewhere")).unwrap();
    assert_eq!(followed.next().await, "-x");
    // As kubelet mounts a ConfigMap: links into a folder whose name begins with a dot, swapped as a whole.
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(followed.path(version)).unwrap();
        fs::write(followed.path(version).join("z.yaml"), service(name)).unwrap();
    }
    std::os::unix::fs::symlink("..1", followed.path("..data")).unwrap();
    std::os::unix::fs::symlink("..data/z.yaml", followed.path("z.yaml")).unwrap();
    assert_eq!(followed.next().await, "+one");
    std::os::unix::fs::symlink("..2", followed.path("..new")).unwrap();
    fs::rename(followed.path("..new"), followed.path("..data")).unwrap();
    assert_eq!((followed.next().await, followed.next().await), ("-one".to_owned(), "+two".to_owned()));
    followed.end().await;
}

#[tokio::test]
async fn a_directory_that_vanishes_keeps_what_it_said_until_it_is_back() {
    let mut followed = Followed::begin().await;
    fs::write(followed.path("x.yaml"), service("x")).unwrap();
    fs::write(followed.path("y.yaml"), service("why")).unwrap();
    let first = BTreeSet::from([followed.next().await, followed.next().await]);
    assert_eq!(first, BTreeSet::from(["+x".to_owned(), "+why".to_owned()]));
    let away = followed.folder.path().join("away");
    fs::rename(followed.path(""), &away).unwrap();
    fs::remove_file(away.join("x.yaml")).unwrap();
    fs::write(away.join("z.yaml"), service("z")).unwrap();
    fs::rename(&away, followed.path("")).unwrap();
    assert_eq!((followed.next().await, followed.next().await), ("-x".to_owned(), "+z".to_owned()));
    fs::write(followed.path("later.yaml"), service("later")).unwrap();
    assert_eq!(followed.next().await, "+later");
    followed.end().await;
}

#[tokio::test]
async fn a_status_file_that_somebody_takes_away_or_edits_is_told() {
    let mut followed = Followed::begin().await;
    let file = followed.folder.path().join("default_web.yaml");
    for text in ["one", "two"] {
        replace_file(&file, text).unwrap();
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(followed.next().await, "wiped default/web");
    fs::write(&file, "three").unwrap();
    assert_eq!(followed.next().await, "wiped default/web", "written in place");
    let beside = followed.folder.path().join("pools/edited");
    fs::write(&beside, "four").unwrap();
    fs::rename(&beside, &file).unwrap();
    assert_eq!(followed.next().await, "wiped default/web", "moved there");
    let file = followed.folder.path().join("pools/p.yaml");
    replace_file(&file, "one").unwrap();
    fs::write(&beside, "two").unwrap();
    fs::rename(&beside, &file).unwrap();
    assert_eq!(followed.next().await, "counters");
    fs::remove_file(&file).unwrap();
    assert_eq!(followed.next().await, "counters");
    followed.end().await;
}

#[tokio::test]
async fn statuses_that_another_watcher_writes_are_followed_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (statuses, manifests) = (folder.path().join("services"), folder.path().join("in"));
    fs::create_dir(&manifests).unwrap();
    fs::create_dir(&statuses).unwrap();
    let status = |ip: &str| format!("status: {{loadBalancer: {{ingress: [{{ip: {ip}, ipMode: VIP}}]}}}}\n");
    fs::write(manifests.join("web.yaml"), service("web")).unwrap();
    fs::write(statuses.join("default_web.yaml"), status("192.0.2.1")).unwrap();
    let mut followed = Followed::begin_in(folder, statuses.clone(), Writer::Other).await;
    assert_eq!((followed.next().await, followed.next().await), ("+web 192.0.2.1".to_owned(), "synced".to_owned()));
    replace_file(&statuses.join("default_web.yaml"), &status("192.0.2.2")).unwrap();
    assert_eq!(followed.next().await, "+web 192.0.2.2");
    fs::remove_file(statuses.join("default_web.yaml")).unwrap();
    assert_eq!(followed.next().await, "+web");
    // One of a Service that is not there yet counts once it is.
    replace_file(&statuses.join("default_api.yaml"), &status("192.0.2.3")).unwrap();
    fs::write(manifests.join("api.yaml"), service("api")).unwrap();
    assert_eq!(followed.next().await, "+api 192.0.2.3");
    fs::write(manifests.join("api.yaml"), "a: [").unwrap();
    fs::write(manifests.join("other.yaml"), service("other")).unwrap();
    assert_eq!(followed.next().await, "+other");
    let names = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let found: (BTreeSet<String>, BTreeSet<String>) = (names(followed.folder.path()), names(&statuses));
    assert_eq!(found, (["in", "services"].map(str::to_owned).into(), ["default_api.yaml".to_owned()].into()));
    followed.end().await;
}

#[tokio::test]
async fn without_status_files_of_another_watcher_the_manifests_own_count() {
    let folder = tempfile::tempdir().unwrap();
    let (absent, manifests) = (folder.path().join("none/services"), folder.path().join("in"));
    fs::create_dir(&manifests).unwrap();
    let own = format!("{}status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.7}}]}}}}\n", service("web"));
    fs::write(manifests.join("web.yaml"), own).unwrap();
    let mut followed = Followed::begin_in(folder, absent.clone(), Writer::Other).await;
    assert_eq!((followed.next().await, followed.next().await), ("+web 192.0.2.7".to_owned(), "synced".to_owned()));
    assert!(!absent.parent().unwrap().exists());
    followed.end().await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_the_start_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = DirConfig { namespace: String::new(), config_map: String::new() };
    let here = || folder.path().to_owned();
    let before =
        Before { statuses: BTreeMap::new(), copies: folder.path().join("copies"), services: here(), pools: here(), writer: Writer::Own };
    let error = follow(folder.path().join("none"), config, before, mpsc::channel(1).0, Clock::start(), Stop::new()).await.unwrap_err();
    assert!(chain(error.as_ref()).contains("none"), "{error:?}");
}

#[test]
fn a_file_is_open_from_its_first_write_to_its_close() {
    let (root, file) = (PathBuf::from("/r"), PathBuf::from("/r/x.yaml"));
    let event = |kind| Ok(notify::Event::new(kind).add_path(file.clone()));
    let mut pending = Pending::default();
    let written = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
    for (kind, open) in [
        (EventKind::Create(CreateKind::File), true),
        (written, true),
        (EventKind::Access(AccessKind::Open(AccessMode::Read)), true),
        (EventKind::Access(AccessKind::Close(AccessMode::Write)), false),
        (written, true),
        (EventKind::Remove(notify::event::RemoveKind::File), false),
    ] {
        pending.take_in(event(kind), &root, &nowhere(), Mono::ZERO);
        assert_eq!(pending.open.contains_key(&file), open, "{kind:?}");
    }
    assert_eq!(pending.seen, 5, "that a file is read is no news");
    pending.take_in(Ok(notify::Event::new(written).add_path("/elsewhere/y.yaml".into())), &root, &nowhere(), Mono::ZERO);
    assert_eq!((pending.seen, pending.renewed), (5, false));
    pending.take_in(Err(notify::Error::generic("lost")), &root, &nowhere(), Mono::ZERO);
    assert!(pending.renewed);
}

#[test]
fn a_file_that_is_written_to_is_read_when_it_is_closed_or_was_left_open_for_long() {
    let (root, file, other) = (PathBuf::from("/r"), PathBuf::from("/r/x.yaml"), PathBuf::from("/r/y.yaml"));
    let event = |kind, path: &Path| Ok(notify::Event::new(kind).add_path(path.to_owned()));
    let written = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
    let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
    let (set, now) = (|path: &PathBuf| BTreeSet::from([path.clone()]), Mono::ZERO);
    let mut pending = Pending::default();
    for (kind, path) in [(written, &file), (written, &other), (closed, &other)] {
        pending.take_in(event(kind, path), &root, &nowhere(), now);
    }
    let happened = pending.take_out(now);
    assert_eq!((happened.touched, happened.busy, pending.next_deadline()), (set(&other), set(&file), Some(now + OPEN_LIMIT)));
    pending.take_in(event(closed, &file), &root, &nowhere(), now);
    let happened = pending.take_out(now);
    assert_eq!((happened.touched, happened.busy, pending.next_deadline()), (set(&file), BTreeSet::new(), None));
    pending.take_in(event(written, &file), &root, &nowhere(), now);
    let happened = pending.take_out(now + OPEN_LIMIT);
    assert_eq!((happened.touched, happened.busy, pending.next_deadline()), (set(&file), BTreeSet::new(), None));
}
