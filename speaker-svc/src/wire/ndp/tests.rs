use super::*;

const CLIENT: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xc1]);
const OURS: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xa1]);
const ASKER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0, 9);
const VIP: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x201, 0, 0, 0, 0, 0, 0x64);

/// As Linux 6 sends it to the solicited-node group, captured on a veth: who has fd00:201::64, tell fd00:201::9.
const SOLICITATION: &str = "3333ff000064 0200000000c1 86dd 6000000000203aff fd000201000000000000000000000009 ff0200000000000000000001ff000064 \
     8700 7809 00000000 fd000201000000000000000000000064 01010200000000c1";

/// As Linux 6 asks whether an address is taken, captured on a veth, with the nonce of RFC 7527.
const DUPLICATE_PROBE: &str = "3333ff000009 0200000000c1 86dd 6000000000203aff 00000000000000000000000000000000 \
     ff0200000000000000000001ff000009 8700 758c 00000000 fd000201000000000000000000000009 0e01257d5f05737c";

/// As Linux 6 answers the solicitation for an address of its own, captured on a veth.
const ANSWER: &str = "0200000000c1 0200000000a1 86dd 6000000000203aff fd000201000000000000000000000064 fd000201000000000000000000000009 \
     8800 152c 60000000 fd000201000000000000000000000064 02010200000000a1";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn solicitation() -> (Header, Ndp) {
    let destination = "ff02::1:ff00:64".parse().unwrap();
    let header = Header { destination: MacAddress([0x33, 0x33, 0xff, 0, 0, 0x64]), source: CLIENT };
    (header, Ndp { kind: Kind::Solicitation, source: ASKER, destination, target: VIP, mac: Some(CLIENT) })
}

/// A frame with its checksum made right again, its length too.
fn mend(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(frame.len() - MESSAGE_AT).unwrap();
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    let (source, destination) = {
        let packet = Ipv6Packet::new(&frame[HEADER_LEN..]).unwrap();
        (packet.get_source(), packet.get_destination())
    };
    let mut icmp = MutableIcmpv6Packet::new(&mut frame[MESSAGE_AT..]).unwrap();
    let sum = checksum(&icmp.to_immutable(), &source, &destination);
    icmp.set_checksum(sum);
    frame
}

#[test]
fn captured_frames_are_read_field_by_field() {
    assert_eq!(parse(&bytes(SOLICITATION)), Ok(solicitation()));
    let (header, probe) = parse(&bytes(DUPLICATE_PROBE)).unwrap();
    assert_eq!(header, Header { destination: MacAddress([0x33, 0x33, 0xff, 0, 0, 9]), source: CLIENT });
    let group = "ff02::1:ff00:9".parse().unwrap();
    let wanted = Ndp { kind: Kind::Solicitation, source: Ipv6Addr::UNSPECIFIED, destination: group, target: ASKER, mac: None };
    assert_eq!(probe, wanted);
    let flags = Flags { router: false, solicited: true, overrides: true };
    let wanted = Ndp { kind: Kind::Advertisement(flags), source: VIP, destination: ASKER, target: VIP, mac: Some(OURS) };
    assert_eq!(parse(&bytes(ANSWER)), Ok((Header { destination: CLIENT, source: OURS }, wanted)));
}

#[test]
fn the_answer_is_the_one_that_linux_gives_for_an_address_of_its_own_whatever_was_in_the_buffer() {
    let (header, asked) = solicitation();
    let (header, answer) = answer_to(header, &asked, OURS);
    let mut frame = [0xee; MAX_FRAME_LEN];
    assert_eq!(emit(header, &answer, &mut frame), bytes(ANSWER));
}

#[test]
fn whom_an_answer_goes_to() {
    let (header, asked) = solicitation();
    let other = MacAddress([0x02, 0, 0, 0, 0, 0xd1]);
    let unasked = Ndp { source: Ipv6Addr::UNSPECIFIED, mac: None, ..asked };
    let rows: [(&str, Ndp, MacAddress, Ipv6Addr, bool); 4] = [
        ("as the option says", Ndp { mac: Some(other), ..asked }, other, ASKER, true),
        ("without an option as the frame says", Ndp { mac: None, ..asked }, CLIENT, ASKER, true),
        ("a unicast one without an option", Ndp { mac: None, destination: VIP, ..asked }, CLIENT, ASKER, true),
        ("who has no address yet, by all nodes", unasked, MacAddress([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES, false),
    ];
    for (name, asked, station, destination, solicited) in rows {
        let flags = Flags { router: false, solicited, overrides: true };
        let wanted = Ndp { kind: Kind::Advertisement(flags), source: VIP, destination, target: VIP, mac: Some(OURS) };
        assert_eq!(answer_to(header, &asked, OURS), (Header { destination: station, source: OURS }, wanted), "{name}");
    }
}

#[test]
fn a_gratuitous_round_and_the_defense_against_a_duplicate_have_these_bytes() {
    let wanted = bytes(
        "333300000001 0200000000a1 86dd 6000000000203aff fd000201000000000000000000000064 ff020000000000000000000000000001 \
         8800 5533 20000000 fd000201000000000000000000000064 02010200000000a1",
    );
    let (header, round) = gratuitous(VIP, OURS);
    let mut frame = [0xee; MAX_FRAME_LEN];
    assert_eq!(emit(header, &round, &mut frame), wanted);
    let (header, asked) = solicitation();
    let (header, defense) = answer_to(header, &Ndp { source: Ipv6Addr::UNSPECIFIED, mac: None, ..asked }, OURS);
    assert_eq!(emit(header, &defense, &mut frame), wanted);
}

#[test]
fn a_probe_has_these_bytes() {
    let (header, probe) = probe(VIP, OURS);
    let mut frame = [0xee; MAX_FRAME_LEN];
    let wanted = bytes(
        "3333ff000064 0200000000a1 86dd 6000000000183aff 00000000000000000000000000000000 ff0200000000000000000001ff000064 \
         8700 7ade 00000000 fd000201000000000000000000000064",
    );
    assert_eq!(emit(header, &probe, &mut frame), wanted);
}

#[test]
fn every_truncation_is_refused() {
    for whole in [SOLICITATION, DUPLICATE_PROBE, ANSWER] {
        let whole = bytes(whole);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Err(Malformed::Truncated), "{len}");
        }
    }
}

#[test]
fn what_follows_the_packet_is_not_looked_at() {
    let mut padded = bytes(SOLICITATION);
    padded.resize(100, 0xaa);
    assert_eq!(parse(&padded), Ok(solicitation()));
}

#[test]
fn wrong_fields_are_refused_one_by_one() {
    let rows: [(&str, &str, usize, u8, Malformed); 16] = [
        ("EtherType", SOLICITATION, 13, 0x00, Malformed::EtherType),
        ("version", SOLICITATION, 14, 0x40, Malformed::Format),
        ("an extension header", SOLICITATION, 20, 0, Malformed::Format),
        ("hop limit", SOLICITATION, 21, 254, Malformed::HopLimit),
        ("group in the frame's source", SOLICITATION, 6, 0x03, Malformed::Sender),
        ("group as source", SOLICITATION, 22, 0xff, Malformed::Sender),
        ("another type", SOLICITATION, 54, 133, Malformed::Operation),
        ("code", SOLICITATION, 55, 1, Malformed::Code),
        ("group as target", SOLICITATION, 62, 0xff, Malformed::Target),
        ("option without length", SOLICITATION, 79, 0, Malformed::Option),
        ("option too long", SOLICITATION, 79, 2, Malformed::Option),
        ("option much too long", SOLICITATION, 79, 255, Malformed::Option),
        ("option of another kind too long", DUPLICATE_PROBE, 79, 32, Malformed::Option),
        ("group in the option", SOLICITATION, 80, 0x03, Malformed::Sender),
        ("duplicate probe to another group", DUPLICATE_PROBE, 50, 0xfe, Malformed::Destination),
        ("solicited but sent to a group", ANSWER, 38, 0xff, Malformed::Solicited),
    ];
    for (name, frame, at, value, wanted) in rows {
        let mut frame = bytes(frame);
        frame[at] = value;
        assert_eq!(parse(&mend(frame)), Err(wanted), "{name}");
    }
    for (frame, wanted) in [(ANSWER, Malformed::Sender), (SOLICITATION, Malformed::Option)] {
        let mut nobody = bytes(frame);
        nobody[22..38].fill(0);
        assert_eq!(parse(&mend(nobody)), Err(wanted), "from nobody");
    }
    for at in 54..86 {
        let mut frame = bytes(SOLICITATION);
        frame[at] ^= 0x10;
        assert_eq!(parse(&frame), Err(Malformed::Checksum), "octet {at}");
    }
}

#[test]
fn options_are_read_in_any_order_and_those_of_other_kinds_are_passed_over() {
    let with = |options: &str| {
        let mut frame = bytes(SOLICITATION);
        frame.truncate(OPTION_AT);
        frame.extend(bytes(options));
        parse(&mend(frame)).map(|(_, ndp)| ndp.mac)
    };
    let own = "01010200000000c1";
    type Read = Result<Option<MacAddress>, Malformed>;
    let rows: [(&str, String, Read); 7] = [
        ("none", String::new(), Ok(None)),
        ("after others, a long one among them", format!("0e01000000000000 fd20{} {own}", "00".repeat(254)), Ok(Some(CLIENT))),
        ("the first of two counts", format!("{own} 01010200000000c2"), Ok(Some(CLIENT))),
        ("the target's is not the source's", "02010200000000c2".into(), Ok(None)),
        ("of another size", "0102020000000000 0000000000000000".into(), Err(Malformed::Option)),
        ("a lone type", "01".into(), Err(Malformed::Option)),
        ("all zeros", "0101000000000000".into(), Err(Malformed::Sender)),
    ];
    for (name, options, wanted) in rows {
        assert_eq!(with(&options), wanted, "{name}");
    }
}

#[test]
fn what_is_written_reads_back() {
    let (header, asked) = solicitation();
    for kind in [Kind::Solicitation, Kind::Advertisement(Flags { router: true, solicited: false, overrides: false })] {
        for mac in [None, Some(CLIENT)] {
            let ndp = Ndp { kind, mac, ..asked };
            let mut frame = [0x55; MAX_FRAME_LEN];
            assert_eq!(parse(emit(header, &ndp, &mut frame)), Ok((header, ndp)));
        }
    }
}

#[test]
fn a_group_has_its_hardware_address() {
    let address = "2001:db8::abcd:ef01".parse().unwrap();
    assert_eq!(solicited_node(address), "ff02::1:ffcd:ef01".parse::<Ipv6Addr>().unwrap());
    assert_eq!(group_mac(solicited_node(address)), MacAddress([0x33, 0x33, 0xff, 0xcd, 0xef, 0x01]));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(
        head in proptest::collection::vec(proptest::num::u8::ANY, 0..120),
        start in proptest::sample::select(vec![0, 54, 78]),
    ) {
        let mut frame = bytes(SOLICITATION);
        frame.truncate(start);
        frame.extend(head);
        let mended = if frame.len() >= OPTION_AT { mend(frame.clone()) } else { frame.clone() };
        for frame in [frame, mended] {
            if let Ok((header, ndp)) = parse(&frame) {
                let mut buffer = EMPTY_FRAME;
                proptest::prop_assert_eq!(parse(emit(header, &ndp, &mut buffer)), Ok((header, ndp)));
            }
        }
    }
}

#[test]
fn a_question_in_our_name_reads_back_goes_to_whom_it_is_for_and_is_answered_to_us_alone() {
    let (vip, own): (Ipv6Addr, Ipv6Addr) = ("fd00::5".parse().unwrap(), "fe80::1".parse().unwrap());
    let (us, peer) = (MacAddress([2, 0, 0, 0, 0, 0xa1]), MacAddress([2, 0, 0, 0, 0, 0xb1]));
    for (own, station) in [(Some(own), Some(peer)), (Some(own), None), (None, Some(peer)), (None, None)] {
        let (header, asked) = question(vip, us, own, station);
        let mut frame = EMPTY_FRAME;
        let (read_header, read) = parse(emit(header, &asked, &mut frame)).unwrap();
        assert_eq!((read_header, read), (header, asked));
        assert_eq!(header.destination, station.unwrap_or(group_mac(solicited_node(vip))));
        let (to, _) = answer_to(header, &asked, peer);
        assert_eq!(to.destination, if own.is_some() { us } else { group_mac(ALL_NODES) });
    }
}
