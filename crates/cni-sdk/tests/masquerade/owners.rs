//! Whose what is: addresses that change hands, what DEL and GC leave alone, and what an attachment costs.

use std::thread;

use cni_sdk::linux::Undo;
use cni_sdk::steps::masquerade::{self, Backend, Masquerade};
use cni_sdk::steps::names;
use cni_sdk::testing::{Sandbox, Snapshot, Test, fail_at, kernel, record, tests};
use cni_sdk::{AttachmentId, Code, Netns, Result};

use super::kit::{add, elements, id, net, network, rules, ruleset, run};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        nft_shows_what_is_whose => [kernel::nft],
        an_address_that_was_taken_over_stays => [kernel::nft],
        an_add_that_fails_gives_back_what_it_took => [kernel::nft],
        two_attachments_of_one_address => [kernel::nft],
        all_can_be_flushed_in_between => [kernel::nft],
        rules_that_were_flushed_come_back => [kernel::nft],
        addresses_of_an_attachment_may_be_many_or_change => [kernel::nft],
        of_subnets_in_each_other_each_address_is_in_its_own => [kernel::nft],
        subnets_of_one_address_are_not_listed => [kernel::nft],
        gc_leaves_other_networks_alone => [kernel::nft],
        check_tells_what_is_missing => [kernel::nft],
        the_thousandth_costs_what_the_first_did => [kernel::nftables],
        a_hundred_at_once => [kernel::nftables],
        a_broken_add_leaves_nothing => [kernel::nft],
        status_says_whether_it_could_begin => [kernel::nftables],
    ]
}

fn nft_shows_what_is_whose(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("dbnet"), id("pod-1"));
    let masquerade = Masquerade::new(host, &net, &id);
    let subnets = ruleset(host);
    assert!(subnets.is_empty());
    add(&masquerade, Backend::Nftables, &["10.1.0.2/16", "fd00:1::2/64"])?;
    let (name, owner) = (names::host_end(&net, &id), names::owner(&net, &id));
    assert!(owner.ends_with(", net: dbnet, if: eth0, id: pod-1"), "{owner}");
    let table = "nft table inet ferrocni_masquerade /";
    assert_eq!(
        elements(host),
        [
            format!("{table} map owners / element \"{name}\" . 0x00000000 comment \"{owner}\" : 10.1.0.2"),
            format!("{table} map owners6 / element \"{name}\" . 0x00000000 comment \"{owner}\" : fd00:1::2"),
            format!("{table} set sources / element 10.1.0.2 comment \"{owner}\""),
            format!("{table} set sources6 / element fd00:1::2 comment \"{owner}\""),
        ]
    );
    let rules: Vec<_> = ruleset(host).into_iter().filter(|line| line.contains(": ip")).collect();
    assert!(rules.iter().any(|line| line.ends_with("ip saddr . ip daddr @subnets return")), "{rules:?}");
    masquerade.check(Backend::Nftables, &[self::net("10.1.0.2/16"), self::net("fd00:1::2/64")])?;
    masquerade.del()?;
    assert_eq!(elements(host), [""; 0]);
    masquerade.del()
}

/// The runtime sent the old container's DEL late, and the address has a new owner.
fn an_address_that_was_taken_over_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, net, old, new) = (sandbox.host(), network("net"), id("old"), id("new"));
    let (old, new) = (Masquerade::new(host, &net, &old), Masquerade::new(host, &net, &new));
    add(&old, Backend::Nftables, &["10.1.0.2/16"])?;
    add(&new, Backend::Nftables, &["10.1.0.2/16"])?;
    old.del()?;
    new.check(Backend::Nftables, &[self::net("10.1.0.2/16")])?;
    assert_eq!(elements(host).len(), 2, "{:?}", elements(host));
    new.del()?;
    assert_eq!(elements(host), [""; 0]);
    Ok(())
}

fn an_add_that_fails_gives_back_what_it_took(sandbox: &Sandbox) -> Result<()> {
    let (host, net, old, new) = (sandbox.host(), network("net"), id("old"), id("new"));
    let (old, new) = (Masquerade::new(host, &net, &old), Masquerade::new(host, &net, &new));
    let addresses = ["10.1.0.2/16", "fd00:1::2/64"];
    add(&old, Backend::Nftables, &addresses)?;
    let (before, mut undo) = (elements(host), Undo::new());
    new.add(Backend::Nftables, &addresses.map(self::net), &mut undo)?;
    assert_ne!(elements(host), before);
    undo.run().unwrap();
    assert_eq!(elements(host), before);
    old.check(Backend::Nftables, &addresses.map(self::net))
}

fn two_attachments_of_one_address(sandbox: &Sandbox) -> Result<()> {
    let (host, first, second, id) = (sandbox.host(), network("first"), network("second"), id("pod"));
    let (first, second) = (Masquerade::new(host, &first, &id), Masquerade::new(host, &second, &id));
    let address = [self::net("10.1.0.2/16")];
    add(&first, Backend::Nftables, &["10.1.0.2/16"])?;
    add(&second, Backend::Nftables, &["10.1.0.2/16"])?;
    let error = first.check(Backend::Nftables, &address).unwrap_err();
    assert!(error.msg.starts_with("address 10.1.0.2 is not masqueraded: in set "), "{error}");
    assert!(error.msg.ends_with(", net: second, if: eth0, id: pod"), "{error}");
    second.check(Backend::Nftables, &address)?;
    second.del()?;
    let error = first.check(Backend::Nftables, &address).unwrap_err();
    assert!(error.msg.ends_with("it is not in set inet ferrocni_masquerade sources"), "{error}");
    first.del()?;
    assert_eq!(elements(host), [""; 0]);
    Ok(())
}

fn all_can_be_flushed_in_between(sandbox: &Sandbox) -> Result<()> {
    let (host, net, one, other) = (sandbox.host(), network("net"), id("one"), id("other"));
    let (one, other) = (Masquerade::new(host, &net, &one), Masquerade::new(host, &net, &other));
    add(&one, Backend::Nftables, &["10.1.0.2/16"])?;
    run(host, &["nft", "flush", "ruleset"], "");
    let error = one.check(Backend::Nftables, &[self::net("10.1.0.2/16")]).unwrap_err();
    assert!(error.msg.starts_with("masquerading does not work: "), "{error}");
    add(&other, Backend::Nftables, &["10.1.0.3/16"])?;
    one.del()?;
    other.check(Backend::Nftables, &[self::net("10.1.0.3/16")])?;
    run(host, &["nft", "flush", "ruleset"], "");
    other.del()?;
    masquerade::gc(host, &net, &[])
}

fn rules_that_were_flushed_come_back(sandbox: &Sandbox) -> Result<()> {
    let (host, net, one, other) = (sandbox.host(), network("net"), id("one"), id("other"));
    let (one, other) = (Masquerade::new(host, &net, &one), Masquerade::new(host, &net, &other));
    add(&one, Backend::Nftables, &["10.1.0.2/16"])?;
    run(host, &["nft", "flush", "table", "inet", "ferrocni_masquerade"], "");
    assert_eq!((rules(host), elements(host).len()), (vec![0, 0], 2));
    one.check(Backend::Nftables, &[self::net("10.1.0.2/16")]).unwrap_err();
    add(&other, Backend::Nftables, &["10.1.0.3/16"])?;
    assert_eq!(rules(host), [2, 5]);
    one.check(Backend::Nftables, &[self::net("10.1.0.2/16")])
}

fn addresses_of_an_attachment_may_be_many_or_change(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let masquerade = Masquerade::new(host, &net, &id);
    add(&masquerade, Backend::Nftables, &["10.1.0.2/16", "10.2.0.2/16", "fd00:1::2/64", "10.3.0.2/24"])?;
    assert_eq!(elements(host).len(), 8);
    // An ADD was killed, and the one that came after it got fewer addresses, and others.
    add(&masquerade, Backend::Nftables, &["10.1.0.9/16"])?;
    masquerade.del()?;
    assert_eq!(
        elements(host).len(),
        1,
        "nobody knows of the address that was forgotten: {:?}",
        elements(host)
    );
    masquerade::gc(host, &net, &[])?;
    assert_eq!(elements(host), [""; 0]);
    Ok(())
}

fn of_subnets_in_each_other_each_address_is_in_its_own(sandbox: &Sandbox) -> Result<()> {
    let (host, net) = (sandbox.host(), network("net"));
    let exceptions =
        || -> usize { ruleset(host).iter().filter(|line| line.contains("set subnets / element")).count() };
    // Around one that is there, in the middle of one, at its beginning; and the same again.
    for (nth, (address, expected)) in [
        ("10.1.4.2/24", 1),
        ("10.1.4.3/24", 1),
        ("10.1.4.4/22", 1 + 2),
        ("10.1.0.2/16", 1 + 2 + 6),
        ("10.1.5.2/28", 1 + 2 + 4 + 6),
        ("10.1.0.3/17", 1 + 2 + 4 + 5 + 1),
        ("10.2.0.3/25", 1 + 2 + 4 + 5 + 1 + 1),
        ("10.1.4.5/24", 1 + 2 + 4 + 5 + 1 + 1),
    ]
    .into_iter()
    .enumerate()
    {
        let id = id(&format!("pod{nth}"));
        let masquerade = Masquerade::new(host, &net, &id);
        add(&masquerade, Backend::Nftables, &[address])?;
        masquerade.check(Backend::Nftables, &[self::net(address)])?;
        assert_eq!(exceptions(), expected, "after {address}: {:?}", ruleset(host));
    }
    Ok(())
}

fn subnets_of_one_address_are_not_listed(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let masquerade = Masquerade::new(host, &net, &id);
    add(&masquerade, Backend::Nftables, &["10.1.0.2/32", "fd00:1::2/128"])?;
    assert!(ruleset(host).iter().all(|line| !line.contains("subnets / element")));
    masquerade.check(Backend::Nftables, &[self::net("10.1.0.2/32"), self::net("fd00:1::2/128")])?;
    masquerade.del()
}

fn gc_leaves_other_networks_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, mine, others) = (sandbox.host(), network("net"), network("net2"));
    let ids: Vec<AttachmentId> = (1..=5).map(|nth| id(&format!("pod{nth}"))).collect();
    for (nth, id) in (1..).zip(&ids) {
        let (one, other) = (Masquerade::new(host, &mine, id), Masquerade::new(host, &others, id));
        add(&one, Backend::Nftables, &[&format!("10.1.0.{nth}/16"), &format!("fd00:1::{nth}/64")])?;
        add(&other, Backend::Nftables, &[&format!("10.2.0.{nth}/16")])?;
    }
    masquerade::gc(host, &mine, &ids[1..3])?;
    for (nth, id) in (1..).zip(&ids) {
        let one =
            Masquerade::new(host, &mine, id).check(Backend::Nftables, &[net(&format!("10.1.0.{nth}/16"))]);
        assert_eq!(one.is_ok(), nth == 2 || nth == 3, "{nth}: {one:?}");
        Masquerade::new(host, &others, id).check(Backend::Nftables, &[net(&format!("10.2.0.{nth}/16"))])?;
    }
    assert_eq!(elements(host).len(), 2 * 4 + 5 * 2);
    masquerade::gc(host, &mine, &[])?;
    masquerade::gc(host, &others, &[])?;
    assert_eq!(elements(host), [""; 0]);
    Ok(())
}

fn check_tells_what_is_missing(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let masquerade = Masquerade::new(host, &net, &id);
    let name = names::host_end(&net, &id);
    let table = "inet ferrocni_masquerade";
    for (missing, expected) in [
        (
            format!("delete element {table} sources {{ 10.1.0.2 }}"),
            format!("address 10.1.0.2 is not masqueraded: it is not in set {table} sources"),
        ),
        (
            format!("delete element {table} owners {{ \"{name}\" . 0 }}"),
            format!("address 10.1.0.2 is not masqueraded: it is not in map {table} owners"),
        ),
        (
            format!("delete element {table} subnets {{ 10.1.0.0/16 . 10.1.0.0/16 }}"),
            format!("subnet 10.1.0.0/16 is masqueraded within itself: it is not in set {table} subnets"),
        ),
        (
            format!("flush chain {table} checks"),
            format!("masquerading does not work: chain {table} checks has not its 5 rules"),
        ),
        (
            format!("flush chain {table} postrouting"),
            format!("masquerading does not work: chain {table} postrouting has not its 2 rules"),
        ),
    ] {
        add(&masquerade, Backend::Nftables, &["10.1.0.2/16"])?;
        masquerade.check(Backend::Nftables, &[self::net("10.1.0.2/16")])?;
        run(host, &["nft", "-f", "-"], &missing);
        let error = masquerade.check(Backend::Nftables, &[self::net("10.1.0.2/16")]).unwrap_err();
        assert_eq!(error.msg, expected);
        run(host, &["nft", "flush", "ruleset"], "");
    }
    Ok(())
}

/// The same requests, and no rule more.
fn the_thousandth_costs_what_the_first_did(sandbox: &Sandbox) -> Result<()> {
    let (host, net) = (sandbox.host(), network("net"));
    let cost = |nth: usize| -> Result<(Vec<String>, Vec<String>)> {
        let id = id(&format!("pod{nth}"));
        let masquerade = Masquerade::new(host, &net, &id);
        let addresses = [format!("10.1.{}.{}/16", nth / 250, nth % 250 + 1), format!("fd00:1::{nth:x}/64")];
        let requests = |recorded: Vec<cni_sdk::testing::Recorded>| -> Vec<String> {
            recorded.iter().map(|request| request.to_string().split(' ').next().unwrap().to_owned()).collect()
        };
        let (deleted, del) = record(|| masquerade.del());
        deleted?;
        let (added, add) =
            record(|| add(&masquerade, Backend::Nftables, &addresses.each_ref().map(String::as_str)));
        added?;
        Ok((requests(add), requests(del)))
    };
    cost(0)?;
    let first = cost(1)?;
    assert_eq!(first.0.iter().filter(|request| *request == "NFNL_MSG_BATCH").count(), 1, "{first:?}");
    assert!(first.0.len() <= 8, "{first:?}");
    for nth in 2..1000 {
        assert_eq!(cost(nth)?, first, "{nth}");
    }
    assert_eq!(rules(host), [2, 5]);
    // And a DEL that finds something.
    let dels: Vec<_> = [1, 999]
        .map(|nth| {
            let id = id(&format!("pod{nth}"));
            let (deleted, requests) = record(|| Masquerade::new(host, &net, &id).del());
            deleted.unwrap();
            assert_eq!(requests.iter().filter(|request| request.change).count(), 1, "{requests:?}");
            requests.len()
        })
        .into();
    assert_eq!(dels[0], dels[1]);
    Ok(())
}

fn a_hundred_at_once(sandbox: &Sandbox) -> Result<()> {
    let (host, net) = (sandbox.host(), network("net"));
    let ids: Vec<AttachmentId> = (1..=100).map(|nth| id(&format!("pod{nth}"))).collect();
    let each = |work: &(dyn Fn(&Netns, usize, &AttachmentId) -> Result<()> + Sync)| {
        thread::scope(|scope| {
            let start = |(nth, id)| scope.spawn(move || host.run(|| work(&Netns::current()?, nth, id)));
            let threads: Vec<_> = ids.iter().enumerate().map(start).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap().unwrap());
        });
    };
    each(&|host, nth, id| {
        // Two subnets, of which one begins as the other does.
        let prefix = if nth % 2 == 0 { 16 } else { 24 };
        let addresses = [format!("10.1.0.{nth}/{prefix}"), format!("fd00:1::{nth:x}/64")];
        add(&Masquerade::new(host, &net, id), Backend::Nftables, &addresses.each_ref().map(String::as_str))
    });
    assert_eq!(rules(host), [2, 5]);
    each(&|host, nth, id| {
        Masquerade::new(host, &net, id).check(Backend::Nftables, &[self::net(&format!("10.1.0.{nth}/16"))])
    });
    each(&|host, _, id| Masquerade::new(host, &net, id).del());
    assert_eq!(elements(host), [""; 0]);
    Ok(())
}

fn a_broken_add_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let (host, net, first, id) = (sandbox.host(), network("net"), id("first"), id("pod"));
    let (first, masquerade) = (Masquerade::new(host, &net, &first), Masquerade::new(host, &net, &id));
    let address = [self::net("10.1.0.2/16")];
    add(&first, Backend::Nftables, &["10.1.0.3/16"])?;
    let before = Snapshot::take(host)?;
    let mut undo = Undo::new();
    let injected = fail_at(1, || masquerade.add(Backend::Nftables, &address, &mut undo));
    assert!(injected.reached && injected.outcome.is_err());
    assert_eq!(undo.len(), 0);
    masquerade.add(Backend::Nftables, &address, &mut undo)?;
    assert_ne!(before.diff(&Snapshot::take(host)?), [""; 0]);
    undo.run()?;
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    Ok(())
}

fn status_says_whether_it_could_begin(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    masquerade::status(host, Backend::Nftables)?;
    assert!(host.nft_rules(&super::kit::CHAINS[0])?.is_empty(), "asking makes nothing");
    let (net, id) = (network("net"), id("pod"));
    add(&Masquerade::new(host, &net, &id), Backend::Nftables, &["10.1.0.2/16"])?;
    let (status, requests) = record(|| masquerade::status(host, Backend::Nftables));
    status?;
    assert_eq!(requests.len(), 1, "what is there works");
    let broken = fail_at(1, || {
        run(host, &["nft", "flush", "ruleset"], "");
        masquerade::status(host, Backend::Nftables)
    });
    let error = broken.outcome.unwrap_err();
    assert_eq!(error.code, Code::PLUGIN_NOT_AVAILABLE);
    assert!(error.msg.starts_with("masquerading needs nf_tables: "), "{error}");
    Ok(())
}
