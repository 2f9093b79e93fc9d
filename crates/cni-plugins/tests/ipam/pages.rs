//! The documents in docs/plugins are those of the plugins.

use std::fs;
use std::path::Path;

use cni_plugins::ipam::host_local::HostLocal;
use cni_plugins::ipam::static_ips::StaticIps;
use cni_sdk::Plugin;
use cni_sdk::testing::Caller;
use serde_json::Value;

/// Plays every configuration of a page, and compares what comes of it with the result that follows. Returns how many results
/// there were.
fn play<P: Plugin>() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let page =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugins").join(format!("{}.md", P::TYPE));
    let text = fs::read_to_string(&page).unwrap();
    let (mut last, mut results) = (None, 0);
    for block in text.split("```json\n").skip(1) {
        let mut document: Value = serde_json::from_str(block.split("```").next().unwrap()).unwrap();
        if document.get("ips").is_some() {
            results += 1;
            document.as_object_mut().unwrap().remove("cniVersion");
            assert_eq!(last.take(), Some(document), "of the configuration before it");
            continue;
        }
        assert_eq!(document["ipam"]["type"], P::TYPE);
        document["ipam"]["dataDir"] = dir.path().join(results.to_string()).to_str().unwrap().into();
        let caller = Caller::new::<P>(&document.to_string()).netns("/dev/null");
        let added = caller.add().unwrap();
        caller.check(&added).unwrap();
        caller.status().unwrap();
        caller.del(Some(&added)).unwrap();
        let printed = added.encode(cni_sdk::Version::CURRENT).unwrap();
        let mut printed: Value = serde_json::from_str(&printed).unwrap();
        printed.as_object_mut().unwrap().remove("cniVersion");
        last = Some(printed);
    }
    results
}

#[test]
fn host_local_does_what_its_page_says() {
    assert_eq!(play::<HostLocal>(), 1);
}

#[test]
fn static_does_what_its_page_says() {
    assert_eq!(play::<StaticIps>(), 1);
}
