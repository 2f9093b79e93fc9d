//! static, which only answers.

use cni_plugins::ipam::static_ips::StaticIps;
use cni_sdk::testing::Caller;
use cni_sdk::{AddResult, Error, IpConfig};

const TWO: &str =
    r#""addresses": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}]"#;

fn caller_of(version: &str, ipam: &str, extra: &str) -> Caller {
    let comma = if extra.is_empty() { "" } else { ", " };
    let config = format!(
        r#"{{"cniVersion": "{version}", "name": "net", "type": "bridge",
             "ipam": {{"type": "static", {ipam}}}{comma}{extra}}}"#
    );
    Caller::new::<StaticIps>(&config).netns("/dev/null")
}

fn caller(ipam: &str, extra: &str) -> Caller {
    caller_of("1.1.0", ipam, extra)
}

fn addresses(result: Result<AddResult, Error>) -> Vec<String> {
    let text = |ip: &IpConfig| {
        let gateway = ip.gateway.map_or_else(String::new, |gateway| format!(" by {gateway}"));
        format!("{}{gateway}", ip.address)
    };
    result.unwrap().ips.iter().map(text).collect()
}

#[test]
fn what_is_written_is_answered() {
    let ipam = format!(
        r#"{TWO}, "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "192.0.2.0/24", "gw": "10.1.0.7"}}],
           "dns": {{"nameservers": ["192.0.2.53"], "search": ["example"]}}"#
    );
    let result = caller(&ipam, "").add().unwrap();
    assert_eq!(result.routes.len(), 2);
    assert_eq!(result.dns.nameservers, ["192.0.2.53"]);
    assert!(result.interfaces.is_empty() && result.ips.iter().all(|ip| ip.interface.is_none()));
    assert_eq!(addresses(Ok(result)), ["10.1.0.5/16 by 10.1.0.1", "fd00::5/64"]);
}

#[test]
fn arguments_add_and_the_runtime_replaces() {
    let args = "IgnoreUnknown=1;IP=10.2.0.6/24, 10.1.0.6/24;GATEWAY=10.2.0.1,192.0.2.1";
    assert_eq!(
        addresses(caller(TWO, "").args(args).add()),
        ["10.1.0.5/16 by 10.1.0.1", "fd00::5/64", "10.2.0.6/24 by 10.2.0.1", "10.1.0.6/24"],
    );
    let conventional = r#""args": {"cni": {"ips": ["10.3.0.6/24"]}}"#;
    assert_eq!(addresses(caller(TWO, conventional).args(args).add()), ["10.3.0.6/24"]);
    let both = format!(r#"{conventional}, "RuntimeConfig": {{"ips": ["10.4.0.6/24", "fd00::6/64"]}}"#);
    assert_eq!(addresses(caller(TWO, &both).args(args).add()), ["10.4.0.6/24", "fd00::6/64"]);
}

#[test]
fn mistakes_are_told_in_the_words_of_the_reference() {
    let said = |ipam: &str, extra: &str, args: &str| caller(ipam, extra).args(args).add().unwrap_err().msg;
    let address = |text: &str| format!(r#""addresses": [{{"address": "{text}"}}]"#);
    for text in ["", "10.1.0.5", "10.1.0.256/24", "10.1.0.5/33"] {
        assert_eq!(
            said(&address(text), "", ""),
            format!("the 'address' field is expected to be in CIDR notation, got: '{text}'")
        );
    }
    let gateway = r#""addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0"}]"#;
    assert_eq!(said(gateway, "", ""), "invalid IP address: 10.1.0");
    assert_eq!(
        said(TWO, "", "IP=10.1.0.5"),
        "the 'ip' field is expected to be in CIDR notation, got: '10.1.0.5'"
    );
    assert_eq!(said(TWO, "", "IP=10.1.0.5/24;GATEWAY=x"), "invalid gateway address: x");
    assert_eq!(said(TWO, "", "MAC=x"), r#"ARGS: unknown args ["MAC=x"]"#);
    for extra in [r#""args": {"cni": {"ips": ["10.1.0.9"]}}"#, r#""runtimeConfig": {"ips": ["10.1.0.9"]}"#] {
        assert_eq!(
            said(TWO, extra, ""),
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.0.9'"
        );
    }
    let none = Caller::new::<StaticIps>(r#"{"name": "net", "type": "bridge"}"#).netns("/dev/null");
    assert_eq!(none.add().unwrap_err().msg, "IPAM config missing 'ipam' key");
    none.del(None).unwrap();
    none.gc(&[]).unwrap();
    none.status().unwrap();
}

#[test]
fn every_version_gets_its_shape() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        assert_eq!(
            addresses(caller_of(version, TWO, "").add()),
            ["10.1.0.5/16 by 10.1.0.1", "fd00::5/64"],
            "{version}"
        );
    }
    let twice = r#""addresses": [{"address": "10.1.0.5/16"}, {"address": "10.2.0.5/16"}]"#;
    assert_eq!(
        caller_of("0.2.0", twice, "").add().unwrap_err().msg,
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
    assert_eq!(addresses(caller(r#""addresses": []"#, "").add()), Vec::<String>::new());
    let error = caller_of("0.2.0", r#""addresses": []"#, "").add().unwrap_err();
    assert_eq!(error.msg, "cannot convert: no valid IP addresses");
}

#[test]
fn check_compares_gateways() {
    let result = caller(TWO, "").add().unwrap();
    caller(TWO, "").check(&result).unwrap();
    let moved = r#""addresses": [{"address": "10.1.0.5/16", "gateway": "10.1.0.2"}]"#;
    assert_eq!(
        caller(moved, "").check(&result).unwrap_err().msg,
        "static: Failed to match addr 10.1.0.5 on interface eth0"
    );
    let without = r#""addresses": [{"address": "10.1.0.5/16"}]"#;
    caller(without, "").check(&result).unwrap();
    let caller = caller(TWO, "");
    assert!(caller.check(&AddResult::default()).is_ok(), "as with the reference");
    caller.del(Some(&result)).unwrap();
    caller.del(None).unwrap();
}
