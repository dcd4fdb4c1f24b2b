use std::net::Ipv4Addr;
use std::sync::Arc;

use mooring_proto::types::assignment::Role;

use super::super::state::Counters;
use super::super::tests::{STRANGER, name, own_mac, vip};
use super::*;

fn entry(vip: Vip, links: &[u32]) -> Entry {
    let assigned = Assigned {
        vip,
        role: Role::Active,
        leads: true,
        interfaces: Arc::default(),
        services: Box::new([]),
        active: None,
        probe_first: false,
        peers: Arc::default(),
        followed: None,
        counters: Arc::new(Counters::default()),
    };
    Entry { assigned: Arc::new(assigned), links: Arc::new(links.iter().copied().map(LinkIndex).collect()) }
}

fn eth1() -> Receiver {
    Receiver { link: LinkIndex(1), name: name("eth1"), mac: own_mac(1) }
}

type Seen = Result<(Option<Vip>, Option<Vip>), Foreign>;

fn seen(outcome: Result<Outcome<'_>, Foreign>) -> Seen {
    outcome.map(|outcome| (outcome.answer.map(|assigned| assigned.vip), outcome.claim.map(|assigned| assigned.vip)))
}

fn arp(operation: Operation, sha: MacAddress, spa: Ipv4Addr, tpa: Vip) -> Arp {
    Arp { operation, sha, spa, tha: MacAddress([0; 6]), tpa: tpa.v4().unwrap() }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 9);

#[test]
fn which_arp_is_answered_and_which_is_a_claim() {
    let table = ReplyTable::new(1, [entry(vip(1), &[1, 2]), entry(vip(2), &[2])].into_iter());
    let (all, us) = (MacAddress::BROADCAST, own_mac(1));
    let zero = Ipv4Addr::UNSPECIFIED;
    let one = Ipv4Addr::new(172, 17, 200, 1);
    use Operation::{Reply, Request};
    type Row<'a> = (&'a str, MacAddress, Arp, Seen);
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
        assert_eq!(seen(reply_to_arp(&table, &eth1(), destination, &arp)), wanted, "{name}");
    }
}

#[test]
fn which_ndp_is_answered_and_which_is_a_claim() {
    use crate::wire::ndp::{ALL_NODES, Flags, group_mac, solicited_node};
    let address = |last: u16| std::net::Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0, last);
    let [one, two, nine, client] = [1, 2, 9, 0xc1].map(address);
    let table = ReplyTable::new(1, [entry(one.into(), &[1, 2]), entry(two.into(), &[2])].into_iter());
    let nobody = std::net::Ipv6Addr::UNSPECIFIED;
    let ask = |source, target, mac| Ndp { kind: Kind::Solicitation, source, destination: solicited_node(target), target, mac };
    let tell = |source, target, mac| {
        let flags = Flags { router: false, solicited: false, overrides: true };
        Ndp { kind: Kind::Advertisement(flags), source, destination: ALL_NODES, target, mac }
    };
    let (group, all, us) = (group_mac(solicited_node(one)), group_mac(ALL_NODES), own_mac(1));
    let (here, stranger) = (Some(Vip::from(one)), Some(STRANGER));
    let rows: [(&str, MacAddress, MacAddress, Ndp, Seen); 15] = [
        ("solicitation to the group", group, STRANGER, ask(client, one, stranger), Ok((here, None))),
        ("solicitation without its sender's hardware address", group, STRANGER, ask(client, one, None), Ok((here, None))),
        ("unicast solicitation", us, STRANGER, Ndp { destination: one, ..ask(client, one, stranger) }, Ok((here, None))),
        ("solicitation to all nodes", all, STRANGER, Ndp { destination: ALL_NODES, ..ask(client, one, stranger) }, Ok((here, None))),
        ("probe for duplicates", group, STRANGER, ask(nobody, one, None), Ok((here, None))),
        ("solicitation sent to another station", own_mac(2), STRANGER, ask(client, one, stranger), Err(Foreign)),
        ("another address", group, STRANGER, ask(client, nine, stranger), Ok((None, None))),
        ("a VIP of another interface", group, STRANGER, ask(client, two, stranger), Ok((None, None))),
        ("advertisement of the VIP", all, STRANGER, tell(one, one, stranger), Ok((None, here))),
        ("advertisement from another address", all, STRANGER, tell(client, one, stranger), Ok((None, here))),
        ("advertisement without a hardware address", all, STRANGER, tell(one, one, None), Ok((None, here))),
        ("advertisement of another address", all, STRANGER, tell(one, nine, stranger), Ok((None, None))),
        ("solicitation in the VIP's name", group, STRANGER, ask(one, nine, stranger), Ok((None, here))),
        ("our own frame", all, us, tell(one, one, None), Ok((None, None))),
        ("our own message in another one's frame", all, STRANGER, tell(one, one, Some(us)), Ok((None, None))),
    ];
    for (name, destination, source, ndp, wanted) in rows {
        assert_eq!(seen(reply_to_ndp(&table, &eth1(), Header { destination, source }, &ndp)), wanted, "{name}");
    }
}

#[test]
fn an_empty_table_has_nothing() {
    let table = ReplyTable::default();
    assert!(table.is_empty() && table.get(vip(1)).is_none());
}

#[test]
fn a_large_table_finds_each_and_nothing_else_in_a_few_probes() {
    let vips = (0..10_000).map(|number| entry(Vip::from(Ipv4Addr::from_bits(0x0a00_0000 + number)), &[]));
    let table = ReplyTable::new(1, vips);
    assert_eq!((table.len(), table.iter().count()), (10_000, 10_000));
    for number in 0..20_000u32 {
        let address = Vip::from(Ipv4Addr::from_bits(0x0a00_0000 + number));
        assert_eq!(table.get(address).map(|entry| entry.assigned.vip), (number < 10_000).then_some(address));
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
        let vips = inside.iter().map(|bits| entry(Vip::from(Ipv4Addr::from_bits(bits * 0x0001_0001)), &[]));
        let table = ReplyTable::new(1, vips);
        proptest::prop_assert_eq!(table.get(Vip::from(Ipv4Addr::from_bits(asked * 0x0001_0001))).is_some(), inside.contains(&asked));
    }
}
