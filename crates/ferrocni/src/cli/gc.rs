//! `ferrocni gc`: cleans up after attachments that are no more.

use cni_spec::{AttachmentId, Command, NetworkConfig};
use libcni::Cni;

use super::failure::{Failure, Result};
use super::output::Output;
use super::target::{NetworkArgs, plugins_are_asked};

/// Delete a network's attachments, all but those that are to be kept (GC)
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    ferrocni gc podnet --keep 5f2a/eth0 --keep 77c0/eth0\n  \
    ferrocni gc podnet --all-gone                 no container of this network is left")]
pub(crate) struct Gc {
    #[command(flatten)]
    network: NetworkArgs,

    /// An attachment that is still there; can be repeated
    #[arg(
        long,
        value_name = "ID/IFNAME",
        value_parser = parse_attachment,
        num_args = 1..,
        required_unless_present = "all_gone"
    )]
    keep: Vec<AttachmentId>,

    /// None is: delete everything that is known of the network
    #[arg(long, conflicts_with = "keep")]
    all_gone: bool,
}

impl Gc {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = self.network.load()?;
        let failed = |e| Failure::of_network(&e, &net, None);
        let cni = self.network.cni();
        let before = known(&cni, &net).map_err(failed)?;
        let outcome = cni.gc(&net, &self.keep).map_err(failed);
        let after = known(&cni, &net).map_err(failed)?;
        // What was deleted is told even if something else could not be.
        let gone = before.iter().filter(|id| !after.contains(id));
        let told =
            out.lines(gone.map(|id| format!("deleted {} of container {}", id.ifname, id.container_id)));
        outcome.and(told)?;
        if net.disable_gc {
            return out.line(format!("nothing was done: {} says disableGC", net.name));
        }
        let (deleted, kept) = (before.len().saturating_sub(after.len()), after.len());
        let rest = if plugins_are_asked(&net, Command::Gc) {
            "the plugins collected what was not remembered"
        } else {
            "what was not remembered stays, for its cniVersion is older than GC (1.1.0)"
        };
        out.line(format!("{}: {deleted} deleted, {kept} kept; {rest}", net.name))
    }
}

/// The attachments of the network that are remembered.
fn known(cni: &Cni, net: &NetworkConfig) -> std::result::Result<Vec<AttachmentId>, libcni::Error> {
    let all = cni.cached_attachments(None)?;
    Ok(all.into_iter().filter(|known| known.network == *net.name.as_str()).map(|known| known.id).collect())
}

fn parse_attachment(text: &str) -> std::result::Result<AttachmentId, String> {
    let (id, ifname) = text.split_once('/').ok_or("it has to be ID/IFNAME, for instance 5f2a/eth0")?;
    AttachmentId::parse(id, ifname).map_err(|e| e.to_string())
}
