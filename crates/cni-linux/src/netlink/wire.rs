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

/// The acknowledgements in a datagram, up to anything malformed: the sequence number, and the "no" if it is one.
pub(crate) fn acknowledgements(datagram: &[u8]) -> impl Iterator<Item = (u32, Option<Refusal>)> {
    framed(datagram).filter(|(header, _)| header.kind == NLMSG_ERROR).map_while(|(header, body)| {
        match acknowledged(header, body) {
            Progress::Complete => Some((header.sequence, None)),
            Progress::Refused(refusal) => Some((header.sequence, Some(refusal))),
            Progress::More | Progress::Malformed => None,
        }
    })
}

/// The messages in a datagram, up to anything malformed: type and body.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    framed(datagram).map(|(header, body)| (header.kind, body))
}

fn framed(datagram: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = Header::read(rest)?;
        let body = rest.get(HEADER..header.length)?;
        rest = rest.get(header.length.next_multiple_of(4)..).unwrap_or_default();
        Some((header, body))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RTM_NEWLINK: u16 = 16;

    /// One message, padded.
    fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        Header { length: HEADER + body.len(), kind, flags, sequence }.write(&mut message);
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = u16::try_from(value.len() + 4).unwrap().to_ne_bytes().to_vec();
        attribute.extend(kind.to_ne_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn code(errno: i32) -> Vec<u8> {
        (-errno).to_ne_bytes().to_vec()
    }

    fn digested(datagram: &[u8]) -> (Progress, bool, Vec<Vec<u8>>) {
        let (mut interrupted, mut bodies) = (false, Vec::new());
        let progress = digest(datagram, 7, &mut interrupted, &mut |body| bodies.push(body.to_vec()));
        (progress, interrupted, bodies)
    }

    #[test]
    fn the_end_of_a_dump_may_come_with_the_last_objects() {
        let mut datagram = message(RTM_NEWLINK, NLM_F_MULTIPART, 7, b"one!");
        datagram.extend(message(RTM_NEWLINK, NLM_F_MULTIPART, 7, b"two"));
        assert_eq!(digested(&datagram), (Progress::More, false, vec![b"one!".to_vec(), b"two".to_vec()]));
        datagram.extend(message(NLMSG_DONE, NLM_F_MULTIPART, 7, &code(0)));
        assert_eq!(digested(&datagram).0, Progress::Complete);
    }

    #[test]
    fn an_interruption_is_noticed_in_any_part() {
        for kind in [RTM_NEWLINK, NLMSG_DONE] {
            let datagram = message(kind, NLM_F_MULTIPART | NLM_F_DUMP_INTR, 7, &code(0));
            assert!(digested(&datagram).1);
        }
    }

    #[test]
    fn answers_to_other_requests_are_passed_over() {
        let mut datagram = message(NLMSG_ERROR, 0, 6, &[code(1), vec![0; 16]].concat());
        datagram.extend(message(RTM_NEWLINK, NLM_F_DUMP_INTR, 8, b"other"));
        assert_eq!(digested(&datagram), (Progress::More, false, vec![]));
        datagram.extend(message(RTM_NEWLINK, 0, 7, b"ours"));
        assert_eq!(digested(&datagram), (Progress::Complete, false, vec![b"ours".to_vec()]));
    }

    #[test]
    fn a_refusal_comes_with_words_and_offset() {
        let words =
            [attribute(NLMSGERR_ATTR_MSG, b"mtu too small\0"), attribute(NLMSGERR_ATTR_OFFS, &code(-36))];
        let request = message(RTM_NEWLINK, 0, 7, b"the request, as it was sent");
        let refused = Progress::Refused(Refusal {
            errno: Errno::INVAL,
            said: Some("mtu too small".into()),
            offset: Some(36),
        });
        // NETLINK_CAP_ACK leaves the header alone of the request; old kernels send all of it back.
        let capped = [code(22), request[..HEADER].to_vec(), words.concat()].concat();
        let datagram = message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 7, &capped);
        assert_eq!(digested(&datagram).0, refused);
        let whole = [code(22), request, words.concat()].concat();
        assert_eq!(digested(&message(NLMSG_ERROR, NLM_F_ACK_TLVS, 7, &whole)).0, refused);
        let done = [code(22), words.concat()].concat();
        assert_eq!(digested(&message(NLMSG_DONE, NLM_F_ACK_TLVS, 7, &done)).0, refused);
    }

    #[test]
    fn an_acknowledgement_is_an_error_of_zero() {
        let datagram = message(NLMSG_ERROR, 0, 7, &[code(0), vec![0; 16]].concat());
        assert_eq!(digested(&datagram).0, Progress::Complete);
        // A warning with a success is not an error.
        let warned = [code(0), vec![0; 16], attribute(NLMSGERR_ATTR_MSG, b"deprecated\0")].concat();
        assert_eq!(
            digested(&message(NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS, 7, &warned)).0,
            Progress::Complete
        );
    }

    #[test]
    fn a_dump_that_is_not_supported_ends_at_once() {
        let datagram = message(NLMSG_DONE, NLM_F_MULTIPART, 7, &code(95));
        assert_eq!(digested(&datagram).0, Progress::Refused(Refusal::without_words(Errno::OPNOTSUPP)));
    }

    #[test]
    fn numbers_that_are_no_error_numbers_are_a_protocol_error() {
        for number in [4096, i32::MAX] {
            let datagram = message(NLMSG_ERROR, 0, 7, &[code(number), vec![0; 16]].concat());
            assert_eq!(digested(&datagram).0, Progress::Refused(Refusal::without_words(Errno::PROTO)));
        }
    }

    #[test]
    fn what_is_cut_off_is_malformed() {
        let whole = message(RTM_NEWLINK, NLM_F_MULTIPART, 7, b"body");
        for length in 1..whole.len() {
            assert_eq!(digested(&whole[..length]).0, Progress::Malformed, "{length}");
        }
        let mut short = whole;
        short[0..4].copy_from_slice(&8_u32.to_ne_bytes());
        assert_eq!(digested(&short).0, Progress::Malformed);
    }

    #[test]
    fn the_offending_attribute_is_found_in_the_request() {
        let sent = [vec![0; HEADER], attribute(4 | 0x8000, &[1, 2, 3, 4])].concat();
        assert_eq!(attribute_at(&sent, HEADER), Some(4));
        assert_eq!(attribute_at(&sent, sent.len()), None);
        assert_eq!(attribute_at(&sent, usize::MAX), None);
    }

    #[test]
    fn texts_end_at_the_zero() {
        assert_eq!(string(b"eth0\0\0"), "eth0");
        assert_eq!(string(b"eth0"), "eth0");
        assert_eq!(string(b""), "");
    }

    /// Some messages with the right sequence number, so that not all is lost at the header.
    fn near_messages() -> impl Strategy<Value = Vec<u8>> {
        let attributes = prop::collection::vec((0_u16..64, prop::collection::vec(any::<u8>(), 0..40)), 0..12);
        let body = (prop::collection::vec(any::<u8>(), 0..24), attributes).prop_map(|(fixed, attributes)| {
            let attributes = attributes.iter().flat_map(|(kind, value)| attribute(*kind, value));
            fixed.into_iter().chain(attributes).collect::<Vec<_>>()
        });
        let one =
            (0_u16..40, any::<u16>(), body).prop_map(|(kind, flags, body)| message(kind, flags, 7, &body));
        prop::collection::vec(one, 0..4).prop_map(|messages| messages.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(datagram in prop::collection::vec(any::<u8>(), 0..256)) {
            crate::testing::decode(&datagram);
        }

        #[test]
        fn no_messages_make_it_panic(mut datagram in near_messages(), cut in any::<prop::sample::Index>()) {
            crate::testing::decode(&datagram);
            datagram.truncate(cut.index(datagram.len() + 1));
            crate::testing::decode(&datagram);
        }
    }
}
