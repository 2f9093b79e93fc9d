//! What can be seen of a network on a host: links, addresses, routes, firewall rules and files, as lines.
//!
//! What changes by itself is left out, and what the kernel makes by itself for every address, so that two looks differ
//! only if somebody did something in between, and each line says something new.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use cni_linux::{Address, Netns, Route, RouteFilter};

use super::room::Room;
use crate::cli::failure::{Failure, Result};

/// One look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traces(Vec<String>);

impl Traces {
    /// Looks at the room's host: its network, and the files that plugins keep.
    pub(super) fn of_host(room: &Room) -> Result<Traces> {
        let mut lines = network(&room.host)?;
        lines.extend(firewall());
        lines.extend(Room::files());
        lines.sort();
        Ok(Traces(lines))
    }

    /// Looks at a container's network.
    pub(super) fn of_container(netns: &Netns) -> Result<Traces> {
        let mut lines = network(netns)?;
        lines.sort();
        Ok(Traces(lines))
    }

    /// What is here and was not there `before`; then what was there and is here no more.
    pub(super) fn since(&self, before: &Traces) -> (Vec<String>, Vec<String>) {
        let missing = |from: &Traces, other: &Traces| {
            from.0.iter().filter(|line| !other.0.contains(line)).cloned().collect()
        };
        (missing(self, before), missing(before, self))
    }

    /// What was looked at.
    pub(super) fn summary(&self) -> String {
        let count = |kind: &str| self.0.iter().filter(|line| line.starts_with(kind)).count();
        let (links, addresses, routes) = (count("link "), count("address "), count("route "));
        let plural = |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
        let mut parts = vec![
            plural(links, "link", "links"),
            plural(addresses, "address", "addresses"),
            plural(routes, "route", "routes"),
        ];
        if !self.0.iter().any(|line| line == NFT_MISSING) {
            parts.push(plural(count("nft "), "firewall rule", "firewall rules"));
        }
        parts.join(", ")
    }
}

/// Stands for the firewall's rules where they cannot be listed.
const NFT_MISSING: &str = "the program nft is not there, so firewall rules were not looked at";

/// Routes that the kernel made; `include/uapi/linux/rtnetlink.h`.
const RTPROT_KERNEL: u8 = 2;

fn network(netns: &Netns) -> Result<Vec<String>> {
    let failed = |e: cni_linux::Error| Failure::new(e.to_string());
    let links = netns.links().map_err(failed)?;
    let name_of =
        |index: u32| links.iter().find(|link| link.index == index).map_or("?", |link| link.name.as_str());
    let mut lines = Vec::new();
    for link in &links {
        let state = if link.is_up() { "up" } else { "down" };
        lines.push(format!(
            "link {} ({}, {state}, mtu {})",
            link.name,
            link.kind().unwrap_or("plain"),
            link.mtu
        ));
        let addresses = netns.addresses(link).map_err(failed)?;
        let chosen = addresses.iter().filter(|address| !is_automatic(address));
        lines.extend(chosen.map(|address| format!("address {} on {}", address.net, link.name)));
    }
    for route in netns.routes(RouteFilter::new()).map_err(failed)?.iter().filter(|route| !is_implied(route)) {
        let via = route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let device = route.device.map(|index| format!(" on {}", name_of(index))).unwrap_or_default();
        lines.push(format!("route {}{via}{device} in table {}", route.dst, route.table));
    }
    Ok(lines)
}

/// The kernel gives every link an address of its own for IPv6.
pub(super) fn is_automatic(address: &Address) -> bool {
    matches!(address.net.addr(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The kernel makes routes of its own for each address, and takes them away with it.
fn is_implied(route: &Route) -> bool {
    route.protocol == RTPROT_KERNEL
}

/// The rules of the namespace that this process is in, each with the table and the chain that it stands in.
fn firewall() -> Vec<String> {
    let mut nft = Command::new("nft");
    nft.args(["--stateless", "list", "ruleset"]).stdin(Stdio::null());
    let Ok(listed) = nft.output() else { return vec![NFT_MISSING.to_owned()] };
    let listed = String::from_utf8_lossy(&listed.stdout);
    let (mut blocks, mut lines): (Vec<&str>, Vec<String>) = (Vec::new(), Vec::new());
    for line in listed.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_suffix('{') {
            _ if line == "}" => drop(blocks.pop()),
            Some(opened) => {
                blocks.push(opened.trim_end());
                lines.push(format!("nft {}", blocks.join(" / ")));
            }
            // What a chain is for: a part of the chain, which has its line.
            None if line.starts_with("type ") => {}
            None => lines.push(format!("nft {} / {line}", blocks.join(" / "))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_are_compared_both_ways() {
        let traces = |lines: &[&str]| Traces(lines.iter().map(|l| (*l).to_owned()).collect());
        let (before, after) = (traces(&["link lo", "link a"]), traces(&["link b", "link lo"]));
        assert_eq!(after.since(&before), (vec!["link b".to_owned()], vec!["link a".to_owned()]));
        assert_eq!(before.since(&before), (vec![], vec![]));
    }

    #[test]
    fn the_summary_counts_what_was_looked_at() {
        let traces = Traces(vec!["link lo".into(), "address 127.0.0.1/8 on lo".into()]);
        assert_eq!(traces.summary(), "1 link, 1 address, 0 routes, 0 firewall rules");
        let traces = Traces(vec!["link lo".into(), "link a".into(), NFT_MISSING.into()]);
        assert_eq!(traces.summary(), "2 links, 0 addresses, 0 routes");
    }
}
