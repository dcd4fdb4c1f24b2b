use rtnetlink::packet_route::link::{InfoKind, LinkInfo};

use super::*;

fn filter(only: &[&str], except: &[&str]) -> NameFilter {
    let compile = |patterns: &[&str]| patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
    NameFilter { only: compile(only), except: compile(except) }
}

#[test]
fn names_are_admitted_by_pattern() {
    let rows: [(&str, NameFilter, &str, bool); 6] = [
        ("no patterns admit all", filter(&[], &[]), "eth0", true),
        ("a pattern matches anywhere", filter(&["th"], &[]), "eth0", true),
        ("another name is not admitted", filter(&["^bond"], &[]), "eth0", false),
        ("one of several is enough", filter(&["^bond", "^eth"], &[]), "eth0", true),
        ("an excluded one is not admitted", filter(&[], &["^veth.*"]), "veth12", false),
        ("exclusion beats admission", filter(&["eth"], &["^eth0$"]), "eth0", false),
    ];
    for (name, filter, interface, wanted) in rows {
        assert_eq!(filter.admits(interface), wanted, "{name}");
    }
}

fn message(attributes: Vec<LinkAttribute>, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 7;
    message.header.flags = flags;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = attributes;
    message
}

#[test]
fn a_link_is_read_from_what_the_kernel_says() {
    let up = LinkFlags::Up | LinkFlags::Running | LinkFlags::Broadcast;
    let named = || vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1])];
    let wanted = Link {
        index: LinkIndex(7),
        name: InterfaceName::new("eth0").unwrap(),
        mac: Some(MacAddress([2, 0, 0, 0, 0, 1])),
        addresses: vec!["192.0.2.7/24".parse().unwrap()],
        admitted: true,
        running: true,
        resolves: true,
        enslaved: false,
    };
    let read =
        |message: &LinkMessage| link(message, &mut BTreeMap::from([(7, vec!["192.0.2.7/24".parse().unwrap()])]), &NameFilter::default());
    assert_eq!(read(&message(named(), up)), Some(wanted.clone()));
    let no_carrier = LinkFlags::Up | LinkFlags::Broadcast;
    assert_eq!(read(&message(named(), no_carrier)), Some(Link { running: false, ..wanted.clone() }));
    assert_eq!(read(&message(named(), up | LinkFlags::Noarp)), Some(Link { resolves: false, ..wanted.clone() }));
    let mut port = named();
    port.push(LinkAttribute::Controller(3));
    assert_eq!(read(&message(port, up)), Some(Link { enslaved: true, ..wanted.clone() }));
    let infiniband = vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Address(vec![0; 20])];
    assert_eq!(read(&message(infiniband, up)), Some(Link { mac: None, ..wanted }));
    assert_eq!(read(&message(vec![], up)), None);
}

/// What RFC 2863 calls up, able to reach all, with this kind of device behind it (rtnetlink(7): `IFLA_LINKINFO`).
fn made_of(kind: InfoKind, more: LinkAttribute) -> LinkMessage {
    let named = [LinkAttribute::IfName("dev0".into()), LinkAttribute::Address(vec![2, 0, 0, 0, 0, 7])];
    let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
    message([&named[..], &[kind, more]].concat(), LinkFlags::Up | LinkFlags::Running | LinkFlags::Broadcast)
}

#[test]
fn bonds_bridges_and_vlans_are_as_ordinary_as_others_and_their_ports_are_not() {
    // Whatever is made of others names what it is upon (`IFLA_LINK`), and a port what it belongs to (`IFLA_MASTER`).
    let rows: [(&str, InfoKind, LinkAttribute, bool); 6] = [
        ("a bond", InfoKind::Bond, LinkAttribute::Mtu(1_500), false),
        ("a bridge", InfoKind::Bridge, LinkAttribute::Mtu(1_500), false),
        ("a VLAN of another link", InfoKind::Vlan, LinkAttribute::Link(3), false),
        ("a macvlan of another link", InfoKind::MacVlan, LinkAttribute::Link(3), false),
        ("a bond's or bridge's port", InfoKind::Veth, LinkAttribute::Controller(4), true),
        ("a VLAN that is a bridge's port", InfoKind::Vlan, LinkAttribute::Controller(4), true),
    ];
    for (name, kind, more, enslaved) in rows {
        let read = link(&made_of(kind, more), &mut BTreeMap::new(), &NameFilter::default()).unwrap();
        assert_eq!((read.enslaved, read.running && read.resolves && read.mac.is_some()), (enslaved, true), "{name}");
    }
}
