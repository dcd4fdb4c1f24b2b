//! The ordered table of rules that find addresses for a claim (MetalLB behaviour 3.3, 5.3).

use std::fmt;

use mooring_proto::types::claim::Claim;
use mooring_proto::types::pool::PoolName;

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
    /// The rule is not about this claim, or has nothing for it, and this is why: the next one is asked.
    Passes(&'static str),
    /// The claim can have these.
    Grants(Grant),
    /// The claim cannot be met; no later rule is asked.
    Refuses(Refusal),
}

impl Verdict {
    /// Whether no later rule is asked.
    pub(crate) fn decides(&self) -> bool {
        match self {
            Self::Passes(_) => false,
            Self::Grants(_) | Self::Refuses(_) => true,
        }
    }
}

/// A pool that a rule looks at for a claim.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Considered<'a> {
    /// Its name.
    pub(crate) name: &'a PoolName,
    /// The pool, if it is open to the claim.
    pub(crate) pool: Result<&'a Pool, Closed>,
}

impl<'a> Considered<'a> {
    /// A pool with what stands against it.
    fn new(pool: &'a Pool, closed: Option<Closed>) -> Self {
        Self { name: &pool.spec().name, pool: closed.map_or(Ok(pool), Err) }
    }
}

/// Why a pool is passed over, whatever is free in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// There is no such pool.
    Unknown,
    /// It is asked only by name or by address.
    NotAutomatic,
    /// It is not for this Service.
    NotAdmitted,
    /// It has an address asked for, and the rule refuses it.
    NotGranted,
    /// None of its addresses can be shared.
    NotShared,
    /// The Service asks for another pool.
    NotAsked,
    /// The Service can have none of its addresses that are kept for it.
    NotKept,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "it does not exist",
            Self::NotAutomatic => "its autoAssign is false",
            Self::NotAdmitted => "its serviceAllocation does not admit this Service",
            Self::NotGranted => "it has an address asked for, which is refused",
            Self::NotShared => "no address of it is held under the Service's sharing key and backend key",
            Self::NotAsked => "the Service asks for another pool",
            Self::NotKept => "what is kept for the Service in it is of a family that it does not need",
        })
    }
}

/// A rule over the present state.
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it says of a claim.
    pub(crate) judge: fn(&Book, &Claim) -> Verdict,
    /// The pools that it looks at, in the order asked.
    pub(crate) considers: for<'a> fn(&'a Book, &'a Claim) -> Vec<Considered<'a>>,
}

/// Where addresses may come from, in the order asked; the first that grants or refuses decides.
pub(crate) const RULES: &[Rule] = &[
    Rule { name: "explicit", judge: explicit::judge, considers: explicit::considers },
    Rule { name: "reserved", judge: reserved::judge, considers: reserved::considers },
    Rule { name: "requested", judge: requested::judge, considers: requested::considers },
    Rule { name: "sharing", judge: sharing::judge, considers: sharing::considers },
    Rule { name: "pinned", judge: pinned::judge, considers: pinned::considers },
    Rule { name: "auto", judge: auto::judge, considers: auto::considers },
];

/// What each rule says of a claim, in order, asked one by one. Where there is no room, and the namespace's quota would stand against it
/// anyway, that is what is said.
pub(crate) fn verdicts(book: &Book, claim: &Claim) -> impl Iterator<Item = (&'static Rule, Verdict)> {
    let within_quota = |verdict: Verdict| match verdict {
        Verdict::Refuses(refusal) if refusal.is_of_room() && quota::is_exhausted(book, claim) => {
            Verdict::Refuses(quota::exceeded(book, claim))
        }
        Verdict::Passes(_) | Verdict::Grants(_) | Verdict::Refuses(_) => verdict,
    };
    RULES.iter().map(move |rule| (rule, within_quota((rule.judge)(book, claim))))
}

/// New addresses for a claim.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Result<Grant, Refusal> {
    match verdicts(book, claim).map(|(_, verdict)| verdict).find(Verdict::decides) {
        Some(Verdict::Grants(grant)) => Ok(grant),
        Some(Verdict::Refuses(refusal)) => Err(refusal),
        Some(Verdict::Passes(_)) | None => Err(auto::none_available(book, claim)),
    }
}

/// The pools that are open, of those that are looked at.
fn opened<'a>(considered: &[Considered<'a>]) -> Vec<&'a Pool> {
    considered.iter().filter_map(|considered| considered.pool.ok()).collect()
}

/// The pools that a claim without requested addresses can be served from, in the order asked.
pub(crate) fn pools<'a>(book: &'a Book, claim: &Claim) -> Vec<&'a Pool> {
    match &claim.requested_pool {
        Some(name) => requested::find(book, claim, name).into_iter().collect(),
        None => pinned::pools(book, claim).into_iter().chain(auto::pools(book)).collect(),
    }
}

#[cfg(test)]
mod tests;
