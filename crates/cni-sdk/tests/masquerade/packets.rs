//! What becomes of packets.

use cni_sdk::steps::forwarding;
use cni_sdk::steps::masquerade::{Backend, Masquerade};
use cni_sdk::testing::{Sandbox, Test, kernel, record, tests};
use cni_sdk::{Netns, Result};

use super::kit::{add, id, ip, net, network, outside, pod, received, socket};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        nftables_masquerades_to_the_world_alone => [kernel::veth, kernel::nftables],
        iptables_masquerades_to_the_world_alone => [kernel::veth, kernel::iptables],
        forwarding_is_written_only_if_it_is_off,
    ]
}

fn nftables_masquerades_to_the_world_alone(sandbox: &Sandbox) -> Result<()> {
    masquerades_to_the_world_alone(sandbox, Backend::Nftables)
}

fn iptables_masquerades_to_the_world_alone(sandbox: &Sandbox) -> Result<()> {
    masquerades_to_the_world_alone(sandbox, Backend::Iptables)
}

fn masquerades_to_the_world_alone(sandbox: &Sandbox, backend: Backend) -> Result<()> {
    let host = sandbox.host();
    let outside = outside(sandbox)?;
    let one = pod(sandbox, "veth1", ["10.1.0.2", "fd00:1::2"])?;
    let other = pod(sandbox, "veth2", ["10.1.0.3", "fd00:1::3"])?;
    let (net, id) = (network("net"), id("one"));
    let masquerade = Masquerade::new(host, &net, &id);
    let families = [
        ("0.0.0.0", "10.1.0.2", "10.1.0.3", "192.0.2.2", "192.0.2.1"),
        ("::", "fd00:1::2", "fd00:1::3", "2001:db8::2", "2001:db8::1"),
    ];
    let seen = |from: &Netns, address: &str, wildcard: &str| {
        // Sockets of their own each time: the kernel remembers what it did to the packets of a connection.
        let by = if address.contains("10.1.0") || address.starts_with("fd00") { &other } else { &outside };
        let server = socket(by, wildcard);
        let port = server.local_addr().unwrap().port();
        socket(from, wildcard).send_to(b"hello", (ip(address), port)).unwrap();
        received(&server).ip()
    };
    for (wildcard, mine, _, target, _) in families {
        assert_eq!(seen(&one, target, wildcard), ip(mine), "nothing is there yet");
    }
    add(&masquerade, backend, &["10.1.0.2/16", "fd00:1::2/64"])?;
    for (wildcard, mine, neighbour, target, uplink) in families {
        assert_eq!(seen(&one, target, wildcard), ip(uplink));
        assert_eq!(seen(&one, neighbour, wildcard), ip(mine), "they are in one subnet");
        assert_eq!(seen(&other, target, wildcard), ip(neighbour), "nobody asked for it");
        // Answers find their way back.
        let (server, client) = (socket(&outside, wildcard), socket(&one, wildcard));
        client.send_to(b"hello", (ip(target), server.local_addr()?.port())).unwrap();
        server.send_to(b"hello yourself", received(&server)).unwrap();
        assert_eq!(received(&client).ip(), ip(target));
    }
    multicast_is_left_alone(host, &outside, backend)?;
    masquerade.del()?;
    for (wildcard, mine, _, target, _) in families {
        assert_eq!(seen(&one, target, wildcard), ip(mine), "it is over");
    }
    Ok(())
}

/// A router of multicast is more than is needed: the host itself sends from an address that is masqueraded.
fn multicast_is_left_alone(host: &Netns, outside: &Netns, backend: Backend) -> Result<()> {
    host.add_address("uplink", net("10.2.0.9/32"))?;
    let (network, id) = (network("net"), id("multicast"));
    add(&Masquerade::new(host, &network, &id), backend, &["10.2.0.9/24"])?;
    let far = socket(outside, "0.0.0.0");
    let port = far.local_addr()?.port();
    far.join_multicast_v4(&"239.1.1.1".parse()?, &"192.0.2.2".parse()?)?;
    let near = socket(host, "10.2.0.9");
    near.send_to(b"hello", (ip("239.1.1.1"), port))?;
    assert_eq!(received(&far).ip(), ip("10.2.0.9"));
    near.send_to(b"hello", (ip("192.0.2.2"), port))?;
    assert_eq!(received(&far).ip(), ip("192.0.2.1"), "but that would have been");
    Ok(())
}

fn forwarding_is_written_only_if_it_is_off(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let (v4, v6) = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding");
    forwarding::status(host, true, true)?;
    assert_eq!((host.sysctl(v4)?, host.sysctl(v6)?), ("0".into(), "0".into()), "asking turns nothing on");
    forwarding::ensure(host, true, false)?;
    assert_eq!((host.sysctl(v4)?, host.sysctl(v6)?), ("1".into(), "0".into()));
    let (ensured, requests) = record(|| forwarding::ensure(host, true, true));
    ensured?;
    assert_eq!(requests.iter().filter(|request| request.change).count(), 1, "{requests:?}");
    host.ensure_sysctls(&[(v6, "2")])?;
    forwarding::ensure(host, true, true)?;
    assert_eq!(host.sysctl(v6)?, "2", "that is on as well");
    Ok(())
}
