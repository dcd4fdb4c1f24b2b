use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Role};

use super::super::tests::{answering, assignment, delta, eth, live, name, own_mac, snapshot, trace, vip, vip6};
use super::super::{Command, State};
use super::*;

const NOW: Mono = Mono::ZERO;

#[test]
fn only_fit_links_answer() {
    let rows: [(&str, Link, bool); 6] = [
        ("fit", eth(1), true),
        ("excluded", Link { admitted: false, ..eth(1) }, false),
        ("no carrier", Link { running: false, ..eth(1) }, false),
        ("no broadcast or NOARP", Link { resolves: false, ..eth(1) }, false),
        ("a bridge's port", Link { enslaved: true, ..eth(1) }, false),
        ("no hardware address", Link { mac: None, ..eth(1) }, false),
    ];
    for (name, link, fit) in rows {
        assert_eq!(link.port().is_some(), fit, "{name}");
    }
}

#[test]
fn a_link_that_loses_its_carrier_is_told_at_once_and_its_vips_stay_assigned() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let links = vec![Link { running: false, ..eth(1) }, eth(2)];
    assert_eq!(trace(&mut state, Command::ReplaceLinks(links), NOW), ["closed eth1", "links 2", "reach", "interfaces"]);
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![]), NOW), ["closed eth2", "links 0", "reach", "interfaces"]);
    assert_eq!((answering(&state), state.interface_list()), (vec![vip(1)], vec![]));
}

#[test]
fn the_same_links_again_are_no_news() {
    let mut state = live(vec![]);
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2)]), NOW), ["links 2"]);
}

#[test]
fn a_changed_hardware_address_is_another_port() {
    let mut state = live(vec![]);
    let links = vec![Link { mac: Some(own_mac(77)), ..eth(1) }, eth(2)];
    assert_eq!(trace(&mut state, Command::ReplaceLinks(links), NOW), ["closed eth1", "links 2", "opened eth1", "reach", "interfaces"]);
    assert_eq!(state.interfaces().port(LinkIndex(1)).unwrap().mac, own_mac(77));
}

#[test]
fn a_new_address_is_told_and_disturbs_nothing() {
    let mut state = live(vec![]);
    let address: IpNet = "fe80::9/64".parse().unwrap();
    let links = vec![Link { addresses: vec![address], ..eth(1) }, eth(2)];
    assert_eq!(trace(&mut state, Command::ReplaceLinks(links), NOW), ["links 2", "interfaces"]);
    assert_eq!(state.interface_list()[0].addresses, [address]);
}

fn bound(state: &State) -> (Vec<Vip>, usize) {
    (answering(state), state.failures().len())
}

#[test]
fn a_vip_bound_to_an_interface_comes_and_goes_with_it() {
    let on_three = Assignment { interfaces: BTreeSet::from([name("eth3")]), ..assignment(vip(1), Role::Active) };
    let mut state = live(vec![on_three]);
    assert_eq!(bound(&state), (vec![], 1));
    assert_eq!(
        trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), eth(3)]), NOW),
        [
            "links 3",
            "session Resyncing",
            "opened eth3",
            "reach",
            "interfaces",
            "hello",
            "172.17.200.1 Announced",
            "default/web 172.17.200.1 Announced"
        ]
    );
    let again = Assignment { interfaces: BTreeSet::from([name("eth3")]), ..assignment(vip(1), Role::Active) };
    let _events = trace(&mut state, snapshot(2, vec![again]), NOW);
    assert_eq!(bound(&state), (vec![vip(1)], 0));
    let down = Link { running: false, ..eth(3) };
    assert_eq!(
        trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), down]), NOW),
        ["closed eth3", "links 3", "reach", "interfaces"]
    );
    assert_eq!(bound(&state), (vec![vip(1)], 0));
    assert_eq!(
        trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2)]), NOW),
        [
            "links 2",
            "reach",
            "172.17.200.1 Silent(NoInterface)",
            "failed 172.17.200.1 NoInterface",
            "default/web 172.17.200.1 Withdrawn(InterfaceGone)",
            "applied"
        ]
    );
}

#[test]
fn a_vip_is_announced_on_its_interfaces_only() {
    let mut state = live(vec![]);
    let on_two = Assignment { interfaces: BTreeSet::from([name("eth2"), name("eth9")]), ..assignment(vip(1), Role::Active) };
    let _events = trace(&mut state, delta(2, vec![on_two], vec![]), NOW);
    assert_eq!(trace(&mut state, Command::Tick, NOW), ["announce 172.17.200.1 on 2 First"]);
    let everywhere = assignment(vip(1), Role::Active);
    let _events = trace(&mut state, delta(3, vec![everywhere], vec![]), NOW);
    assert_eq!(trace(&mut state, Command::Tick, NOW), ["announce 172.17.200.1 on 1 First"]);
}

/// A link with these addresses.
fn with(link: Link, addresses: &[&str]) -> Link {
    Link { addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(), ..link }
}

/// The names of the interfaces that answer for a VIP.
fn on(state: &State, vip: Vip) -> Vec<String> {
    state.ports_of(&state.vips()[&vip]).map(|port| port.name.to_string()).collect()
}

#[test]
fn a_vip_is_answered_for_where_its_network_is_and_else_on_all_interfaces() {
    type Names<'a> = &'a [&'a str];
    let rows: [(&str, [Names<'_>; 2], Names<'_>, Names<'_>); 7] = [
        ("in no network", [&["10.1.0.1/16", "fe80::1/64"], &["10.2.0.1/16", "fe80::2/64"]], &["eth1", "eth2"], &["eth1", "eth2"]),
        ("in one network", [&["172.17.0.1/16", "fd00:201::1/64"], &["10.2.0.1/16", "fe80::2/64"]], &["eth1"], &["eth1"]),
        ("each family in its own", [&["172.17.0.1/16", "fe80::1/64"], &["fd00:201::2/64"]], &["eth1"], &["eth2"]),
        (
            "in both networks, be one smaller",
            [&["172.17.0.1/16", "fe80::1/64"], &["172.17.200.9/24", "fe80::2/64"]],
            &["eth1", "eth2"],
            &["eth1", "eth2"],
        ),
        (
            "an address alone is no network",
            [&["172.17.200.1/32", "fd00:201::c8:1/128"], &["fe80::2/64"]],
            &["eth1", "eth2"],
            &["eth1", "eth2"],
        ),
        ("IPv6 where there is any", [&["10.1.0.1/16"], &["fe80::2/64"]], &["eth1", "eth2"], &["eth2"]),
        ("and nowhere else", [&["10.1.0.1/16"], &[]], &["eth1", "eth2"], &[]),
    ];
    for (name, [first, second], v4, v6) in rows {
        let mut state = live(vec![assignment(vip(1), Role::Active), assignment(vip6(1), Role::Active)]);
        let _events = trace(&mut state, Command::ReplaceLinks(vec![with(eth(1), first), with(eth(2), second)]), NOW);
        assert_eq!((on(&state, vip(1)), on(&state, vip6(1))), (names(v4), names(v6)), "{name}");
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_interfaces_that_an_advertisement_names_count_whatever_the_networks() {
    let named = Assignment { interfaces: BTreeSet::from([name("eth2")]), ..assignment(vip(1), Role::Active) };
    let mut state = live(vec![named]);
    let links = vec![with(eth(1), &["172.17.0.1/16"]), with(eth(2), &["10.2.0.1/16"])];
    let _events = trace(&mut state, Command::ReplaceLinks(links), NOW);
    assert_eq!(on(&state, vip(1)), ["eth2"]);
}

#[test]
fn a_vip_whose_own_network_is_away_goes_to_another_node_and_begins_anew_when_it_is_back() {
    let home = || with(eth(1), &["172.17.0.1/16"]);
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let _events = trace(&mut state, Command::ReplaceLinks(vec![home(), eth(2)]), NOW);
    let away = Command::ReplaceLinks(vec![Link { running: false, ..home() }, eth(2)]);
    assert_eq!(trace(&mut state, away, NOW), ["closed eth1", "links 2", "reach", "interfaces", "failed 172.17.200.1 Away", "applied"]);
    let failures = BTreeMap::from([(vip(1), "the interface of the node that is in its network is down".to_owned())]);
    assert_eq!((on(&state, vip(1)), state.failures()), (vec![], failures.clone()));
    // Other interfaces are a reason for the allocator to try again: it is told that nothing is better.
    let more = Command::ReplaceLinks(vec![Link { running: false, ..home() }, eth(2), with(eth(3), &["10.3.0.1/16"])]);
    assert_eq!(trace(&mut state, more, NOW), ["links 3", "session Resyncing", "opened eth3", "reach", "interfaces", "hello"]);
    assert_eq!(trace(&mut state, snapshot(2, vec![assignment(vip(1), Role::Active)]), NOW), ["session Live", "revision 1.2", "applied"]);
    assert_eq!((on(&state, vip(1)), state.failures()), (vec![], failures));
    let back = Command::ReplaceLinks(vec![home(), eth(2)]);
    let events = ["closed eth3", "links 2", "session Resyncing", "opened eth1", "reach", "interfaces", "hello"];
    assert_eq!(trace(&mut state, back, NOW), events);
    assert_eq!((on(&state, vip(1)), state.failures().len()), (vec!["eth1".to_owned()], 0));
    // Without any interface at all the allocator needs no word about each VIP.
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![]), NOW), ["closed eth1", "closed eth2", "links 0", "reach", "interfaces"]);
    assert_eq!((answering(&state), state.failures().len()), (vec![vip(1)], 0));
}

#[test]
fn an_ipv6_vip_comes_with_the_first_ipv6_address_and_fails_without_any() {
    let mut state = live(vec![assignment(vip6(1), Role::Active)]);
    let none = Command::ReplaceLinks(vec![with(eth(1), &["10.1.0.1/16"]), with(eth(2), &[])]);
    assert_eq!(trace(&mut state, none, NOW), ["links 2", "reach", "interfaces", "failed fd00:201::c8:1 NoIpv6", "applied"]);
    assert_eq!(on(&state, vip6(1)), [""; 0]);
    let one = Command::ReplaceLinks(vec![with(eth(1), &["10.1.0.1/16", "fe80::1/64"]), with(eth(2), &[])]);
    assert_eq!(trace(&mut state, one, NOW), ["links 2", "reach", "interfaces", "applied"]);
    assert_eq!((on(&state, vip6(1)), state.failures().len()), (names(&["eth1"]), 0));
    assert_eq!(trace(&mut state, Command::Tick, NOW), ["announce fd00:201::c8:1 on 1 First"]);
}

#[test]
fn a_link_that_may_not_answer_disturbs_nothing() {
    let mut state = live(vec![assignment(vip(1), Role::Active)]);
    let other = with(Link { admitted: false, ..eth(7) }, &["172.17.0.7/16"]);
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), other]), NOW), ["links 3"]);
    let port = with(Link { enslaved: true, ..eth(7) }, &["172.17.0.7/16"]);
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), port]), NOW), ["links 3", "reach"]);
    assert_eq!(on(&state, vip(1)), ["eth1", "eth2"]);
}
