//! Names and ports of Services.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::is_object_name;

/// Between namespace and name. Below everything that names are made of, so that keys sort by namespace, then by name.
const BETWEEN: char = '\0';

/// `namespace/name` of a Service. All copies of a key are one text: a Service's key stands in many places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(Arc<str>);

impl ServiceKey {
    /// Names a Service.
    ///
    /// # Errors
    /// Either part is no name that Kubernetes would take (RFC 1123, at most 253 characters): it may become part of a file's name.
    pub fn new(namespace: &str, name: &str) -> Result<Self, ServiceKeyError> {
        if is_object_name(namespace) && is_object_name(name) {
            Ok(Self(format!("{namespace}{BETWEEN}{name}").into()))
        } else {
            Err(ServiceKeyError(format!("{namespace}/{name}")))
        }
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name within the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(BETWEEN).unwrap_or_default()
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = self.parts();
        write!(f, "{namespace}/{name}")
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ServiceKey {
    type Err = ServiceKeyError;

    fn from_str(text: &str) -> Result<Self, ServiceKeyError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| ServiceKeyError(text.to_owned()))?;
        Self::new(namespace, name)
    }
}

/// The text is not `namespace/name`, or one of them is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not NAMESPACE/NAME of lower case letters, digits, - and .")]
pub struct ServiceKeyError(String);

/// The uid that the API server gave a Service; empty where there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ServiceUid(pub String);

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    /// Kubernetes' spelling; an empty text is TCP, its default.
    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "TCP" | "" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

/// The text names no transport protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown protocol {0:?}, want TCP, UDP or SCTP")]
pub struct UnknownProtocol(String);

/// A Service's port, `TCP/80`. Node ports and target ports never matter to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port number.
    pub port: u16,
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}
