//! A deserializer with Go's manners on top of serde_json: each value is found as a slice of the document, and only
//! then looked into by the type that wants it.
//!
//! It is for configuration-sized documents: every level of nesting reads its text once more, which is why there are
//! at most [`MAX_DEPTH`] of them. What no type asks for is skipped in one go, however deep it is.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, CowStrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use super::{DecodeError, place, without_position};

/// The number of arrays and objects that may stand in each other; serde_json draws the same line.
const MAX_DEPTH: u8 = 128;

/// One value of a document.
#[derive(Clone, Copy)]
pub(super) struct GoLike<'de> {
    text: &'de str,
    /// How many arrays and objects it stands in.
    depth: u8,
}

impl<'de> GoLike<'de> {
    /// `text` is one value, already known to be JSON.
    pub(super) fn new(text: &'de str) -> Self {
        GoLike { text: text.trim_ascii(), depth: 0 }
    }

    /// The depth of what stands in this array or object: only a type that contains itself can get too deep.
    fn inside(self) -> Result<u8, Failure> {
        match self.depth {
            MAX_DEPTH.. => Err(Failure::new("recursion limit exceeded".to_owned())),
            depth => Ok(depth + 1),
        }
    }

    fn is_null(self) -> bool {
        self.text == "null"
    }

    /// Hands the value to serde_json, remembering where it stands.
    fn plain<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'de>>) -> serde_json::Result<T>,
    ) -> Result<T, Failure> {
        read(&mut serde_json::Deserializer::from_str(self.text)).map_err(|e| Failure {
            at: Some(self.text.as_ptr() as usize),
            ..Failure::new(without_position(&e))
        })
    }

    fn members(self) -> Result<Vec<Member<'de>>, Failure> {
        self.plain(|d| d.deserialize_map(Members)).map(|mut members| {
            members.iter_mut().for_each(|m| m.value = m.value.trim_ascii());
            members
        })
    }
}

/// Why and where; the way is noted from the inside out.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    /// The address of the value's text inside the document, for the innermost value that is known.
    at: Option<usize>,
    /// Keys and indices, innermost first.
    way: Vec<String>,
}

impl Failure {
    fn new(message: String) -> Self {
        Failure { message, at: None, way: Vec::new() }
    }

    fn inside(mut self, step: impl FnOnce() -> String, value: &str) -> Self {
        self.at.get_or_insert(value.as_ptr() as usize);
        self.way.push(step());
        self
    }

    /// Turns addresses into lines and columns.
    pub(super) fn located(self, value: &str, document: &[u8]) -> DecodeError {
        let at = self.at.unwrap_or(value.as_ptr() as usize);
        let base = [document, value.as_bytes()]
            .into_iter()
            .find(|d| (d.as_ptr() as usize..d.as_ptr() as usize + d.len()).contains(&at));
        let (line, column) = place(base.map_or(&[][..], |d| &d[..at - d.as_ptr() as usize]));
        let mut path = String::new();
        for step in self.way.iter().rev() {
            if !path.is_empty() && !step.starts_with('[') {
                path.push('.');
            }
            path.push_str(step);
        }
        DecodeError { path, line, column, message: self.message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Failure::new(message.to_string())
    }
}

/// A scalar: `null` is the type's zero value, anything else is serde_json's business.
macro_rules! scalar {
    ($($method:ident => $visit:ident($zero:expr),)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            if self.is_null() { visitor.$visit($zero) } else { self.plain(|d| d.$method(visitor)) }
        }
    )*};
}

impl<'de> Deserializer<'de> for GoLike<'de> {
    type Error = Failure;

    scalar! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i8(0),
        deserialize_i16 => visit_i16(0),
        deserialize_i32 => visit_i32(0),
        deserialize_i64 => visit_i64(0),
        deserialize_i128 => visit_i128(0),
        deserialize_u8 => visit_u8(0),
        deserialize_u16 => visit_u16(0),
        deserialize_u32 => visit_u32(0),
        deserialize_u64 => visit_u64(0),
        deserialize_u128 => visit_u128(0),
        deserialize_f32 => visit_f32(0.0),
        deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_borrowed_str(""),
        deserialize_string => visit_borrowed_str(""),
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.plain(|d| d.deserialize_any(visitor))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        // This is how serde_json's RawValue asks for the text itself; the name is part of its contract with itself.
        if name == "$serde_json::private::RawValue" {
            return self.plain(|d| d.deserialize_newtype_struct(name, visitor));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.inside()?;
        let values =
            if self.is_null() { Vec::new() } else { self.plain(|d| Vec::<&'de RawValue>::deserialize(d))? };
        visitor.visit_seq(Elements { values: values.into_iter().enumerate(), depth })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let depth = self.inside()?;
        let members = if self.is_null() { Vec::new() } else { self.members()? };
        visitor.visit_map(Fields { members: members.into_iter(), value: None, depth })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let depth = self.inside()?;
        let members = if self.is_null() { Vec::new() } else { once_a_field(self.members()?, fields) };
        visitor.visit_map(Fields { members: members.into_iter(), value: None, depth })
    }

    /// The text is known to be JSON: what nobody wants need not be looked at again.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.plain(|d| d.deserialize_enum(name, variants, visitor))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.plain(|d| d.deserialize_unit(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.deserialize_unit(visitor)
    }

    forward_to_deserialize_any! { char bytes byte_buf identifier }
}

/// Gives members the names of their fields; of those that mean the same field the last one stays that says anything.
/// The others stay as they are, for types that refuse unknown fields.
fn once_a_field<'de>(members: Vec<Member<'de>>, fields: &'static [&'static str]) -> Vec<Member<'de>> {
    let mut kept: Vec<Member<'de>> = Vec::with_capacity(members.len());
    let mut places = vec![None; fields.len()];
    for member in members {
        let Some(field) = field_of(&member.key, fields) else {
            kept.push(member);
            continue;
        };
        let named = Member { key: Cow::Borrowed(fields[field]), value: member.value };
        match places[field] {
            _ if named.value == "null" => {}
            Some(place) => kept[place] = named,
            None => {
                places[field] = Some(kept.len());
                kept.push(named);
            }
        }
    }
    kept
}

fn field_of(key: &str, fields: &'static [&'static str]) -> Option<usize> {
    let exact = fields.iter().position(|f| *f == key);
    exact.or_else(|| fields.iter().position(|f| same_key(f, key)))
}

/// Whether Go takes two keys for the same field. `ſ` and `K` (the Kelvin sign) are the two characters beyond ASCII whose
/// other case is within.
pub(super) fn same_key(a: &str, b: &str) -> bool {
    fn folded(text: &str) -> impl Iterator<Item = char> {
        text.chars().map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
    }
    folded(a).eq(folded(b))
}

/// A key and the text of its value.
struct Member<'de> {
    key: Cow<'de, str>,
    value: &'de str,
}

/// Reads an object as it stands: order and doubles are kept.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            members.push(Member { key, value: map.next_value::<&'de RawValue>()?.get() });
        }
        Ok(members)
    }
}

/// A key that is borrowed where it has no escapes; a plain `Cow` would always be copied.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<'de> {
    members: std::vec::IntoIter<Member<'de>>,
    value: Option<Member<'de>>,
    depth: u8,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.value = self.members.next();
        let Some(member) = &self.value else { return Ok(None) };
        let key = match &member.key {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)),
            Cow::Owned(key) => seed.deserialize(CowStrDeserializer::new(Cow::Borrowed(key.as_str()))),
        };
        key.map(Some).map_err(|e: Failure| e.inside(|| member.key.to_string(), member.value))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let member = self.value.take().expect("serde asks for a value only after its key");
        seed.deserialize(GoLike { text: member.value, depth: self.depth })
            .map_err(|e| e.inside(|| member.key.to_string(), member.value))
    }
}

struct Elements<'de> {
    values: std::iter::Enumerate<std::vec::IntoIter<&'de RawValue>>,
    depth: u8,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, value)) = self.values.next() else { return Ok(None) };
        let text = value.get().trim_ascii();
        let value = GoLike { text, depth: self.depth };
        seed.deserialize(value).map(Some).map_err(|e| e.inside(|| format!("[{index}]"), text))
    }

    fn size_hint(&self) -> Option<usize> {
        self.values.size_hint().1
    }
}
