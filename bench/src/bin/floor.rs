//! The least that a call can cost: a process that makes the requests to the kernel that the job needs, and ends.
//!
//! It is no plugin. It reads no configuration, checks nothing and says nothing, so that what a plugin takes beyond it
//! is the plugin's own. `tools/build-static floor` builds it in the way in which the plugins are shipped.
//!
//! With `serve` it does not end, but takes one job after the other from standard input: what the kernel needs without
//! the start of a process.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use bench::floor::{JOBS, Place, perform};
use bench::resident::serve;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&*err);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let job = env::args().nth(1).unwrap_or_default();
    match job.as_str() {
        "serve" => serve(|job, id, netns| perform(job, &Place::new(id, netns.as_ref())?.returning()?)),
        job if JOBS.contains(&job) => perform(job, &Place::from_environment()?),
        _ => Err(format!("usage: floor serve|{}", JOBS.join("|")).into()),
    }
}

#[allow(clippy::print_stderr, reason = "this is the program itself")]
fn complain(err: &dyn Error) {
    eprintln!("floor: {err}");
}
