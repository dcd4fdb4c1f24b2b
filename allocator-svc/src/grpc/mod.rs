//! The outside turned into commands, and answers turned into messages. Nothing is decided here.

pub(crate) mod allocator;
pub(crate) mod assignment;
mod explain;
pub(crate) mod history;
pub(crate) mod inspect;
mod lan;
pub(crate) mod operator;
mod plan;
pub(crate) mod shadow;

use mooring_kit::mailbox::Closed;
use mooring_proto::convert;
use mooring_proto::pb;
use mooring_proto::reason::Reason;
use mooring_proto::status::WireRefusal;
use mooring_proto::types::pool::Configuration;
use tonic::Status;

use crate::core::Refusal;

/// The engine takes nothing any more: the process is about to end.
fn ending(_closed: Closed) -> Status {
    WireRefusal::new(Reason::Busy, "the allocator is about to end").into()
}

fn refused(refusal: &Refusal) -> Status {
    WireRefusal::from(refusal).into()
}

/// A whole configuration, refused with all its errors.
fn configuration(pools: Vec<pb::Pool>, advertisements: Vec<pb::L2Advertisement>) -> Result<Configuration, Status> {
    convert::configuration(pools, advertisements)
        .map_err(|bad| WireRefusal { reason: Reason::InvalidConfiguration, ..WireRefusal::from(bad) }.into())
}

fn refusal_to_pb(refusal: &Refusal) -> pb::Refusal {
    pb::Refusal { reason: refusal.reason().to_string(), message: refusal.to_string() }
}
