//! Ports of bridges, and VLANs.

use cni_linux::bridge::{PortState, Vlans};
use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{Link, LinkChange, LinkSpec, Mac, Netns, Result, Undo, VethPeer};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        ports_are_told_from_other_links => [kernel::bridge, kernel::veth],
        many_changes_of_a_port_are_one_request => [kernel::bridge, kernel::veth],
        a_port_knows_the_address_of_its_bridge => [kernel::bridge, kernel::veth],
        only_ports_can_be_changed_as_such => [kernel::bridge, kernel::veth],
        a_kernel_without_vlans_says_so => [kernel::bridge],
        a_bridge_heeds_vlans_from_its_birth_or_later => [kernel::bridge_vlans],
        a_port_gets_vlans_and_loses_them => [kernel::bridge_vlans, kernel::veth],
        a_range_the_wrong_way_round_is_refused => [kernel::bridge, kernel::veth],
    ]
}

/// A bridge, and a port of it that is up, and so is what is plugged into it.
fn bridged(host: &Netns, bridge: LinkSpec) -> Result<Link> {
    let mut undo = Undo::new();
    let bridge = host.add_link(bridge.up(), &mut undo)?;
    let port = LinkSpec::veth("veth0", VethPeer::new("eth0")).controller(bridge.index).up();
    let port = host.add_link(port, &mut undo)?;
    host.set_up("eth0")?;
    undo.keep();
    Ok(port)
}

fn ports_are_told_from_other_links(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    bridged(host, LinkSpec::bridge("cni0"))?;
    let wait_for = |state| {
        let is_so = move |link: &Link| link.port().is_some_and(|port| port.state == state);
        let link = host.wait_for_link("veth0", std::time::Duration::from_secs(5), is_so)?;
        Ok::<_, cni_linux::Error>(link.port().expect("it is a port"))
    };
    let port = wait_for(PortState::Forwarding)?;
    assert!(!port.hairpin && !port.isolated && port.learning && port.unicast_flood);
    assert_eq!(port.state, PortState::Forwarding);
    host.set_down("eth0")?;
    assert_eq!(wait_for(PortState::Disabled)?.state, PortState::Disabled);
    assert_eq!(host.link("cni0")?.port(), None);
    assert_eq!(host.link("eth0")?.port(), None);
    Ok(())
}

fn many_changes_of_a_port_are_one_request(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let port = bridged(host, LinkSpec::bridge("cni0"))?;
    let change = LinkChange::new()
        .hairpin(true)
        .isolated(true)
        .learning(false)
        .unicast_flood(false)
        .alias("blue")
        .mtu(1400)
        .group(7)
        .tx_queue_len(9)
        .promiscuous(true)
        .all_multicast(true);
    let (changed, requests) = record(|| host.change_link(&port, &change));
    changed?;
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(requests, [r#"RTM_NEWLINK change link "veth0""#]);
    let link = host.link("veth0")?;
    let port = link.port().expect("it is a port");
    assert!(port.hairpin && port.isolated && !port.learning && !port.unicast_flood);
    assert_eq!((link.alias.as_deref(), link.mtu, link.group, link.tx_queue_len), (Some("blue"), 1400, 7, 9));
    // The bridge wants its ports promiscuous, too, unless it knows who is behind them.
    assert!(link.promiscuity > 0 && link.is_up());
    host.change_link("veth0", &LinkChange::new().hairpin(false).isolated(false).down())?;
    let link = host.link("veth0")?;
    assert!(
        link.port().is_some_and(|port| !port.hairpin && !port.isolated && !port.learning) && !link.is_up()
    );
    Ok(())
}

fn a_port_knows_the_address_of_its_bridge(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let known = || Ok::<_, cni_linux::Error>(host.link("veth0")?.port().and_then(|port| port.bridge));
    bridged(host, LinkSpec::bridge("cni0"))?;
    assert_eq!(known()?, host.link("cni0")?.mac(), "it has that of its port by now");
    let own = Mac::new([2, 0, 0, 0, 0, 9]);
    host.set_mac("cni0", own)?;
    assert_eq!(known()?, Some(own));
    Ok(())
}

fn only_ports_can_be_changed_as_such(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    bridged(host, LinkSpec::bridge("cni0"))?;
    let error = host.change_link("nosuch", &LinkChange::new().hairpin(true)).unwrap_err();
    assert_eq!(error.to_string(), r#"change link "nosuch": Link not found"#);
    let error = host.change_link("eth0", &LinkChange::new().hairpin(true)).unwrap_err();
    assert!(error.is_unsupported(), "{error}");
    // It has to be one before.
    let bridge = host.link("cni0")?.index;
    assert!(host.change_link("eth0", &LinkChange::new().controller(bridge).hairpin(true)).is_err());
    Ok(())
}

/// Where the kernel has them this sees that, and the tests after it see the rest.
fn a_kernel_without_vlans_says_so(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    match host.add_link(LinkSpec::bridge("cni0").vlan_filtering(true), &mut undo) {
        Ok(bridge) => assert_eq!(bridge.vlan_filtering(), Some(true)),
        Err(error) => {
            assert!(error.is_unsupported(), "{error}");
            assert!(
                error.to_string().contains(r#"link "cni0""#) || error.what() == r#"bridge "cni0""#,
                "{error}"
            );
        }
    }
    undo.run().unwrap();
    assert_eq!(host.links()?.len(), 1);
    Ok(())
}

fn a_bridge_heeds_vlans_from_its_birth_or_later(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").vlan_filtering(true), &mut undo)?;
    assert_eq!(bridge.vlan_filtering(), Some(true));
    let bridge = host.add_link(LinkSpec::bridge("cni1"), &mut undo)?;
    assert_eq!(bridge.vlan_filtering(), Some(false));
    host.change_link(&bridge, &LinkChange::new().vlan_filtering(true))?;
    assert_eq!(host.link("cni1")?.vlan_filtering(), Some(true));
    assert_eq!(host.link("lo")?.vlan_filtering(), None);
    undo.run().unwrap();
    Ok(())
}

fn a_port_gets_vlans_and_loses_them(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let port = bridged(host, LinkSpec::bridge("cni0").vlan_filtering(true))?;
    assert_eq!(host.vlans(&port)?, [Vlans::access(1)], "the kernel's default");
    let (deleted, requests) = record(|| host.del_vlans(&port, 1..=4094));
    deleted?;
    assert_eq!(requests.len(), 1);
    assert!(host.vlans(&port)?.is_empty());
    let wanted = [Vlans::access(100), Vlans::tagged(200..=200), Vlans::tagged(300..=310)];
    let (added, requests) = record(|| host.add_vlans(&port, &wanted));
    added?;
    assert_eq!(requests.len(), 1);
    assert_eq!(host.vlans("veth0")?, wanted);
    host.add_vlans(&port, &[Vlans::tagged(305..=305)])?;
    host.del_vlans(&port, 300..=309)?;
    assert_eq!(host.vlans(&port)?, [Vlans::access(100), Vlans::tagged(200..=200), Vlans::tagged(310..=310)]);
    let refused = host.add_vlans(&port, &[Vlans::tagged(4095..=4095)]).unwrap_err();
    assert!(refused.to_string().starts_with(r#"add vlans of link "veth0": invalid argument"#), "{refused}");
    let refused = host.add_vlans("eth0", &[Vlans::access(1)]).unwrap_err();
    assert!(refused.is_unsupported(), "{refused}");
    assert!(host.vlans("nosuch").unwrap_err().is_gone());
    Ok(())
}

fn a_range_the_wrong_way_round_is_refused(sandbox: &Sandbox) -> Result<()> {
    let port = bridged(sandbox.host(), LinkSpec::bridge("cni0"))?;
    #[allow(clippy::reversed_empty_ranges, reason = "it is the wrong way round")]
    let error = sandbox.host().del_vlans(&port, 20..=10).unwrap_err();
    assert_eq!(error.to_string(), r#"delete vlans of link "veth0": 20 to 10: invalid argument"#);
    Ok(())
}
