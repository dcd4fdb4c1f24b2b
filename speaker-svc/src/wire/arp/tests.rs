use super::*;

const CLIENT: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xc1]);
const OURS: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0xa1]);

/// A request as Linux 6 sends it with `arping`, captured on a veth: who has 172.17.200.100, tell 172.17.0.9.
const REQUEST: [u8; 42] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0xc1, 0x08, 0x06, // Ethernet
    0, 1, 0x08, 0, 6, 4, 0, 1, // Ethernet, IPv4, request
    0x02, 0, 0, 0, 0, 0xc1, 172, 17, 0, 9, // sender
    0, 0, 0, 0, 0, 0, 172, 17, 200, 100, // target
];

fn request() -> Arp {
    Arp {
        operation: Operation::Request,
        sha: CLIENT,
        spa: Ipv4Addr::new(172, 17, 0, 9),
        tha: MacAddress([0; 6]),
        tpa: Ipv4Addr::new(172, 17, 200, 100),
    }
}

#[test]
fn a_request_is_read_field_by_field() {
    let header = Header { destination: MacAddress::BROADCAST, source: CLIENT };
    assert_eq!(parse(&REQUEST), Ok((header, request())));
}

#[test]
fn a_padded_request_reads_the_same() {
    let mut padded = REQUEST.to_vec();
    padded.resize(64, 0xaa);
    assert_eq!(parse(&padded), parse(&REQUEST));
}

#[test]
fn every_truncation_is_refused() {
    for len in 0..REQUEST.len() {
        assert_eq!(parse(&REQUEST[..len]), Err(Malformed::Truncated), "{len}");
    }
}

#[test]
fn wrong_fields_are_refused_one_by_one() {
    let rows: [(&str, usize, u8, Malformed); 10] = [
        ("EtherType", 13, 0x00, Malformed::EtherType),
        ("hardware type", 15, 6, Malformed::Format),
        ("protocol type", 16, 0x86, Malformed::Format),
        ("hardware length", 18, 8, Malformed::Format),
        ("protocol length", 19, 16, Malformed::Format),
        ("operation 0", 21, 0, Malformed::Operation),
        ("operation RARP", 21, 3, Malformed::Operation),
        ("operation high byte", 20, 1, Malformed::Operation),
        ("group sender", 22, 0x03, Malformed::Sender),
        ("broadcast sender", 22, 0xff, Malformed::Sender),
    ];
    for (name, at, value, wanted) in rows {
        let mut frame = REQUEST;
        frame[at] = value;
        assert_eq!(parse(&frame), Err(wanted), "{name}");
    }
    let mut nobody = REQUEST;
    nobody[22..28].fill(0);
    assert_eq!(parse(&nobody), Err(Malformed::Sender));
}

#[test]
fn the_answer_has_these_bytes_whatever_was_in_the_buffer() {
    let (header, answer) = answer_to(&request(), OURS);
    let mut frame = [0xee; MIN_FRAME_LEN];
    emit(header, &answer, &mut frame);
    let mut wanted = vec![
        0x02, 0, 0, 0, 0, 0xc1, 0x02, 0, 0, 0, 0, 0xa1, 0x08, 0x06, // to the client
        0, 1, 0x08, 0, 6, 4, 0, 2, // reply
        0x02, 0, 0, 0, 0, 0xa1, 172, 17, 200, 100, // the VIP is at our address
        0x02, 0, 0, 0, 0, 0xc1, 172, 17, 0, 9,
    ];
    wanted.resize(60, 0);
    assert_eq!(frame.to_vec(), wanted);
}

#[test]
fn a_gratuitous_round_has_these_bytes() {
    for (operation, code) in [(Operation::Request, 1), (Operation::Reply, 2)] {
        let (header, arp) = gratuitous(operation, Ipv4Addr::new(172, 17, 200, 100), OURS);
        let mut frame = EMPTY_FRAME;
        emit(header, &arp, &mut frame);
        let mut wanted = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0xa1, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, code];
        wanted.extend([0x02, 0, 0, 0, 0, 0xa1, 172, 17, 200, 100, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 172, 17, 200, 100]);
        wanted.resize(60, 0);
        assert_eq!(frame.to_vec(), wanted);
    }
}

#[test]
fn a_probe_has_these_bytes() {
    let (header, arp) = probe(Ipv4Addr::new(172, 17, 200, 100), OURS);
    let mut frame = [0xee; MIN_FRAME_LEN];
    emit(header, &arp, &mut frame);
    let mut wanted = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0xa1, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1];
    wanted.extend([0x02, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 172, 17, 200, 100]);
    wanted.resize(60, 0);
    assert_eq!(frame.to_vec(), wanted);
}

#[test]
fn a_probe_of_one_station_has_these_bytes_and_its_answer_goes_back_to_us_alone() {
    let (header, arp) = probe_to(CLIENT, Ipv4Addr::new(172, 17, 200, 100), OURS);
    let mut frame = [0xee; MIN_FRAME_LEN];
    emit(header, &arp, &mut frame);
    let MacAddress(client) = CLIENT;
    let mut wanted = [&client[..], &[0x02, 0, 0, 0, 0, 0xa1, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]].concat();
    wanted.extend([0x02, 0, 0, 0, 0, 0xa1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 172, 17, 200, 100]);
    wanted.resize(60, 0);
    assert_eq!(frame.to_vec(), wanted);
    let (back, answer) = answer_to(&arp, CLIENT);
    assert_eq!((back.destination, answer.sha, answer.spa), (OURS, CLIENT, arp.tpa));
}

#[test]
fn what_is_written_reads_back() {
    for operation in [Operation::Request, Operation::Reply] {
        let header = Header { destination: CLIENT, source: OURS };
        let arp = Arp { operation, ..request() };
        let mut frame = [0x55; MIN_FRAME_LEN];
        emit(header, &arp, &mut frame);
        assert_eq!(parse(&frame), Ok((header, arp)));
    }
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
        if let Ok((header, arp)) = parse(&bytes) {
            let mut frame = EMPTY_FRAME;
            emit(header, &arp, &mut frame);
            proptest::prop_assert_eq!(parse(&frame), Ok((header, arp)));
        }
    }
}
