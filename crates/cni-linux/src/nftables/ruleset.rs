//! What is to be there, and what is to go: lists of changes, in the order in which the kernel is to make them.
//!
//! Nothing here talks to the kernel.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use super::element::Element;
use super::rule::Rule;
use super::value::{Type, userdata};
use super::{
    Chain, Data, Kind, NFT_SET_CONCAT, NFTA_LIST_ELEM, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS,
    NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA, Set, Table,
};
use crate::error::{Error, Result};
use crate::netlink::batch::Message;
use crate::netlink::encode::Body;
use crate::netlink::nft;

/// Attributes of `include/uapi/linux/netfilter/nf_tables.h` that are only written.
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_FIELD_LEN: u16 = 1;
/// `NFT_DATA_VERDICT`
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// What `nft` attaches to a set so as to print it: `NFTNL_UDATA_SET_KEYBYTEORDER` and `…_DATABYTEORDER` in libnftnl,
/// `enum byteorder` in `include/datatype.h`.
const UDATA_KEY_ORDER: u8 = 0;
const UDATA_DATA_ORDER: u8 = 1;
const HOST_ORDER: u32 = 1;
const NETWORK_ORDER: u32 = 2;
/// `nft` numbers the types of a concatenation with six bits each (`TYPE_BITS`, `include/datatype.h`).
const TYPE_BITS: u32 = 6;

/// What is shared, and made if it is not there: tables, their chains and sets, and rules.
///
/// In the order in which they depend on each other: a table before what is in it, sets and chains before rules that name
/// them.
#[derive(Debug, Clone, Default)]
#[must_use = "a Ruleset makes nothing until it is given to a Netns"]
pub struct Ruleset {
    messages: Vec<Message>,
    /// The first thing in it that cannot be said to the kernel.
    refused: Option<Error>,
}

impl Ruleset {
    /// Nothing.
    pub fn new() -> Ruleset {
        Ruleset::default()
    }

    /// The table is there (`nft add table`).
    pub fn table(self, table: &Table<'_>) -> Ruleset {
        let mut body = table.body();
        body.text(NFTA_TABLE_NAME, table.name);
        self.with(nft::NEWTABLE, NLM_F_CREATE, body, "add table", table.to_string())
    }

    /// The chain is there (`nft add chain`).
    pub fn chain(self, chain: &Chain<'_>) -> Ruleset {
        const NF_ACCEPT: u32 = 1;
        let mut body = chain.named();
        if let Some(base) = chain.base {
            body.nest(NFTA_CHAIN_HOOK, |hook| {
                hook.be32(NFTA_HOOK_HOOKNUM, base.hook.number());
                hook.be32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
            });
            body.be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
            let kind = match base.kind {
                Kind::Filter => "filter",
                Kind::Nat => "nat",
            };
            body.text(NFTA_CHAIN_TYPE, kind);
        }
        self.with(nft::NEWCHAIN, NLM_F_CREATE, body, "add", chain.to_string())
    }

    /// The set or map is there (`nft add set`).
    pub fn set(self, set: &Set<'_>) -> Ruleset {
        let mut body = set.named();
        body.be32(NFTA_SET_FLAGS, set.flags());
        body.be32(NFTA_SET_KEY_TYPE, type_number(set.key)).be32(NFTA_SET_KEY_LEN, length(set.key));
        match set.data {
            Data::Nothing => {}
            Data::Values(types) => {
                body.be32(NFTA_SET_DATA_TYPE, type_number(types)).be32(NFTA_SET_DATA_LEN, length(types));
            }
            Data::Verdict => {
                body.be32(NFTA_SET_DATA_TYPE, VERDICT_TYPE);
            }
        }
        // The kernel insists on a number by which the transaction could refer to it.
        body.be32(NFTA_SET_ID, 1);
        if set.flags() & NFT_SET_CONCAT != 0 {
            body.nest(NFTA_SET_DESC, |desc| {
                desc.nest(NFTA_SET_DESC_CONCAT, |concat| set.key.iter().for_each(|of| field(concat, *of)));
            });
        }
        let mut orders = byte_order(UDATA_KEY_ORDER, set.key);
        if let Data::Values(types) = set.data {
            orders.extend(byte_order(UDATA_DATA_ORDER, types));
        }
        if !orders.is_empty() {
            body.bytes(NFTA_SET_USERDATA, &orders);
        }
        self.with(nft::NEWSET, NLM_F_CREATE, body, "add", set.to_string())
    }

    /// The set has the element, which is shared like the set. One of the same key but with other values is an error.
    pub fn element(mut self, set: &Set<'_>, element: &Element) -> Ruleset {
        match set.message(nft::NEWSETELEM, NLM_F_CREATE, "add element", element) {
            Ok(message) => self.messages.push(message),
            Err(error) => self.refused = self.refused.or(Some(error)),
        }
        self
    }

    /// The set does not have the element any more, which has to be there (`nft delete element`). For what is shared and has to
    /// make room. Of several fields with [intervals](Set::interval) the kernel takes the element that the first combination of
    /// values is in, whatever its end.
    pub fn without_element(mut self, set: &Set<'_>, element: &Element) -> Ruleset {
        match set.deletion(element) {
            Ok(message) => self.messages.push(message),
            Err(error) => self.refused = self.refused.or(Some(error)),
        }
        self
    }

    /// The chain has these rules, and no others (`nft flush chain`, `nft add rule`).
    pub fn rules(self, chain: &Chain<'_>, rules: impl IntoIterator<Item = Rule>) -> Ruleset {
        let flush = rule_body(chain);
        let mut ruleset = self.with(nft::DELRULE, 0, flush, "flush", chain.to_string());
        for rule in rules {
            let (mut body, mut written) = (rule_body(chain), Ok(()));
            body.nest(NFTA_RULE_EXPRESSIONS, |list| written = rule.write(chain.table.family, list));
            let commented = rule.owner().map(userdata).transpose();
            match written.and(commented) {
                Ok(comment) => {
                    if let Some(comment) = comment {
                        body.bytes(NFTA_RULE_USERDATA, &comment);
                    }
                }
                Err(error) => ruleset.refused = ruleset.refused.or(Some(error)),
            }
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            ruleset = ruleset.with(nft::NEWRULE, flags, body, "add rule to", chain.to_string());
        }
        ruleset
    }

    fn with(mut self, kind: u16, flags: u16, body: Body, doing: &'static str, what: String) -> Ruleset {
        self.messages.push(Message { kind, flags, body, doing, what });
        self
    }

    pub(super) fn messages(&self) -> Result<&[Message]> {
        match &self.refused {
            None => Ok(&self.messages),
            Some(error) => Err(error.clone()),
        }
    }
}

/// Elements to be added, to one set or to several.
#[derive(Debug, Clone, Default)]
#[must_use = "an Addition adds nothing until it is given to Netns::add_nft"]
pub struct Addition {
    /// The sets, and how to ask for them.
    pub(super) sets: Vec<(String, Body)>,
    entries: Vec<Entry>,
    refused: Option<Error>,
}

/// An element to be added, and how to get rid of it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) addition: Message,
    pub(super) deletion: Message,
}

impl Addition {
    /// Nothing.
    pub fn new() -> Addition {
        Addition::default()
    }

    /// This element (`nft add element`).
    pub fn element(mut self, set: &Set<'_>, element: &Element) -> Addition {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let addition = set.message(nft::NEWSETELEM, flags, "add element", element);
        match addition.and_then(|addition| Ok(Entry { addition, deletion: set.deletion(element)? })) {
            Ok(entry) => self.entries.push(entry),
            Err(error) => self.refused = self.refused.or(Some(error)),
        }
        let name = set.to_string();
        if self.sets.iter().all(|(other, _)| *other != name) {
            self.sets.push((name, set.named()));
        }
        self
    }

    pub(super) fn entries(&self) -> Result<&[Entry]> {
        match &self.refused {
            None => Ok(&self.entries),
            Some(error) => Err(error.clone()),
        }
    }
}

/// What is to be deleted. What is not there is passed over, and so is what others still refer to.
#[derive(Debug, Clone, Default)]
#[must_use = "a Removal deletes nothing until it is given to Netns::del_nft"]
pub struct Removal {
    messages: Vec<Message>,
    refused: Option<Error>,
}

impl Removal {
    /// Nothing.
    pub fn new() -> Removal {
        Removal::default()
    }

    /// The element with the key of this one (`nft delete element`).
    pub fn element(mut self, set: &Set<'_>, element: &Element) -> Removal {
        match set.deletion(element) {
            Ok(message) => self.messages.push(message),
            Err(error) => self.refused = self.refused.or(Some(error)),
        }
        self
    }

    /// The rule with this number (`nft delete rule … handle`).
    pub fn rule(self, chain: &Chain<'_>, handle: u64) -> Removal {
        let mut body = rule_body(chain);
        body.bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes());
        self.with(nft::DELRULE, body, format!("rule {handle} of {chain}"))
    }

    /// The chain with its rules, unless something jumps to it (`nft delete chain`).
    pub fn chain(self, chain: &Chain<'_>) -> Removal {
        self.with(nft::DELCHAIN, chain.named(), chain.to_string())
    }

    /// The set or map with its elements, unless a rule refers to it (`nft delete set`).
    pub fn set(self, set: &Set<'_>) -> Removal {
        self.with(nft::DELSET, set.named(), set.to_string())
    }

    /// The table with all that is in it (`nft delete table`).
    pub fn table(self, table: &Table<'_>) -> Removal {
        let mut body = table.body();
        body.text(NFTA_TABLE_NAME, table.name);
        self.with(nft::DELTABLE, body, format!("table {table}"))
    }

    pub(super) fn messages(&self) -> Result<&[Message]> {
        match &self.refused {
            None => Ok(&self.messages),
            Some(error) => Err(error.clone()),
        }
    }

    fn with(mut self, kind: u16, body: Body, what: String) -> Removal {
        self.messages.push(Message { kind, flags: 0, body, doing: "delete", what });
        self
    }
}

/// The body of a message about the rules of a chain.
pub(super) fn rule_body(chain: &Chain<'_>) -> Body {
    let mut body = chain.table.body();
    body.text(NFTA_RULE_TABLE, chain.table.name).text(NFTA_RULE_CHAIN, chain.name);
    body
}

/// What `nft` calls a type, or a concatenation of types.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, of| number << TYPE_BITS | of.number())
}

/// In octets, of one type or of a concatenation.
fn length(types: &[Type]) -> u32 {
    let length = match types {
        [one] => one.length(),
        several => several.iter().map(|of| of.padded()).sum(),
    };
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The description of one field of a concatenation of intervals.
fn field(concat: &mut Body, of: Type) {
    concat.nest(NFTA_LIST_ELEM, |field| {
        field.be32(NFTA_SET_FIELD_LEN, length(&[of]));
    });
}

/// In which order the octets are, for `nft`; of a concatenation it knows itself.
fn byte_order(what: u8, types: &[Type]) -> Vec<u8> {
    let order = match types {
        [Type::Mark | Type::Ifname] => HOST_ORDER,
        [_] => NETWORK_ORDER,
        _ => return Vec::new(),
    };
    [&[what, 4][..], &order.to_ne_bytes()].concat()
}
