//! Logs: one line an event, with MetalLB's keys; on standard output, unless that is taken by a result.
//!
//! Whoever reads standard output may stop to read, and a write to it then blocks. So lines go to a thread of their own by a bounded
//! mailbox (policy: shed), and nobody who decides or answers ever waits for it: what finds no room is dropped and counted.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{LogFormat, LogLevel};
use crate::clock;
use crate::mailbox::{Address, Mailbox, mailbox};

/// Lines that may wait: a takeover of thousands of VIPs logs three for each Service, at some 300 bytes.
const DEPTH: usize = 16_384;

/// Lines that are written at once.
const BATCH: usize = 256;

/// How long the last lines may take when the process ends.
const FLUSH: Duration = Duration::from_secs(1);

/// How often room is looked for meanwhile.
const LOOKS: u32 = 100;

/// What the libraries say below `info` is their developers' business.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,tower=info,rustls=info,sled=info,kube_client=info,tonic=info,netlink_proto=info";

/// kube logs each failed request at `error`, although its caller handles and reports it.
const HANDLED: &str = "kube_client=off,kube_runtime=off";

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output: of a service.
    Standard,
    /// Standard error: of a task whose result is on standard output.
    Error,
}

/// What the thread that writes is sent.
#[derive(Debug)]
enum Out {
    /// A line, its end included.
    Line(Vec<u8>),
    /// Says when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Where the lines of the process wait.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// Sends all log lines of the process where they belong. `RUST_LOG` wins over the level.
///
/// # Errors
/// The thread that writes cannot be started.
pub fn init(format: LogFormat, level: LogLevel, output: Output) -> io::Result<()> {
    let directive = match level {
        LogLevel::All => format!("trace,{QUIET}"),
        LogLevel::Debug => format!("debug,{QUIET}"),
        LogLevel::Info => format!("info,{HANDLED}"),
        LogLevel::Warn => format!("warn,{HANDLED}"),
        LogLevel::Error => format!("error,{HANDLED}"),
        LogLevel::None => "off".to_owned(),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(directive));
    let (address, waiting) = mailbox(DEPTH);
    let queue = QUEUE.get_or_init(|| Queue(address)).clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).event_format(Lines { format }).with_writer(queue);
    if lines.try_init().is_err() {
        tracing::debug!("logs are set up already");
        return Ok(());
    }
    // Not supervised: it has to write what the supervisor says last.
    let out: Box<dyn Write + Send> = match output {
        Output::Standard => Box::new(io::stdout()),
        Output::Error => Box::new(io::stderr()),
    };
    std::thread::Builder::new().name("log".to_owned()).spawn(move || write_all(waiting, out)).map(drop)
}

/// Waits until what was logged so far is written, but not for ever.
pub fn flush() {
    let Some(Queue(queue)) = QUEUE.get() else { return };
    let (done, written) = mpsc::sync_channel(1);
    let mut asked = false;
    for _ in 0..LOOKS {
        asked = asked || queue.offer(Out::Flush(done.clone()));
        if written.recv_timeout(FLUSH / LOOKS).is_ok() {
            return;
        }
    }
}

/// Lines of the process that were dropped, as standard output did not take them.
#[must_use]
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |Queue(queue)| queue.shed())
}

/// Writes what comes until nobody can send anything any more.
fn write_all(mut waiting: Mailbox<Out>, mut out: impl Write) {
    let mut told = 0;
    loop {
        let batch = waiting.take_blocking(BATCH);
        if batch.is_empty() {
            return;
        }
        let (mut text, mut flushed) = (Vec::new(), Vec::new());
        for each in batch {
            match each {
                Out::Line(line) => text.extend(line),
                Out::Flush(done) => flushed.push(done),
            }
        }
        // A reader that has gone is no reason to end.
        drop(out.write_all(&text).and_then(|()| out.flush()));
        for done in flushed {
            // Whoever asked may have gone.
            done.try_send(()).unwrap_or_default();
        }
        let dropped = dropped();
        if dropped != told && waiting.is_empty() {
            tracing::warn!(event = "logLinesDropped", lines = dropped.saturating_sub(told), "standard output did not take them in time");
            told = dropped;
        }
    }
}

/// The way to the thread that writes.
#[derive(Clone, Debug)]
struct Queue(Address<Out>);

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

/// One line: the formatter writes it whole.
struct Line<'a>(&'a Address<Out>);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Without room it is dropped, and counted there.
        self.0.offer(Out::Line(bytes.to_vec()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An error with all its causes, outermost first, joined by `: `.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}

struct Lines {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut keys = Keys::default();
        event.record(&mut keys);
        let timestamp = timestamp(clock::since_epoch());
        let line = match self.format {
            LogFormat::Json => json(keys.0, event.metadata(), timestamp),
            LogFormat::Text => text(keys.0, event.metadata(), &timestamp),
        };
        writeln!(writer, "{line}")
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn timestamp(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let date = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{}.{:09}Z", date.strftime("%Y-%m-%dT%H:%M:%S"), since_epoch.subsec_nanos())
}

fn caller(metadata: &Metadata<'_>) -> String {
    let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    format!("{file}:{}", metadata.line().unwrap_or_default())
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn json(mut keys: BTreeMap<String, Value>, metadata: &Metadata<'_>, timestamp: String) -> String {
    keys.insert("caller".to_owned(), caller(metadata).into());
    keys.insert("level".to_owned(), level(*metadata.level()).into());
    keys.insert("ts".to_owned(), timestamp.into());
    Value::Object(keys.into_iter().collect()).to_string()
}

fn text(mut keys: BTreeMap<String, Value>, metadata: &Metadata<'_>, timestamp: &str) -> String {
    let message = keys.remove("msg").and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let line = format!("{timestamp} {:5} {} {message}", level(*metadata.level()), caller(metadata));
    keys.into_iter().fold(line, |line, (key, value)| format!("{line} {key}={value}"))
}

/// The fields of an event by name; the message is `msg`.
#[derive(Default)]
struct Keys(BTreeMap<String, Value>);

impl Keys {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Keys {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, chain(value).into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sink(mpsc::Sender<String>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line_of(format: LogFormat, log: impl FnOnce()) -> String {
        let (sender, lines) = mpsc::channel();
        let writer = move || Sink(sender.clone());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).event_format(Lines { format }).finish();
        tracing::subscriber::with_default(subscriber, log);
        lines.try_recv().unwrap()
    }

    #[test]
    fn a_json_line_has_its_keys_in_alphabetical_order() {
        let line = line_of(LogFormat::Json, || {
            tracing::info!(event = "ipAllocated", service = %"default/web", ip = %"192.0.2.1", pool = "a \"b\"", count = 2, "IP address assigned by controller");
        });
        let parsed: Value = serde_json::from_str(&line).unwrap();
        let caller = parsed["caller"].as_str().unwrap();
        assert!(caller.starts_with("telemetry.rs:"), "{caller}");
        let ts = parsed["ts"].as_str().unwrap();
        assert!(ts.len() == 30 && ts.ends_with('Z') && ts.chars().nth(10) == Some('T'), "{ts}");
        let wanted = format!(
            r#"{{"caller":"{caller}","count":2,"event":"ipAllocated","ip":"192.0.2.1","level":"info","msg":"IP address assigned by controller","pool":"a \"b\"","service":"default/web","ts":"{ts}"}}"#
        );
        assert_eq!(line.trim_end(), wanted);
    }

    #[test]
    fn a_text_line_reads_from_left_to_right() {
        let line = line_of(LogFormat::Text, || tracing::warn!(event = "configStale", "kept the last good one"));
        let rest = line.split_once(' ').unwrap().1;
        assert!(rest.starts_with("warn  telemetry.rs:") && rest.ends_with("kept the last good one event=\"configStale\"\n"), "{rest}");
    }

    /// Standard output whose reader takes a write only when the test says so.
    struct Stuck {
        allowed: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            self.written.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_for_standard_output_and_what_finds_no_room_is_counted() {
        let (address, waiting) = mailbox(4);
        let (allow, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let queue = Queue(address.clone());
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(queue).event_format(Lines { format: LogFormat::Text }).finish();
        // Nobody reads yet: all of this returns, although there is room for four lines.
        tracing::subscriber::with_default(subscriber, || (0..10).for_each(|count| tracing::info!(count, "said")));
        assert_eq!((address.depth(), address.shed()), (4, 6));
        drop(address);
        let writer = std::thread::Builder::new().spawn(move || write_all(waiting, Stuck { allowed, written })).unwrap();
        allow.send(()).unwrap();
        writer.join().unwrap();
        let written: Vec<String> = lines.into_iter().collect();
        let counts: Vec<&str> = written[0].lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!((written.len(), counts), (1, vec!["count=0", "count=1", "count=2", "count=3"]));
    }

    #[test]
    fn a_flush_waits_for_what_was_said_before() {
        let (address, waiting) = mailbox(4);
        let (allow, allowed) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let writer = std::thread::Builder::new().spawn(move || write_all(waiting, Stuck { allowed, written })).unwrap();
        let (done, flushed) = mpsc::sync_channel(1);
        assert!(address.offer(Out::Line(b"last words\n".to_vec())) && address.offer(Out::Flush(done)));
        assert!(flushed.try_recv().is_err());
        allow.send(()).unwrap();
        flushed.recv().unwrap();
        assert_eq!(lines.try_recv().unwrap(), "last words\n");
        drop(address);
        writer.join().unwrap();
    }

    #[test]
    fn a_timestamp_has_nanoseconds() {
        assert_eq!(timestamp(Duration::new(1_767_323_045, 6)), "2026-01-02T03:04:05.000000006Z");
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let inner = io::Error::other("disk is full");
        let outer = io::Error::other(inner);
        assert_eq!(chain(&outer), "disk is full");
        let error = anyhow::Error::from(io::Error::other("disk is full")).context("could not flush");
        assert_eq!(chain(error.as_ref()), "could not flush: disk is full");
    }
}
