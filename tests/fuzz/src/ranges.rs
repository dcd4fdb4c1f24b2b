//! Addresses, prefixes and ranges as pools have them.

use mooring_proto::types::address::{AddressRange, Vip};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::pool::{Configuration, PoolName, PoolSpec};

/// Each line a range; the lines together a pool.
///
/// # Panics
/// Prefixes are not ascending, an address does not read back, or overlapping prefixes make a pool.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut ranges = Vec::new();
    for line in text.lines() {
        if let Ok(vip) = line.parse::<Vip>() {
            assert_eq!(vip.to_string().parse(), Ok(vip), "{line:?} does not read back");
        }
        let Ok(range) = line.parse::<AddressRange>() else { continue };
        assert_eq!(range.text(), line);
        assert!(!range.prefixes().is_empty(), "{line:?} is an empty range");
        let ends = range.prefixes().iter().zip(range.prefixes().iter().skip(1));
        for (one, next) in ends {
            assert!(one.broadcast() < next.network(), "{line:?}: {one} is not before {next}");
        }
        ranges.push(range);
    }
    let Some(name) = PoolName::new("p").filter(|_| !ranges.is_empty()) else { return };
    let prefixes: Vec<_> = ranges.iter().flat_map(|range| range.prefixes().to_vec()).collect();
    let pool = PoolSpec { name, ranges, auto_assign: true, avoid_buggy_ips: true, allocation: None, labels: Labels::new() };
    let overlap = || {
        let mut sorted = prefixes.clone();
        sorted.sort_by_key(|prefix| (prefix.network(), prefix.prefix_len()));
        sorted.iter().zip(sorted.iter().skip(1)).any(|(one, next)| one.contains(next))
    };
    assert_eq!(Configuration::new(vec![pool], Vec::new()).is_err(), overlap(), "{text:?}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("ranges", super::check);
    }
}
