//! Addresses that are kept from all Services but one, or from all.

use std::fmt;
use std::str::FromStr;

use super::address::Vip;
use super::service::ServiceKey;
use super::time::UnixMillis;

/// What is reserved: `192.0.2.1` for nobody, or `192.0.2.1/default/web` for a Service. Ordered by address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReservationKey {
    /// The address.
    pub address: Vip,
    /// The Service it is kept for; `None` = nobody.
    pub service: Option<ServiceKey>,
}

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.service.as_ref().map_or(Ok(()), |service| write!(f, "/{service}"))
    }
}

impl FromStr for ReservationKey {
    type Err = UnknownReservation;

    fn from_str(text: &str) -> Result<Self, UnknownReservation> {
        let unknown = || UnknownReservation(text.to_owned());
        let (address, service) = text.split_once('/').map_or((text, None), |(address, service)| (address, Some(service)));
        let service = service.map(str::parse).transpose().map_err(|_invalid| unknown())?;
        Ok(Self { address: address.parse().map_err(|_invalid| unknown())?, service })
    }
}

/// The text is neither ADDRESS nor ADDRESS/NAMESPACE/NAME.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither ADDRESS nor ADDRESS/NAMESPACE/NAME")]
pub struct UnknownReservation(String);

/// Who reserved an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationOrigin {
    /// A person.
    Operator,
    /// The Service that held it is gone and may come back.
    Retention,
    /// Nobody: another machine on the LAN answers for it.
    Quarantine,
}

/// An address that is reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// What is reserved, and for whom.
    pub key: ReservationKey,
    /// When it ends; `None` = not by itself.
    pub until: Option<UnixMillis>,
    /// What the person who reserved it wrote.
    pub note: String,
    /// When it was reserved.
    pub since: UnixMillis,
    /// Who reserved it.
    pub origin: ReservationOrigin,
}

impl fmt::Display for Reservation {
    /// As a refusal says it: `reserved for default/web until 2026-11-24T14:36:50Z (moving house)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin == ReservationOrigin::Quarantine {
            f.write_str(&self.note)?;
            return self.until.map_or(Ok(()), |until| write!(f, ", in quarantine until {until}"));
        }
        f.write_str("reserved")?;
        if let Some(service) = &self.key.service {
            write!(f, " for {service}")?;
        }
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, " ({})", self.note) }
    }
}
