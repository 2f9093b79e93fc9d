//! Blocking netlink sockets: requests, acknowledgements, dumps, transactions, and notifications.
//!
//! It knows how netlink talks (`netlink(7)`, `rtnetlink(7)`) and nothing about links or addresses: bodies come in
//! encoded form from their modules, and replies go back to them as bytes. It never formats a message for humans.

pub(crate) mod batch;
pub(crate) mod encode;
pub(crate) mod listen;
pub(crate) mod wire;

use std::fmt;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE, NETLINK_SOCK_DIAG};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, SendFlags, recvfrom, sendto};

use crate::error::{Errno, Error, Result};
use wire::{Progress, Refusal};

/// Room for one datagram. The kernel fills dumps up to what the reader offers, at most 32 KiB, unless a single
/// object needs more (`netlink_dump` in `net/netlink/af_netlink.c`).
const BUFFER: usize = 32 * 1024;

/// How often a dump is started before giving up on a table that keeps changing.
const ATTEMPTS: usize = 5;

/// Message types, `include/uapi/linux/rtnetlink.h`.
pub(crate) mod rtm {
    pub(crate) const NEWLINK: u16 = 16;
    pub(crate) const DELLINK: u16 = 17;
    pub(crate) const GETLINK: u16 = 18;
    pub(crate) const SETLINK: u16 = 19;
    pub(crate) const NEWADDR: u16 = 20;
    pub(crate) const DELADDR: u16 = 21;
    pub(crate) const GETADDR: u16 = 22;
    pub(crate) const NEWROUTE: u16 = 24;
    pub(crate) const DELROUTE: u16 = 25;
    pub(crate) const GETROUTE: u16 = 26;
    pub(crate) const NEWNEIGH: u16 = 28;
    pub(crate) const DELNEIGH: u16 = 29;
    pub(crate) const GETNEIGH: u16 = 30;
    pub(crate) const NEWRULE: u16 = 32;
    pub(crate) const DELRULE: u16 = 33;
    pub(crate) const GETRULE: u16 = 34;
    pub(crate) const NEWQDISC: u16 = 36;
    pub(crate) const DELQDISC: u16 = 37;
    pub(crate) const GETQDISC: u16 = 38;
    #[cfg(feature = "testing")]
    pub(crate) const GETTCLASS: u16 = 42;
    pub(crate) const NEWTFILTER: u16 = 44;
    pub(crate) const GETTFILTER: u16 = 46;
    pub(crate) const GETVLAN: u16 = 114;
}

/// Message types of nf_tables, `include/uapi/linux/netfilter/nf_tables.h`, below their subsystem
/// (`NFNL_SUBSYS_NFTABLES`, `include/uapi/linux/netfilter/nfnetlink.h`).
pub(crate) mod nft {
    const SUBSYSTEM: u16 = 10 << 8;
    pub(crate) const NEWTABLE: u16 = SUBSYSTEM;
    pub(crate) const DELTABLE: u16 = SUBSYSTEM | 2;
    pub(crate) const NEWCHAIN: u16 = SUBSYSTEM | 3;
    pub(crate) const DELCHAIN: u16 = SUBSYSTEM | 5;
    pub(crate) const NEWRULE: u16 = SUBSYSTEM | 6;
    #[cfg(feature = "testing")]
    pub(crate) const GETTABLE: u16 = SUBSYSTEM | 1;
    pub(crate) const GETCHAIN: u16 = SUBSYSTEM | 4;
    pub(crate) const GETRULE: u16 = SUBSYSTEM | 7;
    pub(crate) const DELRULE: u16 = SUBSYSTEM | 8;
    pub(crate) const NEWSET: u16 = SUBSYSTEM | 9;
    pub(crate) const GETSET: u16 = SUBSYSTEM | 10;
    pub(crate) const DELSET: u16 = SUBSYSTEM | 11;
    pub(crate) const NEWSETELEM: u16 = SUBSYSTEM | 12;
    pub(crate) const GETSETELEM: u16 = SUBSYSTEM | 13;
    pub(crate) const DELSETELEM: u16 = SUBSYSTEM | 14;
}

/// Message types of connection tracking, `include/uapi/linux/netfilter/nfnetlink_conntrack.h`, below their subsystem
/// (`NFNL_SUBSYS_CTNETLINK`).
pub(crate) mod ct {
    const SUBSYSTEM: u16 = 1 << 8;
    pub(crate) const GET: u16 = SUBSYSTEM | 1;
    pub(crate) const DELETE: u16 = SUBSYSTEM | 2;
}

/// The one message type of `sock_diag(7)`, `include/uapi/linux/sock_diag.h`.
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;

/// What the kernel calls a request, for tests that list them.
#[cfg(feature = "testing")]
fn message_name(protocol: isize, kind: u16) -> &'static str {
    match kind {
        // Its number is that of another one elsewhere.
        SOCK_DIAG_BY_FAMILY if protocol == NETLINK_SOCK_DIAG => "SOCK_DIAG_BY_FAMILY",
        rtm::NEWLINK => "RTM_NEWLINK",
        rtm::DELLINK => "RTM_DELLINK",
        rtm::GETLINK => "RTM_GETLINK",
        rtm::SETLINK => "RTM_SETLINK",
        rtm::NEWADDR => "RTM_NEWADDR",
        rtm::DELADDR => "RTM_DELADDR",
        rtm::GETADDR => "RTM_GETADDR",
        rtm::NEWROUTE => "RTM_NEWROUTE",
        rtm::DELROUTE => "RTM_DELROUTE",
        rtm::GETROUTE => "RTM_GETROUTE",
        rtm::NEWNEIGH => "RTM_NEWNEIGH",
        rtm::DELNEIGH => "RTM_DELNEIGH",
        rtm::GETNEIGH => "RTM_GETNEIGH",
        rtm::NEWRULE => "RTM_NEWRULE",
        rtm::DELRULE => "RTM_DELRULE",
        rtm::GETRULE => "RTM_GETRULE",
        rtm::NEWQDISC => "RTM_NEWQDISC",
        rtm::DELQDISC => "RTM_DELQDISC",
        rtm::GETQDISC => "RTM_GETQDISC",
        rtm::GETTCLASS => "RTM_GETTCLASS",
        rtm::NEWTFILTER => "RTM_NEWTFILTER",
        rtm::GETTFILTER => "RTM_GETTFILTER",
        rtm::GETVLAN => "RTM_GETVLAN",
        nft::GETTABLE => "NFT_MSG_GETTABLE",
        nft::GETCHAIN => "NFT_MSG_GETCHAIN",
        nft::GETRULE => "NFT_MSG_GETRULE",
        nft::GETSET => "NFT_MSG_GETSET",
        nft::GETSETELEM => "NFT_MSG_GETSETELEM",
        ct::GET => "IPCTNL_MSG_CT_GET",
        ct::DELETE => "IPCTNL_MSG_CT_DELETE",
        _ => "NLMSG_?",
    }
}

/// One request, and the words for it should it fail.
pub(crate) struct Request<'a> {
    pub(crate) kind: u16,
    pub(crate) body: &'a dyn Emitable,
    /// `add link`
    pub(crate) doing: &'static str,
    /// `veth eth0`
    pub(crate) what: &'a dyn fmt::Display,
}

impl Request<'_> {
    fn error(&self, errno: Errno) -> Error {
        Error::os(self.doing, self.what.to_string(), errno)
    }

    fn refused(&self, refusal: Refusal, sent: &[u8]) -> Error {
        let attribute = refusal.offset.and_then(|offset| wire::attribute_at(sent, offset));
        self.error(refusal.errno).with_said(refusal.said, attribute)
    }
}

/// How a change treats an object that is there already.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    /// Change what exists, or delete it.
    Modify,
    /// Make it; it must not exist.
    Create,
    /// Make it; the kernel decides whether it can stand beside what exists.
    Beside,
    /// Make it, in place of what exists.
    Replace,
}

impl Change {
    fn flags(self) -> u16 {
        match self {
            Change::Modify => 0,
            Change::Create => NLM_F_CREATE | NLM_F_EXCL,
            Change::Beside => NLM_F_CREATE,
            Change::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        }
    }
}

/// A netlink socket, bound for ever to the network namespace in which it was opened.
pub(crate) struct Socket {
    #[cfg(feature = "testing")]
    protocol: isize,
    socket: netlink_sys::Socket,
    sequence: u32,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
}

impl Socket {
    /// Opens an rtnetlink socket in the namespace of the calling thread.
    pub(crate) fn open() -> std::io::Result<Socket> {
        Socket::of(NETLINK_ROUTE)
    }

    /// Opens an nfnetlink socket in the namespace of the calling thread.
    pub(crate) fn open_netfilter() -> std::io::Result<Socket> {
        Socket::of(NETLINK_NETFILTER)
    }

    /// Opens a socket to ask about sockets, in the namespace of the calling thread (`sock_diag(7)`).
    pub(crate) fn open_diagnostics() -> std::io::Result<Socket> {
        Socket::of(NETLINK_SOCK_DIAG)
    }

    fn of(protocol: isize) -> std::io::Result<Socket> {
        let socket = netlink_sys::Socket::new(protocol)?;
        // Old kernels lack these. They only cost good error texts and filtering, which is checked again anyway.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Socket {
            #[cfg(feature = "testing")]
            protocol,
            socket,
            sequence: 0,
            outgoing: Vec::new(),
            incoming: Vec::with_capacity(BUFFER),
        })
    }

    /// Asks the kernel to change something and waits for its answer.
    ///
    /// Every change made over rtnetlink passes here; this is the fault point of the tests.
    pub(crate) fn change(&mut self, request: &Request<'_>, how: Change) -> Result<()> {
        #[cfg(feature = "testing")]
        crate::testing::fault::change(
            message_name(self.protocol, request.kind),
            request.doing,
            request.what,
        )?;
        match self.exchange(request, NLM_F_ACK | how.flags(), &mut |_| ())? {
            Outcome::Complete => Ok(()),
            // The acknowledgement is lost, and with it whether the change was made.
            Outcome::Interrupted | Outcome::Truncated => Err(request.error(Errno::MSGSIZE)),
        }
    }

    /// Asks for one object. `read` gets the body of the answer.
    pub(crate) fn get<T>(
        &mut self,
        request: &Request<'_>,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T> {
        let found = self.query(request, 0, &mut read)?;
        found.into_iter().next().ok_or_else(|| {
            Error::new(request.doing, request.what.to_string(), "the kernel's answer was not understood")
        })
    }

    /// Asks for all objects that match. `read` gets the body of each; those for which it has no answer are left out.
    ///
    /// A table that changes while it is read makes the kernel flag the dump as inconsistent; it is then read again.
    pub(crate) fn dump<T>(
        &mut self,
        request: &Request<'_>,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        self.query(request, NLM_F_DUMP, &mut read)
    }

    fn query<T>(
        &mut self,
        request: &Request<'_>,
        flags: u16,
        read: &mut dyn FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            #[cfg(feature = "testing")]
            crate::testing::fault::query(
                message_name(self.protocol, request.kind),
                request.doing,
                request.what,
            );
            let mut found = Vec::new();
            let outcome = self.exchange(request, flags, &mut |body| found.extend(read(body)))?;
            if let Outcome::Complete = outcome {
                return Ok(found);
            }
        }
        let cause = format!("the table kept changing while it was read, {ATTEMPTS} times over");
        Err(Error::new(request.doing, request.what.to_string(), cause).with_errno(Errno::INTR))
    }

    /// Sends one request and reads until it has been answered in full.
    fn exchange(
        &mut self,
        request: &Request<'_>,
        flags: u16,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<Outcome> {
        // Zero is the sequence number of unsolicited messages.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        self.encode(request, flags);
        self.send().map_err(|errno| request.error(errno))?;
        let mut interrupted = false;
        loop {
            let received = self.receive(RecvFlags::empty());
            let length = received.map_err(|errno| request.error(errno))?;
            if length > self.incoming.len() {
                self.drain();
                self.incoming.reserve(length.next_power_of_two());
                return Ok(Outcome::Truncated);
            }
            match wire::digest(&self.incoming, self.sequence, &mut interrupted, read) {
                Progress::More => {}
                Progress::Complete if interrupted => return Ok(Outcome::Interrupted),
                Progress::Complete => return Ok(Outcome::Complete),
                Progress::Refused(refusal) => return Err(request.refused(refusal, &self.outgoing)),
                Progress::Malformed => {
                    self.drain();
                    return Err(request.error(Errno::BADMSG));
                }
            }
        }
    }

    fn encode(&mut self, request: &Request<'_>, flags: u16) {
        let header = wire::HEADER;
        let length = header + request.body.buffer_len();
        self.outgoing.clear();
        self.outgoing.resize(length, 0);
        let flags = flags | NLM_F_REQUEST;
        wire::Header { length, kind: request.kind, flags, sequence: self.sequence }.write(&mut self.outgoing);
        request.body.emit(&mut self.outgoing[header..]);
    }

    fn send(&self) -> rustix::io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::io::retry_on_intr(|| sendto(&self.socket, &self.outgoing, SendFlags::empty(), &kernel))
            .map(|_sent| ())
    }

    /// Reads one datagram of the kernel's into `incoming` and returns its true length, which may be more than fits.
    fn receive(&mut self, flags: RecvFlags) -> rustix::io::Result<usize> {
        loop {
            self.incoming.clear();
            let room = rustix::buffer::spare_capacity(&mut self.incoming);
            match recvfrom(&self.socket, room, flags | RecvFlags::TRUNC) {
                Ok((_, length, Some(from))) => {
                    // Whoever is privileged in the namespace can send to this socket; only the kernel has port 0.
                    if SocketAddrNetlink::try_from(from).is_ok_and(|from| from.pid() == 0) {
                        return Ok(length);
                    }
                }
                Ok((_, _, None)) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Throws away what is left of an answer, so that the socket is ready for the next request.
    ///
    /// It does not wait: rtnetlink answers within `sendto`, and continues a dump within `recvfrom`.
    fn drain(&mut self) {
        while self.receive(RecvFlags::DONTWAIT).is_ok() {}
    }
}

/// What became of a request that was not refused.
enum Outcome {
    Complete,
    /// The table changed while it was being dumped: the answer may lack objects or hold some twice.
    Interrupted,
    /// A datagram did not fit. The buffer has been enlarged.
    Truncated,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Link;
    use netlink_packet_route::link::LinkMessage;

    fn names(socket: &mut Socket) -> Vec<String> {
        let body = LinkMessage::default();
        let request = Request { kind: rtm::GETLINK, body: &body, doing: "list links", what: &"" };
        socket.dump(&request, |body| Link::read(body).map(|link| link.name)).unwrap()
    }

    /// Only looks, so it needs no sandbox.
    #[test]
    fn an_answer_that_does_not_fit_is_asked_for_again() {
        let mut socket = Socket::open().unwrap();
        let expected = names(&mut socket);
        assert!(expected.contains(&"lo".to_owned()));
        for capacity in [1, 15, 16, 100, 1000] {
            socket.incoming = Vec::with_capacity(capacity);
            assert_eq!(names(&mut socket), expected, "{capacity}");
        }
    }

    #[test]
    fn sequence_numbers_go_round_without_zero() {
        let mut socket = Socket::open().unwrap();
        socket.sequence = u32::MAX;
        assert!(names(&mut socket).contains(&"lo".to_owned()));
        assert_eq!(socket.sequence, 1);
    }
}
