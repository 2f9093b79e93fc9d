//! Expressions: the instructions that rules are made of, and that a packet runs through.
//!
//! Each is written as `nft(8)` writes it; what they are put together to is the business of [`rule`](super::rule).

use std::net::IpAddr;

use super::rule::{Field, Source};
use super::value::{NFTA_DATA_VERDICT, Type, Verdict, inner, value};
use super::{Family, NFTA_LIST_ELEM};
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, string};

/// `include/uapi/linux/netfilter/nf_tables.h`: attributes of a rule's expressions.
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_DREG: u16 = 1;
const NFTA_META_KEY: u16 = 2;
const NFTA_META_SREG: u16 = 3;
const NFTA_CT_DREG: u16 = 1;
const NFTA_CT_KEY: u16 = 2;
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
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
const NFTA_FIB_F_SADDR: u32 = 1;
const NFTA_FIB_F_DADDR: u32 = 2;
/// `RTN_LOCAL`, `include/uapi/linux/rtnetlink.h`.
const RTN_LOCAL: u32 = 2;
const NFT_NAT_SNAT: u32 = 0;
const NFT_NAT_DNAT: u32 = 1;
const NFT_META_NFPROTO: u32 = 15;
const NFT_META_MARK: u32 = 3;
const NFT_CT_STATE: u32 = 0;
const NFT_CT_STATUS: u32 = 2;
/// `IPS_DST_NAT`, `include/uapi/linux/netfilter/nf_conntrack_common.h`.
const IPS_DST_NAT: u32 = 1 << 5;

/// Registers: one takes a verdict, the others are counted in words of four octets from `NFT_REG32_00`.
const VERDICT: u32 = 0;
const FIRST: u32 = 8;

/// Loads fields to registers, one after the other.
pub(super) fn load(list: &mut Body, fields: &[Field]) {
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

/// Only packets of this family: what comes then is of no others.
pub(super) fn family(list: &mut Body, family: Family) {
    meta(list, NFT_META_NFPROTO, FIRST);
    compare(list, true, &[family.number()]);
}

/// `fib saddr type local`, or by the destination.
pub(super) fn local(list: &mut Body, by_source: bool, equal: bool) {
    expression(list, "fib", |fib| {
        fib.be32(NFTA_FIB_DREG, FIRST);
        fib.be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
        fib.be32(NFTA_FIB_FLAGS, if by_source { NFTA_FIB_F_SADDR } else { NFTA_FIB_F_DADDR });
    });
    compare(list, equal, &RTN_LOCAL.to_ne_bytes());
}

/// `ct state`
pub(super) fn state(list: &mut Body, bits: u32) {
    connection(list, NFT_CT_STATE, bits);
}

/// `ct status dnat`
pub(super) fn redirected(list: &mut Body) {
    connection(list, NFT_CT_STATUS, IPS_DST_NAT);
}

/// One of these bits is set of what is known of the flow.
fn connection(list: &mut Body, key: u32, bits: u32) {
    expression(list, "ct", |ct| _ = ct.be32(NFTA_CT_DREG, FIRST).be32(NFTA_CT_KEY, key));
    bitwise(list, &bits.to_ne_bytes(), &[0; 4]);
    compare(list, false, &[0; 4]);
}

/// `meta mark &`
pub(super) fn mark_bits(list: &mut Body, bits: u32, equal: bool) {
    meta(list, NFT_META_MARK, FIRST);
    bitwise(list, &bits.to_ne_bytes(), &[0; 4]);
    compare(list, equal, &bits.to_ne_bytes());
}

/// `meta mark set meta mark |`
pub(super) fn add_mark_bits(list: &mut Body, bits: u32) {
    meta(list, NFT_META_MARK, FIRST);
    bitwise(list, &(!bits).to_ne_bytes(), &bits.to_ne_bytes());
    expression(list, "meta", |meta| _ = meta.be32(NFTA_META_KEY, NFT_META_MARK).be32(NFTA_META_SREG, FIRST));
}

/// `counter`
pub(super) fn counter(list: &mut Body) {
    expression(list, "counter", |counter| {
        counter.bytes(NFTA_COUNTER_BYTES, &[0; 8]).bytes(NFTA_COUNTER_PACKETS, &[0; 8]);
    });
}

/// `masquerade`
pub(super) fn masquerade(list: &mut Body) {
    expression(list, "masq", |_no_attributes| {});
}

/// `accept`, `jump`, …
pub(super) fn verdict(list: &mut Body, verdict: &Verdict) {
    expression(list, "immediate", |immediate| {
        immediate.be32(NFTA_IMMEDIATE_DREG, VERDICT);
        immediate.nest(NFTA_IMMEDIATE_DATA, |data| verdict.write(data));
    });
}

/// Whether what is [loaded](load) is in the set.
pub(super) fn look_up(list: &mut Body, set: &str, found: bool) {
    lookup(list, set, None, !found);
}

/// `vmap`, by what is [loaded](load).
pub(super) fn look_up_verdict(list: &mut Body, map: &str) {
    lookup(list, map, Some(VERDICT), false);
}

fn words(of: Type) -> u32 {
    u32::try_from(of.padded() / 4).unwrap_or(u32::MAX)
}

fn meta(list: &mut Body, key: u32, register: u32) {
    expression(list, "meta", |meta| {
        meta.be32(NFTA_META_KEY, key).be32(NFTA_META_DREG, register);
    });
}

pub(super) fn compare(list: &mut Body, equal: bool, bytes: &[u8]) {
    expression(list, "cmp", |cmp| {
        cmp.be32(NFTA_CMP_SREG, FIRST).be32(NFTA_CMP_OP, u32::from(!equal));
        value(cmp, NFTA_CMP_DATA, bytes);
    });
}

/// Clears the bits in which the first and the last address of a network differ.
pub(super) fn mask(list: &mut Body, first: &[u8], last: &[u8]) {
    let mask: Vec<u8> = first.iter().zip(last).map(|(first, last)| !(first ^ last)).collect();
    bitwise(list, &mask, &vec![0; mask.len()]);
}

/// Keeps the bits of the mask, and turns those of `xor` over.
fn bitwise(list: &mut Body, mask: &[u8], xor: &[u8]) {
    expression(list, "bitwise", |bitwise| {
        bitwise.be32(NFTA_BITWISE_SREG, FIRST).be32(NFTA_BITWISE_DREG, FIRST);
        bitwise.be32(NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX));
        value(bitwise, NFTA_BITWISE_MASK, mask);
        value(bitwise, NFTA_BITWISE_XOR, xor);
    });
}

/// `enum nft_reject_types`, `nft_reject_inet_code`, and the codes of ICMP and ICMPv6 for the port.
pub(super) fn reject(list: &mut Body, family: Family) {
    let (kind, code) = match family {
        Family::Ip => (0, 3),
        Family::Ip6 => (0, 4),
        // One word for both.
        Family::Inet | Family::Bridge => (2, 1),
    };
    expression(list, "reject", |reject| {
        reject.be32(NFTA_REJECT_TYPE, kind).bytes(NFTA_REJECT_ICMP_CODE, &[code]);
    });
}

/// `snat ip to`
pub(super) fn snat(list: &mut Body, address: IpAddr) {
    translate(list, NFT_NAT_SNAT, address, None);
}

/// `dnat ip to`
pub(super) fn dnat(list: &mut Body, address: IpAddr, port: Option<u16>) {
    translate(list, NFT_NAT_DNAT, address, port);
}

/// `dnat ip to … map`, by what is [loaded](load).
pub(super) fn dnat_by_map(list: &mut Body, family: Family, map: &str) {
    lookup(list, map, Some(FIRST), false);
    let of = if family == Family::Ip { Type::Ipv4Addr } else { Type::Ipv6Addr };
    nat(list, NFT_NAT_DNAT, family, Some(FIRST + words(of)));
}

fn translate(list: &mut Body, kind: u32, address: IpAddr, port: Option<u16>) {
    let (family, of, octets) = match address {
        IpAddr::V4(address) => (Family::Ip, Type::Ipv4Addr, address.octets().to_vec()),
        IpAddr::V6(address) => (Family::Ip6, Type::Ipv6Addr, address.octets().to_vec()),
    };
    let beside = FIRST + words(of);
    immediate(list, FIRST, &octets);
    if let Some(port) = port {
        immediate(list, beside, &port.to_be_bytes());
    }
    nat(list, kind, family, port.is_some().then_some(beside));
}

/// With the address in the first register, and perhaps a port in that one.
fn nat(list: &mut Body, kind: u32, family: Family, port: Option<u32>) {
    expression(list, "nat", |nat| {
        nat.be32(NFTA_NAT_TYPE, kind).be32(NFTA_NAT_FAMILY, family.number().into());
        nat.be32(NFTA_NAT_REG_ADDR_MIN, FIRST);
        if let Some(register) = port {
            nat.be32(NFTA_NAT_REG_PROTO_MIN, register);
        }
    });
}

fn immediate(list: &mut Body, register: u32, bytes: &[u8]) {
    expression(list, "immediate", |immediate| {
        immediate.be32(NFTA_IMMEDIATE_DREG, register);
        value(immediate, NFTA_IMMEDIATE_DATA, bytes);
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
