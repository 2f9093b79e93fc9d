//! Waiting for what the kernel does in its own time: links that come up, addresses that are checked for duplicates.
//!
//! Nothing sleeps, and nothing is asked at intervals: the kernel tells when something changed. What is to be waited for,
//! and what it means if it does not come, is the caller's business.

use std::time::{Duration, Instant};

use crate::address::Address;
use crate::error::{Error, Result};
use crate::link::{Link, LinkRef};
use crate::netlink::listen::{IPV6_ADDRESSES, LINKS, Listener};
use crate::netlink::rtm;
use crate::netlink::wire::u32_at;
use crate::netns::Netns;

impl Netns {
    /// Waits until the link is as it is `wanted`, and returns it as it was last, which may be otherwise if that took
    /// longer than the `timeout`.
    ///
    /// One request if the link is so already. The port of a bridge, for instance, carries packets when its
    /// [operational state](Link::oper_state) is up, which follows the state of its carrier with a delay.
    ///
    /// # Errors
    ///
    /// [`Error::is_gone`] if there is no such link, or not any more.
    pub fn wait_for_link<'a>(
        &self,
        which: impl Into<LinkRef<'a>>,
        timeout: Duration,
        mut wanted: impl FnMut(&Link) -> bool,
    ) -> Result<Link> {
        let which = which.into();
        let link = self.link(which)?;
        let index = link.index;
        let waiting = Waiting { netns: self, doing: "wait for link", what: which, group: LINKS, timeout };
        let concerns = |kind, body: &[u8]| is_about(kind, body, &[rtm::NEWLINK, rtm::DELLINK], index);
        waiting.until(link, || self.link(index), |link| Ok(wanted(link)), concerns)
    }

    /// Waits until none of the link's addresses is [tentative](Address::is_tentative) any more, and returns them as they
    /// were last: if that took longer than the `timeout`, some still are.
    ///
    /// Two requests if there is nothing to wait for, or one if the link is known. Duplicate address detection takes about a
    /// second from when the link carries packets, unless it is turned off
    /// ([`AddressSpec::without_dad`](crate::AddressSpec::without_dad), `net/ipv6/conf/<link>/accept_dad`).
    ///
    /// # Errors
    ///
    /// If somebody else has one of the addresses. [`Error::is_gone`] if there is no such link.
    pub fn wait_for_addresses<'a>(
        &self,
        which: impl Into<LinkRef<'a>>,
        timeout: Duration,
    ) -> Result<Vec<Address>> {
        let which = which.into();
        let index = self.index_of(which)?;
        let settled =
            |addresses: &Vec<Address>| match addresses.iter().find(|address| address.is_dad_failed()) {
                Some(address) => {
                    let what = format!("{address} of link {which}");
                    Err(Error::new(
                        "wait for address",
                        what,
                        "somebody else has it (duplicate address detection)",
                    ))
                }
                None => Ok(!addresses.iter().any(Address::is_tentative)),
            };
        let (doing, group) = ("wait for addresses of link", IPV6_ADDRESSES);
        let waiting = Waiting { netns: self, doing, what: which, group, timeout };
        let concerns = |kind, body: &[u8]| is_about(kind, body, &[rtm::NEWADDR, rtm::DELADDR], index);
        waiting.until(self.addresses(index)?, || self.addresses(index), settled, concerns)
    }
}

/// What is waited for.
struct Waiting<'a> {
    netns: &'a Netns,
    doing: &'static str,
    what: LinkRef<'a>,
    /// Who is told about it.
    group: u32,
    timeout: Duration,
}

impl Waiting<'_> {
    /// Looks again, whenever something happened that `concerns` it, until it is `settled` or time is up.
    fn until<T>(
        &self,
        now: T,
        mut look: impl FnMut() -> Result<T>,
        mut settled: impl FnMut(&T) -> Result<bool>,
        concerns: impl Fn(u16, &[u8]) -> bool,
    ) -> Result<T> {
        if settled(&now)? {
            return Ok(now);
        }
        // A timeout that is too long for a clock is none.
        let deadline = Instant::now().checked_add(self.timeout);
        let listener = self.netns.visit(|| Listener::open(self.group))?;
        let mut listener = listener.map_err(|err| Error::io(self.doing, self.what.to_string(), &err))?;
        // From here on nothing escapes; what happened before that is seen by looking once more.
        loop {
            let now = look()?;
            if settled(&now)? {
                return Ok(now);
            }
            let told = listener.wait(deadline, &concerns);
            if !told.map_err(|errno| Error::os(self.doing, self.what.to_string(), errno))? {
                return Ok(now);
            }
        }
    }
}

/// Whether a message of one of these kinds is about the link. The index is at the same place in `struct ifinfomsg` and
/// `struct ifaddrmsg`.
fn is_about(kind: u16, body: &[u8], kinds: &[u16], index: u32) -> bool {
    kinds.contains(&kind) && u32_at(body, 4) == Some(index)
}
