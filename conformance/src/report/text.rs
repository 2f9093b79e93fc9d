//! For people: the cases by group, one line each, and of a failure everything that helps to understand it.

use std::io::{self, Write};

use super::Report;
use crate::play::{Failure, Status};

/// The most that is shown of a text, in characters.
const MOST: usize = 1500;

pub(super) fn write(report: &Report<'_>, to: &mut dyn Write) -> io::Result<()> {
    let paint = |code: &str, text: &str| {
        if report.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    };
    writeln!(to, "{}", report.title)?;
    let mut group = "";
    for entry in report.entries {
        if entry.group != group {
            group = entry.group;
            writeln!(to, "\n{} — {}", paint("1", group), entry.about)?;
        }
        let name = entry.play.name();
        match &entry.verdict.status {
            Status::Passed if entry.verdict.differences.is_empty() => {
                writeln!(to, "  {} {name}", paint("32", "✓"))?;
            }
            Status::Passed => {
                let differences = entry.verdict.differences.join(", ");
                writeln!(to, "  {} {name} {}", paint("32", "✓"), paint("2", &format!("({differences})")))?;
            }
            Status::Skipped(reason) => writeln!(to, "  {} {name}: skipped, {reason}", paint("33", "-"))?,
            Status::Failed(failure) => {
                writeln!(to, "  {} {name}", paint("31", "✗"))?;
                if !entry.play.why().is_empty() {
                    writeln!(to, "      {}", paint("2", entry.play.why()))?;
                }
                write_failure(failure, to)?;
            }
        }
    }
    if !report.disagreements.is_empty() {
        writeln!(to, "\n{} — differences from the reference", paint("1", "docs/differences.md"))?;
        for disagreement in report.disagreements {
            writeln!(to, "  {} {disagreement}", paint("31", "✗"))?;
        }
    }
    writeln!(to, "\n{}", report.counts)
}

fn write_failure(failure: &Failure, to: &mut dyn Write) -> io::Result<()> {
    if let Some(step) = failure.step {
        writeln!(to, "      in step {step}:")?;
    }
    for mismatch in &failure.mismatches {
        writeln!(to, "      {}", mismatch.place)?;
        writeln!(to, "        expected: {}", indented(&mismatch.expected, 18))?;
        writeln!(to, "        got:      {}", indented(&mismatch.got, 18))?;
    }
    for (name, text) in [("stdout", &failure.stdout), ("stderr", &failure.stderr)] {
        if !text.is_empty() {
            writeln!(to, "      {name}:   {}", indented(text, 16))?;
        }
    }
    if !failure.reproduce.is_empty() {
        writeln!(to, "      to reproduce, as root:")?;
        writeln!(to, "        {}", indented(&failure.reproduce, 8))?;
    }
    Ok(())
}

/// The text with all lines but the first moved to the right, and cut where it is too long.
fn indented(text: &str, by: usize) -> String {
    let mut shown: String = text.trim_end().chars().take(MOST).collect();
    if shown.len() < text.trim_end().len() {
        shown.push_str(" …");
    }
    shown.replace('\n', &format!("\n{:by$}", ""))
}
