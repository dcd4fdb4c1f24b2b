use proptest::prelude::*;

use super::*;
use crate::core::tests::{ports, vips};

fn room(shared: &Shared, wanted: &[&str], first: &str, last: &str) -> Vec<Vip> {
    shared.with_room(&ports(wanted), first.parse().unwrap(), last.parse().unwrap()).collect()
}

#[test]
fn addresses_with_room_are_found_within_bounds_and_in_order() {
    let mut shared = Shared::default();
    for (vip, taken) in
        [("10.0.0.1", "TCP/80"), ("10.0.0.2", "TCP/80"), ("10.0.0.3", "TCP/443"), ("10.0.0.5", "UDP/53"), ("fc00::1", "TCP/80")]
    {
        shared.hold(vip.parse().unwrap(), &ports(&[taken]));
    }
    assert_eq!(room(&shared, &["TCP/80"], "10.0.0.0", "10.0.0.255"), vips(&["10.0.0.3", "10.0.0.5"]));
    assert_eq!(room(&shared, &["TCP/80", "UDP/53"], "10.0.0.0", "10.0.0.255"), vips(&["10.0.0.3"]));
    assert_eq!(room(&shared, &["TCP/443"], "10.0.0.2", "10.0.0.4"), vips(&["10.0.0.2"]));
    assert_eq!(room(&shared, &["TCP/443"], "fc00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), vips(&["fc00::1"]));
    shared.hold("10.0.0.1".parse().unwrap(), &ports(&["UDP/53"]));
    shared.give_up("10.0.0.1".parse().unwrap(), &ports(&["TCP/80"]), true);
    assert_eq!(room(&shared, &["TCP/80"], "10.0.0.0", "10.0.0.2"), vips(&["10.0.0.1"]));
    for (vip, taken) in
        [("10.0.0.1", "UDP/53"), ("10.0.0.2", "TCP/80"), ("10.0.0.3", "TCP/443"), ("10.0.0.5", "UDP/53"), ("fc00::1", "TCP/80")]
    {
        shared.give_up(vip.parse().unwrap(), &ports(&[taken]), false);
    }
    assert_eq!(shared, Shared::default(), "nothing is left");
}

proptest! {
    #[test]
    fn what_is_found_is_what_a_scan_finds(held in prop::collection::btree_set((0..24u8, 0..3u16), 0..30), wanted in prop::collection::btree_set(0..3u16, 0..3), first in 0..24u8, length in 0..24u8) {
        let port = |number: u16| ServicePort { protocol: mooring_proto::types::service::Protocol::Tcp, port: number };
        let vip = |low: u8| Vip::from(std::net::Ipv4Addr::new(10, 0, 0, low));
        let mut shared = Shared::default();
        for (low, number) in &held {
            shared.hold(vip(*low), &[port(*number)].into());
        }
        let wanted: BTreeSet<ServicePort> = wanted.into_iter().map(port).collect();
        let has_room = |low: &u8| {
            let taken: Vec<ServicePort> = held.iter().filter(|(held, _)| held == low).map(|(_, number)| port(*number)).collect();
            !taken.is_empty() && taken.iter().all(|port| !wanted.contains(port))
        };
        let scanned: Vec<Vip> = (first..=first.saturating_add(length)).filter(has_room).map(vip).collect();
        prop_assert_eq!(shared.with_room(&wanted, vip(first), vip(first.saturating_add(length))).collect::<Vec<_>>(), scanned);
    }
}
