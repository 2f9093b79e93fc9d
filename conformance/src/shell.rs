//! An execution as lines for a shell, so that a failure can be reproduced without this program.
//!
//! The namespaces are ones that `ip netns` makes; nothing touches the machine's own.

use std::fmt::Write as _;

use serde_json::Value;

use crate::case::{Bytes, Part, Preparation, RESULT, ShellCommand, StdinKind, StdoutKind, Step};
use crate::names::{Names, PLACEHOLDERS, RESULT_PART};
use crate::play::{Subject, environment, stdin};

const CONTAINER: &str = "conformance-container";
const HOST: &str = "conformance-host";
const OTHER: &str = "conformance-other";
const DIR: &str = "/tmp/conformance";

/// The steps of a case as a script.
pub(crate) fn script(steps: &[Step], subject: &Subject) -> String {
    let netns = |name: &str| format!("/run/netns/{name}");
    let values: [String; PLACEHOLDERS.len()] =
        [netns(CONTAINER), netns(HOST), netns(OTHER), DIR.into(), subject.dir.clone(), subject.path()];
    let names = Names::new(values);
    let mut lines = Vec::new();
    for step in steps {
        lines.extend(step.prepare.iter().map(|preparation| prepare(preparation, &names)));
        lines.push(execution(step, subject, &names));
        lines.extend(step.expect.commands.iter().map(|command| look(command, &names)));
    }
    let mentions = |text: &str| lines.iter().any(|line| line.contains(text));
    let namespaces: Vec<&str> =
        [HOST, CONTAINER, OTHER].into_iter().filter(|name| *name != OTHER || mentions(OTHER)).collect();
    let each = |what: &str| {
        let commands = namespaces.iter().map(|name| format!("ip netns {what} {name}"));
        commands.collect::<Vec<_>>().join("; ")
    };
    let mut script = each("add") + "\n";
    if mentions(DIR) {
        let _ = writeln!(
            script,
            "mkdir -p {DIR}/directory; touch {DIR}/plain-file; ln -sfn /run/netns/{CONTAINER} {DIR}/link\n\
             ln -sfn /run/netns/{CONTAINER} {DIR}/container; ln -sfn link {DIR}/'odd <&> \"é\"'"
        );
    }
    for line in &lines {
        let _ = writeln!(script, "{line}");
    }
    script.push_str(&each("del"));
    if mentions(DIR) {
        let _ = write!(script, "; rm -r {DIR}");
    }
    script
}

/// One execution as a line.
fn execution(step: &Step, subject: &Subject, names: &Names) -> String {
    let mut line = match step.stdin_is {
        StdinKind::Pipe => format!("{} | ", printed(&configuration(step, names), names)),
        StdinKind::LeftOpen => format!("{{ {}; sleep 60; }} | ", printed(&configuration(step, names), names)),
        StdinKind::Null | StdinKind::Closed | StdinKind::Directory => String::new(),
    };
    if let Some(filter) = filter_of_result(step) {
        let _ = write!(line, "jq -c --argjson result \"$result\" {} | ", quoted(&filter));
    }
    let _ = write!(line, "ip netns exec {HOST} env -i");
    for (key, value) in environment(step) {
        let _ = write!(line, " {key}={}", word(&value, names));
    }
    let _ = write!(line, " {}", quoted(&subject.program(&step.plugin).to_string_lossy()));
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
    let kept = step.verb == "ADD" && step.pass_on;
    if kept { format!("result=$({line}); echo \"$result\"") } else { line }
}

/// The configuration without the result, which the shell knows when it is time.
fn configuration(step: &Step, names: &Names) -> Bytes {
    let mut step = step.clone();
    if filter_of_result(&step).is_some() {
        step.config.remove("prevResult");
    }
    stdin(&step, names)
}

/// What puts the result, with its changes, into a configuration, in jq's language.
fn filter_of_result(step: &Step) -> Option<String> {
    let previous = step.config.get("prevResult").filter(|_| step.stdin.is_none())?;
    let changes = previous.get("$result").and_then(Value::as_object);
    if previous != RESULT && changes.is_none() {
        return None;
    }
    let mut filter = "$result".to_owned();
    for (pointer, value) in changes.into_iter().flatten() {
        let path = pointer.split('/').skip(1).map(|key| match key.parse::<usize>() {
            Ok(index) => index.to_string(),
            Err(_) => Value::from(key).to_string(),
        });
        let _ = write!(filter, " | setpath([{}]; {value})", path.collect::<Vec<_>>().join(","));
    }
    Some(format!(".prevResult = ({filter})"))
}

fn prepare(preparation: &Preparation, names: &Names) -> String {
    match preparation {
        Preparation::Container(line) => within(CONTAINER, line, names),
        Preparation::Host(line) => within(HOST, line, names),
        Preparation::Other(line) => within(OTHER, line, names),
        Preparation::File(path, bytes) => {
            let path = quoted(&names.fill(path));
            format!("mkdir -p \"$(dirname {path})\"; {} >{path}", printed(bytes, names))
        }
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

fn look(command: &ShellCommand, names: &Names) -> String {
    let lines = [(HOST, &command.host), (CONTAINER, &command.container), (OTHER, &command.other)];
    let lines = lines.into_iter().filter_map(|(netns, line)| Some(within(netns, line.as_ref()?, names)));
    lines.collect()
}

/// A line for the shell in a namespace; what it needs of the result jq finds.
fn within(netns: &str, line: &str, names: &Names) -> String {
    let line = names.fill(line);
    let mut parts = line.split(RESULT_PART);
    let mut script = quoted(parts.next().unwrap_or_default());
    for part in parts {
        let (pointer, rest) = part.split_once('}').unwrap_or((part, ""));
        let path = pointer.split('/').map(|key| match key.parse::<usize>() {
            Ok(index) => format!("[{index}]"),
            Err(_) => format!(".{key}"),
        });
        let _ = write!(script, "\"$(echo \"$result\" | jq -r {})\"", quoted(&path.collect::<String>()));
        script.push_str(&quoted(rest));
    }
    format!("ip netns exec {netns} sh -c {script}")
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
    use crate::judge::Standard;

    fn subject() -> Subject {
        Subject { dir: "/opt/cni/bin".into(), standard: Standard::Ours, delegates: None }
    }

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
        let script = script(&[serde_json::from_value(step).unwrap()], &subject());
        let line = "{ printf %s a; yes '[' | head -n 9 | tr -d '\\n'; printf '\\377'; } | \
                    ip netns exec conformance-host env -i CNI_COMMAND=VERSION X='a b' /opt/cni/bin/loopback >/dev/full";
        assert!(script.lines().any(|found| found == line), "{script}");
    }

    #[test]
    fn the_shell_prints_what_the_case_says() {
        let bytes: Bytes =
            serde_json::from_value(json!(["it's\n", {"repeat": "ab", "times": 3}, {"hex": "00 ff"}]))
                .unwrap();
        let names = Names::new([const { String::new() }; PLACEHOLDERS.len()]);
        let command = printed(&bytes, &names);
        let ran = std::process::Command::new("/bin/sh").arg("-c").arg(command).output().unwrap();
        assert_eq!(ran.stdout, bytes.render(str::to_owned));
    }
}
