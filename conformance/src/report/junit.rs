//! For CI systems: JUnit's XML, as far as they all understand it.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::Report;
use crate::play::{Failure, Status};
use crate::run::{Counts, Entry};

pub(super) fn write(report: &Report<'_>, to: &mut dyn Write) -> io::Result<()> {
    let counts = report.counts;
    writeln!(to, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(to, "<testsuites name=\"{}\" {}>", escaped(&report.title), totals(counts))?;
    for group in report.entries.chunk_by(|one, next| one.group == next.group) {
        writeln!(to, "  <testsuite name=\"{}\" {}>", escaped(group[0].group), totals(Counts::of(group)))?;
        for entry in group {
            write_case(entry, to)?;
        }
        writeln!(to, "  </testsuite>")?;
    }
    if !report.disagreements.is_empty() {
        let counts = Counts { failed: report.disagreements.len(), ..Counts::default() };
        writeln!(to, "  <testsuite name=\"docs/differences.md\" {}>", totals(counts))?;
        for (number, text) in report.disagreements.iter().enumerate() {
            writeln!(
                to,
                "    <testcase name=\"{number}\"><failure message=\"{}\"/></testcase>",
                escaped(text)
            )?;
        }
        writeln!(to, "  </testsuite>")?;
    }
    writeln!(to, "</testsuites>")
}

fn write_case(entry: &Entry<'_>, to: &mut dyn Write) -> io::Result<()> {
    let (group, name) = (escaped(entry.group), escaped(entry.play.name()));
    let seconds = entry.verdict.took.as_secs_f64();
    write!(to, "    <testcase classname=\"{group}\" name=\"{name}\" time=\"{seconds:.3}\"")?;
    match &entry.verdict.status {
        Status::Passed => writeln!(to, "/>"),
        Status::Skipped(reason) => writeln!(to, "><skipped message=\"{}\"/></testcase>", escaped(reason)),
        Status::Failed(failure) => {
            let message = failure.mismatches.first().map(|mismatch| mismatch.place.as_str());
            let (message, text) = (escaped(message.unwrap_or_default()), escaped(&describe(failure)));
            writeln!(to, "><failure message=\"{message}\">{text}</failure></testcase>")
        }
    }
}

fn describe(failure: &Failure) -> String {
    let mut text = String::new();
    for mismatch in &failure.mismatches {
        let _ = writeln!(text, "{}\nexpected: {}\ngot: {}", mismatch.place, mismatch.expected, mismatch.got);
    }
    let _ = write!(text, "stdout: {}\nstderr: {}\n{}", failure.stdout, failure.stderr, failure.reproduce);
    text
}

fn totals(counts: Counts) -> String {
    let Counts { passed, failed, skipped } = counts;
    format!("tests=\"{}\" failures=\"{failed}\" skipped=\"{skipped}\"", passed + failed + skipped)
}

/// XML cannot carry most control characters at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_carry_is_replaced() {
        assert_eq!(escaped("<a b=\"c\">&\u{1}\n"), "&lt;a b=&quot;c&quot;&gt;&amp;\u{fffd}\n");
    }
}
