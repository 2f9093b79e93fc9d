//! ptp: connects the container to the host alone, by a pair of virtual Ethernet links.
//!
//! On the host it makes: the host's end of the pair, with the gateways' addresses and a route to each address of the container;
//! where it is asked for, the addresses in the table for masquerading, which is shared and stays. In the container: the other
//! end, with its addresses, and routes that all lead to the host.
//!
//! Keys, defaults and texts are those of the [reference](https://www.cni.dev/plugins/current/main/ptp/).

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_sdk::linux::route::MAIN_TABLE;
use cni_sdk::linux::{AddressSpec, RouteFilter, RouteSpec, Scope};
use cni_sdk::steps::masquerade::{self, Backend, Masquerade};
use cni_sdk::steps::{self, Configuration, Dad, DnsKey, Subnets, Veth, VethSpec, compare, forwarding, names};
use cni_sdk::{
    Add, AddResult, Check, Code, Del, Doing, Error, Gc, IpConfig, Link, Netns, Plugin, Result, Route, Status,
    Undo,
};
use ipnet::IpNet;
use serde::Deserialize;

/// Where the container's interface stands in the result, behind the host's end.
const CONTAINER: i64 = 1;

/// The configuration. Rules between keys are the business of ADD.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ptp {
    /// What leaves the container's subnets comes from an address of the host.
    ip_masq: bool,
    /// `nftables`, the default, or `iptables`.
    ip_masq_backend: Option<String>,
    /// The largest packet in octets, of both ends of the pair; 0 leaves it to the kernel.
    mtu: i64,
    dns: DnsKey,
}

impl Plugin for Ptp {
    const TYPE: &'static str = "ptp";
    const SUMMARY: &'static str =
        "connects the container to the host alone, by a pair of virtual Ethernet links";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let (mtu, backend) = (self.mtu()?, self.backend()?);
        let (host, container) = (Netns::current()?, Netns::open(&cx.netns)?);

        // The link comes first: an ADD that came twice fails here, before addresses are asked for.
        let veth = Veth::add(cx, &host, &container, VethSpec { mtu, ..VethSpec::default() }, undo)?;
        // And it goes first: the addresses are somebody else's once they have been given back.
        let mut reserved = Undo::new();
        let mut result = cx.net.ipam_add(&mut reserved)?;
        undo.prepend(reserved);

        complete(&mut result)?;
        let (v4, v6) = (has(&result, IpAddr::is_ipv4), has(&result, IpAddr::is_ipv6));
        forwarding::ensure(&host, v4, v6)
            .map_err(|e| Error::failed(format!("Could not enable IP forwarding: {e}")))?;
        result.interfaces =
            vec![steps::host_interface(&veth.host), steps::container_interface(&container, &veth.container)];
        if v6 {
            // As long as its link-local address is checked, the host cannot ask who has which address: packets to the container
            // would wait for a second.
            let accept_dad = format!("net/ipv6/conf/{}/accept_dad", veth.host.name);
            steps::write_unless_refused(&host, &[(&accept_dad, "0")])?;
        }
        // Nobody is on the link who could have the same addresses.
        let dad = if v6 { Dad::Off } else { Dad::AsConfigured };
        let how = Configuration { subnets: Subnets::BehindGateway, dad, arp_notify: false };
        steps::configure(&container, &veth.container, &result, how, undo)?;
        reach_container(&host, &veth.host, &result)?;
        if let Some(backend) = backend {
            Masquerade::new(&host, &cx.net.name, &cx.id).add(backend, &addresses(&result), undo)?;
        }
        result.dns = self.dns.or(result.dns);
        Ok(result)
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let host = Netns::current()?;
        // Nothing may refer to the addresses any more when they are given back.
        steps::all([
            Masquerade::new(&host, &cx.net.name, &cx.id).del(),
            steps::veth::del(cx, &host),
            cx.net.ipam_del(),
        ])
    }

    fn check(&self, cx: &Check) -> Result<()> {
        cx.net.ipam_check()?;
        let result = cx.prev_result()?;
        let (host, container) = (Netns::current()?, Netns::open(&cx.netns)?);
        let eth0 = compare::interface(cx, &container)?;
        if eth0.kind() != Some("veth") {
            let text = format!("Error: Container interface {} not of type veth/p2p", eth0.name);
            return Err(Error::failed(text));
        }
        let mut expected = result.clone();
        expected.routes.extend(gateways(result).into_iter().map(|gateway| Route::to(gateway.into())));
        compare::addresses_and_routes(&container, &eth0, &expected)?;
        check_host(&host, cx, result)?;
        if let Some(backend) = self.backend()? {
            Masquerade::new(&host, &cx.net.name, &cx.id).check(backend, &addresses(result))?;
        }
        Ok(())
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        let host = Netns::current()?;
        steps::all([
            masquerade::gc(&host, &cx.net.name, &cx.valid),
            steps::veth::gc(&cx.net.name, &cx.valid, &host),
            cx.net.ipam_gc(),
        ])
    }

    fn status(&self, cx: &Status) -> Result<()> {
        self.mtu().code(Code::PLUGIN_NOT_AVAILABLE)?;
        let (backend, host) = (self.backend().code(Code::PLUGIN_NOT_AVAILABLE)?, Netns::current()?);
        if cx.net.ipam_type().is_empty() {
            let text = "no plugin name provided";
            return Err(Error::new(Code::PLUGIN_NOT_AVAILABLE, text).with_details("ipam.type is missing"));
        }
        // Of which family the addresses will be is not known; a host without IPv6 is one for IPv4.
        forwarding::status(&host, true, false)
            .map_err(|e| Error::failed(format!("Could not enable IP forwarding: {e}")))
            .code(Code::PLUGIN_NOT_AVAILABLE)?;
        if let Some(backend) = backend {
            masquerade::status(&host, backend)?;
        }
        cx.net.ipam_status()
    }
}

impl Ptp {
    fn mtu(&self) -> Result<Option<u32>> {
        match u32::try_from(self.mtu) {
            Ok(mtu) => Ok(Some(mtu).filter(|mtu| *mtu != 0)),
            Err(_) => Err(Error::failed(format!("invalid mtu {}", self.mtu))),
        }
    }

    /// By what to masquerade, if at all. An unknown word is an error in any case.
    fn backend(&self) -> Result<Option<Backend>> {
        let backend = Backend::parse(self.ip_masq_backend.as_deref())?;
        Ok(self.ip_masq.then_some(backend))
    }
}

/// All addresses are the container's, and have a gateway: their own, or else the first of their family.
fn complete(result: &mut AddResult) -> Result<()> {
    if result.ips.is_empty() {
        return Err(Error::failed("IPAM plugin returned missing IP config"));
    }
    let first = |v6: bool| {
        let of_family = |gateway: &IpAddr| gateway.is_ipv6() == v6;
        result.ips.iter().filter_map(|ip| ip.gateway).find(of_family)
    };
    let first = [first(false), first(true)];
    let taken: BTreeSet<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
    for ip in &mut result.ips {
        let (address, is_v6) = (ip.address, ip.address.addr().is_ipv6());
        let refuse =
            |why: String| Err(Error::failed(format!("address {address} cannot be used by ptp: {why}")));
        let Some(gateway) = ip.gateway.or(first[usize::from(is_v6)]) else {
            return refuse(
                "the IPAM plugin gave it no gateway, and everything is reached by way of one".into(),
            );
        };
        if gateway.is_ipv6() != is_v6 {
            return refuse(format!("its gateway {gateway} is of another version of IP"));
        }
        if taken.contains(&gateway) {
            return refuse(format!(
                "its gateway {gateway}, which the host is to have, is the container's own"
            ));
        }
        (ip.gateway, ip.interface) = (Some(gateway), Some(CONTAINER));
    }
    Ok(())
}

/// Gives the host's end the gateways' addresses, and adds a route to each of the container's. They go with the link.
fn reach_container(host: &Netns, end: &Link, result: &AddResult) -> Result<()> {
    for gateway in gateways(result) {
        let address = AddressSpec::new(gateway.into());
        let address = if gateway.is_ipv6() { address.without_dad() } else { address };
        host.add_address(end, address)
            .map_err(|e| Error::failed(format!("failed to add IP addr {gateway} to {:?}: {e}", end.name)))?;
    }
    for ip in &result.ips {
        let address = ip.address.addr();
        let route = RouteSpec::new(address.into()).device(end.index).scope(Scope::HOST);
        host.add_route(&route).map_err(|e| {
            let error = Error::failed(format!("failed to add route on host: {e}"));
            if !e.is_exists() {
                return error;
            }
            error.with_details(format!(
                "the host has a route to {address} already: somebody else has the address"
            ))
        })?;
    }
    Ok(())
}

/// The gateways, each once.
fn gateways(result: &AddResult) -> BTreeSet<IpAddr> {
    result.ips.iter().filter_map(|ip| ip.gateway).collect()
}

fn addresses(result: &AddResult) -> Vec<IpNet> {
    result.ips.iter().map(|ip| ip.address).collect()
}

fn has(result: &AddResult, family: impl Fn(&IpAddr) -> bool) -> bool {
    result.ips.iter().any(|ip: &IpConfig| family(&ip.address.addr()))
}

/// Checks the host's end, what it has, and that packets are passed on.
fn check_host(host: &Netns, cx: &Check, result: &AddResult) -> Result<()> {
    // One that a Go plugin has made has another name, which the result knows.
    let known = result.interfaces.iter().find(|interface| interface.sandbox.is_empty());
    let derived = names::host_end(&cx.net.name, &cx.id);
    let name = known.map_or(derived.as_str(), |interface| interface.name.as_str());
    let failed = |why: String| Err(Error::failed(format!("the host's end {name:?} {why}")));
    let Some(end) = host.link_if_exists(name)?.filter(|end| end.kind() == Some("veth")) else {
        return failed("is missing".into());
    };
    if !end.is_up() {
        return failed("is down".into());
    }
    let found = host.addresses(&end)?;
    for gateway in gateways(result) {
        if !found.iter().any(|address| address.net.addr() == gateway) {
            return failed(format!("has not the gateway's address {gateway}"));
        }
    }
    let routes = host.routes(RouteFilter::new().table(MAIN_TABLE).device(end.index))?;
    for ip in &result.ips {
        let address = ip.address.addr();
        if !routes.iter().any(|route| route.dst == IpNet::from(address)) {
            return failed(format!("is not where the host's route to {address} leads"));
        }
    }
    let (v4, v6) = (has(result, IpAddr::is_ipv4), has(result, IpAddr::is_ipv6));
    match forwarding::is_off(host, v4, v6)? {
        Some(key) => Err(Error::failed(format!("the host does not forward: {key} is 0"))),
        None => Ok(()),
    }
}
