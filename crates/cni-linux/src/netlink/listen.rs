//! What the kernel tells without being asked (`RTNLGRP_…`, `rtnetlink(7)`).
//!
//! It says that something changed, not to what: whoever waits looks again. That needs no order of events, no complete
//! messages, and no event that was not lost.

use std::time::Instant;

use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{RecvFlags, bind};

use super::{Socket, wire};
use crate::error::Errno;

/// Groups, as bits: `1 << (RTNLGRP_… - 1)`, `include/uapi/linux/rtnetlink.h`.
pub(crate) const LINKS: u32 = 1;
pub(crate) const IPV6_ADDRESSES: u32 = 1 << 8;

/// A socket that is told what changes in its namespace.
pub(crate) struct Listener(Socket);

impl Listener {
    /// Listens in the namespace of the calling thread, from now on.
    pub(crate) fn open(groups: u32) -> std::io::Result<Listener> {
        let socket = Socket::of(NETLINK_ROUTE)?;
        bind(&socket.socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Listener(socket))
    }

    /// Waits until something is told that `concerns` us: whether it was before the deadline. Without one, it waits for
    /// ever.
    pub(crate) fn wait(
        &mut self,
        deadline: Option<Instant>,
        concerns: impl Fn(u16, &[u8]) -> bool,
    ) -> rustix::io::Result<bool> {
        loop {
            match self.0.receive(RecvFlags::DONTWAIT) {
                Ok(_) => {
                    if wire::messages(&self.0.incoming).any(|(kind, body)| concerns(kind, body)) {
                        return Ok(true);
                    }
                }
                // There was more than the socket could keep.
                Err(Errno::NOBUFS) => return Ok(true),
                Err(Errno::AGAIN) => {
                    if !self.readable(deadline)? {
                        return Ok(false);
                    }
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn readable(&self, deadline: Option<Instant>) -> rustix::io::Result<bool> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&self.0.socket, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}
