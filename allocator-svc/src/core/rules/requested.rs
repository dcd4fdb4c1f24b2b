//! A pool asked for by name (MetalLB behaviour 3.3.5). Never falls back to another one.

use std::iter;

use mooring_proto::types::claim::Claim;
use mooring_proto::types::pool::PoolName;

use super::explicit::admits;
use super::{Closed, Considered, Verdict};
use crate::core::dual_stack::{Need, counts, first_fit};
use crate::core::free::Pool;
use crate::core::refusal::Refusal;
use crate::core::state::Book;

/// Grants from the pool asked for, or refuses; `autoAssign` does not matter.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    let Some(name) = &claim.requested_pool else { return Verdict::Passes("the Service asks for no pool") };
    let pool = match find(book, claim, name) {
        Ok(pool) => pool,
        Err(Closed::Unknown) => return Verdict::Refuses(Refusal::UnknownPool { pool: name.clone() }),
        Err(Closed::NotAdmitted | Closed::NotAutomatic | Closed::NotGranted | Closed::NotShared | Closed::NotAsked | Closed::NotKept) => {
            return Verdict::Refuses(Refusal::PoolNotCompatible { pool: name.clone() });
        }
    };
    match first_fit(book, claim, iter::once(pool)) {
        Some(grant) => Verdict::Grants(grant),
        None => {
            let dual = matches!(Need::of(claim), Need::Both | Need::BothAsked | Need::Prefer { .. });
            Verdict::Refuses(Refusal::PoolFull { pool: name.clone(), dual, counts: counts(claim, pool) })
        }
    }
}

/// The pool asked for; `autoAssign` does not matter.
pub(crate) fn considers<'a>(book: &'a Book, claim: &'a Claim) -> Vec<Considered<'a>> {
    let considered = |name: &'a PoolName| Considered { name, pool: find(book, claim, name) };
    claim.requested_pool.iter().map(considered).collect()
}

/// The pool of that name, if it is open to the claim.
pub(super) fn find<'a>(book: &'a Book, claim: &Claim, name: &PoolName) -> Result<&'a Pool, Closed> {
    let pool = book.pools().get(name).ok_or(Closed::Unknown)?;
    if admits(pool, claim) { Ok(pool) } else { Err(Closed::NotAdmitted) }
}
