//! Pages and roles.

use crate::pb;
use crate::types::assignment::Role;

/// How many items a page has when the request does not say.
const DEFAULT_PAGE: usize = 500;

/// How many items a page has at most, so that a message stays well under 4 MiB.
const MAX_PAGE: usize = 1000;

/// How many items to put on a page, of a request's `page_size`.
#[must_use]
pub fn page_size(asked: u32) -> usize {
    match usize::try_from(asked).unwrap_or(MAX_PAGE) {
        0 => DEFAULT_PAGE,
        asked => asked.min(MAX_PAGE),
    }
}

/// A role for the wire.
#[must_use]
pub fn role_to_pb(role: Role) -> i32 {
    match role {
        Role::Active => pb::Role::Active.into(),
        Role::Standby => pb::Role::Standby.into(),
    }
}
