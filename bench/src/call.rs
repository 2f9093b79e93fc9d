//! One call of a plugin, as a runtime makes it, and how long it took.
//!
//! Timed from just before the process is started until its output has ended and it is gone. What comes before (the
//! command is put together) and after (the reply is looked at) is not in it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::Result;

/// What is started, and what it is told.
#[derive(Debug)]
pub struct Call {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments; a plugin has none.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// What it finds on its standard input.
    pub input: Vec<u8>,
}

/// What a call has cost and what it has answered.
#[derive(Debug)]
pub struct Answer {
    /// Wall-clock time.
    pub elapsed: Duration,
    /// User and system time of the process and of all that it waited for.
    pub cpu: Duration,
    /// What it printed.
    pub reply: Vec<u8>,
}

impl Call {
    /// Starts the process, feeds it, reads its output to the end and waits for it.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or did not succeed.
    pub fn timed(&self) -> Result<Answer> {
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let mut reply = Vec::with_capacity(4096);

        let start = Instant::now();
        let mut child = command.spawn().map_err(|err| self.failed(&err))?;
        self.feed(&mut child).map_err(|err| self.failed(&err))?;
        if let Some(mut output) = child.stdout.take() {
            output.read_to_end(&mut reply).map_err(|err| self.failed(&err))?;
        }
        let (status, cpu) = wait(&child).map_err(|err| self.failed(&err))?;
        let elapsed = start.elapsed();

        self.must_have_succeeded(status, &reply)?;
        Ok(Answer { elapsed, cpu, reply })
    }

    /// The command, its input a pipe, its output and its errors thrown away.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    pub(crate) fn feed(&self, child: &mut Child) -> io::Result<()> {
        let Some(mut input) = child.stdin.take() else { return Ok(()) };
        match input.write_all(&self.input) {
            // The floor does not read its input and may be gone already.
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    pub(crate) fn must_have_succeeded(&self, status: ExitStatus, reply: &[u8]) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(reply);
        Err(format!("{self}: {status}; it said: {}", said.trim()).into())
    }

    pub(crate) fn failed(&self, err: &io::Error) -> String {
        format!("{self}: {err}")
    }
}

impl std::fmt::Display for Call {
    /// `/usr/lib/cni/loopback ADD`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let command = self.environment.iter().find(|(name, _)| *name == "CNI_COMMAND");
        let command = command.map(|(_, value)| Path::new(value));
        write!(f, "{}", self.program.display())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", Path::new(argument).display()))?;
        command.map_or(Ok(()), |command| write!(f, " {}", command.display()))
    }
}

/// Makes all calls at once: each is started without waiting for those before. Returns the time from the first start to
/// the last end, and the answer of each with the time of its own.
///
/// # Errors
///
/// If one cannot be started or did not succeed.
pub fn at_once(calls: &[Call]) -> Result<(Duration, Vec<Answer>)> {
    let mut running = Vec::with_capacity(calls.len());
    let start = Instant::now();
    for call in calls {
        running.push(Running::start(call).map_err(|err| call.failed(&err))?);
        note_ends(&mut running, false)?;
    }
    while running.iter().any(|running| running.end.is_none()) {
        note_ends(&mut running, true)?;
    }
    let elapsed = start.elapsed();
    let answers = running.into_iter().zip(calls).map(|(running, call)| running.answer(call));
    Ok((elapsed, answers.collect::<Result<_>>()?))
}

/// A call that has been started. What it prints waits in the pipe, which holds far more than a plugin says.
struct Running {
    child: Child,
    /// Readable once the process has ended.
    process: OwnedFd,
    start: Instant,
    end: Option<(Duration, ExitStatus, Duration)>,
}

impl Running {
    fn start(call: &Call) -> io::Result<Running> {
        let mut command = call.command();
        command.stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn()?;
        call.feed(&mut child)?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Running { child, process, start, end: None })
    }

    fn answer(mut self, call: &Call) -> Result<Answer> {
        let (elapsed, status, cpu) = self.end.ok_or("it has not ended")?;
        let mut reply = Vec::new();
        if let Some(output) = &mut self.child.stdout {
            output.read_to_end(&mut reply).map_err(|err| call.failed(&err))?;
        }
        call.must_have_succeeded(status, &reply)?;
        Ok(Answer { elapsed, cpu, reply })
    }
}

/// Notes which have ended; if it shall wait, until at least one has.
fn note_ends(running: &mut [Running], wait_for_one: bool) -> io::Result<()> {
    let mut alive: Vec<_> = running.iter_mut().filter(|running| running.end.is_none()).collect();
    let mut waiting: Vec<_> =
        alive.iter().map(|running| PollFd::new(&running.process, PollFlags::IN)).collect();
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let deadline = if wait_for_one { None } else { Some(&at_once) };
    match poll(&mut waiting, deadline) {
        Err(Errno::INTR) => return Ok(()),
        result => result?,
    };
    let ended: Vec<_> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
    for running in alive.iter_mut().zip(ended).filter_map(|(running, ended)| ended.then_some(running)) {
        let (status, cpu) = wait(&running.child)?;
        running.end = Some((running.start.elapsed(), status, cpu));
    }
    Ok(())
}

/// Waits for the process and tells what it has used. `std` has no `wait4`.
fn wait(child: &Child) -> io::Result<(ExitStatus, Duration)> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are valid for writing, and the process is a child that nobody else waits for.
        #[allow(unsafe_code, reason = "rustix has no wait4")]
        let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, usage.as_mut_ptr()) };
        if waited != -1 {
            break;
        }
        let err = io::Error::last_os_error();
        if err.kind() != ErrorKind::Interrupted {
            return Err(err);
        }
    }
    // SAFETY: all zeroes is a valid rusage, and wait4 has filled it in.
    #[allow(unsafe_code, reason = "the counterpart of MaybeUninit::zeroed")]
    let usage = unsafe { usage.assume_init() };
    Ok((ExitStatus::from_raw(status), duration(usage.ru_utime) + duration(usage.ru_stime)))
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Call {
        Call {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("CNI_COMMAND", "ADD".into())],
            input: b"{}".to_vec(),
        }
    }

    #[test]
    fn a_plugin_gets_its_input_and_nothing_of_our_environment() {
        let answer = shell("cat; echo; echo $CNI_COMMAND; echo ${HOME-no home}").timed().unwrap();
        assert_eq!(String::from_utf8(answer.reply).unwrap(), "{}\nADD\nno home\n");
    }

    #[test]
    fn the_time_covers_the_whole_life_of_the_process() {
        let answer = shell("exec 1>&-; sleep 0.05").timed().unwrap();
        assert!(answer.elapsed >= Duration::from_millis(50), "{answer:?}");
    }

    #[test]
    fn the_work_of_its_children_counts() {
        let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let answer = shell(&format!("/bin/sh -c '{busy}'")).timed().unwrap();
        assert!(answer.cpu >= Duration::from_millis(1), "{answer:?}");
    }

    #[test]
    fn a_failure_is_an_error_that_quotes_the_reply() {
        let error = shell("echo '{\"code\": 7}'; exit 1").timed().unwrap_err().to_string();
        assert!(
            error.contains("/bin/sh") && error.contains("ADD") && error.contains("\"code\": 7"),
            "{error}"
        );
    }

    #[test]
    fn calls_at_once_overlap_and_keep_their_answers_apart() {
        let calls: Vec<_> = (0..5).map(|number| shell(&format!("sleep 0.1; echo {number}"))).collect();
        let (elapsed, answers) = at_once(&calls).unwrap();
        let replies: Vec<_> =
            answers.iter().map(|answer| String::from_utf8_lossy(&answer.reply).into_owned()).collect();
        assert_eq!(replies, ["0\n", "1\n", "2\n", "3\n", "4\n"]);
        let sum: Duration = answers.iter().map(|answer| answer.elapsed).sum();
        assert!(answers.iter().all(|answer| answer.elapsed >= Duration::from_millis(100)), "{answers:?}");
        assert!(elapsed < sum, "{elapsed:?} for {sum:?}");
    }

    #[test]
    fn one_of_many_that_fails_is_an_error() {
        let error = at_once(&[shell("exit 0"), shell("echo no; exit 3")]).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no"), "{error}");
    }

    #[test]
    fn a_plugin_need_not_read_its_input() {
        let mut call = shell("exit 0");
        call.input = vec![b' '; 1 << 20];
        call.timed().unwrap();
    }
}
