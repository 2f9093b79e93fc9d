//! `ferrocni del`: detaches a container from a network.

use std::time::Instant;

use super::failure::{Failure, Result};
use super::output::{Output, milliseconds};
use super::target::{AttachmentArgs, NetworkArgs};

/// Detach a container from a network (DEL)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The namespace may be gone; then --container-id says which container it was.\n\nExamples:\n  \
    ferrocni del podnet --netns /run/netns/blue\n  \
    ferrocni del podnet --container-id 5f2a --ifname eth1"
)]
pub(crate) struct Del {
    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    attachment: AttachmentArgs,
}

impl Del {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let net = self.network.load()?;
        let attachment = self.attachment.resolve(false)?;
        let cni = self.network.cni();
        // A broken cache does not keep DEL from its work, so it is not looked at any closer than this.
        let known = cni.cached(&net, &attachment).is_ok_and(|known| known.is_some());
        let start = Instant::now();
        cni.del(&net, &attachment).map_err(|e| Failure::of_network(&e, &net, Some(&attachment)))?;
        let took = milliseconds(start.elapsed());
        let (ifname, id, name) = (&attachment.ifname, &attachment.container_id, &net.name);
        out.line(format!("{ifname} of container {id} is not attached to {name} any more; took {took}"))?;
        if known {
            return Ok(());
        }
        let dir = self.network.cache_dir.display();
        out.line(format!("(no ADD of it was remembered in {dir}: is it the right container and interface?)"))
    }
}
