//! The requests to the kernel that the floor makes and the sandbox needs: the loopback interface, up, down or asked for.
//!
//! Raw bytes and nothing around them, because the floor is the least that the job can cost. It is no netlink library:
//! errors carry a number only.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// `include/uapi/linux/rtnetlink.h`
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
/// `include/uapi/linux/netlink.h`
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `include/uapi/linux/if.h`
const IFF_UP: u32 = 1;

/// The first interface of every network namespace is `lo` (`LOOPBACK_IFINDEX`, `include/net/net_namespace.h`).
const LO: u32 = 1;

/// `struct nlmsghdr` and `struct ifinfomsg`.
const REQUEST: usize = 32;

/// An rtnetlink socket, bound for ever to the namespace in which it was opened.
pub struct Rtnl(OwnedFd);

impl Rtnl {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Rtnl> {
        // The protocol is NETLINK_ROUTE, which is zero.
        Ok(Rtnl(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// `ip link set lo up`, or `down`.
    pub fn set_loopback(&self, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.exchange(request(RTM_NEWLINK, NLM_F_ACK, flags, IFF_UP)).map(|_answer| ())
    }

    /// `ip link show lo`: whether it is up.
    pub fn loopback_is_up(&self) -> io::Result<bool> {
        self.exchange(request(RTM_GETLINK, 0, 0, 0)).map(|answer| answer.flags & IFF_UP != 0)
    }

    fn exchange(&self, request: [u8; REQUEST]) -> io::Result<Answer> {
        send(&self.0, &request, SendFlags::empty())?;
        let mut answer = [0; REQUEST];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        Answer::read(&answer[..length])
    }
}

/// What is read of an answer: an acknowledgement has no flags.
struct Answer {
    flags: u32,
}

impl Answer {
    fn read(bytes: &[u8]) -> io::Result<Answer> {
        let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let kind =
            bytes.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes).ok_or_else(short)?;
        let word = |at: usize| {
            bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes).ok_or_else(short)
        };
        match kind {
            NLMSG_ERROR => match word(16)?.cast_signed() {
                0 => Ok(Answer { flags: 0 }),
                errno => Err(io::Error::from_raw_os_error(-errno)),
            },
            _ => Ok(Answer { flags: word(24)? }),
        }
    }
}

/// A request about `lo`: change those of its flags that are in `mask` to what they are in `flags`.
fn request(kind: u16, extra: u16, flags: u32, mask: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | extra).to_ne_bytes());
    bytes[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    bytes[20..24].copy_from_slice(&LO.to_ne_bytes());
    bytes[24..28].copy_from_slice(&flags.to_ne_bytes());
    bytes[28..32].copy_from_slice(&mask.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_kernels_number() {
        let mut refusal = [0; 36];
        refusal[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        refusal[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        let error = Answer::read(&refusal).map(|answer| answer.flags).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(1));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        assert!(Answer::read(&[0; 10]).is_err());
        assert!(Answer::read(&[]).is_err());
    }

    #[test]
    fn every_namespace_can_be_asked_for_its_loopback() {
        Rtnl::open().unwrap().loopback_is_up().unwrap();
    }
}
