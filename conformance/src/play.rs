//! Plays a case against a directory of plugins: makes the stage, runs the steps, judges each.
//!
//! A case ends with its first step that is not as expected: what follows would only say so again.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni_linux::Netns;
use cni_linux::testing::kernel;
use serde_json::{Map, Value, json};

use crate::case::{By, Bytes, Case, Expect, Need, Reply, Step, is_ipam};
use crate::judge::{Standard, documents, judge, judge_surroundings, judge_truth, judge_world};
use crate::names::Names;
use crate::pattern::Mismatch;
use crate::process::{Execution, Exit, LIMIT, Outcome, PATIENCE};
use crate::shell;
use crate::stage::{Picture, Stage};
use crate::suite::Play;

/// A directory of plugins, and how it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) dir: String,
    pub(crate) standard: Standard,
    /// Where the IPAM plugins come from, if not from the same directory.
    pub(crate) delegates: Option<Delegates>,
}

/// A directory of plugins that others delegate to, and how it is judged.
#[derive(Debug, Clone)]
pub(crate) struct Delegates {
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
            Play::Coded(coded) => match coded.plugins.iter().find_map(|plugin| self.missing(plugin)) {
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
        let stage = match Stage::new(&self.dir, &self.path(), case.has_other()) {
            Ok(stage) => stage,
            Err(err) => return Status::Failed(Failure::of("this machine", "namespaces", err)),
        };
        if let Some(reason) = case.needs.iter().find_map(|need| unmet(*need)) {
            return Status::Skipped(reason);
        }
        let mut playing =
            Playing { subject: self, stage: &stage, results: BTreeMap::new(), start: None, last: None };
        for (index, step) in case.steps.iter().enumerate() {
            if let Err(mut failure) = playing.step(step, verdict) {
                failure.step = (case.steps.len() > 1).then_some(index + 1);
                failure.reproduce = shell::script(&case.steps[..=index], self);
                return Status::Failed(failure);
            }
        }
        Status::Passed
    }

    /// The expectation that counts for this directory.
    fn expectation<'a>(&self, step: &'a Step, verdict: &mut Verdict) -> &'a Expect {
        let is_reference = |standard| standard == Standard::Reference;
        let (plugin, delegate) =
            (is_reference(self.standard_of(step)), is_reference(self.delegates_standard()));
        let reference = step.reference.as_ref().filter(|reference| match reference.by {
            By::Plugin => plugin,
            By::Delegate => delegate,
            By::Either => plugin || delegate,
        });
        match reference {
            Some(reference) => {
                verdict.differences.push(reference.difference.clone());
                reference.expect.as_ref().unwrap_or(&step.expect)
            }
            None => &step.expect,
        }
    }

    /// Runs a step's plugin where the stage's host is its own namespace.
    pub(crate) fn execute(
        &self,
        step: &Step,
        expect: &Expect,
        stage: &Stage,
        names: &Names,
    ) -> Result<Outcome, String> {
        let env = environment(step).into_iter();
        let env =
            env.map(|(key, value)| (key.into(), OsStringExt::from_vec(value.render(|t| names.fill(t)))));
        let execution = Execution {
            program: self.program(&step.plugin),
            env: env.collect(),
            stdin: stdin(step, names).render(|text| names.fill(text)),
            stdin_is: step.stdin_is,
            stdout_is: step.stdout_is,
            limit: if matches!(expect.reply, Reply::Hangs) { PATIENCE } else { LIMIT },
        };
        let ran = stage.host.run(|| execution.run()).map_err(|err| err.to_string())?;
        ran.map_err(|err| format!("cannot run {}: {err}", execution.program.display()))
    }

    /// What CNI_PATH is.
    pub(crate) fn path(&self) -> String {
        match &self.delegates {
            Some(delegates) => format!("{}:{}", delegates.dir, self.dir),
            None => self.dir.clone(),
        }
    }

    /// The plugin's executable.
    pub(crate) fn program(&self, plugin: &str) -> PathBuf {
        let delegates = self.delegates.as_ref().filter(|_| is_ipam(plugin));
        Path::new(delegates.map_or(&self.dir, |delegates| &delegates.dir)).join(plugin)
    }

    /// By what the answer to a step is judged.
    fn standard_of(&self, step: &Step) -> Standard {
        if is_ipam(&step.plugin) { self.delegates_standard() } else { self.standard }
    }

    fn delegates_standard(&self) -> Standard {
        self.delegates.as_ref().map_or(self.standard, |delegates| delegates.standard)
    }

    fn missing(&self, plugin: &str) -> Option<String> {
        let program = self.program(plugin);
        (!program.is_file()).then(|| format!("there is no {}", program.display()))
    }
}

/// A case while it is played.
struct Playing<'a> {
    subject: &'a Subject,
    stage: &'a Stage,
    /// What ADD answered, by attachment, as a runtime's cache keeps it.
    results: BTreeMap<String, Value>,
    /// How it was before the first execution.
    start: Option<Picture>,
    /// How it was after the last one.
    last: Option<Picture>,
}

impl Playing<'_> {
    fn step(&mut self, step: &Step, verdict: &mut Verdict) -> Result<(), Failure> {
        let (subject, stage) = (self.subject, self.stage);
        let broken = |err: String| Failure::of("this machine", "the step can be played", err);
        let names = stage.names().with_result(self.results.get(&step.attachment()));
        for preparation in &step.prepare {
            stage.prepare(preparation, &names).map_err(broken)?;
        }
        let before = match self.last.take().filter(|_| step.prepare.is_empty()) {
            Some(picture) => picture,
            None => stage.picture().map_err(broken)?,
        };
        let expect = subject.expectation(step, verdict);
        let outcome = subject.execute(step, expect, stage, &names).map_err(broken)?;
        let after = stage.picture().map_err(broken)?;
        let mut mismatches = judge(expect, &outcome, subject.standard_of(step), &names);
        if mismatches.is_empty() {
            mismatches = self.remember(step, &outcome, &after);
        }
        let start = self.start.as_ref().unwrap_or(&before);
        mismatches.extend(judge_world(expect, start, &before, &after));
        let names = stage.names().with_result(self.results.get(&step.attachment()));
        mismatches.extend(judge_surroundings(expect, stage, &names));
        let mut changes = before.container.diff(&after.container);
        changes.extend(before.host.diff(&after.host));
        let text = |bytes: &[u8]| names.unfill(&String::from_utf8_lossy(bytes));
        let (exit, stdout) = (outcome.exit.to_string(), text(&outcome.stdout));
        verdict.answers.push(Answer { exit, stdout: stdout.clone(), changes });
        self.start.get_or_insert(before);
        self.last = Some(after);
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(Failure { mismatches, stdout, stderr: text(&outcome.stderr), ..Failure::default() })
    }

    /// Keeps what ADD answered until the attachment's DEL, and says what of it is not true.
    fn remember(&mut self, step: &Step, outcome: &Outcome, after: &Picture) -> Vec<Mismatch> {
        if outcome.exit != Exit::Status(0) {
            return Vec::new();
        }
        let key = step.attachment();
        let result = documents(&outcome.stdout).and_then(|mut documents| documents.pop());
        let names = self.stage.names();
        let mut untrue = Vec::new();
        match (step.verb.as_str(), result) {
            ("DEL", _) => drop(self.results.remove(&key)),
            ("ADD", Some(result)) => {
                // What others made before, and what others are to make, may not be there.
                if TELLERS.contains(&step.plugin.as_str()) {
                    untrue = judge_truth(&result, after, names);
                }
                self.results.insert(key, result);
            }
            _ => {}
        }
        untrue
    }
}

/// The plugins whose results tell what they made themselves.
const TELLERS: [&str; 2] = ["bridge", "ptp"];

/// The variables of a step: those that the specification lists for its verb, changed as the step says.
pub(crate) fn environment(step: &Step) -> BTreeMap<String, Bytes> {
    let text = |text: &str| Bytes::Text(text.into());
    let mut variables = BTreeMap::from([("CNI_COMMAND".to_owned(), text(&step.verb))]);
    if step.verb != "VERSION" {
        variables.insert("CNI_PATH".into(), text("${path}"));
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
pub(crate) fn stdin(step: &Step, names: &Names) -> Bytes {
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
    let mut config = names.fill_in(&Value::Object(config));
    // A runtime that knows of no result passes none on.
    if let Some(members) =
        config.as_object_mut().filter(|members| members.get("prevResult") == Some(&Value::Null))
    {
        members.remove("prevResult");
    }
    Bytes::Text(config.to_string())
}

/// What this machine lacks.
fn unmet(need: Need) -> Option<String> {
    let netns = || Netns::temporary().map_err(|err| err.to_string());
    match need {
        Need::Ipv6 => {
            let there = netns().and_then(|netns| {
                netns.run(|| Path::new("/proc/sys/net/ipv6").exists()).map_err(|err| err.to_string())
            });
            (!there.unwrap_or(false)).then(|| "this kernel has no IPv6".to_owned())
        }
        Need::VlanFiltering => {
            let lacking =
                netns().and_then(|netns| kernel::bridge_vlans(&netns).map_err(|err| err.to_string()));
            lacking.err().map(|err| format!("this kernel has no bridges that heed VLANs: {err}"))
        }
        Need::Iptables => lacks_program("iptables"),
        Need::Nft => lacks_program("nft"),
    }
}

fn lacks_program(name: &str) -> Option<String> {
    let there = kernel::SBIN.iter().any(|folder| Path::new(folder).join(name).is_file());
    (!there).then(|| format!("the program {name} is missing"))
}
