//! Rules: what a packet is compared with, and what is done with it.
//!
//! Each part is written as the expressions that `nft(8)` writes for it, so that `nft list ruleset` prints it in its own
//! syntax, and can read that again.

use super::value::{NFTA_DATA_VERDICT, Type, Value, Verdict, inner, value};
use super::{Family, NFTA_LIST_ELEM};
use crate::error::{Errno, Error, Result};
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, string};

/// `include/uapi/linux/netfilter/nf_tables.h`: attributes of a rule's expressions.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_PAYLOAD_DREG: u16 = 1;
const NFTA_PAYLOAD_BASE: u16 = 2;
const NFTA_PAYLOAD_OFFSET: u16 = 3;
const NFTA_PAYLOAD_LEN: u16 = 4;
const NFTA_CMP_SREG: u16 = 1;
const NFTA_CMP_OP: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
const NFTA_BITWISE_SREG: u16 = 1;
const NFTA_BITWISE_DREG: u16 = 2;
const NFTA_BITWISE_LEN: u16 = 3;
const NFTA_BITWISE_MASK: u16 = 4;
const NFTA_BITWISE_XOR: u16 = 5;
const NFTA_LOOKUP_SET: u16 = 1;
const NFTA_LOOKUP_SREG: u16 = 2;
const NFTA_LOOKUP_DREG: u16 = 3;
const NFTA_LOOKUP_FLAGS: u16 = 5;
const NFTA_IMMEDIATE_DREG: u16 = 1;
const NFTA_IMMEDIATE_DATA: u16 = 2;
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_COUNTER_BYTES: u16 = 1;
const NFTA_COUNTER_PACKETS: u16 = 2;
/// Of `nft_compat`, by which iptables keeps its own kind of conditions.
const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_INFO: u16 = 3;

const NFT_LOOKUP_F_INV: u32 = 1;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 2;
/// `RTN_LOCAL`, `include/uapi/linux/rtnetlink.h`.
const RTN_LOCAL: u32 = 2;
const NFT_NAT_DNAT: u32 = 1;

/// Registers: one takes a verdict, the others are counted in words of four octets from `NFT_REG32_00`.
const VERDICT: u32 = 0;
const FIRST: u32 = 8;

/// What of a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// The name of the link that it came in by (`iifname`).
    Iifname,
    /// The name of the link that it goes out by (`oifname`).
    Oifname,
    /// `ether saddr`. In bridge tables only.
    EtherSource,
    /// `ip saddr`
    Ip4Source,
    /// `ip daddr`
    Ip4Destination,
    /// `ip6 saddr`
    Ip6Source,
    /// `ip6 daddr`
    Ip6Destination,
    /// TCP, UDP and so on (`meta l4proto`).
    Protocol,
    /// Of whatever protocol has ports (`th dport`).
    DestinationPort,
    /// `meta mark`
    Mark,
}

/// Where a field is found.
enum Source {
    /// `enum nft_meta_keys`
    Meta(u32),
    /// `enum nft_payload_bases`, and where from there.
    Payload { base: u32, offset: u32 },
}

impl Field {
    fn source(self) -> Source {
        let (link, network, transport) = (0, 1, 2);
        match self {
            Field::Mark => Source::Meta(3),
            Field::Iifname => Source::Meta(6),
            Field::Oifname => Source::Meta(7),
            Field::Protocol => Source::Meta(16),
            Field::EtherSource => Source::Payload { base: link, offset: 6 },
            Field::Ip4Source => Source::Payload { base: network, offset: 12 },
            Field::Ip4Destination => Source::Payload { base: network, offset: 16 },
            Field::Ip6Source => Source::Payload { base: network, offset: 8 },
            Field::Ip6Destination => Source::Payload { base: network, offset: 24 },
            Field::DestinationPort => Source::Payload { base: transport, offset: 2 },
        }
    }

    fn of(self) -> Type {
        match self {
            Field::Iifname | Field::Oifname => Type::Ifname,
            Field::EtherSource => Type::EtherAddr,
            Field::Ip4Source | Field::Ip4Destination => Type::Ipv4Addr,
            Field::Ip6Source | Field::Ip6Destination => Type::Ipv6Addr,
            Field::Protocol => Type::InetProto,
            Field::DestinationPort => Type::InetService,
            Field::Mark => Type::Mark,
        }
    }

    /// The family of packets that have it, if not all do.
    fn family(self) -> Option<Family> {
        match self {
            Field::EtherSource => Some(Family::Bridge),
            Field::Ip4Source | Field::Ip4Destination => Some(Family::Ip),
            Field::Ip6Source | Field::Ip6Destination => Some(Family::Ip6),
            _ => None,
        }
    }
}

/// A rule (`nft add rule`): conditions first, then what is done with the packets that fulfil them all.
#[derive(Debug, Clone, Default)]
#[must_use = "a rule does nothing until it is in a chain"]
pub struct Rule {
    parts: Vec<Part>,
    comment: Option<String>,
}

#[derive(Debug, Clone)]
enum Part {
    Compare { field: Field, value: Value, equal: bool },
    Lookup { fields: Vec<Field>, set: String, found: bool },
    LocalDestination,
    Counter,
    Masquerade,
    Verdict(Verdict),
    VerdictMap { fields: Vec<Field>, map: String },
    DnatMap { family: Family, fields: Vec<Field>, map: String },
}

impl Rule {
    /// A rule that is fulfilled by every packet, and does nothing.
    pub fn new() -> Rule {
        Rule::default()
    }

    /// The field has this value, or is in this network (`ip daddr 10.1.0.0/16`).
    pub fn is(self, field: Field, value: impl Into<Value>) -> Rule {
        self.with(Part::Compare { field, value: value.into(), equal: true })
    }

    /// The field has another value, or is not in this network (`ip daddr != 10.1.0.0/16`).
    pub fn is_not(self, field: Field, value: impl Into<Value>) -> Rule {
        self.with(Part::Compare { field, value: value.into(), equal: false })
    }

    /// The fields together are in the set (`iifname . ether saddr @known`). Not in a map: Linux 6.1 does not have it.
    pub fn is_in(self, fields: &[Field], set: &str) -> Rule {
        self.with(Part::Lookup { fields: fields.to_vec(), set: set.into(), found: true })
    }

    /// The fields together are not in the set (`iifname . ether saddr != @known`).
    pub fn is_not_in(self, fields: &[Field], set: &str) -> Rule {
        self.with(Part::Lookup { fields: fields.to_vec(), set: set.into(), found: false })
    }

    /// The packet is for an address of this host (`fib daddr type local`).
    pub fn is_for_this_host(self) -> Rule {
        self.with(Part::LocalDestination)
    }

    /// Counts packets and octets (`counter`).
    pub fn counter(self) -> Rule {
        self.with(Part::Counter)
    }

    /// Sends the packet from an address of the link that it goes out by (`masquerade`).
    pub fn masquerade(self) -> Rule {
        self.with(Part::Masquerade)
    }

    /// Does this with the packet (`drop`, `jump …`).
    pub fn verdict(self, verdict: Verdict) -> Rule {
        self.with(Part::Verdict(verdict))
    }

    /// Does what the map says, and goes on if it says nothing (`ip saddr vmap @map`).
    pub fn verdict_map(self, fields: &[Field], map: &str) -> Rule {
        self.with(Part::VerdictMap { fields: fields.to_vec(), map: map.into() })
    }

    /// Sends the packet to the address and port that the map says, and goes on if it says nothing
    /// (`dnat ip to ip daddr . meta l4proto . th dport map @map`).
    pub fn dnat_map(self, family: Family, fields: &[Field], map: &str) -> Rule {
        self.with(Part::DnatMap { family, fields: fields.to_vec(), map: map.into() })
    }

    /// Whose it is. `nft` takes at most 128 octets, and no quotation mark.
    pub fn comment(mut self, comment: impl Into<String>) -> Rule {
        self.comment = Some(comment.into());
        self
    }

    pub(super) fn owner(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    fn with(mut self, part: Part) -> Rule {
        self.parts.push(part);
        self
    }

    /// The expressions of the rule in a table of this family.
    pub(super) fn write(&self, family: Family, list: &mut Body) -> Result<()> {
        // Fields of one family are only looked at in packets of that family, which the table may have to be asked for.
        let mut known = (family != Family::Inet).then_some(family);
        for part in &self.parts {
            for wanted in part.fields().iter().filter_map(|field| field.family()) {
                match known {
                    Some(known) if known == wanted => {}
                    None if wanted != Family::Bridge => {
                        meta(list, 15, FIRST);
                        compare(list, true, &[wanted.number()]);
                        known = Some(wanted);
                    }
                    _ => {
                        let cause =
                            format!("not of packets in a table of family {}", known.unwrap_or(family));
                        return Err(
                            Error::os("write rule", format!("{part:?}"), Errno::INVAL).with_cause(cause)
                        );
                    }
                }
            }
            part.write(list)?;
        }
        Ok(())
    }
}

impl Part {
    fn fields(&self) -> &[Field] {
        match self {
            Part::Compare { field, .. } => std::slice::from_ref(field),
            Part::Lookup { fields, .. } | Part::VerdictMap { fields, .. } | Part::DnatMap { fields, .. } => {
                fields
            }
            Part::LocalDestination | Part::Counter | Part::Masquerade | Part::Verdict(_) => &[],
        }
    }

    fn write(&self, list: &mut Body) -> Result<()> {
        match self {
            Part::Compare { field, value, equal } => {
                let Some((first, last)) = value.bounds(field.of()) else {
                    let what = format!("{field:?} {value}");
                    let cause = format!("not of type {}", field.of());
                    return Err(Error::os("write rule", what, Errno::INVAL).with_cause(cause));
                };
                load(list, std::slice::from_ref(field));
                if first != last {
                    mask(list, &first, &last);
                }
                compare(list, *equal, &first);
            }
            Part::Lookup { fields, set, found } => {
                load(list, fields);
                lookup(list, set, None, !found);
            }
            Part::LocalDestination => {
                expression(list, "fib", |fib| {
                    fib.be32(NFTA_FIB_DREG, FIRST);
                    fib.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
                    fib.be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
                });
                compare(list, true, &RTN_LOCAL.to_ne_bytes());
            }
            Part::Counter => expression(list, "counter", |counter| {
                counter.bytes(NFTA_COUNTER_BYTES, &[0; 8]).bytes(NFTA_COUNTER_PACKETS, &[0; 8]);
            }),
            Part::Masquerade => expression(list, "masq", |_no_attributes| {}),
            Part::Verdict(verdict) => expression(list, "immediate", |immediate| {
                immediate.be32(NFTA_IMMEDIATE_DREG, VERDICT);
                immediate.nest(NFTA_IMMEDIATE_DATA, |data| verdict.write(data));
            }),
            Part::VerdictMap { fields, map } => {
                load(list, fields);
                lookup(list, map, Some(VERDICT), false);
            }
            Part::DnatMap { family, fields, map } => {
                load(list, fields);
                lookup(list, map, Some(FIRST), false);
                let address = if *family == Family::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
                expression(list, "nat", |nat| {
                    nat.be32(NFTA_NAT_TYPE, NFT_NAT_DNAT);
                    nat.be32(NFTA_NAT_FAMILY, family.number().into());
                    nat.be32(NFTA_NAT_REG_ADDR_MIN, FIRST);
                    nat.be32(NFTA_NAT_REG_PROTO_MIN, FIRST + words(address));
                });
            }
        }
        Ok(())
    }
}

/// Loads fields to registers, one after the other.
fn load(list: &mut Body, fields: &[Field]) {
    let mut register = FIRST;
    for field in fields {
        match field.source() {
            Source::Meta(key) => meta(list, key, register),
            Source::Payload { base, offset } => expression(list, "payload", |payload| {
                payload.be32(NFTA_PAYLOAD_DREG, register);
                payload.be32(NFTA_PAYLOAD_BASE, base);
                payload.be32(NFTA_PAYLOAD_OFFSET, offset);
                // No type is longer than sixteen octets.
                payload.be32(NFTA_PAYLOAD_LEN, u32::try_from(field.of().length()).unwrap_or(u32::MAX));
            }),
        }
        register += words(field.of());
    }
}

fn words(of: Type) -> u32 {
    u32::try_from(of.padded() / 4).unwrap_or(u32::MAX)
}

fn meta(list: &mut Body, key: u32, register: u32) {
    expression(list, "meta", |meta| {
        meta.be32(NFTA_META_KEY, key).be32(NFTA_META_DREG, register);
    });
}

fn compare(list: &mut Body, equal: bool, bytes: &[u8]) {
    expression(list, "cmp", |cmp| {
        cmp.be32(NFTA_CMP_SREG, FIRST).be32(NFTA_CMP_OP, u32::from(!equal));
        value(cmp, NFTA_CMP_DATA, bytes);
    });
}

/// Clears the bits in which the first and the last address of a network differ.
fn mask(list: &mut Body, first: &[u8], last: &[u8]) {
    let mask: Vec<u8> = first.iter().zip(last).map(|(first, last)| !(first ^ last)).collect();
    expression(list, "bitwise", |bitwise| {
        bitwise.be32(NFTA_BITWISE_SREG, FIRST).be32(NFTA_BITWISE_DREG, FIRST);
        bitwise.be32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        value(bitwise, NFTA_BITWISE_MASK, &mask);
        value(bitwise, NFTA_BITWISE_XOR, &vec![0; mask.len()]);
    });
}

fn lookup(list: &mut Body, set: &str, to: Option<u32>, invert: bool) {
    expression(list, "lookup", |lookup| {
        lookup.text(NFTA_LOOKUP_SET, set).be32(NFTA_LOOKUP_SREG, FIRST);
        if let Some(register) = to {
            lookup.be32(NFTA_LOOKUP_DREG, register);
        }
        if invert {
            lookup.be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
        }
    });
}

fn expression(list: &mut Body, name: &str, fill: impl FnOnce(&mut Body)) {
    list.nest(NFTA_LIST_ELEM, |expression| {
        expression.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill);
    });
}

/// Reads of a rule's expressions what tells whose it is: the comment that iptables gave it
/// (`struct xt_comment_info`), and where it jumps or goes to.
pub(super) fn read(expressions: &[u8]) -> (Option<String>, Option<String>) {
    let (mut comment, mut target) = (None, None);
    for (_, expression) in attributes(expressions) {
        let name = inner(expression, NFTA_EXPR_NAME).map(string);
        let Some(data) = inner(expression, NFTA_EXPR_DATA) else { continue };
        match name.as_deref() {
            Some("match") if inner(data, NFTA_MATCH_NAME).map(string).as_deref() == Some("comment") => {
                comment = inner(data, NFTA_MATCH_INFO).map(string);
            }
            Some("immediate") => {
                let data = inner(data, NFTA_IMMEDIATE_DATA).and_then(|data| inner(data, NFTA_DATA_VERDICT));
                if let Some(Verdict::Jump(chain) | Verdict::Goto(chain)) = data.and_then(Verdict::read) {
                    target = Some(chain);
                }
            }
            _ => {}
        }
    }
    (comment, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(rule: &Rule, family: Family) -> String {
        rule.write(family, &mut Body::default()).unwrap_err().to_string()
    }

    #[test]
    fn fields_that_the_packets_do_not_have_are_refused() {
        let ether = Rule::new().is_in(&[Field::EtherSource], "s");
        assert!(ether.write(Family::Bridge, &mut Body::default()).is_ok());
        assert!(refused(&ether, Family::Inet).ends_with("not of packets in a table of family inet"));
        let six = Rule::new().is_in(&[Field::Ip6Source], "s");
        assert!(refused(&six, Family::Ip).ends_with("not of packets in a table of family ip"));
        let both = Rule::new().is_in(&[Field::Ip4Source], "s").is_in(&[Field::Ip6Source], "s");
        assert!(refused(&both, Family::Inet).ends_with("not of packets in a table of family ip"));
    }

    #[test]
    fn values_that_the_field_cannot_have_are_refused() {
        let rule = Rule::new().is(Field::Ip4Source, "eth0");
        assert_eq!(refused(&rule, Family::Inet), r#"write rule Ip4Source "eth0": not of type ipv4_addr"#);
    }
}
