//! When Services may hold one address, and how a sharing key attracts (MetalLB behaviour 5.5).

use std::collections::BTreeSet;

use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, SharingKey};
use mooring_proto::types::lease::Lease;
use mooring_proto::types::service::{ServiceKey, ServicePort};

use super::{Closed, Considered, Verdict, auto, opened, pinned};
use crate::core::dual_stack::{candidate, fit};
use crate::core::free::Pool;
use crate::core::quota;
use crate::core::refusal::{Differs, Refusal};
use crate::core::state::Book;

/// By what a Service may share an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Party<'a> {
    /// Who it is, if it may hold the address already.
    pub(crate) service: Option<&'a ServiceKey>,
    /// Its sharing key.
    pub(crate) key: Option<&'a SharingKey>,
    /// Its backend key.
    pub(crate) backend: &'a BackendKey,
    /// Its ports.
    pub(crate) ports: &'a BTreeSet<ServicePort>,
}

impl<'a> From<&'a Claim> for Party<'a> {
    fn from(claim: &'a Claim) -> Self {
        Self { service: Some(&claim.service), key: claim.sharing_key.as_ref(), backend: &claim.backend_key, ports: &claim.ports }
    }
}

/// Grants an address that is held already under the claim's sharing key, from any pool that the claim could be served from. MetalLB
/// takes the lowest address that passes, so there the halves of a Service may miss each other.
pub(crate) fn judge(book: &Book, claim: &Claim) -> Verdict {
    if claim.sharing_key.is_none() {
        return Verdict::Passes("the Service has no sharing key");
    }
    let attracts = opened(&considers(book, claim));
    let granted = fit(book, claim, attracts.into_iter(), |pool, family| candidate(book, claim, pool, family));
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

/// The lowest address of a pool and family that others hold under the claim's keys, where its ports are free, and that is not reserved.
pub(crate) fn attracting(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    claim.sharing_key.as_ref()?;
    let own: &[Vip] = book.lease(&claim.service).map_or(&[], |lease| &lease.addresses);
    let is_kept = |vip: &Vip| book.is_kept_from(*vip, Some(&claim.service));
    let usable = |vip: &Vip| vip.family() == family && pool.hands_out(*vip) && !is_kept(vip);
    let with_others = |vip: &Vip| book.others(*vip, Some(&claim.service)).next().is_some() && check(book, claim, *vip).is_ok();
    let theirs = open(book, Party::from(claim), pool, family, own);
    let lowest = own.iter().copied().filter(|vip| usable(vip) && with_others(vip)).chain(theirs).min();
    lowest.filter(|vip| quota::affords(book, claim, &[*vip])).or_else(|| joined(book, claim, pool, family))
}

/// The lowest address of a pool and family that others hold under a party's keys, but for these, where its ports are free, and that is not
/// kept from it.
pub(crate) fn open(book: &Book, party: Party<'_>, pool: &Pool, family: Family, but: &[Vip]) -> Option<Vip> {
    let shared = book.shared(party.key?, party.backend)?;
    let bounds = pool.bounds().filter(|(first, _)| first.family() == family);
    let usable = |vip: &Vip| pool.hands_out(*vip) && !but.contains(vip) && !book.is_kept_from(*vip, party.service);
    let lowest = |(first, last)| shared.with_room(party.ports, first, last).find(usable);
    bounds.filter_map(lowest).min()
}

/// Of those, the lowest that others of the Service's own namespace hold: it costs nothing of a quota. Without one there is none to spare.
pub(crate) fn joined(book: &Book, claim: &Claim, pool: &Pool, family: Family) -> Option<Vip> {
    claim.quota.and_then(|_| open_within(book, Party::from(claim), claim.service.namespace(), pool, family))
}

/// As [`open`], of the addresses that a namespace's Services hold.
pub(crate) fn open_within(book: &Book, party: Party<'_>, namespace: &str, pool: &Pool, family: Family) -> Option<Vip> {
    party.key?;
    let is_inside = |vip: &Vip| book.others(*vip, party.service).any(|other| other.service.namespace() == namespace);
    let usable = |vip: &Vip| vip.family() == family && pool.hands_out(*vip) && !book.is_kept_from(*vip, party.service);
    book.held_by(namespace).find(|vip| usable(vip) && is_inside(vip) && admits(book, party, *vip))
}

/// What keeps a party from an address.
enum Obstacle<'a> {
    /// A key is another one than that of those who hold it.
    Key(Differs),
    /// A port is in use.
    Port(ServicePort, &'a ServiceKey),
}

/// Whether a Service may hold an address besides those that hold it now: equal non-empty sharing keys, equal backend keys, no port in
/// common. Keys are checked before ports.
pub(crate) fn check(book: &Book, claim: &Claim, vip: Vip) -> Result<(), Refusal> {
    match obstacle(book, Party::from(claim), vip) {
        None => Ok(()),
        Some(Obstacle::Key(differs)) => {
            let holders = book.others(vip, Some(&claim.service)).map(|other| other.service.clone()).collect();
            Err(Refusal::SharingForbidden { service: claim.service.clone(), vip, holders, differs })
        }
        Some(Obstacle::Port(port, holder)) => Err(Refusal::PortInUse { port, vip, holder: holder.clone() }),
    }
}

/// As [`check`], without the reason.
pub(crate) fn admits(book: &Book, party: Party<'_>, vip: Vip) -> bool {
    obstacle(book, party, vip).is_none()
}

fn obstacle<'a>(book: &'a Book, party: Party<'_>, vip: Vip) -> Option<Obstacle<'a>> {
    // Those that hold an address together have the same keys, so one of them speaks for all.
    let other = book.others(vip, party.service).next()?;
    if party.key.is_none() || party.key != other.sharing_key.as_ref() {
        return Some(Obstacle::Key(Differs::SharingKey));
    }
    if *party.backend != other.backend_key {
        return Some(Obstacle::Key(Differs::BackendKey));
    }
    let is_taken = party.key.and_then(|key| book.shared(key, party.backend)).is_some_and(|shared| shared.is_taken(vip, party.ports));
    let port = |other: &'a Lease| party.ports.intersection(&other.ports).next().map(|port| Obstacle::Port(*port, &other.service));
    is_taken.then(|| book.others(vip, party.service).find_map(port)).flatten()
}
