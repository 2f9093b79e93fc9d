//! What is configured in a namespace, as sorted lines of text.
//!
//! It leaves out what changes by itself (counters, timers, carrier, how far duplicate address detection has got) and
//! what says nothing (interface indices), so that two snapshots differ only if somebody configured something.

mod ruleset;
mod sysctls;
mod traffic;

use std::fmt;
use std::fmt::Write as _;

use netlink_packet_route::link::LinkFlags;

use crate::address::Address;
use crate::bridge::BridgePort;
use crate::error::Result;
use crate::link::Link;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, ip, string, u8_at, u32_at};
use crate::netlink::{Request, rtm};
use crate::netns::Netns;
use crate::route::{Route, RouteFilter};

pub(super) use ruleset::nft;

/// `IFF_UP` and others that somebody sets, as opposed to those that the kernel reports.
const SETTABLE: [(LinkFlags, &str); 6] = [
    (LinkFlags::Up, "up"),
    (LinkFlags::Broadcast, "broadcast"),
    (LinkFlags::Pointopoint, "pointopoint"),
    (LinkFlags::Noarp, "noarp"),
    (LinkFlags::Promisc, "promisc"),
    (LinkFlags::Allmulti, "allmulti"),
];

/// `IFA_F_TENTATIVE`, `IFA_F_OPTIMISTIC` and `IFA_F_DADFAILED`: how far duplicate address detection has got.
const DAD: u32 = 0x40 | 0x04 | 0x08;

/// One line for each thing that is configured: links with what is special about ports of bridges, VLANs, addresses, routes
/// of all tables, policy rules, queueing disciplines with their classes and filters, the kernel parameters that network
/// plugins change where they are not what the kernel begins with, and nft's rule set, rules in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    lines: Vec<String>,
}

impl Snapshot {
    /// Looks at everything. The nft rule set is read with the program `nft`; if that is missing, a line says so.
    pub fn take(netns: &Netns) -> Result<Snapshot> {
        let links = netns.links()?;
        let name_of = |index: u32| match links.iter().find(|link| link.index == index) {
            Some(link) => link.name.clone(),
            None => format!("number {index}"),
        };
        let mut lines: Vec<String> = links.iter().map(|link| describe_link(link, &name_of)).collect();
        for link in &links {
            let addresses = netns.addresses(link)?;
            lines.extend(addresses.iter().map(|address| describe_address(&link.name, address)));
        }
        let routes = netns.routes(RouteFilter::new())?;
        lines.extend(routes.iter().map(|route| describe_route(route, &name_of)));
        lines.extend(dump(netns, rtm::GETRULE, "list rules", &[0; 12], read_rule)?);
        lines.extend(traffic::lines(netns, &name_of)?);
        lines.extend(vlans(netns, &links)?);
        lines.extend(sysctls::lines(netns, &links)?);
        lines.extend(netns.run(ruleset::lines)?);
        lines.sort();
        Ok(Snapshot { lines })
    }

    /// The lines, sorted.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What has to be taken away (`- …`) and added (`+ …`) to get from this to the other. Empty if they are the same.
    pub fn diff(&self, other: &Snapshot) -> Vec<String> {
        let (mut old, mut new) = (self.lines.iter().peekable(), other.lines.iter().peekable());
        let mut differences = Vec::new();
        loop {
            match (old.peek(), new.peek()) {
                (Some(left), Some(right)) if left == right => {
                    old.next();
                    new.next();
                }
                (Some(left), Some(right)) if left > right => {
                    differences.extend(new.next().map(|line| format!("+ {line}")));
                }
                (Some(_), _) => differences.extend(old.next().map(|line| format!("- {line}"))),
                (None, Some(_)) => differences.extend(new.next().map(|line| format!("+ {line}"))),
                (None, None) => return differences,
            }
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn describe_link(link: &Link, name_of: &dyn Fn(u32) -> String) -> String {
    let flags = SETTABLE.iter().filter(|(flag, _)| link.flags & flag.bits() != 0).map(|(_, name)| *name);
    let flags: Vec<_> = flags.collect();
    let mut line = format!("link {}: {} [{}]", link.name, link.kind().unwrap_or("plain"), flags.join(" "));
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name} {value}");
        }
    };
    add("mtu", Some(link.mtu.to_string()));
    add("mac", link.mac.map(|mac| mac.to_string()));
    add("controller", link.controller().map(name_of));
    add("alias", link.alias.as_ref().map(|alias| format!("{alias:?}")));
    add("group", Some(link.group).filter(|&group| group != 0).map(|group| group.to_string()));
    add("qlen", Some(link.tx_queue_len.to_string()));
    add("vlan", link.vlan_id().map(|id| id.to_string()));
    add("vlan_filtering", link.vlan_filtering().filter(|&on| on).map(|_on| "on".into()));
    add("port", link.port().map(|port| format!("[{}]", describe_port(port))));
    line
}

/// Where a port differs from what it is at first.
fn describe_port(port: BridgePort) -> String {
    let BridgePort { hairpin, isolated, learning, unicast_flood, state: _, bridge: _ } = port;
    let special = [
        (hairpin, "hairpin"),
        (isolated, "isolated"),
        (!learning, "no learning"),
        (!unicast_flood, "no flood"),
    ];
    let special: Vec<_> = special.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    special.join(", ")
}

/// Which VLANs bridges and their ports are in, where any bridge heeds them.
fn vlans(netns: &Netns, links: &[Link]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    if !links.iter().any(|link| link.vlan_filtering() == Some(true)) {
        return Ok(lines);
    }
    for link in links.iter().filter(|link| link.port().is_some() || link.vlan_filtering().is_some()) {
        for vlans in netns.vlans(link)? {
            let mut line = format!("vlan of {}: {}-{}", link.name, vlans.first, vlans.last);
            line.push_str(if vlans.pvid { " pvid" } else { "" });
            line.push_str(if vlans.untagged { " untagged" } else { "" });
            lines.push(line);
        }
    }
    Ok(lines)
}

fn describe_address(link: &str, address: &Address) -> String {
    let mut line = format!("address of {link}: {} scope {}", address.net, address.scope);
    if let Some(peer) = address.peer {
        let _ = write!(line, " peer {peer}");
    }
    if let Some(broadcast) = address.broadcast {
        let _ = write!(line, " broadcast {broadcast}");
    }
    if let Some(label) = address.label.as_ref().filter(|label| *label != link) {
        let _ = write!(line, " label {label}");
    }
    let _ = write!(line, " flags {:#x}", address.flags & !DAD);
    line
}

fn describe_route(route: &Route, name_of: &dyn Fn(u32) -> String) -> String {
    let mut line = format!("route in table {}: {}", route.table, route.dst);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(line, " {name} {value}");
        }
    };
    add("via", route.gateway.map(|gateway| gateway.to_string()));
    add("dev", route.device.map(name_of));
    for hop in &route.hops {
        add("via", hop.gateway.map(|gateway| gateway.to_string()));
        add("dev", Some(name_of(hop.device)));
        add("weight", Some(hop.weight.to_string()));
    }
    add("metric", Some(route.priority.to_string()));
    add("scope", Some(route.scope.to_string()));
    add("src", route.source.map(|source| source.to_string()));
    add("mtu", route.mtu.map(|mtu| mtu.to_string()));
    add("advmss", route.advmss.map(|advmss| advmss.to_string()));
    add("protocol", Some(route.protocol.to_string()));
    add("type", Some(route.kind.to_string()));
    line
}

/// Dumps a table of which nothing but a header needs to be sent.
fn dump<T>(
    netns: &Netns,
    kind: u16,
    doing: &'static str,
    header: &[u8],
    read: fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>> {
    let body = Body::new(header);
    netns.socket().dump(&Request { kind, body: &body, doing, what: &"" }, read)
}

/// `struct fib_rule_hdr` and `FRA_…`, `include/uapi/linux/fib_rules.h`.
fn read_rule(body: &[u8]) -> Option<String> {
    let (family, action) = (u8_at(body, 0)?, u8_at(body, 7)?);
    let (dst_length, src_length) = (u8_at(body, 1)?, u8_at(body, 2)?);
    let mut details: Vec<String> = Vec::new();
    let mut priority = 0;
    let invert = if u32_at(body, 8)? & 2 != 0 { " not" } else { "" };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            1 => details.push(format!("to {}/{dst_length}", ip(value)?)),
            2 => details.push(format!("from {}/{src_length}", ip(value)?)),
            3 => details.push(format!("iif {}", string(value))),
            6 => priority = u32_at(value, 0)?,
            // No prefix length is suppressed.
            14 if value == [0xff; 4] => {}
            15 => details.push(format!("table {}", u32_at(value, 0)?)),
            17 => details.push(format!("oif {}", string(value))),
            21 => details.push(format!("protocol {}", u8_at(value, 0)?)),
            _ => details.push(format!("{kind}={}", hex(value))),
        }
    }
    details.sort();
    let family = if family == 2 { "ipv4" } else { "ipv6" };
    Some(format!("rule {family} {priority}:{invert} {} action {action}", details.join(" ")))
}

pub(super) fn read_all(body: &[u8]) {
    let _ = read_rule(body);
    traffic::read_all(body);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(lines: &[&str]) -> Snapshot {
        Snapshot { lines: lines.iter().map(|line| (*line).to_owned()).collect() }
    }

    #[test]
    fn differences_count_repeated_lines() {
        let before = snapshot(&["a", "b", "b", "d"]);
        let after = snapshot(&["b", "c", "d", "d"]);
        assert_eq!(before.diff(&after), ["- a", "- b", "+ c", "+ d"]);
        assert!(before.diff(&before).is_empty());
        assert_eq!(before.diff(&snapshot(&[])), ["- a", "- b", "- b", "- d"]);
    }
}
