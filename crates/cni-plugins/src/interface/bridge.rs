//! bridge: connects containers to each other, and to the host, by a switch.
//!
//! On the host it makes: the bridge; on it, or on the interface `<bridge>.<vlan>`, the gateway's addresses; tables of
//! nf_tables. These are shared and stay. Of each attachment: the host's end of a veth pair, a port of the bridge; its addresses in
//! the table for masquerading, its hardware address in the one against spoofing. In the container: the other end of the pair, which
//! takes its addresses and routes with it.
//!
//! Keys, defaults and texts are those of the [reference](https://www.cni.dev/plugins/current/main/bridge/).

mod check;
mod gateway;
mod spoof_check;
mod vlan_filter;

use std::net::IpAddr;
use std::time::Duration;

use cni_sdk::linux::{Errno, Link, LinkChange, LinkSpec, Mac, OperState};
use cni_sdk::steps::{self, Configuration, Dad, DnsKey, Veth, VethSpec, compare, forwarding, masquerade};
use cni_sdk::{
    Add, AddResult, Check, Code, Del, Doing, Error, Gc, Netns, Network, Plugin, Result, Route, Status, Undo,
};
use ipnet::IpNet;
use serde::Deserialize;

use masquerade::{Backend, Masquerade};
use vlan_filter::{PortVlans, Trunk};

/// How long a port may take until it carries packets. It takes less than a millisecond, but for a host that is overloaded.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);

/// RFC 8200, section 5.
const LEAST_MTU_OF_IPV6: u32 = 1280;

/// Where the container's interface stands in the result, behind the bridge and the host's end.
const CONTAINER: i64 = 2;

/// The configuration. Rules between keys are the business of ADD.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Bridge {
    /// `bridge`: the bridge's name.
    #[serde(rename = "bridge")]
    name: String,
    /// The bridge has the gateway's addresses.
    is_gateway: bool,
    /// The container's default routes lead there, which implies that it has them.
    is_default_gateway: bool,
    /// Addresses of the bridge that are in the way of the gateway's are deleted.
    force_address: bool,
    /// What leaves the container's subnets comes from an address of the host.
    ip_masq: bool,
    /// `nftables`, the default, or `iptables`.
    ip_masq_backend: Option<String>,
    /// The largest packet in octets, of a bridge that is new and of both ends of the pair; 0 leaves it to the kernel.
    mtu: i64,
    /// What the container sends may come back to it.
    hairpin_mode: bool,
    /// The bridge takes what is not for it.
    promisc_mode: bool,
    /// The VLAN of what comes without a tag; 0 is none.
    vlan: i64,
    /// VLANs of which packets come and go with a tag.
    vlan_trunk: Option<Vec<Trunk>>,
    /// The port stays in the VLANs that the bridge puts new ports in.
    preserve_default_vlan: bool,
    /// `macspoofchk`: what does not come from the container's hardware address is dropped.
    #[serde(rename = "macspoofchk")]
    mac_spoof_check: bool,
    /// `enabledad`: IPv6 addresses are checked for duplicates before they can be used.
    #[serde(rename = "enabledad")]
    enable_dad: bool,
    /// The container's interface stays down; not with an IPAM plugin.
    disable_container_interface: bool,
    /// Containers reach the host, but not each other.
    port_isolation: bool,
    dns: DnsKey,
    args: ArgsKey,
    runtime_config: MacKey,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ArgsKey {
    cni: MacKey,
}

/// `mac`: the hardware address of the container's interface; empty for a random one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MacKey {
    mac: String,
}

impl Default for Bridge {
    fn default() -> Self {
        Bridge {
            name: "cni0".into(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: None,
            preserve_default_vlan: false,
            mac_spoof_check: false,
            enable_dad: false,
            disable_container_interface: false,
            port_isolation: false,
            dns: DnsKey::default(),
            args: ArgsKey::default(),
            runtime_config: MacKey::default(),
        }
    }
}

impl Plugin for Bridge {
    const TYPE: &'static str = "bridge";
    const SUMMARY: &'static str =
        "connects containers to each other and the host by a switch, as their gateway if asked to";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let wanted = self.wanted(&cx.net)?;
        let mac = self.requested_mac(cx)?;
        let (host, container) = (Netns::current()?, Netns::open(&cx.netns)?);

        let bridge = self.ensure_bridge(&host, &wanted)?;
        refuse_to_end_ipv6(&host, &bridge, wanted.mtu)?;
        let spec = VethSpec { mtu: wanted.mtu, mac, bridge: Some(bridge.index) };
        // The link comes first: an ADD that came twice fails here, before addresses are asked for.
        let veth = Veth::add(cx, &host, &container, spec, undo)?;
        self.set_port(&host, &veth.host)?;
        wanted.vlans.set(&host, &veth.host)?;
        if self.mac_spoof_check {
            spoof_check::add(&host, cx, &veth, undo)?;
        }
        // And it goes first: the addresses are somebody else's once they have been given back.
        let mut reserved = Undo::new();
        let ipam = if wanted.layer3 { cx.net.ipam_add(&mut reserved)? } else { AddResult::default() };
        undo.prepend(reserved);
        let at = Attachment { host, container, bridge, veth };
        let mut result = at.describe(ipam);
        let mut gateway = None;
        if wanted.layer3 {
            gateway = self.add_layer3(cx, &at, &wanted, &mut result, undo)?;
        } else if !self.disable_container_interface {
            at.container.change_link(&at.veth.container, &LinkChange::new().up())?;
        }
        self.wait_for_port(&at, &mut result)?;
        self.tell_neighbours(&at, gateway.as_ref(), &result)?;
        result.dns = self.dns.or(result.dns);
        Ok(result)
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let host = Netns::current()?;
        // Nothing may refer to the addresses any more when they are given back. A socket of nf_tables, when it is closed,
        // waits until what was deleted by it is gone for good; it is while the link is deleted.
        steps::all([
            Masquerade::new(&host, &cx.net.name, &cx.id).del(),
            steps::veth::del(cx, &host),
            spoof_check::del(&host, &cx.net.name, &cx.id),
            cx.net.ipam_del(),
        ])
    }

    fn check(&self, cx: &Check) -> Result<()> {
        let (host, container) = (Netns::current()?, Netns::open(&cx.netns)?);
        cx.net.ipam_check()?;
        let result = cx.prev_result()?;

        let bridge = self.check_bridge(&host, result)?;
        let nic = compare::interface(cx, &container)?;
        let port = self.check_port(&host, &bridge, &nic, result)?;
        self.port_vlans()?.check(&host, &port)?;
        if self.mac_spoof_check {
            spoof_check::check(&host, &port, &nic)?;
        }
        if cx.net.has_ipam() {
            compare::addresses_and_routes(&container, &nic, result)?;
            if self.has_gateway() {
                self.check_gateway(&host, &bridge, result)?;
            }
            if let Some(backend) = self.masquerade()? {
                let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
                Masquerade::new(&host, &cx.net.name, &cx.id).check(backend, &addresses)?;
            }
        }
        Ok(())
    }

    fn gc(&self, cx: &Gc) -> Result<()> {
        let host = Netns::current()?;
        steps::all([
            steps::veth::gc(&cx.net.name, &cx.valid, &host),
            spoof_check::gc(&host, &cx.net.name, &cx.valid),
            masquerade::gc(&host, &cx.net.name, &cx.valid),
            cx.net.ipam_gc(),
        ])
    }

    fn status(&self, cx: &Status) -> Result<()> {
        let host = Netns::current()?;
        let wanted = self.wanted(&cx.net).code(Code::PLUGIN_NOT_AVAILABLE)?;
        self.bridge_status(&host).code(Code::PLUGIN_NOT_AVAILABLE)?;
        if self.mac_spoof_check {
            spoof_check::status(&host).code(Code::PLUGIN_NOT_AVAILABLE)?;
        }
        if wanted.layer3 && self.has_gateway() {
            // Whether IPv6 has to be forwarded depends on the addresses.
            forwarding::status(&host, true, false)
                .map_err(|e| Error::failed(format!("failed to enable forwarding: {e}")))
                .code(Code::PLUGIN_NOT_AVAILABLE)?;
        }
        if let Some(backend) = wanted.masquerade {
            masquerade::status(&host, backend)?;
        }
        cx.net.ipam_status()
    }
}

/// What the configuration comes to, once it is known to make sense.
struct Wanted {
    layer3: bool,
    mtu: Option<u32>,
    vlans: PortVlans,
    /// The VLAN that the gateway is in.
    gateway_vlan: Option<u16>,
    masquerade: Option<Backend>,
}

/// What an ADD has made so far.
struct Attachment {
    host: Netns,
    container: Netns,
    bridge: Link,
    veth: Veth,
}

impl Attachment {
    /// Its interfaces, with what the IPAM plugin said.
    fn describe(&self, ipam: AddResult) -> AddResult {
        let container = steps::container_interface(&self.container, &self.veth.container);
        let interfaces =
            vec![steps::host_interface(&self.bridge), steps::host_interface(&self.veth.host), container];
        AddResult { interfaces, ..ipam }
    }
}

impl Bridge {
    /// The rules between keys.
    fn wanted(&self, net: &Network) -> Result<Wanted> {
        let layer3 = !net.ipam_type().is_empty();
        let vlans = self.port_vlans()?;
        if self.hairpin_mode && self.promisc_mode {
            let text = "cannot set hairpin mode and promiscuous mode at the same time";
            return Err(Error::failed(text));
        }
        if self.disable_container_interface && layer3 {
            return Err(Error::failed("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        // RFC 791; the kernel judges the rest.
        let mtu = u32::try_from(self.mtu).ok().filter(|mtu| *mtu == 0 || *mtu >= 68);
        let mtu = mtu.ok_or_else(|| Error::failed(format!("invalid mtu {}", self.mtu)))?;
        let gateway_vlan = u16::try_from(self.vlan).ok().filter(|vlan| *vlan != 0);
        let masquerade = self.masquerade()?.filter(|_| layer3);
        Ok(Wanted { layer3, mtu: Some(mtu).filter(|mtu| *mtu != 0), vlans, gateway_vlan, masquerade })
    }

    fn masquerade(&self) -> Result<Option<Backend>> {
        self.ip_masq.then(|| Backend::parse(self.ip_masq_backend.as_deref())).transpose()
    }

    fn port_vlans(&self) -> Result<PortVlans> {
        PortVlans::new(self.vlan, self.vlan_trunk.as_deref(), self.preserve_default_vlan)
    }

    /// The hardware address that was asked for; of several, the one nearest to the runtime.
    fn requested_mac(&self, cx: &Add) -> Result<Option<Mac>> {
        let [from_args] = cx.args.load(["MAC"])?;
        let asked = [self.runtime_config.mac.as_str(), &self.args.cni.mac, from_args.unwrap_or_default()];
        Ok(asked.into_iter().find(|mac| !mac.is_empty()).map(str::parse).transpose()?)
    }

    /// The bridge, up. One that is new has an address of its own, so that it does not change with its ports.
    fn ensure_bridge(&self, host: &Netns, wanted: &Wanted) -> Result<Link> {
        let name = &self.name;
        let spec = LinkSpec::bridge(name.as_str()).mtu(wanted.mtu).mac(Mac::random()?).up();
        let spec = if self.filters_vlans() { spec.vlan_filtering(true) } else { spec };
        let bridge = host.ensure_link(spec).map_err(|e| {
            Error::failed(format!("failed to create bridge {name:?}: could not add {name:?}: {e}"))
        })?;
        self.refuse_other_kinds(&bridge)?;
        let promiscuous = self.promisc_mode && !bridge.is_promiscuous();
        if promiscuous || !bridge.is_up() {
            let change = LinkChange::new().up();
            let change = if promiscuous { change.promiscuous(true) } else { change };
            host.change_link(&bridge, &change)
                .map_err(|e| Error::failed(format!("failed to set {name:?} up: {e}")))?;
        }
        steps::write_unless_refused(host, &[(&format!("net/ipv6/conf/{name}/accept_ra"), "0")])?;
        Ok(bridge)
    }

    fn refuse_other_kinds(&self, link: &Link) -> Result<()> {
        let kind = link.kind().unwrap_or("device");
        if kind == "bridge" {
            return Ok(());
        }
        let text = format!("{:?} already exists but is not a bridge", self.name);
        Err(Error::failed(text).with_details(format!("it is a {kind}")))
    }

    fn filters_vlans(&self) -> bool {
        self.vlan != 0 || self.vlan_trunk.is_some()
    }

    /// Whether there is a bridge, or could be. Changes nothing.
    fn bridge_status(&self, host: &Netns) -> Result<()> {
        let bridge = host.link_if_exists(&self.name)?;
        if let Some(bridge) = &bridge {
            self.refuse_other_kinds(bridge)?;
        }
        if bridge.is_none_or(|bridge| self.filters_vlans() && bridge.vlan_filtering().is_none()) {
            // Whether the kernel can do it is found out by doing it, elsewhere.
            let spec = LinkSpec::bridge(&self.name);
            let spec = if self.filters_vlans() { spec.vlan_filtering(true) } else { spec };
            Netns::temporary()?.ensure_link(spec)?;
        }
        Ok(())
    }

    /// What is special about the port: one request, if anything is.
    fn set_port(&self, host: &Netns, port: &Link) -> Result<()> {
        let (doing, change) = match (self.hairpin_mode, self.port_isolation) {
            (false, false) => return Ok(()),
            (true, false) => ("setup hairpin mode", LinkChange::new().hairpin(true)),
            (false, true) => ("set isolated on", LinkChange::new().isolated(true)),
            (true, true) => ("setup hairpin mode", LinkChange::new().hairpin(true).isolated(true)),
        };
        host.change_link(port, &change)
            .map_err(|e| Error::failed(format!("failed to {doing} for {:?}: {e}", port.name)))
    }

    /// The addresses on the container's interface, with all that they need on the host. Returns the host's interface that is
    /// their gateway, if it is.
    fn add_layer3(
        &self,
        cx: &Add,
        at: &Attachment,
        wanted: &Wanted,
        result: &mut AddResult,
        undo: &mut Undo,
    ) -> Result<Option<Link>> {
        if result.ips.is_empty() {
            return Err(Error::failed("IPAM plugin returned missing IP config"));
        }
        self.complete(result);
        let mut gateway = None;
        if self.has_gateway() {
            refuse_odd_gateways(result)?;
            let on = match wanted.gateway_vlan {
                None => at.bridge.clone(),
                Some(vlan) => {
                    let interface = gateway::ensure_vlan_interface(
                        &at.host,
                        &at.bridge,
                        vlan,
                        self.preserve_default_vlan,
                    )?;
                    result.interfaces.push(steps::host_interface(&interface));
                    interface
                }
            };
            let gateways = gateways(result);
            gateways.iter().try_for_each(|gw| gateway::ensure(&at.host, &on, *gw, self.force_address))?;
            let any = |v6| gateways.iter().any(|gw| gw.addr().is_ipv6() == v6);
            forwarding::ensure(&at.host, any(false), any(true))
                .map_err(|e| Error::failed(format!("failed to enable forwarding: {e}")))?;
            gateway = Some(on);
        }
        if let Some(backend) = wanted.masquerade {
            let addresses: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
            Masquerade::new(&at.host, &cx.net.name, &cx.id).add(backend, &addresses, undo)?;
        }
        let how = Configuration { dad: self.dad(), arp_notify: true, ..Configuration::default() };
        steps::configure(&at.container, &at.veth.container, result, how, undo)?;
        Ok(gateway)
    }

    fn has_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    fn dad(&self) -> Dad {
        if self.enable_dad { Dad::On } else { Dad::Off }
    }

    /// All addresses are the container's. Adds the gateways and default routes that the configuration asks for, and the IPAM
    /// plugin has not said.
    fn complete(&self, result: &mut AddResult) {
        let mut has_default = [false, false];
        for ip in &mut result.ips {
            ip.interface = Some(CONTAINER);
            if !self.has_gateway() {
                continue;
            }
            let gateway = *ip.gateway.get_or_insert_with(|| first_of(ip.address));
            let found = &mut has_default[usize::from(gateway.is_ipv6())];
            if self.is_default_gateway && !*found {
                *found = true;
                add_default_route(&mut result.routes, gateway);
            }
        }
    }

    /// Waits until the port carries packets. Hardware addresses may be others then than they were.
    fn wait_for_port(&self, at: &Attachment, result: &mut AddResult) -> Result<()> {
        let works = |link: &Link| self.disable_container_interface || link.oper_state() == OperState::Up;
        let port = at.host.wait_for_link(&at.veth.host, PORT_TIMEOUT, works)?;
        if !works(&port) {
            return Err(Error::failed(format!("bridge port in error state: {}", port.oper_state())));
        }
        if self.port_isolation && port.port().is_some_and(|port| !port.isolated) {
            let text =
                format!("failed to set isolated on for {:?}: the kernel cannot isolate ports", port.name);
            return Err(Error::failed(text));
        }
        result.interfaces[1] = steps::host_interface(&port);
        if let Some(mac) = port.port().and_then(|port| port.bridge) {
            result.interfaces[0].mac = mac.to_string();
        }
        Ok(())
    }

    /// Tells the neighbours who has the addresses now, if any of them may remember somebody else; what was sent before the port
    /// carried packets was lost.
    ///
    /// Every port gets a copy, a thousand on a full host. So nothing is sent where the host, who is the gateway, remembers
    /// nobody: a container that has used its network has made itself known there.
    fn tell_neighbours(&self, at: &Attachment, gateway: Option<&Link>, result: &AddResult) -> Result<()> {
        let usable = |ip: &IpAddr| ip.is_ipv4() || self.dad() == Dad::Off;
        let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).filter(usable).collect();
        let mac = at.veth.container.mac();
        let is_remembered = |address: &IpAddr| match gateway.map(|link| at.host.neighbour(link, *address)) {
            Some(Ok(known)) => known.is_some() && known != mac,
            // Nobody knows, as before Linux 5.0.
            Some(Err(_)) | None => true,
        };
        if !addresses.iter().any(is_remembered) {
            return Ok(());
        }
        let nic = &at.veth.container;
        let told = match at.container.announce(nic, &addresses) {
            // IPv6 has not noticed yet that the interface is up, which it does a moment after the port.
            Err(e) if e.errno() == Some(Errno::NETUNREACH) => {
                let is_up = |link: &Link| link.oper_state() == OperState::Up;
                at.container.wait_for_link(nic, PORT_TIMEOUT, is_up)?;
                at.container.announce(nic, &addresses)
            }
            told => told,
        };
        match told {
            // It is good to have: not every container may, a host that is overloaded drops it, and what has been changed in the
            // container meanwhile is not ours.
            Err(e) if e.is_denied() || e.is_unsupported() || is_passing(e.errno()) => Ok(()),
            announced => Ok(announced?),
        }
    }
}

/// Why an announcement may be lost.
fn is_passing(errno: Option<Errno>) -> bool {
    let passing =
        [Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN, Errno::NETDOWN, Errno::NETUNREACH, Errno::ADDRNOTAVAIL];
    errno.is_some_and(|errno| passing.contains(&errno))
}

/// A default route by way of this gateway, unless there is one; one that has no gateway gets this.
fn add_default_route(routes: &mut Vec<Route>, gateway: IpAddr) {
    let everywhere = if gateway.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
    let everywhere: IpNet = everywhere.parse().expect("it is a network");
    let mut defaults = routes.iter_mut().filter(|route| route.dst.trunc() == everywhere);
    if defaults.by_ref().any(|route| route.gw.is_some()) {
        return;
    }
    match routes.iter_mut().find(|route| **route == Route::to(everywhere)) {
        Some(route) => route.gw = Some(gateway),
        None => routes.push(Route { gw: Some(gateway), ..Route::to(everywhere) }),
    }
}

/// A bridge takes the smallest mtu of its ports, and loses all its IPv6 addresses by one that is too small for IPv6: everybody's.
fn refuse_to_end_ipv6(host: &Netns, bridge: &Link, mtu: Option<u32>) -> Result<()> {
    let Some(mtu) = mtu.filter(|mtu| *mtu < LEAST_MTU_OF_IPV6) else { return Ok(()) };
    let is_global = |net: &IpNet| matches!(net, IpNet::V6(net) if !net.addr().is_unicast_link_local());
    match host.addresses(bridge)?.iter().map(|found| found.net).find(is_global) {
        Some(lost) => Err(Error::failed(format!(
            "mtu {mtu} would take {lost} from bridge {:?}: IPv6 needs {LEAST_MTU_OF_IPV6}",
            bridge.name
        ))),
        None => Ok(()),
    }
}

/// The bridge would take the container's own address, or a prefix that belongs to the other version of IP.
fn refuse_odd_gateways(result: &AddResult) -> Result<()> {
    for ip in &result.ips {
        let (address, Some(gateway)) = (ip.address.addr(), ip.gateway) else { continue };
        let why = match gateway {
            gateway if gateway == address => "is its own address",
            gateway if gateway.is_ipv6() != address.is_ipv6() => "is of the other version of IP",
            gateway if gateway.is_unspecified() => "is no address",
            _ => continue,
        };
        return Err(Error::failed(format!("the gateway of {address}, {gateway}, {why}")));
    }
    Ok(())
}

/// The addresses that the gateway has, IPv4 first, each once.
fn gateways(result: &AddResult) -> Vec<IpNet> {
    let with_prefix = |ip: &cni_sdk::IpConfig| IpNet::new(ip.gateway?, ip.address.prefix_len()).ok();
    let mut gateways: Vec<IpNet> = result.ips.iter().filter_map(with_prefix).collect();
    gateways.sort_by_key(|gateway| gateway.addr().is_ipv6());
    gateways.dedup();
    gateways
}

/// The address that follows the network's own.
fn first_of(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => std::net::Ipv4Addr::from_bits(net.network().to_bits().wrapping_add(1)).into(),
        IpNet::V6(net) => std::net::Ipv6Addr::from_bits(net.network().to_bits().wrapping_add(1)).into(),
    }
}
