//! `ferrocni status`: whether a network could take another container.

use cni_spec::{Code, Command};

use super::failure::{Failure, Result};
use super::output::Output;
use super::target::{NetworkArgs, plugins_are_asked};

/// Ask a network's plugins whether they could attach a container now (STATUS)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ferrocni status podnet")]
pub(crate) struct Status {
    #[command(flatten)]
    network: NetworkArgs,
}

impl Status {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = self.network.load()?;
        self.network.cni().status(&net).map_err(|e| {
            let meaning = match e.code() {
                Code::PLUGIN_NOT_AVAILABLE => "no container can be attached now",
                Code::LIMITED_CONNECTIVITY => {
                    "no container can be attached now, and those that are may not reach everything"
                }
                _ => "",
            };
            Failure::of_network(&e, &net, None).details(meaning)
        })?;
        if !plugins_are_asked(&net, Command::Status) {
            let name = &net.name;
            return out
                .line(format!("{name}: nobody was asked, for its cniVersion is older than STATUS (1.1.0)"));
        }
        out.line(format!("{}: ready", net.name))
    }
}
