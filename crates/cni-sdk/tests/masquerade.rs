//! Masquerading against a real kernel: packets, rules, who owns what, and what the Go plugins leave.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]
#![allow(clippy::disallowed_methods, reason = "the tests start the programs that others use on the host")]

use std::process::ExitCode;

#[path = "masquerade/kit.rs"]
mod kit;
#[path = "masquerade/leftovers.rs"]
mod leftovers;
#[path = "masquerade/owners.rs"]
mod owners;
#[path = "masquerade/packets.rs"]
mod packets;

fn main() -> ExitCode {
    let tests = [packets::tests(), owners::tests(), leftovers::tests()];
    cni_sdk::testing::main(tests.into_iter().flatten().collect())
}
