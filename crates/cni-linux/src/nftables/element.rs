//! Elements of sets and maps, as nf_tables keeps them.
//!
//! Which set they belong to, and adding and deleting them, is the business of the module above.

use std::fmt;

use ipnet::IpNet;

use super::value::{
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, Type, Value, Verdict, comment, inner, userdata, value,
};
use super::{Data, NFTA_LIST_ELEM, Set};
use crate::error::{Errno, Error, Result};
use crate::netlink::encode::Body;
use crate::netlink::wire::attributes;

/// `enum nft_set_elem_attributes` and flags, `include/uapi/linux/netfilter/nf_tables.h`.
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// An element of a set or map (`nft add element`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Element {
    /// What is looked up.
    pub key: Vec<Value>,
    /// What is found, in a map.
    pub values: Vec<Value>,
    /// What becomes of the packet, in a verdict map.
    pub verdict: Option<Verdict>,
    /// Whose it is. `nft` takes at most 128 octets, and no quotation mark.
    pub comment: Option<String>,
}

impl Element {
    /// The element with this key, one value for each type of the set's.
    pub fn new(key: impl Into<Vec<Value>>) -> Element {
        Element { key: key.into(), values: Vec::new(), verdict: None, comment: None }
    }

    /// What is found in a map, one value for each of its types.
    pub fn maps_to(mut self, values: impl Into<Vec<Value>>) -> Element {
        self.values = values.into();
        self
    }

    /// What is found in a verdict map.
    pub fn verdict(mut self, verdict: Verdict) -> Element {
        self.verdict = Some(verdict);
        self
    }

    /// Whose it is.
    pub fn comment(mut self, comment: impl Into<String>) -> Element {
        self.comment = Some(comment.into());
        self
    }

    /// The attributes of `NFTA_SET_ELEM_LIST_ELEMENTS`; to delete it, the key alone.
    pub(super) fn write(&self, set: &Set<'_>, list: &mut Body, key_only: bool) -> Result<()> {
        let refused = || {
            let what = format!("{self} in {set}");
            Error::os("write element", what, Errno::INVAL).with_cause(format!("not of type {}", set.types()))
        };
        let (first, last) = concatenate(&self.key, set.key, set.interval).ok_or_else(refused)?;
        let concatenated = set.key.len() > 1;
        let data = match (&set.data, &self.verdict) {
            _ if key_only => None,
            (Data::Nothing, None) if self.values.is_empty() => None,
            (Data::Values(types), None) => {
                Some(ElementData::Value(concatenate(&self.values, types, false).ok_or_else(refused)?.0))
            }
            (Data::Verdict, Some(verdict)) if self.values.is_empty() => Some(ElementData::Verdict(verdict)),
            _ => return Err(refused()),
        };
        let comment = match &self.comment {
            Some(comment) if !key_only => Some(userdata(comment)?),
            _ => None,
        };
        list.nest(NFTA_LIST_ELEM, |element| {
            value(element, NFTA_SET_ELEM_KEY, &first);
            if set.interval && concatenated {
                value(element, NFTA_SET_ELEM_KEY_END, &last);
            }
            match data {
                Some(ElementData::Value(bytes)) => value(element, NFTA_SET_ELEM_DATA, &bytes),
                Some(ElementData::Verdict(verdict)) => {
                    element.nest(NFTA_SET_ELEM_DATA, |data| verdict.write(data));
                }
                None => {}
            }
            if let Some(comment) = comment {
                element.bytes(NFTA_SET_ELEM_USERDATA, &comment);
            }
        });
        if set.interval && !concatenated {
            // The end is an element of its own, unless it is the end of all.
            if let Some(end) = successor(last) {
                list.nest(NFTA_LIST_ELEM, |element| {
                    value(element, NFTA_SET_ELEM_KEY, &end);
                    element.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        concatenation(&self.key, f)?;
        if !self.values.is_empty() {
            f.write_str(" : ")?;
            concatenation(&self.values, f)?;
        }
        match &self.verdict {
            Some(verdict) => write!(f, " : {verdict}"),
            None => Ok(()),
        }
    }
}

enum ElementData<'a> {
    Value(Vec<u8>),
    Verdict(&'a Verdict),
}

/// An element as the kernel returned it; of a plain interval it is the beginning or the end.
pub(super) struct RawElement {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    is_end: bool,
    values: Vec<Value>,
    verdict: Option<Verdict>,
    comment: Option<String>,
}

impl RawElement {
    /// Reads one of `NFTA_SET_ELEM_LIST_ELEMENTS`.
    pub(super) fn read(element: &[u8], set: &Set<'_>) -> Option<RawElement> {
        let mut raw = RawElement {
            key: Vec::new(),
            key_end: None,
            is_end: false,
            values: Vec::new(),
            verdict: None,
            comment: None,
        };
        for (kind, body) in attributes(element) {
            match kind {
                NFTA_SET_ELEM_KEY => raw.key = inner(body, NFTA_DATA_VALUE)?.to_vec(),
                NFTA_SET_ELEM_KEY_END => raw.key_end = Some(inner(body, NFTA_DATA_VALUE)?.to_vec()),
                NFTA_SET_ELEM_FLAGS => {
                    let flags = body.try_into().ok().map(u32::from_be_bytes)?;
                    raw.is_end = flags & NFT_SET_ELEM_INTERVAL_END != 0;
                }
                NFTA_SET_ELEM_DATA => match set.data {
                    Data::Values(types) => raw.values = split(inner(body, NFTA_DATA_VALUE)?, types)?,
                    _ => raw.verdict = Verdict::read(inner(body, NFTA_DATA_VERDICT)?),
                },
                NFTA_SET_ELEM_USERDATA => raw.comment = comment(body),
                _ => {}
            }
        }
        Some(raw)
    }

    /// Puts beginnings and ends of intervals together, in the order of their keys, and each once: while the kernel enlarges
    /// a set, a list may have an element twice.
    pub(super) fn assemble(mut raw: Vec<RawElement>, set: &Set<'_>) -> Vec<Element> {
        // Where one interval ends and the next begins, the end comes first.
        raw.sort_by(|one, other| one.key.cmp(&other.key).then(other.is_end.cmp(&one.is_end)));
        raw.dedup_by(|one, other| {
            (&one.key, &one.key_end, one.is_end) == (&other.key, &other.key_end, other.is_end)
        });
        if set.interval && set.key.len() == 1 {
            for nth in 0..raw.len() {
                let end = raw.get(nth + 1).filter(|next| next.is_end).map(|next| predecessor(&next.key));
                raw[nth].key_end = Some(end.unwrap_or_else(|| vec![0xff; raw[nth].key.len()]));
            }
        }
        raw.into_iter().filter(|raw| !raw.is_end).filter_map(|raw| raw.into_element(set)).collect()
    }

    fn into_element(self, set: &Set<'_>) -> Option<Element> {
        let mut key = split(&self.key, set.key)?;
        if let Some(end) = self.key_end {
            for (value, last) in key.iter_mut().zip(split(&end, set.key)?) {
                if *value != last {
                    *value = Value::Net(net_between(value, &last)?);
                }
            }
        }
        Some(Element { key, values: self.values, verdict: self.verdict, comment: self.comment })
    }
}

/// Writes values one after the other, each with its padding: the first and the last combination.
fn concatenate(values: &[Value], types: &[Type], interval: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    if values.len() != types.len() {
        return None;
    }
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for (value, &of) in values.iter().zip(types) {
        let (from, to) = value.bounds(of)?;
        if from != to && !interval {
            return None;
        }
        first.extend(from);
        last.extend(to);
        if types.len() > 1 {
            first.resize(first.len().next_multiple_of(4), 0);
            last.resize(last.len().next_multiple_of(4), 0);
        }
    }
    Some((first, last))
}

fn split(mut bytes: &[u8], types: &[Type]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    for of in types {
        values.push(of.read(bytes.get(..of.length())?)?);
        bytes = bytes.get(of.padded()..).unwrap_or_default();
    }
    Some(values)
}

/// Only networks are written by us; any other interval is somebody else's.
fn net_between(first: &Value, last: &Value) -> Option<IpNet> {
    let (&Value::Ip(first), &Value::Ip(last)) = (first, last) else { return None };
    let most = if first.is_ipv4() { 32 } else { 128 };
    let nets = (0..=most).filter_map(|length| IpNet::new(first, length).ok());
    nets.into_iter().find(|net| net.network() == first && net.broadcast() == last)
}

fn successor(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(bytes);
        }
    }
    None
}

fn predecessor(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    bytes
}

fn concatenation(values: &[Value], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (nth, value) in values.iter().enumerate() {
        let separator = if nth == 0 { "" } else { " . " };
        write!(f, "{separator}{value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;
    use crate::nftables::{Family, Table};

    const TABLE: Table<'_> = Table::new(Family::Inet, "t");

    fn ip(text: &str) -> Value {
        Value::Ip(text.parse().unwrap())
    }

    fn net(text: &str) -> Value {
        Value::Net(text.parse().unwrap())
    }

    /// Writes an element and reads it again, as if the kernel had sent it back.
    fn there_and_back(set: &Set<'_>, elements: &[Element]) -> Vec<Element> {
        let mut list = Body::default();
        for element in elements {
            element.write(set, &mut list, false).unwrap();
        }
        let raw = attributes(list.as_bytes()).map(|(_, body)| RawElement::read(body, set).unwrap());
        RawElement::assemble(raw.collect(), set)
    }

    #[test]
    fn elements_of_every_kind_are_read_as_they_were_written() {
        let every = [
            Type::Ipv4Addr,
            Type::Ipv6Addr,
            Type::EtherAddr,
            Type::Ifname,
            Type::InetProto,
            Type::InetService,
            Type::Mark,
        ];
        let mac = Value::Mac(Mac::new([2, 0, 0, 0, 0, 1]));
        let values = [
            ip("10.1.2.3"),
            ip("fd00::1"),
            mac,
            "eth0.7".into(),
            Value::Protocol(6),
            Value::Port(8080),
            Value::Mark(9),
        ];
        let element = Element::new(values.clone()).comment("whose").maps_to([ip("10.9.9.9")]);
        let set = Set::map(TABLE, "s", &every, &[Type::Ipv4Addr]);
        assert_eq!(there_and_back(&set, std::slice::from_ref(&element)), [element]);
        for (value, of) in values.into_iter().zip(every) {
            let (key, element) = ([of], Element::new([value]));
            assert_eq!(
                there_and_back(&Set::new(TABLE, "s", &key), std::slice::from_ref(&element)),
                [element]
            );
        }
        let verdicts = [
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Return,
            Verdict::Jump("c".into()),
            Verdict::Goto("d".into()),
        ];
        for verdict in verdicts {
            let element = Element::new([ip("10.1.2.3")]).verdict(verdict);
            let set = Set::verdict_map(TABLE, "s", &[Type::Ipv4Addr]);
            assert_eq!(there_and_back(&set, std::slice::from_ref(&element)), [element]);
        }
    }

    #[test]
    fn intervals_that_touch_and_the_last_of_all_are_put_together_again() {
        let set = Set::new(TABLE, "s", &[Type::Ipv4Addr]).interval();
        let nets = ["0.0.0.0/8", "10.1.0.0/24", "10.1.1.0/24", "10.1.3.7/32", "255.0.0.0/8"];
        let elements: Vec<_> = nets.iter().map(|text| Element::new([net(text)]).comment(*text)).collect();
        let mut expected = elements.clone();
        expected[3].key = vec![ip("10.1.3.7")];
        assert_eq!(there_and_back(&set, &elements), expected);
        let pairs = Set::new(TABLE, "s", &[Type::Ipv4Addr, Type::Ipv6Addr]).interval();
        let elements = [
            Element::new([net("10.1.0.0/16"), net("fd00::/64")]),
            Element::new([ip("10.1.2.3"), net("::/0")]),
        ];
        assert_eq!(there_and_back(&pairs, &elements), elements);
        let twice = [elements[1].clone(), elements[0].clone(), elements[1].clone()];
        assert_eq!(there_and_back(&pairs, &twice), elements);
    }

    #[test]
    fn what_is_not_of_the_type_is_refused_in_words() {
        let refused = |set: &Set<'_>, element: Element| {
            element.write(set, &mut Body::default(), false).unwrap_err().to_string()
        };
        let plain = Set::new(TABLE, "s", &[Type::Ipv4Addr]);
        assert_eq!(
            refused(&plain, Element::new([ip("fd00::1")])),
            "write element fd00::1 in set inet t s: not of type ipv4_addr"
        );
        refused(&plain, Element::new([net("10.0.0.0/8")]));
        refused(&plain, Element::new([]));
        refused(&plain, Element::new([ip("10.0.0.1")]).maps_to([ip("10.0.0.1")]));
        refused(&plain, Element::new([ip("10.0.0.1")]).verdict(Verdict::Drop));
        let names = Set::verdict_map(TABLE, "s", &[Type::Ifname, Type::EtherAddr]);
        assert_eq!(
            refused(
                &names,
                Element::new(["sixteen-octets-!".into(), Value::Mac(Mac::default())]).verdict(Verdict::Drop)
            ),
            r#"write element "sixteen-octets-!" . 00:00:00:00:00:00 : drop in map inet t s: not of type ifname . ether_addr : verdict"#
        );
        refused(&names, Element::new(["eth0".into(), Value::Mac(Mac::default())]));
    }
}
