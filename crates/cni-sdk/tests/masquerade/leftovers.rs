//! What the Go plugins make, of this machine's packages where they are installed, and that DEL and GC clean it up.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use cni_sdk::linux::Undo;
use cni_sdk::steps::masquerade::{self, Backend, Masquerade};
use cni_sdk::steps::names;
use cni_sdk::testing::{Sandbox, Snapshot, Test, kernel, record, tests};
use cni_sdk::{AttachmentId, Netns, Result};

use super::kit::{add, id, net, network, run};

/// Where Debian's package `containernetworking-plugins` has them.
const GO: &str = "/usr/lib/cni";

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_iptables_backend_makes_the_rules_of_the_go_plugins => [kernel::iptables, go],
        the_iptables_backend_is_checked_and_deleted => [kernel::iptables],
        del_cleans_up_after_go_plugins_with_iptables_of_nf_tables => [kernel::iptables, go],
        del_cleans_up_after_go_plugins_with_legacy_iptables => [kernel::iptables, go, kernel::legacy_iptables],
        go_plugins_clean_up_after_us => [kernel::iptables, go],
        gc_cleans_up_in_iptables => [kernel::iptables],
        gc_cleans_up_in_legacy_iptables => [kernel::iptables, kernel::legacy_iptables],
        del_and_gc_clean_up_the_table_of_the_go_plugins => [kernel::nft],
        nothing_is_started_where_nothing_is => [kernel::nftables],
    ]
}

/// The Go plugins.
fn go(_: &Netns) -> cni_sdk::linux::Result<()> {
    kernel::installed(&[&format!("{GO}/ptp"), &format!("{GO}/bridge"), &format!("{GO}/host-local")])
}

/// Calls one of the Go plugins, whose iptables are those of `path`.
fn call_go(plugin: &str, command: &str, container: &Netns, id: &AttachmentId, state: &Path, path: &str) {
    let bridge = if plugin == "bridge" { r#""isGateway": true, "bridge": "br-go","# } else { "" };
    let config = format!(
        r#"{{"cniVersion": "1.0.0", "name": "net", "type": "{plugin}", {bridge} "ipMasq": true,
            "ipam": {{"type": "host-local", "dataDir": {state:?},
                "ranges": [[{{"subnet": "10.1.0.0/16"}}], [{{"subnet": "fd00:1::/64"}}]]}}}}"#
    );
    let mut child = Command::new(format!("{GO}/{plugin}"))
        .env("PATH", path)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id.container_id.as_str())
        .env("CNI_IFNAME", id.ifname.as_str())
        .env("CNI_NETNS", container.path().unwrap())
        .env("CNI_PATH", GO)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{plugin} {command}: {}", String::from_utf8_lossy(&output.stdout));
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The rules of both versions of IP, sorted, without what iptables writes of itself.
fn saved(netns: &Netns, kind: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for program in ["iptables", "ip6tables"] {
        let saved = run(netns, &[&format!("{program}{kind}-save"), "-t", "nat"], "");
        let kept = saved.lines().filter(|line| line.starts_with("-A") || line.starts_with(":CNI"));
        lines.extend(kept.map(|line| format!("{program}: {line}")));
    }
    lines.sort();
    lines
}

fn the_iptables_backend_makes_the_rules_of_the_go_plugins(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let (state, container) = (tempfile::tempdir()?, sandbox.container());
    call_go("ptp", "ADD", &container, &id, state.path(), PATH);
    let theirs = saved(host, "");
    call_go("ptp", "DEL", &container, &id, state.path(), PATH);
    assert_eq!((saved(host, ""), theirs.len()), (Vec::new(), 8));
    let masquerade = Masquerade::new(host, &net, &id);
    let mut undo = Undo::new();
    let addresses = [self::net("10.1.0.2/16"), self::net("fd00:1::2/64")];
    let (added, requests) = record(|| masquerade.add(Backend::Iptables, &addresses, &mut undo));
    added?;
    assert_eq!(requests.len(), 2, "a transaction for each version: {requests:?}");
    assert_eq!(saved(host, ""), theirs);
    undo.run()?;
    assert_eq!(saved(host, ""), [""; 0]);
    Ok(())
}

fn the_iptables_backend_is_checked_and_deleted(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let masquerade = Masquerade::new(host, &net, &id);
    let texts = ["10.1.0.2/16", "10.2.0.2/16", "fd00:1::2/64"];
    let addresses = texts.map(self::net);
    let check = || masquerade.check(Backend::Iptables, &addresses);
    let chain = names::reference::masquerade_chain(&net, &id);
    masquerade::status(host, Backend::Iptables)?;
    assert!(check().is_err());
    for (missing, expected) in [
        (
            vec!["-D", "POSTROUTING", "2"],
            format!("address 10.2.0.2 is not masqueraded: no rule leads to {chain}"),
        ),
        (
            vec!["-D", &chain, "1"],
            format!("subnet 10.1.0.0/16 is masqueraded within itself: {chain} does not except it"),
        ),
        (vec!["-D", &chain, "3"], format!("{chain} does not masquerade")),
    ] {
        add(&masquerade, Backend::Iptables, &texts)?;
        check()?;
        assert_eq!(saved(host, "").len(), 2 + 3 + 2 + 3, "{:?}", saved(host, ""));
        // What was made with another backend is as good.
        masquerade.check(Backend::Nftables, &addresses)?;
        run(host, &[&["iptables", "-t", "nat"][..], &missing].concat(), "");
        assert_eq!(check().unwrap_err().msg, expected);
        let (deleted, requests) = record(|| masquerade.del());
        deleted?;
        assert!(requests.iter().all(|request| !request.to_string().contains("execve")), "{requests:?}");
        assert_eq!(saved(host, ""), [""; 0]);
    }
    Ok(())
}

fn del_cleans_up_after_go_plugins_with_iptables_of_nf_tables(sandbox: &Sandbox) -> Result<()> {
    cleans_up_after_go_plugins(sandbox, PATH, "")
}

fn del_cleans_up_after_go_plugins_with_legacy_iptables(sandbox: &Sandbox) -> Result<()> {
    let programs = tempfile::tempdir()?;
    for name in ["iptables", "ip6tables"] {
        symlink(format!("/usr/sbin/{name}-legacy"), programs.path().join(name))?;
    }
    cleans_up_after_go_plugins(sandbox, &format!("{}:{PATH}", programs.path().display()), "-legacy")
}

fn cleans_up_after_go_plugins(sandbox: &Sandbox, path: &str, kind: &str) -> Result<()> {
    let (host, net) = (sandbox.host(), network("net"));
    let other = id("other");
    // So that what iptables itself makes is there before.
    assert_eq!(saved(host, kind), [""; 0]);
    for plugin in ["ptp", "bridge"] {
        let (id, container, neighbour) = (id(plugin), sandbox.container(), sandbox.container());
        let state = tempfile::tempdir()?;
        call_go(plugin, "ADD", &neighbour, &other, state.path(), path);
        let before = saved(host, kind);
        assert!(!before.is_empty());
        call_go(plugin, "ADD", &container, &id, state.path(), path);
        assert_eq!(saved(host, kind).len(), 2 * before.len());
        let masquerade = Masquerade::new(host, &net, &id);
        masquerade.check(Backend::Nftables, &[self::net("10.1.0.2/16")])?;
        masquerade.del()?;
        assert_eq!(saved(host, kind), before, "{plugin}");
        call_go(
            plugin,
            "ADD",
            &sandbox.container(),
            &AttachmentId::parse(plugin, "eth1")?,
            state.path(),
            path,
        );
        masquerade::gc(host, &net, std::slice::from_ref(&other))?;
        assert_eq!(saved(host, kind), before, "{plugin}");
        masquerade::gc(host, &network("another"), &[])?;
        assert_eq!(saved(host, kind), before, "{plugin}");
        masquerade::gc(host, &net, &[])?;
        assert_eq!(saved(host, kind), [""; 0], "{plugin}");
        // Their DEL does not take it well that somebody else has been there; the links would be in the way.
        neighbour.del_link("eth0")?;
    }
    Ok(())
}

/// Somebody goes back to the Go plugins on a host with containers.
fn go_plugins_clean_up_after_us(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let (state, container) = (tempfile::tempdir()?, sandbox.container());
    call_go("ptp", "ADD", &container, &id, state.path(), PATH);
    let masquerade = Masquerade::new(host, &net, &id);
    masquerade.del()?;
    assert_eq!(saved(host, ""), [""; 0]);
    add(&masquerade, Backend::Iptables, &["10.1.0.2/16", "fd00:1::2/64"])?;
    assert_eq!(saved(host, "").len(), 8);
    call_go("ptp", "DEL", &container, &id, state.path(), PATH);
    assert_eq!(saved(host, ""), [""; 0]);
    Ok(())
}

fn gc_cleans_up_in_iptables(sandbox: &Sandbox) -> Result<()> {
    let (host, mine, others, one, other) =
        (sandbox.host(), network("net"), network("net2"), id("one"), id("other"));
    for (net, id, address) in
        [(&mine, &one, "10.1.0.2/16"), (&mine, &other, "10.1.0.3/16"), (&others, &one, "10.2.0.2/16")]
    {
        add(&Masquerade::new(host, net, id), Backend::Iptables, &[address, "fd00::2/64"])?;
    }
    run(host, &["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.9.0.0/16", "-j", "MASQUERADE"], "");
    assert_eq!(saved(host, "").len(), 3 * 8 + 1);
    masquerade::gc(host, &mine, std::slice::from_ref(&other))?;
    assert_eq!(saved(host, "").len(), 2 * 8 + 1);
    Masquerade::new(host, &mine, &other).check(Backend::Iptables, &[net("10.1.0.3/16")])?;
    Masquerade::new(host, &others, &one).check(Backend::Iptables, &[net("10.2.0.2/16")])?;
    masquerade::gc(host, &mine, &[])?;
    masquerade::gc(host, &others, &[])?;
    assert_eq!(saved(host, "").len(), 1);
    Ok(())
}

fn gc_cleans_up_in_legacy_iptables(sandbox: &Sandbox) -> Result<()> {
    let (host, mine) = (sandbox.host(), network("net"));
    for (net, container) in [("net", "one"), ("net", "other"), ("net2", "one")] {
        let (net, id) = (network(net), id(container));
        let chain = names::reference::masquerade_chain(&net, &id);
        let comment = names::reference::masquerade_comment(&net, &id).replace('"', "\\\"");
        let rules = format!(
            "*nat\n:{chain} - [0:0]\n-A {chain} -j MASQUERADE\n\
             -A POSTROUTING -s 10.1.0.2 -m comment --comment \"{comment}\" -j {chain}\nCOMMIT\n"
        );
        run(host, &["iptables-legacy-restore", "--noflush"], &rules);
    }
    run(host, &["iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "RETURN"], "");
    assert_eq!(saved(host, "-legacy").len(), 3 * 3 + 1);
    masquerade::gc(host, &mine, &[id("other")])?;
    assert_eq!(saved(host, "-legacy").len(), 2 * 3 + 1);
    masquerade::gc(host, &mine, &[])?;
    assert_eq!(saved(host, "-legacy").len(), 3 + 1);
    let (net2, one) = (network("net2"), id("one"));
    Masquerade::new(host, &net2, &one).del()?;
    assert_eq!(saved(host, "-legacy"), ["iptables: -A POSTROUTING -j RETURN"]);
    Ok(())
}

/// As the Go plugins from v1.6 on make it.
fn del_and_gc_clean_up_the_table_of_the_go_plugins(sandbox: &Sandbox) -> Result<()> {
    let (host, net, net2) = (sandbox.host(), network("net"), network("net2"));
    let ids = ["one", "other", "third"].map(id);
    let mut text = String::from(
        "add table inet cni_plugins_masquerade { comment \"Masquerading for plugins from github.com/containernetworking/plugins\"; }
        add chain inet cni_plugins_masquerade masq_checks { comment \"Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet\"; }
        add chain inet cni_plugins_masquerade postrouting { type nat hook postrouting priority 100; }
        add rule inet cni_plugins_masquerade postrouting ip daddr == 224.0.0.0/4 return
        add rule inet cni_plugins_masquerade postrouting ip6 daddr == ff00::/8 return
        add rule inet cni_plugins_masquerade postrouting goto masq_checks\n",
    );
    for (net, id) in [(&net, &ids[0]), (&net, &ids[1]), (&net, &ids[2]), (&net2, &ids[0])] {
        let comment = names::owner(net, id);
        for rule in
            ["ip saddr == 10.1.0.2 ip daddr != 10.1.0.0/16", "ip6 saddr == fd00::2 ip6 daddr != fd00::/64"]
        {
            text += &format!(
                "add rule inet cni_plugins_masquerade masq_checks {rule} masquerade comment \"{comment}\"\n"
            );
        }
    }
    run(host, &["nft", "-f", "-"], &text);
    let before = Snapshot::take(host)?;
    let left = || -> Vec<String> {
        let listed =
            run(host, &["nft", "list", "chain", "inet", "cni_plugins_masquerade", "masq_checks"], "");
        let owners =
            listed.lines().filter_map(|line| line.split_once(", net: ").map(|(_, rest)| rest.to_owned()));
        owners.collect()
    };
    let one = Masquerade::new(host, &net, &ids[0]);
    one.check(Backend::Nftables, &[self::net("10.1.0.2/16")])?;
    let (absent, nobody) = (network("absent"), id("nobody"));
    Masquerade::new(host, &absent, &ids[0]).del()?;
    Masquerade::new(host, &net, &nobody).del()?;
    masquerade::gc(host, &absent, &[])?;
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    one.del()?;
    let remaining = ["net, if: eth0, id: other\"", "net, if: eth0, id: third\"", "net2, if: eth0, id: one\""];
    assert_eq!(left(), remaining.map(|whose| [whose; 2]).concat());
    masquerade::gc(host, &net, &ids[2..])?;
    assert_eq!(left(), [remaining[1], remaining[1], remaining[2], remaining[2]]);
    masquerade::gc(host, &net2, &[])?;
    assert_eq!(left(), [remaining[1]; 2]);
    assert!(one.check(Backend::Nftables, &[self::net("10.1.0.2/16")]).is_err());
    Ok(())
}

/// No program, no list, and no rule of anybody else.
fn nothing_is_started_where_nothing_is(sandbox: &Sandbox) -> Result<()> {
    let (host, net, id) = (sandbox.host(), network("net"), id("pod"));
    let (deleted, requests) = record(|| Masquerade::new(host, &net, &id).del());
    deleted?;
    let requests: Vec<String> = requests.iter().map(ToString::to_string).collect();
    let (name, chain) = (names::host_end(&net, &id), names::reference::masquerade_chain(&net, &id));
    let owner = format!("NFT_MSG_GETSETELEM look up element \"{name}\" . 0x00000000 of map inet");
    assert_eq!(
        requests,
        [
            format!("{owner} ferrocni_masquerade owners"),
            format!("{owner} ferrocni_masquerade owners6"),
            "NFT_MSG_GETRULE list rules of chain inet cni_plugins_masquerade masq_checks".into(),
            format!("NFT_MSG_GETCHAIN look up chain ip nat {chain}"),
            format!("NFT_MSG_GETCHAIN look up chain ip6 nat {chain}"),
            "read tables of /proc/thread-self/net/ip_tables_names".into(),
            "read tables of /proc/thread-self/net/ip6_tables_names".into(),
        ]
    );
    Ok(())
}
