//! Moves bytes to and from a running plugin until it has ended, with poll(2): whatever it reads or does not read,
//! writes or does not write, nobody waits for somebody who waits.
//!
//! What the bytes mean is not known here.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// The most that a plugin may print, in bytes: results are ten thousand times smaller. One that prints more is
/// killed, and has failed.
pub const MAX_STDOUT: usize = 16 << 20;
/// How much of a plugin's standard error is kept, in bytes, from its start; the rest is read and dropped.
pub const MAX_STDERR: usize = 1 << 20;
/// How long standard output is read on after the plugin itself has ended, if a process that it started still holds
/// it: time for a wrapper's child to print the answer, but a daemon does not keep anybody waiting.
pub const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// How long the end of a killed plugin is waited for; it does not come while the kernel holds it (state D, ps(1)).
const KILL_GRACE: Duration = Duration::from_secs(1);
/// How often an end is looked for where the kernel has no pidfd (before 5.3, pidfd_open(2)).
const TICK: Duration = Duration::from_millis(10);

/// What has come of a plugin.
#[derive(Debug)]
pub(super) struct Output {
    /// How it ended.
    pub(super) end: End,
    /// What it printed, at most [`MAX_STDOUT`] bytes.
    pub(super) stdout: Vec<u8>,
    /// What it logged, at most [`MAX_STDERR`] bytes.
    pub(super) stderr: Vec<u8>,
    /// How much of its input the pipe took, in bytes.
    pub(super) accepted: usize,
}

/// How a plugin ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// It was killed when its time was over.
    TimedOut,
    /// It was killed when it had printed too much.
    TooMuch,
}

impl Output {
    /// How far a plugin had come that was killed.
    pub(super) fn progress(&self, input: usize) -> String {
        format!(
            "it had been sent {} of {input} bytes of configuration, and had printed {} bytes",
            self.accepted,
            self.stdout.len()
        )
    }
}

/// A running plugin.
pub(super) struct Exchange<'a> {
    child: Child,
    /// Readable when the child has ended.
    pidfd: Option<OwnedFd>,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    input: &'a [u8],
    /// With a deadline, the child leads a process group.
    deadline: Option<Instant>,
    exited: Option<(ExitStatus, Instant)>,
    killed: Option<(End, Instant)>,
    /// Nothing was there when somebody last looked.
    quiet: bool,
    output: Output,
}

/// The descriptors that are waited for.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Stdin,
    Stdout,
    Stderr,
    End,
}

impl<'a> Exchange<'a> {
    /// Takes over a child whose three streams are pipes, and which leads a process group if there is a deadline.
    pub(super) fn new(mut child: Child, input: &'a [u8], deadline: Option<Instant>) -> io::Result<Self> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let output = Output { end: End::TimedOut, stdout: Vec::new(), stderr: Vec::new(), accepted: 0 };
        let mut exchange = Exchange {
            child,
            pidfd,
            stdin,
            stdout,
            stderr,
            input,
            deadline,
            exited: None,
            killed: None,
            quiet: false,
            output,
        };
        // Only our end of the pipe: the child's own stays as it is.
        if let Some(stdin) = &exchange.stdin
            && let Err(e) = rustix::io::ioctl_fionbio(stdin, true)
        {
            exchange.give_up();
            return Err(e.into());
        }
        Ok(exchange)
    }

    /// Feeds and collects until the child has ended.
    pub(super) fn run(mut self) -> io::Result<Output> {
        self.feed(); // most configurations fit the pipe at once
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(end)) => {
                    self.output.end = end;
                    return Ok(self.output);
                }
                Err(e) => {
                    self.give_up();
                    return Err(e);
                }
            }
        }
    }

    fn step(&mut self) -> io::Result<Option<End>> {
        if self.input.is_empty() {
            self.stdin = None;
        }
        let ready = self.wait()?;
        self.quiet = ready.is_empty();
        for source in &ready {
            match source {
                Source::Stdin => self.feed(),
                Source::Stdout => self.collect_stdout()?,
                Source::Stderr => self.collect_stderr()?,
                Source::End => {}
            }
        }
        if self.exited.is_none() && (self.pidfd.is_none() || ready.contains(&Source::End)) {
            self.exited = self.child.try_wait()?.map(|status| (status, Instant::now()));
        }
        if self.exited.is_some() {
            self.stdin = None;
        } else if self.killed.is_none() && self.deadline.is_some_and(|d| Instant::now() >= d) {
            self.kill(End::TimedOut);
        }
        Ok(self.end())
    }

    /// Waits for something to do, at most until the next moment that matters.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let sources = [
            (Source::Stdin, self.stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (Source::Stdout, self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Source::Stderr, self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (Source::End, self.pidfd_while_running(), PollFlags::IN),
        ];
        let mut fds = Vec::with_capacity(sources.len());
        let mut polled = Vec::with_capacity(sources.len());
        for (source, fd, flags) in sources {
            if let Some(fd) = fd {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                polled.push(source);
            }
        }
        loop {
            let timeout =
                self.patience().map(|time| Timespec::try_from(time).expect("it is less than an age"));
            match poll(&mut fds, timeout.as_ref()) {
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
                Ok(_) => break,
            }
        }
        let ready = polled.into_iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
        Ok(ready.map(|(source, _)| source).collect())
    }

    fn pidfd_while_running(&self) -> Option<BorrowedFd<'_>> {
        if self.exited.is_some() { None } else { self.pidfd.as_ref().map(AsFd::as_fd) }
    }

    /// How long nothing may happen; without an answer, for ever.
    fn patience(&self) -> Option<Duration> {
        let until = |moment: Instant| moment.saturating_duration_since(Instant::now());
        match (&self.exited, &self.killed) {
            // The answer is complete: what else has been logged by now is there by now.
            (Some(_), _) if self.stdout.is_none() => Some(Duration::ZERO),
            (Some((_, at)), _) => Some(until(*at + OUTPUT_GRACE)),
            (None, Some((_, at))) => Some(until(*at + KILL_GRACE).min(TICK)),
            (None, None) => {
                let tick = self.pidfd.is_none().then_some(TICK);
                self.deadline.map(until).into_iter().chain(tick).min()
            }
        }
    }

    /// What it has come to, once it is over.
    fn end(&self) -> Option<End> {
        match (&self.exited, &self.killed) {
            (Some(_), Some((end, _))) => Some(*end),
            (None, Some((end, at))) => (at.elapsed() >= KILL_GRACE).then_some(*end),
            (Some((status, at)), None) => {
                let all_read = self.stdout.is_none() && (self.stderr.is_none() || self.quiet);
                (all_read || at.elapsed() >= OUTPUT_GRACE).then_some(End::Exited(*status))
            }
            (None, None) => None,
        }
    }

    fn feed(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        match rustix::io::write(stdin, self.input) {
            Ok(written) => {
                self.output.accepted += written;
                self.input = &self.input[written..];
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A plugin need not read its configuration (EPIPE); whether it can do without is for it to say.
            Err(_) => self.stdin = None,
        }
    }

    fn collect_stdout(&mut self) -> io::Result<()> {
        if !read_some(&mut self.stdout, &mut self.output.stdout)? {
            self.stdout = None;
        } else if self.output.stdout.len() > MAX_STDOUT && self.killed.is_none() {
            self.output.stdout.truncate(MAX_STDOUT);
            self.stdout = None;
            self.kill(End::TooMuch);
        }
        Ok(())
    }

    fn collect_stderr(&mut self) -> io::Result<()> {
        if !read_some(&mut self.stderr, &mut self.output.stderr)? {
            self.stderr = None;
        }
        self.output.stderr.truncate(MAX_STDERR);
        Ok(())
    }

    fn kill(&mut self, end: End) {
        // It cannot hit a stranger: as long as the child is not reaped, its number is its own.
        if self.deadline.is_some() && self.exited.is_none() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
        self.killed = Some((end, Instant::now()));
    }

    /// Leaves nothing running behind.
    fn give_up(&mut self) {
        if self.exited.is_none() {
            self.kill(End::TimedOut);
            let _ = self.child.wait();
        }
    }
}

/// Reads what is there; says whether there may be more.
fn read_some(from: &mut Option<impl Read>, to: &mut Vec<u8>) -> io::Result<bool> {
    let Some(from) = from else { return Ok(false) };
    let mut buffer = [0; 16 << 10];
    match from.read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(read) => {
            to.extend_from_slice(&buffer[..read]);
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a child to talk to")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// As on a kernel without pidfd.
    fn without_pidfd(script: &str, deadline: Option<Duration>) -> Output {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn().unwrap();
        let mut exchange = Exchange::new(child, b"in", deadline.map(|d| Instant::now() + d)).unwrap();
        exchange.pidfd = None;
        exchange.run().unwrap()
    }

    #[test]
    fn an_older_kernel_is_asked_again_and_again() {
        let output = without_pidfd("cat; sleep 0.1; exit 3", None);
        assert!(matches!(output.end, End::Exited(status) if status.code() == Some(3)));
        assert_eq!((output.stdout.as_slice(), output.accepted), (&b"in"[..], 2));
        let output = without_pidfd("exec >&- 2>&-; sleep 0.1; exit 4", None);
        assert!(matches!(output.end, End::Exited(status) if status.code() == Some(4)));
        let output = without_pidfd("sleep 20 & exit 0", None);
        assert!(matches!(output.end, End::Exited(status) if status.success()));
        assert!(matches!(without_pidfd("sleep 20", Some(Duration::from_millis(200))).end, End::TimedOut));
    }
}
