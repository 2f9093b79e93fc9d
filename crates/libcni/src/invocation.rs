//! One execution of a plugin, and what comes back: parameters and documents, to and from the forms in which they
//! travel (spec §2). Nothing is read or written here.

use cni_spec::{AddResult, Command, Error, Parameter, Version, json};
use serde_json::value::RawValue;

/// One execution: the `CNI_*` parameters and the request configuration.
///
/// Everything is text as it travels; what is in it is judged by whoever receives it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[doc(alias = "CmdArgs")]
pub struct Invocation {
    /// `CNI_COMMAND`
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`: the path of the container's namespace; empty where there is none
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
    /// `CNI_PATH`: folders with plugins, separated by `:`
    pub path: String,
    /// `CNI_NETNS_OVERRIDE`
    pub netns_override: String,
    /// What the caller traces itself by; passed on, never looked at.
    pub trace: TraceContext,
    /// The request configuration, which the plugin reads from standard input.
    pub config: Vec<u8>,
}

/// W3C trace context, as it travels in the environment of processes. Empty fields are not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// `TRACEPARENT`
    pub traceparent: String,
    /// `TRACESTATE`
    pub tracestate: String,
    /// `BAGGAGE`
    pub baggage: String,
}

impl TraceContext {
    /// Whether there is nothing to pass on.
    pub fn is_empty(&self) -> bool {
        *self == TraceContext::default()
    }
}

impl Invocation {
    /// The parameter's text; empty where there is none.
    pub fn parameter(&self, parameter: Parameter) -> &str {
        match parameter {
            Parameter::Command => &self.command,
            Parameter::ContainerId => &self.container_id,
            Parameter::Netns => &self.netns,
            Parameter::IfName => &self.ifname,
            Parameter::Args => &self.args,
            Parameter::Path => &self.path,
            Parameter::NetnsOverride => &self.netns_override,
        }
    }

    /// Where the parameter's text goes.
    pub fn parameter_mut(&mut self, parameter: Parameter) -> &mut String {
        match parameter {
            Parameter::Command => &mut self.command,
            Parameter::ContainerId => &mut self.container_id,
            Parameter::Netns => &mut self.netns,
            Parameter::IfName => &mut self.ifname,
            Parameter::Args => &mut self.args,
            Parameter::Path => &mut self.path,
            Parameter::NetnsOverride => &mut self.netns_override,
        }
    }

    /// The variables that a process is given for it. The six of the specification are always there, if only empty,
    /// so that nothing of the caller's own environment shines through.
    pub fn variables(&self) -> Vec<(&'static str, &str)> {
        let mut variables: Vec<_> = Parameter::ALL
            .into_iter()
            .filter(|p| *p != Parameter::NetnsOverride || !self.netns_override.is_empty())
            .map(|p| (p.variable(), self.parameter(p)))
            .collect();
        let trace = &self.trace;
        let carriers = [
            ("TRACEPARENT", &trace.traceparent),
            ("TRACESTATE", &trace.tracestate),
            ("BAGGAGE", &trace.baggage),
        ];
        variables.extend(carriers.into_iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| (k, v.as_str())));
        variables
    }

    /// The version that the configuration asks for, as far as it can be made out.
    pub fn config_version(&self) -> Version {
        #[derive(Default, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Label {
            cni_version: String,
        }
        let label: Label = json::decode(&self.config).unwrap_or_default();
        Version::known(&label.cni_version).unwrap_or(Version::DEFAULT)
    }
}

/// What comes back from a plugin that succeeded.
#[derive(Debug, Clone)]
pub enum Reply {
    /// ADD: the result.
    Added(Box<Added>),
    /// DEL, CHECK, GC and STATUS: nothing.
    Nothing,
    /// VERSION: the versions that the plugin speaks, as it spells them.
    Versions(Vec<String>),
}

/// The answer to ADD.
#[derive(Debug, Clone)]
pub struct Added {
    /// The result, in the newest shape.
    pub result: AddResult,
    /// The version that it was written in.
    pub version: Version,
    /// The document as the plugin wrote it, with `cniVersion`: what the next plugin gets as prevResult.
    pub document: Box<RawValue>,
}

impl Added {
    /// Reads what a plugin printed. Without `cniVersion` it is taken to be of the configuration's version, and says
    /// so from then on.
    ///
    /// # Errors
    /// What is no result; see [`AddResult::decode`].
    pub fn decode(stdout: &[u8], config_version: Version) -> Result<Self, Error> {
        let (result, version) = AddResult::decode(stdout, config_version)?;
        let mut document = match json::Object::parse(stdout) {
            Ok(object) => object,
            Err(_) => json::Object::new(), // `null`, which decodes to an empty result
        };
        if document.get("cniVersion").is_none_or(|v| v.get() == "\"\"" || v.get() == "null") {
            document.set("cniVersion", &version);
        }
        Ok(Added { result, version, document: json::to_raw(&document) })
    }

    /// A result of our own making, written in `version`.
    ///
    /// # Errors
    /// Where that version cannot say it; see [`AddResult::encode`].
    pub fn new(result: AddResult, version: Version) -> Result<Self, Error> {
        let document = result.encode(version)?;
        let document = RawValue::from_string(document).map_err(Error::from)?;
        Ok(Added { result, version, document })
    }
}

impl Reply {
    /// Reads what a plugin printed before it exited with 0.
    ///
    /// # Errors
    /// An answer that does not belong to the command.
    pub fn decode(invocation: &Invocation, stdout: &[u8]) -> Result<Reply, Error> {
        match Command::known(&invocation.command) {
            Some(Command::Add) => {
                Ok(Reply::Added(Box::new(Added::decode(stdout, invocation.config_version())?)))
            }
            Some(Command::Version) => {
                Ok(Reply::Versions(cni_spec::version::parse_reply(stdout).map_err(Error::failed)?))
            }
            _ => Ok(Reply::Nothing),
        }
    }

    /// The result, which only an ADD has.
    ///
    /// # Errors
    /// A reply without one.
    pub fn added(self) -> Result<Added, Error> {
        match self {
            Reply::Added(added) => Ok(*added),
            _ => Err(Error::failed("the plugin answered ADD without a result")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_six_variables_are_always_there() {
        let call = Invocation { command: "ADD".into(), ..Invocation::default() };
        let names: Vec<_> = call.variables().into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"]
        );
    }

    #[test]
    fn trace_context_travels_where_there_is_any() {
        let mut call = Invocation::default();
        call.trace.traceparent = "00-x".into();
        assert!(call.variables().contains(&("TRACEPARENT", "00-x")));
        assert!(!call.variables().iter().any(|(name, _)| *name == "BAGGAGE"));
    }

    #[test]
    fn a_result_without_version_takes_the_configurations() {
        let added = Added::decode(br#"{"ips":[], "mine": 1.50}"#, Version::V0_4_0).unwrap();
        assert_eq!(added.version, Version::V0_4_0);
        assert_eq!(added.document.get(), r#"{"ips":[],"mine":1.50,"cniVersion":"0.4.0"}"#);
        let added = Added::decode(b"null", Version::V1_0_0).unwrap();
        assert_eq!(added.document.get(), r#"{"cniVersion":"1.0.0"}"#);
        assert!(Added::decode(b"", Version::V1_0_0).is_err());
        assert!(Added::decode(b"[]", Version::V1_0_0).is_err());
    }
}
