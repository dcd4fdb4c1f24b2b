//! How many different addresses the Services of a namespace may hold together.
//!
//! What is held is never taken away, also where the quota is lowered; only what would make a namespace hold more is refused. An address
//! that others of the namespace hold already costs nothing, and neither does a move from one address to another.

use mooring_proto::types::address::Vip;
use mooring_proto::types::claim::Claim;

use super::dual_stack::Need;
use super::refusal::Refusal;
use super::state::Book;

/// Whether a claim may have these addresses, as far as its namespace's quota goes.
pub(crate) fn affords(book: &Book, claim: &Claim, addresses: &[Vip]) -> bool {
    room(book, claim).is_none_or(|room| new(book, claim, addresses) <= room)
}

/// Whether the quota alone keeps a claim from what it needs at least.
pub(crate) fn is_exhausted(book: &Book, claim: &Claim) -> bool {
    room(book, claim).is_some_and(|room| room < needed(book, claim))
}

/// Whether the quota lets a claim have one address that nobody of its namespace holds.
pub(crate) fn has_room(book: &Book, claim: &Claim) -> bool {
    room(book, claim).is_none_or(|room| room > 0)
}

/// Says how much of its quota a claim's namespace holds.
pub(crate) fn exceeded(book: &Book, claim: &Claim) -> Refusal {
    let namespace = claim.service.namespace();
    Refusal::QuotaExceeded {
        namespace: namespace.to_owned(),
        held: book.held_in(namespace),
        quota: claim.quota.unwrap_or(u32::MAX),
        more: needed(book, claim).saturating_sub(own(book, claim)).max(1),
    }
}

/// How many addresses more a namespace may hold.
pub(crate) fn spare(book: &Book, namespace: &str, quota: u32) -> usize {
    usize::try_from(quota).unwrap_or(usize::MAX).saturating_sub(book.held_in(namespace))
}

/// How many addresses a Service may hold that no other of its namespace holds; `None` = any number.
fn room(book: &Book, claim: &Claim) -> Option<usize> {
    Some(spare(book, claim.service.namespace(), claim.quota?).saturating_add(own(book, claim)))
}

/// How many addresses a Service holds that no other of its namespace holds.
fn own(book: &Book, claim: &Claim) -> usize {
    book.lease(&claim.service).map_or(0, |lease| new(book, claim, &lease.addresses))
}

/// How many of these addresses no other Service of the namespace holds.
fn new(book: &Book, claim: &Claim, addresses: &[Vip]) -> usize {
    let holds_it = |vip: &Vip| book.lease(&claim.service).is_some_and(|lease| lease.addresses.contains(vip));
    let is_new = |vip: &&Vip| book.holders_in(claim.service.namespace(), **vip) == usize::from(holds_it(vip));
    addresses.iter().filter(is_new).count()
}

/// How many addresses a claim needs at least that no other Service of the namespace holds.
fn needed(book: &Book, claim: &Claim) -> usize {
    match Need::of(claim) {
        _ if !claim.requested_addresses.is_empty() => new(book, claim, &claim.requested_addresses),
        Need::One(_) | Need::Prefer { .. } => 1,
        Need::Both | Need::BothAsked => 2,
    }
}

#[cfg(test)]
mod tests;
