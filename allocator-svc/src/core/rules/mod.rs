//! The ordered table of rules that find addresses for a claim (MetalLB behaviour 3.3, 5.3).

use mooring_proto::types::claim::Claim;

use super::dual_stack::Grant;
use super::free::Pool;
use super::refusal::Refusal;
use super::state::Book;

pub(crate) mod auto;
pub(crate) mod explicit;
pub(crate) mod pinned;
pub(crate) mod requested;
pub(crate) mod sharing;

/// What a rule says of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The rule is not about this claim, or has nothing for it: the next one is asked.
    Passes,
    /// The claim can have these.
    Grants(Grant),
    /// The claim cannot be met; no later rule is asked.
    Refuses(Refusal),
}

/// A rule over the present state.
pub(crate) type Rule = fn(&Book, &Claim) -> Verdict;

/// Where addresses may come from, in the order asked; the first that grants or refuses decides.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("explicit", explicit::judge),
    ("requested", requested::judge),
    ("sharing", sharing::judge),
    ("pinned", pinned::judge),
    ("auto", auto::judge),
];

/// New addresses for a claim.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Result<Grant, Refusal> {
    for (_, rule) in RULES {
        match rule(book, claim) {
            Verdict::Passes => {}
            Verdict::Grants(grant) => return Ok(grant),
            Verdict::Refuses(refusal) => return Err(refusal),
        }
    }
    Err(auto::none_available(book, claim))
}

/// The pools that a claim without requested addresses can be served from, in the order asked.
pub(crate) fn pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    match &claim.requested_pool {
        Some(name) => book.pools().get(name).filter(|pool| explicit::admits(pool, claim)).into_iter().collect(),
        None => open_pools(book, claim),
    }
}

/// The pools that are open to a claim which asks for none.
fn open_pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    pinned::pools(book, claim).into_iter().chain(auto::pools(book)).collect()
}

#[cfg(test)]
mod tests;
