//! The addresses that are held under one sharing key and one backend key, by the ports that are taken on them.
//!
//! The addresses are kept as intervals, as those in a pool are ([`super::free`]): one after the other is the usual case, and then it does
//! not matter how many have no room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use mooring_proto::types::address::Vip;
use mooring_proto::types::service::ServicePort;
use range_set_blaze::RangeSetBlaze;

/// Addresses held under the same keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shared {
    held: RangeSetBlaze<u128>,
    /// By port, the addresses where a Service has it.
    taken: BTreeMap<ServicePort, RangeSetBlaze<u128>>,
}

impl Shared {
    /// A Service holds the address with these ports.
    pub(super) fn hold(&mut self, vip: Vip, ports: &BTreeSet<ServicePort>) {
        self.held.insert(number(vip));
        for port in ports {
            self.taken.entry(*port).or_default().insert(number(vip));
        }
    }

    /// A Service has these ports on the address no more; `others` says whether the address is still held.
    pub(super) fn give_up(&mut self, vip: Vip, ports: &BTreeSet<ServicePort>, others: bool) {
        if !others {
            self.held.remove(number(vip));
        }
        for port in ports {
            if let Some(taken) = self.taken.get_mut(port) {
                taken.remove(number(vip));
                if taken.is_empty() {
                    self.taken.remove(port);
                }
            }
        }
    }

    /// Whether no address is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The held addresses, ascending.
    pub(super) fn held(&self) -> impl Iterator<Item = Vip> + '_ {
        self.held.iter().map(|number| Ipv6Addr::from_bits(number).into())
    }

    /// Whether a Service has one of these ports on the address.
    pub(super) fn is_taken(&self, vip: Vip, ports: &BTreeSet<ServicePort>) -> bool {
        ports.iter().any(|port| self.taken.get(port).is_some_and(|taken| taken.contains(number(vip))))
    }

    /// The held addresses from the first to the last where nobody has one of these ports, ascending.
    pub(super) fn with_room<'a>(&'a self, ports: &'a BTreeSet<ServicePort>, first: Vip, last: Vip) -> impl Iterator<Item = Vip> + 'a {
        let taken: Vec<&RangeSetBlaze<u128>> = ports.iter().filter_map(|port| self.taken.get(port)).collect();
        let (mut next, last) = (Some(number(first)), number(last));
        std::iter::from_fn(move || {
            loop {
                let at = next.filter(|at| *at <= last)?;
                let after = |run: std::ops::RangeInclusive<u128>| run.end().checked_add(1);
                let (run, is_held) = self.held.range_or_gap_at(at);
                if !is_held {
                    next = after(run);
                    continue;
                }
                match taken.iter().find_map(|taken| taken.range_at(at)) {
                    Some(run) => next = after(run),
                    None => {
                        next = at.checked_add(1);
                        return Some(Ipv6Addr::from_bits(at).into());
                    }
                }
            }
        })
    }
}

/// An IPv4 address counts as the IPv6 address that it is mapped to.
fn number(vip: Vip) -> u128 {
    let mapped = vip.v4().map(|address| address.to_ipv6_mapped());
    mapped.or(vip.v6()).map(Ipv6Addr::to_bits).unwrap_or_default()
}

#[cfg(test)]
mod tests;
