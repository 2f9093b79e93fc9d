//! VLANs: who is in which, and who reaches whom.

use cni_sdk::linux::bridge::Vlans;
use cni_sdk::linux::{LinkSpec, Netns, Undo, VethPeer};
use cni_sdk::steps::names;
use cni_sdk::testing::{Sandbox, Test, break_add, kernel, record, tests};
use cni_sdk::{AddResult, Result};

use super::{Net, begun, is_kept_from, reaches};

pub(super) fn tests() -> Vec<Test> {
    tests![
        containers_of_different_vlans_do_not_reach_each_other => [kernel::bridge_vlans, kernel::veth],
        ports_are_in_the_vlans_of_the_configuration => [kernel::bridge_vlans, kernel::veth],
        a_trunk_carries_tags => [kernel::bridge_vlans, kernel::veth, kernel::vlan],
        check_notices_vlans => [kernel::bridge_vlans, kernel::veth],
        the_gateway_is_in_the_vlan => [kernel::bridge_vlans, kernel::veth],
        a_gateway_that_was_left_half_made_is_completed => [kernel::bridge_vlans, kernel::veth],
        a_hundred_at_once_behind_a_gateway_that_is_not_there => [kernel::bridge_vlans, kernel::veth],
        a_broken_add_in_a_vlan_leaves_nothing => [kernel::bridge_vlans, kernel::veth],
        a_name_that_is_too_long_for_a_gateway => [kernel::bridge_vlans, kernel::veth],
        an_empty_trunk_filters_and_changes_no_port => [kernel::bridge_vlans, kernel::veth],
    ]
}

/// The container of this number on a network with these keys.
fn pod(sandbox: &Sandbox, keys: &str, nth: u32) -> Result<(Netns, AddResult)> {
    let container = sandbox.container();
    let result = Net::new(keys).pod(nth, &container).add()?;
    Ok((container, result))
}

fn vlans(sandbox: &Sandbox, nth: u32) -> Result<Vec<Vlans>> {
    Ok(sandbox.host().vlans(&Net::new("").host_end(&format!("pod{nth}")))?)
}

fn containers_of_different_vlans_do_not_reach_each_other(sandbox: &Sandbox) -> Result<()> {
    let (one, _) = pod(sandbox, r#""vlan": 7"#, 2)?;
    let (same, _) = pod(sandbox, r#""vlan": 7"#, 3)?;
    let (other, _) = pod(sandbox, r#""vlan": 8"#, 4)?;
    let (none, _) = pod(sandbox, "", 5)?;
    assert_eq!(sandbox.host().link("cni0")?.vlan_filtering(), Some(true));
    for (netns, nth) in [(&other, 4), (&none, 5)] {
        assert!(is_kept_from(&one, netns, &format!("10.1.2.{nth}")));
        assert!(is_kept_from(&one, netns, &format!("fd00:1:2::{nth}")));
    }
    assert!(reaches(&one, &same, "10.1.2.3") && reaches(&same, &one, "fd00:1:2::2"));
    Ok(())
}

fn ports_are_in_the_vlans_of_the_configuration(sandbox: &Sandbox) -> Result<()> {
    let trunk = r#""vlanTrunk": [{"minID": 100, "maxID": 102}, {"id": 7}, {"id": 4000}]"#;
    let tagged = [Vlans::tagged(7..=7), Vlans::tagged(100..=102), Vlans::tagged(4000..=4000)];
    for (nth, (keys, expected)) in (2..).zip([
        (r#""vlan": 9"#.to_owned(), vec![Vlans::access(9)]),
        (r#""vlan": 9, "preserveDefaultVlan": true"#.to_owned(), vec![untagged(1), Vlans::access(9)]),
        (trunk.to_owned(), [&[Vlans::access(1)], tagged.as_slice()].concat()),
        (
            format!(r#""vlan": 100, {trunk}"#),
            vec![tagged[0], Vlans::access(100), Vlans::tagged(101..=102), tagged[2]],
        ),
        (String::new(), vec![Vlans::access(1)]),
    ]) {
        let (_, _) = pod(sandbox, &keys, nth)?;
        assert_eq!(vlans(sandbox, nth)?, expected, "{keys}");
    }
    Ok(())
}

/// Not what comes without a tag is in it, but what is in it goes out without one.
fn untagged(id: u16) -> Vlans {
    let mut vlans = Vlans::access(id);
    vlans.pvid = false;
    vlans
}

fn a_trunk_carries_tags(sandbox: &Sandbox) -> Result<()> {
    let mut undo = Undo::new();
    let (trunk, _) = pod(sandbox, r#""vlanTrunk": [{"id": 7}]"#, 2)?;
    let (access, _) = pod(sandbox, r#""vlan": 7"#, 3)?;
    let (other, _) = pod(sandbox, r#""vlan": 8"#, 4)?;
    let eth0 = trunk.link("eth0")?;
    trunk.del_address(&eth0, "10.1.2.2/24".parse::<ipnet::IpNet>()?)?;
    let tagged = trunk.add_link(LinkSpec::vlan("eth0.7", &eth0, 7).up(), &mut undo)?;
    trunk.add_address(&tagged, "10.1.2.2/24".parse::<ipnet::IpNet>()?)?;
    assert!(reaches(&trunk, &access, "10.1.2.3") && reaches(&access, &trunk, "10.1.2.2"));
    assert!(is_kept_from(&trunk, &other, "10.1.2.4"));
    undo.run().unwrap();
    Ok(())
}

fn check_notices_vlans(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let net = Net::new(r#""vlan": 7, "vlanTrunk": [{"minID": 100, "maxID": 110}]"#);
    let (caller, port) = (net.pod(2, &container), net.host_end("pod2"));
    let result = caller.add()?;
    caller.check(&result)?;
    let said = |text: &str| {
        assert_eq!(caller.check(&result).unwrap_err().msg, format!("port {port} {text}"));
    };
    host.add_vlans(&port, &[Vlans::tagged(300..=300)])?;
    said("is in VLAN 300 with a tag");
    host.del_vlans(&port, 300..=300)?;
    host.del_vlans(&port, 105..=105)?;
    said("is not in VLANs 100 to 110 with a tag");
    host.add_vlans(&port, &[Vlans::tagged(105..=105)])?;
    caller.check(&result)?;
    host.del_vlans(&port, 7..=7)?;
    said("is not in VLAN 7 as the native one");
    Ok(())
}

const GATEWAY: &str = r#""vlan": 7, "isDefaultGateway": true"#;

fn the_gateway_is_in_the_vlan(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let (one, result) = pod(sandbox, GATEWAY, 2)?;
    let gateway = host.link("cni0.7")?;
    assert_eq!((&*result.interfaces[3].name, result.interfaces.len()), ("cni0.7", 4));
    assert_eq!(result.interfaces[3].mac, gateway.mac().unwrap().to_string());
    assert_eq!(host.vlans(gateway.peer().unwrap())?, [Vlans::access(7)]);
    assert!(host.addresses("cni0")?.iter().all(|a| !a.net.to_string().contains("10.1.2.1")));
    assert!(reaches(&one, host, "10.1.2.1") && reaches(host, &one, "fd00:1:2::2"));
    let (other, _) = pod(sandbox, r#""vlan": 8"#, 3)?;
    assert!(is_kept_from(&other, host, "10.1.2.1"));
    Net::new(GATEWAY).pod(2, &one).check(&result)?;
    // A second one finds all as it is to be.
    let container = sandbox.container();
    let (added, requests) = record(|| Net::new(GATEWAY).pod(4, &container).add());
    added?;
    let of_gateway = |r: &&cni_sdk::testing::Recorded| {
        r.change && (r.object.contains("cni0.7") || r.doing.contains("vlans"))
    };
    let changes: Vec<_> = requests.iter().filter(of_gateway).map(ToString::to_string).collect();
    assert_eq!(changes.len(), 4, "two addresses that are there, and two for its own port: {changes:?}");
    host.del_link("cni0.7")?;
    let error = Net::new(GATEWAY).pod(2, &one).check(&result).unwrap_err();
    assert_eq!(error.msg, "VLAN gateway interface cni0.7 not found");
    Ok(())
}

/// As by a plugin that was killed, or by somebody who has the name for something else.
fn a_gateway_that_was_left_half_made_is_completed(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").vlan_filtering(true).up(), &mut undo)?;
    let port = LinkSpec::veth("veth1a2b3c4d", VethPeer::new("cni0.7")).controller(bridge.index).up();
    host.add_link(port, &mut undo)?;
    let (one, _) = pod(sandbox, GATEWAY, 2)?;
    assert_eq!(host.vlans("veth1a2b3c4d")?, [Vlans::access(7)]);
    assert!(host.link("cni0.7")?.is_up() && reaches(&one, host, "10.1.2.1"));
    undo.run().unwrap();
    Ok(())
}

fn a_hundred_at_once_behind_a_gateway_that_is_not_there(sandbox: &Sandbox) -> Result<()> {
    let pods: Vec<_> = (2..102).map(|nth| (nth, sandbox.container())).collect();
    std::thread::scope(|scope| {
        let add = |(nth, container): &(u32, Netns)| Net::new(GATEWAY).pod(*nth, container).add().map(drop);
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || add(pod))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })?;
    let host = sandbox.host();
    assert_eq!(host.vlans(host.link("cni0.7")?.peer().unwrap())?, [Vlans::access(7)]);
    assert!(reaches(&pods[99].1, host, "10.1.2.1") && reaches(&pods[0].1, &pods[99].1, "10.1.2.101"));
    Ok(())
}

fn a_broken_add_in_a_vlan_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let net = Net::new(r#""vlan": 7, "isDefaultGateway": true, "vlanTrunk": [{"minID": 100, "maxID": 200}]"#);
    begun(sandbox, net)?;
    for link in ["cni0.7", &names::vlan_port("cni0", 7)] {
        sandbox.host().wait_for_addresses(link, std::time::Duration::from_secs(10))?;
    }
    break_add(sandbox, |container| net.pod(2, container));
    Ok(())
}

fn a_name_that_is_too_long_for_a_gateway(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let net = Net::new(r#""bridge": "a-long-bridge", "vlan": 4000, "isGateway": true"#);
    let error = net.pod(2, &container).add().unwrap_err();
    let text = r#"failed to create vlan interface: faild to create vlan gateway "a-long-bridge.4000": "#;
    assert!(error.msg.starts_with(text) && error.msg.contains("file name too long"), "{error}");
    assert!(container.link_if_exists("eth0")?.is_none());
    Ok(())
}

fn an_empty_trunk_filters_and_changes_no_port(sandbox: &Sandbox) -> Result<()> {
    pod(sandbox, r#""vlanTrunk": []"#, 2)?;
    assert_eq!(sandbox.host().link("cni0")?.vlan_filtering(), Some(true));
    assert_eq!(vlans(sandbox, 2)?, [Vlans::access(1)]);
    Ok(())
}
