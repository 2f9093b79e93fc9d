//! Linux networking for container plugins: network namespaces, links, addresses and routes.
//!
//! This crate is the only room of the house that talks to the kernel. It invents no names, has no policy and no
//! default that differs from `ip`'s, and it does not know the word CNI: it can be used by anything that wires
//! containers up.
//!
//! | module | is |
//! |---|---|
//! | [`Netns`] | an open network namespace: a descriptor and one rtnetlink socket opened inside it |
//! | [`Link`], [`LinkSpec`], [`LinkChange`] | network interfaces: look up, make, change, delete |
//! | [`bridge`] | ports of bridges, and their VLANs |
//! | [`Address`], [`AddressSpec`] | their addresses |
//! | [`Route`], [`RouteSpec`] | routing table entries |
//! | [`Rule`], [`RuleSpec`] | which routing table packets are looked up in |
//! | [`Netns::sysctl`], [`Netns::announce`], [`Netns::wait_for_link`] | kernel parameters, gratuitous ARP and its kin, and waiting without sleep |
//! | [`traffic`] | how fast a link sends, and where what arrives is sent instead |
//! | [`conntrack`] | flows that the kernel remembers, and forgetting them |
//! | [`socket`] | who listens on a port |
//! | [`nftables`] | tables, chains, rules, sets and maps, in transactions |
//! | [`iptables`] | the same, by iptables' own programs, where that is asked for |
//! | [`Undo`] | what to reverse when a later step fails, newest first |
//! | [`Error`] | what was being done, to what, and the kernel's own words |
//! | [`sandbox`] | namespaces of one's own, without privileges |
#![cfg_attr(
    feature = "testing",
    doc = "| [`testing`] | a harness, snapshots and fault injection for tests that need a kernel |"
)]
//!
//! Everything blocks, and whoever calls is in the same namespace before and after.
//!
//! ```no_run
//! use cni_linux::{LinkSpec, Netns, Undo, VethPeer};
//!
//! # fn main() -> cni_linux::Result<()> {
//! let host = Netns::current()?;
//! let container = Netns::open("/run/netns/blue")?;
//! let mut undo = Undo::new();
//!
//! let peer = VethPeer::new("eth0").into_netns(&container);
//! let veth = host.add_link(LinkSpec::veth("veth0", peer).mtu(1400), &mut undo)?;
//! host.set_up(&veth)?;
//! undo.keep();
//! # Ok(())
//! # }
//! ```

pub mod address;
pub mod bridge;
pub mod conntrack;
pub mod error;
mod family;
pub mod iptables;
pub mod link;
mod mac;
mod neighbour;
mod netlink;
pub mod netns;
pub mod nftables;
pub mod route;
pub mod rule;
pub mod sandbox;
mod scope;
pub mod socket;
mod sysctl;
#[cfg(feature = "testing")]
pub mod testing;
pub mod traffic;
pub mod undo;
mod wait;

pub use address::{Address, AddressSpec};
pub use error::{Errno, Error, Result};
pub use family::IpFamily;
pub use link::change::LinkChange;
pub use link::spec::{LinkSpec, VethPeer};
pub use link::{Link, LinkRef, OperState};
pub use mac::{Mac, ParseMacError};
pub use netns::Netns;
pub use route::{Route, RouteFilter, RouteSpec};
pub use rule::{Rule, RuleSpec};
pub use scope::Scope;
pub use sysctl::sysctl_key;
pub use undo::{Undo, UndoErrors};
