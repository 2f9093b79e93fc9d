//! A program that stays and does one job after the other: what a call costs that starts no process.
//!
//! Both ends of the conversation are here: a line for each job on its standard input, `JOB ID NETNS`, and a line for what
//! became of it on its standard output, `done NANOSECONDS CPU-NANOSECONDS` or `failed SENTENCE`. It takes the time
//! itself, so that the pipes between do not count.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// Takes jobs from standard input until that ends.
///
/// # Errors
///
/// If the pipes fail, or a line is no job.
pub fn serve<E: Display>(mut perform: impl FnMut(&str, &str, &str) -> Result<(), E>) -> Result<()> {
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split(' ');
        let (Some(job), Some(id), Some(netns)) = (words.next(), words.next(), words.next()) else {
            return Err(format!("this is no job: {line:?}").into());
        };
        let (start, cpu) = (Instant::now(), cpu_time());
        let outcome = perform(job, id, netns);
        let (elapsed, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
        match outcome {
            Ok(()) => writeln!(output, "done {} {}", elapsed.as_nanos(), cpu.as_nanos())?,
            Err(err) => writeln!(output, "failed {}", err.to_string().replace('\n', " "))?,
        }
        output.flush()?;
    }
    Ok(())
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Such a program, as the bench sees it. It ends with its standard input.
pub struct Resident {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Resident {
    /// Starts it where the calling thread is.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(program: &Path, arguments: &[&OsStr]) -> Result<Resident> {
        let failed = |err: io::Error| format!("{}: {err}", program.display());
        let mut command = Command::new(program);
        command.args(arguments).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or("it has no standard output")?;
        let input = child.stdin.take();
        Ok(Resident { name: program.display().to_string(), child, input, output: BufReader::new(output) })
    }

    /// Has it do a job, and returns the time and the CPU time that it took.
    ///
    /// # Errors
    ///
    /// If it failed.
    pub fn perform(&mut self, job: &str, id: &str, netns: &Path) -> Result<(Duration, Duration)> {
        let mut answer = String::new();
        let mut talk = || {
            if let Some(input) = &mut self.input {
                writeln!(input, "{job} {id} {}", netns.display())?;
            }
            self.output.read_line(&mut answer)
        };
        talk().map_err(|err| format!("{} {job}: {err}", self.name))?;
        outcome(answer.trim_end()).map_err(|err| format!("{} {job}: {err}", self.name).into())
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        drop(self.input.take());
        // It is gone or going; there is nothing to be done about one that is not.
        let _ = self.child.wait();
    }
}

fn outcome(answer: &str) -> Result<(Duration, Duration), String> {
    let mut words = answer.split(' ');
    let mut number = || words.next().and_then(|word| word.parse().ok()).map(Duration::from_nanos);
    match answer.split_once(' ') {
        Some(("done", _)) => {
            number();
            number().zip(number()).ok_or_else(|| format!("an answer that says nothing: {answer:?}"))
        }
        Some(("failed", why)) => Err(why.to_owned()),
        _ => Err("it has ended without an answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_two_times_or_a_sentence() {
        let times = (Duration::from_nanos(12), Duration::from_nanos(7));
        assert_eq!(outcome("done 12 7"), Ok(times));
        assert_eq!(outcome("failed file exists"), Err("file exists".to_owned()));
        assert!(outcome("done twelve").is_err());
        assert!(outcome("").is_err());
    }

    #[test]
    fn a_program_does_one_job_after_the_other() {
        let script = "while read job id netns; do echo done ${#job} ${#id}; done";
        let arguments = ["-c", script].map(OsStr::new);
        let mut program = Resident::start(Path::new("/bin/sh"), &arguments).unwrap();
        for (job, id) in [("ADD", "0001"), ("DEL", "01")] {
            let (elapsed, cpu) = program.perform(job, id, Path::new("/nowhere")).unwrap();
            assert_eq!((elapsed.as_nanos(), cpu.as_nanos()), (job.len() as u128, id.len() as u128));
        }
    }
}
