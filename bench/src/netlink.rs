//! Messages to the kernel and its answers: what [`rtnl`](crate::rtnl) and [`nft`](crate::nft) are written with.
//!
//! Raw bytes and nothing around them, because the floor is the least that the job can cost. It is no netlink library:
//! errors carry a number only.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `include/uapi/linux/netlink.h`
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACK: u16 = 4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
const NLMSG_ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

/// `struct nlmsghdr`
const HEADER: usize = 16;

/// A netlink socket, bound for ever to the namespace in which it was opened.
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket in the namespace of the calling thread. No protocol is `NETLINK_ROUTE`, which is zero.
    pub(crate) fn open(protocol: Option<Protocol>) -> io::Result<Socket> {
        Ok(Socket(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?))
    }

    /// Sends a datagram of messages, and waits until the kernel has answered the one with the number `awaited` or
    /// refused one. Returns the first octets of the answer.
    pub(crate) fn exchange(&self, messages: &[u8], awaited: u32) -> io::Result<[u8; 64]> {
        send(&self.0, messages, SendFlags::empty())?;
        loop {
            let mut answer = [0; 64];
            let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
            if read(&answer[..length])? == awaited {
                return Ok(answer);
            }
        }
    }
}

/// The number of the message that this is an answer to, unless it is a refusal.
fn read(answer: &[u8]) -> io::Result<u32> {
    let word = |at| word(answer, at).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
    let (kind, number) = (word(4)? & 0xffff, word(8)?);
    if kind == u32::from(NLMSG_ERROR) {
        match word(16)?.cast_signed() {
            0 => {}
            errno => return Err(io::Error::from_raw_os_error(-errno)),
        }
    }
    Ok(number)
}

/// The 32-bit number at an offset.
pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A datagram in the making: messages, one after the other, which are numbered from 1.
#[derive(Default)]
pub(crate) struct Datagram {
    bytes: Vec<u8>,
    number: u32,
}

impl Datagram {
    /// Adds a message: its kind and flags, the fixed structure that follows its header, and what `rest` adds.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        rest: impl FnOnce(&mut Datagram),
    ) -> &mut Datagram {
        let start = self.bytes.len();
        self.number += 1;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.number.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; HEADER - 12]);
        self.bytes.extend_from_slice(fixed);
        rest(self);
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Datagram {
        self.open_ended(kind, |datagram| datagram.bytes.extend_from_slice(value))
    }

    /// Adds a text that ends with a zero.
    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Datagram {
        self.open_ended(kind, |datagram| {
            datagram.bytes.extend_from_slice(text.as_bytes());
            datagram.bytes.push(0);
        })
    }

    /// Adds an attribute of attributes.
    pub(crate) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Datagram)) -> &mut Datagram {
        self.open_ended(kind | NESTED, inside)
    }

    /// Adds octets as they are: a structure in front of attributes.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Datagram {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Sends it; see [`Socket::exchange`].
    pub(crate) fn exchange(&self, socket: &Socket, awaited: u32) -> io::Result<[u8; 64]> {
        socket.exchange(&self.bytes, awaited)
    }

    fn open_ended(&mut self, kind: u16, inside: impl FnOnce(&mut Datagram)) -> &mut Datagram {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        inside(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_the_kernels_number() {
        let mut refusal = [0; 36];
        refusal[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        refusal[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        assert_eq!(read(&refusal).unwrap_err().raw_os_error(), Some(1));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        assert!(read(&[0; 10]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn lengths_leave_out_the_padding_and_count_what_is_inside() {
        let mut datagram = Datagram::default();
        datagram.message(7, ACK, &[9; 4], |message| {
            message.nested(3, |inside| {
                inside.text(1, "ab");
            });
        });
        let expected: [&[u8]; 6] = [
            &32_u32.to_ne_bytes(),
            &[7, 0, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[9; 4],
            &[12, 0, 3, 128],
            &[7, 0, 1, 0],
            b"ab\0\0",
        ];
        assert_eq!(datagram.bytes, expected.concat());
    }
}
