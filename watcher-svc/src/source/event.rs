//! An Event as a sink takes it.

use mooring_proto::types::service::ServiceUid;
use mooring_proto::types::time::UnixMillis;

use crate::k8s::ObjectRef;

/// Whether an Event reports something expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is.
    Normal,
    /// Somebody should look.
    Warning,
}

/// Who reports an Event; MetalLB's names, which tools look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    /// What concerns addresses.
    Controller,
    /// What concerns announcing.
    Speaker,
}

/// An Event. The same record is the same Event, however often it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// What it is about.
    pub regarding: ObjectRef,
    /// That object's API version, `v1` for a Service.
    pub api_version: String,
    /// Its uid, without which kubectl does not show the Event.
    pub uid: ServiceUid,
    /// Normal or Warning.
    pub event_type: EventType,
    /// The machine-readable reason.
    pub reason: String,
    /// The text.
    pub note: String,
    /// Who reports it.
    pub reporter: Reporter,
    /// When it happened.
    pub at: UnixMillis,
}
