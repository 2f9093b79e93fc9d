//! Whether what came of an execution is what was expected of it.
//!
//! Some things are expected whatever a case says: that the plugin ends by itself, and that standard output carries
//! one JSON document or nothing.

use serde_json::{Map, Value, json};

use crate::case::{ErrorPattern, Expect, Reply};
use crate::names::Names;
use crate::pattern::{Mismatch, matches_text, mismatches};
use crate::process::{Exit, Outcome};

mod world;

pub(crate) use world::{judge_surroundings, judge_truth, judge_world};

/// The versions of the specification.
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// By which expectation a directory is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standard {
    /// The specification, and Ferrocni's own decisions where it is silent.
    Ours,
    /// What the Go plugins are known to do.
    Reference,
}

impl Standard {
    pub(crate) fn of(reference: bool) -> Standard {
        if reference { Standard::Reference } else { Standard::Ours }
    }
}

/// Everything about the outcome that is not as expected.
pub(crate) fn judge(expect: &Expect, outcome: &Outcome, standard: Standard, names: &Names) -> Vec<Mismatch> {
    let mut found = Vec::new();
    match (&expect.reply, outcome.exit) {
        (Reply::Hangs, Exit::TimedOut) | (Reply::NoSuccess, Exit::Signal(_)) => {}
        (Reply::Hangs, exit) => found.push(differs("exit", "it does not end", &exit.to_string())),
        (_, Exit::Status(_)) => {}
        (_, exit) => found.push(differs("exit", "it ends by itself", &exit.to_string())),
    }
    if documents(&outcome.stdout).is_none_or(|documents| documents.len() > 1) {
        found.push(differs("stdout", "one JSON document or nothing", &text(&outcome.stdout)));
    }
    if found.is_empty() {
        found.extend(judge_reply(&expect.reply, outcome, standard, names));
    }
    if let Some(pattern) = &expect.stderr {
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        if !matches_text(&names.fill_in(pattern), &stderr) {
            found.push(differs("stderr", &pattern.to_string(), &stderr));
        }
    }
    found
}

/// The error that a document is, if it is one.
pub(crate) fn as_error(document: &Value) -> Option<&Map<String, Value>> {
    document.as_object().filter(|object| object.contains_key("code") && object.contains_key("msg"))
}

/// The JSON documents in it; nothing if something else is in it.
pub(crate) fn documents(stdout: &[u8]) -> Option<Vec<Value>> {
    serde_json::Deserializer::from_slice(stdout).into_iter().collect::<Result<_, _>>().ok()
}

fn judge_reply(reply: &Reply, outcome: &Outcome, standard: Standard, names: &Names) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let status = match reply {
        Reply::Nothing | Reply::Success | Reply::Result(_) | Reply::Exactly(_) => Some(0),
        Reply::Error(_) | Reply::ErrorExactly(_) | Reply::Failure => Some(1),
        Reply::Any | Reply::NoSuccess | Reply::Hangs => None,
    };
    let plausible = match (reply, outcome.exit) {
        (Reply::Any, Exit::Status(status)) => status == 0 || status == 1,
        (Reply::NoSuccess, exit) => exit != Exit::Status(0),
        _ => status.is_none_or(|status| outcome.exit == Exit::Status(status)),
    };
    if !plausible {
        let expected = match (reply, status) {
            (_, Some(status)) => Exit::Status(status).to_string(),
            (Reply::Any, _) => "exit status 0 or 1".to_owned(),
            _ => "anything but exit status 0".to_owned(),
        };
        found.push(differs("exit", &expected, &outcome.exit.to_string()));
    }
    let got = text(&outcome.stdout);
    match reply {
        Reply::Nothing if !outcome.stdout.is_empty() => found.push(differs("stdout", "nothing", &got)),
        Reply::Exactly(lines) | Reply::ErrorExactly(lines) => {
            let expected = names.fill(&lines.join("\n"));
            if expected.as_bytes() != outcome.stdout {
                found.push(differs("stdout", &format!("exactly\n{expected}"), &got));
            }
        }
        Reply::Result(pattern) => match sole_document(outcome) {
            Some(document) => {
                let document = without_empty_dns(document, pattern, standard);
                found.extend(mismatches(&names.fill_in(pattern), &document, "result"));
            }
            None => found.push(differs("stdout", "a result", &got)),
        },
        Reply::Error(pattern) => match sole_document(outcome).as_ref().and_then(as_error) {
            Some(error) => found.extend(judge_error(pattern, error, standard, names)),
            None => found.push(differs("stdout", "an error document", &got)),
        },
        Reply::Nothing | Reply::Success | Reply::Any | Reply::Failure | Reply::NoSuccess | Reply::Hangs => {}
    }
    found
}

fn judge_error(
    pattern: &ErrorPattern,
    error: &Map<String, Value>,
    standard: Standard,
    names: &Names,
) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let known = ["cniVersion", "code", "msg", "details"];
    for key in error.keys().filter(|key| !known.contains(&key.as_str())) {
        found.push(differs(&format!("error.{key}"), "no such key", &error[key].to_string()));
    }
    let mut expected = Map::from_iter([("code".to_owned(), pattern.code.clone())]);
    expected.extend(pattern.msg.clone().map(|msg| ("msg".to_owned(), msg)));
    expected.extend(pattern.details.clone().map(|details| ("details".to_owned(), details)));
    match (&pattern.cni_version, standard) {
        (Some(version), _) => drop(expected.insert("cniVersion".into(), version.clone())),
        // The reference's errors have none: the difference error-cni-version.
        (None, Standard::Reference) => {}
        (None, Standard::Ours) => {
            drop(expected.insert("cniVersion".into(), json!({ "$oneOf": VERSIONS })));
        }
    }
    // `null` in an expectation stands for a key that must not be there.
    let absent: Vec<String> = expected.iter().filter(|(_, v)| v.is_null()).map(|(k, _)| k.clone()).collect();
    for key in absent {
        expected.remove(&key);
        if let Some(value) = error.get(&key) {
            found.push(differs(&format!("error.{key}"), "no such key", &value.to_string()));
        }
    }
    let pattern_of_all = names.fill_in(&json!({ "$including": expected }));
    found.extend(mismatches(&pattern_of_all, &Value::Object(error.clone()), "error"));
    let part = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    if part("msg").is_empty() {
        found.push(differs("error.msg", "a text", "none"));
    }
    if error.contains_key("details") && part("details").is_empty() {
        found.push(differs("error.details", "a text, or no such key", &error["details"].to_string()));
    }
    let said = format!("{}; {}", part("msg"), part("details"));
    for words in pattern.says.iter().map(|words| names.fill(words)).filter(|words| !said.contains(words)) {
        found.push(differs(
            "error.msg and error.details",
            &format!("the words {words:?}"),
            &format!("{said:?}"),
        ));
    }
    found
}

/// Old releases of the reference print an empty `dns`. One case says so, and no other needs to.
fn without_empty_dns(mut document: Value, pattern: &Value, standard: Standard) -> Value {
    if standard == Standard::Reference && document["dns"] == json!({}) && pattern["dns"].is_null() {
        document.as_object_mut().map(|members| members.remove("dns"));
    }
    document
}

fn sole_document(outcome: &Outcome) -> Option<Value> {
    documents(&outcome.stdout).filter(|documents| documents.len() == 1)?.pop()
}

fn differs(place: &str, expected: &str, got: &str) -> Mismatch {
    Mismatch { place: place.into(), expected: expected.into(), got: got.into() }
}

fn text(bytes: &[u8]) -> String {
    if bytes.is_empty() { "nothing".into() } else { String::from_utf8_lossy(bytes).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(reply: Value, status: i32, stdout: &str, standard: Standard) -> Vec<String> {
        let expect: Expect = serde_json::from_value(json!({ "reply": reply })).unwrap();
        let outcome = Outcome { exit: Exit::Status(status), stdout: stdout.into(), ..Outcome::default() };
        let names = Names::new([const { String::new() }; 6]);
        judge(&expect, &outcome, standard, &names).into_iter().map(|found| found.place).collect()
    }

    #[test]
    fn standard_output_carries_one_document_whatever_is_expected() {
        for reply in [json!("any"), json!("nothing"), json!("failure"), json!({"result": {}})] {
            assert!(places(reply.clone(), 0, "{}\n{}", Standard::Ours).contains(&"stdout".into()), "{reply}");
            assert!(places(reply, 0, "hello", Standard::Ours).contains(&"stdout".into()));
        }
        assert!(places(json!("any"), 0, "{}\n", Standard::Ours).is_empty());
    }

    #[test]
    fn a_plugin_that_crashes_or_hangs_is_never_right() {
        let expect: Expect = serde_json::from_value(json!({ "reply": "any" })).unwrap();
        let names = Names::new([const { String::new() }; 6]);
        for exit in [Exit::Signal(11), Exit::TimedOut] {
            let outcome = Outcome { exit, ..Outcome::default() };
            assert_eq!(judge(&expect, &outcome, Standard::Ours, &names)[0].place, "exit");
        }
        assert_eq!(places(json!("any"), 101, "", Standard::Ours), ["exit"]);
    }

    #[test]
    fn an_error_has_the_keys_of_the_specification() {
        let error = json!({"error": {"code": 7}});
        let good = r#"{"cniVersion":"1.0.0","code":7,"msg":"m"}"#;
        let old = r#"{"code":7,"msg":"m"}"#;
        assert!(places(error.clone(), 1, good, Standard::Ours).is_empty());
        assert_eq!(places(error.clone(), 1, old, Standard::Ours), ["error.cniVersion"]);
        assert!(places(error.clone(), 1, old, Standard::Reference).is_empty());
        assert_eq!(places(error.clone(), 0, good, Standard::Ours), ["exit"]);
        assert_eq!(
            places(error.clone(), 1, r#"{"code":7,"msg":"m","details":"","x":1}"#, Standard::Reference),
            ["error.x", "error.details"]
        );
        assert_eq!(places(error, 1, "", Standard::Ours), ["stdout"]);
    }

    #[test]
    fn null_in_an_expected_error_is_a_key_that_is_not_there() {
        let error = json!({"error": {"code": 7, "details": null}});
        let with = r#"{"cniVersion":"1.0.0","code":7,"msg":"m","details":"d"}"#;
        assert_eq!(places(error, 1, with, Standard::Ours), ["error.details"]);
    }

    #[test]
    fn exact_replies_are_compared_byte_by_byte() {
        let reply = json!({"exactly": ["{", "}"]});
        assert!(places(reply.clone(), 0, "{\n}", Standard::Ours).is_empty());
        assert_eq!(places(reply, 0, "{\n}\n", Standard::Ours), ["stdout"]);
    }
}
