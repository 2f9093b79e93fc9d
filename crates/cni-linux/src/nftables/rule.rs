//! Rules: what a packet is compared with, and what is done with it.
//!
//! Each part is written as the expressions that `nft(8)` writes for it, so that `nft list ruleset` prints it in its own
//! syntax, and can read that again.

use std::net::IpAddr;

use super::Family;
use super::expression::{self, compare, load, mask};
use super::value::{Type, Value, Verdict};
use crate::error::{Errno, Error, Result};
use crate::netlink::encode::Body;

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
    /// Of whatever protocol has ports (`th sport`).
    SourcePort,
    /// Of whatever protocol has ports (`th dport`).
    DestinationPort,
    /// `meta mark`
    Mark,
}

/// Where a field is found.
pub(super) enum Source {
    /// `enum nft_meta_keys`
    Meta(u32),
    /// `enum nft_payload_bases`, and where from there.
    Payload { base: u32, offset: u32 },
}

impl Field {
    pub(super) fn source(self) -> Source {
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
            Field::SourcePort => Source::Payload { base: transport, offset: 0 },
            Field::DestinationPort => Source::Payload { base: transport, offset: 2 },
        }
    }

    pub(super) fn of(self) -> Type {
        match self {
            Field::Iifname | Field::Oifname => Type::Ifname,
            Field::EtherSource => Type::EtherAddr,
            Field::Ip4Source | Field::Ip4Destination => Type::Ipv4Addr,
            Field::Ip6Source | Field::Ip6Destination => Type::Ipv6Addr,
            Field::Protocol => Type::InetProto,
            Field::SourcePort | Field::DestinationPort => Type::InetService,
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

/// What connection tracking thinks of a packet (`ct state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It belongs to no flow and can begin none.
    Invalid,
    /// Of a flow that went both ways.
    Established,
    /// Of a flow that belongs to another one, such as an error message.
    Related,
    /// The first of a flow.
    New,
    /// It was not to be tracked.
    Untracked,
}

impl State {
    /// `NF_CT_STATE_BIT`, `include/uapi/linux/netfilter/nf_conntrack_common.h`.
    fn bit(self) -> u32 {
        match self {
            State::Invalid => 1,
            State::Established => 2,
            State::Related => 4,
            State::New => 8,
            State::Untracked => 64,
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
    Local { by_source: bool, equal: bool },
    State(u32),
    Redirected,
    MarkBits { bits: u32, equal: bool },
    AddMarkBits(u32),
    Counter,
    Masquerade,
    Reject,
    Snat(IpAddr),
    Dnat(IpAddr, Option<u16>),
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
        self.with(Part::Local { by_source: false, equal: true })
    }

    /// The packet is for no address of this host (`fib daddr type != local`).
    pub fn is_not_for_this_host(self) -> Rule {
        self.with(Part::Local { by_source: false, equal: false })
    }

    /// The packet is from an address of this host (`fib saddr type local`).
    pub fn is_from_this_host(self) -> Rule {
        self.with(Part::Local { by_source: true, equal: true })
    }

    /// Connection tracking thinks one of these of the packet (`ct state established,related`).
    pub fn has_state(self, states: &[State]) -> Rule {
        self.with(Part::State(states.iter().fold(0, |bits, state| bits | state.bit())))
    }

    /// The packet is of a flow that was sent to another address or port than it asked for (`ct status dnat`).
    pub fn is_redirected(self) -> Rule {
        self.with(Part::Redirected)
    }

    /// The mark has all of these bits, whatever the others are (`meta mark & 0x2000 == 0x2000`).
    pub fn has_mark(self, bits: u32) -> Rule {
        self.with(Part::MarkBits { bits, equal: true })
    }

    /// The mark lacks one of these bits (`meta mark & 0x2000 != 0x2000`).
    pub fn lacks_mark(self, bits: u32) -> Rule {
        self.with(Part::MarkBits { bits, equal: false })
    }

    /// Adds these bits to the mark (`meta mark set meta mark | 0x2000`).
    pub fn add_mark(self, bits: u32) -> Rule {
        self.with(Part::AddMarkBits(bits))
    }

    /// Counts packets and octets (`counter`).
    pub fn counter(self) -> Rule {
        self.with(Part::Counter)
    }

    /// Sends the packet from an address of the link that it goes out by (`masquerade`).
    pub fn masquerade(self) -> Rule {
        self.with(Part::Masquerade)
    }

    /// Throws the packet away, and tells the sender that nobody listens at the port (`reject`). Not in bridge tables, and not
    /// in chains of `nat`.
    pub fn reject(self) -> Rule {
        self.with(Part::Reject)
    }

    /// Sends the packet from this address (`snat ip to`).
    pub fn snat(self, address: IpAddr) -> Rule {
        self.with(Part::Snat(address))
    }

    /// Sends the packet to this address, and this port if there is one (`dnat ip to`). For a port the rule has to say which
    /// [protocol](Field::Protocol) it is about.
    pub fn dnat(self, address: IpAddr, port: impl Into<Option<u16>>) -> Rule {
        self.with(Part::Dnat(address, port.into()))
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
                        expression::family(list, wanted);
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
            part.write(family, list)?;
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
            _ => &[],
        }
    }

    /// The expressions of the part, in a table of this family.
    fn write(&self, family: Family, list: &mut Body) -> Result<()> {
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
                expression::look_up(list, set, *found);
            }
            Part::Local { by_source, equal } => expression::local(list, *by_source, *equal),
            Part::State(bits) => expression::state(list, *bits),
            Part::Redirected => expression::redirected(list),
            Part::MarkBits { bits, equal } => expression::mark_bits(list, *bits, *equal),
            Part::AddMarkBits(bits) => expression::add_mark_bits(list, *bits),
            Part::Counter => expression::counter(list),
            Part::Masquerade => expression::masquerade(list),
            Part::Reject => expression::reject(list, family),
            Part::Snat(address) => expression::snat(list, *address),
            Part::Dnat(address, port) => expression::dnat(list, *address, *port),
            Part::Verdict(verdict) => expression::verdict(list, verdict),
            Part::VerdictMap { fields, map } => {
                load(list, fields);
                expression::look_up_verdict(list, map);
            }
            Part::DnatMap { family, fields, map } => {
                load(list, fields);
                expression::dnat_by_map(list, *family, map);
            }
        }
        Ok(())
    }
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
