//! Links: made, looked up, changed and deleted.

use std::net::IpAddr;
use std::sync::Barrier;
use std::time::Duration;

use cni_linux::link::spec::{IpvlanMode, MacvlanMode};
use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{
    Errno, Link, LinkChange, LinkSpec, Mac, Netns, OperState, Result, RouteSpec, Undo, VethPeer,
};
use ipnet::IpNet;

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
        a_vlan_sits_on_its_parent => [kernel::vlan],
        an_ipvlan_has_its_parents_hardware_address => [kernel::ipvlan],
        ports_and_kinds_are_listed_alone => [kernel::bridge, kernel::veth],
        a_vrf_has_ports => [kernel::vrf, kernel::veth],
        a_group_goes_in_one_request => [kernel::veth],
        the_default_group_cannot_go => [kernel::veth],
        a_hundred_at_once_share_a_bridge => [kernel::bridge, kernel::veth],
        what_the_kernel_takes_at_birth => [kernel::veth, kernel::bridge],
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
    let again = host.link("veth0")?;
    assert_eq!(
        (&veth.name, veth.index, veth.mac, &veth.alias),
        (&again.name, again.index, again.mac, &again.alias)
    );
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

fn a_vlan_sits_on_its_parent(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let parent = host.add_link(LinkSpec::veth("uplink", VethPeer::new("switch")), &mut undo)?;
    let vlan =
        host.add_link(LinkSpec::vlan("eth0", &parent, 100).into_netns(&container).mtu(1400), &mut undo)?;
    assert_eq!((vlan.kind(), vlan.vlan_id(), vlan.mtu), (Some("vlan"), Some(100), 1400));
    assert_eq!((vlan.peer(), vlan.mac()), (Some(parent.index), parent.mac()));
    assert!(host.add_link(LinkSpec::vlan("bad", &parent, 4095), &mut undo).is_err());
    undo.run().unwrap();
    Ok(())
}

fn an_ipvlan_has_its_parents_hardware_address(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let parent = host.add_link(LinkSpec::veth("uplink", VethPeer::new("switch")), &mut undo)?;
    let spec = LinkSpec::ipvlan("eth0", &parent, IpvlanMode::L3s).into_netns(&container);
    let ipvlan = host.add_link(spec, &mut undo)?;
    assert_eq!((ipvlan.kind(), ipvlan.mac()), (Some("ipvlan"), parent.mac()));
    undo.run().unwrap();
    Ok(())
}

fn ports_and_kinds_are_listed_alone(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("br0"), &mut undo)?;
    let other = host.add_link(LinkSpec::bridge("br1"), &mut undo)?;
    for (name, peer, controller) in
        [("veth0", "eth0", Some(bridge.index)), ("veth1", "eth1", Some(other.index))]
    {
        host.add_link(LinkSpec::veth(name, VethPeer::new(peer)).controller(controller), &mut undo)?;
    }
    let names = |links: Vec<Link>| links.into_iter().map(|link| link.name).collect::<Vec<_>>();
    assert_eq!(names(host.ports(bridge.index)?), ["veth0"]);
    assert_eq!(names(host.ports(other.index)?), ["veth1"]);
    assert!(host.ports(host.link("veth0")?.index)?.is_empty(), "it has none");
    assert_eq!(names(host.links_of_kind("bridge")?), ["br0", "br1"]);
    assert_eq!(host.links_of_kind("veth")?.len(), 4);
    assert!(host.links_of_kind("nosuch")?.is_empty());
    let (_, requests) = record(|| host.ports(bridge.index));
    let expected = format!("RTM_GETLINK list links that are ports of number {}", bridge.index);
    assert_eq!(requests.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    undo.run().unwrap();
    Ok(())
}

fn a_vrf_has_ports(sandbox: &Sandbox) -> Result<()> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    let vrf = container.add_link(LinkSpec::vrf("blue", 500).up(), &mut undo)?;
    assert_eq!((vrf.kind(), vrf.is_up()), (Some("vrf"), true));
    let spec = LinkSpec::veth("eth0", VethPeer::new("eth1")).controller(vrf.index);
    assert_eq!(container.add_link(spec, &mut undo)?.controller(), Some(vrf.index));
    undo.run().unwrap();
    Ok(())
}

fn a_group_goes_in_one_request(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    for nth in 0..20 {
        let peer = VethPeer::new(format!("eth{nth}")).into_netns(&container);
        let group = if nth < 15 { 4711 } else { 4712 };
        host.add_link(LinkSpec::veth(format!("veth{nth}"), peer).group(group), &mut undo)?;
    }
    undo.keep();
    let (existed, requests) = record(|| host.del_link_group(4711));
    assert!(existed?);
    let requests: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(requests, ["RTM_DELLINK delete link group 4711"]);
    assert_eq!((host.links()?.len(), container.links()?.len()), (6, 6));
    assert!(!host.del_link_group(4711)?);
    Ok(())
}

fn the_default_group_cannot_go(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    host.add_link(LinkSpec::veth("a", VethPeer::new("b")), &mut undo)?;
    assert!(host.del_link_group(0).unwrap_err().is_denied());
    host.change_link("lo", &LinkChange::new().group(7))?;
    host.change_link("a", &LinkChange::new().group(7))?;
    assert!(host.del_link_group(7).is_err(), "nobody can delete loopback");
    assert!(host.link("a").is_ok());
    undo.run().unwrap();
    Ok(())
}

fn a_hundred_at_once_share_a_bridge(sandbox: &Sandbox) -> Result<()> {
    const THREADS: usize = 100;
    let barrier = Barrier::new(THREADS);
    let indices: Vec<u32> = std::thread::scope(|scope| {
        let threads = (0..THREADS).map(|nth| {
            let barrier = &barrier;
            scope.spawn(move || {
                // A socket of its own, as a process has.
                let (host, mut undo) = (Netns::current().unwrap(), Undo::new());
                barrier.wait();
                let bridge = host.ensure_link(LinkSpec::bridge("cni0").up()).unwrap();
                let port = LinkSpec::veth(format!("veth{nth}"), VethPeer::new(format!("eth{nth}")));
                let port = host.add_link(port.controller(bridge.index).up(), &mut undo).unwrap();
                assert_eq!(port.controller(), Some(bridge.index));
                undo.keep();
                bridge.index
            })
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let bridge = sandbox.host().link("cni0")?;
    assert!(bridge.is_up() && indices.iter().all(|index| *index == bridge.index));
    let (there, requests) = record(|| sandbox.host().ensure_link(LinkSpec::bridge("cni0")));
    assert_eq!((there?.index, requests.len()), (bridge.index, 1));
    // Whoever wants a bridge has to look what it is that he got.
    assert_eq!(sandbox.host().ensure_link(LinkSpec::bridge("lo"))?.kind(), None);
    Ok(())
}

/// What [`Netns::add_link`] says about the number of requests is what the kernel makes of one.
fn what_the_kernel_takes_at_birth(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let bridge = host.add_link(LinkSpec::bridge("cni0").up(), &mut undo)?.index;
    let peer = VethPeer::new("eth0").into_netns(&container).mtu(1400).mac(MAC).group(5);
    let spec = LinkSpec::veth("veth0", peer).mtu(1400).group(5).tx_queue_len(9).controller(bridge).up();
    let (veth, requests) = record(|| host.add_link(spec, &mut undo));
    let veth = veth?;
    assert_eq!(requests.iter().filter(|request| request.change).count(), 1);
    assert_eq!((veth.controller(), veth.group, veth.mtu), (Some(bridge), 5, 1400));
    assert!(veth.is_up() && veth.port().is_some());
    // The index of the other end is known without asking, and it needs no more than these.
    let eth0 = veth.peer().expect("the other end");
    let (connected, requests) = record(|| -> Result<()> {
        container.add_address(eth0, "10.1.2.3/24".parse::<IpNet>().expect("a network"))?;
        container.change_link(eth0, &LinkChange::new().up())?;
        let gateway: IpAddr = "10.1.2.1".parse().expect("an address");
        container
            .add_route(&RouteSpec::new("0.0.0.0/0".parse().expect("a network")).gateway(gateway).device(eth0))
    });
    connected?;
    assert_eq!(requests.len(), 3);
    let works = |link: &Link| link.oper_state() == OperState::Up;
    let veth = host.wait_for_link("veth0", Duration::from_secs(5), works)?;
    assert_eq!(veth.oper_state(), OperState::Up);
    undo.run().unwrap();
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
    let before = host.links().unwrap().len();
    for spec in [LinkSpec::bridge("br%d"), LinkSpec::veth("a", VethPeer::new("b%d"))] {
        let error = host.add_link(spec, &mut undo).unwrap_err();
        assert!(error.to_string().ends_with("a new link can have no % in its name"), "{error}");
    }
    assert_eq!(host.links().unwrap().len(), before);
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
