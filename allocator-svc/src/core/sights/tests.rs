use std::time::Duration;

use mooring_proto::types::assignment::{Sight, SpeakerMessage};
use mooring_proto::types::node::InterfaceName;

use super::*;
use crate::core::tests::lan::{Lan, VIP, id, vip};

const NODES: [&str; 3] = ["a", "b", "c"];
const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 9, 9]);

fn mac(node: &str) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, *node.as_bytes().last().unwrap()])
}

fn look(lan: &mut Lan, by: &str, macs: &[MacAddress]) {
    let answers = macs.iter().map(|mac| (*mac, InterfaceName::new("eth0").unwrap())).collect();
    lan.say(by, SpeakerMessage::Seen(vec![Sight { vip: vip(VIP), answers }]));
}

/// Reachable, contested, and the stranger.
type Seen = (bool, bool, Option<MacAddress>);

fn seen(lan: &Lan) -> Option<Seen> {
    let network = lan.rig.state.network();
    let stranger = network.conflict(vip(VIP)).map(|conflict| conflict.mac);
    network.sighting(vip(VIP)).map(|seen| (seen.reachable, seen.contested, stranger))
}

#[test]
fn who_answers_says_whether_a_vip_is_reachable_contested_and_claimed_by_a_stranger() {
    let mut lan = Lan::of(&NODES);
    let (active, standby, third) = (lan.active(VIP), lan.standby(VIP).unwrap(), lan.other_than(VIP, &NODES));
    assert_eq!(seen(&lan), None, "nobody has looked");
    let rows: [(&str, Vec<MacAddress>, Seen); 5] = [
        ("its node", vec![mac(&active)], (true, false, None)),
        ("nobody", vec![], (false, false, None)),
        ("another node of ours", vec![mac(&active), mac(&third)], (true, true, None)),
        ("a stranger too", vec![mac(&active), STRANGER], (true, true, Some(STRANGER))),
        ("its node again", vec![mac(&active)], (true, false, Some(STRANGER))),
    ];
    for (row, macs, wanted) in rows {
        look(&mut lan, &standby, &macs);
        assert_eq!(seen(&lan), Some(wanted), "{row}");
        let network = lan.rig.state.network();
        assert_eq!((network.unreachable(), network.contested()), (usize::from(!wanted.0), usize::from(wanted.1)), "{row}");
        assert_eq!(network.sighting(vip(VIP)).unwrap().by, id(&standby).node);
    }
    lan.wait(Duration::from_secs(601));
    assert_eq!(seen(&lan), Some((true, false, None)), "a stranger that is seen no more is forgotten");
}

#[test]
fn a_vip_that_moves_has_not_been_seen_and_its_own_node_cannot_tell() {
    let mut lan = Lan::of(&NODES);
    let (active, standby) = (lan.active(VIP), lan.standby(VIP).unwrap());
    look(&mut lan, &active, &[STRANGER]);
    assert_eq!(seen(&lan), None);
    look(&mut lan, &standby, &[]);
    assert_eq!(seen(&lan), Some((false, false, None)));
    lan.reset(&active);
    lan.wait(Duration::from_millis(300));
    assert_eq!((lan.active(VIP), seen(&lan), lan.rig.state.network().unreachable()), (standby, None, 0));
}
