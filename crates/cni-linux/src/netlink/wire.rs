//! Netlink's framing, as pure functions on bytes: message headers, acknowledgements, attributes.
//!
//! It stands any bytes whatsoever without a panic, and ignores what it does not know: kernels grow new attributes
//! with every release.

use std::net::IpAddr;

use netlink_packet_core::{
    NLA_HEADER_SIZE, NLA_TYPE_MASK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLM_F_MULTIPART,
    NlasIterator,
};

use crate::error::Errno;

/// The size of `struct nlmsghdr`, `include/uapi/linux/netlink.h`.
pub(crate) const HEADER: usize = 16;

/// Message types below `NLMSG_MIN_TYPE`.
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// `enum nlmsgerr_attrs`.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// What of `struct nlmsghdr` matters to a client; the port is the kernel's business.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    /// Of the whole message, in octets, without the padding that follows it.
    pub(crate) length: usize,
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

impl Header {
    /// Writes the header to the first sixteen octets of `message`.
    pub(crate) fn write(self, message: &mut [u8]) {
        // No request of this crate comes near 4 GiB; the kernel refuses a length that is wrong.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&self.kind.to_ne_bytes());
        message[6..8].copy_from_slice(&self.flags.to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        message[12..16].fill(0);
    }

    fn read(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            length: usize::try_from(u32_at(bytes, 0)?).ok()?,
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
        })
    }
}

/// What a datagram did to the request that is being waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is more to come.
    More,
    /// It is answered.
    Complete,
    /// It failed.
    Refused(Refusal),
    /// These are not netlink messages.
    Malformed,
}

/// The kernel's "no".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: Errno,
    /// The text of the extended acknowledgement.
    pub(crate) said: Option<String>,
    /// Where in the request the offending attribute begins, counted from the message header.
    pub(crate) offset: Option<usize>,
}

/// Goes through one datagram: hands the body of each object to `read`, and says where the request stands.
///
/// Messages with another sequence number are left-overs of earlier requests and are passed over. `interrupted`
/// is set if the kernel flags the dump as inconsistent, which it may do in any part of it.
pub(crate) fn digest(
    datagram: &[u8],
    sequence: u32,
    interrupted: &mut bool,
    read: &mut dyn FnMut(&[u8]),
) -> Progress {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Some(header) = Header::read(rest) else { return Progress::Malformed };
        let Some(body) = rest.get(HEADER..header.length) else { return Progress::Malformed };
        rest = rest.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        if header.sequence != sequence {
            continue;
        }
        *interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
        match header.kind {
            NLMSG_NOOP => {}
            NLMSG_ERROR => return acknowledged(header, body),
            NLMSG_DONE => return done(header, body),
            NLMSG_OVERRUN => return Progress::Refused(Refusal::without_words(Errno::NOBUFS)),
            _ => {
                read(body);
                if header.flags & NLM_F_MULTIPART == 0 {
                    return Progress::Complete;
                }
            }
        }
    }
    Progress::More
}

/// `struct nlmsgerr`: an error number, the header of the request, perhaps the request, perhaps attributes.
fn acknowledged(header: Header, body: &[u8]) -> Progress {
    let Some(code) = u32_at(body, 0) else { return Progress::Malformed };
    let request = body.get(4..).and_then(Header::read).map_or(HEADER, |request| request.length);
    let echoed = if header.flags & NLM_F_CAPPED == 0 { request } else { HEADER };
    let words = body.get(echoed.saturating_add(4).next_multiple_of(4)..);
    conclude(code, words.filter(|_| header.flags & NLM_F_ACK_TLVS != 0))
}

/// The end of a dump, which carries an error number if the dump failed half-way.
fn done(header: Header, body: &[u8]) -> Progress {
    conclude(u32_at(body, 0).unwrap_or(0), body.get(4..).filter(|_| header.flags & NLM_F_ACK_TLVS != 0))
}

fn conclude(code: u32, words: Option<&[u8]>) -> Progress {
    // On the wire it is a negative number, as it is returned inside the kernel. `DONE` may count objects instead.
    let errno = match code.cast_signed() {
        0.. => return Progress::Complete,
        negative @ -4095..0 => Errno::from_raw_os_error(-negative),
        _ => Errno::PROTO,
    };
    let mut refusal = Refusal::without_words(errno);
    for (kind, value) in attributes(words.unwrap_or_default()) {
        match kind {
            NLMSGERR_ATTR_MSG => refusal.said = Some(string(value)),
            NLMSGERR_ATTR_OFFS => refusal.offset = u32_at(value, 0).and_then(|at| usize::try_from(at).ok()),
            _ => {}
        }
    }
    Progress::Refused(refusal)
}

impl Refusal {
    fn without_words(errno: Errno) -> Refusal {
        Refusal { errno, said: None, offset: None }
    }
}

/// The number of the attribute that begins at `offset` of a message that was sent.
pub(crate) fn attribute_at(message: &[u8], offset: usize) -> Option<u16> {
    u16_at(message, offset.checked_add(2)?).map(|kind| kind & NLA_TYPE_MASK)
}

/// The attributes in `bytes`, up to the first that is malformed: number (without flags) and value.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let value = bytes.get(at..at.checked_add(2)?)?;
    value.try_into().ok().map(u16::from_ne_bytes)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let value = bytes.get(at..at.checked_add(4)?)?;
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A text, which the kernel ends with a zero octet.
pub(crate) fn string(value: &[u8]) -> String {
    let text = value.split(|&octet| octet == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// An IP address, the family of which follows from its length.
pub(crate) fn ip(value: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(value)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
        .ok()
}
