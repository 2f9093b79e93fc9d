//! The request configuration: what one plugin of a list reads from standard input (spec §3 "Deriving request
//! configuration from plugin configuration").
//!
//! Members are set in the plugin's own JSON; every other member stays as it was written, byte for byte.

use std::collections::BTreeMap;

use cni_spec::json::{self, Object};
use cni_spec::result::ResultError;
use cni_spec::{AttachmentId, NetworkConfig, PluginConfig, Version};
use serde_json::value::RawValue;

use crate::Added;

/// The request configuration of ADD, CHECK and DEL.
///
/// `capabilities` is left in, as the reference leaves it; `runtimeConfig` is set only if one of the plugin's
/// capabilities has an argument, so that one in the file otherwise stays.
pub(crate) fn attachment(
    net: &NetworkConfig,
    plugin: &PluginConfig,
    previous: Option<&RawValue>,
    capability_args: &BTreeMap<String, Box<RawValue>>,
) -> Vec<u8> {
    let mut object = named(net, plugin);
    if let Some(previous) = previous {
        object.set("prevResult", previous);
    }
    let enabled: BTreeMap<&str, &RawValue> = capability_args
        .iter()
        .filter(|(capability, _)| plugin.common.capabilities.get(*capability) == Some(&true))
        .map(|(capability, value)| (capability.as_str(), &**value))
        .collect();
    if !enabled.is_empty() {
        object.set("runtimeConfig", &enabled);
    }
    object.to_json().into_bytes()
}

/// The request configuration of GC: also under the key that runtimes used before the specification's was settled
/// (cni#1101).
pub(crate) fn gc(net: &NetworkConfig, plugin: &PluginConfig, valid: &[AttachmentId]) -> Vec<u8> {
    let mut object = named(net, plugin);
    object.set("cni.dev/valid-attachments", valid);
    object.set("cni.dev/attachments", valid);
    object.to_json().into_bytes()
}

/// The request configuration of STATUS.
pub(crate) fn status(net: &NetworkConfig, plugin: &PluginConfig) -> Vec<u8> {
    named(net, plugin).to_json().into_bytes()
}

/// A result as prevResult: in the version of the network's configuration, so that whoever reads the one can read
/// the other.
///
/// A document of the same family of versions is passed on as it was written, save for its `cniVersion`. The
/// reference passes every document on as it is, and the next plugin refuses it if it is of another family.
///
/// # Errors
/// What that version cannot say.
pub(crate) fn previous(added: &Added, net: &NetworkConfig) -> Result<Box<RawValue>, ResultError> {
    let wanted = match net.cni_version.as_str() {
        "" => Some(Version::DEFAULT),
        text => Version::known(text),
    };
    let Some(wanted) = wanted.filter(|v| *v != added.version) else { return Ok(added.document.clone()) };
    if family(wanted) != family(added.version) {
        let document = added.result.encode(wanted)?;
        return Ok(RawValue::from_string(document).expect("what was encoded is JSON"));
    }
    let mut document = Object::parse(added.document.get().as_bytes())?;
    document.set("cniVersion", &wanted);
    Ok(json::to_raw(&document))
}

fn named(net: &NetworkConfig, plugin: &PluginConfig) -> Object {
    let mut object = plugin.object.clone();
    object.set("name", &net.name);
    object.set("cniVersion", &net.cni_version);
    object
}

/// Versions whose results have the same shape.
fn family(version: Version) -> Version {
    match version {
        Version::V0_1_0 | Version::V0_2_0 => Version::V0_1_0,
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => Version::V0_3_0,
        Version::V1_0_0 | Version::V1_1_0 => Version::V1_0_0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(version: &str, plugin: &str) -> NetworkConfig {
        let list = format!(r#"{{"cniVersion":"{version}","name":"n","plugins":[{plugin}]}}"#);
        NetworkConfig::parse(list.as_bytes()).unwrap()
    }

    fn args(json: &str) -> BTreeMap<String, Box<RawValue>> {
        serde_json::from_str(json).unwrap()
    }

    fn derive(plugin: &str, previous: Option<&str>, capability_args: &str) -> String {
        let net = net("1.0.0", plugin);
        let previous = previous.map(|p| RawValue::from_string(p.into()).unwrap());
        let request = attachment(&net, &net.plugins[0], previous.as_deref(), &args(capability_args));
        String::from_utf8(request).unwrap()
    }

    #[test]
    fn name_and_version_are_the_lists() {
        assert_eq!(
            derive(r#"{"Name":"x","type":"t","cniVersion":"0.1.0","n": 1.50}"#, None, "{}"),
            r#"{"name":"n","type":"t","cniVersion":"1.0.0","n":1.50}"#
        );
        assert_eq!(
            derive(r#"{"type":"t"}"#, Some(r#"{ "ips": [] }"#), "{}"),
            r#"{"type":"t","name":"n","cniVersion":"1.0.0","prevResult":{ "ips": [] }}"#
        );
    }

    #[test]
    fn only_enabled_capabilities_have_arguments() {
        let plugin = r#"{"type":"t","capabilities":{"mac":true,"ips":false},"runtimeConfig":{"old":1}}"#;
        let tail = r#","name":"n","cniVersion":"1.0.0"}"#;
        let head = r#"{"type":"t","capabilities":{"mac":true,"ips":false},"runtimeConfig":"#;
        assert_eq!(
            derive(plugin, None, r#"{"mac": "00:01","ips":["10.0.0.1"],"bandwidth":{}}"#),
            format!(r#"{head}{{"mac":"00:01"}}{tail}"#)
        );
        assert_eq!(derive(plugin, None, r#"{"ips":["10.0.0.1"]}"#), format!(r#"{head}{{"old":1}}{tail}"#));
    }

    #[test]
    fn gc_is_told_under_both_keys() {
        let net = net("1.1.0", r#"{"type":"t","capabilities":{"mac":true}}"#);
        let valid = [AttachmentId::parse("c", "eth0").unwrap()];
        let list = r#"[{"containerID":"c","ifname":"eth0"}]"#;
        assert_eq!(
            String::from_utf8(gc(&net, &net.plugins[0], &valid)).unwrap(),
            format!(
                r#"{{"type":"t","capabilities":{{"mac":true}},"name":"n","cniVersion":"1.1.0","cni.dev/valid-attachments":{list},"cni.dev/attachments":{list}}}"#
            )
        );
        let none = String::from_utf8(gc(&net, &net.plugins[0], &[])).unwrap();
        assert!(none.contains(r#""cni.dev/valid-attachments":[]"#), "{none}");
    }

    #[test]
    fn a_result_of_another_family_is_converted() {
        let added = |json: &str| Added::decode(json.as_bytes(), Version::V0_1_0).unwrap();
        let previous = |json: &str, version: &str| {
            previous(&added(json), &net(version, r#"{"type":"t"}"#)).map(|d| d.get().to_owned())
        };
        let newest = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}], "mine": 1.0}"#;
        assert!(previous(newest, "1.1.0").unwrap().contains(r#""mine":1.0"#));
        assert_eq!(
            previous(newest, "1.0.0").unwrap(),
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}],"mine":1.0}"#
        );
        let older = previous(newest, "0.4.0").unwrap();
        assert!(older.contains(r#""version": "4""#) && older.contains(r#""cniVersion": "0.4.0""#), "{older}");
        let oldest = previous(newest, "").unwrap();
        assert!(oldest.contains(r#""ip4""#) && oldest.contains(r#""cniVersion": "0.1.0""#), "{oldest}");
        assert!(previous(newest, "7.0.0").unwrap().contains(r#""cniVersion":"1.1.0""#));
        assert_eq!(previous(r#"{"cniVersion":"1.0.0"}"#, "0.2.0"), Err(ResultError::NoAddress));
    }

    /// Any JSON value, as text that nobody would print exactly like that.
    fn value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
            Just(r#""\u0041\/\ud83d\ude00<&>""#.to_owned()),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[ {} ]", v.join(" ,\t"))),
                prop::collection::vec((any::<String>(), inner), 0..4).prop_map(|members| {
                    let members: Vec<String> = members
                        .iter()
                        .map(|(k, v)| format!("{} :\n{v}", serde_json::to_string(k).unwrap()))
                        .collect();
                    format!("{{ {} }}", members.join(" , "))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_other_member_stays_byte_for_byte(
            members in prop::collection::btree_map("x[ -~é]{0,8}", value(), 0..8),
        ) {
            let text: Vec<String> =
                members.iter().map(|(k, v)| format!("{}: {v}", serde_json::to_string(k).unwrap())).collect();
            let plugin = format!("{{\"type\":\"t\",\"capabilities\":{{\"mac\":true}} {}{}}}",
                if text.is_empty() { "" } else { ", " }, text.join(" , "));
            let request = derive(&plugin, Some("{}"), r#"{"mac":"00:01"}"#);
            let request = Object::parse(request.as_bytes()).unwrap();
            for (key, value) in &members {
                prop_assert_eq!(request.get(key).unwrap().get(), value.as_str());
            }
            let own = ["type", "capabilities", "name", "cniVersion", "prevResult", "runtimeConfig"];
            prop_assert_eq!(request.iter().count(), members.len() + own.len());
        }
    }
}
