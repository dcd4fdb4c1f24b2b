//! Logs: one line an event, with MetalLB's keys; on standard output, unless that is taken by a result.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{LogFormat, LogLevel};
use crate::clock;

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

/// Sends all log lines of the process where they belong. `RUST_LOG` wins over the level.
pub fn init(format: LogFormat, level: LogLevel, output: Output) {
    let directive = match level {
        LogLevel::All => format!("trace,{QUIET}"),
        LogLevel::Debug => format!("debug,{QUIET}"),
        LogLevel::Info => format!("info,{HANDLED}"),
        LogLevel::Warn => format!("warn,{HANDLED}"),
        LogLevel::Error => format!("error,{HANDLED}"),
        LogLevel::None => "off".to_owned(),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(directive));
    let writer = match output {
        Output::Standard => BoxMakeWriter::new(io::stdout),
        Output::Error => BoxMakeWriter::new(io::stderr),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(writer).event_format(Lines { format });
    if lines.try_init().is_err() {
        tracing::debug!("logs are set up already");
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
fn timestamp(since_epoch: std::time::Duration) -> String {
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
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Sink(mpsc::Sender<String>);

    impl io::Write for Sink {
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
