//! Masquerading by iptables, where the operator chose it: the rules of the Go plugins, which other programs may look for.
//!
//! An attachment has a chain of its own, to which one rule of POSTROUTING for each of its addresses leads. It is made in one
//! transaction for each version of IP. Taking it away is the business of [`reference`](super::reference), whoever made it.

use cni_linux::iptables::{Iptables, Protocol, Transaction};
use cni_linux::{Netns, Undo};
use cni_spec::{Error, Result};
use ipnet::IpNet;

use super::{Masquerade, names};

/// Where iptables' programs are looked for. A plugin does not read PATH, and finds the same when it is part of a runtime.
pub(super) const FOLDERS: [&str; 7] = [
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/run/current-system/sw/bin",
];

const PROTOCOLS: [Protocol; 2] = [Protocol::Ipv4, Protocol::Ipv6];

pub(super) fn add(of: &Masquerade<'_>, addresses: &[IpNet], undo: &mut Undo) -> Result<()> {
    for protocol in PROTOCOLS {
        let addresses = of_protocol(addresses, protocol);
        if !addresses.is_empty() {
            Iptables::find(protocol, FOLDERS)?.add(of.host, &rules(of, protocol, &addresses), undo)?;
        }
    }
    Ok(())
}

pub(super) fn check(of: &Masquerade<'_>, addresses: &[IpNet]) -> Result<()> {
    let chain = names::reference::masquerade_chain(of.net, of.id);
    for protocol in PROTOCOLS {
        let addresses = of_protocol(addresses, protocol);
        if addresses.is_empty() {
            continue;
        }
        let listing = Iptables::find(protocol, FOLDERS)?.list(of.host, "nat")?;
        let has = |begins: &str, ends: &str| {
            listing.rules.iter().any(|rule| rule.starts_with(begins) && rule.ends_with(ends))
        };
        for address in addresses {
            let ip = IpNet::from(address.addr());
            if !has(&format!("-A POSTROUTING -s {ip} "), &format!(" -j {chain}")) {
                let text = format!("address {} is not masqueraded: no rule leads to {chain}", address.addr());
                return Err(Error::failed(text));
            }
            // iptables leaves out a destination that is everywhere.
            if address.prefix_len() > 0 && !has(&format!("-A {chain} -d {} ", address.trunc()), " -j ACCEPT")
            {
                let text = format!(
                    "subnet {} is masqueraded within itself: {chain} does not except it",
                    address.trunc()
                );
                return Err(Error::failed(text));
            }
        }
        if !has(&format!("-A {chain} "), " -j MASQUERADE") {
            return Err(Error::failed(format!("{chain} does not masquerade")));
        }
    }
    Ok(())
}

pub(super) fn status(host: &Netns) -> Result<()> {
    let usable = Iptables::find(Protocol::Ipv4, FOLDERS).and_then(|iptables| iptables.list(host, "nat"));
    usable
        .map(drop)
        .map_err(|error| Error::failed(format!("masquerading by iptables is not possible: {error}")))
}

/// All subnets are excepted before anything is masqueraded.
fn rules(of: &Masquerade<'_>, protocol: Protocol, addresses: &[IpNet]) -> Transaction {
    let chain = names::reference::masquerade_chain(of.net, of.id);
    let comment = names::reference::masquerade_comment(of.net, of.id);
    let comment = ["-m", "comment", "--comment", &comment];
    let multicast = match protocol {
        Protocol::Ipv4 => "224.0.0.0/4",
        Protocol::Ipv6 => "ff00::/8",
    };
    let rule =
        |words: &[&'_ str]| words.iter().chain(&comment).map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let append = |transaction: Transaction, chain: &str, words: &[&str]| {
        let rule = rule(words);
        transaction.append(chain, &rule.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let transaction = Transaction::new("nat").chain(&chain);
    let transaction = addresses.iter().fold(transaction, |transaction, address| {
        append(transaction, &chain, &["-d", &address.to_string(), "-j", "ACCEPT"])
    });
    let transaction = append(transaction, &chain, &["!", "-d", multicast, "-j", "MASQUERADE"]);
    addresses.iter().fold(transaction, |transaction, address| {
        append(transaction, "POSTROUTING", &["-s", &address.addr().to_string(), "-j", &chain])
    })
}

fn of_protocol(addresses: &[IpNet], protocol: Protocol) -> Vec<IpNet> {
    let is_v4 = protocol == Protocol::Ipv4;
    addresses.iter().filter(|address| address.addr().is_ipv4() == is_v4).copied().collect()
}
