//! What a case is: a few steps, each an execution of a plugin with what is expected of it.
//!
//! These are the types of the files in `cases/`; how they are read is in [`crate::suite`], how they are played in
//! [`crate::play`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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
    /// What is done to the container's namespace beforehand.
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
    pub(crate) expect: Expect,
    pub(crate) difference: String,
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

/// Something that is done to the container's namespace.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Preparation {
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
    /// What changes in the two namespaces.
    #[serde(default)]
    pub(crate) changes: Changes,
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

/// What an execution changes in the two namespaces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Changes {
    #[serde(default)]
    pub(crate) container: Change,
    #[serde(default)]
    pub(crate) host: Change,
}

/// A change in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Change {
    /// One of those that `cases/changes.json` defines.
    Named(String),
    /// Lines that come (`+ …`) or go (`- …`), in which `*` stands for any text. One with a `?` before it may be
    /// missing: it depends on the kernel.
    Lines(Vec<String>),
}

impl Default for Change {
    /// Nothing at all.
    fn default() -> Self {
        Change::Lines(Vec::new())
    }
}

impl Change {
    /// Replaces a name by what it stands for.
    pub(crate) fn resolve(&mut self, named: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
        if let Change::Named(name) = self {
            let lines = named.get(name).ok_or_else(|| format!("no change is called {name:?}"))?;
            *self = Change::Lines(lines.clone());
        }
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

impl Step {
    /// Every expectation of the step.
    pub(crate) fn expectations_mut(&mut self) -> impl Iterator<Item = &mut Expect> {
        let reference = self.reference.as_mut().map(|reference| &mut reference.expect);
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
