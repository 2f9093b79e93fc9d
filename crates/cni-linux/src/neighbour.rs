//! Telling the neighbours where an address is, so that they forget who had it before.
//!
//! Once, and without waiting for answers: it is not duplicate address detection. The neighbour table is the kernel's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::os::fd::OwnedFd;

use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::{set_ipv6_multicast_hops, set_ipv6_multicast_if, set_ipv6_multicast_loop};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with};

use crate::error::{Error, Result};
use crate::link::{Link, LinkRef};
use crate::mac::Mac;
use crate::netlink::encode::Body;
use crate::netlink::wire::attributes;
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;

/// `ETH_P_ARP` and `ETH_P_IP`, `include/uapi/linux/if_ether.h`.
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IP: u16 = 0x0800;
/// `struct ndmsg` and its attributes, `include/uapi/linux/neighbour.h`.
const NDMSG: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// `ARPHRD_ETHER` and `ARPOP_REQUEST`, `include/uapi/linux/if_arp.h`.
const ARPHRD_ETHER: u16 = 1;
const ARPOP_REQUEST: u16 = 1;
/// Of the whole of an ARP packet for IPv4 on Ethernet.
const ARP_LENGTH: usize = 28;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Set: forget what you knew. Not set: an answer, a router.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Netns {
    /// The hardware address that is remembered for an address on a link, however long ago it was heard of
    /// (`ip neighbour get … dev …`). One request if the link is known. Linux 5.0 and later.
    pub fn neighbour<'a>(&self, link: impl Into<LinkRef<'a>>, address: IpAddr) -> Result<Option<Mac>> {
        let link = link.into();
        let mut header = [0; NDMSG];
        header[0] = u8::from(crate::address::family(address));
        header[4..8].copy_from_slice(&self.index_of(link)?.to_ne_bytes());
        let mut body = Body::new(&header);
        match address {
            IpAddr::V4(address) => body.bytes(NDA_DST, &address.octets()),
            IpAddr::V6(address) => body.bytes(NDA_DST, &address.octets()),
        };
        let what = format_args!("{address} on link {link}");
        let request = Request { kind: rtm::GETNEIGH, body: &body, doing: "look up neighbour", what: &what };
        match self.socket().get(&request, |body| Some(read_mac(body))) {
            Err(gone) if gone.is_gone() => Ok(None),
            found => found,
        }
    }

    /// Tells the neighbours on a link that it has these addresses: by gratuitous ARP (RFC 5227, section 3) and
    /// unsolicited neighbour advertisement (RFC 4861, section 7.2.6). A link without neighbours, or without a hardware
    /// address, has nobody to tell.
    ///
    /// One packet for each. The link must be up, and the addresses its own.
    ///
    /// The kernel itself sends the first ARP packet: two requests (`ip neigh add … use`, `ip neigh del`) make it ask for
    /// the address, and forget the question. The end of a packet socket, which takes the others, waits for every processor to
    /// have been elsewhere (`synchronize_net` in `packet_release`), ten milliseconds perhaps.
    ///
    /// # Errors
    ///
    /// If the link, where it is looked up, is down, or an IPv6 address is not (yet) one of the link's own.
    pub fn announce<'a>(&self, which: impl Into<LinkRef<'a>>, addresses: &[IpAddr]) -> Result<()> {
        let looked_up;
        let link = match which.into() {
            LinkRef::Link(link) => link,
            which => {
                looked_up = self.link(which)?;
                if let Some(address) = addresses.first().filter(|_| !looked_up.is_up()) {
                    let (doing, what) = announcement(&looked_up, *address);
                    return Err(Error::os(doing, what, rustix::io::Errno::NETDOWN));
                }
                &looked_up
            }
        };
        let alone = link.is_loopback() || link.flags & LinkFlags::Noarp.bits() != 0;
        let Some(mac) = link.mac.filter(|_| !alone) else { return Ok(()) };
        let first = addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        if let Some(first) = first {
            self.have_asked(link, first)?;
        }
        let others: Vec<_> =
            addresses.iter().filter(|address| first.is_none_or(|first| **address != first)).collect();
        if others.is_empty() {
            return Ok(());
        }
        let announced = self.visit(|| others.iter().try_for_each(|&&address| announce(link, mac, address)));
        announced?
    }

    /// Has the kernel ask a link for an address of its own. The sender is the first address of the subnet, hence for one
    /// address only.
    fn have_asked(&self, link: &Link, address: Ipv4Addr) -> Result<()> {
        let mut question = NeighbourMessage::default();
        question.header.family = netlink_packet_route::AddressFamily::Inet;
        question.header.ifindex = link.index;
        question.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(address))];
        let forget = question.clone();
        question.header.flags = NeighbourFlags::Use;
        let (doing, what) = announcement(link, IpAddr::V4(address));
        let request = |kind, body| Request { kind, body, doing, what: &what };
        self.socket().change(&request(rtm::NEWNEIGH, &question), Change::Beside)?;
        match self.socket().change(&request(rtm::DELNEIGH, &forget), Change::Modify) {
            Err(err) if err.is_gone() => Ok(()),
            forgotten => forgotten,
        }
    }
}

fn announcement(link: &Link, address: IpAddr) -> (&'static str, String) {
    ("announce address", format!("{address} on link {:?}", link.name))
}

/// Reads the body of an `RTM_NEWNEIGH` message. Who did not answer has no hardware address.
fn read_mac(body: &[u8]) -> Option<Mac> {
    let mut found = attributes(body.get(NDMSG..)?).filter(|(kind, _)| *kind == NDA_LLADDR);
    found.find_map(|(_, value)| <[u8; 6]>::try_from(value).ok()).map(Mac::new)
}

fn announce(link: &Link, mac: Mac, address: IpAddr) -> Result<()> {
    let (doing, what) = announcement(link, address);
    #[cfg(feature = "testing")]
    crate::testing::fault::change("sendto", doing, &what)?;
    let sent = match address {
        IpAddr::V4(address) => send_arp(link.index, mac, address),
        IpAddr::V6(address) => send_advertisement(link.index, mac, address),
    };
    sent.map_err(|errno| Error::os(doing, what, errno))
}

fn send_arp(index: u32, mac: Mac, address: Ipv4Addr) -> rustix::io::Result<()> {
    // Without a protocol: it sends, and receives nothing.
    let socket = open(AddressFamily::PACKET, SocketType::DGRAM, None)?;
    let everybody = PacketAddress::new(index, ETH_P_ARP, Mac::new([0xff; 6]));
    sendto(&socket, &arp(mac, address), SendFlags::empty(), &everybody).map(|_sent| ())
}

fn send_advertisement(index: u32, mac: Mac, address: Ipv6Addr) -> rustix::io::Result<()> {
    let socket = open(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
    bind(&socket, &SocketAddrV6::new(address, 0, 0, index))?;
    // Neighbours drop what may have been routed.
    set_ipv6_multicast_hops(&socket, 255)?;
    set_ipv6_multicast_if(&socket, index)?;
    set_ipv6_multicast_loop(&socket, false)?;
    let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    sendto(&socket, &advertisement(mac, address), SendFlags::empty(), &everybody).map(|_sent| ())
}

fn open(
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<rustix::net::Protocol>,
) -> rustix::io::Result<OwnedFd> {
    socket_with(family, kind, SocketFlags::CLOEXEC, protocol)
}

/// RFC 826: a question for an address, asked by who has it.
fn arp(mac: Mac, address: Ipv4Addr) -> [u8; ARP_LENGTH] {
    let mut packet = [0; ARP_LENGTH];
    packet[0..2].copy_from_slice(&ARPHRD_ETHER.to_be_bytes());
    packet[2..4].copy_from_slice(&ETH_P_IP.to_be_bytes());
    packet[4..6].copy_from_slice(&[6, 4]);
    packet[6..8].copy_from_slice(&ARPOP_REQUEST.to_be_bytes());
    packet[8..14].copy_from_slice(&mac.octets());
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

/// RFC 4861, section 4.4. The kernel fills in the checksum.
fn advertisement(mac: Mac, address: Ipv6Addr) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[0] = NEIGHBOUR_ADVERTISEMENT;
    packet[4] = OVERRIDE;
    packet[8..24].copy_from_slice(&address.octets());
    // The length is in units of eight octets.
    packet[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    packet[26..32].copy_from_slice(&mac.octets());
    packet
}

/// `struct sockaddr_ll`, `packet(7)`.
#[repr(C)]
struct PacketAddress {
    family: u16,
    /// In network byte order.
    protocol: [u8; 2],
    index: u32,
    hardware_type: u16,
    packet_type: u8,
    length: u8,
    address: [u8; 8],
}

impl PacketAddress {
    fn new(index: u32, protocol: u16, mac: Mac) -> PacketAddress {
        let mut address = [0; 8];
        address[..6].copy_from_slice(&mac.octets());
        let family = AddressFamily::PACKET.as_raw();
        let protocol = protocol.to_be_bytes();
        PacketAddress { family, protocol, index, hardware_type: 0, packet_type: 0, length: 6, address }
    }
}

#[allow(
    unsafe_code,
    reason = "rustix has no address for packet sockets, and marks the trait to add one unsafe"
)]
// SAFETY: the pointer is to all of a `struct sockaddr_ll`, which lives longer than the call and has no padding.
unsafe impl SocketAddrArg for PacketAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        const LENGTH: SocketAddrLen = 20;
        const { assert!(size_of::<PacketAddress>() == 20) };
        f(std::ptr::from_ref(self).cast(), LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([2, 0, 0, 0, 0xab, 1]);

    #[test]
    fn an_arp_packet_asks_for_its_own_sender() {
        let packet = arp(MAC, Ipv4Addr::new(10, 1, 2, 3));
        let expected = [
            [0, 1, 8, 0, 6, 4, 0, 1].as_slice(),
            &[2, 0, 0, 0, 0xab, 1, 10, 1, 2, 3],
            &[0, 0, 0, 0, 0, 0, 10, 1, 2, 3],
        ];
        assert_eq!(packet.as_slice(), expected.concat());
    }

    #[test]
    fn an_advertisement_overrides_and_names_the_hardware_address() {
        let packet = advertisement(MAC, "fd00::1".parse().unwrap());
        let target = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let expected = [[136, 0, 0, 0, 0x20, 0, 0, 0].as_slice(), &target, &[2, 1, 2, 0, 0, 0, 0xab, 1]];
        assert_eq!(packet.as_slice(), expected.concat());
    }
}
