//! The socket's manners: what it does when the kernel is not plain sailing.

use std::sync::atomic::{AtomicBool, Ordering};

use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{Errno, LinkSpec, Netns, Result, Undo, VethPeer};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_dump_is_read_again_when_links_come_and_go => [kernel::bridge],
        a_dump_of_many_datagrams_is_whole => [kernel::bridge],
        a_refusal_leaves_the_socket_usable,
        strangers_messages_are_ignored,
        one_socket_serves_many_threads => [kernel::veth],
    ]
}

/// While links come and go, a list is read again whenever the kernel says that it is inconsistent, and is whole in the
/// end; or it is refused in clear words. Dozens of lists have to be read until one is inconsistent.
fn a_dump_is_read_again_when_links_come_and_go(sandbox: &Sandbox) -> Result<()> {
    const STAY: usize = 60;
    let (host, mut undo) = (sandbox.host(), Undo::new());
    for nth in 0..STAY {
        host.add_link(LinkSpec::bridge(format!("stay{nth}")), &mut undo)?;
    }
    let stop = AtomicBool::new(false);
    let (whole, again) = std::thread::scope(|scope| {
        scope.spawn(|| come_and_go(&stop));
        let (mut whole, mut again) = (0, 0);
        for _ in 0..2000 {
            let (links, attempts) = record(|| host.links());
            match links {
                Ok(links) => {
                    let stayed = links.iter().filter(|link| link.name.starts_with("stay")).count();
                    assert_eq!(stayed, STAY);
                    whole += 1;
                    again += attempts.len() - 1;
                }
                Err(error) => {
                    let text = "list links: the table kept changing while it was read, 5 times over";
                    assert_eq!((error.to_string().as_str(), error.errno()), (text, Some(Errno::INTR)));
                    assert_eq!(attempts.len(), 5);
                }
            }
            if whole >= 10 && again >= 3 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        (whole, again)
    });
    assert!(again >= 3, "of {whole} lists only {again} were inconsistent at first");
    undo.keep();
    Ok(())
}

/// Makes links and deletes them, through a socket of its own, so as not to wait for others' dumps.
fn come_and_go(stop: &AtomicBool) {
    let host = Netns::current().expect("the thread is in the host's namespace");
    while !stop.load(Ordering::Relaxed) {
        let mut undo = Undo::new();
        for nth in 0..5 {
            host.add_link(LinkSpec::bridge(format!("churn{nth}")), &mut undo).expect("a bridge can be made");
        }
        undo.run().expect("a bridge can be deleted");
    }
}

fn a_dump_of_many_datagrams_is_whole(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    for nth in 0..100 {
        host.add_link(LinkSpec::bridge(format!("br{nth}")), &mut undo)?;
    }
    let mut names: Vec<_> = host.links()?.into_iter().map(|link| link.name).collect();
    assert_eq!(names.len(), 101);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 101);
    undo.keep();
    Ok(())
}

fn a_refusal_leaves_the_socket_usable(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    for _ in 0..3 {
        assert!(host.link("nope").is_err());
        assert!(host.set_mtu("lo", u32::MAX).is_err());
        assert_eq!(host.link("lo")?.name, "lo");
        assert_eq!(host.links()?.len(), 1);
    }
    Ok(())
}

/// Whoever is privileged in a namespace may send to the sockets in it; ports are process ids, and easily guessed.
fn strangers_messages_are_ignored(sandbox: &Sandbox) -> Result<()> {
    use rustix::net::{AddressFamily, SendFlags, SocketType, netlink, sendto, socket};
    let host = sandbox.host();
    host.link("lo")?;
    let stranger = socket(AddressFamily::NETLINK, SocketType::DGRAM, None).expect("a socket");
    // "No", to the next request: an acknowledgement with an error, under the next sequence number.
    let mut forged = Vec::new();
    forged.extend(36_u32.to_ne_bytes());
    forged.extend(2_u16.to_ne_bytes());
    forged.extend(0_u16.to_ne_bytes());
    forged.extend(2_u32.to_ne_bytes());
    forged.extend(0_u32.to_ne_bytes());
    forged.extend((-1_i32).to_ne_bytes());
    forged.extend([0; 16]);
    let mut sent = 0;
    let listening = std::fs::read_to_string("/proc/thread-self/net/netlink").expect("procfs");
    for line in listening.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let (protocol, port) = (fields.next(), fields.next().and_then(|port| port.parse().ok()));
        if let (Some("0"), Some(port @ 1..)) = (protocol, port) {
            let to = netlink::SocketAddrNetlink::new(port, 0);
            sent += usize::from(sendto(&stranger, &forged, SendFlags::empty(), &to).is_ok());
        }
    }
    assert!(sent > 0, "nothing was forged: {listening}");
    assert_eq!(host.link("lo")?.name, "lo");
    assert_eq!(host.links()?.len(), 1);
    Ok(())
}

fn one_socket_serves_many_threads(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    for nth in 0..8 {
        host.add_link(LinkSpec::veth(format!("a{nth}"), VethPeer::new(format!("b{nth}"))), &mut undo)?;
    }
    std::thread::scope(|scope| {
        for nth in 0..8 {
            scope.spawn(move || {
                for mtu in 1000..1050 {
                    host.set_mtu(&format!("a{nth}"), mtu).unwrap();
                    assert_eq!(host.link(&format!("a{nth}")).unwrap().mtu, mtu);
                    assert_eq!(host.links().unwrap().len(), 17);
                }
            });
        }
    });
    undo.run().unwrap();
    Ok(())
}
