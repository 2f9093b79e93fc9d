//! Netlink attributes, as they are sent, for messages that the typed crates do not have.
//!
//! Padding and lengths are seen to here; which attribute belongs where is the caller's business.

use std::net::IpAddr;

use netlink_packet_core::{Emitable, NLA_F_NESTED, NLA_HEADER_SIZE};

/// The body of a message: a fixed header, if there is one, and attributes one after the other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// A body that begins with the message's fixed header.
    pub(crate) fn new(header: &[u8]) -> Body {
        Body(header.to_vec())
    }

    /// Appends an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Body {
        let start = self.begin(kind);
        self.0.extend_from_slice(value);
        self.end(start)
    }

    /// Appends an attribute that is made of attributes, as the kernel sent it.
    pub(crate) fn nested_bytes(&mut self, kind: u16, value: &[u8]) -> &mut Body {
        self.bytes(kind | NLA_F_NESTED, value)
    }

    /// Appends a text, which the kernel wants to end with a zero.
    pub(crate) fn text(&mut self, kind: u16, text: &str) -> &mut Body {
        let start = self.begin(kind);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self.end(start)
    }

    /// Appends a number in network byte order, as netfilter wants all of them.
    pub(crate) fn be32(&mut self, kind: u16, number: u32) -> &mut Body {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Appends a number in the byte order of this machine, as rtnetlink wants them.
    pub(crate) fn ne32(&mut self, kind: u16, number: u32) -> &mut Body {
        self.bytes(kind, &number.to_ne_bytes())
    }

    /// Appends an address.
    pub(crate) fn address(&mut self, kind: u16, address: IpAddr) -> &mut Body {
        match address {
            IpAddr::V4(address) => self.bytes(kind, &address.octets()),
            IpAddr::V6(address) => self.bytes(kind, &address.octets()),
        }
    }

    /// Appends an attribute that is made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body)) -> &mut Body {
        let start = self.begin(kind | NLA_F_NESTED);
        fill(self);
        self.end(start)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    /// Writes the length of the attribute that began at `start`, and pads it.
    fn end(&mut self, start: usize) -> &mut Body {
        debug_assert!(self.0.len() - start >= NLA_HEADER_SIZE);
        // Too long a value gets a length that the kernel refuses, instead of one that means something else.
        let length = u16::try_from(self.0.len() - start).unwrap_or(0);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

impl Emitable for Body {
    fn buffer_len(&self) -> usize {
        self.0.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::attributes;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut body = Body::new(&[2, 0, 0, 10]);
        body.text(1, "abc").nest(2, |inner| {
            inner.be32(3, 7).bytes(4, &[1]);
        });
        let bytes = body.as_bytes();
        assert_eq!(bytes.len(), 4 + 8 + 4 + 8 + 8);
        let outer: Vec<_> = attributes(&bytes[4..]).collect();
        assert_eq!(outer[0], (1, b"abc\0".as_slice()));
        assert_eq!(outer[1].0, 2);
        let inner: Vec<_> = attributes(outer[1].1).collect();
        assert_eq!(inner, [(3, [0, 0, 0, 7].as_slice()), (4, [1].as_slice())]);
        let mut emitted = vec![0xff; body.buffer_len()];
        body.emit(&mut emitted);
        assert_eq!(emitted, bytes);
    }

    #[test]
    fn what_is_too_long_has_no_valid_length() {
        let mut body = Body::default();
        body.bytes(1, &[0; 70_000]);
        assert_eq!(body.as_bytes()[..2], [0, 0]);
    }
}
