//! Snapshots see what is configured, and nothing that changes by itself.

use cni_linux::bridge::Vlans;
use cni_linux::testing::{Sandbox, Snapshot, Test, kernel, tests};
use cni_linux::{LinkChange, LinkSpec, Netns, Result, RouteSpec, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_new_namespace_is_like_the_next,
        every_kind_of_object_is_seen => [kernel::veth, kernel::nft],
        making_and_deleting_leaves_no_trace => [kernel::veth],
        what_changes_by_itself_is_left_out => [kernel::veth],
        the_order_of_rules_is_seen => [kernel::nft],
        kernel_parameters_are_seen_where_they_were_changed => [kernel::veth],
        what_is_attached_to_links_is_seen => [kernel::veth, kernel::ifb, kernel::traffic_control],
        ports_of_bridges_are_seen => [kernel::bridge, kernel::veth],
        vlans_are_seen => [kernel::bridge_vlans, kernel::veth],
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn a_new_namespace_is_like_the_next(sandbox: &Sandbox) -> Result<()> {
    let (one, other) = (Snapshot::take(&sandbox.container())?, Snapshot::take(&sandbox.container())?);
    assert_eq!(one.diff(&other), [""; 0]);
    assert!(one.lines().iter().any(|line| line.starts_with("link lo: plain []")), "{one}");
    assert!(one.lines().iter().any(|line| line.starts_with("rule ipv4 32766:")), "{one}");
    Ok(())
}

fn every_kind_of_object_is_seen(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let seen = |before: &Snapshot, start: &str| -> Result<Snapshot> {
        let after = Snapshot::take(&container)?;
        let diff = before.diff(&after);
        assert!(diff.iter().any(|line| line.starts_with(start)), "no {start:?} in {diff:#?}");
        Ok(after)
    };
    let shell = |command: &str| {
        let run = container.run(|| std::process::Command::new("sh").args(["-c", command]).status());
        assert!(run.unwrap().unwrap().success(), "{command}");
    };
    let before = Snapshot::take(&container)?;
    let eth0 = container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1")), &mut undo)?;
    let before = seen(&before, "+ link eth0: veth [broadcast] mtu 1500 mac ")?;
    container.set_up("eth1")?;
    container.set_up("eth0")?;
    let before = seen(&before, "+ link eth0: veth [up broadcast] ")?;
    container.set_alias("eth0", "blue")?;
    let before = seen(&before, "+ link eth0: veth [up broadcast] mtu 1500 mac ")?;
    container.add_address("eth0", net("10.1.2.3/24"))?;
    let before = seen(&before, "+ address of eth0: 10.1.2.3/24 scope global flags 0x80")?;
    container.add_route(&RouteSpec::new(net("192.0.2.0/24")).device(eth0.index).table(500))?;
    let before = seen(&before, "+ route in table 500: 192.0.2.0/24 dev eth0 metric 0 scope link")?;
    shell("ip rule add from 10.1.2.3 table 500 priority 77");
    let before = seen(&before, "+ rule ipv4 77: from 10.1.2.3/32")?;
    shell("tc qdisc add dev eth0 ingress");
    let before = seen(&before, "+ qdisc of eth0: ingress")?;
    shell("nft 'add table inet t; add chain inet t c; add rule inet t c counter accept'");
    let before = seen(&before, "+ nft table inet t / chain c / 1: counter accept")?;
    shell("nft delete table inet t");
    seen(&before, "- nft table inet t / chain c / 1: counter accept")?;
    undo.run().unwrap();
    Ok(())
}

fn making_and_deleting_leaves_no_trace(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let before = Snapshot::take(&container)?;
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1")).up(), &mut undo)?;
    container.add_address("eth0", net("10.1.2.3/24"))?;
    undo.run().unwrap();
    assert_eq!(before.diff(&Snapshot::take(&container)?), [""; 0]);
    Ok(())
}

fn what_changes_by_itself_is_left_out(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1").mtu(1500)).up(), &mut undo)?;
    container.add_address("eth0", net("fd00::1/64"))?;
    let before = Snapshot::take(&container)?;
    // Carrier comes and goes with the other end, but nobody touched this one.
    assert!(before.lines().iter().any(|line| line.contains("fd00::1/64") && line.ends_with("flags 0x80")));
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(before.diff(&Snapshot::take(&container)?), [""; 0]);
    undo.run().unwrap();
    Ok(())
}

fn shell(netns: &Netns, command: &str) {
    let run = netns.run(|| std::process::Command::new("sh").args(["-c", command]).status());
    assert!(run.unwrap().unwrap().success(), "{command}");
}

fn the_order_of_rules_is_seen(sandbox: &Sandbox) -> Result<()> {
    let (one, other) = (sandbox.container(), sandbox.container());
    shell(&one, "nft 'add table ip t; add chain ip t c; add rule ip t c accept; add rule ip t c drop'");
    shell(&other, "nft 'add table ip t; add chain ip t c; add rule ip t c drop; add rule ip t c accept'");
    let diff = Snapshot::take(&one)?.diff(&Snapshot::take(&other)?);
    let chain = "nft table ip t / chain c /";
    assert_eq!(
        diff,
        [
            format!("- {chain} 1: accept"),
            format!("+ {chain} 1: drop"),
            format!("+ {chain} 2: accept"),
            format!("- {chain} 2: drop")
        ]
    );
    Ok(())
}

fn kernel_parameters_are_seen_where_they_were_changed(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0.1", VethPeer::new("eth1")), &mut undo)?;
    let before = Snapshot::take(&container)?;
    container.ensure_sysctls(&[
        ("net/ipv4/conf/eth0.1/arp_notify", "1"),
        ("net/ipv6/conf/eth0.1/accept_dad", "0"),
        ("net/ipv6/conf/eth1/accept_ra", "2"),
    ])?;
    assert_eq!(
        before.diff(&Snapshot::take(&container)?),
        [
            "+ sysctl net/ipv4/conf/eth0.1/arp_notify = 1",
            "+ sysctl net/ipv6/conf/eth0.1/accept_dad = 0",
            "+ sysctl net/ipv6/conf/eth1/accept_ra = 2",
        ]
    );
    container.ensure_sysctls(&[("net/ipv4/ip_forward", "1")])?;
    let diff = before.diff(&Snapshot::take(&container)?);
    assert!(diff.contains(&"+ sysctl net/ipv4/ip_forward = 1".to_owned()), "{diff:#?}");
    undo.run().unwrap();
    Ok(())
}

fn what_is_attached_to_links_is_seen(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1")), &mut undo)?;
    container.add_link(LinkSpec::ifb("ifb0"), &mut undo)?;
    let before = Snapshot::take(&container)?;
    shell(
        &container,
        "tc qdisc add dev eth0 ingress; tc qdisc add dev eth1 clsact; tc qdisc add dev ifb0 root handle 1: htb",
    );
    shell(&container, "tc class add dev ifb0 parent 1: classid 1:7 htb rate 1mbit");
    let redirect = "u32 match u32 0 0 action mirred egress redirect dev ifb0";
    shell(&container, &format!("tc filter add dev eth0 parent ffff: protocol ip prio 5 {redirect}"));
    shell(&container, &format!("tc filter add dev eth1 egress protocol all prio 6 {redirect}"));
    shell(&container, "tc filter add dev ifb0 parent 1: protocol ipv6 prio 7 u32 match u32 0 0 classid 1:7");
    let diff = before.diff(&Snapshot::take(&container)?);
    for start in [
        "+ qdisc of eth0: ingress",
        "+ filter of eth0: u32 80000800 parent ffff0000 priority 5 protocol 0x0800",
        "+ filter of eth1: u32 80000800 parent fffffff3 priority 6 protocol 0x0003",
        "+ class of ifb0: htb 10007 parent ffffffff options [",
        "+ filter of ifb0: u32 80000800 parent 10000 priority 7 protocol 0x86dd",
    ] {
        assert!(diff.iter().any(|line| line.starts_with(start)), "no {start:?} in {diff:#?}");
    }
    assert_eq!(Snapshot::take(&container)?, Snapshot::take(&container)?);
    shell(
        &container,
        "tc qdisc del dev eth0 ingress; tc qdisc del dev eth1 clsact; tc qdisc del dev ifb0 root",
    );
    assert_eq!(before.diff(&Snapshot::take(&container)?), [""; 0]);
    undo.run().unwrap();
    Ok(())
}

fn ports_of_bridges_are_seen(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0"), &mut undo)?.index;
    host.add_link(LinkSpec::veth("veth0", VethPeer::new("eth0")).controller(bridge), &mut undo)?;
    let line = || -> Result<String> {
        let snapshot = Snapshot::take(host)?;
        Ok(snapshot.lines().iter().find(|line| line.starts_with("link veth0: ")).expect("a line").clone())
    };
    assert!(line()?.ends_with(" port []"));
    host.change_link("veth0", &LinkChange::new().hairpin(true).isolated(true).learning(false))?;
    assert!(line()?.ends_with(" port [hairpin, isolated, no learning]"), "{}", line()?);
    undo.run().unwrap();
    Ok(())
}

fn vlans_are_seen(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").vlan_filtering(true), &mut undo)?.index;
    host.add_link(LinkSpec::veth("veth0", VethPeer::new("eth0")).controller(bridge), &mut undo)?;
    let before = Snapshot::take(host)?;
    assert!(before.lines().contains(&"vlan of veth0: 1-1 pvid untagged".to_owned()), "{before}");
    host.del_vlans("veth0", 1..=4094)?;
    host.add_vlans("veth0", &[Vlans::access(7), Vlans::tagged(10..=20)])?;
    assert_eq!(
        before.diff(&Snapshot::take(host)?),
        [
            "- vlan of veth0: 1-1 pvid untagged",
            "+ vlan of veth0: 10-20",
            "+ vlan of veth0: 7-7 pvid untagged"
        ]
    );
    undo.run().unwrap();
    Ok(())
}
