//! Waiting for links and addresses.

use std::time::{Duration, Instant};

use cni_linux::testing::{Sandbox, Test, kernel, record, tests};
use cni_linux::{AddressSpec, Link, LinkSpec, Netns, OperState, Result, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        what_is_so_already_is_one_request => [kernel::veth],
        a_link_that_comes_up_is_noticed => [kernel::veth],
        time_that_is_up_shows_how_it_is => [kernel::veth],
        a_link_that_goes_meanwhile_is_gone => [kernel::veth],
        the_noise_of_other_links_is_passed_over => [kernel::veth],
        addresses_without_detection_are_ready => [kernel::veth],
        addresses_are_waited_for_until_they_are_checked => [kernel::veth],
        an_address_that_somebody_else_has_is_an_error => [kernel::veth],
    ]
}

const LONG: Duration = Duration::from_secs(20);

fn is_up(link: &Link) -> bool {
    link.oper_state() == OperState::Up
}

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// `veth0`, up, whose other end `eth0` is down.
fn half_up(host: &Netns) -> Result<Link> {
    let mut undo = Undo::new();
    let link = host.add_link(LinkSpec::veth("veth0", VethPeer::new("eth0")).up(), &mut undo)?;
    undo.keep();
    Ok(link)
}

fn what_is_so_already_is_one_request(sandbox: &Sandbox) -> Result<()> {
    let link = half_up(sandbox.host())?;
    let (waited, requests) = record(|| sandbox.host().wait_for_link(&link, LONG, Link::is_up));
    assert!(waited?.is_up());
    assert_eq!(requests.len(), 1);
    Ok(())
}

fn a_link_that_comes_up_is_noticed(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let link = half_up(host)?;
    let other = Netns::current()?;
    let started = Instant::now();
    let (waited, requests) = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            other.set_up("eth0").unwrap();
        });
        record(|| host.wait_for_link(&link, LONG, is_up))
    });
    assert_eq!(waited?.oper_state(), OperState::Up);
    assert!(started.elapsed() >= Duration::from_millis(200) && started.elapsed() < LONG / 2);
    // At first, once it is listened, and at most for each of a few changes.
    assert!(requests.len() >= 3 && requests.len() < 10, "{}", requests.len());
    Ok(())
}

fn time_that_is_up_shows_how_it_is(sandbox: &Sandbox) -> Result<()> {
    let link = half_up(sandbox.host())?;
    // The kernel finds out for itself a moment after its birth.
    let lower = |link: &Link| link.oper_state() == OperState::LowerLayerDown;
    sandbox.host().wait_for_link(&link, LONG, lower)?;
    let (timeout, started) = (Duration::from_millis(300), Instant::now());
    let last = sandbox.host().wait_for_link(&link, timeout, is_up)?;
    assert!(started.elapsed() >= timeout);
    assert_eq!((last.oper_state(), last.name.as_str()), (OperState::LowerLayerDown, "veth0"));
    let none = sandbox.host().wait_for_link(&link, Duration::ZERO, is_up)?;
    assert_eq!(none, last);
    Ok(())
}

fn a_link_that_goes_meanwhile_is_gone(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let link = half_up(host)?;
    let other = Netns::current()?;
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            other.del_link("veth0").unwrap();
        });
        host.wait_for_link(&link, LONG, is_up)
    });
    assert!(waited.unwrap_err().is_gone());
    assert!(host.wait_for_link("veth0", LONG, is_up).unwrap_err().is_gone());
    Ok(())
}

/// More of it than the socket can keep.
fn the_noise_of_other_links_is_passed_over(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let (link, mut undo) = (half_up(host)?, Undo::new());
    let other = Netns::current()?;
    other.add_link(LinkSpec::veth("noise", VethPeer::new("other")), &mut undo)?;
    let waited = std::thread::scope(|scope| {
        scope.spawn(|| {
            for nth in 0..2000 {
                other.set_alias("noise", &nth.to_string()).unwrap();
            }
            other.set_up("eth0").unwrap();
        });
        host.wait_for_link(&link, LONG, is_up)
    });
    assert_eq!(waited?.oper_state(), OperState::Up);
    undo.run().unwrap();
    Ok(())
}

fn addresses_without_detection_are_ready(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    host.ensure_sysctls(&[("net/ipv6/conf/default/accept_dad", "0")])?;
    let link = half_up(host)?;
    host.add_address(&link, net("10.1.2.3/24"))?;
    host.add_address(&link, AddressSpec::new(net("fd00::3/64")).without_dad())?;
    host.set_up("eth0")?;
    let started = Instant::now();
    // The kernel's own, link-local one is tentative for a moment all the same.
    let addresses = host.wait_for_addresses(&link, LONG)?;
    assert!(started.elapsed() < Duration::from_millis(900), "that is what detection takes");
    assert!(addresses.iter().any(|address| address.net == net("fd00::3/64")));
    let (waited, requests) = record(|| host.wait_for_addresses(&link, Duration::ZERO));
    waited?;
    assert!(requests.len() <= 2, "{requests:?}");
    assert!(host.wait_for_addresses("nosuch", LONG).unwrap_err().is_gone());
    Ok(())
}

fn addresses_are_waited_for_until_they_are_checked(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let link = half_up(host)?;
    host.add_address(&link, net("fd00::3/64"))?;
    host.add_address(&link, AddressSpec::new(net("fd00::4/64")).optimistic())?;
    host.set_up("eth0")?;
    let early = host.wait_for_addresses(&link, Duration::ZERO)?;
    assert!(early.iter().any(|address| address.net == net("fd00::3/64") && address.is_tentative()));
    let started = Instant::now();
    let (settled, requests) = record(|| host.wait_for_addresses(&link, LONG));
    let settled = settled?;
    assert_eq!(settled.len(), 3, "two, and the link-local one");
    assert!(settled.iter().all(|address| !address.is_tentative()));
    assert!(started.elapsed() < LONG / 2 && requests.len() < 12, "{}", requests.len());
    Ok(())
}

fn an_address_that_somebody_else_has_is_an_error(sandbox: &Sandbox) -> Result<()> {
    let (host, mut undo) = (sandbox.host(), Undo::new());
    let container = sandbox.container();
    let peer = VethPeer::new("eth0").into_netns(&container);
    host.add_link(LinkSpec::veth("veth0", peer).up(), &mut undo)?;
    host.add_address("veth0", AddressSpec::new(net("fd00::3/64")).without_dad())?;
    container.add_address("eth0", net("fd00::3/64"))?;
    container.set_up("eth0")?;
    let error = container.wait_for_addresses("eth0", LONG).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"wait for address fd00::3/64 of link "eth0": somebody else has it (duplicate address detection)"#
    );
    let addresses = container.addresses("eth0")?;
    assert!(addresses.iter().any(|address| address.is_dad_failed()));
    undo.run().unwrap();
    Ok(())
}
