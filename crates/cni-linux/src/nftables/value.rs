//! What is compared and looked up, and what becomes of packets: types, values, verdicts, comments.
//!
//! Every value is written as nf_tables keeps it, and printed as `nft(8)` does. Elements are in [`element`](super::element).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::error::{Errno, Error, Result};
use crate::mac::Mac;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, string};

/// `enum nft_data_attributes` and `nft_verdict_attributes`, `include/uapi/linux/netfilter/nf_tables.h`.
pub(super) const NFTA_DATA_VALUE: u16 = 1;
pub(super) const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// Where libnftnl keeps comments of elements and of rules (`NFTNL_UDATA_SET_ELEM_COMMENT`,
/// `NFTNL_UDATA_RULE_COMMENT`), and how long `nft` lets them be (`NFTNL_UDATA_COMMENT_MAXLEN`).
const UDATA_COMMENT: u8 = 0;
const LONGEST_COMMENT: usize = 128;

/// `IFNAMSIZ`: names are compared with all their zeros.
const IFNAMSIZ: usize = 16;

/// The type of what is looked up in a set or map, or found in a map (`nft describe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Type {
    /// `ipv4_addr`
    Ipv4Addr,
    /// `ipv6_addr`
    Ipv6Addr,
    /// `ether_addr`
    EtherAddr,
    /// `ifname`
    Ifname,
    /// `inet_proto`
    InetProto,
    /// `inet_service`
    InetService,
    /// `mark`
    Mark,
}

impl Type {
    /// Its number in `nft` (`include/datatype.h`), by which `nft` knows how to print a set.
    pub(super) fn number(self) -> u32 {
        match self {
            Type::Ipv4Addr => 7,
            Type::Ipv6Addr => 8,
            Type::EtherAddr => 9,
            Type::InetProto => 12,
            Type::InetService => 13,
            Type::Mark => 19,
            Type::Ifname => 41,
        }
    }

    /// In octets.
    pub(super) fn length(self) -> usize {
        match self {
            Type::InetProto => 1,
            Type::InetService => 2,
            Type::Ipv4Addr | Type::Mark => 4,
            Type::EtherAddr => 6,
            Type::Ipv6Addr | Type::Ifname => 16,
        }
    }

    /// In octets, as part of a concatenation.
    pub(super) fn padded(self) -> usize {
        self.length().next_multiple_of(4)
    }

    pub(super) fn read(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Type::Ipv4Addr => Value::Ip(<[u8; 4]>::try_from(bytes).ok()?.into()),
            Type::Ipv6Addr => Value::Ip(<[u8; 16]>::try_from(bytes).ok()?.into()),
            Type::EtherAddr => Value::Mac(Mac::new(bytes.try_into().ok()?)),
            Type::Ifname => Value::Ifname(string(bytes)),
            Type::InetProto => Value::Protocol(*bytes.first()?),
            Type::InetService => Value::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
            Type::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Ipv4Addr => "ipv4_addr",
            Type::Ipv6Addr => "ipv6_addr",
            Type::EtherAddr => "ether_addr",
            Type::Ifname => "ifname",
            Type::InetProto => "inet_proto",
            Type::InetService => "inet_service",
            Type::Mark => "mark",
        })
    }
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// `ipv4_addr` or `ipv6_addr`.
    Ip(IpAddr),
    /// All addresses of a network, where the set takes [intervals](super::Set::interval), and in rules. Host bits are dropped.
    Net(IpNet),
    /// `ether_addr`
    Mac(Mac),
    /// `ifname`
    Ifname(String),
    /// `inet_proto`: 6 is TCP, 17 is UDP.
    Protocol(u8),
    /// `inet_service`
    Port(u16),
    /// `mark`
    Mark(u32),
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Value {
        Value::Ip(address)
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Value {
        Value::Ip(address.into())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Value {
        Value::Ip(address.into())
    }
}

impl From<IpNet> for Value {
    fn from(net: IpNet) -> Value {
        Value::Net(net)
    }
}

impl From<Mac> for Value {
    fn from(mac: Mac) -> Value {
        Value::Mac(mac)
    }
}

impl From<&str> for Value {
    fn from(ifname: &str) -> Value {
        Value::Ifname(ifname.into())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Ip(address) => address.fmt(f),
            Value::Net(net) => net.trunc().fmt(f),
            Value::Mac(mac) => mac.fmt(f),
            Value::Ifname(name) => write!(f, "{name:?}"),
            Value::Protocol(number) => number.fmt(f),
            Value::Port(number) => number.fmt(f),
            Value::Mark(mark) => write!(f, "{mark:#010x}"),
        }
    }
}

impl Value {
    /// The first and the last value that it stands for, which are the same unless it is a network. `None` if it is not
    /// of the type.
    pub(super) fn bounds(&self, of: Type) -> Option<(Vec<u8>, Vec<u8>)> {
        let one = |bytes: Vec<u8>| Some((bytes.clone(), bytes));
        match (self, of) {
            (Value::Ip(IpAddr::V4(address)), Type::Ipv4Addr) => one(address.octets().into()),
            (Value::Ip(IpAddr::V6(address)), Type::Ipv6Addr) => one(address.octets().into()),
            (Value::Net(IpNet::V4(net)), Type::Ipv4Addr) => {
                Some((net.network().octets().into(), net.broadcast().octets().into()))
            }
            (Value::Net(IpNet::V6(net)), Type::Ipv6Addr) => {
                Some((net.network().octets().into(), net.broadcast().octets().into()))
            }
            (Value::Mac(mac), Type::EtherAddr) => one(mac.octets().into()),
            (Value::Ifname(name), Type::Ifname) if name.len() < IFNAMSIZ && !name.contains('\0') => {
                let mut bytes = name.clone().into_bytes();
                bytes.resize(IFNAMSIZ, 0);
                one(bytes)
            }
            (Value::Protocol(number), Type::InetProto) => one(vec![*number]),
            (Value::Port(number), Type::InetService) => one(number.to_be_bytes().into()),
            (Value::Mark(mark), Type::Mark) => one(mark.to_ne_bytes().into()),
            _ => None,
        }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It passes this chain; those of the same hook with a higher priority number still look at it.
    Accept,
    /// It is thrown away.
    Drop,
    /// It goes on where the chain was jumped to from; at the end of a base chain its policy decides.
    Return,
    /// It goes on in this chain, and comes back.
    Jump(String),
    /// It goes on in this chain, and comes back to where the present one was jumped to from.
    Goto(String),
}

impl Verdict {
    /// `enum nft_verdicts`, and `NF_DROP` and `NF_ACCEPT` in `include/uapi/linux/netfilter.h`.
    fn code(&self) -> i32 {
        match self {
            Verdict::Drop => 0,
            Verdict::Accept => 1,
            Verdict::Jump(_) => -3,
            Verdict::Goto(_) => -4,
            Verdict::Return => -5,
        }
    }

    pub(super) fn write(&self, data: &mut Body) {
        data.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.be32(NFTA_VERDICT_CODE, self.code().cast_unsigned());
            if let Verdict::Jump(chain) | Verdict::Goto(chain) = self {
                verdict.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    }

    pub(super) fn read(verdict: &[u8]) -> Option<Verdict> {
        let (mut code, mut chain) = (None, String::new());
        for (kind, value) in attributes(verdict) {
            match kind {
                NFTA_VERDICT_CODE => code = value.try_into().ok().map(i32::from_be_bytes),
                NFTA_VERDICT_CHAIN => chain = string(value),
                _ => {}
            }
        }
        match code? {
            0 => Some(Verdict::Drop),
            1 => Some(Verdict::Accept),
            -3 => Some(Verdict::Jump(chain)),
            -4 => Some(Verdict::Goto(chain)),
            -5 => Some(Verdict::Return),
            _ => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// `NFTA_DATA_VALUE` inside of an attribute.
pub(super) fn value(body: &mut Body, kind: u16, bytes: &[u8]) {
    body.nest(kind, |data| {
        data.bytes(NFTA_DATA_VALUE, bytes);
    });
}

pub(super) fn inner(body: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A comment as `nft` keeps it: type, length, text, zero.
pub(super) fn userdata(comment: &str) -> Result<Vec<u8>> {
    let refused =
        |cause| Err(Error::os("write comment", format!("{comment:?}"), Errno::INVAL).with_cause(cause));
    if comment.contains(['"', '\0', '\n']) {
        return refused("nft can print no quotation mark, zero or line break");
    }
    match u8::try_from(comment.len() + 1) {
        Ok(length) if comment.len() <= LONGEST_COMMENT => {
            Ok([&[UDATA_COMMENT, length], comment.as_bytes(), &[0]].concat())
        }
        _ => refused("longer than 128 octets"),
    }
}

/// Finds the comment in what `nft` or we attached to a rule or an element.
pub(super) fn comment(mut userdata: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(string(value));
        }
        userdata = &rest[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_those_of_nft() {
        assert_eq!(comment(&userdata("whose").unwrap()).as_deref(), Some("whose"));
        assert_eq!(comment(&[7, 2, 1, 1, 0, 4, b'a', b'b', b'c', 0]).as_deref(), Some("abc"));
        for broken in [&[][..], &[0], &[0, 9, b'a'], &[3, 1, 0]] {
            assert_eq!(comment(broken), None);
        }
        assert!(userdata(&"x".repeat(128)).is_ok());
        assert_eq!(
            userdata(r#"a"b"#).unwrap_err().to_string(),
            r#"write comment "a\"b": nft can print no quotation mark, zero or line break"#
        );
        assert!(userdata(&"x".repeat(129)).unwrap_err().to_string().ends_with("longer than 128 octets"));
    }
}
