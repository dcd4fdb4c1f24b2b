//! Reservations, and the facts of the past.

use super::{Violations, each, service_key, service_ref};
use crate::pb;
use crate::types::address::Vip;
use crate::types::history::{EndCause, HistoryEntry, Holder, Holding, PastFact, ReleaseCause};
use crate::types::pool::PoolName;
use crate::types::reservation::{Reservation, ReservationKey, ReservationOrigin};
use crate::types::service::ServiceUid;
use crate::types::time::UnixMillis;

/// A time that need not be given; 0 = it is not.
#[must_use]
pub fn time(millis: u64) -> Option<UnixMillis> {
    (millis != 0).then_some(UnixMillis(millis))
}

/// An address that is to be reserved, and for whom.
///
/// # Errors
/// Either of them is no good.
pub fn reservation_key(address: &str, service: Option<pb::ServiceRef>) -> Result<ReservationKey, Violations> {
    let mut bad = Violations::default();
    let address = bad.take("address", address.parse::<Vip>());
    let service = bad.take("service", service.map(|service| service_key(Some(service))).transpose().map_err(problem));
    bad.finish(address.zip(service).map(|(address, service)| ReservationKey { address, service }))
}

/// What is wrong, without the field that stands in front of it.
fn problem(bad: Violations) -> String {
    bad.into_list().into_iter().map(|(_, problem)| problem).collect()
}

fn origin(value: i32) -> Result<ReservationOrigin, String> {
    match pb::ReservationOrigin::try_from(value) {
        Ok(pb::ReservationOrigin::Operator) => Ok(ReservationOrigin::Operator),
        Ok(pb::ReservationOrigin::Retention) => Ok(ReservationOrigin::Retention),
        Ok(pb::ReservationOrigin::Quarantine) => Ok(ReservationOrigin::Quarantine),
        Ok(pb::ReservationOrigin::Unspecified) | Err(_) => Err(format!("origin {value} is unknown")),
    }
}

fn origin_to_pb(origin: ReservationOrigin) -> i32 {
    match origin {
        ReservationOrigin::Operator => pb::ReservationOrigin::Operator.into(),
        ReservationOrigin::Retention => pb::ReservationOrigin::Retention.into(),
        ReservationOrigin::Quarantine => pb::ReservationOrigin::Quarantine.into(),
    }
}

impl TryFrom<pb::Reservation> for Reservation {
    type Error = Violations;

    fn try_from(reservation: pb::Reservation) -> Result<Self, Violations> {
        let mut bad = Violations::default();
        let key = reservation_key(&reservation.address, reservation.service).map_err(|inner| bad.nest("reservation", inner)).ok();
        let origin = bad.take("origin", origin(reservation.origin));
        let value = key.zip(origin).map(|(key, origin)| Self {
            key,
            until: time(reservation.until_unix_ms),
            note: reservation.note,
            since: UnixMillis(reservation.since_unix_ms),
            origin,
        });
        bad.finish(value)
    }
}

impl From<&Reservation> for pb::Reservation {
    fn from(reservation: &Reservation) -> Self {
        Self {
            address: reservation.key.address.to_string(),
            service: reservation.key.service.as_ref().map(service_ref),
            until_unix_ms: reservation.until.map_or(0, |until| until.0),
            note: reservation.note.clone(),
            since_unix_ms: reservation.since.0,
            origin: origin_to_pb(reservation.origin),
        }
    }
}

fn holding(entry: &pb::HistoryEntry) -> Result<Holding, Violations> {
    let mut bad = Violations::default();
    let service = service_key(entry.service.clone()).map_err(|inner| bad.nest("holding", inner)).ok();
    let addresses = each(&mut bad, "addresses", &entry.addresses, |text| text.parse::<Vip>());
    if addresses.is_empty() {
        bad.add("addresses", "is empty");
    }
    let pool = bad.take("pool", PoolName::new(&entry.pool).ok_or("is empty"));
    let uid = ServiceUid(entry.uid.clone());
    bad.finish(service.zip(pool).map(|(service, pool)| Holding { service, uid, addresses, pool }))
}

fn reserved(entry: &pb::HistoryEntry) -> Result<Reservation, Violations> {
    let [address] = entry.addresses.as_slice() else {
        return Err(Violations::one("addresses", format!("want one address, got {}", entry.addresses.len())));
    };
    Reservation::try_from(pb::Reservation {
        address: address.clone(),
        service: entry.service.clone(),
        until_unix_ms: entry.until_unix_ms,
        note: entry.note.clone(),
        since_unix_ms: entry.since_unix_ms,
        origin: entry.origin,
    })
}

fn release_cause(value: i32) -> Result<ReleaseCause, Violations> {
    match pb::HistoryCause::try_from(value) {
        Ok(pb::HistoryCause::ServiceGone) => Ok(ReleaseCause::ServiceGone),
        Ok(pb::HistoryCause::Moved) => Ok(ReleaseCause::Moved),
        Ok(pb::HistoryCause::PoolGone) => Ok(ReleaseCause::PoolGone),
        Ok(
            pb::HistoryCause::Unspecified
            | pb::HistoryCause::Expired
            | pb::HistoryCause::Operator
            | pb::HistoryCause::Replaced
            | pb::HistoryCause::ServiceBack,
        )
        | Err(_) => Err(Violations::one("cause", format!("{value} is no cause of a release"))),
    }
}

fn end_cause(value: i32) -> Result<EndCause, Violations> {
    match pb::HistoryCause::try_from(value) {
        Ok(pb::HistoryCause::Expired) => Ok(EndCause::Expired),
        Ok(pb::HistoryCause::Operator) => Ok(EndCause::Operator),
        Ok(pb::HistoryCause::Replaced) => Ok(EndCause::Replaced),
        Ok(pb::HistoryCause::ServiceBack) => Ok(EndCause::ServiceBack),
        Ok(pb::HistoryCause::Unspecified | pb::HistoryCause::ServiceGone | pb::HistoryCause::Moved | pb::HistoryCause::PoolGone)
        | Err(_) => Err(Violations::one("cause", format!("{value} is no cause of a reservation's end"))),
    }
}

impl TryFrom<pb::HistoryEntry> for HistoryEntry {
    type Error = Violations;

    fn try_from(entry: pb::HistoryEntry) -> Result<Self, Violations> {
        let fact = match pb::HistoryKind::try_from(entry.kind) {
            Ok(pb::HistoryKind::Granted) => PastFact::Granted(holding(&entry)?),
            Ok(pb::HistoryKind::Released) => {
                PastFact::Released { holding: holding(&entry)?, since: UnixMillis(entry.since_unix_ms), cause: release_cause(entry.cause)? }
            }
            Ok(pb::HistoryKind::Reserved) => PastFact::Reserved(reserved(&entry)?),
            Ok(pb::HistoryKind::ReservationEnded) => {
                PastFact::ReservationEnded { reservation: reserved(&entry)?, cause: end_cause(entry.cause)? }
            }
            Ok(pb::HistoryKind::Unspecified) | Err(_) => return Err(Violations::one("kind", format!("{} is unknown", entry.kind))),
        };
        Ok(Self { sequence: entry.sequence, at: UnixMillis(entry.at_unix_ms), fact })
    }
}

impl From<&Holder> for pb::HistoryHolder {
    fn from(holder: &Holder) -> Self {
        Self {
            service: Some(service_ref(&holder.service)),
            uid: holder.uid.0.clone(),
            pool: holder.pool.to_string(),
            since_unix_ms: holder.since.0,
        }
    }
}

impl From<&HistoryEntry> for pb::HistoryEntry {
    fn from(entry: &HistoryEntry) -> Self {
        let head = Self { sequence: entry.sequence, at_unix_ms: entry.at.0, ..Self::default() };
        match &entry.fact {
            PastFact::Granted(holding) => Self { kind: pb::HistoryKind::Granted.into(), ..of_holding(head, holding) },
            PastFact::Released { holding, since, cause } => {
                let cause = match cause {
                    ReleaseCause::ServiceGone => pb::HistoryCause::ServiceGone,
                    ReleaseCause::Moved => pb::HistoryCause::Moved,
                    ReleaseCause::PoolGone => pb::HistoryCause::PoolGone,
                };
                let kind = pb::HistoryKind::Released.into();
                Self { kind, cause: cause.into(), since_unix_ms: since.0, ..of_holding(head, holding) }
            }
            PastFact::Reserved(reservation) => Self { kind: pb::HistoryKind::Reserved.into(), ..of_reservation(head, reservation) },
            PastFact::ReservationEnded { reservation, cause } => {
                let cause = match cause {
                    EndCause::Expired => pb::HistoryCause::Expired,
                    EndCause::Operator => pb::HistoryCause::Operator,
                    EndCause::Replaced => pb::HistoryCause::Replaced,
                    EndCause::ServiceBack => pb::HistoryCause::ServiceBack,
                };
                Self { kind: pb::HistoryKind::ReservationEnded.into(), cause: cause.into(), ..of_reservation(head, reservation) }
            }
        }
    }
}

fn of_holding(head: pb::HistoryEntry, holding: &Holding) -> pb::HistoryEntry {
    pb::HistoryEntry {
        service: Some(service_ref(&holding.service)),
        uid: holding.uid.0.clone(),
        addresses: holding.addresses.iter().map(ToString::to_string).collect(),
        pool: holding.pool.to_string(),
        ..head
    }
}

fn of_reservation(head: pb::HistoryEntry, reservation: &Reservation) -> pb::HistoryEntry {
    let reservation = pb::Reservation::from(reservation);
    pb::HistoryEntry {
        service: reservation.service,
        addresses: vec![reservation.address],
        since_unix_ms: reservation.since_unix_ms,
        until_unix_ms: reservation.until_unix_ms,
        note: reservation.note,
        origin: reservation.origin,
        ..head
    }
}
