//! When Services may hold one address, and how a sharing key attracts (MetalLB behaviour 5.5).

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::Claim;

use super::{Closed, Considered, Verdict, auto, open, pinned};
use crate::core::dual_stack::{candidate, fit};
use crate::core::free::Pool;
use crate::core::refusal::{Differs, Refusal};
use crate::core::state::Book;

/// Grants an address that is held already under the claim's sharing key, from any pool that the claim could be served from. MetalLB
/// takes the lowest address that passes, so there the halves of a Service may miss each other.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    if claim.sharing_key.is_none() {
        return Verdict::Passes("the Service has no sharing key");
    }
    let attracts = open(&considers(book, claim));
    let granted = fit(claim, attracts.into_iter(), |pool, family| candidate(book, claim, pool, family));
    granted.map_or(Verdict::Passes("no pool has an address that the Service could share"), Verdict::Grants)
}

/// All pools that a Service could be served from, in the order of the rules for them; those without an address to share are closed.
pub(crate) fn considers<'a>(book: &'a Book, claim: &Claim) -> Vec<Considered<'a>> {
    if claim.sharing_key.is_none() {
        return Vec::new();
    }
    let attract = |pool: &Pool| [Family::V4, Family::V6].iter().any(|family| attracting(book, claim, pool, *family).is_some());
    let shared = |considered: Considered<'a>| Considered {
        pool: considered.pool.and_then(|pool| if attract(pool) { Ok(pool) } else { Err(Closed::NotShared) }),
        ..considered
    };
    pinned::considers(book, claim).into_iter().chain(auto::considers(book, claim)).map(shared).collect()
}

/// The lowest address of a pool and family that others hold under the claim's keys and where its ports are free.
pub(crate) fn attracting(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    let key = claim.sharing_key.as_ref()?;
    book.shared(key, &claim.backend_key)
        .filter(|vip| vip.family() == family && pool.hands_out(*vip))
        .find(|vip| book.others(*vip, &claim.service).next().is_some() && check(book, claim, *vip).is_ok())
}

/// Whether a Service may hold an address besides those that hold it now: equal non-empty sharing keys, equal backend keys, no port in
/// common. Keys are checked before ports.
pub(crate) fn check(book: &Book, claim: &Claim, vip: Vip) -> Result<(), Refusal> {
    let differs = book.others(vip, &claim.service).find_map(|other| {
        if claim.sharing_key.is_none() || claim.sharing_key != other.sharing_key {
            Some(Differs::SharingKey)
        } else {
            (claim.backend_key != other.backend_key).then_some(Differs::BackendKey)
        }
    });
    if let Some(differs) = differs {
        let holders = book.others(vip, &claim.service).map(|other| other.service.clone()).collect();
        return Err(Refusal::SharingForbidden { service: claim.service.clone(), vip, holders, differs });
    }
    for other in book.others(vip, &claim.service) {
        if let Some(port) = claim.ports.intersection(&other.ports).next() {
            return Err(Refusal::PortInUse { port: *port, vip, holder: other.service.clone() });
        }
    }
    Ok(())
}
