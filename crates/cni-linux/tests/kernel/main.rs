//! Everything that needs a kernel. It runs in namespaces of its own, in parallel, without root.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test program is the owner of its process, and compares with `ip`"
)]

mod address;
mod bridge;
mod conntrack;
mod fault;
mod harness;
mod iptables;
mod link;
mod neighbour;
mod netlink;
mod netns;
mod nftables;
mod route;
mod rule;
mod sandbox;
mod shaping;
mod snapshot;
mod socket;
mod sysctl;
mod traffic;
mod wait;

fn main() -> std::process::ExitCode {
    let tests = [
        address::tests(),
        bridge::tests(),
        conntrack::tests(),
        fault::tests(),
        harness::tests(),
        iptables::tests(),
        link::tests(),
        neighbour::tests(),
        netlink::tests(),
        netns::tests(),
        nftables::tests(),
        route::tests(),
        rule::tests(),
        sandbox::tests(),
        shaping::tests(),
        snapshot::tests(),
        socket::tests(),
        sysctl::tests(),
        traffic::tests(),
        wait::tests(),
    ];
    cni_linux::testing::main(tests.into_iter().flatten().collect())
}
