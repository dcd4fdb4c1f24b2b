use std::net::Ipv4Addr;

use super::super::interfaces::LinkIndex;
use super::super::tests::{name, own_mac, vip};
use super::*;

#[test]
fn only_an_answer_to_us_for_what_we_may_ask_for_is_listened_to() {
    let heeded = Heeded::new([vip(1), vip(3), vip(4)].into_iter(), [vip(4)].into_iter());
    let (us, peer) = (own_mac(1), MacAddress([2, 0, 0, 0, 0xbb, 0]));
    let on = Receiver { link: LinkIndex(1), name: name("eth1"), mac: us };
    let spa = Ipv4Addr::new(172, 17, 200, 3);
    let answer = Arp { operation: Operation::Reply, sha: peer, spa, tha: us, tpa: Ipv4Addr::UNSPECIFIED };
    let probed = Arp { spa: Ipv4Addr::new(172, 17, 200, 4), ..answer };
    let rows: [(&str, MacAddress, Arp, Option<Vip>); 8] = [
        ("an answer", us, answer, Some(vip(3))),
        ("for another address", us, Arp { spa: Ipv4Addr::new(172, 17, 200, 2), ..answer }, None),
        ("to all", MacAddress::BROADCAST, answer, None),
        ("a question", us, Arp { operation: Operation::Request, ..answer }, None),
        ("our own", us, Arp { sha: us, ..answer }, None),
        ("for one that is probed", MacAddress::BROADCAST, probed, Some(vip(4))),
        ("a question in its name", MacAddress::BROADCAST, Arp { operation: Operation::Request, ..probed }, Some(vip(4))),
        ("our own for one that is probed", us, Arp { sha: us, ..probed }, None),
    ];
    for (row, destination, arp, wanted) in rows {
        assert_eq!(heeded.answer(&on, destination, &arp), wanted, "{row}");
    }
    assert_eq!(Heeded::default().answer(&on, us, &answer), None);
}

#[test]
fn an_advertisement_of_another_station_for_what_we_may_ask_for_is_listened_to() {
    let six: std::net::Ipv6Addr = "fd00::5".parse().unwrap();
    let heeded = Heeded::new([vip(1), Vip::from(six)].into_iter(), [].into_iter());
    let (us, peer) = (own_mac(1), MacAddress([2, 0, 0, 0, 0xbb, 0]));
    let on = Receiver { link: LinkIndex(1), name: name("eth1"), mac: us };
    let (header, advertised) = crate::wire::ndp::gratuitous(six, peer);
    assert_eq!(heeded.advertisement(&on, header, &advertised), Some(Vip::from(six)));
    let (ours, own) = crate::wire::ndp::gratuitous(six, us);
    assert_eq!(heeded.advertisement(&on, ours, &own), None, "our own");
    let (header, other) = crate::wire::ndp::gratuitous("fd00::6".parse().unwrap(), peer);
    assert_eq!(heeded.advertisement(&on, header, &other), None, "another address");
    let (header, question) = crate::wire::ndp::probe(six, peer);
    assert_eq!(heeded.advertisement(&on, header, &question), None, "a question");
}
