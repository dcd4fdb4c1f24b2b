//! Record bytes: a version, a checksum, and a message of the contract.
//!
//! ```text
//! lease/NAMESPACE/NAME   mooring.v1.Lease
//! config                 mooring.v1.ReplacePoolsRequest, its pools and advertisements
//! place/VIP              NODE/INSTANCE, the speaker that announces it
//! reservation/VIP[/…]    mooring.v1.Reservation; with NAMESPACE/NAME where it is for a Service (since schema 2)
//! history/NUMBER         mooring.v1.HistoryEntry; 16 digits of base 16, so that they sort (since schema 2)
//! meta/schema            the schema's version, as text
//! meta/epoch             the last allocator's leadership, as text
//! meta/term              the newest watcher's leadership, as text
//! meta/history-since     from when on the history is whole, in milliseconds since the Unix epoch, as text (since schema 2)
//! ```

use std::fmt;

use mooring_proto::convert::{Violations, configuration};
use mooring_proto::pb;
use mooring_proto::types::address::Vip;
use mooring_proto::types::history::HistoryEntry;
use mooring_proto::types::lease::{Epoch, Lease, Term};
use mooring_proto::types::node::{Instance, NodeName, SpeakerId};
use mooring_proto::types::pool::Configuration;
use mooring_proto::types::reservation::{Reservation, ReservationKey};
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::UnixMillis;
use prost::Message as _;

/// The version of the record layout and of the keys. Schema 1 had neither reservations nor a history; its records read as they are.
pub(crate) const SCHEMA: u8 = 2;

const LEASE: &str = "lease/";
const PLACE: &str = "place/";
const RESERVATION: &str = "reservation/";
const HISTORY: &str = "history/";
const CONFIG: &str = "config";
const META_SCHEMA: &str = "meta/schema";
const META_EPOCH: &str = "meta/epoch";
const META_TERM: &str = "meta/term";
pub(super) const META_HISTORY_SINCE: &str = "meta/history-since";

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// What a Service holds.
    Lease(Box<Lease>),
    /// The configuration in force.
    Config(Configuration),
    /// Who announces an address.
    Place(Vip, SpeakerId),
    /// An address that is reserved.
    Reservation(Reservation),
    /// A fact of the past.
    History(Box<HistoryEntry>),
    /// From when on the history is whole.
    HistorySince(UnixMillis),
    /// The schema's version.
    Schema(u8),
    /// The last allocator's leadership.
    Epoch(Epoch),
    /// The newest watcher's leadership.
    Term(Term),
}

/// A record that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("record {key:?}: {problem}")]
pub struct RecordError {
    /// The record's key.
    pub key: String,
    /// What is wrong with it.
    pub problem: RecordProblem,
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    /// It is shorter than its own head.
    #[error("it is cut off after {0} bytes")]
    CutOff(usize),
    /// It was written by a newer build.
    #[error("it has version {0}, and this build reads up to {SCHEMA}: use the newer build")]
    Newer(u8),
    /// Its bytes are not those that were written.
    #[error("its checksum is {found:08x}, and should be {wanted:08x}")]
    Checksum {
        /// Of the bytes as they are.
        found: u32,
        /// As it was written.
        wanted: u32,
    },
    /// Its key says nothing to this build.
    #[error("its key is unknown")]
    Key,
    /// The message does not decode.
    #[error("it does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
    /// A field of the message is wrong.
    #[error("{0}")]
    Field(#[from] Violations),
    /// A text is no value of its kind.
    #[error("{0:?} is no value of its kind")]
    Text(String),
}

impl RecordError {
    /// Whether the record is whole, says what this build takes for no value, and is told anew by others: by speakers who announces what,
    /// by a watcher the configuration. A build with laxer rules wrote it.
    pub(super) fn is_told_anew(&self) -> bool {
        let others_know = self.key == CONFIG || self.key.starts_with(PLACE);
        others_know && matches!(self.problem, RecordProblem::Field(_) | RecordProblem::Text(_))
    }
}

impl Record {
    /// The record's key.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Lease(lease) => lease_key(&lease.service),
            Self::Config(_) => CONFIG.to_owned(),
            Self::Place(vip, _) => place_key(*vip),
            Self::Reservation(reservation) => reservation_key(&reservation.key),
            Self::History(entry) => history_key(entry.sequence),
            Self::HistorySince(_) => META_HISTORY_SINCE.to_owned(),
            Self::Schema(_) => META_SCHEMA.to_owned(),
            Self::Epoch(_) => META_EPOCH.to_owned(),
            Self::Term(_) => META_TERM.to_owned(),
        }
    }

    /// The record's bytes: version, checksum of the payload (CRC-32, little endian), payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = |value: &dyn fmt::Display| value.to_string().into_bytes();
        let payload = match self {
            Self::Lease(lease) => pb::Lease::from(&**lease).encode_to_vec(),
            Self::Config(configuration) => {
                let pools = configuration.pools().iter().map(Into::into).collect();
                let advertisements = configuration.advertisements().iter().map(Into::into).collect();
                pb::ReplacePoolsRequest { pools, advertisements, ..pb::ReplacePoolsRequest::default() }.encode_to_vec()
            }
            Self::Place(_, speaker) => text(speaker),
            Self::Reservation(reservation) => pb::Reservation::from(reservation).encode_to_vec(),
            Self::History(entry) => pb::HistoryEntry::from(&**entry).encode_to_vec(),
            Self::HistorySince(since) => text(&since.0),
            Self::Schema(version) => text(version),
            Self::Epoch(epoch) => text(epoch),
            Self::Term(term) => text(term),
        };
        let mut bytes = vec![SCHEMA];
        bytes.extend(crc32fast::hash(&payload).to_le_bytes());
        bytes.extend(payload);
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is damaged, or of a newer build.
    pub fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, RecordError> {
        let key = String::from_utf8_lossy(key).into_owned();
        payload(bytes).and_then(|payload| parse(&key, payload)).map_err(|problem| RecordError { key, problem })
    }
}

/// Where a Service's lease is.
pub(super) fn lease_key(service: &ServiceKey) -> String {
    format!("{LEASE}{service}")
}

/// Where an address's announcer is.
pub(super) fn place_key(vip: Vip) -> String {
    format!("{PLACE}{vip}")
}

/// Where a reservation is.
pub(super) fn reservation_key(key: &ReservationKey) -> String {
    format!("{RESERVATION}{key}")
}

/// Where a fact of the past is.
pub(super) fn history_key(number: u64) -> String {
    format!("{HISTORY}{number:016x}")
}

fn payload(bytes: &[u8]) -> Result<&[u8], RecordProblem> {
    let Some(([version, checksum @ ..], payload)) = bytes.split_first_chunk::<5>() else { return Err(RecordProblem::CutOff(bytes.len())) };
    if *version > SCHEMA {
        return Err(RecordProblem::Newer(*version));
    }
    let (wanted, found) = (u32::from_le_bytes(*checksum), crc32fast::hash(payload));
    if wanted == found { Ok(payload) } else { Err(RecordProblem::Checksum { found, wanted }) }
}

fn parse(key: &str, payload: &[u8]) -> Result<Record, RecordProblem> {
    let text = String::from_utf8_lossy(payload).into_owned();
    let bad = || RecordProblem::Text(text.clone());
    match key {
        META_SCHEMA => match text.parse() {
            Ok(version) if version > SCHEMA => Err(RecordProblem::Newer(version)),
            parsed => parsed.map(Record::Schema).map_err(|_invalid| bad()),
        },
        META_HISTORY_SINCE => text.parse().map(|since| Record::HistorySince(UnixMillis(since))).map_err(|_invalid| bad()),
        META_EPOCH => text.parse().map(|epoch| Record::Epoch(Epoch(epoch))).map_err(|_invalid| bad()),
        META_TERM => text.parse().map(|term| Record::Term(Term(term))).map_err(|_invalid| bad()),
        CONFIG => {
            let request = pb::ReplacePoolsRequest::decode(payload)?;
            Ok(Record::Config(configuration(request.pools, request.advertisements)?))
        }
        _ if key.starts_with(RESERVATION) => Ok(Record::Reservation(Reservation::try_from(pb::Reservation::decode(payload)?)?)),
        _ if key.starts_with(HISTORY) => Ok(Record::History(Box::new(HistoryEntry::try_from(pb::HistoryEntry::decode(payload)?)?))),
        _ if key.starts_with(LEASE) => Ok(Record::Lease(Box::new(Lease::try_from(pb::Lease::decode(payload)?)?))),
        _ => {
            let vip = key.strip_prefix(PLACE).ok_or(RecordProblem::Key)?;
            let vip = vip.parse().map_err(|_invalid| RecordProblem::Text(vip.to_owned()))?;
            let (node, instance) = text.split_once('/').ok_or_else(bad)?;
            let (node, instance) = NodeName::new(node).zip(Instance::new(instance)).ok_or_else(bad)?;
            Ok(Record::Place(vip, SpeakerId { node, instance }))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
