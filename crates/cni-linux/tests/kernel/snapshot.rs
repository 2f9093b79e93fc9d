//! Snapshots see what is configured, and nothing that changes by itself.

use cni_linux::testing::{Sandbox, Snapshot, Test, kernel, tests};
use cni_linux::{LinkSpec, Result, RouteSpec, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_new_namespace_is_like_the_next,
        every_kind_of_object_is_seen => [kernel::veth, kernel::nft],
        making_and_deleting_leaves_no_trace => [kernel::veth],
        what_changes_by_itself_is_left_out => [kernel::veth],
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
    let before = seen(&before, "+ nft table inet t / chain c / counter")?;
    shell("nft delete table inet t");
    seen(&before, "- nft table inet t / chain c / counter")?;
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
