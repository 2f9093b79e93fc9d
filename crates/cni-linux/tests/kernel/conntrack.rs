//! Flows: real ones, of UDP sockets, that are forgotten or left alone.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cni_linux::conntrack::FlowFilter;
use cni_linux::nftables::{
    Addition, Chain, Element, Family, Field, Hook, Kind, Rule, Ruleset, Set, Table, Type, Value,
};
use cni_linux::testing::{Sandbox, Test, fail_at, kernel, record, tests};
use cni_linux::{IpFamily, Netns, Result, Undo};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        flows_are_listed_by_what_they_were_sent_to => [kernel::nftables, kernel::conntrack],
        exactly_those_are_forgotten => [kernel::nftables, kernel::conntrack],
        a_forgotten_flow_finds_the_new_target => [kernel::nftables, kernel::conntrack],
        nothing_to_forget_is_no_error => [kernel::conntrack],
        forgetting_can_fail => [kernel::nftables, kernel::conntrack],
    ]
}

const UDP: u8 = 17;
const TABLE: Table<'_> = Table::new(Family::Inet, "t");

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// Loopback is up, and flows are tracked: that takes a rule that looks at them.
fn tracking(sandbox: &Sandbox) -> Result<&Netns> {
    let host = sandbox.host();
    host.set_up("lo")?;
    let chain = Chain::base(TABLE, "output", Kind::Nat, Hook::Output, -100);
    let (services, service) =
        ([Type::InetProto, Type::InetService], [Field::Protocol, Field::DestinationPort]);
    let ports = Set::map(TABLE, "ports", &services, &[Type::Ipv4Addr, Type::InetService]);
    let rule = Rule::new().is(Field::Ip4Destination, ip("127.0.0.1")).dnat_map(Family::Ip, &service, "ports");
    // No packet has the mark; the rule makes the kernel track both families.
    let postrouting = Chain::base(TABLE, "postrouting", Kind::Nat, Hook::Postrouting, 100);
    let masquerade = Rule::new().is(Field::Mark, Value::Mark(4711)).masquerade();
    let ruleset = Ruleset::new().table(&TABLE).set(&ports).chain(&chain).rules(&chain, [rule]);
    host.ensure_nft(&ruleset.chain(&postrouting).rules(&postrouting, [masquerade]))?;
    Ok(host)
}

/// Sends something from a new socket, and returns the socket.
fn send(address: &str, port: u16) -> UdpSocket {
    let target = to(address, port);
    let any = if target.is_ipv4() { "0.0.0.0" } else { "::" };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.send_to(b"hello", target).unwrap();
    socket
}

fn four() -> FlowFilter {
    FlowFilter::new(IpFamily::V4, UDP)
}

fn six() -> FlowFilter {
    FlowFilter::new(IpFamily::V6, UDP)
}

fn flows_are_listed_by_what_they_were_sent_to(sandbox: &Sandbox) -> Result<()> {
    let host = tracking(sandbox)?;
    let sent = [send("127.0.0.1", 53), send("127.0.0.2", 53), send("127.0.0.1", 54), send("::1", 53)];
    let count = |filter: FlowFilter| host.flows(&filter).map(|flows| flows.len());
    assert_eq!((count(four())?, count(six())?), (3, 1));
    assert_eq!(count(four().destination_ports([53]))?, 2);
    assert_eq!(count(four().destination_ports([53, 54]))?, 3);
    assert_eq!(count(four().destination_ports([54, 55]))?, 1);
    assert_eq!(count(four().destination(ip("127.0.0.1")))?, 2);
    assert_eq!(count(four().destination(ip("127.0.0.1")).destination_ports([53]))?, 1);
    assert_eq!(count(four().reply_source(ip("127.0.0.2")))?, 1);
    assert_eq!(count(six().destination(ip("::1")).reply_source(ip("::1")))?, 1);
    assert_eq!(count(six().destination(ip("::2")))?, 0);
    assert_eq!(count(FlowFilter::new(IpFamily::V4, 6))?, 0, "of TCP");
    let flow = host.flows(&four().destination_ports([54]))?.remove(0);
    let mine = to("127.0.0.1", sent[2].local_addr().unwrap().port());
    assert_eq!((flow.protocol, flow.source, flow.destination), (UDP, mine, to("127.0.0.1", 54)));
    assert_eq!((flow.reply_source, flow.reply_destination), (to("127.0.0.1", 54), mine));
    Ok(())
}

fn exactly_those_are_forgotten(sandbox: &Sandbox) -> Result<()> {
    let host = tracking(sandbox)?;
    let _sent = [send("127.0.0.1", 53), send("127.0.0.1", 53), send("127.0.0.2", 53), send("127.0.0.1", 54)];
    let _six = [send("::1", 53), send("::1", 54)];
    let filter = four().destination(ip("127.0.0.1")).destination_ports([53]);
    let (forgotten, requests) = record(|| host.forget_flows(&filter));
    assert_eq!(forgotten?, 2);
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(requests[0], "IPCTNL_MSG_CT_GET list flows of ipv4 protocol 17 to 127.0.0.1 to port 53");
    assert!(
        requests[1].starts_with("IPCTNL_MSG_CT_DELETE forget flow of protocol 17 from 127.0.0.1:"),
        "{requests:?}"
    );
    assert!(requests[1].ends_with(" to 127.0.0.1:53"), "{requests:?}");
    assert_eq!(requests.len(), 3);
    assert_eq!((host.flows(&four())?.len(), host.flows(&six())?.len()), (2, 2));
    assert_eq!(host.forget_flows(&six().destination_ports([53, 4711]))?, 1);
    let left = host.flows(&six())?;
    assert_eq!((left.len(), left[0].destination), (1, to("::1", 54)));
    assert_eq!(host.forget_flows(&four().reply_source(ip("127.0.0.2")))?, 1);
    assert_eq!(host.flows(&four())?.len(), 1);
    Ok(())
}

/// A port is mapped to one container and then to another, and the client keeps its socket.
fn a_forgotten_flow_finds_the_new_target(sandbox: &Sandbox) -> Result<()> {
    let host = tracking(sandbox)?;
    let service = [Type::InetProto, Type::InetService];
    let ports = Set::map(TABLE, "ports", &service, &[Type::Ipv4Addr, Type::InetService]);
    let map_to = |address: &str| {
        let element = Element::new([Value::Protocol(UDP), Value::Port(53)]);
        let element = element.maps_to([Value::Ip(ip(address)), Value::Port(5353)]);
        let mut undo = Undo::new();
        let added = host.add_nft(&Addition::new().element(&ports, &element), &Ruleset::new(), &mut undo);
        undo.keep();
        added
    };
    let servers = ["127.0.0.11", "127.0.0.12"].map(|address| {
        let socket = UdpSocket::bind((address, 5353)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    });
    let hears = |nth: usize| servers[nth].recv(&mut [0; 16]).is_ok();
    map_to("127.0.0.11")?;
    let client = send("127.0.0.1", 53);
    assert!(hears(0));
    map_to("127.0.0.12")?;
    client.send_to(b"again", to("127.0.0.1", 53)).unwrap();
    assert!(hears(0), "it is still the old one");
    let translated = host.flows(&four().destination_ports([53]))?;
    assert_eq!(translated[0].reply_source, to("127.0.0.11", 5353));
    assert_eq!(host.forget_flows(&four().destination_ports([53]))?, 1);
    client.send_to(b"again", to("127.0.0.1", 53)).unwrap();
    assert!(hears(1));
    assert_eq!(host.forget_flows(&four().reply_source(ip("127.0.0.12")))?, 1);
    Ok(())
}

fn nothing_to_forget_is_no_error(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (forgotten, requests) = record(|| container.forget_flows(&six().destination_ports([53])));
    assert_eq!((forgotten?, requests.len()), (0, 1));
    Ok(())
}

fn forgetting_can_fail(sandbox: &Sandbox) -> Result<()> {
    let host = tracking(sandbox)?;
    let _sent = send("127.0.0.1", 53);
    let injected = fail_at(1, || host.forget_flows(&four()));
    let error = injected.outcome.unwrap_err();
    assert!(
        error.is_injected() && error.to_string().starts_with("forget flow of protocol 17 from "),
        "{error}"
    );
    assert_eq!(host.forget_flows(&four())?, 1);
    Ok(())
}
