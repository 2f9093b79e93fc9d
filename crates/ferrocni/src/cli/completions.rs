//! `ferrocni completions`: what a shell has to know to complete the commands.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use super::failure::Result;
use super::output::Output;
use crate::cnitool::CniTool;

/// Print a shell's completions for ferrocni, or for cnitool
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  ferrocni completions bash > /usr/share/bash-completion/completions/ferrocni"
)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,

    /// The program whose completions are wanted
    #[arg(long = "for", value_name = "PROGRAM", value_parser = ["ferrocni", "cnitool"], default_value = "ferrocni")]
    program: String,
}

impl Completions {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let mut command = if self.program == "cnitool" { CniTool::command() } else { Cli::command() };
        out.text(script(self.shell, &mut command))
    }
}

/// The completions of a command, under its own name.
pub(crate) fn script(shell: Shell, command: &mut Command) -> Vec<u8> {
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    generate(shell, command, name, &mut script);
    script
}
