use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use mooring_proto::types::assignment::Role;

use super::super::state::Counters;
use super::super::tests::{STRANGER, name, own_mac, vip};
use super::*;

fn assigned(vip: Vip, interfaces: &[&str]) -> Arc<Assigned> {
    Arc::new(Assigned {
        vip,
        role: Role::Active,
        leads: true,
        interfaces: interfaces.iter().map(|text| name(text)).collect(),
        services: Box::new([]),
        active: None,
        probe_first: false,
        peers: Arc::new(BTreeSet::new()),
        counters: Arc::new(Counters::default()),
    })
}

fn arp(operation: Operation, sha: MacAddress, spa: Ipv4Addr, tpa: Vip) -> Arp {
    Arp { operation, sha, spa, tha: MacAddress([0; 6]), tpa: tpa.v4().unwrap() }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 9);

#[test]
fn what_is_answered_and_what_is_a_claim() {
    let vips = [assigned(vip(1), &[]), assigned(vip(2), &["eth2"])];
    let table = ReplyTable::new(vips.iter());
    let on = Receiver { name: name("eth1"), mac: own_mac(1) };
    let (all, us) = (MacAddress::BROADCAST, own_mac(1));
    let zero = Ipv4Addr::UNSPECIFIED;
    let one = Ipv4Addr::new(172, 17, 200, 1);
    use Operation::{Reply, Request};
    type Row<'a> = (&'a str, MacAddress, Arp, Result<(Option<Vip>, Option<Vip>), Foreign>);
    let rows: [Row<'_>; 12] = [
        ("broadcast request", all, arp(Request, STRANGER, CLIENT, vip(1)), Ok((Some(vip(1)), None))),
        ("unicast request", us, arp(Request, STRANGER, CLIENT, vip(1)), Ok((Some(vip(1)), None))),
        ("probe", all, arp(Request, STRANGER, zero, vip(1)), Ok((Some(vip(1)), None))),
        ("request sent to another station", own_mac(2), arp(Request, STRANGER, CLIENT, vip(1)), Err(Foreign)),
        ("request sent to a group", MacAddress([1, 0, 0x5e, 0, 0, 1]), arp(Request, STRANGER, CLIENT, vip(1)), Err(Foreign)),
        ("another address", all, arp(Request, STRANGER, CLIENT, vip(9)), Ok((None, None))),
        ("a VIP of another interface", all, arp(Request, STRANGER, CLIENT, vip(2)), Ok((None, None))),
        ("reply about the VIP", us, arp(Reply, STRANGER, CLIENT, vip(1)), Ok((None, None))),
        ("gratuitous request", all, arp(Request, STRANGER, one, vip(1)), Ok((Some(vip(1)), Some(vip(1))))),
        ("gratuitous reply", all, arp(Reply, STRANGER, one, vip(1)), Ok((None, Some(vip(1))))),
        ("request in the VIP's name", all, arp(Request, STRANGER, one, vip(9)), Ok((None, Some(vip(1))))),
        ("our own frame", all, arp(Request, own_mac(1), one, vip(1)), Ok((None, None))),
    ];
    for (name, destination, arp, wanted) in rows {
        let outcome = reply(&table, &on, destination, &arp);
        let found = outcome.map(|outcome| (outcome.answer.map(|assigned| assigned.vip), outcome.claim.map(|assigned| assigned.vip)));
        assert_eq!(found, wanted, "{name}");
    }
}

#[test]
fn an_empty_table_has_nothing() {
    let table = ReplyTable::default();
    assert!(table.is_empty() && table.get(vip(1)).is_none());
}

#[test]
fn a_large_table_finds_each_and_nothing_else_in_a_few_probes() {
    let vips: Vec<_> = (0..10_000).map(|number| assigned(Vip::from(Ipv4Addr::from_bits(0x0a00_0000 + number)), &[])).collect();
    let table = ReplyTable::new(vips.iter());
    assert_eq!((table.len(), table.iter().count()), (10_000, 10_000));
    for number in 0..20_000u32 {
        let address = Vip::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
        assert_eq!(table.get(address).map(|assigned| assigned.vip), (number < 10_000).then_some(address));
    }
    let longest = (0..20_000u32).map(|number| {
        let address = Vip::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
        probes(address, table.slots.len()).take_while(|slot| table.slots[*slot].is_some()).count()
    });
    assert!(longest.max().unwrap() <= 16);
}

proptest::proptest! {
    #[test]
    fn a_table_is_a_set(inside in proptest::collection::btree_set(0..400u32, 0..100), asked in 0..400u32) {
        let vips: Vec<_> = inside.iter().map(|bits| assigned(Vip::from(Ipv4Addr::from_bits(bits * 0x0001_0001)), &[])).collect();
        let table = ReplyTable::new(vips.iter());
        proptest::prop_assert_eq!(table.get(Vip::from(Ipv4Addr::from_bits(asked * 0x0001_0001))).is_some(), inside.contains(&asked));
    }
}
