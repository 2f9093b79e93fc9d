//! JSON as CNI's users write it, decided once: what Go's decoder accepts and serde does not, where an error is, and
//! documents that pass through without being touched.
//!
//! Configurations have been read by Go for ten years, so for every typed document, ours or a plugin's own:
//!
//! * a key matches a field whatever its case (`RuntimeConfig`), unknown keys are ignored;
//! * `null` is the same as nothing: a field keeps its default;
//! * of two equal keys the last one counts;
//! * text after the document, and a document that is not there, are errors.
//!
//! Keys of maps (`sysctl`, `capabilities`) are data and stay as they are. Numbers are not rounded: what is passed on
//! is passed on byte for byte.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

mod decoder;
mod object;
mod printer;

pub use object::Object;
pub use printer::{to_compact, to_pretty};

/// Why a document could not be decoded, and where: `ipam.ranges[0].subnet: invalid type … at line 3 column 14`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// The path of keys to the offending value, empty for the document itself.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1; 0 at the end of an empty document.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{} at line {} column {}", self.message, self.line, self.column)
    }
}

impl std::error::Error for DecodeError {}

/// Decodes a typed document by the rules above.
///
/// # Errors
/// What is not JSON, or not of that type.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    decode_within(check(json)?.get(), json)
}

/// Decodes one value of a larger document; an error says where it is in that document.
///
/// # Errors
/// As [`decode`]. Where `value` is no part of `document`, places are counted from the start of `value`.
pub fn decode_within<T: DeserializeOwned>(value: &str, document: &[u8]) -> Result<T, DecodeError> {
    T::deserialize(decoder::GoLike::new(value)).map_err(|e| e.located(value, document))
}

/// Checks that this is one whole JSON document, without looking at what it says.
///
/// # Errors
/// Where the text stops being JSON, with the path of keys that leads there.
pub fn check(json: &[u8]) -> Result<&RawValue, DecodeError> {
    serde_json::from_slice(json).map_err(|e| syntax_error(json, &e))
}

/// Walks a broken document again, this time noting the way: only failures pay for it.
fn syntax_error(json: &[u8], error: &serde_json::Error) -> DecodeError {
    let mut track = serde_path_to_error::Track::new();
    let mut parser = serde_json::Deserializer::from_slice(json);
    let walked =
        serde_json::Value::deserialize(serde_path_to_error::Deserializer::new(&mut parser, &mut track));
    let path = if walked.is_err() { track.path().to_string() } else { String::new() };
    let message = match error.classify() {
        serde_json::error::Category::Eof => "unexpected end of JSON input".to_owned(),
        _ => without_position(error),
    };
    DecodeError {
        // "?" stands for a key that was not read to its end, "." for the document itself
        path: path.trim_end_matches(['.', '?']).to_owned(),
        line: error.line(),
        column: error.column(),
        message,
    }
}

/// serde_json's text without its own `at line 1 column 2`, which would be relative to a part of the document.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// Serialises into a raw value: the form in which documents are handed on.
///
/// # Panics
/// Never for the types of this crate, whose maps have strings for keys.
pub fn to_raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("only keys that are no strings cannot be serialised")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase", deny_unknown_fields)]
    struct Inner {
        mtu: u32,
        is_gateway: bool,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Outer {
        name: String,
        runtime_config: Inner,
        list: Vec<Inner>,
        sysctl: BTreeMap<String, String>,
        maybe: Option<i64>,
    }

    fn outer(json: &str) -> Outer {
        decode(json.as_bytes()).unwrap()
    }

    fn error(json: &str) -> String {
        decode::<Outer>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn keys_match_whatever_their_case_and_the_last_one_counts() {
        let found = outer(r#"{"NAME":"a","RuntimeConfig":{"MTU":7},"name":"b","unknown":[1e400]}"#);
        assert_eq!(found.name, "b");
        assert_eq!(found.runtime_config.mtu, 7);
    }

    #[test]
    fn null_is_nothing() {
        let found = outer(r#"{"name":null,"runtimeConfig":null,"list":[null,{"mtu":null}],"maybe":null}"#);
        assert_eq!(found, Outer { list: vec![Inner::default(), Inner::default()], ..Outer::default() });
        assert_eq!(outer("null"), Outer::default());
        assert_eq!(outer(r#"{"sysctl":{"a":null}}"#).sysctl["a"], "");
    }

    #[test]
    fn keys_of_maps_are_data() {
        let found = outer(r#"{"sysctl":{"A":"1","a":"2"}}"#);
        assert_eq!(found.sysctl.len(), 2);
    }

    #[test]
    fn raw_values_are_not_touched() {
        #[derive(Deserialize)]
        struct Holder {
            raw: Box<RawValue>,
        }
        let found: Holder = decode(b"{\"raw\": {\"n\": 12345678901234567890.10 } }").unwrap();
        assert_eq!(found.raw.get(), "{\"n\": 12345678901234567890.10 }");
    }

    #[test]
    fn a_wrong_type_is_placed() {
        assert_eq!(
            error("{\n  \"name\": \"x\",\n  \"list\": [{}, {\"mtu\": \"9\"}]\n}"),
            "list[1].mtu: invalid type: string \"9\", expected u32 at line 3 column 24"
        );
        assert_eq!(
            error(r#"{"name":7}"#),
            "name: invalid type: integer `7`, expected a string at line 1 column 9"
        );
        assert!(
            error(r#"{"runtimeConfig":{"mtu":1.0}}"#)
                .starts_with("runtimeConfig.mtu: invalid type: floating")
        );
        assert!(error(r#"{"runtimeConfig":{"isGateway":"true"}}"#).contains("expected a boolean"));
        assert!(
            error(r#"{"runtimeConfig":{"mtu":-1}}"#)
                .contains("runtimeConfig.mtu: invalid value: integer `-1`")
        );
        assert!(error("[]").starts_with("invalid type: sequence, expected struct Outer at line 1 column 1"));
    }

    #[test]
    fn broken_json_is_placed() {
        assert_eq!(error(""), "unexpected end of JSON input at line 1 column 0");
        assert_eq!(error("{\"name\": \"x\""), "unexpected end of JSON input at line 1 column 12");
        assert_eq!(error("{\"list\": [{\"mtu\": 1 2}]}"), "list[0]: expected `,` or `}` at line 1 column 21");
        assert!(error("{} x").starts_with("trailing characters at line 1 column 4"));
    }

    #[test]
    fn depth_is_bounded_by_an_error() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(outer(&format!("{{\"ignored\":{deep}}}")), Outer::default());
        assert!(
            decode::<serde_json::Value>(deep.as_bytes()).unwrap_err().message.contains("recursion limit")
        );
    }
}
