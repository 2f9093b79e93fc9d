//! What a new link is to be like, and making it.
//!
//! Nothing is made up: what is not said is left to the kernel, as with `ip link add`.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::kind::Kind;
pub use super::kind::{IpvlanMode, MacvlanMode};
use super::{Link, OperState, name_attribute};
use crate::error::{Errno, Error, Result};
use crate::mac::Mac;
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;
use crate::undo::Undo;

/// `include/uapi/linux/if_ether.h`
const ETH_DATA_LEN: u32 = 1500;

/// How often a shared link is tried to be made while others make and delete it.
const ATTEMPTS: usize = 5;

/// A link to be made, with [`Netns::add_link`].
///
/// All of it but the alias is in the one request that makes the link, so that nobody ever sees it half-made.
#[derive(Debug, Clone)]
#[must_use = "a LinkSpec makes nothing until it is given to Netns::add_link"]
pub struct LinkSpec {
    kind: Kind,
    up: bool,
    controller: Option<u32>,
    common: Common,
}

/// What both ends of a veth pair can be given.
#[derive(Debug, Clone)]
pub(super) struct Common {
    name: String,
    netns: Option<Netns>,
    mtu: Option<u32>,
    mac: Option<Mac>,
    alias: Option<String>,
    group: Option<u32>,
    tx_queue_len: Option<u32>,
}

impl LinkSpec {
    /// Two links back to back (`ip link add NAME type veth peer name …`).
    pub fn veth(name: impl Into<String>, peer: VethPeer) -> LinkSpec {
        LinkSpec::new(name, Kind::Veth(peer))
    }

    /// A switch (`ip link add NAME type bridge`).
    pub fn bridge(name: impl Into<String>) -> LinkSpec {
        LinkSpec::new(name, Kind::Bridge { vlan_filtering: None })
    }

    /// A link that swallows what is sent to it (`ip link add NAME type dummy`).
    pub fn dummy(name: impl Into<String>) -> LinkSpec {
        LinkSpec::new(name, Kind::Dummy)
    }

    /// A link to which received packets are redirected to be queued (`ip link add NAME type ifb`).
    pub fn ifb(name: impl Into<String>) -> LinkSpec {
        LinkSpec::new(name, Kind::Ifb)
    }

    /// A link with a hardware address of its own on another one (`ip link add NAME link PARENT type macvlan`).
    ///
    /// Kernels before 6.15 first make it beside its parent, so that the name must be free there too.
    pub fn macvlan(name: impl Into<String>, parent: &Link, mode: MacvlanMode) -> LinkSpec {
        LinkSpec::new(name, Kind::Macvlan { parent: parent.index, mode })
    }

    /// A link with the hardware address of the one that it is on (`ip link add NAME link PARENT type ipvlan`).
    ///
    /// As with macvlan, the name must be free beside the parent, too.
    pub fn ipvlan(name: impl Into<String>, parent: &Link, mode: IpvlanMode) -> LinkSpec {
        LinkSpec::new(name, Kind::Ipvlan { parent: parent.index, mode })
    }

    /// One VLAN of a link, 1 to 4094 (`ip link add NAME link PARENT type vlan id`). It is no larger than its parent.
    pub fn vlan(name: impl Into<String>, parent: &Link, id: u16) -> LinkSpec {
        LinkSpec::new(name, Kind::Vlan { parent: parent.index, id })
    }

    /// The controller of links that have a routing table of their own (`ip link add NAME type vrf table`).
    pub fn vrf(name: impl Into<String>, table: u32) -> LinkSpec {
        LinkSpec::new(name, Kind::Vrf { table })
    }

    /// The largest packet, in octets. Of a veth pair, this end only.
    pub fn mtu(mut self, mtu: impl Into<Option<u32>>) -> LinkSpec {
        self.common.mtu = mtu.into();
        self
    }

    /// The hardware address.
    pub fn mac(mut self, mac: impl Into<Option<Mac>>) -> LinkSpec {
        self.common.mac = mac.into();
        self
    }

    /// It is born in this namespace. Of a veth pair, this end.
    pub fn into_netns(mut self, netns: &Netns) -> LinkSpec {
        self.common.netns = Some(netns.clone());
        self
    }

    /// It is born up. Of a veth pair, this end: the other one cannot be.
    pub fn up(mut self) -> LinkSpec {
        self.up = true;
        self
    }

    /// It is born as a port of this bridge, bond or VRF, given by index.
    #[doc(alias = "master")]
    pub fn controller(mut self, controller: impl Into<Option<u32>>) -> LinkSpec {
        self.controller = controller.into();
        self
    }

    /// A text to tag it with, at most 255 octets. This takes a request of its own once the link is there.
    pub fn alias(mut self, alias: impl Into<String>) -> LinkSpec {
        self.common.alias = Some(alias.into());
        self
    }

    /// The link group.
    pub fn group(mut self, group: u32) -> LinkSpec {
        self.common.group = Some(group);
        self
    }

    /// The length of the transmit queue, in packets.
    pub fn tx_queue_len(mut self, packets: u32) -> LinkSpec {
        self.common.tx_queue_len = Some(packets);
        self
    }

    /// Of a bridge; other links have no use for it.
    pub(crate) fn with_vlan_filtering(mut self, on: bool) -> LinkSpec {
        if let Kind::Bridge { vlan_filtering } = &mut self.kind {
            *vlan_filtering = Some(on);
        }
        self
    }

    fn new(name: impl Into<String>, kind: Kind) -> LinkSpec {
        LinkSpec { kind, up: false, controller: None, common: Common::new(name) }
    }

    /// The request that makes it.
    fn message(&self, doing: &'static str) -> Result<LinkMessage> {
        let mut message = self.common.message(doing)?;
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes.extend(self.controller.map(LinkAttribute::Controller));
        message.attributes.extend(self.kind.parent().map(LinkAttribute::Link));
        message.attributes.push(LinkAttribute::LinkInfo(self.kind.info(doing)?));
        Ok(message)
    }
}

impl fmt::Display for LinkSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.name(), self.common.name)?;
        match &self.kind {
            Kind::Veth(peer) => write!(f, " peer {:?}", peer.common.name),
            _ => Ok(()),
        }
    }
}

/// The other end of a new veth pair.
#[derive(Debug, Clone)]
#[must_use = "a VethPeer is the other end of LinkSpec::veth"]
pub struct VethPeer {
    pub(super) common: Common,
}

impl VethPeer {
    /// An end with this name, in the namespace that is asked to make the pair, wherever the other end is born.
    pub fn new(name: impl Into<String>) -> VethPeer {
        VethPeer { common: Common::new(name) }
    }

    /// It is born in this namespace.
    pub fn into_netns(mut self, netns: &Netns) -> VethPeer {
        self.common.netns = Some(netns.clone());
        self
    }

    /// The largest packet, in octets.
    pub fn mtu(mut self, mtu: impl Into<Option<u32>>) -> VethPeer {
        self.common.mtu = mtu.into();
        self
    }

    /// The hardware address.
    pub fn mac(mut self, mac: impl Into<Option<Mac>>) -> VethPeer {
        self.common.mac = mac.into();
        self
    }

    /// The length of the transmit queue, in packets.
    pub fn tx_queue_len(mut self, packets: u32) -> VethPeer {
        self.common.tx_queue_len = Some(packets);
        self
    }

    /// The link group.
    pub fn group(mut self, group: u32) -> VethPeer {
        self.common.group = Some(group);
        self
    }

    /// This end as it was born, for whoever knows the other one, in another namespace. Asks the kernel nothing.
    ///
    /// `None` where it would have to be asked: the hardware address was left to it, or it did not tell this end's index.
    pub fn as_born(&self, other: &Link) -> Option<Link> {
        Some(Link {
            index: other.peer?,
            name: self.common.name.clone(),
            mac: Some(self.common.mac?),
            mtu: self.common.mtu.unwrap_or(ETH_DATA_LEN),
            flags: (LinkFlags::Broadcast | LinkFlags::Multicast).bits(),
            alias: None,
            group: self.common.group.unwrap_or(0),
            tx_queue_len: self.common.tx_queue_len.unwrap_or(other.tx_queue_len),
            promiscuity: 0,
            controller: None,
            peer: Some(other.index),
            // Numbers of namespaces are given by each of them.
            peer_netns_id: None,
            oper_state: OperState::Down,
            port: None,
            ..other.clone()
        })
    }
}

impl Netns {
    /// Makes a link and returns it, as it is in the namespace where it was born (`ip link add`).
    ///
    /// Pushes its deletion to `undo`.
    ///
    /// One request makes it, with all that the specification says but the alias, and another asks what it has become. To
    /// connect a container to a bridge takes no more than these, and the kernel can do nothing of it in fewer:
    ///
    /// 1. in the host's namespace, the pair: its end there is up and a port of the bridge, the other one in the
    ///    container, by its final name;
    /// 2. what has become of it: [`Link::peer`] is the index of the other end, which need not be asked for;
    /// 3. in the container, each address ([`Netns::add_address`]);
    /// 4. its end up, which cannot be born so ([`Netns::change_link`]);
    /// 5. each route ([`Netns::add_route`]).
    ///
    /// An alias, and what is special about the port of a bridge, are one more, for both together
    /// ([`LinkChange`](crate::LinkChange)). To send several of these in one datagram gains nothing that could be measured.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if a link has the name, [`Error::is_unsupported`] if the kernel knows no such kind.
    pub fn add_link(&self, spec: LinkSpec, undo: &mut Undo) -> Result<Link> {
        let doing = "add link";
        let message = spec.message(doing)?;
        let request = Request { kind: rtm::NEWLINK, body: &message, doing, what: &spec };
        self.socket().change(&request, Change::Create)?;

        let birthplace = spec.common.netns.as_ref().unwrap_or(self);
        let name = &spec.common.name;
        let mut link = birthplace.link(name).inspect_err(|_| {
            // It is known by nothing but its name, so it has to go at once; the error above is the one that counts.
            let _ = birthplace.del_link_if_exists(name);
        })?;
        let (netns, index) = (birthplace.clone(), link.index);
        undo.push(format!("link {name}"), move || Ok(netns.del_link_if_exists(index).map(|_existed| ())?));

        if let Kind::Bridge { vlan_filtering: Some(true) } = spec.kind
            && link.vlan_filtering() != Some(true)
        {
            // Not every kernel that lacks them says so.
            return Err(Error::os("set vlan filtering of link", format!("{name:?}"), Errno::OPNOTSUPP));
        }
        if let Some(alias) = spec.common.alias.filter(|alias| link.alias.as_ref() != Some(alias)) {
            // Kernels so far ignore it in the request that makes the link.
            birthplace.set_alias(index, &alias)?;
            link.alias = Some(alias);
        }
        Ok(link)
    }
}

impl Netns {
    /// Makes a link if there is none of the name, and returns it, or the one that is there, as it is: of whatever kind, and
    /// with whatever else. For what is shared and stays, such as a bridge.
    ///
    /// One request where it is there. Any number of processes can do so at once.
    pub fn ensure_link(&self, spec: LinkSpec) -> Result<Link> {
        let birthplace = spec.common.netns.clone().unwrap_or_else(|| self.clone());
        let name = spec.common.name.clone();
        for _ in 0..ATTEMPTS {
            if let Some(link) = birthplace.link_if_exists(&name)? {
                return Ok(link);
            }
            let mut undo = Undo::new();
            match self.add_link(spec.clone(), &mut undo) {
                // Somebody else was faster; who knows whether it is there still.
                Err(exists) if exists.is_exists() => {}
                made => {
                    let link = made?;
                    undo.keep();
                    return Ok(link);
                }
            }
        }
        let cause = "others keep making it and deleting it";
        Err(Error::os("add link", spec.to_string(), Errno::EXIST).with_cause(cause))
    }
}

impl Common {
    fn new(name: impl Into<String>) -> Common {
        Common {
            name: name.into(),
            netns: None,
            mtu: None,
            mac: None,
            alias: None,
            group: None,
            tx_queue_len: None,
        }
    }

    pub(super) fn message(&self, doing: &'static str) -> Result<LinkMessage> {
        if self.name.len() > super::LONGEST_NAME {
            return Err(Error::os(doing, format!("{:?}", self.name), Errno::NAMETOOLONG));
        }
        if self.name.contains('%') {
            // The kernel would look for a number to put in its place: what is made would have another name.
            let error = Error::os(doing, format!("{:?}", self.name), Errno::INVAL);
            return Err(error.with_cause("a new link can have no % in its name"));
        }
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(name_attribute(&self.name, doing)?);
        attributes.extend(self.netns.as_ref().map(netns_attribute));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.octets().to_vec())));
        attributes.extend(self.alias.clone().map(LinkAttribute::IfAlias));
        attributes.extend(self.group.map(LinkAttribute::Group));
        attributes.extend(self.tx_queue_len.map(LinkAttribute::TxQueueLen));
        Ok(message)
    }
}

pub(super) fn netns_attribute(netns: &Netns) -> LinkAttribute {
    LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())
}
