//! What commands print on standard output: lines, tables and JSON. Colours reach terminals only, and from what others
//! wrote nothing reaches them that they would obey.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

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
    stream: AutoStream<File>,
    /// A person is reading along.
    pub(crate) is_terminal: bool,
}

impl Output {
    /// The process's own, by a descriptor beside it: [`io::Stdout`] counts what it writes to a closed one as written.
    pub(crate) fn stdout() -> Result<Output> {
        let file = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(|e| unwritten(&e))?;
        let is_terminal = file.is_terminal();
        Ok(Output { stream: AutoStream::auto(file), is_terminal })
    }

    /// Writes text as it is, whatever reads it: documents and scripts.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        self.stream.as_inner().write_all(text.as_ref()).map_err(|e| unwritten(&e))
    }

    /// Writes text of our own, without its colours where they mean nothing.
    pub(crate) fn coloured(&mut self, text: impl AsRef<str>) -> Result<()> {
        let written = self.stream.write_all(text.as_ref().as_bytes()).and_then(|()| self.stream.flush());
        written.map_err(|e| unwritten(&e))
    }

    /// Writes a line for people.
    pub(crate) fn line(&mut self, line: impl Into<Line>) -> Result<()> {
        self.coloured(format!("{}\n", line.into()))
    }

    /// Writes lines for people.
    pub(crate) fn lines(&mut self, lines: impl IntoIterator<Item = impl Into<Line>>) -> Result<()> {
        self.coloured(lines.into_iter().map(|line| format!("{}\n", line.into())).collect::<String>())
    }

    /// Writes a document, indented by four spaces as all of CNI's are.
    pub(crate) fn json<T: Serialize + ?Sized>(&mut self, document: &T) -> Result<()> {
        self.text(json::to_pretty(document) + "\n")
    }
}

fn unwritten(error: &io::Error) -> Failure {
    Failure::new(format!("writing to standard output: {}", reason(error)))
}

/// A line: pieces of text, and how each looks on a terminal.
///
/// Looks are given here and not in the text, so that all control characters in the text are somebody else's, and are
/// shown instead of obeyed ([`visible`]).
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<(Style, String)>);

impl Line {
    /// A line that starts with `text` in this style.
    pub(crate) fn styled(style: Style, text: impl Into<String>) -> Line {
        Line::default().and_styled(style, text)
    }

    /// Goes on in a style.
    pub(crate) fn and_styled(mut self, style: Style, text: impl Into<String>) -> Line {
        self.0.push((style, text.into()));
        self
    }

    /// Goes on without one.
    pub(crate) fn and(self, text: impl Into<String>) -> Line {
        self.and_styled(Style::new(), text)
    }

    /// The line behind some room.
    pub(crate) fn indented(mut self, by: usize) -> Line {
        self.0.insert(0, (Style::new(), " ".repeat(by)));
        self
    }
}

impl<T: Into<String>> From<T> for Line {
    fn from(text: T) -> Line {
        Line::default().and(text)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(style, text)| write!(f, "{style}{}{style:#}", visible(text)))
    }
}

/// Text for a terminal: control characters as Rust writes them, `\u{1b}` for an escape, and so are those that turn
/// the direction of writing. A terminal would do what they say, and not show what is there.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
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
        // Here and not only in the line: a column is as wide as what is shown.
        self.rows.push(cells.iter().map(|cell| visible(cell)).collect());
    }

    /// Whether there is nothing but the heading.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines. A column in which every cell is empty is left out.
    pub(crate) fn lines(&self) -> Vec<Line> {
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
        let heading = Line::styled(HEAD, line(&heading));
        std::iter::once(heading).chain(self.rows.iter().map(|row| line(row).into())).collect()
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
        assert_eq!(shown(&table), ["NAME    WHAT", "é       x", "longer"]);
    }

    #[test]
    fn a_table_is_as_wide_as_what_is_shown() {
        let mut table = Table::new(["NAME", "WHAT"]);
        table.row(["\u{1b}c".into(), "x\ny".into()]);
        assert_eq!(shown(&table), ["NAME     WHAT", "\\u{1b}c  x\\ny"]);
    }

    fn shown(table: &Table) -> Vec<String> {
        let lines = table.lines();
        lines.iter().map(|l| anstream::adapter::strip_str(&l.to_string()).to_string()).collect()
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        let line = Line::styled(HEAD, "a\u{1b}[2Jb").and("c\r\n\u{9b}8m\t\u{7f}\u{202e}é\"");
        assert_eq!(line.to_string(), "\u{1b}[1ma\\u{1b}[2Jb\u{1b}[0mc\\r\\n\\u{9b}8m\\t\\u{7f}\\u{202e}é\"");
    }

    #[test]
    fn sizes_and_times_are_rounded() {
        assert_eq!((size(999), size(1_500), size(1_949_000)).2, "1.9 MB");
        assert_eq!((size(999).as_str(), size(1_500).as_str()), ("999 bytes", "1.5 kB"));
        assert_eq!(milliseconds(Duration::from_micros(1_934)), "1.93 ms");
        assert_eq!(milliseconds(Duration::from_micros(123_456)), "123.5 ms");
    }
}
