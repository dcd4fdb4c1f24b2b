//! Flags that all services have, and typed values for the others.
//!
//! Each flag has an environment variable `MOORING_<FLAG>`. A value that does not parse ends the process with exit code 2 and a message
//! that names the flag and the value.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// Plain text, for people.
    Text,
}

/// Which log lines are written: MetalLB's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    #[value(alias = "trace")]
    All,
    /// A line a request or frame.
    Debug,
    /// A line a change.
    Info,
    /// What is degraded and heals itself.
    Warn,
    /// What somebody must act on.
    Error,
    /// Nothing.
    None,
}

/// The flags that all services have.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// Log lines are written so: one JSON object a line, or plain text for people.
    #[arg(long, env = "MOORING_LOG_FORMAT", value_enum, default_value = "json", help_heading = "Logs", global = true)]
    pub log_format: LogFormat,
    /// Log lines of this level and above are written; the variable RUST_LOG wins over it.
    #[arg(long, env = "MOORING_LOG_LEVEL", value_enum, default_value = "info", help_heading = "Logs", global = true)]
    pub log_level: LogLevel,
    /// This file has the process's certificate chain in PEM; with it all gRPC is mutual TLS.
    #[arg(long, env = "MOORING_TLS_CERT", value_name = "FILE", requires_all = ["tls_key", "tls_ca"], help_heading = "TLS", global = true)]
    pub tls_cert: Option<PathBuf>,
    /// This file has the certificate's private key in PEM.
    #[arg(long, env = "MOORING_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = "TLS", global = true)]
    pub tls_key: Option<PathBuf>,
    /// This file has the authority in PEM that the other side's certificate must come from.
    #[arg(long, env = "MOORING_TLS_CA", value_name = "FILE", requires = "tls_cert", help_heading = "TLS", global = true)]
    pub tls_ca: Option<PathBuf>,
    /// Plain text is spoken also beyond loopback addresses and Unix sockets, where anybody on the network can read and speak it.
    #[arg(long, env = "MOORING_INSECURE", help_heading = "TLS", global = true)]
    pub insecure: bool,
}

impl CommonArgs {
    /// Ends the process with exit code 2 if gRPC would be served in plain text beyond this machine without `--insecure`.
    pub fn check_listen<C: CommandFactory>(&self, listen: &ListenAddress) {
        if !listen.stays_here() && !self.insecure && self.tls_cert.is_none() {
            bad_flag::<C>(&format!(
                "--listen {listen} would carry gRPC in plain text beyond this machine: give --tls-cert, --tls-key and --tls-ca, or --insecure"
            ));
        }
    }

    /// Ends the process with exit code 2 if the allocator would be spoken to in plain text against what the flags say, or by TLS without a
    /// certificate.
    pub fn check_allocator<C: CommandFactory>(&self, allocator: &Endpoint) {
        if let Err(problem) = self.may_speak_to(allocator) {
            bad_flag::<C>(&format!("--allocator {allocator} {problem}"));
        }
    }

    /// Plain text is for Unix sockets and loopback addresses, without a certificate, unless it is asked for.
    fn may_speak_to(&self, allocator: &Endpoint) -> Result<(), &'static str> {
        let Endpoint::Uri(_) = allocator else { return Ok(()) };
        match (allocator.is_plain(), self.tls_cert.is_some()) {
            (false, false) => Err("needs a certificate: give --tls-cert, --tls-key and --tls-ca"),
            (true, true) if !self.insecure => {
                Err("would carry gRPC in plain text although --tls-cert is given: give https://, or --insecure")
            }
            (true, false) if !self.insecure && !allocator.stays_here() => Err(
                "would carry gRPC in plain text beyond this machine: give https:// with --tls-cert, --tls-key and --tls-ca, or --insecure",
            ),
            (true | false, true | false) => Ok(()),
        }
    }
}

/// Ends the process as clap does for a bad flag: the message and the usage on standard error, exit code 2.
pub fn bad_flag<C: CommandFactory>(message: &str) -> ! {
    C::command().error(ErrorKind::ValueValidation, message).exit()
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 picks one.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn stays_here(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The text is no place to listen at or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl FromStr for ListenAddress {
    type Err = AddressError;

    /// `IP:PORT`, `localhost:PORT`, `:PORT` for all addresses, or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(AddressError("unix: wants a path".to_owned())) } else { Ok(Self::Unix(path.into())) };
        }
        let numeric = match text.split_once(':') {
            Some(("localhost", port)) => format!("127.0.0.1:{port}"),
            Some(("", port)) => format!("[::]:{port}"),
            _ => text.to_owned(),
        };
        numeric.parse().map(Self::Tcp).map_err(|_invalid| AddressError("want IP:PORT or unix:PATH".to_owned()))
    }
}

/// Where a gRPC server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    Uri(http::Uri),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether it is spoken to in plain text; a Unix socket always is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Uri(uri) => uri.scheme_str() != Some("https"),
        }
    }

    /// Whether what is said to it stays on this machine.
    #[must_use]
    pub fn stays_here(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Uri(uri) => {
                let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => uri.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    /// `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` (plain), or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: http::Uri = full.parse().map_err(|error| AddressError(format!("want http://HOST:PORT or unix:PATH: {error}")))?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let whole = uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some();
        if known && whole {
            Ok(Self::Uri(uri))
        } else {
            Err(AddressError("want http://HOST:PORT, https://HOST:PORT or unix:PATH".to_owned()))
        }
    }
}

/// Parses a duration such as `800ms`, `10s` or `0`, for clap.
///
/// # Errors
/// The text is no duration.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; want a number with a unit, such as 800ms or 10s"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn addresses_to_listen_at() {
        let cases = [
            ("127.0.0.1:7470", Ok(("127.0.0.1:7470", true))),
            ("localhost:0", Ok(("127.0.0.1:0", true))),
            ("[::1]:7470", Ok(("[::1]:7470", true))),
            (":7470", Ok(("[::]:7470", false))),
            ("192.0.2.1:7470", Ok(("192.0.2.1:7470", false))),
            ("unix:/run/m.sock", Ok(("unix:/run/m.sock", true))),
            ("unix:", Err("unix: wants a path")),
            ("7470", Err("want IP:PORT or unix:PATH")),
            ("127.0.0.1:70000", Err("want IP:PORT or unix:PATH")),
        ];
        for (text, wanted) in cases {
            let got = text.parse::<ListenAddress>().map(|address| (address.to_string(), address.stays_here())).map_err(|e| e.to_string());
            assert_eq!(got, wanted.map(|(text, here)| (text.to_owned(), here)).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn places_to_connect_to() {
        let cases = [
            ("http://127.0.0.1:7470", Some(true)),
            ("http://localhost:7470", Some(true)),
            ("http://[::1]:7470", Some(true)),
            ("https://allocator.mooring-system:7470", Some(false)),
            ("allocator:7470", Some(false)),
            ("unix:/run/m.sock", Some(true)),
            ("http://allocator", None),
            ("ftp://allocator:1", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Endpoint>().ok().map(|endpoint| endpoint.stays_here()), wanted, "{text}");
        }
    }

    #[test]
    fn plain_text_is_for_loopback_and_unix_sockets_without_a_certificate_unless_it_is_asked_for() {
        let common = |tls: bool, insecure: bool| {
            let tls = tls.then_some(["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"]);
            let insecure = insecure.then_some("--insecure");
            Flags::try_parse_from(["x"].into_iter().chain(tls.into_iter().flatten()).chain(insecure)).unwrap().common
        };
        let (beyond, although, needs) = ("beyond this machine", "although --tls-cert is given", "needs a certificate");
        // Without and with certificates; then the same with --insecure.
        let cases = [
            ("http://10.0.0.1:7470", [beyond, although, "", ""]),
            ("10.0.0.1:7470", [beyond, although, "", ""]),
            ("http://127.0.0.1:7470", ["", although, "", ""]),
            ("https://127.0.0.1:7470", [needs, "", needs, ""]),
            ("https://10.0.0.1:7470", [needs, "", needs, ""]),
            ("unix:/run/m.sock", ["", "", "", ""]),
        ];
        for (endpoint, wanted) in cases {
            let endpoint = endpoint.parse().unwrap();
            let told = [(false, false), (true, false), (false, true), (true, true)]
                .map(|(tls, insecure)| common(tls, insecure).may_speak_to(&endpoint).err().unwrap_or_default());
            let fits = told.iter().zip(wanted).all(|(told, wanted)| told.contains(wanted) && told.is_empty() == wanted.is_empty());
            assert!(fits, "{endpoint}: {told:?}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(
            (duration("0"), duration("800ms"), duration("2m")),
            (Ok(Duration::ZERO), Ok(Duration::from_millis(800)), Ok(Duration::from_secs(120)))
        );
        assert!(duration("5").unwrap_err().contains("want a number with a unit"));
    }
}
