//! A list or a single plugin: what is read once is read the same again.

#![no_main]

use cni_spec::NetworkConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    if let Ok(net) = NetworkConfig::parse(document) {
        assert_eq!(net.source, document);
        for plugin in &net.plugins {
            assert!(!plugin.common.plugin_type.is_empty());
            let again = cni_spec::PluginConfig::parse(plugin.object.to_json().as_bytes())
                .expect("it was read before");
            assert_eq!(format!("{:?}", again.common), format!("{:?}", plugin.common));
        }
        let _ = net.version();
    }
    if let Ok(net) = NetworkConfig::from_plugin(document) {
        let again = NetworkConfig::parse(&net.source).expect("a list that was made here is one");
        assert_eq!((again.name, again.cni_version), (net.name, net.cni_version));
        assert_eq!(format!("{:?}", again.plugins[0].common), format!("{:?}", net.plugins[0].common));
    }
});
