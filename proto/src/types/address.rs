//! Addresses and ranges of them, with MetalLB's syntax and messages (MetalLB behaviour 2.4).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, IpSubnets, Ipv4Subnets, Ipv6Subnets};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The other version.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The version of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address that Mooring hands out. An IPv4-mapped IPv6 address is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip(IpAddr);

impl Vip {
    /// The address.
    #[must_use]
    pub fn addr(self) -> IpAddr {
        self.0
    }

    /// Its version.
    #[must_use]
    pub fn family(self) -> Family {
        Family::of(self.0)
    }

    /// The address as IPv4, if it is one.
    #[must_use]
    pub fn v4(self) -> Option<Ipv4Addr> {
        match self.0 {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// The address as IPv6, if it is one.
    #[must_use]
    pub fn v6(self) -> Option<Ipv6Addr> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    /// Whether `avoidBuggyIPs` keeps it back: an IPv4 address that ends in 0 or 255 (MetalLB behaviour 2.3).
    #[must_use]
    pub fn is_buggy(self) -> bool {
        self.v4().is_some_and(|address| matches!(address.octets(), [.., 0 | 255]))
    }
}

impl From<IpAddr> for Vip {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl From<Ipv4Addr> for Vip {
    fn from(address: Ipv4Addr) -> Self {
        Self(IpAddr::V4(address))
    }
}

impl From<Ipv6Addr> for Vip {
    fn from(address: Ipv6Addr) -> Self {
        Self::from(IpAddr::V6(address))
    }
}

impl FromStr for Vip {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse::<IpAddr>().map(Self::from).map_err(|_invalid| AddressError::Address(text.to_owned()))
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Addresses as MetalLB prints a list of them: `["10.0.0.1" "fc00::1"]`.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a>(pub &'a [Vip]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, vip) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "\"{vip}\"")?;
        }
        f.write_str("]")
    }
}

/// Why a text is not an address, a prefix or a range; the texts are MetalLB's (MetalLB behaviour 2.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an IP address.
    #[error("invalid IP address {0:?}")]
    Address(String),
    /// Not a CIDR prefix.
    #[error("invalid CIDR {0:?}")]
    Cidr(String),
    /// A range whose first address is not one.
    #[error("invalid IP range {range:?}: invalid start IP {part:?}")]
    Start {
        /// The whole text.
        range: String,
        /// The part before the `-`.
        part: String,
    },
    /// A range whose last address is not one.
    #[error("invalid IP range {range:?}: invalid end IP {part:?}")]
    End {
        /// The whole text.
        range: String,
        /// The part after the `-`.
        part: String,
    },
    /// A range that ends before it starts.
    #[error("invalid IP range {range:?}: start IP {start:?} is after the end IP {end:?}", start = start.to_string(), end = end.to_string())]
    Order {
        /// The whole text.
        range: String,
        /// Its first address.
        start: Vip,
        /// Its last address.
        end: Vip,
    },
    /// A range from one IP version to the other, which MetalLB takes for an empty one.
    #[error("invalid IP range {range:?}: start IP and end IP are of different families")]
    Families {
        /// The whole text.
        range: String,
    },
}

/// One entry of a pool's `addresses`: the text as written and the prefixes it means, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    text: String,
    prefixes: Vec<IpNet>,
}

impl AddressRange {
    /// The text as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The smallest list of prefixes that covers the range, ascending, host bits cleared.
    #[must_use]
    pub fn prefixes(&self) -> &[IpNet] {
        &self.prefixes
    }
}

impl FromStr for AddressRange {
    type Err = AddressError;

    /// A CIDR prefix, or `first-last` with spaces around either; a bare address is not accepted.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let prefixes = match text.split_once('-') {
            None => vec![parse_cidr(text)?],
            Some((start, end)) => parse_range(text, start, end)?,
        };
        Ok(Self { text: text.to_owned(), prefixes })
    }
}

/// The standard library reads the address: ipnet's own parser takes octets with leading zeros.
fn parse_cidr(text: &str) -> Result<IpNet, AddressError> {
    let net = text.split_once('/').and_then(|(address, length)| {
        let digits = length.bytes().all(|byte| byte.is_ascii_digit());
        IpNet::new(address.parse().ok()?, length.parse().ok().filter(|_| digits)?).ok()
    });
    net.map(|net| unmapped(net).trunc()).ok_or_else(|| AddressError::Cidr(text.to_owned()))
}

/// `::ffff:a.b.c.d/n` with n of at least 96 is the IPv4 prefix.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, length)| ipnet::Ipv4Net::new(address, length).ok())
        .map_or(net, IpNet::V4)
}

fn parse_range(range: &str, start: &str, end: &str) -> Result<Vec<IpNet>, AddressError> {
    let first: Vip = start.trim().parse().map_err(|_invalid| AddressError::Start { range: range.to_owned(), part: start.to_owned() })?;
    let last: Vip = end.trim().parse().map_err(|_invalid| AddressError::End { range: range.to_owned(), part: end.to_owned() })?;
    if first.family() == last.family() && first > last {
        return Err(AddressError::Order { range: range.to_owned(), start: first, end: last });
    }
    match (first.addr(), last.addr()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Ok(IpSubnets::from(Ipv4Subnets::new(first, last, 0)).collect()),
        (IpAddr::V6(first), IpAddr::V6(last)) => Ok(IpSubnets::from(Ipv6Subnets::new(first, last, 0)).collect()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Err(AddressError::Families { range: range.to_owned() }),
    }
}

#[cfg(test)]
mod tests;
