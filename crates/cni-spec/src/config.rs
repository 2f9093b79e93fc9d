//! Network configurations: the list that an administrator writes, and the plugin configurations in it (spec §1).
//!
//! Keys that the specification knows become fields; the rest of the JSON stays as it was written, for the plugin
//! that understands it. Names are not judged here: the runtime does that before it executes anything.
//!
//! ```
//! use cni_spec::NetworkConfig;
//!
//! let net = NetworkConfig::parse(
//!     br#"{
//!         "cniVersion": "1.1.0",
//!         "name": "dbnet",
//!         "plugins": [
//!             {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"}},
//!             {"type": "portmap", "capabilities": {"portMappings": true}}
//!         ]
//!     }"#,
//! )?;
//! let bridge = &net.plugins[0];
//! assert_eq!(bridge.common.ipam.plugin_type, "host-local");
//! assert_eq!(bridge.object.get("bridge").unwrap().get(), "\"cni0\"");
//! # Ok::<(), cni_spec::config::ConfigError>(())
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{self, DecodeError, Object};
use crate::version::Numbers;
use crate::{AttachmentId, Dns, Version};

/// A network: its plugins, in the order in which they are executed.
#[derive(Debug, Clone)]
#[doc(alias = "NetworkConfigList")]
pub struct NetworkConfig {
    /// The network's name.
    pub name: String,
    /// The version to talk in: the highest of `cniVersion` and `cniVersions` that is known here, or `cniVersion` as
    /// it was written; empty where the list has none.
    pub cni_version: String,
    /// CHECK must not be executed.
    pub disable_check: bool,
    /// GC must not be executed.
    pub disable_gc: bool,
    /// The plugins of the folder named after the network are not for this list.
    pub load_only_inlined_plugins: bool,
    /// The plugins.
    pub plugins: Vec<PluginConfig>,
    /// The document that this was read from.
    pub source: Vec<u8>,
}

/// What one plugin is configured with: the keys common to all plugins, and the JSON that it came in.
#[derive(Debug, Clone, Default)]
pub struct PluginConfig {
    /// The keys that the specification knows.
    pub common: CommonKeys,
    /// All of it.
    pub object: Object,
}

/// The keys of a plugin configuration that mean the same to every plugin (spec §1 "Plugin configuration objects",
/// §2 and §3 for those that a runtime adds).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CommonKeys {
    /// The version of the specification; empty means 0.1.0.
    pub cni_version: String,
    /// The network's name.
    pub name: String,
    /// The plugin's file name.
    #[serde(rename = "type")]
    pub plugin_type: String,
    /// What the runtime may set dynamically.
    pub capabilities: BTreeMap<String, bool>,
    /// The IPAM plugin's section; only its type matters to others.
    pub ipam: IpamKeys,
    /// DNS of the configuration, as opposed to that of a result.
    pub dns: Dns,
    /// The result of the plugin before this one, or of the ADD that is undone.
    pub prev_result: Option<Box<RawValue>>,
    /// GC: the attachments that are still there.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<AttachmentId>>,
    /// The same under the key that runtimes used before the specification's was settled (cni#1101).
    #[serde(rename = "cni.dev/attachments")]
    pub attachments: Option<Vec<AttachmentId>>,
}

/// The part of `ipam` that every plugin understands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpamKeys {
    /// The IPAM plugin's file name; empty for none.
    #[serde(rename = "type")]
    pub plugin_type: String,
}

impl PluginConfig {
    /// Reads a plugin configuration. `type` may be missing: a plugin that is running knows what it is.
    ///
    /// # Errors
    /// What is not JSON, or has another type than a common key must have.
    pub fn parse(json: &[u8]) -> Result<Self, DecodeError> {
        Ok(PluginConfig { common: json::decode(json)?, object: Object::parse(json)? })
    }

    fn parse_within(value: &RawValue, document: &[u8]) -> Result<Self, ConfigError> {
        let common: CommonKeys = json::decode_within(value.get(), document)
            .map_err(|e| ConfigError(format!("error parsing configuration: {e}")))?;
        if common.plugin_type.is_empty() {
            return Err(ConfigError("error parsing configuration: missing 'type'".into()));
        }
        let object = Object::parse(value.get().as_bytes())
            .map_err(|e| ConfigError(format!("error parsing configuration: {e}")))?;
        Ok(PluginConfig { common, object })
    }
}

impl NetworkConfig {
    /// Reads a list (`*.conflist`). A list without the key `plugins` has none of its own: they come from the folder
    /// named after the network.
    ///
    /// # Errors
    /// In the reference's words, behind `error parsing configuration list: `.
    #[doc(alias = "NetworkConfFromBytes")]
    pub fn parse(document: &[u8]) -> Result<Self, ConfigError> {
        parse_list(document).map_err(|e| ConfigError(format!("error parsing configuration list: {e}")))
    }

    /// Makes a list of a single plugin configuration (`*.conf`, `*.json`; gone from the specification with 1.0.0).
    ///
    /// # Errors
    /// In the reference's words, behind `error parsing configuration: `.
    #[doc(alias = "ConfListFromConf")]
    pub fn from_plugin(document: &[u8]) -> Result<Self, ConfigError> {
        let plugin = json::check(document)
            .map_err(|e| ConfigError(format!("error parsing configuration: {e}")))
            .and_then(|value| PluginConfig::parse_within(value, document))?;
        let mut source = Object::new();
        source.set("name", &plugin.common.name);
        source.set("cniVersion", &plugin.common.cni_version);
        source.set("plugins", &[&plugin.object]);
        Ok(NetworkConfig {
            name: plugin.common.name.clone(),
            cni_version: plugin.common.cni_version.clone(),
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: false,
            plugins: vec![plugin],
            source: source.to_json().into_bytes(),
        })
    }

    /// The version as a number, nothing where it is none.
    pub fn version(&self) -> Option<Numbers> {
        Numbers::parse(&self.cni_version).ok()
    }
}

/// Why a configuration could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// The keys of a list are looked up by their exact spelling, unlike those of a plugin (as the reference does).
fn parse_list(document: &[u8]) -> Result<NetworkConfig, String> {
    let whole = json::check(document).map_err(|e| e.to_string())?;
    let keys: BTreeMap<String, &RawValue> = json_of(whole).map_err(|_| match kind(whole) {
        // a key that is no Unicode
        "object" => Object::parse(document).map_or_else(|e| e.to_string(), |_| "broken key".into()),
        other => format!("a list is an object, not {other}"),
    })?;
    let name = text(keys.get("name").ok_or("no name")?, "name", document)?;
    let cni_version = select_version(&keys, document)?;
    let disable_check = flag(&keys, "disableCheck", document)?;
    let disable_gc = flag(&keys, "disableGC", document)?;
    let load_only_inlined_plugins = flag(&keys, "loadOnlyInlinedPlugins", document)?;
    let plugins = inlined_plugins(&keys, load_only_inlined_plugins, document)?;
    Ok(NetworkConfig {
        name,
        cni_version,
        disable_check,
        disable_gc,
        load_only_inlined_plugins,
        plugins,
        source: document.to_vec(),
    })
}

fn inlined_plugins(
    keys: &BTreeMap<String, &RawValue>,
    only: bool,
    document: &[u8],
) -> Result<Vec<PluginConfig>, String> {
    let Some(plugins) = keys.get("plugins") else {
        return if only {
            Err("`loadOnlyInlinedPlugins` is true, and no 'plugins' key".into())
        } else {
            Ok(Vec::new())
        };
    };
    let plugins: Vec<&RawValue> =
        json_of(plugins).map_err(|_| format!("invalid 'plugins' type {}", kind(plugins)))?;
    if plugins.is_empty() {
        return Err("no plugins in list".into());
    }
    let parse = |(index, plugin)| {
        PluginConfig::parse_within(plugin, document)
            .map_err(|e| format!("failed to parse plugin config {index}: {e}"))
    };
    plugins.into_iter().enumerate().map(parse).collect()
}

/// Spec §1 "Version considerations": the highest of those offered that is known here.
fn select_version(keys: &BTreeMap<String, &RawValue>, document: &[u8]) -> Result<String, String> {
    let written = match keys.get("cniVersion") {
        Some(value) => text(value, "cniVersion", document)?,
        None => String::new(),
    };
    let Some(offered) = keys.get("cniVersions") else { return Ok(written) };
    let offered: Vec<&RawValue> =
        json_of(offered).map_err(|_| format!("invalid cniVersions type {}", kind(offered)))?;
    let mut best: Option<(Numbers, String)> = None;
    let mut consider = |text: String| -> Result<(), String> {
        let numbers = Numbers::parse(&text)?;
        if numbers <= Version::CURRENT.into() && best.as_ref().is_none_or(|(n, _)| *n < numbers) {
            best = Some((numbers, text));
        }
        Ok(())
    };
    for (index, value) in offered.into_iter().enumerate() {
        let text = match kind(value) {
            "string" => text(value, "cniVersions entry", document)?,
            other => return Err(format!("invalid cniVersions entry type {other} at index {index}")),
        };
        consider(text.clone())
            .map_err(|e| format!("invalid cniVersions entry {text} at index {index}: {e}"))?;
    }
    if !written.is_empty() {
        consider(written.clone()).map_err(|e| format!("invalid cniVersion {written:?}: {e}"))?;
    }
    Ok(best.map_or(written, |(_, text)| text))
}

/// A flag is a boolean, or the words that people write for one.
fn flag(keys: &BTreeMap<String, &RawValue>, key: &str, document: &[u8]) -> Result<bool, String> {
    let Some(value) = keys.get(key) else { return Ok(false) };
    if let Ok(flag) = json_of::<bool>(value) {
        return Ok(flag);
    }
    if kind(value) != "string" {
        return Err(format!("invalid type {} for {key}", kind(value)));
    }
    let text = text(value, key, document)?;
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("invalid value {text:?} for {key}")),
    }
}

fn text(value: &RawValue, what: &str, document: &[u8]) -> Result<String, String> {
    match kind(value) {
        "string" => json::decode_within(value.get(), document).map_err(|e| format!("{what}: {e}")),
        other => Err(format!("invalid {what} type {other}")),
    }
}

fn json_of<'a, T: Deserialize<'a>>(value: &'a RawValue) -> serde_json::Result<T> {
    serde_json::from_str(value.get())
}

fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(json: &str) -> NetworkConfig {
        NetworkConfig::parse(json.as_bytes()).unwrap()
    }

    fn error(json: &str) -> String {
        let text = NetworkConfig::parse(json.as_bytes()).unwrap_err().to_string();
        text.strip_prefix("error parsing configuration list: ").unwrap().to_owned()
    }

    #[test]
    fn a_list_is_read() {
        let net = list(
            r#"{"cniVersion":"1.0.0","name":"n","disableCheck":"TRUE","disableGC":false,
                "plugins":[{"type":"bridge","capabilities":{"mac":true},"ipam":{"type":"host-local","x":1}}]}"#,
        );
        assert_eq!((net.name.as_str(), net.cni_version.as_str()), ("n", "1.0.0"));
        assert!(net.disable_check && !net.disable_gc);
        let plugin = &net.plugins[0];
        assert_eq!(plugin.common.plugin_type, "bridge");
        assert_eq!(plugin.common.ipam.plugin_type, "host-local");
        assert!(plugin.common.capabilities["mac"]);
        assert!(plugin.object.get("ipam").unwrap().get().contains("\"x\":1"));
    }

    #[test]
    fn the_highest_known_version_is_taken() {
        let version =
            |keys: &str| list(&format!(r#"{{{keys},"name":"n","plugins":[{{"type":"t"}}]}}"#)).cni_version;
        assert_eq!(version(r#""cniVersion":"1.2.3""#), "1.2.3");
        assert_eq!(version(r#""cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","1.2.0"]"#), "1.1.0");
        assert_eq!(version(r#""cniVersion":"1.0.0","cniVersions":["0.4.0"]"#), "1.0.0");
        assert_eq!(version(r#""cniVersion":"9.9.9","cniVersions":["9.0.0"]"#), "9.9.9");
        assert_eq!(version(r#""cniVersions":[]"#), "");
    }

    #[test]
    fn what_is_wrong_with_a_list_is_said() {
        assert_eq!(error("{}"), "no name");
        assert_eq!(error(r#"{"Name":"n"}"#), "no name");
        assert_eq!(error(r#"{"name":7}"#), "invalid name type number");
        assert_eq!(error(r#"{"name":null}"#), "invalid name type null");
        assert_eq!(error("[]"), "a list is an object, not array");
        assert!(error(r#"{"name":"\udead"}"#).starts_with("name: lone"), "{}", error(r#"{"name":"\udead"}"#));
        assert!(error(r#"{"\udead":1}"#).ends_with("line 1 column 1"), "{}", error(r#"{"\udead":1}"#));
        assert_eq!(
            error(r#"{"cniVersions":["1.0.0",1],"name":"n"}"#),
            "invalid cniVersions entry type number at index 1"
        );
        assert_eq!(error(r#"{"name":"n","plugins":{}}"#), "invalid 'plugins' type object");
        assert_eq!(error(r#"{"name":"n","plugins":[]}"#), "no plugins in list");
        assert_eq!(error(r#"{"name":"n","cniVersion":1}"#), "invalid cniVersion type number");
        assert_eq!(error(r#"{"name":"n","disableGC":"maybe"}"#), "invalid value \"maybe\" for disableGC");
        assert_eq!(error(r#"{"name":"n","disableCheck":[]}"#), "invalid type array for disableCheck");
        assert_eq!(
            error(r#"{"name":"n","loadOnlyInlinedPlugins":true}"#),
            "`loadOnlyInlinedPlugins` is true, and no 'plugins' key"
        );
        assert!(
            error(r#"{"name":"n","cniVersions":["1.x"]}"#)
                .starts_with("invalid cniVersions entry 1.x at index 0: ")
        );
        assert_eq!(error("[]"), "a list is an object, not array");
        assert!(error("{\n\"name\": \"n\" \"plugins\"").contains("line 2 column"));
    }

    #[test]
    fn what_is_wrong_with_a_plugin_is_placed_in_the_list() {
        let plugin =
            |json: &str| error(&format!("{{\"name\":\"n\",\n\"plugins\":[{{\"type\":\"a\"}},{json}]}}"));
        let missing = "failed to parse plugin config 1: error parsing configuration: missing 'type'";
        assert_eq!(plugin("{}"), missing);
        assert_eq!(
            plugin(r#"{"type":"b","ipam":{"type":3}}"#),
            "failed to parse plugin config 1: error parsing configuration: \
             ipam.type: invalid type: integer `3`, expected a string at line 2 column 52"
        );
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let net = NetworkConfig::from_plugin(br#"{"name":"n","type":"bridge","x":1}"#).unwrap();
        assert_eq!(net.plugins.len(), 1);
        let again = NetworkConfig::parse(&net.source).unwrap();
        assert_eq!(again.plugins[0].object.to_json(), r#"{"name":"n","type":"bridge","x":1}"#);
        let error = NetworkConfig::from_plugin(br#"{"name":"n","plugins":[]}"#).unwrap_err();
        assert_eq!(error.to_string(), "error parsing configuration: missing 'type'");
    }

    #[test]
    fn attachments_have_valid_names() {
        let keys = |json: &str| PluginConfig::parse(json.as_bytes()).map(|c| c.common.valid_attachments);
        let one = keys(r#"{"cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}]}"#).unwrap();
        assert_eq!(one.unwrap(), [AttachmentId::parse("a", "eth0").unwrap()]);
        assert_eq!(keys(r#"{"cni.dev/valid-attachments":null}"#).unwrap(), None);
        assert!(keys(r#"{"cni.dev/valid-attachments":[{"containerID":"/","ifname":"eth0"}]}"#).is_err());
    }
}
