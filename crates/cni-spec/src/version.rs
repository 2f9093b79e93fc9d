//! The versions of the specification: their order, and how a plugin and a configuration agree on one.
//!
//! A configuration's version is text until it has been found in a plugin's list; after that it is a [`Version`].
//!
//! ```
//! use cni_spec::{Command, Version, version::reconcile};
//!
//! let spoken = Version::since(Version::V0_4_0);
//! assert_eq!(reconcile(Command::Add, "1.0.0", spoken)?, Version::V1_0_0);
//!
//! let error = reconcile(Command::Add, "0.3.1", spoken).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     r#"incompatible CNI versions; config is "0.3.1", plugin supports ["0.4.0" "1.0.0" "1.1.0"]"#
//! );
//! # Ok::<(), cni_spec::Error>(())
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Code, Command, Error, Result, json};

/// A released version of the specification, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(non_camel_case_types, reason = "the dots of a version number have to become something")]
pub enum Version {
    /// The first.
    V0_1_0,
    /// VERSION.
    V0_2_0,
    /// Lists of plugins, results with interfaces.
    V0_3_0,
    /// A correction of 0.3.0.
    V0_3_1,
    /// CHECK, and prevResult for DEL.
    V0_4_0,
    /// Only lists; addresses lose their `version`.
    V1_0_0,
    /// GC, STATUS, `cniVersions`, attributes of routes.
    V1_1_0,
}

use Version::*;

impl Version {
    /// Every version, oldest first.
    pub const ALL: &'static [Version] = &[V0_1_0, V0_2_0, V0_3_0, V0_3_1, V0_4_0, V1_0_0, V1_1_0];
    /// The newest.
    pub const CURRENT: Version = V1_1_0;
    /// What a configuration without `cniVersion` means.
    pub const DEFAULT: Version = V0_1_0;

    /// `oldest` and everything newer, for a plugin that cannot speak the first versions.
    #[doc(alias = "VersionsStartingFrom")]
    pub const fn since(oldest: Version) -> &'static [Version] {
        Version::ALL.split_at(oldest as usize).1
    }

    /// `1.1.0`.
    pub const fn as_str(self) -> &'static str {
        match self {
            V0_1_0 => "0.1.0",
            V0_2_0 => "0.2.0",
            V0_3_0 => "0.3.0",
            V0_3_1 => "0.3.1",
            V0_4_0 => "0.4.0",
            V1_0_0 => "1.0.0",
            V1_1_0 => "1.1.0",
        }
    }

    /// The version of exactly this spelling.
    pub fn known(text: &str) -> Option<Version> {
        Version::ALL.iter().copied().find(|v| v.as_str() == text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Version::known(&text).ok_or_else(|| de::Error::custom(format_args!("unknown CNI version {text:?}")))
    }
}

/// A version number as anybody may write it: up to three whole numbers, what is missing is 0, nothing at all is
/// 0.1.0. Unlike a [`Version`] it need not have been released; it can only be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbers(i64, i64, i64);

impl Numbers {
    /// Reads `1`, `1.0`, `1.0.0`.
    ///
    /// # Errors
    /// What is not a number, and a fourth part.
    pub fn parse(text: &str) -> std::result::Result<Numbers, String> {
        if text.is_empty() {
            return Ok(Version::DEFAULT.into());
        }
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > 3 {
            return Err(format!("invalid version {text:?}: too many parts"));
        }
        let mut numbers = [0i64; 3];
        for (number, (part, name)) in numbers.iter_mut().zip(parts.iter().zip(["major", "minor", "micro"])) {
            *number = part
                .parse()
                .map_err(|_| format!("failed to convert {name} version part {part:?} of version {text:?}"))?;
        }
        Ok(Numbers(numbers[0], numbers[1], numbers[2]))
    }
}

impl From<Version> for Numbers {
    fn from(version: Version) -> Self {
        match version {
            V0_1_0 => Numbers(0, 1, 0),
            V0_2_0 => Numbers(0, 2, 0),
            V0_3_0 => Numbers(0, 3, 0),
            V0_3_1 => Numbers(0, 3, 1),
            V0_4_0 => Numbers(0, 4, 0),
            V1_0_0 => Numbers(1, 0, 0),
            V1_1_0 => Numbers(1, 1, 0),
        }
    }
}

/// Decides whether a plugin that speaks `supported` may run `command` for a configuration that says `config`, and
/// in which version they talk. This is the reference's version reconciler with the three verbs that came later.
///
/// # Errors
/// Code 1 where they have no version in common or the verb came after it, code 6 where `config` is no version.
#[doc(alias = "Reconciler")]
pub fn reconcile(command: Command, config: &str, supported: &[Version]) -> Result<Version> {
    let config = if config.is_empty() { Version::DEFAULT.as_str() } else { config };
    if let Some(since) = command.since() {
        let numbers = Numbers::parse(config).map_err(|e| Error::new(Code::DECODE, e))?;
        let refuse =
            |who| Error::new(Code::INCOMPATIBLE_VERSION, format!("{who} version does not allow {command}"));
        if numbers < since.into() {
            return Err(refuse("config"));
        }
        if !supported.iter().any(|v| Numbers::from(*v) >= numbers) {
            return Err(refuse("plugin"));
        }
    }
    Version::known(config).filter(|v| supported.contains(v)).ok_or_else(|| {
        let list: Vec<String> = supported.iter().map(|v| format!("\"{v}\"")).collect();
        Error::new(Code::INCOMPATIBLE_VERSION, "incompatible CNI versions")
            .with_details(format!("config is {config:?}, plugin supports [{}]", list.join(" ")))
    })
}

/// The answer to VERSION: on one line, a newline behind it (spec §2 "VERSION").
///
/// `cniVersion` is the newest that this crate knows, as the reference answers; standard input is not asked.
#[doc(alias = "PluginInfo")]
pub fn reply(supported: &[Version]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        cni_version: Version,
        supported_versions: &'a [Version],
    }
    json::to_compact(&Document { cni_version: Version::CURRENT, supported_versions: supported }) + "\n"
}

/// Reads the answer to VERSION of any plugin; versions that this crate does not know stay in the list.
///
/// # Errors
/// What is not such an answer, in the reference's words.
pub fn parse_reply(json: &[u8]) -> std::result::Result<Vec<String>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        #[serde(default)]
        cni_version: String,
        #[serde(default)]
        supported_versions: Vec<String>,
    }
    let document: Document = json::decode(json).map_err(|e| format!("decoding version info: {e}"))?;
    match (document.cni_version.as_str(), document.supported_versions.is_empty()) {
        ("", _) => Err("decoding version info: missing field cniVersion".into()),
        ("0.2.0", true) => Ok(vec!["0.1.0".into(), "0.2.0".into()]),
        (_, true) => Err("decoding version info: missing field supportedVersions".into()),
        _ => Ok(document.supported_versions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_tail() {
        assert_eq!(Version::since(V0_4_0), [V0_4_0, V1_0_0, V1_1_0]);
        assert_eq!(Version::since(V0_1_0), Version::ALL);
    }

    #[test]
    fn numbers_are_read_as_loosely_as_the_reference_does() {
        assert_eq!(Numbers::parse("").unwrap(), V0_1_0.into());
        assert_eq!(Numbers::parse("1").unwrap(), V1_0_0.into());
        assert_eq!(Numbers::parse("1.1").unwrap(), V1_1_0.into());
        assert!(Numbers::parse("0.-42.0").unwrap() < V0_1_0.into());
        for bad in ["1.1.0.0", "1.x", ".", "1.1.0-dev", "v1"] {
            assert!(Numbers::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn membership_is_by_spelling() {
        assert_eq!(reconcile(Command::Add, "", Version::ALL), Ok(V0_1_0));
        assert_eq!(reconcile(Command::Add, "1.1.0", Version::ALL), Ok(V1_1_0));
        let error = reconcile(Command::Del, "1.1", &[V0_3_0, V0_4_0]).unwrap_err();
        assert_eq!(error.code, Code::INCOMPATIBLE_VERSION);
        assert_eq!(error.msg, "incompatible CNI versions");
        assert_eq!(error.details, r#"config is "1.1", plugin supports ["0.3.0" "0.4.0"]"#);
    }

    #[test]
    fn later_verbs_have_gates() {
        let text = |c, v, s| reconcile(c, v, s).unwrap_err().msg;
        assert_eq!(text(Command::Check, "0.3.1", Version::ALL), "config version does not allow CHECK");
        assert_eq!(text(Command::Gc, "1.0.0", Version::ALL), "config version does not allow GC");
        assert_eq!(text(Command::Status, "1.1.0", &[V1_0_0]), "plugin version does not allow STATUS");
        assert_eq!(text(Command::Check, "0.4.1", Version::ALL), "incompatible CNI versions");
        assert_eq!(reconcile(Command::Check, "x", Version::ALL).unwrap_err().code, Code::DECODE);
        assert_eq!(reconcile(Command::Check, "0.4.0", Version::ALL), Ok(V0_4_0));
    }

    #[test]
    fn version_replies_are_read_and_written() {
        assert_eq!(reply(&[V1_1_0]), "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.1.0\"]}\n");
        assert_eq!(parse_reply(reply(Version::ALL).as_bytes()).unwrap().len(), 7);
        assert_eq!(parse_reply(br#"{"cniVersion":"0.2.0"}"#).unwrap(), ["0.1.0", "0.2.0"]);
        assert_eq!(parse_reply(b"{}").unwrap_err(), "decoding version info: missing field cniVersion");
        assert!(parse_reply(br#"{"cniVersion":"1.0.0"}"#).unwrap_err().contains("supportedVersions"));
        assert!(parse_reply(b"nope").is_err());
    }
}
