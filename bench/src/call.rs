//! One call of a plugin, as a runtime makes it, and how long it took.
//!
//! Timed from just before the process is started until its output has ended and it is gone. What comes before (the
//! command is put together) and after (the reply is looked at) is not in it.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

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
    fn a_plugin_need_not_read_its_input() {
        let mut call = shell("exit 0");
        call.input = vec![b' '; 1 << 20];
        call.timed().unwrap();
    }
}
