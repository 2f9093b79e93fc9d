//! The three names that travel in parameters and end up in paths, rules and links: parsed here or refused.
//!
//! What has one of these types has been checked; whether the thing exists is for others to find out.
//!
//! ```
//! use cni_spec::{AttachmentId, Code, InterfaceName, NetworkName};
//!
//! let id = AttachmentId::parse("cnitool-77383ca0", "eth0")?;
//! assert_eq!(id.ifname.as_str(), "eth0");
//! assert_eq!(InterfaceName::parse("eth0:1").unwrap_err().code, Code::INVALID_ENVIRONMENT);
//! assert_eq!(NetworkName::parse("../net").unwrap_err().code, Code::INVALID_CONFIG);
//! # Ok::<(), cni_spec::Error>(())
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Code, Error, Result};

/// The longest interface name in bytes: the kernel's `IFNAMSIZ` less the final NUL (`linux/if.h`).
pub const MAX_INTERFACE_NAME: usize = 15;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }
    };
}

name! {
    /// A container's identifier: a letter or a digit, then letters, digits, `_`, `.` and `-`; of any length.
    ContainerId
}
name! {
    /// A network's name, by the rule of container ids.
    NetworkName
}
name! {
    /// An interface's name: 1 to 15 bytes, not `.` or `..`, without `/`, `:`, white space and control characters.
    ///
    /// The reference lets control characters through; they would end up in rules and on terminals.
    InterfaceName
}

impl ContainerId {
    /// Takes what obeys the rule.
    ///
    /// # Errors
    /// Code 3 when empty, code 4 when it breaks the rule.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(Code::UNKNOWN_CONTAINER, "missing containerID"));
        }
        if !is_identifier(text) {
            return Err(
                Error::new(Code::INVALID_ENVIRONMENT, "invalid characters in containerID").with_details(text)
            );
        }
        Ok(ContainerId(text.into()))
    }
}

impl NetworkName {
    /// Takes what obeys the rule.
    ///
    /// # Errors
    /// Code 7 when empty or when it breaks the rule.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(Code::INVALID_CONFIG, "missing network name"));
        }
        if !is_identifier(text) {
            return Err(Error::new(Code::INVALID_CONFIG, "invalid characters found in network name")
                .with_details(text));
        }
        Ok(NetworkName(text.into()))
    }
}

impl InterfaceName {
    /// Takes what obeys the rule, which is nearly the kernel's (`dev_valid_name` in `net/core/dev.c`).
    ///
    /// # Errors
    /// Code 4, saying which part of the rule is broken.
    pub fn parse(text: &str) -> Result<Self> {
        let refuse = |msg: &str| Err(Error::new(Code::INVALID_ENVIRONMENT, msg));
        if text.is_empty() {
            return refuse("interface name is empty");
        }
        if text.len() > MAX_INTERFACE_NAME {
            return refuse("interface name is too long")
                .map_err(|e| e.with_details("interface name should be less than 16 characters"));
        }
        if text == "." || text == ".." {
            return refuse("interface name is . or ..");
        }
        if text.chars().any(|c| matches!(c, '/' | ':') || c.is_whitespace()) {
            return refuse("interface name contains / or : or whitespace characters");
        }
        if text.chars().any(char::is_control) {
            return refuse("interface name contains control characters");
        }
        Ok(InterfaceName(text.into()))
    }
}

/// One container's place in a network: what state and objects on the host are filed under, together with the
/// network's name (spec §2 "GC", `cni.dev/valid-attachments`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// `CNI_IFNAME`
    pub ifname: InterfaceName,
}

impl AttachmentId {
    /// Takes two names that obey their rules.
    ///
    /// # Errors
    /// Those of the two names.
    pub fn parse(container_id: &str, ifname: &str) -> Result<Self> {
        Ok(AttachmentId {
            container_id: ContainerId::parse(container_id)?,
            ifname: InterfaceName::parse(ifname)?,
        })
    }
}

impl<'de> Deserialize<'de> for AttachmentId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Text {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        let text = Text::deserialize(deserializer)?;
        AttachmentId::parse(&text.container_id, &text.ifname).map_err(serde::de::Error::custom)
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "0", "a_b.c-d", &"x".repeat(4096)] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in ["_a", ".a", "-a", "a/b", "a\n", "é", "a b", "../a"] {
            let error = ContainerId::parse(bad).unwrap_err();
            assert_eq!((error.code, error.details.as_str()), (Code::INVALID_ENVIRONMENT, bad));
            assert_eq!(NetworkName::parse(bad).unwrap_err().code, Code::INVALID_CONFIG);
        }
        assert_eq!(ContainerId::parse("").unwrap_err().code, Code::UNKNOWN_CONTAINER);
    }

    #[test]
    fn interface_names_are_counted_in_bytes() {
        assert!(InterfaceName::parse("abcdefghijklmno").is_ok());
        assert!(InterfaceName::parse("ééééééé").is_ok());
        for bad in
            ["", "abcdefghijklmnop", "éééééééé", ".", "..", "a/b", "a:b", "a b", "a\u{85}", "a\u{a0}", "a\0"]
        {
            assert_eq!(InterfaceName::parse(bad).unwrap_err().code, Code::INVALID_ENVIRONMENT, "{bad:?}");
        }
    }
}
