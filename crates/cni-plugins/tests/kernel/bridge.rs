//! bridge in containers of a sandbox: what it makes, what it takes away, and what packets see of it.

mod check;
mod gateway;
mod keys;
mod life;
mod packets;
mod refused;
mod requests;
mod vlans;

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use cni_plugins::PLUGINS;
use cni_plugins::interface::bridge::Bridge;
use cni_sdk::linux::Netns;
use cni_sdk::spec::NetworkName;
use cni_sdk::spec::json;
use cni_sdk::steps::names;
use cni_sdk::testing::{Caller, Sandbox, Test};
use cni_sdk::{AddResult, AttachmentId, Result};

pub(crate) fn tests() -> Vec<Test> {
    [
        life::tests(),
        gateway::tests(),
        keys::tests(),
        check::tests(),
        packets::tests(),
        refused::tests(),
        requests::tests(),
        vlans::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The keys of a network that has everything but the rare: a gateway of both families that the containers use.
const GATEWAY: &str = r#""isDefaultGateway": true"#;

/// A network and what its configuration has beside addresses.
#[derive(Clone, Copy)]
struct Net<'a> {
    name: &'a str,
    keys: &'a str,
}

impl<'a> Net<'a> {
    const fn new(keys: &'a str) -> Net<'a> {
        Net { name: "pods", keys }
    }

    /// The container of this number, with the addresses `10.1.2.<nth>/24` and `fd00:1:2::<nth>/64`.
    fn pod(self, nth: u32, container: &Netns) -> Caller {
        let addresses = [format!("10.1.2.{nth}/24"), format!("fd00:1:2::{nth}/64")];
        self.with_addresses(&addresses.each_ref().map(String::as_str), container)
            .id(&format!("pod{nth}"), "eth0")
    }

    fn with_addresses(self, addresses: &[&str], container: &Netns) -> Caller {
        let addresses: Vec<_> = addresses.iter().map(|a| format!(r#"{{"address": "{a}"}}"#)).collect();
        let ipam = format!(r#""ipam": {{"type": "static", "addresses": [{}]}}"#, addresses.join(", "));
        self.with_ipam(&ipam, container)
    }

    /// Without an IPAM plugin.
    fn layer2(self, container: &Netns) -> Caller {
        self.with_ipam(r#""ipam": {}"#, container)
    }

    fn with_ipam(self, ipam: &str, container: &Netns) -> Caller {
        let separator = if self.keys.is_empty() { "" } else { ", " };
        let (name, keys) = (self.name, self.keys);
        let config = format!(
            r#"{{"cniVersion": "1.1.0", "name": "{name}", "type": "bridge", {keys}{separator}{ipam}}}"#
        );
        assert!(json::check(config.as_bytes()).is_ok(), "{config}");
        Caller::new::<Bridge>(&config).container(container).delegates(PLUGINS)
    }

    fn host_end(self, container_id: &str) -> String {
        names::host_end(&NetworkName::parse(self.name).unwrap(), &id(container_id))
    }
}

fn id(container_id: &str) -> AttachmentId {
    AttachmentId::parse(container_id, "eth0").unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two containers of the network, with the numbers 2 and 3.
fn two_pods(sandbox: &Sandbox, net: Net<'_>) -> Result<[(Netns, AddResult); 2]> {
    let [one, other] = [sandbox.container(), sandbox.container()];
    let (first, second) = (net.pod(2, &one).add()?, net.pod(3, &other).add()?);
    Ok([(one, first), (other, second)])
}

/// A network on which a container is already, so that what is shared is there, and the kernel has nothing left to do in its own
/// time: check the bridge's own addresses.
fn begun(sandbox: &Sandbox, net: Net<'_>) -> Result<()> {
    let host = sandbox.host();
    net.pod(99, &sandbox.container()).add()?;
    host.wait_for_addresses("cni0", Duration::from_secs(10))?;
    host.wait_for_addresses(&net.host_end("pod99"), Duration::from_secs(10))?;
    Ok(())
}

/// A socket in the namespace, with this address.
fn socket(netns: &Netns, address: &str, port: u16) -> UdpSocket {
    netns.run(|| UdpSocket::bind((ip(address), port))).unwrap().unwrap()
}

/// Whom a packet came from that one namespace sends to an address of the other; nobody if it does not come.
fn sent(from: &Netns, to: &Netns, address: &str, within: Duration) -> Option<IpAddr> {
    let wildcard = if ip(address).is_ipv4() { "0.0.0.0" } else { "::" };
    let (server, client) = (socket(to, wildcard, 7), socket(from, wildcard, 0));
    server.set_read_timeout(Some(within)).unwrap();
    client.send_to(b"hello", (ip(address), 7)).unwrap();
    match server.recv_from(&mut [0; 64]) {
        Ok((_, sender)) => Some(sender.ip()),
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(err) => panic!("{err}"),
    }
}

fn reaches(from: &Netns, to: &Netns, address: &str) -> bool {
    sent(from, to, address, Duration::from_secs(5)).is_some()
}

/// For packets that must not come, which are waited for in vain.
fn is_kept_from(from: &Netns, to: &Netns, address: &str) -> bool {
    sent(from, to, address, Duration::from_millis(400)).is_none()
}
