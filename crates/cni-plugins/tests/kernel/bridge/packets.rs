//! What packets see of isolation, hairpin, spoofing and VLANs.

use cni_sdk::linux::nftables::{Chain, Family, Removal, Set, Table, Type};
use cni_sdk::linux::{LinkSpec, Mac, Netns, Undo, VethPeer, link::spec::MacvlanMode};
use cni_sdk::testing::{Sandbox, Test, break_add, kernel, record, tests};
use cni_sdk::{Link, Result};

use super::{Net, begun, id, is_kept_from, reaches, two_pods};

pub(super) fn tests() -> Vec<Test> {
    tests![
        isolated_containers_reach_the_host_only => [kernel::bridge, kernel::veth],
        what_a_container_sends_comes_back_by_hairpin => [kernel::bridge, kernel::veth, kernel::macvlan],
        spoofed_addresses_are_dropped => [kernel::bridge, kernel::veth, kernel::nftables],
        rules_that_were_flushed_are_missed_and_come_back => [kernel::bridge, kernel::veth, kernel::nftables],
        a_broken_spoof_check_leaves_nothing => [kernel::bridge, kernel::veth, kernel::nftables],
        what_the_go_plugin_checked_is_cleaned_up => [kernel::bridge, kernel::veth, kernel::nft],
    ]
}

fn isolated_containers_reach_the_host_only(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let net = Net::new(r#""isDefaultGateway": true, "portIsolation": true"#);
    let [(one, _), (other, _)] = two_pods(sandbox, net)?;
    for (mine, theirs, gateway) in
        [("10.1.2.2", "10.1.2.3", "10.1.2.1"), ("fd00:1:2::2", "fd00:1:2::3", "fd00:1:2::1")]
    {
        assert!(is_kept_from(&one, &other, theirs));
        assert!(reaches(&one, host, gateway) && reaches(host, &one, mine));
    }
    // Those that are not isolated reach everybody.
    let third = sandbox.container();
    Net::new(r#""isDefaultGateway": true"#).pod(4, &third).add()?;
    assert!(reaches(&one, &third, "10.1.2.4") && reaches(&third, &other, "10.1.2.3"));
    Ok(())
}

/// Two macvlans in one container reach each other only by way of the bridge's port and back.
fn what_a_container_sends_comes_back_by_hairpin(sandbox: &Sandbox) -> Result<()> {
    for (keys, comes_back) in [(r#""hairpinMode": true"#, true), ("", false)] {
        let (container, inner, mut undo) = (sandbox.container(), sandbox.container(), Undo::new());
        let pod = Net::new(keys).pod(2, &container);
        pod.add()?;
        let eth0 = container.link("eth0")?;
        // Old kernels first make them beside their parent.
        let spec = LinkSpec::macvlan("eth1", &eth0, MacvlanMode::Vepa).into_netns(&inner);
        container.add_link(spec, &mut undo)?;
        inner.add_address("eth1", "10.1.2.50/24".parse::<ipnet::IpNet>()?)?;
        inner.set_up("eth1")?;
        let nested = sandbox.container();
        container
            .add_link(LinkSpec::macvlan("eth1", &eth0, MacvlanMode::Vepa).into_netns(&nested), &mut undo)?;
        nested.add_address("eth1", "10.1.2.51/24".parse::<ipnet::IpNet>()?)?;
        nested.set_up("eth1")?;
        if comes_back {
            assert!(reaches(&inner, &nested, "10.1.2.51"));
        } else {
            assert!(is_kept_from(&inner, &nested, "10.1.2.51"));
        }
        undo.run().unwrap();
        pod.del(None)?;
    }
    Ok(())
}

const CHECKED: &str = r#""isGateway": true, "macspoofchk": true"#;

/// How many attachments the table has.
fn checked(host: &Netns) -> Result<[usize; 3]> {
    let table = Table::new(Family::Bridge, "ferrocni_spoofcheck");
    let known = Set::new(table, "known", &[Type::Ifname, Type::EtherAddr]);
    let ports = Set::verdict_map(table, "checked", &[Type::Ifname]);
    let macs = Set::map(table, "macs", &[Type::Ifname], &[Type::EtherAddr]);
    let count = |set: &Set<'_>| Ok::<_, cni_sdk::Error>(host.nft_elements(set)?.len());
    Ok([count(&known)?, count(&ports)?, count(&macs)?])
}

fn spoofed_addresses_are_dropped(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let net = Net::new(CHECKED);
    let [(one, result), (other, _)] = two_pods(sandbox, net)?;
    assert_eq!(checked(host)?, [2, 2, 2]);
    let own = one.link("eth0")?.mac().unwrap();
    assert!(reaches(&one, &other, "10.1.2.3") && reaches(&one, host, "fd00:1:2::1"));
    net.pod(2, &one).check(&result)?;
    one.set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x66]))?;
    assert!(is_kept_from(&one, &other, "10.1.2.3") && is_kept_from(&one, host, "fd00:1:2::1"));
    one.set_mac("eth0", own)?;
    assert!(reaches(&one, &other, "10.1.2.3"));
    // A network that does not ask for it is not checked.
    let third = sandbox.container();
    Net { name: "free", ..Net::new(r#""isGateway": true"#) }.pod(4, &third).add()?;
    third.set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x77]))?;
    assert!(reaches(&third, &other, "10.1.2.3"));

    // As after `nft flush ruleset`.
    let table = Table::new(Family::Bridge, "ferrocni_spoofcheck");
    host.del_nft(&Removal::new().table(&table))?;
    let error = net.pod(2, &one).check(&result).unwrap_err();
    assert!(error.msg.contains("is not checked to come from"), "{error}");
    net.pod(2, &one).del(Some(&result))?;
    net.pod(2, &one).add()?;
    assert_eq!(checked(host)?, [1, 1, 1]);

    // Whatever the configuration says by now.
    Net::new("").pod(2, &one).netns("").del(None)?;
    assert_eq!(checked(host)?, [0, 0, 0]);
    net.pod(2, &one).add()?;
    Net { name: "other", ..net }.pod(2, &sandbox.container()).add()?;
    net.pod(2, &one).gc(&[id("pod3")])?;
    assert_eq!(checked(host)?, [1, 1, 1], "the other network's is left");
    Ok(())
}

/// As after `nft flush table`, which leaves the sets.
fn rules_that_were_flushed_are_missed_and_come_back(sandbox: &Sandbox) -> Result<()> {
    let (host, one, other) = (sandbox.host(), sandbox.container(), sandbox.container());
    let net = Net::new(CHECKED);
    let result = net.pod(2, &one).add()?;
    let chain = Chain::new(Table::new(Family::Bridge, "ferrocni_spoofcheck"), "prerouting");
    let rules = host.nft_rules(&chain)?;
    host.del_nft(&rules.iter().fold(Removal::new(), |all, rule| all.rule(&chain, rule.handle)))?;
    assert_eq!((host.nft_rules(&chain)?.len(), checked(host)?), (0, [1, 1, 1]));
    let error = net.pod(2, &one).check(&result).unwrap_err();
    assert!(error.msg.contains("is not checked to come from"), "{error}");

    net.pod(3, &other).add()?;
    net.pod(2, &one).check(&result)?;
    assert_eq!(host.nft_rules(&chain)?.len(), rules.len());
    one.set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x66]))?;
    assert!(is_kept_from(&one, &other, "10.1.2.3"));
    Ok(())
}

fn a_broken_spoof_check_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let net = Net::new(CHECKED);
    begun(sandbox, net)?;
    break_add(sandbox, |container| net.pod(2, container));
    let (added, requests) = record(|| net.pod(3, &sandbox.container()).add());
    added?;
    assert_eq!(requests.iter().filter(|request| request.message == "NFNL_MSG_BATCH").count(), 1);
    Ok(())
}

/// As the Go plugin's program makes it, by `nft`.
fn what_the_go_plugin_checked_is_cleaned_up(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let link: Link = host
        .add_link(LinkSpec::veth("veth1a2b3c4d", VethPeer::new("eth0").into_netns(&container)), &mut undo)?;
    undo.keep();
    let chains: String = ["pod2", "pod3"]
        .iter()
        .map(|pod| {
            format!(
                "add chain bridge nat cni-br-iface-{pod}-eth0; add chain bridge nat cni-br-iface-{pod}-eth0-mac;
                 add rule bridge nat PREROUTING iifname {link} jump cni-br-iface-{pod}-eth0 comment \"macspoofchk-{pod}-eth0\";
                 add rule bridge nat cni-br-iface-{pod}-eth0 jump cni-br-iface-{pod}-eth0-mac comment \"macspoofchk-{pod}-eth0\";
                 add rule bridge nat cni-br-iface-{pod}-eth0-mac ether saddr 02:00:00:00:00:01 return comment \"macspoofchk-{pod}-eth0\";
                 add rule bridge nat cni-br-iface-{pod}-eth0-mac drop comment \"macspoofchk-{pod}-eth0\";",
                link = link.name
            )
        })
        .collect();
    let base = "add table bridge nat; add chain bridge nat PREROUTING { type filter hook prerouting priority -300; policy accept; };";
    nft(host, &format!("{base} {chains}"));
    Net::new("").pod(2, &container).del(None)?;
    assert!(host.link_if_exists("veth1a2b3c4d")?.is_none());
    let left = nft(host, "list table bridge nat");
    assert!(!left.contains("pod2") && left.contains("jump cni-br-iface-pod3-eth0"), "{left}");
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a test may start what a plugin must not")]
fn nft(netns: &Netns, commands: &str) -> String {
    let output = netns.run(|| std::process::Command::new("nft").arg(commands).output()).unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
