//! JSON as the reference prints it: four spaces, and `<`, `>`, `&` and the two line separators as escapes, so that
//! what is compared byte by byte compares equal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

/// Four spaces of indentation, no newline at the end.
///
/// # Panics
/// As [`to_raw`](super::to_raw).
pub fn to_pretty<T: Serialize + ?Sized>(value: &T) -> String {
    print(value, GoStrings(PrettyFormatter::with_indent(b"    ")))
}

/// One line, no newline at the end.
///
/// # Panics
/// As [`to_raw`](super::to_raw).
pub fn to_compact<T: Serialize + ?Sized>(value: &T) -> String {
    print(value, GoStrings(CompactFormatter))
}

fn print<T: Serialize + ?Sized>(value: &T, formatter: impl Formatter) -> String {
    let mut out = Vec::with_capacity(512);
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter))
        .expect("only keys that are no text cannot be serialised");
    String::from_utf8(out).expect("serde_json writes UTF-8")
}

/// Another formatter with Go's escapes in strings.
struct GoStrings<F>(F);

macro_rules! pass_on {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $type)*) -> io::Result<()> {
            self.0.$method(writer $(, $arg)*)
        }
    )*};
}

impl<F: Formatter> Formatter for GoStrings<F> {
    pass_on! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some(at) = rest.find(special) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let c = rest[at..].chars().next().unwrap_or_default();
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        assert_eq!(to_compact("<a&b>\u{2028}é\"\n"), "\"\\u003ca\\u0026b\\u003e\\u2028é\\\"\\n\"");
    }

    #[test]
    fn indentation_is_four_spaces_and_empty_things_stay_on_one_line() {
        let value = serde_json::json!({"a": [1, {}], "b": []});
        assert_eq!(to_pretty(&value), "{\n    \"a\": [\n        1,\n        {}\n    ],\n    \"b\": []\n}");
    }
}
