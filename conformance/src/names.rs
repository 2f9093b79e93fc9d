//! What may stand in a case between `${` and `}`: paths of the stage, and the result of the attachment's ADD.

use serde_json::{Map, Value};

use crate::case::RESULT;

/// What stands for paths.
///
/// `container`, `host` and `other` are the paths of the namespaces, `dir` is the folder (with a `plain-file`, a
/// `directory`, and `link` and `odd <&> "é"`, which lead to the container's namespace), `plugins` the folder under test,
/// `path` what CNI_PATH is.
pub(crate) const PLACEHOLDERS: [&str; 6] = ["container", "host", "other", "dir", "plugins", "path"];

/// How a part of the result is begun: `${result/ips/0/address}`, a JSON pointer.
pub(crate) const RESULT_PART: &str = "${result/";

/// What the placeholders stand for.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    values: [String; PLACEHOLDERS.len()],
    result: Option<Value>,
}

impl Names {
    /// Values in the order of [`PLACEHOLDERS`].
    pub(crate) fn new(values: [String; PLACEHOLDERS.len()]) -> Names {
        Names { values, result: None }
    }

    /// The same names, where the attachment has this result.
    pub(crate) fn with_result(&self, result: Option<&Value>) -> Names {
        Names { values: self.values.clone(), result: result.cloned() }
    }

    /// The text with every placeholder replaced.
    pub(crate) fn fill(&self, text: &str) -> String {
        if !text.contains("${") {
            return text.to_owned();
        }
        let pairs = PLACEHOLDERS.iter().zip(&self.values);
        let text =
            pairs.fold(text.to_owned(), |text, (key, value)| text.replace(&format!("${{{key}}}"), value));
        self.fill_result(text)
    }

    /// The document with the placeholders of all its texts replaced. `"${result}"` becomes the result, and
    /// `{"$result": {"/a/pointer": value}}` the result with these changes.
    pub(crate) fn fill_in(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text == RESULT => self.result.clone().unwrap_or_default(),
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(list) => list.iter().map(|value| self.fill_in(value)).collect(),
            Value::Object(object) => match object.get("$result").and_then(Value::as_object) {
                Some(changes) => self.changed_result(changes),
                None => object.iter().map(|(key, value)| (self.fill(key), self.fill_in(value))).collect(),
            },
            other => other.clone(),
        }
    }

    /// The reverse: the text with the placeholders instead of what they stand for.
    pub(crate) fn unfill(&self, text: &str) -> String {
        let pairs = PLACEHOLDERS.iter().zip(&self.values);
        pairs.fold(text.to_owned(), |text, (key, value)| text.replace(value.as_str(), &format!("${{{key}}}")))
    }

    fn fill_result(&self, mut text: String) -> String {
        let Some(result) = &self.result else { return text };
        while let Some(start) = text.find(RESULT_PART) {
            let Some(length) = text[start..].find('}') else { break };
            let pointer = &text[start + RESULT_PART.len() - 1..start + length];
            let value = result.pointer(pointer).unwrap_or(&Value::Null);
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.replace_range(start..=start + length, &value);
        }
        text
    }

    fn changed_result(&self, changes: &Map<String, Value>) -> Value {
        let mut result = self.result.clone().unwrap_or_default();
        for (pointer, value) in changes {
            let value = self.fill_in(value);
            match result.pointer_mut(pointer) {
                Some(there) => *there = value,
                None => {
                    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
                    if let Some(Value::Object(parent)) = result.pointer_mut(parent) {
                        parent.insert(key.into(), value);
                    }
                }
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names::new(["/n/c", "/n/h", "/n/o", "/n", "/p", "/q:/p"].map(str::to_owned))
    }

    #[test]
    fn placeholders_are_filled_and_unfilled() {
        let names = names();
        assert_eq!(names.fill("a ${container} ${dir}/x ${unknown}"), "a /n/c /n/x ${unknown}");
        assert_eq!(names.unfill("/n/c /n/x"), "${container} ${dir}/x");
        let value = json!({"a": ["${plugins}", 1], "${dir}/x": "${path}"});
        assert_eq!(names.fill_in(&value), json!({"a": ["/p", 1], "/n/x": "/q:/p"}));
    }

    #[test]
    fn the_result_is_handed_on_whole_changed_or_in_parts() {
        let result = json!({"interfaces": [{"name": "veth1"}], "ips": []});
        let names = names().with_result(Some(&result));
        assert_eq!(names.fill_in(&json!({"prevResult": "${result}"})), json!({"prevResult": result}));
        assert_eq!(names.fill("ip link del ${result/interfaces/0/name}"), "ip link del veth1");
        let changed =
            names.fill_in(&json!({"$result": {"/interfaces/0/name": "x", "/interfaces/0/mac": "m"}}));
        assert_eq!(changed, json!({"interfaces": [{"name": "x", "mac": "m"}], "ips": []}));
    }
}
