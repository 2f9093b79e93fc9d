//! Packets: what firewall rules and bridge ports really do to them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use cni_linux::bridge::Vlans;
use cni_linux::nftables::{
    Addition, Chain, Element, Family, Field, Hook, Kind, Removal, Rule, Ruleset, Set, State, Table, Type,
    Value, Verdict,
};
use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{AddressSpec, LinkChange, LinkSpec, Mac, Netns, Result, RouteSpec, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        sources_are_masqueraded_and_their_own_subnet_is_not => [kernel::veth, kernel::nftables],
        multicast_is_not_masqueraded => [kernel::veth, kernel::nftables],
        spoofed_hardware_addresses_are_dropped => [kernel::veth, kernel::bridge, kernel::nftables],
        what_is_forwarded_depends_on_the_flow => [kernel::veth, kernel::nftables],
        a_mark_says_who_is_masqueraded => [kernel::veth, kernel::nftables],
        ports_are_mapped_by_a_map => [kernel::veth, kernel::nftables],
        isolated_ports_do_not_talk => [kernel::veth, kernel::bridge],
        a_port_talks_to_itself_by_hairpin => [kernel::veth, kernel::bridge, kernel::macvlan],
        ports_of_different_vlans_do_not_talk => [kernel::veth, kernel::bridge_vlans],
    ]
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// A socket in the namespace, with this address.
fn socket(netns: &Netns, address: &str, port: u16) -> UdpSocket {
    netns.run(|| UdpSocket::bind((ip(address), port))).unwrap().unwrap()
}

/// Whom a packet came from that was sent, and whether it came at all.
fn received(socket: &UdpSocket, within: Duration) -> Option<SocketAddr> {
    socket.set_read_timeout(Some(within)).unwrap();
    let mut packet = [0; 64];
    match socket.recv_from(&mut packet) {
        Ok((_, from)) => Some(from),
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(err) => panic!("{err}"),
    }
}

fn must_come(socket: &UdpSocket) -> IpAddr {
    received(socket, Duration::from_secs(10)).expect("a packet").ip()
}

fn must_not_come(socket: &UdpSocket) {
    assert_eq!(received(socket, Duration::from_millis(400)), None);
}

fn with_dad_off(netns: &Netns) -> Result<()> {
    netns.ensure_sysctls(&[("net/ipv6/conf/default/accept_dad", "0"), ("net/ipv6/conf/all/accept_dad", "0")])
}

/// A container that reaches everything by way of the host, and has these addresses.
fn pod(sandbox: &Sandbox, name: &str, addresses: [&str; 2]) -> Result<Netns> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    with_dad_off(&container)?;
    let peer = VethPeer::new("eth0").into_netns(&container);
    let veth = host.add_link(LinkSpec::veth(name, peer).up(), &mut undo)?;
    undo.keep();
    let eth0 = container.link("eth0")?;
    for (address, gateway, everywhere) in
        [(addresses[0], "10.1.0.1", "0.0.0.0/0"), (addresses[1], "fd00:1::1", "::/0")]
    {
        let (address, gateway) = (IpNet::from(ip(address)), ip(gateway));
        container.add_address(&eth0, AddressSpec::new(address))?;
        if container.link(&eth0)?.is_up() {
            container.add_route(&RouteSpec::new(gateway.into()).device(eth0.index))?;
        } else {
            container.set_up(&eth0)?;
            container.add_route(&RouteSpec::new(gateway.into()).device(eth0.index))?;
        }
        container.add_route(&RouteSpec::new(net(everywhere)).gateway(gateway).device(eth0.index))?;
        host.add_address(&veth, IpNet::from(gateway))?;
        host.add_route(&RouteSpec::new(address).device(veth.index))?;
    }
    Ok(container)
}

/// Somebody on the network that the host is on, who knows nothing of the containers.
fn outside(sandbox: &Sandbox) -> Result<Netns> {
    let (host, outside, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    with_dad_off(host)?;
    with_dad_off(&outside)?;
    let forwarding = [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];
    host.ensure_sysctls(&forwarding)?;
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

const MASQUERADE: Table<'_> = Table::new(Family::Inet, "masquerade");
const SOURCES: [Set<'_>; 2] =
    [Set::new(MASQUERADE, "sources", &[Type::Ipv4Addr]), Set::new(MASQUERADE, "sources6", &[Type::Ipv6Addr])];
const SUBNETS: [Set<'_>; 2] = [
    Set::new(MASQUERADE, "subnets", &[Type::Ipv4Addr, Type::Ipv4Addr]).interval(),
    Set::new(MASQUERADE, "subnets6", &[Type::Ipv6Addr, Type::Ipv6Addr]).interval(),
];

/// One lookup for the source, and for those that are found there one more: whatever the number of containers.
fn masquerade() -> Ruleset {
    let checks = Chain::new(MASQUERADE, "checks");
    let postrouting = Chain::base(MASQUERADE, "postrouting", Kind::Nat, Hook::Postrouting, 100);
    let (four, six) = ([Field::Ip4Source, Field::Ip4Destination], [Field::Ip6Source, Field::Ip6Destination]);
    let goto = || Verdict::Goto("checks".into());
    let subnets = [(0, "10.1.0.0/16"), (1, "fd00:1::/64")];
    let ruleset = Ruleset::new().table(&MASQUERADE);
    let ruleset = SOURCES.iter().chain(&SUBNETS).fold(ruleset, |ruleset, set| ruleset.set(set));
    let ruleset = subnets.into_iter().fold(ruleset, |ruleset, (family, subnet)| {
        ruleset.element(&SUBNETS[family], &Element::new([net(subnet).into(), net(subnet).into()]))
    });
    let stays = [
        Rule::new().is(Field::Ip4Destination, net("224.0.0.0/4")).verdict(Verdict::Return),
        Rule::new().is(Field::Ip6Destination, net("ff00::/8")).verdict(Verdict::Return),
        Rule::new().is_in(&four, "subnets").verdict(Verdict::Return),
        Rule::new().is_in(&six, "subnets6").verdict(Verdict::Return),
        Rule::new().masquerade(),
    ];
    let from = [
        Rule::new().is_in(&[Field::Ip4Source], "sources").verdict(goto()),
        Rule::new().is_in(&[Field::Ip6Source], "sources6").verdict(goto()),
    ];
    ruleset.chain(&checks).rules(&checks, stays).chain(&postrouting).rules(&postrouting, from)
}

fn sources_are_masqueraded_and_their_own_subnet_is_not(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let outside = outside(sandbox)?;
    let one = pod(sandbox, "veth1", ["10.1.0.2", "fd00:1::2"])?;
    let other = pod(sandbox, "veth2", ["10.1.0.3", "fd00:1::3"])?;
    for (family, wildcard, mine, neighbour, target, uplink) in [
        (0, "0.0.0.0", "10.1.0.2", "10.1.0.3", "192.0.2.2", "192.0.2.1"),
        (1, "::", "fd00:1::2", "fd00:1::3", "2001:db8::2", "2001:db8::1"),
    ] {
        let (far, near) = (socket(&outside, wildcard, 7), socket(&other, wildcard, 7));
        let seen_from = |address: &str, by: &UdpSocket| {
            // A socket of its own each time: the kernel remembers what it did to the packets of a connection.
            socket(&one, wildcard, 0).send_to(b"hello", to(address, 7)).unwrap();
            must_come(by)
        };
        assert_eq!(seen_from(target, &far), ip(mine), "nothing is there yet");
        let (mut undo, element) = (Undo::new(), Element::new([Value::Ip(ip(mine))]).comment("pod"));
        let addition = Addition::new().element(&SOURCES[family], &element);
        host.add_nft(&addition, &masquerade(), &mut undo)?;
        assert_eq!(seen_from(target, &far), ip(uplink));
        assert_eq!(seen_from(neighbour, &near), ip(mine), "they are in one subnet");
        // Answers find their way back.
        let (from, client) = (socket(&outside, wildcard, 8), socket(&one, wildcard, 0));
        client.send_to(b"hello", to(target, 8)).unwrap();
        let return_to = received(&from, Duration::from_secs(10)).expect("a packet");
        from.send_to(b"hello yourself", return_to).unwrap();
        assert_eq!(must_come(&client), ip(target));
        // What is not in the set is left alone.
        socket(&other, wildcard, 0).send_to(b"hello", to(target, 7)).unwrap();
        assert_eq!(must_come(&far), ip(neighbour));
        undo.run().unwrap();
        assert_eq!(seen_from(target, &far), ip(mine), "it is undone");
    }
    Ok(())
}

fn multicast_is_not_masqueraded(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let outside = outside(sandbox)?;
    // A router of multicast is more than is needed: the host itself sends from an address in the set.
    host.add_address("uplink", net("10.1.0.9/32"))?;
    let source = Element::new([Value::Ip(ip("10.1.0.9"))]);
    host.add_nft(&Addition::new().element(&SOURCES[0], &source), &masquerade(), &mut undo)?;
    let far = socket(&outside, "0.0.0.0", 7);
    far.join_multicast_v4(&"239.1.1.1".parse().unwrap(), &"192.0.2.2".parse().unwrap()).unwrap();
    let near = socket(host, "10.1.0.9", 0);
    near.send_to(b"hello", to("239.1.1.1", 7)).unwrap();
    assert_eq!(must_come(&far), ip("10.1.0.9"));
    near.send_to(b"hello", to("192.0.2.2", 7)).unwrap();
    assert_eq!(must_come(&far), ip("192.0.2.1"), "but that would have been");
    undo.run().unwrap();
    Ok(())
}

/// Containers on a bridge: `eth0` of each has the address, and its port is named.
fn bridged(sandbox: &Sandbox, bridge: LinkSpec, addresses: &[(&str, &str)]) -> Result<Vec<Netns>> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(bridge.up(), &mut undo)?.index;
    let mut containers = Vec::new();
    for (port, address) in addresses {
        let container = sandbox.container();
        let peer = VethPeer::new("eth0").into_netns(&container);
        host.add_link(LinkSpec::veth(*port, peer).controller(bridge).up(), &mut undo)?;
        container.add_address("eth0", net(address))?;
        container.set_up("eth0")?;
        containers.push(container);
    }
    undo.keep();
    Ok(containers)
}

const PORTS: [(&str, &str); 2] = [("veth0", "10.1.0.2/24"), ("veth1", "10.1.0.3/24")];

fn spoofed_hardware_addresses_are_dropped(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let pods = bridged(sandbox, LinkSpec::bridge("cni0"), &PORTS)?;
    let table = Table::new(Family::Bridge, "spoofing");
    let known = Set::new(table, "known", &[Type::Ifname, Type::EtherAddr]);
    let checked = Set::verdict_map(table, "checked", &[Type::Ifname]);
    // No rule looks there: it is for whoever has to find out, by the name of the port alone, what is to be deleted.
    let macs = Set::map(table, "macs", &[Type::Ifname], &[Type::EtherAddr]);
    let prerouting = Chain::base(table, "prerouting", Kind::Filter, Hook::Prerouting, -300);
    let rules = [
        Rule::new().is_in(&[Field::Iifname, Field::EtherSource], "known").verdict(Verdict::Return),
        Rule::new().verdict_map(&[Field::Iifname], "checked"),
    ];
    let shared = Ruleset::new().table(&table).set(&known).set(&checked).set(&macs);
    let shared = shared.chain(&prerouting).rules(&prerouting, rules);
    let mac = pods[0].link("eth0")?.mac().expect("it has one");
    let (port, pair) = (Element::new(["veth0".into()]), |mac| Element::new(["veth0".into(), mac]));
    let addition = Addition::new()
        .element(&known, &pair(mac.into()))
        .element(&checked, &port.clone().verdict(Verdict::Drop).comment("pod"))
        .element(&macs, &port.clone().maps_to([mac.into()]));
    let (added, requests) = record(|| host.add_nft(&addition, &shared, &mut undo));
    added?;
    assert_eq!(requests.iter().filter(|request| request.change).count(), 1);

    let server = socket(&pods[1], "0.0.0.0", 7);
    let send = || socket(&pods[0], "0.0.0.0", 0).send_to(b"hello", to("10.1.0.3", 7));
    send().unwrap();
    assert_eq!(must_come(&server), ip("10.1.0.2"));
    pods[0].set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x66]))?;
    send().unwrap();
    must_not_come(&server);
    pods[0].set_mac("eth0", mac)?;
    send().unwrap();
    assert_eq!(must_come(&server), ip("10.1.0.2"));
    // The other port is not checked: it may be whoever it likes to be.
    pods[1].set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x77]))?;
    let client = socket(&pods[0], "0.0.0.0", 8);
    socket(&pods[1], "0.0.0.0", 0).send_to(b"hello", to("10.1.0.2", 8)).unwrap();
    assert_eq!(must_come(&client), ip("10.1.0.3"));

    let found = host.nft_element(&macs, &port)?.expect("it was added");
    assert_eq!(found.values, [Value::Mac(mac)]);
    let removal = Removal::new().element(&macs, &port).element(&checked, &port);
    assert_eq!(host.del_nft(&removal.element(&known, &pair(found.values[0].clone())))?, 3);
    undo.keep();
    pods[0].set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x66]))?;
    send().unwrap();
    assert_eq!(must_come(&server), ip("10.1.0.2"));
    Ok(())
}

fn ports_are_mapped_by_a_map(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let outside = outside(sandbox)?;
    let pod = pod(sandbox, "veth1", ["10.1.0.2", "fd00:1::2"])?;
    let table = Table::new(Family::Ip, "ports");
    let service = [Type::Ipv4Addr, Type::InetProto, Type::InetService];
    let ports = Set::map(table, "ports", &service, &[Type::Ipv4Addr, Type::InetService]);
    let prerouting = Chain::base(table, "prerouting", Kind::Nat, Hook::Prerouting, -100);
    let fields = [Field::Ip4Destination, Field::Protocol, Field::DestinationPort];
    let rule = Rule::new().is_for_this_host().dnat_map(Family::Ip, &fields, "ports");
    let shared = Ruleset::new().table(&table).set(&ports).chain(&prerouting).rules(&prerouting, [rule]);
    let mapping = Element::new([ip("192.0.2.1").into(), Value::Protocol(17), Value::Port(8080)]);
    let mapping = mapping.maps_to([ip("10.1.0.2").into(), Value::Port(80)]).comment("pod");
    host.add_nft(&Addition::new().element(&ports, &mapping), &shared, &mut undo)?;
    let (server, client) = (socket(&pod, "10.1.0.2", 80), socket(&outside, "0.0.0.0", 0));
    client.send_to(b"hello", to("192.0.2.1", 8080)).unwrap();
    let from = received(&server, Duration::from_secs(10)).expect("a packet");
    assert_eq!(from.ip(), ip("192.0.2.2"));
    server.send_to(b"hello yourself", from).unwrap();
    assert_eq!(received(&client, Duration::from_secs(10)), Some(to("192.0.2.1", 8080)));
    undo.run().unwrap();
    Ok(())
}

/// Both families: a container, its neighbours' gateway outside, and the host's address there.
const BOTH: [(&str, &str, &str, &str); 2] =
    [("0.0.0.0", "10.1.0.2", "192.0.2.2", "192.0.2.1"), ("::", "fd00:1::2", "2001:db8::2", "2001:db8::1")];

fn what_is_forwarded_depends_on_the_flow(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let outside = outside(sandbox)?;
    let pod = pod(sandbox, "veth1", ["10.1.0.2", "fd00:1::2"])?;
    let table = Table::new(Family::Inet, "firewall");
    let forward = Chain::base(table, "forward", Kind::Filter, Hook::Forward, 0);
    let prerouting = Chain::base(table, "prerouting", Kind::Nat, Hook::Prerouting, -100);
    let filtered = [
        Rule::new().has_state(&[State::Established, State::Related]).verdict(Verdict::Accept),
        Rule::new().is_redirected().verdict(Verdict::Accept),
        Rule::new().is(Field::Oifname, "veth1").reject(),
    ];
    let published = || Rule::new().is(Field::Protocol, Value::Protocol(17)).is_for_this_host();
    let redirected = BOTH.map(|(_, mine, ..)| {
        let published = published().is(Field::DestinationPort, Value::Port(8080));
        let six = mine.contains(':');
        let wanted = if six { net("2001:db8::/64") } else { net("192.0.2.0/24") };
        published.is(if six { Field::Ip6Source } else { Field::Ip4Source }, wanted).dnat(ip(mine), 80)
    });
    let ruleset = Ruleset::new().table(&table).chain(&forward).rules(&forward, filtered);
    host.ensure_nft(&ruleset.chain(&prerouting).rules(&prerouting, redirected))?;
    for (subnet, router) in [("10.1.0.0/16", "192.0.2.1"), ("fd00:1::/64", "2001:db8::1")] {
        outside.add_route(&RouteSpec::new(net(subnet)).gateway(ip(router)))?;
    }
    for (wildcard, mine, far, uplink) in BOTH {
        // From outside, by its own address: refused, and told so.
        let server = socket(&pod, mine, 80);
        let client = socket(&outside, wildcard, 0);
        client.connect(to(mine, 80)).unwrap();
        client.send(b"hello").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let refused = client.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
        must_not_come(&server);
        // By the host's port: let through.
        let client = socket(&outside, wildcard, 0);
        client.send_to(b"hello", to(uplink, 8080)).unwrap();
        let from = received(&server, Duration::from_secs(10)).expect("a packet");
        assert_eq!(from.ip(), ip(far));
        // What it began itself: answered.
        let (server, client) = (socket(&outside, wildcard, 9), socket(&pod, mine, 0));
        client.send_to(b"hello", to(far, 9)).unwrap();
        let from = received(&server, Duration::from_secs(10)).expect("a packet");
        server.send_to(b"hello yourself", from).unwrap();
        assert_eq!(must_come(&client), ip(far));
    }
    Ok(())
}

fn a_mark_says_who_is_masqueraded(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let outside = outside(sandbox)?;
    let pod = pod(sandbox, "veth1", ["10.1.0.2", "fd00:1::2"])?;
    let table = Table::new(Family::Inet, "marks");
    let prerouting = Chain::base(table, "prerouting", Kind::Filter, Hook::Prerouting, -150);
    let postrouting = Chain::base(table, "postrouting", Kind::Nat, Hook::Postrouting, 100);
    let to_port = |port| {
        Rule::new().is(Field::Protocol, Value::Protocol(17)).is(Field::DestinationPort, Value::Port(port))
    };
    let marked = [
        to_port(7).add_mark(0x2000),
        // One bit beside another.
        to_port(8).add_mark(0x1).lacks_mark(0x2000).add_mark(0x2000),
        to_port(9).add_mark(0x1),
    ];
    let masqueraded = [Rule::new().has_mark(0x2000).masquerade()];
    let ruleset = Ruleset::new().table(&table).chain(&prerouting).rules(&prerouting, marked);
    host.ensure_nft(&ruleset.chain(&postrouting).rules(&postrouting, masqueraded))?;
    for (wildcard, mine, far, uplink) in BOTH {
        for (port, seen) in [(7, uplink), (8, uplink), (9, mine), (10, mine)] {
            let server = socket(&outside, wildcard, port);
            socket(&pod, mine, 0).send_to(b"hello", to(far, port)).unwrap();
            assert_eq!(must_come(&server), ip(seen), "port {port}");
        }
    }
    Ok(())
}

fn isolated_ports_do_not_talk(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let pods = bridged(sandbox, LinkSpec::bridge("cni0"), &PORTS)?;
    let server = socket(&pods[1], "0.0.0.0", 7);
    let send = || socket(&pods[0], "0.0.0.0", 0).send_to(b"hello", to("10.1.0.3", 7)).unwrap();
    host.change_link("veth0", &LinkChange::new().isolated(true))?;
    send();
    assert_eq!(must_come(&server), ip("10.1.0.2"), "one alone is not isolated from the others");
    host.change_link("veth1", &LinkChange::new().isolated(true))?;
    send();
    must_not_come(&server);
    Ok(())
}

/// Behind one port, two addresses that only the bridge can bring together: the second is a macvlan's that keeps apart.
fn a_port_talks_to_itself_by_hairpin(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let pods = bridged(sandbox, LinkSpec::bridge("cni0"), &PORTS[..1])?;
    let (eth0, mut undo) = (pods[0].link("eth0")?, Undo::new());
    let mode = cni_linux::link::spec::MacvlanMode::Vepa;
    let mut sockets = Vec::new();
    for (nth, address) in ["10.1.0.4/24", "10.1.0.5/24"].into_iter().enumerate() {
        let container = sandbox.container();
        let macvlan = LinkSpec::macvlan(format!("mac{nth}"), &eth0, mode).into_netns(&container).up();
        pods[0].add_link(macvlan, &mut undo)?;
        container.add_address(&format!("mac{nth}"), net(address))?;
        sockets.push((socket(&container, "0.0.0.0", 7), container));
    }
    let send = || sockets[0].0.send_to(b"hello", to("10.1.0.5", 7)).unwrap();
    send();
    must_not_come(&sockets[1].0);
    host.change_link("veth0", &LinkChange::new().hairpin(true))?;
    send();
    assert_eq!(must_come(&sockets[1].0), ip("10.1.0.4"));
    undo.run().unwrap();
    Ok(())
}

fn ports_of_different_vlans_do_not_talk(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let pods = bridged(sandbox, LinkSpec::bridge("cni0").vlan_filtering(true), &PORTS)?;
    let server = socket(&pods[1], "0.0.0.0", 7);
    let send = || socket(&pods[0], "0.0.0.0", 0).send_to(b"hello", to("10.1.0.3", 7)).unwrap();
    let move_to = |port: &str, vlan| {
        host.del_vlans(port, 1..=4094)?;
        host.add_vlans(port, &[Vlans::access(vlan)])
    };
    send();
    assert_eq!(must_come(&server), ip("10.1.0.2"), "all are in VLAN 1");
    move_to("veth0", 100)?;
    send();
    must_not_come(&server);
    move_to("veth1", 100)?;
    send();
    assert_eq!(must_come(&server), ip("10.1.0.2"));
    Ok(())
}
