//! A pool asked for by name (MetalLB behaviour 3.3.5). Never falls back to another one.

use std::iter;

use mooring_proto::types::claim::Claim;

use super::Verdict;
use super::explicit::admits;
use crate::core::dual_stack::{Need, counts, first_fit};
use crate::core::refusal::Refusal;
use crate::core::state::Book;

/// Grants from the pool asked for, or refuses; `autoAssign` does not matter.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    let Some(name) = &claim.requested_pool else { return Verdict::Passes };
    let Some(pool) = book.pools().get(name) else { return Verdict::Refuses(Refusal::UnknownPool { pool: name.clone() }) };
    if !admits(pool, claim) {
        return Verdict::Refuses(Refusal::PoolNotCompatible { pool: name.clone() });
    }
    match first_fit(book, claim, iter::once(pool)) {
        Some(grant) => Verdict::Grants(grant),
        None => {
            let dual = matches!(Need::of(claim), Need::Both | Need::BothAsked | Need::Prefer { .. });
            Verdict::Refuses(Refusal::PoolFull { pool: name.clone(), dual, counts: counts(claim, pool) })
        }
    }
}
