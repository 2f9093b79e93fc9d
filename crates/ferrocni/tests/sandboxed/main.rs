//! Black-box tests that need a network, or a file system, which they can do with what they like: this program enters
//! namespaces of its own before it has a second thread.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod cnitool;
mod host_local;
mod install;

use std::path::Path;
use std::process::ExitCode;

use cni_linux::sandbox::enter_own_namespaces;
use libtest_mimic::{Arguments, Trial};
use rustix::mount::{MountFlags, mount};

/// Set to 1, it makes every test count as ignored: for machines that forbid namespaces.
const SKIP: &str = "CNI_SKIP_KERNEL_TESTS";

/// A test, and what it needs that is not there.
struct Test {
    name: &'static str,
    run: fn(),
    missing: Option<&'static str>,
}

impl Test {
    fn new(name: &'static str, run: fn()) -> Test {
        Test { name, run, missing: None }
    }

    /// The same test, for machines that have `file`.
    fn needs(self, file: &'static str) -> Test {
        let missing = self.missing.or((!Path::new(file).exists()).then_some(file));
        Test { missing, ..self }
    }

    fn trial(self, skipped: bool) -> Trial {
        let Test { name, run, missing } = self;
        let kind = if skipped {
            format!("{SKIP}=1")
        } else {
            missing.map_or(String::new(), |f| format!("needs {f}"))
        };
        let ignored = skipped || missing.is_some();
        Trial::test(name, move || {
            run();
            Ok(())
        })
        .with_kind(kind)
        .with_ignored_flag(ignored)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let skipped = std::env::var_os(SKIP).is_some_and(|value| value == "1");
    if !skipped {
        enter_own_namespaces()
            .unwrap_or_else(|e| panic!("{e}; or set {SKIP}=1, and these tests are ignored"));
        // What plugins and cnitool remember, and the lock of iptables.
        for dir in ["/var/lib", "/run"] {
            mount("tmpfs", dir, "tmpfs", MountFlags::empty(), None).expect("a folder can be made private");
        }
    }
    let tests = cnitool::tests().into_iter().chain(host_local::tests()).chain(install::tests());
    libtest_mimic::run(&arguments, tests.map(|test| test.trial(skipped)).collect()).exit_code()
}
