//! What happened to addresses, as it is kept.

use super::address::Vip;
use super::pool::PoolName;
use super::reservation::Reservation;
use super::service::{ServiceKey, ServiceUid};
use super::time::UnixMillis;

/// Why a Service does not hold addresses any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReleaseCause {
    /// It is gone, or claims nothing any more.
    ServiceGone,
    /// It moved to other addresses, or needs fewer.
    Moved,
    /// They are in no pool any more that hands them out.
    PoolGone,
}

/// Why a reservation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCause {
    /// Its time was over.
    Expired,
    /// A person ended it.
    Operator,
    /// A person reserved the address anew.
    Replaced,
    /// The Service that the address was kept for holds addresses again.
    ServiceBack,
}

/// Who held addresses, and from which pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The Service.
    pub service: ServiceKey,
    /// Its uid.
    pub uid: ServiceUid,
    /// The addresses; never empty.
    pub addresses: Vec<Vip>,
    /// The pool that they came from.
    pub pool: PoolName,
}

/// A Service that held an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The Service.
    pub service: ServiceKey,
    /// Its uid.
    pub uid: ServiceUid,
    /// The pool that the address came from.
    pub pool: PoolName,
    /// Since when it is known to have held it.
    pub since: UnixMillis,
}

/// A fact of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastFact {
    /// A Service was granted addresses.
    Granted(Holding),
    /// A Service does not hold addresses any more.
    Released {
        /// Who held what.
        holding: Holding,
        /// Since when.
        since: UnixMillis,
        /// Why not any more.
        cause: ReleaseCause,
    },
    /// An address was reserved.
    Reserved(Reservation),
    /// A reservation ended.
    ReservationEnded {
        /// The reservation.
        reservation: Reservation,
        /// Why.
        cause: EndCause,
    },
}

impl PastFact {
    /// The Service that it is about.
    #[must_use]
    pub fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Granted(holding) | Self::Released { holding, .. } => Some(&holding.service),
            Self::Reserved(reservation) | Self::ReservationEnded { reservation, .. } => reservation.key.service.as_ref(),
        }
    }

    /// The addresses that it is about.
    #[must_use]
    pub fn addresses(&self) -> &[Vip] {
        match self {
            Self::Granted(holding) | Self::Released { holding, .. } => &holding.addresses,
            Self::Reserved(reservation) | Self::ReservationEnded { reservation, .. } => std::slice::from_ref(&reservation.key.address),
        }
    }
}

/// A fact as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its number; later facts have larger ones.
    pub sequence: u64,
    /// When it was written.
    pub at: UnixMillis,
    /// The fact.
    pub fact: PastFact,
}
