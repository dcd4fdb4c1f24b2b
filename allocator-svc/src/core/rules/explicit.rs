//! Addresses asked for (MetalLB behaviour 3.3, 1 to 4), and the same checks for addresses that a Service has already.

use mooring_proto::types::address::Vip;
use mooring_proto::types::claim::Claim;

use super::{Closed, Considered, Verdict, sharing};
use crate::core::dual_stack::{Grant, Need};
use crate::core::free::Pool;
use crate::core::quota;
use crate::core::refusal::{NotInConfig, Refusal};
use crate::core::state::Book;

/// Grants just the addresses asked for, or refuses; `autoAssign` does not matter.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    let requested = &claim.requested_addresses;
    if requested.is_empty() {
        return Verdict::Passes("the Service asks for no address");
    }
    if !Need::of(claim).is_asked_by(requested) {
        return Verdict::Refuses(Refusal::FamilyMismatch { requested: requested.clone() });
    }
    match allowed(book, claim, requested) {
        Err(refusal) => Verdict::Refuses(refusal),
        Ok(pool) => match &claim.requested_pool {
            Some(wanted) if *wanted != pool.spec().name => Verdict::Refuses(Refusal::PoolMismatch {
                requested: requested.clone(),
                pool: wanted.clone(),
                actual: pool.spec().name.clone(),
            }),
            _ if !quota::affords(book, claim, requested) => Verdict::Refuses(quota::exceeded(book, claim)),
            _ => Verdict::Grants(Grant { addresses: requested.clone(), pool: pool.spec().name.clone() }),
        },
    }
}

/// The pools of the addresses asked for.
pub(crate) fn considers<'a>(book: &'a Book, claim: &Claim) -> Vec<Considered<'a>> {
    let refused = matches!(judge(book, claim), Verdict::Refuses(_));
    let closed = |pool: &Pool| if admits(pool, claim) { refused.then_some(Closed::NotGranted) } else { Some(Closed::NotAdmitted) };
    let mut found: Vec<Considered<'a>> = Vec::new();
    for pool in claim.requested_addresses.iter().filter_map(|vip| book.pool_of(*vip)) {
        if found.iter().all(|before| *before.name != pool.spec().name) {
            found.push(Considered::new(pool, closed(pool)));
        }
    }
    found
}

/// The pool by which a Service may have these addresses: one that has them all, hands them out, is for the Service, and where neither a
/// reservation nor sharing stands against them.
pub(crate) fn allowed<'a>(book: &'a Book, claim: &Claim, addresses: &[Vip]) -> Result<&'a Pool, Refusal> {
    let refuse = |cause| Refusal::NotInConfig { requested: addresses.to_vec(), cause };
    let mut found: Option<&Pool> = None;
    for vip in addresses {
        let pool = book.pool_of(*vip).ok_or_else(|| refuse(NotInConfig::NoPool(*vip)))?;
        match found {
            Some(before) if before.spec().name != pool.spec().name => {
                return Err(refuse(NotInConfig::TwoPools(before.spec().name.clone(), pool.spec().name.clone())));
            }
            _ => found = Some(pool),
        }
        if !pool.hands_out(*vip) {
            return Err(refuse(NotInConfig::Buggy(*vip, pool.spec().name.clone())));
        }
        if let Some(reservation) = book.reserved_against(*vip, &claim.service) {
            return Err(refuse(NotInConfig::Reserved(Box::new(reservation.clone()))));
        }
    }
    let pool = found.ok_or_else(|| Refusal::NoneAvailable { asked: Vec::new() })?;
    if !admits(pool, claim) {
        return Err(Refusal::PoolNotCompatible { pool: pool.spec().name.clone() });
    }
    for vip in addresses {
        sharing::check(book, claim, *vip)?;
    }
    Ok(pool)
}

/// Whether a pool's serviceAllocation lets the Service in.
pub(crate) fn admits(pool: &Pool, claim: &Claim) -> bool {
    let allocation = pool.spec().allocation.as_ref();
    allocation.is_none_or(|allocation| allocation.admits(claim.service.namespace(), &claim.namespace_labels, &claim.labels))
}
