//! The C `main`: as much of Rust's start-up as this program needs.
//!
//! Rust's own does more. It looks for the guard page of the main thread's stack in `/proc/self/maps` and installs signal
//! handlers on a stack of their own, in order to print a message when the stack overflows: twenty system calls, a
//! tenth of the time of a plugin that does little. What it does besides is done here.

use std::ffi::{c_char, c_int};
use std::io::Write;
use std::panic;
use std::process::ExitCode;

use rustix::fs::{Mode, OFlags};

/// The status of a Rust program whose `main` panicked.
const PANICKED: u8 = 101;

/// Called by the C library. Arguments come to `std::env` another way (`.init_array`), which only glibc knows; for
/// other C libraries this file is left out.
#[allow(unsafe_code, reason = "a symbol of this name is how a C library starts a program; there is no other")]
#[unsafe(no_mangle)]
extern "C" fn main(_: c_int, _: *const *const c_char) -> c_int {
    occupy_standard_streams();
    ignore_broken_pipes();
    let status = panic::catch_unwind(crate::run).map_or(PANICKED, status);
    // What is printed is kept until the end of the line, and nobody else writes the last one.
    let _ = std::io::stdout().flush();
    c_int::from(status)
}

/// A standard stream that the caller closed would be the first file that is opened, and be written to. What stands in its
/// place is at its end when it is read, and refuses to be written: an answer that nobody can get is not a success (for
/// whoever writes to the descriptor; `std::io::Stdout` takes the refusal for one).
fn occupy_standard_streams() {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        if rustix::io::fcntl_getfd(stream) == Err(rustix::io::Errno::BADF) {
            // The lowest number that is free is this one.
            let opened = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty());
            opened.map(std::os::fd::IntoRawFd::into_raw_fd).ok();
        }
    }
}

/// A plugin whose answer nobody reads has to undo its work, and cannot if the kernel ends it.
#[allow(unsafe_code, reason = "there is no safe name for signal(2)")]
fn ignore_broken_pipes() {
    // SAFETY: no handler is installed, so none has to be safe to call; there is no other thread yet.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
}

/// The number behind an [`ExitCode`], which it keeps to itself.
fn status(code: ExitCode) -> u8 {
    (0..=u8::MAX).find(|status| ExitCode::from(*status) == code).unwrap_or(PANICKED)
}
