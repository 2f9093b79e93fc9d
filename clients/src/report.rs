//! What a person reads: a line for each promise, and what the client said where it was not kept.

use std::io::{self, Write};

use crate::command::Result;

/// Counts, and prints while it goes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    kept: usize,
    failed: usize,
}

impl Report {
    /// A promise and what came of it.
    pub(crate) fn promise<T>(&mut self, promise: &str, outcome: Result<T>) -> Option<T> {
        match outcome {
            Ok(value) => {
                self.kept += 1;
                say(&format!("  ok      {promise}"));
                Some(value)
            }
            Err(problem) => {
                self.failed += 1;
                say(&format!("  FAILED  {promise}"));
                problem.trim_end().lines().for_each(|line| say(&format!("            {line}")));
                None
            }
        }
    }

    /// Something that is not promised here, by name and with the reason.
    pub(crate) fn skipped(&self, promise: &str, reason: &str) {
        say(&format!("  skipped {promise}: {reason}"));
    }

    /// Ends the report; says whether every promise was kept.
    pub(crate) fn end(&self) -> bool {
        say(&format!("  {} promises kept, {} failed", self.kept, self.failed));
        self.failed == 0
    }
}

/// Prints a line at once, so that it stands where it belongs among what others print.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Without standard output there is still the exit status.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
