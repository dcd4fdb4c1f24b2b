use super::*;

fn prefixes(text: &str) -> Result<Vec<String>, String> {
    text.parse::<AddressRange>().map(|range| range.prefixes().iter().map(ToString::to_string).collect()).map_err(|error| error.to_string())
}

#[test]
fn an_entry_of_a_pool_is_a_cidr_or_a_range() {
    let cases: &[(&str, Result<&[&str], &str>)] = &[
        ("10.0.0.5/24", Ok(&["10.0.0.0/24"])),
        ("fc00::1/64", Ok(&["fc00::/64"])),
        ("::ffff:10.0.0.0/120", Ok(&["10.0.0.0/24"])),
        ("10.0.0.1-10.0.0.4", Ok(&["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32"])),
        ("10.0.0.1 - 10.0.0.1", Ok(&["10.0.0.1/32"])),
        ("0.0.0.0-255.255.255.255", Ok(&["0.0.0.0/0"])),
        ("fc00::-fc00::1", Ok(&["fc00::/127"])),
        ("10.0.0.1", Err("invalid CIDR \"10.0.0.1\"")),
        (" 10.0.0.0/24", Err("invalid CIDR \" 10.0.0.0/24\"")),
        ("10.0.0.0/33", Err("invalid CIDR \"10.0.0.0/33\"")),
        ("010.0.0.0/24", Err("invalid CIDR \"010.0.0.0/24\"")),
        ("x - 10.0.0.1", Err("invalid IP range \"x - 10.0.0.1\": invalid start IP \"x \"")),
        ("10.0.0.1-10.0.0.2-3", Err("invalid IP range \"10.0.0.1-10.0.0.2-3\": invalid end IP \"10.0.0.2-3\"")),
        ("10.0.0.9-10.0.0.1", Err("invalid IP range \"10.0.0.9-10.0.0.1\": start IP \"10.0.0.9\" is after the end IP \"10.0.0.1\"")),
        ("10.0.0.9-fc00::1", Err("invalid IP range \"10.0.0.9-fc00::1\": start IP and end IP are of different families")),
        ("fe80::1%eth0-fe80::2", Err("invalid IP range \"fe80::1%eth0-fe80::2\": invalid start IP \"fe80::1%eth0\"")),
    ];
    for (text, wanted) in cases {
        let wanted = wanted.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()).map_err(ToString::to_string);
        assert_eq!(prefixes(text), wanted, "{text}");
    }
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    assert_eq!("::ffff:10.0.0.1".parse::<Vip>().unwrap(), "10.0.0.1".parse::<Vip>().unwrap());
}

#[test]
fn buggy_addresses_are_ipv4_and_end_in_0_or_255() {
    let buggy =
        ["10.0.0.0", "10.0.1.255", "10.0.0.1", "10.255.0.7", "fc00::", "fc00::ff"].map(|text| text.parse::<Vip>().unwrap().is_buggy());
    assert_eq!(buggy, [true, true, false, false, false, false]);
}

#[test]
fn a_list_prints_as_metallb_prints_it() {
    let vips = ["10.0.0.1", "FC00::1"].map(|text| text.parse().unwrap());
    assert_eq!(Quoted(&vips).to_string(), r#"["10.0.0.1" "fc00::1"]"#);
}
