//! Talking to the kernel: transactions that can be repeated, and reading back what has an owner.
//!
//! No lock is held: the kernel makes one transaction after the other, and says of which object something is missing or in
//! the way. But to take back a transaction it waits for all processors (`synchronize_rcu` in `__nf_tables_abort`), some
//! milliseconds, and lets nobody else in meanwhile. So it is asked first, in a few microseconds, whether what a transaction
//! depends on is there; only who loses a race pays.

use std::fmt::Display;

use super::element::{Element, RawElement};
use super::ruleset::{Addition, Entry, Removal, Ruleset, rule_body};
use super::value::comment;
use super::{
    Chain, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_USERDATA, NFTA_SET_ELEM_LIST_ELEMENTS, Set,
    expression,
};
use crate::error::{Errno, Error, Result};
use crate::netlink::batch::{Message, Refused};
use crate::netlink::encode::Body;
use crate::netlink::wire::attributes;
use crate::netlink::{Request, Socket, nft};
use crate::netns::Netns;
use crate::undo::Undo;

/// `struct nfgenmsg`, `include/uapi/linux/netfilter/nfnetlink.h`.
const NFGENMSG: usize = 4;

/// How often elements are tried to be added while others add and delete the same ones.
const ATTEMPTS: usize = 8;

/// How many deletions go into one transaction: the kernel answers each that it refuses, and has to keep the answers.
const DELETIONS: usize = 100;

/// A rule of a chain, as far as is needed to know whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedRule {
    /// Its number, by which it can be [deleted](Removal::rule). It is never given again in this table.
    pub handle: u64,
    /// Whose it is, as `nft` or `iptables` keeps it.
    pub comment: Option<String>,
    /// The chain that it jumps or goes to.
    pub target: Option<String>,
}

impl Netns {
    /// Makes what of the rule set is not there, in one transaction.
    ///
    /// It can be repeated, and any number of processes can do so at once. What is there and different is an error, but
    /// for rules, which are replaced.
    pub fn ensure_nft(&self, ruleset: &Ruleset) -> Result<()> {
        let messages = ruleset.messages()?;
        self.netfilter(|socket| socket.transact(messages)?.map_err(first))
    }

    /// Adds elements to sets and maps, in one transaction, together with the rule set `shared` if that is not there
    /// (`nft add element`).
    ///
    /// One question for each set, and one transaction; the rule set counts as there if the sets are. The elements are the
    /// caller's from then on: one of the same key that somebody else has, or left behind, is replaced. Pushes their deletion to
    /// `undo`, and that what was replaced comes back.
    pub fn add_nft(&self, addition: &Addition, shared: &Ruleset, undo: &mut Undo) -> Result<()> {
        let (entries, shared) = (addition.entries()?, shared.messages()?);
        if entries.is_empty() {
            return Ok(());
        }
        let replaced = self.netfilter(|socket| {
            let mut with_shared = false;
            for (set, named) in &addition.sets {
                with_shared |= !shared.is_empty() && !is_there(socket, nft::GETSET, named, set)?;
            }
            add(socket, entries, shared, with_shared)
        })?;
        let deletions: Vec<_> = entries.iter().map(|entry| entry.deletion.clone()).collect();
        let sets: Vec<_> = addition.sets.iter().map(|(set, _)| set.as_str()).collect();
        let netns = self.clone();
        undo.push(format!("elements of {}", sets.join(", ")), move || {
            netns.delete(&deletions)?;
            Ok(netns.restore(&replaced)?)
        });
        Ok(())
    }

    /// Deletes what is there, and says how much that was (`nft delete`).
    ///
    /// One question for each, and one transaction for all that are there. What is not there, and what others refer to, is
    /// no error and is passed over; other failures do not keep the rest from being deleted, and the first of them is
    /// returned.
    pub fn del_nft(&self, removal: &Removal) -> Result<usize> {
        self.delete(removal.messages()?)
    }

    /// All elements of a set or map, in the order of their keys (`nft list set`). None if there is no such set.
    ///
    /// Its time grows with their number, from some thousands on faster than that. The kernel may leave one out of a list of
    /// many while it enlarges the set for others.
    pub fn nft_elements(&self, set: &Set<'_>) -> Result<Vec<Element>> {
        let body = set.body();
        let request = Request { kind: nft::GETSETELEM, body: &body, doing: "list elements of", what: set };
        let listed = self.netfilter(|socket| socket.dump(&request, |body| Some(read_elements(body, set))));
        let raw = none_if_gone(listed)?.into_iter().flatten().collect();
        Ok(RawElement::assemble(raw, set))
    }

    /// The element with the key of this one, in a time that does not depend on how many there are (`nft get element`).
    /// Of a set that takes [intervals](Set::interval) it has to be one of several fields, and what is found is the element
    /// that the first combination of values is in.
    pub fn nft_element(&self, set: &Set<'_>, element: &Element) -> Result<Option<Element>> {
        let mut asked = set.deletion(element)?;
        asked.what = format!("{element} of {set}");
        let request =
            Request { kind: nft::GETSETELEM, body: &asked.body, doing: "look up element", what: &asked.what };
        match self.netfilter(|socket| socket.get(&request, |body| Some(read_elements(body, set)))) {
            Ok(raw) => Ok(RawElement::assemble(raw, set).into_iter().next()),
            Err(gone) if gone.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is such a chain (`nft list chain`), in a time that does not depend on what is in it.
    pub fn nft_chain_exists(&self, chain: &Chain<'_>) -> Result<bool> {
        self.netfilter(|socket| is_there(socket, nft::GETCHAIN, &chain.named(), chain))
    }

    /// The rules of a chain (`nft --handle list chain`). None if there is no such chain.
    pub fn nft_rules(&self, chain: &Chain<'_>) -> Result<Vec<ListedRule>> {
        let body = rule_body(chain);
        let request = Request { kind: nft::GETRULE, body: &body, doing: "list rules of", what: chain };
        none_if_gone(self.netfilter(|socket| socket.dump(&request, read_rule)))
    }

    /// Adds elements again that were replaced, each unless somebody else has its key by now, or its set is gone.
    fn restore(&self, replaced: &[Message]) -> Result<()> {
        for message in replaced {
            match self
                .netfilter(|socket| Ok(socket.transact(std::slice::from_ref(message))?.map_err(first)))?
            {
                Err(late) if late.is_exists() || late.is_gone() => {}
                restored => restored?,
            }
        }
        Ok(())
    }

    /// Deletes what is there of these.
    fn delete(&self, deletions: &[Message]) -> Result<usize> {
        let (mut deleted, mut failed) = (0, None);
        for chunk in deletions.chunks(DELETIONS) {
            let (count, failure) = self.netfilter(|socket| {
                let mut found = Vec::with_capacity(chunk.len());
                for message in chunk {
                    // The kernel numbers them so: new, get, delete.
                    if is_there(socket, message.kind - 1, &message.body, &message.what)? {
                        found.push(message.clone());
                    }
                }
                Ok(delete(socket, found))
            })?;
            deleted += count;
            failed = failed.or(failure);
        }
        failed.map_or(Ok(deleted), Err)
    }
}

/// Adds the elements, with what the kernel says they lack and without what it says is in their way, which is returned.
fn add(
    socket: &mut Socket,
    entries: &[Entry],
    shared: &[Message],
    mut with_shared: bool,
) -> Result<Vec<Message>> {
    // Those of the same key that somebody has, or left behind, which go first.
    let (mut replaces, mut replaced) = (vec![false; entries.len()], Vec::new());
    for attempt in 1.. {
        let mut batch: Vec<Message> = if with_shared { shared.to_vec() } else { Vec::new() };
        // Which entry each message is for, and whether it is the deletion that goes before.
        let mut parts = vec![None; batch.len()];
        for (nth, entry) in entries.iter().enumerate() {
            if replaces[nth] {
                batch.push(entry.deletion.clone());
                parts.push(Some((nth, true)));
            }
            batch.push(entry.addition.clone());
            parts.push(Some((nth, false)));
        }
        let Err(refused) = socket.transact(&batch)? else { return Ok(replaced) };
        for Refused { nth, error } in refused {
            match (parts[nth], error.errno()) {
                _ if attempt == ATTEMPTS => return Err(error),
                // Somebody else deleted it.
                (Some((nth, true)), Some(Errno::NOENT)) => replaces[nth] = false,
                (Some((nth, false)), Some(Errno::EXIST)) if !replaces[nth] => {
                    replaces[nth] = true;
                    replaced.extend(former(socket, &entries[nth])?);
                }
                (Some((_, false)), Some(Errno::NOENT)) if !with_shared && !shared.is_empty() => {
                    with_shared = true;
                    // The set is new: what is in the way of the others is in its predecessor.
                    break;
                }
                _ => return Err(error),
            }
        }
    }
    Ok(replaced)
}

/// The element that has an entry's key now, as a message that adds it: the kernel tells of one in the words that make it.
fn former(socket: &mut Socket, entry: &Entry) -> Result<Option<Message>> {
    let Message { body, what, .. } = &entry.deletion;
    let request = Request { kind: nft::GETSETELEM, body, doing: "look up", what };
    match socket.get(&request, |body| Some(Body::new(body))) {
        Ok(body) => Ok(Some(Message { body, ..entry.addition.clone() })),
        Err(gone) if gone.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes what can be, and returns how much that was, and the first failure that is none of the expected.
fn delete(socket: &mut Socket, mut left: Vec<Message>) -> (usize, Option<Error>) {
    let mut failed = None;
    while !left.is_empty() {
        let refused = match socket.transact(&left) {
            Ok(Ok(())) => break,
            Ok(Err(refused)) => refused,
            Err(error) => return (0, Some(failed.unwrap_or(error))),
        };
        let mut nth = 0;
        left.retain(|_| {
            nth += 1;
            !refused.iter().any(|refused| refused.nth == nth - 1)
        });
        let unexpected = |error: &Error| !error.is_gone() && error.errno() != Some(Errno::BUSY);
        failed = failed.or(refused.into_iter().map(|refused| refused.error).find(unexpected));
    }
    (left.len(), failed)
}

/// Asks whether an object is there, with a message of a kind that gets it.
fn is_there(socket: &mut Socket, kind: u16, body: &Body, what: &dyn Display) -> Result<bool> {
    match socket.get(&Request { kind, body, doing: "look up", what }, |_| Some(())) {
        Ok(()) => Ok(true),
        Err(gone) if gone.is_gone() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The kernel's answers are in the order of the changes; what follows the first is often its consequence.
fn first(refused: Vec<Refused>) -> Error {
    let mut refused = refused.into_iter().map(|refused| refused.error);
    refused.next().unwrap_or_else(|| Error::os("commit", "", Errno::PROTO))
}

fn none_if_gone<T>(listed: Result<Vec<T>>) -> Result<Vec<T>> {
    match listed {
        Err(gone) if gone.is_gone() => Ok(Vec::new()),
        listed => listed,
    }
}

/// Reads the body of an `NFT_MSG_NEWSETELEM` message.
fn read_elements(body: &[u8], set: &Set<'_>) -> Vec<RawElement> {
    let lists = attributes(body.get(NFGENMSG..).unwrap_or_default());
    let elements =
        lists.filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS).flat_map(|(_, list)| attributes(list));
    elements.filter_map(|(_, element)| RawElement::read(element, set)).collect()
}

/// Reads the body of an `NFT_MSG_NEWRULE` message.
fn read_rule(body: &[u8]) -> Option<ListedRule> {
    let mut listed = ListedRule { handle: 0, comment: None, target: None };
    for (kind, value) in attributes(body.get(NFGENMSG..)?) {
        match kind {
            NFTA_RULE_HANDLE => listed.handle = value.try_into().ok().map(u64::from_be_bytes)?,
            NFTA_RULE_USERDATA => listed.comment = comment(value).or(listed.comment),
            NFTA_RULE_EXPRESSIONS => {
                let (comment, target) = expression::read(value);
                (listed.comment, listed.target) = (listed.comment.or(comment), target);
            }
            _ => {}
        }
    }
    Some(listed)
}

#[cfg(feature = "testing")]
pub(super) fn read_all(body: &[u8], set: &Set<'_>) {
    let _ = (read_rule(body), RawElement::assemble(read_elements(body, set), set));
}
