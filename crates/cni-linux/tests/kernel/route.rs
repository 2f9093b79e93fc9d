//! Routes: added, listed and deleted.

use std::net::IpAddr;

use cni_linux::route::{LOCAL_TABLE, MAIN_TABLE};
use cni_linux::testing::{Sandbox, Test, kernel, tests};
use cni_linux::{IpFamily, LinkSpec, Netns, Result, RouteFilter, RouteSpec, RuleSpec, Scope, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        everything_that_was_asked_for_is_there => [kernel::veth],
        a_default_route_has_no_destination => [kernel::veth],
        tables_are_filtered_also_above_255 => [kernel::veth],
        devices_are_filtered => [kernel::veth],
        the_second_of_the_same_is_an_error_unless_it_may_stand_beside => [kernel::veth],
        replacing_replaces => [kernel::veth],
        deleting_asks_for_no_more_than_is_said => [kernel::veth],
        ipv4_goes_by_way_of_an_ipv6_router => [kernel::veth],
        several_hops_are_read => [kernel::veth],
        a_route_can_be_had_again_in_another_table => [kernel::veth],
        tables_that_somebody_uses_are_passed_over => [kernel::veth],
        a_vrf_has_the_routes_of_its_ports => [kernel::veth, kernel::vrf],
        an_unreachable_router_is_explained => [kernel::veth],
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A container with `eth0` up, and addresses of both families.
fn connected(sandbox: &Sandbox) -> Result<(Netns, u32)> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let eth0 = container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1")).up(), &mut undo)?;
    undo.keep();
    container.set_up("eth1")?;
    container.add_address(&eth0, net("10.1.2.3/24"))?;
    container.add_address(&eth0, net("fd00::3/64"))?;
    Ok((container, eth0.index))
}

fn main_table(container: &Netns) -> Result<Vec<cni_linux::Route>> {
    container.routes(RouteFilter::new().table(MAIN_TABLE))
}

fn everything_that_was_asked_for_is_there(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let spec = RouteSpec::new(net("192.168.7.9/16"))
        .gateway(ip("10.1.2.1"))
        .device(eth0)
        .priority(42)
        .source(ip("10.1.2.3"))
        .mtu(1300)
        .advmss(1200);
    container.add_route(&spec)?;
    let routes = main_table(&container)?;
    let route = routes.iter().find(|route| route.dst == net("192.168.0.0/16")).expect("it was added");
    assert_eq!((route.gateway, route.device, route.priority), (Some(ip("10.1.2.1")), Some(eth0), 42));
    assert_eq!((route.source, route.mtu, route.advmss), (Some(ip("10.1.2.3")), Some(1300), Some(1200)));
    assert_eq!((route.table, route.scope, route.kind), (MAIN_TABLE, Scope::UNIVERSE, 1));
    assert!(!route.is_default() && route.hops.is_empty());

    container.add_route(&RouteSpec::new(net("192.168.8.0/24")).device(eth0))?;
    container.add_route(&RouteSpec::new(net("192.168.9.0/24")).device(eth0).scope(Scope::UNIVERSE))?;
    let scope_of = |text: &str| -> Result<Option<Scope>> {
        Ok(main_table(&container)?.iter().find(|route| route.dst == net(text)).map(|route| route.scope))
    };
    assert_eq!(scope_of("192.168.8.0/24")?, Some(Scope::LINK));
    assert_eq!(scope_of("192.168.9.0/24")?, Some(Scope::UNIVERSE));
    Ok(())
}

fn a_default_route_has_no_destination(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    for (dst, gateway) in [("0.0.0.0/0", "10.1.2.1"), ("::/0", "fd00::1")] {
        container.add_route(&RouteSpec::new(net(dst)).gateway(ip(gateway)).device(eth0))?;
        let routes = main_table(&container)?;
        let route = routes.iter().find(|route| route.dst == net(dst)).expect("it was added");
        assert!(route.is_default());
        assert_eq!(route.gateway, Some(ip(gateway)));
    }
    let shown =
        container.run(|| std::process::Command::new("ip").args(["route", "show", "default"]).output())?;
    let shown = shown.expect("ip can be started").stdout;
    assert_eq!(String::from_utf8_lossy(&shown).trim(), "default via 10.1.2.1 dev eth0");
    Ok(())
}

fn tables_are_filtered_also_above_255(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    for table in [100, 4711] {
        container.add_route(&RouteSpec::new(net("192.0.2.0/24")).device(eth0).table(table))?;
        container.add_route(&RouteSpec::new(net("2001:db8::/32")).device(eth0).table(table))?;
        let routes = container.routes(RouteFilter::new().table(table))?;
        let shown: Vec<_> = routes.iter().map(|route| (route.dst, route.table)).collect();
        assert_eq!(shown, [(net("192.0.2.0/24"), table), (net("2001:db8::/32"), table)]);
    }
    assert!(container.routes(RouteFilter::new().table(815))?.is_empty());
    let local = container.routes(RouteFilter::new().table(LOCAL_TABLE))?;
    assert!(local.iter().any(|route| route.dst == net("10.1.2.3/32") && route.kind == 2));
    let all = container.routes(RouteFilter::new())?;
    assert!(
        all.iter().any(|route| route.table == 4711) && all.iter().any(|route| route.table == LOCAL_TABLE)
    );
    Ok(())
}

fn devices_are_filtered(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let eth1 = container.link("eth1")?.index;
    container.add_route(&RouteSpec::new(net("192.0.2.0/24")).device(eth1))?;
    let nets = |device| -> Result<Vec<IpNet>> {
        let routes = container.routes(RouteFilter::new().table(MAIN_TABLE).device(device))?;
        Ok(routes.into_iter().map(|route| route.dst).filter(|dst| dst.addr().is_ipv4()).collect())
    };
    assert_eq!(nets(eth0)?, [net("10.1.2.0/24")]);
    assert_eq!(nets(eth1)?, [net("192.0.2.0/24")]);
    Ok(())
}

fn the_second_of_the_same_is_an_error_unless_it_may_stand_beside(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    for (dst, one, other) in
        [("192.0.2.0/24", "10.1.2.1", "10.1.2.2"), ("2001:db8::/32", "fd00::1", "fd00::2")]
    {
        let route = |gateway| RouteSpec::new(net(dst)).gateway(ip(gateway)).device(eth0);
        container.add_route(&route(one))?;
        let error = container.add_route(&route(other)).unwrap_err();
        assert!(error.is_exists());
        assert!(
            error.to_string().starts_with(&format!("add route {dst} via {other} dev {eth0}: file exists"))
        );
        container.prepend_route(&route(other))?;
        assert!(container.prepend_route(&route(other)).unwrap_err().is_exists());
    }
    Ok(())
}

fn replacing_replaces(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let route = |gateway| RouteSpec::new(net("192.0.2.0/24")).gateway(ip(gateway)).device(eth0);
    container.replace_route(&route("10.1.2.1"))?;
    container.replace_route(&route("10.1.2.2"))?;
    let routes = main_table(&container)?;
    let gateways: Vec<_> =
        routes.iter().filter(|route| route.dst == net("192.0.2.0/24")).map(|route| route.gateway).collect();
    assert_eq!(gateways, [Some(ip("10.1.2.2"))]);
    Ok(())
}

fn deleting_asks_for_no_more_than_is_said(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    // The kernel's own route to the network of an address, of whatever scope and protocol.
    container.del_route(&RouteSpec::new(net("10.1.2.0/24")).device(eth0))?;
    container.add_route(&RouteSpec::new(net("192.0.2.0/24")).device(eth0).priority(7))?;
    container.del_route(&RouteSpec::new(net("192.0.2.0/24")))?;
    let error = container.del_route(&RouteSpec::new(net("192.0.2.0/24"))).unwrap_err();
    assert!(error.is_gone());
    assert!(error.to_string().starts_with("delete route 192.0.2.0/24: no such process"), "{error}");
    assert!(!main_table(&container)?.iter().any(|route| route.dst.addr().is_ipv4()));
    Ok(())
}

fn ipv4_goes_by_way_of_an_ipv6_router(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    container.add_route(&RouteSpec::new(net("192.0.2.0/24")).gateway(ip("fe80::1")).device(eth0))?;
    let routes = main_table(&container)?;
    let route = routes.iter().find(|route| route.dst == net("192.0.2.0/24")).expect("it was added");
    assert_eq!(route.gateway, Some(ip("fe80::1")));
    Ok(())
}

fn several_hops_are_read(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let eth1 = container.link("eth1")?.index;
    let command =
        "ip route add 192.0.2.0/24 nexthop via 10.1.2.1 dev eth0 weight 3 nexthop dev eth1 weight 1";
    let added = container.run(|| std::process::Command::new("sh").args(["-c", command]).status())?;
    assert!(added.expect("ip can be started").success());
    let routes = container.routes(RouteFilter::new().device(eth1))?;
    let route =
        routes.iter().find(|route| route.dst == net("192.0.2.0/24")).expect("eth1 is one of its hops");
    assert_eq!((route.gateway, route.device), (None, None));
    let hops: Vec<_> = route.hops.iter().map(|hop| (hop.gateway, hop.device, hop.weight)).collect();
    assert_eq!(hops, [(Some(ip("10.1.2.1")), eth0, 3), (None, eth1, 1)]);
    Ok(())
}

fn an_unreachable_router_is_explained(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let spec = RouteSpec::new(net("0.0.0.0/0")).gateway(ip("203.0.113.1")).device(eth0);
    let error = container.add_route(&spec).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "add route 0.0.0.0/0 via 203.0.113.1 dev {eth0}: network is unreachable (Nexthop has invalid gateway)"
        )
    );
    container.add_route(&spec.onlink())?;
    Ok(())
}

fn a_route_can_be_had_again_in_another_table(sandbox: &Sandbox) -> Result<()> {
    let (container, eth0) = connected(sandbox)?;
    let near = RouteSpec::new(net("192.168.0.0/16")).gateway(ip("10.1.2.1")).device(eth0).priority(42);
    container.add_route(&near.source(ip("10.1.2.3")).mtu(1300).advmss(1200))?;
    container
        .add_route(&RouteSpec::new(net("0.0.0.0/0")).gateway(ip("203.0.113.1")).device(eth0).onlink())?;
    container.add_route(&RouteSpec::new(net("2001:db8::/32")).gateway(ip("fd00::1")).device(eth0))?;
    // In one table of IPv6, routes to one destination are those of one device; eth1 has one to fe80::/64 as well.
    let of_eth0 = |routes: Vec<cni_linux::Route>| {
        routes.into_iter().filter(|route| route.device == Some(eth0)).collect::<Vec<_>>()
    };
    let before = of_eth0(main_table(&container)?);
    let copied: Vec<_> = before.iter().filter(|route| route.protocol != 2).collect();
    assert_eq!(copied.len(), 3);
    for route in &before {
        container.add_route(&route.spec().expect("an ordinary one").table(100))?;
    }
    let again = container.routes(RouteFilter::new().table(100))?;
    assert_eq!(again.len(), before.len());
    for route in &copied {
        let mut same = (*route).clone();
        same.table = 100;
        assert!(again.contains(&same), "{same:?} in {again:?}");
        // It says all that is needed to delete it.
        container.del_route(&route.spec().unwrap())?;
    }
    assert!(main_table(&container)?.iter().all(|route| route.protocol == 2));
    let local = container.routes(RouteFilter::new().table(LOCAL_TABLE))?;
    assert!(local.iter().all(|route| route.spec().is_none()), "they are the kernel's business");
    Ok(())
}

fn tables_that_somebody_uses_are_passed_over(sandbox: &Sandbox) -> Result<()> {
    let ((container, eth0), mut undo) = (connected(sandbox)?, Undo::new());
    assert_eq!((container.unused_table(0)?, container.unused_table(100)?), (1, 100));
    assert_eq!(container.unused_table(253)?, 256);
    container.add_rule(&RuleSpec::new(IpFamily::V4, 100).from(net("10.1.2.3/32")), &mut undo)?;
    container.add_rule(&RuleSpec::new(IpFamily::V6, 101).from(net("fd00::3/128")), &mut undo)?;
    container.add_route(&RouteSpec::new(net("10.9.0.0/16")).device(eth0).table(102))?;
    container.add_route(&RouteSpec::new(net("fd09::/16")).device(eth0).table(103))?;
    assert_eq!((container.unused_table(100)?, container.unused_table(99)?), (104, 99));
    undo.run().unwrap();
    assert_eq!(container.unused_table(100)?, 100);
    let full = RuleSpec::new(IpFamily::V4, u32::MAX);
    let mut undo = Undo::new();
    container.add_rule(&full, &mut undo)?;
    assert_eq!(
        container.unused_table(u32::MAX).unwrap_err().to_string(),
        "find unused table from 4294967295: no space left on device"
    );
    undo.run().unwrap();
    Ok(())
}

/// What the port of a VRF loses, and how it gets it back.
fn a_vrf_has_the_routes_of_its_ports(sandbox: &Sandbox) -> Result<()> {
    let ((container, eth0), mut undo) = (connected(sandbox)?, Undo::new());
    container.wait_for_addresses(eth0, std::time::Duration::from_secs(20))?;
    container.add_route(&RouteSpec::new(net("192.168.0.0/16")).gateway(ip("10.1.2.1")).device(eth0))?;
    let vrf = container.add_link(LinkSpec::vrf("vrf0", 100).up(), &mut undo)?;
    assert_eq!((vrf.vrf_table(), container.unused_table(100)?), (Some(100), 101));
    let routes = container.routes(RouteFilter::new().table(MAIN_TABLE).device(eth0))?;
    let addresses = container.addresses(eth0)?;
    container.set_controller(eth0, vrf.index)?;
    assert_eq!(container.ports(vrf.index)?.iter().map(|link| link.index).collect::<Vec<_>>(), [eth0]);
    let left = container.addresses(eth0)?;
    for lost in addresses
        .iter()
        .filter(|old| old.scope == Scope::UNIVERSE && !left.iter().any(|new| new.net == old.net))
    {
        container.add_address(eth0, lost.spec())?;
    }
    assert!(container.addresses(eth0)?.iter().any(|address| address.net == net("fd00::3/64")));
    for spec in routes.iter().filter(|route| route.dst.addr().is_ipv4()).filter_map(|route| route.spec()) {
        container.replace_route(&spec.table(100))?;
    }
    let moved = container.routes(RouteFilter::new().table(100))?;
    assert!(moved.iter().any(|route| route.gateway == Some(ip("10.1.2.1"))), "{moved:?}");
    assert!(container.routes(RouteFilter::new().table(MAIN_TABLE).device(eth0))?.is_empty());
    undo.run().unwrap();
    assert!(container.links_of_kind("vrf")?.is_empty());
    Ok(())
}
