//! ptp in containers of a sandbox: what it makes, what packets do with it, and what is left.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use cni_plugins::interface::ptp::Ptp;
use cni_plugins::ipam::host_local::HostLocal;
use cni_plugins::ipam::static_ips::StaticIps;
use cni_sdk::linux::nftables::{Family, Removal, Table};
use cni_sdk::linux::{AddressSpec, LinkSpec, Mac, RouteFilter, RouteSpec, VethPeer};
use cni_sdk::spec::NetworkName;
use cni_sdk::steps::names;
use cni_sdk::testing::{Caller, Sandbox, Snapshot, Test, break_add, kernel, record, tests};
use cni_sdk::{AttachmentId, Code, Netns, Result, Undo, entry};

use ipnet::IpNet;

#[path = "ptp/go.rs"]
mod go;

pub(crate) fn tests() -> Vec<Test> {
    let tests = tests![
        add_makes_a_link_to_the_host_alone => [kernel::veth],
        packets_reach_the_host_and_other_containers => [kernel::veth],
        packets_to_the_world_are_masqueraded => [kernel::veth, kernel::nftables],
        addresses_without_subnet_or_gateway_of_their_own_work => [kernel::veth],
        what_cannot_work_is_refused_and_undone => [kernel::veth],
        a_second_add_leaves_the_first_alone => [kernel::veth, kernel::nftables],
        mtu_and_dns_are_as_configured => [kernel::veth],
        every_version_is_answered => [kernel::veth],
        check_tells_what_the_container_lacks => [kernel::veth, kernel::bridge, kernel::nftables],
        check_tells_what_the_host_lacks => [kernel::veth, kernel::nftables],
        del_needs_nothing_but_names => [kernel::veth, kernel::nftables],
        gc_keeps_what_is_valid_and_what_is_others => [kernel::veth, kernel::nftables],
        status_says_why_not => [kernel::veth, kernel::nftables],
        a_broken_add_leaves_nothing => [kernel::veth, kernel::nft],
        a_broken_add_with_iptables_leaves_nothing => [kernel::veth, kernel::iptables],
        the_network_of_the_page_works => [kernel::veth, kernel::nftables],
        one_add_makes_the_requests_of_the_page => [kernel::veth, kernel::nftables],
    ];
    tests.into_iter().chain(go::tests()).collect()
}

/// The keys `name` and `type`, and an address of each version of IP from `static`.
fn dual(more: &str) -> String {
    fixed(&["10.1.0.2/24 10.1.0.1", "fd00:1::2/64 fd00:1::1"], more)
}

/// Addresses from `static`, each with a gateway behind it or without, and default routes of their versions of IP.
fn fixed(addresses: &[&str], more: &str) -> String {
    let has_v6 = addresses.iter().any(|text| text.contains(':'));
    let routes = if has_v6 { r#"{"dst": "0.0.0.0/0"}, {"dst": "::/0"}"# } else { r#"{"dst": "0.0.0.0/0"}"# };
    let addresses = addresses.iter().map(|text| {
        let (address, gateway) = text.split_once(' ').unwrap_or((text, ""));
        format!(r#"{{"address": "{address}", "gateway": "{gateway}"}}"#)
    });
    let addresses = addresses.collect::<Vec<_>>().join(", ");
    format!(
        r#"{{"cniVersion": "1.1.0", "name": "net", "type": "ptp"{more}, "ipam": {{"type": "static",
            "addresses": [{addresses}], "routes": [{routes}]}}}}"#
    )
}

fn local(state: &Path, more: &str) -> String {
    format!(
        r#"{{"cniVersion": "1.1.0", "name": "net", "type": "ptp"{more}, "ipam": {{"type": "host-local",
            "dataDir": {state:?}, "ranges": [[{{"subnet": "10.1.0.0/24"}}], [{{"subnet": "fd00:1::/64"}}]],
            "routes": [{{"dst": "0.0.0.0/0"}}, {{"dst": "::/0"}}]}}}}"#
    )
}

fn caller(config: &str, container: &Netns) -> Caller {
    let ipam = [entry::<StaticIps>(), entry::<HostLocal>()];
    Caller::new::<Ptp>(config).container(container).delegates(ipam)
}

fn host_end(net: &str, container: &str) -> String {
    let id = AttachmentId::parse(container, "eth0").unwrap();
    names::host_end(&NetworkName::parse(net).unwrap(), &id)
}

/// How many addresses are given away.
fn reserved(state: &Path) -> usize {
    let files = std::fs::read_dir(state.join("net")).unwrap().flatten();
    files.filter(|file| file.file_name().to_string_lossy().parse::<IpAddr>().is_ok()).count()
}

/// The routes of the main table, as a human would write them.
fn routes(netns: &Netns) -> Vec<String> {
    let found = netns.routes(RouteFilter::new().table(cni_sdk::linux::route::MAIN_TABLE)).unwrap();
    let mut routes: Vec<_> = found
        .iter()
        .filter(|route| !route.dst.to_string().starts_with("fe80"))
        .map(|route| {
            let mut line = route.dst.to_string();
            line += &route.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            line += &route.source.map(|source| format!(" src {source}")).unwrap_or_default();
            line
        })
        .collect();
    routes.sort();
    routes
}

fn socket(netns: &Netns, address: &str) -> UdpSocket {
    netns.run(|| UdpSocket::bind((address.parse::<IpAddr>().unwrap(), 0))).unwrap().unwrap()
}

/// Sends a packet from one namespace to an address in the other, and an answer back. Says where it seemed to come from.
fn exchange(from: &Netns, to: &Netns, address: &str) -> IpAddr {
    let any = if address.contains(':') { "::" } else { "0.0.0.0" };
    let (client, server) = (socket(from, any), socket(to, address));
    let (address, mut packet): (IpAddr, _) = (address.parse().unwrap(), [0; 16]);
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    client.send_to(b"hello", (address, server.local_addr().unwrap().port())).unwrap();
    let (_, seen) = server.recv_from(&mut packet).expect("the packet comes");
    server.send_to(b"hello yourself", seen).unwrap();
    let (_, answered) = client.recv_from(&mut packet).expect("the answer comes");
    assert_eq!(answered.ip(), address);
    seen.ip()
}

fn add_makes_a_link_to_the_host_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let result = caller(&dual(""), &container).add()?;
    let [end, eth0] = [host.link(host_end("net", "test").as_str())?, container.link("eth0")?];
    let [first, second] = [&result.interfaces[0], &result.interfaces[1]];
    assert_eq!((first.name.as_str(), first.sandbox.as_str()), (end.name.as_str(), ""));
    assert_eq!(first.mac, end.mac().expect("it has one").to_string());
    assert_eq!((second.name.as_str(), &second.mac), ("eth0", &eth0.mac().expect("it has one").to_string()));
    assert_eq!(second.sandbox, container.path().expect("a path").display().to_string());
    assert!(end.is_up() && eth0.is_up());
    let ips: Vec<_> = result.ips.iter().map(|ip| (ip.address.to_string(), ip.interface)).collect();
    assert_eq!(ips, [("10.1.0.2/24".to_owned(), Some(1)), ("fd00:1::2/64".to_owned(), Some(1))]);
    assert_eq!(
        routes(&container),
        [
            "0.0.0.0/0 via 10.1.0.1",
            "10.1.0.0/24 via 10.1.0.1 src 10.1.0.2",
            "10.1.0.1/32 src 10.1.0.2",
            "::/0 via fd00:1::1",
            "fd00:1::/64 via fd00:1::1 src fd00:1::2",
            "fd00:1::1/128 src fd00:1::2",
        ]
    );
    assert_eq!(routes(host), ["10.1.0.2/32", "fd00:1::1/128", "fd00:1::2/128"]);
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        assert_eq!(host.sysctl(key)?, "1");
    }
    assert_eq!(host.sysctl(&format!("net/ipv6/conf/{}/accept_ra", end.name))?, "0");
    Ok(())
}

fn packets_reach_the_host_and_other_containers(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    let containers = [sandbox.container(), sandbox.container()];
    let config = local(state.path(), "");
    for (container, name) in containers.iter().zip(["one", "other"]) {
        caller(&config, container).id(name, "eth0").add()?;
    }
    let [one, other] = &containers;
    for (gateway, mine, neighbour) in
        [("10.1.0.1", "10.1.0.2", "10.1.0.3"), ("fd00:1::1", "fd00:1::2", "fd00:1::3")]
    {
        let mine_ip: IpAddr = mine.parse()?;
        assert_eq!(exchange(one, host, gateway), mine_ip, "at once, no duplicates are looked for");
        assert_eq!(exchange(one, other, neighbour), mine_ip);
        assert_eq!(exchange(host, other, neighbour), gateway.parse::<IpAddr>()?);
    }
    Ok(())
}

/// Somebody on the network that the host is on, who knows nothing of the containers.
fn outside(sandbox: &Sandbox) -> Result<Netns> {
    let (host, outside, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let peer = VethPeer::new("eth0").into_netns(&outside);
    let uplink = host.add_link(LinkSpec::veth("uplink", peer).up(), &mut undo)?;
    undo.keep();
    for (ours, theirs) in [("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")] {
        for (netns, link, address) in [(host, "uplink", ours), (&outside, "eth0", theirs)] {
            let address = AddressSpec::new(address.parse()?);
            netns.add_address(link, address.without_dad())?;
        }
    }
    outside.set_up("eth0")?;
    assert!(uplink.is_up());
    Ok(outside)
}

fn packets_to_the_world_are_masqueraded(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    let [one, other] = [sandbox.container(), sandbox.container()];
    let outside = outside(sandbox)?;
    let config = local(state.path(), r#", "ipMasq": true"#);
    for (container, name) in [(&one, "one"), (&other, "other")] {
        caller(&config, container).id(name, "eth0").add()?;
    }
    for (target, uplink, mine, neighbour) in [
        ("192.0.2.2", "192.0.2.1", "10.1.0.2", "10.1.0.3"),
        ("2001:db8::2", "2001:db8::1", "fd00:1::2", "fd00:1::3"),
    ] {
        assert_eq!(exchange(&one, &outside, target), uplink.parse::<IpAddr>()?);
        assert_eq!(exchange(&one, &other, neighbour), mine.parse::<IpAddr>()?);
    }
    assert_eq!(exchange(host, &one, "10.1.0.2"), "10.1.0.1".parse::<IpAddr>()?);
    Ok(())
}

fn addresses_without_subnet_or_gateway_of_their_own_work(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    for (nth, addresses) in [
        // Without a subnet, the gateway being inside of none.
        &["10.1.0.2/32 169.254.1.1", "fd00:1::2/128 fe80::1"][..],
        // Without a gateway of its own.
        &["10.1.0.2/24 10.1.0.1", "10.1.0.3/24", "10.2.0.2/24", "fd00:1::2/64 fd00:1::1", "fd00:2::2/64"],
        // A link of two.
        &["10.1.0.2/31 10.1.0.3"],
        // One gateway for all.
        &["10.1.0.2/24 10.1.0.1", "10.1.0.3/24 10.1.0.1", "10.1.0.4/32 10.1.0.1"],
    ]
    .into_iter()
    .enumerate()
    {
        let container = sandbox.container();
        let config = fixed(addresses, r#", "ipMasq": true"#);
        let call = caller(&config, &container);
        let result = call.add()?;
        for ip in &result.ips {
            let gateway = ip.gateway.expect("all have one").to_string();
            let address = ip.address.addr();
            if !gateway.starts_with("fe80") {
                exchange(&container, host, &gateway);
            }
            exchange(host, &container, &address.to_string());
        }
        call.del(Some(&result))?;
        assert_eq!(host.links()?.len(), 1, "{nth}");
    }
    Ok(())
}

fn what_cannot_work_is_refused_and_undone(sandbox: &Sandbox) -> Result<()> {
    let (host, taken) = (sandbox.host(), sandbox.container());
    caller(&fixed(&["10.9.0.2/24 10.9.0.1"], ""), &taken).id("other", "eth0").add()?;
    // What IPv6 does by itself takes its time.
    host.wait_for_addresses(host_end("net", "other").as_str(), Duration::from_secs(10))?;
    // Forwarding stays.
    cni_sdk::steps::forwarding::ensure(host, true, true)?;
    let before = Snapshot::take(host)?;
    let end = host_end("net", "test");
    let cases = [
        (
            fixed(&["10.1.0.2/24"], ""),
            "address 10.1.0.2/24 cannot be used by ptp: the IPAM plugin gave it no gateway, \
             and everything is reached by way of one"
                .to_owned(),
        ),
        (
            fixed(&["10.1.0.2/24 10.1.0.2"], ""),
            "address 10.1.0.2/24 cannot be used by ptp: its gateway 10.1.0.2, which the host is to have, \
             is the container's own"
                .into(),
        ),
        (
            fixed(&["10.1.0.2/24 fd00::1"], ""),
            "address 10.1.0.2/24 cannot be used by ptp: its gateway fd00::1 is of another version of IP"
                .into(),
        ),
        (fixed(&[], ""), "IPAM plugin returned missing IP config".into()),
        (dual(r#", "mtu": -1"#), "invalid mtu -1".into()),
        (dual(r#", "ipMasqBackend": "pf""#), "unknown ipmasq backend \"pf\"".into()),
        (r#"{"name": "net", "type": "ptp"}"#.into(), "no plugin name provided".into()),
        (
            fixed(&["10.9.0.2/24 10.9.0.1"], ""),
            "failed to add route on host: add route 10.9.0.2/32 dev ".into(),
        ),
        (dual(r#", "mtu": 1"#), format!("failed to make veth pair: add link veth \"{end}\" peer \"eth0\": ")),
    ];
    for (config, expected) in cases {
        let container = sandbox.container();
        let empty = Snapshot::take(&container)?;
        let error = caller(&config, &container).add().unwrap_err();
        assert!(error.msg.starts_with(&expected), "{error} is not {expected}");
        assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0], "{expected}");
        assert_eq!(empty.diff(&Snapshot::take(&container)?), [""; 0], "{expected}");
    }
    let error = caller(&fixed(&["10.9.0.2/24 10.9.0.1"], ""), &sandbox.container()).add().unwrap_err();
    assert!(error.details.contains("the host has a route to 10.9.0.2 already"), "{error}");
    let file = tempfile::NamedTempFile::new()?;
    let error = caller(&dual(""), &sandbox.container()).netns(file.path()).add().unwrap_err();
    assert!(error.msg.contains("unknown FS magic on"), "{error}");
    let error = caller(&dual(""), &sandbox.container()).netns("/nonexistent").add().unwrap_err();
    assert!(error.msg.contains("failed to Statfs \"/nonexistent\": no such file or directory"), "{error}");
    Ok(())
}

fn a_second_add_leaves_the_first_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, container, state) = (sandbox.host(), sandbox.container(), tempfile::tempdir()?);
    let call = caller(&local(state.path(), r#", "ipMasq": true"#), &container);
    let result = call.add()?;
    let look = |netns: &Netns| -> Result<Vec<String>> {
        // What IPv6 does by itself takes its time.
        let by_itself = |line: &String| line.contains("fe80::") || line.contains("table 255");
        Ok(Snapshot::take(netns)?.lines().iter().filter(|line| !by_itself(line)).cloned().collect())
    };
    let (before, inside) = (look(host)?, look(&container)?);
    let error = call.add().unwrap_err();
    assert!(error.msg.ends_with("already exists"), "{error}");
    // Another network wants the same name in the container.
    let config = dual("").replace("\"net\"", "\"other\"");
    let error = caller(&config, &container).add().unwrap_err();
    assert!(error.msg.ends_with("already exists") && error.details.contains("eth0"), "{error}");
    assert_eq!((look(host)?, look(&container)?), (before, inside));
    call.check(&result)
}

fn mtu_and_dns_are_as_configured(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let more = r#", "mtu": 1400, "dns": {"nameservers": ["192.0.2.53"]}"#;
    let result = caller(&dual(more), &container).add()?;
    assert_eq!((container.link("eth0")?.mtu, host.link(host_end("net", "test").as_str())?.mtu), (1400, 1400));
    assert_eq!(result.dns.nameservers, ["192.0.2.53"]);
    Ok(())
}

fn every_version_is_answered(sandbox: &Sandbox) -> Result<()> {
    for version in cni_sdk::Version::ALL {
        let container = sandbox.container();
        let config = dual("").replace("1.1.0", &version.to_string());
        let call = caller(&config, &container);
        let result = call.add()?;
        assert_eq!(result.ips.len(), 2, "{version}");
        call.del(Some(&result))?;
    }
    Ok(())
}

/// What somebody does to a container.
type Tamper<'a> = &'a dyn Fn(&Netns) -> cni_sdk::linux::Result<()>;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Tampers with one container after the other, and compares what CHECK says.
fn told(sandbox: &Sandbox, cases: &[(Tamper<'_>, &str)]) -> Result<()> {
    let config = dual(r#", "ipMasq": true"#);
    for (tamper, expected) in cases {
        let container = sandbox.container();
        let call = caller(&config, &container);
        let result = call.add()?;
        call.check(&result)?;
        tamper(&container)?;
        let error = call.check(&result).unwrap_err();
        let expected = expected.replace("END", &format!("the host's end {:?}", host_end("net", "test")));
        assert!(error.msg.starts_with(&expected), "{error} is not {expected}");
        call.del(Some(&result))?;
    }
    Ok(())
}

fn check_tells_what_the_container_lacks(sandbox: &Sandbox) -> Result<()> {
    let route = |text: &str| RouteSpec::new(net(text));
    let replace = |inside: &Netns| {
        inside.del_link("eth0")?;
        let mut undo = Undo::new();
        inside.add_link(LinkSpec::bridge("eth0"), &mut undo)?;
        undo.keep();
        Ok(())
    };
    let cases: [(Tamper<'_>, &str); 7] = [
        (
            &|inside| inside.del_address("eth0", net("10.1.0.2/24")),
            "Failed to match addr 10.1.0.2/24 on interface eth0",
        ),
        (
            &|inside| inside.del_route(&route("0.0.0.0/0")),
            "Expected Route 0.0.0.0/0 not found in routing table",
        ),
        (
            &|inside| inside.del_route(&route("10.1.0.0/24")),
            "Failed to find Gateway 10.1.0.0/24 for interface eth0",
        ),
        (
            &|inside| inside.del_route(&route("fd00:1::1/128")),
            "Expected Route fd00:1::1/128 not found in routing table",
        ),
        (&|inside| inside.set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 0x66])), "Interface eth0 Mac "),
        (&|inside| inside.del_link("eth0"), "Container Interface name in prevResult: eth0 not found"),
        (&replace, "Interface eth0 Mac "),
    ];
    told(sandbox, &cases)?;
    let (container, elsewhere) = (sandbox.container(), sandbox.container());
    let result = caller(&dual(""), &container).add()?;
    let error = caller(&dual(""), &elsewhere).check(&result).unwrap_err();
    assert!(error.msg.starts_with("Sandbox in prevResult /proc/"), "{error}");
    let mut other = result.clone();
    replace(&container)?;
    other.interfaces[1].mac = container.link("eth0")?.mac().expect("it has one").to_string();
    let error = caller(&dual(""), &container).check(&other).unwrap_err();
    assert_eq!(error.msg, "Error: Container interface eth0 not of type veth/p2p");
    Ok(())
}

fn check_tells_what_the_host_lacks(sandbox: &Sandbox) -> Result<()> {
    let (host, end) = (sandbox.host(), host_end("net", "test"));
    let (end, route) = (end.as_str(), |text: &str| RouteSpec::new(net(text)));
    let table = Removal::new().table(&Table::new(Family::Inet, "ferrocni_masquerade"));
    let cases: [(Tamper<'_>, &str); 6] = [
        (&|_| host.set_down(end), "END is down"),
        (&|_| host.del_address(end, net("10.1.0.1/32")), "END has not the gateway's address 10.1.0.1"),
        (&|_| host.del_route(&route("10.1.0.2/32")), "END is not where the host's route to 10.1.0.2 leads"),
        (
            &|_| host.del_route(&route("fd00:1::2/128")),
            "END is not where the host's route to fd00:1::2 leads",
        ),
        (
            &|_| host.ensure_sysctls(&[("net/ipv4/ip_forward", "0")]),
            "the host does not forward: net/ipv4/ip_forward is 0",
        ),
        (
            &|_| host.del_nft(&table).map(drop),
            "masquerading does not work: chain inet ferrocni_masquerade postrouting has not its 2 rules",
        ),
    ];
    told(sandbox, &cases)
}

fn del_needs_nothing_but_names(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    let config = local(state.path(), r#", "ipMasq": true"#);
    // What is shared is there.
    let first = sandbox.container();
    caller(&config, &first).add()?;
    caller(&config, &first).del(None)?;
    let before = Snapshot::take(host)?;
    assert_eq!(reserved(state.path()), 0);
    let file = tempfile::NamedTempFile::new()?;
    let edited = local(state.path(), r#", "mtu": -7, "ipMasqBackend": "pf""#);
    for (what, config, netns) in [
        ("everything as it was", &config, None),
        ("no namespace", &config, Some("")),
        ("the namespace has gone", &config, Some("/nonexistent/netns")),
        ("its file is left", &config, file.path().to_str()),
        ("the configuration was edited", &edited, Some("")),
    ] {
        let container = sandbox.container();
        let result = caller(&self::local(state.path(), r#", "ipMasq": true"#), &container).add()?;
        assert_eq!(reserved(state.path()), 2);
        let call = caller(config, &container);
        let call = netns.map_or(call.clone(), |path| call.clone().netns(path));
        call.del((what == "everything as it was").then_some(&result))?;
        assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0], "{what}");
        assert!(container.link_if_exists("eth0")?.is_none(), "{what}");
        assert_eq!(reserved(state.path()), 0, "{what}");
        call.del(None)?;
    }
    caller(r#"{"name": "net", "type": "ptp"}"#, &first).del(None)
}

fn gc_keeps_what_is_valid_and_what_is_others(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    let mine = local(state.path(), r#", "ipMasq": true"#);
    let others = mine.replace("\"net\"", "\"others\"").replace("10.1.", "10.2.").replace("fd00:1", "fd00:2");
    let mut results = Vec::new();
    for name in ["one", "two", "three"] {
        for config in [&mine, &others] {
            let container = sandbox.container();
            let call = caller(config, &container).id(name, "eth0");
            results.push((name, call.clone(), call.add()?));
        }
    }
    let valid = [AttachmentId::parse("two", "eth0")?];
    caller(&mine, &sandbox.container()).gc(&valid)?;
    for (nth, (name, call, result)) in results.iter().enumerate() {
        let checked = call.check(result);
        assert_eq!(checked.is_ok(), nth % 2 == 1 || *name == "two", "{name} {nth}: {checked:?}");
    }
    assert_eq!(host.links()?.len(), 1 + 4);
    for config in [&mine, &others] {
        caller(config, &sandbox.container()).gc(&[])?;
    }
    assert_eq!(host.links()?.len(), 1);
    let left = Snapshot::take(host)?;
    assert!(
        left.lines().iter().all(|line| !line.contains("/ element") || line.contains("subnets")),
        "{left}"
    );
    Ok(())
}

fn status_says_why_not(sandbox: &Sandbox) -> Result<()> {
    let (container, state) = (sandbox.container(), tempfile::tempdir()?);
    let before = Snapshot::take(sandbox.host())?;
    caller(&local(state.path(), r#", "ipMasq": true"#), &container).status()?;
    assert_eq!(before.diff(&Snapshot::take(sandbox.host())?), [""; 0]);
    let error = caller(r#"{"name": "net", "type": "ptp"}"#, &container).status().unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (Code::PLUGIN_NOT_AVAILABLE, "no plugin name provided"));
    let error = caller(&dual(r#", "ipMasqBackend": "pf""#), &container).status().unwrap_err();
    let unknown = "unknown ipmasq backend \"pf\"";
    assert_eq!((error.code, error.msg.as_str()), (Code::PLUGIN_NOT_AVAILABLE, unknown));
    // A range of one address, which is given away.
    let small = local(state.path(), "").replace(r#""subnet": "10.1.0.0/24""#, r#""subnet": "10.1.0.0/30""#);
    let small = small.replace("\"net\"", "\"small\"");
    caller(&small, &container).add()?;
    let error = caller(&small, &container).status().unwrap_err();
    assert_eq!(error.code, Code::PLUGIN_NOT_AVAILABLE, "{error}");
    Ok(())
}

fn a_broken_add_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    breaks_cleanly(sandbox, r#", "ipMasq": true, "mtu": 1400"#)
}

fn a_broken_add_with_iptables_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    breaks_cleanly(sandbox, r#", "ipMasq": true, "ipMasqBackend": "iptables""#)
}

fn breaks_cleanly(sandbox: &Sandbox, more: &str) -> Result<()> {
    let state = tempfile::tempdir()?;
    let config = local(state.path(), more);
    let first = caller(&config, &sandbox.container());
    // What is shared is there.
    first.add()?;
    first.del(None)?;
    let changes = break_add(sandbox, |container| caller(&config, container));
    assert!(changes > 15, "{changes}");
    assert_eq!(reserved(state.path()), 2, "those of the ADD that succeeded");
    Ok(())
}

const PAGE: &str = include_str!("../../../../docs/plugins/ptp.md");

fn the_network_of_the_page_works(sandbox: &Sandbox) -> Result<()> {
    let (container, state) = (sandbox.container(), tempfile::tempdir()?);
    let block = PAGE.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    let mut plugin = serde_json::from_str::<serde_json::Value>(block)?["plugins"][0].take();
    plugin["name"] = "podnet".into();
    plugin["ipam"]["dataDir"] = state.path().to_str().into();
    let call = caller(&plugin.to_string(), &container);
    call.status()?;
    let result = call.add()?;
    call.check(&result)?;
    assert_eq!((result.ips.len(), result.routes.len()), (2, 2));
    exchange(&container, sandbox.host(), "10.1.0.1");
    call.gc(&[AttachmentId::parse("test", "eth0")?])?;
    call.check(&result)?;
    call.del(Some(&result))
}

/// The page cannot say anything else.
fn one_add_makes_the_requests_of_the_page(sandbox: &Sandbox) -> Result<()> {
    let config = fixed(&["10.1.0.2/24 10.1.0.1"], r#", "ipMasq": true"#);
    let recorded = |of: &dyn Fn() -> Result<()>| -> Result<Vec<String>> {
        let (done, requests) = record(of);
        done?;
        let end = host_end("net", "test");
        let plain = |line: String| match line.rsplit_once(" dev ") {
            // The index of the link.
            Some((route, _)) => route.to_owned(),
            None => line.replace(&end, "veth…"),
        };
        Ok(requests.iter().map(|request| plain(request.to_string())).collect())
    };
    let listed = |heading: &str| -> Vec<String> {
        let section = PAGE.split_once(heading).expect("the page has the section").1;
        let block = section.split("```").nth(1).expect("it has a block");
        block.lines().skip(1).map(str::to_owned).collect()
    };
    // What is shared is there.
    let container = sandbox.container();
    let call = caller(&config, &container);
    call.add()?;
    call.del(None)?;
    assert_eq!(recorded(&|| call.add().map(drop))?, listed("## Requests of an ADD"));
    assert_eq!(recorded(&|| call.del(None))?, listed("## Requests of a DEL"));
    Ok(())
}
