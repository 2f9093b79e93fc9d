//! Write a CNI plugin in thirty lines. This is one, `main` included:
//!
//! ```
#![doc = include_str!("../examples/loopback.rs")]
//! ```
//!
//! A plugin is a struct, which is its configuration, and five verbs of the trait [`Plugin`]; [`plugin_main`] does
//! everything else that the [specification] asks of an executable: the environment, standard input, versions,
//! validation, the reply, the error document, the exit status ([`skel`] shows the road).
//!
//! | you want | there is |
//! |---|---|
//! | what a verb is given | [`Add`], [`Del`], [`Check`], [`Gc`], [`Status`], and in each of them the [`Network`] |
//! | to ask or change the kernel | [`Netns`] and [`linux`] |
//! | addresses from an IPAM plugin | [`Network::ipam_add`] |
//! | a change taken back if ADD fails | [`Undo`] |
//! | to answer | [`AddResult`] |
//! | to fail | [`Error`], made by `?` from any error; [`Doing::doing`] says what was being done |
//! | the same plugin without a process | [`run`], [`entry`] and [`Embedded`] |
//! | tests without root | the module `testing`, behind the feature of that name |
//!
//! What a plugin must not do: change the namespace of the thread it is called on, read the environment, print, or exit.
//!
//! [specification]: https://www.cni.dev/docs/spec/

mod delegates;
mod ipam;
mod plugin;
mod request;
pub mod skel;
pub mod steps;
#[cfg(feature = "testing")]
pub mod testing;

pub use cni_linux as linux;
pub use cni_linux::{Link, Netns, Undo};
pub use cni_spec::{
    self as spec, AddResult, Args, AttachmentId, Code, Dns, Doing, Error, Interface, IpConfig, Result, Route,
    Version,
};
pub use libcni::{self, Embedded, Invocation, Invoke, Reply};
pub use plugin::{Entry, Plugin, entry, plugin_main, run};
pub use request::{Add, Check, Del, Gc, Network, Status};
pub use serde;

/// What the guide tells authors is compiled.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../../docs/writing-a-plugin.md")]
struct Guide;
