//! Traffic control: how fast a link sends, and where what arrives is sent instead.
//!
//! Three things, and no more: the token bucket filter, the ingress queueing discipline, and a filter that redirects all
//! that arrives to another link, where it can be queued. What others attached is listed by its kind.

use std::fmt;
use std::time::Duration;

use crate::error::{Errno, Error, Result};
use crate::link::LinkRef;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, string, u8_at, u32_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;
use crate::undo::Undo;

/// `struct tcmsg` and `TCA_…`, `include/uapi/linux/rtnetlink.h`.
const TCMSG: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// Places and handles, `include/uapi/linux/pkt_sched.h`.
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
const ROOT_HANDLE: u32 = 0x1_0000;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// Where the filters of what arrives are (`TC_H_CLSACT`, `TC_H_MIN_INGRESS`): below an `ingress` as below a `clsact`.
const INGRESS_FILTERS: u32 = 0xffff_fff2;
/// `struct tc_tbf_qopt` and `TCA_TBF_…`, `include/uapi/linux/pkt_sched.h`.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;
const TC_TBF_QOPT: usize = 36;
const TC_LINKLAYER_ETHERNET: u8 = 1;
/// `struct tc_u32_sel` with one `struct tc_u32_key`, and `TCA_U32_…`, `include/uapi/linux/pkt_cls.h`.
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_SEL: usize = 16;
const TC_U32_KEY: usize = 16;
const TC_U32_TERMINAL: u8 = 1;
/// `TCA_ACT_…`, `include/uapi/linux/pkt_cls.h`, and `struct tc_mirred`, `include/uapi/linux/tc_act/tc_mirred.h`.
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TC_MIRRED: usize = 28;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_STOLEN: u32 = 4;
/// The first priority, and every protocol (`ETH_P_ALL`, `include/uapi/linux/if_ether.h`).
const PRIORITY: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// A tick of the packet scheduler, in nanoseconds (`PSCHED_SHIFT`, `include/net/pkt_sched.h`): what `tc` reads from
/// `/proc/net/psched`, which has been the same since Linux 3.0.
const TICK: u128 = 64;
const SECOND: u128 = 1_000_000_000;

/// A token bucket filter (`tc-tbf(8)`): what is sent takes tokens, one for an octet, from a bucket that is filled at a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tbf {
    /// In octets a second.
    pub rate: u64,
    /// How many octets can be sent at once, which is the size of the bucket.
    ///
    /// A packet that is larger is never sent, and one that is made of several (GSO) is cut up. The kernel keeps the time in
    /// which the bucket is filled, in ticks of 64 ns: what is read back is less by what is sent in up to one of them.
    pub burst: u32,
    /// How many octets wait at most; what comes then is dropped.
    pub limit: u32,
}

impl Tbf {
    /// Packets wait no longer than this (`latency`). The limit is computed as by `tc`: what is sent in that time, and a
    /// burst.
    pub fn with_latency(rate: u64, burst: u32, latency: Duration) -> Tbf {
        let waiting = u128::from(rate).saturating_mul(latency.as_nanos()) / SECOND;
        let limit = waiting.saturating_add(burst.into());
        Tbf { rate, burst, limit: u32::try_from(limit).unwrap_or(u32::MAX) }
    }

    /// How long packets wait at most, but for those of a burst (`latency`).
    pub fn latency(&self) -> Duration {
        let waiting = u128::from(self.limit.saturating_sub(self.burst)) * SECOND;
        let nanoseconds = waiting.checked_div(self.rate.into()).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// How long it takes to fill the bucket, in ticks. As `tc` does, it cuts off.
    fn buffer(&self) -> Option<u32> {
        let nanoseconds = (u128::from(self.burst) * SECOND).checked_div(self.rate.into())?;
        u32::try_from(nanoseconds / TICK).ok()
    }

    fn write(&self, buffer: u32, options: &mut Body) {
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        let mut parameters = [0; TC_TBF_QOPT];
        // `struct tc_ratespec`: the link layer, and the rate as far as there is room for it.
        parameters[1] = TC_LINKLAYER_ETHERNET;
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        parameters[28..32].copy_from_slice(&buffer.to_ne_bytes());
        options.bytes(TCA_TBF_PARMS, &parameters).ne32(TCA_TBF_BURST, self.burst);
        if rate == u32::MAX {
            options.bytes(TCA_TBF_RATE64, &self.rate.to_ne_bytes());
        }
    }

    fn read(options: &[u8]) -> Option<Tbf> {
        let (mut tbf, mut buffer) = (None, 0);
        for (kind, value) in attributes(options) {
            match kind {
                TCA_TBF_PARMS => {
                    buffer = u32_at(value, 28)?;
                    tbf = Some(Tbf { rate: u32_at(value, 8)?.into(), burst: 0, limit: u32_at(value, 24)? });
                }
                TCA_TBF_RATE64 => {
                    let rate = u64::from_ne_bytes(value.try_into().ok()?);
                    tbf = tbf.map(|tbf: Tbf| Tbf { rate, ..tbf });
                }
                _ => {}
            }
        }
        let tbf = tbf?;
        let burst = u128::from(buffer) * TICK * u128::from(tbf.rate) / SECOND;
        Some(Tbf { burst: u32::try_from(burst).unwrap_or(u32::MAX), ..tbf })
    }
}

impl fmt::Display for Tbf {
    /// As in `tc qdisc add`, in octets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tbf rate {}bps burst {} limit {}", self.rate, self.burst, self.limit)
    }
}

/// A place of a link where a queueing discipline can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// Where packets wait to be sent.
    Root,
    /// Where they arrive. It holds filters, and nothing waits there.
    Ingress,
}

impl Place {
    fn parent(self) -> u32 {
        match self {
            Place::Root => TC_H_ROOT,
            Place::Ingress => TC_H_INGRESS,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Place::Root => "root",
            Place::Ingress => "ingress",
        })
    }
}

/// A queueing discipline (`tc qdisc show`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Qdisc {
    /// `tbf`, `ingress`, `noqueue`, …
    pub kind: String,
    /// Its number, major and minor; 0 for those that the kernel gave the link.
    pub handle: u32,
    /// Where it is, if it is not below another one.
    pub place: Option<Place>,
    /// What it is like, if it is a token bucket filter.
    pub tbf: Option<Tbf>,
    /// The index of its link.
    pub link: u32,
}

impl Qdisc {
    /// Reads the body of an `RTM_NEWQDISC` message.
    pub(crate) fn read(body: &[u8]) -> Option<Qdisc> {
        let place = match u32_at(body, 12)? {
            TC_H_ROOT => Some(Place::Root),
            TC_H_INGRESS => Some(Place::Ingress),
            _ => None,
        };
        let (link, handle) = (u32_at(body, 4)?, u32_at(body, 8)?);
        let mut qdisc = Qdisc { kind: String::new(), handle, place, tbf: None, link };
        for (kind, value) in attributes(body.get(TCMSG..)?) {
            match kind {
                TCA_KIND => qdisc.kind = string(value),
                TCA_OPTIONS if qdisc.kind == "tbf" => qdisc.tbf = Tbf::read(value),
                _ => {}
            }
        }
        Some(qdisc)
    }
}

/// A filter of what arrives (`tc filter show dev … ingress`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// `u32`, `flower`, …
    pub kind: String,
    /// The lowest is asked first.
    pub priority: u32,
    /// Of what packets: `ETH_P_…`, 3 is all.
    pub protocol: u16,
    /// The index of the link that packets are redirected to, if it is a filter of the kind `u32` that redirects all it
    /// gets.
    pub redirects_to: Option<u32>,
}

impl Filter {
    /// Reads the body of an `RTM_NEWTFILTER` message. Hash tables of filters are none, nor are the names of chains.
    pub(crate) fn read(body: &[u8]) -> Option<Filter> {
        // `TC_H_MAKE`: the protocol in network byte order, above it the priority.
        let info = u32_at(body, 16)?;
        let [low, high, ..] = info.to_le_bytes();
        let protocol = u16::from_be(u16::from_le_bytes([low, high]));
        let mut filter = Filter { kind: String::new(), priority: info >> 16, protocol, redirects_to: None };
        let mut options = None;
        for (kind, value) in attributes(body.get(TCMSG..)?) {
            match kind {
                TCA_KIND => filter.kind = string(value),
                TCA_OPTIONS => options = Some(value),
                _ => {}
            }
        }
        let options = options?;
        if filter.kind == "u32" {
            let (_, selector) = attributes(options).find(|(kind, _)| *kind == TCA_U32_SEL)?;
            filter.redirects_to = redirection(options).filter(|_| takes_all(selector));
        }
        Some(filter)
    }
}

impl Netns {
    /// Makes the link send no faster than this (`tc qdisc add dev … root handle 1: tbf`). Pushes its deletion to `undo`.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if somebody gave the link a queueing discipline before. If there is no rate, or if it takes more
    /// than 274 seconds to fill the bucket at that rate.
    pub fn add_tbf<'a>(&self, link: impl Into<LinkRef<'a>>, tbf: &Tbf, undo: &mut Undo) -> Result<()> {
        let (doing, link) = ("add qdisc", link.into());
        let what = format!("{tbf} to link {link}");
        let invalid = |cause| Error::os(doing, what.clone(), Errno::INVAL).with_cause(cause);
        if tbf.rate == 0 || tbf.burst == 0 {
            return Err(invalid("without a rate and a burst nothing is ever sent"));
        }
        let Some(buffer) = tbf.buffer() else {
            return Err(invalid("it takes too long to fill the bucket at this rate"));
        };
        let index = self.index_of(link)?;
        let mut body = message(index, ROOT_HANDLE, Place::Root.parent(), 0);
        body.text(TCA_KIND, "tbf").nest(TCA_OPTIONS, |options| tbf.write(buffer, options));
        self.change_traffic(rtm::NEWQDISC, doing, Change::Create, &what, &body)?;
        self.undo_qdisc(index, Place::Root, &link, undo);
        Ok(())
    }

    /// Gives what arrives at the link filters (`tc qdisc add dev … ingress`). Pushes its deletion to `undo`.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if it has them already.
    pub fn add_ingress<'a>(&self, link: impl Into<LinkRef<'a>>, undo: &mut Undo) -> Result<()> {
        let link = link.into();
        let index = self.index_of(link)?;
        let mut body = message(index, INGRESS_HANDLE, Place::Ingress.parent(), 0);
        body.text(TCA_KIND, "ingress");
        let what = format!("ingress to link {link}");
        self.change_traffic(rtm::NEWQDISC, "add qdisc", Change::Create, &what, &body)?;
        self.undo_qdisc(index, Place::Ingress, &link, undo);
        Ok(())
    }

    /// Sends all that arrives at the link out by another one instead, given by its index
    /// (`tc filter add dev … ingress protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev …`).
    ///
    /// The link has an [ingress queueing discipline](Netns::add_ingress), with which the filter goes: it pushes nothing to
    /// undo. If the other link is an `ifb`, packets go on from there as if they had only just arrived.
    ///
    /// # Errors
    ///
    /// If there is a filter of this priority already, other than of the kind `u32`, or no such link.
    pub fn redirect_ingress<'a>(&self, link: impl Into<LinkRef<'a>>, to: u32) -> Result<()> {
        let link = link.into();
        let info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
        let mut body = message(self.index_of(link)?, 0, INGRESS_FILTERS, info);
        // One key that compares nothing.
        let mut selector = [0; TC_U32_SEL + TC_U32_KEY];
        (selector[0], selector[2]) = (TC_U32_TERMINAL, 1);
        let mut mirred = [0; TC_MIRRED];
        mirred[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
        mirred[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
        mirred[24..28].copy_from_slice(&to.to_ne_bytes());
        body.text(TCA_KIND, "u32").nest(TCA_OPTIONS, |options| {
            options.bytes(TCA_U32_SEL, &selector).nest(TCA_U32_ACT, |actions| {
                // Actions are numbered.
                actions.nest(1, |action| {
                    action.text(TCA_ACT_KIND, "mirred").nest(TCA_ACT_OPTIONS, |options| {
                        options.bytes(TCA_MIRRED_PARMS, &mirred);
                    });
                });
            });
        });
        let what = format!("u32 of link {link} that redirects to link number {to}");
        self.change_traffic(rtm::NEWTFILTER, "add filter", Change::Create, &what, &body)
    }

    /// The queueing discipline that the link has in this place, by default or because somebody gave it one; `None` if it has
    /// none (`tc qdisc show dev …`).
    ///
    /// The kernel lists those of all links, so that the time grows with their number.
    pub fn qdisc<'a>(&self, link: impl Into<LinkRef<'a>>, place: Place) -> Result<Option<Qdisc>> {
        let link = link.into();
        let index = self.index_of(link)?;
        let body = message(index, 0, 0, 0);
        let what = format_args!("of link {link}");
        let request = Request { kind: rtm::GETQDISC, body: &body, doing: "list qdiscs", what: &what };
        let wanted = |qdisc: &Qdisc| qdisc.link == index && qdisc.place == Some(place);
        let found = self.socket().dump(&request, |body| Qdisc::read(body).filter(wanted))?;
        Ok(found.into_iter().next())
    }

    /// The filters of what arrives at the link (`tc filter show dev … ingress`). None if it can have none.
    pub fn ingress_filters<'a>(&self, link: impl Into<LinkRef<'a>>) -> Result<Vec<Filter>> {
        let link = link.into();
        let body = message(self.index_of(link)?, 0, INGRESS_FILTERS, 0);
        let what = format_args!("of link {link}");
        let request = Request { kind: rtm::GETTFILTER, body: &body, doing: "list filters", what: &what };
        self.socket().dump(&request, Filter::read)
    }

    /// Deletes the queueing discipline that somebody gave the link in this place, with all that is below it, and says whether
    /// there was one (`tc qdisc del dev …`).
    pub fn del_qdisc<'a>(&self, link: impl Into<LinkRef<'a>>, place: Place) -> Result<bool> {
        let link = link.into();
        let index = match self.index_of(link) {
            Err(gone) if gone.is_gone() => return Ok(false),
            index => index?,
        };
        let body = message(index, 0, place.parent(), 0);
        let what = format!("{place} of link {link}");
        match self.change_traffic(rtm::DELQDISC, "delete qdisc", Change::Modify, &what, &body) {
            Ok(()) => Ok(true),
            Err(gone) if gone.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn undo_qdisc(&self, index: u32, place: Place, link: &LinkRef<'_>, undo: &mut Undo) {
        let netns = self.clone();
        undo.push(format!("qdisc {place} of link {link}"), move || {
            Ok(netns.del_qdisc(index, place).map(|_existed| ())?)
        });
    }

    fn change_traffic(
        &self,
        kind: u16,
        doing: &'static str,
        how: Change,
        what: &str,
        body: &Body,
    ) -> Result<()> {
        self.socket().change(&Request { kind, body, doing, what: &what }, how)
    }
}

/// `struct tcmsg`
fn message(index: u32, handle: u32, parent: u32, info: u32) -> Body {
    let mut header = [0; TCMSG];
    for (at, number) in [(4, index), (8, handle), (12, parent), (16, info)] {
        header[at..at + 4].copy_from_slice(&number.to_ne_bytes());
    }
    Body::new(&header)
}

/// Whether none of the keys compares anything: their masks come first.
fn takes_all(selector: &[u8]) -> bool {
    let Some(keys) = u8_at(selector, 2).map(usize::from) else { return false };
    (0..keys).all(|nth| u32_at(selector, TC_U32_SEL + nth * TC_U32_KEY) == Some(0))
}

/// The index of the link that the first of the actions redirects to.
fn redirection(options: &[u8]) -> Option<u32> {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let (_, action) = attributes(find(options, TCA_U32_ACT)?).next()?;
    let parameters = find(find(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
    let redirects =
        string(find(action, TCA_ACT_KIND)?) == "mirred" && u32_at(parameters, 20)? == TCA_EGRESS_REDIR;
    redirects.then(|| u32_at(parameters, 24)).flatten()
}

/// For fuzzers.
#[cfg(feature = "testing")]
pub(crate) fn read_all(body: &[u8]) {
    let _ = (Qdisc::read(body), Filter::read(body), Tbf::read(body));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(tbf: Tbf) -> Tbf {
        let mut options = Body::default();
        tbf.write(tbf.buffer().unwrap(), &mut options);
        Tbf::read(options.as_bytes()).unwrap()
    }

    #[test]
    fn the_limit_is_what_waits_and_a_burst() {
        let tbf = Tbf::with_latency(1_000_000, 10_000, Duration::from_millis(25));
        assert_eq!(tbf, Tbf { rate: 1_000_000, burst: 10_000, limit: 35_000 });
        assert_eq!(tbf.latency(), Duration::from_millis(25));
        assert_eq!(Tbf::with_latency(u64::MAX, 1, Duration::from_secs(1)).limit, u32::MAX);
        assert_eq!(Tbf { rate: 0, burst: 1, limit: 2 }.latency(), Duration::ZERO);
    }

    #[test]
    fn what_is_read_is_what_was_asked_for_but_for_one_tick() {
        for (rate, burst) in
            [(1, 1), (125_000, 1_600), (1_000_000, 10_000), (3_333_333, 12_345), (1_250_000_000, 1_000_000)]
        {
            let asked = Tbf { rate, burst, limit: burst + 1000 };
            let read = there_and_back(asked);
            let tick = u32::try_from(rate * 64 / 1_000_000_000).unwrap() + 1;
            assert_eq!((read.rate, read.limit), (asked.rate, asked.limit));
            assert!(read.burst <= burst && burst - read.burst <= tick, "{asked} {read}");
        }
        // More than 32 bits.
        let fast = Tbf { rate: 12_500_000_000, burst: 12_500_000, limit: 400_000_000 };
        assert_eq!(there_and_back(fast), fast);
    }

    #[test]
    fn a_bucket_that_is_never_full_has_no_ticks() {
        let buffer = |rate, burst| Tbf { rate, burst, limit: 0 }.buffer();
        assert_eq!(buffer(0, 1), None);
        assert_eq!(buffer(1, 274), Some(4_281_250_000));
        assert_eq!(buffer(1, 275), None);
    }
}
