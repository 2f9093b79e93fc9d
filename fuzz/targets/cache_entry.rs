//! A file in the cache of attachments, whoever wrote it: read for an attachment, and in the list of all.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use cni_spec::NetworkConfig;
use libcni::{Attachment, Cni, Process};
use libfuzzer_sys::fuzz_target;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("fuzz-cache-entry-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("results")).expect("a temporary folder");
    dir
});

fuzz_target!(|content: &[u8]| {
    std::fs::write(DIR.join("results/net-box-eth0"), content).expect("a temporary file");
    let cni = Cni::new(Process::search(["/nowhere"])).cache_dir(&*DIR);
    let net = NetworkConfig::parse(br#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"t"}]}"#)
        .expect("a list");
    let attachment = Attachment {
        container_id: "box".into(),
        ifname: "eth0".into(),
        netns: "/n".into(),
        ..Attachment::default()
    };
    if let Ok(Some(known)) = cni.cached(&net, &attachment) {
        assert_eq!((known.network.as_str(), known.id.container_id.as_str()), ("net", "box"));
        let _ = known.added();
    }
    for known in cni.cached_attachments(None).expect("the folder can be read") {
        let _ = known.added();
    }
});
