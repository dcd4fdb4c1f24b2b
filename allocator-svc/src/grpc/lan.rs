//! What the LAN says, for people: addresses that other machines have, and who answers for those that are announced.

use mooring_proto::pb;
use mooring_proto::types::address::Vip;

use crate::core::free::Pool;
use crate::core::{Placement, State};

/// The addresses of a pool that other machines have.
pub(super) fn quarantined(state: &State, pool: &Pool) -> Vec<pb::QuarantinedAddress> {
    let found = state.book().quarantined(pool).map(|found| pb::QuarantinedAddress {
        address: found.key.address.to_string(),
        note: found.note.clone(),
        until_unix_ms: found.until.unwrap_or_default().0,
    });
    found.collect()
}

/// What another node sees of a VIP, or why none does.
pub(super) fn sighting(state: &State, vip: Vip, placement: &Placement) -> pb::Sighting {
    let Some(seen) = state.network().sighting(vip) else {
        let reason = match &placement.standby {
            Some(standby) if standby.node == placement.active.node => {
                "the speaker that stands by is on the same node, and sees what it says itself"
            }
            Some(_) => "the node that stands by has not looked yet",
            None => "no other node stands by, so none looks",
        };
        let reachability = pb::Reachability::Unknown.into();
        return pb::Sighting { reachability, reason: reason.to_owned(), ..pb::Sighting::default() };
    };
    let reachability = if seen.reachable { pb::Reachability::Reachable } else { pb::Reachability::Unreachable };
    pb::Sighting {
        reachability: reachability.into(),
        contested: seen.contested,
        macs: seen.macs.iter().map(ToString::to_string).collect(),
        node: seen.by.to_string(),
        seen_unix_ms: seen.at.0,
        reason: String::new(),
    }
}
