//! What the harness is built on: the namespaces that the process is in.

use cni_linux::Errno;
use cni_linux::sandbox::enter_own_namespaces;
use cni_linux::testing::{Sandbox, Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![we_are_root_in_here, a_process_with_threads_cannot_enter, mounts_are_private]
}

fn we_are_root_in_here(_: &Sandbox) {
    assert_eq!(rustix::process::getuid().as_raw(), 0);
    assert_eq!(rustix::process::getgid().as_raw(), 0);
}

fn a_process_with_threads_cannot_enter(_: &Sandbox) {
    let error = enter_own_namespaces().unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("create namespaces of our own: the process already has "), "{text}");
    assert!(text.ends_with(" threads; this has to come first in main"), "{text}");
    assert_eq!(error.errno(), Some(Errno::INVAL));
}

fn mounts_are_private(_: &Sandbox) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(" shared:"), "{mounts}");
    assert!(!mounts.contains(" master:"), "{mounts}");
}
