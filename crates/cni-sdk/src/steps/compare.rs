//! CHECK: a result against the kernel.
//!
//! Only what the result says is looked for. What else there is may be the work of other plugins, which may also have moved
//! routes to tables of their own.

use std::net::IpAddr;

use cni_linux::route::LOCAL_TABLE;
use cni_linux::{Link, Netns, RouteFilter};
use cni_spec::{AddResult, Error, IpConfig, Result, Route};
use ipnet::IpNet;

use crate::request::Check;

/// The container's interface, which has to be there with the hardware address that the result says.
///
/// One request.
///
/// # Errors
/// Which of it is not so, in the reference's words.
pub fn interface(cx: &Check, container: &Netns) -> Result<Link> {
    let (prev_result, ifname) = (cx.prev_result()?, cx.id.ifname.as_str());
    let netns = cx.netns.to_string_lossy();
    let of_name = || prev_result.interfaces.iter().filter(|interface| interface.name == ifname);
    let Some(expected) = of_name().find(|interface| interface.sandbox == netns) else {
        let other = of_name().next().map(|interface| interface.sandbox.as_str()).unwrap_or_default();
        let text = format!("Sandbox in prevResult {other} doesn't match configured netns: {netns}");
        return Err(Error::failed(text));
    };
    let link = container.link_if_exists(ifname)?.ok_or_else(|| {
        Error::failed(format!("Container Interface name in prevResult: {ifname} not found"))
    })?;
    let mac = link.mac().map(|mac| mac.to_string()).unwrap_or_default();
    if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&mac) {
        let text = format!("Interface {ifname} Mac {} doesn't match container Mac: {mac}", expected.mac);
        return Err(Error::failed(text));
    }
    Ok(link)
}

/// The interface has the addresses that the result gives it, with their prefixes, and there are routes to their subnets and
/// those of the result. Two requests.
///
/// A subnet of one address needs no route. A default route has to go by the gateway that the result says. A route for which it
/// says no table may be in any.
///
/// # Errors
/// The first that is missing.
#[doc(alias("ValidateExpectedInterfaceIPs", "ValidateExpectedRoute"))]
pub fn addresses_and_routes(container: &Netns, link: &Link, result: &AddResult) -> Result<()> {
    let is_on_link = |ip: &&IpConfig| {
        // A result that does not say whose they are is taken at its word.
        result.interface_of(ip).map_or(ip.interface.is_none(), |interface| interface.name == link.name)
    };
    let ips: Vec<_> = result.ips.iter().filter(is_on_link).collect();
    let found = if ips.is_empty() { Vec::new() } else { container.addresses(link)? };
    for ip in &ips {
        if !found.iter().any(|address| address.net == ip.address) {
            let text = format!("Failed to match addr {} on interface {}", ip.address, link.name);
            return Err(Error::failed(text));
        }
    }
    if ips.is_empty() && result.routes.is_empty() {
        return Ok(());
    }
    let table: Vec<_> = container.routes(RouteFilter::new())?;
    let table: Vec<_> = table.into_iter().filter(|route| route.table != LOCAL_TABLE).collect();
    for ip in &ips {
        let subnet = ip.address.trunc();
        let is_one = subnet.prefix_len() == subnet.max_prefix_len();
        if !is_one && !table.iter().any(|route| route.dst == subnet) {
            let text = format!("Failed to find Gateway {subnet} for interface {}", link.name);
            return Err(Error::failed(text).with_details("there is no route to the address's own subnet"));
        }
    }
    match result.routes.iter().find(|wanted| !table.iter().any(|route| is_as(route, wanted))) {
        Some(missing) => Err(not_found(missing)),
        None => Ok(()),
    }
}

/// The link has the address, whatever else it has. One request.
///
/// # Errors
/// It has not.
pub fn has_address(netns: &Netns, link: &Link, address: IpNet) -> Result<()> {
    if netns.addresses(link)?.iter().any(|found| found.net == address) {
        return Ok(());
    }
    Err(Error::failed(format!("Failed to match addr {address} on interface {}", link.name)))
}

fn is_as(route: &cni_linux::Route, wanted: &Route) -> bool {
    let by = |gateway: IpAddr| {
        route.gateway == Some(gateway) || route.hops.iter().any(|hop| hop.gateway == Some(gateway))
    };
    route.dst == wanted.dst.trunc()
        && wanted.gw.is_none_or(by)
        && wanted.table.filter(|table| *table != 0).is_none_or(|table| route.table == table)
        && (wanted.priority == 0 || route.priority == wanted.priority)
}

fn not_found(wanted: &Route) -> Error {
    let Route { dst, gw, table, .. } = wanted;
    let via = gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
    let table = table.map(|table| format!(" table {table}")).unwrap_or_default();
    Error::failed(format!("Expected Route {dst}{via}{table} not found in routing table"))
}
