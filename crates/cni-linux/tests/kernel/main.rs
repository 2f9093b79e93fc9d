//! Everything that needs a kernel. It runs in namespaces of its own, in parallel, without root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test program is the owner of its process, and compares with `ip`"
)]

mod address;
mod fault;
mod harness;
mod link;
mod netlink;
mod netns;
mod nftables;
mod route;
mod sandbox;
mod snapshot;

fn main() -> std::process::ExitCode {
    let tests = [
        address::tests(),
        fault::tests(),
        harness::tests(),
        link::tests(),
        netlink::tests(),
        netns::tests(),
        nftables::tests(),
        route::tests(),
        sandbox::tests(),
        snapshot::tests(),
    ];
    cni_linux::testing::main(tests.into_iter().flatten().collect())
}
