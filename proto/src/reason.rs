//! Every machine-readable reason: what clients branch on, never the text.

use std::fmt;
use std::str::FromStr;

/// What a caller can do about a refusal; each has one gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A field does not parse: report it, do not retry.
    InvalidArgument,
    /// A pool, an address or a lease is unknown: wait for configuration.
    NotFound,
    /// A pool is full: wait until leases or pools change.
    Exhausted,
    /// A rule or an older leadership stands against it: report it, wait for a change.
    Precondition,
    /// A revision is no longer kept: ask for a snapshot.
    OutOfRange,
    /// Not now: back off and say the same again.
    Unavailable,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)+) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[$doc])* $variant,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As `google.rpc.ErrorInfo.reason` has it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What a caller can do about it.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$variant => Kind::$kind,)+ }
            }
        }
    };
}

reasons! {
    /// A field of the request does not parse.
    InvalidField = "INVALID_FIELD", InvalidArgument;
    /// The pools or advertisements contradict each other.
    InvalidConfiguration = "INVALID_CONFIGURATION", InvalidArgument;
    /// The requested addresses are not of the Service's families.
    FamilyMismatch = "FAMILY_MISMATCH", InvalidArgument;
    /// A stream ended before it was complete; nothing was changed.
    IncompleteView = "INCOMPLETE_VIEW", InvalidArgument;
    /// The requested pool does not exist.
    UnknownPool = "UNKNOWN_POOL", NotFound;
    /// A requested address is in no pool.
    AddressNotInPool = "ADDRESS_NOT_IN_POOL", NotFound;
    /// The Service is not known.
    UnknownService = "UNKNOWN_SERVICE", NotFound;
    /// The node is not known.
    UnknownNode = "UNKNOWN_NODE", NotFound;
    /// No free address is left where the Service may have one.
    NoAvailableAddress = "NO_AVAILABLE_ADDRESS", Exhausted;
    /// The Service's namespace holds as many addresses as it may.
    QuotaExceeded = "ADDRESS_QUOTA_EXCEEDED", Exhausted;
    /// The pool is not for this Service.
    PoolNotCompatible = "POOL_NOT_COMPATIBLE", Precondition;
    /// The requested addresses are not in the requested pool.
    PoolMismatch = "POOL_MISMATCH", Precondition;
    /// The address is held by a Service with which this one may not share.
    SharingForbidden = "SHARING_FORBIDDEN", Precondition;
    /// The address is shared with a Service that has the same port.
    PortInUse = "PORT_IN_USE", Precondition;
    /// The address is reserved for another Service, or for nobody.
    AddressReserved = "ADDRESS_RESERVED", Precondition;
    /// Another machine on the LAN has the address.
    AddressInUse = "ADDRESS_IN_USE", Precondition;
    /// The address is held by another Service than the one that it is to be reserved for.
    AddressHeld = "ADDRESS_HELD", Precondition;
    /// A newer watcher leads.
    TermOutdated = "TERM_OUTDATED", Precondition;
    /// The revision is not kept.
    RevisionNotKept = "REVISION_NOT_KEPT", OutOfRange;
    /// Too much work waits, or the process is about to end.
    Busy = "BUSY", Unavailable;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == text).ok_or_else(|| UnknownReason(text.to_owned()))
    }
}

/// The text is no reason that this build knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {0:?}")]
pub struct UnknownReason(String);
