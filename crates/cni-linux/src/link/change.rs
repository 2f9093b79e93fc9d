//! Changing links: up and down, names, namespaces, and whatever else they were not born with.
//!
//! What makes a link the port of a bridge a special one is in [`bridge`](crate::bridge).

use std::fmt;

use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};

use super::{Link, LinkRef, link_not_found, name_attribute, spec};
use crate::error::Result;
use crate::mac::Mac;
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;

/// Several changes of one link, to be made in one request with [`Netns::change_link`] (`ip link set`).
///
/// They are made one after the other. If one of them fails those before it stay.
#[derive(Debug, Clone, Default)]
#[must_use = "a LinkChange changes nothing until it is given to Netns::change_link"]
pub struct LinkChange {
    flags: LinkFlags,
    mask: LinkFlags,
    attributes: Vec<LinkAttribute>,
    pub(crate) port: Vec<InfoBridgePort>,
    pub(crate) bridge: Vec<InfoBridge>,
}

impl LinkChange {
    /// No change.
    pub fn new() -> LinkChange {
        LinkChange::default()
    }

    /// Up (`up`).
    pub fn up(self) -> LinkChange {
        self.flag(LinkFlags::Up, true)
    }

    /// Down (`down`). Its IPv6 addresses and all its routes go.
    pub fn down(self) -> LinkChange {
        self.flag(LinkFlags::Up, false)
    }

    /// It sees, or does not see, packets that are not for it (`promisc on|off`).
    pub fn promiscuous(self, on: bool) -> LinkChange {
        self.flag(LinkFlags::Promisc, on)
    }

    /// It sees, or does not see, all multicast packets (`allmulticast on|off`).
    pub fn all_multicast(self, on: bool) -> LinkChange {
        self.flag(LinkFlags::Allmulti, on)
    }

    /// The size of the largest packet, in octets (`mtu`).
    pub fn mtu(self, mtu: u32) -> LinkChange {
        self.attribute(LinkAttribute::Mtu(mtu))
    }

    /// The hardware address (`address`).
    pub fn mac(self, mac: Mac) -> LinkChange {
        self.attribute(LinkAttribute::Address(mac.octets().to_vec()))
    }

    /// A text of at most 255 octets to tag it with; the empty text removes it (`alias`).
    pub fn alias(self, alias: impl Into<String>) -> LinkChange {
        self.attribute(LinkAttribute::IfAlias(alias.into()))
    }

    /// It becomes a port of this bridge, bond or VRF, given by index, or with 0 of none (`master`, `nomaster`).
    #[doc(alias = "master")]
    pub fn controller(self, controller: u32) -> LinkChange {
        self.attribute(LinkAttribute::Controller(controller))
    }

    /// The link group (`group`).
    pub fn group(self, group: u32) -> LinkChange {
        self.attribute(LinkAttribute::Group(group))
    }

    /// The length of the transmit queue, in packets (`txqueuelen`).
    pub fn tx_queue_len(self, packets: u32) -> LinkChange {
        self.attribute(LinkAttribute::TxQueueLen(packets))
    }

    fn flag(mut self, flag: LinkFlags, on: bool) -> LinkChange {
        self.mask |= flag;
        self.flags.set(flag, on);
        self
    }

    fn attribute(mut self, attribute: LinkAttribute) -> LinkChange {
        self.attributes.push(attribute);
        self
    }

    /// The request that makes the changes, and its kind.
    fn message(&self, which: LinkRef<'_>, doing: &'static str) -> Result<(u16, LinkMessage)> {
        let mut message = which.message(doing)?;
        message.header.flags = self.flags;
        message.header.change_mask = self.mask;
        message.attributes.extend_from_slice(&self.attributes);
        let mut info = Vec::new();
        if !self.bridge.is_empty() {
            info.push(LinkInfo::Kind(InfoKind::Bridge));
            info.push(LinkInfo::Data(InfoData::Bridge(self.bridge.clone())));
        }
        if !self.port.is_empty() {
            info.push(LinkInfo::PortKind(InfoPortKind::Bridge));
            info.push(LinkInfo::PortData(InfoPortData::BridgePort(self.port.clone())));
        }
        if info.is_empty() {
            return Ok((rtm::SETLINK, message));
        }
        // `RTM_SETLINK` passes over what is particular to a kind.
        message.attributes.push(LinkAttribute::LinkInfo(info));
        Ok((rtm::NEWLINK, message))
    }
}

impl Netns {
    /// Makes several changes in one request (`ip link set`).
    pub fn change_link<'a>(&self, which: impl Into<LinkRef<'a>>, change: &LinkChange) -> Result<()> {
        self.make_change("change link", which.into(), change)
    }

    /// Sets the link up, and returns it as it is then (`ip link set … up`): what is known of it already, or asked for
    /// where it was only named.
    pub fn set_up<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<Link> {
        let which = which.into();
        self.make_change("set up link", which, &LinkChange::new().up())?;
        match which {
            LinkRef::Link(link) => Ok(Link { flags: link.flags | LinkFlags::Up.bits(), ..link.clone() }),
            LinkRef::Name(_) | LinkRef::Index(_) => self.link(which),
        }
    }

    /// Sets the link down (`ip link set … down`). Its IPv6 addresses and all its routes go.
    pub fn set_down<'a>(&self, which: impl Into<LinkRef<'a>>) -> Result<()> {
        self.make_change("set down link", which.into(), &LinkChange::new().down())
    }

    /// Makes the link see, or not see, packets that are not for it (`ip link set … promisc on|off`).
    pub fn set_promiscuous<'a>(&self, which: impl Into<LinkRef<'a>>, on: bool) -> Result<()> {
        self.make_change("set promiscuity of link", which.into(), &LinkChange::new().promiscuous(on))
    }

    /// Sets the size of the largest packet, in octets (`ip link set … mtu`).
    pub fn set_mtu<'a>(&self, which: impl Into<LinkRef<'a>>, mtu: u32) -> Result<()> {
        self.make_change("set mtu of link", which.into(), &LinkChange::new().mtu(mtu))
    }

    /// Sets the hardware address (`ip link set … address`).
    pub fn set_mac<'a>(&self, which: impl Into<LinkRef<'a>>, mac: Mac) -> Result<()> {
        self.make_change("set address of link", which.into(), &LinkChange::new().mac(mac))
    }

    /// Tags the link with a text of at most 255 octets; the empty text removes it (`ip link set … alias`).
    pub fn set_alias<'a>(&self, which: impl Into<LinkRef<'a>>, alias: &str) -> Result<()> {
        self.make_change("set alias of link", which.into(), &LinkChange::new().alias(alias))
    }

    /// Makes the link a port of a bridge, bond or VRF, or with 0 of none (`ip link set … master|nomaster`).
    pub fn set_controller<'a>(&self, which: impl Into<LinkRef<'a>>, controller: u32) -> Result<()> {
        self.make_change("set controller of link", which.into(), &LinkChange::new().controller(controller))
    }

    /// Gives the link another name (`ip link set … name`). Before Linux 6.2 it must be down.
    pub fn rename<'a>(&self, which: impl Into<LinkRef<'a>>, name: &str) -> Result<()> {
        let (doing, which) = ("rename link", which.into());
        // Beside a name, an index is needed to say which link is to get it.
        let index = self.index_of(which)?;
        let mut message = LinkRef::Index(index).message(doing)?;
        message.attributes.push(name_attribute(name, doing)?);
        self.request_change(rtm::SETLINK, doing, &format_args!("{which} to {name:?}"), &message)
    }

    /// Moves the link to another namespace, where it may get another name (`ip link set … netns … name …`).
    ///
    /// It arrives down and without addresses. In one request, so that it never has the new name here.
    pub fn move_link<'a>(&self, which: impl Into<LinkRef<'a>>, to: &Netns, name: Option<&str>) -> Result<()> {
        let (doing, which) = ("move link", which.into());
        let index = self.index_of(which)?;
        let mut message = LinkRef::Index(index).message(doing)?;
        message.attributes.push(spec::netns_attribute(to));
        if let Some(name) = name {
            message.attributes.push(name_attribute(name, doing)?);
        }
        self.request_change(rtm::SETLINK, doing, &format_args!("{which} to {to}"), &message)
    }

    fn make_change(&self, doing: &'static str, which: LinkRef<'_>, change: &LinkChange) -> Result<()> {
        let (kind, message) = change.message(which, doing)?;
        self.request_change(kind, doing, &which, &message)
    }

    fn request_change(
        &self,
        kind: u16,
        doing: &'static str,
        what: &dyn fmt::Display,
        message: &LinkMessage,
    ) -> Result<()> {
        let request = Request { kind, body: message, doing, what };
        self.socket().change(&request, Change::Modify).map_err(link_not_found)
    }
}
