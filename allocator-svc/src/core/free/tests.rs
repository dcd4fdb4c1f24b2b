use mooring_proto::types::labels::Labels;
use mooring_proto::types::pool::PoolName;
use proptest::prelude::*;

use super::*;

fn pool(ranges: &[&str], avoid_buggy_ips: bool) -> Pool {
    Pool::new(PoolSpec {
        name: PoolName::new("p").unwrap(),
        ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
        auto_assign: true,
        avoid_buggy_ips,
        allocation: None,
        labels: Labels::new(),
    })
}

fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

#[test]
fn ranges_are_asked_in_the_order_written_and_the_lowest_within_comes_first() {
    let mut pool = pool(&["10.0.1.0/31", "10.0.0.0/31", "fc00::/64"], false);
    let mut given = Vec::new();
    while let Some(next) = pool.lowest(Family::V4) {
        pool.take(next);
        given.push(next.to_string());
    }
    assert_eq!(given, ["10.0.1.0", "10.0.1.1", "10.0.0.0", "10.0.0.1"]);
    pool.give_back(vip("10.0.0.1"));
    pool.give_back(vip("10.0.1.1"));
    assert_eq!(pool.lowest(Family::V4), Some(vip("10.0.1.1")));
    assert_eq!(pool.lowest(Family::V6), Some(vip("fc00::")));
}

#[test]
fn usable_addresses_are_counted_as_the_specification_says() {
    let cases: &[(&str, bool, u64)] = &[
        ("10.0.0.0/24", false, 256),
        ("10.0.0.0/24", true, 254),
        ("10.0.0.0/16", true, 65_536 - 512),
        ("10.0.0.0/25", true, 127),
        ("10.0.0.128/25", true, 127),
        ("10.0.0.64/26", true, 64),
        ("10.0.0.0/32", true, 0),
        ("10.0.0.255-10.0.1.0", true, 0),
        ("10.0.0.254-10.0.1.1", true, 2),
        ("0.0.0.0/0", true, (1 << 32) - (1 << 25)),
    ];
    for (range, avoid, wanted) in cases {
        assert_eq!(pool(&[range], *avoid).count(Family::V4).total, *wanted, "{range} {avoid}");
    }
    for (ranges, wanted) in [
        (&["fc00::/67"][..], 1 << 61),
        (&["fc00::/66"][..], MOST),
        (&["fc00::/64"][..], MOST),
        (&["fc00::/64", "fd00::/64", "fe00::/120"][..], MOST),
        (&["::/0", "10.0.0.0/8"][..], MOST),
    ] {
        let mut pool = pool(ranges, true);
        assert_eq!(pool.available(Family::V6), wanted, "{ranges:?}");
        pool.take(pool.lowest(Family::V6).unwrap());
        assert_eq!((pool.count(Family::V6).assigned, pool.available(Family::V6)), (1, wanted - 1), "{ranges:?}");
    }
}

#[test]
fn an_address_kept_back_later_counts_as_assigned_but_takes_nothing_from_what_is_available() {
    let mut pool = pool(&["10.0.0.0/30"], true);
    pool.take(vip("10.0.0.0"));
    assert_eq!((pool.count(Family::V4).assigned, pool.available(Family::V4)), (1, 3));
    pool.give_back(vip("10.0.0.0"));
    assert_eq!((pool.count(Family::V4).assigned, pool.available(Family::V4), pool.lowest(Family::V4)), (0, 3, Some(vip("10.0.0.1"))));
}

proptest! {
    #[test]
    fn the_lowest_free_address_is_what_a_scan_finds(first in 0u32..600, length in 0u32..600, avoid: bool, taken in prop::collection::btree_set(0u32..1200, 0..60)) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let address = |offset: u32| Vip::from(Ipv4Addr::from_bits(base + offset));
        let text = format!("{}-{}", address(first), address(first + length));
        let mut pool = pool(&[&text], avoid);
        for offset in &taken {
            if pool.contains(address(*offset)) {
                pool.take(address(*offset));
            }
        }
        let scan = (first..=first + length).filter(|offset| !taken.contains(offset)).map(address).find(|vip| !(avoid && vip.is_buggy()));
        prop_assert_eq!(pool.lowest(Family::V4), scan);
        let usable = (first..=first + length).map(address).filter(|vip| !(avoid && vip.is_buggy())).count();
        prop_assert_eq!(pool.count(Family::V4).total, usable as u64);
    }
}
