//! Plays a case against a directory of plugins: makes the stage, runs the steps, judges each.
//!
//! A case ends with its first step that is not as expected: what follows would only say so again.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cni_linux::Netns;
use serde_json::{Map, Value, json};

use crate::case::{Bytes, Case, Expect, Need, Reply, Step};
use crate::judge::{Standard, judge, judge_changes};
use crate::pattern::Mismatch;
use crate::process::{Execution, LIMIT, Outcome, PATIENCE};
use crate::shell;
use crate::stage::Stage;
use crate::suite::Play;

/// A directory of plugins, and how it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) dir: String,
    pub(crate) standard: Standard,
}

/// What came of a case.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) status: Status,
    pub(crate) took: Duration,
    /// The documented differences by which the reference was judged.
    pub(crate) differences: Vec<String>,
    /// What each step answered, with placeholders for what differs from run to run.
    pub(crate) answers: Vec<Answer>,
}

#[derive(Debug, Clone)]
pub(crate) enum Status {
    Passed,
    Skipped(String),
    Failed(Failure),
}

/// Why a case failed, and how to see it again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    /// The step, from 1; nothing where there is just one.
    pub(crate) step: Option<usize>,
    pub(crate) mismatches: Vec<Mismatch>,
    /// All of standard output and standard error.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// For a shell.
    pub(crate) reproduce: String,
}

/// What can be compared between two directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) exit: String,
    pub(crate) stdout: String,
    pub(crate) changes: Vec<String>,
}

impl Failure {
    /// A failure of something else than a plugin's answer.
    pub(crate) fn of(place: &str, expected: &str, got: String) -> Failure {
        let mismatch = Mismatch { place: place.into(), expected: expected.into(), got };
        Failure { mismatches: vec![mismatch], ..Failure::default() }
    }
}

impl Subject {
    /// Plays one case.
    pub(crate) fn play(&self, play: &Play) -> Verdict {
        let started = Instant::now();
        let mut verdict = Verdict {
            status: Status::Passed,
            took: Duration::ZERO,
            differences: Vec::new(),
            answers: Vec::new(),
        };
        verdict.status = match play {
            Play::Written(case) => self.play_written(case, &mut verdict),
            Play::Coded(coded) => match self.missing("loopback") {
                Some(reason) => Status::Skipped(reason),
                None => (coded.play)(self).map_or_else(Status::Failed, |()| Status::Passed),
            },
        };
        verdict.took = started.elapsed();
        verdict
    }

    fn play_written(&self, case: &Case, verdict: &mut Verdict) -> Status {
        if let Some(reason) = case.steps.iter().find_map(|step| self.missing(&step.plugin)) {
            return Status::Skipped(reason);
        }
        let stage = match Stage::new(&self.dir) {
            Ok(stage) => stage,
            Err(err) => return Status::Failed(Failure::of("this machine", "two namespaces", err)),
        };
        if let Some(reason) = case.needs.iter().find_map(|need| unmet(*need)) {
            return Status::Skipped(reason);
        }
        for (index, step) in case.steps.iter().enumerate() {
            if let Err(mut failure) = self.play_step(step, &stage, verdict) {
                failure.step = (case.steps.len() > 1).then_some(index + 1);
                failure.reproduce = shell::script(&case.steps[..=index], &self.dir);
                return Status::Failed(failure);
            }
        }
        Status::Passed
    }

    fn play_step(&self, step: &Step, stage: &Stage, verdict: &mut Verdict) -> Result<(), Failure> {
        let broken = |err: String| Failure::of("this machine", "the step can be played", err);
        for preparation in &step.prepare {
            stage.prepare(preparation).map_err(broken)?;
        }
        let before = stage.picture().map_err(broken)?;
        let expect = self.expectation(step, verdict);
        let outcome = self.execute(step, expect, stage).map_err(broken)?;
        let after = stage.picture().map_err(broken)?;
        let mut mismatches = judge(expect, &outcome, self.standard, stage.names());
        mismatches.extend(judge_changes(expect, &before, &after));
        let mut changes = before.container.diff(&after.container);
        changes.extend(before.host.diff(&after.host));
        let text = |bytes: &[u8]| stage.names().unfill(&String::from_utf8_lossy(bytes));
        let (exit, stdout) = (outcome.exit.to_string(), text(&outcome.stdout));
        verdict.answers.push(Answer { exit, stdout: stdout.clone(), changes });
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(Failure { mismatches, stdout, stderr: text(&outcome.stderr), ..Failure::default() })
    }

    /// The expectation that counts for this directory.
    fn expectation<'a>(&self, step: &'a Step, verdict: &mut Verdict) -> &'a Expect {
        match &step.reference {
            Some(reference) if self.standard == Standard::Reference => {
                verdict.differences.push(reference.difference.clone());
                &reference.expect
            }
            _ => &step.expect,
        }
    }

    /// Runs a step's plugin where the stage's host is its own namespace.
    pub(crate) fn execute(&self, step: &Step, expect: &Expect, stage: &Stage) -> Result<Outcome, String> {
        let names = stage.names();
        let env = environment(step).into_iter();
        let env =
            env.map(|(key, value)| (key.into(), OsStringExt::from_vec(value.render(|t| names.fill(t)))));
        let execution = Execution {
            program: Path::new(&self.dir).join(&step.plugin),
            env: env.collect(),
            stdin: stdin(step).render(|text| names.fill(text)),
            stdin_is: step.stdin_is,
            stdout_is: step.stdout_is,
            limit: if matches!(expect.reply, Reply::Hangs) { PATIENCE } else { LIMIT },
        };
        let ran = stage.host.run(|| execution.run()).map_err(|err| err.to_string())?;
        ran.map_err(|err| format!("cannot run {}: {err}", execution.program.display()))
    }

    fn missing(&self, plugin: &str) -> Option<String> {
        let there = Path::new(&self.dir).join(plugin).is_file();
        (!there).then(|| format!("there is no {plugin} in {}", self.dir))
    }
}

/// The variables of a step: those that the specification lists for its verb, changed as the step says.
pub(crate) fn environment(step: &Step) -> BTreeMap<String, Bytes> {
    let text = |text: &str| Bytes::Text(text.into());
    let mut variables = BTreeMap::from([("CNI_COMMAND".to_owned(), text(&step.verb))]);
    if step.verb != "VERSION" {
        variables.insert("CNI_PATH".into(), text("${plugins}"));
    }
    if !["VERSION", "GC", "STATUS"].contains(&step.verb.as_str()) {
        variables.insert("CNI_CONTAINERID".into(), text("container-1"));
        variables.insert("CNI_NETNS".into(), text("${container}"));
        variables.insert("CNI_IFNAME".into(), text("eth0"));
    }
    for (key, value) in &step.env {
        match value {
            Some(value) => drop(variables.insert(key.clone(), value.clone())),
            None => drop(variables.remove(key)),
        }
    }
    variables
}

/// What a step writes to standard input: the ordinary configuration, changed as the step says, or what it gives
/// instead.
pub(crate) fn stdin(step: &Step) -> Bytes {
    if let Some(stdin) = &step.stdin {
        return stdin.clone();
    }
    let mut config = Map::new();
    config.insert("cniVersion".into(), json!("1.0.0"));
    config.insert("name".into(), json!("conformance"));
    config.insert("type".into(), json!(step.plugin));
    for (key, value) in &step.config {
        match value {
            Value::Null => drop(config.remove(key)),
            value => drop(config.insert(key.clone(), value.clone())),
        }
    }
    Bytes::Text(Value::Object(config).to_string())
}

/// What this machine lacks.
fn unmet(need: Need) -> Option<String> {
    match need {
        Need::Ipv6 => {
            let there =
                Netns::temporary().and_then(|netns| netns.run(|| Path::new("/proc/sys/net/ipv6").exists()));
            (!there.unwrap_or(false)).then(|| "this kernel has no IPv6".to_owned())
        }
    }
}
