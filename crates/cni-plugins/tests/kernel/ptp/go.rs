//! Beside Debian's Go plugin, where it is installed.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cni_sdk::testing::{Sandbox, Snapshot, Test, kernel, tests};
use cni_sdk::{Netns, Result};

use super::{caller, host_end, local};

/// Where the package `containernetworking-plugins` has them.
const GO: &str = "/usr/lib/cni";

pub(super) fn tests() -> Vec<Test> {
    tests![
        the_kernel_ends_up_as_with_the_go_plugin => [kernel::veth, go],
        del_takes_away_what_the_go_plugin_made => [kernel::veth, kernel::iptables, go],
        the_go_plugin_takes_away_what_we_made => [kernel::veth, kernel::iptables, go],
    ]
}

fn go(_: &Netns) -> cni_sdk::linux::Result<()> {
    kernel::installed(&["/usr/lib/cni/ptp", "/usr/lib/cni/host-local"])
}

#[allow(clippy::disallowed_methods, reason = "it is another program that this is compared with")]
fn call(command: &str, container: &Netns, config: &str) -> String {
    let mut child = Command::new(format!("{GO}/ptp"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "test")
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", container.path().unwrap())
        .env("CNI_PATH", GO)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.replace("1.1.0", "1.0.0").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command}: {text}");
    text
}

/// What `ip` prints, without what is random or a link's own.
#[allow(clippy::disallowed_methods, reason = "what people look at is what has to be the same")]
fn ip(netns: &Netns, arguments: &[&str]) -> Vec<String> {
    let output = netns.run(|| Command::new("ip").args(arguments).output()).unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_veth = |word: &str| word.starts_with("veth");
    let line = |line: &str| -> String {
        line.split_whitespace()
            .map(|word| if is_veth(word) { "veth" } else { word })
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(line).filter(|line| !line.contains("fe80::")).collect();
    lines.sort();
    lines
}

fn the_kernel_ends_up_as_with_the_go_plugin(sandbox: &Sandbox) -> Result<()> {
    let host = sandbox.host();
    let look = |container: &Netns| -> Result<Vec<Vec<String>>> {
        for (netns, link) in [(host, host.links()?[1].name.as_str()), (container, "eth0")] {
            // Their addresses are tentative for a second or two, and those that IPv6 makes up are of both.
            netns.wait_for_addresses(link, Duration::from_secs(10))?;
        }
        let tables = |netns: &Netns| {
            let local = ["route", "show", "table", "local"];
            [&["route"][..], &["-6", "route"], &local, &["-6", "route", "show", "table", "local"]]
                .map(|arguments| ip(netns, arguments))
        };
        Ok([tables(container), tables(host)].concat())
    };
    let (theirs, ours) = (sandbox.container(), sandbox.container());
    let state = tempfile::tempdir()?;
    let config = local(state.path(), "");
    call("ADD", &theirs, &config);
    let expected = look(&theirs)?;
    call("DEL", &theirs, &config);
    std::fs::remove_dir_all(state.path())?;
    caller(&config, &ours).add()?;
    let found = look(&ours)?;
    assert_eq!(found, expected);
    Ok(())
}

fn shared_things(sandbox: &Sandbox, state: &Path) -> Result<()> {
    let (config, container) = (local(state, r#", "ipMasq": true"#), sandbox.container());
    call("ADD", &container, &config);
    call("DEL", &container, &config);
    caller(&config, &container).add()?;
    caller(&config, &container).del(None)
}

/// An upgrade on a host with containers.
fn del_takes_away_what_the_go_plugin_made(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    shared_things(sandbox, state.path())?;
    let config = local(state.path(), r#", "ipMasq": true"#);
    let before = Snapshot::take(host)?;
    let container = sandbox.container();
    let result = call("ADD", &container, &config);
    let (result, _) = cni_sdk::AddResult::decode(result.as_bytes(), cni_sdk::Version::V1_0_0)?;
    caller(&config, &container).check(&result)?;
    caller(&config, &container).del(None)?;
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    assert!(container.link_if_exists("eth0")?.is_none());
    Ok(())
}

/// And the way back, with the backend that the Go plugin knows.
fn the_go_plugin_takes_away_what_we_made(sandbox: &Sandbox) -> Result<()> {
    let (host, state) = (sandbox.host(), tempfile::tempdir()?);
    shared_things(sandbox, state.path())?;
    let config = local(state.path(), r#", "ipMasq": true, "ipMasqBackend": "iptables""#);
    let before = Snapshot::take(host)?;
    let container = sandbox.container();
    let result = caller(&config, &container).add()?;
    assert!(host.link_if_exists(host_end("net", "test").as_str())?.is_some());
    let result = result.encode(cni_sdk::Version::V1_0_0)?;
    let known = format!(r#""type": "ptp", "prevResult": {result}"#);
    call("CHECK", &container, &config.replace(r#""type": "ptp""#, &known));
    call("DEL", &container, &config);
    assert_eq!(before.diff(&Snapshot::take(host)?), [""; 0]);
    Ok(())
}
