//! Plays the suite against Ferrocni's own binary and, where they are installed, against the Go plugins; and tests the
//! program itself, with plugins that are wrong in ways which it has to notice.
//!
//! The Go plugins are looked for in `$CNI_REFERENCE_DIR`, or `/usr/lib/cni`. With `CNI_SKIP_KERNEL_TESTS=1` everything
//! that needs namespaces counts as skipped, for machines that forbid them.
#![allow(clippy::print_stdout, reason = "a test program reports to whoever runs it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use serde_json::Value;

/// What a test returns: cases passed, cases skipped, and what failed.
type Tested = Result<Counts, String>;

#[derive(Default, Clone, Copy)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

const ONE: Counts = Counts { passed: 1, failed: 0, skipped: 0 };

const SKIPPED: Tested = Ok(Counts { passed: 0, failed: 0, skipped: 1 });

/// Name, whether it needs namespaces, and what it does.
type Test = (&'static str, bool, fn(&Setup) -> Tested);

const TESTS: &[Test] = &[
    ("ferrocni conforms", true, ferrocni_conforms),
    ("the reference is as the cases say", true, the_reference_is_as_described),
    ("no difference is left out", true, no_difference_is_left_out),
    ("ferrocni delegates to another process", true, ferrocni_delegates_to_a_process),
    ("ferrocni delegates to the reference", true, ferrocni_delegates_to_the_reference),
    ("the reference delegates to ferrocni", true, the_reference_delegates_to_ferrocni),
    ("bad usage is told apart from failure", false, bad_usage),
    ("cases can be listed and picked", false, listing),
    ("a plugin that says nothing is noticed", true, silent_plugin),
    ("a second document is noticed", true, two_documents),
    ("an error without cniVersion is noticed", true, error_without_version),
    ("a crash is noticed", true, crash),
    ("a plugin that hangs is noticed", true, hang),
    ("a change on the host is noticed", true, change_on_host),
    ("a change that is missing is noticed", true, missing_change),
    ("a result that does not tell the truth is noticed", true, lie),
    ("a file that is missing is noticed", true, missing_file),
    ("a packet that is lost is noticed", true, lost_packet),
    ("a difference that is not written down is noticed", true, undocumented_difference),
    ("reports for machines can be read", true, machine_reports),
];

struct Setup {
    /// A folder with Ferrocni under the names of its plugins.
    ours: PathBuf,
    /// The same, of copies: no plugin takes another for itself.
    copies: PathBuf,
    /// A place for whatever a test writes.
    scratch: tempfile::TempDir,
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let without_kernel = std::env::var_os("CNI_SKIP_KERNEL_TESTS").is_some_and(|value| value == "1");
    let setup = setup();
    let mut total = Counts::default();
    for (name, needs_kernel, test) in TESTS {
        if !wanted.is_empty() && !wanted.iter().any(|text| name.contains(text.as_str())) {
            continue;
        }
        let tested = match &setup {
            Ok(_) if *needs_kernel && without_kernel => {
                println!("- {name}: skipped, CNI_SKIP_KERNEL_TESTS=1");
                Ok(Counts { skipped: 1, ..Counts::default() })
            }
            Ok(setup) => test(setup),
            Err(problem) => Err(problem.clone()),
        };
        let counts = tested.unwrap_or_else(|problem| {
            println!("{problem}");
            Counts { failed: 1, ..Counts::default() }
        });
        let mark = if counts.failed > 0 { "✗" } else { "✓" };
        println!(
            "{mark} {name}: {} passed, {} failed, {} skipped",
            counts.passed, counts.failed, counts.skipped
        );
        total.passed += counts.passed;
        total.failed += counts.failed;
        total.skipped += counts.skipped;
    }
    println!("{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ferrocni_conforms(setup: &Setup) -> Tested {
    suite(&[&setup.ours.to_string_lossy()])
}

fn the_reference_is_as_described(_: &Setup) -> Tested {
    let Some(dir) = reference_with("loopback") else { return SKIPPED };
    suite(&[&dir, "--reference"])
}

/// A plugin that finds itself calls itself; one that finds another executable starts it. Both must do the same.
fn ferrocni_delegates_to_a_process(setup: &Setup) -> Tested {
    suite(&[&setup.ours.to_string_lossy(), "--delegates", &setup.copies.to_string_lossy()])
}

fn ferrocni_delegates_to_the_reference(setup: &Setup) -> Tested {
    let Some(dir) = reference_with("host-local") else { return SKIPPED };
    suite(&[&setup.ours.to_string_lossy(), "--delegates", &dir, "--delegates-reference"])
}

fn the_reference_delegates_to_ferrocni(setup: &Setup) -> Tested {
    let Some(dir) = reference_with("bridge") else { return SKIPPED };
    suite(&[&dir, "--reference", "--delegates", &setup.ours.to_string_lossy()])
}

fn no_difference_is_left_out(setup: &Setup) -> Tested {
    let Some(dir) = reference_with("loopback") else { return SKIPPED };
    let ran = conformance(&[&setup.ours.to_string_lossy(), "--against", &dir])?;
    let shown = text(&ran.stdout);
    let left_out = shown.matches("a difference that is not written down").count();
    if left_out == 0 && shown.lines().last().and_then(counts).is_some() {
        return Ok(ONE);
    }
    Err(format!("{left_out} differences are not written down:\n{shown}{}", text(&ran.stderr)))
}

fn bad_usage(setup: &Setup) -> Tested {
    let empty = setup.scratch.path().join("empty");
    fs::create_dir_all(&empty).map_err(|err| err.to_string())?;
    let empty = empty.to_string_lossy().into_owned();
    for arguments in
        [&[][..], &["/nowhere"], &["/etc/passwd"], &[&empty], &["/", "--nonsense"], &["/", "--format", "x"]]
    {
        let ran = conformance(arguments)?;
        if ran.status.code() != Some(2) || ran.stderr.is_empty() {
            return Err(format!("{arguments:?}: {}, {}", ran.status, text(&ran.stderr)));
        }
    }
    Ok(ONE)
}

fn listing(_: &Setup) -> Tested {
    let all = conformance(&["--list"])?;
    let some = conformance(&["--list", "--filter", "loopback/parallel"])?;
    let lines = |ran: &Output| text(&ran.stdout).lines().count();
    if lines(&all) < 500 || lines(&some) != 3 {
        return Err(format!("{} cases listed, {} picked", lines(&all), lines(&some)));
    }
    Ok(ONE)
}

fn silent_plugin(setup: &Setup) -> Tested {
    let dir = plugin(setup, "silent", "exit 0")?;
    must_fail(&dir, "protocol/verbs: VERSION, byte", "exactly")?;
    must_fail(&dir, "protocol/environment: ADD without CNI_NETNS", "exit status 1")
}

fn two_documents(setup: &Setup) -> Tested {
    let dir = wrapper(setup, "two", "printf '{}'")?;
    must_fail(&dir, "protocol/verbs: VERSION, byte", "one JSON document or nothing")
}

fn error_without_version(setup: &Setup) -> Tested {
    let dir = plugin(setup, "old", r#"printf '{"code":4,"msg":"unknown CNI_COMMAND: NOPE"}'; exit 1"#)?;
    must_fail(&dir, "an unknown verb: NOPE", "error.cniVersion")
}

fn crash(setup: &Setup) -> Tested {
    let dir = plugin(setup, "crash", "kill -SEGV $$")?;
    must_fail(&dir, "100000 levels are read or refused", "killed by signal 11")
}

fn hang(setup: &Setup) -> Tested {
    let dir = plugin(setup, "hang", "exec sleep 600")?;
    must_fail(&dir, "protocol/verbs: VERSION, byte", "it does not end, and was killed")
}

fn change_on_host(setup: &Setup) -> Tested {
    let dir = wrapper(setup, "host", "/sbin/ip link set lo up || exit 1")?;
    must_fail(&dir, "loopback/life: DEL of what was never added", "the host")
}

fn missing_change(setup: &Setup) -> Tested {
    let dir = plugin(setup, "lazy", "exit 0")?;
    must_fail(&dir, "loopback/life: DEL in 1.0.0", "- link lo: plain [up] *")
}

fn lie(setup: &Setup) -> Tested {
    let dir = script(setup, "lie", "bridge", &format!("printf '{BRIDGE_RESULT}'"))?;
    script(setup, "lie", "host-local", "exit 0")?;
    must_fail(&dir, "bridge/add: a container on a bridge that is made for it", "after what the result tells")
}

fn missing_file(setup: &Setup) -> Tested {
    let result = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.2/24","gateway":"10.1.2.1"}]}"#;
    let dir = script(setup, "no-file", "host-local", &format!("printf '{result}'"))?;
    must_fail(&dir, "host-local/add: the first address of a subnet, in 1.0.0", "${dir}/networks/conformance")
}

fn lost_packet(setup: &Setup) -> Tested {
    let dir = script(setup, "lie", "bridge", &format!("printf '{BRIDGE_RESULT}'"))?;
    must_fail(&dir, "bridge/add: isGateway: the bridge has", "it arrives, from 10.1.2.2")
}

/// What bridge says after it has done its work.
const BRIDGE_RESULT: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01"},{"name":"veth1","mac":"02:00:00:00:00:02"},{"name":"eth0","mac":"02:00:00:00:00:03","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.1.2.2/24","gateway":"10.1.2.1","interface":2}]}"#;

fn undocumented_difference(setup: &Setup) -> Tested {
    let document = setup.scratch.path().join("differences.md");
    let table = "| id | the reference | Ferrocni | why | proved by |\n|---|---|---|---|---|\n\
                 | nobody-names-it | a | b | c | conformance |\n";
    fs::write(&document, table).map_err(|err| err.to_string())?;
    let (ours, document) = (setup.ours.to_string_lossy(), document.to_string_lossy());
    let ran = conformance(&[&ours, "--filter", "VERSION, byte", "--differences", &document])?;
    let shown = text(&ran.stdout);
    let told =
        ["nobody-names-it", "older-reference, which is not written down"].map(|words| shown.contains(words));
    if ran.status.code() == Some(1) && told == [true, true] { Ok(ONE) } else { Err(shown) }
}

fn machine_reports(setup: &Setup) -> Tested {
    let dir = plugin(setup, "silent", "exit 0")?;
    let file = setup.scratch.path().join("report");
    let report = |format: &str| -> Result<String, String> {
        let output = file.to_string_lossy().into_owned();
        conformance(&[&dir, "--filter", "protocol/verbs", "--format", format, "--output", &output])?;
        fs::read_to_string(&file).map_err(|err| err.to_string())
    };
    let json: Value = serde_json::from_str(&report("json")?).map_err(|err| err.to_string())?;
    let cases = json["cases"].as_array().map_or(0, Vec::len);
    let failed = json["counts"]["failed"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let junit = report("junit")?;
    let elements = |name: &str| junit.matches(&format!("<{name} ")).count();
    if cases == 0 || failed == 0 || elements("testcase") != cases || elements("failure") != failed {
        return Err(format!("{cases} cases and {failed} failures in JSON, and in JUnit: {junit}"));
    }
    Ok(ONE)
}

/// Runs the whole suite; everything that is not a success is shown.
fn suite(arguments: &[&str]) -> Tested {
    let ran = conformance(arguments)?;
    let shown = text(&ran.stdout);
    let counts = shown.lines().last().and_then(counts).ok_or(format!("{shown}{}", text(&ran.stderr)))?;
    let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with("  ✓ ")).collect();
    // A group without anything to tell is its title and an empty line.
    let groups = lines.split(|line| line.is_empty()).filter(|group| group.len() > 1);
    groups.flatten().for_each(|line| println!("{line}"));
    Ok(counts)
}

fn counts(line: &str) -> Option<Counts> {
    let number = |word: &str| line.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse().ok());
    Some(Counts { passed: number("passed")?, failed: number("failed")?, skipped: number("skipped")? })
}

/// The cases picked must fail, and say why in these words.
fn must_fail(dir: &str, filter: &str, words: &str) -> Tested {
    let ran = conformance(&[dir, "--filter", filter])?;
    let shown = text(&ran.stdout);
    if ran.status.code() == Some(1) && shown.contains(words) && shown.contains("to reproduce, as root:") {
        return Ok(ONE);
    }
    Err(format!(
        "expected a failure with the words {words:?}, got {}\n{shown}{}",
        ran.status,
        text(&ran.stderr)
    ))
}

fn conformance(arguments: &[&str]) -> Result<Output, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(arguments).output().map_err(|err| err.to_string())
}

/// A folder in which loopback is this script.
fn plugin(setup: &Setup, name: &str, lines: &str) -> Result<String, String> {
    script(setup, name, "loopback", lines)
}

/// A folder in which this plugin is this script.
fn script(setup: &Setup, name: &str, plugin: &str, script: &str) -> Result<String, String> {
    let dir = setup.scratch.path().join(name);
    let path = dir.join(plugin);
    let made = fs::create_dir_all(&dir)
        .and_then(|()| fs::write(&path, format!("#!/bin/sh\n{script}\n")))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
    made.map(|()| dir.to_string_lossy().into_owned()).map_err(|err| err.to_string())
}

/// A folder in which loopback is Ferrocni's, after this command.
fn wrapper(setup: &Setup, name: &str, command: &str) -> Result<String, String> {
    plugin(setup, name, &format!("{command}; exec {}/loopback", setup.ours.display()))
}

/// Builds Ferrocni as this program was built, and gives it its plugins' names.
fn setup() -> Result<Setup, String> {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "ferrocni", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let built = build.output().map_err(|err| format!("cannot run cargo: {err}"))?;
    if !built.status.success() {
        return Err(format!("cannot build ferrocni: {}", text(&built.stderr)));
    }
    let messages = text(&built.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?;
        (message["target"]["name"] == "ferrocni").then(|| PathBuf::from(path))
    });
    let ferrocni = executables.next_back().ok_or("cargo built no executable called ferrocni")?;
    let scratch = tempfile::tempdir().map_err(|err| err.to_string())?;
    // Not in the scratch folder: who reproduces a failure needs it when the test is over.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let install = |name: &str| -> Result<PathBuf, String> {
        let dir = folder.join(name);
        fs::create_dir_all(&dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))?;
        let ran = Command::new(&ferrocni).arg("install").arg(&dir).output();
        let ran = ran.map_err(|err| format!("cannot run {}: {err}", ferrocni.display()))?;
        if ran.status.success() { Ok(dir) } else { Err(text(&ran.stderr)) }
    };
    Ok(Setup { ours: install("plugins")?, copies: install("copies")?, scratch })
}

/// The folder of the Go plugins, if this one is in it.
fn reference_with(plugin: &str) -> Option<String> {
    let dir = std::env::var_os("CNI_REFERENCE_DIR").map_or_else(|| "/usr/lib/cni".into(), PathBuf::from);
    if dir.join(plugin).is_file() {
        return Some(dir.to_string_lossy().into_owned());
    }
    println!("- skipped: no {plugin} of Go's in {} (CNI_REFERENCE_DIR names another folder)", dir.display());
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
