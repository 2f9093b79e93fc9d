//! A request configuration: its common keys and its JSON.

#![no_main]

use cni_spec::{AddResult, PluginConfig, Version, version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    let Ok(config) = PluginConfig::parse(document) else { return };
    let again = PluginConfig::parse(config.object.to_json().as_bytes()).expect("it was read before");
    assert_eq!(format!("{:?}", again.common), format!("{:?}", config.common));
    if let Some(previous) = &config.common.prev_result {
        let _ = AddResult::decode(previous.get().as_bytes(), Version::CURRENT);
    }
    for command in cni_spec::Command::ALL {
        if let Ok(version) = version::reconcile(command, &config.common.cni_version, Version::ALL) {
            assert!(config.common.cni_version.is_empty() || version.as_str() == config.common.cni_version);
        }
    }
});
