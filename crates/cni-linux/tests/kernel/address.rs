//! Addresses: added, listed and deleted.

use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{AddressSpec, LinkSpec, Result, Scope, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        loopback_has_its_two_addresses_once_up,
        one_request_lists_both_families_of_one_link => [kernel::veth],
        adding_twice_is_an_error_in_the_kernels_words => [kernel::veth],
        deleting_what_is_not_there_is_an_error => [kernel::veth],
        broadcast_is_given_only_where_there_is_one => [kernel::veth],
        options_reach_the_kernel => [kernel::veth],
        a_network_of_bad_length_is_explained,
    ]
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn eth0(sandbox: &Sandbox) -> Result<cni_linux::Netns> {
    let (container, mut undo) = (sandbox.container(), Undo::new());
    container.add_link(LinkSpec::veth("eth0", VethPeer::new("eth1")), &mut undo)?;
    undo.keep();
    Ok(container)
}

fn loopback_has_its_two_addresses_once_up(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    assert!(container.addresses("lo")?.is_empty());
    let lo = container.set_up("lo")?;
    let addresses = container.addresses(&lo)?;
    let shown: Vec<_> = addresses.iter().map(|address| (address.net, address.scope)).collect();
    assert_eq!(shown, [(net("127.0.0.1/8"), Scope::HOST), (net("::1/128"), Scope::HOST)]);
    assert!(addresses.iter().all(|address| address.is_permanent() && address.link == lo.index));
    assert!(addresses.iter().all(|address| address.peer.is_none()));
    Ok(())
}

fn one_request_lists_both_families_of_one_link(sandbox: &Sandbox) -> Result<()> {
    let container = eth0(sandbox)?;
    container.set_up("lo")?;
    container.add_address("eth0", net("10.1.2.3/24"))?;
    container.add_address("eth0", net("fd00:1::3/64"))?;
    container.add_address("eth1", net("10.9.9.9/32"))?;
    let link = container.link("eth0")?;
    let (addresses, requests) = record(|| container.addresses(&link));
    assert_eq!(requests.len(), 1);
    let nets: Vec<_> = addresses?.into_iter().map(|address| address.net).collect();
    assert_eq!(nets, [net("10.1.2.3/24"), net("fd00:1::3/64")]);
    container.del_address("eth0", net("10.1.2.3/24"))?;
    container.del_address("eth0", net("fd00:1::3/64"))?;
    assert!(container.addresses(&link)?.is_empty());
    Ok(())
}

fn adding_twice_is_an_error_in_the_kernels_words(sandbox: &Sandbox) -> Result<()> {
    let container = eth0(sandbox)?;
    container.add_address("eth0", net("10.1.2.3/24"))?;
    let error = container.add_address("eth0", net("10.1.2.3/24")).unwrap_err();
    assert!(error.is_exists());
    assert!(
        error.to_string().starts_with(r#"add address 10.1.2.3/24 of link "eth0": file exists"#),
        "{error}"
    );
    Ok(())
}

fn deleting_what_is_not_there_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let container = eth0(sandbox)?;
    let error = container.del_address("eth0", net("10.1.2.3/24")).unwrap_err();
    assert!(error.to_string().contains("cannot assign requested address"), "{error}");
    Ok(())
}

fn broadcast_is_given_only_where_there_is_one(sandbox: &Sandbox) -> Result<()> {
    let container = eth0(sandbox)?;
    for (text, broadcast) in [
        ("10.1.2.3/24", Some("10.1.2.255")),
        ("10.2.2.2/31", None),
        ("10.3.3.3/32", None),
        ("fd00::1/64", None),
    ] {
        container.add_address("eth0", AddressSpec::new(net(text)).broadcast())?;
        let addresses = container.addresses("eth0")?;
        let found = addresses.iter().find(|address| address.net == net(text)).expect("it was added");
        assert_eq!(found.broadcast.map(|address| address.to_string()).as_deref(), broadcast, "{text}");
    }
    // Without being asked, none is set: as with `ip address add`.
    container.add_address("eth1", net("10.1.2.3/24"))?;
    assert_eq!(container.addresses("eth1")?[0].broadcast, None);
    Ok(())
}

fn options_reach_the_kernel(sandbox: &Sandbox) -> Result<()> {
    let container = eth0(sandbox)?;
    container.add_address("eth0", AddressSpec::new(net("fd00::1/64")).without_dad().without_route())?;
    container.add_address("eth0", AddressSpec::new(net("169.254.1.1/16")).scope(Scope::LINK))?;
    container.set_up("eth1")?;
    container.set_up("eth0")?;
    let addresses = container.addresses("eth0")?;
    let six = addresses.iter().find(|address| address.net == net("fd00::1/64")).expect("it was added");
    assert!(!six.is_tentative() && !six.is_dad_failed());
    assert_eq!(addresses[0].scope, Scope::LINK);
    let routes = container.routes(cni_linux::RouteFilter::new().table(cni_linux::route::MAIN_TABLE))?;
    assert!(routes.iter().any(|route| route.dst == net("169.254.0.0/16")));
    assert!(!routes.iter().any(|route| route.dst == net("fd00::/64")));
    Ok(())
}

fn a_network_of_bad_length_is_explained(sandbox: &Sandbox) {
    // A link that does not exist, by index: nothing is looked up first.
    let error = sandbox.host().add_address(4711, net("10.0.0.1/8")).unwrap_err();
    assert!(error.is_gone(), "{error}");
}
