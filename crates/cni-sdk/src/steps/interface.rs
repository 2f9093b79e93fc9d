//! An interface of the kernel as an interface of a result.

use cni_linux::{Link, Netns};
use cni_spec::{AddResult, Interface, IpConfig, Result};

/// An interface of the container, as a result has it. Asks the kernel nothing.
///
/// The sandbox is the path that the namespace was opened by, which is CNI_NETNS as it came.
pub fn container_interface(container: &Netns, link: &Link) -> Interface {
    let sandbox = container.path().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    Interface { sandbox, ..host_interface(link) }
}

/// An interface of the host, as a result has it: one without sandbox.
pub fn host_interface(link: &Link) -> Interface {
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    Interface { name: link.name.clone(), mac, ..Interface::default() }
}

/// A result that consists of this one interface of the container. Asks the kernel nothing.
pub fn describe(container: &Netns, link: &Link) -> AddResult {
    AddResult { interfaces: vec![container_interface(container, link)], ..AddResult::default() }
}

/// The addresses that the kernel has on this interface, as those of a result's first interface.
///
/// Kernel twin: `ip address show dev …`.
///
/// # Errors
/// The kernel's.
pub fn addresses(netns: &Netns, link: &Link) -> Result<Vec<IpConfig>> {
    let found = netns.addresses(link)?;
    Ok(found.into_iter().map(|a| IpConfig { address: a.net, gateway: None, interface: Some(0) }).collect())
}
