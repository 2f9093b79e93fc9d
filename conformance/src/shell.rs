//! An execution as lines for a shell, so that a failure can be reproduced without this program.
//!
//! The namespaces are ones that `ip netns` makes; nothing touches the machine's own.

use std::fmt::Write as _;

use crate::case::{Bytes, Part, Preparation, StdinKind, StdoutKind, Step};
use crate::play::{environment, stdin};
use crate::stage::Names;

const CONTAINER: &str = "conformance-container";
const HOST: &str = "conformance-host";
const DIR: &str = "/tmp/conformance";

/// The steps of a case as a script.
pub(crate) fn script(steps: &[Step], plugins: &str) -> String {
    let values =
        [format!("/run/netns/{CONTAINER}"), format!("/run/netns/{HOST}"), DIR.into(), plugins.to_owned()];
    let names = Names::new(values);
    let mut script = format!("ip netns add {HOST}; ip netns add {CONTAINER}\n");
    let lines: Vec<String> = steps.iter().map(|step| execution(step, &names)).collect();
    if lines.iter().any(|line| line.contains(DIR)) {
        let _ = writeln!(
            script,
            "mkdir -p {DIR}/directory; touch {DIR}/plain-file; ln -sfn /run/netns/{CONTAINER} {DIR}/link\n\
             ln -sfn /run/netns/{CONTAINER} {DIR}/container; ln -sfn link {DIR}/'odd <&> \"é\"'"
        );
    }
    for (step, line) in steps.iter().zip(lines) {
        for preparation in &step.prepare {
            let _ = writeln!(script, "{}", prepare(preparation));
        }
        let _ = writeln!(script, "{line}");
    }
    let _ = write!(script, "ip netns del {HOST}; ip netns del {CONTAINER}");
    script
}

/// One execution as a line.
fn execution(step: &Step, names: &Names) -> String {
    let mut line = match step.stdin_is {
        StdinKind::Pipe => format!("{} | ", printed(&stdin(step), names)),
        StdinKind::LeftOpen => format!("{{ {}; sleep 60; }} | ", printed(&stdin(step), names)),
        StdinKind::Null | StdinKind::Closed | StdinKind::Directory => String::new(),
    };
    let _ = write!(line, "ip netns exec {HOST} env -i");
    for (key, value) in environment(step) {
        let _ = write!(line, " {key}={}", word(&value, names));
    }
    let _ = write!(line, " {}", quoted(&names.fill(&format!("${{plugins}}/{}", step.plugin))));
    line.push_str(match step.stdin_is {
        StdinKind::Pipe | StdinKind::LeftOpen => "",
        StdinKind::Null => " </dev/null",
        StdinKind::Closed => " <&-",
        StdinKind::Directory => " </",
    });
    line.push_str(match step.stdout_is {
        StdoutKind::Pipe => "",
        StdoutKind::Closed => " >&-",
        StdoutKind::ReadOnly => " 1</dev/null",
        StdoutKind::Full => " >/dev/full",
        StdoutKind::Broken => " | true",
    });
    line
}

fn prepare(preparation: &Preparation) -> String {
    match preparation {
        Preparation::Up(link) => format!("ip -n {CONTAINER} link set {link} up"),
        Preparation::Down(link) => format!("ip -n {CONTAINER} link set {link} down"),
        Preparation::Address(address) => {
            let scope = if address.starts_with("127.") { "host" } else { "global" };
            format!("ip -n {CONTAINER} addr add {address} dev lo scope {scope}")
        }
        Preparation::Sysctl(path, value) => {
            format!("ip netns exec {CONTAINER} sysctl -w {path}={value}")
        }
        Preparation::UnmountContainer => format!("umount /run/netns/{CONTAINER}"),
    }
}

/// A command that prints the bytes.
fn printed(bytes: &Bytes, names: &Names) -> String {
    let parts = match bytes {
        Bytes::Text(text) => return format!("printf %s {}", quoted(&names.fill(text))),
        Bytes::Parts(parts) => parts,
    };
    let commands: Vec<String> = parts.iter().map(|part| print_part(part, names)).collect();
    if commands.len() == 1 { commands.concat() } else { format!("{{ {}; }}", commands.join("; ")) }
}

fn print_part(part: &Part, names: &Names) -> String {
    match part {
        Part::Text(text) => format!("printf %s {}", quoted(&names.fill(text))),
        Part::Repeat { repeat, times } => {
            format!("yes {} | head -n {times} | tr -d '\\n'", quoted(repeat))
        }
        Part::Hex { .. } => {
            let bytes = Bytes::Parts(vec![part.clone()]).render(str::to_owned);
            let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
            format!("printf '{octal}'")
        }
    }
}

/// The value of a variable.
fn word(bytes: &Bytes, names: &Names) -> String {
    match bytes {
        Bytes::Text(text) => quoted(&names.fill(text)),
        Bytes::Parts(_) => format!("\"$({})\"", printed(bytes, names)),
    }
}

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,=+@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_quoted_where_they_must_be() {
        assert_eq!(quoted("/run/netns/a.b-c"), "/run/netns/a.b-c");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's {}"), r"'it'\''s {}'");
    }

    #[test]
    fn a_step_becomes_a_line() {
        let step = json!({
            "verb": "VERSION", "stdin": ["a", {"repeat": "[", "times": 9}, {"hex": "ff"}],
            "env": {"X": "a b"}, "stdoutIs": "full", "expect": {"reply": "any"}
        });
        let script = script(&[serde_json::from_value(step).unwrap()], "/opt/cni/bin");
        let line = "{ printf %s a; yes '[' | head -n 9 | tr -d '\\n'; printf '\\377'; } | \
                    ip netns exec conformance-host env -i CNI_COMMAND=VERSION X='a b' /opt/cni/bin/loopback >/dev/full";
        assert!(script.lines().any(|found| found == line), "{script}");
    }

    #[test]
    fn the_shell_prints_what_the_case_says() {
        let bytes: Bytes =
            serde_json::from_value(json!(["it's\n", {"repeat": "ab", "times": 3}, {"hex": "00 ff"}]))
                .unwrap();
        let names = Names::new([const { String::new() }; 4]);
        let command = printed(&bytes, &names);
        let ran = std::process::Command::new("/bin/sh").arg("-c").arg(command).output().unwrap();
        assert_eq!(ran.stdout, bytes.render(str::to_owned));
    }
}
