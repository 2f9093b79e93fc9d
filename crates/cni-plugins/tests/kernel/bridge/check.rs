//! CHECK, and what it notices.

use cni_sdk::linux::{LinkChange, Mac, RouteSpec};
use cni_sdk::testing::{Sandbox, Test, kernel, tests};
use cni_sdk::{AddResult, Netns, Result};
use ipnet::IpNet;

use super::{GATEWAY, Net};

pub(super) fn tests() -> Vec<Test> {
    tests![
        what_is_as_it_was_passes => [kernel::bridge, kernel::veth],
        a_change_in_the_container_is_noticed => [kernel::bridge, kernel::veth],
        a_change_on_the_host_is_noticed => [kernel::bridge, kernel::veth],
        what_others_do_beside_it_is_none_of_its_business => [kernel::bridge, kernel::veth],
        routes_in_other_tables_are_found => [kernel::bridge, kernel::veth],
        a_result_of_another_container_is_refused => [kernel::bridge, kernel::veth],
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Makes a change to a container that passes, and returns what CHECK says then.
fn noticed(
    sandbox: &Sandbox,
    keys: &str,
    tamper: impl FnOnce(&Netns, &Netns, &str) -> cni_sdk::linux::Result<()>,
) -> Result<String> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(keys);
    let pod = net.pod(2, &container);
    let result = pod.add()?;
    pod.check(&result)?;
    tamper(host, &container, &net.host_end("pod2"))?;
    let error = pod.check(&result).unwrap_err();
    pod.del(Some(&result))?;
    host.del_link("cni0")?;
    Ok(error.to_string())
}

fn what_is_as_it_was_passes(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for keys in [
        GATEWAY,
        r#""isGateway": true, "hairpinMode": true, "portIsolation": true"#,
        r#""isGateway": true, "promiscMode": true"#,
        "",
    ] {
        let net = Net::new(keys);
        let pod = net.pod(2, &container);
        let result = pod.add()?;
        pod.check(&result)?;
        pod.del(Some(&result))?;
        // Without addresses the reference asks an IPAM plugin that is not there.
        let flat = net.layer2(&container);
        let result = flat.add()?;
        assert!(result.ips.is_empty() && container.link("eth0")?.is_up());
        flat.check(&result)?;
        flat.del(Some(&result))?;
        sandbox.host().del_link("cni0")?;
    }
    Ok(())
}

fn a_change_in_the_container_is_noticed(sandbox: &Sandbox) -> Result<()> {
    let said =
        noticed(sandbox, GATEWAY, |_, container, _| container.del_address("eth0", net("10.1.2.2/24")))?;
    assert_eq!(said, "Failed to match addr 10.1.2.2/24 on interface eth0");
    let said =
        noticed(sandbox, GATEWAY, |_, container, _| container.del_address("eth0", net("fd00:1:2::2/64")))?;
    assert_eq!(said, "Failed to match addr fd00:1:2::2/64 on interface eth0");
    let said =
        noticed(sandbox, GATEWAY, |_, container, _| container.del_route(&RouteSpec::new(net("::/0"))))?;
    assert_eq!(said, "Expected Route ::/0 via fd00:1:2::1 not found in routing table");
    // The reference looks at the destination alone.
    let said = noticed(sandbox, GATEWAY, |_, container, _| {
        container.replace_route(
            &RouteSpec::new(net("0.0.0.0/0")).gateway("10.1.2.77".parse::<std::net::IpAddr>().ok()),
        )
    })?;
    assert_eq!(said, "Expected Route 0.0.0.0/0 via 10.1.2.1 not found in routing table");
    let said = noticed(sandbox, GATEWAY, |_, container, _| {
        container.del_route(&RouteSpec::new(net("10.1.2.0/24")))
    })?;
    assert!(said.starts_with("Failed to find Gateway 10.1.2.0/24 for interface eth0"), "{said}");
    let said =
        noticed(sandbox, GATEWAY, |_, container, _| container.set_mac("eth0", Mac::new([2, 0, 0, 0, 0, 9])))?;
    assert!(
        said.starts_with("Interface eth0 Mac ")
            && said.ends_with(" doesn't match container Mac: 02:00:00:00:00:09")
    );
    let said = noticed(sandbox, GATEWAY, |_, container, _| container.set_down("eth0"))?;
    assert_eq!(said, "interface eth0 is down");
    let said = noticed(sandbox, GATEWAY, |_, container, _| container.del_link("eth0"))?;
    assert_eq!(said, "Container Interface name in prevResult: eth0 not found");
    Ok(())
}

fn a_change_on_the_host_is_noticed(sandbox: &Sandbox) -> Result<()> {
    let said = noticed(sandbox, GATEWAY, |host, _, _| host.set_mac("cni0", Mac::new([2, 0, 0, 0, 0, 9])))?;
    assert!(said.starts_with("Bridge interface cni0 Mac doesn't match: 02:00:00:00:00:09"), "{said}");
    let said = noticed(sandbox, GATEWAY, |host, _, _| host.set_down("cni0"))?;
    assert_eq!(said, "Bridge interface cni0 is down");
    let said = noticed(sandbox, GATEWAY, |host, _, _| host.del_address("cni0", net("10.1.2.1/24")))?;
    assert_eq!(said, "Failed to match addr 10.1.2.1/24 on interface cni0");
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let said = noticed(sandbox, GATEWAY, |host, _, _| host.ensure_sysctls(&[(key, "0")]))?;
        assert_eq!(said, format!("the host does not forward: {key} is 0"));
    }
    let said = noticed(sandbox, GATEWAY, |host, _, port| host.set_controller(port, 0))?;
    assert_eq!(said, "CNI veth created for bridge cni0 was not found");
    let said = noticed(sandbox, GATEWAY, |host, _, port| host.set_down(port))?;
    assert!(said.starts_with("interface veth") && said.ends_with(" is down"), "{said}");
    let keys = r#""portIsolation": true"#;
    let said =
        noticed(sandbox, keys, |host, _, port| host.change_link(port, &LinkChange::new().isolated(false)))?;
    assert!(said.ends_with("of bridge cni0 has isolation false, not true"), "{said}");
    let said =
        noticed(sandbox, "", |host, _, port| host.change_link(port, &LinkChange::new().hairpin(true)))?;
    assert!(said.ends_with("of bridge cni0 has hairpin mode true, not false"), "{said}");
    let keys = r#""promiscMode": true"#;
    let said = noticed(sandbox, keys, |host, _, _| host.set_promiscuous("cni0", false))?;
    assert!(said.ends_with("configured Promisc Mode true doesn't match current state: false"), "{said}");
    Ok(())
}

fn what_others_do_beside_it_is_none_of_its_business(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let pod = Net::new(GATEWAY).pod(2, &container);
    let result = pod.add()?;
    container.add_address("eth0", net("10.1.2.99/24"))?;
    container.add_route(
        &RouteSpec::new(net("192.0.2.0/24")).gateway("10.1.2.1".parse::<std::net::IpAddr>().ok()),
    )?;
    // As whoever listens there does.
    host.set_promiscuous("cni0", true)?;
    host.add_address("cni0", net("169.254.1.1/32"))?;
    pod.check(&result)
}

fn routes_in_other_tables_are_found(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let keys = r#""ipam": {"type": "static", "addresses": [{"address": "10.1.2.2/24", "gateway": "10.1.2.1"}],
        "routes": [{"dst": "0.0.0.0/0", "table": 1000, "priority": 5}]}"#;
    let pod = Net::new("").with_ipam(keys, &container);
    let result = pod.add()?;
    pod.check(&result)?;
    container.del_route(&RouteSpec::new(net("0.0.0.0/0")).table(1000))?;
    let error = pod.check(&result).unwrap_err();
    assert_eq!(error.msg, "Expected Route 0.0.0.0/0 table 1000 not found in routing table");
    Ok(())
}

fn a_result_of_another_container_is_refused(sandbox: &Sandbox) -> Result<()> {
    let [one, other] = [sandbox.container(), sandbox.container()];
    let net = Net::new(GATEWAY);
    let result = net.pod(2, &one).add()?;
    net.pod(3, &other).add()?;
    let error = net.pod(3, &other).check(&result).unwrap_err();
    assert!(error.msg.starts_with("Sandbox in prevResult /proc/"), "{error}");
    let error = net.pod(2, &one).check(&AddResult::default()).unwrap_err();
    assert_eq!(error.msg, "Bridge interface cni0 not found in prevResult");
    Ok(())
}
