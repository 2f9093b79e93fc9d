//! What the tests of masquerading share: identities, containers behind the host, somebody outside, sockets.

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use cni_sdk::linux::{AddressSpec, LinkSpec, RouteSpec, VethPeer};
use cni_sdk::spec::NetworkName;
use cni_sdk::steps::masquerade::{Backend, Masquerade};
use cni_sdk::testing::{Sandbox, Snapshot};
use cni_sdk::{AttachmentId, Netns, Result, Undo};
use ipnet::IpNet;

pub(crate) use cni_sdk::linux::nftables::{Chain, Family, Table};

pub(crate) const TABLE: Table<'_> = Table::new(Family::Inet, "ferrocni_masquerade");
pub(crate) const CHAINS: [Chain<'_>; 2] = [Chain::new(TABLE, "postrouting"), Chain::new(TABLE, "checks")];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

pub(crate) fn network(name: &str) -> NetworkName {
    NetworkName::parse(name).expect("a name")
}

pub(crate) fn id(container: &str) -> AttachmentId {
    AttachmentId::parse(container, "eth0").expect("an identity")
}

/// Masquerades, and keeps it.
pub(crate) fn add(of: &Masquerade<'_>, backend: Backend, addresses: &[&str]) -> Result<()> {
    let mut undo = Undo::new();
    let addresses: Vec<IpNet> = addresses.iter().map(|text| net(text)).collect();
    of.add(backend, &addresses, &mut undo)?;
    undo.keep();
    Ok(())
}

/// What a program prints in the namespace.
pub(crate) fn run(netns: &Netns, program: &[&str], input: &str) -> String {
    let output = netns.run(|| {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program is installed");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.unwrap();
    assert!(output.status.success(), "{program:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of nft's rule set that say what is in it, without what is always there once it has been used.
pub(crate) fn ruleset(netns: &Netns) -> Vec<String> {
    let lines = Snapshot::take(netns).unwrap().lines().to_vec();
    lines.into_iter().filter(|line| line.starts_with("nft ")).collect()
}

/// The elements of the sets and maps of our table, but for the subnets, which stay.
pub(crate) fn elements(netns: &Netns) -> Vec<String> {
    let is_element = |line: &String| line.contains(" / element ") && !line.contains(" / set subnets");
    ruleset(netns).into_iter().filter(is_element).collect()
}

pub(crate) fn rules(netns: &Netns) -> Vec<usize> {
    CHAINS.iter().map(|chain| netns.nft_rules(chain).unwrap().len()).collect()
}

/// A socket in the namespace, with this address. Its port is the kernel's choice: other tests start programs, which for a moment
/// keep open what has been closed here.
pub(crate) fn socket(netns: &Netns, address: &str) -> UdpSocket {
    netns.run(|| UdpSocket::bind((ip(address), 0))).unwrap().unwrap()
}

/// Whom the next packet came from.
pub(crate) fn received(socket: &UdpSocket) -> SocketAddr {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut packet = [0; 64];
    match socket.recv_from(&mut packet) {
        Ok((_, from)) => from,
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => panic!("no packet"),
        Err(err) => panic!("{err}"),
    }
}

fn with_dad_off(netns: &Netns) -> Result<()> {
    let keys = [("net/ipv6/conf/default/accept_dad", "0"), ("net/ipv6/conf/all/accept_dad", "0")];
    Ok(netns.ensure_sysctls(&keys)?)
}

/// A container that reaches everything by way of the host, and has these addresses.
pub(crate) fn pod(sandbox: &Sandbox, name: &str, addresses: [&str; 2]) -> Result<Netns> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    with_dad_off(&container)?;
    let peer = VethPeer::new("eth0").into_netns(&container);
    let veth = host.add_link(LinkSpec::veth(name, peer).up(), &mut undo)?;
    undo.keep();
    let eth0 = container.link("eth0")?;
    container.set_up(&eth0)?;
    for (address, gateway, everywhere) in
        [(addresses[0], "10.1.0.1", "0.0.0.0/0"), (addresses[1], "fd00:1::1", "::/0")]
    {
        let (address, gateway) = (IpNet::from(ip(address)), ip(gateway));
        container.add_address(&eth0, AddressSpec::new(address))?;
        container.add_route(&RouteSpec::new(gateway.into()).device(eth0.index))?;
        container.add_route(&RouteSpec::new(net(everywhere)).gateway(gateway).device(eth0.index))?;
        host.add_address(&veth, IpNet::from(gateway))?;
        host.add_route(&RouteSpec::new(address).device(veth.index))?;
    }
    Ok(container)
}

/// Somebody on the network that the host is on, who knows nothing of the containers.
pub(crate) fn outside(sandbox: &Sandbox) -> Result<Netns> {
    let (host, outside, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    with_dad_off(host)?;
    with_dad_off(&outside)?;
    cni_sdk::steps::forwarding::ensure(host, true, true)?;
    let peer = VethPeer::new("eth0").into_netns(&outside);
    let uplink = host.add_link(LinkSpec::veth("uplink", peer).up(), &mut undo)?;
    undo.keep();
    for (ours, theirs) in [("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")] {
        host.add_address(&uplink, net(ours))?;
        outside.add_address("eth0", net(theirs))?;
    }
    outside.set_up("eth0")?;
    Ok(outside)
}
