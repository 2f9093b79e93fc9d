//! Cases that files cannot say: many plugins at once.
//!
//! Everything that can be said in `cases/` is said there.

use std::collections::BTreeSet;
use std::io;
use std::thread;

use serde_json::{Value, json};

use crate::case::Step;
use crate::judge::{documents, judge};
use crate::names::Names;
use crate::play::{Failure, Subject};
use crate::stage::Stage;

mod parallel;

/// A case that is a function.
#[derive(Debug)]
pub(crate) struct Coded {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// The plugins that it plays.
    pub(crate) plugins: &'static [&'static str],
    pub(crate) play: fn(&Subject) -> Result<(), Failure>,
}

/// Name, one line for people, cases.
type CodedGroup = (&'static str, &'static str, &'static [Coded]);

pub(crate) const GROUPS: &[CodedGroup] = &[LOOPBACK, parallel::HOST_LOCAL, parallel::BRIDGE, parallel::PTP];

const LOOPBACK: CodedGroup = (
    "loopback/parallel",
    "many at once",
    &[
        Coded {
            name: "50 ADDs at once in 50 namespaces",
            why: "runtimes start containers in parallel; none may see another's namespace",
            plugins: &["loopback"],
            play: fifty_namespaces,
        },
        Coded {
            name: "20 ADDs at once in one namespace",
            why: "ADD of loopback is idempotent, whatever happens in between",
            plugins: &["loopback"],
            play: one_namespace,
        },
        Coded {
            name: "ADD, CHECK and DEL of 20 containers at once",
            why: "the whole life of a container, next to that of others",
            plugins: &["loopback"],
            play: whole_lives,
        },
    ],
);

fn fifty_namespaces(subject: &Subject) -> Result<(), Failure> {
    let stages = stages(subject, 50)?;
    at_once(stages.iter().map(|stage| move || run(subject, stage, "ADD", &added())))?;
    let paths: BTreeSet<String> = stages.iter().map(|stage| stage.names().fill("${container}")).collect();
    if paths.len() != stages.len() {
        return Err(Failure::of("this machine", "as many paths as namespaces", paths.len().to_string()));
    }
    stages.iter().try_for_each(|stage| lo_is(stage, true))
}

fn one_namespace(subject: &Subject) -> Result<(), Failure> {
    let stage = &stages(subject, 1)?[0];
    at_once((0..20).map(|_| || run(subject, stage, "ADD", &added())))?;
    lo_is(stage, true)
}

fn whole_lives(subject: &Subject) -> Result<(), Failure> {
    let stages = stages(subject, 20)?;
    at_once(stages.iter().map(|stage| {
        move || {
            run(subject, stage, "ADD", &added())?;
            run(subject, stage, "CHECK", &json!("nothing"))?;
            run(subject, stage, "DEL", &json!("nothing"))?;
            lo_is(stage, false)
        }
    }))
    .map(drop)
}

fn added() -> Value {
    json!({ "result": { "$including": { "interfaces": [
        { "$including": { "name": "lo", "sandbox": "${container}" } }
    ] } } })
}

fn stages(subject: &Subject, count: usize) -> Result<Vec<Stage>, Failure> {
    let stages: Result<Vec<Stage>, String> =
        (0..count).map(|_| Stage::new(&subject.dir, &subject.path(), false)).collect();
    stages.map_err(|err| Failure::of("this machine", "namespaces", err))
}

/// Runs everything on threads of their own; the first failure counts.
fn at_once<T: Send, F: FnOnce() -> Result<T, Failure> + Send>(
    work: impl Iterator<Item = F>,
) -> Result<Vec<T>, Failure> {
    thread::scope(|scope| {
        let started: io::Result<Vec<_>> =
            work.map(|work| thread::Builder::new().spawn_scoped(scope, work)).collect();
        let threads = started.map_err(|err| Failure::of("this machine", "a thread", err.to_string()))?;
        let results = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(Failure::of("this program", "a result", "a panic".into())))
        });
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

fn run(subject: &Subject, stage: &Stage, verb: &str, reply: &Value) -> Result<(), Failure> {
    let step = json!({ "verb": verb, "expect": { "reply": reply } });
    execute(subject, stage, stage.names(), step).map(drop)
}

/// Plays a step on a stage, with names that may be those of another one; what it printed.
fn execute(subject: &Subject, stage: &Stage, names: &Names, step: Value) -> Result<Option<Value>, Failure> {
    let step: Step =
        serde_json::from_value(step).map_err(|err| Failure::of("this program", "a step", err.to_string()))?;
    let outcome = subject
        .execute(&step, &step.expect, stage, names)
        .map_err(|err| Failure::of("this machine", "a process", err))?;
    let mismatches = judge(&step.expect, &outcome, subject.standard, names);
    if mismatches.is_empty() {
        return Ok(documents(&outcome.stdout).and_then(|mut documents| documents.pop()));
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(Failure {
        mismatches,
        stdout: text(&outcome.stdout),
        stderr: text(&outcome.stderr),
        ..Failure::default()
    })
}

fn lo_is(stage: &Stage, up: bool) -> Result<(), Failure> {
    let lo = stage.container.link("lo").map_err(|err| Failure::of("the container", "lo", err.to_string()))?;
    if lo.is_up() == up {
        return Ok(());
    }
    let words = |up| if up { "lo is up" } else { "lo is down" };
    Err(Failure::of("the container", words(up), words(!up).into()))
}
