//! Gratuitous ARP and unsolicited neighbour advertisements, as they come out at the other end.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cni_linux::testing::{Sandbox, Test, fail_at, kernel, record, tests};
use cni_linux::{AddressSpec, LinkSpec, Mac, Netns, Result, Undo, VethPeer};
use ipnet::IpNet;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        neighbours_are_told_of_both_families => [kernel::veth],
        a_second_address_of_a_subnet_is_announced_as_its_own_sender => [kernel::veth],
        a_link_that_is_down_or_has_no_such_address_is_an_error => [kernel::veth],
        loopback_has_nobody_to_tell,
        what_is_remembered_of_a_neighbour_is_one_request => [kernel::veth],
    ]
}

const MAC: Mac = Mac::new([2, 0, 0, 0, 0xab, 1]);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// A container with `eth0` that leads to the host's `veth0`, both up.
fn connected(sandbox: &Sandbox) -> Result<Netns> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let peer = VethPeer::new("eth0").into_netns(&container).mac(MAC);
    sandbox.host().add_link(LinkSpec::veth("veth0", peer).up(), &mut undo)?;
    container.set_up("eth0")?;
    undo.keep();
    Ok(container)
}

/// A socket that hears every packet in the namespace of this thread (`ETH_P_ALL`).
fn listen() -> OwnedFd {
    let everything = std::num::NonZeroU32::new(u32::from(3_u16.to_be())).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::PACKET, SocketType::RAW, flags, everything).expect("a packet socket")
}

/// The first frame that is like this.
fn hear(socket: &OwnedFd, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut frame = [0; 2048];
    while Instant::now() < deadline {
        match recv(socket, &mut frame, RecvFlags::empty()) {
            Ok((length, _)) if wanted(&frame[..length]) => return frame[..length].to_vec(),
            Ok(_) => {}
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    panic!("nothing was heard");
}

fn neighbours_are_told_of_both_families(sandbox: &Sandbox) -> Result<()> {
    let container = connected(sandbox)?;
    let eth0 = container.link("eth0")?;
    container.add_address(&eth0, net("10.1.2.3/24"))?;
    container.add_address(&eth0, AddressSpec::new(net("fd00::3/64")).without_dad())?;
    let host = listen();
    let (announced, requests) = record(|| container.announce(&eth0, &[ip("10.1.2.3"), ip("fd00::3")]));
    announced?;
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(
        requests,
        [
            r#"RTM_NEWNEIGH announce address 10.1.2.3 on link "eth0""#,
            r#"RTM_DELNEIGH announce address 10.1.2.3 on link "eth0""#,
            r#"announce address fd00::3 on link "eth0""#
        ]
    );
    let arp = hear(&host, |frame| frame[12..14] == [8, 6]);
    let mac = MAC.octets();
    assert_eq!((&arp[..6], &arp[6..12]), (&[0xff; 6][..], &mac[..]), "from us to everybody");
    assert_eq!(arp[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
    assert_eq!(
        (&arp[22..28], &arp[28..32], &arp[38..42]),
        (&mac[..], &[10, 1, 2, 3][..], &[10, 1, 2, 3][..])
    );

    let advertisement = hear(&host, |frame| frame[12..14] == [0x86, 0xdd] && frame[54] == 136);
    assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
    let (header, body) = (&advertisement[14..54], &advertisement[54..]);
    assert_eq!((header[6], header[7]), (58, 255), "ICMPv6, and not routed");
    assert_eq!(header[8..24], [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_ne!(body[2..4], [0, 0], "the checksum");
    assert_eq!((body[4], &body[24..26], &body[26..32]), (0x20, &[2, 1][..], &mac[..]));
    // By name it is one question more.
    assert_eq!(record(|| container.announce("eth0", &[ip("10.1.2.3")])).1.len(), 3);
    Ok(())
}

fn a_second_address_of_a_subnet_is_announced_as_its_own_sender(sandbox: &Sandbox) -> Result<()> {
    let container = connected(sandbox)?;
    let eth0 = container.link("eth0")?;
    let addresses = [ip("10.1.2.3"), ip("10.1.2.4")];
    addresses.iter().try_for_each(|address| container.add_address(&eth0, net(&format!("{address}/24"))))?;
    let host = listen();
    container.announce(&eth0, &addresses)?;
    for last in [3, 4] {
        let of_this = |frame: &[u8]| frame[12..14] == [8, 6] && frame[38..42] == [10, 1, 2, last];
        assert_eq!(hear(&host, of_this)[28..32], [10, 1, 2, last]);
    }
    let table = container.run(|| std::fs::read_to_string("/proc/thread-self/net/arp"))?.expect("the table");
    assert_eq!(table.lines().count(), 1, "nothing is left to be asked again:\n{table}");
    Ok(())
}

fn a_link_that_is_down_or_has_no_such_address_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let container = connected(sandbox)?;
    let error = container.announce("eth0", &[ip("fd00::3")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"announce address fd00::3 on link "eth0": cannot assign requested address"#
    );
    container.set_down("eth0")?;
    let error = container.announce("eth0", &[ip("10.1.2.3")]).unwrap_err();
    assert_eq!(error.to_string(), r#"announce address 10.1.2.3 on link "eth0": network is down"#);
    assert!(container.announce("nosuch", &[ip("10.1.2.3")]).unwrap_err().is_gone());
    container.set_up("eth0")?;
    let injected = fail_at(1, || container.announce("eth0", &[ip("10.1.2.3")]));
    assert!(injected.outcome.unwrap_err().is_injected());
    Ok(())
}

fn loopback_has_nobody_to_tell(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.set_up("lo")?;
    container.announce("lo", &[ip("127.0.0.1"), ip("::1")])
}

fn what_is_remembered_of_a_neighbour_is_one_request(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), connected(sandbox)?);
    let veth = host.link("veth0")?;
    for (ours, theirs, wildcard) in [("10.1.2.1/24", "10.1.2.3", "0.0.0.0"), ("fd00::1/64", "fd00::3", "::")]
    {
        host.add_address(&veth, AddressSpec::new(net(ours)).without_dad())?;
        let theirs_on_link = AddressSpec::new(IpNet::new(ip(theirs), net(ours).prefix_len()).unwrap());
        container.add_address("eth0", theirs_on_link.without_dad())?;
        assert_eq!(host.neighbour(&veth, ip(theirs))?, None);
        let socket = host.run(|| std::net::UdpSocket::bind((ip(wildcard), 0))).unwrap().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while host.neighbour(&veth, ip(theirs))?.is_none() && Instant::now() < deadline {
            socket.send_to(b"hello", (ip(theirs), 9)).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let (found, requests) = record(|| host.neighbour(&veth, ip(theirs)));
        assert_eq!((found?, requests.len()), (Some(MAC), 1));
    }
    assert!(host.neighbour("nosuch", ip("10.1.2.3")).unwrap_err().is_gone());
    Ok(())
}
