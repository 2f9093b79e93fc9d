//! What tests can need of a kernel that not every kernel has.
//!
//! Each is found out by trying it, in a namespace that is thrown away: there is no other way to know.

use crate::conntrack::FlowFilter;
use crate::error::{Error, Result};
use crate::family::IpFamily;
use crate::iptables::{Iptables, Protocol};
use crate::link::Link;
use crate::link::spec::{IpvlanMode, LinkSpec, MacvlanMode, VethPeer};
use crate::netns::Netns;
use crate::nftables::{Family, Ruleset, Table};
use crate::traffic::Tbf;
use crate::undo::Undo;

/// Where the programs of iptables are looked for.
pub const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Dummy links.
pub fn dummy(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::dummy("probe"))
}

/// Bridges.
pub fn bridge(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::bridge("probe"))
}

/// Pairs of virtual Ethernet links.
pub fn veth(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::veth("probe", VethPeer::new("probed")))
}

/// Intermediate functional blocks.
pub fn ifb(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::ifb("probe"))
}

/// Macvlan links.
pub fn macvlan(netns: &Netns) -> Result<()> {
    made_on_parent(netns, |parent| LinkSpec::macvlan("probe", parent, MacvlanMode::Bridge))
}

/// VLANs on bridges.
pub fn bridge_vlans(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::bridge("probe").vlan_filtering(true))
}

/// Links for one VLAN of another.
pub fn vlan(netns: &Netns) -> Result<()> {
    made_on_parent(netns, |parent| LinkSpec::vlan("probe", parent, 7))
}

/// Ipvlan links.
pub fn ipvlan(netns: &Netns) -> Result<()> {
    made_on_parent(netns, |parent| LinkSpec::ipvlan("probe", parent, IpvlanMode::L2))
}

/// Virtual routing tables.
pub fn vrf(netns: &Netns) -> Result<()> {
    made(netns, LinkSpec::vrf("probe", 4711))
}

/// The programs of iptables, and a kernel that they work with.
pub fn iptables(netns: &Netns) -> Result<()> {
    let works = Iptables::find(Protocol::Ipv4, SBIN).and_then(|iptables| iptables.list(netns, "nat"));
    works.map(|_listing| ()).map_err(|error| error.with_errno(crate::Errno::OPNOTSUPP))
}

/// The programs of the older iptables, and a kernel that they work with.
pub fn legacy_iptables(netns: &Netns) -> Result<()> {
    let works = Iptables::find_legacy(Protocol::Ipv4, SBIN).and_then(|iptables| iptables.list(netns, "nat"));
    works.map(|_listing| ()).map_err(|error| error.with_errno(crate::Errno::OPNOTSUPP))
}

/// Files that have to be installed, for needs of one's own.
///
/// # Errors
///
/// The first that is missing.
pub fn installed(files: &[&str]) -> Result<()> {
    match files.iter().find(|file| !std::path::Path::new(file).exists()) {
        Some(missing) => Err(Error::os("find", *missing, crate::Errno::OPNOTSUPP)),
        None => Ok(()),
    }
}

/// nf_tables, with or without programs.
pub fn nftables(netns: &Netns) -> Result<()> {
    netns.ensure_nft(&Ruleset::new().table(&Table::new(Family::Inet, "probe")))
}

/// Token bucket filters.
pub fn tbf(netns: &Netns) -> Result<()> {
    let tbf = Tbf { rate: 1_000_000, burst: 10_000, limit: 10_000 };
    missing_if_not_found(netns.add_tbf("lo", &tbf, &mut Undo::new()))
}

/// Filters of what arrives, which redirect it.
pub fn redirection(netns: &Netns) -> Result<()> {
    let mut undo = Undo::new();
    let probe = netns.add_link(LinkSpec::ifb("probe"), &mut undo)?;
    missing_if_not_found(
        netns.add_ingress("lo", &mut undo).and_then(|()| netns.redirect_ingress("lo", probe.index)),
    )
}

/// Connection tracking, and netlink to it.
pub fn conntrack(netns: &Netns) -> Result<()> {
    netns.flows(&FlowFilter::new(IpFamily::V4, 17)).map(|_flows| ())
}

/// The program `tc`, and a kernel with the queueing disciplines and filters of most.
#[allow(clippy::disallowed_methods, reason = "nothing of this crate makes them")]
pub fn traffic_control(netns: &Netns) -> Result<()> {
    let works = netns.run(|| {
        let command = "ip link add p type veth peer q && tc qdisc add dev p root handle 1: htb && \
                       tc filter add dev p parent 1: u32 match u32 0 0 action mirred egress redirect dev q && \
                       tc qdisc add dev p clsact";
        std::process::Command::new("sh").args(["-c", command]).output()
    })?;
    match works {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::os("run tc", "", crate::Errno::OPNOTSUPP)),
    }
}

/// The program `nft`, and a kernel that it works with.
pub fn nft(netns: &Netns) -> Result<()> {
    let listed = netns.run(|| super::snapshot::nft(&["list", "tables"]))?;
    listed.map(|_tables| ()).map_err(|why| Error::new("run nft", "", why).with_errno(crate::Errno::OPNOTSUPP))
}

/// User namespaces, inside of which we are.
#[allow(clippy::disallowed_methods, reason = "only a process with one thread can try it")]
pub fn user_namespaces(_: &Netns) -> Result<()> {
    let tried = std::process::Command::new("unshare").args(["--user", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err(Error::os("create user namespace", "", crate::Errno::OPNOTSUPP)),
    }
}

/// Of queueing disciplines, filters and actions, the kernel says that it does not find them.
fn missing_if_not_found(tried: Result<()>) -> Result<()> {
    tried.map_err(|error| if error.is_gone() { error.with_errno(crate::Errno::OPNOTSUPP) } else { error })
}

fn made(netns: &Netns, spec: LinkSpec) -> Result<()> {
    netns.add_link(spec, &mut Undo::new()).map(|_link| ())
}

fn made_on_parent(netns: &Netns, spec: impl Fn(&Link) -> LinkSpec) -> Result<()> {
    let mut undo = Undo::new();
    let parent = netns.add_link(LinkSpec::veth("parent", VethPeer::new("other")), &mut undo)?;
    netns.add_link(spec(&parent), &mut undo).map(|_link| ())
}
