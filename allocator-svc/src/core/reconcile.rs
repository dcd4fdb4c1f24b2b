//! What a watcher says of Services: one claim, one end of a claim, or its full view (MetalLB behaviour 3.9).

use std::collections::BTreeSet;

use mooring_proto::types::claim::Claim;
use mooring_proto::types::service::ServiceKey;

use super::refusal::Refusal;
use super::state::State;
use super::{Event, Leadership, Now, reservations};

/// A Service's claim. One that says nothing new changes nothing.
pub(super) fn claim(state: &State, leadership: Leadership, claim: Box<Claim>) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    if is_news(state, &claim) {
        events.push(Event::ClaimMade(claim));
    }
    Ok(events)
}

/// The end of a Service's claim and lease.
pub(super) fn release(state: &State, leadership: Leadership, service: &ServiceKey, now: Now) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    events.extend(forget(state, service, now));
    Ok(events)
}

/// All claims there are: Services that are not named hold nothing any more. Releases come first, so that their addresses serve others.
pub(super) fn full_view(state: &State, leadership: Leadership, claims: Vec<Claim>, now: Now) -> Result<Vec<Event>, Refusal> {
    let mut events = Vec::from_iter(state.admit(leadership)?);
    let named: BTreeSet<ServiceKey> = claims.iter().map(|claim| claim.service.clone()).collect();
    let known: BTreeSet<&ServiceKey> = state.book.leases().keys().chain(state.book.claims().keys()).collect();
    for service in known.into_iter().filter(|service| !named.contains(*service)) {
        events.extend(forget(state, service, now));
    }
    events.extend(claims.into_iter().filter(|claim| is_news(state, claim)).map(|claim| Event::ClaimMade(Box::new(claim))));
    if !state.book.is_reconciled() {
        events.push(Event::ViewReconciled);
    }
    Ok(events)
}

/// Whether a claim says something that is not known. What the status holds matters only as long as there is no lease.
fn is_news(state: &State, claim: &Claim) -> bool {
    let Some(known) = state.book.claim(&claim.service) else { return true };
    if state.book.lease(&claim.service).is_none() {
        return known != claim;
    }
    Claim { adopt: claim.adopt.clone(), ..known.clone() } != *claim
}

/// The Service is gone. What it keeps is reserved with its release, before anybody else is looked at.
fn forget(state: &State, service: &ServiceKey, now: Now) -> Vec<Event> {
    let claimed = state.book.claim(service).map(|_| Event::ClaimForgotten(service.clone()));
    let mut events = Vec::from_iter(claimed);
    if let Some(lease) = state.book.lease(service) {
        events.push(Event::LeaseReleased(service.clone()));
        events.extend(reservations::retain(state, lease, now));
    }
    events
}
