//! An interface of the kernel as an interface of a result, and a result's addresses and routes on an interface.
//!
//! Making the interface is another step's business, and so is what is on the host.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cni_linux::{Address, AddressSpec, Link, LinkChange, Netns, OperState, RouteSpec, Scope, Undo};
use cni_spec::{AddResult, Error, Interface, IpConfig, Result, Route};
use ipnet::IpNet;

use super::write_unless_refused;

/// How long duplicate address detection may take, as long as with the reference.
const DAD_TIMEOUT: Duration = Duration::from_secs(5);

/// An interface of the container, as a result has it. Asks the kernel nothing.
///
/// The sandbox is the path that the namespace was opened by, which is CNI_NETNS as it came.
pub fn container_interface(container: &Netns, link: &Link) -> Interface {
    let sandbox = container.path().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    Interface { sandbox, ..host_interface(link) }
}

/// An interface of the host, as a result has it: one without sandbox.
pub fn host_interface(link: &Link) -> Interface {
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    Interface { name: link.name.clone(), mac, ..Interface::default() }
}

/// A result that consists of this one interface of the container. Asks the kernel nothing.
pub fn describe(container: &Netns, link: &Link) -> AddResult {
    AddResult { interfaces: vec![container_interface(container, link)], ..AddResult::default() }
}

/// The addresses that the kernel has on this interface, as those of a result's first interface.
///
/// Kernel twin: `ip address show dev …`.
///
/// # Errors
/// The kernel's.
pub fn addresses(netns: &Netns, link: &Link) -> Result<Vec<IpConfig>> {
    let found = netns.addresses(link)?;
    Ok(found.into_iter().map(|a| IpConfig { address: a.net, gateway: None, interface: Some(0) }).collect())
}

/// Whether the container's IPv6 addresses are checked for duplicates before they can be used, which takes a second or two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dad {
    /// As the kernel parameters of the container's namespace have it.
    #[default]
    AsConfigured,
    /// They are not, neither these nor those that the interface makes up itself (`accept_dad` is 0).
    Off,
    /// They are (`accept_dad` and `enhanced_dad` are 1).
    On,
}

impl Dad {
    /// The kernel parameters of an interface that say so.
    fn sysctls(self, ifname: &str) -> Vec<(String, &'static str)> {
        let key = |name: &str| format!("net/ipv6/conf/{ifname}/{name}");
        match self {
            Dad::AsConfigured => Vec::new(),
            Dad::Off => vec![(key("accept_dad"), "0")],
            Dad::On => vec![(key("enhanced_dad"), "1"), (key("accept_dad"), "1")],
        }
    }
}

/// Where the others of the container's subnets are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Subnets {
    /// On the link: they are reached by the route that the kernel makes for an address.
    #[default]
    OnLink,
    /// Behind the gateway, which is alone on the link. There is a route to it, and one to the subnet by way of it; the kernel
    /// makes none. Every address has to have a gateway.
    BehindGateway,
}

/// What [`configure`] does beside what the result says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Configuration {
    /// Where the others of the container's subnets are.
    pub subnets: Subnets,
    /// Duplicate address detection.
    pub dad: Dad,
    /// The kernel tells the neighbours by ARP that the interface has its addresses whenever it comes up or changes its
    /// hardware address (`arp_notify`).
    pub arp_notify: bool,
}

/// Gives the container's interface its addresses, sets it up, and adds the routes, as the result says.
///
/// One request for each address and each route, and one to set it up. Addresses of other interfaces, or of none, are passed
/// over. Kernel parameters are written only where they differ. A route without a gateway goes by way of the first gateway that an
/// address of its family has; without any, or of a scope that has no gateways, it is one to neighbours. If there is an IPv6 gateway, duplicate address detection
/// is waited for unless it is off.
///
/// Addresses and routes go with the interface; what IPv6 needs of `lo` is undone.
///
/// Kernel twin: `ip address add`, `ip link set up`, `ip route prepend`.
///
/// # Errors
/// The reference's texts, with the kernel's words: `failed to add IP addr … to "eth0": …`, and the like.
#[doc(alias = "ConfigureIface")]
pub fn configure(
    container: &Netns,
    link: &Link,
    result: &AddResult,
    how: Configuration,
    undo: &mut Undo,
) -> Result<()> {
    let ips = addresses_of(result, &link.name)?;
    prepare(container, link, how)?;
    if ips.iter().any(|ip| is_v6(ip)) {
        enable_ipv6(container, &link.name, undo)?;
    }
    for ip in &ips {
        let address = AddressSpec::new(ip.address).broadcast();
        let address = if how.dad == Dad::Off && is_v6(ip) { address.without_dad() } else { address };
        let address = if how.subnets == Subnets::BehindGateway { address.without_route() } else { address };
        container.add_address(link, address).map_err(|e| cannot_add(ip, &link.name, &e))?;
    }
    container
        .change_link(link, &LinkChange::new().up())
        .map_err(|e| Error::failed(format!("failed to set {:?} UP: {e}", link.name)))?;
    let gateway = |v6| ips.iter().filter(|ip| is_v6(ip) == v6).find_map(|ip| ip.gateway);
    let gateways = [gateway(false), gateway(true)];
    if gateways[1].is_some() && how.dad != Dad::Off {
        settle(container, link)?;
    }
    if how.subnets == Subnets::BehindGateway {
        reach_by_gateways(container, link, &ips)?;
    }
    result.routes.iter().try_for_each(|route| add_route(container, link, route, gateways))
}

/// Those of the result's addresses that are the interface's.
fn addresses_of<'a>(result: &'a AddResult, ifname: &str) -> Result<Vec<&'a IpConfig>> {
    if result.interfaces.is_empty() {
        return Err(Error::failed("no interfaces to configure"));
    }
    let ips: Vec<_> = result.ips.iter().filter(|ip| ip.interface.is_some()).collect();
    match ips.iter().find(|ip| result.interface_of(ip).is_none_or(|interface| interface.name != ifname)) {
        Some(ip) => Err(Error::failed(format!(
            "failed to add IP addr {} to {ifname:?}: invalid interface index",
            ip.address
        ))),
        None => Ok(ips),
    }
}

/// Sets the kernel parameters that are good to have, before the link comes up.
fn prepare(container: &Netns, link: &Link, how: Configuration) -> Result<()> {
    let notify = (format!("net/ipv4/conf/{}/arp_notify", link.name), "1");
    let wanted: Vec<_> =
        how.arp_notify.then_some(notify).into_iter().chain(how.dad.sysctls(&link.name)).collect();
    let wanted: Vec<_> = wanted.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    if wanted.is_empty() { Ok(()) } else { write_unless_refused(container, &wanted) }
}

/// Runtimes like to turn IPv6 off in containers that they think have none.
fn enable_ipv6(container: &Netns, ifname: &str, undo: &mut Undo) -> Result<()> {
    let key = |link: &str, name: &str| format!("net/ipv6/conf/{link}/{name}");
    let of_lo = key("lo", "disable_ipv6");
    let (disabled, keep) = (key(ifname, "disable_ipv6"), key(ifname, "keep_addr_on_down"));
    let written = container
        .set_sysctls(&[(of_lo.as_str(), "0")], undo)
        .and_then(|()| container.ensure_sysctls(&[(disabled.as_str(), "0"), (keep.as_str(), "1")]));
    match written {
        // Without IPv6 in the kernel the address will be refused, in better words.
        Err(gone) if gone.is_gone() => Ok(()),
        Err(e) => Err(Error::failed(format!("failed to enable IPv6 for interface {ifname:?}: {e}"))),
        Ok(()) => Ok(()),
    }
}

fn cannot_add(ip: &IpConfig, ifname: &str, error: &cni_linux::Error) -> Error {
    Error::failed(format!("failed to add IP addr {} to {ifname:?}: {error}", ip.address))
}

/// Waits for duplicate address detection.
fn settle(container: &Netns, link: &Link) -> Result<()> {
    let name = &link.name;
    let failed = |why: String| Error::failed(format!("failed to settle addresses for {name:?}: {why}"));
    let settled = container.wait_for_addresses(link, DAD_TIMEOUT).or_else(|error| {
        let found = container.addresses(link)?;
        if found.iter().any(Address::is_dad_failed) { Ok(found) } else { Err(error) }
    });
    let settled = settled.map_err(|e| failed(e.to_string()))?;
    if let Some(address) = settled.iter().find(|address| address.is_dad_failed()) {
        return Err(failed(format!("link {name} has address {address} in DADFAILED state")));
    }
    // What carries no packets can detect nothing; that is not for this step to judge.
    if settled.iter().any(Address::is_tentative) && container.link(link)?.oper_state() == OperState::Up {
        let seconds = DAD_TIMEOUT.as_secs();
        return Err(failed(format!("link {name} still has tentative addresses after {seconds} seconds")));
    }
    Ok(())
}

/// Adds a route to each gateway, and one to each subnet that has more than one address, by way of it.
fn reach_by_gateways(container: &Netns, link: &Link, ips: &[&IpConfig]) -> Result<()> {
    let mut reached = BTreeSet::new();
    for ip in ips {
        let (source, subnet) = (ip.address.addr(), ip.address.trunc());
        let gateway = ip.gateway.ok_or_else(|| Error::failed(format!("address {source} has no gateway")))?;
        let to_gateway = RouteSpec::new(gateway.into()).scope(Scope::LINK);
        let to_subnet = RouteSpec::new(subnet).gateway(gateway);
        for (dst, route) in [(IpNet::from(gateway), to_gateway), (subnet, to_subnet)] {
            if dst != IpNet::from(source) && reached.insert(dst) {
                let route = route.device(link.index).source(source);
                container.add_route(&route).map_err(|e| {
                    Error::failed(format!("failed to add route {dst} on {:?}: {e}", link.name))
                })?;
            }
        }
    }
    Ok(())
}

fn add_route(container: &Netns, link: &Link, route: &Route, gateways: [Option<IpAddr>; 2]) -> Result<()> {
    let given = |number: u32| Some(number).filter(|number| *number != 0);
    let scope = Scope(route.scope.unwrap_or(Scope::UNIVERSE.0));
    let usual = gateways[usize::from(route.dst.addr().is_ipv6())];
    let gateway = route.gw.or(usual.filter(|_| scope < Scope::LINK));
    let spec = RouteSpec::new(route.dst)
        .gateway(gateway)
        .device(link.index)
        .scope(scope)
        .table(route.table)
        .priority(given(route.priority))
        .mtu(given(route.mtu))
        .advmss(given(route.advmss));
    container.prepend_route(&spec).map_err(|e| {
        let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let (dst, priority, table) = (route.dst, route.priority, route.table.unwrap_or_default());
        Error::failed(format!(
            "failed to add route '{dst}{via} dev {} metric {priority} (Scope: {scope}, Table: {table})': {e}",
            link.name
        ))
    })
}

fn is_v6(ip: &IpConfig) -> bool {
    ip.address.addr().is_ipv6()
}
