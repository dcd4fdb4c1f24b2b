//! IPv6 on the wire: solicitations of every kind are answered, addresses are announced, defended and handed over as those of IPv4 are.
//! The judges are `ndisc6`, `ping -6` and the neighbor tables of the hosts' kernels.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use mooring_proto::types::node::MacAddress;
use mooring_tests::lab::capture::{Arp, Capture, Operation, build_arp};
use mooring_tests::lab::host::PingReport;
use mooring_tests::lab::ndp::{ADVERTISEMENT, ALL_NODES, Ndp, OVERRIDE, SOLICITED, group_mac, solicited_node};
use mooring_tests::lab::until::{millis, secs, until};
use mooring_tests::lab::workloads::Mooring;
use mooring_tests::lab::{Host, Lab, run};
use serde_json::{Value, json};

use crate::Scenario;
use crate::interfaces::on_one_node;
use crate::story::{NGINX_LB, ONE_POOL};

pub(crate) const SCENARIOS: &[Scenario] = &[
    ("ipv6::a_dual_stack_service_answers_by_both_families", a_dual_stack_service_answers_by_both_families),
    ("ipv6::every_kind_of_solicitation_is_answered_as_the_rfc_wants_it", every_kind_of_solicitation_is_answered_as_the_rfc_wants_it),
    ("ipv6::every_frame_sent_is_right_to_the_byte_by_both_families", every_frame_sent_is_right_to_the_byte_by_both_families),
    ("ipv6::a_probe_for_duplicates_is_defended_against", a_probe_for_duplicates_is_defended_against),
    ("ipv6::a_switch_that_snoops_forwards_what_the_node_has_joined", a_switch_that_snoops_forwards_what_the_node_has_joined),
    (
        "ipv6::a_killed_speaker_and_a_pulled_cable_are_followed_by_the_standby",
        a_killed_speaker_and_a_pulled_cable_are_followed_by_the_standby,
    ),
    ("ipv6::a_speaker_told_to_end_loses_no_ping", a_speaker_told_to_end_loses_no_ping),
    ("ipv6::a_cable_that_comes_back_announces_nothing_that_has_moved", a_cable_that_comes_back_announces_nothing_that_has_moved),
    ("ipv6::a_stranger_is_defended_against_and_reported", a_stranger_is_defended_against_and_reported),
    ("ipv6::wrong_frames_stop_nobody", wrong_frames_stop_nobody),
];

/// The IPv6 half of the address range.
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x200, 0, 0, 0, 0, 0, 0x100);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 17, 200, 100);

/// The pool of the story with an IPv6 range beside its own.
pub(crate) fn dual_pool() -> String {
    let range = "- 172.17.200.100-172.17.200.125";
    ONE_POOL.replace(range, &format!("{range}\n      - fd00:200::100-fd00:200::125"))
}

/// One dual-stack Service whose addresses answer; returns the node that announces the IPv6 one.
pub(crate) fn one_dual_service(lab: &Lab, mooring: &Mooring) -> Result<String> {
    mooring.apply("config.yaml", &dual_pool())?;
    mooring.apply("nginx-lb.yaml", &format!("{NGINX_LB}  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n"))?;
    until(secs(10), "both addresses are in the status", || {
        let has = mooring.status("default", "nginx-lb")?;
        ensure!(has == [VIP.to_string(), VIP6.to_string()], "{has:?}");
        Ok(())
    })?;
    until(secs(5), "the VIP answers solicitations", || lab.host("client").ndisc6(VIP6))?;
    announcer(mooring)
}

fn announcer(mooring: &Mooring) -> Result<String> {
    until(secs(5), "the VIP is announced", || mooring.announcer(&VIP6.to_string()))
}

/// Waits until just this host answers solicitations for the VIP, and nobody else.
fn only(client: &Host, host: &Host) -> Result<()> {
    until(secs(5), &format!("only {} answers", host.name()), || {
        let answers = client.ndisc6_all(VIP6, millis(100))?;
        ensure!(answers == [host.mac()], "{answers:?}");
        Ok(())
    })
}

fn a_dual_stack_service_answers_by_both_families() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let client = lab.host("client");
    let mut capture = Capture::begin(client)?;
    let node = one_dual_service(&lab, &mooring)?;
    let host = lab.host(&node);
    only(client, host)?;
    client.netns().run("ping", &["-6", "-c", "3", "-i", "0.1", "-W", "2", &VIP6.to_string()])?;
    ensure!(client.neighbor(VIP6)? == host.mac(), "the client sends to {}", client.neighbor(VIP6)?);
    let four = until(secs(5), "the IPv4 address answers too", || client.arp(VIP))?;
    ensure!(lab.nodes().any(|node| node.mac() == four));
    // Asked by a unicast solicitation, as a kernel does that only wants to be sure.
    client
        .netns()
        .run("ip", &["-6", "neighbor", "replace", &VIP6.to_string(), "lladdr", &host.mac().to_string(), "dev", "eth0", "nud", "probe"])?;
    until(secs(5), "the kernel is sure of its neighbor", || {
        let entry = client.netns().output("ip", &["-6", "neighbor", "show", &VIP6.to_string()])?;
        ensure!(entry.contains("REACHABLE"), "{entry}");
        Ok(())
    })?;
    let announced = json!({"event": "serviceAnnounced", "ip": VIP6.to_string(), "service": "default/nginx-lb", "pool": "default", "protocol": "layer2"});
    mooring.speaker(&node)?.wait_for(&announced)?;
    mooring.speaker(&node)?.wait_for(&json!({"event": "createNDPResponder", "interface": "eth0"}))?;
    let rounds = capture.ndps().into_iter().filter(|ndp| ndp.is_gratuitous() && ndp.target == VIP6).collect::<Vec<_>>();
    ensure!(!rounds.is_empty() && rounds.iter().all(|round| *round == Ndp::advertisement(host.mac(), VIP6)), "{rounds:?}");
    let metrics = host.netns().output("curl", &["-s", "http://127.0.0.1:7474/metrics"])?;
    for series in [
        format!("metallb_speaker_announced{{service=\"default/nginx-lb\",protocol=\"layer2\",node=\"{node}\",ip=\"{VIP6}\"}} 1"),
        format!("metallb_layer2_requests_received{{ip=\"{VIP6}\"}} "),
        format!("metallb_layer2_gratuitous_sent{{ip=\"{VIP6}\"}} "),
    ] {
        ensure!(metrics.lines().any(|line| line.starts_with(&series)), "no {series} in {metrics}");
    }
    let status = std::fs::read_dir(mooring.status_folder().join("servicel2statuses"))?.next().context("no ServiceL2Status")??;
    let status: Value = serde_saphyr::from_str(&std::fs::read_to_string(status.path())?)?;
    ensure!(status["status"]["serviceName"] == "nginx-lb", "{status}");
    Ok(())
}

/// Sends a solicitation from the client, and gives all answers to it within a while.
fn answers(client: &Host, asked: &Ndp) -> Result<Vec<Ndp>> {
    let mut capture = Capture::begin(client)?;
    client.send_frames(vec![asked.build()])?;
    // An answer to it comes before one to the question that follows.
    client.ndisc6(VIP6)?;
    let mut found = capture.ndps();
    let is_last = |ndp: &Ndp| ndp.kind == ADVERTISEMENT && ndp.flags & SOLICITED != 0 && ndp.destination != asked.source;
    let last = found.iter().rposition(is_last).context("no answer to the question that follows")?;
    found.remove(last);
    Ok(found.into_iter().filter(|ndp| ndp.kind == ADVERTISEMENT && ndp.target == VIP6).collect())
}

fn every_kind_of_solicitation_is_answered_as_the_rfc_wants_it() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let (client, host) = (lab.host("client"), lab.host(&node));
    let mut capture = Capture::begin(client)?;
    until(secs(10), "the rounds of the takeover are over", || {
        let before = capture.ndps().len();
        client.arp_all(VIP, millis(1_300))?;
        let new = capture.ndps().split_off(before);
        ensure!(new.iter().all(|ndp| !(ndp.is_gratuitous() && ndp.target == VIP6)), "{new:?}");
        Ok(())
    })?;
    // Nobody has this address, so that the client's kernel asks nothing in between.
    let asker = "fd00:200::fe".parse()?;
    let multicast = Ndp::solicitation(client.mac(), asker, VIP6);
    let unicast = Ndp { to: host.mac(), destination: VIP6, ..multicast };
    let answer = Ndp {
        to: client.mac(),
        from: host.mac(),
        source: VIP6,
        destination: asker,
        kind: ADVERTISEMENT,
        flags: SOLICITED | OVERRIDE,
        target: VIP6,
        option: Some(host.mac()),
    };
    let to_all = Ndp { to: group_mac(ALL_NODES), destination: ALL_NODES, flags: OVERRIDE, ..answer };
    let probe = Ndp::solicitation(client.mac(), Ipv6Addr::UNSPECIFIED, VIP6);
    let rows: [(&str, Ndp, &[Ndp]); 9] = [
        ("multicast", multicast, &[answer]),
        ("multicast without its sender's hardware address", Ndp { option: None, ..multicast }, &[answer]),
        ("unicast", unicast, &[answer]),
        ("unicast without its sender's hardware address", Ndp { option: None, ..unicast }, &[answer]),
        ("a probe for duplicates", probe, &[to_all]),
        ("a probe for duplicates to all nodes", Ndp { destination: ALL_NODES, ..probe }, &[]),
        ("a probe for duplicates with a hardware address", Ndp { option: Some(client.mac()), ..probe }, &[]),
        ("for an address that nobody has", Ndp { target: "fd00:200::1ff".parse()?, ..multicast }, &[]),
        ("to another station", Ndp { to: MacAddress([2, 0, 0, 0, 9, 9]), ..unicast }, &[]),
    ];
    for (name, asked, wanted) in rows {
        let found = answers(client, &asked)?;
        ensure!(found == wanted, "{name}: {found:?}");
    }
    Ok(())
}

fn every_frame_sent_is_right_to_the_byte_by_both_families() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = on_one_node(&lab)?;
    let (client, host) = (lab.host("client"), lab.host("node-a"));
    let mut capture = Capture::begin(client)?;
    client.arp(VIP)?;
    client.send_frames(vec![Ndp::solicitation(client.mac(), client.address6(), VIP6).build()])?;
    client.send_frames(vec![Ndp::solicitation(client.mac(), Ipv6Addr::UNSPECIFIED, VIP6).build()])?;
    // Without an allocator a cable that comes back brings probes first, and then rounds.
    mooring.allocator.kill_9()?;
    mooring.speaker("node-a")?.wait_for(&json!({"event": "sessionChanged", "state": "away"}))?;
    host.port_down()?;
    mooring.speaker("node-a")?.wait_for(&json!({"event": "deleteARPResponder", "interface": "eth0"}))?;
    host.port_up()?;
    let (all, zeros, nobody) = (MacAddress::BROADCAST, MacAddress([0; 6]), Ipv4Addr::UNSPECIFIED);
    let arp = |operation, spa, tha| Arp { operation, sha: host.mac(), spa, tha, tpa: VIP };
    let answer = Arp { tpa: client.address(), ..arp(Operation::Reply, VIP, client.mac()) };
    let round = Ndp::advertisement(host.mac(), VIP6);
    let wanted = [
        ("answer by ARP", build_arp(client.mac(), &answer)),
        ("first half of a round by ARP", build_arp(all, &arp(Operation::Request, VIP, all))),
        ("second half of a round by ARP", build_arp(all, &arp(Operation::Reply, VIP, all))),
        ("probe by ARP", build_arp(all, &arp(Operation::Request, nobody, zeros))),
        ("answer by NDP", Ndp { to: client.mac(), destination: client.address6(), flags: SOLICITED | OVERRIDE, ..round }.build()),
        ("round by NDP, and defense against a duplicate", round.build()),
        ("probe by NDP", Ndp::solicitation(host.mac(), Ipv6Addr::UNSPECIFIED, VIP6).build()),
    ];
    let about_vip = |frame: &[u8]| {
        Arp::parse(frame).is_some_and(|arp| arp.spa == VIP || arp.tpa == VIP) || Ndp::parse(frame).is_some_and(|ndp| ndp.target == VIP6)
    };
    until(secs(10), "each kind of frame was seen", || {
        let frames = capture.frames();
        for (name, wanted) in &wanted {
            ensure!(frames.iter().any(|frame| frame.bytes == *wanted), "no {name}");
        }
        Ok(())
    })?;
    let own = capture.frames().iter().filter(|frame| frame.bytes[6..12] == host.mac().0 && about_vip(&frame.bytes));
    let odd: Vec<_> = own.filter(|frame| !wanted.iter().any(|(_, wanted)| frame.bytes == *wanted)).collect();
    ensure!(odd.is_empty(), "{odd:02x?}");
    Ok(())
}

fn a_probe_for_duplicates_is_defended_against() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let stranger = lab.host("control").netns();
    stranger.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_dad"])?;
    stranger.run("ip", &["address", "add", &format!("{VIP6}/64"), "dev", "eth0"])?;
    until(secs(5), "the other host has given the address up", || {
        let addresses = stranger.output("ip", &["-6", "address", "show", "dev", "eth0"])?;
        ensure!(addresses.contains("dadfailed"), "{addresses}");
        Ok(())
    })?;
    only(lab.host("client"), lab.host(&node))?;
    // Who only asks has claimed nothing.
    for speaker in mooring.speakers.values_mut() {
        ensure!(speaker.events("addressConflict").is_empty(), "{:?}", speaker.events("addressConflict"));
    }
    Ok(())
}

/// Whether a switch's port gets a group's frames, by the switch's own table.
fn forwards(host: &Host, group: Ipv6Addr) -> Result<bool> {
    let table = mooring_tests::lab::output("bridge", &["mdb", "show", "dev", "br0"])?;
    Ok(table.lines().any(|line| line.contains(&format!("port {} ", host.port())) && line.contains(&format!("grp {group} "))))
}

fn a_switch_that_snoops_forwards_what_the_node_has_joined() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    run(
        "ip",
        &[
            "link",
            "set",
            "br0",
            "type",
            "bridge",
            "mcast_snooping",
            "1",
            "mcast_querier",
            "1",
            "mcast_startup_query_interval",
            "100",
            "mcast_query_response_interval",
            "50",
        ],
    )?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let group = solicited_node(VIP6);
    only(lab.host("client"), lab.host(&node))?;
    until(secs(5), "the switch has heard of the group", || {
        for host in lab.nodes() {
            ensure!(forwards(host, group)? == (host.name() == node), "{}", host.name());
        }
        Ok(())
    })?;
    mooring.speaker(&node)?.kill_9()?;
    let after = until(secs(5), "another node announces", || {
        let now = mooring.announcer(&VIP6.to_string())?;
        ensure!(now != node, "still {now}");
        Ok(now)
    })?;
    // The kernel tells of what it has joined some hundredths of a second later.
    until(secs(1), &format!("the switch has heard of {after}"), || {
        ensure!(forwards(lab.host(&after), group)?, "not yet");
        Ok(())
    })?;
    only(lab.host("client"), lab.host(&after))?;
    // Without the Service nobody needs the group any more.
    mooring.delete("nginx-lb.yaml")?;
    until(secs(5), "all have left", || {
        for host in lab.nodes() {
            let groups = host.netns().output("ip", &["-6", "maddress", "show", "dev", "eth0"])?;
            ensure!(!groups.contains(&group.to_string()), "{}: {groups}", host.name());
        }
        Ok(())
    })
}

/// What the loss of a speaker looked like from the client.
struct Loss {
    after: String,
    pings: PingReport,
}

/// Does something to the announcing node, and watches until another one has the VIP.
fn lose(lab: &Lab, mooring: &mut Mooring, act: impl FnOnce(&mut Mooring, &str) -> Result<()>) -> Result<Loss> {
    let client = lab.host("client");
    let before = announcer(mooring)?;
    let mut capture = Capture::begin(client)?;
    let pings = client.ping_every(millis(5), VIP6)?;
    until(secs(5), "answers come", || client.ndisc6(VIP6))?;
    act(mooring, &before)?;
    let after = until(secs(10), "another node announces", || {
        let now = mooring.announcer(&VIP6.to_string())?;
        ensure!(now != before, "still {now}");
        Ok(now)
    })?;
    let host = lab.host(&after);
    only(client, host)?;
    until(secs(5), "the client sends to the new node", || {
        let known = client.neighbor(VIP6)?;
        ensure!(known == host.mac(), "the client sends to {known}");
        Ok(())
    })?;
    let pings = pings.finish()?;
    let round = Ndp::advertisement(host.mac(), VIP6);
    ensure!(capture.ndps().contains(&round), "{after} sent no gratuitous advertisement");
    Ok(Loss { after, pings })
}

#[expect(clippy::print_stdout, reason = "what was measured is part of the result")]
fn a_killed_speaker_and_a_pulled_cable_are_followed_by_the_standby() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    one_dual_service(&lab, &mooring)?;
    let Loss { after, .. } = lose(&lab, &mut mooring, |mooring, node| mooring.speaker(node)?.kill_9())?;
    mooring.speaker(&after)?.wait_for(&json!({"event": "serviceAnnounced", "ip": VIP6.to_string()}))?;
    let Loss { pings, .. } = lose(&lab, &mut mooring, |_, node| lab.host(node).port_down())?;
    println!("node without its cable, ping -6: {} of {} not answered, a gap of {} ms", pings.lost, pings.sent, pings.gap.as_millis());
    ensure!(pings.lost > 0 && pings.gap < secs(2), "{pings:?}");
    Ok(())
}

fn a_speaker_told_to_end_loses_no_ping() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    one_dual_service(&lab, &mooring)?;
    let Loss { pings, .. } = lose(&lab, &mut mooring, |mooring, node| {
        let status = mooring.speaker(node)?.terminate()?;
        ensure!(status.code() == Some(0), "ended with {status}");
        Ok(())
    })?;
    ensure!(pings.lost == 0, "{pings:?}");
    Ok(())
}

fn a_cable_that_comes_back_announces_nothing_that_has_moved() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    one_dual_service(&lab, &mooring)?;
    let mut lost = String::new();
    let Loss { after, .. } = lose(&lab, &mut mooring, |_, node| {
        node.clone_into(&mut lost);
        lab.host(node).port_down()
    })?;
    let (client, host, holder) = (lab.host("client"), lab.host(&lost), lab.host(&after));
    let mut capture = Capture::begin(client)?;
    host.port_up()?;
    mooring.speaker(&lost)?.wait_for(&json!({"event": "serviceWithdrawn", "ip": VIP6.to_string()}))?;
    only(client, holder)?;
    let frames = capture.ndps();
    let of_lost = |ndp: &&Ndp| ndp.from == host.mac() && ndp.target == VIP6;
    ensure!(!frames.iter().filter(of_lost).any(Ndp::is_gratuitous), "{lost} has announced what it had lost: {frames:?}");
    ensure!(client.neighbor(VIP6)? == holder.mac(), "the client sends to {}", client.neighbor(VIP6)?);
    for speaker in mooring.speakers.values_mut() {
        ensure!(speaker.events("addressConflict").is_empty(), "{:?}", speaker.events("addressConflict"));
    }
    Ok(())
}

fn a_stranger_is_defended_against_and_reported() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let (client, control, host) = (lab.host("client"), lab.host("control"), lab.host(&node));
    let mut capture = Capture::begin(client)?;
    let claim = Ndp::advertisement(control.mac(), VIP6);
    control.send_frames(vec![claim.build()])?;
    let mac = control.mac().to_string();
    mooring.speaker(&node)?.wait_for(&json!({"event": "addressConflict", "ip": VIP6.to_string(), "mac": mac, "interface": "eth0"}))?;
    let defended = until(secs(5), "the holder announces again", || {
        let frames = capture.timed_ndps();
        let (seen, _) = frames.iter().find(|(_, ndp)| *ndp == claim).context("no claim was seen")?;
        let defense = frames.iter().find(|(at, ndp)| at > seen && *ndp == Ndp::advertisement(host.mac(), VIP6));
        defense.map(|(at, _)| at.duration_since(*seen)).context("not yet")
    })?;
    ensure!(defended < millis(500), "defended after {defended:?}");
    only(client, host)?;
    until(secs(5), "an Event tells it", || {
        let events = mooring.events()?;
        let told = |event: &Value| {
            event["reason"] == "AddressConflict"
                && event["note"].as_str().is_some_and(|note| note.contains(&VIP6.to_string()) && note.contains(&mac))
        };
        ensure!(events.iter().any(told), "{events:?}");
        Ok(())
    })?;
    let metrics = host.netns().output("curl", &["-s", "http://127.0.0.1:7474/metrics"])?;
    ensure!(metrics.lines().any(|line| line == "mooring_speaker_conflicts_total 1"), "{metrics}");
    Ok(())
}

fn wrong_frames_stop_nobody() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let mut mooring = Mooring::on_directory(&lab)?;
    let node = one_dual_service(&lab, &mooring)?;
    let (client, host) = (lab.host("client"), lab.host(&node));
    let good = Ndp { to: host.mac(), ..Ndp::solicitation(client.mac(), client.address6(), VIP6) }.build();
    let mut frames: Vec<Vec<u8>> = (54..good.len()).map(|length| good.iter().copied().take(length).collect()).collect();
    for at in 12..good.len() {
        frames.extend([0x01, 0x80, 0xff].map(|bits| {
            let mut frame = good.clone();
            frame[at] ^= bits;
            frame
        }));
    }
    // An option of the greatest length, and a packet that is longer than what is read of one.
    let mut long = good.clone();
    long.extend(vec![0xff; 1_400]);
    frames.push(long);
    let count = frames.len();
    client.send_frames(frames)?;
    only(client, host)?;
    let metrics = host.netns().output("curl", &["-s", "http://127.0.0.1:7474/metrics"])?;
    let dropped = |reason: &str| -> Result<u64> {
        let series = format!("mooring_speaker_frames_dropped_total{{reason=\"{reason}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series)).with_context(|| format!("no {series}"))?;
        Ok(value.parse()?)
    };
    // What is no whole IPv6 packet a bridge may drop already.
    for reason in ["hop_limit", "checksum"] {
        ensure!(dropped(reason)? > 0, "none of {count} frames was dropped for {reason}: {metrics}");
    }
    ensure!(mooring.speaker(&node)?.is_running()?);
    Ok(())
}
