//! Every plugin against a real kernel: a file each, below this one.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::ExitCode;

mod kernel {
    pub(crate) mod bridge;
    pub(crate) mod loopback;
    pub(crate) mod ptp;
}

fn main() -> ExitCode {
    let tests = [kernel::bridge::tests(), kernel::loopback::tests(), kernel::ptp::tests()];
    cni_sdk::testing::main(tests.into_iter().flatten().collect())
}
