//! A veth pair with one end in the container, found again by its name alone.
//!
//! Not what its ends are connected to: the host's end may be born as the port of a bridge, the container's gets its addresses by
//! [`configure`](super::configure).

use std::collections::BTreeSet;

use cni_linux::{Link, LinkChange, LinkRef, LinkSpec, Mac, Netns, Undo, VethPeer};
use cni_spec::{AttachmentId, Error, NetworkName, Result};

use super::{all, names, write_unless_refused};
use crate::request::{Add, Del};

/// What a new pair is to be like. What is not said is left to the kernel.
#[derive(Debug, Clone, Copy, Default)]
pub struct VethSpec {
    /// The largest packet, in octets, of both ends.
    pub mtu: Option<u32>,
    /// The hardware address of the container's end; a random one where there is none.
    pub mac: Option<Mac>,
    /// The index of the bridge that the host's end is born a port of.
    pub bridge: Option<u32>,
}

/// A new pair.
#[derive(Debug)]
pub struct Veth {
    /// The host's end, as it was right after its birth: up, but not yet carrying packets.
    pub host: Link,
    /// The container's end, as it was born: down.
    pub container: Link,
}

impl Veth {
    /// Makes the pair: one request, and another for what has become of it.
    ///
    /// The host's end has the attachment's [name](names::host_end) and the network's [group](names::group), is up, and takes
    /// no router advertisements. Its hardware address begins with `fe`, higher than any that the kernel gives, so that a
    /// bridge that has the lowest of its ports' addresses does not change its own for this one. The container's end is born
    /// in its namespace, by its name. Both addresses are ours, so that nobody (udev's `MACAddressPolicy`) thinks them his to
    /// change.
    ///
    /// Kernel twin: `ip link add NAME up group GROUP master BRIDGE type veth peer name eth0 netns …`.
    ///
    /// # Errors
    /// `failed to make veth pair: …`; where one of the names is taken the reference's text for it, and which in the details.
    /// What has the name is not touched.
    #[doc(alias = "SetupVeth")]
    pub fn add(cx: &Add, host: &Netns, container: &Netns, spec: VethSpec, undo: &mut Undo) -> Result<Veth> {
        let name = names::host_end(&cx.net.name, &cx.id);
        let mac = spec.mac.map_or_else(Mac::random, Ok)?;
        let peer = VethPeer::new(cx.id.ifname.as_str()).into_netns(container).mac(mac).mtu(spec.mtu);
        let link = LinkSpec::veth(name.as_str(), peer.clone())
            .group(names::group(&cx.net.name))
            .controller(spec.bridge)
            .mac(high_mac()?)
            .mtu(spec.mtu)
            .up();
        let link = match host.add_link(link, undo) {
            Err(taken) if taken.is_exists() => return Err(name_taken(cx, host, container, &name)),
            made => made.map_err(|e| Error::failed(format!("failed to make veth pair: {e}")))?,
        };
        write_unless_refused(host, &[(&format!("net/ipv6/conf/{name}/accept_ra"), "0")])?;
        // Old kernels do not tell the index of the other end where both happen to have the same.
        let born = peer.as_born(&link).map_or_else(|| container.link(cx.id.ifname.as_str()), Ok)?;
        Ok(Veth { host: link, container: born })
    }
}

/// Deletes the pair by its name: one request, for which no namespace need be there. Only if there was none, and CNI_NETNS still
/// leads to a namespace, the pair is deleted whose end there is CNI_IFNAME: the Go plugins give random names to their ends on
/// the host.
///
/// Nothing to delete is success. Neither is an interface of that name deleted that is no end of a pair, or whose other end
/// is another attachment's: after an ADD that failed because the name was taken there is a DEL as well.
///
/// # Errors
/// The kernel's, or that of a namespace that cannot be opened.
pub fn del(cx: &Del, host: &Netns) -> Result<()> {
    if host.del_link_if_exists(&names::host_end(&cx.net.name, &cx.id))? {
        return Ok(());
    }
    let Some(container) = Netns::open_if_exists(cx.netns.as_deref())? else { return Ok(()) };
    let found = container.link_if_exists(cx.id.ifname.as_str())?;
    let Some(link) = found.filter(|link| link.kind() == Some("veth")) else { return Ok(()) };
    if !is_another_s(&link, host)? {
        container.del_link_if_exists(&link)?;
    }
    Ok(())
}

/// Whether the other end of a pair is on the host, and called as only we call it.
fn is_another_s(link: &Link, host: &Netns) -> Result<bool> {
    let Some(index) = link.peer() else { return Ok(false) };
    let other = host.link_if_exists(LinkRef::Index(index))?;
    // The number is one of the namespace that the other end is in, whichever that is.
    Ok(other.is_some_and(|other| other.peer() == Some(link.index) && names::is_host_end(&other.name)))
}

/// Deletes the pairs of a network that belong to none of the `valid` attachments, all in one request.
///
/// Whose a link is says its group, and which attachment's its name; links that were renamed by others are left alone. Those
/// that are to go get a group of their own first. It is as derived as the other, so that one GC finishes what another, which
/// was interrupted, has begun.
///
/// # Errors
/// The kernel's. A link that cannot be moved to that group does not keep the others from being deleted.
pub fn gc(net: &NetworkName, valid: &[AttachmentId], host: &Netns) -> Result<()> {
    let (group, dead) = (names::group(net), names::dead_group(net));
    let interrupted = host.del_link_group(dead);
    let valid: BTreeSet<String> = valid.iter().map(|id| names::host_end(net, id)).collect();
    let links = host.links()?;
    let is_stale =
        |link: &&Link| link.group == group && names::is_host_end(&link.name) && !valid.contains(&link.name);
    let doomed = links.iter().filter(is_stale).map(|link| {
        match host.change_link(link, &LinkChange::new().group(dead)) {
            // Its container has gone meanwhile, and it with it.
            Err(gone) if gone.is_gone() => Ok(()),
            moved => moved.map_err(Error::from),
        }
    });
    let doomed: Vec<_> = doomed.collect();
    let deleted = if doomed.is_empty() { Ok(false) } else { host.del_link_group(dead) };
    let deleted = [interrupted, deleted].map(|outcome| Ok(outcome.map(drop)?));
    all(deleted.into_iter().chain(doomed))
}

/// An address that is higher than any that the kernel gives to a link.
fn high_mac() -> Result<Mac> {
    let mut octets = Mac::random()?.octets();
    octets[0] = 0xfe;
    Ok(Mac::new(octets))
}

/// Either end can have been in the way; the words are the reference's, which makes no difference.
fn name_taken(cx: &Add, host: &Netns, container: &Netns, name: &str) -> Error {
    let ifname = cx.id.ifname.as_str();
    let text = format!("container veth name ({ifname:?}) peer provided ({name:?}) already exists");
    let there = |netns: &Netns, name: &str| netns.link_if_exists(name).is_ok_and(|link| link.is_some());
    let details = if there(host, name) {
        format!(
            "the host has {name:?}: container {} is on network {} by {ifname:?} already",
            cx.id.container_id, cx.net.name
        )
    } else if there(container, ifname) {
        format!("the container has an interface {ifname:?} that is not of network {}", cx.net.name)
    } else {
        "it was gone when looked for".into()
    };
    Error::failed(text).with_details(details)
}
