//! The runtime's handle: the verbs over a whole network, one function each (spec §3).
//!
//! How a plugin is run is [`Invoke`]'s business, what it is sent is in `request.rs`, what is remembered in `cache.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni_spec::version::Numbers;
use cni_spec::{AttachmentId, Code, Command, NetworkConfig, NetworkName, Version};
use serde_json::value::RawValue;

use crate::cache::{Cache, CacheError, CachedAttachment, Key, Why};
use crate::chain::{Chain, judge_arg};
use crate::error::{CacheAction, CacheFailure, Error, PluginFailure};
use crate::invoke::check_type;
use crate::{Added, Invocation, Invoke, Reply, TraceContext, netns, request};

/// Where attachments are remembered unless [`Cni::cache_dir`] says otherwise.
pub const DEFAULT_CACHE_DIR: &str = "/var/lib/cni";

type Result<T> = std::result::Result<T, Error>;

/// A container's place in a network, and what the runtime wants for it.
#[derive(Debug, Clone, Default)]
#[doc(alias = "RuntimeConf")]
pub struct Attachment {
    /// The container's identifier, unique on the host.
    pub container_id: String,
    /// The path of its network namespace. DEL does without once it is gone.
    pub netns: String,
    /// The name that the interface shall have in it.
    pub ifname: String,
    /// The pairs of `CNI_ARGS`, passed on in this order as they are. A pair that would not arrive as one is refused:
    /// with `;` or NUL, without a key, or with `=` in it.
    pub args: Vec<(String, String)>,
    /// Arguments for plugins that have the capability of that name: `portMappings`, `bandwidth` …
    pub capability_args: BTreeMap<String, Box<RawValue>>,
    /// What the caller traces itself by.
    pub trace: TraceContext,
    /// Plugins may find themselves in the namespace that they shall attach (`CNI_NETNS_OVERRIDE`).
    pub netns_override: bool,
}

/// One plugin has run: what an observer is told.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The network's name; empty where the plugin was asked for its versions.
    pub network: &'a str,
    /// The plugin's place in the list, from 0.
    pub index: usize,
    /// Its `type`.
    pub plugin_type: &'a str,
    /// What it was asked to do.
    pub command: Command,
    /// Whether that undoes an ADD that failed.
    pub undoing: bool,
    /// How long it took.
    pub duration: Duration,
    /// What it answered.
    pub outcome: std::result::Result<&'a Reply, &'a cni_spec::Error>,
}

type Observer = Box<dyn Fn(&Step<'_>) + Send + Sync>;
type Warn = Box<dyn Fn(&str) + Send + Sync>;

/// Runs the plugins of networks.
#[doc(alias("CNI", "CNIConfig", "NewCNIConfig"))]
pub struct Cni {
    invoke: Box<dyn Invoke>,
    cache: Cache,
    observer: Option<Observer>,
    warn: Option<Warn>,
}

impl Cni {
    /// Runs plugins this way: as a [`Process`](crate::Process), or [`Embedded`](crate::Embedded).
    pub fn new(invoke: impl Invoke + 'static) -> Self {
        let cache = Cache::new(DEFAULT_CACHE_DIR.as_ref());
        Cni { invoke: Box::new(invoke), cache, observer: None, warn: None }
    }

    /// Remembers attachments below this folder, in `results`; [`DEFAULT_CACHE_DIR`] is the one that all share.
    #[must_use]
    pub fn cache_dir(self, dir: impl Into<PathBuf>) -> Self {
        Cni { cache: Cache::new(&dir.into()), ..self }
    }

    /// Calls `observer` after each execution of a plugin.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&Step<'_>) + Send + Sync + 'static) -> Self {
        Cni { observer: Some(Box::new(observer)), ..self }
    }

    /// Calls `warn` with what went wrong without making the verb fail, for instance a broken file in the cache.
    #[must_use]
    pub fn on_warning(self, warn: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Cni { warn: Some(Box::new(warn)), ..self }
    }

    /// Attaches the container: each plugin in order, given the result of the one before it. The last result is what
    /// it has come to.
    ///
    /// Every plugin is looked up before the first is executed.
    ///
    /// # Errors
    /// The first plugin that failed. Then, and if the result cannot be kept, the ADD is undone: DEL for that plugin and
    /// those before it, newest first, with the last result that there was as prevResult. What fails in this is in the
    /// details. An attachment that the cache knows from an earlier ADD is left as it is instead, for undoing a
    /// second ADD would destroy the first; DEL ends both.
    #[doc(alias = "AddNetworkList")]
    pub fn add(&self, net: &NetworkConfig, attachment: &Attachment) -> Result<Added> {
        let key = self.key(net, attachment)?;
        for (index, plugin) in net.plugins.iter().enumerate() {
            let found = self.invoke.find(&plugin.common.plugin_type);
            found.map_err(|e| plugin_failure(net, index, Command::Add, e))?;
        }
        let again = match self.cache.read(&key) {
            Ok(known) => known.is_some(),
            Err(CacheError { why: Why::Broken(_), .. }) => false, // it will be replaced
            Err(e) => return Err(cache_failure(net, CacheAction::Set, &e)),
        };
        let chain = Chain { cni: self, net, attachment };
        let undo = |error: Error, index, last: Option<&Added>| match again {
            true => error.with_details("not undone, for the attachment is there since an earlier ADD"),
            false => chain.undo(error, index, last),
        };
        let mut last = chain.add(0, None).map_err(|e| undo(e, 0, None))?;
        for index in 1..net.plugins.len() {
            last = chain.add(index, Some(&last)).map_err(|e| undo(e, index, Some(&last)))?;
        }
        self.cache.write(&chain.cached(key, &last)).map_err(|e| {
            undo(cache_failure(net, CacheAction::Set, &e), net.plugins.len() - 1, Some(&last))
        })?;
        Ok(last)
    }

    /// Checks that the attachment is as ADD left it, plugin by plugin in order. Nothing is executed where the network's
    /// configuration says `disableCheck`.
    ///
    /// `args` and `capability_args` that are empty are taken from the cache.
    ///
    /// # Errors
    /// A network of a version before 0.4.0, a cache that cannot be read, and the first plugin that failed.
    #[doc(alias = "CheckNetworkList")]
    pub fn check(&self, net: &NetworkConfig, attachment: &Attachment) -> Result<()> {
        let key = self.key(net, attachment)?;
        if !allows(net, Command::Check)? {
            let text =
                format!("configuration version {:?} does not support the CHECK command", net.cni_version);
            return Err(Error::Refused(cni_spec::Error::new(Code::INCOMPATIBLE_VERSION, text)));
        }
        if net.disable_check {
            return Ok(());
        }
        let known = self.cache.read(&key).map_err(|e| cache_failure(net, CacheAction::Get, &e))?;
        let previous =
            previous_of(net, known.as_ref()).map_err(|e| cache_failure(net, CacheAction::Get, &e))?;
        let attachment = &self.completed(attachment, known.as_ref());
        let chain = Chain { cni: self, net, attachment };
        (0..net.plugins.len()).try_for_each(|index| chain.check(index, previous.as_deref()))
    }

    /// Detaches the container: each plugin in reverse order, given the result of the ADD if the version is 0.4.0 or
    /// later and the cache knows it. A cache that cannot be read is worth a warning; a broken file is removed.
    ///
    /// `args` and `capability_args` that are empty are taken from the cache. `netns` is not: by now its path may be
    /// somebody else's namespace, and an empty one says that it is gone.
    ///
    /// # Errors
    /// All plugins that failed or are missing; the others have been executed. The attachment is remembered until none
    /// fails, so that DEL can be repeated.
    #[doc(alias = "DelNetworkList")]
    pub fn del(&self, net: &NetworkConfig, attachment: &Attachment) -> Result<()> {
        let key = self.key(net, attachment)?;
        let without = |e: &dyn fmt::Display| self.warn(format_args!("DEL without prevResult: {e}"));
        let known = self.cache.read(&key).inspect_err(|e| without(e));
        let foreign = matches!(known, Err(CacheError { why: Why::Foreign(_), .. }));
        if matches!(known, Err(CacheError { why: Why::Broken(_), .. })) {
            self.forget(&key); // it helps nobody, even if this DEL has to be repeated
        }
        let known = known.ok().flatten();
        let previous = match has_previous(net) {
            true => previous_of(net, known.as_ref()).inspect_err(|e| without(e)).ok().flatten(),
            false => None,
        };
        let attachment = &self.completed(attachment, known.as_ref());
        let chain = Chain { cni: self, net, attachment };
        Error::all(chain.del(net.plugins.len(), previous.as_deref(), false))?;
        if !foreign {
            self.forget(&key);
        }
        Ok(())
    }

    /// Cleans up after attachments that no longer are: a full DEL for each that the cache knows of this network and
    /// `valid` does not name, then GC for each plugin in order, from version 1.1.0 on. Nothing is executed where the
    /// network's configuration says `disableGC`.
    ///
    /// A DEL gets an empty `netns` where the path of the ADD is gone, or has become that of another namespace.
    ///
    /// # Errors
    /// Everything that failed; the rest has been done.
    #[doc(alias = "GCNetworkList")]
    pub fn gc(&self, net: &NetworkConfig, valid: &[AttachmentId]) -> Result<()> {
        let network = self.network(net)?;
        if net.disable_gc {
            return Ok(());
        }
        let mut errors = Vec::new();
        let known = self.list().unwrap_or_else(|e| {
            errors.push(cache_failure(net, CacheAction::List, &e));
            Vec::new()
        });
        for stale in known.into_iter().filter(|k| k.network == network && !valid.contains(&k.id)) {
            let id = stale.id.clone();
            if let Err(error) = self.del(net, &self.left_of(stale)) {
                errors.push(Error::Stale { id, cause: Box::new(error) });
            }
        }
        match allows(net, Command::Gc) {
            Ok(false) => {}
            Ok(true) => {
                let nobody = Attachment::default();
                let chain = Chain { cni: self, net, attachment: &nobody };
                for (index, plugin) in net.plugins.iter().enumerate() {
                    let config = request::gc(net, plugin, valid);
                    errors.extend(chain.run(index, Command::Gc, config, false).err());
                }
            }
            Err(error) => errors.push(error),
        }
        Error::all(errors)
    }

    /// Asks each plugin in order whether it could service an ADD; before version 1.1.0 there is nobody to ask.
    ///
    /// # Errors
    /// The first plugin that could not, with its code: 50, or 51 where containers that are attached suffer as well.
    #[doc(alias = "GetStatusNetworkList")]
    pub fn status(&self, net: &NetworkConfig) -> Result<()> {
        self.network(net)?;
        if !allows(net, Command::Status)? {
            return Ok(());
        }
        let nobody = Attachment::default();
        let chain = Chain { cni: self, net, attachment: &nobody };
        for (index, plugin) in net.plugins.iter().enumerate() {
            chain.run(index, Command::Status, request::status(net, plugin), false)?;
        }
        Ok(())
    }

    /// Makes sure that each plugin is there and speaks the network's version. Returns the capabilities that the network's
    /// configuration enables.
    ///
    /// # Errors
    /// All plugins that are missing, or do not speak it.
    #[doc(alias = "ValidateNetworkList")]
    pub fn validate(&self, net: &NetworkConfig) -> Result<BTreeSet<String>> {
        self.network(net)?;
        let wanted = if net.cni_version.is_empty() { Version::DEFAULT.as_str() } else { &net.cni_version };
        let mut errors = Vec::new();
        for (index, plugin) in net.plugins.iter().enumerate() {
            let plugin_type = &plugin.common.plugin_type;
            match self.ask_versions(&net.name, index, plugin_type) {
                Ok(spoken) if spoken.iter().any(|v| v == wanted) => {}
                Ok(spoken) => {
                    let text = format!("plugin {plugin_type} does not support config version {wanted:?}");
                    let error = cni_spec::Error::new(Code::INCOMPATIBLE_VERSION, text)
                        .with_details(format!("it supports {}", spoken.join(", ")));
                    errors.push(plugin_failure(net, index, Command::Version, error));
                }
                Err(error) => errors.push(plugin_failure(net, index, Command::Version, error)),
            }
        }
        Error::all(errors)?;
        let capabilities = net.plugins.iter().flat_map(|p| &p.common.capabilities);
        Ok(capabilities.filter(|(_, enabled)| **enabled).map(|(name, _)| name.clone()).collect())
    }

    /// The versions that a plugin speaks, as it spells them. One that does not know VERSION speaks 0.1.0.
    ///
    /// # Errors
    /// A plugin that is not found, or does not answer.
    #[doc(alias = "GetVersionInfo")]
    pub fn versions(&self, plugin_type: &str) -> std::result::Result<Vec<String>, cni_spec::Error> {
        self.ask_versions("", 0, plugin_type)
    }

    /// What is known of the attachment since its ADD; nothing where there was none.
    ///
    /// # Errors
    /// Names that are none, and a file that cannot be read.
    #[doc(alias("GetNetworkListCachedResult", "GetNetworkListCachedConfig"))]
    pub fn cached(&self, net: &NetworkConfig, attachment: &Attachment) -> Result<Option<CachedAttachment>> {
        let key = self.key(net, attachment)?;
        self.cache.read(&key).map_err(|e| cache_failure(net, CacheAction::Get, &e))
    }

    /// All attachments that are known, of all networks, or those of one container. Files that cannot be read are worth
    /// a warning each.
    ///
    /// # Errors
    /// A folder that cannot be read.
    #[doc(alias = "GetCachedAttachments")]
    pub fn cached_attachments(&self, container_id: Option<&str>) -> Result<Vec<CachedAttachment>> {
        let known = self.list().map_err(|e| {
            let error = cni_spec::Error::new(Code::IO, e.to_string());
            Error::Cache(CacheFailure { network: String::new(), action: CacheAction::List, error })
        })?;
        Ok(known
            .into_iter()
            .filter(|k| container_id.is_none_or(|id| k.id.container_id.as_str() == id))
            .collect())
    }

    /// The attachment as far as it can still be there: without its namespace if that is gone. Entries that do not say
    /// which one it was are taken at their word, as the reference does.
    fn left_of(&self, mut known: CachedAttachment) -> Attachment {
        let found = netns::id(&known.netns);
        if !known.netns_id.is_empty() && found.as_ref() != Some(&known.netns_id) {
            if found.is_some() {
                let (container, path) = (&known.id.container_id, &known.netns);
                self.warn(format_args!("DEL without namespace: {path} is not that of {container} any more"));
            }
            known.netns.clear();
        }
        known.args.clear(); // DEL takes them from the cache, and says so if some are none
        known.into()
    }

    /// What the caller says, and what it said at the ADD where it says nothing.
    fn completed(&self, attachment: &Attachment, known: Option<&CachedAttachment>) -> Attachment {
        let mut attachment = attachment.clone();
        let Some(known) = known else { return attachment };
        if attachment.args.is_empty() {
            attachment.args.clone_from(&known.args);
            attachment.args.retain(|pair| match judge_arg(pair) {
                Ok(()) => true,
                Err(e) => {
                    self.warn(format_args!("left out of what the cache knows: {e}"));
                    false
                }
            });
        }
        if attachment.capability_args.is_empty() {
            attachment.capability_args.clone_from(&known.capability_args);
        }
        attachment
    }

    fn forget(&self, key: &Key) {
        if let Err(e) = self.cache.remove(key) {
            self.warn(format_args!("failed to forget the attachment: {e}"));
        }
    }

    fn list(&self) -> std::result::Result<Vec<CachedAttachment>, CacheError> {
        let (known, broken) = self.cache.list()?;
        for error in broken {
            self.warn(format_args!("no cached attachment: {error}"));
        }
        Ok(known)
    }

    fn ask_versions(
        &self,
        network: &str,
        index: usize,
        plugin_type: &str,
    ) -> std::result::Result<Vec<String>, cni_spec::Error> {
        check_type(plugin_type)?;
        // Old plugins demand parameters even for VERSION.
        let dummy = || "dummy".to_owned();
        let invocation = Invocation {
            command: Command::Version.to_string(),
            netns: dummy(),
            ifname: dummy(),
            path: dummy(),
            config: format!("{{\"cniVersion\":\"{}\"}}", Version::CURRENT).into_bytes(),
            ..Invocation::default()
        };
        match self.step(network, index, plugin_type, false, Command::Version, &invocation) {
            Ok(Reply::Versions(versions)) => Ok(versions),
            Ok(_) => Err(cni_spec::Error::failed("the plugin answered VERSION without versions")),
            Err(error) if error.msg == "unknown CNI_COMMAND: VERSION" => {
                Ok(vec![Version::V0_1_0.as_str().to_owned()])
            }
            Err(error) => Err(error),
        }
    }

    /// The folders that plugins are told to look for delegates in.
    pub(crate) fn path(&self) -> &str {
        self.invoke.path()
    }

    /// Runs one plugin, and tells the observer.
    pub(crate) fn step(
        &self,
        network: &str,
        index: usize,
        plugin_type: &str,
        undoing: bool,
        command: Command,
        invocation: &Invocation,
    ) -> std::result::Result<Reply, cni_spec::Error> {
        let start = Instant::now();
        let outcome = self.invoke.invoke(plugin_type, invocation);
        if let Some(observer) = &self.observer {
            let (duration, outcome) = (start.elapsed(), outcome.as_ref());
            observer(&Step { network, index, plugin_type, command, undoing, duration, outcome });
        }
        outcome
    }

    fn warn(&self, text: fmt::Arguments<'_>) {
        if let Some(warn) = &self.warn {
            warn(&text.to_string());
        }
    }

    /// Judges every name of a network.
    fn network(&self, net: &NetworkConfig) -> Result<NetworkName> {
        let name = NetworkName::parse(&net.name).map_err(Error::Refused)?;
        if net.plugins.is_empty() {
            return Err(no_plugins(net));
        }
        for plugin in &net.plugins {
            check_type(&plugin.common.plugin_type).map_err(Error::Refused)?;
            let ipam = &plugin.common.ipam.plugin_type;
            if !ipam.is_empty() {
                check_type(ipam).map_err(Error::Refused)?;
            }
        }
        Ok(name)
    }

    /// Judges every name of an attachment to a network, and what else could turn into something else on its way.
    fn key(&self, net: &NetworkConfig, attachment: &Attachment) -> Result<Key> {
        let network = self.network(net)?;
        let id = AttachmentId::parse(&attachment.container_id, &attachment.ifname).map_err(Error::Refused)?;
        attachment.args.iter().try_for_each(judge_arg).map_err(Error::Refused)?;
        Key::new(network, id).map_err(|e| Error::Refused(cni_spec::Error::new(Code::INVALID_ENVIRONMENT, e)))
    }
}

impl fmt::Debug for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cni").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// For a DEL that has nothing but the cache to go by. Pairs of `CNI_ARGS` that no verb would accept, which others may
/// have written there, are left out.
impl From<CachedAttachment> for Attachment {
    fn from(known: CachedAttachment) -> Self {
        Attachment {
            container_id: known.id.container_id.to_string(),
            netns: known.netns,
            ifname: known.id.ifname.to_string(),
            args: known.args.into_iter().filter(|pair| judge_arg(pair).is_ok()).collect(),
            capability_args: known.capability_args,
            ..Attachment::default()
        }
    }
}

pub(crate) fn plugin_failure(
    net: &NetworkConfig,
    index: usize,
    command: Command,
    error: cni_spec::Error,
) -> Error {
    let plugin = &net.plugins[index].common;
    let (plugin_type, name) = (plugin.plugin_type.clone(), plugin.name.clone());
    Error::Plugin(PluginFailure { index, plugin_type, name, command, error })
}

/// Whether DEL gets a prevResult in the network's version.
pub(crate) fn has_previous(net: &NetworkConfig) -> bool {
    net.version().is_some_and(|version| version >= Version::V0_4_0.into())
}

fn cache_failure(net: &NetworkConfig, action: CacheAction, error: &dyn fmt::Display) -> Error {
    let error = cni_spec::Error::new(Code::IO, error.to_string());
    Error::Cache(CacheFailure { network: net.name.clone(), action, error })
}

fn no_plugins(net: &NetworkConfig) -> Error {
    let text = format!("network {:?} has no plugins", net.name);
    Error::Refused(cni_spec::Error::new(Code::INVALID_CONFIG, text))
}

/// Whether the network's version knows the verb.
fn allows(net: &NetworkConfig, command: Command) -> Result<bool> {
    let version = Numbers::parse(&net.cni_version)
        .map_err(|e| Error::Refused(cni_spec::Error::new(Code::DECODE, e)))?;
    Ok(command.since().is_none_or(|since| version >= since.into()))
}

/// The cached result as prevResult.
fn previous_of(
    net: &NetworkConfig,
    known: Option<&CachedAttachment>,
) -> std::result::Result<Option<Box<RawValue>>, String> {
    let Some(known) = known else { return Ok(None) };
    let added = known.added().map_err(|e| e.to_string())?;
    let document = added.map(|added| request::previous(&added, net)).transpose();
    document
        .map_err(|e| format!("failed to convert cached result to config version {:?}: {e}", net.cni_version))
}
