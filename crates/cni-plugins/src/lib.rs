//! The reference CNI plugins, in the specification's three groups: those that make an interface, those that are
//! chained behind one, and those that hand out addresses.
//!
//! It is a library: each plugin is a function of an invocation, which a runtime can embed, and which the binary
//! `ferrocni` turns into a process. The reference's words for the groups are `main`, `meta` and `ipam`.

use cni_sdk::{Entry, entry};

pub mod interface;
pub mod ipam;

/// The plugins, one a row.
pub static PLUGINS: [Entry; 5] = [
    entry::<interface::bridge::Bridge>(),
    entry::<interface::loopback::Loopback>(),
    entry::<interface::ptp::Ptp>(),
    entry::<ipam::host_local::HostLocal>(),
    entry::<ipam::static_ips::StaticIps>(),
];

/// What the guide tells runtimes is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/embedding.md")]
struct Embedding;
