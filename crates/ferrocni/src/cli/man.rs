//! `ferrocni man`: manual pages, from the same definition as the help.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_mangen::{Man as Page, generate_to};

use super::Cli;
use super::failure::{Failure, Result, reason};
use super::output::Output;
use crate::cnitool::CniTool;

/// Print the manual page, or write one for each command into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ferrocni man | man -l -\n  ferrocni man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The folder; the pages of cnitool go there as well
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let failed = |e: io::Error| match &self.dir {
            Some(dir) => Failure::new(format!("writing manual pages to {}: {}", dir.display(), reason(&e))),
            None => Failure::new(format!("making the manual page: {}", reason(&e))),
        };
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            Page::new(Cli::command()).render(&mut page).map_err(failed)?;
            return out.text(page);
        };
        let write = || {
            fs::create_dir_all(dir)?;
            generate_to(Cli::command(), dir)?;
            generate_to(CniTool::command(), dir)
        };
        write().map_err(failed)?;
        out.line(format!("manual pages of ferrocni and cnitool are in {}", dir.display()))
    }
}
