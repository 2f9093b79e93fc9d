//! From ADD to DEL and GC.

use std::path::Path;
use std::time::Duration;

use cni_sdk::linux::{LinkSpec, OperState, VethPeer};
use cni_sdk::testing::{Sandbox, Snapshot, Test, break_add, fail_at, kernel, tests};
use cni_sdk::{Netns, Result, Undo};

use super::{GATEWAY, Net, begun, id, ip, reaches, two_pods};

pub(super) fn tests() -> Vec<Test> {
    tests![
        containers_reach_each_other_and_the_host => [kernel::bridge, kernel::veth],
        the_result_says_what_there_is => [kernel::bridge, kernel::veth],
        del_forgives_everything => [kernel::bridge, kernel::veth],
        a_broken_add_leaves_nothing => [kernel::bridge, kernel::veth],
        a_broken_add_of_layer_2_leaves_nothing => [kernel::bridge, kernel::veth],
        a_broken_add_with_masquerade_leaves_nothing => [kernel::bridge, kernel::veth, kernel::nftables],
        a_broken_add_gives_the_addresses_back => [kernel::bridge, kernel::veth],
        a_hundred_at_once_onto_a_bridge_that_is_not_there => [kernel::bridge, kernel::veth],
        a_hundred_at_once_with_masquerade => [kernel::bridge, kernel::veth, kernel::nftables],
        gc_leaves_what_is_valid_and_other_networks_on_the_bridge => [kernel::bridge, kernel::veth, kernel::nftables],
        what_the_go_plugin_made_is_deleted => [kernel::bridge, kernel::veth],
    ]
}

const NET: Net<'_> = Net::new(GATEWAY);

fn containers_reach_each_other_and_the_host(sandbox: &Sandbox) -> Result<()> {
    let [(one, _), (other, _)] = two_pods(sandbox, NET)?;
    let host = sandbox.host();
    for (mine, theirs, gateway) in
        [("10.1.2.2", "10.1.2.3", "10.1.2.1"), ("fd00:1:2::2", "fd00:1:2::3", "fd00:1:2::1")]
    {
        assert!(reaches(&one, &other, theirs) && reaches(&other, &one, mine));
        assert!(reaches(&one, host, gateway) && reaches(host, &one, mine));
    }
    Ok(())
}

fn the_result_says_what_there_is(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let result = NET.pod(2, &container).add()?;
    let [bridge, port, nic] = result.interfaces.as_slice() else { panic!("{result:?}") };
    let (cni0, eth0) = (host.link("cni0")?, container.link("eth0")?);
    let veth = host.link(&NET.host_end("pod2"))?;
    assert_eq!((&*bridge.name, bridge.mac.clone()), ("cni0", cni0.mac().unwrap().to_string()));
    assert_eq!((&*port.name, port.mac.clone()), (&*veth.name, veth.mac().unwrap().to_string()));
    assert_eq!((&*nic.name, nic.mac.clone()), ("eth0", eth0.mac().unwrap().to_string()));
    assert_eq!(nic.sandbox, container.path().unwrap().to_string_lossy());
    assert_eq!((veth.controller(), veth.oper_state()), (Some(cni0.index), OperState::Up));
    assert!(bridge.sandbox.is_empty() && port.sandbox.is_empty() && cni0.is_up());
    let ips: Vec<_> =
        result.ips.iter().map(|ip| (ip.address.to_string(), ip.gateway, ip.interface)).collect();
    assert_eq!(ips[0], ("10.1.2.2/24".into(), Some(ip("10.1.2.1")), Some(2)));
    assert_eq!(ips[1], ("fd00:1:2::2/64".into(), Some(ip("fd00:1:2::1")), Some(2)));
    let routes: Vec<_> = result.routes.iter().map(|route| (route.dst.to_string(), route.gw)).collect();
    assert_eq!(
        routes,
        [("0.0.0.0/0".into(), Some(ip("10.1.2.1"))), ("::/0".into(), Some(ip("fd00:1:2::1")))]
    );
    Ok(())
}

/// In every condition of the reference's list, and more often than ADD.
fn del_forgives_everything(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let pod = NET.pod(2, &container);
    pod.del(None)?;
    begun(sandbox, NET)?;
    let result = pod.add()?;
    pod.del(Some(&result))?;
    let before = Snapshot::take(host)?;
    for netns in
        [container.path().unwrap(), Path::new(""), Path::new("/nonexistent/netns"), Path::new("/etc/passwd")]
    {
        for prev_result in [Some(&result), None] {
            pod.add()?;
            let lost = pod.clone().netns(netns);
            lost.del(prev_result)?;
            lost.del(prev_result)?;
            assert_eq!(before.diff(&Snapshot::take(host)?), Vec::<String>::new());
            assert!(container.link_if_exists("eth0")?.is_none());
        }
    }
    Ok(())
}

fn a_broken_add_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    begun(sandbox, NET)?;
    let changes = break_add(sandbox, |container| NET.pod(2, container));
    assert!(changes >= 9, "{changes}");
    Ok(())
}

fn a_broken_add_of_layer_2_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let net = Net::new(r#""hairpinMode": true, "portIsolation": true"#);
    begun(sandbox, net)?;
    assert!(break_add(sandbox, |container| net.layer2(container)) >= 3);
    Ok(())
}

fn a_broken_add_with_masquerade_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let net = Net::new(r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true"#);
    begun(sandbox, net)?;
    break_add(sandbox, |container| net.pod(2, container));
    Ok(())
}

fn a_broken_add_gives_the_addresses_back(sandbox: &Sandbox) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display();
    let ipam = format!(r#""ipam": {{"type": "host-local", "dataDir": "{path}", "subnet": "10.1.2.0/24"}}"#);
    let pod = |container: &Netns| NET.with_ipam(&ipam, container).state(folder.path());
    begun(sandbox, NET)?;
    // What host-local keeps beside reservations, such as who had the last.
    let container = sandbox.container();
    let result = pod(&container).add()?;
    pod(&container).del(Some(&result))?;
    let left = |folder: &Path| {
        let entries = std::fs::read_dir(folder.join("pods")).unwrap().map(|entry| entry.unwrap().file_name());
        let is_address =
            |name: &std::ffi::OsString| name.to_string_lossy().parse::<std::net::IpAddr>().is_ok();
        entries.filter(is_address).count()
    };
    assert_eq!(left(folder.path()), 0);
    for nth in 1.. {
        let container = sandbox.container();
        let injected = fail_at(nth, || pod(&container).add());
        assert_eq!(left(folder.path()), usize::from(injected.outcome.is_ok()), "change {nth}");
        if !injected.reached {
            break;
        }
    }
    Ok(())
}

fn a_hundred_at_once_onto_a_bridge_that_is_not_there(sandbox: &Sandbox) -> Result<()> {
    at_once(sandbox, NET)
}

fn a_hundred_at_once_with_masquerade(sandbox: &Sandbox) -> Result<()> {
    at_once(sandbox, Net::new(r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true"#))?;
    let snapshot = Snapshot::take(sandbox.host())?;
    let left = |line: &&String| line.contains("element") && !line.contains("subnets");
    assert_eq!(snapshot.lines().iter().find(left), None);
    Ok(())
}

fn at_once(sandbox: &Sandbox, net: Net<'_>) -> Result<()> {
    let pods: Vec<_> = (2..102).map(|nth| (nth, sandbox.container())).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            pods.iter().map(|(nth, container)| scope.spawn(move || net.pod(*nth, container).add())).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap().map(drop))
    })?;
    let host = sandbox.host();
    let bridge = host.link("cni0")?;
    assert_eq!(host.links()?.iter().filter(|link| link.controller() == Some(bridge.index)).count(), 100);
    assert_eq!(host.addresses(&bridge)?.iter().filter(|a| a.net.addr().is_ipv4()).count(), 1);
    let [(_, first), .., (_, last)] = pods.as_slice() else { panic!() };
    assert!(reaches(first, last, "10.1.2.101") && reaches(last, host, "fd00:1:2::1"));
    for (nth, container) in &pods {
        net.pod(*nth, container).del(None)?;
    }
    assert_eq!(host.links()?.iter().filter(|link| link.controller() == Some(bridge.index)).count(), 0);
    Ok(())
}

fn gc_leaves_what_is_valid_and_other_networks_on_the_bridge(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let keys = r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true"#;
    let (net, other) = (Net::new(keys), Net { name: "other", ..Net::new(keys) });
    let containers: Vec<Netns> = (0..5).map(|_| sandbox.container()).collect();
    let result = net.pod(2, &containers[0]).add()?;
    let theirs = other.pod(5, &containers[3]).add()?;
    for link in ["cni0", &net.host_end("pod2"), &other.host_end("pod5")] {
        host.wait_for_addresses(link, Duration::from_secs(10))?;
    }
    let before = Snapshot::take(host)?;
    net.pod(3, &containers[1]).add()?;
    net.pod(4, &containers[2]).add()?;
    let gc = |valid: &[&str]| {
        let valid: Vec<_> = valid.iter().map(|name| id(name)).collect();
        net.pod(2, &containers[0]).gc(&valid)
    };
    gc(&["pod2"])?;
    assert_eq!(before.diff(&Snapshot::take(host)?), Vec::<String>::new());
    net.pod(2, &containers[0]).check(&result)?;
    other.pod(5, &containers[3]).check(&theirs)?;
    assert!(reaches(&containers[0], &containers[3], "10.1.2.5"));
    assert!(containers[1].link_if_exists("eth0")?.is_none());
    gc(&[])?;
    other.pod(5, &containers[3]).check(&theirs)?;
    assert!(host.link_if_exists(&net.host_end("pod2"))?.is_none());
    gc(&[])
}

/// Its ends on the host have random names, and no group.
fn what_the_go_plugin_made_is_deleted(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").up(), &mut undo)?;
    let peer = VethPeer::new("eth0").into_netns(&container);
    host.add_link(LinkSpec::veth("veth1a2b3c4d", peer).controller(bridge.index).up(), &mut undo)?;
    NET.pod(2, &container).gc(&[])?;
    assert!(container.link_if_exists("eth0")?.is_some(), "nobody knows whose it is");
    NET.pod(2, &container).del(None)?;
    assert!(host.link_if_exists("veth1a2b3c4d")?.is_none() && host.link_if_exists("cni0")?.is_some());
    undo.run().unwrap();
    Ok(())
}
