//! What a plugin is: one struct, which is its configuration, and five verbs.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Arc;

use cni_linux::Undo;
use cni_spec::{AddResult, Error, Result, Version, json};
use libcni::{Invocation, Invoke, Reply};
use serde::de::DeserializeOwned;

use crate::request::{Add, Check, Del, Gc, Request, Status};
use crate::skel;

/// A CNI plugin.
///
/// The implementing struct *is* the plugin's configuration: serde fills it from the JSON on standard input by the
/// rules of [`cni_spec::json`] (keys in any case, `null` is nothing, what is unknown is ignored). The verbs get
/// everything else as fields that have been judged already. A struct without keys is `struct Loopback {}`, with
/// the braces.
///
/// # The contract
///
/// * No plugin touches the environment, standard input or output, or the namespace of the thread that it is called
///   on: the same plugin runs as a process and as a function of a runtime.
/// * [`add`](Plugin::add) completes or leaves the host as it was: whatever it makes that would outlive a failure
///   goes on the [`Undo`], which is run if `add` fails, panics, or its result cannot be delivered.
/// * [`del`](Plugin::del) succeeds when there is nothing (more) to delete, with the namespace gone, twice, or
///   without any ADD before it.
/// * Rules between keys are checked in `add`, not while decoding: what would be refused today must still be
///   cleaned up by DEL tomorrow.
pub trait Plugin: DeserializeOwned + 'static {
    /// The plugin's `type`: the name of its file.
    const TYPE: &'static str;

    /// The versions of the specification that it speaks, oldest first.
    const VERSIONS: &'static [Version] = Version::ALL;

    /// What it does, in half a line, for listings: `connects …`.
    const SUMMARY: &'static str = "";

    /// Adds the container to the network, or modifies what the plugins before it made (spec §2 "ADD").
    ///
    /// A plugin that is not the first of its list finds their result in [`Add::prev_result`], and returns it with its
    /// own modifications.
    ///
    /// # Errors
    /// Whatever went wrong; the undo has been run by the time the runtime hears of it.
    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult>;

    /// Takes back what ADD did (spec §2 "DEL").
    ///
    /// # Errors
    /// Something is left that could not be taken away. Attempt everything before saying so.
    fn del(&self, cx: &Del) -> Result<()>;

    /// Checks that everything is as ADD left it (spec §2 "CHECK").
    ///
    /// # Errors
    /// What is not, by name.
    fn check(&self, cx: &Check) -> Result<()>;

    /// Removes what belongs to this network and to none of the valid attachments (spec §2 "GC").
    ///
    /// By default this hands the request on to the network's IPAM plugin, as the specification demands of everyone; a
    /// plugin with state of its own cleans that up as well and calls [`Network::ipam_gc`](crate::Network::ipam_gc).
    ///
    /// # Errors
    /// What could not be removed.
    fn gc(&self, cx: &Gc) -> Result<()> {
        cx.net.ipam_gc()
    }

    /// Says whether an ADD could be serviced now (spec §2 "STATUS").
    ///
    /// By default the network's IPAM plugin is asked.
    ///
    /// # Errors
    /// Codes 50 and 51; see [`cni_spec::Code::PLUGIN_NOT_AVAILABLE`].
    fn status(&self, cx: &Status) -> Result<()> {
        cx.net.ipam_status()
    }
}

/// One row of a table of plugins: what is known of a plugin before it is called, and how to call it.
#[derive(Debug, Clone, Copy)]
#[doc(alias = "CNIFuncs")]
pub struct Entry {
    /// The plugin's `type`.
    pub name: &'static str,
    /// The versions that it speaks.
    pub versions: &'static [Version],
    /// What it does, in half a line; may be empty.
    pub summary: &'static str,
    /// The plugin as a function, for [`Embedded`](libcni::Embedded).
    pub run: libcni::Run,
    pub(crate) call: Call,
}

/// Decodes the plugin's configuration and calls the verb; `None` for verbs that answer nothing.
pub(crate) type Call = fn(&Invocation, &Request, &mut Undo) -> Result<Option<AddResult>>;

/// The row of plugin `P`.
pub const fn entry<P: Plugin>() -> Entry {
    Entry { name: P::TYPE, versions: P::VERSIONS, summary: P::SUMMARY, run: run::<P>, call: call::<P> }
}

/// Runs plugin `P` in memory: an invocation in, a reply out. A failed ADD has been undone by the time this returns.
///
/// # Errors
/// The error object that the plugin would have printed.
pub fn run<P: Plugin>(invocation: &Invocation, delegates: Arc<dyn Invoke>) -> Result<Reply> {
    skel::run(&entry::<P>(), invocation, delegates)
}

/// A whole plugin: `fn main() -> ExitCode { cni_sdk::plugin_main::<Loopback>() }`.
#[doc(alias("PluginMain", "PluginMainFuncs"))]
pub fn plugin_main<P: Plugin>() -> ExitCode {
    skel::plugin_main(&entry::<P>(), &skel::Program::default())
}

fn call<P: Plugin>(invocation: &Invocation, request: &Request, undo: &mut Undo) -> Result<Option<AddResult>> {
    // All of the author's code: decoding, the verb, and dropping the plugin.
    let authors = AssertUnwindSafe(|| {
        let plugin: P = json::decode(&invocation.config).map_err(|e| skel::undecodable(P::TYPE, &e))?;
        match request {
            Request::Add(cx) => plugin.add(cx, undo).map(Some),
            Request::Del(cx) => plugin.del(cx).map(|()| None),
            Request::Check(cx) => plugin.check(cx).map(|()| None),
            Request::Gc(cx) => plugin.gc(cx).map(|()| None),
            Request::Status(cx) => plugin.status(cx).map(|()| None),
        }
    });
    // The undo is the caller's and outlives the panic; of the plugin nothing is used again.
    panic::catch_unwind(authors).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::failed(format!("plugin {} panicked: {text}", P::TYPE)))
    })
}
