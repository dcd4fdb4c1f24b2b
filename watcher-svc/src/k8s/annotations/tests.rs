use super::*;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_current_key_wins_even_if_empty() {
    for annotation in ALL {
        let (new, old) = (annotation.key, annotation.deprecated);
        let cases = [
            (vec![], None),
            (vec![(new, "a")], Some("a")),
            (vec![(old, "b")], Some("b")),
            (vec![(new, "a"), (old, "b")], Some("a")),
            (vec![(new, ""), (old, "b")], Some("")),
            (vec![("METALLB.io/address-pool", "c"), ("metallb.io/loadbalancerips", "d")], None),
        ];
        for (pairs, wanted) in cases {
            assert_eq!(annotation.value(&annotations(&pairs)), wanted, "{new}: {pairs:?}");
        }
    }
}

#[test]
fn keys_are_as_published() {
    let keys: Vec<_> = ALL.iter().map(|annotation| (annotation.key, annotation.deprecated)).collect();
    assert_eq!(
        keys,
        [
            ("metallb.io/address-pool", "metallb.universe.tf/address-pool"),
            ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs"),
            ("metallb.io/allow-shared-ip", "metallb.universe.tf/allow-shared-ip"),
            ("metallb.io/ip-allocated-from-pool", "metallb.universe.tf/ip-allocated-from-pool"),
        ]
    );
}

#[test]
fn an_empty_pool_or_sharing_key_asks_for_nothing() {
    let empty =
        annotations(&[("metallb.io/address-pool", ""), ("metallb.io/allow-shared-ip", ""), ("metallb.universe.tf/address-pool", "p")]);
    assert_eq!((requested_pool(&empty), sharing_key(&empty)), (None, None));
    let given = annotations(&[("metallb.universe.tf/address-pool", "p"), ("metallb.io/allow-shared-ip", "dns")]);
    assert_eq!((requested_pool(&given), sharing_key(&given)), (PoolName::new("p"), SharingKey::new("dns")));
}

#[test]
fn values_of_our_own_are_read_and_wrong_ones_named() {
    let seconds = |seconds| Ok(Some(Duration::from_secs(seconds)));
    let retained: [(&str, Result<Option<Duration>, &str>); 8] = [
        ("24h", seconds(86_400)),
        (" 1h30m ", seconds(5_400)),
        ("0", seconds(0)),
        ("0s", seconds(0)),
        ("", Ok(None)),
        ("24", Err(r#"mooring.io/retain: "24" is no duration such as 24h or 30m"#)),
        ("-1h", Err(r#"mooring.io/retain: "-1h" is no duration such as 24h or 30m"#)),
        ("soon", Err(r#"mooring.io/retain: "soon" is no duration such as 24h or 30m"#)),
    ];
    for (value, wanted) in retained {
        let got = retain(&annotations(&[("mooring.io/retain", value)])).map_err(|error| error.to_string());
        assert_eq!(got, wanted.map_err(str::to_owned), "{value:?}");
    }
    let quotas: [(&str, Result<Option<u32>, &str>); 5] = [
        ("10", Ok(Some(10))),
        ("0", Ok(Some(0))),
        ("", Ok(None)),
        ("-1", Err(r#"mooring.io/address-quota: "-1" is no number of addresses such as 10"#)),
        ("ten", Err(r#"mooring.io/address-quota: "ten" is no number of addresses such as 10"#)),
    ];
    for (value, wanted) in quotas {
        let got = address_quota(&annotations(&[("mooring.io/address-quota", value)])).map_err(|error| error.to_string());
        assert_eq!(got, wanted.map_err(str::to_owned), "{value:?}");
    }
    assert_eq!((retain(&annotations(&[])), address_quota(&annotations(&[]))), (Ok(None), Ok(None)));
}

#[test]
fn every_deprecated_key_is_named() {
    let mixed =
        annotations(&[("metallb.universe.tf/zzz", ""), ("metallb.io/address-pool", "p"), ("metallb.universe.tf/address-pool", "q")]);
    assert_eq!(deprecated_keys(&mixed), ["metallb.universe.tf/address-pool", "metallb.universe.tf/zzz"]);
}

#[test]
fn requested_addresses_are_read_as_metallb_does() {
    let cases: [(Option<&str>, &str, Result<&str, &str>); 15] = [
        (None, "", Ok("")),
        (Some(""), "", Ok("")),
        (None, "192.0.2.1", Ok("192.0.2.1")),
        (Some(""), "192.0.2.1", Ok("192.0.2.1")),
        (Some("192.0.2.1"), "", Ok("192.0.2.1")),
        (Some(" 192.0.2.1 , 2001:DB8::1"), "", Ok("192.0.2.1 2001:db8::1")),
        (Some("::ffff:192.0.2.1"), "", Ok("192.0.2.1")),
        (Some("192.0.2.1"), "192.0.2.1", Err("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP")),
        (Some("192.0.2.1,"), "", Err(r#"invalid metallb.io/loadBalancerIPs: "192.0.2.1,""#)),
        (Some("192.0.2.01"), "", Err(r#"invalid metallb.io/loadBalancerIPs: "192.0.2.01""#)),
        (Some("fe80::1%eth0"), "", Err(r#"invalid metallb.io/loadBalancerIPs: "fe80::1%eth0""#)),
        (None, "web", Err(r#"invalid spec.loadBalancerIP "web""#)),
        (None, "192.0.2.1,2001:db8::1", Err(r#"invalid spec.loadBalancerIP "192.0.2.1,2001:db8::1""#)),
        (Some("192.0.2.1,192.0.2.2"), "", Err(r#"IPFamilyForAddresses: same address family ["192.0.2.1" "192.0.2.2"]"#)),
        (
            Some("192.0.2.1,2001:db8::1,192.0.2.2"),
            "",
            Err(r#"IPFamilyForAddresses: invalid ips length 3 ["192.0.2.1" "2001:db8::1" "192.0.2.2"]"#),
        ),
    ];
    for (annotation, field, wanted) in cases {
        let pairs = annotation.map(|value| annotations(&[("metallb.universe.tf/loadBalancerIPs", value)])).unwrap_or_default();
        let got = requested_addresses(&pairs, field);
        let got = got.map(|vips| vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")).map_err(|error| error.to_string());
        assert_eq!(got, wanted.map(str::to_owned).map_err(str::to_owned), "{annotation:?} {field:?}");
    }
}
