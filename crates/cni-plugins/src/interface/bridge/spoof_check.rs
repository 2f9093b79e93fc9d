//! What comes from a port with another hardware address than the container's is dropped.
//!
//! One table for all ports. A packet costs two lookups however many they are, and an attachment three elements, each with its
//! owner in its comment. The Go plugin has two chains and a rule for each attachment, which are cleaned up as well.

use std::collections::BTreeSet;

use cni_sdk::linux::nftables::{
    Addition, Chain, Element, Family, Field, Hook, Kind, Removal, Rule, Ruleset, Set, Table, Type, Value,
    Verdict,
};
use cni_sdk::spec::NetworkName;
use cni_sdk::steps::{self, Veth, names};
use cni_sdk::{Add, AttachmentId, Error, Link, Netns, Result, Undo, linux};

const TABLE: Table<'_> = Table::new(Family::Bridge, "ferrocni_spoofcheck");
/// Which hardware addresses may send by which port.
const KNOWN: Set<'_> = Set::new(TABLE, "known", &[Type::Ifname, Type::EtherAddr]);
/// The ports that are checked.
const CHECKED: Set<'_> = Set::verdict_map(TABLE, "checked", &[Type::Ifname]);
/// The hardware address of each port. No rule looks there: it is for DEL, which knows nothing but the port's name.
const MACS: Set<'_> = Set::map(TABLE, "macs", &[Type::Ifname], &[Type::EtherAddr]);
/// Before everything else that looks at what comes to a bridge, as early as the Go plugin's.
const PREROUTING: Chain<'_> = Chain::base(TABLE, "prerouting", Kind::Filter, Hook::Prerouting, -300);

/// How many rules the chain has.
const RULES: usize = 2;

/// Drops what the container sends from another address than the one it has now.
pub(super) fn add(host: &Netns, cx: &Add, veth: &Veth, undo: &mut Undo) -> Result<()> {
    let Some(mac) = veth.container.mac() else { return Err(Error::failed("the container has no address")) };
    let owner = names::owner(&cx.net.name, &cx.id);
    let (port, pair) = (of_port(&veth.host.name), known(&veth.host.name, mac.into()));
    let elements = Addition::new()
        .element(&KNOWN, &pair.comment(owner.as_str()))
        .element(&MACS, &port.clone().maps_to([mac.into()]).comment(owner.as_str()))
        .element(&CHECKED, &port.verdict(Verdict::Drop).comment(owner));
    // Where a chain is missing the elements cannot be added either; one without its rules looks at nothing.
    let ensured = if has_rules(host)? { Ok(()) } else { host.ensure_nft(&shared()) };
    ensured
        .and_then(|()| host.add_nft(&elements, &shared(), undo))
        .map_err(|e| Error::failed(format!("failed to setup spoof-check: {e}")))
}

/// Takes the port of this attachment out of the table, and what the Go plugin has for it.
pub(super) fn del(host: &Netns, net: &NetworkName, id: &AttachmentId) -> Result<()> {
    steps::all([del_port(host, &names::host_end(net, id)), del_reference(host, id)].map(torn_down))
}

/// Takes the ports out of the table that are the network's and belong to no valid attachment. What the Go plugin has for an
/// attachment does not say of which network it is.
pub(super) fn gc(host: &Netns, net: &NetworkName, valid: &[AttachmentId]) -> Result<()> {
    let network = names::network_key(net);
    let valid: BTreeSet<String> = valid.iter().map(|id| names::host_end(net, id)).collect();
    let collected = host.nft_elements(&MACS).and_then(|found| {
        let stale = found.iter().filter(|element| {
            element.comment.as_ref().is_some_and(|owner| owner.starts_with(&network))
                && !matches!(element.key.as_slice(), [Value::Ifname(name)] if valid.contains(name))
        });
        let removal = stale.fold(Removal::new(), |removal, element| {
            let (Some(Value::Ifname(name)), Some(mac)) = (element.key.first(), element.values.first()) else {
                return removal;
            };
            remove(removal, name, Some(mac.clone()))
        });
        host.del_nft(&removal).map(drop)
    });
    torn_down(collected)
}

/// Checks that the container's address may send by the port, and no other may.
pub(super) fn check(host: &Netns, port: &Link, nic: &Link) -> Result<()> {
    let (name, mac) = (port.name.as_str(), nic.mac().unwrap_or_default());
    let there = |set: &Set<'_>, element: &Element| Ok::<_, Error>(host.nft_element(set, element)?.is_some());
    let ours = there(&KNOWN, &known(name, mac.into()))? && there(&CHECKED, &of_port(name))?;
    // The Go plugin gave random names.
    if !names::is_host_end(name) || ours && has_rules(host)? {
        return Ok(());
    }
    Err(Error::failed(format!("what {name} sends is not checked to come from {mac}")))
}

/// Whether the kernel has what it takes.
pub(super) fn status(host: &Netns) -> Result<()> {
    if has_rules(host).is_ok_and(|there| there) {
        return Ok(());
    }
    // It is found out by doing it, elsewhere.
    let tried = Netns::temporary().and_then(|elsewhere| elsewhere.ensure_nft(&shared()));
    tried.map_err(|e| {
        Error::failed(format!("the check of hardware addresses needs nf_tables for bridges: {e}"))
    })
}

/// Whether what comes to the bridge is looked at: a flushed table has its sets, but no rules.
fn has_rules(host: &Netns) -> linux::Result<bool> {
    Ok(host.nft_rules(&PREROUTING)?.len() == RULES)
}

/// All that does not belong to one port.
fn shared() -> Ruleset {
    let rules = [
        Rule::new().is_in(&[Field::Iifname, Field::EtherSource], "known").verdict(Verdict::Return),
        Rule::new().verdict_map(&[Field::Iifname], "checked"),
    ];
    let sets = [&KNOWN, &CHECKED, &MACS];
    let shared = sets.into_iter().fold(Ruleset::new().table(&TABLE), Ruleset::set);
    shared.chain(&PREROUTING).rules(&PREROUTING, rules)
}

fn of_port(name: &str) -> Element {
    Element::new([name.into()])
}

fn known(name: &str, mac: Value) -> Element {
    Element::new([name.into(), mac])
}

fn del_port(host: &Netns, name: &str) -> linux::Result<()> {
    let Some(found) = host.nft_element(&MACS, &of_port(name))? else { return Ok(()) };
    host.del_nft(&remove(Removal::new(), name, found.values.into_iter().next())).map(drop)
}

fn remove(removal: Removal, name: &str, mac: Option<Value>) -> Removal {
    let removal = removal.element(&CHECKED, &of_port(name));
    let removal = match mac {
        Some(mac) => removal.element(&KNOWN, &known(name, mac)),
        None => removal,
    };
    removal.element(&MACS, &of_port(name))
}

/// The chains of the Go plugin, and the rule that leads to them.
fn del_reference(host: &Netns, id: &AttachmentId) -> linux::Result<()> {
    let table = Table::new(Family::Bridge, "nat");
    let name = names::reference::spoof_check_chain(id);
    if name.len() > LONGEST_NAME {
        return Ok(());
    }
    let name_of_macs = format!("{name}-mac");
    let (interface, macs) = (Chain::new(table, &name), Chain::new(table, &name_of_macs));
    if host.nft_rules(&interface)?.is_empty() {
        return Ok(());
    }
    let (prerouting, comment) = (Chain::new(table, "PREROUTING"), names::reference::spoof_check_comment(id));
    let rules = host.nft_rules(&prerouting)?;
    let leading = rules.iter().filter(|rule| rule.comment.as_ref() == Some(&comment));
    let removal = leading.fold(Removal::new(), |removal, rule| removal.rule(&prerouting, rule.handle));
    host.del_nft(&removal)?;
    // One refers to the other.
    host.del_nft(&Removal::new().chain(&interface))?;
    host.del_nft(&Removal::new().chain(&macs)).map(drop)
}

/// `NFT_CHAIN_MAXNAMELEN` less `-mac` and the final zero: the Go plugin cannot have made a longer one.
const LONGEST_NAME: usize = 256 - 4 - 1;

/// Where the kernel has no nf_tables there was nothing to be removed.
fn torn_down(removed: linux::Result<()>) -> Result<()> {
    let text = |e: Error| Error { msg: format!("failed to teardown spoof-check: {}", e.msg), ..e };
    steps::without_nftables(removed).map_err(text)
}
