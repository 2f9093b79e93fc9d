//! The cases: read from the files in `cases/`, which are part of the program, and those written in Rust.
//!
//! A file holds one group. What its cases have in common is in `defaults`; a case that has a `for` is a table, of
//! which every row becomes a case, `${key}` standing for the row's value.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::case::{Case, Step};
use crate::coded::{self, Coded};

/// Every case, in the order in which they are played.
pub(crate) struct Suite {
    pub(crate) groups: Vec<Group>,
}

/// The cases of one file.
pub(crate) struct Group {
    /// `protocol/environment`
    pub(crate) name: String,
    /// One line for people.
    pub(crate) about: String,
    pub(crate) plays: Vec<Play>,
}

/// A case of either kind.
pub(crate) enum Play {
    Written(Case),
    Coded(&'static Coded),
}

impl Play {
    pub(crate) fn name(&self) -> &str {
        match self {
            Play::Written(case) => &case.name,
            Play::Coded(coded) => coded.name,
        }
    }

    pub(crate) fn why(&self) -> &str {
        match self {
            Play::Written(case) => &case.why,
            Play::Coded(coded) => coded.why,
        }
    }

    fn plugins(&self) -> Vec<&str> {
        match self {
            Play::Written(case) => case.steps.iter().map(|step| step.plugin.as_str()).collect(),
            Play::Coded(coded) => coded.plugins.to_vec(),
        }
    }

    /// The differences from the reference that the case knows of.
    pub(crate) fn differences(&self) -> Vec<&str> {
        match self {
            Play::Written(case) => {
                let references = case.steps.iter().filter_map(|step| step.reference.as_ref());
                references.map(|reference| reference.difference.as_str()).collect()
            }
            Play::Coded(_) => Vec::new(),
        }
    }
}

macro_rules! case_files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../cases/", $name, ".json")))),*]
    };
}

/// Every file of `cases/`; a test compares the list with the folder.
const FILES: &[(&str, &str)] = case_files![
    "protocol/environment",
    "protocol/verbs",
    "protocol/versions",
    "protocol/names",
    "protocol/configuration",
    "protocol/streams",
    "protocol/namespace",
    "loopback/add",
    "loopback/prev-result",
    "loopback/life",
    "bridge/add",
    "bridge/mac",
    "bridge/shared",
    "bridge/refused",
    "bridge/masquerade",
    "bridge/vlan",
    "bridge/check",
    "bridge/del",
    "ptp/add",
    "ptp/check",
    "ptp/del",
    "host-local/add",
    "host-local/requests",
    "host-local/refused",
    "host-local/life",
    "static/static",
];

/// The groups whose plugins delegate.
const DELEGATING: [&str; 2] = ["bridge/", "ptp/"];

/// Changes of the kernel that are called by a name.
const CHANGES: &str = include_str!("../cases/changes.json");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    #[serde(default)]
    defaults: Map<String, Value>,
    cases: Vec<Map<String, Value>>,
}

impl Suite {
    /// Reads the cases.
    pub(crate) fn load() -> Result<Suite, String> {
        let mut groups = Vec::new();
        let changes = serde_json::from_str(CHANGES).map_err(|err| format!("cases/changes.json: {err}"))?;
        for (name, text) in FILES {
            groups.push(read_group(name, text, &changes).map_err(|err| format!("cases/{name}.json: {err}"))?);
        }
        for (name, about, cases) in coded::GROUPS {
            let plays = cases.iter().map(Play::Coded).collect();
            groups.push(Group { name: (*name).into(), about: (*about).into(), plays });
        }
        Ok(Suite { groups })
    }

    /// Leaves the cases whose `group: name` contains the text.
    pub(crate) fn keep(&mut self, text: &str) {
        for group in &mut self.groups {
            let name = group.name.clone();
            group.plays.retain(|play| format!("{name}: {}", play.name()).contains(text));
        }
        self.groups.retain(|group| !group.plays.is_empty());
    }

    /// Leaves the cases in which one plugin delegates to another.
    pub(crate) fn keep_delegations(&mut self) {
        self.groups.retain(|group| DELEGATING.iter().any(|prefix| group.name.starts_with(prefix)));
    }

    /// The differences from the reference that cases know of.
    pub(crate) fn differences(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|group| &group.plays).flat_map(Play::differences).collect()
    }

    /// The plugins that are played.
    pub(crate) fn plugins(&self) -> BTreeSet<&str> {
        self.groups.iter().flat_map(|group| &group.plays).flat_map(Play::plugins).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.iter().map(|group| group.plays.len()).sum()
    }
}

fn read_group(name: &str, text: &str, changes: &BTreeMap<String, Vec<String>>) -> Result<Group, String> {
    let file: File = serde_json::from_str(text).map_err(|err| err.to_string())?;
    let mut plays = Vec::new();
    for case in file.cases {
        let title = case.get("name").map(Value::to_string).unwrap_or_default();
        for row in expand(case).map_err(|err| format!("{title}: {err}"))? {
            let whole = Value::Object(assemble(row, &file.defaults));
            let mut case: Case = serde_json::from_value(whole).map_err(|err| format!("{title}: {err}"))?;
            case.steps.iter_mut().for_each(Step::pass_on_result);
            for expect in case.steps.iter_mut().flat_map(Step::expectations_mut) {
                expect.changes.resolve(changes).map_err(|err| format!("{title}: {err}"))?;
            }
            case.name = printable(&case.name);
            plays.push(Play::Written(case));
        }
    }
    Ok(Group { name: name.into(), about: file.about, plays })
}

/// A name that a terminal can show: control characters and odd white space as escapes.
fn printable(name: &str) -> String {
    let odd = |c: char| c != ' ' && (c.is_control() || c.is_whitespace() || c == '\u{200b}');
    name.chars().map(|c| if odd(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The keys that belong to a case; all others belong to its steps.
const OF_THE_CASE: [&str; 4] = ["name", "why", "needs", "steps"];

/// Gives every step what the case and the file say about all of them.
fn assemble(case: Map<String, Value>, defaults: &Map<String, Value>) -> Map<String, Value> {
    let (mut whole, common): (Map<_, _>, Map<_, _>) =
        case.into_iter().partition(|(key, _)| OF_THE_CASE.contains(&key.as_str()));
    let steps = match whole.remove("steps") {
        Some(Value::Array(steps)) => steps,
        Some(other) => vec![other],
        None => vec![Value::Object(Map::new())],
    };
    let complete = |step| {
        let mut complete = Value::Object(defaults.clone());
        merge(&mut complete, Value::Object(common.clone()));
        merge(&mut complete, step);
        complete
    };
    whole.insert("steps".into(), steps.into_iter().map(complete).collect());
    whole
}

/// Lays `over` onto `base`: objects member by member, anything else as a whole. An expectation is a whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(there) if key != "reply" => merge(there, value),
                    _ => drop(base.insert(key, value)),
                }
            }
        }
        (base, over) => *base = over,
    }
}

/// One case for every row of its table; the case itself if it has none.
fn expand(mut case: Map<String, Value>) -> Result<Vec<Map<String, Value>>, String> {
    let Some(table) = case.remove("for") else { return Ok(vec![case]) };
    let fill = |row: Map<String, Value>| {
        case.iter().map(|(key, value)| (key.clone(), filled(value, &row))).collect()
    };
    Ok(rows(table)?.into_iter().map(fill).collect())
}

/// A list of rows, or lists of values of which every combination is a row.
fn rows(table: Value) -> Result<Vec<Map<String, Value>>, String> {
    match table {
        Value::Array(_) => serde_json::from_value(table).map_err(|err| format!("for: {err}")),
        Value::Object(columns) => {
            let mut rows = vec![Map::new()];
            for (key, values) in columns {
                let Value::Array(values) = values else { return Err(format!("for: {key} is no list")) };
                let with = |row: &Map<String, Value>, value: &Value| {
                    let mut row = row.clone();
                    row.insert(key.clone(), value.clone());
                    row
                };
                rows = rows.iter().flat_map(|row| values.iter().map(|value| with(row, value))).collect();
            }
            Ok(rows)
        }
        _ => Err("for: neither rows nor columns".into()),
    }
}

/// The value with `${key}` replaced by the row's values. A text that is nothing but a placeholder becomes the value,
/// whatever its type.
fn filled(value: &Value, row: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => {
            let whole = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
            match whole.and_then(|key| row.get(key)) {
                Some(value) => value.clone(),
                None => Value::String(row.iter().fold(text.clone(), |text, (key, value)| {
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    text.replace(&format!("${{{key}}}"), &value)
                })),
            }
        }
        Value::Array(list) => list.iter().map(|value| filled(value, row)).collect(),
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match filled(&Value::String(key.clone()), row) {
                Value::String(key) => (key, filled(value, row)),
                _ => (key.clone(), filled(value, row)),
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::names::PLACEHOLDERS;

    fn object(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_file_is_in_the_list() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
        let mut there = BTreeSet::new();
        let groups = std::fs::read_dir(&folder).unwrap().map(|group| group.unwrap().path());
        for group in groups.filter(|group| group.is_dir()) {
            for file in std::fs::read_dir(group).unwrap() {
                let path = file.unwrap().path().with_extension("");
                there.insert(path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned());
            }
        }
        let listed: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(listed, there);
    }

    #[test]
    fn every_case_can_be_read_and_has_a_name_of_its_own() {
        let suite = Suite::load().unwrap();
        let mut names = BTreeSet::new();
        for group in &suite.groups {
            for play in &group.plays {
                assert!(
                    names.insert((&group.name, play.name())),
                    "{}: {} is there twice",
                    group.name,
                    play.name()
                );
            }
        }
        assert_eq!(names.len(), suite.len());
    }

    #[test]
    fn no_placeholder_is_misspelt() {
        let suite = Suite::load().unwrap();
        let written = suite.groups.iter().flat_map(|group| &group.plays);
        for play in written {
            let Play::Written(case) = play else { continue };
            let text = format!("{case:?}");
            for rest in text.split("${").skip(1) {
                let key = rest.split('}').next().unwrap();
                let known = PLACEHOLDERS.contains(&key) || key == "result" || key.starts_with("result/");
                assert!(known, "{}: ${{{key}}}", case.name);
            }
        }
    }

    #[test]
    fn tables_are_rows_or_combinations() {
        let case = |table| object(json!({"name": "${a} ${b}", "x": "${b}", "for": table}));
        let rows = expand(case(json!([{"a": 1, "b": [2]}]))).unwrap();
        assert_eq!(rows, [object(json!({"name": "1 [2]", "x": [2]}))]);
        let rows = expand(case(json!({"a": ["x", "y"], "b": [1, 2]}))).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["x 1", "x 2", "y 1", "y 2"]);
        assert!(expand(case(json!(7))).is_err());
    }

    #[test]
    fn a_step_has_what_its_case_and_its_file_say() {
        let defaults = object(json!({"env": {"A": "1"}, "verb": "ADD"}));
        let case = object(json!({"name": "n", "env": {"B": "2"}, "steps": [{"verb": "DEL"}, {}]}));
        let whole = assemble(case, &defaults);
        let steps = json!([{"env": {"A": "1", "B": "2"}, "verb": "DEL"}, {"env": {"A": "1", "B": "2"}, "verb": "ADD"}]);
        assert_eq!(whole["steps"], steps);
    }

    #[test]
    fn a_reply_replaces_that_of_the_defaults() {
        let defaults = object(json!({"expect": {"reply": {"error": {"code": 4}}}}));
        let case = object(json!({"name": "n", "expect": {"reply": {"result": {}}}}));
        assert_eq!(assemble(case, &defaults)["steps"][0]["expect"], json!({"reply": {"result": {}}}));
    }
}
