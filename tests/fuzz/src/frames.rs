//! Frames as a stranger on the LAN may send them: ARP and neighbor discovery.

use std::collections::BTreeSet;
use std::sync::Arc;

use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::Role;
use mooring_proto::types::node::{InterfaceName, MacAddress};
use mooring_speaker::core::interfaces::LinkIndex;
use mooring_speaker::core::reply::{Entry, Receiver, ReplyTable, reply_to_arp, reply_to_ndp};
use mooring_speaker::core::state::{Assigned, Counters};
use mooring_speaker::wire::ethernet::Header;
use mooring_speaker::wire::ndp::Kind;
use mooring_speaker::wire::{arp, ndp};

const OURS: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xa1]);

/// The VIPs that are answered for.
const VIPS: &[&str] = &["172.17.200.100", "fd00:201::64"];

/// Where an ICMPv6 message begins in a frame, and its checksum.
const MESSAGE_AT: usize = 54;
const CHECKSUM_AT: usize = 56;

/// One frame, as it is and with its ICMPv6 checksum put right, so that what comes behind it is reached too.
///
/// # Panics
/// A frame that was read is written differently, or an answer is none.
pub fn check(data: &[u8]) {
    check_arp(data);
    check_ndp(data);
    let mut mended = data.to_vec();
    if mend(&mut mended).is_some() {
        check_ndp(&mended);
    }
}

fn check_arp(data: &[u8]) {
    let Ok((header, packet)) = arp::parse(data) else { return };
    let mut frame = arp::EMPTY_FRAME;
    arp::emit(header, &packet, &mut frame);
    assert_eq!(arp::parse(&frame), Ok((header, packet)));
    let (table, on) = (table(), on());
    let Ok(outcome) = reply_to_arp(&table, &on, header.destination, &packet) else { return };
    if let Some(assigned) = outcome.answer {
        let (header, answer) = arp::answer_to(&packet, OURS);
        arp::emit(header, &answer, &mut frame);
        assert_eq!(arp::parse(&frame), Ok((header, answer)));
        assert_eq!((Some(answer.spa), answer.sha, header.source), (assigned.vip.v4(), OURS, OURS));
    }
}

fn check_ndp(data: &[u8]) {
    let Ok((header, message)) = ndp::parse(data) else { return };
    let mut frame = ndp::EMPTY_FRAME;
    assert_eq!(ndp::parse(ndp::emit(header, &message, &mut frame)), Ok((header, message)));
    let (table, on) = (table(), on());
    let Ok(outcome) = reply_to_ndp(&table, &on, header, &message) else { return };
    if let Some(assigned) = outcome.answer {
        let (header, answer) = ndp::answer_to(header, &message, OURS);
        assert_eq!(ndp::parse(ndp::emit(header, &answer, &mut frame)), Ok((header, answer)));
        assert_eq!((Some(answer.target), answer.mac, header.source), (assigned.vip.v6(), Some(OURS), OURS));
        assert!(matches!(answer.kind, Kind::Advertisement(flags) if flags.overrides && !flags.router));
        // Our own answer asks nothing of us and claims nothing.
        let ours = reply_to_ndp(&table, &on, Header { destination: OURS, source: OURS }, &answer);
        assert!(ours.is_ok_and(|ours| ours.answer.is_none() && ours.claim.is_none()));
    }
}

/// Puts the checksum of an ICMPv6 message right that is as long as its header says (RFC 8200 §8.1).
fn mend(frame: &mut [u8]) -> Option<()> {
    let length = u16::from_be_bytes(frame.get(18..20)?.try_into().ok()?);
    let end = MESSAGE_AT.checked_add(usize::from(length))?;
    frame.get_mut(CHECKSUM_AT..CHECKSUM_AT.checked_add(2)?)?.fill(0);
    let word = |pair: &[u8]| u16::from_be_bytes([pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)]);
    let words = |bytes: &[u8]| -> u32 { bytes.chunks(2).map(|pair| u32::from(word(pair))).sum() };
    let mut sum = words(frame.get(22..MESSAGE_AT)?) + u32::from(length) + 58 + words(frame.get(MESSAGE_AT..end)?);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).ok()?;
    frame.get_mut(CHECKSUM_AT..CHECKSUM_AT.checked_add(2)?)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

fn on() -> Receiver {
    #[expect(clippy::unwrap_used, reason = "the name is a good one")]
    let name = InterfaceName::new("eth0").unwrap();
    Receiver { link: LinkIndex(1), name, mac: OURS }
}

fn table() -> ReplyTable {
    let entry = |vip: Vip| {
        let assigned = Assigned {
            vip,
            role: Role::Active,
            leads: true,
            interfaces: Arc::default(),
            services: Box::new([]),
            peers: Arc::default(),
            active: None,
            followed: None,
            probe_first: false,
            counters: Arc::new(Counters::default()),
        };
        Entry { assigned: Arc::new(assigned), links: Arc::new(BTreeSet::from([LinkIndex(1)])) }
    };
    ReplyTable::new(1, VIPS.iter().filter_map(|text| text.parse().ok()).map(entry))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_found_once_is_found_no_more() {
        crate::replay("frames", super::check);
    }
}
