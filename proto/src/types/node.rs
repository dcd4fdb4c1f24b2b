//! Nodes, their speakers and interfaces.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::labels::Labels;

/// The label that keeps a node from announcing, with any value (Kubernetes' well-known labels).
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name, or `None` for an empty text.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                (!text.is_empty()).then(|| Self(text.to_owned()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A node's name; never empty.
    NodeName
}
name! {
    /// Which of a node's speakers; never empty.
    Instance
}
name! {
    /// A network interface's name; never empty.
    InterfaceName
}

impl Default for Instance {
    /// The only speaker of a node is called `default`.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// One speaker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpeakerId {
    /// The node it runs on.
    pub node: NodeName,
    /// Which of the node's speakers it is.
    pub instance: Instance,
}

impl fmt::Display for SpeakerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.instance)
    }
}

/// An EUI-48 hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// All stations, `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let value = part.and_then(|part| u8::from_str_radix(part, 16).ok());
            *octet = value.ok_or_else(|| MacAddressError(text.to_owned()))?;
        }
        if parts.next().is_some() { Err(MacAddressError(text.to_owned())) } else { Ok(Self(octets)) }
    }
}

/// The text is not `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid hardware address {0:?}, want aa:bb:cc:dd:ee:ff")]
pub struct MacAddressError(String);

/// An interface that is up and can answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Its name.
    pub name: InterfaceName,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// What the cluster says of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: Labels,
    /// Its condition `NetworkUnavailable` is True.
    pub network_unavailable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_reads_back_and_refuses_everything_else() {
        assert_eq!("02:00:AC:11:00:0b".parse::<MacAddress>().unwrap().to_string(), "02:00:ac:11:00:0b");
        for bad in ["", "02:00:ac:11:00", "02:00:ac:11:00:0b:00", "2:00:ac:11:00:0b", "02:00:ac:11:00:0g", "+2:00:ac:11:00:0b"] {
            assert_eq!(bad.parse::<MacAddress>(), Err(MacAddressError(bad.to_owned())), "{bad}");
        }
    }
}
