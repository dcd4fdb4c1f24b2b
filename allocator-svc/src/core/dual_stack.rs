//! Families that a claim must or may have, and the choice of addresses for them (MetalLB behaviour 5.2, 5.3).

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{Claim, Families, FamilyPolicy};
use mooring_proto::types::pool::PoolName;

use super::free::Pool;
use super::quota;
use super::refusal::Count;
use super::rules::{reserved, sharing};
use super::state::Book;

/// How many addresses of which families a claim needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// One of this family.
    One(Family),
    /// One of each.
    Both,
    /// One of each, and only just those that it asks for: a dual Service with the policy SingleStack, which no API server lets be.
    BothAsked,
    /// One of each where a pool has both, otherwise one, rather of the primary family.
    Prefer {
        /// The Service's first family.
        primary: Family,
    },
}

impl Need {
    /// What a claim needs. Never more addresses than cluster IPs, whatever the policy says.
    pub(crate) fn of(claim: &Claim) -> Self {
        match (claim.families, claim.policy) {
            (Families::Single(family), _) => Self::One(family),
            (Families::Dual { .. }, FamilyPolicy::RequireDualStack) => Self::Both,
            (Families::Dual { primary }, FamilyPolicy::PreferDualStack) => Self::Prefer { primary },
            (Families::Dual { .. }, FamilyPolicy::SingleStack) => Self::BothAsked,
        }
    }

    /// Whether these addresses, which the Service has, are of the families needed.
    pub(crate) fn is_met_by(self, addresses: &[Vip]) -> bool {
        match (self, addresses) {
            (Self::One(family), [one]) => one.family() == family,
            (Self::Prefer { .. }, [_one]) => true,
            (Self::Both | Self::BothAsked | Self::Prefer { .. }, [one, other]) => one.family() != other.family(),
            _ => false,
        }
    }

    /// Whether these addresses, which the Service asks for, are of just its families (MetalLB behaviour 3.3.2).
    pub(crate) fn is_asked_by(self, addresses: &[Vip]) -> bool {
        match (self, addresses) {
            (Self::One(family), [one]) => one.family() == family,
            (Self::Both | Self::BothAsked | Self::Prefer { .. }, [one, other]) => one.family() != other.family(),
            _ => false,
        }
    }

    /// The family of which a Service that has these addresses takes one more, as soon as its pool has one.
    pub(crate) fn is_extended_by(self, addresses: &[Vip]) -> Option<Family> {
        match (self, addresses) {
            (Self::Prefer { .. }, [one]) => Some(one.family().other()),
            _ => None,
        }
    }

    /// The families to count when a pool is full.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::One(Family::V4) => &[Family::V4],
            Self::One(Family::V6) => &[Family::V6],
            Self::Both | Self::BothAsked | Self::Prefer { .. } => &[Family::V4, Family::V6],
        }
    }
}

/// What must be free in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// An address of this family.
    One(Family),
    /// An address of each.
    Both,
    /// An address of any.
    Either,
}

impl Room {
    /// What of a pool a claim lacks that cannot be served from it now; `None` if nothing free there would help.
    pub(crate) fn lacking(book: &Book, claim: &Claim, pool: &Pool) -> Option<Self> {
        let lacks = |family| own_or_shared(book, claim, pool, family).is_none();
        match Need::of(claim) {
            Need::One(family) => Some(Self::One(family)),
            Need::Prefer { .. } => Some(Self::Either),
            Need::Both => match (lacks(Family::V4), lacks(Family::V6)) {
                (true, true) => Some(Self::Both),
                (true, false) => Some(Self::One(Family::V4)),
                (false, true) => Some(Self::One(Family::V6)),
                (false, false) => None,
            },
            Need::BothAsked => None,
        }
    }

    /// The families of which an address helps.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::One(Family::V4) => &[Family::V4],
            Self::One(Family::V6) => &[Family::V6],
            Self::Both | Self::Either => &[Family::V4, Family::V6],
        }
    }

    /// Whether a pool has it.
    pub(crate) fn is_in(self, pool: &Pool) -> bool {
        let mut free = self.families().iter().map(|family| pool.lowest(*family).is_some());
        match self {
            Self::One(_) | Self::Both => free.all(|is_free| is_free),
            Self::Either => free.any(|is_free| is_free),
        }
    }
}

/// Addresses that a claim can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The addresses: as asked, or IPv4 first.
    pub(crate) addresses: Vec<Vip>,
    /// The pool that has them.
    pub(crate) pool: PoolName,
}

impl Grant {
    fn new(pool: &Pool, addresses: impl IntoIterator<Item = Vip>) -> Self {
        let mut addresses: Vec<Vip> = addresses.into_iter().collect();
        addresses.sort();
        Self { addresses, pool: pool.spec().name.clone() }
    }
}

/// The addresses of the first pool, in the order given, that has what the claim needs.
pub(crate) fn first_fit<'a>(book: &Book, claim: &Claim, pools: impl Iterator<Item = &'a Pool> + Clone) -> Option<Grant> {
    fit(book, claim, pools, |pool, family| candidate(book, claim, pool, family))
}

/// As [`first_fit`], with addresses from `candidate`. What the namespace's quota does not afford together does not fit.
pub(crate) fn fit<'a>(
    book: &Book,
    claim: &Claim,
    pools: impl Iterator<Item = &'a Pool> + Clone,
    candidate: impl Fn(&Pool, Family) -> Option<Vip>,
) -> Option<Grant> {
    let afforded = |grant: &Grant| quota::affords(book, claim, &grant.addresses);
    let one = |family: Family| pools.clone().find_map(|pool| Some(Grant::new(pool, [candidate(pool, family)?])).filter(afforded));
    // Where the quota has room for one of two, the other may be one that the namespace holds already.
    let joined = |pool: &Pool, family: Family| sharing::joined(book, claim, pool, family);
    let pair = |pool: &Pool, v4: Option<Vip>, v6: Option<Vip>| Some(Grant::new(pool, [v4?, v6?])).filter(afforded);
    let both_of = |pool: &Pool| {
        let (v4, v6) = (candidate(pool, Family::V4), candidate(pool, Family::V6));
        pair(pool, v4, v6).or_else(|| pair(pool, joined(pool, Family::V4), v6)).or_else(|| pair(pool, v4, joined(pool, Family::V6)))
    };
    let both = || pools.clone().find_map(both_of);
    match Need::of(claim) {
        Need::One(family) => one(family),
        Need::Both => both(),
        Need::BothAsked => None,
        Need::Prefer { primary } => both().or_else(|| one(primary)).or_else(|| one(primary.other())),
    }
}

/// The address of a pool that a claim would get in a family: the one that the Service has, one that is kept for it, one that it may share,
/// or the lowest free.
pub(crate) fn candidate(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    let free = || pool.lowest(family).filter(|vip| quota::affords(book, claim, &[*vip]));
    own_or_shared(book, claim, pool, family).or_else(free)
}

/// The one of them that need not be free.
fn own_or_shared(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    held(book, claim, pool, family)
        .or_else(|| reserved::kept(book, claim, pool, family))
        .or_else(|| sharing::attracting(book, claim, pool, family))
}

/// What the Service has of this pool and family and may keep: a change of its claim moves no more than it must.
fn held(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    let lease = book.lease(&claim.service)?;
    let may_stay = |vip: &Vip| book.reserved_against(*vip, &claim.service).is_none() && sharing::check(book, claim, *vip).is_ok();
    let usable = |vip: &Vip| vip.family() == family && pool.hands_out(*vip) && may_stay(vip);
    lease.addresses.iter().copied().find(usable)
}

/// How full a pool is in the families that a claim needs.
pub(crate) fn counts(claim: &Claim, pool: &Pool) -> Vec<Count> {
    Need::of(claim).families().iter().map(|family| pool.count(*family)).collect()
}
