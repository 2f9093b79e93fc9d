//! CHECK: the bridge, its port and the gateway as ADD left them.
//!
//! What the container has of it is [`compare`]'s.

use cni_sdk::linux::Link;
use cni_sdk::linux::bridge::BridgePort;
use cni_sdk::steps::{compare, forwarding};
use cni_sdk::{AddResult, Error, Netns, Result};

use super::{Bridge, gateways};

impl Bridge {
    /// The bridge is there, is one, is up, and has the hardware address that the result says.
    pub(super) fn check_bridge(&self, host: &Netns, result: &AddResult) -> Result<Link> {
        let name = &self.name;
        let Some(expected) = result.interfaces.iter().find(|interface| interface.name == *name) else {
            return Err(Error::failed(format!("Bridge interface {name} not found in prevResult")));
        };
        let Some(bridge) = host.link_if_exists(name)? else {
            return Err(Error::failed(format!("Bridge interface {name} not found")));
        };
        if bridge.kind() != Some("bridge") {
            return Err(Error::failed(format!("Bridge interface {name} is not of type bridge")));
        }
        let mac = bridge.mac().map(|mac| mac.to_string()).unwrap_or_default();
        if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&mac) {
            let text = format!("Bridge interface {name} Mac doesn't match: {mac}");
            return Err(Error::failed(text).with_details(format!("it was {}", expected.mac)));
        }
        if self.promisc_mode && !bridge.is_promiscuous() {
            let text = "configured Promisc Mode true doesn't match current state: false";
            return Err(Error::failed(format!("Bridge interface {name} {text}")));
        }
        if bridge.is_up() {
            Ok(bridge)
        } else {
            Err(Error::failed(format!("Bridge interface {name} is down")))
        }
    }

    /// The other end of the container's interface is one that the result knows, is up, and a port of the bridge like the
    /// configuration wants it.
    pub(super) fn check_port(
        &self,
        host: &Netns,
        bridge: &Link,
        nic: &Link,
        result: &AddResult,
    ) -> Result<Link> {
        let name = &self.name;
        if nic.kind() != Some("veth") {
            return Err(Error::failed(format!("Error: Container interface {} not of type veth", nic.name)));
        }
        let not_found = || Error::failed(format!("CNI veth created for bridge {name} was not found"));
        let peer = nic.peer().ok_or_else(not_found)?;
        let port = host.link_if_exists(peer)?.filter(|port| {
            let is_known = |known: &cni_sdk::Interface| known.name == port.name && known.sandbox.is_empty();
            port.controller() == Some(bridge.index) && result.interfaces.iter().any(is_known)
        });
        let port = port.ok_or_else(not_found)?;
        let wants = |what: &str, wanted: bool, found: fn(BridgePort) -> bool| match port.port().map(found) {
            Some(found) if found != wanted => {
                let text = format!("port {} of bridge {name} has {what} {found}, not {wanted}", port.name);
                Err(Error::failed(text))
            }
            _ => Ok(()),
        };
        wants("hairpin mode", self.hairpin_mode, |port| port.hairpin)?;
        wants("isolation", self.port_isolation, |port| port.isolated)?;
        let down = [nic, &port].into_iter().find(|link| !link.is_up() && !self.disable_container_interface);
        match down {
            Some(link) => Err(Error::failed(format!("interface {} is down", link.name))),
            None => Ok(port),
        }
    }

    /// The host has the gateway's addresses where the containers look for them, and passes on what comes there.
    pub(super) fn check_gateway(&self, host: &Netns, bridge: &Link, result: &AddResult) -> Result<()> {
        let vlan_interface;
        let on = match self.vlan {
            0 => bridge,
            vlan => {
                let name = format!("{}.{vlan}", self.name);
                vlan_interface = host
                    .link_if_exists(&name)?
                    .ok_or_else(|| Error::failed(format!("VLAN gateway interface {name} not found")))?;
                &vlan_interface
            }
        };
        if !on.is_up() {
            return Err(Error::failed(format!("interface {} is down", on.name)));
        }
        let gateways = gateways(result);
        gateways.iter().try_for_each(|gateway| compare::has_address(host, on, *gateway))?;
        let any = |v6| gateways.iter().any(|gateway| gateway.addr().is_ipv6() == v6);
        match forwarding::is_off(host, any(false), any(true))? {
            Some(key) => Err(Error::failed(format!("the host does not forward: {key} is 0"))),
            None => Ok(()),
        }
    }
}
