//! Addresses and routes of a result on the container's interface.

use std::net::IpAddr;

use cni_sdk::linux::{Address, LinkSpec, RouteFilter, VethPeer};
use cni_sdk::steps::names;
use cni_sdk::testing::{Sandbox, Test, break_add, kernel, record, tests};
use cni_sdk::{Netns, Result, Undo};

use crate::pair::caller;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        addresses_and_routes_are_as_the_result_says => [kernel::veth],
        each_address_and_route_is_one_request => [kernel::veth],
        an_address_of_no_interface_is_passed_over => [kernel::veth],
        an_interface_that_is_not_there_is_refused => [kernel::veth],
        what_cannot_be_added_is_named => [kernel::veth],
        ipv6_is_turned_on_where_it_is_needed => [kernel::veth],
        a_broken_configuration_is_undone_in_lo_as_well => [kernel::veth],
        detection_can_be_off => [kernel::veth],
        detection_is_waited_for => [kernel::veth],
        an_address_that_somebody_else_has_is_an_error => [kernel::veth],
    ]
}

const DUAL: &str = r#", "dad": false,
    "ips": [
        {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 0},
        {"address": "fd00:1::3/64", "gateway": "fd00:1::1", "interface": 0},
        {"address": "10.9.0.3/31", "gateway": "10.9.0.2", "interface": 0}
    ],
    "routes": [
        {"dst": "0.0.0.0/0"},
        {"dst": "::/0"},
        {"dst": "192.0.2.0/24", "gw": "10.9.0.2", "mtu": 1400, "advmss": 1300, "priority": 7},
        {"dst": "198.51.100.0/24", "scope": 253, "table": 1000},
        {"dst": "2001:db8::/32", "gw": "fd00:1::9"}
    ]"#;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses_and_routes_are_as_the_result_says(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    caller("net1", DUAL, &container).add()?;
    let eth0 = container.link("eth0")?;
    assert!(eth0.is_up());
    let addresses = container.addresses(&eth0)?;
    let four: Vec<_> = addresses.iter().take(2).map(|a| (a.net.to_string(), a.broadcast)).collect();
    assert_eq!(four[0], ("10.1.2.3/24".into(), Some(ip("10.1.2.255"))));
    assert_eq!(four[1], ("10.9.0.3/31".into(), None));
    let routes = container.routes(RouteFilter::new().device(eth0.index))?;
    let to = |dst: &str| routes.iter().find(|route| route.dst.to_string() == dst).expect(dst);
    assert_eq!(to("0.0.0.0/0").gateway, Some(ip("10.1.2.1")));
    assert_eq!(to("::/0").gateway, Some(ip("fd00:1::1")));
    let special = to("192.0.2.0/24");
    assert_eq!((special.gateway, special.priority), (Some(ip("10.9.0.2")), 7));
    assert_eq!((special.mtu, special.advmss), (Some(1400), Some(1300)), "the reference leaves them out");
    assert_eq!((to("198.51.100.0/24").table, to("198.51.100.0/24").gateway), (1000, None));
    assert_eq!(to("2001:db8::/32").gateway, Some(ip("fd00:1::9")));
    assert_eq!(container.sysctl("net/ipv4/conf/eth0/arp_notify")?, "1");
    assert_eq!(container.sysctl("net/ipv6/conf/eth0/keep_addr_on_down")?, "1");
    Ok(())
}

fn each_address_and_route_is_one_request(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (added, requests) = record(|| caller("net1", DUAL, &container).add());
    added?;
    let count = |message: &str| requests.iter().filter(|request| request.message == message).count();
    assert_eq!((count("RTM_NEWADDR"), count("RTM_NEWROUTE"), count("RTM_SETLINK")), (3, 5, 1));
    assert_eq!(
        (count("RTM_GETADDR"), count("RTM_GETROUTE"), count("RTM_GETLINK")),
        (0, 0, 1),
        "{requests:?}"
    );
    Ok(())
}

fn an_address_of_no_interface_is_passed_over(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    caller("net1", r#", "ips": [{"address": "10.1.2.3/24"}]"#, &container).add()?;
    let addresses = container.addresses("eth0")?;
    assert!(addresses.iter().all(|address| address.net.addr().is_ipv6()), "{addresses:?}");
    Ok(())
}

fn an_interface_that_is_not_there_is_refused(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    // The second is the host's end.
    for index in ["1", "2", "-1"] {
        let keys = format!(r#", "ips": [{{"address": "10.1.2.3/24", "interface": {index}}}]"#);
        let error = caller("net1", &keys, &container).add().unwrap_err();
        assert_eq!(error.msg, r#"failed to add IP addr 10.1.2.3/24 to "eth0": invalid interface index"#);
        assert!(container.link_if_exists("eth0")?.is_none());
    }
    Ok(())
}

fn what_cannot_be_added_is_named(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let twice = r#", "ips": [{"address": "10.1.2.3/24", "interface": 0}, {"address": "10.1.2.3/24", "interface": 0}]"#;
    let error = caller("net1", twice, &container).add().unwrap_err();
    assert!(error.msg.starts_with(r#"failed to add IP addr 10.1.2.3/24 to "eth0": "#), "{error}");
    assert!(error.msg.contains("file exists"), "{error}");
    let nowhere = r#", "ips": [{"address": "10.1.2.3/24", "interface": 0}], "routes": [{"dst": "192.0.2.0/24", "gw": "10.7.7.7"}]"#;
    let error = caller("net1", nowhere, &container).add().unwrap_err();
    assert!(
        error.msg.starts_with(
            "failed to add route '192.0.2.0/24 via 10.7.7.7 dev eth0 metric 0 (Scope: global, Table: 0)': "
        ),
        "{error}"
    );
    assert!(error.msg.contains("unreachable"), "{error}");
    assert_eq!((container.links()?.len(), sandbox.host().links()?.len()), (1, 1));
    Ok(())
}

fn ipv6_is_turned_on_where_it_is_needed(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let off = [("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];
    container.ensure_sysctls(&off)?;
    caller("net1", r#", "ips": [{"address": "10.1.2.3/24", "interface": 0}]"#, &container).add()?;
    assert_eq!(container.sysctl("net/ipv6/conf/lo/disable_ipv6")?, "1");
    assert_eq!(container.sysctl("net/ipv6/conf/eth0/disable_ipv6")?, "1");
    caller("net1", DUAL, &container).del(None)?;
    caller("net1", DUAL, &container).add()?;
    assert_eq!(container.sysctl("net/ipv6/conf/lo/disable_ipv6")?, "0");
    assert_eq!(container.sysctl("net/ipv6/conf/eth0/disable_ipv6")?, "0");
    Ok(())
}

fn a_broken_configuration_is_undone_in_lo_as_well(sandbox: &Sandbox) {
    let off = [("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];
    let changes = break_add(sandbox, |container| {
        container.ensure_sysctls(&off).unwrap();
        caller("net1", DUAL, container)
    });
    assert!(changes > 12, "{changes}");
}

fn global_v6(netns: &Netns) -> Result<Vec<Address>> {
    let addresses = netns.addresses("eth0")?;
    Ok(addresses.into_iter().filter(|a| a.net.to_string().starts_with("fd00:")).collect())
}

fn detection_can_be_off(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    container.ensure_sysctls(&[("net/ipv6/conf/all/accept_dad", "1")])?;
    caller("net1", DUAL, &container).add()?;
    let addresses = global_v6(&container)?;
    assert!(addresses.len() == 1 && !addresses[0].is_tentative(), "{addresses:?}");
    assert_eq!(container.sysctl("net/ipv6/conf/eth0/accept_dad")?, "0");
    Ok(())
}

const DETECTING: &str =
    r#", "dad": true, "ips": [{"address": "fd00:1::3/64", "gateway": "fd00:1::1", "interface": 0}]"#;

fn detection_is_waited_for(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    caller("net1", DETECTING, &container).add()?;
    let addresses = global_v6(&container)?;
    assert!(addresses.len() == 1 && !addresses[0].is_tentative(), "{addresses:?}");
    for (key, value) in [("accept_dad", "1"), ("enhanced_dad", "1")] {
        assert_eq!(container.sysctl(&format!("net/ipv6/conf/eth0/{key}"))?, value);
    }
    Ok(())
}

fn an_address_that_somebody_else_has_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    // Whoever answers is at the other end of the pair as soon as it is there.
    host.ensure_sysctls(&[("net/ipv6/conf/default/accept_dad", "0"), ("net/ipv6/conf/all/accept_dad", "0")])?;
    let bridge = host.add_link(LinkSpec::bridge("br0").up(), &mut undo)?;
    host.add_link(LinkSpec::veth("one", VethPeer::new("other")).up(), &mut undo)?;
    host.add_address(&bridge, "fd00:1::3/64".parse::<ipnet::IpNet>()?)?;
    let net = cni_sdk::spec::NetworkName::parse("net1")?;
    let name = names::host_end(&net, &cni_sdk::AttachmentId::parse("test", "eth0")?);
    let error = std::thread::scope(|scope| {
        let host = host.clone();
        let name = name.as_str();
        let index = bridge.index;
        scope.spawn(move || {
            let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while std::time::Instant::now() < until && host.set_controller(name, index).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        caller("net1", DETECTING, &container).add().unwrap_err()
    });
    assert_eq!(
        error.msg,
        r#"failed to settle addresses for "eth0": link eth0 has address fd00:1::3/64 in DADFAILED state"#
    );
    undo.run().unwrap();
    Ok(())
}
