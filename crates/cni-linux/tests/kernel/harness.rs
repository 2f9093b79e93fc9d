//! The harness, by running this very program again.

use std::process::{Command, Output};

use cni_linux::testing::{Sandbox, Test, kernel, tests};
use cni_linux::{Netns, Result};

/// Gives this program tests that would fail.
const DELIBERATE: &str = "CNI_LINUX_FAIL_DELIBERATELY";

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = tests![
        tests_are_listed_and_filtered,
        skipped_tests_count_as_ignored_by_name,
        skipped_tests_cannot_be_forced,
        what_the_kernel_lacks_is_told,
        a_failing_test_shows_what_is_configured,
        a_machine_that_forbids_namespaces_fails_the_run => [kernel::user_namespaces],
    ];
    if std::env::var_os(DELIBERATE).is_some() {
        tests.push(Test::new("it_must_not_run", it_must_not_run).needs(never));
        tests.push(Test::new("deliberate_panic", deliberate_panic));
        tests.push(Test::new("deliberate_error", deliberate_error));
    }
    tests
}

/// No kernel can make loopback a port of itself.
fn never(netns: &Netns) -> Result<()> {
    netns.set_controller("lo", 1)
}

fn it_must_not_run(_: &Sandbox) {
    panic!("although the kernel lacks what it needs");
}

fn deliberate_panic(sandbox: &Sandbox) {
    sandbox.container().set_up("lo").unwrap();
    panic!("on purpose");
}

fn deliberate_error(sandbox: &Sandbox) -> Result<()> {
    sandbox.host().link("missing").map(|_link| ())
}

/// This program, to be run for the tests that match.
fn again(filter: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(filter).env(DELIBERATE, "1").env("RUST_BACKTRACE", "0").env_remove("CNI_SKIP_KERNEL_TESTS");
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn tests_are_listed_and_filtered(_: &Sandbox) {
    let output = again("tests_are_listed").arg("--list").output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output).0.trim(), "tests_are_listed_and_filtered: test");
}

fn skipped_tests_count_as_ignored_by_name(_: &Sandbox) {
    let output = again("it_must_not_run").env("CNI_SKIP_KERNEL_TESTS", "1").output().unwrap();
    let (out, _) = text(&output);
    assert!(output.status.success(), "{out}");
    assert!(out.contains("test [CNI_SKIP_KERNEL_TESTS=1] it_must_not_run ... ignored"), "{out}");
    assert!(out.contains("0 passed; 0 failed; 1 ignored"), "{out}");
}

fn skipped_tests_cannot_be_forced(_: &Sandbox) {
    let output =
        again("it_must_not_run").arg("--ignored").env("CNI_SKIP_KERNEL_TESTS", "1").output().unwrap();
    let (out, _) = text(&output);
    assert!(!output.status.success());
    assert!(out.contains("not run outside of a sandbox (CNI_SKIP_KERNEL_TESTS is set)"), "{out}");
}

fn what_the_kernel_lacks_is_told(_: &Sandbox) {
    let output = again("it_must_not_run").output().unwrap();
    let (out, _) = text(&output);
    assert!(output.status.success(), "{out}");
    let lacking = r#"test [set controller of link "lo": operation not supported"#;
    assert!(out.contains(lacking) && out.contains("it_must_not_run ... ignored"), "{out}");
}

fn a_failing_test_shows_what_is_configured(_: &Sandbox) {
    let output = again("deliberate").output().unwrap();
    let (out, err) = text(&output);
    assert!(!output.status.success());
    assert!(out.contains("0 passed; 2 failed"), "{out}");
    assert!(err.contains("thread 'deliberate_panic'"), "{err}");
    assert!(out.contains("panicked: on purpose\n\nhost (net:["), "{out}");
    assert!(out.contains("\ncontainer 1 (/proc/") && out.contains("\n    link lo: plain [up] "), "{out}");
    assert!(out.contains("look up link \"missing\": Link not found\n\nhost (net:["), "{out}");
}

/// In a user namespace of its own, where namespaces can be forbidden without harm to anybody.
fn a_machine_that_forbids_namespaces_fails_the_run(_: &Sandbox) {
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all \"$0\" it_must_not_run";
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", forbid]).arg(program);
    let output = command.env_remove("CNI_SKIP_KERNEL_TESTS").output().unwrap();
    let (out, err) = text(&output);
    assert!(!output.status.success() && out.is_empty(), "{out}{err}");
    assert!(
        err.starts_with("the tests need namespaces of their own, and cannot have them: create "),
        "{err}"
    );
    assert!(err.contains("/proc/sys/user/max_user_namespaces is 0, which forbids it: `sysctl -w "), "{err}");
    assert!(err.contains("set CNI_SKIP_KERNEL_TESTS=1"), "{err}");
}
