//! What only a process can do: plugins that read nothing, print too much, do not end, leave others behind, and die
//! without a word. They are shell scripts.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cni_spec::{Code, Error};
use libcni::{BUSY_GRACE, Invocation, Invoke, MAX_STDERR, MAX_STDOUT, OUTPUT_GRACE, Process, Reply};
use tempfile::TempDir;

pub(crate) const ALL: &[(&str, fn())] = &[
    ("the_first_regular_file_is_run", the_first_regular_file_is_run),
    ("what_is_no_plugin_is_not_offered", what_is_no_plugin_is_not_offered),
    ("what_cannot_be_executed_is_said", what_cannot_be_executed_is_said),
    ("ten_megabytes_in_and_out_block_nobody", ten_megabytes_in_and_out_block_nobody),
    ("all_of_a_large_configuration_arrives", all_of_a_large_configuration_arrives),
    ("too_much_output_is_an_error", too_much_output_is_an_error),
    ("too_much_log_is_cut", too_much_log_is_cut),
    ("logs_are_forwarded_or_quoted", logs_are_forwarded_or_quoted),
    ("failures_without_a_word_have_texts", failures_without_a_word_have_texts),
    ("an_error_object_keeps_its_code", an_error_object_keeps_its_code),
    ("an_answer_that_is_none_is_told", an_answer_that_is_none_is_told),
    ("the_deadline_ends_the_whole_group", the_deadline_ends_the_whole_group),
    ("the_deadline_is_not_for_the_quick", the_deadline_is_not_for_the_quick),
    ("without_deadline_the_group_is_ours", without_deadline_the_group_is_ours),
    ("a_daemon_left_behind_keeps_nobody_waiting", a_daemon_left_behind_keeps_nobody_waiting),
    ("a_wrappers_child_may_answer", a_wrappers_child_may_answer),
    ("streams_that_are_closed_are_not_the_end", streams_that_are_closed_are_not_the_end),
    ("a_busy_file_is_waited_for", a_busy_file_is_waited_for),
    ("a_file_that_stays_busy_is_no_success", a_file_that_stays_busy_is_no_success),
    ("many_at_a_time", many_at_a_time),
];

const RESULT: &str = r#"{"cniVersion":"1.0.0"}"#;

/// A folder with scripts.
struct Bin(TempDir);

impl Bin {
    fn new(script: &str) -> Self {
        let bin = Bin(tempfile::tempdir().unwrap());
        bin.script("plugin", script);
        bin
    }

    fn script(&self, name: &str, script: &str) {
        let path = self.file(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn process(&self) -> Process {
        Process::search([self.0.path().to_str().unwrap()]).stderr(std::io::sink())
    }

    fn run(&self, command: &str) -> Result<Reply, Error> {
        self.process().invoke("plugin", &call(command))
    }
}

/// The shortest of some attempts: the machine may be busy with other things.
fn fastest(attempt: impl Fn()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        attempt();
        start.elapsed()
    };
    (0..5).map(time).min().unwrap()
}

fn call(command: &str) -> Invocation {
    let config = br#"{"cniVersion":"1.0.0","name":"n"}"#.to_vec();
    Invocation { command: command.into(), config, ..Invocation::default() }
}

/// Collects what it is given.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn the_first_regular_file_is_run() {
    let (first, second) = (Bin::new("exit 3"), Bin::new("exit 4"));
    fs::create_dir(first.file("x")).unwrap();
    second.script("x", "exit 5");
    symlink("nowhere", first.file("y")).unwrap();
    symlink("x", second.file("y")).unwrap();
    let dirs = [first.0.path(), second.0.path()].map(|d| d.to_str().unwrap().to_owned());
    let process = Process::search(dirs.clone());
    assert_eq!(process.path(), dirs.join(":"));
    for (plugin, status) in [("plugin", 3), ("x", 5), ("y", 5)] {
        let error = process.invoke(plugin, &call("DEL")).unwrap_err();
        assert_eq!(error.msg, format!("netplugin failed with no error message: exit status {status}"));
    }
    assert_eq!(process.locate("x").unwrap(), second.file("x"));
    let error = process.find("plugim").unwrap_err();
    assert_eq!(error.msg, format!("failed to find plugin \"plugim\" in path [{}]", dirs.join(" ")));
    assert!(error.details.contains("has plugin, x, y"), "{error}");
    assert!(error.details.ends_with("did you mean \"plugin\"?"), "{error}");
    for bad in ["../plugin", "/bin/sh", ""] {
        assert!(process.invoke(bad, &call("DEL")).is_err(), "{bad}");
    }
}

fn what_is_no_plugin_is_not_offered() {
    let bin = Bin::new("exit 0");
    symlink("nowhere", bin.file("dangling")).unwrap();
    symlink("loop", bin.file("loop")).unwrap();
    symlink("/dev/null", bin.file("device")).unwrap();
    fs::create_dir(bin.file("folder")).unwrap();
    fs::write(bin.file("README"), "").unwrap();
    let dir = bin.0.path().display();
    for (name, what) in [
        ("dangling", "a dangling link"),
        ("loop", "a link that cannot be followed: too many levels of symbolic links"),
        ("device", "no regular file"),
        ("folder", "a directory"),
    ] {
        let details = bin.process().locate(name).unwrap_err().details;
        assert_eq!(details, format!("{dir}/{name} is {what}; {dir} has plugin"));
    }
    fs::remove_file(bin.file("plugin")).unwrap();
    let details = bin.process().locate("folders").unwrap_err().details;
    assert_eq!(details, format!("{dir} has no plugins"));
}

fn what_cannot_be_executed_is_said() {
    let bin = Bin::new("exit 0");
    fs::set_permissions(bin.file("plugin"), fs::Permissions::from_mode(0o644)).unwrap();
    let error = bin.run("DEL").unwrap_err();
    let path = bin.file("plugin");
    assert_eq!(error.msg, format!("plugin \"plugin\" is not executable: {} has mode 0644", path.display()));
    assert_eq!(bin.process().find("plugin").unwrap_err(), error);

    fs::write(&path, "\x7fELF but not really").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let error = bin.run("DEL").unwrap_err();
    let said = format!("netplugin failed with no error message: {}: exec format error", path.display());
    assert_eq!((error.code, error.msg), (Code::UNKNOWN, said));
}

fn ten_megabytes_in_and_out_block_nobody() {
    let bin = Bin::new(&format!("head -c 10000000 /dev/zero | tr '\\0' ' '; echo '{RESULT}'"));
    let invocation = Invocation { config: vec![b' '; 10_000_000], ..call("ADD") };
    for _ in 0..3 {
        let reply = bin.process().invoke("plugin", &invocation).unwrap();
        assert_eq!(reply.added().unwrap().document.get(), RESULT);
    }
    // Both at once, and reading late.
    bin.script("plugin", "head -c 10000000 /dev/zero | tr '\\0' ' '; cat");
    let mut config = vec![b' '; 5_000_000];
    config.extend_from_slice(RESULT.as_bytes());
    let reply = bin.process().invoke("plugin", &Invocation { config, ..call("ADD") }).unwrap();
    assert_eq!(reply.added().unwrap().document.get(), RESULT);
}

fn all_of_a_large_configuration_arrives() {
    let bin = Bin::new("printf '{\"code\":100,\"msg\":\"%s\"}' \"$(cksum)\"; exit 1");
    let config: Vec<u8> = (0..10_000_000u32).map(|i| (i * 7 % 251) as u8).collect();
    fs::write(bin.file("config"), &config).unwrap();
    let file = fs::File::open(bin.file("config")).unwrap();
    let expected = std::process::Command::new("cksum").stdin(file).output().unwrap().stdout;
    let expected = String::from_utf8(expected).unwrap().trim().to_owned();
    let error = bin.process().invoke("plugin", &Invocation { config, ..call("DEL") }).unwrap_err();
    assert_eq!(error.msg, expected);
}

fn too_much_output_is_an_error() {
    let bin = Bin::new(&format!("head -c {} /dev/zero; sleep 60", MAX_STDOUT + 1));
    let start = Instant::now();
    let error = bin.run("ADD").unwrap_err();
    assert_eq!(error.msg, format!("netplugin printed more than {MAX_STDOUT} bytes: signal: killed"));
    assert!(start.elapsed() < Duration::from_secs(30));
    bin.script(
        "plugin",
        &format!("head -c {} /dev/zero | tr '\\0' ' '; printf '{RESULT}'", MAX_STDOUT - RESULT.len()),
    );
    bin.run("ADD").unwrap();
}

fn too_much_log_is_cut() {
    let log = Log::default();
    let bin = Bin::new("head -c 3000000 /dev/zero | tr '\\0' x >&2");
    bin.process().stderr(log.clone()).invoke("plugin", &call("DEL")).unwrap();
    assert_eq!(log.text().len(), MAX_STDERR);
    bin.script("plugin", "head -c 3000000 /dev/zero | tr '\\0' x >&2; exit 1");
    let error = bin.run("DEL").unwrap_err();
    assert!(error.msg.len() < 5000, "{}", error.msg.len());
    assert!(error.msg.starts_with("netplugin failed: …\"xxx"), "{}", error.msg);
}

fn logs_are_forwarded_or_quoted() {
    let log = Log::default();
    let bin = Bin::new("echo one >&2");
    let process = bin.process().stderr(log.clone());
    process.invoke("plugin", &call("DEL")).unwrap();
    bin.script("plugin", "echo two >&2; echo '{\"code\":7,\"msg\":\"m\"}'; exit 1");
    process.invoke("plugin", &call("DEL")).unwrap_err();
    assert_eq!(log.text(), "one\ntwo\n");
    bin.script("plugin", "echo three >&2; exit 1");
    let error = process.invoke("plugin", &call("DEL")).unwrap_err();
    assert_eq!(error.to_string(), "netplugin failed: \"three\": exit status 1");
    assert_eq!(log.text(), "one\ntwo\n", "what is quoted is not told twice");
}

fn failures_without_a_word_have_texts() {
    for (script, text) in [
        ("exit 1", "netplugin failed with no error message: exit status 1"),
        ("echo oops >&2; exit 2", "netplugin failed: \"oops\": exit status 2"),
        ("kill -SEGV $$", "netplugin failed with no error message: signal: segmentation fault"),
        ("echo oops >&2; kill -KILL $$", "netplugin failed: \"oops\": signal: killed"),
    ] {
        let error = Bin::new(script).run("ADD").unwrap_err();
        assert_eq!((error.code, error.msg.trim_end_matches(" (core dumped)")), (Code::UNKNOWN, text));
    }
    let error = Bin::new("echo 'panic: oh no'; echo more >&2; exit 2").run("ADD").unwrap_err();
    let text = "netplugin failed but error parsing its diagnostic message \"panic: oh no\": ";
    assert!(error.msg.starts_with(text) && error.msg.ends_with(": exit status 2"), "{error}");
    assert_eq!(error.details, "standard error: \"more\"");
}

fn an_error_object_keeps_its_code() {
    let object = r#"{"cniVersion":"1.1.0","code":51,"msg":"m","details":"d"}"#;
    for script in [format!("echo '{object}'; exit 1"), format!("echo '{RESULT}'; echo '{object}'; exit 1")] {
        let error = Bin::new(&script).run("STATUS").unwrap_err();
        assert_eq!(error, Error::new(Code::LIMITED_CONNECTIVITY, "m").with_details("d"));
    }
}

fn an_answer_that_is_none_is_told() {
    let told = |script: &str| Bin::new(script).run("ADD").unwrap_err();
    let empty = told("exit 0");
    assert!(empty.msg.starts_with("failed to unmarshal raw result: unexpected end of JSON input"), "{empty}");
    let polluted = told(&format!("echo 'some log'; echo '{RESULT}'"));
    assert!(polluted.msg.starts_with("failed to unmarshal raw result: "), "{polluted}");
    assert!(
        polluted.details.starts_with("standard output is for the result alone, it was \"some log\\n{"),
        "{polluted}"
    );
    assert!(told(&format!("echo '{RESULT}{RESULT}'")).msg.starts_with("failed to unmarshal raw result: "));
    let unknown = told("echo '{\"cniVersion\":\"9.9.9\"}'");
    assert_eq!(
        (unknown.code, unknown.msg.as_str()),
        (Code::UNKNOWN, "unsupported CNI result version \"9.9.9\"")
    );
    let error = r#"echo '{"code":7,"msg":"no luck","details":"at all"}'"#;
    let error_with_exit_0 = told(error);
    assert_eq!((error_with_exit_0.code, error_with_exit_0.to_string()), (Code(7), "no luck; at all".into()));
    // Nobody asked for an answer to DEL.
    Bin::new("echo 'some log'").run("DEL").unwrap();
    Bin::new(error).run("DEL").unwrap();
}

/// Whether the process has ended: it is gone, or waits for a parent that does not ask.
fn has_ended(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    status.is_empty() || status.contains(") Z ")
}

fn the_deadline_ends_the_whole_group() {
    let bin = Bin::new("sleep 60 & echo $! > $0.pid; echo 'waiting for godot' >&2; cat > /dev/null; wait");
    let start = Instant::now();
    let process = bin.process().deadline(Duration::from_secs(2));
    let error = process.invoke("plugin", &call("ADD")).unwrap_err();
    assert!(start.elapsed() >= Duration::from_secs(2) && start.elapsed() < Duration::from_secs(30));
    assert_eq!(
        (error.code, error.msg.as_str()),
        (Code::UNKNOWN, "netplugin timed out after 2s: signal: killed")
    );
    assert_eq!(
        error.details,
        "it had been sent 33 of 33 bytes of configuration, and had printed 0 bytes; \
         standard error: \"waiting for godot\""
    );
    let pid = fs::read_to_string(bin.file("plugin.pid")).unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while !has_ended(&pid) && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(has_ended(&pid), "the plugin's child {pid} is still there");
}

fn the_deadline_is_not_for_the_quick() {
    let bin = Bin::new(&format!("echo '{RESULT}'"));
    for time in [Duration::from_secs(60), Duration::MAX] {
        bin.process().deadline(time).invoke("plugin", &call("ADD")).unwrap();
    }
    // One that has ended has ended in time, even if a child of it still holds its output when the time is over.
    bin.script("plugin", &format!("sleep 20 & echo '{RESULT}'"));
    let process = bin.process().deadline(OUTPUT_GRACE / 2);
    assert!((0..5).any(|_| process.invoke("plugin", &call("ADD")).is_ok()));
}

fn without_deadline_the_group_is_ours() {
    // The fifth field of stat is the group (proc_pid_stat(5)); the shell's own name has no blank.
    let bin = Bin::new("echo $(cut -d' ' -f5 /proc/$$/stat) $$ >&2; exit 1");
    let group = |process: Process| {
        let error = process.invoke("plugin", &call("DEL")).unwrap_err();
        let numbers: Vec<String> = error.msg.split('"').nth(1).unwrap().split(' ').map(Into::into).collect();
        numbers[0] == numbers[1]
    };
    assert!(!group(bin.process()));
    assert!(group(bin.process().deadline(Duration::from_secs(60))));
}

fn a_daemon_left_behind_keeps_nobody_waiting() {
    let log = Log::default();
    let bin = Bin::new(&format!("sleep 20 > /dev/null & echo log >&2; echo '{RESULT}'"));
    let process = bin.process().stderr(log.clone());
    let run = || drop(process.invoke("plugin", &call("ADD")).unwrap());
    assert!(fastest(run) < OUTPUT_GRACE, "the answer was complete");
    assert_eq!(log.text(), "log\n".repeat(5));

    bin.script("plugin", &format!("sleep 20 & echo log >&2; echo '{RESULT}'"));
    let start = Instant::now();
    run();
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(log.text(), "log\n".repeat(6));
}

fn a_wrappers_child_may_answer() {
    let bin = Bin::new(&format!("(sleep 0.3; echo '{RESULT}') & exit 0"));
    bin.run("ADD").unwrap();
}

fn streams_that_are_closed_are_not_the_end() {
    let bin = Bin::new("exec 0<&- 1>&- 2>&-; sleep 0.3; exit 3");
    let invocation = Invocation { config: vec![b' '; 1_000_000], ..call("DEL") };
    let error = bin.process().invoke("plugin", &invocation).unwrap_err();
    assert_eq!(error.msg, "netplugin failed with no error message: exit status 3");
}

fn a_busy_file_is_waited_for() {
    let bin = Bin::new("exit 0");
    let writer = OpenOptions::new().append(true).open(bin.file("plugin")).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            drop(writer);
        });
        bin.run("DEL").unwrap();
    });
    assert!(start.elapsed() >= Duration::from_millis(300));
}

fn a_file_that_stays_busy_is_no_success() {
    let bin = Bin::new("exit 0");
    let _writer = OpenOptions::new().append(true).open(bin.file("plugin")).unwrap();
    let start = Instant::now();
    let error = bin.run("DEL").unwrap_err();
    assert!(start.elapsed() >= BUSY_GRACE);
    assert!(error.msg.ends_with(": text file busy"), "{error}");
    let hasty = bin.process().deadline(Duration::from_millis(50));
    assert!(fastest(|| drop(hasty.invoke("plugin", &call("DEL")).unwrap_err())) < BUSY_GRACE);
}

fn many_at_a_time() {
    let bin = Bin::new(&format!("cat > /dev/null; echo '{RESULT}'"));
    let process = bin.process().deadline(Duration::from_secs(60));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    process.invoke("plugin", &call("ADD")).unwrap();
                }
            });
        }
    });
}
