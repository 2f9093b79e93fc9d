//! What each verb is given: exactly the fields that the specification lists as its input, judged and decoded.

use std::path::PathBuf;
use std::sync::Arc;

use cni_spec::config::CommonKeys;
use cni_spec::{
    AddResult, Args, AttachmentId, Code, Command, Dns, Error, NetworkName, Result, Version, json,
};
use libcni::{Invocation, Invoke};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What every verb knows: the network, and the way to the plugins that work is delegated to.
#[derive(Clone)]
pub struct Network {
    /// The network's name.
    pub name: NetworkName,
    /// The version that this conversation is held in.
    pub cni_version: Version,
    /// DNS as the configuration has it.
    pub dns: Dns,
    /// Everything that the plugin was given, as it came.
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) delegates: Arc<dyn Invoke>,
    pub(crate) ipam_type: Arc<str>,
    /// The plugin that all of this was given to.
    pub(crate) plugin: &'static str,
}

/// ADD: a container joins the network.
#[derive(Debug)]
pub struct Add {
    /// The network.
    pub net: Network,
    /// Container and interface.
    pub id: AttachmentId,
    /// The path of the container's namespace.
    pub netns: PathBuf,
    /// CNI_ARGS
    pub args: Args,
    /// What the plugins before this one made; nothing for the first of a list.
    pub prev_result: Option<AddResult>,
}

/// DEL: a container leaves the network.
#[derive(Debug)]
pub struct Del {
    /// The network.
    pub net: Network,
    /// Container and interface.
    pub id: AttachmentId,
    /// The path of the container's namespace; nothing where it is gone.
    pub netns: Option<PathBuf>,
    /// CNI_ARGS
    pub args: Args,
    /// The result of the ADD; nothing where the runtime lost it, or where it makes no sense any more.
    pub prev_result: Option<AddResult>,
}

/// CHECK: is the container's networking as ADD left it?
#[derive(Debug)]
pub struct Check {
    /// The network.
    pub net: Network,
    /// Container and interface.
    pub id: AttachmentId,
    /// The path of the container's namespace.
    pub netns: PathBuf,
    /// CNI_ARGS
    pub args: Args,
    prev_result: Option<AddResult>,
}

/// GC: everything of the network that belongs to none of the valid attachments can go.
#[derive(Debug)]
pub struct Gc {
    /// The network.
    pub net: Network,
    /// The attachments to keep. None at all means that nothing is valid, as it does for the reference's runtime.
    pub valid: Vec<AttachmentId>,
}

/// STATUS: could an ADD be serviced?
#[derive(Debug)]
pub struct Status {
    /// The network.
    pub net: Network,
}

impl Check {
    /// The result of the ADD, which the specification requires for CHECK.
    ///
    /// # Errors
    /// Code 7 when the runtime left it out.
    pub fn prev_result(&self) -> Result<&AddResult> {
        self.prev_result
            .as_ref()
            .ok_or_else(|| Error::new(Code::INVALID_CONFIG, "Required prevResult missing"))
    }
}

/// A verb with its input.
#[derive(Debug)]
pub(crate) enum Request {
    Add(Add),
    Del(Del),
    Check(Check),
    Gc(Gc),
    Status(Status),
}

impl Request {
    /// Splits by verb. The invocation's parameters have been judged already.
    pub(crate) fn new(
        command: Command,
        plugin: &'static str,
        invocation: &Invocation,
        name: NetworkName,
        cni_version: Version,
        delegates: Arc<dyn Invoke>,
    ) -> Result<Request> {
        let config: CommonKeys = json::decode(&invocation.config)
            .map_err(|e| Error::new(Code::DECODE, format!("error unmarshall network config: {e}")))?;
        let prev_result = || prev_result(&invocation.config, cni_version);
        let net = Network {
            name,
            cni_version,
            dns: config.dns.clone(),
            invocation: Arc::new(invocation.clone()),
            delegates,
            ipam_type: config.ipam.plugin_type.as_str().into(),
            plugin,
        };
        let id = || AttachmentId::parse(&invocation.container_id, &invocation.ifname);
        let netns = PathBuf::from(&invocation.netns);
        let args = Args::new(invocation.args.as_str());
        Ok(match command {
            Command::Add => Request::Add(Add { net, id: id()?, netns, args, prev_result: prev_result()? }),
            Command::Check => {
                Request::Check(Check { net, id: id()?, netns, args, prev_result: prev_result()? })
            }
            Command::Del => {
                let netns = Some(netns).filter(|path| !path.as_os_str().is_empty());
                // A DEL that could not read what it does not need would leave everything behind.
                let prev_result = prev_result().unwrap_or_default();
                Request::Del(Del { net, id: id()?, netns, args, prev_result })
            }
            Command::Gc => {
                let valid = config.valid_attachments.or(config.attachments).unwrap_or_default();
                Request::Gc(Gc { net, valid })
            }
            Command::Status => Request::Status(Status { net }),
            Command::Version => return Err(Error::failed("VERSION takes no configuration")),
        })
    }
}

/// The configuration's prevResult, in the newest shape.
fn prev_result(config: &[u8], cni_version: Version) -> Result<Option<AddResult>> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Keys<'a> {
        #[serde(borrow)]
        prev_result: Option<&'a RawValue>,
    }
    let keys: Keys<'_> = json::decode(config)
        .map_err(|e| Error::new(Code::DECODE, format!("error unmarshall network config: {e}")))?;
    let Some(value) = keys.prev_result else { return Ok(None) };
    match AddResult::decode_within(value.get(), config, cni_version) {
        Ok((result, _)) => Ok(Some(result)),
        Err(e) => {
            Err(Error::new(Code::DECODE, format!("could not parse prevResult: {}", e.under("prevResult"))))
        }
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network")
            .field("name", &self.name)
            .field("cni_version", &self.cni_version)
            .field("ipam", &self.ipam_type)
            .finish_non_exhaustive()
    }
}
