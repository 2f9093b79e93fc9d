//! The same call once more, watched from start to end: how much memory, how many processes and threads.
//!
//! Watching (`ptrace(2)`) slows a process down, so nothing is timed here. And the peak that `wait4` reports is not used
//! at all: a process that is started by `vfork` inherits the peak of its parent, which for small programs hides their
//! own.

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;

use libc::{c_int, pid_t};

use crate::Result;
use crate::call::Call;

/// What a call has needed besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// The most memory that was resident at a time, in the largest of its processes, in bytes; shared pages count.
    pub memory: u64,
    /// What it had to itself of that in the end, in bytes: the rest is its file, which all its processes share.
    pub private: u64,
    /// Processes that were started, itself included.
    pub processes: u64,
    /// Threads that were started beyond the first of each process.
    pub threads: u64,
}

/// Follow all that is started, stop once more before each end, and let nothing outlive the bench.
const OPTIONS: c_int = libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT
    | libc::PTRACE_O_EXITKILL;

/// The C libraries disagree on the type of a request.
#[cfg(target_env = "musl")]
type Request = c_int;
#[cfg(not(target_env = "musl"))]
type Request = libc::c_uint;

/// Makes the call and watches it, and all that it starts, until the last of them has ended.
///
/// # Errors
///
/// If it cannot be started or did not succeed, or if the machine forbids to trace one's own children.
pub fn watched(call: &Call) -> Result<Footprint> {
    let mut command = call.command();
    // SAFETY: between fork and exec this makes one system call, which touches no memory.
    #[allow(unsafe_code, reason = "a process can only ask to be traced itself, before it becomes the plugin")]
    unsafe {
        command.pre_exec(|| ptrace(libc::PTRACE_TRACEME, 0, 0));
    }
    let mut child = command.spawn().map_err(|err| call.failed(&err))?;
    let first = child.id().cast_signed();
    call.feed(&mut child).map_err(|err| call.failed(&err))?;

    let (status, footprint) = follow(first).map_err(|err| call.failed(&err))?;
    call.must_have_succeeded(status, b"")?;
    Ok(footprint)
}

fn follow(first: pid_t) -> io::Result<(ExitStatus, Footprint)> {
    let mut footprint = Footprint { memory: 0, private: 0, processes: 1, threads: 0 };
    let mut end = ExitStatus::default();
    let mut begun = false;
    while let Some((pid, status)) = wait_for_any()? {
        if !libc::WIFSTOPPED(status) {
            if pid == first {
                end = ExitStatus::from_raw(status);
            }
            continue;
        }
        if !begun {
            begun = true;
            ptrace(libc::PTRACE_SETOPTIONS, pid, OPTIONS)?;
        }
        match status >> 16 {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => footprint.processes += 1,
            libc::PTRACE_EVENT_CLONE => footprint.threads += 1,
            libc::PTRACE_EVENT_EXIT => {
                let resident = resident(pid)?;
                // Each thread ends, and the last of them shows the most.
                if resident.0 >= footprint.memory {
                    (footprint.memory, footprint.private) = resident;
                }
            }
            _ => {}
        }
        go_on(pid, status)?;
    }
    Ok((end, footprint))
}

/// Lets a stopped process continue, with the signal that stopped it, unless that came from the watching itself.
fn go_on(pid: pid_t, status: c_int) -> io::Result<()> {
    let signal = match libc::WSTOPSIG(status) {
        libc::SIGTRAP | libc::SIGSTOP => 0,
        signal => signal,
    };
    match ptrace(libc::PTRACE_CONT, pid, signal) {
        // Killed by another of its threads in the meantime.
        Err(err) if err.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// The highest resident size so far, and the part that belongs to no file (`VmHWM`, `RssAnon`, `proc_pid_status(5)`).
fn resident(pid: pid_t) -> io::Result<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let entry = |name| {
        bytes(&status, name).ok_or_else(|| io::Error::other(format!("/proc/{pid}/status has no {name}")))
    };
    Ok((entry("VmHWM:")?, entry("RssAnon:")?))
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The next child, of whatever kind, that stops or ends. None if there are no more.
fn wait_for_any() -> io::Result<Option<(pid_t, c_int)>> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is valid for writing, and nobody else waits for children.
        #[allow(unsafe_code, reason = "neither std nor rustix waits for traced threads")]
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if pid != -1 {
            return Ok(Some((pid, status)));
        }
        let err = io::Error::last_os_error();
        match err.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(err),
        }
    }
}

fn ptrace(request: Request, pid: pid_t, data: c_int) -> io::Result<()> {
    let unused = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of the requests used here reads or writes memory of this process.
    #[allow(unsafe_code, reason = "neither std nor rustix has ptrace")]
    let result = unsafe { libc::ptrace(request, pid, unused, libc::c_long::from(data)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes() {
        let status = "Name:\tloopback\nVmPeak:\t  9999 kB\nVmHWM:\t     512 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(bytes(status, "VmHWM:"), Some(512 * 1024));
        assert_eq!(bytes(status, "RssAnon:"), Some(1024));
        assert_eq!(bytes("Name:\tkthreadd\n", "VmHWM:"), None);
    }
}
