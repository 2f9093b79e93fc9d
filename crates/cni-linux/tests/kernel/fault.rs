//! Fault injection and recording, which the tests of the plugins are built on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cni_linux::nftables::{Addition, Element, Family, Ruleset, Set, Table, Type, Value};
use cni_linux::testing::{Sandbox, Snapshot, Test, fail_at, kernel, record, tests};
use cni_linux::{Errno, LinkChange, LinkSpec, Netns, Result, RouteSpec, Undo, VethPeer};
use ipnet::IpNet;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        every_change_can_fail_and_leaves_nothing => [kernel::bridge, kernel::veth],
        every_room_is_broken_in_turn_and_leaves_nothing => [kernel::bridge, kernel::veth, kernel::nft],
        an_injected_fault_is_recognisable,
        only_the_one_change_fails_and_questions_never,
        run_inherits_the_fault_and_other_threads_do_not,
        a_panic_ends_the_watch,
        a_recording_lists_changes_and_questions,
    ]
}

/// Some work of several steps, as a plugin would do it.
fn attach(host: &Netns, container: &Netns, undo: &mut Undo) -> Result<()> {
    let bridge = host.add_link(LinkSpec::bridge("cni0").up(), undo)?;
    let peer = VethPeer::new("eth0").into_netns(container);
    host.add_link(LinkSpec::veth("veth0", peer).controller(bridge.index).up().alias("blue"), undo)?;
    container.add_address("eth0", "10.1.2.3/24".parse::<IpNet>().expect("a network"))?;
    container.set_up("eth0")?;
    Ok(())
}

fn every_change_can_fail_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let before = (Snapshot::take(host)?, Snapshot::take(&container)?);
    let mut broken = 0;
    for nth in 1.. {
        let mut undo = Undo::new();
        let injected = fail_at(nth, || attach(host, &container, &mut undo));
        if !injected.reached {
            injected.outcome?;
            assert_ne!(Snapshot::take(host)?, before.0, "the work did something");
            undo.keep();
            break;
        }
        assert!(injected.outcome.unwrap_err().is_injected());
        undo.run().unwrap();
        assert_eq!(before.0.diff(&Snapshot::take(host)?), [""; 0], "change {nth}");
        assert_eq!(before.1.diff(&Snapshot::take(&container)?), [""; 0], "change {nth}");
        broken += 1;
    }
    assert_eq!(broken, 5, "bridge, veth, alias, address, up");
    Ok(())
}

const TABLE: Table<'_> = Table::new(Family::Inet, "t");
const SOURCES: Set<'_> = Set::new(TABLE, "sources", &[Type::Ipv4Addr]);

fn shared() -> Ruleset {
    Ruleset::new().table(&TABLE).set(&SOURCES)
}

/// What [`attach`] does, and whatever else there is to change.
fn attach_in_full(host: &Netns, container: &Netns, undo: &mut Undo) -> Result<()> {
    attach(host, container, undo)?;
    host.change_link("veth0", &LinkChange::new().hairpin(true).isolated(true))?;
    host.set_sysctls(&[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")], undo)?;
    container
        .ensure_sysctls(&[("net/ipv4/conf/eth0/arp_notify", "1"), ("net/ipv6/conf/eth0/accept_ra", "0")])?;
    let address = "10.1.2.3".parse().expect("an address");
    container.add_route(
        &RouteSpec::new("192.0.2.0/24".parse().expect("a network")).device(container.link("eth0")?.index),
    )?;
    let source = Element::new([Value::Ip(address)]).comment("whose");
    host.add_nft(&Addition::new().element(&SOURCES, &source), &shared(), undo)?;
    container.announce("eth0", &[address])
}

fn every_room_is_broken_in_turn_and_leaves_nothing(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    host.ensure_nft(&shared())?;
    let before = (Snapshot::take(host)?, Snapshot::take(&container)?);
    for nth in 1.. {
        let mut undo = Undo::new();
        let injected = fail_at(nth, || attach_in_full(host, &container, &mut undo));
        if injected.reached {
            assert!(injected.outcome.unwrap_err().is_injected());
        } else {
            injected.outcome?;
            assert_eq!(
                nth, 15,
                "five of attach, port, two and two sysctls, route, element, two of announcement"
            );
        }
        undo.run().unwrap();
        assert_eq!(before.0.diff(&Snapshot::take(host)?), [""; 0], "change {nth}");
        assert_eq!(before.1.diff(&Snapshot::take(&container)?), [""; 0], "change {nth}");
        if !injected.reached {
            break;
        }
    }
    Ok(())
}

fn an_injected_fault_is_recognisable(sandbox: &Sandbox) {
    let injected = fail_at(1, || sandbox.host().set_up("lo"));
    assert!(injected.reached);
    let error = injected.outcome.unwrap_err();
    assert_eq!(error.to_string(), r#"set up link "lo": input/output error (injected fault)"#);
    assert_eq!((error.errno(), error.is_injected()), (Some(Errno::IO), true));
    assert!(!sandbox.host().link("lo").unwrap().is_up(), "the kernel was not asked");
}

fn only_the_one_change_fails_and_questions_never(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let injected = fail_at(2, || -> Result<_> {
        host.link("lo")?;
        host.set_up("lo")?;
        host.links()?;
        let second = host.set_down("lo");
        host.set_mtu("lo", 1500)?;
        Ok(second)
    });
    assert!(injected.reached);
    assert!(injected.outcome?.unwrap_err().is_injected());
    assert_eq!(host.link("lo")?.mtu, 1500);
    assert!(!fail_at(3, || host.set_up("lo")).reached);
    Ok(())
}

fn run_inherits_the_fault_and_other_threads_do_not(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let injected = fail_at(1, || {
        std::thread::scope(|scope| scope.spawn(|| container.set_up("lo")).join().unwrap()).unwrap();
        container.run(|| container.set_up("lo"))
    });
    assert!(injected.outcome?.unwrap_err().is_injected());
    Ok(())
}

fn a_panic_ends_the_watch(sandbox: &Sandbox) -> Result<()> {
    let panicked =
        catch_unwind(AssertUnwindSafe(|| fail_at(1, || std::panic::resume_unwind(Box::new("on purpose")))));
    assert!(panicked.is_err());
    sandbox.host().set_up("lo").map(|_lo| ())
}

fn a_recording_lists_changes_and_questions(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let (outcome, requests) = record(|| -> Result<()> {
        let lo = container.set_up("lo")?;
        container.addresses(&lo)?;
        container.run(|| container.set_down("lo"))?
    });
    outcome?;
    let lines: Vec<_> = requests.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            r#"RTM_SETLINK set up link "lo""#,
            r#"RTM_GETLINK look up link "lo""#,
            r#"RTM_GETADDR list addresses of link "lo""#,
            r#"RTM_SETLINK set down link "lo""#,
        ]
    );
    assert_eq!(requests.iter().filter(|request| request.change).count(), 2);
    Ok(())
}
