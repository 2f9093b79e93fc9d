//! Plays the whole suite, several cases at a time, and compares two directories where that is wanted.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, Builder};

use serde_json::{Value, json};

use crate::case::{Expect, Reply};
use crate::judge::{as_error, documents};
use crate::normal::{normal, normal_changes};
use crate::pattern::is_exact;
use crate::play::{Answer, Failure, Status, Subject, Verdict};
use crate::suite::{Play, Suite};

/// A case with what came of it.
pub(crate) struct Entry<'a> {
    pub(crate) group: &'a str,
    pub(crate) about: &'a str,
    pub(crate) play: &'a Play,
    pub(crate) verdict: Verdict,
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    pub(crate) fn of(entries: &[Entry<'_>]) -> Counts {
        let mut counts = Counts::default();
        for entry in entries {
            match entry.verdict.status {
                Status::Passed => counts.passed += 1,
                Status::Failed(_) => counts.failed += 1,
                Status::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Plays every case; the order of the entries is that of the suite.
///
/// # Errors
/// If a thread cannot be started.
pub(crate) fn run<'a>(
    suite: &'a Suite,
    subject: &Subject,
    against: Option<&Subject>,
) -> Result<Vec<Entry<'a>>, String> {
    let cases: Vec<(&str, &str, &Play)> = suite
        .groups
        .iter()
        .flat_map(|group| group.plays.iter().map(|play| (group.name.as_str(), group.about.as_str(), play)))
        .collect();
    let workers = thread::available_parallelism().map_or(1, usize::from).min(8);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut verdicts: Vec<Option<Verdict>> = vec![None; cases.len()];
    thread::scope(|scope| {
        for _ in 0..workers {
            let (sender, next, cases) = (sender.clone(), &next, &cases);
            let worker = move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((.., play)) = cases.get(index) else { break };
                    // The receiver is there until the last sender is gone.
                    let _ = sender.send((index, play_both(play, subject, against)));
                }
            };
            Builder::new().spawn_scoped(scope, worker)?;
        }
        drop(sender);
        let mut progress = Progress::new(cases.len());
        for (index, verdict) in receiver {
            progress.step();
            verdicts[index] = Some(verdict);
        }
        Ok(())
    })
    .map_err(|err: io::Error| format!("cannot start a thread: {err}"))?;
    let entries = cases.into_iter().zip(verdicts).map(|((group, about, play), verdict)| {
        let verdict = verdict.ok_or_else(|| format!("{group}: {}: not played", play.name()))?;
        Ok(Entry { group, about, play, verdict })
    });
    entries.collect()
}

fn play_both(play: &Play, subject: &Subject, against: Option<&Subject>) -> Verdict {
    let mut verdict = subject.play(play);
    let Some(against) = against.filter(|_| matches!(verdict.status, Status::Passed)) else { return verdict };
    let other = against.play(play);
    verdict.took += other.took;
    verdict.differences.extend(other.differences);
    verdict.status = match other.status {
        Status::Passed => compare(play, &verdict.answers, &other.answers, &against.dir),
        Status::Skipped(reason) => Status::Skipped(reason),
        Status::Failed(mut failure) => {
            for mismatch in &mut failure.mismatches {
                mismatch.place = format!("{}: {}", against.dir, mismatch.place);
            }
            Status::Failed(failure)
        }
    };
    verdict
}

/// Two answers that are both as expected may still differ, where the expectation leaves room. That is a difference
/// which nobody has written down.
fn compare(play: &Play, ours: &[Answer], theirs: &[Answer], dir: &str) -> Status {
    let Play::Written(case) = play else { return Status::Passed };
    for (step, (ours, theirs)) in case.steps.iter().zip(ours.iter().zip(theirs)) {
        if step.reference.is_some() || is_same(&step.expect, ours, theirs) {
            continue;
        }
        let place = format!("compared with {dir}, a difference that is not written down");
        return Status::Failed(Failure::of(&place, &shown(theirs, ours), shown(ours, theirs)));
    }
    Status::Passed
}

/// An answer, with the changes that are not those of the other one.
fn shown(answer: &Answer, other: &Answer) -> String {
    let (changes, others) = (normal_changes(&answer.changes), normal_changes(&other.changes));
    let own: Vec<String> = changes.difference(&others).cloned().collect();
    let stdout = result(answer).map_or_else(|| answer.stdout.clone(), |result| result.to_string());
    [answer.exit.clone(), stdout, own.join("\n")].join("\n")
}

fn is_same(expect: &Expect, ours: &Answer, theirs: &Answer) -> bool {
    let same_text = |ours: &Answer, theirs: &Answer| ours.stdout == theirs.stdout;
    let same_changes = normal_changes(&ours.changes) == normal_changes(&theirs.changes);
    match &expect.reply {
        Reply::Success | Reply::Any | Reply::Failure | Reply::NoSuccess | Reply::Hangs => true,
        Reply::Error(pattern) => {
            let error = |answer: &Answer| -> Option<(Value, Value)> {
                let document = documents(answer.stdout.as_bytes())?.pop()?;
                let error = as_error(&document)?;
                // Free text may differ; a message that is expected word for word may not.
                let msg = pattern.msg.as_ref().filter(|msg| is_exact(msg)).map(|_| error["msg"].clone());
                Some((error["code"].clone(), msg.unwrap_or_default()))
            };
            same_changes && (&ours.exit, error(ours)) == (&theirs.exit, error(theirs))
        }
        Reply::Result(_) => same_changes && ours.exit == theirs.exit && result(ours) == result(theirs),
        _ => same_changes && ours.exit == theirs.exit && same_text(ours, theirs),
    }
}

/// The result as a document, without what chance has chosen and without an empty `dns`, which releases of the reference
/// print or not.
fn result(answer: &Answer) -> Option<Value> {
    let mut document = documents(normal(&answer.stdout).as_bytes())?.pop()?;
    if document["dns"] == json!({}) {
        document.as_object_mut().map(|members| members.remove("dns"));
    }
    Some(document)
}

/// A bar on standard error, where that is a terminal.
struct Progress {
    done: usize,
    all: usize,
    shown: bool,
}

impl Progress {
    const WIDTH: usize = 40;

    fn new(all: usize) -> Progress {
        Progress { done: 0, all, shown: all > 0 && std::io::stderr().is_terminal() }
    }

    fn step(&mut self) {
        self.done += 1;
        if self.shown {
            let filled = Self::WIDTH * self.done / self.all;
            let bar = format!("{:<width$}", "#".repeat(filled), width = Self::WIDTH);
            // A bar that cannot be drawn is no reason to stop.
            let _ = write!(std::io::stderr(), "\r[{bar}] {}/{}", self.done, self.all);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
