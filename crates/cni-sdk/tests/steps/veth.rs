//! Pairs that are made in place, and found again by their names.

use cni_sdk::linux::{LinkChange, LinkSpec, OperState, VethPeer};
use cni_sdk::steps::names;
use cni_sdk::testing::{Sandbox, Test, fail_at, kernel, record, tests};
use cni_sdk::{AttachmentId, Netns, Result, Undo};

use crate::pair::caller;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_pair_is_made_in_one_request_and_is_what_is_said_of_it => [kernel::veth],
        a_second_add_is_refused_and_the_first_stays => [kernel::veth],
        a_name_that_the_container_has_is_refused => [kernel::veth],
        addresses_that_no_link_can_have_are_refused => [kernel::veth],
        del_opens_no_namespace_and_can_be_repeated => [kernel::veth],
        del_finds_what_has_a_random_name => [kernel::veth],
        del_leaves_interfaces_of_others => [kernel::veth, kernel::bridge],
        gc_takes_what_is_not_valid_and_of_this_network => [kernel::veth],
        gc_finishes_what_another_has_begun => [kernel::veth],
    ]
}

const NET: &str = "net1";
const BARE: &str = r#", "bare": true"#;

fn id(container_id: &str) -> AttachmentId {
    AttachmentId::parse(container_id, "eth0").unwrap()
}

fn host_end(net: &str, container_id: &str) -> String {
    names::host_end(&cni_sdk::spec::NetworkName::parse(net).unwrap(), &id(container_id))
}

fn is_there(host: &Netns, net: &str, container_id: &str) -> bool {
    host.link_if_exists(&host_end(net, container_id)).unwrap().is_some()
}

fn a_pair_is_made_in_one_request_and_is_what_is_said_of_it(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let caller = caller(NET, r#", "bare": true, "mtu": 1400, "mac": "02:00:00:00:00:07""#, &container);
    let (result, requests) = record(|| caller.add());
    let result = result?;
    let changes: Vec<_> = requests.iter().filter(|request| request.change).collect();
    assert!(changes[0].to_string().starts_with("RTM_NEWLINK add link veth"), "{changes:?}");
    assert!(changes.len() <= 2, "at most the sysctl beside it: {changes:?}");
    assert_eq!(requests.iter().filter(|request| request.message == "RTM_GETLINK").count(), 1);

    let (one, other) = (host.link(&host_end(NET, "test"))?, container.link("eth0")?);
    assert_eq!((one.mtu, other.mtu, one.is_up(), other.is_up()), (1400, 1400, true, false));
    assert_eq!(one.group, names::group(&cni_sdk::spec::NetworkName::parse(NET)?));
    assert_eq!(other.group, 0);
    assert_eq!(one.mac.unwrap().octets()[0], 0xfe);
    assert_eq!(result.interfaces[0].mac, "02:00:00:00:00:07");
    assert_eq!(result.interfaces[0].mac, other.mac.unwrap().to_string());
    assert_eq!(result.interfaces[0].sandbox, container.path().unwrap().to_string_lossy());
    assert_eq!(
        (&*result.interfaces[1].name, &*result.interfaces[1].mac),
        (&*one.name, &*one.mac.unwrap().to_string())
    );
    assert_eq!(host.sysctl(&format!("net/ipv6/conf/{}/accept_ra", one.name))?, "0");
    let state = host.link(&one)?.oper_state();
    assert!(matches!(state, OperState::Down | OperState::LowerLayerDown), "{state}");
    Ok(())
}

fn a_second_add_is_refused_and_the_first_stays(sandbox: &Sandbox) -> Result<()> {
    let (container, other) = (sandbox.container(), sandbox.container());
    caller(NET, BARE, &container).add()?;
    let mac = container.link("eth0")?.mac;
    for again in [&container, &other] {
        let error = caller(NET, BARE, again).add().unwrap_err();
        let name = host_end(NET, "test");
        assert_eq!(
            error.msg,
            format!(r#"container veth name ("eth0") peer provided ("{name}") already exists"#)
        );
        assert_eq!(
            error.details,
            format!(r#"the host has "{name}": container test is on network net1 by "eth0" already"#)
        );
    }
    assert_eq!(container.link("eth0")?.mac, mac);
    assert!(other.link_if_exists("eth0")?.is_none());
    Ok(())
}

fn a_name_that_the_container_has_is_refused(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    caller(NET, BARE, &container).add()?;
    let error = caller("net2", BARE, &container).add().unwrap_err();
    assert!(error.msg.starts_with(r#"container veth name ("eth0") peer provided ("veth"#), "{error}");
    assert_eq!(error.details, r#"the container has an interface "eth0" that is not of network net2"#);
    assert!(is_there(sandbox.host(), NET, "test") && !is_there(sandbox.host(), "net2", "test"));
    Ok(())
}

fn addresses_that_no_link_can_have_are_refused(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    for (keys, text) in [
        (r#", "mac": "01:00:5e:00:00:01""#, "cannot assign requested address"),
        (r#", "mtu": 20"#, "invalid argument"),
        (r#", "mtu": 70000"#, "invalid argument"),
    ] {
        let error = caller(NET, keys, &container).add().unwrap_err();
        assert!(error.msg.starts_with("failed to make veth pair: add link veth "), "{error}");
        assert!(error.msg.contains(text), "{error}");
    }
    assert_eq!(sandbox.host().links()?.len(), 1);
    Ok(())
}

fn del_opens_no_namespace_and_can_be_repeated(sandbox: &Sandbox) -> Result<()> {
    let (host, container) = (sandbox.host(), sandbox.container());
    let caller = caller(NET, BARE, &container);
    caller.del(None)?;
    caller.add()?;
    // Nobody looks at where CNI_NETNS leads as long as the host's end is there.
    let (deleted, requests) = record(|| caller.clone().netns("/nonexistent/netns").del(None));
    deleted?;
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(!is_there(host, NET, "test") && container.link_if_exists("eth0")?.is_none());
    for gone in ["", "/nonexistent/netns", "/etc/passwd"] {
        caller.clone().netns(gone).del(None)?;
    }
    caller.del(None)
}

fn del_finds_what_has_a_random_name(sandbox: &Sandbox) -> Result<()> {
    let (host, container, mut undo) = (sandbox.host(), sandbox.container(), Undo::new());
    let peer = VethPeer::new("eth0").into_netns(&container);
    host.add_link(LinkSpec::veth("veth1a2b3c4d", peer), &mut undo)?;
    undo.keep();
    caller(NET, BARE, &container).del(None)?;
    assert!(host.link_if_exists("veth1a2b3c4d")?.is_none());
    Ok(())
}

/// As after an ADD that was refused because the name was taken.
fn del_leaves_interfaces_of_others(sandbox: &Sandbox) -> Result<()> {
    let (container, other, mut undo) = (sandbox.container(), sandbox.container(), Undo::new());
    caller(NET, BARE, &container).add()?;
    caller("net2", BARE, &container).del(None)?;
    assert!(is_there(sandbox.host(), NET, "test") && container.link_if_exists("eth0")?.is_some());
    other.add_link(LinkSpec::bridge("eth0"), &mut undo)?;
    undo.keep();
    caller(NET, BARE, &other).id("other", "eth0").del(None)?;
    assert!(other.link_if_exists("eth0")?.is_some());
    Ok(())
}

fn gc_takes_what_is_not_valid_and_of_this_network(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let containers: Vec<Netns> = (0..6).map(|_| sandbox.container()).collect();
    for (container, (net, name)) in containers.iter().zip([
        (NET, "alive"),
        (NET, "dead1"),
        (NET, "dead2"),
        ("net2", "dead1"),
        ("net2", "alive"),
        (NET, "renamed"),
    ]) {
        caller(net, BARE, container).id(name, "eth0").add()?;
    }
    host.rename(&host_end(NET, "renamed"), "mine")?;
    let caller = caller(NET, BARE, &containers[0]);
    let (collected, requests) = record(|| caller.gc(&[id("alive"), id("never")]));
    collected?;
    let deletions = requests.iter().filter(|request| request.message == "RTM_DELLINK").count();
    assert_eq!(deletions, 2, "one for what an earlier one left, one for all that is dead: {requests:?}");
    assert!(is_there(host, NET, "alive") && host.link_if_exists("mine")?.is_some());
    assert!(!is_there(host, NET, "dead1") && !is_there(host, NET, "dead2"));
    assert!(is_there(host, "net2", "dead1") && is_there(host, "net2", "alive"));
    assert!(containers[1].link_if_exists("eth0")?.is_none());
    caller.gc(&[])?;
    assert!(!is_there(host, NET, "alive") && is_there(host, "net2", "alive"));
    caller.gc(&[])
}

fn gc_finishes_what_another_has_begun(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let containers: Vec<Netns> = (0..3).map(|_| sandbox.container()).collect();
    for (container, name) in containers.iter().zip(["dead1", "dead2", "alive"]) {
        caller(NET, BARE, container).id(name, "eth0").add()?;
    }
    let caller = caller(NET, BARE, &containers[0]);
    // The first change looks for what is left from before, the next moves one, and the third the other.
    let interrupted = fail_at(3, || caller.gc(&[id("alive")]));
    assert!(interrupted.outcome.unwrap_err().to_string().contains("injected fault"));
    assert_eq!(["dead1", "dead2"].iter().filter(|name| is_there(host, NET, name)).count(), 1);
    // One that was killed just before the end.
    let left = ["dead1", "dead2"].into_iter().find(|name| is_there(host, NET, name)).unwrap();
    let dead = names::dead_group(&cni_sdk::spec::NetworkName::parse(NET)?);
    host.change_link(&host_end(NET, left), &LinkChange::new().group(dead))?;
    caller.gc(&[id("alive")])?;
    assert!(!is_there(host, NET, left) && is_there(host, NET, "alive"));
    Ok(())
}
