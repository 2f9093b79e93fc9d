//! Links: made, looked up, changed and deleted.

use cni_linux::link::spec::MacvlanMode;
use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{Errno, LinkSpec, Mac, OperState, Result, Undo, VethPeer};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_veth_pair_is_born_in_place => [kernel::veth],
        both_ends_can_be_born_elsewhere => [kernel::veth],
        a_peer_without_a_namespace_stays => [kernel::veth],
        undoing_deletes_the_link_even_when_it_was_renamed => [kernel::veth],
        undoing_leaves_a_namesake_alone => [kernel::veth],
        a_taken_name_is_an_error_and_leaves_nothing => [kernel::veth],
        a_bridge_gets_ports => [kernel::bridge, kernel::veth],
        a_dummy_is_born_up => [kernel::dummy],
        a_macvlan_is_born_in_the_container => [kernel::macvlan],
        an_ifb_has_no_peer => [kernel::ifb],
        an_unknown_kind_says_so,
        a_missing_link_is_not_found,
        names_that_are_no_names_are_refused,
        up_and_down_are_two_requests_and_one,
        attributes_can_be_changed => [kernel::veth],
        a_link_can_be_moved_and_renamed_in_one_request => [kernel::veth],
        links_are_found_by_alternative_names => [kernel::veth],
        a_macs_text_is_the_kernels => [kernel::veth],
    ]
}

const MAC: Mac = Mac::new([0x02, 0xab, 0, 0, 0, 1]);

fn a_veth_pair_is_born_in_place(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let peer = VethPeer::new("eth0").into_netns(&container).mtu(1300).mac(MAC).tx_queue_len(77).group(5);
    let spec = LinkSpec::veth("veth0", peer).mtu(1400).up().alias("pod blue").group(9).tx_queue_len(0);
    let (veth, requests) = record(|| host.add_link(spec, &mut undo));
    let veth = veth?;
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(
        requests,
        [
            r#"RTM_NEWLINK add link veth "veth0" peer "eth0""#,
            r#"RTM_GETLINK look up link "veth0""#,
            &format!("RTM_SETLINK set alias of link number {}", veth.index),
        ]
    );
    assert_eq!(veth, host.link("veth0")?);
    assert_eq!((veth.mtu, veth.group, veth.tx_queue_len), (1400, 9, 0));
    assert_eq!((veth.alias.as_deref(), veth.kind(), veth.is_up()), (Some("pod blue"), Some("veth"), true));

    let eth = container.link("eth0")?;
    assert_eq!((eth.mtu, eth.mac(), eth.tx_queue_len, eth.group), (1300, Some(MAC), 77, 5));
    assert_eq!((eth.kind(), eth.is_up(), eth.controller()), (Some("veth"), false, None));
    assert_eq!((veth.peer(), eth.peer()), (Some(eth.index), Some(veth.index)));
    assert!(veth.peer_netns_id().is_some() && eth.peer_netns_id().is_some());
    assert_eq!(host.links()?.len(), 2, "the peer was never in the host, and is not now");

    container.set_up("eth0")?;
    assert_eq!(undo.names(), ["link veth0"]);
    undo.run().unwrap();
    assert!(host.link("veth0").unwrap_err().is_gone());
    assert!(container.link_if_exists("eth0")?.is_none());
    Ok(())
}

fn both_ends_can_be_born_elsewhere(sandbox: &Sandbox) -> Result<()> {
    let (one, other, mut undo) = (sandbox.container(), sandbox.container(), Undo::new());
    let spec = LinkSpec::veth("left", VethPeer::new("right").into_netns(&other)).into_netns(&one);
    let left = sandbox.host().add_link(spec, &mut undo)?;
    assert_eq!(left, one.link("left")?);
    assert_eq!(other.link("right")?.peer(), Some(left.index));
    assert_eq!(sandbox.host().links()?.len(), 1);
    undo.run().unwrap();
    assert_eq!((one.links()?.len(), other.links()?.len()), (1, 1));
    Ok(())
}

fn a_peer_without_a_namespace_stays(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let away = LinkSpec::veth("away", VethPeer::new("home")).into_netns(&container);
    host.add_link(away, &mut undo)?;
    assert!(host.link("home").is_ok() && container.link("away").is_ok());
    undo.keep();
    Ok(())
}

fn undoing_deletes_the_link_even_when_it_was_renamed(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let link = host.add_link(LinkSpec::veth("temporary", VethPeer::new("peer")), &mut undo)?;
    host.rename(&link, "final")?;
    undo.run().unwrap();
    assert_eq!(host.links()?.len(), 1);
    Ok(())
}

fn undoing_leaves_a_namesake_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    host.add_link(LinkSpec::veth("eth0", VethPeer::new("peer")), &mut undo)?;
    host.del_link("eth0")?;
    let mut keep = Undo::new();
    let other = host.add_link(LinkSpec::veth("eth0", VethPeer::new("peer")), &mut keep)?;
    keep.keep();
    undo.run().unwrap();
    assert_eq!(host.link("eth0")?.index, other.index);
    Ok(())
}

fn a_taken_name_is_an_error_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("other")), &mut undo)?;
    let steps = undo.len();
    let spec = LinkSpec::veth("veth0", VethPeer::new("eth0").into_netns(&container));
    let error = host.add_link(spec, &mut undo).unwrap_err();
    assert!(error.is_exists());
    assert_eq!(error.to_string(), r#"add link veth "veth0" peer "eth0": file exists"#);
    assert_eq!(undo.len(), steps);
    assert_eq!(host.links()?.len(), 1);
    undo.run().unwrap();
    Ok(())
}

fn a_bridge_gets_ports(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").mac(MAC).up(), &mut undo)?;
    assert_eq!((bridge.kind(), bridge.mac(), bridge.is_up()), (Some("bridge"), Some(MAC), true));
    let peer = VethPeer::new("eth0");
    let port = host.add_link(LinkSpec::veth("veth0", peer).controller(bridge.index).up(), &mut undo)?;
    assert_eq!(port.controller(), Some(bridge.index));
    host.set_up("eth0")?;
    assert!(host.link("veth0")?.is_up());
    host.set_controller(&port, 0)?;
    assert_eq!(host.link(&port)?.controller(), None);
    host.set_controller("eth0", bridge.index)?;
    assert_eq!(host.link("eth0")?.controller(), Some(bridge.index));
    undo.run().unwrap();
    assert_eq!(host.links()?.len(), 1);
    Ok(())
}

fn a_dummy_is_born_up(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let dummy = sandbox.host().add_link(LinkSpec::dummy("d0").into_netns(&container).up(), &mut undo)?;
    assert_eq!((dummy.kind(), dummy.is_up()), (Some("dummy"), true));
    assert!(container.del_link_if_exists("d0")?);
    undo.run().unwrap();
    Ok(())
}

fn a_macvlan_is_born_in_the_container(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let parent = host.add_link(LinkSpec::veth("uplink", VethPeer::new("switch")), &mut undo)?;
    let spec =
        LinkSpec::macvlan("eth0", &parent, MacvlanMode::Private).into_netns(&container).mac(MAC).mtu(1200);
    let macvlan = host.add_link(spec, &mut undo)?;
    assert_eq!((macvlan.kind(), macvlan.mac(), macvlan.mtu), (Some("macvlan"), Some(MAC), 1200));
    assert_eq!((macvlan.peer(), macvlan.peer_netns_id().is_some()), (Some(parent.index), true));
    assert_eq!(host.links()?.len(), 3);
    undo.run().unwrap();
    assert_eq!((host.links()?.len(), container.links()?.len()), (1, 1));
    Ok(())
}

fn an_ifb_has_no_peer(sandbox: &Sandbox) -> Result<()> {
    let mut undo = Undo::new();
    let ifb = sandbox.host().add_link(LinkSpec::ifb("bwp0"), &mut undo)?;
    assert_eq!((ifb.kind(), ifb.peer(), ifb.oper_state()), (Some("ifb"), None, OperState::Down));
    undo.keep();
    Ok(())
}

fn an_unknown_kind_says_so(sandbox: &Sandbox) {
    // No kernel makes a VLAN or a macvlan of loopback; the words are the kernel's.
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let lo = host.link("lo").unwrap();
    let error = host.add_link(LinkSpec::macvlan("m0", &lo, MacvlanMode::Bridge), &mut undo).unwrap_err();
    assert!(error.to_string().starts_with(r#"add link macvlan "m0": "#), "{error}");
    assert!(undo.is_empty());
}

fn a_missing_link_is_not_found(sandbox: &Sandbox) {
    let host = sandbox.host();
    let error = host.link("eth0").unwrap_err();
    assert_eq!(error.to_string(), r#"look up link "eth0": Link not found"#);
    assert!(error.is_gone() && !error.is_exists());
    assert_eq!(error.errno(), Some(Errno::NODEV));
    assert_eq!(host.link(4711).unwrap_err().to_string(), "look up link number 4711: Link not found");
    assert_eq!(host.set_up("eth0").unwrap_err().to_string(), r#"set up link "eth0": Link not found"#);
    assert_eq!(host.del_link("eth0").unwrap_err().to_string(), r#"delete link "eth0": Link not found"#);
    assert!(host.rename("eth0", "eth1").unwrap_err().is_gone());
    assert!(host.addresses("eth0").unwrap_err().is_gone());
    assert!(!host.del_link_if_exists("eth0").unwrap());
    assert_eq!(host.link_if_exists("eth0").unwrap(), None);
    let long = "x".repeat(40);
    assert!(host.link(&long).unwrap_err().to_string().ends_with("Link not found"));
}

fn names_that_are_no_names_are_refused(sandbox: &Sandbox) {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    assert_eq!(host.link("").unwrap_err().to_string(), r#"look up link "": not a link name"#);
    // Were it cut at the zero, this would be loopback.
    assert_eq!(host.set_up("lo\0x").unwrap_err().to_string(), r#"set up link "lo\0x": not a link name"#);
    assert!(!host.link("lo").unwrap().is_up());
    let error = host.add_link(LinkSpec::bridge("x".repeat(16)), &mut undo).unwrap_err();
    assert_eq!(error.to_string(), format!(r#"add link "{}": file name too long"#, "x".repeat(16)));
    assert!(host.add_link(LinkSpec::bridge("a/b"), &mut undo).is_err());
}

fn up_and_down_are_two_requests_and_one(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (lo, requests) = record(|| container.set_up("lo"));
    let lo = lo?;
    assert!(lo.is_up() && lo.is_loopback());
    assert_eq!((lo.name.as_str(), lo.index, lo.kind(), lo.mac()), ("lo", 1, None, Some(Mac::default())));
    let names: Vec<_> = requests.iter().map(|request| (request.message, request.change)).collect();
    assert_eq!(names, [("RTM_SETLINK", true), ("RTM_GETLINK", false)]);
    let (down, requests) = record(|| container.set_down(&lo));
    down?;
    assert_eq!(requests.len(), 1);
    assert!(!container.link("lo")?.is_up());
    Ok(())
}

fn attributes_can_be_changed(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let link = host.add_link(LinkSpec::veth("a", VethPeer::new("b")), &mut undo)?;
    host.set_mtu(&link, 1234)?;
    host.set_mac("a", MAC)?;
    host.set_alias(link.index, "tagged")?;
    host.set_promiscuous(&link, true)?;
    let changed = host.link("a")?;
    assert_eq!((changed.mtu, changed.mac(), changed.alias.as_deref()), (1234, Some(MAC), Some("tagged")));
    assert_eq!(changed.promiscuity, 1);
    host.set_promiscuous(&link, false)?;
    host.set_alias("a", "")?;
    let changed = host.link("a")?;
    assert_eq!((changed.promiscuity, changed.alias), (0, None));
    let error = host.set_mtu(&link, 1).unwrap_err();
    assert_eq!(error.said(), Some("mtu less than device minimum"));
    assert_eq!(error.to_string(), r#"set mtu of link "a": invalid argument (mtu less than device minimum)"#);
    undo.run().unwrap();
    Ok(())
}

fn a_link_can_be_moved_and_renamed_in_one_request(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let link = host.add_link(LinkSpec::veth("ens3", VethPeer::new("b")), &mut undo)?;
    let (moved, requests) = record(|| host.move_link(&link, &container, Some("eth0")));
    moved?;
    assert_eq!(requests.len(), 1);
    assert!(host.link("ens3").unwrap_err().is_gone());
    assert_eq!(container.link("eth0")?.kind(), Some("veth"));
    container.rename("eth0", "eth1")?;
    container.move_link("eth1", host, None)?;
    assert!(host.link("eth1").is_ok());
    undo.keep();
    Ok(())
}

fn links_are_found_by_alternative_names(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let link = host.add_link(LinkSpec::veth("a", VethPeer::new("b")), &mut undo)?;
    let long = "a-name-that-is-much-longer-than-fifteen-octets";
    let added = std::process::Command::new("ip")
        .args(["link", "property", "add", "dev", "a", "altname", long])
        .status()
        .expect("ip can be started");
    assert!(added.success());
    assert_eq!(host.link(long)?.index, link.index);
    assert!(host.set_up(long)?.is_up());
    undo.run().unwrap();
    Ok(())
}

fn a_macs_text_is_the_kernels(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let link = host.add_link(LinkSpec::veth("a", VethPeer::new("b")).mac(MAC), &mut undo)?;
    let shown =
        std::process::Command::new("ip").args(["link", "show", "a"]).output().expect("ip can be started");
    let text = format!("link/ether {} brd", link.mac().unwrap());
    assert!(String::from_utf8_lossy(&shown.stdout).contains(&text), "{shown:?}");
    undo.run().unwrap();
    Ok(())
}
