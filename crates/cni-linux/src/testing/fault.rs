//! Where tests make the kernel's changes fail, and watch its requests.
//!
//! What is watched is a thread, and the threads that [`Netns::run`](crate::Netns::run) starts for it.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};

/// What became of work that was run with a fault in it.
#[derive(Debug)]
pub struct Injected<T> {
    /// What the work returned.
    pub outcome: T,
    /// Whether the work got as far as the change that was to fail. If it did not, it has fewer changes.
    pub reached: bool,
}

/// Runs `work` with its `nth` kernel change failing, counted from 1: with `EIO`, and `injected fault` in the text.
///
/// The changes that undo the others count as well, but only the one fails. To break an operation at every step, go
/// on until the fault is not reached any more:
///
/// ```no_run
/// # fn add() -> cni_linux::Result<()> { Ok(()) }
/// use cni_linux::testing::fail_at;
///
/// for nth in 1.. {
///     let injected = fail_at(nth, add);
///     if !injected.reached {
///         break;
///     }
///     assert!(injected.outcome.is_err(), "change {nth} failed, and nobody noticed");
/// }
/// ```
pub fn fail_at<T>(nth: usize, work: impl FnOnce() -> T) -> Injected<T> {
    let watcher = Watcher::default();
    watcher.notes().fail_at = Some(nth);
    let outcome = watcher.watch(work);
    let reached = watcher.notes().changes >= nth;
    Injected { outcome, reached }
}

/// Runs `work` and lists the requests that it made of the kernel.
pub fn record<T>(work: impl FnOnce() -> T) -> (T, Vec<Recorded>) {
    let watcher = Watcher::default();
    let outcome = watcher.watch(work);
    let requests = std::mem::take(&mut watcher.notes().requests);
    (outcome, requests)
}

/// A request that was made of the kernel. Prints as `RTM_NEWLINK add link veth "eth0"`; where it is no message but a system
/// call, as what it does alone: `read sysctl net/ipv4/ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The kernel's name for it: `RTM_NEWLINK`, or that of the system call: `read`.
    pub message: &'static str,
    /// What it does: `add link`.
    pub doing: &'static str,
    /// To what: `veth "eth0"`.
    pub object: String,
    /// Whether it changes something or only asks.
    pub change: bool,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Constants of the kernel are in upper case, system calls are not.
        if self.message.starts_with(|first: char| first.is_ascii_uppercase()) {
            write!(f, "{} ", self.message)?;
        }
        f.write_str(self.doing)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " {}", self.object) }
    }
}

/// Every change of the kernel passes here before it is made, and fails here if a test wants it to.
pub(crate) fn change(message: &'static str, doing: &'static str, what: &dyn fmt::Display) -> Result<()> {
    let mut outcome = Ok(());
    for watcher in watchers() {
        let mut notes = watcher.notes();
        notes.note(message, doing, what, true);
        notes.changes += 1;
        if notes.fail_at == Some(notes.changes) {
            outcome = Err(Error::injected(doing, what.to_string()));
        }
    }
    outcome
}

/// Every question to the kernel passes here.
pub(crate) fn query(message: &'static str, doing: &'static str, what: &dyn fmt::Display) {
    for watcher in watchers() {
        watcher.notes().note(message, doing, what, false);
    }
}

/// The same work, to be run by another thread under the eyes that watch this one.
pub(crate) fn inherited<T>(work: impl FnOnce() -> T + Send) -> impl FnOnce() -> T + Send {
    let inherited = watchers();
    move || {
        WATCHERS.set(inherited);
        work()
    }
}

thread_local! {
    /// Who watches this thread, the innermost last.
    static WATCHERS: RefCell<Vec<Watcher>> = const { RefCell::new(Vec::new()) };
}

fn watchers() -> Vec<Watcher> {
    WATCHERS.with_borrow(Clone::clone)
}

/// Shared, because work may go on in other threads.
#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    fail_at: Option<usize>,
    changes: usize,
    requests: Vec<Recorded>,
}

impl Watcher {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Stops watching, also when the work panics.
        struct Watching;
        impl Drop for Watching {
            fn drop(&mut self) {
                WATCHERS.with_borrow_mut(|watchers| watchers.pop());
            }
        }
        WATCHERS.with_borrow_mut(|watchers| watchers.push(self.clone()));
        let _watching = Watching;
        work()
    }
}

impl Notes {
    fn note(&mut self, message: &'static str, doing: &'static str, what: &dyn fmt::Display, change: bool) {
        let object = what.to_string();
        self.requests.push(Recorded { message, doing, object, change });
    }
}
