//! What to reverse when a later step fails, newest first.
//!
//! It is not a transaction: nothing is isolated, and a killed process undoes nothing. What must survive that needs
//! a name from which it can be found again.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whatever a step of undoing fails with.
pub type StepError = Box<dyn std::error::Error + Send + Sync>;

type Step = Box<dyn FnOnce() -> Result<(), StepError> + Send>;

/// A stack of steps that reverse what has been done so far.
///
/// Whoever makes something outside the process pushes its reversal. When all is done and delivered, [`keep`] the
/// work; on failure, [`run`] the steps. Dropping an `Undo` that saw neither (a `?`, a panic) runs it too.
///
/// [`keep`]: Undo::keep
/// [`run`]: Undo::run
///
/// ```
/// use cni_linux::Undo;
/// use std::sync::{Arc, Mutex};
///
/// let log = Arc::new(Mutex::new(Vec::new()));
/// let mut undo = Undo::new();
/// for name in ["bridge", "port"] {
///     let log = log.clone();
///     undo.push(name, move || {
///         log.lock().map_err(|_| "poisoned")?.push(name);
///         Ok(())
///     });
/// }
/// undo.run()?;
/// assert_eq!(*log.lock().unwrap(), ["port", "bridge"]);
/// # Ok::<(), cni_linux::UndoErrors>(())
/// ```
#[derive(Default)]
#[must_use = "dropping an Undo runs it at once"]
pub struct Undo {
    steps: Vec<(String, Step)>,
}

impl Undo {
    /// An empty stack.
    pub fn new() -> Undo {
        Undo::default()
    }

    /// Adds a step. `what` names what it removes or restores, as in `link veth0`.
    pub fn push(
        &mut self,
        what: impl Into<String>,
        step: impl FnOnce() -> Result<(), StepError> + Send + 'static,
    ) {
        self.steps.push((what.into(), Box::new(step)));
    }

    /// Adds the steps of another, as if they were older than all there are: they run last.
    ///
    /// For what was made late, and has to go after what was made before it.
    pub fn prepend(&mut self, mut older: Undo) {
        self.steps.splice(..0, older.steps.drain(..));
    }

    /// Runs every step, the newest first, whatever happens to the others.
    ///
    /// # Errors
    ///
    /// All failures, in the order in which they happened. A step that panics has failed like any other.
    pub fn run(mut self) -> Result<(), UndoErrors> {
        self.unwind()
    }

    /// Forgets the steps: the work has been delivered and stays.
    #[doc(alias = "disarm")]
    pub fn keep(mut self) {
        self.steps.clear();
    }

    /// How many steps there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to undo.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// What the steps are for, the oldest first.
    pub fn names(&self) -> Vec<&str> {
        self.steps.iter().map(|(what, _)| what.as_str()).collect()
    }

    fn unwind(&mut self) -> Result<(), UndoErrors> {
        let mut failed = Vec::new();
        while let Some((what, step)) = self.steps.pop() {
            // A step owns what it captured and is consumed by the call: nothing half-done can be seen afterwards.
            let outcome = catch_unwind(AssertUnwindSafe(step))
                .unwrap_or_else(|panic| Err(format!("panicked: {}", panic_text(&*panic)).into()));
            if let Err(error) = outcome {
                failed.push((what, error));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(UndoErrors(failed)) }
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.unwind();
    }
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Undo").field(&self.names()).finish()
    }
}

/// The steps that failed while undoing, each with its reason, in the order in which they ran.
pub struct UndoErrors(Vec<(String, StepError)>);

impl UndoErrors {
    /// What could not be undone, and why.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StepError)> {
        self.0.iter().map(|(what, error)| (what.as_str(), error))
    }
}

impl fmt::Display for UndoErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (what, error)) in self.0.iter().enumerate() {
            if nth > 0 {
                f.write_str("; ")?;
            }
            write!(f, "undo {what}: {error}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for UndoErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UndoErrors({self})")
    }
}

impl std::error::Error for UndoErrors {}

/// The message of a panic, as far as it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    type Log = Arc<Mutex<Vec<&'static str>>>;

    fn noting(log: &Log, what: &'static str, undo: &mut Undo) {
        let log = log.clone();
        undo.push(what, move || {
            log.lock().unwrap().push(what);
            Ok(())
        });
    }

    #[test]
    fn runs_newest_first() {
        let (log, mut undo) = (Log::default(), Undo::new());
        noting(&log, "first", &mut undo);
        noting(&log, "second", &mut undo);
        noting(&log, "third", &mut undo);
        assert_eq!(undo.names(), ["first", "second", "third"]);
        undo.run().unwrap();
        assert_eq!(*log.lock().unwrap(), ["third", "second", "first"]);
    }

    #[test]
    fn a_failing_or_panicking_step_does_not_stop_the_others() {
        let (log, mut undo) = (Log::default(), Undo::new());
        noting(&log, "oldest", &mut undo);
        undo.push("link a", || Err("file is busy".into()));
        undo.push("link b", || panic!("index {} out of range", 7));
        undo.push("link c", || std::panic::panic_any(5_u8));
        noting(&log, "newest", &mut undo);
        let errors = undo.run().unwrap_err();
        assert_eq!(*log.lock().unwrap(), ["newest", "oldest"]);
        assert_eq!(
            errors.to_string(),
            "undo link c: panicked: no message; undo link b: panicked: index 7 out of range; \
             undo link a: file is busy"
        );
        assert_eq!(errors.iter().count(), 3);
    }

    #[test]
    fn kept_work_stays() {
        let (log, mut undo) = (Log::default(), Undo::new());
        noting(&log, "link", &mut undo);
        assert_eq!((undo.len(), undo.is_empty()), (1, false));
        undo.keep();
        assert!(log.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_prepended_runs_last_and_is_kept_with_the_rest() {
        for keep in [false, true] {
            let (log, mut undo, mut late) = (Log::default(), Undo::new(), Undo::new());
            noting(&log, "made first", &mut undo);
            noting(&log, "made second", &mut late);
            undo.prepend(late);
            assert_eq!(undo.names(), ["made second", "made first"]);
            if keep {
                undo.keep()
            } else {
                undo.run().unwrap()
            }
            let expected: &[&str] = if keep { &[] } else { &["made first", "made second"] };
            assert_eq!(*log.lock().unwrap(), expected);
        }
    }

    #[test]
    fn dropping_runs_it_once() {
        let (log, mut undo) = (Log::default(), Undo::new());
        noting(&log, "link", &mut undo);
        drop(undo);
        assert_eq!(*log.lock().unwrap(), ["link"]);
    }

    #[test]
    fn unwinding_runs_it_even_when_a_step_panics_again() {
        let log = Log::default();
        let inner = log.clone();
        let panicked = catch_unwind(move || {
            let mut undo = Undo::new();
            noting(&inner, "link", &mut undo);
            undo.push("bad", || panic!("second panic"));
            panic!("first panic");
        });
        assert_eq!(panic_text(&*panicked.unwrap_err()), "first panic");
        assert_eq!(*log.lock().unwrap(), ["link"]);
    }
}
