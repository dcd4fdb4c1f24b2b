//! Nodes, their speakers and interfaces.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::is_object_name;
use super::labels::Labels;

/// The label that keeps a node from announcing, with any value (Kubernetes' well-known labels).
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What the name of an object is made of.
const OBJECT_NAME: &str = "at most 253 lower case letters, digits, - and ., the first and the last a letter or digit";

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $is_name:path, $want:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name, or `None` for a text that is none; parsing it says why.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text {
                    "" => Err(NameError::Empty),
                    _ if $is_name(text) => Ok(Self(text.to_owned())),
                    _ => Err(NameError::Wrong { text: text.to_owned(), want: $want }),
                }
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
    /// A node's name, as Kubernetes takes it.
    NodeName, is_object_name, OBJECT_NAME
}
name! {
    /// Which of a node's speakers, named as Kubernetes names objects.
    Instance, is_object_name, OBJECT_NAME
}
name! {
    /// A network interface's name, as Linux takes it.
    InterfaceName, is_interface_name, "1 to 15 bytes without space, / and :"
}

/// The text is no name of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("is empty")]
    Empty,
    /// The text is something else.
    #[error("{text:?} is no such name, want {want}")]
    Wrong {
        /// The text.
        text: String,
        /// What a name is made of.
        want: &'static str,
    },
}

/// As the kernel's `dev_valid_name`.
fn is_interface_name(text: &str) -> bool {
    let wrong = |byte: u8| matches!(byte, b'/' | b':' | b' ' | 0x09..=0x0d | 0xa0);
    (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.bytes().any(wrong)
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
    /// It is cordoned: what it announces is to leave.
    pub cordoned: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_kubernetes_and_linux_take() {
        let long = "n".repeat(254);
        let nodes = [
            ("node-a", true),
            ("10.0.0.1", true),
            ("a", true),
            ("", false),
            ("/x", false),
            ("a/b", false),
            ("Node", false),
            ("a_b", false),
        ];
        for (text, is_name) in nodes.into_iter().chain([("-a", false), ("a.", false), ("a b", false), ("\u{e9}", false), (&long, false)]) {
            assert_eq!((NodeName::new(text).is_some(), Instance::new(text).is_some()), (is_name, is_name), "{text}");
        }
        let interfaces = [("eth0", true), ("bond0.7", true), ("Ethernet_fifteen", false), ("ethernet-15-abc", true), ("\u{e9}th0", true)];
        let wrong = ["", ".", "..", "eth0:1", "eth/0", "eth 0", "eth0\n", "\u{a0}"].map(|text| (text, false));
        for (text, is_name) in interfaces.into_iter().chain(wrong) {
            assert_eq!(InterfaceName::new(text).is_some(), is_name, "{text:?}");
        }
        let wanted =
            "\"/x\" is no such name, want at most 253 lower case letters, digits, - and ., the first and the last a letter or digit";
        assert_eq!("/x".parse::<NodeName>().unwrap_err().to_string(), wanted);
        assert_eq!("".parse::<InterfaceName>().unwrap_err().to_string(), "is empty");
    }

    #[test]
    fn a_hardware_address_reads_back_and_refuses_everything_else() {
        assert_eq!("02:00:AC:11:00:0b".parse::<MacAddress>().unwrap().to_string(), "02:00:ac:11:00:0b");
        for bad in ["", "02:00:ac:11:00", "02:00:ac:11:00:0b:00", "2:00:ac:11:00:0b", "02:00:ac:11:00:0g", "+2:00:ac:11:00:0b"] {
            assert_eq!(bad.parse::<MacAddress>(), Err(MacAddressError(bad.to_owned())), "{bad}");
        }
    }
}
