//! static: hands out the addresses that the configuration or the runtime says.
//!
//! On the host it makes nothing, in the container it makes nothing: it only answers. Nobody is kept from having the same
//! address twice. It is the [reference](https://www.cni.dev/plugins/current/ipam/static/)'s in all but its errors' places.

use std::net::IpAddr;

use cni_sdk::spec::address;
use cni_sdk::{Add, AddResult, Args, Check, Del, Dns, Error, IpConfig, Plugin, Result, Route, Undo, Version};
use ipnet::IpNet;

/// The configuration: that of the plugin that makes the interface, of which these parts are ours.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StaticIps {
    /// `ipam`: our own section.
    pub ipam: Option<Ipam>,
    /// `runtimeConfig`: what the runtime sets for this container.
    pub runtime_config: Requests,
    /// `args`: the same by an older convention.
    pub args: Conventions,
}

/// The section `ipam`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Ipam {
    /// `addresses`: what every attachment gets, unless the runtime says otherwise.
    pub addresses: Vec<Address>,
    /// `routes`: become the result's.
    pub routes: Vec<Route>,
    /// `dns`: becomes the result's.
    pub dns: Dns,
}

/// An address as it is written. It is text here, so that DEL can decode what ADD would refuse.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(default)]
pub struct Address {
    /// `address`: with its prefix, `10.1.0.5/16`.
    pub address: String,
    /// `gateway`: of its subnet, if there is one.
    pub gateway: String,
}

/// The section `args`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Conventions {
    /// `cni`: that of the conventions.
    pub cni: Requests,
}

/// The sections `args.cni` and `runtimeConfig`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Requests {
    /// `ips`: take the place of all other addresses. Those of `runtimeConfig`, for networks with the capability `ips`, take the
    /// place of those of `args.cni`.
    pub ips: Vec<String>,
}

impl Plugin for StaticIps {
    const TYPE: &'static str = "static";
    const SUMMARY: &'static str = "hands out the addresses that the configuration or the runtime says";

    fn add(&self, cx: &Add, _: &mut Undo) -> Result<AddResult> {
        let ipam = self.ipam()?;
        let ips = self.addresses(&cx.args, cx.net.cni_version)?;
        Ok(AddResult { ips, routes: ipam.routes.clone(), dns: ipam.dns.clone(), ..AddResult::default() })
    }

    fn del(&self, _: &Del) -> Result<()> {
        Ok(())
    }

    fn check(&self, cx: &Check) -> Result<()> {
        let expected = self.addresses(&cx.args, cx.net.cni_version)?;
        let found = &cx.prev_result()?.ips;
        for ip in expected {
            let address = ip.address.addr();
            let same = found.iter().find(|other| other.address.addr() == address);
            if same.is_some_and(|other| ip.gateway.is_some() && ip.gateway != other.gateway) {
                let ifname = &cx.id.ifname;
                return Err(Error::failed(format!(
                    "static: Failed to match addr {address} on interface {ifname}"
                )));
            }
        }
        Ok(())
    }
}

impl StaticIps {
    fn ipam(&self) -> Result<&Ipam> {
        self.ipam.as_ref().ok_or_else(|| Error::failed("IPAM config missing 'ipam' key"))
    }

    /// The addresses of this attachment. CNI_ARGS adds to those of the configuration, `args` takes the place of both, and
    /// `runtimeConfig` that of all.
    fn addresses(&self, args: &Args, version: Version) -> Result<Vec<IpConfig>> {
        let configured = &self.ipam()?.addresses;
        let from_args = from_args(args)?;
        let conventional = requested(&self.args.cni.ips)?;
        let runtime = requested(&self.runtime_config.ips)?;
        let addresses = match (conventional, runtime) {
            (_, runtime) if !runtime.is_empty() => runtime,
            (conventional, _) if !conventional.is_empty() => conventional,
            _ => configured
                .iter()
                .map(Address::read)
                .chain(from_args.into_iter().map(Ok))
                .collect::<Result<_>>()?,
        };
        let ipv4 = addresses.iter().filter(|ip| ip.address.addr().is_ipv4()).count();
        if version < Version::V0_3_0 && (ipv4 > 1 || addresses.len() - ipv4 > 1) {
            let text = format!("CNI version {version} does not support more than 1 address per family");
            return Err(Error::failed(text));
        }
        Ok(addresses)
    }
}

impl Address {
    fn read(&self) -> Result<IpConfig> {
        let text = &self.address;
        let what = "the 'address' field is expected to be in CIDR notation";
        let address = cidr(text, what)?;
        let gateway = match self.gateway.as_str() {
            "" => None,
            text => Some(
                address::parse_ip(text)
                    .ok_or_else(|| Error::failed(format!("invalid IP address: {text}")))?,
            ),
        };
        Ok(IpConfig { address, gateway, interface: None })
    }
}

/// The addresses in CNI_ARGS. Each gateway there is for those of them in whose subnet it is.
fn from_args(args: &Args) -> Result<Vec<IpConfig>> {
    let [ips, gateways] = args.load(["IP", "GATEWAY"])?;
    let items =
        |list: Option<&str>| list.filter(|l| !l.is_empty()).map(|l| l.split(',').map(String::from).collect());
    let (ips, gateways): (Vec<String>, Vec<String>) =
        (items(ips).unwrap_or_default(), items(gateways).unwrap_or_default());
    let what = "the 'ip' field is expected to be in CIDR notation";
    let mut found: Vec<IpConfig> =
        ips.iter().map(|text| Ok(without_gateway(cidr(text.trim(), what)?))).collect::<Result<_>>()?;
    for text in gateways {
        let gateway: IpAddr = address::parse_ip(text.trim())
            .ok_or_else(|| Error::failed(format!("invalid gateway address: {text}")))?;
        let on_link = found.iter_mut().filter(|ip| ip.address.contains(&gateway));
        on_link.for_each(|ip| ip.gateway = Some(gateway));
    }
    Ok(found)
}

fn requested(ips: &[String]) -> Result<Vec<IpConfig>> {
    let what = "an entry in the 'ips' field is NOT in CIDR notation";
    ips.iter().map(|text| Ok(without_gateway(cidr(text, what)?))).collect()
}

fn cidr(text: &str, what: &str) -> Result<IpNet> {
    address::parse_cidr(text).ok_or_else(|| Error::failed(format!("{what}, got: '{text}'")))
}

fn without_gateway(address: IpNet) -> IpConfig {
    IpConfig { address, gateway: None, interface: None }
}
