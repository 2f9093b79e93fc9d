//! What holds for every result, name, version and argument, checked against models that are written differently.

#![allow(clippy::unwrap_used, reason = "a test")]

mod model;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni_spec::address::{parse_cidr, parse_ip};
use cni_spec::version::Numbers;
use cni_spec::{
    AddResult, Args, AttachmentId, Code, ContainerId, Dns, Interface, InterfaceName, IpConfig, NetworkName,
    Route, Version,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        // a mapped IPv4 address would be read back as IPv4
        any::<Ipv6Addr>().prop_map(|ip| IpAddr::V6(ip).to_canonical()),
        vec(select(&[0u16, 0, 0, 1, 0xffff, 0xdb8][..]), 8)
            .prop_map(|g| IpAddr::from([g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]]).to_canonical()),
    ]
}

fn net() -> impl Strategy<Value = IpNet> {
    (ip(), 0..=128u8).prop_map(|(ip, prefix)| match ip {
        IpAddr::V4(ip) => Ipv4Net::new(ip, prefix % 33).unwrap().into(),
        IpAddr::V6(ip) => Ipv6Net::new(ip, prefix).unwrap().into(),
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        select(&["", "a", "<&>", "\u{2028}\\\"", "é😀\u{0}\u{7f}"][..]).prop_map(String::from)
    ]
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), any::<u32>()]
}

fn interface() -> impl Strategy<Value = Interface> {
    (text(), text(), number(), text(), text(), text()).prop_map(
        |(name, mac, mtu, pci_id, sandbox, socket_path)| Interface {
            mac,
            mtu,
            name,
            pci_id,
            sandbox,
            socket_path,
        },
    )
}

fn ip_config() -> impl Strategy<Value = IpConfig> {
    (net(), option::of(ip()), option::of(any::<i64>())).prop_map(|(address, gateway, interface)| IpConfig {
        address,
        gateway,
        interface,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let numbers = (number(), number(), number());
    (net(), option::of(ip()), numbers, option::of(any::<u8>()), option::of(any::<u32>())).prop_map(
        |(dst, gw, (advmss, mtu, priority), scope, table)| Route {
            advmss,
            dst,
            gw,
            mtu,
            priority,
            scope,
            table,
        },
    )
}

fn dns() -> impl Strategy<Value = Dns> {
    (text(), vec(text(), 0..3), vec(text(), 0..3), vec(text(), 0..3))
        .prop_map(|(domain, nameservers, options, search)| Dns { domain, nameservers, options, search })
}

fn result() -> impl Strategy<Value = AddResult> {
    let dns = prop_oneof![Just(Dns::default()), dns()];
    (dns, vec(interface(), 0..3), vec(ip_config(), 0..5), vec(route(), 0..5))
        .prop_map(|(dns, interfaces, ips, routes)| AddResult { dns, interfaces, ips, routes })
}

/// Text of up to `length` pieces, some of them characters that somebody has a rule about.
fn pieces(of: &'static [&'static str], length: usize) -> impl Strategy<Value = String> {
    vec(select(of), 0..=length).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn results_come_back_whole_in_the_newest_versions(result in result()) {
        for version in [Version::V1_0_0, Version::V1_1_0] {
            let text = result.encode(version).unwrap();
            prop_assert_eq!(&AddResult::decode(text.as_bytes(), Version::DEFAULT).unwrap(), &(result.clone(), version));
        }
        let newest = result.encode(Version::CURRENT).unwrap();
        let derived = serde_json::to_value(&result).unwrap();
        prop_assert_eq!(derived, serde_json::from_str::<serde_json::Value>(&newest).unwrap());
    }

    #[test]
    fn results_lose_what_the_table_says_and_nothing_twice(result in result()) {
        let newest = serde_json::from_str(&result.encode(Version::V1_1_0).unwrap()).unwrap();
        for &version in Version::ALL {
            let Ok(text) = result.encode(version) else {
                prop_assert!(version < Version::V0_3_0 && result.ips.is_empty());
                continue;
            };
            let printed: serde_json::Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(Some(printed), model::convert(&newest, Version::V1_1_0, version), "{}", version);
            let (again, _) = AddResult::decode(text.as_bytes(), Version::DEFAULT).unwrap();
            prop_assert_eq!(again.encode(version).unwrap(), text);
        }
    }

    #[test]
    fn conversions_need_no_way_round(result in result(), old in select(Version::ALL), new in select(Version::ALL)) {
        let Ok(text) = result.encode(old) else { return Ok(()) };
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (read, version) = AddResult::decode(text.as_bytes(), Version::DEFAULT).unwrap();
        prop_assert_eq!(version, old);
        let converted = read.encode(new).ok().map(|text| serde_json::from_str(&text).unwrap());
        prop_assert_eq!(converted, model::convert(&document, old, new));
    }

    #[test]
    fn addresses_are_printed_as_they_are_read(net in net(), ip in ip()) {
        prop_assert_eq!(parse_cidr(&net.to_string()), Some(net));
        prop_assert_eq!(parse_ip(&ip.to_string()), Some(ip));
    }

    #[test]
    fn no_text_that_is_an_address_is_another_one(
        text in pieces(&["0", "1", "25", "a", "F", ".", ":", "::", "/", "8", "ffff", "1.2.3.4", "1:2:3:4"], 14),
    ) {
        if let Some(net) = parse_cidr(&text) {
            prop_assert_eq!(parse_cidr(&net.to_string()), Some(net));
            // what both read, they read alike
            if let (Ok(theirs), false) = (text.parse::<IpNet>(), text.contains("ffff")) {
                prop_assert_eq!(net, theirs);
            }
        }
        if let Some(ip) = parse_ip(&text) {
            prop_assert_eq!(parse_ip(&ip.to_string()), Some(ip));
        }
    }

    #[test]
    fn identifiers_are_what_the_rule_says(
        text in prop_oneof![
            pieces(&["a", "Z", "0", "9", "_", ".", "-", "/", "\n", "é", " "], 6),
            any::<String>(),
        ],
    ) {
        let plain = |c: char| matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9');
        let mut rest = text.chars();
        let good = rest.next().is_some_and(plain) && rest.all(|c| plain(c) || "_.-".contains(c));
        prop_assert_eq!(ContainerId::parse(&text).map(|id| id.to_string()).ok(), good.then(|| text.clone()));
        prop_assert_eq!(NetworkName::parse(&text).map(|id| id.to_string()).ok(), good.then(|| text.clone()));
        prop_assert_eq!(AttachmentId::parse(&text, "eth0").is_ok(), good);
    }

    #[test]
    fn interface_names_are_what_the_rule_says(
        text in prop_oneof![
            pieces(&["a", ".", "%d", "/", ":", "\t", "\u{85}", "\u{a0}", "\u{2003}", "\u{200b}", "\u{1b}"], 16),
            pieces(&["a", ".", "-", "é", "0123456"], 8),
            any::<String>(),
        ],
    ) {
        // the characters with the property White_Space (Unicode 15), which Go's unicode.IsSpace has
        let space = |c: u32| {
            let ranges = [0x9..=0xd, 0x20..=0x20, 0x85..=0x85, 0xa0..=0xa0, 0x1680..=0x1680, 0x2000..=0x200a];
            let late = [0x2028, 0x2029, 0x202f, 0x205f, 0x3000];
            ranges.iter().any(|range| range.contains(&c)) || late.contains(&c)
        };
        let control = |c: u32| c < 0x20 || (0x7f..0xa0).contains(&c);
        let good = (1..=15).contains(&text.len())
            && ![".", ".."].contains(&text.as_str())
            && text.chars().all(|c| c != '/' && c != ':' && !space(c.into()) && !control(c.into()));
        match InterfaceName::parse(&text) {
            Ok(name) => prop_assert!(good && name.as_str() == text),
            Err(error) => prop_assert!(!good && error.code == Code::INVALID_ENVIRONMENT),
        }
    }

    #[test]
    fn versions_are_ordered_by_their_numbers(a in any::<[i64; 3]>(), b in any::<[i64; 3]>()) {
        let parse = |n: [i64; 3]| Numbers::parse(&format!("{}.{}.{}", n[0], n[1], n[2])).unwrap();
        prop_assert_eq!(parse(a).cmp(&parse(b)), a.cmp(&b));
    }

    #[test]
    fn versions_are_three_whole_numbers(
        text in pieces(&["0", "1.", "9", ".2", ".", "+", "-", "x", "99999999999"], 7),
    ) {
        let number = |part: &str| -> Option<i128> {
            let digits = part.strip_prefix(['+', '-']).unwrap_or(part);
            let all = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
            let value = part.parse::<i128>().ok().filter(|_| all);
            value.filter(|n| (i64::MIN.into()..=i64::MAX.into()).contains(n))
        };
        let parts: Option<Vec<i128>> = text.split('.').map(number).collect();
        let good = text.is_empty() || parts.as_ref().is_some_and(|p| p.len() <= 3);
        prop_assert_eq!(Numbers::parse(&text).is_ok(), good);
        if let (Some(mut parts), Ok(read)) = (parts, Numbers::parse(&text)) {
            parts.resize(3, 0);
            let whole = format!("{}.{}.{}", parts[0], parts[1], parts[2]);
            prop_assert_eq!(Numbers::parse(&whole), Ok(read));
        }
    }

    #[test]
    fn args_are_pairs(
        pairs in vec(
            pieces(
                &["IP=", "IP=2", "IP=3", "MAC=", "ip=", "IgnoreUnknown=", "IgnoreUnknown=1", "K=V", "=", "1", "é\""],
                2,
            ),
            0..5,
        ),
    ) {
        let text = pairs.join(";");
        let read = Args::new(text.as_str()).load(["IP", "MAC"]).map(|v| v.map(|v| v.map(String::from)));
        prop_assert_eq!(read.map_err(|e| e.msg), load(&text));
    }
}

/// `Args::load` for IP and MAC, the long way.
fn load(text: &str) -> Result<[Option<String>; 2], String> {
    let (mut ip, mut mac, mut ignore, mut unknown) = (None, None, false, String::new());
    for piece in if text.is_empty() { vec![] } else { text.split(';').collect() } {
        let [key, value] = piece.split('=').collect::<Vec<_>>()[..] else {
            return Err(format!("ARGS: invalid pair {piece:?}"));
        };
        match (key, value.to_uppercase().as_str()) {
            ("IP", _) => ip = Some(value.to_owned()),
            ("MAC", _) => mac = Some(value.to_owned()),
            ("IgnoreUnknown", "1" | "TRUE") => ignore = true,
            ("IgnoreUnknown", "0" | "FALSE") => ignore = false,
            ("IgnoreUnknown", _) => {
                return Err(format!(
                    "ARGS: error parsing value of pair {piece:?}: boolean unmarshal error: invalid input {}",
                    value.to_lowercase()
                ));
            }
            _ => unknown += &format!(" {piece:?}"),
        }
    }
    match unknown.strip_prefix(' ') {
        Some(unknown) if !ignore => Err(format!("ARGS: unknown args [{unknown}]")),
        _ => Ok([ip, mac]),
    }
}
