//! A plugin that does what its configuration says, as a process and as a function, and keeps a log of its calls.
//!
//! `"fake": {"log": FILE, "ADD": BEHAVIOUR, …}`, where a behaviour is `{"error": {…}}`, or `{"result": {…}}` for a
//! document of one's own. Otherwise ADD answers with what came as prevResult and one more interface of the plugin's
//! name.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use cni_spec::json::Object;
use cni_spec::{AddResult, Command, Error, Interface, Parameter, PluginConfig, Version, json, version};
use libcni::{Added, Invocation, Invoke, Reply, TraceContext};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The plugins that this program can be called as.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// A line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) plugin: String,
    pub(crate) command: String,
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    pub(crate) path: String,
    pub(crate) netns_override: String,
    pub(crate) traceparent: String,
    pub(crate) tracestate: String,
    pub(crate) baggage: String,
    pub(crate) config: Value,
}

impl Call {
    /// `ADD a`
    pub(crate) fn short(&self) -> String {
        format!("{} {}", self.command, self.plugin)
    }
}

#[derive(Default, Deserialize)]
struct Config {
    fake: Object,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Behaviour {
    error: Option<Error>,
    result: Option<Box<RawValue>>,
    versions: Option<Vec<String>>,
}

/// The plugin as a process.
pub(crate) fn main(name: &str) -> ExitCode {
    let mut invocation = Invocation::default();
    for parameter in Parameter::ALL {
        *invocation.parameter_mut(parameter) = std::env::var(parameter.variable()).unwrap_or_default();
    }
    let variable = |name| std::env::var(name).unwrap_or_default();
    invocation.trace = TraceContext {
        traceparent: variable("TRACEPARENT"),
        tracestate: variable("TRACESTATE"),
        baggage: variable("BAGGAGE"),
    };
    std::io::stdin().read_to_end(&mut invocation.config).unwrap();
    let (status, document) = match behave(name, &invocation) {
        Ok(Reply::Added(added)) => (0, added.document.get().to_owned()),
        Ok(Reply::Versions(versions)) => {
            let versions: Vec<Version> = versions.iter().filter_map(|v| Version::known(v)).collect();
            (0, version::reply(&versions))
        }
        Ok(Reply::Nothing) => (0, String::new()),
        Err(error) => (1, error.to_json(Version::CURRENT)),
    };
    std::io::stdout().write_all(document.as_bytes()).unwrap();
    ExitCode::from(status)
}

/// The plugins as functions.
pub(crate) fn table(names: &[&'static str]) -> Vec<(&'static str, libcni::Run)> {
    let all: [(&'static str, libcni::Run); 3] = [("a", a), ("b", b), ("c", c)];
    all.into_iter().filter(|(name, _)| names.contains(name)).collect()
}

fn a(invocation: &Invocation, _: Arc<dyn Invoke>) -> Result<Reply, Error> {
    behave("a", invocation)
}

fn b(invocation: &Invocation, _: Arc<dyn Invoke>) -> Result<Reply, Error> {
    behave("b", invocation)
}

fn c(invocation: &Invocation, _: Arc<dyn Invoke>) -> Result<Reply, Error> {
    behave("c", invocation)
}

fn behave(name: &str, invocation: &Invocation) -> Result<Reply, Error> {
    let config: Config = serde_json::from_slice(&invocation.config).unwrap_or_default();
    let member = |key: &str| config.fake.get(key).map(|v| json::decode(v.get().as_bytes()).unwrap());
    if let Some(log) = config.fake.get("log") {
        write_log(&json::decode::<String>(log.get().as_bytes())?, name, invocation);
    }
    let behaviour: Behaviour = member(&invocation.command).unwrap_or_default();
    if let Some(error) = behaviour.error {
        return Err(error);
    }
    match Command::known(&invocation.command) {
        Some(Command::Version) if name == "c" => Ok(Reply::Versions(vec!["0.3.1".into(), "0.4.0".into()])),
        Some(Command::Version) => Ok(Reply::Versions(Version::ALL.iter().map(ToString::to_string).collect())),
        Some(Command::Add) => match behaviour.result {
            Some(document) => {
                let added = Added::decode(document.get().as_bytes(), invocation.config_version())?;
                Ok(Reply::Added(Box::new(added)))
            }
            None => add(name, invocation),
        },
        Some(_) => Ok(Reply::Nothing),
        None => Err(Error::failed(format!("unknown CNI_COMMAND: {}", invocation.command))),
    }
}

fn add(name: &str, invocation: &Invocation) -> Result<Reply, Error> {
    let config = PluginConfig::parse(&invocation.config)?;
    let version = invocation.config_version();
    let mut result = match &config.common.prev_result {
        Some(previous) => AddResult::decode(previous.get().as_bytes(), version)?.0,
        None => AddResult::default(),
    };
    result.interfaces.push(Interface { name: name.into(), ..Interface::default() });
    // Older versions of the reference's libcni print an empty `dns`; with this both print the same.
    result.dns.domain = "example.org".into();
    Ok(Reply::Added(Box::new(Added::new(result, version)?)))
}

fn write_log(path: &str, plugin: &str, invocation: &Invocation) {
    let Invocation {
        command,
        container_id,
        netns,
        ifname,
        args,
        path: cni_path,
        netns_override,
        trace,
        config,
    } = invocation.clone();
    let call = Call {
        plugin: plugin.into(),
        command,
        container_id,
        netns,
        ifname,
        args,
        path: cni_path,
        netns_override,
        traceparent: trace.traceparent,
        tracestate: trace.tracestate,
        baggage: trace.baggage,
        config: serde_json::from_slice(&config).unwrap(),
    };
    let line = serde_json::to_string(&call).unwrap() + "\n";
    let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
    log.write_all(line.as_bytes()).unwrap();
}
