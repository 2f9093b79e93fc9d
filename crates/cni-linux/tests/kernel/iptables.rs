//! iptables, where its programs are installed.

use cni_linux::iptables::{Iptables, Protocol, Transaction};
use cni_linux::testing::{Sandbox, Test, fail_at, kernel, record, tests};
use cni_linux::{Netns, Result, Undo};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_transaction_is_made_and_undone => [kernel::iptables],
        a_chain_that_is_there_is_made_anew => [kernel::iptables],
        a_transaction_is_made_as_a_whole_or_not_at_all => [kernel::iptables],
        comments_with_quotation_marks_survive => [kernel::iptables],
        what_others_left_is_deleted_in_its_own_words => [kernel::iptables],
        each_namespace_has_its_own_rules => [kernel::iptables],
        an_injected_fault_starts_no_program => [kernel::iptables],
        legacy_tables_are_there_once_they_were_looked_at => [kernel::legacy_iptables],
    ]
}

fn iptables(protocol: Protocol) -> Result<Iptables> {
    Iptables::find(protocol, kernel::SBIN)
}

/// What Go's plugins would make for one address.
fn masquerade(chain: &str, address: &str, net: &str) -> Transaction {
    let comment = r#"name: "net" id: "pod""#;
    let comment = ["-m", "comment", "--comment", comment];
    Transaction::new("nat")
        .chain(chain)
        .append(chain, &[&["-d", net, "-j", "ACCEPT"][..], &comment].concat())
        .append(chain, &[&["!", "-d", "224.0.0.0/4", "-j", "MASQUERADE"][..], &comment].concat())
        .append("POSTROUTING", &[&["-s", address, "-j", chain][..], &comment].concat())
}

fn rules(netns: &Netns) -> Result<Vec<String>> {
    Ok(iptables(Protocol::Ipv4)?.list(netns, "nat")?.rules)
}

fn a_transaction_is_made_and_undone(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let iptables = iptables(Protocol::Ipv4)?;
    let before = iptables.list(&container, "nat")?;
    let (added, requests) =
        record(|| iptables.add(&container, &masquerade("CNI-1", "10.1.0.2", "10.1.0.0/16"), &mut undo));
    added?;
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(requests, ["change iptables table nat"]);
    let made = iptables.list(&container, "nat")?;
    assert!(made.chains.contains(&"CNI-1".to_owned()), "{made:?}");
    let comment = r#"-m comment --comment "name: \"net\" id: \"pod\"""#;
    let mut rules = made.rules;
    rules.sort();
    assert_eq!(
        rules,
        [
            format!("-A CNI-1 ! -d 224.0.0.0/4 {comment} -j MASQUERADE"),
            format!("-A CNI-1 -d 10.1.0.0/16 {comment} -j ACCEPT"),
            format!("-A POSTROUTING -s 10.1.0.2/32 {comment} -j CNI-1"),
        ]
    );
    assert_eq!(undo.names(), ["iptables rules in table nat"]);
    undo.run().unwrap();
    let after = iptables.list(&container, "nat")?;
    assert_eq!(after.rules, before.rules);
    assert!(!after.chains.contains(&"CNI-1".to_owned()));
    Ok(())
}

fn a_chain_that_is_there_is_made_anew(sandbox: &Sandbox) -> Result<()> {
    let (container, iptables) = (sandbox.container(), iptables(Protocol::Ipv4)?);
    for _ in 0..2 {
        iptables.ensure(&container, &Transaction::new("nat").chain("c").append("c", &["-j", "RETURN"]))?;
        assert_eq!(rules(&container)?, ["-A c -j RETURN"]);
    }
    iptables.ensure(&container, &Transaction::new("nat").insert("POSTROUTING", &["-j", "c"]))?;
    assert_eq!(rules(&container)?.len(), 2);
    let all = Transaction::new("nat").delete("POSTROUTING", &["-j", "c"]).del_chain("c");
    iptables.ensure(&container, &all)?;
    assert!(rules(&container)?.is_empty());
    Ok(())
}

fn a_transaction_is_made_as_a_whole_or_not_at_all(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let broken = masquerade("CNI-1", "10.1.0.2", "10.1.0.0/16").append("POSTROUTING", &["-j", "NOSUCH"]);
    let error = iptables(Protocol::Ipv4)?.add(&container, &broken, &mut undo).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("change iptables table nat: ") && text.contains("NOSUCH"), "{text}");
    assert!(text.contains("; it was to be done by /"), "{text}");
    assert!(undo.is_empty() && rules(&container)?.is_empty());
    let error = iptables(Protocol::Ipv4)?
        .ensure(&container, &Transaction::new("nat").append("POSTROUTING", &["-j\nCOMMIT"]))
        .unwrap_err();
    assert!(error.to_string().ends_with("not one line"), "{error}");
    Ok(())
}

fn comments_with_quotation_marks_survive(sandbox: &Sandbox) -> Result<()> {
    let (container, iptables) = (sandbox.container(), iptables(Protocol::Ipv6)?);
    let rule = |comment| ["-m", "comment", "--comment", comment, "-j", "RETURN"];
    for comment in ["plain", "two words", r#"name: "a" id: "b\c""#, "it's"] {
        let add = Transaction::new("nat").append("POSTROUTING", &rule(comment));
        iptables.ensure(&container, &add)?;
        // The same words find it again.
        iptables.ensure(&container, &Transaction::new("nat").delete("POSTROUTING", &rule(comment)))?;
        assert!(iptables.list(&container, "nat")?.rules.is_empty(), "{comment}");
    }
    Ok(())
}

fn what_others_left_is_deleted_in_its_own_words(sandbox: &Sandbox) -> Result<()> {
    let (container, iptables) = (sandbox.container(), iptables(Protocol::Ipv4)?);
    for nth in 1..=3 {
        let mut undo = Undo::new();
        let (chain, address) = (format!("CNI-{nth}"), format!("10.1.0.{nth}"));
        iptables.add(&container, &masquerade(&chain, &address, "10.1.0.0/16"), &mut undo)?;
        undo.keep();
    }
    let listing = iptables.list(&container, "nat")?;
    let jumps =
        listing.rules.iter().filter(|rule| rule.starts_with("-A POSTROUTING") && rule.ends_with(" CNI-2"));
    let removal = jumps.fold(Transaction::new("nat"), |removal, rule| removal.delete_listed(rule));
    iptables.ensure(&container, &removal.del_chain("CNI-2"))?;
    let left = iptables.list(&container, "nat")?;
    assert_eq!(left.rules.len(), 6);
    assert!(!left.chains.contains(&"CNI-2".to_owned()) && left.chains.contains(&"CNI-3".to_owned()));
    Ok(())
}

fn each_namespace_has_its_own_rules(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let transaction = Transaction::new("nat").append("POSTROUTING", &["-j", "RETURN"]);
    iptables(Protocol::Ipv4)?.ensure(host, &transaction)?;
    assert_eq!((rules(host)?.len(), rules(&container)?.len()), (1, 0));
    assert_eq!(container.run(|| rules(host))??.len(), 1);
    Ok(())
}

fn an_injected_fault_starts_no_program(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let iptables = iptables(Protocol::Ipv4)?;
    let transaction = masquerade("CNI-1", "10.1.0.2", "10.1.0.0/16");
    let injected = fail_at(1, || iptables.add(&container, &transaction, &mut undo));
    assert!(injected.outcome.unwrap_err().is_injected());
    assert!(undo.is_empty() && rules(&container)?.is_empty());
    Ok(())
}

fn legacy_tables_are_there_once_they_were_looked_at(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    assert!(!container.has_legacy_table(Protocol::Ipv4, "nat")?);
    Iptables::find_legacy(Protocol::Ipv4, kernel::SBIN)?.list(&container, "nat")?;
    assert!(container.has_legacy_table(Protocol::Ipv4, "nat")?);
    assert!(!container.has_legacy_table(Protocol::Ipv4, "raw")?);
    assert!(!container.has_legacy_table(Protocol::Ipv6, "nat")?);
    assert!(!host.has_legacy_table(Protocol::Ipv4, "nat")?);
    Ok(())
}
