//! For machines: one document with everything.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Report;
use crate::play::{Failure, Status};

pub(super) fn write(report: &Report<'_>, to: &mut dyn Write) -> io::Result<()> {
    let cases = report.entries.iter().map(|entry| {
        let (status, reason, failure) = match &entry.verdict.status {
            Status::Passed => ("passed", None, None),
            Status::Skipped(reason) => ("skipped", Some(reason), None),
            Status::Failed(failure) => ("failed", None, Some(describe(failure))),
        };
        json!({
            "group": entry.group,
            "name": entry.play.name(),
            "status": status,
            "reason": reason,
            "failure": failure,
            "differences": entry.verdict.differences,
            "milliseconds": entry.verdict.took.as_secs_f64() * 1000.0,
        })
    });
    let cases: Vec<Value> = cases.collect();
    let document = json!({
        "title": report.title,
        "counts": report.counts,
        "cases": cases,
        "disagreements": report.disagreements,
    });
    serde_json::to_writer_pretty(&mut *to, &document)?;
    writeln!(to)
}

fn describe(failure: &Failure) -> Value {
    let mismatches = failure.mismatches.iter().map(
        |mismatch| json!({ "place": mismatch.place, "expected": mismatch.expected, "got": mismatch.got }),
    );
    json!({
        "step": failure.step,
        "mismatches": mismatches.collect::<Vec<_>>(),
        "stdout": failure.stdout,
        "stderr": failure.stderr,
        "reproduce": failure.reproduce,
    })
}
