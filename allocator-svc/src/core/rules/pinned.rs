//! Pools that are for certain namespaces or Services, by priority (MetalLB behaviour 5.3, first tier).

use mooring_proto::types::claim::Claim;

use super::explicit::admits;
use super::{Closed, Considered, Verdict, opened};
use crate::core::dual_stack::first_fit;
use crate::core::free::Pool;
use crate::core::state::Book;

/// Grants from the first pinned pool that fits and has room.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    let granted = first_fit(book, claim, pools(book, claim).into_iter());
    granted.map_or(Verdict::Passes("no pool with a serviceAllocation has what the Service needs"), Verdict::Grants)
}

/// The pinned pools open to a Service, by priority, then by name.
pub(crate) fn pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    opened(&considers(book, claim))
}

/// All pinned pools, in that order.
pub(crate) fn considers<'a>(book: &'a Book, claim: &Claim) -> Vec<Considered<'a>> {
    let rank = |pool: &Pool| pool.spec().allocation.as_ref().map(|allocation| allocation.priority.rank());
    let mut pools: Vec<(u32, &Pool)> = book.pools().values().filter_map(|pool| Some((rank(pool)?, pool))).collect();
    pools.sort_by_key(|(rank, _)| *rank);
    let closed = |pool: &Pool| match (pool.spec().auto_assign, admits(pool, claim)) {
        (false, _) => Some(Closed::NotAutomatic),
        (true, false) => Some(Closed::NotAdmitted),
        (true, true) => None,
    };
    pools.into_iter().map(|(_, pool)| Considered::new(pool, closed(pool))).collect()
}
