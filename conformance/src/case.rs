//! What a case is: a few steps, each an execution of a plugin with what is expected of it.
//!
//! These are the types of the files in `cases/`; how they are read is in [`crate::suite`], how they are played in
//! [`crate::play`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::stage::Place;

/// What stands in a configuration for the result of the attachment's ADD.
pub(crate) const RESULT: &str = "${result}";

/// The plugins that others delegate to.
const IPAM_PLUGINS: [&str; 3] = ["host-local", "static", "dhcp"];

/// Whether plugins delegate to it.
pub(crate) fn is_ipam(plugin: &str) -> bool {
    IPAM_PLUGINS.contains(&plugin)
}

/// One case: steps that are played one after the other in the same, fresh namespaces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Case {
    /// What is shown to people: `ADD without CNI_NETNS`.
    pub(crate) name: String,
    /// Where the expectation comes from, or why it is what it is.
    #[serde(default)]
    pub(crate) why: String,
    /// What the machine must have, else the case is skipped.
    #[serde(default)]
    pub(crate) needs: Vec<Need>,
    pub(crate) steps: Vec<Step>,
}

/// Something that not every kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Need {
    Ipv6,
    /// Bridges that heed VLANs.
    VlanFiltering,
    /// The program `iptables`, where the plugins look for it.
    Iptables,
    /// The program `nft`.
    Nft,
}

/// One execution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Step {
    /// The plugin's file name.
    #[serde(default = "loopback")]
    pub(crate) plugin: String,
    /// The verb, which decides what is in the environment before `env` changes it.
    pub(crate) verb: String,
    /// Variables; `null` takes one away.
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Option<Bytes>>,
    /// Changes to the ordinary configuration; `null` takes a key away.
    #[serde(default)]
    pub(crate) config: Map<String, Value>,
    /// What is written to standard input instead of a configuration.
    #[serde(default)]
    pub(crate) stdin: Option<Bytes>,
    #[serde(default)]
    pub(crate) stdin_is: StdinKind,
    #[serde(default)]
    pub(crate) stdout_is: StdoutKind,
    /// Whether CHECK and DEL get the result of the attachment's ADD as `prevResult`, as runtimes give it.
    #[serde(default)]
    pub(crate) pass_on: bool,
    /// What is done beforehand.
    #[serde(default)]
    pub(crate) prepare: Vec<Preparation>,
    pub(crate) expect: Expect,
    /// What counts instead of `expect` when the reference is played.
    #[serde(default)]
    pub(crate) reference: Option<Reference>,
}

fn loopback() -> String {
    "loopback".into()
}

/// The reference's answer where it differs, and the line of `docs/differences.md` that explains it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reference {
    /// What is expected of the reference; without it the same, in which there is room for the difference.
    #[serde(default)]
    pub(crate) expect: Option<Expect>,
    pub(crate) difference: String,
    /// Whose difference it is, where the plugin and the one that it delegates to are not of one kind.
    #[serde(default)]
    pub(crate) by: By,
}

/// Who must be the reference's for a difference to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum By {
    /// The plugin that is executed.
    #[default]
    Plugin,
    /// The IPAM plugin that it delegates to.
    Delegate,
    /// One of them is enough.
    Either,
}

/// Text, or text in parts of which some are not text or too long to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Part {
    Text(String),
    Repeat { repeat: String, times: usize },
    Hex { hex: String },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StdinKind {
    /// A pipe that is closed when everything is written.
    #[default]
    Pipe,
    /// A pipe that stays open when everything is written.
    LeftOpen,
    /// `/dev/null`
    Null,
    /// No descriptor at all.
    Closed,
    /// A directory, which cannot be read.
    Directory,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum StdoutKind {
    #[default]
    Pipe,
    /// No descriptor at all.
    Closed,
    /// A file that is open for reading only.
    ReadOnly,
    /// `/dev/full`: no space left.
    Full,
    /// A pipe that nobody reads.
    Broken,
}

/// Something that is done before an execution, to the container's namespace unless it says something else.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Preparation {
    /// A line for the shell, in the container's namespace.
    Container(String),
    /// One in the host's.
    Host(String),
    /// One in that of another container.
    Other(String),
    /// Write a file, and make the folders that it needs: its path and what is in it.
    File(String, Bytes),
    /// Set this interface up.
    Up(String),
    /// Set it down.
    Down(String),
    /// Give `lo` this address.
    Address(String),
    /// Write this setting: a path below `/proc/sys`, and the value.
    Sysctl(String, String),
    /// Take the namespace's path away, as if the container were gone.
    UnmountContainer,
}

/// What has to come of an execution.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Expect {
    pub(crate) reply: Reply,
    /// What must be on standard error.
    #[serde(default)]
    pub(crate) stderr: Option<Value>,
    /// What changes in the namespaces.
    #[serde(default)]
    pub(crate) changes: Changes,
    /// What is in the namespaces afterwards, whoever made it.
    #[serde(default)]
    pub(crate) state: State,
    /// What files and folders hold afterwards: text, an object with what is in the folder, `null` if nothing is there.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, Value>,
    /// What can be done afterwards.
    #[serde(default)]
    pub(crate) commands: Vec<ShellCommand>,
    /// Which packets arrive afterwards, and from where.
    #[serde(default)]
    pub(crate) packets: Vec<Packet>,
}

/// What is printed, and the exit status that goes with it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Exit status 0, and not a byte.
    Nothing,
    /// Exit status 0, whatever the document.
    Success,
    /// Exit status 0, and this document.
    Result(Value),
    /// Exit status 0, and exactly these bytes, given in lines.
    Exactly(Vec<String>),
    /// Exit status 1, and an error.
    Error(ErrorPattern),
    /// Exit status 1, and exactly these bytes.
    ErrorExactly(Vec<String>),
    /// It ends by itself with 0 or 1, and prints at most one document.
    Any,
    /// Exit status 1, whatever is printed, if anything can be.
    Failure,
    /// An exit status that is not 0, or a signal.
    NoSuccess,
    /// It does not end.
    Hangs,
}

/// An error document. What is not mentioned may be anything; a key that is `null` must not be there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ErrorPattern {
    pub(crate) code: Value,
    #[serde(default)]
    pub(crate) msg: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    pub(crate) details: Option<Value>,
    /// `cniVersion`; unless it is mentioned it must be one of the specification's.
    #[serde(default, deserialize_with = "given")]
    pub(crate) cni_version: Option<Value>,
    /// Words that must be in the message or the details.
    #[serde(default)]
    pub(crate) says: Vec<String>,
}

/// Tells `null` from a key that is missing.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What an execution changes in the namespaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    /// What it is compared with.
    #[serde(default)]
    pub(crate) since: Since,
    #[serde(default)]
    pub(crate) container: Change,
    #[serde(default)]
    pub(crate) host: Change,
    #[serde(default)]
    pub(crate) other: Change,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Since {
    /// How it was before this execution.
    #[default]
    Step,
    /// How it was before the first execution of the case.
    Start,
}

/// What is in the namespaces: lines, in which `*` stands for any text. One with a `!` before it must not be there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct State {
    pub(crate) container: Vec<String>,
    pub(crate) host: Vec<String>,
    pub(crate) other: Vec<String>,
}

/// A line for the shell in one of the namespaces, and what is expected of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ShellCommand {
    pub(crate) container: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) other: Option<String>,
    /// What it prints to standard output.
    pub(crate) prints: Option<Value>,
    /// Whether it fails.
    pub(crate) fails: bool,
}

/// A change in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Change {
    /// One of those that `cases/changes.json` defines.
    Named(String),
    /// Lines that come (`+ …`) or go (`- …`), in which `*` stands for any text, and names. A line with a `?` before it
    /// may be missing: it depends on the kernel.
    Lines(Vec<String>),
}

/// A datagram from one namespace to an address in another.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Packet {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) address: String,
    /// The sender's address, as the receiver sees it; without it the packet does not arrive.
    pub(crate) seen_as: Option<String>,
}

impl Default for Change {
    /// Nothing at all.
    fn default() -> Self {
        Change::Lines(Vec::new())
    }
}

impl Change {
    /// Replaces names by what they stand for, also those that stand among lines.
    pub(crate) fn resolve(&mut self, named: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        let mut lines = Vec::new();
        for line in self.lines() {
            if ["+ ", "- ", "?+ ", "?- "].iter().any(|sign| line.starts_with(sign)) {
                lines.push(line.clone());
            } else {
                lines.extend(named.get(line).ok_or_else(|| format!("no change is called {line:?}"))?.clone());
            }
        }
        *self = Change::Lines(lines);
        Ok(())
    }

    /// The lines. A name that was not replaced matches nothing.
    pub(crate) fn lines(&self) -> &[String] {
        match self {
            Change::Named(name) => std::slice::from_ref(name),
            Change::Lines(lines) => lines,
        }
    }
}

impl Case {
    /// Whether there is another container in it.
    pub(crate) fn has_other(&self) -> bool {
        let mentions = |step: &Step| {
            format!("{:?} {:?} {:?}", step.env, step.config, step.prepare).contains("${other}")
                || step.expect.packets.iter().any(|packet| [packet.from, packet.to].contains(&Place::Other))
                || step.prepare.iter().any(|preparation| matches!(preparation, Preparation::Other(_)))
        };
        self.steps.iter().any(mentions)
    }
}

impl Changes {
    pub(crate) fn resolve(&mut self, named: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        for change in [&mut self.container, &mut self.host, &mut self.other] {
            change.resolve(named)?;
        }
        Ok(())
    }
}

impl Step {
    /// The attachment, as runtimes tell them apart: network, container id, interface name.
    pub(crate) fn attachment(&self) -> String {
        let network = self.config.get("name").map_or_else(|| "conformance".to_owned(), Value::to_string);
        let variable = |key: &str| self.env.get(key).map(|value| format!("{value:?}")).unwrap_or_default();
        format!("{network} {} {}", variable("CNI_CONTAINERID"), variable("CNI_IFNAME"))
    }

    /// Gives CHECK and DEL the result of the ADD before them, where the version has it and nothing else is said.
    pub(crate) fn pass_on_result(&mut self) {
        let version =
            self.config.get("cniVersion").map_or("1.0.0", |version| version.as_str().unwrap_or("0.1.0"));
        let old = ["0.1.0", "0.2.0", "0.3.0", "0.3.1"].contains(&version);
        if self.pass_on && !old && ["CHECK", "DEL"].contains(&self.verb.as_str()) {
            self.config.entry("prevResult").or_insert_with(|| Value::from(RESULT));
        }
    }

    /// Every expectation of the step.
    pub(crate) fn expectations_mut(&mut self) -> impl Iterator<Item = &mut Expect> {
        let reference = self.reference.as_mut().and_then(|reference| reference.expect.as_mut());
        std::iter::once(&mut self.expect).chain(reference)
    }
}

impl Bytes {
    /// The bytes, after `fill` has replaced the placeholders of every text.
    pub(crate) fn render(&self, fill: impl Fn(&str) -> String) -> Vec<u8> {
        let parts = match self {
            Bytes::Text(text) => return fill(text).into_bytes(),
            Bytes::Parts(parts) => parts,
        };
        let mut bytes = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => bytes.extend(fill(text).into_bytes()),
                Part::Repeat { repeat, times } => bytes.extend(repeat.repeat(*times).into_bytes()),
                Part::Hex { hex } => bytes.extend(from_hex(hex)),
            }
        }
        bytes
    }
}

/// Two digits a byte; what is not hexadecimal is left out, so that the digits can be spaced.
fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte * 16 + *digit as u8)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_put_together_from_their_parts() {
        let bytes: Bytes =
            serde_json::from_value(json!(["a$x", {"repeat": "[", "times": 3}, {"hex": "ef bb bf"}])).unwrap();
        assert_eq!(bytes.render(|text| text.replace("$x", "b")), b"ab[[[\xef\xbb\xbf");
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let step = json!({"verb": "ADD", "confg": {}, "expect": {"reply": "nothing"}});
        assert!(serde_json::from_value::<Step>(step).unwrap_err().to_string().contains("confg"));
    }
}
