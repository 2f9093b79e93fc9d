//! Routing table entries: add, list, delete.
//!
//! Not policy rules, and not next hop objects.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
    RouteVia,
};

use crate::address::family;
use crate::error::{Errno, Error, Result};
use crate::family::IpFamily;
use crate::link::Link;
use crate::netlink::wire::{attributes, ip, u8_at, u16_at, u32_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;
use crate::scope::Scope;

/// `struct rtmsg`, `struct rtnexthop` and the attributes that are read, `include/uapi/linux/rtnetlink.h`.
const RTMSG: usize = 12;
const RTNEXTHOP: usize = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
/// A route that was cached for one destination.
const RTM_F_CLONED: u32 = 0x200;
const RTNH_F_ONLINK: u32 = 4;
const RTN_UNICAST: u8 = 1;
/// `AF_INET`, `AF_INET6`: the other families of a dump are multicast and MPLS.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The table that packets are looked up in after all others (`RT_TABLE_DEFAULT`).
const DEFAULT_TABLE: u32 = 253;

/// The table that packets are looked up in unless a rule says otherwise (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The kernel's table of its own addresses (`RT_TABLE_LOCAL`).
pub const LOCAL_TABLE: u32 = 255;

/// A routing table entry (`ip -d route show`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// Where to; a default route is `0.0.0.0/0` or `::/0`.
    pub dst: IpNet,
    /// The router, if there is just one. It may be of the other family.
    pub gateway: Option<IpAddr>,
    /// The index of the link, if there is just one.
    pub device: Option<u32>,
    /// The routers and links, if there are several.
    pub hops: Vec<Hop>,
    /// The table that it is in.
    pub table: u32,
    /// The metric; the lowest wins. 0 if there is none.
    pub priority: u32,
    /// How far away the destination may be.
    pub scope: Scope,
    /// The address to send from.
    pub source: Option<IpAddr>,
    /// The largest packet, in octets.
    pub mtu: Option<u32>,
    /// The TCP segment size to advertise, in octets.
    pub advmss: Option<u32>,
    /// Who made it: `RTPROT_…`.
    pub protocol: u8,
    /// What it does: `RTN_…`, 1 for an ordinary route.
    pub kind: u8,
    /// No address says that the router is on that link.
    pub onlink: bool,
}

/// One way of several that a route can take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hop {
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The index of the link.
    pub device: u32,
    /// Its share of the traffic, from 1.
    pub weight: u16,
}

impl Route {
    /// Whether it is for every destination that no other route is for.
    pub fn is_default(&self) -> bool {
        self.dst.prefix_len() == 0
    }

    /// What to add to have such a route again, elsewhere or later, for an ordinary route with at most one hop. It will have
    /// been made by hand, whoever made this one.
    pub fn spec(&self) -> Option<RouteSpec> {
        if self.kind != RTN_UNICAST || !self.hops.is_empty() {
            return None;
        }
        Some(RouteSpec {
            dst: self.dst,
            gateway: self.gateway,
            device: self.device,
            table: Some(self.table),
            priority: Some(self.priority),
            // IPv6 routes have none that could be said.
            scope: self.dst.addr().is_ipv4().then_some(self.scope),
            source: self.source,
            mtu: self.mtu,
            advmss: self.advmss,
            onlink: self.onlink,
        })
    }

    /// Reads the body of an `RTM_NEWROUTE` message.
    pub(crate) fn read(body: &[u8]) -> Option<Route> {
        let flags = u32_at(body, 8)?;
        let mut route = Route {
            dst: match u8_at(body, 0)? {
                AF_INET => Ipv4Net::default().into(),
                AF_INET6 => Ipv6Net::default().into(),
                _ => return None,
            },
            gateway: None,
            device: None,
            hops: Vec::new(),
            table: u8_at(body, 4)?.into(),
            priority: 0,
            scope: Scope(u8_at(body, 6)?),
            source: None,
            mtu: None,
            advmss: None,
            protocol: u8_at(body, 5)?,
            kind: u8_at(body, 7)?,
            onlink: flags & RTNH_F_ONLINK != 0,
        };
        let prefix_length = u8_at(body, 1)?;
        for (kind, value) in attributes(body.get(RTMSG..)?) {
            match kind {
                RTA_DST => route.dst = IpNet::new(ip(value)?, prefix_length).ok()?,
                RTA_OIF => route.device = u32_at(value, 0),
                RTA_GATEWAY | RTA_VIA => route.gateway = gateway(kind, value),
                RTA_PRIORITY => route.priority = u32_at(value, 0)?,
                RTA_PREFSRC => route.source = ip(value),
                RTA_METRICS => {
                    route.mtu = metric(value, RTAX_MTU);
                    route.advmss = metric(value, RTAX_ADVMSS);
                }
                RTA_MULTIPATH => route.hops = hops(value),
                RTA_TABLE => route.table = u32_at(value, 0)?,
                _ => {}
            }
        }
        (flags & RTM_F_CLONED == 0).then_some(route)
    }
}

/// A route to be added, with [`Netns::add_route`], or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a RouteSpec adds nothing until it is given to Netns::add_route"]
pub struct RouteSpec {
    dst: IpNet,
    gateway: Option<IpAddr>,
    device: Option<u32>,
    table: Option<u32>,
    priority: Option<u32>,
    scope: Option<Scope>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
    advmss: Option<u32>,
    onlink: bool,
}

impl RouteSpec {
    /// A route to `dst`; a default route is one to `0.0.0.0/0` or `::/0`. Host bits are dropped.
    pub fn new(dst: IpNet) -> RouteSpec {
        RouteSpec {
            dst: dst.trunc(),
            gateway: None,
            device: None,
            table: None,
            priority: None,
            scope: None,
            source: None,
            mtu: None,
            advmss: None,
            onlink: false,
        }
    }

    /// By way of this router (`via`), which may be of the other family (`via inet6`).
    pub fn gateway(mut self, gateway: impl Into<Option<IpAddr>>) -> RouteSpec {
        self.gateway = gateway.into();
        self
    }

    /// Out of the link with this index (`dev`).
    pub fn device(mut self, index: impl Into<Option<u32>>) -> RouteSpec {
        self.device = index.into();
        self
    }

    /// In this table, else in [`MAIN_TABLE`] (`table`).
    pub fn table(mut self, table: impl Into<Option<u32>>) -> RouteSpec {
        self.table = table.into();
        self
    }

    /// With this metric (`metric`). Without, the kernel takes 0 for IPv4 and 1024 for IPv6.
    #[doc(alias = "metric")]
    pub fn priority(mut self, priority: impl Into<Option<u32>>) -> RouteSpec {
        self.priority = priority.into();
        self
    }

    /// Of this scope (`scope`). Without, it is that of `ip route add`: global with a router, link without.
    pub fn scope(mut self, scope: impl Into<Option<Scope>>) -> RouteSpec {
        self.scope = scope.into();
        self
    }

    /// Sending from this address (`src`).
    pub fn source(mut self, source: impl Into<Option<IpAddr>>) -> RouteSpec {
        self.source = source.into();
        self
    }

    /// With packets of at most so many octets (`mtu`).
    pub fn mtu(mut self, mtu: impl Into<Option<u32>>) -> RouteSpec {
        self.mtu = mtu.into();
        self
    }

    /// Advertising TCP segments of at most so many octets (`advmss`).
    pub fn advmss(mut self, advmss: impl Into<Option<u32>>) -> RouteSpec {
        self.advmss = advmss.into();
        self
    }

    /// Although no address says that the router is on that link (`onlink`).
    pub fn onlink(mut self) -> RouteSpec {
        self.onlink = true;
        self
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.dst.addr());
        message.header.destination_prefix_length = self.dst.prefix_len();
        if self.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        if self.dst.prefix_len() > 0 {
            attributes.push(RouteAttribute::Destination(self.dst.addr().into()));
        }
        attributes.extend(self.gateway.map(|gateway| match (self.dst, gateway) {
            (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            _ => RouteAttribute::Gateway(gateway.into()),
        }));
        attributes.extend(self.device.map(RouteAttribute::Oif));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        let metrics = [self.mtu.map(RouteMetric::Mtu), self.advmss.map(RouteMetric::Advmss)];
        let metrics: Vec<_> = metrics.into_iter().flatten().collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        set_table(&mut message, self.table.unwrap_or(MAIN_TABLE));
        message
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = self.device {
            write!(f, " dev {device}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        if let Some(table) = self.table {
            write!(f, " table {table}")?;
        }
        Ok(())
    }
}

/// Which routes to list; the empty filter means all of them, of both families and every table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteFilter {
    table: Option<u32>,
    device: Option<u32>,
}

impl RouteFilter {
    /// All routes.
    pub fn new() -> RouteFilter {
        RouteFilter::default()
    }

    /// Only those in this table.
    pub fn table(mut self, table: u32) -> RouteFilter {
        self.table = Some(table);
        self
    }

    /// Only those out of the link with this index.
    pub fn device(mut self, index: u32) -> RouteFilter {
        self.device = Some(index);
        self
    }

    fn lets_through(&self, route: &Route) -> bool {
        let by_device =
            |device| route.device == Some(device) || route.hops.iter().any(|hop| hop.device == device);
        self.table.is_none_or(|table| route.table == table) && self.device.is_none_or(by_device)
    }
}

impl Netns {
    /// The routes that the filter lets through (`ip route show table … dev …`). The kernel does the filtering.
    pub fn routes(&self, filter: RouteFilter) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.attributes.extend(filter.device.map(RouteAttribute::Oif));
        if let Some(table) = filter.table {
            set_table(&mut message, table);
        }
        let request = Request { kind: rtm::GETROUTE, body: &message, doing: "list routes", what: &"" };
        // Kernels before 4.20 do not filter.
        let wanted = |route: &Route| filter.lets_through(route);
        self.socket().dump(&request, |body| Route::read(body).filter(wanted))
    }

    /// The first table from this number on that nobody uses: no rule leads there, it has no route, it is no VRF's, and it is
    /// none of those that have a name (253 to 255).
    ///
    /// Four questions; the time grows with the number of routes. Two who ask at once get the same answer.
    pub fn unused_table(&self, from: u32) -> Result<u32> {
        let mut used: Vec<u32> = [0, DEFAULT_TABLE, MAIN_TABLE, LOCAL_TABLE].into();
        used.extend(self.links_of_kind("vrf")?.iter().filter_map(Link::vrf_table));
        for family in IpFamily::BOTH {
            used.extend(self.rules(family)?.iter().map(|rule| rule.table));
        }
        used.extend(self.routes(RouteFilter::new())?.iter().map(|route| route.table));
        used.sort_unstable();
        let unused = (from..=u32::MAX).find(|table| used.binary_search(table).is_err());
        unused.ok_or_else(|| Error::os("find unused table", format!("from {from}"), Errno::NOSPC))
    }

    /// Adds a route (`ip route add`).
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`](crate::Error::is_exists) if the table has one of the same destination and metric.
    pub fn add_route(&self, route: &RouteSpec) -> Result<()> {
        self.make_route("add route", Change::Create, route)
    }

    /// Adds a route before those that the table has for the same destination and metric (`ip route prepend`).
    ///
    /// IPv6 makes one route with several hops of them.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`](crate::Error::is_exists) if the table has one that is the same throughout.
    #[doc(alias = "RouteAddEcmp")]
    pub fn prepend_route(&self, route: &RouteSpec) -> Result<()> {
        self.make_route("add route", Change::Beside, route)
    }

    /// Adds a route in the place of one of the same destination and metric, if there is one (`ip route replace`).
    pub fn replace_route(&self, route: &RouteSpec) -> Result<()> {
        self.make_route("replace route", Change::Replace, route)
    }

    /// Deletes the first route that is like this, in so far as it says (`ip route del`).
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`](crate::Error::is_gone) if there is none.
    pub fn del_route(&self, route: &RouteSpec) -> Result<()> {
        let mut message = route.message();
        // Nothing but what is asked for need be the same: "nowhere" is the kernel's word for any scope.
        message.header.scope = RouteScope::from(route.scope.unwrap_or(Scope::NOWHERE).0);
        self.change_route(rtm::DELROUTE, "delete route", Change::Modify, route, &message)
    }

    fn make_route(&self, doing: &'static str, how: Change, route: &RouteSpec) -> Result<()> {
        let mut message = route.message();
        let nearby = if route.gateway.is_some() { Scope::UNIVERSE } else { Scope::LINK };
        message.header.scope = RouteScope::from(route.scope.unwrap_or(nearby).0);
        message.header.kind = RouteType::Unicast;
        // What `ip` takes, too: somebody configured it by hand, or by program.
        message.header.protocol = RouteProtocol::Boot;
        self.change_route(rtm::NEWROUTE, doing, how, route, &message)
    }

    fn change_route(
        &self,
        kind: u16,
        doing: &'static str,
        how: Change,
        route: &RouteSpec,
        message: &RouteMessage,
    ) -> Result<()> {
        self.socket().change(&Request { kind, body: message, doing, what: route }, how)
    }
}

/// The header has room for tables below 256 only.
fn set_table(message: &mut RouteMessage, table: u32) {
    match u8::try_from(table) {
        Ok(table) => message.header.table = table,
        Err(_) => {
            message.header.table = RouteHeader::RT_TABLE_UNSPEC;
            message.attributes.push(RouteAttribute::Table(table));
        }
    }
}

fn gateway(kind: u16, value: &[u8]) -> Option<IpAddr> {
    // `struct rtvia` is an address that is preceded by its family.
    if kind == RTA_VIA { ip(value.get(2..)?) } else { ip(value) }
}

fn metric(metrics: &[u8], wanted: u16) -> Option<u32> {
    attributes(metrics).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| u32_at(value, 0))
}

fn hops(mut rest: &[u8]) -> Vec<Hop> {
    let mut hops = Vec::new();
    while let Some((hop, length)) = hop(rest) {
        hops.push(hop);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

/// The first hop in `bytes`, and its length.
fn hop(bytes: &[u8]) -> Option<(Hop, usize)> {
    let length = usize::from(u16_at(bytes, 0)?);
    let more = bytes.get(RTNEXTHOP..length)?;
    let gateway = attributes(more)
        .find(|(kind, _)| matches!(*kind, RTA_GATEWAY | RTA_VIA))
        .and_then(|(kind, value)| gateway(kind, value));
    let weight = u16::from(u8_at(bytes, 3)?) + 1;
    Some((Hop { gateway, device: u32_at(bytes, 4)?, weight }, length))
}
