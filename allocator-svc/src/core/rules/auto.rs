//! Pools that are for everybody, by name (MetalLB behaviour 5.3, second tier).

use mooring_proto::types::claim::Claim;

use super::{Closed, Considered, Verdict, pinned};
use crate::core::dual_stack::{counts, first_fit};
use crate::core::free::Pool;
use crate::core::refusal::Refusal;
use crate::core::state::Book;

/// Grants from the first common pool that has room, or refuses.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    match first_fit(book, claim, pools(book)) {
        Some(grant) => Verdict::Grants(grant),
        None => Verdict::Refuses(none_available(book, claim)),
    }
}

/// The common pools open to a Service, by name.
pub(crate) fn pools(book: &Book) -> impl Iterator<Item = &Pool> + Clone {
    common(book).filter_map(|considered| considered.pool.ok())
}

/// All common pools, by name.
pub(crate) fn considers<'a>(book: &'a Book, _claim: &Claim) -> Vec<Considered<'a>> {
    common(book).collect()
}

fn common(book: &Book) -> impl Iterator<Item = Considered<'_>> + Clone {
    let pools = book.pools().values().filter(|pool| pool.spec().allocation.is_none());
    pools.map(|pool| Considered::new(pool, (!pool.spec().auto_assign).then_some(Closed::NotAutomatic)))
}

/// Says of each pool that was asked how full it is.
pub(crate) fn none_available(book: &Book, claim: &Claim) -> Refusal {
    let asked = pinned::pools(book, claim).into_iter().chain(pools(book));
    Refusal::NoneAvailable { asked: asked.map(|pool| (pool.spec().name.clone(), counts(claim, pool))).collect() }
}
