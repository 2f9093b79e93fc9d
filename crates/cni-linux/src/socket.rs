//! Who listens: sockets that a port of this host belongs to, and the processes that have them.
//!
//! It looks, and takes no port: who asks and then binds may still be too late.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::error::{Error, Result};
use crate::family::IpFamily;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, ip, u8_at, u32_at};
use crate::netlink::{Request, SOCK_DIAG_BY_FAMILY, Socket};
use crate::netns::Netns;

/// `struct inet_diag_req_v2` and `struct inet_diag_msg`, `include/uapi/linux/inet_diag.h`.
const INET_DIAG_REQ: usize = 56;
const INET_DIAG_MSG: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// States, `include/net/tcp_states.h`: UDP sockets that are not connected are "closed".
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;

/// A socket that gets what is sent to a port of this host (`ss -l`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listener {
    /// Where: on one address, or on all of them (`0.0.0.0`, `::`).
    pub address: SocketAddr,
    /// 6 is TCP, 17 UDP, 132 SCTP.
    pub protocol: u8,
    /// On all IPv6 addresses, it does not listen on those of IPv4, as it otherwise does.
    pub ipv6_only: bool,
    /// The user that opened it.
    pub user: u32,
    inode: u32,
}

impl Listener {
    /// Whether it gets what is sent to this address, if the address is one of this host's. All addresses of a family
    /// (`0.0.0.0`, `::`) are any of them.
    pub fn listens_on(&self, address: IpAddr) -> bool {
        let own = self.address.ip();
        if own.is_unspecified() {
            return own.is_ipv4() == address.is_ipv4() || (own.is_ipv6() && !self.ipv6_only);
        }
        own == address || (address.is_unspecified() && own.is_ipv4() == address.is_ipv4())
    }

    /// The process that has it, the first if there are several. `None` if that is in another PID namespace, or none that the
    /// caller may look at.
    ///
    /// It goes through the descriptors of all processes there are: for words that somebody reads, not on the way.
    pub fn process(&self) -> Option<Process> {
        let mine = format!("socket:[{}]", self.inode);
        let mut pids: Vec<u32> = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        pids.into_iter().find(|pid| has_open(*pid, &mine)).map(Process::with_id)
    }

    /// Reads a message of `SOCK_DIAG_BY_FAMILY`.
    fn read(body: &[u8], protocol: u8) -> Option<Listener> {
        let port = body.get(4..6)?.try_into().ok().map(u16::from_be_bytes)?;
        let length = match IpFamily::from_number(u8_at(body, 0)?)? {
            IpFamily::V4 => 4,
            IpFamily::V6 => 16,
        };
        let address = ip(body.get(8..8 + length)?)?;
        let (user, inode) = (u32_at(body, 64)?, u32_at(body, 68)?);
        let mut own = attributes(body.get(INET_DIAG_MSG..)?);
        let ipv6_only = own.any(|(kind, value)| kind == INET_DIAG_SKV6ONLY && u8_at(value, 0) == Some(1));
        let listener = Listener { address: SocketAddr::new(address, port), protocol, ipv6_only, user, inode };
        Some(listener.unmapped())
    }

    /// A socket of IPv6 that listens on an address of IPv4 (`::ffff:192.0.2.1`) is like one of IPv4.
    fn unmapped(mut self) -> Listener {
        if let IpAddr::V6(address) = self.address.ip()
            && let Some(address) =
                address.to_ipv4_mapped().filter(|address| *address != Ipv4Addr::UNSPECIFIED)
        {
            self.address.set_ip(address.into());
        }
        self
    }
}

/// A process, as far as it is of use to name it. Prints as `nginx (pid 812)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its number, in the PID namespace of the caller.
    pub id: u32,
    /// Its name, as in `/proc/<pid>/comm`: at most 15 octets. Empty if it cannot be read.
    pub name: String,
}

impl Process {
    fn with_id(id: u32) -> Process {
        let name = std::fs::read(format!("/proc/{id}/comm")).unwrap_or_default();
        // Whoever runs may call itself as it likes; this is printed.
        let name =
            String::from_utf8_lossy(&name).trim_end().chars().filter(|letter| !letter.is_control()).collect();
        Process { id, name }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "pid {}", self.id),
            name => write!(f, "{name} (pid {})", self.id),
        }
    }
}

impl Netns {
    /// The sockets that get what is sent to a port of this namespace, of either family: 6 is TCP, 17 UDP, 132 SCTP
    /// (`ss -ln sport = :PORT`). Not those that have the port on their side of a connection.
    ///
    /// Two questions. The kernel goes through all listening sockets, and sends no others. None if it knows no such protocol,
    /// or does not tell who listens.
    pub fn listeners(&self, protocol: u8, port: u16) -> Result<Vec<Listener>> {
        let (doing, what) = ("list sockets", format!("of protocol {protocol} on port {port}"));
        let opened = self.visit(Socket::open_diagnostics)?;
        let mut socket = opened.map_err(|err| Error::io(doing, what.clone(), &err))?;
        let mut found = Vec::new();
        for family in IpFamily::BOTH {
            let body = question(family, protocol, port);
            let request = Request { kind: SOCK_DIAG_BY_FAMILY, body: &body, doing, what: &what };
            let wanted = |listener: &Listener| listener.address.port() == port;
            match socket.dump(&request, |body| Listener::read(body, protocol).filter(wanted)) {
                // There is no such protocol, or the module that could tell is missing.
                Err(unknown) if unknown.is_gone() || unknown.is_unsupported() => {}
                listed => found.extend(listed?),
            }
        }
        Ok(found)
    }
}

fn question(family: IpFamily, protocol: u8, port: u16) -> Body {
    let states: u32 = 1 << TCP_CLOSE | 1 << TCP_LISTEN;
    let mut question = [0; INET_DIAG_REQ];
    (question[0], question[1]) = (family.number(), protocol);
    question[4..8].copy_from_slice(&states.to_ne_bytes());
    question[8..10].copy_from_slice(&port.to_be_bytes());
    Body::new(&question)
}

/// Whether one of the process's descriptors leads there. One that may not be looked at has not, nor has one that ended.
fn has_open(pid: u32, wanted: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let mut targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.any(|target| target.as_os_str() == wanted)
}

/// For fuzzers.
#[cfg(feature = "testing")]
pub(crate) fn read_all(body: &[u8]) {
    let _ = Listener::read(body, 6);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, ipv6_only: bool) -> Listener {
        Listener {
            address: SocketAddr::new(address.parse().unwrap(), 80),
            protocol: 6,
            ipv6_only,
            user: 0,
            inode: 1,
        }
        .unmapped()
    }

    fn listens(on: &str, ipv6_only: bool) -> Vec<&'static str> {
        let listener = listener(on, ipv6_only);
        let all = ["0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "2001:db8::1"];
        all.into_iter().filter(|address| listener.listens_on(address.parse().unwrap())).collect()
    }

    #[test]
    fn who_listens_everywhere_is_in_everybodys_way() {
        assert_eq!(listens("0.0.0.0", false), ["0.0.0.0", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(listens("::", true), ["::", "2001:db8::1"]);
        assert_eq!(listens("::", false).len(), 5, "of both families");
        assert_eq!(listens("192.0.2.1", false), ["0.0.0.0", "192.0.2.1"]);
        assert_eq!(listens("::ffff:192.0.2.1", false), ["0.0.0.0", "192.0.2.1"]);
        assert_eq!(listens("2001:db8::1", false), ["::", "2001:db8::1"]);
    }

    #[test]
    fn a_process_without_a_name_has_its_number() {
        assert_eq!(Process { id: 812, name: "nginx".into() }.to_string(), "nginx (pid 812)");
        assert_eq!(Process { id: 812, name: String::new() }.to_string(), "pid 812");
    }
}
