//! Addresses that are kept for the Service: it gets just these where its claim allows them, before any other choice.

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::Claim;

use super::explicit::admits;
use super::{Closed, Considered, Verdict, sharing};
use crate::core::dual_stack::{Need, candidate, fit};
use crate::core::free::Pool;
use crate::core::quota;
use crate::core::state::Book;

/// What is reserved for the Service is of no use to it.
const NOT_ALLOWED: &str = "the Service can have nothing of what is reserved for it";

/// Grants what is kept for the Service. What it lacks besides (the second family) comes from the same pool; `autoAssign` does not matter.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    if book.reservations().kept_for(&claim.service).next().is_none() {
        return Verdict::Passes("nothing is reserved for the Service");
    }
    let pools = pools(book, claim);
    let exact = fit(book, claim, pools.iter().copied(), |pool, family| kept(book, claim, pool, family));
    let is_whole = exact.as_ref().is_some_and(|grant| grant.addresses.len() == Need::of(claim).families().len());
    if is_whole || pools.is_empty() {
        return exact.map_or(Verdict::Passes(NOT_ALLOWED), Verdict::Grants);
    }
    let is_kept = |vip: &Vip| book.reservations().kept_for(&claim.service).any(|kept| kept == *vip);
    let filled = fit(book, claim, pools.iter().copied(), |pool, family| candidate(book, claim, pool, family));
    filled.filter(|grant| grant.addresses.iter().any(is_kept)).or(exact).map_or(Verdict::Passes(NOT_ALLOWED), Verdict::Grants)
}

/// The pools that have addresses that are kept for the Service, and let it in.
pub(crate) fn pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    all(book, claim).into_iter().filter(|pool| against(claim, pool).is_none()).collect()
}

/// All pools that have addresses that are kept for the Service; those of which it can have none are closed.
pub(crate) fn considers<'a>(book: &'a Book, claim: &Claim) -> Vec<Considered<'a>> {
    let lacks = |pool: &Pool| Need::of(claim).families().iter().all(|family| kept(book, claim, pool, *family).is_none());
    let closed = |pool: &Pool| against(claim, pool).or_else(|| lacks(pool).then_some(Closed::NotKept));
    all(book, claim).into_iter().map(|pool| Considered::new(pool, closed(pool))).collect()
}

fn all<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    let mut pools: Vec<&Pool> = book.reservations().kept_for(&claim.service).filter_map(|vip| book.pool_of(vip)).collect();
    pools.dedup_by(|one, other| one.spec().name == other.spec().name);
    pools
}

/// What stands against a pool, whatever is kept in it.
fn against(claim: &Claim, pool: &Pool) -> Option<Closed> {
    if claim.requested_pool.as_ref().is_some_and(|wanted| *wanted != pool.spec().name) {
        return Some(Closed::NotAsked);
    }
    (!admits(pool, claim)).then_some(Closed::NotAdmitted)
}

/// The address of a pool and family that is kept for the Service and that it may hold.
pub(crate) fn kept(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    let usable = |vip: &Vip| {
        let is_allowed = pool.hands_out(*vip) && sharing::check(book, claim, *vip).is_ok();
        vip.family() == family && is_allowed && quota::affords(book, claim, &[*vip])
    };
    book.reservations().kept_for(&claim.service).find(usable)
}
