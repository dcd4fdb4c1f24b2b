//! A refusal on its way through gRPC: reason and text, with `google.rpc` details for programs.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::convert::Violations;
use crate::reason::{Kind, Reason};

/// `google.rpc.ErrorInfo.domain` of every reason.
pub const DOMAIN: &str = "mooring.io";

/// When a caller may come back after UNAVAILABLE.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A refusal as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireRefusal {
    /// What programs branch on.
    pub reason: Reason,
    /// What people read: MetalLB's text, then the cause.
    pub message: String,
    /// The values in the message, by name: `pool`, `vip`, `holder`, `differs`, `term`, `revision`; several of one name joined by commas.
    pub metadata: BTreeMap<String, String>,
    /// For fields that do not parse: each with what is wrong.
    pub violations: Vec<(String, String)>,
}

impl WireRefusal {
    /// A refusal without metadata.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: BTreeMap::new(), violations: Vec::new() }
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.metadata.insert(name.to_owned(), value.to_string());
        self
    }

    /// Reads a refusal from a status; `None` if it is a fault of another origin.
    #[must_use]
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let violations = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        Some(Self {
            reason: info.reason.parse().ok()?,
            message: status.message().to_owned(),
            metadata: info.metadata.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            violations: violations.iter().map(|violation| (violation.field.clone(), violation.description.clone())).collect(),
        })
    }
}

/// The gRPC code of a kind.
const fn code(kind: Kind) -> Code {
    match kind {
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Exhausted => Code::ResourceExhausted,
        Kind::Precondition => Code::FailedPrecondition,
        Kind::OutOfRange => Code::OutOfRange,
        Kind::Unavailable => Code::Unavailable,
    }
}

impl From<WireRefusal> for Status {
    fn from(refusal: WireRefusal) -> Self {
        let metadata: HashMap<String, String> = refusal.metadata.clone().into_iter().collect();
        let mut details = ErrorDetails::with_error_info(refusal.reason.as_str(), DOMAIN, metadata);
        match refusal.reason.kind() {
            Kind::InvalidArgument if !refusal.violations.is_empty() => {
                let violations = refusal.violations.iter().map(|(field, what)| FieldViolation::new(field, what)).collect::<Vec<_>>();
                details.set_bad_request(violations);
            }
            Kind::NotFound => {
                let (kind, name) = refusal.metadata.iter().next().map(|(kind, name)| (kind.as_str(), name.as_str())).unwrap_or_default();
                details.set_resource_info(kind, name, "", &refusal.message);
            }
            Kind::Unavailable => {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            Kind::InvalidArgument | Kind::Exhausted | Kind::Precondition | Kind::OutOfRange => {}
        }
        Self::with_error_details(code(refusal.reason.kind()), refusal.message, details)
    }
}

impl From<Violations> for WireRefusal {
    fn from(violations: Violations) -> Self {
        let message = violations.to_string();
        let mut refusal = Self::new(Reason::InvalidField, message);
        refusal.violations = violations.into_list();
        refusal
    }
}

impl From<Violations> for Status {
    fn from(violations: Violations) -> Self {
        WireRefusal::from(violations).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_crosses_the_wire_and_comes_back() {
        for &reason in Reason::ALL {
            let sent = WireRefusal::new(reason, format!("text of {reason}")).with("pool", "prod");
            let status = Status::from(sent.clone());
            assert_eq!((status.code(), WireRefusal::from_status(&status)), (code(reason.kind()), Some(sent)));
        }
    }

    #[test]
    fn fields_that_do_not_parse_are_all_named() {
        let mut violations = Violations::default();
        violations.add("claim.name", "\"\" is empty");
        violations.add("claim.ports[0].port", "70000 is not a port");
        let status = Status::from(violations);
        assert_eq!(status.message(), "claim.name: \"\" is empty; claim.ports[0].port: 70000 is not a port");
        let refusal = WireRefusal::from_status(&status).unwrap();
        assert_eq!(refusal.violations.len(), 2);
    }

    #[test]
    fn a_status_of_another_origin_is_no_refusal() {
        assert_eq!(WireRefusal::from_status(&Status::internal("broken pipe")), None);
    }
}
