//! Write a CNI plugin in thirty lines.

mod delegates;
mod ipam;
mod plugin;
mod request;
pub mod skel;
pub mod steps;

pub use cni_linux as linux;
pub use cni_linux::{Link, Netns, Undo};
pub use cni_spec::{
    self as spec, AddResult, Args, AttachmentId, Code, Dns, Doing, Error, Interface, IpConfig, Result, Route, Version,
};
pub use libcni::{self, Embedded, Invocation, Invoke, Reply};
pub use plugin::{Entry, Plugin, entry, plugin_main, run};
pub use request::{Add, Check, Del, Gc, Network, Status};
