//! The JSON of the specification, all versions: read, compared with what stands in it, converted, printed.
//!
//! The documents are in `examples/`, one a file, named after their version; this asks nothing about plugins.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, and its documents are files")]

mod model;

use std::path::{Path, PathBuf};

use cni_spec::{AddResult, Code, Error, NetworkConfig, PluginConfig, Version, json, version};
use serde_json::Value;

/// The documents of a folder: name without extension, content.
fn examples(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples").join(folder);
    let mut paths: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no examples in {}", folder.display());
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

fn value(document: &[u8]) -> Value {
    serde_json::from_slice(document).unwrap()
}

/// The version that a file is named after.
fn version_of(name: &str) -> Version {
    Version::known(name.split('-').next().unwrap()).unwrap()
}

/// What the specification's own keys must have become.
fn compare_common(name: &str, plugin: &PluginConfig, expected: &Value) {
    let common = &plugin.common;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert_eq!(common.plugin_type, text(&expected["type"]), "{name}");
    assert_eq!(common.name, text(&expected["name"]), "{name}");
    assert_eq!(common.cni_version, text(&expected["cniVersion"]), "{name}");
    assert_eq!(common.ipam.plugin_type, text(&expected["ipam"]["type"]), "{name}");
    let printed = |v: Value| if v.is_null() { serde_json::json!({}) } else { v };
    assert_eq!(serde_json::to_value(&common.dns).unwrap(), printed(expected["dns"].clone()), "{name}");
    assert_eq!(
        serde_json::to_value(&common.capabilities).unwrap(),
        printed(expected["capabilities"].clone()),
        "{name}"
    );
    assert_eq!(value(plugin.object.to_json().as_bytes()), *expected, "{name}");
}

#[test]
fn lists() {
    for (name, document) in examples("lists") {
        let net = NetworkConfig::parse(&document).unwrap();
        let expected = value(&document);
        assert_eq!(net.name, "dbnet", "{name}");
        assert_eq!(net.version(), Some(version_of(&name).into()), "{name}");
        assert_eq!(net.source, document, "{name}");
        let said = |key: &str| matches!(expected[key], Value::Bool(true)) || expected[key] == "true";
        assert_eq!(
            [net.disable_check, net.disable_gc, net.load_only_inlined_plugins],
            ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"].map(said),
            "{name}"
        );
        let plugins = expected["plugins"].as_array().cloned().unwrap_or_default();
        assert_eq!(net.plugins.len(), plugins.len(), "{name}");
        for (plugin, expected) in net.plugins.iter().zip(&plugins) {
            compare_common(&name, plugin, expected);
        }
    }
}

#[test]
fn single_plugins_become_lists() {
    for (name, document) in examples("plugins") {
        let expected = value(&document);
        let net = NetworkConfig::from_plugin(&document).unwrap();
        compare_common(&name, &net.plugins[0], &expected);
        assert_eq!(
            (net.name.as_str(), net.version()),
            (expected["name"].as_str().unwrap(), Some(version_of(&name).into()))
        );
        let list = value(&net.source);
        assert_eq!(list["plugins"], serde_json::json!([expected]), "{name}");
        assert_eq!(
            (&list["name"], list["cniVersion"].as_str()),
            (&expected["name"], Some(net.cni_version.as_str()))
        );
        assert!(NetworkConfig::parse(&document).unwrap().plugins.is_empty(), "{name}");
    }
}

#[test]
fn requests() {
    for (name, document) in examples("requests") {
        let config = PluginConfig::parse(&document).unwrap();
        let expected = value(&document);
        compare_common(&name, &config, &expected);

        let previous = config.common.prev_result.as_ref();
        assert_eq!(previous.is_some(), expected.get("prevResult").is_some(), "{name}");
        if let Some(previous) = previous {
            let (result, version) = AddResult::decode(previous.get().as_bytes(), Version::V1_1_0).unwrap();
            assert_eq!(version, Version::V1_1_0, "{name}");
            let mut labelled = expected["prevResult"].clone();
            labelled["cniVersion"] = "1.1.0".into();
            assert_eq!(value(result.encode(version).unwrap().as_bytes()), labelled, "{name}");
            assert_eq!(result.interface_of(&result.ips[0]).unwrap().sandbox, "/var/run/netns/blue");
        }

        let attachments = serde_json::to_value(&config.common.valid_attachments).unwrap();
        assert_eq!(attachments, expected["cni.dev/valid-attachments"], "{name}");
        assert_eq!(name.starts_with("gc"), config.common.valid_attachments.is_some(), "{name}");
    }
}

#[test]
fn results_in_every_version() {
    for (name, document) in examples("results") {
        let (result, from) = AddResult::decode(&document, Version::DEFAULT).unwrap();
        assert_eq!(from, version_of(&name));
        assert_eq!(model::convert(&value(&document), from, from), Some(value(&document)), "{name}");
        for &to in Version::ALL {
            let expected = model::convert(&value(&document), from, to);
            let encoded = result.encode(to).ok();
            assert_eq!(encoded.as_deref().map(|text| value(text.as_bytes())), expected, "{name} to {to}");
            let Some(encoded) = encoded else { continue };
            let (again, version) = AddResult::decode(encoded.as_bytes(), Version::DEFAULT).unwrap();
            assert_eq!((again.encode(to).as_deref(), version), (Ok(encoded.as_str()), to), "{name} to {to}");
        }
    }
}

#[test]
fn results_are_printed_byte_for_byte() {
    let everything = examples("results").into_iter().find(|(name, _)| name == "1.1.0-everything").unwrap().1;
    let (result, _) = AddResult::decode(&everything, Version::DEFAULT).unwrap();
    for (name, printed) in examples("printed") {
        assert_eq!(result.encode(version_of(&name)).unwrap(), String::from_utf8(printed).unwrap(), "{name}");
    }
}

#[test]
fn errors() {
    for (name, document) in examples("errors") {
        let error: Error = json::decode(&document).unwrap();
        let mut expected = value(&document);
        assert_eq!(Some(u64::from(error.code.0)), expected["code"].as_u64(), "{name}");
        assert_eq!(Some(error.msg.as_str()), expected["msg"].as_str(), "{name}");
        assert_eq!(error.details, expected["details"].as_str().unwrap_or_default(), "{name}");
        if error.details.is_empty() {
            expected.as_object_mut().unwrap().remove("details");
        }
        assert_eq!(value(error.to_json(version_of(&name)).as_bytes()), expected, "{name}");
    }
    assert_eq!(Code::LIMITED_CONNECTIVITY.0, 51);
}

#[test]
fn version_replies() {
    for (name, document) in examples("versions") {
        let spoken = version::parse_reply(&document).unwrap();
        let expected: Vec<&str> = Version::ALL
            .iter()
            .map(|v| v.as_str())
            .filter(|v| Version::known(v) <= Some(version_of(&name)))
            .collect();
        assert_eq!(spoken, expected, "{name}");
        if version_of(&name) == Version::CURRENT {
            assert_eq!(value(version::reply(Version::ALL).as_bytes()), value(&document), "{name}");
        }
    }
}
