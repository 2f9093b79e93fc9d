//! The kernel parameters that network plugins change, where they are not what the kernel begins with.
//!
//! Not all that there are: some change by themselves, and some hundred for each link would hide what matters.

use crate::error::Result;
use crate::link::Link;
use crate::netns::Netns;

/// Of the namespace, and what they are at first.
const GLOBAL: [(&str, &str); 1] = [("net/ipv4/ip_forward", "0")];

/// Of each link, and of `all` and `default` (`Documentation/networking/ip-sysctl.rst`).
const IPV4: [(&str, &str); 8] = [
    ("accept_local", "0"),
    ("arp_announce", "0"),
    ("arp_ignore", "0"),
    ("arp_notify", "0"),
    ("forwarding", "0"),
    ("proxy_arp", "0"),
    ("route_localnet", "0"),
    ("rp_filter", "0"),
];
const IPV6: [(&str, &str); 10] = [
    ("accept_dad", "1"),
    ("accept_ra", "1"),
    ("autoconf", "1"),
    ("disable_ipv6", "0"),
    ("enhanced_dad", "1"),
    ("forwarding", "0"),
    ("keep_addr_on_down", "0"),
    ("ndisc_notify", "0"),
    ("optimistic_dad", "0"),
    ("proxy_ndp", "0"),
];

pub(super) fn lines(netns: &Netns, links: &[Link]) -> Result<Vec<String>> {
    netns.visit(|| {
        let mut lines = Vec::new();
        let mut look = |key: &str, at_first: &str| {
            // What this kernel does not have cannot have been changed.
            let value = std::fs::read_to_string(format!("/proc/sys/{key}")).unwrap_or_default();
            let value = value.trim();
            if !value.is_empty() && value != at_first {
                lines.push(format!("sysctl {key} = {value}"));
            }
        };
        for (key, at_first) in GLOBAL {
            look(key, at_first);
        }
        let links = links.iter().map(|link| link.name.as_str());
        for link in ["all", "default"].into_iter().chain(links) {
            for (family, keys) in [("ipv4", IPV4.as_slice()), ("ipv6", &IPV6)] {
                for (key, at_first) in keys {
                    look(&format!("net/{family}/conf/{link}/{key}"), at_first);
                }
            }
        }
        lines
    })
}
