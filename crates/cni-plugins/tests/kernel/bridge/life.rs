//! From ADD to DEL and GC.

use std::path::Path;

use cni_sdk::Result;
use cni_sdk::linux::OperState;
use cni_sdk::testing::{Sandbox, Snapshot, Test, break_add, kernel, tests};

use super::{GATEWAY, Net, ip, reaches, two_pods};

pub(super) fn tests() -> Vec<Test> {
    tests![
        containers_reach_each_other_and_the_host => [kernel::bridge, kernel::veth],
        the_result_says_what_there_is => [kernel::bridge, kernel::veth],
        del_forgives_everything => [kernel::bridge, kernel::veth],
        a_broken_add_leaves_nothing => [kernel::bridge, kernel::veth],
        a_hundred_at_once_onto_a_bridge_that_is_not_there => [kernel::bridge, kernel::veth],
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
    let host = sandbox.host();
    let container = sandbox.container();
    let pod = NET.pod(2, &container);
    pod.del(None)?;
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
    let container = sandbox.container();
    let first = NET.pod(9, &container);
    first.add()?;
    first.del(None)?;
    let changes = break_add(sandbox, |container| NET.pod(2, container));
    assert!(changes >= 9, "{changes}");
    Ok(())
}

fn a_hundred_at_once_onto_a_bridge_that_is_not_there(sandbox: &Sandbox) -> Result<()> {
    at_once(sandbox, NET)
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
