//! Listening sockets: who has a port, and who has it only on its side of a connection.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use cni_linux::socket::Listener;
use cni_linux::testing::{Sandbox, Test, record, tests};
use cni_linux::{Netns, Result};
use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen, socket, sockopt};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        listeners_of_both_families_are_found,
        udp_sockets_listen_unless_they_are_connected,
        ends_of_connections_are_none,
        dual_stack_is_told_from_ipv6_alone,
        the_process_is_named,
        protocols_that_the_kernel_lacks_have_no_listeners,
        another_namespace_has_its_own,
    ]
}

const TCP: u8 = 6;
const UDP: u8 = 17;

fn addresses(listeners: &[Listener]) -> Vec<String> {
    let mut addresses: Vec<_> = listeners.iter().map(|listener| listener.address.to_string()).collect();
    addresses.sort();
    addresses
}

fn listeners_of_both_families_are_found(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.set_up("lo")?;
    assert!(host.listeners(TCP, 80)?.is_empty());
    let _listening = [
        TcpListener::bind("127.0.0.1:80").unwrap(),
        TcpListener::bind("127.0.0.2:80").unwrap(),
        TcpListener::bind("[::1]:80").unwrap(),
        TcpListener::bind("127.0.0.1:81").unwrap(),
    ];
    let (found, requests) = record(|| host.listeners(TCP, 80));
    let found = found?;
    assert_eq!(addresses(&found), ["127.0.0.1:80", "127.0.0.2:80", "[::1]:80"]);
    assert!(found.iter().all(|listener| listener.protocol == TCP && listener.user == 0), "{found:?}");
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(requests, ["SOCK_DIAG_BY_FAMILY list sockets of protocol 6 on port 80"; 2]);
    assert!(host.listeners(UDP, 80)?.is_empty(), "that is another protocol");
    Ok(())
}

fn udp_sockets_listen_unless_they_are_connected(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.set_up("lo")?;
    let _listening = UdpSocket::bind("127.0.0.1:53").unwrap();
    let connected = UdpSocket::bind("127.0.0.2:53").unwrap();
    connected.connect("127.0.0.1:53").unwrap();
    assert_eq!(addresses(&host.listeners(UDP, 53)?), ["127.0.0.1:53"]);
    assert!(host.listeners(TCP, 53)?.is_empty());
    Ok(())
}

fn ends_of_connections_are_none(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.set_up("lo")?;
    let listening = TcpListener::bind("127.0.0.1:80").unwrap();
    let client = TcpStream::connect("127.0.0.1:80").unwrap();
    let _server = listening.accept().unwrap();
    assert_eq!(host.listeners(TCP, 80)?.len(), 1);
    assert!(host.listeners(TCP, client.local_addr().unwrap().port())?.is_empty());
    drop(listening);
    assert!(host.listeners(TCP, 80)?.is_empty());
    Ok(())
}

fn dual_stack_is_told_from_ipv6_alone(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.set_up("lo")?;
    let open = |port: u16, only: bool| -> OwnedFd {
        let open = socket(AddressFamily::INET6, SocketType::STREAM, Some(ipproto::TCP)).unwrap();
        sockopt::set_ipv6_v6only(&open, only).unwrap();
        bind(&open, &SocketAddr::from(([0_u16; 8], port))).unwrap();
        listen(&open, 1).unwrap();
        open
    };
    let _open = [open(80, false), open(81, true)];
    let on_ipv4 = |port| -> Result<Vec<bool>> {
        let found = host.listeners(TCP, port)?;
        Ok(found.iter().map(|listener| listener.listens_on([192, 0, 2, 1].into())).collect())
    };
    assert_eq!((on_ipv4(80)?, on_ipv4(81)?), (vec![true], vec![false]));
    Ok(())
}

fn the_process_is_named(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.set_up("lo")?;
    let _listening = TcpListener::bind("127.0.0.1:80").unwrap();
    let found = host.listeners(TCP, 80)?;
    let process = found[0].process().expect("it is this one");
    assert_eq!(process.id, std::process::id());
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(process.to_string(), format!("{} (pid {})", name.trim_end(), std::process::id()));
    Ok(())
}

fn protocols_that_the_kernel_lacks_have_no_listeners(sandbox: &Sandbox) -> Result<()> {
    // Nobody has one for the protocol that is for experiments; SCTP may be there or not.
    assert!(sandbox.host().listeners(253, 80)?.is_empty());
    assert!(sandbox.host().listeners(132, 80)?.is_empty());
    Ok(())
}

fn another_namespace_has_its_own(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    container.set_up("lo")?;
    let _listening = container.run(|| TcpListener::bind("127.0.0.1:80").unwrap())?;
    assert!(host.listeners(TCP, 80)?.is_empty());
    assert_eq!(container.listeners(TCP, 80)?.len(), 1);
    assert_eq!(container.run(|| Netns::current()?.listeners(TCP, 80))??.len(), 1);
    Ok(())
}
