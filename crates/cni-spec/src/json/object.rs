//! A JSON object whose members can be looked at and replaced while everything else stays as it was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::decoder::same_key;
use super::{DecodeError, check, decode_within, place, to_raw};

/// An object: its keys in their order, its values byte for byte as they stood.
///
/// ```
/// use cni_spec::json::Object;
///
/// let mut config = Object::parse(br#"{"type": "bridge", "mtu": 1.50, "cniversion": "0.4.0"}"#)?;
/// config.set("cniVersion", "1.1.0");
/// assert_eq!(config.to_json(), r#"{"type":"bridge","mtu":1.50,"cniVersion":"1.1.0"}"#);
/// # Ok::<(), cni_spec::json::DecodeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Object {
    members: Vec<(String, Box<RawValue>)>,
}

impl Object {
    /// An object without members.
    pub fn new() -> Self {
        Object::default()
    }

    /// Reads an object.
    ///
    /// # Errors
    /// What is not JSON, or not an object.
    pub fn parse(json: &[u8]) -> Result<Self, DecodeError> {
        let value = check(json)?;
        if value.get() == "null" {
            // the one value that is no object and decodes all the same
            let (line, column) = place(&json[..json.iter().take_while(|b| b.is_ascii_whitespace()).count()]);
            let message = "invalid type: null, expected an object".to_owned();
            return Err(DecodeError { path: String::new(), line, column, message });
        }
        decode_within(value.get(), json)
    }

    /// The value of exactly this key; of equal keys the last.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| &**v)
    }

    /// Gives `key` this value, in the place of an earlier one or at the end. A key of the same letters in another
    /// case goes, so that no decoder can take it for this one.
    ///
    /// # Panics
    /// As [`to_raw`].
    pub fn set<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) {
        let value = to_raw(value);
        let place = self.members.iter().position(|(k, _)| same_key(k, key));
        self.remove(key);
        let place = place.unwrap_or(self.members.len()).min(self.members.len());
        self.members.insert(place, (key.to_owned(), value));
    }

    /// Takes `key` away, in whatever case.
    pub fn remove(&mut self, key: &str) {
        self.members.retain(|(k, _)| !same_key(k, key));
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|(k, v)| (k.as_str(), &**v))
    }

    /// The object as one line of JSON.
    pub fn to_json(&self) -> String {
        super::to_compact(self)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, value) in &self.members {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_replaced_in_their_place() {
        let mut object = Object::parse(br#"{"b": 1.50, "Name":"x", "z":[ 1 ]}"#).unwrap();
        object.set("name", "y");
        object.set("new", &true);
        assert_eq!(object.to_json(), r#"{"b":1.50,"name":"y","z":[ 1 ],"new":true}"#);
        object.remove("Z");
        assert!(object.get("z").is_none());
        assert_eq!(object.get("name").unwrap().get(), "\"y\"");
    }

    #[test]
    fn doubles_collapse_when_set() {
        let mut object = Object::parse(br#"{"a":1,"b":2,"A":3,"a":4}"#).unwrap();
        assert_eq!(object.get("a").unwrap().get(), "4");
        object.set("a", &5);
        assert_eq!(object.to_json(), r#"{"a":5,"b":2}"#);
    }

    #[test]
    fn only_objects_are_objects() {
        let error = |json: &str| Object::parse(json.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("\n [1]"), "invalid type: sequence, expected an object at line 2 column 2");
        assert_eq!(error("\n null"), "invalid type: null, expected an object at line 2 column 2");
        assert_eq!(error("{"), "unexpected end of JSON input at line 1 column 1");
    }
}
