//! Gateways and default routes, and what is in their way.

use std::net::IpAddr;

use cni_sdk::linux::{LinkSpec, Mac, RouteFilter, VethPeer};
use cni_sdk::testing::{Sandbox, Test, kernel, record, tests};
use cni_sdk::{Netns, Result, Undo};
use ipnet::IpNet;

use super::{GATEWAY, Net, ip, reaches};

pub(super) fn tests() -> Vec<Test> {
    tests![
        another_address_is_refused_and_stays => [kernel::bridge, kernel::veth],
        another_address_is_replaced_by_force => [kernel::bridge, kernel::veth],
        ipv6_networks_that_do_not_overlap_are_no_conflict => [kernel::bridge, kernel::veth],
        several_ranges_are_several_gateways => [kernel::bridge, kernel::veth],
        the_gateway_is_the_one_that_ipam_says => [kernel::bridge, kernel::veth],
        default_routes_are_added_once => [kernel::bridge, kernel::veth],
        without_a_gateway_the_host_gets_nothing => [kernel::bridge, kernel::veth],
        an_address_of_the_bridge_is_usable_at_once => [kernel::bridge, kernel::veth],
        the_hardware_address_of_the_bridge_stays => [kernel::bridge, kernel::veth],
        forwarding_is_turned_on_for_the_families_there_are => [kernel::bridge, kernel::veth],
    ]
}

fn addresses(netns: &Netns, link: &str) -> Result<Vec<String>> {
    let found = netns.addresses(link)?;
    let found = found.iter().filter(|address| !address.net.to_string().starts_with("fe80:"));
    Ok(found.map(ToString::to_string).collect())
}

fn another_address_is_refused_and_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(GATEWAY);
    net.with_addresses(&["10.1.2.2/24"], &container).id("a", "eth0").add()?;
    for (address, gateway) in
        [("10.9.9.2/24", "10.9.9.1/24"), ("10.1.2.3/16", "10.1.0.1/16"), ("10.1.2.130/25", "10.1.2.129/25")]
    {
        let error = net.with_addresses(&[address], &container).id("b", "eth1").add().unwrap_err();
        let text = format!(
            r#"failed to set bridge addr: "cni0" already has an IP address different from {gateway}; it has 10.1.2.1/24"#
        );
        assert_eq!(error.to_string(), text);
        assert_eq!(addresses(host, "cni0")?, ["10.1.2.1/24"]);
        assert!(container.link_if_exists("eth1")?.is_none());
    }
    Ok(())
}

fn another_address_is_replaced_by_force(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let forced = Net::new(r#""isGateway": true, "forceAddress": true"#);
    host.add_link(LinkSpec::bridge("cni0").up(), &mut undo)?;
    for (there, address, gateway) in [
        ("10.9.9.1/24", "10.1.2.2/24", "10.1.2.1/24"),
        // Of one subnet: what came first takes the others with it.
        ("10.1.2.77/24", "10.1.2.2/24", "10.1.2.1/24"),
        ("fd00:1:2::77/48", "fd00:1:2::2/64", "fd00:1:2::1/64"),
    ] {
        for old in addresses(host, "cni0")? {
            host.del_address("cni0", old.parse::<IpNet>()?)?;
        }
        host.add_address("cni0", there.parse::<IpNet>()?)?;
        let pod = forced.with_addresses(&[address], &container);
        pod.add()?;
        assert_eq!(addresses(host, "cni0")?, [gateway]);
        pod.del(None)?;
    }
    // Of one that goes, the others of its subnet go as well.
    for old in addresses(host, "cni0")? {
        host.del_address("cni0", old.parse::<IpNet>()?)?;
    }
    for there in ["10.9.9.1/24", "10.9.9.2/24", "10.8.8.1/24", "10.9.9.3/24"] {
        host.add_address("cni0", there.parse::<IpNet>()?)?;
    }
    forced.with_addresses(&["10.1.2.2/24"], &container).add()?;
    assert_eq!(addresses(host, "cni0")?, ["10.1.2.1/24"]);
    undo.run().unwrap();
    Ok(())
}

fn ipv6_networks_that_do_not_overlap_are_no_conflict(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(GATEWAY);
    net.with_addresses(&["fd00:1:2::2/64"], &container).id("a", "eth0").add()?;
    net.with_addresses(&["fd00:1:3::2/64"], &container).id("a", "eth1").add()?;
    let mut found = addresses(host, "cni0")?;
    found.sort();
    assert_eq!(found, ["fd00:1:2::1/64", "fd00:1:3::1/64"]);
    let error = net.with_addresses(&["fd00:1::2/32"], &container).id("b", "eth2").add().unwrap_err();
    assert!(
        error.msg.ends_with(r#""cni0" already has an IP address different from fd00::1/32"#)
            || error.msg.contains("different from"),
        "{error}"
    );
    assert_eq!(addresses(host, "cni0")?.len(), 2);
    Ok(())
}

fn several_ranges_are_several_gateways(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let all = ["10.1.2.2/24", "fd00:1:2::2/64", "fd00:1:3::2/64"];
    let result = Net::new(GATEWAY).with_addresses(&all, &container).add()?;
    let mut found = addresses(host, "cni0")?;
    found.sort();
    assert_eq!(found, ["10.1.2.1/24", "fd00:1:2::1/64", "fd00:1:3::1/64"]);
    assert_eq!(result.routes.len(), 2, "one default route for each family: {result:?}");
    for gateway in ["10.1.2.1", "fd00:1:2::1", "fd00:1:3::1"] {
        assert!(reaches(&container, host, gateway), "{gateway}");
    }
    // Two of IPv4 are in each other's way on a bridge, as with the reference.
    let twice = Net { name: "two", ..Net::new(r#""isGateway": true, "bridge": "cni1""#) };
    let error =
        twice.with_addresses(&["10.3.0.2/24", "10.4.0.2/24"], &container).id("b", "eth1").add().unwrap_err();
    assert!(error.msg.contains(r#""cni1" already has an IP address different from 10.4.0.1/24"#), "{error}");
    Ok(())
}

fn the_gateway_is_the_one_that_ipam_says(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let ipam =
        r#""ipam": {"type": "static", "addresses": [{"address": "10.1.2.2/24", "gateway": "10.1.2.254"}]}"#;
    let result = Net::new(GATEWAY).with_ipam(ipam, &container).add()?;
    assert_eq!(addresses(host, "cni0")?, ["10.1.2.254/24"]);
    assert_eq!(result.ips[0].gateway, Some(ip("10.1.2.254")));
    assert_eq!(result.routes[0].gw, Some(ip("10.1.2.254")));
    Ok(())
}

fn default_routes_are_added_once(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for (routes, expected) in [
        ("", vec![("0.0.0.0/0", Some("10.1.2.1"))]),
        // The reference adds the same route twice, which the kernel refuses.
        (r#", "routes": [{"dst": "0.0.0.0/0"}]"#, vec![("0.0.0.0/0", Some("10.1.2.1"))]),
        (r#", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.9"}]"#, vec![("0.0.0.0/0", Some("10.1.2.9"))]),
        (
            r#", "routes": [{"dst": "192.0.2.0/24"}, {"dst": "0.0.0.0/0", "table": 1000}]"#,
            vec![("192.0.2.0/24", None), ("0.0.0.0/0", None), ("0.0.0.0/0", Some("10.1.2.1"))],
        ),
    ] {
        let ipam =
            format!(r#""ipam": {{"type": "static", "addresses": [{{"address": "10.1.2.2/24"}}]{routes}}}"#);
        let pod = Net::new(GATEWAY).with_ipam(&ipam, &container);
        let result = pod.add()?;
        let found: Vec<(String, Option<IpAddr>)> =
            result.routes.iter().map(|route| (route.dst.to_string(), route.gw)).collect();
        let expected: Vec<_> = expected.into_iter().map(|(dst, gw)| (dst.to_owned(), gw.map(ip))).collect();
        assert_eq!(found, expected);
        pod.check(&result)?;
        let defaults = container.routes(RouteFilter::new())?;
        let defaults = defaults.iter().filter(|route| route.is_default() && route.dst.addr().is_ipv4());
        assert_eq!(defaults.count(), expected.iter().filter(|(dst, _)| dst == "0.0.0.0/0").count());
        pod.del(None)?;
    }
    Ok(())
}

fn without_a_gateway_the_host_gets_nothing(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let result = Net::new("").pod(2, &container).add()?;
    assert_eq!(addresses(host, "cni0")?, Vec::<String>::new());
    assert!(result.routes.is_empty() && result.ips.iter().all(|ip| ip.gateway.is_none()), "{result:?}");
    assert_eq!(host.sysctl("net/ipv4/ip_forward")?, "0");
    Ok(())
}

fn an_address_of_the_bridge_is_usable_at_once(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    host.ensure_sysctls(&[("net/ipv6/conf/all/accept_dad", "1"), ("net/ipv6/conf/default/accept_dad", "1")])?;
    Net::new(GATEWAY).pod(2, &container).add()?;
    for (netns, link) in [(host, "cni0"), (&container, "eth0")] {
        let found = netns.addresses(link)?;
        let found: Vec<_> =
            found.iter().filter(|address| address.net.to_string().starts_with("fd00")).collect();
        assert!(found.len() == 1 && !found[0].is_tentative(), "{found:?}");
    }
    assert!(reaches(&container, host, "fd00:1:2::1"));
    Ok(())
}

/// Whichever ports come and go; of bridges that others made, too.
fn the_hardware_address_of_the_bridge_stays(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    for made_by_others in [false, true] {
        let [one, other] = [sandbox.container(), sandbox.container()];
        let mut undo = Undo::new();
        if made_by_others {
            host.add_link(LinkSpec::bridge("cni0"), &mut undo)?;
        }
        let net = Net::new(GATEWAY);
        let first = net.pod(2, &one).add()?;
        let mac = host.link("cni0")?.mac().unwrap().to_string();
        assert_eq!(first.interfaces[0].mac, mac);
        let low = LinkSpec::veth("low", VethPeer::new("lower")).mac(Mac::new([0, 0, 0, 0, 0, 1]));
        host.add_link(low.controller(host.link("cni0")?.index), &mut undo)?;
        let second = net.pod(3, &other).add()?;
        assert_eq!(second.interfaces[0].mac, mac);
        net.pod(2, &one).del(None)?;
        assert_eq!(host.link("cni0")?.mac().unwrap().to_string(), mac);
        net.pod(3, &other).check(&second)?;
        net.pod(3, &other).del(None)?;
        undo.run().unwrap();
        host.del_link_if_exists("cni0")?;
    }
    // Where nobody pins it, the result has what it came to be.
    let (container, mut undo) = (sandbox.container(), Undo::new());
    host.add_link(LinkSpec::bridge("cni0"), &mut undo)?;
    let (result, requests) = record(|| Net::new("").pod(2, &container).add());
    assert_eq!(result?.interfaces[0].mac, host.link("cni0")?.mac().unwrap().to_string());
    let looked = requests.iter().filter(|r| r.object == r#""cni0""# && r.message == "RTM_GETLINK");
    assert_eq!(looked.count(), 1, "its port says what it is");
    undo.run().unwrap();
    Ok(())
}

fn forwarding_is_turned_on_for_the_families_there_are(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let forwards = || {
        Ok::<_, cni_sdk::Error>([
            host.sysctl("net/ipv4/ip_forward")?,
            host.sysctl("net/ipv6/conf/all/forwarding")?,
        ])
    };
    let net = Net::new(GATEWAY);
    net.with_addresses(&["10.1.2.2/24"], &container).id("a", "eth0").add()?;
    assert_eq!(forwards()?, ["1", "0"]);
    net.with_addresses(&["fd00:1:2::2/64"], &container).id("a", "eth1").add()?;
    assert_eq!(forwards()?, ["1", "1"]);
    Ok(())
}
