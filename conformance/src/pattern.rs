//! What a document has to look like: JSON in which a few objects are not values but conditions.
//!
//! | pattern | matches |
//! |---|---|
//! | `{"$any": true}` | whatever is there |
//! | `{"$like": "lo*down"}` | text, in which `*` stands for any text |
//! | `{"$oneOf": [a, b]}` | what one of the patterns matches |
//! | `{"$including": {…}}` | an object with these keys, and perhaps others |
//! | anything else | itself, keys in any order |
//!
//! Not a schema language: it says no more than the cases need.

use serde_json::{Map, Value};

/// Where a document differs from its pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The path of keys, `$` for the document itself.
    pub(crate) place: String,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// Every place where `got` is not as `pattern` says.
pub(crate) fn mismatches(pattern: &Value, got: &Value, place: &str) -> Vec<Mismatch> {
    let mut found = Vec::new();
    compare(pattern, got, place, &mut found);
    found
}

/// Whether the text is as the pattern says.
pub(crate) fn matches_text(pattern: &Value, got: &str) -> bool {
    mismatches(pattern, &Value::String(got.into()), "").is_empty()
}

/// Whether it matches exactly one value: no two different answers can both be right.
pub(crate) fn is_exact(pattern: &Value) -> bool {
    match pattern {
        Value::Object(object) => condition(object).is_none() && object.values().all(is_exact),
        Value::Array(list) => list.iter().all(is_exact),
        _ => true,
    }
}

fn compare(pattern: &Value, got: &Value, place: &str, found: &mut Vec<Mismatch>) {
    let mut differ = |expected: String| {
        found.push(Mismatch { place: place.into(), expected, got: got.to_string() });
    };
    match (pattern, got) {
        (Value::Object(object), _) if condition(object).is_some() => {
            let Some((name, argument)) = condition(object) else { return };
            match (name, argument, got) {
                ("$any", ..) => {}
                ("$like", Value::String(like), Value::String(text)) if is_like(like, text) => {}
                ("$oneOf", Value::Array(options), _)
                    if options.iter().any(|option| mismatches(option, got, place).is_empty()) => {}
                ("$including", Value::Object(keys), Value::Object(members)) => {
                    compare_keys(keys, members, place, found);
                }
                _ => differ(pattern.to_string()),
            }
        }
        (Value::Object(keys), Value::Object(members)) => {
            compare_keys(keys, members, place, found);
            for (key, value) in members.iter().filter(|(key, _)| !keys.contains_key(*key)) {
                found.push(Mismatch {
                    place: format!("{place}.{key}"),
                    expected: "no such key".into(),
                    got: value.to_string(),
                });
            }
        }
        (Value::Array(patterns), Value::Array(values)) if patterns.len() == values.len() => {
            for (index, (pattern, value)) in patterns.iter().zip(values).enumerate() {
                compare(pattern, value, &format!("{place}[{index}]"), found);
            }
        }
        _ if pattern == got => {}
        _ => differ(pattern.to_string()),
    }
}

fn compare_keys(
    keys: &Map<String, Value>,
    members: &Map<String, Value>,
    place: &str,
    found: &mut Vec<Mismatch>,
) {
    for (key, pattern) in keys {
        let place = format!("{place}.{key}");
        match members.get(key) {
            Some(value) => compare(pattern, value, &place, found),
            None => {
                found.push(Mismatch { place, expected: pattern.to_string(), got: "no such key".into() });
            }
        }
    }
}

/// The name and the argument of a condition.
fn condition(object: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (name, argument) = object.iter().next()?;
    (object.len() == 1 && name.starts_with('$')).then_some((name, argument))
}

/// `*` stands for any text, everything else for itself.
fn is_like(like: &str, text: &str) -> bool {
    let Some((head, rest)) = like.split_once('*') else { return like == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').map_or((None, rest), |(m, t)| (Some(m), t));
    let Some(mut text) = text.strip_suffix(tail) else { return false };
    for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
        let Some((_, after)) = text.split_once(part) else { return false };
        text = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(pattern: Value, got: Value) -> Vec<String> {
        mismatches(&pattern, &got, "$").into_iter().map(|mismatch| mismatch.place).collect()
    }

    #[test]
    fn a_value_matches_itself_and_nothing_else() {
        let document = json!({"a": [1, {"b": null}], "c": "x"});
        assert!(places(document.clone(), document.clone()).is_empty());
        assert_eq!(places(json!({"a": [1, {"b": 2}], "c": "x"}), document.clone()), ["$.a[1].b"]);
        assert_eq!(places(json!({"c": "x"}), document.clone()), ["$.a"]);
        assert_eq!(places(json!({"a": [1], "c": "x", "d": 1}), document), ["$.a", "$.d"]);
        assert_eq!(places(json!(1), json!("1")), ["$"]);
    }

    #[test]
    fn conditions() {
        assert!(places(json!({"a": {"$any": true}}), json!({"a": [7]})).is_empty());
        assert_eq!(places(json!({"a": {"$any": true}}), json!({})), ["$.a"]);
        assert!(places(json!({"$oneOf": [1, {"$like": "x*"}]}), json!("xy")).is_empty());
        assert_eq!(places(json!({"$oneOf": [1, 2]}), json!(3)), ["$"]);
        assert!(places(json!({"$including": {"a": 1}}), json!({"a": 1, "b": 2})).is_empty());
        assert_eq!(places(json!({"$including": {"a": 1}}), json!({"b": 2})), ["$.a"]);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (like, text) in
            [("abc", "abc"), ("a*", "a"), ("*c", "abc"), ("a*c*e", "abcde"), ("*", ""), ("a*b*b", "abb")]
        {
            assert!(is_like(like, text), "{like} {text}");
        }
        for (like, text) in [("abc", "ab"), ("a*", "b"), ("a*a", "a"), ("a*c*e", "ace f"), ("a*b*b", "ab")] {
            assert!(!is_like(like, text), "{like} {text}");
        }
    }

    #[test]
    fn conditions_are_not_exact() {
        assert!(is_exact(&json!({"a": ["b"]})));
        assert!(!is_exact(&json!({"a": [{"$any": true}]})));
    }
}
