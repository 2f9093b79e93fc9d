//! Namespaces of one's own, without privileges: where network plugins can be tried and tested.
//!
//! It protects the host from mistakes, not from malice: files, processes and the clock are still the host's. So is
//! what is mounted on `/sys`, which goes on showing the host's links.

use std::fmt::Write as _;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::error::{Errno, Error, Result};

const DOING: &str = "create namespaces of our own";

/// Moves the whole process to a new user namespace, in which it is root, and to new network and mount namespaces
/// (`unshare --map-root-user --net --mount`).
///
/// From then on the process can make links, addresses, routes, firewall rules, mounts and further namespaces, none
/// of which anybody else sees, and all of which go when it ends. The only network interface is a loopback that is
/// down. Nothing that is mounted from then on is seen outside.
///
/// The process must still have just one thread: call it first thing in `main`. A privileged process that may not
/// make user namespaces makes the other two without.
///
/// # Errors
///
/// If the process has several threads, or the machine forbids it. The error says which setting does, and how to
/// change it. The process is where it was, unless the user namespace was made and could not be set up.
pub fn enter_own_namespaces() -> Result<()> {
    check_single_threaded()?;
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    match unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS) {
        // AppArmor may let the namespace be made and take its capabilities away.
        Ok(()) => become_root(uid, gid).map_err(explained)?,
        Err(refused) => {
            let without_user = unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS);
            without_user.map_err(|_| Error::os(DOING, "", refused).with_hint(remedy(refused)))?;
        }
    }
    keep_mounts_private().map_err(explained)
}

/// An error with the remedy for it.
fn explained(error: Error) -> Error {
    let refused = error.errno().unwrap_or(Errno::PERM);
    error.with_hint(remedy(refused))
}

/// A user namespace can only be entered by a process with one thread, and the others would stay outside.
fn check_single_threaded() -> Result<()> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|err| Error::io(DOING, "", &err))?;
    match tasks.count() {
        0 | 1 => Ok(()),
        threads => Err(Error::new(DOING, "", format!("the process already has {threads} threads"))
            .with_errno(Errno::INVAL)
            .with_hint("this has to come first in main")),
    }
}

/// Moves the calling thread to new namespaces of these kinds.
#[allow(
    unsafe_code,
    reason = "rustix marks unshare unsafe because of CLONE_FILES, which is not asked for here"
)]
pub(crate) fn unshare(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    debug_assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: descriptors stay shared among all threads, and nothing else that is unshared is memory.
    unsafe { unshare_unsafe(namespaces) }
}

/// Maps the user to root, and the group likewise; `user_namespaces(7)`.
fn become_root(uid: u32, gid: u32) -> Result<()> {
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    // The group may only be mapped by one who cannot leave groups any more.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))
}

fn write(path: &str, line: &str) -> Result<()> {
    std::fs::write(path, line).map_err(|err| Error::io("write", path, &err))
}

/// Stops mounts from spreading to the namespace that this one was copied from.
fn keep_mounts_private() -> Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| Error::os("make mounts private", "", errno))
}

/// What forbids it, as far as can be seen, and what to do about it.
fn remedy(refused: Errno) -> String {
    let mut remedy = String::new();
    for (path, forbids, command) in [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
        ("/proc/sys/user/max_net_namespaces", "0", "sysctl -w user.max_net_namespaces=10000"),
        ("/proc/sys/user/max_mnt_namespaces", "0", "sysctl -w user.max_mnt_namespaces=10000"),
    ] {
        if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == forbids) {
            let separator = if remedy.is_empty() { "" } else { "; " };
            // Writing to a string cannot fail.
            let _ = write!(remedy, "{separator}{path} is {forbids}, which forbids it: `{command}` as root");
        }
    }
    if !remedy.is_empty() {
        return remedy;
    }
    let cause = match refused {
        Errno::NOSPC | Errno::USERS => "a limit on namespaces is reached (/proc/sys/user/max_*_namespaces)",
        Errno::INVAL | Errno::NOSYS => "this kernel has no user namespaces (CONFIG_USER_NS)",
        Errno::PERM if in_seccomp() => {
            "a seccomp filter, as that of container runtimes, may forbid it: run with `--privileged`, or \
             `--security-opt seccomp=unconfined`"
        }
        _ => "run it as root, or where user namespaces are allowed",
    };
    cause.into()
}

/// Whether system calls of this process are filtered.
fn in_seccomp() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.trim_end() == "Seccomp:\t2"))
}
