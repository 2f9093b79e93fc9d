//! `ferrocni install`, on real folders: what is there afterwards, and after something went wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;

use common::{command, ferrocni, names_of_all, run};

/// Every name in a folder, and what is behind it.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap_or_default())).collect()
}

fn names(dir: &Path) -> Vec<String> {
    content(dir).into_keys().collect()
}

/// The names after an installation into a folder with somebody else's plugins.
fn names_beside_others() -> Vec<String> {
    let mut names = names_of_all();
    names.push("calico".to_owned());
    names.sort();
    names
}

/// A folder with somebody else's plugins.
fn inhabited() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("loopback"), "an old plugin").unwrap();
    fs::write(dir.path().join("calico"), "foreign").unwrap();
    dir
}

fn replaces_loopback(said: &str) -> bool {
    said.lines().any(|line| line.split_whitespace().eq("loopback replaces a file of 13 bytes".split(' ')))
}

#[track_caller]
fn assert_works(dir: &Path) {
    let version = run(command(dir.join("loopback")).env("CNI_COMMAND", "VERSION"));
    assert!(version.ok().contains("supportedVersions"));
    let expected = concat!("ferrocni ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(run(command(dir.join("ferrocni")).arg("--version")).ok(), expected);
    assert!(run(command(dir.join("cnitool")).arg("--version")).ok().starts_with("cnitool "));
}

#[test]
fn every_name_works_whatever_the_links_are() {
    let all = names_of_all();
    for (kind, inodes) in [("hard", 1), ("symbolic", 1), ("copy", all.len())] {
        let dir = tempfile::tempdir().unwrap();
        run(ferrocni(["install", "--link", kind]).arg(dir.path())).ok();
        assert_eq!(names(dir.path()), all, "{kind}");
        assert_works(dir.path());
        let found: std::collections::BTreeSet<u64> =
            all.iter().map(|name| fs::metadata(dir.path().join(name)).unwrap().ino()).collect();
        assert_eq!(found.len(), inodes, "{kind}");
        let is_link = dir.path().join("loopback").is_symlink();
        assert_eq!(is_link, kind == "symbolic");
        assert_eq!(fs::metadata(dir.path().join("ferrocni")).unwrap().mode() & 0o777, 0o755);
    }
}

#[test]
fn what_is_replaced_is_named_and_the_rest_stays() {
    let dir = inhabited();
    symlink("/opt/elsewhere", dir.path().join("cnitool")).unwrap();
    let done = run(ferrocni(["install"]).arg(dir.path()));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<String> = done.ok().lines().skip(1).map(words).collect();
    assert_eq!(said.len(), 1 + names_of_all().len(), "{said:#?}");
    for line in [
        "NAME BEFORE",
        "ferrocni was not there",
        "cnitool replaces a symbolic link to /opt/elsewhere",
        "loopback replaces a file of 13 bytes",
    ] {
        assert!(said.iter().any(|said| said == line), "{line}: {said:#?}");
    }
    assert_works(dir.path());
    assert_eq!(fs::read(dir.path().join("calico")).unwrap(), b"foreign");
    assert_eq!(names(dir.path()), names_beside_others());
}

#[test]
fn a_dry_run_changes_nothing() {
    let dir = inhabited();
    let before = content(dir.path());
    let done = run(ferrocni(["install", "--dry-run"]).arg(dir.path()));
    assert!(done.ok().starts_with("would install ferrocni"), "{done:#?}");
    assert!(replaces_loopback(&done.stdout), "{done:#?}");
    assert_eq!(content(dir.path()), before);
    // To list is another verb.
    let done = run(ferrocni(["install", "--list"]).arg(dir.path()));
    assert!(done.failed(2).contains("unexpected argument '--list'"), "{done:#?}");
    assert_eq!(content(dir.path()), before);
}

#[test]
fn an_installed_binary_installs_over_itself_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    run(ferrocni(["install"]).arg(dir.path())).ok();
    // A plugin that waits for its configuration.
    let mut waiting = command(dir.path().join("loopback"));
    for (key, value) in
        [("ADD", "CNI_COMMAND"), ("c", "CNI_CONTAINERID"), ("/x", "CNI_NETNS"), ("lo", "CNI_IFNAME")]
    {
        waiting.env(value, key);
    }
    let mut waiting =
        waiting.env("CNI_PATH", "/x").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    run(command(dir.path().join("ferrocni")).arg("install").arg(dir.path())).ok();
    assert_works(dir.path());
    waiting.stdin.take().unwrap().write_all(b"{").unwrap();
    let answer = waiting.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(1));
    assert!(String::from_utf8(answer.stdout).unwrap().contains("error unmarshall network config"));
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let shown = missing.display();
    assert_eq!(
        run(ferrocni(["install"]).arg(&missing)).failed(1),
        format!("error: {shown} does not exist\n     help: make it first: mkdir -p {shown}\n")
    );
    fs::write(&missing, "").unwrap();
    assert!(
        run(ferrocni(["install"]).arg(&missing))
            .failed(1)
            .starts_with(&format!("error: {shown} is not a folder\n"))
    );
    let done = run(&mut ferrocni(["install", "/proc"]));
    assert!(done.failed(1).contains("nothing was replaced"), "{done:#?}");
}

#[test]
fn a_folder_in_the_way_of_a_name_is_refused_before_anything_is_changed() {
    let dir = inhabited();
    fs::create_dir(dir.path().join("cnitool")).unwrap();
    let before = content(dir.path());
    let done = run(ferrocni(["install"]).arg(dir.path()));
    assert!(done.failed(1).contains("cnitool is a folder, so it cannot be replaced"), "{done:#?}");
    assert_eq!(content(dir.path()), before);
}

#[test]
fn two_installs_at_once_do_not_mix() {
    let dir = inhabited();
    let lock = File::open(dir.path()).unwrap();
    lock.lock().unwrap();
    let done = run(ferrocni(["install"]).arg(dir.path()));
    assert!(done.failed(1).contains("another install is at work"), "{done:#?}");
    drop(lock);
    run(ferrocni(["install"]).arg(dir.path())).ok();
}

#[test]
fn what_an_interrupted_install_left_is_removed() {
    let dir = inhabited();
    for leftover in [".ferrocni-install.staging/new", ".ferrocni-install.done/old"] {
        fs::create_dir_all(dir.path().join(leftover)).unwrap();
        fs::write(dir.path().join(leftover).join("ferrocni"), "half of it").unwrap();
    }
    let done = run(ferrocni(["install"]).arg(dir.path()));
    assert!(done.ok().ends_with("the temporary files of an interrupted install, removed\n"), "{done:#?}");
    assert_eq!(names(dir.path()), names_beside_others());
    assert_works(dir.path());
}

/// What a crash between two renames leaves, and an install that then cannot be made: the folder is to be what it was
/// before the first of the two.
#[test]
fn an_install_after_a_crash_starts_from_what_was_there_before_it() {
    let dir = inhabited();
    let before = content(dir.path());
    let commit = dir.path().join(".ferrocni-install.commit");
    for part in ["new", "old", "absent"] {
        fs::create_dir_all(commit.join(part)).unwrap();
    }
    fs::rename(dir.path().join("loopback"), commit.join("old/loopback")).unwrap();
    fs::write(commit.join("absent/ferrocni"), "").unwrap();
    fs::write(commit.join("absent/cnitool"), "").unwrap();
    fs::write(dir.path().join("ferrocni"), "new").unwrap();
    fs::write(dir.path().join("loopback"), "new").unwrap();
    fs::write(commit.join("new/cnitool"), "new").unwrap();

    let done = run(ferrocni(["install", "--dry-run"]).arg(dir.path()));
    assert!(done.ok().contains("an interrupted install, which had replaced some of the files"), "{done:#?}");
    // Something that only shows once the crash has been dealt with.
    fs::create_dir(dir.path().join("cnitool")).unwrap();
    let done = run(ferrocni(["install"]).arg(dir.path()));
    assert!(done.failed(1).contains("cnitool is a folder"), "{done:#?}");
    fs::remove_dir(dir.path().join("cnitool")).unwrap();

    let done = run(ferrocni(["install"]).arg(dir.path()));
    assert!(done.ok().ends_with("undone first\n"), "{done:#?}");
    assert!(replaces_loopback(&done.stdout), "{done:#?}");
    assert_eq!(before["calico"], content(dir.path())["calico"]);
    assert_works(dir.path());
}
