//! Links: look them up and delete them.
//!
//! What a new link is like is said in [`spec`], what can be changed of it afterwards in [`change`]; addresses and routes
//! have modules of their own.

pub mod change;
mod kind;
pub mod spec;

use std::fmt;

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage};

use crate::bridge::BridgePort;
use crate::error::{Errno, Error, Result};
use crate::mac::Mac;
use crate::netlink::wire::{attributes, string, u8_at, u16_at, u32_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;

/// `struct ifinfomsg` and the attributes that are read, `include/uapi/linux/if_link.h`.
const IFINFOMSG: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_TXQLEN: u16 = 13;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_GROUP: u16 = 27;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_PORT_KIND: u16 = 4;
const IFLA_INFO_PORT_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VRF_TABLE: u16 = 1;

/// `IFNAMSIZ` less the final zero: a longer name can only be an alternative one.
const LONGEST_NAME: usize = 15;

/// Asks for everything but the counters, which nobody here reads.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// A network interface, as the kernel described it a moment ago (`ip -d link show`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The interface index, unique within its namespace.
    pub index: u32,
    /// The name, at most 15 octets.
    pub name: String,
    /// The hardware address, if there is one of six octets.
    pub mac: Option<Mac>,
    /// The largest packet, in octets.
    pub mtu: u32,
    /// `IFF_…`, `include/uapi/linux/if.h`.
    pub flags: u32,
    /// Free text that an administrator, or a program, tagged the link with.
    pub alias: Option<String>,
    /// The link group, 0 by default.
    pub group: u32,
    /// The length of the transmit queue, in packets.
    pub tx_queue_len: u32,
    /// How many users want it promiscuous.
    pub promiscuity: u32,
    kind: Option<String>,
    controller: Option<u32>,
    peer: Option<u32>,
    peer_netns_id: Option<i32>,
    oper_state: OperState,
    vlan_filtering: Option<bool>,
    vlan_id: Option<u16>,
    vrf_table: Option<u32>,
    port: Option<BridgePort>,
}

impl Link {
    /// Set up by an administrator (`IFF_UP`). Whether packets flow is another matter, see [`Link::oper_state`].
    pub fn is_up(&self) -> bool {
        self.has(LinkFlags::Up)
    }

    /// Asked by an administrator to see packets that are not for it (`IFF_PROMISC`), whoever [else](Link::promiscuity) asks.
    pub fn is_promiscuous(&self) -> bool {
        self.has(LinkFlags::Promisc)
    }

    /// The loopback interface.
    pub fn is_loopback(&self) -> bool {
        self.has(LinkFlags::Loopback)
    }

    /// `veth`, `bridge`, `macvlan`, …: what `ip link add … type` calls it. Loopback and hardware have none.
    pub fn kind(&self) -> Option<&str> {
        self.kind.as_deref()
    }

    /// The hardware address.
    pub fn mac(&self) -> Option<Mac> {
        self.mac
    }

    /// The index of the bridge, bond or VRF that the link is a port of.
    #[doc(alias = "master")]
    pub fn controller(&self) -> Option<u32> {
        self.controller
    }

    /// The index of the other end of a veth pair, or of the link that a macvlan or VLAN sits on. If
    /// [`peer_netns_id`](Link::peer_netns_id) is given, that link is in another namespace.
    #[doc(alias = "IFLA_LINK")]
    pub fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// The namespace of the peer, by the number that this namespace has for it, if it is another one.
    pub fn peer_netns_id(&self) -> Option<i32> {
        self.peer_netns_id
    }

    /// Whether packets flow, as far as the driver can tell.
    pub fn oper_state(&self) -> OperState {
        self.oper_state
    }

    /// What kind of port of a bridge it is, if it is one.
    pub fn port(&self) -> Option<BridgePort> {
        self.port
    }

    /// Whether the bridge heeds VLANs. `None` if it is no bridge, or the kernel's bridges know none.
    pub fn vlan_filtering(&self) -> Option<bool> {
        self.vlan_filtering
    }

    /// The VLAN that a link of kind `vlan` is for.
    pub fn vlan_id(&self) -> Option<u16> {
        self.vlan_id
    }

    /// The routing table of a link of kind `vrf`.
    pub fn vrf_table(&self) -> Option<u32> {
        self.vrf_table
    }

    fn has(&self, flag: LinkFlags) -> bool {
        self.flags & flag.bits() != 0
    }

    /// Reads the body of an `RTM_NEWLINK` message.
    pub(crate) fn read(body: &[u8]) -> Option<Link> {
        let mut link = Link {
            index: u32_at(body, 4)?,
            flags: u32_at(body, 8)?,
            name: String::new(),
            mac: None,
            mtu: 0,
            alias: None,
            group: 0,
            tx_queue_len: 0,
            promiscuity: 0,
            kind: None,
            controller: None,
            peer: None,
            peer_netns_id: None,
            oper_state: OperState::Unknown,
            vlan_filtering: None,
            vlan_id: None,
            vrf_table: None,
            port: None,
        };
        for (kind, value) in attributes(body.get(IFINFOMSG..)?) {
            match kind {
                IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac::new),
                IFLA_IFNAME => link.name = string(value),
                IFLA_MTU => link.mtu = u32_at(value, 0)?,
                IFLA_LINK => link.peer = u32_at(value, 0),
                IFLA_MASTER => link.controller = u32_at(value, 0),
                IFLA_TXQLEN => link.tx_queue_len = u32_at(value, 0)?,
                IFLA_OPERSTATE => link.oper_state = OperState::from_number(u8_at(value, 0)?),
                IFLA_LINKINFO => link.read_info(value),
                IFLA_IFALIAS => link.alias = Some(string(value)),
                IFLA_GROUP => link.group = u32_at(value, 0)?,
                IFLA_PROMISCUITY => link.promiscuity = u32_at(value, 0)?,
                IFLA_LINK_NETNSID => link.peer_netns_id = u32_at(value, 0).map(u32::cast_signed),
                _ => {}
            }
        }
        Some(link)
    }

    /// Reads `IFLA_LINKINFO`. Kinds come before what is particular to them.
    fn read_info(&mut self, info: &[u8]) {
        let mut controller = String::new();
        for (kind, value) in attributes(info) {
            match kind {
                IFLA_INFO_KIND => self.kind = Some(string(value)),
                IFLA_INFO_DATA => {
                    let find = |wanted| attributes(value).find(|(kind, _)| *kind == wanted);
                    match self.kind() {
                        Some("bridge") => {
                            let filtering =
                                find(IFLA_BR_VLAN_FILTERING).and_then(|(_, value)| u8_at(value, 0));
                            self.vlan_filtering = filtering.map(|filtering| filtering != 0);
                        }
                        Some("vlan") => {
                            self.vlan_id = find(IFLA_VLAN_ID).and_then(|(_, value)| u16_at(value, 0));
                        }
                        Some("vrf") => {
                            self.vrf_table = find(IFLA_VRF_TABLE).and_then(|(_, value)| u32_at(value, 0));
                        }
                        _ => {}
                    }
                }
                IFLA_INFO_PORT_KIND => controller = string(value),
                IFLA_INFO_PORT_DATA if controller == "bridge" => self.port = BridgePort::read(value),
                _ => {}
            }
        }
    }
}

/// Whether a link can carry packets (RFC 2863; `IF_OPER_…` in `include/uapi/linux/if.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OperState {
    /// The driver does not say, as for loopback.
    Unknown,
    /// Hardware is missing.
    NotPresent,
    /// It cannot.
    Down,
    /// A link that it sits on is down; for veth, the other end.
    LowerLayerDown,
    /// It is being tested.
    Testing,
    /// It waits for something, such as authentication.
    Dormant,
    /// It can.
    Up,
}

impl OperState {
    fn from_number(number: u8) -> OperState {
        match number {
            1 => OperState::NotPresent,
            2 => OperState::Down,
            3 => OperState::LowerLayerDown,
            4 => OperState::Testing,
            5 => OperState::Dormant,
            6 => OperState::Up,
            _ => OperState::Unknown,
        }
    }
}

impl fmt::Display for OperState {
    /// As in `/sys/class/net/<link>/operstate`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OperState::Unknown => "unknown",
            OperState::NotPresent => "notpresent",
            OperState::Down => "down",
            OperState::LowerLayerDown => "lowerlayerdown",
            OperState::Testing => "testing",
            OperState::Dormant => "dormant",
            OperState::Up => "up",
        })
    }
}

/// Which link is meant: by name, by index, or one that was looked up before.
///
/// A looked-up link is found by its index, and called by its name should something fail.
#[derive(Debug, Clone, Copy)]
pub enum LinkRef<'a> {
    /// By name, or by an alternative name.
    Name(&'a str),
    /// By interface index.
    Index(u32),
    /// One that is known.
    Link(&'a Link),
}

impl<'a> From<&'a str> for LinkRef<'a> {
    fn from(name: &'a str) -> Self {
        LinkRef::Name(name)
    }
}

impl<'a> From<&'a String> for LinkRef<'a> {
    fn from(name: &'a String) -> Self {
        LinkRef::Name(name)
    }
}

impl From<u32> for LinkRef<'_> {
    fn from(index: u32) -> Self {
        LinkRef::Index(index)
    }
}

impl<'a> From<&'a Link> for LinkRef<'a> {
    fn from(link: &'a Link) -> Self {
        LinkRef::Link(link)
    }
}

impl fmt::Display for LinkRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkRef::Name(name) => write!(f, "{name:?}"),
            LinkRef::Index(index) => write!(f, "number {index}"),
            LinkRef::Link(link) => write!(f, "{:?}", link.name),
        }
    }
}

impl LinkRef<'_> {
    /// A message about this link.
    fn message(self, doing: &'static str) -> Result<LinkMessage> {
        let mut message = LinkMessage::default();
        match self {
            LinkRef::Index(index) | LinkRef::Link(&Link { index, .. }) => message.header.index = index,
            LinkRef::Name(name) => message.attributes.push(name_attribute(name, doing)?),
        }
        Ok(message)
    }
}

impl Netns {
    /// The link with this name or index (`ip link show`). One request, whatever the number of links.
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`] if there is none; the text then ends in `Link not found`.
    #[doc(alias = "LinkByName")]
    pub fn link<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<Link> {
        let (doing, which) = ("look up link", which.into());
        let mut message = which.message(doing)?;
        message.attributes.push(without_statistics());
        let request = Request { kind: rtm::GETLINK, body: &message, doing, what: &which };
        self.socket().get(&request, Link::read).map_err(link_not_found)
    }

    /// The link with this name or index, or `None` if there is none.
    pub fn link_if_exists<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<Option<Link>> {
        match self.link(which) {
            Err(gone) if gone.is_gone() => Ok(None),
            found => found.map(Some),
        }
    }

    /// All links (`ip link show`). Its cost grows with their number: not for a path that knows a name.
    pub fn links(&self) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        let request = Request { kind: rtm::GETLINK, body: &message, doing: "list links", what: &"" };
        self.socket().dump(&request, Link::read)
    }

    /// The ports of a bridge, bond or VRF, given by index (`ip link show master`). The kernel does the filtering.
    pub fn ports(&self, controller: u32) -> Result<Vec<Link>> {
        let what = format_args!("that are ports of number {controller}");
        let is_port = |link: &Link| link.controller == Some(controller);
        self.filtered_links(LinkAttribute::Controller(controller), &what, &is_port)
    }

    /// The links of a kind, such as `vrf` (`ip link show type`). The kernel does the filtering; there are none of a kind that
    /// it does not know.
    pub fn links_of_kind(&self, kind: &str) -> Result<Vec<Link>> {
        let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Other(kind.into()))]);
        let what = format_args!("of kind {kind}");
        self.filtered_links(info, &what, &|link| link.kind() == Some(kind))
    }

    /// Kernels before 4.6 do not filter, and those that do not know a kind do not filter by it.
    fn filtered_links(
        &self,
        by: LinkAttribute,
        what: &dyn fmt::Display,
        wanted: &dyn Fn(&Link) -> bool,
    ) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.extend([without_statistics(), by]);
        let request = Request { kind: rtm::GETLINK, body: &message, doing: "list links", what };
        self.socket().dump(&request, |body| Link::read(body).filter(wanted))
    }

    /// Deletes the link (`ip link del`). The other end of a veth pair goes with it.
    pub fn del_link<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        let (doing, which) = ("delete link", which.into());
        let message = which.message(doing)?;
        let request = Request { kind: rtm::DELLINK, body: &message, doing, what: &which };
        self.socket().change(&request, Change::Modify).map_err(link_not_found)
    }

    /// Deletes the link if it is there, and says whether it was.
    pub fn del_link_if_exists<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<bool> {
        match self.del_link(which) {
            Ok(()) => Ok(true),
            Err(gone) if gone.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes all links of a group, in one request and about the time of one (`ip link del group`), and says whether
    /// there were any. The other ends of veth pairs go with them.
    ///
    /// # Errors
    ///
    /// The kernel lets nobody delete group 0, where all links are that are in no other. If one of the group cannot be
    /// deleted, none is.
    pub fn del_link_group(&self, group: u32) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        let what = format_args!("{group}");
        let request = Request { kind: rtm::DELLINK, body: &message, doing: "delete link group", what: &what };
        match self.socket().change(&request, Change::Modify) {
            Ok(()) => Ok(true),
            Err(gone) if gone.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The index of a link; asks the kernel only if all that is known is a name.
    pub(crate) fn index_of(&self, which: LinkRef<'_>) -> Result<u32> {
        match which {
            LinkRef::Index(index) | LinkRef::Link(&Link { index, .. }) => Ok(index),
            LinkRef::Name(_) => Ok(self.link(which)?.index),
        }
    }
}

/// The attribute by which a link is found, or is to be called.
fn name_attribute(name: &str, doing: &'static str) -> Result<LinkAttribute> {
    if name.is_empty() || name.contains('\0') {
        // The kernel would read no name at all, or only what precedes the zero.
        return Err(Error::os(doing, format!("{name:?}"), Errno::INVAL).with_cause("not a link name"));
    }
    if name.len() <= LONGEST_NAME {
        return Ok(LinkAttribute::IfName(name.into()));
    }
    let mut value = name.as_bytes().to_vec();
    value.push(0);
    Ok(LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, value)))
}

/// Says in known words that the link is not there.
pub(crate) fn link_not_found(error: Error) -> Error {
    if error.errno() == Some(Errno::NODEV) { error.with_cause("Link not found") } else { error }
}
