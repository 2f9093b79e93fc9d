//! An interface of the kernel as an interface of a result.

use cni_linux::{Link, Netns};
use cni_spec::{AddResult, Interface, IpConfig, Result};

/// A result that consists of this one interface, in the namespace that it was found in. Asks the kernel nothing.
pub fn describe(netns: &Netns, link: &Link) -> AddResult {
    let sandbox = netns.path().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    let interface = Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        sandbox,
        ..Interface::default()
    };
    AddResult { interfaces: vec![interface], ..AddResult::default() }
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
