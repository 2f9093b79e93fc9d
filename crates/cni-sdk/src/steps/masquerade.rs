//! Masquerading: what a container sends to the world comes from an address of the host, and answers find their way back.
//!
//! Two backends. `nftables`, the default, is one table of ours with the container's addresses in a set: nothing but netlink is
//! needed, and an attachment more costs neither a packet nor the next ADD anything. `iptables` is the rules of the Go plugins,
//! by iptables' own programs, for hosts whose other programs look at them there.
//!
//! DEL and GC clean up in both, and what the Go plugins left in either as well: an upgrade, or another backend in an edited
//! configuration, leaves nothing behind. No program is started for that unless the older x_tables have a `nat` table.
//!
//! What all attachments share (table, chains, sets, subnets) stays. Multicast is never masqueraded, nor what goes to the
//! container's own subnet.

mod iptables;
mod nftables;
mod reference;

use std::collections::BTreeSet;

use cni_linux::{Netns, Undo};
use cni_spec::{AttachmentId, Code, Doing, Error, NetworkName, Result};
use ipnet::IpNet;

use super::{all, names, without_nftables};

/// What keeps the rules (the key `ipMasqBackend`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::exhaustive_enums, reason = "Linux has these two")]
pub enum Backend {
    /// nf_tables over netlink; no program is needed.
    #[default]
    Nftables,
    /// The rules of the Go plugins, by `iptables-restore`.
    Iptables,
}

impl Backend {
    /// Reads the key `ipMasqBackend`; the default where there is none.
    ///
    /// # Errors
    /// `unknown ipmasq backend` for any other word.
    pub fn parse(word: Option<&str>) -> Result<Backend> {
        match word {
            None | Some("") => Ok(Backend::default()),
            Some("nftables") => Ok(Backend::Nftables),
            Some("iptables") => Ok(Backend::Iptables),
            Some(other) => {
                let text = format!("unknown ipmasq backend {other:?}");
                let known = "ipMasqBackend is \"nftables\" or \"iptables\"";
                Err(Error::failed(text).with_details(known))
            }
        }
    }
}

/// The masquerading of one attachment.
#[derive(Debug)]
pub struct Masquerade<'a> {
    host: &'a Netns,
    net: &'a NetworkName,
    id: &'a AttachmentId,
}

impl<'a> Masquerade<'a> {
    /// That of this attachment to this network. Asks the kernel nothing.
    pub fn new(host: &'a Netns, net: &'a NetworkName, id: &'a AttachmentId) -> Self {
        Masquerade { host, net, id }
    }

    /// Masquerades what comes from these addresses, each with the prefix of its subnet.
    ///
    /// An address that somebody else has, or had and left behind, is this attachment's from now on.
    ///
    /// # Errors
    /// The kernel's; what `iptables-restore` says.
    #[doc(alias("SetupIPMasq", "SetupIPMasqForNetworks"))]
    pub fn add(&self, backend: Backend, addresses: &[IpNet], undo: &mut Undo) -> Result<()> {
        match backend {
            Backend::Nftables => nftables::add(self, addresses, undo),
            Backend::Iptables => iptables::add(self, addresses, undo),
        }
        .doing(format_args!("masquerading {}", list(addresses)))
    }

    /// Stops it, whatever the addresses and the backend were, and whoever began it. What is not there is no error.
    ///
    /// Call it before the addresses are given back: from then on they are somebody else's.
    ///
    /// # Errors
    /// What could not be deleted; everything was attempted.
    #[doc(alias("TeardownIPMasq", "TeardownIPMasqForNetworks"))]
    pub fn del(&self) -> Result<()> {
        all([nftables::del(self), reference::del(self)])
    }

    /// Checks that what comes from these addresses is masqueraded.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, backend: Backend, addresses: &[IpNet]) -> Result<()> {
        let checked = match backend {
            Backend::Nftables => nftables::check(self, addresses),
            Backend::Iptables => iptables::check(self, addresses),
        };
        let error = match checked {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // The backend was another one then, or a Go plugin has begun it.
        let otherwise = match backend {
            Backend::Nftables => reference::is_there(self)?,
            Backend::Iptables => nftables::check(self, addresses).is_ok(),
        };
        if otherwise { Ok(()) } else { Err(error) }
    }

    fn owner(&self) -> String {
        names::owner(self.net, self.id)
    }

    fn owner_key(&self) -> String {
        names::owner_key(self.net, self.id)
    }
}

/// Stops the masquerading of all of the network's attachments but the valid ones.
///
/// # Errors
/// What could not be deleted; everything was attempted.
pub fn gc(host: &Netns, net: &NetworkName, valid: &[AttachmentId]) -> Result<()> {
    let kept: BTreeSet<String> = valid.iter().map(|id| names::owner_key(net, id)).collect();
    let network = names::network_key(net);
    // The key is as long for every attachment.
    let is_stale = |comment: &str| {
        let length = kept.first().map_or(network.len(), String::len);
        comment.starts_with(&network) && comment.get(..length).is_none_or(|key| !kept.contains(key))
    };
    all([nftables::gc(host, &is_stale), reference::gc(host, net, valid, &is_stale)])
}

/// Whether masquerading could begin.
///
/// # Errors
/// Code 50: the kernel lacks something, or iptables' programs are not there.
pub fn status(host: &Netns, backend: Backend) -> Result<()> {
    match backend {
        Backend::Nftables => nftables::status(host),
        Backend::Iptables => iptables::status(host),
    }
    .code(Code::PLUGIN_NOT_AVAILABLE)
}

fn list(addresses: &[IpNet]) -> String {
    addresses.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_two_words() {
        assert_eq!(Backend::parse(None).unwrap(), Backend::Nftables);
        assert_eq!(Backend::parse(Some("")).unwrap(), Backend::Nftables);
        assert_eq!(Backend::parse(Some("nftables")).unwrap(), Backend::Nftables);
        assert_eq!(Backend::parse(Some("iptables")).unwrap(), Backend::Iptables);
        let error = Backend::parse(Some("ebtables")).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::INTERNAL, "unknown ipmasq backend \"ebtables\""));
    }
}
