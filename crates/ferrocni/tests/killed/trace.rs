//! Runs a program, and kills it as its nth system call returns.
//!
//! It does not kill at the entry of a call: nothing that anybody else can see happens between two calls, so the kernel is as
//! it was when the call before returned.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How a program ended.
pub(crate) enum Ended {
    /// By itself, before its nth call returned.
    Exited {
        /// What it exits with, if it was not a signal that ended it.
        code: Option<i32>,
        /// What it printed.
        stdout: String,
        stderr: String,
    },
    /// By us, as this call returned: its number and arguments, as `/proc/<pid>/syscall` has them.
    Killed(String),
}

/// Runs it with this standard input, up to its `nth` system call, from 1; the calls of all its threads and children count,
/// and all of them are killed.
///
/// The calling thread must have no other children.
pub(crate) fn run(command: &mut Command, input: &[u8], nth: usize) -> io::Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[allow(unsafe_code, reason = "what runs between fork and exec is for the caller to answer for")]
    // SAFETY: it makes one system call, and touches no memory.
    unsafe {
        command.pre_exec(|| Ok(ptrace::traceme()?));
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A pipe holds a configuration.
        stdin.write_all(input)?;
    }
    let mut traced = Traced::begin(Pid::from_raw(child.id().cast_signed()))?;
    match traced.follow(nth)? {
        Some(call) => Ok(Ended::Killed(call)),
        None => traced.exited(child),
    }
}

struct Traced {
    root: Pid,
    /// Threads and processes that were seen.
    known: HashSet<Pid>,
    calls: usize,
    code: Option<i32>,
}

impl Traced {
    /// The child stops by itself as its program has been loaded.
    fn begin(root: Pid) -> io::Result<Traced> {
        waitpid(root, None)?;
        let options = Options::PTRACE_O_EXITKILL
            | Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK;
        ptrace::setoptions(root, options)?;
        resume(root, None)?;
        Ok(Traced { root, known: HashSet::from([root]), calls: 0, code: None })
    }

    /// Until everybody has ended, or been killed at the nth call, which is returned.
    fn follow(&mut self, nth: usize) -> io::Result<Option<String>> {
        while let Some(status) = wait()? {
            match status {
                WaitStatus::PtraceSyscall(pid) => {
                    self.calls += usize::from(has_returned(pid));
                    if self.calls == nth {
                        return self.kill(pid).map(Some);
                    }
                    resume(pid, None)?;
                }
                // A new thread or process begins with a stop.
                WaitStatus::Stopped(pid, Signal::SIGSTOP) if self.known.insert(pid) => resume(pid, None)?,
                WaitStatus::Stopped(pid, signal) => resume(pid, signal)?,
                WaitStatus::PtraceEvent(pid, ..) => resume(pid, None)?,
                WaitStatus::Exited(pid, code) if pid == self.root => self.code = Some(code),
                _ => {}
            }
        }
        Ok(None)
    }

    fn kill(&self, at: Pid) -> io::Result<String> {
        let call = std::fs::read_to_string(format!("/proc/{at}/syscall"))?;
        for pid in &self.known {
            // Some have ended already.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        while wait()?.is_some() {}
        Ok(call.trim_end().to_owned())
    }

    fn exited(self, mut child: Child) -> io::Result<Ended> {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut stdout)).transpose()?;
        child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr)).transpose()?;
        Ok(Ended::Exited { code: self.code, stdout, stderr })
    }
}

/// Whether the call returns at which this thread has stopped; otherwise it is about to be made.
fn has_returned(pid: Pid) -> bool {
    // Who is killed meanwhile is not asked.
    ptrace::syscall_info(pid).is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_EXIT)
}

/// What happens next to any child of this thread, or nothing if there is none left.
fn wait() -> io::Result<Option<WaitStatus>> {
    // Other tests have children as well.
    match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
        Err(Errno::ECHILD) => Ok(None),
        status => Ok(Some(status?)),
    }
}

/// Lets it go on to its next call, or to the return of this one.
fn resume(pid: Pid, signal: impl Into<Option<Signal>>) -> io::Result<()> {
    match ptrace::syscall(pid, signal) {
        // Another thread has ended it meanwhile.
        Err(Errno::ESRCH) => Ok(()),
        resumed => Ok(resumed?),
    }
}
