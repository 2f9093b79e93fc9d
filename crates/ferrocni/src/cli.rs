//! The command line `ferrocni`: what it understands, and who does it. Each command has a file of its own.
//!
//! None of this is on the path of a plugin.

pub(crate) mod add;
mod check;
pub(crate) mod completions;
mod del;
pub(crate) mod failure;
mod gc;
mod install;
mod list;
mod man;
pub(crate) mod output;
mod status;
pub(crate) mod target;
mod r#try;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cni_plugins::PLUGINS;
use cni_spec::{Error, Version};

use self::failure::Result;
use self::output::Output;

/// CNI plugins in one file, and the tools to run, try and install them
#[derive(Debug, Parser)]
#[command(
    name = "ferrocni",
    version,
    arg_required_else_help = true,
    after_help = "Under the name of a plugin, this file is that plugin; under the name cnitool, it is cnitool.\n\n\
        Examples:\n  \
        ferrocni try                                   see it work, without root and without traces\n  \
        ferrocni install /opt/cni/bin                  put the plugins where runtimes look for them\n  \
        ferrocni add podnet --netns /run/netns/blue    attach a namespace to the network podnet"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Try(r#try::Try),
    Add(add::Add),
    Check(check::Check),
    Del(del::Del),
    Gc(gc::Gc),
    Status(status::Status),
    List(list::List),
    Install(install::Install),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Verb {
    fn run(&self, out: &mut Output) -> Result<()> {
        match self {
            Verb::Try(command) => command.run(out),
            Verb::Add(command) => command.run(out),
            Verb::Check(command) => command.run(out),
            Verb::Del(command) => command.run(out),
            Verb::Gc(command) => command.run(out),
            Verb::Status(command) => command.run(out),
            Verb::List(command) => command.run(out),
            Verb::Install(command) => command.run(out),
            Verb::Completions(command) => command.run(out),
            Verb::Man(command) => command.run(out),
        }
    }
}

/// Runs the command line. `name` is what the file is called.
pub(crate) fn main(name: &str) -> ExitCode {
    if std::env::args_os().len() <= 1 {
        // Only a runtime that means a plugin sets this and gives no arguments.
        if let Some(command) = target::variable("CNI_COMMAND") {
            return misnamed_plugin(name, &command);
        }
        if list::nearest_plugin(name).is_some() {
            list::unknown(name).print();
            return ExitCode::from(2);
        }
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            return not_run(&e, u8::try_from(e.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from));
        }
    };
    finish(Output::stdout().and_then(|mut out| cli.verb.run(&mut out)))
}

/// Shows the help that was asked for, or what is wrong with the arguments, which ends with status `wrong`.
pub(crate) fn not_run(error: &clap::Error, wrong: ExitCode) -> ExitCode {
    if error.use_stderr() {
        // If nobody can be told, the exit status still says it.
        let _ = error.print();
        return wrong;
    }
    finish(Output::stdout().and_then(|mut out| out.coloured(error.render().ansi().to_string())))
}

/// Tells a person what went wrong, if anything did.
pub(crate) fn finish(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// A runtime has called a plugin that is not here, by a link that is misspelt or newer than the binary: it gets the one
/// document that it understands.
fn misnamed_plugin(name: &str, command: &str) -> ExitCode {
    let names: Vec<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
    let mut error = Error::failed(format!("no plugin {name:?} in this binary, so it cannot do {command}"))
        .with_details(format!("it has {}", names.join(", ")));
    if let Some(nearest) = list::nearest_plugin(name) {
        error = error.with_details(format!("did you mean {nearest:?}?"));
    }
    // If nobody can be told, the exit status still says it.
    let _ = Output::stdout().and_then(|mut out| out.text(error.to_json(Version::CURRENT)));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_line_of_help_without_full_stop() {
        for command in Cli::command().get_subcommands() {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about:?}", command.get_name());
        }
    }
}
