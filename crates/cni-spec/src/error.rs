//! The error object that a plugin answers with, and the codes that the specification reserves.
//!
//! It is made by `?` from any [`std::error::Error`] (code 999, as the reference does), which is why it does not
//! implement that trait itself.
//!
//! ```
//! use cni_spec::{Code, Doing, Error, Version};
//!
//! fn mtu(text: &str) -> cni_spec::Result<u32> {
//!     text.parse().doing("reading the MTU of eth0")
//! }
//!
//! let error = mtu("big").unwrap_err();
//! assert_eq!(error.to_string(), "invalid digit found in string; while reading the MTU of eth0");
//! assert_eq!(
//!     error.with_code(Code::INVALID_CONFIG).to_json(Version::V1_1_0),
//!     r#"{
//!     "cniVersion": "1.1.0",
//!     "code": 7,
//!     "msg": "invalid digit found in string",
//!     "details": "while reading the MTU of eth0"
//! }"#
//! );
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Version, json};

/// What a plugin's verb returns.
pub type Result<T> = std::result::Result<T, Error>;

/// An error's number (spec §2 "Errors"; 100 and up are the plugin's own).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// The plugin said nothing that could be understood; only a runtime makes it.
    pub const UNKNOWN: Code = Code(0);
    /// The configuration's `cniVersion` is not one that the plugin speaks.
    pub const INCOMPATIBLE_VERSION: Code = Code(1);
    /// A field of the configuration is not supported; the message names key and value.
    pub const UNSUPPORTED_FIELD: Code = Code(2);
    /// The container is unknown or does not exist: nothing is left to clean up.
    pub const UNKNOWN_CONTAINER: Code = Code(3);
    /// A `CNI_*` variable is missing or invalid; the message names it.
    pub const INVALID_ENVIRONMENT: Code = Code(4);
    /// Reading or writing failed, for instance standard input.
    pub const IO: Code = Code(5);
    /// Something could not be decoded: broken JSON, a malformed version.
    pub const DECODE: Code = Code(6);
    /// The configuration is well-formed and wrong.
    pub const INVALID_CONFIG: Code = Code(7);
    /// `CNI_NETNS` cannot be used (the reference's number; not in the specification's table).
    pub const INVALID_NETNS: Code = Code(8);
    /// A passing condition; the runtime should try again later.
    pub const TRY_AGAIN_LATER: Code = Code(11);
    /// STATUS: the plugin cannot service an ADD now.
    pub const PLUGIN_NOT_AVAILABLE: Code = Code(50);
    /// STATUS: it cannot, and containers that are attached may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: Code = Code(51);
    /// Every error that carries no code of its own.
    pub const INTERNAL: Code = Code(999);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The error object: a code, one line for a person, and more of it in `details`.
///
/// `details` holds the chain of what was being done, innermost first: see [`Doing::doing`].
///
/// Read from a plugin that left something out, it is code 0 and empty text, as with the reference.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Error {
    /// The error's number.
    #[serde(default)]
    pub code: Code,
    /// One line: lower case, no full stop, naming the thing.
    #[serde(default)]
    pub msg: String,
    /// More than fits that line; empty when there is none.
    #[serde(default)]
    pub details: String,
}

impl Error {
    /// An error with a code of its own.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Error { code, msg: msg.into(), details: String::new() }
    }

    /// An error without one: code 999.
    pub fn failed(msg: impl Into<String>) -> Self {
        Error::new(Code::INTERNAL, msg)
    }

    /// The same error under another code.
    #[must_use]
    pub fn with_code(self, code: Code) -> Self {
        Error { code, ..self }
    }

    /// The same error with `details` put behind those it has.
    #[must_use]
    pub fn with_details(mut self, details: impl AsRef<str>) -> Self {
        let details = details.as_ref();
        if !self.details.is_empty() && !details.is_empty() {
            self.details.push_str("; ");
        }
        self.details.push_str(details);
        self
    }

    /// The document as a plugin prints it: four spaces of indentation, no newline at the end (spec §2 "Error").
    ///
    /// The specification wants `cniVersion` in it, the reference leaves it out; it is there.
    pub fn to_json(&self, version: Version) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            cni_version: Version,
            code: Code,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        json::to_pretty(&Document {
            cni_version: version,
            code: self.code,
            msg: &self.msg,
            details: &self.details,
        })
    }
}

/// `msg; details`, as the reference's runtime prints it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

/// Any error becomes code 999; the errors beneath it follow after a colon unless it names them itself.
impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut msg = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !msg.contains(&text) {
                msg.push_str(": ");
                msg.push_str(&text);
            }
            source = cause.source();
        }
        Error::failed(without_errno(&msg))
    }
}

/// The standard library's errors end in `(os error 21)`, which tells nobody anything that the words do not.
fn without_errno(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        plain.push_str(before);
        rest = match after.split_once(')') {
            Some((number, after)) if number.bytes().all(|b| b.is_ascii_digit()) => after,
            _ => {
                plain.push_str(" (os error ");
                after
            }
        };
    }
    plain + rest
}

/// Says on the way up what was being done; the message and the code of the innermost error stay what they are.
pub trait Doing<T> {
    /// Adds `while <what>` to the error's details, for instance `.doing("giving eth0 its addresses")?`.
    fn doing(self, what: impl fmt::Display) -> Result<T>;

    /// Gives the error a code.
    fn code(self, code: Code) -> Result<T>;
}

impl<T, E: Into<Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.into().with_details(format!("while {what}")))
    }

    fn code(self, code: Code) -> Result<T> {
        self.map_err(|e| e.into().with_code(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_keys_of_the_specification() {
        let error = Error::new(Code::INVALID_ENVIRONMENT, "no <such> thing").with_details("x");
        assert_eq!(
            error.to_json(Version::V1_1_0),
            "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": 4,\n    \
             \"msg\": \"no \\u003csuch\\u003e thing\",\n    \"details\": \"x\"\n}"
        );
        assert!(!Error::failed("x").to_json(Version::V1_1_0).contains("details"));
    }

    #[test]
    fn a_chain_of_doing_leaves_code_and_message_alone() {
        let inner: Result<()> = Err(Error::new(Code::TRY_AGAIN_LATER, "busy"));
        let error = inner.doing("asking").doing("adding eth0").unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::TRY_AGAIN_LATER, "busy"));
        assert_eq!(error.details, "while asking; while adding eth0");
    }

    #[test]
    fn numbers_of_the_operating_system_are_left_out() {
        let error: Error = std::io::Error::from_raw_os_error(21).into();
        assert_eq!(error.msg, "Is a directory");
        assert_eq!(without_errno("a (os error 2): b (os error x) c (os error 3)"), "a: b (os error x) c");
        assert_eq!(without_errno("a (os error "), "a (os error ");
    }

    #[test]
    fn any_error_becomes_code_999() {
        let error: Error = "x".parse::<u8>().unwrap_err().into();
        assert_eq!(error, Error::failed("invalid digit found in string"));
    }

    #[test]
    fn a_document_without_details_is_read() {
        let error: Error = serde_json::from_str(r#"{"cniVersion":"9","code":7,"msg":"m"}"#).unwrap();
        assert_eq!(error, Error::new(Code::INVALID_CONFIG, "m"));
        let error: Error = json::decode(br#"{"Msg":"m","code":null}"#).unwrap();
        assert_eq!(error, Error::new(Code::UNKNOWN, "m"));
        assert!(json::decode::<Error>(br#"{"code":-1}"#).is_err());
    }
}
