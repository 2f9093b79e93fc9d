//! Kernel parameters.

use cni_linux::testing::{Sandbox, Snapshot, Test, fail_at, kernel, record, tests};
use cni_linux::{Errno, LinkSpec, Result, Undo, VethPeer};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        each_namespace_has_its_own,
        what_is_so_already_is_not_written,
        several_are_read_at_once,
        names_of_links_may_have_dots => [kernel::veth],
        missing_keys_are_told_from_forbidden_ones,
        whether_one_can_be_written_is_asked_without_writing,
        undoing_restores_what_was_changed => [kernel::veth],
        every_write_can_fail_and_leaves_nothing,
    ]
}

const FORWARD: &str = "net/ipv4/ip_forward";

fn each_namespace_has_its_own(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    container.ensure_sysctls(&[(FORWARD, "1"), ("net/ipv4/conf/lo/arp_notify", "1")])?;
    assert_eq!((container.sysctl(FORWARD)?, host.sysctl(FORWARD)?), ("1".into(), "0".into()));
    assert_eq!(container.sysctl("net/ipv4/conf/lo/arp_notify")?, "1");
    assert_eq!(host.sysctl("net/ipv4/conf/lo/arp_notify")?, "0");
    let here = || std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!((here().as_str(), container.run(here)?.as_str()), ("0\n", "1\n"));
    assert_eq!(container.run(|| host.sysctl(FORWARD))??, "0", "from elsewhere");
    Ok(())
}

fn what_is_so_already_is_not_written(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let values = [(FORWARD, "1"), ("net/ipv4/ip_local_port_range", "20000 30000")];
    let requests = || {
        let (set, requests) = record(|| container.ensure_sysctls(&values));
        set.map(|()| requests.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let reads = ["read sysctl net/ipv4/ip_forward", "read sysctl net/ipv4/ip_local_port_range"];
    let writes = [
        r#"set sysctl net/ipv4/ip_forward to "1""#,
        r#"set sysctl net/ipv4/ip_local_port_range to "20000 30000""#,
    ];
    assert_eq!(requests()?, [reads[0], writes[0], reads[1], writes[1]]);
    assert_eq!(container.sysctl("net/ipv4/ip_local_port_range")?, "20000\t30000");
    assert_eq!(requests()?, reads);
    Ok(())
}

fn several_are_read_at_once(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.ensure_sysctls(&[(FORWARD, "1")])?;
    assert_eq!(container.sysctls(&["net/ipv4/ip_default_ttl", FORWARD])?, ["64", "1"]);
    assert_eq!(container.sysctls(&[])?, [""; 0]);
    let error = container.sysctls(&[FORWARD, "net/ipv4/nosuch"]).unwrap_err();
    assert_eq!(error.to_string(), "read sysctl net/ipv4/nosuch: the kernel has no such key");
    let (refused, requests) = record(|| container.sysctls(&[FORWARD, "kernel/hostname"]));
    assert_eq!(refused.unwrap_err().errno(), Some(Errno::INVAL));
    assert!(requests.is_empty(), "nothing is read before all are checked");
    Ok(())
}

fn names_of_links_may_have_dots(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0.7", VethPeer::new("other")), &mut undo)?;
    container.ensure_sysctls(&[("net/ipv6/conf/eth0.7/accept_ra", "0")])?;
    assert_eq!(container.sysctl("net/ipv6/conf/eth0.7/accept_ra")?, "0");
    assert_eq!(container.sysctl("net/ipv6/conf/other/accept_ra")?, "1");
    undo.run().unwrap();
    Ok(())
}

fn missing_keys_are_told_from_forbidden_ones(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let error = container.sysctl("net/ipv6/conf/eth0/accept_dad").unwrap_err();
    assert!(error.is_gone());
    assert_eq!(error.to_string(), "read sysctl net/ipv6/conf/eth0/accept_dad: the kernel has no such key");
    let error = container.ensure_sysctls(&[(FORWARD, "1"), ("net/nosuch", "1")]).unwrap_err();
    assert!(error.is_gone());
    assert_eq!(container.sysctl(FORWARD)?, "1", "what came before");
    let error = container.ensure_sysctls(&[("net/ipv4/ip_local_port_range", "many")]).unwrap_err();
    assert_eq!(error.to_string(), r#"set sysctl net/ipv4/ip_local_port_range to "many": invalid argument"#);
    let error = container.ensure_sysctls(&[(FORWARD, "0"), ("kernel/hostname", "x")]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL));
    assert_eq!(container.sysctl(FORWARD)?, "1", "a list with a bad key is not begun with");
    Ok(())
}

fn undoing_restores_what_was_changed(sandbox: &Sandbox) -> Result<()> {
    let (container, mut links, mut undo) = (sandbox.container(), Undo::new(), Undo::new());
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("other")), &mut links)?;
    links.keep();
    let (notify, ra) = ("net/ipv4/conf/eth0/arp_notify", "net/ipv6/conf/eth0/accept_ra");
    container.ensure_sysctls(&[(notify, "1")])?;
    container.set_sysctls(&[(notify, "1"), (ra, "0"), (FORWARD, "1")], &mut undo)?;
    assert_eq!(undo.names(), ["sysctl net/ipv4/ip_forward, net/ipv6/conf/eth0/accept_ra"]);
    undo.run().unwrap();
    assert_eq!((container.sysctl(notify)?.as_str(), container.sysctl(ra)?.as_str()), ("1", "1"));
    assert_eq!(container.sysctl(FORWARD)?, "0");
    // A link that has gone takes its keys with it.
    let mut undo = Undo::new();
    container.set_sysctls(&[(ra, "0")], &mut undo)?;
    container.del_link("eth0")?;
    undo.run().unwrap();
    let mut undo = Undo::new();
    container.set_sysctls(&[(FORWARD, "0")], &mut undo)?;
    assert!(undo.is_empty(), "nothing was changed");
    Ok(())
}

fn whether_one_can_be_written_is_asked_without_writing(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.writable_sysctl(FORWARD)?;
    assert_eq!(container.sysctl(FORWARD)?, "0");
    // Of the machine, not of the namespace: nobody in here may write it.
    let error = container.writable_sysctl("net/core/bpf_jit_enable").unwrap_err();
    assert!(error.is_denied() || error.is_gone(), "{error}");
    assert!(container.writable_sysctl("net/no/such").unwrap_err().is_gone());
    Ok(())
}

fn every_write_can_fail_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let values = [(FORWARD, "1"), ("net/ipv4/conf/lo/arp_notify", "1"), ("net/ipv6/conf/lo/accept_ra", "0")];
    let before = Snapshot::take(&container)?;
    for nth in 1..=3 {
        let mut undo = Undo::new();
        let injected = fail_at(nth, || container.set_sysctls(&values, &mut undo));
        assert!(injected.reached && injected.outcome.unwrap_err().is_injected());
        undo.run().unwrap();
        assert_eq!(before.diff(&Snapshot::take(&container)?), [""; 0], "change {nth}");
        for (key, value) in values {
            assert_ne!(container.sysctl(key)?, value, "change {nth}");
        }
    }
    assert!(!fail_at(4, || container.ensure_sysctls(&values)).reached);
    Ok(())
}
