//! The outside turned into commands, and answers turned into messages. Nothing is decided here.

pub(crate) mod allocator;
pub(crate) mod assignment;
pub(crate) mod history;
pub(crate) mod inspect;
pub(crate) mod operator;
pub(crate) mod shadow;

use mooring_kit::mailbox::Closed;
use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use tonic::Status;

use crate::core::Refusal;

/// The engine takes nothing any more: the process is about to end.
fn ending(_closed: Closed) -> Status {
    WireRefusal::new(Reason::Busy, "the allocator is about to end").into()
}

fn refused(refusal: &Refusal) -> Status {
    WireRefusal::from(refusal).into()
}
