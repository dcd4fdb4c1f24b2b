use super::*;

fn parse(flags: &[&str]) -> Args {
    Args::try_parse_from(["speaker-svc"].iter().chain(flags)).unwrap()
}

#[test]
fn the_defaults_are_the_contract() {
    let config = parse(&["--node-name", "node-a"]).checked(None).unwrap();
    assert_eq!(config.allocator.to_string(), "http://127.0.0.1:7470/");
    assert_eq!((config.listen.to_string(), config.admin.to_string()), ("127.0.0.1:7471".into(), "127.0.0.1:7474".into()));
    assert_eq!((config.speaker.to_string(), config.refresh), ("node-a/default".into(), Some(Duration::from_secs(60))));
    for (name, admitted) in
        [("eth0", true), ("br0", true), ("bond0.7", true), ("lo", false), ("veth1", false), ("cni0", false), ("lo0", true)]
    {
        assert_eq!(config.filter.admits(name), admitted, "{name}");
    }
}

#[test]
fn the_node_name_is_asked_for_by_the_name_metallb_users_know() {
    assert_eq!(parse(&[]).checked(None).unwrap_err(), "must specify --node-name or METALLB_NODE_NAME");
    assert_eq!(parse(&["--node-name", ""]).checked(Some("")).unwrap_err(), "must specify --node-name or METALLB_NODE_NAME");
    assert_eq!(parse(&[]).checked(Some("node-m")).unwrap().speaker.node.as_str(), "node-m");
    assert_eq!(parse(&["--node-name", "node-a"]).checked(Some("node-m")).unwrap().speaker.node.as_str(), "node-a");
}

#[test]
fn a_name_that_is_none_is_told_with_its_flag_and_value() {
    let want = "is no such name, want at most 253 lower case letters, digits, - and ., the first and the last a letter or digit";
    let refused = |flags: &[&str], metallb| parse(flags).checked(metallb).unwrap_err();
    assert_eq!(refused(&["--node-name", "/x"], None), format!("--node-name: \"/x\" {want}"));
    assert_eq!(refused(&[], Some("Node")), format!("METALLB_NODE_NAME: \"Node\" {want}"));
    assert_eq!(refused(&["--node-name", "a", "--instance", "a/b"], None), format!("--instance: \"a/b\" {want}"));
}

#[test]
fn patterns_are_repeated_or_separated_by_commas_and_an_empty_one_is_none() {
    let filter = |flags: &[&str]| parse(&[&["--node-name", "a"], flags].concat()).checked(None).unwrap().filter;
    let listed = filter(&["--interfaces", "^eth,^bond", "--interfaces", "^wlan"]);
    assert!(["eth0", "bond1", "wlan2"].iter().all(|name| listed.admits(name)) && !listed.admits("usb0"));
    assert!(filter(&["--exclude-interfaces", ""]).admits("lo"));
    assert!(!filter(&["--exclude-interfaces", "^eth1$"]).admits("eth1"));
    assert!(Args::try_parse_from(["speaker-svc", "--interfaces", "("]).is_err());
}

#[test]
fn zero_means_no_refresh() {
    assert_eq!(parse(&["--node-name", "a", "--refresh", "0"]).checked(None).unwrap().refresh, None);
}
