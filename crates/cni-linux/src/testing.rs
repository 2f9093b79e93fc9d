//! The kit for tests that need a kernel: for this crate, for plugins, and for whoever writes either.
//!
//! It is not for programs: the feature `testing` adds a fault point to every kernel change.
//!
//! A test program has `harness = false` in `Cargo.toml` and this `main`:
//!
//! ```no_run
//! use cni_linux::testing::{self, Sandbox, kernel, tests};
//! use cni_linux::{LinkSpec, Result, Undo, VethPeer};
//!
//! fn a_veth_pair_spans_two_namespaces(sandbox: &Sandbox) -> Result<()> {
//!     let container = sandbox.container();
//!     let mut undo = Undo::new();
//!     let peer = VethPeer::new("eth0").into_netns(&container);
//!     sandbox.host().add_link(LinkSpec::veth("veth0", peer), &mut undo)?;
//!     assert_eq!(container.link("eth0")?.kind(), Some("veth"));
//!     Ok(())
//! }
//!
//! fn a_dummy_swallows_packets(_: &Sandbox) {}
//!
//! fn main() -> std::process::ExitCode {
//!     testing::main(tests![a_veth_pair_spans_two_namespaces, a_dummy_swallows_packets => [kernel::dummy]])
//! }
//! ```
//!
//! * [`main()`] enters namespaces of its own before there is a second thread, so the tests need no root and cannot
//!   hurt the host, and then runs them in parallel, each in a network namespace of its own.
//! * [`Sandbox`] is that namespace, the test's "host", and makes containers.
//! * [`Snapshot`] is what is configured in a namespace, as lines that can be compared.
//! * [`fail_at`] makes the nth kernel change fail, and [`record`] lists the requests that were made.

pub(crate) mod fault;
mod harness;
pub mod kernel;
mod sandbox;
mod snapshot;

pub use crate::__tests as tests;
pub use fault::{Injected, Recorded, fail_at, record};
pub use harness::{Need, Outcome, Test, Verdict, main};
pub use sandbox::Sandbox;
pub use snapshot::Snapshot;

/// Reads a datagram as the answer to every request there is, for fuzzers: it must not panic.
#[doc(hidden)]
pub fn decode(datagram: &[u8]) {
    use crate::netlink::wire::{acknowledgements, digest, messages, u32_at};
    let sequence = u32_at(datagram, 8).unwrap_or(0);
    let mut interrupted = false;
    let _ = digest(datagram, sequence, &mut interrupted, &mut |body| {
        let _ = crate::link::Link::read(body);
        let _ = crate::address::Address::read(body);
        let _ = crate::route::Route::read(body);
        let _ = crate::rule::Rule::read(body);
        crate::bridge::read_all(body);
        crate::conntrack::read_all(body);
        crate::nftables::read_all(body);
        crate::socket::read_all(body);
        crate::traffic::read_all(body);
        snapshot::read_all(body);
    });
    let _ = (acknowledgements(datagram).count(), messages(datagram).count());
}
