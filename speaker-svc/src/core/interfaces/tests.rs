use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{Assignment, Role};

use super::super::tests::{answering, assignment, delta, eth, live, name, own_mac, snapshot, trace, vip};
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
    assert_eq!(trace(&mut state, Command::ReplaceLinks(links), NOW), ["closed eth1", "links 2", "interfaces"]);
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![]), NOW), ["closed eth2", "links 0", "interfaces"]);
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
    assert_eq!(trace(&mut state, Command::ReplaceLinks(links), NOW), ["closed eth1", "links 2", "opened eth1", "interfaces"]);
    assert_eq!(state.interfaces().port(LinkIndex(1)).unwrap().mac, own_mac(77));
}

#[test]
fn a_new_address_is_told_and_disturbs_nothing() {
    let mut state = live(vec![]);
    let address: IpNet = "192.0.2.7/24".parse().unwrap();
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
        ["links 3", "session Resyncing", "opened eth3", "hello", "172.17.200.1 Announced", "default/web 172.17.200.1 Announced"]
    );
    let again = Assignment { interfaces: BTreeSet::from([name("eth3")]), ..assignment(vip(1), Role::Active) };
    let _events = trace(&mut state, snapshot(2, vec![again]), NOW);
    assert_eq!(bound(&state), (vec![vip(1)], 0));
    let down = Link { running: false, ..eth(3) };
    assert_eq!(trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2), down]), NOW), ["closed eth3", "links 3", "interfaces"]);
    assert_eq!(bound(&state), (vec![vip(1)], 0));
    assert_eq!(
        trace(&mut state, Command::ReplaceLinks(vec![eth(1), eth(2)]), NOW),
        [
            "links 2",
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
