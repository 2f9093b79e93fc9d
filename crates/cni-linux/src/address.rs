//! Addresses of links: add, list, delete.
//!
//! It computes nothing: not a broadcast address, unless asked to, and not a scope.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use crate::error::Result;
use crate::link::LinkRef;
use crate::netlink::wire::{attributes, ip, string, u8_at, u32_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;
use crate::scope::Scope;

/// `struct ifaddrmsg` and the attributes that are read, `include/uapi/linux/if_addr.h`.
const IFADDRMSG: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;

/// An address of a link (`ip address show`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Address {
    /// The address with the length of its prefix; the host bits are kept.
    pub net: IpNet,
    /// The address of the other side, on a point-to-point link.
    pub peer: Option<IpAddr>,
    /// The broadcast address.
    pub broadcast: Option<IpAddr>,
    /// Where it is valid.
    pub scope: Scope,
    /// `IFA_F_…`, `include/uapi/linux/if_addr.h`.
    pub flags: u32,
    /// The IPv4 label, which is the name of the link unless somebody changed it.
    pub label: Option<String>,
    /// The index of its link.
    pub link: u32,
}

impl Address {
    /// Duplicate address detection is still under way.
    pub fn is_tentative(&self) -> bool {
        self.has(AddressFlags::Tentative)
    }

    /// Duplicate address detection found that somebody else has it.
    pub fn is_dad_failed(&self) -> bool {
        self.has(AddressFlags::Dadfailed)
    }

    /// It can be used although duplicate address detection is still under way.
    pub fn is_optimistic(&self) -> bool {
        self.has(AddressFlags::Optimistic)
    }

    /// It was configured, not learnt, and does not time out.
    pub fn is_permanent(&self) -> bool {
        self.has(AddressFlags::Permanent)
    }

    /// What to add to have such an address again, elsewhere or later: one that does not time out, without a peer and a label
    /// of its own.
    pub fn spec(&self) -> AddressSpec {
        let broadcast = self.broadcast;
        let kept = AddressFlags::Nodad | AddressFlags::Noprefixroute | AddressFlags::Homeaddress;
        let flags = AddressFlags::from_bits_truncate(self.flags) & kept;
        AddressSpec { net: self.net, broadcast, scope: self.scope, flags }
    }

    fn has(&self, flag: AddressFlags) -> bool {
        self.flags & flag.bits() != 0
    }

    /// Reads the body of an `RTM_NEWADDR` message.
    pub(crate) fn read(body: &[u8]) -> Option<Address> {
        let (prefix_length, scope) = (u8_at(body, 1)?, Scope(u8_at(body, 3)?));
        // The header has room for eight flags only; the attribute, if there, has them all.
        let (mut flags, link) = (u32::from(u8_at(body, 2)?), u32_at(body, 4)?);
        let (mut address, mut local, mut broadcast, mut label) = (None, None, None, None);
        for (kind, value) in attributes(body.get(IFADDRMSG..)?) {
            match kind {
                IFA_ADDRESS => address = ip(value),
                IFA_LOCAL => local = ip(value),
                IFA_LABEL => label = Some(string(value)),
                IFA_BROADCAST => broadcast = ip(value),
                IFA_FLAGS => flags = u32_at(value, 0)?,
                _ => {}
            }
        }
        // IPv4 always has both, the first being the peer's if there is one; IPv6 has a local one only beside a peer's.
        let net = IpNet::new(local.or(address)?, prefix_length).ok()?;
        let peer = local.and(address).filter(|&peer| peer != net.addr());
        Some(Address { net, peer, broadcast, scope, flags, label, link })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.net.fmt(f)
    }
}

/// An address to be added, with [`Netns::add_address`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an AddressSpec adds nothing until it is given to Netns::add_address"]
pub struct AddressSpec {
    net: IpNet,
    broadcast: Option<IpAddr>,
    scope: Scope,
    flags: AddressFlags,
}

impl AddressSpec {
    /// This address, of global scope.
    pub fn new(net: IpNet) -> AddressSpec {
        AddressSpec { net, broadcast: None, scope: Scope::UNIVERSE, flags: AddressFlags::empty() }
    }

    /// With the broadcast address of its network (`broadcast +`). Only IPv4 networks of more than two addresses have
    /// one; for others this changes nothing.
    pub fn broadcast(mut self) -> AddressSpec {
        self.broadcast = match self.net {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast().into()),
            _ => None,
        };
        self
    }

    /// Where it is valid (`scope`).
    pub fn scope(mut self, scope: Scope) -> AddressSpec {
        self.scope = scope;
        self
    }

    /// Without duplicate address detection (`nodad`). IPv6 only.
    pub fn without_dad(mut self) -> AddressSpec {
        self.flags |= AddressFlags::Nodad;
        self
    }

    /// It can be used while duplicate address detection is under way (`optimistic`). IPv6 only, and only where
    /// `net/ipv6/conf/…/optimistic_dad` allows it; elsewhere it has to wait all the same.
    pub fn optimistic(mut self) -> AddressSpec {
        self.flags |= AddressFlags::Optimistic;
        self
    }

    /// Without a route to its network (`noprefixroute`).
    pub fn without_route(mut self) -> AddressSpec {
        self.flags |= AddressFlags::Noprefixroute;
        self
    }

    fn message(&self, link: u32) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.family = family(self.net.addr());
        message.header.prefix_len = self.net.prefix_len();
        message.header.scope = AddressScope::from(self.scope.0);
        message.header.index = link;
        let address = self.net.addr();
        message.attributes.extend([AddressAttribute::Local(address), AddressAttribute::Address(address)]);
        if let Some(IpAddr::V4(broadcast)) = self.broadcast {
            message.attributes.push(AddressAttribute::Broadcast(broadcast));
        }
        if !self.flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(self.flags));
        }
        message
    }
}

impl From<IpNet> for AddressSpec {
    fn from(net: IpNet) -> AddressSpec {
        AddressSpec::new(net)
    }
}

impl Netns {
    /// The addresses of a link, IPv4 first (`ip address show dev`).
    ///
    /// One request if the link is known, two if all that is known is its name.
    pub fn addresses<'a>(&self, link: impl Into<LinkRef<'a>>) -> Result<Vec<Address>> {
        let link = link.into();
        let index = self.index_of(link)?;
        let mut message = AddressMessage::default();
        message.header.index = index;
        let what = format_args!("of link {link}");
        let request = Request { kind: rtm::GETADDR, body: &message, doing: "list addresses", what: &what };
        // Kernels before 4.20 do not filter.
        let of_link = |address: &Address| address.link == index;
        self.socket().dump(&request, |body| Address::read(body).filter(of_link))
    }

    /// Adds an address to a link (`ip address add … dev …`).
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`](crate::Error::is_exists) if the link has it already.
    pub fn add_address<'a>(
        &self,
        link: impl Into<LinkRef<'a>>,
        address: impl Into<AddressSpec>,
    ) -> Result<()> {
        self.change_address(rtm::NEWADDR, "add address", Change::Create, link.into(), &address.into())
    }

    /// Deletes an address from a link (`ip address del … dev …`).
    pub fn del_address<'a>(&self, link: impl Into<LinkRef<'a>>, net: IpNet) -> Result<()> {
        let address = AddressSpec::new(net);
        self.change_address(rtm::DELADDR, "delete address", Change::Modify, link.into(), &address)
    }

    fn change_address(
        &self,
        kind: u16,
        doing: &'static str,
        how: Change,
        link: LinkRef<'_>,
        address: &AddressSpec,
    ) -> Result<()> {
        let message = address.message(self.index_of(link)?);
        let what = format_args!("{} of link {link}", address.net);
        self.socket().change(&Request { kind, body: &message, doing, what: &what }, how)
    }
}

pub(crate) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
