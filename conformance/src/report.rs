//! What is told about a run: for people, and for machines.

use std::io::{self, Write};

use crate::options::Format;
use crate::run::{Counts, Entry};

mod json;
mod junit;
mod text;

/// Everything that a report tells.
pub(crate) struct Report<'a> {
    /// The directory, and how it was judged.
    pub(crate) title: String,
    pub(crate) entries: &'a [Entry<'a>],
    /// Where the cases and `docs/differences.md` disagree.
    pub(crate) disagreements: &'a [String],
    pub(crate) counts: Counts,
    /// Whether whoever reads it can see colours.
    pub(crate) colours: bool,
}

impl Report<'_> {
    /// Writes the report.
    pub(crate) fn write(&self, format: Format, to: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Text => text::write(self, to),
            Format::Json => json::write(self, to),
            Format::Junit => junit::write(self, to),
        }?;
        to.flush()
    }
}
