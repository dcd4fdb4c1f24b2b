//! The mark of a call that only asks what would be, as gRPC metadata.

/// The key of the metadata. Its answer's metadata have it too, so that a caller knows that it was understood.
pub const KEY: &str = "mooring-shadow";

/// The value that says yes; `false` says what no key at all does.
pub const YES: &str = "true";
