//! The plugins of one network, executed for one attachment: forwards, backwards, and backwards again when going
//! forwards failed.
//!
//! Which verb does what, and what is remembered, is decided in `cni.rs`.

use cni_spec::{Code, Command, NetworkConfig};
use serde_json::value::RawValue;

use crate::cache::{CachedAttachment, Key};
use crate::cni::{Attachment, Cni, has_previous, plugin_failure};
use crate::error::Error;
use crate::{Added, Invocation, Reply, netns, request};

/// A network's plugins and the attachment they are executed for; GC and STATUS have an empty one.
#[derive(Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) cni: &'a Cni,
    pub(crate) net: &'a NetworkConfig,
    pub(crate) attachment: &'a Attachment,
}

impl Chain<'_> {
    /// Has one plugin add to what the one before it did.
    pub(crate) fn add(&self, index: usize, last: Option<&Added>) -> Result<Added, Error> {
        // What the network's version cannot say is passed on as it is; the next plugin may still read it.
        let previous =
            last.map(|added| request::previous(added, self.net).unwrap_or_else(|_| added.document.clone()));
        let reply = self.run(index, Command::Add, self.request(index, previous.as_deref()), false)?;
        reply.added().map_err(|e| plugin_failure(self.net, index, Command::Add, e))
    }

    /// Has one plugin check what the ADD came to.
    pub(crate) fn check(&self, index: usize, previous: Option<&RawValue>) -> Result<(), Error> {
        self.run(index, Command::Check, self.request(index, previous), false).map(|_| ())
    }

    /// Has the first `count` plugins delete, last one first, whatever fails.
    pub(crate) fn del(&self, count: usize, previous: Option<&RawValue>, undoing: bool) -> Vec<Error> {
        let one = |index| self.run(index, Command::Del, self.request(index, previous), undoing);
        (0..count).rev().filter_map(|index| one(index).err()).collect()
    }

    /// Undoes an ADD that came as far as the plugin at `index`, with the result `last`; gives the error back, with what
    /// failed on the way.
    pub(crate) fn undo(&self, error: Error, index: usize, last: Option<&Added>) -> Error {
        let last = last.filter(|_| has_previous(self.net));
        let previous = last.and_then(|added| request::previous(added, self.net).ok());
        let failures = self.del(index + 1, previous.as_deref(), true);
        failures
            .iter()
            .fold(error, |error, failure| error.with_details(&format!("undoing the ADD: {failure}")))
    }

    /// Executes one plugin.
    pub(crate) fn run(
        &self,
        index: usize,
        command: Command,
        config: Vec<u8>,
        undoing: bool,
    ) -> Result<Reply, Error> {
        let Attachment { container_id, netns, ifname, trace, netns_override, .. } = self.attachment;
        let invocation = Invocation {
            command: command.to_string(),
            container_id: container_id.clone(),
            netns: netns.clone(),
            ifname: ifname.clone(),
            args: cni_args(&self.attachment.args),
            path: self.cni.path().to_owned(),
            netns_override: if *netns_override { "1".into() } else { String::new() },
            trace: trace.clone(),
            config,
        };
        let plugin_type = &self.net.plugins[index].common.plugin_type;
        let outcome = self.cni.step(&self.net.name, index, plugin_type, undoing, command, &invocation);
        outcome.map_err(|e| plugin_failure(self.net, index, command, e))
    }

    /// What is remembered of the attachment.
    pub(crate) fn cached(&self, key: Key, added: &Added) -> CachedAttachment {
        CachedAttachment {
            network: key.network,
            id: key.id,
            netns: self.attachment.netns.clone(),
            netns_id: netns::id(&self.attachment.netns).unwrap_or_default(),
            args: self.attachment.args.clone(),
            capability_args: self.attachment.capability_args.clone(),
            config: self.net.source.clone(),
            result: Some(added.document.clone()),
        }
    }

    fn request(&self, index: usize, previous: Option<&RawValue>) -> Vec<u8> {
        let plugin = &self.net.plugins[index];
        request::attachment(self.net, plugin, previous, &self.attachment.capability_args)
    }
}

/// Whether a pair of `CNI_ARGS` arrives as the one pair that it is.
///
/// # Errors
/// What would end it, or begin another; the error names the pair.
pub(crate) fn judge_arg((key, value): &(String, String)) -> Result<(), cni_spec::Error> {
    let in_either = |c| key.contains(c) || value.contains(c);
    let why = if key.is_empty() {
        "its key is empty"
    } else if key.contains('=') {
        "its key has '=', which begins the value"
    } else if in_either(';') {
        "it has ';', which begins the next pair"
    } else if in_either('\0') {
        "it has a NUL byte, which ends the variable"
    } else {
        return Ok(());
    };
    let text = format!("invalid CNI_ARGS pair {key:?}={value:?}: {why}");
    Err(cni_spec::Error::new(Code::INVALID_ENVIRONMENT, text))
}

/// `K=V;K2=V2`
fn cni_args(args: &[(String, String)]) -> String {
    let pairs: Vec<String> = args.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_stays_one() {
        let judge = |key: &str, value: &str| judge_arg(&(key.into(), value.into()));
        for (key, value) in [("K", ""), ("K", "a b"), ("IgnoreUnknown", "1"), ("K", "a=b")] {
            assert!(judge(key, value).is_ok(), "{key}={value}");
        }
        for (key, value) in
            [("", "x"), ("a=b", "x"), ("a;b", "x"), ("a", "b;IP=9"), ("a\0", "x"), ("a", "\0")]
        {
            let error = judge(key, value).unwrap_err();
            assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
            assert!(error.msg.starts_with(&format!("invalid CNI_ARGS pair {key:?}={value:?}: ")), "{error}");
        }
    }
}
