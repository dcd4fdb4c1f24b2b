//! Pools that are for certain namespaces or Services, by priority (MetalLB behaviour 5.3, first tier).

use mooring_proto::types::claim::Claim;

use super::Verdict;
use super::explicit::admits;
use crate::core::dual_stack::first_fit;
use crate::core::free::Pool;
use crate::core::state::Book;

/// Grants from the first pinned pool that fits and has room.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    first_fit(book, claim, pools(book, claim).into_iter()).map_or(Verdict::Passes, Verdict::Grants)
}

/// The pinned pools open to a Service, by priority, then by name.
pub(crate) fn pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    let mut pools: Vec<(u32, &Pool)> = book
        .pools()
        .values()
        .filter(|pool| pool.spec().auto_assign && admits(pool, claim))
        .filter_map(|pool| Some((pool.spec().allocation.as_ref()?.priority.rank(), pool)))
        .collect();
    pools.sort_by_key(|(rank, _)| *rank);
    pools.into_iter().map(|(_, pool)| pool).collect()
}
