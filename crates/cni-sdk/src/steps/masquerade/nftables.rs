//! Masquerading by nf_tables: a table of our own, the same for all networks.
//!
//! A packet's source is looked up in a set of addresses (`sources`), and only what is found there goes on to the other rules,
//! of which there are five however many attachments there are. The set `subnets` has an element for each subnet, not for
//! each attachment: packets from that subnet to that subnet are not masqueraded. Where one subnet is part of another, the
//! sources of the wider one leave out the narrower, so that each address is excepted for its own subnet only.
//!
//! No rule looks at the maps `owners`: there DEL, which knows nothing but the attachment, finds its addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni_linux::nftables::{
    Addition, Chain, Element, Family, Field, Hook, Kind, Removal, Rule, Ruleset, Set, Table, Type, Value,
    Verdict,
};
use cni_linux::{Netns, Undo};
use cni_spec::{Error, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Masquerade, names, without_nftables};

const TABLE: Table<'_> = Table::new(Family::Inet, "ferrocni_masquerade");
const POSTROUTING: Chain<'_> = Chain::base(TABLE, "postrouting", Kind::Nat, Hook::Postrouting, SRCNAT);
const CHECKS: Chain<'_> = Chain::new(TABLE, "checks");

/// `NF_IP_PRI_NAT_SRC`, `include/uapi/linux/netfilter_ipv4.h`.
const SRCNAT: i32 = 100;

/// How many rules the chains have.
const RULES: [(Chain<'_>, usize); 2] = [(POSTROUTING, 2), (CHECKS, 5)];

/// How often exceptions are worked out anew while others add theirs.
const ATTEMPTS: usize = 20;

/// What there is for each version of IP.
struct Side {
    sources: Set<'static>,
    subnets: Set<'static>,
    owners: Set<'static>,
}

const IPV4: Side = Side {
    sources: Set::new(TABLE, "sources", &[Type::Ipv4Addr]),
    subnets: Set::new(TABLE, "subnets", &[Type::Ipv4Addr, Type::Ipv4Addr]).interval(),
    owners: Set::map(TABLE, "owners", &[Type::Ifname, Type::Mark], &[Type::Ipv4Addr]),
};
const IPV6: Side = Side {
    sources: Set::new(TABLE, "sources6", &[Type::Ipv6Addr]),
    subnets: Set::new(TABLE, "subnets6", &[Type::Ipv6Addr, Type::Ipv6Addr]).interval(),
    owners: Set::map(TABLE, "owners6", &[Type::Ifname, Type::Mark], &[Type::Ipv6Addr]),
};
const SIDES: [Side; 2] = [IPV4, IPV6];

fn side(of: &IpNet) -> &'static Side {
    match of {
        IpNet::V4(_) => &IPV4,
        IpNet::V6(_) => &IPV6,
    }
}

/// One transaction where other attachments of the subnet have been before.
pub(super) fn add(of: &Masquerade<'_>, addresses: &[IpNet], undo: &mut Undo) -> Result<()> {
    let host = of.host;
    if !is_ready(host, addresses)? {
        ensure(host, addresses)?;
    }
    let (name, comment) = (names::host_end(of.net, of.id), of.owner());
    let (mut addition, mut numbers) = (Addition::new(), [0, 0]);
    for address in addresses {
        let (side, number) = (side(address), &mut numbers[usize::from(address.addr().is_ipv6())]);
        let source = Element::new([address.addr().into()]).comment(&comment);
        let owner = owner(&name, *number).maps_to([address.addr().into()]).comment(&comment);
        addition = addition.element(&side.sources, &source).element(&side.owners, &owner);
        *number += 1;
    }
    // The rule set goes along for the case that all has been flushed since.
    Ok(host.add_nft(&addition, &ruleset(&[], &exceptions(&subnets(addresses))), undo)?)
}

pub(super) fn del(of: &Masquerade<'_>) -> Result<()> {
    let (host, name, key) = (of.host, names::host_end(of.net, of.id), of.owner_key());
    let is_mine = |found: &Element| found.comment.as_ref().is_some_and(|comment| comment.starts_with(&key));
    let mut removal = Removal::new();
    for side in &SIDES {
        for (owner, address) in without_nftables(owned(host, side, &name))? {
            removal = removal.element(&side.owners, &owner);
            let source = Element::new([address.into()]);
            // Somebody else may have got the address meanwhile.
            if host.nft_element(&side.sources, &source)?.is_some_and(|found| is_mine(&found)) {
                removal = removal.element(&side.sources, &source);
            }
        }
    }
    host.del_nft(&removal)?;
    Ok(())
}

pub(super) fn gc(host: &Netns, is_stale: &dyn Fn(&str) -> bool) -> Result<()> {
    let mut removal = Removal::new();
    for set in SIDES.iter().flat_map(|side| [&side.sources, &side.owners]) {
        for element in without_nftables(host.nft_elements(set))? {
            if element.comment.as_deref().is_some_and(is_stale) {
                removal = removal.element(set, &element);
            }
        }
    }
    host.del_nft(&removal)?;
    Ok(())
}

pub(super) fn check(of: &Masquerade<'_>, addresses: &[IpNet]) -> Result<()> {
    let (host, name, key) = (of.host, names::host_end(of.net, of.id), of.owner_key());
    for (chain, rules) in &RULES {
        if host.nft_rules(chain)?.len() != *rules {
            return Err(Error::failed(format!(
                "masquerading does not work: {chain} has not its {rules} rules"
            )));
        }
    }
    for address in addresses {
        let (side, ip) = (side(address), address.addr());
        let failed = |why: String| Err(Error::failed(format!("address {ip} is not masqueraded: {why}")));
        match host.nft_element(&side.sources, &Element::new([ip.into()]))? {
            None => return failed(format!("it is not in {}", side.sources)),
            Some(Element { comment: Some(comment), .. }) if comment.starts_with(&key) => {}
            Some(other) => {
                let whose = other.comment.unwrap_or_else(|| "nobody that is known".into());
                return failed(format!("in {} it belongs to {whose}", side.sources));
            }
        }
        if !owned(host, side, &name)?.iter().any(|(_, owned)| *owned == ip) {
            return failed(format!("it is not in {}", side.owners));
        }
    }
    for address in addresses {
        if excepted(host, address)?.is_none() {
            let (subnet, set) = (address.trunc(), &side(address).subnets);
            let text = format!("subnet {subnet} is masqueraded within itself: it is not in {set}");
            return Err(Error::failed(text));
        }
    }
    Ok(())
}

pub(super) fn status(host: &Netns) -> Result<()> {
    let there = without_nftables(host.nft_rules(&POSTROUTING))?;
    if there.len() == RULES[0].1 {
        return Ok(());
    }
    // Whether the kernel can do it is found out by doing it, elsewhere.
    let tried = Netns::temporary().and_then(|elsewhere| elsewhere.ensure_nft(&ruleset(&[], &[])));
    tried.map_err(|error| Error::failed(format!("masquerading needs nf_tables: {error}")))
}

/// What packets are excepted for: those from the first network to the second.
type Exception = (IpNet, IpNet);

/// What is shared, without these exceptions and with those.
fn ruleset(without: &[Exception], with: &[Exception]) -> Ruleset {
    let sets = SIDES.iter().flat_map(|side| [&side.sources, &side.subnets, &side.owners]);
    let shared = sets.fold(Ruleset::new().table(&TABLE), Ruleset::set);
    let set = |exception: &Exception| &side(&exception.1).subnets;
    let shared =
        without.iter().fold(shared, |shared, gone| shared.without_element(set(gone), &element(gone)));
    let shared = with.iter().fold(shared, |shared, new| shared.element(set(new), &element(new)));
    let checks = || Verdict::Goto("checks".into());
    let sources = [
        Rule::new().is_in(&[Field::Ip4Source], "sources").verdict(checks()),
        Rule::new().is_in(&[Field::Ip6Source], "sources6").verdict(checks()),
    ];
    let multicast = IpNet::from(Ipv4Net::new_assert([224, 0, 0, 0].into(), 4));
    let multicast6 = IpNet::from(Ipv6Net::new_assert([0xff00, 0, 0, 0, 0, 0, 0, 0].into(), 8));
    let (within, within6) =
        ([Field::Ip4Source, Field::Ip4Destination], [Field::Ip6Source, Field::Ip6Destination]);
    let rules = [
        Rule::new().is(Field::Ip4Destination, multicast).verdict(Verdict::Return),
        Rule::new().is(Field::Ip6Destination, multicast6).verdict(Verdict::Return),
        Rule::new().is_in(&within, "subnets").verdict(Verdict::Return),
        Rule::new().is_in(&within6, "subnets6").verdict(Verdict::Return),
        Rule::new().masquerade(),
    ];
    shared.chain(&CHECKS).rules(&CHECKS, rules).chain(&POSTROUTING).rules(&POSTROUTING, sources)
}

/// Whether all that is shared is there. A packet of each address finds its own subnet.
fn is_ready(host: &Netns, addresses: &[IpNet]) -> Result<bool> {
    if host.nft_rules(&POSTROUTING)?.len() != RULES[0].1 {
        return Ok(false);
    }
    for address in addresses {
        if excepted(host, address)? != Some(address.trunc()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The network that an address is excepted for. One without a subnet has nobody to talk to in it.
fn excepted(host: &Netns, address: &IpNet) -> Result<Option<IpNet>> {
    if is_alone(address) {
        return Ok(Some(*address));
    }
    let asked = Element::new([address.addr().into(), address.trunc().into()]);
    let found = host.nft_element(&side(address).subnets, &asked)?;
    Ok(found.and_then(|found| exception(&found)).map(|(_, to)| to))
}

/// Makes what of the shared is not there. Exceptions make room for those of subnets that are part of theirs.
fn ensure(host: &Netns, addresses: &[IpNet]) -> Result<()> {
    for attempt in 1.. {
        let mut found = Vec::new();
        for side in &SIDES {
            found.extend(host.nft_elements(&side.subnets)?.iter().filter_map(exception));
        }
        let mut known = subnets(addresses);
        known.extend(found.iter().map(|(_, to)| *to));
        let wanted = exceptions(&known);
        let missing_in = |those: &[Exception], of: &[Exception]| -> Vec<Exception> {
            of.iter().filter(|exception| !those.contains(exception)).copied().collect()
        };
        match host.ensure_nft(&ruleset(&missing_in(&wanted, &found), &missing_in(&found, &wanted))) {
            // Others have added or deleted meanwhile.
            Err(raced) if (raced.is_exists() || raced.is_gone()) && attempt < ATTEMPTS => {}
            ensured => return Ok(ensured?),
        }
    }
    Ok(())
}

/// What to except for these subnets, so that each address is excepted for the narrowest that it is in.
fn exceptions(subnets: &BTreeSet<IpNet>) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for subnet in subnets {
        let narrower: Vec<_> =
            subnets.iter().filter(|other| *other != subnet && subnet.contains(*other)).copied().collect();
        exceptions.extend(without(*subnet, &narrower).into_iter().map(|from| (from, *subnet)));
    }
    exceptions
}

/// What is left of a network without others, which are parts of it.
fn without(net: IpNet, parts: &[IpNet]) -> Vec<IpNet> {
    if parts.contains(&net) {
        return Vec::new();
    }
    if !parts.iter().any(|part| net.contains(part)) {
        return vec![net];
    }
    let halves = net.subnets(net.prefix_len() + 1);
    halves.into_iter().flatten().flat_map(|half| without(half, parts)).collect()
}

/// What an attachment owns: the elements of `owners`, and the address of each. It is asked for one after the other until
/// there is none.
fn owned(host: &Netns, side: &Side, name: &str) -> cni_linux::Result<Vec<(Element, IpAddr)>> {
    let mut owned = Vec::new();
    for number in 0.. {
        let owner = owner(name, number);
        let Some(found) = host.nft_element(&side.owners, &owner)? else { break };
        if let [Value::Ip(address)] = found.values[..] {
            owned.push((owner, address));
        }
    }
    Ok(owned)
}

/// The key of an attachment's nth address of a version of IP.
fn owner(name: &str, number: u32) -> Element {
    Element::new([name.into(), Value::Mark(number)])
}

fn element(exception: &Exception) -> Element {
    Element::new([Value::Net(exception.0), Value::Net(exception.1)])
}

fn exception(element: &Element) -> Option<Exception> {
    let network = |value: &Value| match *value {
        Value::Net(net) => Some(net),
        Value::Ip(address) => Some(address.into()),
        _ => None,
    };
    match &element.key[..] {
        [from, to] => Some((network(from)?, network(to)?)),
        _ => None,
    }
}

/// The subnets of addresses, but for those of one address.
fn subnets(addresses: &[IpNet]) -> BTreeSet<IpNet> {
    addresses.iter().filter(|address| !is_alone(address)).map(IpNet::trunc).collect()
}

fn is_alone(address: &IpNet) -> bool {
    address.prefix_len() == address.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceptions_of(texts: &[&str]) -> Vec<String> {
        let addresses: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        exceptions(&subnets(&addresses)).iter().map(|(from, to)| format!("{from} {to}")).collect()
    }

    #[test]
    fn subnets_are_excepted_that_have_somebody_to_talk_to() {
        assert_eq!(
            exceptions_of(&["10.1.2.3/24", "10.1.2.4/24", "fd00::5/64"]),
            ["10.1.2.0/24 10.1.2.0/24", "fd00::/64 fd00::/64"]
        );
        assert_eq!(exceptions_of(&["10.1.2.3/32", "fd00::5/128"]), [""; 0]);
        assert_eq!(
            exceptions_of(&["10.0.0.1/24", "10.0.1.1/24"]),
            ["10.0.0.0/24 10.0.0.0/24", "10.0.1.0/24 10.0.1.0/24"]
        );
    }

    #[test]
    fn of_subnets_in_each_other_each_address_is_in_its_own() {
        assert_eq!(
            exceptions_of(&["10.1.2.3/22", "10.1.1.9/24", "10.1.1.8/30"]),
            [
                "10.1.0.0/24 10.1.0.0/22",
                "10.1.2.0/23 10.1.0.0/22",
                "10.1.1.0/29 10.1.1.0/24",
                "10.1.1.12/30 10.1.1.0/24",
                "10.1.1.16/28 10.1.1.0/24",
                "10.1.1.32/27 10.1.1.0/24",
                "10.1.1.64/26 10.1.1.0/24",
                "10.1.1.128/25 10.1.1.0/24",
                "10.1.1.8/30 10.1.1.8/30",
            ]
        );
        // Nothing but parts: nobody is left who would be in the wider alone.
        assert_eq!(
            exceptions_of(&["10.0.0.0/31", "10.0.0.2/31", "10.0.0.0/30"]),
            ["10.0.0.0/31 10.0.0.0/31", "10.0.0.2/31 10.0.0.2/31"]
        );
    }
}
