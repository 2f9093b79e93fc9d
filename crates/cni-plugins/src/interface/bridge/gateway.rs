//! The gateway of the bridge's containers: an address of the host, on the bridge or in one of its VLANs.
//!
//! Addresses and interfaces are shared and stay. What they are is not decided here.

use cni_sdk::linux::{AddressSpec, Errno, Link, LinkChange, LinkRef, LinkSpec, Mac, VethPeer};
use cni_sdk::steps::names;
use cni_sdk::{Error, Netns, Result};
use ipnet::IpNet;

use super::vlan_filter;

/// The link has this address. One request where it has it already; only where it was new is looked whether others are in its way,
/// which `force` deletes.
///
/// IPv6: it can be used at once, without duplicate address detection, for containers need it at once.
pub(super) fn ensure(host: &Netns, link: &Link, address: IpNet, force: bool) -> Result<()> {
    let name = &link.name;
    let failed = |why: String| Error::failed(format!("failed to set bridge addr: {why}"));
    let cannot_add = |e: cni_sdk::linux::Error| {
        let error = failed(format!("could not add IP address {address} to {name:?}: {e}"));
        let off = e.is_denied() && address.addr().is_ipv6();
        if off {
            error.with_details(format!("IPv6 is off there: net/ipv6/conf/{name}/disable_ipv6"))
        } else {
            error
        }
    };
    let spec = AddressSpec::new(address).broadcast();
    let spec = if address.addr().is_ipv6() { spec.without_dad() } else { spec };
    match host.add_address(link, spec.clone()) {
        Err(there) if there.is_exists() => return Ok(()),
        added => added.map_err(cannot_add)?,
    }
    let found = host.addresses(link)?;
    let others: Vec<IpNet> =
        found.iter().map(|other| other.net).filter(|other| is_in_the_way(*other, address)).collect();
    if !others.is_empty() && !force {
        host.del_address(link, address)?;
        let there = others.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
        return Err(failed(format!("{name:?} already has an IP address different from {address}"))
            .with_details(format!("it has {there}")));
    }
    for other in others {
        match host.del_address(link, other) {
            // It went with one before it, which was the first of their subnet.
            Err(gone) if gone.errno() == Some(Errno::ADDRNOTAVAIL) => {}
            deleted => deleted.map_err(|e| failed(e.to_string()))?,
        }
        // Of one subnet, the first takes those that came after it along.
        match host.add_address(link, spec.clone()) {
            Err(there) if there.is_exists() => {}
            added => added.map_err(cannot_add)?,
        }
    }
    pin_mac(host, link)
}

/// The interface of the host that is in the VLAN, `<bridge>.<vlan>`, up: one end of a veth pair whose other end is a port of the
/// bridge. Whatever has the name already is taken.
pub(super) fn ensure_vlan_interface(host: &Netns, bridge: &Link, vlan: u16, preserve: bool) -> Result<Link> {
    let name = format!("{}.{vlan}", bridge.name);
    let made = make_vlan_interface(host, bridge, &name, vlan, preserve);
    made.map_err(|e| {
        // The reference's spelling, which is what is searched for.
        let text = format!("failed to create vlan interface: faild to create vlan gateway {name:?}: {e}");
        Error::failed(text)
    })
}

fn make_vlan_interface(host: &Netns, bridge: &Link, name: &str, vlan: u16, preserve: bool) -> Result<Link> {
    let interface = match host.link_if_exists(name)? {
        Some(there) => there,
        None => {
            let peer = VethPeer::new(name).mtu(bridge.mtu).mac(Mac::random()?);
            let port = LinkSpec::veth(names::vlan_port(&bridge.name, vlan), peer)
                .controller(bridge.index)
                .mtu(bridge.mtu)
                .mac(Mac::random()?)
                .up();
            host.ensure_link(port)?;
            host.link(name)?
        }
    };
    if let Some(port) = interface.peer().filter(|_| interface.kind() == Some("veth")) {
        vlan_filter::ensure_access(host, LinkRef::Index(port), vlan, preserve)?;
    }
    if !interface.is_up() {
        host.change_link(&interface, &LinkChange::new().up())?;
    }
    Ok(interface)
}

/// Whether the reference would not have one beside the other: any of IPv4, and of IPv6 one whose network overlaps.
fn is_in_the_way(other: IpNet, address: IpNet) -> bool {
    match (other, address) {
        (IpNet::V4(_), IpNet::V4(_)) => other != address,
        (IpNet::V6(_), IpNet::V6(_)) => {
            other != address && (other.contains(&address.addr()) || address.contains(&other.addr()))
        }
        _ => false,
    }
}

/// A bridge that others made changes its hardware address with its ports, unless one was set: then containers would send to a
/// gateway that is no more.
fn pin_mac(host: &Netns, link: &Link) -> Result<()> {
    let now = host.link(link)?;
    match now.mac() {
        Some(mac) => Ok(host.set_mac(link, mac)?),
        None => Ok(()),
    }
}
