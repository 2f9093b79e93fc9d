//! Runs programs with a deadline, and says what they said when they fail.
//!
//! Their output goes to files, not to pipes: a daemon that keeps a descriptor open holds nobody up.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What failed, in words for people; may have several lines.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// The longest that one command may take. A loaded machine must not fail a promise.
const LIMIT: Duration = Duration::from_secs(30);

/// How often is looked.
const BEAT: Duration = Duration::from_millis(20);

/// Where programs are; nothing else of the environment is passed on.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that is running, in a process group of its own.
pub(crate) struct Running {
    line: String,
    child: Child,
    stdout: File,
    stderr: File,
}

/// A program that has ended.
pub(crate) struct Ended {
    line: String,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end and returns its standard output; that it fails is an error with all that it said.
pub(crate) fn run(line: &[&str]) -> Result<String> {
    let ended = start(line)?.wait()?;
    if ended.status.success() { Ok(ended.stdout) } else { Err(ended.to_string()) }
}

/// Starts a program, with no environment but its path.
pub(crate) fn start(line: &[&str]) -> Result<Running> {
    let failed = |err| format!("{}: {err}", line.join(" "));
    let (stdout, stderr) = (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
    let (program, args) = line.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", PATH).process_group(0);
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().map_err(failed)?).stderr(stderr.try_clone().map_err(failed)?);
    Ok(Running { line: line.join(" "), child: command.spawn().map_err(failed)?, stdout, stderr })
}

/// Waits until something holds; what it said last is the error.
pub(crate) fn until<T>(mut holds: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + LIMIT / 3;
    loop {
        match holds() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(BEAT),
            outcome => return outcome,
        }
    }
}

impl Running {
    /// Waits for its end, which is brought about when the time is up.
    pub(crate) fn wait(mut self) -> Result<Ended> {
        let deadline = Instant::now() + LIMIT;
        while !self.has_ended() {
            if Instant::now() > deadline {
                self.kill();
                let ended = self.end()?;
                return Err(format!("{ended}\nit was killed after {} s", LIMIT.as_secs()));
            }
            std::thread::sleep(BEAT);
        }
        self.end()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it and its group with SIGKILL.
    pub(crate) fn kill(&self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended in this very moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn end(mut self) -> Result<Ended> {
        let status = self.child.wait().map_err(|err| format!("{}: {err}", self.line))?;
        let (stdout, stderr) = (text(&mut self.stdout), text(&mut self.stderr));
        Ok(Ended { line: self.line, status, stdout, stderr })
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$ {}\n{}{}{}", self.line, self.stdout, self.stderr, self.status)
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // What could be read is shown.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
