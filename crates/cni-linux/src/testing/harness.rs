//! A test harness that enters namespaces of its own before it starts the tests.
//!
//! rustc's harness has started threads before any code of ours runs, and a process with threads cannot enter a user
//! namespace. Otherwise this one does what that one does: the same arguments, the same output.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::thread::Builder;

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::thread::UnshareFlags;

use super::Sandbox;
use crate::error::{Error, Result, errno_text};
use crate::netns::Netns;
use crate::sandbox::{enter_own_namespaces, unshare};
use crate::undo::panic_text;

/// Set to 1, it makes every test count as ignored: for machines that forbid namespaces.
const SKIP: &str = "CNI_SKIP_KERNEL_TESTS";

/// What became of a test: nothing, or why it failed.
pub type Verdict = std::result::Result<(), String>;

/// One test.
pub struct Test {
    name: String,
    needs: Vec<Need>,
    run: Box<dyn FnOnce(&Sandbox) -> Verdict + Send>,
}

/// Something that a kernel may lack, found out by trying it in a namespace that is thrown away; see
/// [`kernel`](super::kernel). It lacks it if the error [says so](Error::is_unsupported).
pub type Need = fn(&Netns) -> Result<()>;

/// What a test may return: nothing, or a result with an error that can be printed.
pub trait Outcome {
    /// The verdict.
    fn into_verdict(self) -> Verdict;
}

impl Outcome for () {
    fn into_verdict(self) -> Verdict {
        Ok(())
    }
}

impl<E: fmt::Display> Outcome for std::result::Result<(), E> {
    fn into_verdict(self) -> Verdict {
        self.map_err(|error| error.to_string())
    }
}

impl Test {
    /// A test of this name, which fails by panicking or by returning an error.
    pub fn new<O: Outcome>(
        name: impl Into<String>,
        run: impl FnOnce(&Sandbox) -> O + Send + 'static,
    ) -> Test {
        Test { name: name.into(), needs: Vec::new(), run: Box::new(|sandbox| run(sandbox).into_verdict()) }
    }

    /// Counts as ignored, with the reason, where the kernel lacks this.
    pub fn needs(mut self, need: Need) -> Test {
        self.needs.push(need);
        self
    }

    fn trial(self, skipped: bool) -> Trial {
        let Test { name, needs, run } = self;
        if skipped {
            // Not even `--ignored` may run it: it would be let loose on the machine's own network.
            let refuse = || Err(Failed::from(format!("not run outside of a sandbox ({SKIP} is set)")));
            return Trial::test(name, refuse).with_kind(format!("{SKIP}=1")).with_ignored_flag(true);
        }
        let thread = name.clone();
        let unmet = needs.into_iter().find_map(unmet);
        let trial = Trial::test(name, move || run_in_sandbox(thread, run).map_err(Failed::from));
        match unmet {
            Some(lacking) => trial.with_kind(briefly(&lacking)).with_ignored_flag(true),
            None => trial,
        }
    }
}

/// Names the tests, for [`main()`]: `tests![this, that => [kernel::dummy]]`.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ($($test:path $(=> [$($need:path),* $(,)?])?),* $(,)?) => {
        ::std::vec![$($crate::testing::Test::new(stringify!($test), $test) $($(.needs($need))*)?),*]
    };
}

/// The `main` of a test program: runs the tests that the arguments ask for, as `cargo test` passes them.
///
/// First it moves the process to namespaces of its own ([`sandbox`](crate::sandbox)). If the machine forbids that the
/// run fails and says why, unless `CNI_SKIP_KERNEL_TESTS=1` is set: then all tests count as ignored.
/// Then it runs the tests in parallel, each on a new thread with a network namespace of its own, its loopback
/// interface down. If a test fails, what is configured in that namespace and in its containers is part of the report.
pub fn main(tests: Vec<Test>) -> ExitCode {
    let arguments = Arguments::from_args();
    #[allow(clippy::disallowed_methods, reason = "a test program is the owner of its process")]
    let skipped = std::env::var_os(SKIP).is_some_and(|value| value == "1");
    if arguments.list {
        let named = tests.into_iter().map(|test| Trial::test(test.name, || Ok(())));
        return libtest_mimic::run(&arguments, named.collect()).exit_code();
    }
    if !skipped && let Err(forbidden) = enter_own_namespaces() {
        say(&format!("the tests need namespaces of their own, and cannot have them: {forbidden}"));
        say(&format!("To have them all counted as ignored instead, set {SKIP}=1."));
        return ExitCode::FAILURE;
    }
    let trials = tests.into_iter().map(|test| test.trial(skipped)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

#[allow(
    clippy::print_stderr,
    clippy::disallowed_macros,
    reason = "a test program reports to whoever runs it"
)]
fn say(line: &str) {
    eprintln!("{line}");
}

/// What the kernel says if it lacks this. Any other failure is left to the test, to fail on it.
fn unmet(need: Need) -> Option<Error> {
    let tried = Netns::temporary().and_then(|netns| need(&netns));
    tried.err().filter(Error::is_unsupported)
}

/// What the kernel lacks, as short as possible: the harness makes a column of it.
fn briefly(lacking: &Error) -> String {
    match lacking.said() {
        Some(said) => format!("{}: {said}", lacking.what()),
        None => lacking.to_string(),
    }
}

/// Runs one test on a thread that is in a network namespace of its own, and ends with it.
fn run_in_sandbox(name: String, run: impl FnOnce(&Sandbox) -> Verdict + Send + 'static) -> Verdict {
    let test = move || -> Verdict {
        let entered = unshare(UnshareFlags::NEWNET);
        entered.map_err(|errno| format!("cannot have a network namespace: {}", errno_text(errno)))?;
        let sandbox = Sandbox::here().map_err(|error| error.to_string())?;
        // The sandbox is only read afterwards, to report on it.
        catch_unwind(AssertUnwindSafe(|| run(&sandbox)))
            .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic))))
            .map_err(|failure| format!("{failure}\n{}", sandbox.state()))
    };
    let thread =
        Builder::new().name(name).spawn(test).map_err(|err| format!("cannot start a thread: {err}"))?;
    thread.join().unwrap_or_else(|panic: Box<dyn Any + Send>| Err(panic_text(&*panic).to_owned()))
}
