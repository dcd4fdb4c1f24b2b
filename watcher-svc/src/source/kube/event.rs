//! Events as the API server stores them (events.k8s.io/v1).
//!
//! Made by hand: kube's recorder merges Events of one reason and keeps the oldest text.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use crate::source::event::{EventRecord, EventType, Reporter};

/// The longest note that the API server takes, in bytes (events.k8s.io/v1).
const NOTE_LIMIT: usize = 1024;

/// The longest name of an object less what an Event's name adds to it, in bytes.
const NAME_LIMIT: usize = 253 - 17;

/// The Event of a record; its name is the record's own.
pub(in crate::source) fn event(record: &EventRecord) -> Event {
    let EventRecord { regarding, api_version, uid, event_type, reason, note, reporter, at } = record;
    // Events on objects without a namespace live in "default".
    let namespace = if regarding.namespace.is_empty() { "default" } else { &regarding.namespace };
    let (controller, action) = match reporter {
        Reporter::Controller => ("metallb-controller", "Allocate"),
        Reporter::Speaker => ("metallb-speaker", "Announce"),
    };
    let time = i64::try_from(at.0).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let name = format!("{}.{:016x}", shortened(&regarding.name, NAME_LIMIT), fingerprint(record));
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
        event_time: Some(MicroTime(time)),
        type_: Some(match event_type {
            EventType::Normal => "Normal".to_owned(),
            EventType::Warning => "Warning".to_owned(),
        }),
        reason: Some(reason.clone()),
        note: Some(shortened(note, NOTE_LIMIT).to_owned()),
        action: Some(action.to_owned()),
        reporting_controller: Some(controller.to_owned()),
        reporting_instance: Some(controller.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(api_version.clone()),
            kind: Some(regarding.kind.clone()),
            namespace: Some(regarding.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            name: Some(regarding.name.clone()),
            uid: Some(uid.0.clone()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// The text, cut at a character's end so that it has at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> &str {
    text.get(..text.floor_char_boundary(limit)).unwrap_or(text)
}

/// Tells Events of one object apart: FNV-1a over all that differs between two records.
fn fingerprint(record: &EventRecord) -> u64 {
    let at = record.at.0.to_be_bytes();
    let parts = [record.uid.0.as_bytes(), record.reason.as_bytes(), record.note.as_bytes(), &at];
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
