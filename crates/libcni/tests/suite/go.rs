//! A host is shared with a runtime in Go: what one has added, the other checks and deletes, through the same cache.
//!
//! The runtime in Go is `tests/go/main.go`, on the reference's libcni as Debian installs it
//! (`golang-github-appc-cni-dev`). Without Go or without that package these cases are skipped, and
//! say so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use libcni::Attachment;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{Way, World, attachment, well};

/// Where Debian puts the sources of Go packages.
const GOPATH: &str = "/usr/share/gocode";
const LIBCNI: &str = "src/github.com/containernetworking/cni/libcni";

const ALL: &[(&str, fn())] = &[
    ("what_go_has_added_we_check_and_delete", what_go_has_added_we_check_and_delete),
    ("what_we_have_added_go_checks_and_deletes", what_we_have_added_go_checks_and_deletes),
    ("what_we_list_was_written_by_both", what_we_list_was_written_by_both),
];

/// The cases; ignored where they cannot be run.
pub(crate) fn trials() -> Vec<Trial> {
    let missing = missing();
    let trial = |(case, run): &(&str, fn())| {
        if let Some(missing) = missing {
            eprintln!("skipped: Go::{case}: {missing}");
        }
        let run = *run;
        let trial = Trial::test(format!("Go::{case}"), move || {
            run();
            Ok(())
        });
        trial.with_ignored_flag(missing.is_some())
    };
    ALL.iter().map(trial).collect()
}

fn missing() -> Option<&'static str> {
    if Command::new("go").arg("version").output().is_err() {
        return Some("there is no go");
    }
    (!Path::new(GOPATH).join(LIBCNI).exists()).then_some("there is no libcni in /usr/share/gocode")
}

/// The runtime in Go, built once.
fn runtime() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/go/main.go");
        let build = Command::new("go")
            .args(["build", "-o"])
            .arg(&path)
            .arg(source)
            .envs([("GO111MODULE", "off"), ("GOPATH", GOPATH), ("GOFLAGS", "")])
            .output()
            .unwrap();
        assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
        (dir, path)
    });
    path
}

fn go(world: &World, verb: &str, container: &str) -> String {
    let output = Command::new(runtime())
        .arg(verb)
        .args([world.bin(), world.cache_dir(), world.file("n.conflist")])
        .arg(container)
        .output()
        .unwrap();
    assert!(output.status.success(), "{verb}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A world whose network `n` is also in a file, of the newest version that Debian's libcni knows.
fn world() -> (World, libcni::NetworkConfig) {
    let world = World::new(Way::Process);
    let keys = json!({"capabilities": {"mac": true, "ports": true}});
    let [_, b, c] = well();
    let net = world.net("1.0.0", [json!({ "keys": keys }), b, c]);
    std::fs::write(world.file("n.conflist"), &net.source).unwrap();
    (world, net)
}

fn what_go_has_added_we_check_and_delete() {
    let (world, net) = world();
    let cni = world.cni();
    let printed: Value = serde_json::from_str(&go(&world, "add", "x")).unwrap();
    assert_eq!(printed["interfaces"][2]["name"], "c");

    let cached = cni.cached(&net, &attachment("x")).unwrap().unwrap();
    let document: Value = serde_json::from_str(cached.result.as_ref().unwrap().get()).unwrap();
    assert_eq!(document, printed);
    assert_eq!(cached.args, [("K".into(), "<V>".into()), ("IgnoreUnknown".into(), "1".into())]);
    assert_eq!(cached.capability_args["ports"].get(), "[80]");
    assert_eq!(cached.config, net.source);

    world.calls();
    cni.check(&net, &attachment("x")).unwrap();
    cni.del(&net, &attachment("x")).unwrap();
    let calls = world.calls();
    assert_eq!(calls.iter().map(|c| c.short()).collect::<Vec<_>>()[3..], ["DEL c", "DEL b", "DEL a"]);
    for call in &calls {
        assert_eq!(call.config["prevResult"], printed);
        assert_eq!(call.args, "K=<V>;IgnoreUnknown=1");
    }
    assert_eq!(calls[0].config["runtimeConfig"], json!({"mac": "00:01", "ports": [80]}));
    let unknown: Value = serde_json::from_str(&go(&world, "cached", "x")).unwrap();
    assert_eq!(unknown["result"], Value::Null, "Go does not know it any more");
}

fn what_we_have_added_go_checks_and_deletes() {
    let (world, net) = world();
    let cni = world.cni();
    let attachment = Attachment {
        args: vec![("K".into(), "<V>".into())],
        capability_args: [("mac".into(), libcni_raw("\"00:01\""))].into(),
        netns: "/proc/self/ns/net".into(),
        ..attachment("x")
    };
    let added = cni.add(&net, &attachment).unwrap();
    let document: Value = serde_json::from_str(added.document.get()).unwrap();

    let written = std::fs::read_to_string(world.cache_file("n", "x")).unwrap();
    assert!(written.contains(r#""netnsId":""#), "our own key is there for Go to ignore: {written}");
    let cached: Value = serde_json::from_str(&go(&world, "cached", "x")).unwrap();
    assert_eq!(cached["result"], document);
    assert_eq!(cached["config"].as_str().unwrap().as_bytes(), net.source);
    assert_eq!(cached["args"], json!([["K", "<V>"]]));
    assert_eq!(cached["capabilityArgs"], json!({"mac": "00:01"}));

    world.calls();
    go(&world, "check", "x");
    go(&world, "del", "x");
    let calls = world.calls();
    assert_eq!(calls.len(), 6);
    assert!(calls.iter().all(|c| c.config["prevResult"] == document));
    assert!(cni.cached(&net, &attachment).unwrap().is_none());
}

fn what_we_list_was_written_by_both() {
    let (world, net) = world();
    go(&world, "add", "from-go");
    world.cni().add(&net, &attachment("from-us")).unwrap();
    let known = world.cni().cached_attachments(None).unwrap();
    let containers: Vec<_> = known.iter().map(|k| k.id.container_id.as_str()).collect();
    assert_eq!(containers, ["from-go", "from-us"]);
    assert!(world.warnings().is_empty());
    // A request that Go derives and one that we derive are the same to the plugin.
    let calls = world.calls();
    let (go, we) = calls.split_at(3);
    for (go, we) in go.iter().zip(we) {
        let without = |call: &crate::fake::Call| {
            let mut config = call.config.clone();
            config.as_object_mut().unwrap().remove("runtimeConfig");
            config
        };
        assert_eq!(without(go), without(we));
    }
}

fn libcni_raw(json: &str) -> Box<serde_json::value::RawValue> {
    serde_json::value::RawValue::from_string(json.into()).unwrap()
}
