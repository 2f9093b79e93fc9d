//! JSON as CNI's users write it, decided once: what Go's decoder accepts and serde does not, where an error is, and
//! documents that pass through without being touched.
//!
//! Configurations have been read by Go for ten years, so for every typed document, ours or a plugin's own:
//!
//! * a key matches a field whatever its case (`RuntimeConfig`), unknown keys are ignored;
//! * `null` is the same as nothing: a field keeps its default;
//! * of two equal keys the last one counts, as a whole: what they hold is not merged;
//! * text after the document, and a document that is not there, are errors.
//!
//! Keys of maps (`sysctl`, `capabilities`) are data and stay as they are. Numbers are not rounded: what is passed on
//! is passed on byte for byte. Unlike Go, text that is not UTF-8 and halves of surrogate pairs are refused, not
//! replaced.
//!
//! The rules know a field by its `struct`. They do not reach into `#[serde(flatten)]` and enums, which serde reads
//! before it knows what for: a typed document does without them.
//!
//! ```
//! use serde::Deserialize;
//!
//! #[derive(Default, Deserialize)]
//! #[serde(default, rename_all = "camelCase")]
//! struct Bridge {
//!     is_gateway: bool,
//!     mtu: u32,
//! }
//!
//! let bridge: Bridge = cni_spec::json::decode(br#"{"IsGateway": true, "mtu": null}"#)?;
//! assert!(bridge.is_gateway);
//! assert_eq!(bridge.mtu, 0);
//!
//! let error = cni_spec::json::decode::<Bridge>(br#"{"mtu": "1500"}"#).err().unwrap();
//! assert_eq!(
//!     error.to_string(),
//!     r#"mtu: invalid type: string "1500", expected u32 at line 1 column 9"#
//! );
//! # Ok::<(), cni_spec::json::DecodeError>(())
//! ```

use std::fmt;

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
    /// The column in bytes, from 1: where the offending value begins, or where the text stops being JSON. It is 0 where
    /// the document ends and its last line is empty.
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

impl DecodeError {
    /// The same error, of a value that is found under `key` of a larger one.
    #[must_use]
    pub fn under(mut self, key: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{key}{separator}{}", self.path);
        self
    }
}

impl std::error::Error for DecodeError {}

/// Decodes a typed document by the rules above.
///
/// # Errors
/// What is not JSON, or not of that type.
pub fn decode<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, DecodeError> {
    decode_within(check(json)?.get(), json)
}

/// Decodes one value of a larger document; an error says where it is in that document. `value` is text that
/// [`check`] has passed, or a part of it.
///
/// # Errors
/// As [`decode`]. Where `value` is no part of `document`, places are counted from the start of `value`.
pub fn decode_within<'a, T: Deserialize<'a>>(value: &'a str, document: &[u8]) -> Result<T, DecodeError> {
    T::deserialize(decoder::GoLike::new(value)).map_err(|e| e.located(value, document))
}

/// Checks that this is one whole JSON document, without looking at what it says.
///
/// # Errors
/// Where the text stops being UTF-8 or JSON; with the path of keys that leads there, if it is not too deep.
pub fn check(json: &[u8]) -> Result<&RawValue, DecodeError> {
    let text = std::str::from_utf8(json).map_err(|e| not_utf8(json, e.valid_up_to()))?;
    serde_json::from_str(text).map_err(|e| syntax_error(text, &e))
}

fn not_utf8(json: &[u8], at: usize) -> DecodeError {
    let (line, column) = place(&json[..at]);
    DecodeError { path: String::new(), line, column, message: "invalid UTF-8".to_owned() }
}

/// Line and column of what follows `before`.
fn place(before: &[u8]) -> (usize, usize) {
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    (line, 1 + before.iter().rev().take_while(|b| **b != b'\n').count())
}

/// Walks a broken document again, this time noting the way: only failures pay for it.
fn syntax_error(json: &str, error: &serde_json::Error) -> DecodeError {
    let mut track = serde_path_to_error::Track::new();
    let mut parser = serde_json::Deserializer::from_str(json);
    let walked =
        serde_json::Value::deserialize(serde_path_to_error::Deserializer::new(&mut parser, &mut track));
    // The second walk looks closer than the first: it may have stumbled before, over a number or the depth.
    let path = match walked {
        Err(e) if (e.line(), e.column()) == (error.line(), error.column()) => track.path().to_string(),
        _ => String::new(),
    };
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
/// Where `value` has a map whose keys are no strings or numbers, or a `Serialize` of its own that fails; no type of this
/// crate does.
pub fn to_raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("only keys that are no text cannot be serialised")
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
        assert_eq!(error("[]"), "invalid type: sequence, expected an object at line 1 column 1");
        assert_eq!(
            error(r#"{"sysctl":7}"#),
            "sysctl: invalid type: integer `7`, expected an object at line 1 column 11"
        );
    }

    #[test]
    fn broken_json_is_placed() {
        assert_eq!(error(""), "unexpected end of JSON input at line 1 column 0");
        assert_eq!(error("{\"name\": \"x\""), "unexpected end of JSON input at line 1 column 12");
        assert_eq!(error("{\"list\": [{\"mtu\": 1 2}]}"), "list[0]: expected `,` or `}` at line 1 column 21");
        assert!(error("{} x").starts_with("trailing characters at line 1 column 4"));
        assert_eq!(error("{\n"), "unexpected end of JSON input at line 2 column 0");
        assert!(error("\u{feff}{}").starts_with("expected value at line 1 column 1"));
    }

    #[test]
    fn the_path_is_left_out_where_it_would_be_another_s() {
        let broken = format!("{{\"a\":{}1{},\n\"b\": }}", "[".repeat(200), "]".repeat(200));
        assert_eq!(error(&broken), "expected value at line 2 column 6");
        assert_eq!(error("{\"a\":1e999,\n\"b\": }"), "expected value at line 2 column 6");
        assert_eq!(error("{\"b\": }"), "b: expected value at line 1 column 7");
    }

    #[test]
    fn text_that_is_not_unicode_is_placed() {
        let error = decode::<Outer>(b"{\n\"name\": \"a\xffb\", \"list\": []}").unwrap_err();
        assert_eq!(error.to_string(), "invalid UTF-8 at line 2 column 11");
        let error = self::error(r#"{"name": "\ud800"}"#);
        assert!(error.starts_with("name: ") && error.ends_with(" at line 1 column 10"), "{error}");
        assert_eq!(outer(r#"{"name": "\ud83d\ude00", "unknown": "\ud800"}"#).name, "😀");
    }

    #[test]
    fn keys_match_as_in_go_where_unicode_has_a_third_case() {
        assert_eq!(outer("{\"ſySctl\":{\"a\":\"b\"}}").sysctl.len(), 1);
        assert!(decoder::same_key("\u{212a}ind", "kind") && !decoder::same_key("É", "é"));
    }

    #[test]
    fn unknown_keys_are_refused_by_types_that_refuse_them() {
        let error = error(r#"{"runtimeConfig":{"mtu":1,"typo":null,"typo":2}}"#);
        assert!(error.starts_with("runtimeConfig.typo: unknown field `typo`, expected"), "{error}");
        assert!(error.ends_with("at line 1 column 34"), "{error}");
    }

    #[test]
    fn depth_is_bounded_by_an_error() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(outer(&format!("{{\"ignored\":{deep}}}")), Outer::default());

        #[derive(Debug, Deserialize)]
        struct Nested(#[allow(dead_code, reason = "only its depth matters")] Vec<Nested>);
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(decode::<Nested>(nested(128).as_bytes()).is_ok());
        let error = decode::<Nested>(nested(10_000).as_bytes()).unwrap_err();
        assert_eq!((error.message.as_str(), error.column), ("recursion limit exceeded", 129));
        assert!(
            decode::<serde_json::Value>(deep.as_bytes()).unwrap_err().message.contains("recursion limit")
        );
    }
}
