//! The whole program, against plugins that are small scripts around the floor: a round of each case in a second or two.
//!
//! Nothing is said here about how fast anything is.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "these are tests, with helpers of their own")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A loopback that insists on what a runtime must give it, and has the floor do the work.
const PLUGIN: &str = r#"#!/bin/sh
set -eu
config=$(/bin/cat)
case $config in '{"cniVersion":"1.0.0"'*'}') ;; *) exit 64 ;; esac
case $CNI_COMMAND in
VERSION)
    echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'
    exit ;;
ADD) job=loopback-up reply='{"cniVersion":"1.0.0","dns":{}}' ;;
CHECK) job=loopback-get reply= ;;
DEL) job=loopback-down reply= ;;
esac
case $CNI_COMMAND$config in
ADD*prevResult*) exit 65 ;;
ADD*) ;;
*'"prevResult":{"cniVersion":"1.0.0","dns":{}}}') ;;
*) exit 66 ;;
esac
test "$CNI_IFNAME" = lo
test -e "$CNI_NETNS"
test -x "$CNI_PATH/loopback"
test -n "$CNI_CONTAINERID"
test -z "${HOME-}"
@FLOOR $job
echo "$reply"
"#;

/// A bridge and a host-local of the same kind, as one script. The first container makes what all share.
const BRIDGE: &str = r#"#!/bin/sh
set -eu
config=$(/bin/cat)
state=${config#*\"dataDir\":\"}
state=${state%%\"*}
test -d "$state"
case $config in *'"ipMasq":true'*) masquerade=-masquerade ;; *) masquerade= ;; esac
case $0$CNI_COMMAND$config in
*GC*'"cni.dev/valid-attachments":[{"containerID":"'*'0000","ifname":"eth0"}]'*) exec @FLOOR collect ;;
*ADD*prevResult*) exit 65 ;;
*host-localADD*) job=reserve ;;
*bridgeADD*)
    job=attach$masquerade
    case $CNI_CONTAINERID in
    *0000)
        @FLOOR bridge
        test -z "$masquerade" || @FLOOR masquerade ;;
    esac ;;
*host-localCHECK*prevResult*) job=look-up ;;
*bridgeCHECK*prevResult*) job=look ;;
*host-localDEL*) job=release ;;
*bridgeDEL*) job=detach$masquerade ;;
*) exit 66 ;;
esac
test "$CNI_IFNAME" = eth0
FLOOR_STATE=$state @FLOOR $job
case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0","dns":{}}' ;; esac
"#;

/// A directory with a `loopback` made from `script`, and the others.
fn plugins(script: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, script) in [("loopback", script), ("bridge", BRIDGE), ("host-local", BRIDGE)] {
        let file = directory.path().join(name);
        fs::write(&file, script.replace("@FLOOR", env!("CARGO_BIN_EXE_floor"))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

fn bench(ours: &TempDir, other: &TempDir, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--floor", env!("CARGO_BIN_EXE_floor"), "--runs", "3", "--ours"])
        .arg(ours.path())
        .arg("--other")
        .arg(other.path())
        .args(more)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Whether the person has said that this machine has no namespaces to spare.
fn skipped(test: &str) -> bool {
    let skip = std::env::var_os("CNI_SKIP_KERNEL_TESTS").is_some_and(|value| value == "1");
    if skip {
        eprintln!("skipped: {test} (CNI_SKIP_KERNEL_TESTS=1)");
    }
    skip
}

/// The cells of the row about `case` in the table under the heading `title`.
fn row(tables: &str, title: &str, case: &str) -> Vec<String> {
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let heading = format!("### {title}");
    let mut below = tables.lines().skip_while(|line| *line != heading).map(cells);
    let found = below.find(|cells| cells.get(1).is_some_and(|cell| cell == case));
    found.unwrap_or_else(|| panic!("no row for {case} under {title} in:\n{tables}"))
}

const TIMED: [&str; 5] = ["bridge", "masquerade-del", "host-local-10", "burst", "gc"];

#[test]
fn every_call_is_measured_and_written_down() {
    if skipped("every_call_is_measured_and_written_down") {
        return;
    }
    let (ours, other) = (plugins(PLUGIN), plugins(PLUGIN));
    let document = ours.path().join("benchmarks.md");
    let mut more = vec!["--write", document.to_str().unwrap(), "version", "loopback"];
    more.extend(TIMED);
    let output = bench(&ours, &other, &more);
    assert!(output.status.success(), "{}", text(&output.stderr));

    let tables = text(&output.stdout);
    let loopback = ["version", "loopback-add", "loopback-check", "loopback-del"];
    let address = ["host-local-10-add", "host-local-10-check", "host-local-10-del"];
    let bridge = ["bridge-add", "bridge-check", "bridge-del", "masquerade-del"];
    for case in [&loopback[..], &address, &bridge, &["burst-add", "gc-100"]].concat() {
        for title in ["Time", "CPU time"] {
            let cells = row(tables, title, case);
            assert!(
                cells[2..5].iter().all(|cell| cell.starts_with(|c: char| c.is_ascii_digit())),
                "{cells:?}"
            );
        }
    }
    for case in [&loopback[..], &address, &bridge].concat() {
        // The script starts `cat`, and the floor to do the work.
        let started = if case == "version" { "2" } else { "3" };
        let cells = row(tables, "Memory", case);
        assert_eq!(cells[8..12], [started, started, "0", "0"].map(str::to_owned), "{case}");
    }
    assert_eq!(row(tables, "Each of those at once", "burst-add")[2], "each, median");

    let document = fs::read_to_string(document).unwrap();
    let rows: Vec<_> = tables.lines().filter(|line| line.starts_with('|')).collect();
    assert!(rows.iter().all(|row| document.contains(row)), "{document}");
    assert!(document.contains("--runs 3 --ours"), "{document}");
}

/// With the floor in the place of the runtime, for both speak alike but for the names of the jobs.
#[test]
fn a_program_that_stays_is_told_what_to_do() {
    if skipped("a_program_that_stays_is_told_what_to_do") {
        return;
    }
    let (ours, other) = (plugins(PLUGIN), plugins(PLUGIN));
    let runtime = ours.path().join("runtime");
    let script = r#"#!/bin/sh
set -eu
case $1 in '{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge",'*'}]}') ;; *) exit 64 ;; esac
while read -r command id netns; do
    case $command in ADD) job=attach ;; CHECK) job=look ;; DEL) job=detach ;; esac
    CNI_CONTAINERID=$id CNI_NETNS=$netns @FLOOR $job
    echo done 1000000 2000000
done
"#;
    fs::write(&runtime, script.replace("@FLOOR", env!("CARGO_BIN_EXE_floor"))).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    let output = bench(&ours, &other, &["--runtime", runtime.to_str().unwrap(), "embedded"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for case in ["embedded-add", "embedded-check", "embedded-del"] {
        assert_eq!(row(text(&output.stdout), "Time", case)[3], "1000 µs (1000–1000)");
        assert_eq!(row(text(&output.stdout), "CPU time", case)[3], "2000 µs");
    }
}

#[test]
fn a_plugin_that_has_not_done_what_it_says_is_found_out() {
    if skipped("a_plugin_that_has_not_done_what_it_says_is_found_out") {
        return;
    }
    let (good, idle) = (plugins(PLUGIN), plugins(PLUGIN));
    let reply = r#"{"cniVersion":"1.0.0","dns":{}}"#;
    fs::write(idle.path().join("bridge"), format!("#!/bin/sh\necho '{reply}'\n")).unwrap();
    for (case, complaint) in [("bridge-add", "no interface that is up"), ("burst", "no interface that is up")]
    {
        let output = bench(&idle, &good, &[case]);
        assert_eq!(output.status.code(), Some(3), "{case}");
        assert!(text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
    }
}

#[test]
fn peak_memory_is_the_plugins_own() {
    if skipped("peak_memory_is_the_plugins_own") {
        return;
    }
    let hungry =
        "#!/bin/sh\n/usr/bin/head -c 33554432 /dev/zero | /usr/bin/tail -c 33554432 >/dev/null\necho {}\n";
    let output = bench(&plugins(hungry), &plugins(PLUGIN), &["version"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let memory = row(text(&output.stdout), "Memory", "version");
    let mebibytes = memory[3].strip_suffix(" MiB").and_then(|number| number.parse::<f64>().ok());
    assert!(mebibytes.is_some_and(|peak| (32.0..64.0).contains(&peak)), "{memory:?}");
    assert!(memory[7].ends_with("KiB") || memory[7].starts_with(['1', '2', '3', '4']), "{memory:?}");
}

#[test]
fn a_missed_target_fails_only_if_asked_for() {
    if skipped("a_missed_target_fails_only_if_asked_for") {
        return;
    }
    let slow = plugins("#!/bin/sh\n/bin/sleep 0.03\necho {}\n");
    let output = bench(&slow, &slow, &["version"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("missed"), "{}", text(&output.stdout));
    assert_eq!(bench(&slow, &slow, &["version", "--check"]).status.code(), Some(1));
}

#[test]
fn a_plugin_that_fails_is_not_measured() {
    if skipped("a_plugin_that_fails_is_not_measured") {
        return;
    }
    let good = plugins(PLUGIN);
    for (script, complaint) in [
        ("#!/bin/sh\necho '{\"code\": 7}'\nexit 1\n", "\"code\": 7"),
        ("#!/bin/sh\necho '{}'\n", "lo is not up"),
        ("#!/bin/sh\n@FLOOR loopback-up\n", "no JSON object"),
    ] {
        let output = bench(&plugins(script), &good, &["loopback-add"]);
        assert_eq!(output.status.code(), Some(3));
        assert!(text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
    }
}

#[test]
fn a_document_outlives_a_run_that_fails() {
    if skipped("a_document_outlives_a_run_that_fails") {
        return;
    }
    let bad = plugins("#!/bin/sh\nexit 1\n");
    let document = bad.path().join("benchmarks.md");
    fs::write(&document, "what was known before").unwrap();
    let output = bench(&bad, &bad, &["--write", document.to_str().unwrap(), "loopback"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(fs::read_to_string(document).unwrap(), "what was known before");
}

#[test]
fn wrong_usage_is_a_sentence_and_status_2() {
    let nothing = tempfile::tempdir().unwrap();
    for (more, word) in
        [(&["--runs", "none"][..], "no number"), (&["loopback-ad"], "no case"), (&["--fast"], "--fast")]
    {
        let output = bench(&nothing, &nothing, more);
        assert_eq!(output.status.code(), Some(2));
        let complaint = text(&output.stderr);
        assert!(complaint.contains(word) && complaint.contains("--help"), "{complaint}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_directory_without_the_plugin_is_named() {
    let nothing = tempfile::tempdir().unwrap();
    let output = bench(&nothing, &nothing, &["loopback"]);
    assert_eq!(output.status.code(), Some(3));
    let missing = nothing.path().join("loopback");
    assert!(text(&output.stderr).contains(missing.to_str().unwrap()), "{}", text(&output.stderr));
}

#[test]
fn help_goes_to_standard_output() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).arg("--help").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(text(&output.stdout).contains("--ours DIR"));
}

#[test]
fn the_floor_refuses_a_job_that_it_does_not_know() {
    for job in [&["fly"][..], &[], &["loopback-up"]] {
        let output =
            Command::new(Path::new(env!("CARGO_BIN_EXE_floor"))).env_clear().args(job).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{job:?}");
    }
}
