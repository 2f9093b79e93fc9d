//! The shapes of a result before 1.0.0, to and from the newest.
//!
//! An address's family is that of the address, not of the key or the `version` that stands beside it.
//!
//! | to | lost |
//! |---|---|
//! | 0.3, 0.4 | mtu, socketPath and pciID of interfaces |
//! | 0.1, 0.2 | interfaces, all but the first address of a family, what a route has beyond `dst` and `gw`, routes of a family without address |

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AddResult, Dns, Interface, IpConfig, Route, is_zero};
use crate::{Version, address};

/// 0.1.0 and 0.2.0: one address a family.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Result020 {
    #[serde(default, skip_deserializing)]
    cni_version: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Family>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Family>,
    #[serde(default)]
    dns: LegacyDns,
}

#[derive(Serialize, Deserialize)]
struct Family {
    #[serde(deserialize_with = "address::cidr")]
    ip: IpNet,
    #[serde(default, deserialize_with = "address::optional_ip", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<LegacyRoute>,
}

/// 0.3.0, 0.3.1 and 0.4.0.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Result040 {
    #[serde(default, skip_deserializing)]
    cni_version: Option<Version>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<LegacyInterface>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<LegacyIp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<LegacyRoute>,
    #[serde(default)]
    dns: LegacyDns,
}

#[derive(Serialize, Deserialize)]
struct LegacyInterface {
    #[serde(default)]
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sandbox: String,
}

#[derive(Serialize, Deserialize)]
struct LegacyIp {
    #[serde(default, skip_deserializing)]
    version: &'static str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    #[serde(deserialize_with = "address::cidr")]
    address: IpNet,
    #[serde(default, deserialize_with = "address::optional_ip", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// A route with its keys in the order of those versions.
#[derive(Serialize, Deserialize)]
struct LegacyRoute {
    #[serde(deserialize_with = "address::cidr")]
    dst: IpNet,
    #[serde(default, deserialize_with = "address::optional_ip", skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    advmss: u32,
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

/// DNS with its keys in the order of those versions; there it is always printed, even empty.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct LegacyDns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

impl Result020 {
    /// Nothing where there is no address at all: that shape cannot say it.
    pub(super) fn new(result: &AddResult, version: Version) -> Option<Self> {
        let family = |v4: bool| {
            let ip = result.ips.iter().find(|ip| ip.address.addr().is_ipv4() == v4)?;
            let routes = result.routes.iter().filter(|r| r.dst.addr().is_ipv4() == v4);
            let routes = routes.map(|r| LegacyRoute::from(Route { gw: r.gw, ..Route::to(r.dst) })).collect();
            Some(Family { ip: ip.address, gateway: ip.gateway, routes })
        };
        let (ip4, ip6) = (family(true), family(false));
        (ip4.is_some() || ip6.is_some()).then(|| Result020 {
            cni_version: Some(version),
            ip4,
            ip6,
            dns: result.dns.clone().into(),
        })
    }
}

impl From<Result020> for AddResult {
    fn from(old: Result020) -> Self {
        let mut result = AddResult { dns: old.dns.into(), ..AddResult::default() };
        for family in [old.ip4, old.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { address: family.ip, gateway: family.gateway, interface: None });
            result.routes.extend(family.routes.into_iter().map(Route::from));
        }
        result
    }
}

impl Result040 {
    pub(super) fn new(result: &AddResult, version: Version) -> Self {
        let result = result.clone();
        Result040 {
            cni_version: Some(version),
            interfaces: result.interfaces.into_iter().map(LegacyInterface::from).collect(),
            ips: result.ips.into_iter().map(LegacyIp::from).collect(),
            routes: result.routes.into_iter().map(LegacyRoute::from).collect(),
            dns: result.dns.into(),
        }
    }
}

impl From<Result040> for AddResult {
    fn from(old: Result040) -> Self {
        AddResult {
            dns: old.dns.into(),
            interfaces: old.interfaces.into_iter().map(Interface::from).collect(),
            ips: old.ips.into_iter().map(IpConfig::from).collect(),
            routes: old.routes.into_iter().map(Route::from).collect(),
        }
    }
}

impl From<Interface> for LegacyInterface {
    fn from(Interface { name, mac, sandbox, .. }: Interface) -> Self {
        LegacyInterface { name, mac, sandbox }
    }
}

impl From<LegacyInterface> for Interface {
    fn from(LegacyInterface { name, mac, sandbox }: LegacyInterface) -> Self {
        Interface { name, mac, sandbox, ..Interface::default() }
    }
}

impl From<IpConfig> for LegacyIp {
    fn from(IpConfig { address, gateway, interface }: IpConfig) -> Self {
        LegacyIp { version: if address.addr().is_ipv4() { "4" } else { "6" }, interface, address, gateway }
    }
}

impl From<LegacyIp> for IpConfig {
    fn from(LegacyIp { address, gateway, interface, .. }: LegacyIp) -> Self {
        IpConfig { address, gateway, interface }
    }
}

impl From<Route> for LegacyRoute {
    fn from(Route { advmss, dst, gw, mtu, priority, scope, table }: Route) -> Self {
        LegacyRoute { dst, gw, mtu, advmss, priority, table, scope }
    }
}

impl From<LegacyRoute> for Route {
    fn from(LegacyRoute { dst, gw, mtu, advmss, priority, table, scope }: LegacyRoute) -> Self {
        Route { advmss, dst, gw, mtu, priority, scope, table }
    }
}

impl From<Dns> for LegacyDns {
    fn from(Dns { domain, nameservers, options, search }: Dns) -> Self {
        LegacyDns { nameservers, domain, search, options }
    }
}

impl From<LegacyDns> for Dns {
    fn from(LegacyDns { nameservers, domain, search, options }: LegacyDns) -> Self {
        Dns { domain, nameservers, options, search }
    }
}
