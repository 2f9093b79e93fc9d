//! What the black-box tests share: the binary under its names, and plugins made of a few lines of shell.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The file that is tested.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ferrocni");

/// The names that an installation has, in their order.
pub(crate) fn names_of_all() -> Vec<String> {
    let plugins = cni_plugins::PLUGINS.iter().map(|entry| entry.name);
    let mut names: Vec<String> =
        ["cnitool", "ferrocni"].into_iter().chain(plugins).map(String::from).collect();
    names.sort();
    names
}

/// A list with one plugin.
pub(crate) fn list(network: &str, version: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion": "{version}", "name": "{network}", "plugins": [{{"type": "{plugin}"}}]}}"#)
}

/// A program with an environment that says nothing about networks, and nothing to read.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in
        ["NETCONFPATH", "CAP_ARGS", "CNI_PATH", "CNI_ARGS", "CNI_IFNAME", "CNI_COMMAND", "CNI_NETNS_OVERRIDE"]
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// `ferrocni` with these arguments.
pub(crate) fn ferrocni<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut ferrocni = command(BINARY);
    ferrocni.args(arguments);
    ferrocni
}

/// What a program did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn new(output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).expect("programs print UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What was printed, if the program succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:#?}");
        &self.stdout
    }

    /// What was said on standard error, if the program failed with this status.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:#?}");
        &self.stderr
    }
}

/// Runs it.
pub(crate) fn run(command: &mut Command) -> Done {
    Done::new(command.output().expect("the program can be started"))
}

/// Standard outputs that take nothing, and what is said of each: a closed one, and one on a full disk.
pub(crate) const DEAF: [(&str, &str); 2] =
    [(">&-", "bad file descriptor"), (">/dev/full", "no space left on device")];

/// The same command, with its standard output redirected by a shell.
pub(crate) fn redirected(given: &Command, to: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("exec \"$@\" {to}"), "sh"]).arg(given.get_program()).args(given.get_args());
    for (name, value) in given.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null());
    shell
}

/// The binary under another name.
pub(crate) fn link(dir: &Path, name: &str) -> PathBuf {
    let link = dir.join(name);
    symlink(BINARY, &link).expect("a link can be made");
    link
}

/// A plugin that notes in `<name>.log` beside it what it was asked, and then does what `script` says for the command in
/// `$CNI_COMMAND`.
pub(crate) fn plugin(dir: &Path, name: &str, script: &str) {
    let log = dir.join(format!("{name}.log"));
    let text = format!(
        "#!/bin/sh\n\
         echo \"$CNI_COMMAND id=$CNI_CONTAINERID netns=$CNI_NETNS ifname=$CNI_IFNAME args=$CNI_ARGS $(cat)\" >> {}\n\
         {script}\n",
        log.display()
    );
    executable(dir, name, &text);
}

/// A script that can be run.
pub(crate) fn executable(dir: &Path, name: &str, text: &str) {
    let file = dir.join(name);
    fs::write(&file, text).expect("the folder can be written to");
    fs::set_permissions(file, Permissions::from_mode(0o755)).expect("the file is ours");
}

/// What the plugin was asked so far, one line a call.
pub(crate) fn asked(dir: &Path, name: &str) -> Vec<String> {
    let log = fs::read_to_string(dir.join(format!("{name}.log"))).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

/// A shell script that answers ADD with a result and VERSION with versions.
pub(crate) const FRIENDLY: &str = r#"case $CNI_COMMAND in
ADD) echo '{"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "'$CNI_NETNS'"}], "ips": [{"address": "10.1.0.2/16", "interface": 0}]}' ;;
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}' ;;
esac"#;
