//! The requests about links, addresses and routes that the floor makes and the sandbox needs, and no more.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::netlink::{ACK, CREATE, Datagram, EXCLUSIVE, Socket, word};

/// `include/uapi/linux/rtnetlink.h`
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// `include/uapi/linux/if_link.h`, `if_addr.h`, `rtnetlink.h`, `veth.h`
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
/// `include/uapi/linux/if.h`
const IFF_UP: u32 = 1;

/// `include/linux/socket.h`
const AF_INET: u8 = 2;
/// `include/uapi/linux/rtnetlink.h`: main table, as if by `ip route` at boot, everywhere, to a next hop.
const ROUTE: [u8; 8] = [254, 3, 0, 1, 0, 0, 0, 0];

/// The first interface of every network namespace is `lo` (`LOOPBACK_IFINDEX`, `include/net/net_namespace.h`).
const LO: u32 = 1;

/// An rtnetlink socket, bound for ever to the namespace in which it was opened.
pub struct Rtnl(Socket);

/// A pair of links between a bridge and a container, with all that the kernel can be told at once.
pub struct Pair<'a> {
    /// The end at the bridge: its name and its index, which is given so that it need not be asked for.
    pub host: (&'a str, u32),
    /// The index of the bridge.
    pub bridge: u32,
    /// The group of the host's end.
    pub group: u32,
    /// The end in the container.
    pub inside: (&'a str, u32),
    /// The container's namespace.
    pub netns: BorrowedFd<'a>,
}

impl Rtnl {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Rtnl> {
        Socket::open(None).map(Rtnl)
    }

    /// `ip link set lo up`, or `down`.
    pub fn set_loopback(&self, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.one(RTM_NEWLINK, ACK, &link(LO, flags, IFF_UP), |_| {}).map(|_| ())
    }

    /// `ip link show lo`: whether it is up.
    pub fn loopback_is_up(&self) -> io::Result<bool> {
        self.one(RTM_GETLINK, 0, &link(LO, 0, 0), |_| {}).map(is_up)
    }

    /// `ip link show NAME`: whether it is up. None if there is no such link.
    pub fn is_up(&self, name: &str) -> io::Result<Option<bool>> {
        let answer = self.one(RTM_GETLINK, 0, &link(0, 0, 0), |message| {
            message.text(IFLA_IFNAME, name);
        });
        match answer {
            Err(err) if err.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            answer => answer.map(|answer| Some(is_up(answer))),
        }
    }

    /// `ip link add NAME index INDEX up type bridge`
    pub fn add_bridge(&self, name: &str, index: u32) -> io::Result<()> {
        let new = link(index, IFF_UP, IFF_UP);
        let made = self.one(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &new, |message| {
            message.text(IFLA_IFNAME, name).nested(IFLA_LINKINFO, |info| {
                info.attribute(IFLA_INFO_KIND, b"bridge");
            });
        });
        made.map(|_| ())
    }

    /// `ip link add NAME index INDEX group GROUP up master BRIDGE type veth peer name NAME index INDEX netns …`
    ///
    /// The container's end cannot be born up.
    pub fn add_pair(&self, pair: &Pair<'_>) -> io::Result<()> {
        let (name, index) = pair.host;
        let made = self.one(RTM_NEWLINK, ACK | CREATE | EXCLUSIVE, &link(index, IFF_UP, IFF_UP), |message| {
            message.text(IFLA_IFNAME, name);
            message.attribute(IFLA_MASTER, &pair.bridge.to_ne_bytes());
            message.attribute(IFLA_GROUP, &pair.group.to_ne_bytes());
            message.nested(IFLA_LINKINFO, |info| {
                info.attribute(IFLA_INFO_KIND, b"veth").nested(IFLA_INFO_DATA, |data| {
                    data.nested(VETH_INFO_PEER, |peer| inside(peer, pair));
                });
            });
        });
        made.map(|_| ())
    }

    /// `ip addr add ADDRESS dev INDEX`, up, and, with a gateway, `ip route add default via GATEWAY`, in one datagram.
    pub fn configure(
        &self,
        index: u32,
        address: (Ipv4Addr, u8),
        gateway: Option<Ipv4Addr>,
    ) -> io::Result<()> {
        let (address, prefix) = address;
        let mut all = Datagram::default();
        let mut on_index = [AF_INET, prefix, 0, 0, 0, 0, 0, 0];
        on_index[4..].copy_from_slice(&index.to_ne_bytes());
        all.message(RTM_NEWADDR, CREATE | EXCLUSIVE, &on_index, |message| {
            message.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets());
        });
        let up = link(index, IFF_UP, IFF_UP);
        let Some(gateway) = gateway else {
            all.message(RTM_NEWLINK, ACK, &up, |_| {});
            return all.exchange(&self.0, 2).map(|_| ());
        };
        all.message(RTM_NEWLINK, 0, &up, |_| {});
        let route = [[AF_INET, 0, 0, 0].as_slice(), &ROUTE].concat();
        all.message(RTM_NEWROUTE, ACK | CREATE | EXCLUSIVE, &route, |message| {
            message.attribute(RTA_GATEWAY, &gateway.octets());
        });
        all.exchange(&self.0, 3).map(|_| ())
    }

    /// `ip link del NAME`; a pair goes as a whole.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        let gone = self.one(RTM_DELLINK, ACK, &link(0, 0, 0), |message| {
            message.text(IFLA_IFNAME, name);
        });
        gone.map(|_| ())
    }

    /// `ip link del group GROUP`
    pub fn delete_group(&self, group: u32) -> io::Result<()> {
        let gone = self.one(RTM_DELLINK, ACK, &link(0, 0, 0), |message| {
            message.attribute(IFLA_GROUP, &group.to_ne_bytes());
        });
        gone.map(|_| ())
    }

    fn one(
        &self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        attributes: impl FnOnce(&mut Datagram),
    ) -> io::Result<[u8; 64]> {
        let mut datagram = Datagram::default();
        datagram.message(kind, flags, fixed, attributes);
        datagram.exchange(&self.0, 1)
    }
}

fn inside(peer: &mut Datagram, pair: &Pair<'_>) {
    let (name, index) = pair.inside;
    peer.raw(&link(index, 0, 0));
    peer.text(IFLA_IFNAME, name);
    peer.attribute(IFLA_NET_NS_FD, &pair.netns.as_raw_fd().cast_unsigned().to_ne_bytes());
}

/// `struct ifinfomsg`: change those flags that are in `mask` to what they are in `flags`.
fn link(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

/// Reads the flags in the `struct ifinfomsg` of an answer.
fn is_up(answer: [u8; 64]) -> bool {
    word(&answer, 24).is_some_and(|flags| flags & IFF_UP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_namespace_can_be_asked_for_its_loopback() {
        let rtnl = Rtnl::open().unwrap();
        assert_eq!(rtnl.is_up("lo").unwrap(), Some(rtnl.loopback_is_up().unwrap()));
        assert_eq!(rtnl.is_up("there-is-none").unwrap(), None);
    }
}
