//! What is refused, and that nothing is left of it.

use cni_sdk::linux::{LinkSpec, VethPeer};
use cni_sdk::testing::{Caller, Sandbox, Snapshot, Test, kernel, tests};
use cni_sdk::{Code, Netns, Result, Undo};

use super::{GATEWAY, Net};

pub(super) fn tests() -> Vec<Test> {
    tests![
        rules_between_keys => [kernel::veth],
        del_takes_what_add_refuses => [kernel::bridge, kernel::veth],
        names_that_are_no_bridges => [kernel::veth],
        a_name_that_the_container_has => [kernel::bridge, kernel::veth],
        namespaces_that_are_none => [kernel::veth],
        addresses_that_no_interface_can_have => [kernel::bridge, kernel::veth],
        ipam_that_is_missing_or_gives_nothing => [kernel::bridge, kernel::veth],
        gateways_that_the_bridge_cannot_be => [kernel::bridge, kernel::veth],
        an_mtu_that_would_end_ipv6_for_others => [kernel::bridge, kernel::veth],
        ipv6_that_the_host_has_not => [kernel::bridge, kernel::veth],
    ]
}

/// Each refused configuration, as keys, with the text of its error.
const REFUSED: &[(&str, &str)] = &[
    (r#""vlan": 4095"#, "invalid VLAN ID 4095 (must be between 0 and 4094)"),
    (r#""vlan": -1"#, "invalid VLAN ID -1 (must be between 0 and 4094)"),
    (r#""vlanTrunk": [{"minID": 9, "maxID": 3}]"#, "minID is greater than maxID in trunk parameter"),
    (r#""vlanTrunk": [{"id": 4095}]"#, "incorrect trunk id parameter"),
    (
        r#""hairpinMode": true, "promiscMode": true"#,
        "cannot set hairpin mode and promiscuous mode at the same time",
    ),
    (r#""disableContainerInterface": true"#, "cannot use IPAM when DisableContainerInterface flag is set"),
    (r#""mtu": -5"#, "invalid mtu -5"),
    (r#""mtu": 20"#, "invalid mtu 20"),
    (r#""mtu": 5000000000"#, "invalid mtu 5000000000"),
    (r#""ipMasq": true, "ipMasqBackend": "ebtables""#, r#"unknown ipmasq backend "ebtables""#),
    (r#""runtimeConfig": {"mac": "c2:11:22:33:44"}"#, "address c2:11:22:33:44: invalid MAC address"),
    (r#""args": {"cni": {"mac": "nonsense"}}"#, "address nonsense: invalid MAC address"),
];

/// Adds in vain: the host and the container are as before, whatever it says.
fn refused(sandbox: &Sandbox, container: &Netns, caller: &Caller) -> Result<cni_sdk::Error> {
    let picture = || Ok::<_, cni_sdk::Error>([Snapshot::take(sandbox.host())?, Snapshot::take(container)?]);
    let before = picture()?;
    let error = caller.add().unwrap_err();
    for (before, after) in before.iter().zip(picture()?) {
        assert_eq!(before.diff(&after), Vec::<String>::new(), "{error}");
    }
    Ok(error)
}

fn rules_between_keys(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for (keys, text) in REFUSED {
        let pod = Net::new(keys).pod(2, &container);
        assert_eq!(refused(sandbox, &container, &pod)?.msg, *text);
        if keys.contains("mac") {
            continue;
        }
        let status = pod.status().unwrap_err();
        assert_eq!((status.code, status.msg.as_str()), (Code::PLUGIN_NOT_AVAILABLE, *text));
    }
    let pod = Net::new("").pod(2, &container);
    for (args, text) in [
        ("MAC=nonsense", "address nonsense: invalid MAC address"),
        ("K8S_POD=web", r#"ARGS: unknown args ["K8S_POD=web"]"#),
        ("MAC", r#"ARGS: invalid pair "MAC""#),
    ] {
        assert_eq!(refused(sandbox, &container, &pod.clone().args(args))?.msg, text);
    }
    assert_eq!(sandbox.host().links()?.len(), 1, "not even a bridge");
    Ok(())
}

fn del_takes_what_add_refuses(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for (keys, _) in REFUSED {
        let good = Net::new(GATEWAY);
        good.pod(2, &container).add()?;
        let port = good.host_end("pod2");
        assert!(sandbox.host().link_if_exists(&port)?.is_some());
        Net::new(keys).pod(2, &container).args("nonsense;").del(None)?;
        assert!(sandbox.host().link_if_exists(&port)?.is_none(), "{keys}");
        Net::new(keys).pod(2, &container).gc(&[])?;
    }
    Ok(())
}

fn names_that_are_no_bridges(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    host.add_link(LinkSpec::veth("cni0", VethPeer::new("other")), &mut undo)?;
    for (keys, text) in [
        ("", r#""cni0" already exists but is not a bridge; it is a veth"#),
        (r#""bridge": "lo""#, r#""lo" already exists but is not a bridge; it is a device"#),
        (
            r#""bridge": """#,
            r#"failed to create bridge "": could not add "": look up link "": not a link name"#,
        ),
        (
            r#""bridge": "sixteen-is-long0""#,
            r#"failed to create bridge "sixteen-is-long0": could not add "sixteen-is-long0": add link "sixteen-is-long0": file name too long"#,
        ),
    ] {
        let pod = Net::new(keys).pod(2, &container);
        assert_eq!(refused(sandbox, &container, &pod)?.to_string(), text);
        assert_eq!(pod.status().unwrap_err().code, Code::PLUGIN_NOT_AVAILABLE);
    }
    undo.run().unwrap();
    Ok(())
}

fn a_name_that_the_container_has(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let pod = Net::new(GATEWAY).pod(2, &container);
    let result = pod.add()?;
    for link in ["cni0", &Net::new(GATEWAY).host_end("pod2")] {
        sandbox.host().wait_for_addresses(link, std::time::Duration::from_secs(10))?;
    }
    let again = refused(sandbox, &container, &pod)?;
    assert!(again.msg.starts_with(r#"container veth name ("eth0") peer provided ("veth"#), "{again}");
    assert!(again.msg.ends_with("already exists"), "{again}");
    pod.check(&result)?;
    let other = Net { name: "other", ..Net::new(GATEWAY) }.pod(3, &container);
    assert!(refused(sandbox, &container, &other)?.msg.ends_with("already exists"));
    pod.check(&result)
}

fn namespaces_that_are_none(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let pod = Net::new(GATEWAY).pod(2, &container);
    let gone = refused(sandbox, &container, &pod.clone().netns("/nonexistent/netns"))?;
    assert!(
        gone.msg.contains(r#"failed to Statfs "/nonexistent/netns": no such file or directory"#),
        "{gone}"
    );
    let plain = refused(sandbox, &container, &pod.clone().netns("/etc/protocols"))?;
    assert!(plain.msg.contains(r#"unknown FS magic on "/etc/protocols": "#), "{plain}");
    assert_eq!(sandbox.host().links()?.len(), 1, "not even a bridge");
    Ok(())
}

fn addresses_that_no_interface_can_have(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let first = Net::new("").pod(9, &container);
    first.add()?;
    first.del(None)?;
    for (keys, text) in [
        (r#""runtimeConfig": {"mac": "01:00:5e:00:00:01"}"#, "cannot assign requested address"),
        (r#""mtu": 70000"#, "invalid argument"),
    ] {
        let error = refused(sandbox, &container, &Net::new(keys).pod(2, &container))?;
        assert!(error.msg.starts_with("failed to make veth pair: add link veth "), "{error}");
        assert!(error.msg.contains(text), "{error}");
    }
    Ok(())
}

fn ipam_that_is_missing_or_gives_nothing(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let first = Net::new("").pod(9, &container);
    first.add()?;
    first.del(None)?;
    for (ipam, text) in [
        (r#""ipam": {"type": "nosuch"}"#, "nosuch"),
        (r#""ipam": {"type": "static"}"#, "IPAM plugin returned missing IP config"),
        (r#""ipam": {"type": "bridge"}"#, "plugin bridge is told to get addresses from itself"),
    ] {
        let pod = Net::new("").with_ipam(ipam, &container);
        let error = refused(sandbox, &container, &pod)?;
        assert!(error.to_string().contains(text), "{error}");
        let removed = pod.del(None);
        assert_eq!(removed.is_err(), ipam.contains("nosuch"), "what is not there cannot be asked");
    }
    Ok(())
}

fn gateways_that_the_bridge_cannot_be(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let first = Net::new("").pod(9, &container);
    first.add()?;
    first.del(None)?;
    for (address, gateway, why) in [
        ("10.1.2.1/24", "10.1.2.1", "is its own address"),
        ("10.1.2.2/24", "fd00:1:2::1", "is of the other version of IP"),
        ("10.1.2.2/24", "0.0.0.0", "is no address"),
    ] {
        let ipam = format!(
            r#""ipam": {{"type": "static", "addresses": [{{"address": "{address}", "gateway": "{gateway}"}}]}}"#
        );
        let error = refused(sandbox, &container, &Net::new(GATEWAY).with_ipam(&ipam, &container))?;
        let address = address.split('/').next().unwrap();
        assert_eq!(error.msg, format!("the gateway of {address}, {gateway}, {why}"));
    }
    Ok(())
}

fn an_mtu_that_would_end_ipv6_for_others(sandbox: &Sandbox) -> Result<()> {
    let (one, other) = (sandbox.container(), sandbox.container());
    Net::new(GATEWAY).with_addresses(&["fd00:1:2::2/64"], &one).add()?;
    sandbox.host().wait_for_addresses("cni0", std::time::Duration::from_secs(10))?;
    let error = refused(sandbox, &other, &Net::new(r#""mtu": 1279"#).pod(3, &other))?;
    assert_eq!(error.msg, r#"mtu 1279 would take fd00:1:2::1/64 from bridge "cni0": IPv6 needs 1280"#);
    Net::new(r#""mtu": 1280"#).pod(3, &other).add()?;
    Ok(())
}

fn ipv6_that_the_host_has_not(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    host.ensure_sysctls(&[
        ("net/ipv6/conf/all/disable_ipv6", "1"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ])?;
    let first = Net::new("").pod(9, &container);
    first.add()?;
    first.del(None)?;
    let pod = Net::new(GATEWAY).with_addresses(&["fd00:1:2::2/64"], &container);
    let error = refused(sandbox, &container, &pod)?;
    let text = r#"failed to set bridge addr: could not add IP address fd00:1:2::1/64 to "cni0": "#;
    assert!(error.msg.starts_with(text), "{error}");
    assert_eq!(error.details, "IPv6 is off there: net/ipv6/conf/cni0/disable_ipv6");
    Net::new(GATEWAY).with_addresses(&["10.1.2.2/24"], &container).add()?;
    Ok(())
}
