//! CNI_ARGS: `K=V;K2=V2`, and the rule about keys that a plugin does not know (the reference's `LoadArgs`).
//!
//! The text stays text until a plugin asks: one that ignores CNI_ARGS must not stumble over what it holds.

use crate::{Error, Result};

/// The value of `CNI_ARGS`, as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(String);

impl Args {
    /// Keeps the text; nothing is looked at.
    pub fn new(text: impl Into<String>) -> Self {
        Args(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The values of the `known` keys, in their order. Keys are spelt in capitals (`IP`, `MAC`); the last of equals wins.
    ///
    /// ```
    /// use cni_spec::Args;
    ///
    /// let args = Args::new("IgnoreUnknown=1;MAC=02:00:00:00:00:01;K8S_POD_NAME=web");
    /// assert_eq!(args.load(["IP", "MAC"])?, [None, Some("02:00:00:00:00:01")]);
    /// assert!(args.load(["IP"]).is_ok());
    /// assert_eq!(Args::new("ip=10.0.0.2").load(["IP"]).unwrap_err().msg, r#"ARGS: unknown args ["ip=10.0.0.2"]"#);
    /// # Ok::<(), cni_spec::Error>(())
    /// ```
    ///
    /// # Errors
    /// A piece that is not exactly one `K=V`; an unknown key, unless `IgnoreUnknown=1` (or `true`) stands anywhere.
    #[doc(alias = "LoadArgs")]
    pub fn load<const N: usize>(&self, known: [&str; N]) -> Result<[Option<&str>; N]> {
        let mut values = [None; N];
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        if self.0.is_empty() {
            return Ok(values);
        }
        for pair in self.0.split(';') {
            let invalid = || Error::failed(format!("ARGS: invalid pair {pair:?}"));
            let (key, value) = pair.split_once('=').ok_or_else(invalid)?;
            if value.contains('=') {
                return Err(invalid());
            }
            if key == "IgnoreUnknown" {
                ignore_unknown = parse_bool(pair, value)?;
            } else if let Some(place) = known.iter().position(|k| *k == key) {
                values[place] = Some(value);
            } else {
                unknown.push(format!("{pair:?}"));
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(Error::failed(format!("ARGS: unknown args [{}]", unknown.join(" "))));
        }
        Ok(values)
    }
}

fn parse_bool(pair: &str, value: &str) -> Result<bool> {
    match value.to_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        lower => Err(Error::failed(format!(
            "ARGS: error parsing value of pair {pair:?}: boolean unmarshal error: invalid input {lower}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> std::result::Result<[Option<String>; 2], String> {
        Args::new(text).load(["IP", "MAC"]).map(|v| v.map(|v| v.map(String::from))).map_err(|e| e.msg)
    }

    #[test]
    fn known_keys_have_values() {
        assert_eq!(load(""), Ok([None, None]));
        assert_eq!(load("MAC=a;IP=b;IP=c"), Ok([Some("c".into()), Some("a".into())]));
        assert_eq!(load("IP="), Ok([Some("".into()), None]));
    }

    #[test]
    fn unknown_keys_are_refused_unless_told_otherwise() {
        assert_eq!(load("K8S_POD=x;IP=b").unwrap_err(), "ARGS: unknown args [\"K8S_POD=x\"]");
        assert_eq!(load("ip=b").unwrap_err(), "ARGS: unknown args [\"ip=b\"]");
        assert_eq!(load("K8S_POD=x;IP=b;IgnoreUnknown=TRUE"), Ok([Some("b".into()), None]));
        assert!(load("K=V;IgnoreUnknown=0").is_err());
        assert!(
            load("IgnoreUnknown=YES").unwrap_err().ends_with("boolean unmarshal error: invalid input yes")
        );
    }

    #[test]
    fn malformed_pairs_are_named() {
        for (text, pair) in [("IP=a;", ""), (";", ""), ("none", "none"), ("IP=a=b", "IP=a=b")] {
            assert_eq!(load(text).unwrap_err(), format!("ARGS: invalid pair {pair:?}"));
        }
    }
}
