//! What the Go plugins left: rules in the nft table of theirs, and chains of iptables, which our own iptables backend has as
//! well.
//!
//! The first two are looked for by one question each, over netlink, also where iptables' rules are nf_tables'. The older
//! x_tables can be read by their own programs alone; those are started only where there is a `nat` table.

use std::collections::BTreeSet;

use cni_linux::Netns;
use cni_linux::iptables::{Iptables, Protocol, Transaction};
use cni_linux::nftables::{Chain, Family, ListedRule, Removal, Table};
use cni_spec::{AttachmentId, NetworkName, Result};

use super::iptables::FOLDERS;
use super::{Masquerade, all, names, without_nftables};

/// The table of the Go plugins' nftables backend (v1.6), and its chain of one rule for each address.
const CHECKS: Chain<'_> = Chain::new(Table::new(Family::Inet, "cni_plugins_masquerade"), "masq_checks");

/// Where iptables has its rules if nf_tables keeps them.
const NAT: [Table<'_>; 2] = [Table::new(Family::Ip, "nat"), Table::new(Family::Ip6, "nat")];

/// What one attachment, or several, have in iptables.
type Chains = BTreeSet<String>;

pub(super) fn del(of: &Masquerade<'_>) -> Result<()> {
    let key = of.owner_key();
    let chain = names::reference::masquerade_chain(of.net, of.id);
    all([
        del_rules(of.host, &|comment| comment.starts_with(&key)),
        del_nft_chain(of.host, &chain),
        del_legacy(of.host, &|_| Chains::from([chain.clone()])),
    ])
}

/// Whether the attachment has anything of it.
pub(super) fn is_there(of: &Masquerade<'_>) -> Result<bool> {
    let (host, key) = (of.host, of.owner_key());
    let chain = names::reference::masquerade_chain(of.net, of.id);
    let rules = host.nft_rules(&CHECKS)?;
    if rules.iter().any(|rule| rule.comment.as_ref().is_some_and(|comment| comment.starts_with(&key))) {
        return Ok(true);
    }
    for nat in NAT {
        if host.nft_chain_exists(&Chain::new(nat, &chain))? {
            return Ok(true);
        }
    }
    for iptables in legacy(host)? {
        if iptables.list(host, "nat")?.chains.contains(&chain) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn gc(
    host: &Netns,
    net: &NetworkName,
    valid: &[AttachmentId],
    is_stale: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let kept: Chains = valid.iter().map(|id| names::reference::masquerade_chain(net, id)).collect();
    let is_ours = |chain: &str, comment: &str| !kept.contains(chain) && is_of(net, chain, comment);
    let stale = |rules: Vec<ListedRule>| -> Chains {
        let jumps = rules.into_iter().filter_map(|rule| Some((rule.target?, rule.comment?)));
        jumps.filter(|(chain, comment)| is_ours(chain, comment)).map(|(chain, _)| chain).collect()
    };
    let mut outcomes = vec![del_rules(host, is_stale)];
    for nat in NAT {
        let rules = without_nftables(host.nft_rules(&Chain::new(nat, "POSTROUTING")));
        outcomes.push(
            rules.and_then(|rules| all(stale(rules).iter().map(|chain| del_nft_chain_of(host, nat, chain)))),
        );
    }
    outcomes.push(del_legacy(host, &|rules| {
        let jumps = rules.iter().filter_map(|rule| jump(rule));
        jumps.filter(|(chain, comment)| is_ours(chain, comment)).map(|(chain, _)| chain).collect()
    }));
    all(outcomes)
}

/// Deletes the rules of the Go plugins' own table whose comments are so.
fn del_rules(host: &Netns, is_doomed: &dyn Fn(&str) -> bool) -> Result<()> {
    let rules = without_nftables(host.nft_rules(&CHECKS))?;
    let doomed = rules.iter().filter(|rule| rule.comment.as_deref().is_some_and(is_doomed));
    host.del_nft(&doomed.fold(Removal::new(), |removal, rule| removal.rule(&CHECKS, rule.handle)))?;
    Ok(())
}

/// Deletes a chain of iptables that nf_tables keeps, and what leads to it, for both versions of IP.
fn del_nft_chain(host: &Netns, chain: &str) -> Result<()> {
    all(NAT.map(|nat| del_nft_chain_of(host, nat, chain)))
}

fn del_nft_chain_of(host: &Netns, nat: Table<'_>, name: &str) -> Result<()> {
    let chain = Chain::new(nat, name);
    if !without_nftables(host.nft_chain_exists(&chain))? {
        return Ok(());
    }
    let postrouting = Chain::new(nat, "POSTROUTING");
    let rules = host.nft_rules(&postrouting)?;
    let jumps = rules.iter().filter(|rule| rule.target.as_deref() == Some(name));
    let removal = jumps.fold(Removal::new(), |removal, rule| removal.rule(&postrouting, rule.handle));
    host.del_nft(&removal.chain(&chain))?;
    Ok(())
}

/// Deletes chains of the older iptables, and what leads to them: those that `doomed` finds in its rules.
fn del_legacy(host: &Netns, doomed: &dyn Fn(&[String]) -> Chains) -> Result<()> {
    let outcomes = legacy(host)?.into_iter().map(|iptables| {
        let listing = iptables.list(host, "nat")?;
        let mut removal = Transaction::new("nat");
        for chain in doomed(&listing.rules).iter().filter(|chain| listing.chains.contains(chain)) {
            let leads_there = |rule: &&String| rule.starts_with("-A POSTROUTING ") && leads_to(rule, chain);
            removal =
                listing.rules.iter().filter(leads_there).fold(removal, |all, rule| all.delete_listed(rule));
            removal = removal.del_chain(chain);
        }
        if removal.is_empty() { Ok(()) } else { Ok(iptables.ensure(host, &removal)?) }
    });
    all(outcomes.collect::<Vec<_>>())
}

/// The programs of the older iptables, where it has a `nat` table. Without them there is nothing of ours in it: nobody else
/// puts it there.
fn legacy(host: &Netns) -> Result<Vec<Iptables>> {
    let mut found = Vec::new();
    for protocol in [Protocol::Ipv4, Protocol::Ipv6] {
        if host.has_legacy_table(protocol, "nat")? {
            let programs = Iptables::find_legacy(protocol, FOLDERS);
            let programs = programs.or_else(|_| Iptables::find(protocol, FOLDERS));
            found.extend(programs.ok());
        }
    }
    Ok(found)
}

/// Whether a chain with this comment on what leads to it is the masquerading of one of the network's containers.
fn is_of(net: &NetworkName, chain: &str, comment: &str) -> bool {
    let container =
        comment.strip_prefix(&format!("name: \"{net}\" id: \"")).and_then(|id| id.strip_suffix('"'));
    // The name of the interface is no part of it.
    let id = container.and_then(|container| AttachmentId::parse(container, "eth0").ok());
    id.is_some_and(|id| names::reference::masquerade_chain(net, &id) == chain)
}

fn leads_to(rule: &str, chain: &str) -> bool {
    rule.strip_suffix(chain).is_some_and(|before| before.ends_with(" -j "))
}

/// The chain that a rule of POSTROUTING leads to, and its comment, as `iptables-save` prints them.
fn jump(rule: &str) -> Option<(String, String)> {
    let (rest, chain) = rule.strip_prefix("-A POSTROUTING ")?.rsplit_once(" -j ")?;
    let (_, comment) = rest.split_once("--comment \"")?;
    Some((chain.to_owned(), comment.strip_suffix('"')?.replace("\\\"", "\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_apart() {
        let rule =
            r#"-A POSTROUTING -s 10.1.0.5/32 -m comment --comment "name: \"net\" id: \"pod\"" -j CNI-1"#;
        assert_eq!(jump(rule), Some(("CNI-1".into(), r#"name: "net" id: "pod""#.into())));
        assert!(leads_to(rule, "CNI-1") && !leads_to(rule, "NI-1") && !leads_to(rule, "1"));
        for other in
            ["-A POSTROUTING -j CNI-1", "-A CNI-1 -m comment --comment \"a\" -j ACCEPT", "-P INPUT ACCEPT"]
        {
            assert_eq!(jump(other), None, "{other}");
        }
    }

    #[test]
    fn chains_are_told_by_name_and_comment() {
        let net = NetworkName::parse("test").unwrap();
        let is_of = |chain: &str, comment: &str| is_of(&net, chain, comment);
        let chain = "CNI-2bbe0c48b91a7d1b8a6753a8";
        assert!(is_of(chain, r#"name: "test" id: "1234""#));
        assert!(!is_of(chain, r#"name: "test" id: "1235""#));
        assert!(!is_of(chain, r#"name: "other" id: "1234""#));
        assert!(!is_of("CNI-DN-0123456789abcdef01234", r#"name: "test" id: "1234""#));
        assert!(!is_of(chain, ""));
    }
}
