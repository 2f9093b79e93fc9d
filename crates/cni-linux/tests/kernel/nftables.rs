//! nf_tables: what `nft` prints of it, who may do it at once, what is left, and how it fails.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Barrier;

use cni_linux::iptables::{Iptables, Protocol, Transaction};
use cni_linux::nftables::{
    Addition, Chain, Element, Family, Field, Hook, Kind, Removal, Rule, Ruleset, Set, State, Table, Type,
    Value, Verdict,
};
use cni_linux::testing::{Sandbox, Snapshot, Test, fail_at, kernel, record, tests};
use cni_linux::{Errno, Mac, Netns, Result, Undo};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        nft_prints_it_and_loads_it_again => [kernel::nft],
        what_is_there_already_stays_as_it_is => [kernel::nft],
        an_element_is_one_question_and_one_transaction => [kernel::nftables],
        a_hundred_at_once_make_the_same_table => [kernel::nftables],
        thousands_of_elements_at_once_are_all_added => [kernel::nftables],
        elements_are_read_with_their_owners => [kernel::nftables],
        what_somebody_left_behind_is_replaced => [kernel::nftables],
        undoing_deletes_the_elements_alone => [kernel::nftables],
        deleting_what_is_not_there_is_no_error => [kernel::nftables],
        what_others_refer_to_stays => [kernel::nftables],
        many_deletions_are_made_in_parts => [kernel::nftables],
        rules_of_others_are_found_by_their_comments => [kernel::nft],
        rules_of_iptables_are_found_by_what_they_lead_to => [kernel::iptables],
        the_network_that_another_is_in_is_found => [kernel::nftables],
        refusals_name_the_object => [kernel::nftables],
        every_transaction_can_fail_and_leaves_nothing => [kernel::nft],
        a_namespace_elsewhere_has_its_own => [kernel::nftables],
    ]
}

const TABLE: Table<'_> = Table::new(Family::Inet, "t");
const PAIRS: Set<'_> = Set::new(TABLE, "pairs", &[Type::Ifname, Type::EtherAddr]);
const POSTROUTING: Chain<'_> = Chain::base(TABLE, "postrouting", Kind::Nat, Hook::Postrouting, 100);
const SOURCES: Set<'_> = Set::new(TABLE, "sources", &[Type::Ipv4Addr]);
const VERDICTS: Set<'_> = Set::verdict_map(TABLE, "verdicts", &[Type::Ipv4Addr]);
const CHECKS: Chain<'_> = Chain::new(TABLE, "checks");

fn ip(text: &str) -> Value {
    Value::Ip(text.parse().expect("an address"))
}

fn net(text: &str) -> Value {
    Value::Net(text.parse().expect("a network"))
}

/// A small rule set: sources are masqueraded, unless they stay in their network.
fn shared() -> Ruleset {
    let rules = [
        Rule::new().is(Field::Ip4Destination, net("10.1.0.0/16")).verdict(Verdict::Return),
        Rule::new().masquerade(),
    ];
    Ruleset::new().table(&TABLE).set(&SOURCES).chain(&CHECKS).rules(&CHECKS, rules).chain(&POSTROUTING).rules(
        &POSTROUTING,
        [Rule::new().is_in(&[Field::Ip4Source], "sources").verdict(Verdict::Goto("checks".into()))],
    )
}

fn source(address: &str) -> Element {
    Element::new([ip(address)]).comment(format!("owner of {address}"))
}

/// Adds elements to a set.
fn add(netns: &Netns, set: &Set<'_>, elements: &[Element], shared: &Ruleset, undo: &mut Undo) -> Result<()> {
    let all = elements.iter().fold(Addition::new(), |all, element| all.element(set, element));
    netns.add_nft(&all, shared, undo)
}

/// What `nft` prints in the namespace, and that it does not mind being given the input.
fn nft(netns: &Netns, arguments: &[&str], input: &str) -> String {
    let run = || {
        let mut command = Command::new("nft");
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = netns.run(run).unwrap();
    assert!(output.status.success(), "{}\n{input}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const BRIDGE: Table<'_> = Table::new(Family::Bridge, "b");
const IP4: Table<'_> = Table::new(Family::Ip, "f");

/// Everything that can be said: sets and maps …
fn sets() -> Ruleset {
    let nets = Set::new(TABLE, "nets", &[Type::Ipv4Addr]).interval();
    let nets6 = Set::new(TABLE, "nets6", &[Type::Ipv6Addr]).interval();
    let between = Set::new(TABLE, "between", &[Type::Ipv4Addr, Type::Ipv4Addr]).interval();
    let macs = Set::map(BRIDGE, "macs", &[Type::Ifname], &[Type::EtherAddr]);
    let checked = Set::verdict_map(BRIDGE, "checked", &[Type::Ifname]);
    let pairs = Set::new(BRIDGE, "pairs", &[Type::Ifname, Type::EtherAddr]);
    let service = [Type::Ipv4Addr, Type::InetProto, Type::InetService];
    let ports = Set::map(IP4, "ports", &service, &[Type::Ipv4Addr, Type::InetService]);
    let mac = Value::Mac(Mac::new([2, 0, 0, 0xaa, 0, 1]));
    let mapping = Element::new([ip("192.0.2.1"), Value::Protocol(6), Value::Port(8080)]);
    Ruleset::new()
        .table(&TABLE)
        .table(&BRIDGE)
        .table(&IP4)
        .set(&nets)
        .set(&nets6)
        .set(&between)
        .set(&macs)
        .set(&checked)
        .set(&pairs)
        .set(&ports)
        .element(&nets, &Element::new([net("10.0.0.0/8")]).comment("private"))
        .element(&nets, &Element::new([net("192.0.2.0/24")]))
        .element(&nets, &Element::new([net("255.255.255.0/24")]))
        .element(&nets6, &Element::new([net("fd00::/8")]))
        .element(&between, &Element::new([net("10.1.0.0/16"), net("10.1.0.0/16")]).comment("one subnet"))
        .element(&macs, &Element::new(["veth0".into()]).maps_to([mac.clone()]).comment("whose"))
        .element(&checked, &Element::new(["veth0".into()]).verdict(Verdict::Drop))
        .element(&pairs, &Element::new(["veth0".into(), mac]))
        .element(&ports, &mapping.maps_to([ip("10.1.0.2"), Value::Port(80)]).comment("pod"))
}

/// … and chains, rules and verdicts.
fn everything() -> Ruleset {
    let (target, marks) = (Chain::new(TABLE, "target"), Set::verdict_map(TABLE, "marks", &[Type::Mark]));
    let dstnat = Chain::base(IP4, "prerouting", Kind::Nat, Hook::Prerouting, -100);
    let prerouting = Chain::base(BRIDGE, "pre", Kind::Filter, Hook::Prerouting, -300);
    let leave = [
        Rule::new().is(Field::Ip4Destination, net("224.0.0.0/4")).verdict(Verdict::Return),
        Rule::new().is(Field::Ip6Destination, net("ff00::/8")).verdict(Verdict::Return),
        Rule::new().is_not(Field::Ip4Destination, net("10.1.0.0/16")).counter().masquerade(),
        Rule::new().is_not(Field::Ip6Destination, net("fd00::/64")).masquerade().comment("six"),
    ];
    let between = [Field::Ip4Source, Field::Ip4Destination];
    let arrive = [
        Rule::new().is(Field::Oifname, "eth0").is_in(&[Field::Ip4Source], "nets").verdict(Verdict::Accept),
        Rule::new().is_in(&between, "between").verdict(Verdict::Return),
        Rule::new().is_not_in(&[Field::Ip6Source], "nets6").verdict(Verdict::Return),
        Rule::new().is(Field::Mark, Value::Mark(0x2000)).masquerade(),
        Rule::new().verdict_map(&[Field::Mark], "marks"),
        Rule::new().is(Field::Ip4Source, ip("10.1.2.3")).verdict(Verdict::Goto("target".into())),
    ];
    let known = [Field::Iifname, Field::EtherSource];
    let spoofed = [
        Rule::new().is_in(&known, "pairs").verdict(Verdict::Return),
        Rule::new().is_not_in(&known, "pairs").counter().comment("spoofed"),
        Rule::new().verdict_map(&[Field::Iifname], "checked"),
    ];
    let service = [Field::Ip4Destination, Field::Protocol, Field::DestinationPort];
    sets()
        .chain(&target)
        .rules(&target, leave)
        .set(&marks)
        .element(&marks, &Element::new([Value::Mark(7)]).verdict(Verdict::Jump("target".into())))
        .element(&marks, &Element::new([Value::Mark(8)]).verdict(Verdict::Drop))
        .chain(&POSTROUTING)
        .rules(&POSTROUTING, arrive)
        .chain(&prerouting)
        .rules(&prerouting, spoofed)
        .chain(&dstnat)
        .rules(&dstnat, [Rule::new().is_for_this_host().dnat_map(Family::Ip, &service, "ports")])
}

/// What port mapping and firewalls say besides.
fn more() -> Ruleset {
    let table = Table::new(Family::Inet, "more");
    let ports =
        Set::map(table, "ports", &[Type::InetProto, Type::InetService], &[Type::Ipv4Addr, Type::InetService]);
    let service = [Type::Ipv6Addr, Type::InetProto, Type::InetService];
    let ports6 = Set::map(table, "ports6", &service, &[Type::Ipv6Addr, Type::InetService]);
    let mapping =
        Element::new([Value::Protocol(132), Value::Port(8080)]).maps_to([ip("10.1.0.2"), Value::Port(80)]);
    let key = Element::new([ip("2001:db8::1"), Value::Protocol(17), Value::Port(53)]);
    let forward = Chain::base(table, "forward", Kind::Filter, Hook::Forward, 0);
    let filtered = [
        Rule::new().has_state(&[State::Established, State::Related]).verdict(Verdict::Accept),
        Rule::new().has_state(&[State::Invalid]).verdict(Verdict::Drop),
        Rule::new().has_state(&[State::New, State::Untracked]).is_redirected().verdict(Verdict::Accept),
        Rule::new().has_mark(0x2000).verdict(Verdict::Return),
        Rule::new()
            .lacks_mark(0x2000)
            .is(Field::Iifname, "br0")
            .is_not(Field::Oifname, "br0")
            .add_mark(0x2000),
        Rule::new().is(Field::SourcePort, Value::Port(53)).verdict(Verdict::Accept),
        Rule::new()
            .is(Field::Protocol, Value::Protocol(6))
            .is(Field::DestinationPort, Value::Port(80))
            .verdict(Verdict::Accept),
        Rule::new().is_from_this_host().is_not_for_this_host().counter(),
        Rule::new().reject().comment("nobody else"),
    ];
    let prerouting = Chain::base(table, "prerouting", Kind::Nat, Hook::Prerouting, -100);
    let udp = || Rule::new().is(Field::Protocol, Value::Protocol(17));
    let (wildcard, six) = (
        [Field::Protocol, Field::DestinationPort],
        [Field::Ip6Destination, Field::Protocol, Field::DestinationPort],
    );
    let redirected = [
        Rule::new().is_for_this_host().dnat_map(Family::Ip, &wildcard, "ports"),
        Rule::new().is_for_this_host().dnat_map(Family::Ip6, &six, "ports6"),
        udp().dnat("10.1.0.2".parse().unwrap(), 80),
        udp().dnat("fd00::2".parse().unwrap(), 80),
        Rule::new().is(Field::Ip4Destination, ip("192.0.2.9")).dnat("10.1.0.2".parse().unwrap(), None),
    ];
    let postrouting = Chain::base(table, "postrouting", Kind::Nat, Hook::Postrouting, 100);
    let translated = [
        Rule::new().is(Field::Ip4Source, net("127.0.0.0/8")).is_redirected().masquerade(),
        Rule::new().is(Field::Oifname, "eth0").snat("10.1.0.1".parse().unwrap()),
        Rule::new().snat("fd00::1".parse().unwrap()),
    ];
    let ruleset = Ruleset::new().table(&table).set(&ports).set(&ports6);
    let ruleset =
        ruleset.element(&ports, &mapping).element(&ports6, &key.maps_to([ip("fd00::2"), Value::Port(53)]));
    let ruleset =
        ruleset.chain(&forward).rules(&forward, filtered).chain(&prerouting).rules(&prerouting, redirected);
    let ruleset = ruleset.chain(&postrouting).rules(&postrouting, translated);
    // The words of one family alone.
    [(Family::Ip, "four"), (Family::Ip6, "six")].into_iter().fold(ruleset, |ruleset, (family, name)| {
        let table = Table::new(family, name);
        let chain = Chain::new(table, "c");
        ruleset.table(&table).chain(&chain).rules(&chain, [Rule::new().reject()])
    })
}

/// The same, as one would write it for `nft`.
const WRITTEN: [&str; 2] = [include_str!("nftables/everything.nft"), include_str!("nftables/more.nft")];

fn nft_prints_it_and_loads_it_again(sandbox: &Sandbox) -> Result<()> {
    for (ruleset, written) in [everything(), more()].iter().zip(WRITTEN) {
        let (ours, by_nft, again) = (sandbox.container(), sandbox.container(), sandbox.container());
        ours.ensure_nft(ruleset)?;
        let printed = nft(&ours, &["list", "ruleset"], "");
        // Compared as this version of nft prints it.
        nft(&by_nft, &["-f", "-"], written);
        assert_eq!(nft(&by_nft, &["list", "ruleset"], ""), printed);
        nft(&again, &["-f", "-"], &printed);
        assert_eq!(nft(&again, &["list", "ruleset"], ""), printed);
        // What nft made is for us as if we had made it.
        by_nft.ensure_nft(ruleset)?;
        assert_eq!(nft(&by_nft, &["list", "ruleset"], ""), printed);
    }
    Ok(())
}

fn what_is_there_already_stays_as_it_is(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    host.ensure_nft(&shared())?;
    add(host, &SOURCES, &[source("10.1.0.1")], &Ruleset::new(), &mut undo)?;
    undo.keep();
    nft(host, &["-f", "-"], "add chain inet t other; add rule inet t other accept");
    let before = nft(host, &["list", "ruleset"], "");
    host.ensure_nft(&shared())?;
    assert_eq!(nft(host, &["list", "ruleset"], ""), before);
    // A rule that does not belong there goes, one that is missing comes back.
    nft(host, &["-f", "-"], "flush chain inet t checks; add rule inet t checks drop");
    host.ensure_nft(&shared())?;
    assert_eq!(nft(host, &["list", "ruleset"], ""), before);
    Ok(())
}

fn an_element_is_one_question_and_one_transaction(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let mut requests = |address: &str| {
        let (added, requests) = record(|| add(host, &SOURCES, &[source(address)], &shared(), &mut undo));
        added.map(|()| requests.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let everything = "NFNL_MSG_BATCH commit add table inet t, add set inet t sources, add chain inet t checks, \
                      flush chain inet t checks, add rule to chain inet t checks, add rule to chain inet t checks, \
                      add chain inet t postrouting, flush chain inet t postrouting, \
                      add rule to chain inet t postrouting, add element 10.1.0.1 to set inet t sources";
    assert_eq!(requests("10.1.0.1")?, ["NFT_MSG_GETSET look up set inet t sources", everything]);
    for nth in 2..=20 {
        let one = format!("NFNL_MSG_BATCH commit add element 10.1.0.{nth} to set inet t sources");
        assert_eq!(requests(&format!("10.1.0.{nth}"))?, ["NFT_MSG_GETSET look up set inet t sources", &one]);
    }
    assert_eq!(host.nft_elements(&SOURCES)?.len(), 20);
    undo.run().unwrap();
    Ok(())
}

fn a_hundred_at_once_make_the_same_table(sandbox: &Sandbox) -> Result<()> {
    const THREADS: usize = 100;
    let barrier = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for nth in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                // A socket of its own, as a process has.
                let (host, mut undo) = (Netns::current().unwrap(), Undo::new());
                barrier.wait();
                let mine = source(&format!("10.1.{nth}.1"));
                add(&host, &SOURCES, std::slice::from_ref(&mine), &shared(), &mut undo).unwrap();
                assert_eq!(host.nft_element(&SOURCES, &mine).unwrap(), Some(mine));
                if nth % 2 == 0 { undo.run().unwrap() } else { undo.keep() }
            });
        }
    });
    let host = sandbox.host();
    assert_eq!(host.nft_elements(&SOURCES)?.len(), THREADS / 2);
    assert_eq!((host.nft_rules(&CHECKS)?.len(), host.nft_rules(&POSTROUTING)?.len()), (2, 1));
    Ok(())
}

/// The kernel refuses elements for a moment whenever it enlarges the set.
fn thousands_of_elements_at_once_are_all_added(sandbox: &Sandbox) -> Result<()> {
    const THREADS: u8 = 4;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let (host, mut undo) = (Netns::current().unwrap(), Undo::new());
                for nth in 0..=u8::MAX {
                    let elements: Vec<_> =
                        (0..8).map(|third| source(&format!("10.{thread}.{third}.{nth}"))).collect();
                    add(&host, &SOURCES, &elements, &shared(), &mut undo).unwrap();
                }
                undo.keep();
            });
        }
    });
    // One by one: a list may lack one while the kernel is at it.
    for (thread, third, nth) in
        (0..THREADS).flat_map(|a| (0..8).flat_map(move |b| (0..=u8::MAX).map(move |c| (a, b, c))))
    {
        let element = source(&format!("10.{thread}.{third}.{nth}"));
        assert_eq!(sandbox.host().nft_element(&SOURCES, &element)?, Some(element));
    }
    Ok(())
}

fn elements_are_read_with_their_owners(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    assert!(host.nft_elements(&SOURCES)?.is_empty(), "there is no such table");
    assert_eq!(host.nft_element(&SOURCES, &source("10.1.0.1"))?, None);
    let elements = [source("10.1.0.1"), source("10.1.0.2"), Element::new([ip("10.1.0.3")])];
    add(host, &SOURCES, &elements, &shared(), &mut undo)?;
    let mut read = host.nft_elements(&SOURCES)?;
    read.sort_by_key(ToString::to_string);
    assert_eq!(read, elements);
    for element in &elements {
        assert_eq!(host.nft_element(&SOURCES, &Element::new(element.key.clone()))?.as_ref(), Some(element));
    }
    assert_eq!(host.nft_element(&SOURCES, &source("10.1.0.4"))?, None);
    let nets = Set::new(TABLE, "nets", &[Type::Ipv6Addr]).interval();
    let elements: Vec<_> = ["fd00::/64", "fd00:0:0:1::/64", "ff00::/8"]
        .map(|text| Element::new([net(text)]).comment(text))
        .into();
    add(host, &nets, &elements, &Ruleset::new().set(&nets), &mut undo)?;
    assert_eq!(host.nft_elements(&nets)?, elements);
    let delete = elements.iter().fold(Removal::new(), |removal, element| removal.element(&nets, element));
    assert_eq!(host.del_nft(&delete)?, 3);
    assert!(host.nft_elements(&nets)?.is_empty());
    undo.run().unwrap();
    Ok(())
}

/// An address that a dead container had is given to another one.
fn what_somebody_left_behind_is_replaced(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let address = || Element::new([ip("10.1.0.1")]);
    let (old, new) = (address().comment("old"), source("10.1.0.1"));
    add(host, &SOURCES, std::slice::from_ref(&old), &shared(), &mut undo)?;
    undo.keep();
    let mut undo = Undo::new();
    add(host, &SOURCES, &[source("10.1.0.2"), new.clone(), source("10.1.0.3")], &shared(), &mut undo)?;
    assert_eq!(host.nft_element(&SOURCES, &address())?, Some(new));
    assert_eq!(host.nft_elements(&SOURCES)?.len(), 3);
    undo.run().unwrap();
    assert_eq!(host.nft_elements(&SOURCES)?, [old], "it is given back");
    // What is shared is not replaced: it would be somebody's.
    let verdict = |verdict| Ruleset::new().set(&VERDICTS).element(&VERDICTS, &address().verdict(verdict));
    host.ensure_nft(&verdict(Verdict::Drop))?;
    host.ensure_nft(&verdict(Verdict::Drop))?;
    let error = host.ensure_nft(&verdict(Verdict::Accept)).unwrap_err();
    assert!(error.is_exists(), "{error}");
    Ok(())
}

fn undoing_deletes_the_elements_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    host.ensure_nft(&shared())?;
    add(host, &SOURCES, &[source("10.1.0.1")], &shared(), &mut undo)?;
    undo.keep();
    let mut undo = Undo::new();
    add(host, &SOURCES, &[source("10.1.0.2"), source("10.1.0.3")], &shared(), &mut undo)?;
    assert_eq!(undo.names(), ["elements of set inet t sources"]);
    let (undone, requests) = record(|| undo.run());
    undone.unwrap();
    assert_eq!(requests.iter().filter(|request| request.change).count(), 1);
    assert_eq!(host.nft_elements(&SOURCES)?, [source("10.1.0.1")]);
    assert_eq!(host.nft_rules(&CHECKS)?.len(), 2);
    Ok(())
}

fn deleting_what_is_not_there_is_no_error(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let removal = Removal::new()
        .element(&SOURCES, &source("10.1.0.1"))
        .element(&SOURCES, &source("10.1.0.2"))
        .rule(&CHECKS, 4711)
        .chain(&Chain::new(TABLE, "nobody"))
        .set(&PAIRS)
        .table(&BRIDGE);
    let (deleted, requests) = record(|| host.del_nft(&removal));
    let asked: Vec<_> = requests.iter().map(ToString::to_string).collect();
    let expected = [
        "NFT_MSG_GETSETELEM look up 10.1.0.1 from set inet t sources",
        "NFT_MSG_GETSETELEM look up 10.1.0.2 from set inet t sources",
        "NFT_MSG_GETRULE look up rule 4711 of chain inet t checks",
        "NFT_MSG_GETCHAIN look up chain inet t nobody",
        "NFT_MSG_GETSET look up set inet t pairs",
        "NFT_MSG_GETTABLE look up table bridge b",
    ];
    assert_eq!((deleted?, asked), (0, expected.map(str::to_owned).to_vec()));
    add(host, &SOURCES, &[source("10.1.0.2")], &shared(), &mut undo)?;
    let (deleted, requests) = record(|| host.del_nft(&removal));
    let changes: Vec<_> = requests.iter().filter(|request| request.change).map(ToString::to_string).collect();
    assert_eq!(
        (deleted?, changes),
        (1, vec!["NFNL_MSG_BATCH commit delete element 10.1.0.2 from set inet t sources".into()])
    );
    assert_eq!(host.del_nft(&removal)?, 0);
    assert_eq!(host.del_nft(&Removal::new())?, 0);
    undo.run().unwrap();
    assert_eq!(host.del_nft(&Removal::new().table(&TABLE))?, 1);
    assert_eq!(host.del_nft(&Removal::new().table(&TABLE))?, 0);
    Ok(())
}

/// The last one out takes the chain with it.
fn what_others_refer_to_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let goes = |address| Element::new([ip(address)]).verdict(Verdict::Goto("mine".into()));
    let mine = Chain::new(TABLE, "mine");
    let shared = Ruleset::new().table(&TABLE).chain(&mine).set(&VERDICTS);
    let rule = Rule::new().verdict_map(&[Field::Ip4Source], "verdicts");
    let shared = shared.chain(&POSTROUTING).rules(&POSTROUTING, [rule]);
    add(host, &VERDICTS, &[goes("10.1.0.1"), goes("10.1.0.2")], &shared, &mut undo)?;
    undo.keep();
    let leave = |address| Removal::new().element(&VERDICTS, &goes(address)).chain(&mine);
    assert_eq!(host.del_nft(&leave("10.1.0.1"))?, 1);
    assert_eq!(host.del_nft(&Removal::new().set(&VERDICTS))?, 0, "a rule refers to it");
    assert_eq!(host.nft_elements(&VERDICTS)?, [goes("10.1.0.2")]);
    assert_eq!(host.del_nft(&leave("10.1.0.2"))?, 2);
    assert_eq!(host.del_nft(&Removal::new().chain(&mine))?, 0, "it is gone");
    Ok(())
}

fn many_deletions_are_made_in_parts(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let elements: Vec<_> = (0..250).map(|nth| source(&format!("10.1.7.{nth}"))).collect();
    add(host, &SOURCES, &elements, &shared(), &mut undo)?;
    let every_other = elements
        .iter()
        .step_by(2)
        .fold(Removal::new(), |removal, element| removal.element(&SOURCES, element));
    let (deleted, requests) = record(|| host.del_nft(&every_other));
    let changes = requests.iter().filter(|request| request.change).count();
    assert_eq!((deleted?, changes), (125, 2));
    assert_eq!(host.nft_elements(&SOURCES)?.len(), 125);
    undo.run().unwrap();
    assert!(host.nft_elements(&SOURCES)?.is_empty());
    Ok(())
}

/// What Go's plugins left behind.
fn rules_of_others_are_found_by_their_comments(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let checks = Chain::new(Table::new(Family::Inet, "cni_plugins_masquerade"), "masq_checks");
    assert!(host.nft_rules(&checks)?.is_empty());
    nft(
        host,
        &["-f", "-"],
        r#"add table inet cni_plugins_masquerade
        add chain inet cni_plugins_masquerade masq_checks
        add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.0.2 ip daddr != 10.1.0.0/16 masquerade comment "0123456789abcdef-0123456789abcdef, net: a, if: eth0, id: x"
        add rule inet cni_plugins_masquerade masq_checks ip saddr 10.1.0.3 counter comment "fedcba9876543210-0123456789abcdef, net: b, if: eth0, id: x"
        add rule inet cni_plugins_masquerade masq_checks accept
        add rule inet cni_plugins_masquerade masq_checks ip6 saddr fd00::2 masquerade comment "0123456789abcdef-0123456789abcdef, net: a, if: eth0, id: x""#,
    );
    let rules = host.nft_rules(&checks)?;
    assert_eq!(rules.len(), 4);
    assert_eq!(rules[2].comment, None);
    let ours = |comment: &str| comment.starts_with("0123456789abcdef-");
    let removal = rules.iter().filter(|rule| rule.comment.as_deref().is_some_and(ours));
    let removal = removal.fold(Removal::new(), |removal, rule| removal.rule(&checks, rule.handle));
    assert_eq!(host.del_nft(&removal)?, 2);
    let left = host.nft_rules(&checks)?;
    assert_eq!(left, [rules[1].clone(), rules[2].clone()]);
    Ok(())
}

/// Comments and targets as iptables keeps them in nf_tables.
fn rules_of_iptables_are_found_by_what_they_lead_to(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let nat = Table::new(Family::Ip, "nat");
    let (postrouting, mine) = (Chain::new(nat, "POSTROUTING"), Chain::new(nat, "mine"));
    assert!(!host.nft_chain_exists(&mine)?);
    let iptables = Iptables::find(Protocol::Ipv4, kernel::SBIN)?;
    let comment = r#"name: "a" id: "b""#;
    let rules = Transaction::new("nat")
        .chain("mine")
        .append("POSTROUTING", &["-s", "10.1.0.2", "-m", "comment", "--comment", comment, "-j", "mine"])
        .append("POSTROUTING", &["-s", "10.1.0.3", "-g", "mine"])
        .append("POSTROUTING", &["-j", "RETURN"]);
    iptables.ensure(host, &rules)?;
    assert!(host.nft_chain_exists(&mine)?);
    let rules = host.nft_rules(&postrouting)?;
    let found: Vec<_> = rules.iter().map(|rule| (rule.comment.as_deref(), rule.target.as_deref())).collect();
    assert_eq!(found, [(Some(comment), Some("mine")), (None, Some("mine")), (None, None)]);
    let leads_there = rules.iter().filter(|rule| rule.target.is_some());
    let removal = leads_there.fold(Removal::new(), |removal, rule| removal.rule(&postrouting, rule.handle));
    assert_eq!(host.del_nft(&removal.chain(&mine))?, 3);
    let left = iptables.list(host, "nat")?;
    assert_eq!(left.rules, ["-A POSTROUTING -j RETURN"]);
    assert!(!left.chains.contains(&"mine".to_owned()));
    Ok(())
}

fn the_network_that_another_is_in_is_found(sandbox: &Sandbox) -> Result<()> {
    let (host, pairs) =
        (sandbox.host(), Set::new(TABLE, "nets", &[Type::Ipv4Addr, Type::Ipv4Addr]).interval());
    let pair = |text: &str| Element::new([net(text), net(text)]);
    host.ensure_nft(&Ruleset::new().table(&TABLE).set(&pairs).element(&pairs, &pair("10.1.0.0/16")))?;
    for inside in ["10.1.0.0/16", "10.1.2.0/24", "10.1.0.0/12"] {
        assert_eq!(host.nft_element(&pairs, &pair(inside))?.is_some(), inside != "10.1.0.0/12", "{inside}");
    }
    let found = host.nft_element(&pairs, &pair("10.1.2.0/24"))?.expect("it is inside");
    assert_eq!(found.key, [net("10.1.0.0/16"), net("10.1.0.0/16")]);
    assert!(host.nft_element(&pairs, &pair("10.2.0.0/24"))?.is_none());
    // It makes room, in one transaction.
    let part = Ruleset::new().element(&pairs, &pair("10.1.0.0/24"));
    assert!(host.ensure_nft(&part).unwrap_err().is_exists());
    let room = Ruleset::new().without_element(&pairs, &pair("10.1.0.0/16"));
    host.ensure_nft(&room.element(&pairs, &pair("10.1.0.0/24")))?;
    assert_eq!(host.nft_elements(&pairs)?, [pair("10.1.0.0/24")]);
    let nothing = Ruleset::new().without_element(&pairs, &pair("10.2.0.0/16"));
    assert!(host.ensure_nft(&nothing).unwrap_err().is_gone());
    Ok(())
}

fn refusals_name_the_object(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let refused = |ruleset: Ruleset| host.ensure_nft(&ruleset).unwrap_err();
    let error = refused(Ruleset::new().chain(&CHECKS));
    assert_eq!(error.to_string(), "add chain inet t checks: no such file or directory (attribute 1)");
    let error = refused(shared().rules(&CHECKS, [Rule::new().is_in(&[Field::Mark], "nosuch")]));
    assert_eq!(
        (error.doing(), error.what(), error.errno()),
        ("add rule to", "chain inet t checks", Some(Errno::NOENT))
    );
    assert!(host.nft_rules(&CHECKS)?.is_empty(), "nothing of the transaction was made");
    let element = Element::new([ip("10.1.0.1")]).verdict(Verdict::Goto("nosuch".into()));
    let added = add(host, &VERDICTS, &[element], &shared().set(&VERDICTS), &mut Undo::new());
    let expected = "add element 10.1.0.1 : goto nosuch to map inet t verdicts: no such file or directory";
    assert!(added.as_ref().unwrap_err().to_string().starts_with(expected), "{added:?}");
    host.ensure_nft(&shared())?;
    let filter = Chain::base(TABLE, "postrouting", Kind::Filter, Hook::Postrouting, 100);
    let error = refused(Ruleset::new().chain(&filter));
    assert!(error.to_string().starts_with("add chain inet t postrouting: "), "{error}");
    let unsaid = shared().rules(&CHECKS, [Rule::new().comment("x".repeat(200))]);
    assert!(refused(unsaid).to_string().ends_with("longer than 128 octets"));
    let odd = Element::new([ip("fd00::1")]);
    assert_eq!(
        add(host, &SOURCES, &[odd], &shared(), &mut Undo::new()).unwrap_err().to_string(),
        "write element fd00::1 in set inet t sources: not of type ipv4_addr"
    );
    host.ensure_nft(&shared())
}

fn every_transaction_can_fail_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let work = |undo: &mut Undo| -> Result<()> {
        add(host, &SOURCES, &[source("10.1.0.1")], &shared(), undo)?;
        let element = Element::new(["veth0".into(), Value::Mac(Mac::default())]).comment("whose");
        add(host, &PAIRS, &[element], &Ruleset::new().set(&PAIRS), undo)
    };
    host.ensure_nft(&shared())?;
    host.ensure_nft(&Ruleset::new().set(&PAIRS))?;
    let before = Snapshot::take(host)?;
    for nth in 1.. {
        let mut undo = Undo::new();
        let injected = fail_at(nth, || work(&mut undo));
        if !injected.reached {
            injected.outcome?;
            assert_ne!(before.diff(&Snapshot::take(host)?), [""; 0]);
            undo.run().unwrap();
            assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
            assert_eq!(nth, 3);
            return Ok(());
        }
        let error = injected.outcome.unwrap_err();
        assert!(error.is_injected() && error.to_string().starts_with("commit add element "), "{error}");
        undo.run().unwrap();
        assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0], "change {nth}");
    }
    Ok(())
}

fn a_namespace_elsewhere_has_its_own(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    add(&container, &SOURCES, &[source("10.1.0.1")], &shared(), &mut undo)?;
    assert!(sandbox.host().nft_elements(&SOURCES)?.is_empty());
    assert_eq!(container.run(|| Netns::current()?.nft_elements(&SOURCES))??, [source("10.1.0.1")]);
    undo.run().unwrap();
    assert!(container.nft_elements(&SOURCES)?.is_empty());
    Ok(())
}
