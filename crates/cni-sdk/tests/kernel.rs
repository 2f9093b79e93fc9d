//! The example of the crate's first page as a runtime would run it, and the kit for authors, against a real kernel.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics where it fails, and is a runtime"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cni_sdk::linux::LinkSpec;
use cni_sdk::testing::{self, Caller, Sandbox, break_add, tests};
use cni_sdk::{Add, AddResult, Check, Del, Error, Netns, Plugin, Result, Undo, serde, steps};

const CONFIG: &str = r#"{"cniVersion": "1.1.0", "name": "test", "type": "any"}"#;

/// The example's executable, which `cargo test` builds beside this one's folder.
fn example() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    own.parent().and_then(Path::parent).expect("target/debug").join("examples/loopback")
}

fn run_example(command: &str, netns: &Path) -> Output {
    let mut child = Command::new(example())
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "test")
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`cargo test` builds the example");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(CONFIG.as_bytes())
        .expect("the plugin reads its configuration");
    child.wait_with_output().expect("the plugin ends")
}

fn the_example_brings_lo_up_and_down(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let path = container.path().expect("a path");
    let added = run_example("ADD", path);
    let text = String::from_utf8_lossy(&added.stdout);
    assert!(added.status.success(), "{text}");
    assert!(text.contains("\"name\": \"lo\"") && text.contains("00:00:00:00:00:00"), "{text}");
    assert!(container.link("lo")?.is_up());
    assert!(run_example("CHECK", path).status.success());
    assert!(run_example("DEL", path).status.success());
    assert!(!container.link("lo")?.is_up());
    let checked = run_example("CHECK", path);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("lo is down"));
    Ok(())
}

fn the_example_forgives_a_namespace_that_is_gone(sandbox: &Sandbox) -> Result<()> {
    let plain = tempfile::NamedTempFile::new()?;
    for gone in [Path::new(""), Path::new("/nonexistent/netns"), plain.path()] {
        assert!(run_example("DEL", gone).status.success(), "{}", gone.display());
    }
    let error = |path: &Path| String::from_utf8_lossy(&run_example("ADD", path).stdout).into_owned();
    let text = error(Path::new("/nonexistent/netns"));
    assert!(text.contains(r#"failed to Statfs \"/nonexistent/netns\": no such file or directory"#), "{text}");
    let text = error(plain.path());
    assert!(text.contains("unknown FS magic on"), "{text}");
    assert!(!sandbox.host().link("lo")?.is_up(), "the host's own lo is nobody's business");
    Ok(())
}

/// In a user namespace that does not own the network it is in, a thread that enters a container's namespace cannot come
/// back, so the plugin has to send one that need not.
fn the_example_works_where_there_is_no_way_back(_: &Sandbox) {
    const SCRIPT: &str = r#"
        unshare --net sleep 60 & pid=$!
        until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
        printf '{"cniVersion":"1.1.0","name":"test"}' | CNI_NETNS=/proc/$pid/ns/net "$0"
        status=$?
        kill $pid
        exit $status"#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", SCRIPT])
        .arg(example())
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", "test")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", "/nonexistent")
        .output()
        .expect("util-linux is installed");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\"name\": \"lo\""), "{text}");
}

/// A plugin that makes two bridges, and forgets the first when it fails if it is told to.
#[derive(serde::Deserialize)]
#[serde(crate = "cni_sdk::serde")]
struct TwoBridges {
    #[serde(default)]
    forgetful: bool,
}

impl Plugin for TwoBridges {
    const TYPE: &'static str = "two-bridges";

    fn add(&self, cx: &Add, undo: &mut Undo) -> Result<AddResult> {
        let container = Netns::open(&cx.netns)?;
        let mut forgotten = Undo::new();
        let first = if self.forgetful { &mut forgotten } else { &mut *undo };
        let link = container.add_link(LinkSpec::bridge("br0"), first)?;
        forgotten.keep();
        container.add_link(LinkSpec::bridge(cx.id.ifname.as_str()), undo)?;
        Ok(steps::describe(&container, &link))
    }

    fn del(&self, cx: &Del) -> Result<()> {
        let Some(container) = Netns::open_if_exists(cx.netns.as_deref())? else { return Ok(()) };
        container.del_link_if_exists("br0")?;
        container.del_link_if_exists(cx.id.ifname.as_str())?;
        Ok(())
    }

    fn check(&self, cx: &Check) -> Result<()> {
        let wanted = &cx.prev_result()?.interfaces[0].name;
        match Netns::open(&cx.netns)?.link(wanted.as_str()) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::failed(format!("{wanted} is missing: {e}"))),
        }
    }
}

fn the_kit_calls_every_verb(sandbox: &Sandbox) -> Result<()> {
    let container = sandbox.container();
    let caller = Caller::new::<TwoBridges>(CONFIG).container(&container).id("c1", "net1");
    let result = caller.add()?;
    assert_eq!(container.link("net1")?.kind(), Some("bridge"));
    caller.check(&result)?;
    caller.del(Some(&result))?;
    caller.del(None)?;
    let error = caller.check(&result).unwrap_err();
    assert_eq!(error.msg, "br0 is missing: look up link \"br0\": Link not found");
    caller.gc(&[])?;
    caller.status()
}

fn an_add_that_undoes_itself_passes(sandbox: &Sandbox) {
    let changes = break_add(sandbox, |container| Caller::new::<TwoBridges>(CONFIG).container(container));
    assert_eq!(changes, 2);
}

fn what_is_left_behind_is_found_and_named(sandbox: &Sandbox) {
    let config = r#"{"name": "test", "forgetful": true}"#;
    let broken = std::panic::AssertUnwindSafe(|| {
        break_add(sandbox, |container| Caller::new::<TwoBridges>(config).container(container))
    });
    let payload = std::panic::catch_unwind(broken).expect_err("something is left behind");
    let text = payload.downcast_ref::<String>().expect("a message");
    assert!(text.contains("change 2 of ADD failed"), "{text}");
    assert!(text.contains("+ link br0"), "{text}");
}

fn main() -> std::process::ExitCode {
    testing::main(tests![
        the_example_brings_lo_up_and_down,
        the_example_forgives_a_namespace_that_is_gone,
        the_example_works_where_there_is_no_way_back,
        the_kit_calls_every_verb,
        an_add_that_undoes_itself_passes,
        what_is_left_behind_is_found_and_named,
    ])
}
