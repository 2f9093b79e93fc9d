//! The steps that plugins share, against a real kernel: a file each, below this one.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::ExitCode;

mod interface;
mod pair;
mod veth;

fn main() -> ExitCode {
    let mut tests = veth::tests();
    tests.extend(interface::tests());
    cni_sdk::testing::main(tests)
}
