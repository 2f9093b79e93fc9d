//! Addresses: what is read is printed so that it is read the same.

#![no_main]

use cni_spec::address::{parse_cidr, parse_ip};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(net) = parse_cidr(text) {
        assert_eq!(parse_cidr(&net.to_string()), Some(net));
    }
    if let Some(ip) = parse_ip(text) {
        assert_eq!(parse_ip(&ip.to_string()), Some(ip));
        assert!(parse_cidr(&format!("{text}/8")).is_some());
    }
});
