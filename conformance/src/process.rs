//! Runs a plugin as a runtime would: an environment, standard input, and what came of it.
//!
//! Nothing is judged here. The process gets nothing of our own environment, and a group of its own, which is killed
//! when the time is up.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::case::{StdinKind, StdoutKind};

/// How long a plugin may take. A loaded machine must not fail a case.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// How long one may take that is expected not to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// One execution, ready to be started.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) program: PathBuf,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) stdin: Vec<u8>,
    pub(crate) stdin_is: StdinKind,
    pub(crate) stdout_is: StdoutKind,
    /// After this it is killed.
    pub(crate) limit: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// How the process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(i32),
    Signal(i32),
    /// It did not end in time, and was killed.
    #[default]
    TimedOut,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
            Exit::TimedOut => f.write_str("it does not end, and was killed"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Exit {
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Status(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        }
    }
}

impl Execution {
    /// Starts the plugin, in the namespace of the calling thread, and waits for it.
    pub(crate) fn run(&self) -> io::Result<Outcome> {
        let started = Instant::now();
        let mut command = self.command();
        command.env_clear().envs(self.env.iter().map(|(key, value)| (key, value)));
        command.current_dir("/").process_group(0);
        let (stdin, writer) = self.stdin()?;
        let (stdout, stdout_reader) = self.stdout()?;
        let (stderr_reader, stderr) = io::pipe()?;
        command.stdin(stdin).stdout(stdout).stderr(stderr);
        // The threads first: when one cannot be started, nothing is running yet that would have to be ended.
        let stdout = stdout_reader.map(collect).transpose()?;
        let stderr = Some(collect(stderr_reader)?);
        let fed = writer.map(|writer| feed(writer, self.stdin.clone(), self.stdin_is)).transpose()?;
        let mut child = command.spawn()?;
        // This program's copies of the child's ends of the pipes.
        drop(command);

        let deadline = started + self.limit;
        let mut late = false;
        let mut read = |output: Option<Receiver<Vec<u8>>>| match output.map(|output| until(deadline, &output))
        {
            Some(Some(bytes)) => bytes,
            Some(None) => {
                late = true;
                kill(&child);
                Vec::new()
            }
            None => Vec::new(),
        };
        let stdout = read(stdout);
        let stderr = read(stderr);
        let status = child.wait()?;
        // Lets go of a pipe that was held open.
        drop(fed);
        let exit = if late { Exit::TimedOut } else { status.into() };
        Ok(Outcome { exit, stdout, stderr })
    }

    /// The plugin, or a shell that takes a descriptor away before it becomes the plugin.
    fn command(&self) -> Command {
        let redirections = match (self.stdin_is, self.stdout_is) {
            (StdinKind::Closed, StdoutKind::Closed) => "<&- >&-",
            (StdinKind::Closed, _) => "<&-",
            (_, StdoutKind::Closed) => ">&-",
            _ => return Command::new(&self.program),
        };
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("exec \"$0\" {redirections}")).arg(&self.program);
        shell
    }

    fn stdin(&self) -> io::Result<(Stdio, Option<PipeWriter>)> {
        Ok(match self.stdin_is {
            StdinKind::Pipe | StdinKind::LeftOpen => {
                let (reader, writer) = io::pipe()?;
                (reader.into(), Some(writer))
            }
            StdinKind::Null | StdinKind::Closed => (Stdio::null(), None),
            StdinKind::Directory => (File::open(Path::new("/"))?.into(), None),
        })
    }

    fn stdout(&self) -> io::Result<(Stdio, Option<PipeReader>)> {
        Ok(match self.stdout_is {
            StdoutKind::Pipe => {
                let (reader, writer) = io::pipe()?;
                (writer.into(), Some(reader))
            }
            StdoutKind::Closed => (Stdio::null(), None),
            StdoutKind::ReadOnly => (File::open("/dev/null")?.into(), None),
            StdoutKind::Full => (OpenOptions::new().write(true).open("/dev/full")?.into(), None),
            StdoutKind::Broken => (io::pipe()?.1.into(), None),
        })
    }
}

/// Writes on a thread of its own; its result keeps the pipe open where that is wanted.
fn feed(
    mut writer: PipeWriter,
    bytes: Vec<u8>,
    kind: StdinKind,
) -> io::Result<JoinHandle<Option<PipeWriter>>> {
    Builder::new().name("stdin".into()).spawn(move || {
        // A plugin may end without having read everything.
        let _ = writer.write_all(&bytes);
        (kind == StdinKind::LeftOpen).then_some(writer)
    })
}

fn collect(mut output: PipeReader) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    Builder::new().name("output".into()).spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error counts.
        let _ = output.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    })?;
    Ok(receiver)
}

fn until(deadline: Instant, output: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
    match output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(bytes) => Some(bytes),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Vec::new()),
    }
}

fn kill(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended in this very moment.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}
