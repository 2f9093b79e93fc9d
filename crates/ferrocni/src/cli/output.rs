//! What commands print on standard output: lines, tables and JSON. Colours reach terminals only.

use std::io::{self, IsTerminal, Write};

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use cni_spec::json;
use serde::Serialize;

use super::failure::{Failure, Result, reason};

/// Headings.
pub(crate) const HEAD: Style = Style::new().bold();
/// What matters less.
pub(crate) const FAINT: Style = Style::new().dimmed();
/// What is as it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// What is not.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// Standard output.
pub(crate) struct Output {
    stream: AutoStream<io::Stdout>,
    /// A person is reading along.
    pub(crate) is_terminal: bool,
}

impl Output {
    /// The process's own.
    pub(crate) fn stdout() -> Output {
        let is_terminal = io::stdout().is_terminal();
        Output { stream: AutoStream::auto(io::stdout()), is_terminal }
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let written = self.stream.write_all(text.as_ref()).and_then(|()| self.stream.flush());
        written.map_err(|e| Failure::new(format!("writing to standard output: {}", reason(&e))))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) -> Result<()> {
        self.text(format!("{}\n", line.as_ref()))
    }

    /// Writes a document, indented by four spaces as all of CNI's are.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, document: &T) -> Result<()> {
        self.line(json::to_pretty(document))
    }
}

/// Columns, each as wide as its widest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new<const N: usize>(heading: [&'static str; N]) -> Table {
        Table { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Whether there is nothing but the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines. A column in which every cell is empty is left out.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns: Vec<usize> =
            (0..self.heading.len()).filter(|&c| self.rows.iter().any(|row| !row[c].is_empty())).collect();
        let heading: Vec<String> = self.heading.iter().map(|name| (*name).to_owned()).collect();
        let width = |c: usize| {
            let cells = std::iter::once(&heading).chain(&self.rows).map(|row| row[c].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = columns.iter().map(|&c| width(c)).collect();
        let line = |row: &Vec<String>| {
            let cells = columns.iter().zip(&widths).map(|(&c, &width)| format!("{:width$}", row[c]));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let heading = format!("{HEAD}{}{HEAD:#}", line(&heading));
        std::iter::once(heading).chain(self.rows.iter().map(line)).collect()
    }
}

/// A size for people: `1.9 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A duration for people, in milliseconds: `1.93 ms`.
pub(crate) fn milliseconds(time: std::time::Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    let decimals = if ms < 10.0 { 2 } else { 1 };
    format!("{ms:.decimals$} ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_empty_ones_are_left_out() {
        let mut table = Table::new(["NAME", "NOTHING", "WHAT"]);
        table.row(["é".into(), String::new(), "x".into()]);
        table.row(["longer".into(), String::new(), String::new()]);
        let lines: Vec<String> =
            table.lines().iter().map(|l| anstream::adapter::strip_str(l).to_string()).collect();
        assert_eq!(lines, ["NAME    WHAT", "é       x", "longer"]);
    }

    #[test]
    fn sizes_and_times_are_rounded() {
        assert_eq!((size(999), size(1_500), size(1_949_000)).2, "1.9 MB");
        assert_eq!((size(999).as_str(), size(1_500).as_str()), ("999 bytes", "1.5 kB"));
        assert_eq!(milliseconds(Duration::from_micros(1_934)), "1.93 ms");
        assert_eq!(milliseconds(Duration::from_micros(123_456)), "123.5 ms");
    }
}
