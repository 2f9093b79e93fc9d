//! What single keys do.

use cni_sdk::linux::{Link, RouteFilter};
use cni_sdk::testing::{Sandbox, Snapshot, Test, kernel, record, tests};
use cni_sdk::{Code, Dns, Netns, Result, Version};

use super::{GATEWAY, Net, begun, ip, reaches};

pub(super) fn tests() -> Vec<Test> {
    tests![
        the_hardware_address_is_the_runtimes_then_the_networks => [kernel::bridge, kernel::veth],
        mtu_is_of_both_ends_and_a_new_bridge => [kernel::bridge, kernel::veth],
        promiscuous_bridges_are_made_and_left_so => [kernel::bridge, kernel::veth],
        layer_2_alone_has_no_addresses => [kernel::bridge, kernel::veth],
        the_containers_interface_can_stay_down => [kernel::bridge, kernel::veth],
        dns_is_the_configurations_or_ipams => [kernel::bridge, kernel::veth],
        duplicates_are_looked_for_if_asked => [kernel::bridge, kernel::veth],
        ipv6_that_is_off_in_the_container_is_turned_on => [kernel::bridge, kernel::veth],
        neighbours_are_told_if_they_may_remember_another => [kernel::bridge, kernel::veth],
        keys_are_taken_in_any_case => [kernel::bridge, kernel::veth],
        every_version_gets_its_result => [kernel::bridge, kernel::veth],
        status_says_when_an_add_would_fail => [kernel::bridge, kernel::veth, kernel::nftables],
        vlans_that_the_kernel_lacks_are_an_error => [kernel::bridge],
    ]
}

fn the_hardware_address_is_the_runtimes_then_the_networks(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (args, network, runtime) = ("02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c");
    let by_args = format!("IgnoreUnknown=1;K8S_POD_NAME=web;MAC={args}");
    let of_network = format!(r#""args": {{"cni": {{"mac": "{network}"}}}}"#);
    let of_both = format!(r#"{of_network}, "runtimeConfig": {{"mac": "{runtime}"}}"#);
    for (keys, cni_args, expected) in
        [("", by_args.as_str(), args), (&of_network, &by_args, network), (&of_both, &by_args, runtime)]
    {
        let pod = Net::new(keys).pod(2, &container).args(cni_args);
        let result = pod.add()?;
        assert_eq!(result.interfaces[2].mac, expected);
        assert_eq!(container.link("eth0")?.mac().unwrap().to_string(), expected);
        pod.del(Some(&result))?;
    }
    let random = |pod: &cni_sdk::testing::Caller| {
        let result = pod.add()?;
        pod.del(None)?;
        Ok::<_, cni_sdk::Error>(result.interfaces[2].mac.clone())
    };
    let pod = Net::new("").pod(2, &container);
    assert_ne!(random(&pod)?, random(&pod)?);
    Ok(())
}

fn mtu_is_of_both_ends_and_a_new_bridge(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let mtus = |net: Net<'_>| {
        Ok::<_, cni_sdk::Error>([
            host.link("cni0")?.mtu,
            host.link(&net.host_end("pod2"))?.mtu,
            container.link("eth0")?.mtu,
        ])
    };
    // Afterwards the bridge follows its smallest port, which is the kernel's doing.
    for (keys, expected) in [(r#""mtu": 1400"#, [1400; 3]), (r#""mtu": 1300"#, [1300; 3]), ("", [1500; 3])] {
        let net = Net::new(keys);
        net.pod(2, &container).add()?;
        assert_eq!(mtus(net)?, expected);
        net.pod(2, &container).del(None)?;
    }
    Ok(())
}

fn promiscuous_bridges_are_made_and_left_so(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    for (keys, is_so) in [("", false), (r#""promiscMode": true"#, true), ("", true)] {
        let pod = Net::new(keys).pod(2, &container);
        pod.add()?;
        assert_eq!(host.link("cni0")?.is_promiscuous(), is_so);
        pod.del(None)?;
    }
    Ok(())
}

fn layer_2_alone_has_no_addresses(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    // All that is about addresses is passed over.
    let net = Net::new(r#""isDefaultGateway": true, "ipMasq": true"#);
    let result = net.layer2(&container).add()?;
    assert!(result.ips.is_empty() && result.routes.is_empty() && result.interfaces.len() == 3, "{result:?}");
    assert!(container.link("eth0")?.is_up());
    assert!(host.addresses("cni0")?.iter().all(|address| address.net.addr().is_ipv6()));
    assert_eq!(host.sysctl("net/ipv4/ip_forward")?, "0");
    net.layer2(&container).check(&result)?;
    net.layer2(&container).status()?;
    net.layer2(&container).del(None)
}

fn the_containers_interface_can_stay_down(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let pod = Net::new(r#""disableContainerInterface": true"#).layer2(&container);
    let result = pod.add()?;
    assert!(!container.link("eth0")?.is_up());
    assert_eq!(result.interfaces[2].name, "eth0");
    pod.check(&result)?;
    pod.del(Some(&result))
}

fn dns_is_the_configurations_or_ipams(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let ipam =
        r#""ipam": {"type": "static", "addresses": [{"address": "10.1.2.2/24"}], "dns": {"domain": "ipam"}}"#;
    let of = |domain: &str| Dns { domain: domain.into(), ..Dns::default() };
    for (keys, expected) in [
        ("", of("ipam")),
        (r#""dns": {}"#, of("ipam")),
        (r#""dns": {"domain": "net"}"#, of("net")),
        (r#""dns": {"search": []}"#, of("")),
    ] {
        let pod = Net::new(keys).with_ipam(ipam, &container);
        assert_eq!(pod.add()?.dns, expected, "{keys}");
        pod.del(None)?;
    }
    Ok(())
}

fn duplicates_are_looked_for_if_asked(sandbox: &Sandbox) -> Result<()> {
    let [one, other] = [sandbox.container(), sandbox.container()];
    let net = Net::new(r#""isGateway": true, "enabledad": true"#);
    net.pod(2, &one).add()?;
    for (key, value) in [("accept_dad", "1"), ("enhanced_dad", "1")] {
        assert_eq!(one.sysctl(&format!("net/ipv6/conf/eth0/{key}"))?, value);
    }
    let found = one.addresses("eth0")?;
    assert!(found.iter().all(|address| !address.is_tentative()), "it was waited for: {found:?}");
    // Somebody has it; a runtime that gives an address twice hears of it.
    let error = net.pod(2, &other).id("thief", "eth0").add().unwrap_err();
    assert_eq!(
        error.msg,
        r#"failed to settle addresses for "eth0": link eth0 has address fd00:1:2::2/64 in DADFAILED state"#
    );
    assert!(other.link_if_exists("eth0")?.is_none());
    Net::new(r#""isGateway": true"#).pod(3, &other).add()?;
    assert_eq!(other.sysctl("net/ipv6/conf/eth0/accept_dad")?, "0");
    assert_eq!(other.sysctl("net/ipv4/conf/eth0/arp_notify")?, "1");
    Ok(())
}

fn ipv6_that_is_off_in_the_container_is_turned_on(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let off = [("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];
    container.ensure_sysctls(&off)?;
    Net::new(GATEWAY).pod(2, &container).add()?;
    assert!(reaches(host, &container, "fd00:1:2::2"));
    Ok(())
}

/// Whoever knew the address by another hardware address forgets that at once. What nobody knew is not shouted at everybody.
fn neighbours_are_told_if_they_may_remember_another(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let containers: Vec<Netns> = (0..3).map(|_| sandbox.container()).collect();
    let announced = |net: Net<'_>, container: &Netns| {
        let (result, requests) = record(|| net.pod(2, container).add());
        let told = requests.iter().filter(|request| request.doing == "announce address");
        let mut told: Vec<_> = told.map(|request| request.object.clone()).collect();
        // It may take more than one request.
        told.dedup();
        // The last thing: before, the port carried nothing.
        assert!(told.is_empty() || requests.last().unwrap().doing == "announce address", "{requests:?}");
        result.map(|result| (result, told))
    };
    let both = [r#"10.1.2.2 on link "eth0""#, r#"fd00:1:2::2 on link "eth0""#];
    let net = Net::new(GATEWAY);
    // The kernel forgets everybody when the last port of a bridge is gone.
    begun(sandbox, net)?;
    let (_, told) = announced(net, &containers[0])?;
    assert_eq!(told, Vec::<String>::new());
    assert!(reaches(&containers[0], host, "10.1.2.1") && reaches(&containers[0], host, "fd00:1:2::1"));
    net.pod(2, &containers[0]).del(None)?;

    let (result, told) = announced(net, &containers[1])?;
    assert_eq!(told, both);
    let cni0 = host.link("cni0")?;
    let remembered = host.neighbour(&cni0, ip("10.1.2.2"))?.map(|mac| mac.to_string());
    assert_eq!(remembered.as_deref(), Some(result.interfaces[2].mac.as_str()));
    assert!(reaches(host, &containers[1], "10.1.2.2") && reaches(host, &containers[1], "fd00:1:2::2"));
    net.pod(2, &containers[1]).del(None)?;
    // Without a gateway nobody knows who remembers what.
    let (_, told) = announced(Net { name: "flat", ..Net::new("") }, &containers[2])?;
    assert_eq!(told, both);
    Ok(())
}

fn keys_are_taken_in_any_case(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let net = Net::new(
        r#""Bridge": "br7", "ISGATEWAY": true, "RuntimeConfig": {"MAC": "02:00:00:00:00:0c"}, "mtu": null"#,
    );
    let result = net.pod(2, &container).add()?;
    assert_eq!((&*result.interfaces[0].name, &*result.interfaces[2].mac), ("br7", "02:00:00:00:00:0c"));
    let gateway = sandbox.host().addresses("br7")?;
    assert!(gateway.iter().any(|address| address.net.to_string() == "10.1.2.1/24"));
    Ok(())
}

fn every_version_gets_its_result(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for version in Version::ALL {
        let config = format!(
            r#"{{"cniVersion": "{version}", "name": "pods", "type": "bridge", "isDefaultGateway": true,
                "ipam": {{"type": "static", "addresses": [{{"address": "10.1.2.2/24"}}]}}}}"#
        );
        let pod = cni_sdk::testing::Caller::new::<cni_plugins::interface::bridge::Bridge>(&config)
            .container(&container)
            .delegates(cni_plugins::PLUGINS);
        let result = pod.add()?;
        assert_eq!(result.ips[0].address.to_string(), "10.1.2.2/24");
        assert_eq!(result.routes.len(), 1, "{version}");
        pod.del(Some(&result))?;
    }
    assert!(container.routes(RouteFilter::new())?.is_empty());
    Ok(())
}

fn status_says_when_an_add_would_fail(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(r#""isDefaultGateway": true, "ipMasq": true, "macspoofchk": true"#);
    let before = Snapshot::take(host)?;
    net.pod(2, &container).status()?;
    assert_eq!(before.diff(&Snapshot::take(host)?), Vec::<String>::new(), "it changes nothing");
    net.pod(2, &container).add()?;
    net.pod(2, &container).status()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().display();
    let ipam = format!(
        r#""ipam": {{"type": "host-local", "dataDir": "{path}", "ranges": [[{{"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.9"}}]]}}"#
    );
    let small = net.with_ipam(&ipam, &sandbox.container());
    small.status()?;
    let result = small.add()?;
    let error = small.status().unwrap_err();
    assert_eq!(error.code, Code::PLUGIN_NOT_AVAILABLE, "{error}");
    small.del(Some(&result))?;
    small.status()
}

/// Where it has them, tests of their own see more.
fn vlans_that_the_kernel_lacks_are_an_error(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let pod = Net::new(r#""vlan": 7"#).pod(2, &container);
    if kernel::bridge_vlans(&Netns::temporary()?).is_ok() {
        return pod.status();
    }
    let error = pod.add().unwrap_err();
    assert!(error.msg.starts_with(r#"failed to create bridge "cni0": could not add "cni0": "#), "{error}");
    assert_eq!(pod.status().unwrap_err().code, Code::PLUGIN_NOT_AVAILABLE);
    assert!(host.link_if_exists("cni0")?.as_ref().map(Link::is_up).is_none(), "not even a bridge");
    assert!(container.link_if_exists("eth0")?.is_none());
    Ok(())
}
