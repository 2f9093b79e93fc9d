//! `ferrocni install` where the file system refuses, and where the machine stops in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_remount};

use crate::Test;
use crate::common::{BINARY, command, ferrocni, names_of_all, run};

const STRACE: &str = "/usr/bin/strace";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a_folder_without_execution_keeps_what_it_has",
            a_folder_without_execution_keeps_what_it_has,
        ),
        Test::new("a_read_only_folder_is_refused", a_read_only_folder_is_refused),
        Test::new("a_full_folder_keeps_what_it_has", a_full_folder_keeps_what_it_has),
        Test::new("a_kill_at_any_rename_is_made_good", a_kill_at_any_rename_is_made_good).needs(STRACE),
    ]
}

/// A folder on a file system of its own, with a plugin in it.
fn mounted(flags: MountFlags, options: &std::ffi::CStr) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    mount("tmpfs", dir.path(), "tmpfs", flags, options).unwrap();
    fs::write(dir.path().join("loopback"), "old").unwrap();
    dir
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap_or_default())).collect()
}

fn only_the_old_plugin(dir: &Path) -> bool {
    content(dir) == BTreeMap::from([("loopback".to_owned(), b"old".to_vec())])
}

fn a_folder_without_execution_keeps_what_it_has() {
    let dir = mounted(MountFlags::NOEXEC, c"");
    let done = run(ferrocni(["install"]).arg(dir.path()));
    let said = done.failed(1);
    assert!(said.contains("the new ferrocni does not work") && said.contains("mounted noexec"), "{said}");
    assert!(only_the_old_plugin(dir.path()));
}

fn a_read_only_folder_is_refused() {
    let dir = mounted(MountFlags::empty(), c"");
    mount_remount(dir.path(), MountFlags::RDONLY, c"").unwrap();
    let done = run(ferrocni(["install"]).arg(dir.path()));
    let said = done.failed(1);
    assert!(said.contains("read-only file system") && said.contains("choose another folder"), "{said}");
    assert!(only_the_old_plugin(dir.path()));
}

fn a_full_folder_keeps_what_it_has() {
    let dir = mounted(MountFlags::empty(), c"size=100k");
    let done = run(ferrocni(["install"]).arg(dir.path()));
    let said = done.failed(1);
    assert!(said.contains("no space left on device") && said.contains("make room"), "{said}");
    assert!(only_the_old_plugin(dir.path()));
}

/// The machine stops right before each of the renames in turn: into the commit folder, the files, out of it.
fn a_kill_at_any_rename_is_made_good() {
    let mut half_installed = 0;
    let renames = names_of_all().len() + 2;
    for nth in 1..=renames {
        let dir = mounted(MountFlags::empty(), c"");
        let inject = format!("inject=rename,renameat,renameat2:signal=KILL:when={nth}");
        let mut strace = command(STRACE);
        strace.args(["-o", "/dev/null", "-e", &inject, BINARY, "install"]).arg(dir.path());
        assert_eq!(run(&mut strace).code, None, "killed");
        let left = content(dir.path());
        half_installed += usize::from(left.contains_key(".ferrocni-install.commit"));

        let done = run(ferrocni(["install"]).arg(dir.path()));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let replaced = done.ok().lines().map(words).any(|line| line == "loopback replaces a file of 3 bytes");
        assert!(replaced, "{nth}: {done:#?}");
        let names: Vec<String> = content(dir.path()).into_keys().collect();
        assert_eq!(names, names_of_all(), "{nth}");
        run(command(dir.path().join("loopback")).env("CNI_COMMAND", "VERSION")).ok();
    }
    assert_eq!(half_installed, renames - 1, "all but the first of them after the point of no return");
}
