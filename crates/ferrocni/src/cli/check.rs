//! `ferrocni check`: whether an attachment is still as ADD left it.

use std::time::Instant;

use super::failure::{Failure, Result};
use super::output::{Output, milliseconds};
use super::target::{AttachmentArgs, NetworkArgs};

/// Check that an attachment is as ADD left it (CHECK)
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ferrocni check podnet --netns /run/netns/blue")]
pub(crate) struct Check {
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    attachment: AttachmentArgs,
}

impl Check {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = self.network.load()?;
        let attachment = self.attachment.resolve(true)?;
        let failed = |e| Failure::of_network(&e, &net, Some(&attachment));
        let cni = self.network.cni();
        let known = cni.cached(&net, &attachment).map_err(failed)?.is_some();
        let start = Instant::now();
        cni.check(&net, &attachment).map_err(|e| {
            let dir = self.network.cache_dir.display();
            let hint = if known { String::new() } else { format!("no ADD of it is remembered in {dir}") };
            failed(e).details(hint)
        })?;
        let took = milliseconds(start.elapsed());
        let (ifname, id, name) = (&attachment.ifname, &attachment.container_id, &net.name);
        if net.disable_check {
            return out.line(format!("nothing was checked: {name} says disableCheck"));
        }
        out.line(format!("{ifname} of container {id} is attached to {name}, as it should be; took {took}"))
    }
}
