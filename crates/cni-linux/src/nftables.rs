//! nf_tables, without the program `nft`: tables, chains, rules, sets and maps, in transactions.
//!
//! The vocabulary is small on purpose. What is made here is listed by `nft list ruleset` in nft's own syntax, and can be
//! loaded again by it. It has no names and no rules of its own, and no model of what others made: nothing is read before
//! it is written.
//!
//! What many processes share and nobody takes away, a table with its chains, sets and rules, is a [`Ruleset`]: it is
//! [ensured](crate::Netns::ensure_nft), as often as one likes, by as many as there are. What belongs to one owner is an
//! [`Element`] of a set or map, with the owner in its comment: it is [added](crate::Netns::add_nft) and
//! [deleted](crate::Netns::del_nft) in a time that does not depend on how many others there are, and no packet has to pass a rule
//! for it.
//!
//! ```no_run
//! use cni_linux::nftables::{Addition, Chain, Element, Family, Field, Hook, Kind, Rule, Ruleset, Set, Table, Type};
//! use cni_linux::{Netns, Undo};
//!
//! const TABLE: Table = Table::new(Family::Inet, "example");
//! const SOURCES: Set = Set::new(TABLE, "sources", &[Type::Ipv4Addr]);
//! const POSTROUTING: Chain = Chain::base(TABLE, "postrouting", Kind::Nat, Hook::Postrouting, 100);
//!
//! # fn main() -> cni_linux::Result<()> {
//! let rule = Rule::new().is_in(&[Field::Ip4Source], "sources").masquerade();
//! let shared = Ruleset::new().table(&TABLE).set(&SOURCES).chain(&POSTROUTING).rules(&POSTROUTING, [rule]);
//! let mine = Element::new([std::net::Ipv4Addr::new(10, 1, 2, 3).into()]).comment("mine");
//! let mut undo = Undo::new();
//! Netns::current()?.add_nft(&Addition::new().element(&SOURCES, &mine), &shared, &mut undo)?;
//! undo.keep();
//! # Ok(())
//! # }
//! ```

mod apply;
mod element;
mod expression;
mod rule;
mod ruleset;
mod value;

use std::fmt;

use crate::error::Result;
use crate::netlink::batch::Message;
use crate::netlink::encode::Body;
use crate::netlink::nft;

pub use apply::ListedRule;
pub use element::Element;
pub use rule::{Field, Rule, State};
pub use ruleset::{Addition, Removal, Ruleset};
pub use value::{Type, Value, Verdict};

/// `struct nfgenmsg`, `include/uapi/linux/netfilter/nfnetlink.h`, and the attributes of
/// `include/uapi/linux/netfilter/nf_tables.h`.
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFT_SET_INTERVAL: u32 = 4;
const NFT_SET_MAP: u32 = 8;
const NFT_SET_CONCAT: u32 = 0x80;

/// Which packets a table is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// What passes a bridge.
    Bridge,
}

impl Family {
    /// `NFPROTO_…`, `include/uapi/linux/netfilter.h`.
    fn number(self) -> u8 {
        match self {
            Family::Inet => 1,
            Family::Ip => 2,
            Family::Bridge => 7,
            Family::Ip6 => 10,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Bridge => "bridge",
        })
    }
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    family: Family,
    name: &'a str,
}

impl<'a> Table<'a> {
    /// The table of this name.
    pub const fn new(family: Family, name: &'a str) -> Table<'a> {
        Table { family, name }
    }

    fn body(&self) -> Body {
        Body::new(&[self.family.number(), 0, 0, 0])
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It looks at every packet.
    Filter,
    /// It looks at the first packet of each connection, and may change addresses.
    Nat,
}

/// Where a base chain looks at packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hook {
    /// On arrival.
    Prerouting,
    /// Those for this host.
    Input,
    /// Those for others.
    Forward,
    /// Those from this host.
    Output,
    /// Before they leave.
    Postrouting,
}

impl Hook {
    /// `enum nf_inet_hooks`, which are the same for bridges.
    fn number(self) -> u32 {
        match self {
            Hook::Prerouting => 0,
            Hook::Input => 1,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        }
    }
}

/// A chain of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain<'a> {
    table: Table<'a>,
    name: &'a str,
    base: Option<Base>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Base {
    kind: Kind,
    hook: Hook,
    priority: i32,
}

impl<'a> Chain<'a> {
    /// A chain that packets only come to from other chains.
    pub const fn new(table: Table<'a>, name: &'a str) -> Chain<'a> {
        Chain { table, name, base: None }
    }

    /// A chain that packets come to by themselves, before those of a higher priority. Its policy is to accept them.
    pub const fn base(table: Table<'a>, name: &'a str, kind: Kind, hook: Hook, priority: i32) -> Chain<'a> {
        Chain { table, name, base: Some(Base { kind, hook, priority }) }
    }

    /// The body of a message about the chain itself.
    fn named(&self) -> Body {
        let mut body = self.table.body();
        body.text(NFTA_CHAIN_TABLE, self.table.name).text(NFTA_CHAIN_NAME, self.name);
        body
    }
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} {}", self.table, self.name)
    }
}

/// A set, or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    table: Table<'a>,
    name: &'a str,
    key: &'a [Type],
    data: Data<'a>,
    interval: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data<'a> {
    Nothing,
    Values(&'a [Type]),
    Verdict,
}

impl<'a> Set<'a> {
    /// A set of these, or of their concatenation (`type ifname . ether_addr`).
    pub const fn new(table: Table<'a>, name: &'a str, key: &'a [Type]) -> Set<'a> {
        Set { table, name, key, data: Data::Nothing, interval: false }
    }

    /// A map from these to those (`type inet_service : ipv4_addr . inet_service`).
    pub const fn map(table: Table<'a>, name: &'a str, key: &'a [Type], values: &'a [Type]) -> Set<'a> {
        Set { table, name, key, data: Data::Values(values), interval: false }
    }

    /// A map from these to what becomes of the packet (`type ipv4_addr : verdict`).
    ///
    /// To add an element that jumps, or goes, to a chain costs the more the more are in it: the kernel goes through all of
    /// them to see that no packet can go round in circles.
    pub const fn verdict_map(table: Table<'a>, name: &'a str, key: &'a [Type]) -> Set<'a> {
        Set { table, name, key, data: Data::Verdict, interval: false }
    }

    /// It takes networks, too (`flags interval`). Adding to it then costs the more the more is in it.
    pub const fn interval(self) -> Set<'a> {
        Set { interval: true, ..self }
    }

    fn flags(&self) -> u32 {
        let interval = if self.interval { NFT_SET_INTERVAL } else { 0 };
        let map = if self.data == Data::Nothing { 0 } else { NFT_SET_MAP };
        let concat = if self.interval && self.key.len() > 1 { NFT_SET_CONCAT } else { 0 };
        interval | map | concat
    }

    /// The words for its types, as after `type` in nft's syntax.
    fn types(&self) -> String {
        let names = |types: &[Type]| types.iter().map(Type::to_string).collect::<Vec<_>>().join(" . ");
        match self.data {
            Data::Nothing => names(self.key),
            Data::Values(values) => format!("{} : {}", names(self.key), names(values)),
            Data::Verdict => format!("{} : verdict", names(self.key)),
        }
    }

    /// The body of a message about the set itself.
    fn named(&self) -> Body {
        let mut body = self.table.body();
        body.text(NFTA_SET_TABLE, self.table.name).text(NFTA_SET_NAME, self.name);
        body
    }

    /// The body of a message about its elements.
    fn body(&self) -> Body {
        let mut body = self.table.body();
        body.text(NFTA_SET_ELEM_LIST_TABLE, self.table.name).text(NFTA_SET_ELEM_LIST_SET, self.name);
        body
    }

    /// A message about one of its elements.
    fn message(&self, kind: u16, flags: u16, doing: &'static str, element: &Element) -> Result<Message> {
        let (mut body, mut written) = (self.body(), Ok(()));
        let key_only = kind == nft::DELSETELEM;
        body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| written = element.write(self, list, key_only));
        written?;
        let between = if key_only { "from" } else { "to" };
        Ok(Message { kind, flags, body, doing, what: format!("{element} {between} {self}") })
    }

    fn deletion(&self, element: &Element) -> Result<Message> {
        let key = Element::new(element.key.clone());
        self.message(nft::DELSETELEM, 0, "delete element", &key)
    }
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.data == Data::Nothing { "set" } else { "map" };
        write!(f, "{kind} {} {}", self.table, self.name)
    }
}

/// For fuzzers.
#[cfg(feature = "testing")]
pub(crate) fn read_all(body: &[u8]) {
    const TABLE: Table<'_> = Table::new(Family::Inet, "t");
    for set in [
        Set::verdict_map(TABLE, "s", &[Type::Ipv4Addr]).interval(),
        Set::map(TABLE, "s", &[Type::Ifname, Type::Mark], &[Type::EtherAddr, Type::InetService]),
    ] {
        apply::read_all(body, &set);
    }
}
