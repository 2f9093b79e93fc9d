//! Connection tracking: flows that the kernel remembers, and forgetting them.
//!
//! What became of the first packet of a flow becomes of all, also after the rules have changed: a client that keeps
//! sending from one port goes on to reach the container that is no more. It makes no flows, and changes none.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::error::Result;
use crate::family::IpFamily;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, ip, u8_at};
use crate::netlink::{Change, Request, ct};
use crate::netns::Netns;

/// `struct nfgenmsg`, and `CTA_…`, `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.
const NFGENMSG: usize = 4;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// Which parts of a tuple are compared (`CTA_FILTER_F_…`, `net/netfilter/nf_internals.h`).
const COMPARE_SOURCE: u32 = 1 << 0;
const COMPARE_DESTINATION: u32 = 1 << 1;
const COMPARE_PROTOCOL: u32 = 1 << 3;
const COMPARE_DESTINATION_PORT: u32 = 1 << 5;

/// A flow, as connection tracking knows it (`conntrack -L`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// 6 is TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// Whom it came from.
    pub source: SocketAddr,
    /// Where it was sent to.
    pub destination: SocketAddr,
    /// Who answers: another one than it was sent to, if that was translated.
    pub reply_source: SocketAddr,
    /// Whom answers go to: another one than it came from, if that was translated.
    pub reply_destination: SocketAddr,
}

/// A flow, and the attributes by which the kernel finds it again.
struct Tracked {
    flow: Flow,
    key: Vec<(u16, Vec<u8>)>,
}

impl Tracked {
    /// Reads the body of an `IPCTNL_MSG_CT_NEW` message.
    fn read(body: &[u8]) -> Option<Tracked> {
        let (mut original, mut reply, mut key) = (None, None, Vec::new());
        for (kind, value) in attributes(body.get(NFGENMSG..)?) {
            match kind {
                CTA_TUPLE_ORIG => original = Some(Tuple::read(value)?),
                CTA_TUPLE_REPLY => reply = Some(Tuple::read(value)?),
                _ => {}
            }
            if matches!(kind, CTA_TUPLE_ORIG | CTA_ID | CTA_ZONE) {
                key.push((kind, value.to_vec()));
            }
        }
        let (original, reply) = (original?, reply?);
        let flow = Flow {
            protocol: original.protocol,
            source: original.source,
            destination: original.destination,
            reply_source: reply.source,
            reply_destination: reply.destination,
        };
        Some(Tracked { flow, key })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { protocol, source, destination, .. } = self;
        write!(f, "of protocol {protocol} from {source} to {destination}")
    }
}

/// Addresses of one direction. What has no ports has 0 for them.
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

impl Tuple {
    fn read(tuple: &[u8]) -> Option<Tuple> {
        let (mut source, mut destination) = (None, None);
        let (mut protocol, mut source_port, mut destination_port) = (0, 0, 0);
        for (kind, value) in attributes(tuple) {
            for (inner, value) in attributes(value) {
                match (kind, inner) {
                    (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = ip(value),
                    (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = ip(value),
                    (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = u8_at(value, 0)?,
                    (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => source_port = port(value)?,
                    (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => destination_port = port(value)?,
                    _ => {}
                }
            }
        }
        let (source, destination) = (source?, destination?);
        Some(Tuple {
            protocol,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        })
    }
}

/// Which flows are meant: those of a family and a protocol, and of them those that fulfil all that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowFilter {
    family: IpFamily,
    protocol: u8,
    destination: Option<IpAddr>,
    ports: Vec<u16>,
    reply_source: Option<IpAddr>,
}

impl FlowFilter {
    /// All flows of the family and protocol: 6 is TCP, 17 UDP, 132 SCTP.
    pub fn new(family: IpFamily, protocol: u8) -> FlowFilter {
        FlowFilter { family, protocol, destination: None, ports: Vec::new(), reply_source: None }
    }

    /// Those that were sent to this address, whoever got them (`--orig-dst`).
    pub fn destination(mut self, address: impl Into<Option<IpAddr>>) -> FlowFilter {
        self.destination = address.into();
        self
    }

    /// Those that were sent to one of these ports, whoever got them (`--orig-port-dst`). None at all is any.
    pub fn destination_ports(mut self, ports: impl IntoIterator<Item = u16>) -> FlowFilter {
        self.ports.extend(ports);
        self
    }

    /// Those that this address answers (`--reply-src`): of a container, those that were translated to it.
    pub fn reply_source(mut self, address: impl Into<Option<IpAddr>>) -> FlowFilter {
        self.reply_source = address.into();
        self
    }

    fn lets_through(&self, flow: &Flow) -> bool {
        let Flow { protocol, destination, reply_source, .. } = flow;
        *protocol == self.protocol
            && IpFamily::from(destination.ip()) == self.family
            && self.destination.is_none_or(|address| address == destination.ip())
            && (self.ports.is_empty() || self.ports.contains(&destination.port()))
            && self.reply_source.is_none_or(|address| address == reply_source.ip())
    }

    /// What the kernel is asked for. It filters since Linux 5.8, by one value of each part; before, it answers with all flows
    /// of the family. Of IPv6 it is asked for no addresses: it takes the equal for the unequal
    /// (`ctnetlink_filter_match_tuple`, `net/netfilter/nf_conntrack_netlink.c`, as late as Linux 6.18).
    fn body(&self) -> Body {
        let mut body = Body::new(&[self.family.number(), 0, 0, 0]);
        let port = if let [port] = self.ports[..] { Some(port) } else { None };
        let four = |address: Option<IpAddr>| address.filter(IpAddr::is_ipv4);
        let (destination, reply_source) = (four(self.destination), four(self.reply_source));
        let flag = |is_there, flag: u32| if is_there { flag } else { 0 };
        body.nest(CTA_TUPLE_ORIG, |tuple| {
            if let Some(address) = destination {
                tuple.nest(CTA_TUPLE_IP, |ip| _ = ip.address(CTA_IP_V4_DST, address));
            }
            tuple.nest(CTA_TUPLE_PROTO, |protocol| {
                protocol.bytes(CTA_PROTO_NUM, &[self.protocol]);
                if let Some(port) = port {
                    protocol.bytes(CTA_PROTO_DST_PORT, &port.to_be_bytes());
                }
            });
        });
        if let Some(address) = reply_source {
            body.nest(CTA_TUPLE_REPLY, |tuple| {
                tuple.nest(CTA_TUPLE_IP, |ip| _ = ip.address(CTA_IP_V4_SRC, address));
            });
        }
        let sent = COMPARE_PROTOCOL
            | flag(destination.is_some(), COMPARE_DESTINATION)
            | flag(port.is_some(), COMPARE_DESTINATION_PORT);
        let answered = flag(reply_source.is_some(), COMPARE_SOURCE);
        body.nest(CTA_FILTER, |filter| {
            filter.ne32(CTA_FILTER_ORIG_FLAGS, sent).ne32(CTA_FILTER_REPLY_FLAGS, answered);
        });
        body
    }
}

impl fmt::Display for FlowFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} protocol {}", self.family, self.protocol)?;
        if let Some(address) = self.destination {
            write!(f, " to {address}")?;
        }
        for (nth, port) in self.ports.iter().enumerate() {
            write!(f, "{} {port}", if nth == 0 { " to port" } else { "," })?;
        }
        match self.reply_source {
            Some(address) => write!(f, " answered by {address}"),
            None => Ok(()),
        }
    }
}

impl Netns {
    /// The flows that the filter lets through (`conntrack -L`).
    ///
    /// The kernel goes through all flows of the namespace, and since Linux 5.8 sends no others than these; but it does not
    /// filter by several ports, and not by IPv6 addresses.
    pub fn flows(&self, filter: &FlowFilter) -> Result<Vec<Flow>> {
        Ok(self.tracked(filter)?.into_iter().map(|tracked| tracked.flow).collect())
    }

    /// Makes the kernel forget the flows that the filter lets through, and says how many it forgot (`conntrack -D`). The
    /// next packet of each is treated as the first of a new one.
    ///
    /// One question, and one request for each flow. One that ended meanwhile, or was replaced by another of the same
    /// addresses, is passed over. Forgotten flows do not come back: there is nothing to undo.
    pub fn forget_flows(&self, filter: &FlowFilter) -> Result<usize> {
        let mut forgotten = 0;
        for Tracked { flow, key } in self.tracked(filter)? {
            let mut body = Body::new(&[filter.family.number(), 0, 0, 0]);
            for (kind, value) in key {
                match kind {
                    CTA_TUPLE_ORIG => body.nested_bytes(kind, &value),
                    _ => body.bytes(kind, &value),
                };
            }
            let request = Request { kind: ct::DELETE, body: &body, doing: "forget flow", what: &flow };
            match self.netfilter(|socket| socket.change(&request, Change::Modify)) {
                Ok(()) => forgotten += 1,
                Err(gone) if gone.is_gone() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(forgotten)
    }

    fn tracked(&self, filter: &FlowFilter) -> Result<Vec<Tracked>> {
        let body = filter.body();
        let request = Request { kind: ct::GET, body: &body, doing: "list flows", what: filter };
        let wanted = |tracked: &Tracked| filter.lets_through(&tracked.flow);
        self.netfilter(|socket| socket.dump(&request, |body| Tracked::read(body).filter(wanted)))
    }
}

fn port(value: &[u8]) -> Option<u16> {
    value.try_into().ok().map(u16::from_be_bytes)
}

/// For fuzzers.
#[cfg(feature = "testing")]
pub(crate) fn read_all(body: &[u8]) {
    let _ = Tracked::read(body);
}
