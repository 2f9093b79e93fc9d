//! `cnitool`: the reference's tool, with its arguments, its environment and its exit statuses.
//!
//! What it does not do is described under the name `ferrocni`: everything here has a better-behaved twin there.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use cni_spec::NetworkConfig;
use libcni::{Attachment, Cni, Process};

use crate::cli::add::{document, undone};
use crate::cli::completions::script;
use crate::cli::failure::{Failure, Result};
use crate::cli::output::Output;
use crate::cli::target;

/// Run a network configuration on a network namespace that is already there
#[derive(Debug, Parser)]
#[command(
    name = "cnitool",
    version,
    after_help = "Environment:\n  \
        CNI_PATH     folders of plugins, separated by ':'\n  \
        NETCONFPATH  folder of network configurations [default: /etc/cni/net.d]\n  \
        CNI_IFNAME   the interface's name, where -i does not give it [default: eth0]\n  \
        CNI_ARGS     arguments for the plugins: K=V;K2=V2\n  \
        CAP_ARGS     values for capabilities, a JSON object\n\n\
        Example:\n  CNI_PATH=/opt/cni/bin cnitool add podnet /run/netns/blue"
)]
pub(crate) struct CniTool {
    /// The interface's name [env: CNI_IFNAME] [default: eth0]
    #[arg(long, short, global = true, value_name = "NAME")]
    ifname: Option<String>,

    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Attach the namespace to the network, and print the result
    Add(Pair),
    /// Check that it is attached as ADD left it
    Check(Pair),
    /// Detach it
    Del(Pair),
    /// Delete all attachments to the network that are remembered, whatever the namespace
    Gc(Pair),
    /// Ask whether the network could take a container
    Status(Pair),
    /// Print a shell's completions
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// What every verb is given, whether it needs it or not.
#[derive(Debug, clap::Args)]
struct Pair {
    /// The network's name
    #[arg(value_name = "network-name")]
    network: String,
    /// The path of the namespace
    #[arg(value_name = "netns")]
    netns: String,
    /// Ignored, as the reference does
    #[arg(hide = true)]
    more: Vec<String>,
}

/// Runs it.
pub(crate) fn main() -> ExitCode {
    let tool = match CniTool::try_parse() {
        Ok(tool) => tool,
        Err(e) => return crate::cli::not_run(&e, ExitCode::FAILURE),
    };
    let outcome = Output::stdout().and_then(|mut out| match &tool.verb {
        None => out.text(CniTool::command().render_help().to_string()),
        Some(verb) => verb.run(tool.ifname.as_deref(), &mut out),
    });
    crate::cli::finish(outcome)
}

impl Verb {
    fn run(&self, ifname: Option<&str>, out: &mut Output) -> Result<()> {
        let pair = match self {
            Verb::Completion { shell } => return out.text(script(*shell, &mut CniTool::command())),
            Verb::Add(pair) | Verb::Check(pair) | Verb::Del(pair) | Verb::Gc(pair) | Verb::Status(pair) => {
                pair
            }
        };
        let (net, attachment) = pair.resolve(ifname)?;
        let path = target::variable("CNI_PATH").unwrap_or_default();
        let cni = Cni::new(Process::search(path.split(':'))).on_warning(target::warn);
        let done = match self {
            Verb::Add(_) => cni.add(&net, &attachment).map(|added| Some(document(&added))),
            Verb::Check(_) => cni.check(&net, &attachment).map(|()| None),
            Verb::Del(_) => cni.del(&net, &attachment).map(|()| None),
            // Nothing is said to be valid, so nothing is.
            Verb::Gc(_) => cni.gc(&net, &[]).map(|()| None),
            Verb::Status(_) | Verb::Completion { .. } => cni.status(&net).map(|()| None),
        };
        // The reference's text for it, which scripts look for.
        match done.map_err(|e| Failure::new(e.to_string()))? {
            Some(result) => out.text(result).map_err(|failure| undone(failure, &cni, &net, &attachment)),
            None => Ok(()),
        }
    }
}

impl Pair {
    fn resolve(&self, given_ifname: Option<&str>) -> Result<(NetworkConfig, Attachment)> {
        let dir = target::default_conf_dir();
        let net = libcni::load(&dir, &self.network).map_err(|e| {
            let (details, help) = target::explain(&e);
            Failure::new(e.to_string()).details(details).help(help)
        })?;
        let wishes = target::Wishes::of_environment()?;
        let netns = target::absolute(&self.netns)?;
        let ifname = target::ifname(given_ifname);
        let attachment = wishes.attachment(target::container_id(&netns), netns, ifname);
        Ok((net, attachment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        CniTool::command().debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_and_further_arguments_are_ignored() {
        for line in [
            ["cnitool", "-i", "eth1", "add", "net", "/ns", "more"],
            ["cnitool", "add", "net", "/ns", "more", "--ifname", "eth1"],
            ["cnitool", "add", "-i", "eth1", "net", "/ns", "more"],
        ] {
            let tool = CniTool::try_parse_from(line).unwrap();
            assert_eq!(tool.ifname.as_deref(), Some("eth1"), "{line:?}");
            assert!(
                matches!(tool.verb, Some(Verb::Add(Pair { network, netns, .. })) if network == "net" && netns == "/ns")
            );
        }
    }
}
