//! What is free in a pool: the lowest free address in O(log n) of the leases, for IPv4 and IPv6 alike.
//!
//! Each entry of `spec.addresses` is a segment with an interval set of its free addresses; segments are asked in the order written
//! (MetalLB behaviour 5.1). Under `avoidBuggyIPs` an IPv4 segment counts only the usable addresses, so that the two it skips in every
//! /24 are no holes in its intervals: a /8 stays one interval.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use mooring_proto::types::address::{AddressRange, Family, Vip};
use mooring_proto::types::pool::PoolSpec;
use range_set_blaze::RangeSetBlaze;

use super::refusal::Count;

/// A pool and what is free in it.
#[derive(Clone, Debug)]
pub struct Pool {
    spec: PoolSpec,
    segments: Vec<Segment>,
    v4: Tally,
    v6: Tally,
}

/// What a count of addresses ends at: a prefix with 62 or more host bits counts as so many (MetalLB behaviour 2.3), and so does all that
/// would be more.
const MOST: u64 = i64::MAX.unsigned_abs();

/// How many addresses of a family a pool has.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// That can be handed out, at most [`MOST`].
    total: u64,
    /// In use.
    assigned: u64,
    /// In use although the pool does not hand them out (`avoidBuggyIPs` came later).
    kept_back: u64,
    /// Reserved and not in use, of those that the pool hands out.
    reserved: u64,
}

#[derive(Clone, Debug)]
enum Segment {
    V4 { first: u32, last: u32, numbering: Numbering, free: RangeSetBlaze<u32> },
    V6 { first: u128, last: u128, free: RangeSetBlaze<u128> },
}

/// How IPv4 addresses are numbered in a segment's interval set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbering {
    /// By their value.
    Plain,
    /// By their place among those that end in 1 to 254.
    WithoutBuggy,
}

impl Numbering {
    fn number(self, address: u32) -> Option<u32> {
        match (self, address & 0xff) {
            (Self::Plain, _) => Some(address),
            (Self::WithoutBuggy, 0 | 255) => None,
            (Self::WithoutBuggy, low) => (address >> 8).checked_mul(254)?.checked_add(low.checked_sub(1)?),
        }
    }

    fn address(self, number: u32) -> u32 {
        match self {
            Self::Plain => number,
            Self::WithoutBuggy => ((number / 254) << 8) | (number % 254 + 1),
        }
    }
}

impl Segment {
    fn new(range: &AddressRange, avoid_buggy: bool) -> Option<Self> {
        let (first, last) = (range.prefixes().first()?.network(), range.prefixes().last()?.broadcast());
        match (Vip::from(first).v4(), Vip::from(last).v4(), Vip::from(first).v6(), Vip::from(last).v6()) {
            (Some(first), Some(last), _, _) => {
                let numbering = if avoid_buggy { Numbering::WithoutBuggy } else { Numbering::Plain };
                let (first, last) = (first.to_bits(), last.to_bits());
                let lowest = [first, first.saturating_add(1), first.saturating_add(2)].into_iter().find_map(|a| numbering.number(a));
                let highest = [last, last.saturating_sub(1), last.saturating_sub(2)].into_iter().find_map(|a| numbering.number(a));
                let usable = lowest.zip(highest).filter(|(lowest, highest)| lowest <= highest);
                let inside = usable.filter(|(lowest, highest)| numbering.address(*lowest) <= last && numbering.address(*highest) >= first);
                let free = inside.map(|(lowest, highest)| RangeSetBlaze::from_iter([lowest..=highest])).unwrap_or_default();
                Some(Self::V4 { first, last, numbering, free })
            }
            (_, _, Some(first), Some(last)) => {
                let (first, last) = (first.to_bits(), last.to_bits());
                Some(Self::V6 { first, last, free: RangeSetBlaze::from_iter([first..=last]) })
            }
            _ => None,
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::V4 { .. } => Family::V4,
            Self::V6 { .. } => Family::V6,
        }
    }

    fn contains(&self, vip: Vip) -> bool {
        match self {
            Self::V4 { first, last, .. } => vip.v4().is_some_and(|address| (*first..=*last).contains(&address.to_bits())),
            Self::V6 { first, last, .. } => vip.v6().is_some_and(|address| (*first..=*last).contains(&address.to_bits())),
        }
    }

    fn hands_out(&self, vip: Vip) -> bool {
        let numbered = match self {
            Self::V4 { numbering, .. } => vip.v4().is_some_and(|address| numbering.number(address.to_bits()).is_some()),
            Self::V6 { .. } => true,
        };
        numbered && self.contains(vip)
    }

    fn lowest(&self) -> Option<Vip> {
        match self {
            Self::V4 { numbering, free, .. } => free.first().map(|number| Ipv4Addr::from_bits(numbering.address(number)).into()),
            Self::V6 { free, .. } => free.first().map(|bits| Ipv6Addr::from_bits(bits).into()),
        }
    }

    fn set_free(&mut self, vip: Vip, is_free: bool) {
        match self {
            Self::V4 { numbering, free, .. } => {
                if let Some(number) = vip.v4().and_then(|address| numbering.number(address.to_bits())) {
                    if is_free {
                        free.insert(number)
                    } else {
                        free.remove(number)
                    };
                }
            }
            Self::V6 { free, .. } => {
                if let Some(bits) = vip.v6().map(Ipv6Addr::to_bits) {
                    if is_free {
                        free.insert(bits)
                    } else {
                        free.remove(bits)
                    };
                }
            }
        }
    }
}

impl Pool {
    /// A pool with nothing in use.
    #[must_use]
    pub fn new(spec: PoolSpec) -> Self {
        let segments: Vec<Segment> = spec.ranges.iter().filter_map(|range| Segment::new(range, spec.avoid_buggy_ips)).collect();
        let usable = |prefix: &IpNet| match prefix {
            IpNet::V4(net) => usable_v4(*net, spec.avoid_buggy_ips),
            IpNet::V6(net) => {
                1u64.checked_shl(u32::from(128u8.saturating_sub(net.prefix_len()))).filter(|count| *count < 1 << 62).unwrap_or(MOST)
            }
        };
        let total = |is_v4: bool| {
            let prefixes = spec.prefixes().filter(|prefix| matches!(prefix, IpNet::V4(_)) == is_v4);
            prefixes.fold(0, |sum: u64, prefix| sum.saturating_add(usable(prefix)).min(MOST))
        };
        let v4 = Tally { total: total(true), ..Tally::default() };
        let v6 = Tally { total: total(false), ..Tally::default() };
        Self { spec, segments, v4, v6 }
    }

    /// The pool as configured.
    #[must_use]
    pub fn spec(&self) -> &PoolSpec {
        &self.spec
    }

    /// Whether the address is one of the pool's.
    #[must_use]
    pub fn contains(&self, vip: Vip) -> bool {
        self.segments.iter().any(|segment| segment.contains(vip))
    }

    /// Whether the pool hands the address out: it is one of its own and not kept back by `avoidBuggyIPs`.
    #[must_use]
    pub fn hands_out(&self, vip: Vip) -> bool {
        self.segments.iter().any(|segment| segment.hands_out(vip))
    }

    /// The first free address of a family: segments in the order written, the lowest within the first that has one.
    #[must_use]
    pub fn lowest(&self, family: Family) -> Option<Vip> {
        self.segments.iter().filter(|segment| segment.family() == family).find_map(Segment::lowest)
    }

    /// The first and the last address of each segment.
    pub(super) fn bounds(&self) -> impl Iterator<Item = (Vip, Vip)> {
        self.segments.iter().map(|segment| match segment {
            Segment::V4 { first, last, .. } => (Ipv4Addr::from_bits(*first).into(), Ipv4Addr::from_bits(*last).into()),
            Segment::V6 { first, last, .. } => (Ipv6Addr::from_bits(*first).into(), Ipv6Addr::from_bits(*last).into()),
        })
    }

    /// How full the pool is in a family.
    #[must_use]
    pub fn count(&self, family: Family) -> Count {
        let tally = self.tally(family);
        Count { family, assigned: tally.assigned, total: tally.total, reserved: tally.reserved }
    }

    /// How many addresses of a family can still be handed out.
    #[must_use]
    pub fn available(&self, family: Family) -> u64 {
        let tally = self.tally(family);
        tally.total.saturating_sub(tally.assigned.saturating_sub(tally.kept_back)).saturating_sub(tally.reserved)
    }

    /// The address is in use from now on.
    pub(super) fn take(&mut self, vip: Vip) {
        self.mark(vip, false);
    }

    /// The address is free from now on.
    pub(super) fn give_back(&mut self, vip: Vip) {
        self.mark(vip, true);
    }

    /// The address, which is free, is reserved from now on.
    pub(super) fn reserve(&mut self, vip: Vip) {
        self.keep(vip, true);
    }

    /// The address, which is reserved and not in use, is free from now on.
    pub(super) fn unreserve(&mut self, vip: Vip) {
        self.keep(vip, false);
    }

    fn mark(&mut self, vip: Vip, is_free: bool) {
        let hands_out = self.hands_out(vip);
        self.set_free(vip, is_free);
        let tally = self.tally_mut(vip.family());
        tally.assigned = step(tally.assigned, !is_free);
        if !hands_out {
            tally.kept_back = step(tally.kept_back, !is_free);
        }
    }

    fn keep(&mut self, vip: Vip, is_reserved: bool) {
        let hands_out = self.hands_out(vip);
        self.set_free(vip, !is_reserved);
        let tally = self.tally_mut(vip.family());
        if hands_out {
            tally.reserved = step(tally.reserved, is_reserved);
        }
    }

    fn set_free(&mut self, vip: Vip, is_free: bool) {
        for segment in self.segments.iter_mut().filter(|segment| segment.contains(vip)) {
            segment.set_free(vip, is_free);
        }
    }

    fn tally(&self, family: Family) -> &Tally {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn tally_mut(&mut self, family: Family) -> &mut Tally {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

fn step(count: u64, up: bool) -> u64 {
    if up { count.saturating_add(1) } else { count.saturating_sub(1) }
}

/// How many addresses of an IPv4 prefix can be handed out: under `avoidBuggyIPs` none that ends in 0 or 255 (MetalLB behaviour 2.3).
fn usable_v4(net: Ipv4Net, avoid_buggy: bool) -> u64 {
    let all = 1u64 << u32::from(32u8.saturating_sub(net.prefix_len()));
    if !avoid_buggy {
        return all;
    }
    let ends = [net.network(), net.broadcast()].into_iter().filter(|end| Vip::from(*end).is_buggy()).count();
    let buggy = if net.prefix_len() <= 24 { all / 128 } else { u64::try_from(ends).unwrap_or(u64::MAX).min(all) };
    all.saturating_sub(buggy)
}

#[cfg(test)]
mod tests;
