//! The ordered table of rules that find addresses for a claim (MetalLB behaviour 3.3, 5.3).

use mooring_proto::types::claim::Claim;

use super::dual_stack::Grant;
use super::free::Pool;
use super::quota;
use super::refusal::Refusal;
use super::state::Book;

pub(crate) mod auto;
pub(crate) mod explicit;
pub(crate) mod pinned;
pub(crate) mod requested;
pub(crate) mod reserved;
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
    ("reserved", reserved::judge),
    ("requested", requested::judge),
    ("sharing", sharing::judge),
    ("pinned", pinned::judge),
    ("auto", auto::judge),
];

/// New addresses for a claim. Where there are none, and the namespace's quota would stand against them anyway, that is what is said.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Result<Grant, Refusal> {
    let verdict = RULES.iter().map(|(_, rule)| rule(book, claim)).find(|verdict| *verdict != Verdict::Passes);
    match verdict {
        Some(Verdict::Grants(grant)) => Ok(grant),
        Some(Verdict::Refuses(refusal)) if refusal.is_of_room() && quota::is_exhausted(book, claim) => Err(quota::exceeded(book, claim)),
        Some(Verdict::Refuses(refusal)) => Err(refusal),
        Some(Verdict::Passes) | None => Err(auto::none_available(book, claim)),
    }
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
