//! The JSON rules for every document: a model that normalises a document to what serde accepts, then compares.
//!
//! Documents are trees whose objects may have equal keys; the model knows the shape of the type they are decoded into.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write;

use cni_spec::json::{self, Object};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    name: String,
    is_gateway: bool,
    mtu: u32,
    offset: i64,
    ratio: f64,
    maybe: Option<i64>,
    list: Vec<String>,
    flags: Vec<bool>,
    #[serde(rename = "FLAGS")]
    other_flags: BTreeMap<String, bool>,
    sysctl: BTreeMap<String, String>,
    nested: Nested,
    items: Vec<Nested>,
    any: Option<Value>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Nested {
    #[serde(rename = "type")]
    kind: String,
    deep_list: Vec<Vec<u8>>,
}

/// What a type looks like to a decoder.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Text,
    Bool,
    Whole,
    Real,
    Maybe(&'static Shape),
    List(&'static Shape),
    Map(&'static Shape),
    Fields(&'static [(&'static str, Shape)]),
    Any,
}

const NESTED: Shape =
    Shape::Fields(&[("type", Shape::Text), ("deepList", Shape::List(&Shape::List(&Shape::Whole)))]);
const CONFIG: Shape = Shape::Fields(&[
    ("name", Shape::Text),
    ("isGateway", Shape::Bool),
    ("mtu", Shape::Whole),
    ("offset", Shape::Whole),
    ("ratio", Shape::Real),
    ("maybe", Shape::Maybe(&Shape::Whole)),
    ("list", Shape::List(&Shape::Text)),
    ("flags", Shape::List(&Shape::Bool)),
    ("FLAGS", Shape::Map(&Shape::Bool)),
    ("sysctl", Shape::Map(&Shape::Text)),
    ("nested", NESTED),
    ("items", Shape::List(&NESTED)),
    ("any", Shape::Maybe(&Shape::Any)),
]);

/// A document in which objects may have equal keys.
#[derive(Debug, Clone)]
enum Node {
    Null,
    Bool(bool),
    Number(&'static str),
    Text(String),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// The document, with white space from `spaces` wherever it may stand.
    fn print(&self, out: &mut String, spaces: &mut dyn Iterator<Item = &'static str>) {
        match self {
            Node::Null => out.push_str("null"),
            Node::Bool(b) => write!(out, "{b}").unwrap(),
            Node::Number(n) => out.push_str(n),
            Node::Text(t) => out.push_str(&serde_json::to_string(t).unwrap()),
            Node::List(items) => list(out, spaces, "[]", items, |item, out, spaces| item.print(out, spaces)),
            Node::Object(members) => list(out, spaces, "{}", members, |(key, value), out, spaces| {
                out.push_str(&serde_json::to_string(key).unwrap());
                out.extend(spaces.next());
                out.push(':');
                out.extend(spaces.next());
                value.print(out, spaces);
            }),
        }
    }

    fn printed(&self, spaces: &[&'static str]) -> String {
        let mut out = String::new();
        let mut spaces = spaces.iter().copied().cycle();
        out.extend(spaces.next());
        self.print(&mut out, &mut spaces);
        out.extend(spaces.next());
        out
    }

    fn plain(&self) -> String {
        self.printed(&[])
    }
}

type Spaces<'a> = &'a mut dyn Iterator<Item = &'static str>;

fn list<T>(
    out: &mut String,
    spaces: Spaces<'_>,
    ends: &str,
    items: &[T],
    print: impl Fn(&T, &mut String, Spaces<'_>),
) {
    out.push_str(&ends[..1]);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.extend(spaces.next());
        print(item, out, spaces);
        out.extend(spaces.next());
    }
    out.push_str(&ends[1..]);
}

/// The document as serde wants it: fields by their names, once, no null where no null can be. Nothing where it would
/// have to be refused, and serde would not.
fn normalise(node: &Node, shape: Shape) -> Option<Value> {
    let zero = |shape| match shape {
        Shape::Text => Value::String(String::new()),
        Shape::Bool => Value::Bool(false),
        Shape::Whole | Shape::Real => Value::Number(0.into()),
        Shape::Maybe(_) | Shape::Any => Value::Null,
        Shape::List(_) => Value::Array(Vec::new()),
        Shape::Map(_) | Shape::Fields(_) => Value::Object(Default::default()),
    };
    Some(match (node, shape) {
        (Node::Null, _) => zero(shape),
        (_, Shape::Maybe(inner)) => normalise(node, *inner)?,
        (Node::List(items), Shape::List(inner)) => {
            Value::Array(items.iter().map(|item| normalise(item, *inner)).collect::<Option<_>>()?)
        }
        (Node::Object(members), Shape::Map(inner)) => {
            let pairs = members.iter().map(|(key, value)| Some((key.clone(), normalise(value, *inner)?)));
            Value::Object(pairs.collect::<Option<_>>()?)
        }
        (Node::Object(members), Shape::Fields(fields)) => {
            let mut found = serde_json::Map::new();
            for (field, shape) in fields {
                // Values that lose against a later one are not looked at.
                let mut mine = members.iter().filter(|(key, value)| {
                    let field_of = fields
                        .iter()
                        .find(|(f, _)| f == key)
                        .or_else(|| fields.iter().find(|(f, _)| f.to_lowercase() == key.to_lowercase()));
                    field_of.is_some_and(|(f, _)| f == field) && !matches!(value, Node::Null)
                });
                if let Some((_, value)) = mine.next_back() {
                    found.insert((*field).to_owned(), normalise(value, *shape)?);
                }
            }
            Value::Object(found)
        }
        (Node::List(_), Shape::Fields(_)) => return None,
        _ => serde_json::from_str(&node.plain()).unwrap(),
    })
}

fn number() -> impl Strategy<Value = Node> {
    select(&["0", "1", "-1", "9000", "4294967296", "1.0", "-2.25", "1e3", "18446744073709551615", "-0"][..])
        .prop_map(Node::Number)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), pick(&["", "a", "A", "net.ipv4", "\u{7f}\"\\"])]
}

fn pick(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(texts).prop_map(String::from)
}

/// Anything at all.
fn anything() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        Just(Node::Null),
        any::<bool>().prop_map(Node::Bool),
        number(),
        text().prop_map(Node::Text)
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Node::List),
            vec((text(), inner), 0..3).prop_map(Node::Object)
        ]
    })
}

/// Something that this shape accepts.
fn fitting(shape: Shape) -> BoxedStrategy<Node> {
    match shape {
        Shape::Text => text().prop_map(Node::Text).boxed(),
        Shape::Bool => any::<bool>().prop_map(Node::Bool).boxed(),
        Shape::Whole => select(&["0", "1", "42", "255"][..]).prop_map(Node::Number).boxed(),
        Shape::Real => select(&["0", "1.5", "-2.25", "1e3"][..]).prop_map(Node::Number).boxed(),
        Shape::Maybe(inner) => fitting(*inner),
        Shape::List(inner) => vec(fitting(*inner), 0..3).prop_map(Node::List).boxed(),
        Shape::Map(inner) => vec((text(), fitting(*inner)), 0..3).prop_map(Node::Object).boxed(),
        Shape::Fields(fields) => {
            let each: Vec<_> = fields
                .iter()
                .map(|(name, shape)| {
                    proptest::option::of(fitting(*shape)).prop_map(|v| v.map(|v| (name.to_string(), v)))
                })
                .collect();
            each.prop_map(|members| Node::Object(members.into_iter().flatten().collect()))
                .prop_shuffle_members()
        }
        Shape::Any => anything().boxed(),
    }
}

/// Members come in any order.
trait Shuffled {
    fn prop_shuffle_members(self) -> BoxedStrategy<Node>;
}

impl<S: Strategy<Value = Node> + 'static> Shuffled for S {
    fn prop_shuffle_members(self) -> BoxedStrategy<Node> {
        self.prop_flat_map(|node| match node {
            Node::Object(members) => Just(members).prop_shuffle().prop_map(Node::Object).boxed(),
            other => Just(other).boxed(),
        })
        .boxed()
    }
}

/// What users write: keys in any case, twice, with null or the wrong thing behind them.
fn careless(shape: Shape) -> BoxedStrategy<Node> {
    match shape {
        Shape::Fields(fields) => {
            let member = select(fields).prop_flat_map(|(name, shape)| {
                let key = any::<u16>().prop_map(move |mask| {
                    let flip = |(i, c): (usize, char)| {
                        if mask >> (i % 16) & 1 == 1 { c.to_ascii_uppercase() } else { c }
                    };
                    name.chars().enumerate().map(flip).collect::<String>()
                });
                let value = prop_oneof![
                    12 => careless(shape),
                    2 => Just(Node::Null).boxed(),
                    1 => anything().boxed(),
                ];
                (prop_oneof![Just(name.to_owned()), key], value)
            });
            let unknown = (text(), anything());
            vec(prop_oneof![8 => member.boxed(), 1 => unknown.boxed()], 0..8).prop_map(Node::Object).boxed()
        }
        Shape::List(inner) => vec(prop_oneof![8 => careless(*inner), 1 => Just(Node::Null).boxed()], 0..3)
            .prop_map(Node::List)
            .boxed(),
        Shape::Map(inner) => {
            let value = prop_oneof![8 => careless(*inner), 1 => Just(Node::Null).boxed()];
            vec((text(), value), 0..4).prop_map(Node::Object).boxed()
        }
        Shape::Maybe(inner) => careless(*inner),
        other => fitting(other),
    }
}

fn spaces() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&["", " ", "\n", "\t\r\n", "  "][..]), 1..7)
}

/// The places in a document whose values have a type: the way there, and the shape.
fn places(node: &Node, shape: Shape, way: &str, found: &mut Vec<(String, Shape)>) {
    let shape = if let Shape::Maybe(inner) = shape { *inner } else { shape };
    if !matches!(shape, Shape::Any) {
        found.push((way.to_owned(), shape));
    }
    let step = |key: &str| if way.is_empty() { key.to_owned() } else { format!("{way}.{key}") };
    match (node, shape) {
        (Node::List(items), Shape::List(inner)) => {
            for (index, item) in items.iter().enumerate() {
                places(item, *inner, &format!("{way}[{index}]"), found);
            }
        }
        (Node::Object(members), Shape::Fields(fields)) => {
            for (key, value) in members {
                let shape = fields.iter().find(|(name, _)| name == key).unwrap().1;
                places(value, shape, &step(key), found);
            }
        }
        _ => {}
    }
}

/// Puts `new` where `way` leads.
fn replace(node: &mut Node, here: &str, way: &str, new: &Node) {
    if here == way {
        *node = new.clone();
        return;
    }
    match node {
        Node::List(items) => {
            items
                .iter_mut()
                .enumerate()
                .for_each(|(i, item)| replace(item, &format!("{here}[{i}]"), way, new));
        }
        Node::Object(members) => {
            let dot = if here.is_empty() { "" } else { "." };
            members
                .iter_mut()
                .for_each(|(key, value)| replace(value, &format!("{here}{dot}{key}"), way, new));
        }
        _ => {}
    }
}

/// A value that this shape refuses.
fn wrong(shape: Shape) -> Node {
    match shape {
        Shape::Text => Node::Number("666"),
        Shape::Bool | Shape::Whole | Shape::Real => Node::Text("wrong".to_owned()),
        Shape::List(_) | Shape::Map(_) => Node::Bool(true),
        Shape::Fields(_) => Node::List(vec![Node::Number("7")]),
        Shape::Maybe(_) | Shape::Any => unreachable!("places has seen through them"),
    }
}

/// The text that a line and a column point to.
fn pointed_at<'a>(document: &'a str, error: &json::DecodeError) -> &'a str {
    let line_start: usize = document.split_inclusive('\n').take(error.line - 1).map(str::len).sum();
    &document[line_start + error.column - 1..]
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_alike(node in fitting(CONFIG), spaces in spaces()) {
        let document = node.printed(&spaces);
        let theirs: Config = serde_json::from_str(&document).unwrap();
        prop_assert_eq!(&json::decode::<Config>(document.as_bytes()).unwrap(), &theirs);
        let again = serde_json::to_string(&theirs).unwrap();
        prop_assert_eq!(json::decode::<Config>(again.as_bytes()).unwrap(), theirs);
    }

    #[test]
    fn careless_documents_mean_what_the_rules_say(node in careless(CONFIG), spaces in spaces()) {
        let strict = normalise(&node, CONFIG);
        let expected = strict.and_then(|v| serde_json::from_str::<Config>(&v.to_string()).ok());
        prop_assert_eq!(json::decode::<Config>(node.printed(&spaces).as_bytes()).ok(), expected);
    }

    #[test]
    fn any_document_decodes_into_any_value(node in anything(), spaces in spaces()) {
        let document = node.printed(&spaces);
        let theirs: Value = serde_json::from_str(&document).unwrap();
        prop_assert_eq!(json::decode::<Value>(document.as_bytes()).unwrap(), theirs);
        prop_assert_eq!(json::check(document.as_bytes()).unwrap().get(), document.trim());
    }

    #[test]
    fn an_error_points_at_the_value(
        node in fitting(CONFIG),
        choice in any::<prop::sample::Index>(),
        spaces in spaces(),
    ) {
        let mut found = Vec::new();
        places(&node, CONFIG, "", &mut found);
        let (way, shape) = choice.get(&found);
        let mut broken = node.clone();
        replace(&mut broken, "", way, &wrong(*shape));
        let document = broken.printed(&spaces);
        let error = json::decode::<Config>(document.as_bytes()).unwrap_err();
        prop_assert_eq!(&error.path, way);
        let text = wrong(*shape).plain();
        let start = text.split('7').next().unwrap();
        prop_assert!(pointed_at(&document, &error).starts_with(start), "{} in {}", error, document);
    }

    #[test]
    fn an_error_in_a_part_points_into_the_whole(
        node in fitting(NESTED),
        spaces in spaces(),
        before in any::<String>(),
    ) {
        let Node::Object(mut members) = node else { unreachable!() };
        members.retain(|(key, _)| key != "type");
        members.push(("type".to_owned(), Node::Number("666")));
        let part = Node::Object(members).printed(&spaces);
        let document = format!("[{}, {part}]", serde_json::to_string(&before).unwrap());
        let parts: Vec<&serde_json::value::RawValue> = serde_json::from_str(&document).unwrap();
        let error = json::decode_within::<Nested>(parts[1].get(), document.as_bytes()).unwrap_err();
        prop_assert!(pointed_at(&document, &error).starts_with("666"), "{} in {}", error, document);
    }

    #[test]
    fn text_that_breaks_off_is_placed_at_its_end(node in fitting(CONFIG), cut in any::<prop::sample::Index>()) {
        let document = node.plain();
        let ends: Vec<usize> = document.char_indices().map(|(at, _)| at).collect();
        let text = &document[..*cut.get(&ends)];
        let error = json::decode::<Config>(text.as_bytes()).unwrap_err();
        let mut lines = text.split('\n');
        let last = lines.next_back().unwrap();
        prop_assert_eq!((error.line, error.column), (1 + lines.count(), last.len()), "{}: {:?}", error, text);
    }

    #[test]
    fn no_bytes_are_too_odd(bytes in vec(prop_oneof![any::<u8>(), select(&b"{}[]\",:\\0-e null"[..])], 0..40)) {
        let _ = json::decode::<Config>(&bytes);
        let checked = json::check(&bytes);
        let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&bytes);
        prop_assert_eq!(checked.is_ok(), theirs.is_ok());
        if let Err(error) = checked {
            prop_assert!(error.line >= 1 && error.line <= 1 + bytes.iter().filter(|b| **b == b'\n').count());
        }
    }

    #[test]
    fn objects_keep_what_is_not_touched(
        members in vec((prop_oneof![text(), pick(&["mtu", "MTU", "Mtu", "K", "k", "\u{212a}"])], anything()), 0..6),
        spaces in spaces(),
        key in prop_oneof![text(), pick(&["mtu", "mTu", "k"])],
    ) {
        let print = |value: &Node| value.printed(&spaces).trim().to_owned();
        let printed: Vec<_> = members.iter().map(|(key, value)| (key.clone(), print(value))).collect();
        let member = |(key, value): &(String, String)| format!("{} :{value}", serde_json::to_string(key).unwrap());
        let document = printed.iter().map(member).collect::<Vec<_>>().join(" , ");
        let object = Object::parse(format!(" {{{document}}} ").as_bytes()).unwrap();
        let pairs = |o: &Object| o.iter().map(|(k, v)| (k.to_owned(), v.get().to_owned())).collect::<Vec<_>>();
        prop_assert_eq!(&pairs(&object), &printed);
        let last = printed.iter().rev().find(|(k, _)| *k == key).map(|(_, v)| v.as_str());
        prop_assert_eq!(object.get(&key).map(|v| v.get()), last);

        let lower = |text: &str| text.replace('ſ', "s").replace('\u{212a}', "k").to_ascii_lowercase();
        let others: Vec<_> = printed.iter().filter(|(k, _)| lower(k) != lower(&key)).cloned().collect();
        let mut removed = object.clone();
        removed.remove(&key);
        prop_assert_eq!(&pairs(&removed), &others);

        let mut set = object.clone();
        set.set(&key, "<new>");
        let place = printed.iter().position(|(k, _)| lower(k) == lower(&key)).unwrap_or(others.len());
        let mut expected = others;
        expected.insert(place, (key.clone(), "\"<new>\"".to_owned()));
        prop_assert_eq!(&pairs(&set), &expected);

        let again = Object::parse(set.to_json().as_bytes()).unwrap();
        prop_assert_eq!(pairs(&again), expected);
    }
}
